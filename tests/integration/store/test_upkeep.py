"""Compaction and retention under readers, killed at every step, on both back ends."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from signalcanary_workloads.harvest.sink import Batch, SymbolSink
from signalcanary_workloads.store import (
    SCHEMAS,
    CorruptPart,
    Entry,
    Gap,
    Kind,
    Listing,
    ManifestReader,
    MissingPart,
    Range,
    Storage,
    StorageError,
    Upkeep,
    UpkeepSettings,
    manifest_folder,
    open_storage,
    read_part,
)
from signalcanary_workloads.store.reader import LOOK_SECONDS
from signalcanary_workloads.store.upkeep import MERGE_SECONDS

HOUR_MS = 3_600_000
START_MS = 1_777_586_400_000  # 2026-04-30T22:00Z: the third hour lies in another date
ENTRIES_AN_HOUR = 3
HOURS = 3
KEPT = (HOURS - 2) * ENTRIES_AN_HOUR  # the first entry that RETAIN keeps
KEEP = UpkeepSettings(compaction_ms=HOUR_MS)
RETAIN = UpkeepSettings(compaction_ms=HOUR_MS, retention_ms=2 * HOUR_MS)
KINDS = (Kind.FEATURE, Kind.CVD)
KILL_STEP = int(os.environ.get("SIGNALCANARY_KILL_STEP", "7"))
"""Every which step the process is killed at; `make test-kills` sets 1."""


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def row(kind: Kind, ts: int, ingest: int) -> dict[str, Any]:
    values = {pa.float64(): 1.0, pa.bool_(): False, pa.int64(): ts, pa.string(): "active"}
    found = {field.name: values[field.type] for field in SCHEMAS[kind]}
    return found | {"ts": ts, "ingest": ingest}


def fill(storage: Storage) -> list[Entry]:
    """Hours of commits; each holds a trade of an hour ago, as a backfill brings it."""
    sink = SymbolSink(storage, "BTCUSDT")
    entries = []
    for n in range(HOURS * ENTRIES_AN_HOUR + 1):
        at = START_MS + n * HOUR_MS // ENTRIES_AN_HOUR
        rows = {
            Kind.FEATURE: [row(Kind.FEATURE, at + i, 10 * n + i) for i in range(3)],
            Kind.CVD: [row(Kind.CVD, at - (i == 1) * HOUR_MS, 10 * n + i) for i in range(5)],
        }
        tables = {k: pa.Table.from_pylist(found, schema=SCHEMAS[k]) for k, found in rows.items()}
        gap = Gap("bookTicker", n, n + 1, "reconnect", False)
        entries.append(sink.commit_batch(Batch(tables, at, n, {"n": n}, (gap,))))
    sink.close()
    return entries


class Follower:
    """A reader as analysis is one, and all that it has got."""

    def __init__(self, storage: Storage, seq: int, clock: Clock) -> None:
        self.storage, self.first = storage, seq
        self.reader = ManifestReader(storage, "BTCUSDT", seq, clock)
        self.rows: dict[Kind, list[int]] = {kind: [] for kind in KINDS}
        self.gaps: list[int] = []
        self.epoch = -1

    def follow(self, entries: Iterable[Entry] = ()) -> None:
        queue = list(entries)
        missed = None
        while queue or (queue := self.reader.poll(3)):
            entry = queue.pop(0)
            try:
                tables = {kind: self.tables(entry, kind) for kind in KINDS}
            except MissingPart:
                assert missed != entry.seq, "nothing took its place"
                missed = entry.seq
                self.reader.rewind(entry.seq)
                queue = []
                continue
            for kind, found in tables.items():
                self.rows[kind] += found
            self.gaps += [gap.start for gap in entry.gaps]
            self.epoch = entry.gap_epoch

    def tables(self, entry: Entry, kind: Kind) -> list[int]:
        parts = [part for part in entry.parts if part.kind is kind]
        return sorted(
            ingest
            for part in parts
            for ingest in read_part(self.storage, part, ["ingest"])["ingest"].to_pylist()
        )

    def check(self, *firsts: int) -> None:
        """It has everything from one of the entries on, each row once and in order."""
        first = self.gaps[0]
        assert first in firsts
        seqs = range(first, HOURS * ENTRIES_AN_HOUR + 1)
        assert self.gaps == list(seqs)
        assert self.rows[Kind.FEATURE] == [10 * n + i for n in seqs for i in range(3)]
        assert self.rows[Kind.CVD] == [10 * n + i for n in seqs for i in range(5)]
        assert self.epoch == seqs[-1]


def follow_all(storage: Storage, first_kept: int = 0) -> None:
    """Readers that start now, at every entry."""
    for seq in range(0, HOURS * ENTRIES_AN_HOUR + 1, 1):
        follower = Follower(storage, seq, Clock())
        follower.follow()
        follower.check(seq, max(seq, first_kept))


def names(storage: Storage) -> Listing:
    return Listing.of(item.key for item in storage.find(manifest_folder("BTCUSDT")))


def assert_tidy(storage: Storage) -> None:
    """What is there is what the manifest names."""
    named = set()
    reader = ManifestReader(storage, "BTCUSDT")
    for entry in reader.poll():
        named |= {part.path for part in entry.parts}
    assert {item.key for item in storage.find("") if item.key.endswith(".parquet")} == named


def passes(upkeep: Upkeep, clock: Clock, count: int) -> None:
    for _ in range(count):
        upkeep.run()
        clock.now += KEEP.grace_seconds


def test_finished_hours_become_one_part_a_kind_and_date(data_path: str) -> None:
    storage, clock = open_storage(data_path), Clock()
    entries = fill(storage)
    upkeep = Upkeep(storage, "BTCUSDT", KEEP, clock)
    upkeep.run()
    hours = [Range(n, n + 2) for n in range(0, HOURS * ENTRIES_AN_HOUR, ENTRIES_AN_HOUR)]
    assert names(storage).ranges == tuple(hours)
    assert len(names(storage).singles) == len(entries), "readers have time to notice"
    follow_all(storage)
    upkeep.run()  # sees what can be deleted, once it has had its grace
    clock.now += KEEP.grace_seconds - 1
    upkeep.run()
    assert len(names(storage).singles) == len(entries)
    clock.now += 1
    upkeep.run()
    assert names(storage).singles == (entries[-1].seq,)
    follow_all(storage)
    assert_tidy(storage)
    first, *_, last = ManifestReader(storage, "BTCUSDT").poll()
    assert (first.seq, first.last_seq, first.committed_ns) == (0, 2, entries[2].committed_ns)
    assert [(part.kind, part.rows) for part in first.parts] == [(Kind.CVD, 15), (Kind.FEATURE, 9)]
    assert last == entries[-1], "the newest entry is what harvest goes on from"
    assert upkeep.compacted == HOURS * ENTRIES_AN_HOUR
    before = {item.key for item in storage.find("")}
    passes(upkeep, clock, 2)
    assert {item.key for item in storage.find("")} == before, "there is nothing left to do"
    sink = SymbolSink(storage, "BTCUSDT")
    assert sink.last == entries[-1]
    assert sink.removed == []
    sink.close()


def test_a_reader_is_right_wherever_it_stands_while_entries_disappear(data_path: str) -> None:
    storage, clock = open_storage(data_path), Clock()
    entries = fill(storage)
    standing = [Follower(storage, 0, clock) for _ in range(len(entries))]
    polled = []
    for position, follower in enumerate(standing):
        taken = follower.reader.poll(position)
        follower.follow(taken[:-1])  # reads them, and all that comes …
    # … and as many stand in the middle, with entries in hand whose parts they have yet to read.
    waiting = [Follower(storage, 0, clock) for _ in range(len(entries))]
    for position, follower in enumerate(waiting):
        polled.append(follower.reader.poll(position))
    passes(Upkeep(storage, "BTCUSDT", KEEP, clock), clock, 3)
    assert len(names(storage).singles) == 1
    for follower, taken in zip(waiting, polled, strict=True):
        follower.follow(taken)
        follower.check(0)


def test_a_reader_that_waits_by_name_finds_out_that_it_was_overtaken(data_path: str) -> None:
    storage, clock = open_storage(data_path), Clock()
    entries = fill(storage)
    reader = ManifestReader(storage, "BTCUSDT", len(entries), clock)
    assert reader.poll() == []
    sink = SymbolSink(storage, "BTCUSDT")
    at = START_MS + (HOURS + 1) * HOUR_MS
    for n in range(3):
        table = pa.Table.from_pylist([row(Kind.CVD, at, 900 + n)], schema=SCHEMAS[Kind.CVD])
        sink.commit_batch(Batch({Kind.CVD: table}, at + n * HOUR_MS, 0, {}))
    passes(Upkeep(storage, "BTCUSDT", KEEP, clock), clock, 3)
    sink.close()
    clock.now += LOOK_SECONDS
    assert [entry.seq for entry in reader.poll()] == [10, 11, 12]
    assert reader.expired == 0


def test_a_large_hour_becomes_several_parts(data_path: str) -> None:
    storage, clock = open_storage(data_path), Clock()
    fill(storage)
    passes(Upkeep(storage, "BTCUSDT", UpkeepSettings(HOUR_MS, part_bytes=1), clock), clock, 3)
    first = ManifestReader(storage, "BTCUSDT").poll(1)[0]
    assert len(first.parts) == 2 * ENTRIES_AN_HOUR
    follow_all(storage)
    assert_tidy(storage)


def test_hours_beyond_the_retention_go_and_the_rest_stays(data_path: str) -> None:
    storage, clock = open_storage(data_path), Clock()
    fill(storage)
    upkeep = Upkeep(storage, "BTCUSDT", RETAIN, clock)
    passes(upkeep, clock, 7)
    assert names(storage).ranges[0].first == KEPT
    assert upkeep.expired == KEPT
    assert names(storage).expired == frozenset()
    reader = ManifestReader(storage, "BTCUSDT")
    assert reader.poll()[0].seq == KEPT
    assert reader.expired == KEPT
    follow_all(storage, first_kept=KEPT)
    assert_tidy(storage)


def test_a_part_that_is_damaged_keeps_its_hour_from_being_replaced(data_path: str) -> None:
    storage, clock = open_storage(data_path), Clock()
    entries = fill(storage)
    damaged = entries[4].parts[0]
    good = storage.read(damaged.path)
    storage.put(damaged.path, good[:-1])
    upkeep = Upkeep(storage, "BTCUSDT", KEEP, clock)
    with pytest.raises(CorruptPart):
        upkeep.run()
    assert names(storage).ranges == (Range(0, 2), Range(6, 8))
    storage.put(damaged.path, good)
    clock.now += KEEP.grace_seconds
    upkeep.run()
    follow_all(storage)
    merged = ManifestReader(storage, "BTCUSDT").poll()[1].parts[0]
    content = storage.read(merged.path)
    storage.put(merged.path, content[:-1])
    upkeep.run()
    clock.now += KEEP.grace_seconds
    with pytest.raises(CorruptPart):
        upkeep.run()
    assert set(range(3, 6)) <= set(names(storage).singles), "the originals are kept"
    storage.put(merged.path, content)
    passes(upkeep, clock, 1)
    follow_all(storage)
    assert_tidy(storage)


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """A storage whose user dies at its n-th change, just before or just after it."""

    def __init__(self, storage: Storage, changes: int, after: bool) -> None:
        self.storage, self.left, self.after = storage, changes, after

    def change(self, do: Any, *args: Any) -> None:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Killed
        do(*args)
        if self.left < 0:
            raise Killed

    def put(self, key: str, data: bytes) -> None:
        self.change(self.storage.put, key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        self.change(self.storage.put_if_absent, key, data)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:  # a bulk deletion may be cut off anywhere
            self.change(self.storage.delete, [key])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)


def copy(source: Storage, target: Storage) -> None:
    for item in sorted(source.find(""), key=lambda item: item.key):
        target.put(item.key, source.read(item.key))


@pytest.fixture(params=["volume", "bucket"])
def places(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    """Gives a new empty place each time it is called."""
    if request.param == "volume":
        return lambda n: open_storage(str(tmp_path / f"place-{n}"))
    bucket = request.getfixturevalue("s3").make_bucket()
    return lambda n: open_storage(f"s3://{bucket}/place-{n}")


def test_killed_at_any_step_readers_are_right_and_the_next_process_finishes(places: Any) -> None:
    original = places("original")
    fill(original)
    changes, killed = 0, True
    while killed:
        storage, clock = places(changes), Clock()
        copy(original, storage)
        standing = Follower(storage, 0, clock)
        standing.follow(standing.reader.poll(4))
        holding = Follower(storage, 0, clock)
        in_hand = holding.reader.poll(7)
        killed = False
        try:
            mortal = Mortal(storage, changes // 2, after=bool(changes % 2))
            passes(Upkeep(mortal, "BTCUSDT", RETAIN, clock), clock, 7)
        except Killed:
            killed = True
        for seq in (0, 2, 5, 9):
            follower = Follower(storage, seq, Clock())
            follower.follow()
            follower.check(seq, max(seq, KEPT))
        passes(Upkeep(storage, "BTCUSDT", RETAIN, clock), clock, 7)
        assert_tidy(storage)
        for seq in (0, 4, 9):
            follower = Follower(storage, seq, Clock())
            follower.follow()
            follower.check(max(seq, KEPT))
        standing.follow()
        standing.check(0)
        holding.follow(in_hand)
        holding.check(*(0, KEPT))
        changes += KILL_STEP
    assert changes > 60, "all of its steps were tried"


def leave_merged_parts(storage: Storage, changes: int) -> set[str]:
    """A compaction that is killed after so many changes; gives what it has put."""
    before = {item.key for item in storage.find("")}
    with pytest.raises(Killed):
        Upkeep(Mortal(storage, changes, after=False), "BTCUSDT", KEEP, Clock()).run()
    return {item.key for item in storage.find("")} - before


def test_merged_parts_of_a_killed_compaction_are_collected_if_nobody_uses_them(
    data_path: str,
) -> None:
    storage, clock = open_storage(data_path), Clock()
    fill(storage)
    left = leave_merged_parts(storage, 2)
    assert len(left) == 2
    # Begun anew with other stretches, nobody will ever name them.
    longer = UpkeepSettings(compaction_ms=2 * HOUR_MS)
    upkeep = Upkeep(storage, "BTCUSDT", longer, clock)
    upkeep.run()
    assert names(storage).ranges != ()
    clock.now += 2 * MERGE_SECONDS - 1
    upkeep.run()
    assert left <= {item.key for item in storage.find("")}, "one may be about to name them"
    clock.now += 1
    upkeep.run()
    assert upkeep.collected == 2
    passes(upkeep, clock, 2)
    assert_tidy(storage)
    follow_all(storage)


def test_merged_parts_that_are_named_in_the_end_are_kept(data_path: str) -> None:
    storage, clock = open_storage(data_path), Clock()
    fill(storage)
    leave_merged_parts(storage, 4)
    passes(Upkeep(storage, "BTCUSDT", KEEP, clock), clock, 5)
    assert_tidy(storage)
    part = next(item.key for item in storage.find("") if "/compact-" in item.key)
    storage.put(f"{part.rpartition('-')[0]}-00000000.parquet", b"other bytes of the same stretch")
    upkeep = Upkeep(storage, "BTCUSDT", KEEP, clock)
    passes(upkeep, clock, 3)
    assert upkeep.collected == 1
    assert_tidy(storage)
    follow_all(storage)


def test_a_compaction_that_takes_too_long_names_nothing(data_path: str) -> None:
    class Slow(Mortal):
        def change(self, do: Any, *args: Any) -> None:
            do(*args)
            self.left -= 1
            clock.now += MERGE_SECONDS if self.left == 0 else 0.0

    storage, clock = open_storage(data_path), Clock()
    fill(storage)
    upkeep = Upkeep(Slow(storage, 1, after=False), "BTCUSDT", KEEP, clock)
    with pytest.raises(StorageError, match="made anew"):
        upkeep.run()
    assert Range(0, 2) not in names(storage).ranges
    passes(upkeep, clock, 4)
    assert_tidy(storage)
    follow_all(storage)


def test_a_storage_that_fails_now_and_then_leaves_everything_readable(data_path: str) -> None:
    class Failing(Mortal):
        def change(self, do: Any, *args: Any) -> None:
            self.left -= 1
            if self.left % 13 == 0:
                raise StorageError("ENOSPC", "full")
            do(*args)

    storage, clock = open_storage(data_path), Clock()
    fill(storage)
    upkeep = Upkeep(Failing(storage, 0, after=False), "BTCUSDT", RETAIN, clock)
    refusals = 0
    for _ in range(30):
        try:
            upkeep.run()
        except StorageError:
            refusals += 1
        clock.now += KEEP.grace_seconds
        follower = Follower(storage, 0, Clock())
        follower.follow()
        follower.check(0, KEPT)
    assert refusals >= 3
    assert len(names(storage).ranges) == HOURS - 1
    follow_all(storage, first_kept=KEPT)
    assert_tidy(storage)
