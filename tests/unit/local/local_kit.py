"""Fakes at the two ports of a local rollout: processes that are only said to run, and metrics
that are made up. The clock moves by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import (
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HEARTBEAT,
    WARMUP,
    Component,
    WorkloadConfig,
)
from signalcanary.local.process import Notice, ProcessSeen
from signalcanary.local.world import Host, LocalRollout
from signalcanary.metrics_source import Series

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


def build_spec(version: str = "v1", ofi: float = 0.7) -> SignalCanarySpec:
    return SignalCanarySpec.model_validate(
        {
            "version": version,
            "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
            "signal": {"fusion": {"active": {"ofi": ofi, "cvd": round(1 - ofi, 6)}}},
            "stages": [{"name": "canary", "duration": "3s"}],
            "rollback": {
                "conditions": [
                    {
                        "metric": "slice_auc_active_period",
                        "below": 0.55,
                        "for": "2s",
                        "mode": "literal",
                    }
                ]
            },
            "evaluation": {"interval": "1s", "staleAfter": "10s", "noDataAfter": "30s"},
        }
    )


@dataclass
class FakeProcess:
    """Runs from `start` to `stop`, in the fake's book."""

    world: World
    name: str
    argv: tuple[str, ...]
    pid: int
    notice: Notice
    is_running: bool = False
    was_stopped: bool = False

    @property
    def config(self) -> WorkloadConfig:
        (path,) = [a.removeprefix("--config=") for a in self.argv if a.startswith("--config=")]
        return WorkloadConfig.model_validate(json.loads(Path(path).read_text()))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.pid}"

    def start(self) -> None:
        clash = [p for p in self.world.running if p.name == self.name]
        assert not clash, f"two processes in one place: {self.name}"
        self.is_running = True

    def look(self) -> ProcessSeen:
        pid = self.pid if self.is_running else None
        code = None if self.is_running else 0
        return ProcessSeen(self.name, pid, self.url, 0, code, "", self.was_stopped)

    async def stop(self, grace_seconds: float) -> None:
        self.was_stopped = True
        self.is_running = False


@dataclass
class World:
    """What the rollout runs in: a book of processes, values by revision, and a clock."""

    folder: Path
    now: datetime = START
    processes: list[FakeProcess] = field(default_factory=list)
    unready: set[str] = field(default_factory=set)
    auc: dict[str, float] = field(default_factory=dict)
    """By version; a version without a value is warming up."""

    @property
    def running(self) -> list[FakeProcess]:
        return [p for p in self.processes if p.is_running]

    def names(self) -> list[str]:
        """``track component version`` of what runs."""
        return sorted(f"{p.config.track} {p.argv[3]} {p.config.version}" for p in self.running)

    def launch(self, name: str, argv: Sequence[str], log: Path, notice: Notice) -> FakeProcess:
        process = FakeProcess(self, name, tuple(argv), 1000 + len(self.processes), notice)
        self.processes.append(process)
        return process

    async def find_unready(self, url: str) -> str | None:
        return "no stream yet" if self._at(url).name in self.unready else None

    async def scrape(self, url: str) -> list[Series]:
        process = self._at(url)
        config = process.config
        if process.argv[3] != Component.ANALYSIS:
            return []  # no test here judges what harvest exports
        auc = self.auc.get(config.version)
        series = []
        for symbol in config.shards[0]:
            labels = {
                "namespace": config.namespace,
                "signalcanary": config.name,
                "track": config.track.value,
                "revision": config.revision,
                "symbol": symbol,
                "horizon": "10s",
            }
            metric = "slice_auc_active_period"
            at = self.now.timestamp()
            if auc is not None:
                series.append(Series(metric, labels, auc))
            series += [
                Series(EVIDENCE_SAMPLES, {**labels, "metric": metric}, 900.0 if auc else 0.0),
                Series(EVIDENCE_TIMESTAMP, {**labels, "metric": metric}, at),
                Series(HEARTBEAT, labels, at),
                Series(WARMUP, labels, 0.5 if auc is None else 1.0),
            ]
        return series

    def _at(self, url: str) -> FakeProcess:
        return next(p for p in self.processes if p.url == url)

    async def pass_seconds(self, seconds: float) -> None:
        """Move the clock, and let what was begun in the background come to its end."""
        await asyncio.sleep(0)
        self.now += timedelta(seconds=seconds)

    def rollout(self) -> LocalRollout:
        return LocalRollout("ofi", Host(self.folder, self, lambda: self.now, self.launch))
