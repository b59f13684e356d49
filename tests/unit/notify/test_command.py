"""`signalcanary notify-test`, as a person runs it: a process, and real servers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import yaml
from notify_kit import answer, http_server


async def run(file: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "signalcanary", "notify-test", "--config", str(file)]
    child = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await child.communicate()
    return child.returncode or 0, out.decode()


async def test_it_sends_to_each_and_says_what_came_of_it(tmp_path: Path) -> None:
    throttled = answer("429 Slow", "rate_limited", "Retry-After: 30")
    async with http_server() as good, http_server(throttled) as slow:
        (tmp_path / "url").write_text(slow.url + "/services/s3cret")
        config: dict[str, Any] = {
            "receivers": {
                "hook": {"webhook": {"url": good.url}},
                "am": {"alertmanager": {"url": good.url}},
                "chat": {"slack": {"urlFile": "url"}, "folder": str(tmp_path)},
            },
            "routes": [{"receivers": ["hook"], "severities": ["P0", "P1"], "namespaces": ["t-*"]}],
        }
        file = tmp_path / "notifications.yaml"
        file.write_text(yaml.safe_dump(config))
        code, said = await run(file)
        again, _ = await run(file, "--receiver", "chat")
    assert again == 0  # only that one was asked, and it is well by now
    assert code == 1
    assert "hook (webhook): sending '[P3] default/notify-test Test: v0 (NotifyTest)'" in said
    assert "route-0 sends here: P0, P1; of t-*" in said
    assert "HTTP 200: ok" in said
    assert "am (alertmanager)" in said
    assert "no route leads here" in said
    assert "FAILED: Throttled: HTTP 429: rate_limited" in said
    assert "it asks for a pause of 30 s" in said
    assert "s3cret" not in said
    assert "Traceback" not in said
    kinds = {request.path for request in good.requests}
    assert kinds == {"/", "/api/v2/alerts"}
