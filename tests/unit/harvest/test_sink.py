from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest

from signalcanary.contract import SignalConfig
from signalcanary_workloads.harvest.pipeline import Cut, SymbolPipeline
from signalcanary_workloads.harvest.sequence import Arrival
from signalcanary_workloads.harvest.sink import (
    Batch,
    CommitFailed,
    ResumeFailed,
    SymbolLocked,
    SymbolSink,
)
from signalcanary_workloads.harvest.wire import AggTrade
from signalcanary_workloads.store import (
    SCHEMAS,
    Kind,
    ManifestReader,
    StorageError,
    open_storage,
    read_part,
)
from signalcanary_workloads.store.volume import Volume

MIDNIGHT = 1_777_593_600_000  # 2026-05-01


def cut_of(*trades: tuple[int, int]) -> Cut:
    pipeline = SymbolPipeline("BTCUSDT", SignalConfig(), "aggTrade")
    for trade_id, ts in trades:
        trade = AggTrade("BTCUSDT", trade_id, 1.0, 1.0, 0, 0, ts, False, ts)
        pipeline.on_trade(Arrival(trade, 1, "ws", 1))
    cut = pipeline.cut()
    assert cut is not None
    return cut


def committed_ids(data: Path) -> list[int]:
    return [
        trade_id
        for entry in ManifestReader(Volume(data), "BTCUSDT").poll()
        for part in entry.parts
        if part.kind is Kind.TRADE
        for trade_id in read_part(Volume(data), part).column("trade_id").to_pylist()
    ]


def test_a_commit_that_spans_midnight_has_parts_in_two_dates(tmp_path: Path) -> None:
    sink = SymbolSink(Volume(tmp_path), "BTCUSDT", wall_ns=lambda: 42)
    entry = sink.commit(cut_of((1, MIDNIGHT - 1), (2, MIDNIGHT)))
    assert [(part.path.split("/")[0], part.kind) for part in entry.parts] == [
        ("date=2026-04-30", Kind.TRADE),
        ("date=2026-05-01", Kind.TRADE),
        ("date=2026-04-30", Kind.CVD),
        ("date=2026-05-01", Kind.CVD),
    ]
    part = entry.parts[1]
    assert part.path == (
        f"date=2026-05-01/symbol=BTCUSDT/kind=trade/part-2-2-{part.sha256[:8]}.parquet"
    )
    assert (part.first_id, part.last_id, part.min_event_ms) == (2, 2, MIDNIGHT)
    assert ManifestReader(Volume(tmp_path), "BTCUSDT").poll() == [entry]
    assert (entry.seq, entry.committed_ns) == (0, 42)
    assert committed_ids(tmp_path) == [1, 2]
    sink.close()


def test_what_no_entry_names_is_removed_at_the_start_and_what_one_names_is_not(
    tmp_path: Path,
) -> None:
    sink = SymbolSink(Volume(tmp_path), "BTCUSDT")
    for n in range(3):
        sink.commit(cut_of((n, MIDNIGHT)))
    sink.close()
    named = set(tmp_path.rglob("*.parquet"))
    # A clock that ran ahead when the first part was written must not make it an orphan.
    os.utime(min(named), (4e9, 4e9))
    folder = tmp_path / "date=2026-05-01/symbol=BTCUSDT/kind=trade"
    orphan = folder / "part-9-9-00000000.parquet"
    orphan.write_bytes(b"cut off before its entry")
    (folder / ".part-9-9-00000001.parquet.tmp").write_bytes(b"half")
    (tmp_path / "manifest/symbol=BTCUSDT/.0000000003.json.tmp").write_bytes(b"{")
    other = tmp_path / "date=2026-05-01/symbol=ETHUSDT/kind=trade/part-1-1-00000000.parquet"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another writer's")

    sink = SymbolSink(Volume(tmp_path), "BTCUSDT")
    assert sink.removed == [orphan.name]
    assert set(tmp_path.rglob("*.parquet")) == named | {other}
    assert not list(tmp_path.rglob("*.tmp"))
    assert sink.last is not None
    assert sink.last.seq == 2
    assert sink.commit(cut_of((3, MIDNIGHT))).seq == 3
    sink.close()


def test_only_one_writer_has_a_symbol(tmp_path: Path) -> None:
    sink = SymbolSink(Volume(tmp_path), "BTCUSDT")
    with pytest.raises(SymbolLocked, match="only one may"):
        SymbolSink(Volume(tmp_path), "BTCUSDT")
    SymbolSink(Volume(tmp_path), "ETHUSDT").close()
    sink.close()
    SymbolSink(Volume(tmp_path), "BTCUSDT").close()


def test_a_closed_sink_writes_no_more(tmp_path: Path) -> None:
    sink = SymbolSink(Volume(tmp_path), "BTCUSDT")
    sink.close()
    sink.close()
    with pytest.raises(CommitFailed, match="closed"):
        sink.commit(cut_of((1, MIDNIGHT)))
    assert ManifestReader(Volume(tmp_path), "BTCUSDT").poll() == []


def test_a_refused_commit_shows_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    sink = SymbolSink(Volume(tmp_path), "BTCUSDT")
    obstacle = tmp_path / "manifest/symbol=BTCUSDT/0000000000.json"
    obstacle.mkdir()  # the entry cannot be renamed to it
    cut = cut_of((1, MIDNIGHT))
    for _ in range(2):
        with pytest.raises(CommitFailed) as caught:
            sink.commit(cut)
        assert caught.value.reason == "EISDIR"
    obstacle.rmdir()
    assert ManifestReader(Volume(tmp_path), "BTCUSDT").poll() == []
    sink.commit(cut)
    assert committed_ids(tmp_path) == [1]
    assert len(list(tmp_path.rglob("*.parquet"))) == 2, "the second try wrote the same files"
    assert not list(tmp_path.rglob("*.tmp"))
    sink.close()


