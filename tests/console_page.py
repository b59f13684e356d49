"""Pages with commands: what is to be run, and what it must print.

What a block shows below a command is what the command must print; `…` stands for what differs from
run to run: within a line, or, as a line of its own, for any lines. Columns may be wider. A block
that is not to be run has a comment above it that says why: `<!-- not run: … -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

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
