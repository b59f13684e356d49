"""What the manifest holds: entries, and entries that were made of many.

An entry is one commit of one symbol. A compacted entry stands for the entries `first` to
`last` and names the parts that their rows were copied to; it remembers where each of them
ended, so that a reader can go on from the middle of it. All of them are written once and
never changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Self, TypeVar

import msgspec

from .errors import CorruptEntry
from .schema import Kind

_T = TypeVar("_T", bound=msgspec.Struct)


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
    skip: int = 0
    """Rows at its start that belong to entries before this one; 0 in the manifest itself."""


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
    """What harvest goes on from; empty in what a compacted entry gives."""
    last_seq: int | None = None
    """Last entry that this one stands for, if it is of a compacted one."""

    @property
    def next_seq(self) -> int:
        """The entry that follows."""
        return (self.seq if self.last_seq is None else self.last_seq) + 1

    def to_json(self) -> bytes:
        """The entry as the manifest stores it."""
        return msgspec.json.encode(
            _EntryWire(
                seq=self.seq,
                symbol=self.symbol,
                committed_ns=self.committed_ns,
                watermark_ms=self.watermark_ms,
                gap_epoch=self.gap_epoch,
                gaps=[_to_wire(gap) for gap in self.gaps],
                parts=[_PartWire.of(part) for part in self.parts],
                state=self.state,
            )
        )

    @classmethod
    def from_json(cls, data: bytes, with_state: bool = True) -> Entry:
        """Read an entry as the manifest stores it.

        Args:
            with_state: the state is most of it; whoever reads many can leave it out.

        Raises:
            CorruptEntry: it is not JSON, or a field is missing or of the wrong type.
        """
        wire = _decode(data, _EntryWire if with_state else _StatelessWire)
        return cls(
            seq=wire.seq,
            symbol=wire.symbol,
            committed_ns=wire.committed_ns,
            watermark_ms=wire.watermark_ms,
            gap_epoch=wire.gap_epoch,
            gaps=tuple(_from_wire(gap) for gap in wire.gaps),
            parts=tuple(part.to_part() for part in wire.parts),
            state=wire.state if isinstance(wire, _EntryWire) else {},
        )

    def same_cut(self, other: Entry) -> bool:
        """Is it the same commit, whenever it was written?"""
        return self.to_json() == replace(other, committed_ns=self.committed_ns).to_json()


class Member(msgspec.Struct, frozen=True):
    """One of the entries that a compacted one stands for."""

    committed_ns: int
    watermark_ms: int
    gap_epoch: int
    gaps: int
    """How many of the gaps are its own."""
    rows: list[int]
    """How many rows of each part are its own, in the order of the parts."""


@dataclass(frozen=True, slots=True)
class CompactedEntry:
    """The entries `first` to `first + len(members) - 1`, as one."""

    first: int
    symbol: str
    gaps: tuple[Gap, ...]
    parts: tuple[Part, ...]
    members: tuple[Member, ...]

    @property
    def last(self) -> int:
        """The last entry that it stands for."""
        return self.first + len(self.members) - 1

    @property
    def max_event_ms(self) -> int:
        """Latest event time of its rows; the watermark if it has none."""
        times = [part.max_event_ms for part in self.parts]
        return max(times, default=self.members[-1].watermark_ms)

    def entry_from(self, seq: int) -> Entry:
        """What a reader that has all before `seq` has yet to get of it."""
        had, newest = self.members[: seq - self.first], self.members[-1]
        skips = [sum(member.rows[n] for member in had) for n in range(len(self.parts))]
        return Entry(
            seq=seq,
            symbol=self.symbol,
            committed_ns=newest.committed_ns,
            watermark_ms=newest.watermark_ms,
            gap_epoch=newest.gap_epoch,
            gaps=self.gaps[sum(member.gaps for member in had) :],
            parts=tuple(
                replace(part, skip=skip)
                for part, skip in zip(self.parts, skips, strict=True)
                if skip < part.rows
            ),
            state={},
            last_seq=self.last,
        )

    def to_json(self) -> bytes:
        """As the manifest stores it."""
        return msgspec.json.encode(
            _CompactedWire(
                first=self.first,
                symbol=self.symbol,
                gaps=[_to_wire(gap) for gap in self.gaps],
                parts=[_PartWire.of(part) for part in self.parts],
                members=list(self.members),
            )
        )

    @classmethod
    def from_json(cls, data: bytes) -> CompactedEntry:
        """Read it as the manifest stores it.

        Raises:
            CorruptEntry: it is not JSON, or the counts in it contradict each other.
        """
        wire = _decode(data, _CompactedWire)
        whole = cls(
            first=wire.first,
            symbol=wire.symbol,
            gaps=tuple(_from_wire(gap) for gap in wire.gaps),
            parts=tuple(part.to_part() for part in wire.parts),
            members=tuple(wire.members),
        )
        if not whole.members or any(len(m.rows) != len(whole.parts) for m in whole.members):
            raise CorruptEntry("compacted entry: its members do not fit its parts")
        for n, part in enumerate(whole.parts):
            if sum(member.rows[n] for member in whole.members) != part.rows:
                raise CorruptEntry(f"compacted entry: the rows of {part.path} do not add up")
        return whole


class _GapWire(msgspec.Struct, rename={"start": "from", "end": "to"}):
    stream: str
    start: int
    end: int
    reason: str
    recovered: bool


class _PartWire(msgspec.Struct):
    kind: Kind
    path: str
    rows: int
    first_id: int
    last_id: int
    min_event_ms: int
    max_event_ms: int
    sha256: str
    bytes: int

    @classmethod
    def of(cls, part: Part) -> Self:
        return cls(*(getattr(part, name) for name in cls.__struct_fields__))

    def to_part(self) -> Part:
        return Part(*msgspec.structs.astuple(self))


class _StatelessWire(msgspec.Struct):
    seq: int
    symbol: str
    committed_ns: int
    watermark_ms: int
    gap_epoch: int
    gaps: list[_GapWire]
    parts: list[_PartWire]


class _EntryWire(_StatelessWire):
    state: dict[str, Any]


class _CompactedWire(msgspec.Struct):
    first: int
    symbol: str
    gaps: list[_GapWire]
    parts: list[_PartWire]
    members: list[Member]


def _to_wire(gap: Gap) -> _GapWire:
    return _GapWire(gap.stream, gap.start, gap.end, gap.reason, gap.recovered)


def _from_wire(gap: _GapWire) -> Gap:
    return Gap(gap.stream, gap.start, gap.end, gap.reason, gap.recovered)


def _decode(data: bytes, wanted: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=wanted)
    except msgspec.DecodeError as exc:
        raise CorruptEntry(f"manifest entry: {exc}") from exc


# --------------------------------------------------------------------------- names


def manifest_folder(symbol: str) -> str:
    """Where the entries of a symbol lie."""
    return f"manifest/symbol={symbol}/"


def entry_key(symbol: str, seq: int) -> str:
    """Where the entry numbered `seq` lies, or will."""
    return f"{manifest_folder(symbol)}{seq:010d}.json"


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """The entries that a compacted one stands for, both ends included."""

    first: int
    last: int

    def __contains__(self, seq: int) -> bool:
        return self.first <= seq <= self.last

    def key(self, symbol: str) -> str:
        """Where its compacted entry lies."""
        return f"{manifest_folder(symbol)}{self.first:010d}-{self.last:010d}.json"

    def expiry_key(self, symbol: str) -> str:
        """An empty object there says that it is too old, and being deleted."""
        return f"{manifest_folder(symbol)}{self.first:010d}-{self.last:010d}.expired"


_NAME: Final = re.compile(r"(\d{10})(?:-(\d{10}))?\.(json|expired)")


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in a symbol's manifest folder, sorted out."""

    singles: tuple[int, ...]
    """Entries that lie there one by one, ascending."""
    ranges: tuple[Range, ...]
    """Compacted entries, ascending."""
    expired: frozenset[Range]
    """Ranges that are being deleted; their compacted entry may be gone already."""

    @classmethod
    def of(cls, keys: Iterable[str]) -> Self:
        """Read the names; what is no entry is passed over."""
        singles, ranges, expired = [], [], set()
        for key in keys:
            found = _NAME.fullmatch(key.rsplit("/", 1)[-1])
            if found is None:
                continue
            first, last, suffix = found.groups()
            if last is None:
                if suffix == "json":
                    singles.append(int(first))
                continue
            span = Range(int(first), int(last))
            if suffix == "json":
                ranges.append(span)
            else:
                expired.add(span)
        return cls(tuple(sorted(singles)), tuple(sorted(ranges)), frozenset(expired))

    def cover(self, seq: int) -> Range | None:
        """The compacted entry that stands for `seq`, if there is one to read."""
        for span in self.ranges:
            if seq in span and span not in self.expired:
                return span
        return None

    def first_from(self, seq: int) -> int | None:
        """The first entry not before `seq` that can be read, one by one or compacted."""
        gone = self.expired
        numbers = [n for n in self.singles if n >= seq and not any(n in span for span in gone)]
        numbers += [max(seq, r.first) for r in self.ranges if r.last >= seq and r not in gone]
        return min(numbers, default=None)