def test_a_last_entry_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    sink = SymbolSink(Volume(tmp_path), "BTCUSDT")
    sink.commit(cut_of((1, MIDNIGHT)))
    sink.close()
    (tmp_path / "manifest/symbol=BTCUSDT/0000000000.json").write_bytes(b"{}")
    with pytest.raises(ResumeFailed, match="0000000000"):
        SymbolSink(Volume(tmp_path), "BTCUSDT")


def test_a_batch_of_any_kind_is_committed_under_a_manifest_of_its_own(tmp_path: Path) -> None:
    harvest = SymbolSink(Volume(tmp_path), "BTCUSDT")
    harvest.commit(cut_of((1, MIDNIGHT)))
    signals = SymbolSink(Volume(tmp_path / "signals"), "BTCUSDT")
    row = {
        field.name: {pa.string(): "x", pa.bool_(): False, pa.int64(): MIDNIGHT}[field.type]
        for field in SCHEMAS[Kind.SIGNAL]
        if not field.nullable
    }
    table = pa.Table.from_pylist([row], schema=SCHEMAS[Kind.SIGNAL])
    entry = signals.commit_batch(Batch({Kind.SIGNAL: table}, MIDNIGHT, 3, {"seq": 7}))
    assert (entry.seq, entry.watermark_ms, entry.state) == (0, MIDNIGHT, {"seq": 7})
    (part,) = entry.parts
    assert read_part(Volume(tmp_path / "signals"), part).equals(table)
    signals.close()
    harvest.close()
    # Neither takes the other's parts for what a killed writer left behind.
    again = SymbolSink(Volume(tmp_path), "BTCUSDT")
    assert (again.removed, SymbolSink(Volume(tmp_path / "signals"), "BTCUSDT").removed) == ([], [])
    assert committed_ids(tmp_path) == [1]


def test_a_second_writer_is_refused_at_its_commit_even_without_a_lease(data_path: str) -> None:
    class Lenient:
        """A lease that all may have: what is left is the entry that only one can make."""

        def renew(self) -> None: ...

        def release(self) -> None: ...

    def open_sink() -> SymbolSink:
        storage = open_storage(data_path)
        storage.lease = lambda folder: Lenient()  # type: ignore[method-assign]
        return SymbolSink(storage, "BTCUSDT")

    first, second = open_sink(), open_sink()
    first.commit(cut_of((1, MIDNIGHT)))
    with pytest.raises(SymbolLocked, match="another process has written it"):
        second.commit(cut_of((2, MIDNIGHT)))
    assert [entry.seq for entry in ManifestReader(open_storage(data_path), "BTCUSDT").poll()] == [0]
    first.commit(cut_of((2, MIDNIGHT)))


def test_a_commit_whose_answer_was_lost_is_found_and_not_repeated(data_path: str) -> None:
    storage = open_storage(data_path)
    put_if_absent = storage.put_if_absent

    def lose_the_answer(key: str, data: bytes) -> None:
        put_if_absent(key, data)
        raise StorageError("timeout", "no answer")

    storage.put_if_absent = lose_the_answer  # type: ignore[method-assign]
    sink, cut = SymbolSink(storage, "BTCUSDT", wall_ns=count(1).__next__), cut_of((1, MIDNIGHT))
    with pytest.raises(CommitFailed) as caught:
        sink.commit(cut)
    assert caught.value.reason == "timeout"
    storage.put_if_absent = put_if_absent  # type: ignore[method-assign]
    entry = sink.commit(cut)
    assert (entry.seq, entry.committed_ns) == (0, 1)
    assert sink.commit(cut_of((2, MIDNIGHT))).seq == 1
    entries = ManifestReader(storage, "BTCUSDT").poll()
    assert [(e.seq, e.committed_ns) for e in entries] == [(0, 1), (1, 3)]
    sink.close()


def test_orphans_in_a_bucket_are_removed_too(data_path: str) -> None:
    storage = open_storage(data_path)
    sink = SymbolSink(storage, "BTCUSDT")
    for n in range(20):
        sink.commit(cut_of((n, MIDNIGHT)))
    sink.close()
    orphan = "date=2026-05-02/symbol=BTCUSDT/kind=trade/part-9-9-00000000.parquet"
    storage.put(orphan, b"cut off before its entry")
    sink = SymbolSink(storage, "BTCUSDT")
    assert sink.removed == [orphan.rsplit("/", 1)[-1]]
    assert orphan not in {item.key for item in storage.find("")}
    assert sink.last is not None
    assert sink.last.seq == 19
    sink.close()


def test_a_wall_clock_that_is_set_back_or_ahead_loses_and_repeats_nothing(data_path: str) -> None:
    hour_ns = 3_600 * 10**9
    ids = []
    for start, steps in enumerate(((0, 0), (0, -5), (3, -20), (20, 0))):
        walls = iter([10**18 + step * hour_ns for step in steps])
        sink = SymbolSink(open_storage(data_path), "BTCUSDT", wall_ns=walls.__next__)
        assert sink.removed == []
        for n in range(2):
            ids.append(2 * start + n)
            sink.commit(cut_of((ids[-1], MIDNIGHT)))
        sink.close()
    assert [
        trade_id
        for entry in ManifestReader(open_storage(data_path), "BTCUSDT").poll()
        for part in entry.parts
        if part.kind is Kind.TRADE
        for trade_id in read_part(open_storage(data_path), part).column("trade_id").to_pylist()
    ] == ids
