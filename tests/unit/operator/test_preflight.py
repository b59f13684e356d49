"""`lint --live` against servers that answer well, badly, and not at all."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from test_hostile_answers import (
    REVISION,
    Answer,
    FakePrometheus,
    as_is,
    listening,
    ok,
    raw,
    reset,
    sampled,
    truncated,
    valued,
)

from signalcanary.cli import main

MANIFEST = """\
apiVersion: signalcanary.dev/v1alpha1
kind: SignalCanary
metadata: {{name: demo, namespace: ns}}
spec:
  version: v1
  symbols: {{canary: [BTCUSDT], full: [BTCUSDT]}}
  metricsSource: {source}
  rollback:
    conditions:
    - {{metric: platt_ece, above: 0.1, minSamples: 100}}
{more}"""
OWN = """\
    - {name: depth, query: 'depth{symbol="{{symbol}}"}', below: 10}
"""
OF_REVISION = """\
    - {name: depth, query: 'depth{revision="{{revision}}"}', below: 10}
"""


async def lint(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    twist: Answer | None = None,
    value: float = 0.05,
    more: str = "",
) -> tuple[int, str, dict[str, Any]]:
    """Exit code, text, and what was said of the SignalCanary as JSON."""
    file = folder / "canary.yaml"
    file.write_text(MANIFEST.format(source="default", more=more))
    async with listening(FakePrometheus(twist, value)) as fake:
        arguments = ["lint", str(file), "--live", "--prometheus", fake.url]
        code = await asyncio.to_thread(main, arguments)
        text = capsys.readouterr().out
        assert await asyncio.to_thread(main, [*arguments, "-o", "json"]) == code
    wire = json.loads(capsys.readouterr().out)
    assert wire["ok"] == (code == 0)
    return code, text, wire["files"][0]["found"][0]["live"]


async def test_a_good_answer_is_shown_as_it_would_be_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, live = await lint(tmp_path, capsys)
    assert code == 0
    assert f"source default answers, asked for revision {REVISION.name}" in text
    assert "good: platt_ece on BTCUSDT is 0.05" in text
    (condition,) = live["conditions"]
    assert (condition["verdict"], condition["value"], live["failure"]) == ("Ok", 0.05, None)


async def test_a_canary_that_has_not_run_is_no_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, _ = await lint(tmp_path, capsys, twist=as_is(lambda v: ok([])))
    assert code == 0
    assert "note: no series of platt_ece on BTCUSDT yet: revision" in text


@pytest.mark.parametrize(
    ("twist", "reason"),
    [
        (raw("<html>sign in</html>"), "BadResponse"),
        (raw("{}", 503), "BadResponse"),
        (as_is(truncated), "BadResponse"),
        (sampled(-3600), "BadResponse"),
        (reset, "SourceUnreachable"),
    ],
    ids=["HTML", "HTTP 503", "truncated", "an hour old", "reset"],
)
async def test_a_source_that_cannot_be_read_is_no_fault_of_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], twist: Answer, reason: str
) -> None:
    code, text, live = await lint(tmp_path, capsys, twist=twist)
    assert code == 4
    assert f"source default: {reason}: " in text
    assert live["failure"]["reason"] == reason
    assert live["conditions"] == []


@pytest.mark.parametrize(
    ("twist", "more", "code", "words"),
    [
        (None, OWN, 0, "good: depth on BTCUSDT is 1"),
        (as_is(lambda v: ok([]), "depth"), OWN, 1, "problem: the query of depth gives nothing"),
        (as_is(lambda v: ok([]), "depth"), OF_REVISION, 0, "by {{revision}}, and it may not have"),
        (as_is(lambda v: ok(v * 2), "depth"), OWN, 1, "problem: 2 series of depth"),
        (as_is(lambda v: raw_error(), "depth"), OWN, 1, "problem: http"),
    ],
    ids=["one number", "nothing", "nothing of its own yet", "two series", "refused"],
)
async def test_a_query_must_give_one_number(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    twist: Answer | None,
    more: str,
    code: int,
    words: str,
) -> None:
    found, text, _ = await lint(tmp_path, capsys, twist=twist, more=more)
    assert (found, words in text) == (code, True), text


def raw_error() -> Any:
    from aiohttp import web

    return web.json_response({"status": "error", "error": "parse error"}, status=400)


async def test_a_breach_of_what_runs_already_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, _ = await lint(tmp_path, capsys, value=0.25)
    assert code == 0
    assert "it is breached as things are" in text
    code, text, _ = await lint(tmp_path, capsys, twist=valued("NaN"))
    assert code == 0
    assert "note: platt_ece on BTCUSDT is nan" in text


def test_a_source_that_nobody_has_named_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, sources = tmp_path / "canary.yaml", tmp_path / "sources.yaml"
    file.write_text(MANIFEST.format(source="mimir", more=""))
    sources.write_text("sources: {default: {url: http://127.0.0.1:9}}\n")
    assert main(["lint", str(file), "--live", "--sources", str(sources)]) == 4
    assert "source mimir: UnknownSource: spec.metricsSource: no source mimir" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--live"], "--live needs --prometheus URL, or --sources FILE"),
        (["--prometheus", "http://a:1"], "are for --live"),
        (["--live", "--prometheus", "http://user:secret@a:1"], "without user and password"),
        (["--live", "--sources", "/nowhere/sources.yaml"], "/nowhere/sources.yaml cannot be read"),
    ],
)
def test_a_wrong_command_line_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    file = tmp_path / "canary.yaml"
    file.write_text(MANIFEST.format(source="default", more=""))
    assert main(["lint", str(file), *arguments]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "secret" not in told
