"""Commits a symbol's rows, so that a reader sees all of a cut or none of it.

docs/designs/002 is the layout. The order of writing is what makes it safe: the parts first, then
the manifest entry, which alone makes them visible; each is there whole or not at all. Whatever
instant the process dies at, the entries that are there name only whole parts. A commit may be
tried again: part names come from the bytes, and the entry's number does not move before it is
written. The entry is only written where there is none, so of two writers one is refused.

SinkError
├── SymbolLocked    another process writes this symbol
├── ResumeFailed    the last manifest entry cannot be read or continued
└── CommitFailed    the volume or bucket refused (full, not permitted, …); the rows are still in
                    the cut
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from time import time_ns
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from signalcanary_workloads.harvest.pipeline import Cut
from signalcanary_workloads.store import (
    ID_COLUMN,
    AlreadyThere,
    CorruptEntry,
    Entry,
    Gap,
    Kind,
    Listing,
    Part,
    Storage,
    StorageError,
    Stored,
    Taken,
    entry_key,
    manifest_folder,
    to_parquet,
)

DAY_MS: Final = 86_400_000
_READS_AT_ONCE: Final = 16


class SinkError(Exception):
    """Rows cannot be written."""


class SymbolLocked(SinkError):
    """Another process writes this symbol in this folder."""


class ResumeFailed(SinkError):
    """What was written before cannot be continued."""


class CommitFailed(SinkError):
    """The volume or bucket refused. `reason` is the storage's, a metric label."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Batch:
    """What one commit makes visible of a symbol, whoever writes it: rows by kind and a state.

    Tables have the schema of their kind; their rows are in the order in which they are kept.
    """

    tables: Mapping[Kind, pa.Table]
    watermark_ms: int
    gap_epoch: int
    state: dict[str, Any]
    gaps: tuple[Gap, ...] = ()


