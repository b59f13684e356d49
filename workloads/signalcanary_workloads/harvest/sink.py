"""Commits a symbol's rows to the volume, so that a reader sees all of a cut or none of it.

docs/designs/002 is the layout. The order of writing is what makes it safe: each part goes to a
temporary file, is flushed to the disk and renamed, then its folder is flushed; the manifest
entry, which alone makes parts visible, comes last in the same way. Whatever instant the process
dies at, the entries that are there name only whole files. A commit may be tried again: part
names come from the bytes, and the entry's number does not move before it is written.

SinkError
├── SymbolLocked    another process writes this symbol
├── ResumeFailed    the last manifest entry cannot be read or continued
└── CommitFailed    the volume refused (full, not permitted, …); the rows are still in the cut
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from time import time_ns
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from signalcanary_workloads.harvest.pipeline import Cut
from signalcanary_workloads.store import (
    ID_COLUMN,
    CorruptEntry,
    Entry,
    Gap,
    Kind,
    Part,
    entry_path,
    manifest_folder,
)

ZSTD_LEVEL: Final = 3
DAY_MS: Final = 86_400_000
_TEMPORARY: Final = ".tmp"


class SinkError(Exception):
    """Rows cannot be written."""


class SymbolLocked(SinkError):
    """Another process writes this symbol in this folder."""


class ResumeFailed(SinkError):
    """What was written before cannot be continued."""


class CommitFailed(SinkError):
    """The volume refused a commit. `reason` is an errno's name, a metric label."""

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

    def __init__(self, data_path: Path, symbol: str, wall_ns: Callable[[], int] = time_ns) -> None:
        """
        Raises:
            SymbolLocked: another process has it open.
            ResumeFailed: the last entry cannot be read.
            CommitFailed: the folder cannot be made or listed.
        """
        self._data_path = data_path
        self._symbol = symbol
        self._wall_ns = wall_ns
        self.last: Entry | None = None
        # A commit runs in a thread that outlives a cancelled caller: the symbol must not be
        # let go while it writes.
        self._writing = Lock()
        self._closed = False
        folder = manifest_folder(data_path, symbol)
        try:
            _make_folder(folder)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise _refused(exc) from exc
        try:
            self._take_lock()
            self.last = self._last_entry(folder)
            self._next_seq = 0 if self.last is None else self.last.seq + 1
            self.removed = self._remove_orphans(folder)
        except OSError as exc:
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
                os.close(self._lock)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise SymbolLocked(
                f"{self._symbol}: another process writes to "
                f"{manifest_folder(self._data_path, self._symbol)}; only one may"
            ) from exc

    def _last_entry(self, folder: Path) -> Entry | None:
        names = [path for path in folder.iterdir() if path.suffix == ".json"]
        if not names:
            return None
        newest = max(names)
        try:
            return Entry.from_json(newest.read_bytes())
        except CorruptEntry as exc:
            raise ResumeFailed(f"{newest}: {exc}") from exc

    def _remove_orphans(self, folder: Path) -> list[str]:
        """Remove what a killed writer left: temporary files, and parts that no entry names.

        Only parts newer than the last entry can be such, so most starts read no entry here;
        but before anything is deleted every entry has its say, whatever the clocks say.
        """
        for path in folder.iterdir():
            if path.suffix == _TEMPORARY:
                path.unlink()
        newest = 0.0
        if self.last is not None:
            newest = entry_path(self._data_path, self._symbol, self.last.seq).stat().st_mtime
        suspects: list[Path] = []
        for path in self._data_path.glob(f"date=*/symbol={self._symbol}/kind=*/*"):
            if path.suffix == _TEMPORARY:
                path.unlink()
            elif path.suffix == ".parquet" and path.stat().st_mtime >= newest - 1:
                suspects.append(path)
        if not suspects:
            return []
        named = set(_named_parts(folder))
        orphans = [p for p in suspects if p.relative_to(self._data_path).as_posix() not in named]
        for path in orphans:
            path.unlink()
        return [path.name for path in orphans]

    def commit(self, cut: Cut) -> Entry:
        """Write what harvest has cut off. May be called again with it after it failed.

        Raises:
            CommitFailed: the volume refused. Nothing of the cut is visible.
        """
        tables = {kind: c.table() for kind, c in cut.columns.items() if len(c)}
        return self.commit_batch(
            Batch(tables, cut.watermark_ms, cut.gap_epoch, cut.state, cut.gaps)
        )

    def commit_batch(self, batch: Batch) -> Entry:
        """Write a batch. May be called again with the same one after it failed.

        Raises:
            CommitFailed: the volume refused. Nothing of the batch is visible.
        """
        with self._writing:
            if self._closed:
                raise CommitFailed("closed", f"{self._symbol}: the sink is closed")
            return self._commit(batch)

    def _commit(self, batch: Batch) -> Entry:
        try:
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
            path = entry_path(self._data_path, self._symbol, entry.seq)
            _write_durably(path, entry.to_json())
        except OSError as exc:
            raise _refused(exc) from exc
        self.last = entry
        self._next_seq += 1
        return entry

    def _write_parts(self, kind: Kind, table: pa.Table) -> Iterator[Part]:
        days = np.asarray(table.column("ts").to_numpy()) // DAY_MS
        for day in np.unique(days):
            rows = table if (days == day).all() else table.filter(pa.array(days == day))
            yield self._write_part(kind, int(day), rows)

    def _write_part(self, kind: Kind, day: int, rows: pa.Table) -> Part:
        data = _to_parquet(rows)
        digest = hashlib.sha256(data).hexdigest()
        ids = rows.column(ID_COLUMN[kind])
        times = np.asarray(rows.column("ts").to_numpy())
        first_id, last_id = int(ids[0].as_py()), int(ids[-1].as_py())
        date = datetime.fromtimestamp(day * DAY_MS // 1000, UTC).date().isoformat()
        path = (
            f"date={date}/symbol={self._symbol}/kind={kind}/"
            f"part-{first_id}-{last_id}-{digest[:8]}.parquet"
        )
        _write_durably(self._data_path / path, data)
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


def _named_parts(folder: Path) -> Iterator[str]:
    decode = msgspec.json.Decoder(_NamedParts).decode
    for path in folder.iterdir():
        if path.suffix != ".json":
            continue
        try:
            entry = decode(path.read_bytes())
        except msgspec.DecodeError as exc:
            raise ResumeFailed(f"{path}: {exc}") from exc
        yield from (part.path for part in entry.parts)


def _to_parquet(rows: pa.Table) -> bytes:
    # Ids and times grow by small steps, prices repeat: each has the encoding that suits it.
    whole: dict[str, str] = {
        f.name: "DELTA_BINARY_PACKED" for f in rows.schema if pa.types.is_integer(f.type)
    }
    repeating = [
        f.name for f in rows.schema if pa.types.is_floating(f.type) or pa.types.is_string(f.type)
    ]
    options: dict[str, Any] = {"use_dictionary": repeating, "column_encoding": whole}
    buffer = pa.BufferOutputStream()
    pq.write_table(rows, buffer, compression="zstd", compression_level=ZSTD_LEVEL, **options)
    return buffer.getvalue().to_pybytes()


def _write_durably(path: Path, data: bytes) -> None:
    """Make a file that is there whole or not at all, and still there after a power cut."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durably."""
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync_folder(new.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(exc: OSError) -> CommitFailed:
    name = errno.errorcode.get(exc.errno or 0, "unknown")
    return CommitFailed(name, f"the volume refused ({name}): {exc}")
