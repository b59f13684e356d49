"""docs/tutorial.md on the real cluster: each command as it is written, in order."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import REPO, Kubectl, find_kubectl

from console_page import steps

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(420)]

PAGE = REPO / "docs/tutorial.md"
NAMESPACE = "signalcanary-demo"


@pytest.fixture
def environment(operator: Kubectl, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A shell's environment as the page has set it up, with a kubeconfig of its own."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(operator.kubeconfig.read_bytes())
    tools = [REPO / "build/cluster/bin", REPO / ".venv/bin", Path(find_kubectl()).parent]
    path = os.pathsep.join([*map(str, tools), os.environ["PATH"]])
    operator("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=80s")
    try:
        yield {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path, "COLUMNS": "200"}
    finally:
        operator("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def test_every_command_does_what_the_page_shows(environment: dict[str, str]) -> None:
    written = list(steps(PAGE.read_text()))
    assert len(written) == PAGE.read_text().count("\n$ ") - 4, "but for what has no cluster yet"
    for step in written:
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=REPO,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        took = time.monotonic() - started
        print(f"$ {step.command}\n{done.stdout}({took:.1f} s)", flush=True)
        assert done.returncode == 0, (step.command, done.stdout)
        assert step.pattern.fullmatch(done.stdout), (step.command, done.stdout, step.shown)