class SymbolSink:
    """The only writer of one symbol. Open it before anything is read from the exchange."""

    def __init__(self, storage: Storage, symbol: str, wall_ns: Callable[[], int] = time_ns) -> None:
        """
        Raises:
            SymbolLocked: another process has it open.
            ResumeFailed: the last entry cannot be read.
            CommitFailed: the volume or bucket cannot be written to or listed.
        """
        self._storage = storage
        self._symbol = symbol
        self._wall_ns = wall_ns
        self.last: Entry | None = None
        # A commit runs in a thread that outlives a cancelled caller: the symbol must not be
        # let go while it writes.
        self._writing = Lock()
        self._closed = False
        folder = manifest_folder(symbol)
        try:
            self._lease = storage.lease(folder)
        except StorageError as exc:
            raise _refused(exc) from exc
        try:
            entries = list(storage.find(folder))
            self.last = self._last_entry(entries)
            self._next_seq = 0 if self.last is None else self.last.seq + 1
            self.removed = self._remove_orphans(entries)
        except StorageError as exc:
            self.close()
            raise _refused(exc) from exc
        except SinkError:
            self.close()
            raise

    def close(self) -> None:
        """Let another process write the symbol, once a commit that is under way is over."""
        with self._writing:
            if not self._closed:
                self._closed = True
                self._lease.release()

    def _last_entry(self, entries: list[Stored]) -> Entry | None:
        singles = Listing.of(item.key for item in entries).singles
        if not singles:
            return None
        key = entry_key(self._symbol, singles[-1])
        try:
            return Entry.from_json(self._storage.read(key))
        except CorruptEntry as exc:
            raise ResumeFailed(f"{key}: {exc}") from exc

    def _remove_orphans(self, entries: list[Stored]) -> list[str]:
        """Remove what a killed writer left: half-written objects, and parts that no entry names.

        Only parts newer than the last entry can be such, and most are named by one of the last
        entries; but before anything is deleted every entry has its say, whatever clocks say.
        """
        self._storage.sweep(manifest_folder(self._symbol))
        newest = 0.0
        if self.last is not None:
            last_key = entry_key(self._symbol, self.last.seq)
            newest = next(item.modified_seconds for item in entries if item.key == last_key)
        suspects: set[str] = set()
        for date in self._storage.folders(""):
            if not date.startswith("date="):
                continue
            folder = f"{date}/symbol={self._symbol}/"
            self._storage.sweep(folder)
            for item in self._storage.find(folder):
                # What compaction left behind is finished or removed by the next compaction.
                is_part = item.key.rpartition("/")[2].startswith("part-")
                if is_part and item.modified_seconds >= newest - 1:
                    suspects.add(item.key)
        orphans = sorted(suspects - self._named_of(suspects, entries))
        self._storage.delete(orphans)
        return [key.rsplit("/", 1)[-1] for key in orphans]

    def _named_of(self, suspects: set[str], entries: list[Stored]) -> set[str]:
        """Those of `suspects` that an entry names. The newest are asked first."""
        keys = sorted((item.key for item in entries if _is_entry(item)), reverse=True)
        named: set[str] = set()
        with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
            for start in range(0, len(keys), _READS_AT_ONCE):
                if named >= suspects:
                    break
                for paths in pool.map(self._parts_of, keys[start : start + _READS_AT_ONCE]):
                    named |= suspects & paths
        return named

    def _parts_of(self, key: str) -> set[str]:
        try:
            entry = msgspec.json.decode(self._storage.read(key), type=_NamedParts)
        except msgspec.DecodeError as exc:
            raise ResumeFailed(f"{key}: {exc}") from exc
        return {part.path for part in entry.parts}

    def commit(self, cut: Cut) -> Entry:
        """Write what harvest has cut off. May be called again with it after it failed.

        Raises:
            CommitFailed, SymbolLocked: as of `commit_batch`.
        """
        tables = {kind: c.table() for kind, c in cut.columns.items() if len(c)}
        return self.commit_batch(
            Batch(tables, cut.watermark_ms, cut.gap_epoch, cut.state, cut.gaps)
        )

    def commit_batch(self, batch: Batch) -> Entry:
        """Write a batch. May be called again with the same one after it failed.

        Raises:
            CommitFailed: the volume or bucket refused. Nothing of it is visible, unless
                only the answer was lost; then the next try finds it.
            SymbolLocked: another process has written the next entry, or taken the lease.
        """
        with self._writing:
            if self._closed:
                raise CommitFailed("closed", f"{self._symbol}: the sink is closed")
            try:
                entry = self._commit(batch)
            except StorageError as exc:
                raise _refused(exc) from exc
        self.last = entry
        self._next_seq += 1
        return entry

    def _commit(self, batch: Batch) -> Entry:
        self._lease.renew()
        parts: list[Part] = []
        for kind, table in batch.tables.items():
            if table.num_rows:
                parts.extend(self._write_parts(kind, table))
        entry = Entry(
            seq=self._next_seq,
            symbol=self._symbol,
            committed_ns=self._wall_ns(),
            watermark_ms=batch.watermark_ms,
            gap_epoch=batch.gap_epoch,
            gaps=batch.gaps,
            parts=tuple(parts),
            state=batch.state,
        )
        key = entry_key(self._symbol, entry.seq)
        try:
            self._storage.put_if_absent(key, entry.to_json())
        except AlreadyThere as exc:
            there = self._storage.read(key)
            try:
                found = Entry.from_json(there)
            except CorruptEntry:
                found = None
            if found is None or not entry.same_cut(found):
                raise Taken(f"{key}: another process has written it; only one may") from exc
            return found  # our own: the answer to an earlier try was lost
        return entry

    def _write_parts(self, kind: Kind, table: pa.Table) -> Iterator[Part]:
        days = np.asarray(table.column("ts").to_numpy()) // DAY_MS
        for day in np.unique(days):
            rows = table if (days == day).all() else table.filter(pa.array(days == day))
            yield self._write_part(kind, int(day), rows)

    def _write_part(self, kind: Kind, day: int, rows: pa.Table) -> Part:
        data = to_parquet(rows)
        digest = hashlib.sha256(data).hexdigest()
        ids = rows.column(ID_COLUMN[kind])
        times = np.asarray(rows.column("ts").to_numpy())
        first_id, last_id = int(ids[0].as_py()), int(ids[-1].as_py())
        date = datetime.fromtimestamp(day * DAY_MS // 1000, UTC).date().isoformat()
        path = (
            f"date={date}/symbol={self._symbol}/kind={kind}/"
            f"part-{first_id}-{last_id}-{digest[:8]}.parquet"
        )
        self._storage.put(path, data)
        return Part(
            kind=kind,
            path=path,
            rows=rows.num_rows,
            first_id=first_id,
            last_id=last_id,
            min_event_ms=int(times.min()),
            max_event_ms=int(times.max()),
            sha256=digest,
            bytes=len(data),
        )


class _NamedPart(msgspec.Struct):
    path: str


class _NamedParts(msgspec.Struct):
    parts: list[_NamedPart]


def _is_entry(item: Stored) -> bool:
    return item.key.endswith(".json")


def _refused(exc: StorageError) -> SinkError:
    if isinstance(exc, Taken):
        return SymbolLocked(str(exc))
    return CommitFailed(exc.reason, str(exc))
