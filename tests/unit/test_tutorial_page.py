"""What of docs/tutorial.md needs no cluster; tests/cluster/test_tutorial.py runs all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from console_page import Step, steps

REPO = Path(__file__).parents[2]
LOCAL = [
    step
    for step in steps((REPO / "docs/tutorial.md").read_text())
    if step.command.startswith(("grep ", "signalcanary lint "))
]


def test_what_is_shown_is_held_against_what_is_printed() -> None:
    not_run = "<!-- not run: no -->\n```console\n$ no\n```\n"
    run = "```console\n$ a \\\n  b\nx  …\n…\nz\n$ c\n```\n"
    first, second = steps(not_run + run)
    assert (first.command, second) == ("a \\\n  b", Step("c", ""))
    for printed in ("x  1\nz\n", "x    1\n2\n3\nz\n"):
        assert first.pattern.fullmatch(printed)
    for printed in ("x  1\n", "x 1\nz\n", "x  1\nzz\n", "x  1\nz\n\n"):
        assert not first.pattern.fullmatch(printed)


@pytest.mark.parametrize("step", LOCAL, ids=lambda step: step.command)
def test_a_command_without_a_cluster_prints_what_is_shown(step: Step) -> None:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=REPO,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert step.pattern.fullmatch(done.stdout), done.stdout


def test_there_are_such_commands() -> None:
    assert len(LOCAL) == 4
