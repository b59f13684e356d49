"""docs/tutorial.md on the real cluster: each command as it is written, in order, in one shell.

What a block shows below a command is what the command must print; `…` stands for what differs from
run to run: within a line, or, as a line of its own, for any lines. Columns may be wider.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster_kit import REPO, Kubectl, find_kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(420)]

PAGE = REPO / "docs/tutorial.md"
NAMESPACE = "signalcanary-demo"
BLOCK = re.compile(
    r"^(<!-- not run: [^\n]* -->\n)?```console\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Step:
    """A command, and what is shown of its output."""

    command: str
    shown: str

    @property
    def pattern(self) -> re.Pattern[str]:
        lines = []
        for line in self.shown.splitlines(keepends=True):
            parts = [re.sub(r"(\\ ){2,}", "  +", re.escape(part)) for part in line.split("…")]
            lines.append("(?:[^\\n]*\\n)*" if line == "…\n" else "[^\\n]*".join(parts))
        return re.compile("".join(lines))


def steps(page: str) -> Iterator[Step]:
    """The commands of a page, but for blocks that say why they are not run."""
    for not_run, block in BLOCK.findall(page):
        if not_run:
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            # A line that ends in a backslash goes on in the next, as in the shell.
            command, _, shown = re.sub(r"\\\n", "\\\0", part).partition("\n")
            yield Step(command.replace("\0", "\n"), shown.replace("\0", "\n"))


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


def test_what_is_shown_is_held_against_what_is_printed() -> None:
    not_run = "<!-- not run: no -->\n```console\n$ no\n```\n"
    run = "```console\n$ a \\\n  b\nx  …\n…\nz\n$ c\n```\n"
    first, second = steps(not_run + run)
    assert (first.command, second) == ("a \\\n  b", Step("c", ""))
    for printed in ("x  1\nz\n", "x    1\n2\n3\nz\n"):
        assert first.pattern.fullmatch(printed)
    for printed in ("x  1\n", "x 1\nz\n", "x  1\nzz\n", "x  1\nz\n\n"):
        assert not first.pattern.fullmatch(printed)


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
