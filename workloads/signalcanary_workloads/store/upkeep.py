"""Makes few large parts of many small ones, and deletes what is too old.

Only the one writer of a symbol does this, beside its commits: it touches finished hours alone,
never the newest entry. docs/designs/002 says why every step may be the last one before a crash,
and why a reader is right at each. Nothing is deleted before what replaces it was read back, and
before every reader has had `grace_seconds` to notice. The grace is measured by a monotonic clock
from when this process first saw that there is something to delete, so that no wall clock can
shorten it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from threading import Event
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import AlreadyThere, NotFound, StorageError, StoreError
from .manifest import (
    CompactedEntry,
    Entry,
    Listing,
    Member,
    Part,
    Range,
    entry_key,
    manifest_folder,
)
from .parts import read_part, writer_options
from .storage import Storage

GRACE_SECONDS: Final = 900.0
"""Far longer than a reader takes for what it has polled, and than its look at the listing."""
PART_BYTES: Final = 64 << 20
"""A part that grows beyond this is closed and another begun: memory and single PUTs are bounded."""
MERGE_SECONDS: Final = 900.0
"""Between a stretch's first merged part and the entry that names it, at most."""
_ROW_GROUP_ROWS: Final = 65_536
_MERGED: Final = re.compile(r"compact-(\d{10})-(\d{10})-[0-9a-f]{8}\.parquet")


@dataclass(frozen=True)
class UpkeepSettings:
    """What is to be done to old data."""

    compaction_ms: int
    """Event time (ms) whose entries become one."""
    retention_ms: int | None = None
    """Event time (ms) behind the newest after which a compacted entry is deleted; None: never."""
    grace_seconds: float = GRACE_SECONDS
    part_bytes: int = PART_BYTES


