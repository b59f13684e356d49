"""The reading side of the data layout (docs/designs/002), and the schemas both sides share.

Analysis and people read what harvest writes, at the same time, on one volume. This module is
the only place that knows how: a reader follows the manifest, entry by entry, and opens only
parts that an entry names. It must never list data folders (a part that no entry names does
not exist) and never write.

StoreError
├── MissingPart    an entry names it, the volume has it not
├── CorruptPart    size or SHA-256 differ from the entry's, or it is no Parquet file
└── CorruptEntry   a manifest entry cannot be read
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq


class StoreError(Exception):
    """Harvested data cannot be read."""


class MissingPart(StoreError):
    """A part that a manifest entry names is not on the volume."""


class CorruptPart(StoreError):
    """A part is there, but it is not what the manifest entry says."""


class CorruptEntry(StoreError):
    """A manifest entry cannot be understood."""


class Kind(StrEnum):
    """The tables of one symbol."""

    TRADE = "trade"
    BBO = "bbo"
    CVD = "cvd"
    FEATURE = "feature"
    SIGNAL = "signal"


HARVESTED: Final = (Kind.TRADE, Kind.BBO, Kind.CVD, Kind.FEATURE)
"""What harvest writes; analysis writes signals, under a manifest of its own."""


class Regime(StrEnum):
    """How busy the market is, against its own last 24 h."""

    ACTIVE = "active"
    QUIET = "quiet"
    UNKNOWN = "unknown"


class Quality(IntFlag):
    """The bits of a feature row's `quality`; 0 is a clean row."""

    STALE_QUOTE = 1
    """No BBO in the last 1.5 s: `mid` is null."""
    BOOK_GAP = 2
    """The book stream was away for a part of this second: `ofi` is incomplete."""
    OFI_WARMING = 4
    """Too few past bins to score the OFI: `z_ofi` is null."""
    TRADE_GAP = 8
    """Trades are missing when the row is closed: `tps` and the CVD lag behind."""
    LATE_QUOTES = 16
    """Quotes came after their second was closed, since the row before; they are not in it."""
    SIDE_DISPUTED = 32
    """Trades print on the other side of the quote than their taker side says, beyond chance:
    the sign of the CVD cannot be trusted."""


def _required(name: str, kind: pa.DataType) -> pa.Field[pa.DataType]:
    return pa.field(name, kind, nullable=False)


_I64: Final = pa.int64()
_F64: Final = pa.float64()

SCHEMAS: Final[dict[Kind, pa.Schema]] = {
    Kind.TRADE: pa.schema(
        [
            _required("trade_id", _I64),
            _required("first_id", _I64),
            _required("last_id", _I64),
            _required("ts", _I64),
            pa.field("event_ms", _I64),  # null: REST rows carry no E
            _required("recv_ns", _I64),
            _required("ingest", _I64),
            _required("price", _F64),
            _required("qty", _F64),
            pa.field("nq", _F64),
            _required("is_buyer_maker", pa.bool_()),
            _required("src", pa.string()),
            _required("conn_id", _I64),
        ]
    ),
    Kind.BBO: pa.schema(
        [
            _required("update_id", _I64),
            _required("bid_price", _F64),
            _required("bid_qty", _F64),
            _required("ask_price", _F64),
            _required("ask_qty", _F64),
            _required("ts", _I64),
            _required("event_ms", _I64),
            _required("recv_ns", _I64),
            _required("ingest", _I64),
            _required("conn_id", _I64),
        ]
    ),
    Kind.CVD: pa.schema(
        [
            _required("trade_id", _I64),
            _required("ts", _I64),
            _required("ingest", _I64),
            _required("delta", _F64),
            _required("delta_qty", _F64),
            _required("cvd", _F64),
            pa.field("z_raw", _F64),  # null: warm-up, or skipped after a gap
            pa.field("z_cvd", _F64),
            pa.field("scale", _F64),
            pa.field("floor", _F64),
            _required("floor_hit", pa.bool_()),
        ]
    ),
    Kind.FEATURE: pa.schema(
        [
            _required("ts", _I64),
            _required("ingest", _I64),
            pa.field("mid", _F64),
            pa.field("spread_bps", _F64),
            _required("ofi", _F64),
            pa.field("z_ofi", _F64),
            _required("tps", _F64),
            _required("regime", pa.string()),
            _required("gap_epoch", _I64),
            _required("quality", _I64),
        ]
    ),
    Kind.SIGNAL: pa.schema(
        [
            _required("ts", _I64),
            pa.field("f", _F64),  # null: the row cannot be scored, see reason
            pa.field("p", _F64),  # null: also before the first calibration
            _required("regime", pa.string()),
            _required("direction", _I64),
            pa.field("reason", pa.string()),  # null: it can be scored
            _required("quality", _I64),
            pa.field("mid", _F64),
            _required("horizon_ms", _I64),
            _required("gap_epoch", _I64),
            pa.field("fitted_ms", _I64),
            _required("track", pa.string()),
            _required("revision", pa.string()),
            _required("attempt", _I64),
            _required("fingerprint", pa.string()),
            _required("version", pa.string()),
            _required("emitted_ns", _I64),
            _required("replayed", pa.bool_()),
            _required("published", pa.bool_()),
            pa.field("seq", _I64),  # null: it did not go out
            pa.field("withheld", pa.string()),  # null: it went out
        ]
    ),
}
"""Column types by kind. Times are int64 ms of event time, but for `_ns` (wall clock)."""

