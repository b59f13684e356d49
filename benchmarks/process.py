"""What every benchmark needs of a process: to start one, and what it has cost (Linux)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]


def module(name: str, *options: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", name, *options]


def environment() -> dict[str, str]:
    """The environment in which a child finds the code of this work tree and no other."""
    paths = (str(ROOT), str(ROOT / "workloads"), str(ROOT / "operator"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all threads, in steps of 10 ms."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mib(pid: int) -> float:
    """The most memory that a living process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def cpu_wait_seconds(pid: int) -> float:
    """How long the main thread has been ready to run and had no core: others had them."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


@dataclass(frozen=True)
class Spread:
    """One figure, measured several times."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """From at least one measurement."""
        return cls(median(values), min(values), max(values))

    def to_json(self, digits: int = 1) -> list[float]:
        """Least and most, rounded."""
        return [round(self.least, digits), round(self.most, digits)]
