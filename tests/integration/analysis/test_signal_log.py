"""The record of the signals, on a volume and in a bucket: once, in order, and never ahead of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signalcanary.contract import WorkloadConfig
from signalcanary_workloads.analysis.engine import Engine, EngineConfig
from signalcanary_workloads.analysis.gate import GateReader
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows
from signalcanary_workloads.analysis.signals import LIVE_NS, Flushed, SignalLog
from signalcanary_workloads.harvest.sink import CommitFailed, SymbolLocked
from signalcanary_workloads.store import Entry, ManifestReader, open_storage, read_part

NOW_NS = 1_800_000_000 * 10**9


class Chain:
    """An engine and a log, and the clock that both go by."""

    def __init__(self, config: WorkloadConfig, gate: Path) -> None:
        self.now_ns = NOW_NS
        self.engine = Engine(EngineConfig.from_signal(config.signal))
        reader = GateReader.of(config, gate)
        self.log = SignalLog("BTCUSDT", config, reader, lambda: self.now_ns)

    def take_in(self, first: int, last: int, committed_ns: int | None = None) -> None:
        """The rows of some seconds, as one commit of harvest."""
        ts = 1_777_618_800_000 + 1_000 * np.arange(first, last, dtype=np.int64)
        ones = np.ones(ts.size)
        whole = np.zeros(ts.size, np.int64)
        codes = np.ones(ts.size, np.int8)
        features = FeatureRows(ts, whole, ones * 50_000.0, ones * 0.5, codes, whole, whole)
        self.engine.take_in(features, CvdRows.empty())
        at = self.now_ns if committed_ns is None else committed_ns
        entry = Entry(0, "BTCUSDT", at, int(ts[-1]), 0, (), (), {})
        self.log.take_in(features, self.engine.scored, entry)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    file = tmp_path / "gate.json"
    file.write_text(json.dumps({"canary": {"revision": "r1", "attempt": 3}}))
    return file


@pytest.fixture
def start(workload: WorkloadConfig, data_path: str, gate: Path) -> Callable[[], Chain]:
    config = workload.model_copy(update={"data_path": data_path})
    return lambda: Chain(config, gate)


def seconds_of(flushed: Flushed) -> list[tuple[int, int]]:
    """Sequence number and second of what is to be sent."""
    start_ms = 1_777_618_800_000
    return [(s.signal.seq, (s.signal.ts - start_ms) // 1_000) for s in flushed.sendable]


def record(data_path: str) -> list[dict[str, Any]]:
    storage = open_storage(f"{data_path}/signals")
    return [
        row
        for entry in ManifestReader(storage, "BTCUSDT").poll()
        for part in entry.parts
        for row in read_part(storage, part).to_pylist()
    ]


def test_a_restart_goes_on_after_what_is_on_record(
    start: Callable[[], Chain], data_path: str
) -> None:
    first = start()
    first.log.open()
    first.take_in(0, 5)
    assert seconds_of(first.log.flush()) == [(n + 1, n) for n in range(5)]
    first.take_in(5, 8)  # never flushed: the process is gone
    first.log.close()
    again = start()
    again.log.open()
    assert again.log.resumed_seq == 5
    again.take_in(0, 8, NOW_NS - 1)
    again.take_in(8, 10)
    flushed = again.log.flush()
    assert seconds_of(flushed) == [(6, 8), (7, 9)]
    assert flushed.withheld == (("replayed", 3),)
    again.log.close()
    rows = record(data_path)
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5, None, None, None, 6, 7]
    assert [row["replayed"] for row in rows] == [False] * 5 + [True] * 3 + [False] * 2
    assert len({row["ts"] for row in rows}) == 10


def test_a_row_that_is_scored_too_late_is_history(start: Callable[[], Chain]) -> None:
    chain = start()
    chain.log.open()
    chain.take_in(0, 2)
    chain.now_ns += LIVE_NS
    chain.take_in(2, 4)
    assert seconds_of(chain.log.flush()) == [(1, 0), (2, 1), (3, 2), (4, 3)]
    chain.take_in(4, 6)
    chain.now_ns += LIVE_NS + 1
    chain.take_in(6, 8)
    flushed = chain.log.flush()
    assert seconds_of(flushed) == [(5, 6), (6, 7)]
    assert flushed.withheld == (("replayed", 2),)
    chain.log.close()


def test_nothing_new_commits_nothing(start: Callable[[], Chain], data_path: str) -> None:
    chain = start()
    chain.log.open()
    assert chain.log.flush() == Flushed()
    chain.take_in(0, 3)
    chain.log.flush()
    chain.take_in(0, 3)
    assert chain.log.flush() == Flushed()
    assert len(list(open_storage(f"{data_path}/signals").find("manifest"))) <= 3
    chain.log.close()
    assert len(record(data_path)) == 3


def test_a_commit_whose_answer_was_lost_is_not_repeated_and_shows_as_a_hole(
    start: Callable[[], Chain], data_path: str
) -> None:
    chain, written = start(), start()
    written.take_in(0, 3)
    chain.take_in(0, 4)
    written.log.open()
    written.log.flush()  # it came to the record; the writer below was never told
    written.log.close()
    chain.take_in(4, 5)
    chain.log.open()
    assert seconds_of(chain.log.flush()) == [(4, 3), (5, 4)]
    chain.log.close()
    assert [row["seq"] for row in record(data_path)] == [1, 2, 3, 4, 5]


def test_one_process_at_a_time_has_the_record(start: Callable[[], Chain]) -> None:
    first, second = start(), start()
    first.log.open()
    with pytest.raises(SymbolLocked):
        second.log.open()
    first.log.close()
    second.log.open()
    second.log.close()


def test_what_cannot_be_recorded_is_not_sent_and_not_lost(
    workload: WorkloadConfig, s3: Any, gate: Path
) -> None:
    data_path = f"s3://{s3.make_bucket()}/demo"
    chain = Chain(workload.model_copy(update={"data_path": data_path}), gate)
    chain.log.open()
    s3.stop()
    chain.take_in(0, 4)
    with pytest.raises(CommitFailed):
        chain.log.flush()
    s3.start()
    chain.take_in(4, 5)
    chain.log.open()
    assert seconds_of(chain.log.flush()) == [(n + 1, n) for n in range(5)]
    chain.log.close()
    assert [row["seq"] for row in record(data_path)] == [1, 2, 3, 4, 5]