class Upkeep:
    """The old data of one symbol."""

    def __init__(
        self,
        storage: Storage,
        symbol: str,
        settings: UpkeepSettings,
        monotonic: Callable[[], float],
        stop: Event | None = None,
    ) -> None:
        self._storage = storage
        self._symbol = symbol
        self._settings = settings
        self._monotonic = monotonic
        self._stop = stop or Event()
        self._watermarks: dict[int, int] = {}
        self._seen: dict[str, float] = {}
        """When something to be deleted was first seen, by the key of what stands for it."""
        self.compacted = 0
        """Entries that were replaced, in this process."""
        self.expired = 0
        """Entries that were deleted as too old, in this process."""
        self.collected = 0
        """Merged parts that no entry named and that were deleted, in this process."""
        self._leaked: set[str] | None = None
        """Merged parts that earlier processes may have left; None: not looked for yet."""
        self._collect_from = 0.0

    def run(self) -> None:
        """One pass over the symbol: compact what is finished, delete what has had its grace.

        Ends early if `stop` is set.

        Raises:
            StoreError: something could not be read or written. What it belongs to is left as it
                is, the rest is done; the next pass tries again.
        """
        stored = self._storage.find(manifest_folder(self._symbol))
        listing = Listing.of(item.key for item in stored)
        problems: list[StoreError] = []
        steps = (*self._compactions(listing), *self._deletions(listing), self._collect)
        for step in steps:
            if self._stop.is_set():
                return
            try:
                step()
            except StoreError as exc:
                problems.append(exc)
        if problems:
            raise problems[0]

    # ------------------------------------------------------------------ compaction

    def _compactions(self, listing: Listing) -> Iterator[Callable[[], None]]:
        for seqs in self._finished_runs(listing):
            yield partial(self._compact, seqs)

    def _finished_runs(self, listing: Listing) -> list[list[int]]:
        """Numbers of entries that follow each other and lie in one hour, but the newest such."""
        taken = (*listing.ranges, *listing.expired)
        singles = [n for n in listing.singles if not any(n in span for span in taken)]
        known = self._watermarks
        self._watermarks = {
            n: known[n] if n in known else self._read_entry(n).watermark_ms for n in singles
        }
        # Consecutive numbers have the same difference to their position.
        keyed = [
            (n - position, self._watermarks[n] // self._settings.compaction_ms, n)
            for position, n in enumerate(singles)
        ]
        runs = [[n for _, _, n in run] for _, run in groupby(keyed, key=lambda item: item[:2])]
        return runs[:-1]

    def _compact(self, seqs: list[int]) -> None:
        begun = self._monotonic()
        entries = [self._read_entry(seq) for seq in seqs]
        span = Range(seqs[0], seqs[-1])
        written: list[_Written] = []
        for folder in sorted({_folder(part) for entry in entries for part in entry.parts}):
            written += self._merge(folder, span, entries)
            if self._stop.is_set():
                return
        whole = CompactedEntry(
            first=span.first,
            symbol=self._symbol,
            gaps=tuple(gap for entry in entries for gap in entry.gaps),
            parts=tuple(item.part for item in written),
            members=tuple(
                Member(
                    committed_ns=entry.committed_ns,
                    watermark_ms=entry.watermark_ms,
                    gap_epoch=entry.gap_epoch,
                    gaps=len(entry.gaps),
                    rows=[item.rows.get(entry.seq, 0) for item in written],
                )
                for entry in entries
            ),
        )
        if (took := self._monotonic() - begun) >= MERGE_SECONDS:
            # Another process may take its parts for left behind by now.
            problem = f"{span.key(self._symbol)}: merging took {took:.0f} s, so it is made anew"
            raise StorageError("slow", problem)
        try:
            self._storage.put_if_absent(span.key(self._symbol), whole.to_json())
        except AlreadyThere:
            return  # an earlier try, whose answer was lost
        self.compacted += len(entries)

    def _merge(self, folder: str, span: Range, entries: list[Entry]) -> list[_Written]:
        """Copy all rows of a folder (one kind, one date) into few parts, in order of commit."""
        done: list[_Written] = []
        merger: _Merger | None = None
        for entry in entries:
            for part in entry.parts:
                if _folder(part) != folder:
                    continue
                table = read_part(self._storage, part)
                if merger is not None and not merger.takes(table, self._settings.part_bytes):
                    done.append(self._put_merged(merger, folder, span))
                    merger = None
                merger = merger or _Merger(table.schema)
                merger.add(entry.seq, part, table)
        if merger is not None:
            done.append(self._put_merged(merger, folder, span))
        return done

    def _put_merged(self, merger: _Merger, folder: str, span: Range) -> _Written:
        data = merger.finish()
        digest = hashlib.sha256(data).hexdigest()
        path = f"{folder}/{_stem(span)}{digest[:8]}.parquet"
        self._storage.put(path, data)
        first, last = merger.parts[0], merger.parts[-1]
        part = Part(
            kind=first.kind,
            path=path,
            rows=sum(merger.rows.values()),
            first_id=first.first_id,
            last_id=last.last_id,
            min_event_ms=min(part.min_event_ms for part in merger.parts),
            max_event_ms=max(part.max_event_ms for part in merger.parts),
            sha256=digest,
            bytes=len(data),
        )
        return _Written(part, merger.rows)

    # ------------------------------------------------------------------ deletion

    def _deletions(self, listing: Listing) -> Iterator[Callable[[], None]]:
        spans = [span for span in listing.ranges if span not in listing.expired]
        replaced = {span: [n for n in listing.singles if n in span] for span in spans}
        waiting = [span.key(self._symbol) for span, singles in replaced.items() if singles]
        expired = [span.expiry_key(self._symbol) for span in listing.expired]
        self._seen = {key: self._seen.get(key, self._monotonic()) for key in (*waiting, *expired)}
        for span, singles in replaced.items():
            if singles and self._had_grace(span.key(self._symbol)):
                yield partial(self._delete_replaced, span, singles)
        for span in sorted(listing.expired):
            if self._had_grace(span.expiry_key(self._symbol)):
                yield partial(self._delete_expired, span)
        retention_ms = self._settings.retention_ms
        if retention_ms is not None and listing.singles:
            whole = [span for span in spans if not replaced[span]]
            newest = self._read_entry(listing.singles[-1]).watermark_ms
            yield partial(self._expire, whole, newest - retention_ms)

    def _had_grace(self, key: str) -> bool:
        return self._monotonic() - self._seen[key] >= self._settings.grace_seconds

    def _delete_replaced(self, span: Range, singles: list[int]) -> None:
        """Parts first, as their entries name them; a reader that misses one finds the new ones."""
        whole = self._read_compacted(span)
        for part in whole.parts:
            read_part(self._storage, part)
        kept = {part.path for part in whole.parts}
        entries = [self._read_entry(seq) for seq in singles]
        doomed = {part.path for entry in entries for part in entry.parts} - kept
        self._storage.delete(sorted(doomed | self._strays(span, kept)))
        self._storage.delete(entry_key(self._symbol, seq) for seq in singles)

    def _strays(self, span: Range, kept: set[str]) -> set[str]:
        """Parts of an earlier try, whose bytes came out differently."""
        folders = {path.rpartition("/")[0] for path in kept}
        return {
            item.key
            for folder in folders
            for item in self._storage.find(f"{folder}/")
            if item.key.startswith(f"{folder}/{_stem(span)}") and item.key not in kept
        }

    def _expire(self, spans: list[Range], before_ms: int) -> None:
        """Mark the oldest, as long as all their rows are older than `before_ms`."""
        for span in spans:
            if self._read_compacted(span).max_event_ms >= before_ms:
                return
            self._storage.put(span.expiry_key(self._symbol), b"")

    def _delete_expired(self, span: Range) -> None:
        """The mark goes last: it is what says that there may be something left."""
        try:
            whole = self._read_compacted(span)
        except NotFound:
            pass
        else:
            self._storage.delete([part.path for part in whole.parts])
            self._storage.delete([span.key(self._symbol)])
            self.expired += len(whole.members)
        self._storage.delete([span.expiry_key(self._symbol)])

    # ------------------------------------------------------------------ what kills left

    def _collect(self) -> None:
        """Delete merged parts that a killed compaction left and no later one has made use of.

        A later one does unless its stretch is another one, as with another `compactionInterval`.
        They are looked for once a process, as only the death of one leaves them; and deleted a
        good while later, if still no entry names them: whoever was about to has done so or given
        up.
        """
        if self._leaked is None:
            dates = [name for name in self._storage.folders("") if name.startswith("date=")]
            self._leaked = self._find_unnamed(f"{date}/symbol={self._symbol}/" for date in dates)
            self._collect_from = self._monotonic() + 2 * MERGE_SECONDS
        elif self._leaked and self._monotonic() >= self._collect_from:
            folders = sorted({f"{key.rpartition('/')[0]}/" for key in self._leaked})
            doomed = self._leaked & self._find_unnamed(folders)
            self._storage.delete(sorted(doomed))
            self.collected += len(doomed)
            self._leaked = set()

    def _find_unnamed(self, folders: Iterable[str]) -> set[str]:
        """Merged parts below the folders that no compacted entry names."""
        found: dict[tuple[Range, str], set[str]] = {}
        for key in (item.key for folder in folders for item in self._storage.find(folder)):
            folder, _, name = key.rpartition("/")
            if (match := _MERGED.fullmatch(name)) is not None:
                span = Range(int(match[1]), int(match[2]))
                found.setdefault((span, folder), set()).add(key)
        # Behind the parts: an entry that is written meanwhile is seen.
        stored = self._storage.find(manifest_folder(self._symbol))
        listing = Listing.of(item.key for item in stored)
        named = {*listing.ranges, *listing.expired}
        unnamed: set[str] = set()
        for (span, _), keys in found.items():
            if span not in named:
                unnamed |= keys
            elif len(keys) > 1 and span not in listing.expired:  # a single one is the entry's
                unnamed |= keys - {part.path for part in self._read_compacted(span).parts}
        return unnamed

    def _read_entry(self, seq: int) -> Entry:
        key = entry_key(self._symbol, seq)
        return Entry.from_json(self._storage.read(key), with_state=False)

    def _read_compacted(self, span: Range) -> CompactedEntry:
        return CompactedEntry.from_json(self._storage.read(span.key(self._symbol)))


@dataclass(frozen=True)
class _Written:
    """A merged part, and how many of its rows are each entry's."""

    part: Part
    rows: dict[int, int]


@dataclass
class _Merger:
    """A part that grows, compressed as it does."""

    schema: pa.Schema
    parts: list[Part] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._buffer = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._buffer, self.schema, **writer_options(self.schema))
        self._pending: list[pa.Table] = []
        self._bytes = 0

    def takes(self, table: pa.Table, limit_bytes: int) -> bool:
        """May the table follow in this part?"""
        return self._bytes < limit_bytes and table.schema.equals(self.schema)

    def add(self, seq: int, part: Part, table: pa.Table) -> None:
        """Append the rows of an entry's part."""
        self.parts.append(part)
        self.rows[seq] = self.rows.get(seq, 0) + table.num_rows
        self._bytes += part.bytes  # the small ones compress less, so this is an upper bound
        self._pending.append(table)
        if sum(item.num_rows for item in self._pending) >= _ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending).combine_chunks())
            self._pending = []

    def finish(self) -> bytes:
        """The part's bytes."""
        self._flush()
        self._writer.close()
        return self._buffer.getvalue().to_pybytes()


def _folder(part: Part) -> str:
    return part.path.rpartition("/")[0]


def _stem(span: Range) -> str:
    return f"compact-{span.first:010d}-{span.last:010d}-"