ID_COLUMN: Final[dict[Kind, str]] = {
    Kind.TRADE: "trade_id",
    Kind.BBO: "update_id",
    Kind.CVD: "trade_id",
    Kind.FEATURE: "ts",
    Kind.SIGNAL: "ts",
}
"""Which column a part's `first_id` and `last_id` (and file name) are taken from."""


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file: one kind, one symbol, one date."""

    kind: Kind
    path: str
    """Relative to the data path, with forward slashes."""
    rows: int
    first_id: int
    last_id: int
    min_event_ms: int
    max_event_ms: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of one stream that was not received live. Times are event time, ms."""

    stream: str
    start: int
    end: int
    reason: str
    recovered: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit of one symbol: a consistent cut over all kinds."""

    seq: int
    symbol: str
    committed_ns: int
    watermark_ms: int
    gap_epoch: int
    gaps: tuple[Gap, ...]
    parts: tuple[Part, ...]
    state: dict[str, Any]

    def to_json(self) -> bytes:
        """The entry as the manifest stores it."""
        return msgspec.json.encode(
            _EntryWire(
                seq=self.seq,
                symbol=self.symbol,
                committed_ns=self.committed_ns,
                watermark_ms=self.watermark_ms,
                gap_epoch=self.gap_epoch,
                gaps=[_GapWire(g.stream, g.start, g.end, g.reason, g.recovered) for g in self.gaps],
                parts=list(self.parts),
                state=self.state,
            )
        )

    @classmethod
    def from_json(cls, data: bytes) -> Entry:
        """Read an entry as the manifest stores it.

        Raises:
            CorruptEntry: it is not JSON, or a field is missing or of the wrong type.
        """
        try:
            wire = msgspec.json.decode(data, type=_EntryWire)
        except msgspec.DecodeError as exc:
            raise CorruptEntry(f"manifest entry: {exc}") from exc
        return cls(
            seq=wire.seq,
            symbol=wire.symbol,
            committed_ns=wire.committed_ns,
            watermark_ms=wire.watermark_ms,
            gap_epoch=wire.gap_epoch,
            gaps=tuple(Gap(g.stream, g.start, g.end, g.reason, g.recovered) for g in wire.gaps),
            parts=tuple(wire.parts),
            state=wire.state,
        )


class _GapWire(msgspec.Struct, rename={"start": "from", "end": "to"}):
    stream: str
    start: int
    end: int
    reason: str
    recovered: bool


class _EntryWire(msgspec.Struct):
    seq: int
    symbol: str
    committed_ns: int
    watermark_ms: int
    gap_epoch: int
    gaps: list[_GapWire]
    parts: list[Part]
    state: dict[str, Any]


def manifest_folder(data_path: Path, symbol: str) -> Path:
    """Where the entries of a symbol lie."""
    return data_path / "manifest" / f"symbol={symbol}"


def entry_path(data_path: Path, symbol: str, seq: int) -> Path:
    """Where the entry numbered `seq` lies, or will."""
    return manifest_folder(data_path, symbol) / f"{seq:010d}.json"


class ManifestReader:
    """Follows one symbol's manifest. Entries are numbered without a hole, so the next one is
    opened by name: a poll costs one failed open when there is nothing new, and lists nothing.
    """

    def __init__(self, data_path: Path, symbol: str, next_seq: int = 0) -> None:
        self._data_path = data_path
        self._symbol = symbol
        self.next_seq = next_seq

    def poll(self, limit: int = 1000) -> list[Entry]:
        """New entries in order, at most `limit`; empty if there is none.

        Raises:
            CorruptEntry: the next entry cannot be read; `next_seq` stays on it.
        """
        entries: list[Entry] = []
        while len(entries) < limit:
            path = entry_path(self._data_path, self._symbol, self.next_seq)
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                break
            try:
                entry = Entry.from_json(data)
            except CorruptEntry as exc:
                if entries:  # hand out what is good; the next poll raises
                    break
                raise CorruptEntry(f"{path.name} of {self._symbol}: {exc}") from exc
            entries.append(entry)
            self.next_seq += 1
        return entries


def read_part(data_path: Path, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part that an entry names, checked against the entry's size and SHA-256.

    Raises:
        MissingPart: it is not on the volume.
        CorruptPart: it is not what the entry says.
    """
    relative = PurePosixPath(part.path)
    if relative.is_absolute() or ".." in relative.parts:
        raise CorruptPart(f"{part.path}: leaves the data path")
    try:
        data = (data_path / relative).read_bytes()
    except FileNotFoundError as exc:
        raise MissingPart(f"{part.path}: a manifest entry names it, but it is not there") from exc
    if len(data) != part.bytes or hashlib.sha256(data).hexdigest() != part.sha256:
        raise CorruptPart(f"{part.path}: not the bytes that its manifest entry names")
    try:
        # From memory: given a path, pyarrow would add the folder names as columns.
        table = pq.ParquetFile(pa.BufferReader(data)).read(
            columns=None if columns is None else list(columns)
        )
    except (pa.ArrowException, OSError) as exc:
        raise CorruptPart(f"{part.path}: {exc}") from exc
    if table.num_rows != part.rows:
        raise CorruptPart(f"{part.path}: {table.num_rows} rows, its entry says {part.rows}")
    return table
