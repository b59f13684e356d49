"""Who is heard on the stream through a promotion: the operator's own decisions, real analysis
processes, real sockets. Only harvest is played, by committing rows as it does."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zmq
from local_kit import FakeProcess, World, build_spec

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import Track
from signalcanary.local.process import Notice
from signalcanary.local.world import LocalRollout, Look
from signalcanary.rollout import Phase
from signalcanary.stream import Signal, read_message
from signalcanary_workloads.harvest.sink import Batch, SymbolSink
from signalcanary_workloads.store import SCHEMAS, Kind, ManifestReader, open_storage, read_part

START_MS = 1_777_618_800_000
DEADLINE_SECONDS = 90
SYMBOL = "BTCUSDT"


@dataclass
class RealAnalysis(FakeProcess):
    """An analysis process that really runs, in the fake's book.

    Attributes:
        may_end: it ends only once this is set, however often it is told to.
    """

    log: Path = Path()
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""

    def start(self) -> None:
        super().start()
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(self.argv, stderr=log)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (found := re.search(r"tcp://\S+", self.log.read_text())):
            assert time.monotonic() < deadline, self.log.read_text()
            assert self._child.poll() is None, self.log.read_text()
            time.sleep(0.02)
        self.address = found[0]

    async def stop(self, grace_seconds: float) -> None:
        await self.may_end.wait()
        self.end()
        await super().stop(grace_seconds)

    def end(self) -> None:
        self._child.terminate()
        self._child.wait(timeout=30)


class Market(World):
    """Commits the same second for every revision that runs, and listens to all of them."""

    def __init__(self, folder: Path, context: zmq.Context[Any]) -> None:
        super().__init__(folder)
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.subscribe(b"")
        self._heard: set[str] = set()
        self._joined: set[tuple[str, int, str]] = set()
        self._second = 0
        self.signals: list[Signal] = []

    def launch(self, name: str, argv: Sequence[str], log: Path, notice: Notice) -> FakeProcess:
        if "analysis" not in argv:
            return super().launch(name, argv, log, notice)
        pid = 1000 + len(self.processes)
        process = RealAnalysis(self, name, tuple(argv), pid, notice, log=log)
        self.processes.append(process)
        return process

    @property
    def analyses(self) -> list[RealAnalysis]:
        return [p for p in self.processes if isinstance(p, RealAnalysis) and p.is_running]

    def connect(self) -> None:
        """Listen to every process that runs, and wait until it is heard."""
        for process in self.analyses:
            if process.address not in self._heard:
                self._socket.connect(process.address)
                self._heard.add(process.address)
        wanted = {
            (p.config.revision, p.config.attempt, p.config.track.value) for p in self.analyses
        }
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not wanted <= self._joined:
            assert time.monotonic() < deadline
            self.listen()

    def trade_a_second(self) -> None:
        """One row for each process, and its signal on record."""
        ts = START_MS + 1_000 * self._second
        self._second += 1
        row = {"ts": ts, "ingest": self._second, "mid": 50_000.0, "spread_bps": 0.1}
        row |= {"ofi": 0.0, "z_ofi": 0.5, "tps": 1.0, "regime": "active"}
        row |= {"gap_epoch": 0, "quality": 0}
        table = pa.Table.from_pylist([row], schema=SCHEMAS[Kind.FEATURE])
        for process in self.analyses:
            sink = SymbolSink(open_storage(process.config.data_path), SYMBOL)
            sink.commit_batch(Batch({Kind.FEATURE: table}, ts, 0, {}))
            sink.close()
        deadline = time.monotonic() + DEADLINE_SECONDS
        for process in self.analyses:
            while not any(row["ts"] == ts for row in self.record(process)):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        self.listen()

    def record(self, process: RealAnalysis) -> list[dict[str, Any]]:
        storage = open_storage(f"{process.config.data_path}/signals")
        return [
            row
            for entry in ManifestReader(storage, SYMBOL).poll()
            for part in entry.parts
            for row in read_part(storage, part).to_pylist()
        ]

    def listen(self) -> None:
        while self._socket.poll(50):
            message = read_message(self._socket.recv_multipart()[1])
            self._joined.add((message.revision, message.attempt, message.track.value))
            if isinstance(message, Signal):
                self.signals.append(message)

    def close(self) -> None:
        self._socket.close()
        for process in self.analyses:
            process.end()


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    with zmq.Context() as context:
        made = Market(tmp_path, context)
        yield made
        made.close()


def published(version: str, *, shadow_seconds: int = 2) -> SignalCanarySpec:
    stages = [
        {"name": "shadow", "duration": f"{shadow_seconds}s"},
        {"name": "canary", "duration": "2s", "publish": True},
    ]
    return SignalCanarySpec.model_validate(build_spec(version).to_wire() | {"stages": stages})


async def step(market: Market, rollout: LocalRollout) -> Look:
    look = await rollout.look()
    market.connect()
    market.trade_a_second()
    await market.pass_seconds(1)
    return look


async def until(market: Market, rollout: LocalRollout, phase: Phase) -> Look:
    for _ in range(30):
        look = await step(market, rollout)
        if look.state.phase is phase:
            return look
    raise AssertionError(f"{phase} was never reached")


async def test_a_promotion_switches_who_is_heard_and_two_are_never_heard_at_once(
    market: Market,
) -> None:
    rollout = market.rollout()
    market.auc |= {"v1": 0.7, "v2": 0.7}
    rollout.apply(published("v1"))
    await until(market, rollout, Phase.SUCCEEDED)
    for process in market.analyses:
        if process.config.track is Track.CANARY:
            process.may_end.set()
    await step(market, rollout)
    await step(market, rollout)
    rollout.apply(published("v2"))
    await until(market, rollout, Phase.PROMOTING)
    old, new = (
        next(p for p in market.analyses if p.config.version == v and p.config.track == "stable")
        for v in ("v1", "v2")
    )
    await until(market, rollout, Phase.SUCCEEDED)
    for _ in range(2):  # the old one is told to end, and does not yet
        await step(market, rollout)
    for process in market.analyses:
        process.may_end.set()
    new.may_end.clear()
    for _ in range(4):
        await step(market, rollout)

    stable = [m for m in market.signals if m.track is Track.STABLE]
    before = [m for m in stable if m.version == "v1"]
    after = [m for m in stable if m.version == "v2"]
    assert before
    assert after
    assert max(m.emitted_ns for m in before) < min(m.emitted_ns for m in after)
    assert len({m.ts for m in stable}) == len(stable)
    # While both ran, what the one withheld is on record, and so is the other's.
    for process, sent in ((old, before), (new, after)):
        rows = market.record(process)
        assert [row["ts"] for row in rows if row["published"]] == [m.ts for m in sent]
        assert {row["withheld"] for row in rows} >= {"gate_closed"}
    withheld = [r["ts"] for r in market.record(new) if not r["published"]]
    assert any(r["ts"] in withheld for r in market.record(old) if not r["published"]), "no pause"
    assert {row["withheld"] for row in market.record(new)} == {
        "gate_other_revision",
        "gate_closed",
        None,
    }


async def test_shadow_is_heard_by_nobody_and_the_canary_once_its_stage_allows_it(
    market: Market,
) -> None:
    rollout = market.rollout()
    market.auc["v1"] = 0.7
    rollout.apply(published("v1", shadow_seconds=4))
    stages: dict[int, str | None] = {}
    for _ in range(12):
        look = await step(market, rollout)
        stages[market.signals[-1].ts if market.signals else 0] = look.state.stage
        if look.state.phase is Phase.PROMOTING:
            break
    (canary,) = [p for p in market.analyses if p.config.track is Track.CANARY]
    rows = market.record(canary)
    sent = [row["ts"] for row in rows if row["published"]]
    assert [m.ts for m in market.signals] == sent
    assert {m.track for m in market.signals} == {Track.CANARY}
    assert sent == [row["ts"] for row in rows][-len(sent) :]
    assert stages[0] == "shadow", "nothing was heard until the shadow ended"
    assert len(sent) < len(rows)
    assert {row["withheld"] for row in rows} == {"gate_closed", None}
