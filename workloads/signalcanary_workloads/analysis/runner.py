"""Feeds one symbol's engine from the store, and hands out what may be shown and sent.

The engine knows event time only; this module decides what that means on the wall clock: when
an evaluation is due, and what its timestamp may claim. A restart goes on from a snapshot, or
else replays every entry of the track and revision from number 0, and shows nothing until the
newest one is reached; rows that were committed before this process started carry their commit
time, those in the snapshot among them, so that a restart beside a dead harvest cannot make old
rows look new.

A part that cannot be read stops the symbol, and its values disappear: to go on without it
would be to evaluate rows that were never there. So does a signal that cannot be recorded.
Either is tried again every few seconds.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ..harvest.sink import SinkError
from ..store import (
    SCHEMAS,
    CorruptPart,
    Entry,
    Kind,
    ManifestReader,
    MissingPart,
    Part,
    Storage,
    StoreError,
    read_part,
)
from .engine import Engine, EngineConfig, Evaluation, Models
from .pace import Pace
from .report import Report
from .rows import CVD_COLUMNS, FEATURE_COLUMNS, CvdRows, FeatureRows
from .signals import Flushed, SignalLog
from .snapshot import Snapshot
from .snapshot_keeper import SnapshotKeeper

logger = logging.getLogger(__name__)

EVALUATION_INTERVAL_SECONDS: Final = 0.5
REPORT_SHARE: Final = 0.1
"""Share of the time that reports may take of one core, all symbols together."""
RETRY_SECONDS: Final = 5.0
POLL_LIMIT: Final = 100
STEP_SECONDS: Final = 0.25
"""Longest a step reads before it gives way to other symbols and to a stop signal."""


@dataclass(frozen=True)
class SymbolState:
    """What the exporter may show of one symbol. Replaced as a whole, never changed."""

    symbol: str
    evaluation: Evaluation | None = None
    """None until the newest entry has been reached for the first time."""
    evidence_seconds: float | None = None
    """Wall clock (s) of the last evaluation that took in a new feature row."""
    lag_seconds: float | None = None
    """Evaluation minus commit of the newest entry in it, wall clock."""
    entries_read: int = 0
    error: str | None = None
    """Kind of the error that keeps this symbol from going on; None while it does."""
    errors: tuple[tuple[str, int], ...] = ()
    """Errors of the store so far, by kind."""
    report: Report | None = None
    """Made at a pace of its own: as of this evaluation or an earlier one."""


@dataclass(frozen=True)
class Clocks:
    """The two clocks, injected: `wall` for timestamps, `monotonic` for intervals (s)."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]


class SymbolRunner:
    """One symbol: its manifest reader, its engine, its signals and its published state."""

    def __init__(
        self,
        symbol: str,
        storage: Storage,
        config: EngineConfig,
        clocks: Clocks,
        signals: SignalLog,
        report_share: float = REPORT_SHARE,
        snapshots: SnapshotKeeper | None = None,
        models: Models | None = None,
    ) -> None:
        self.state = SymbolState(symbol)
        self._symbol = symbol
        self._storage = storage
        self._engine = Engine(config, models=models)
        self._clocks = clocks
        self._signals = signals
        self._snapshots = snapshots
        self._is_resumed = snapshots is None
        self._next_seq = 0
        self._last_commit_ns = 0
        """Of the entry before `_next_seq`."""
        self._flushed: deque[Flushed] = deque()
        self._started_seconds = clocks.wall()
        self._reader = ManifestReader(storage, symbol, clock=clocks.monotonic)
        self._queue: deque[Entry] = deque()
        self._missed_at: int | None = None
        self._new_rows = 0
        self._newest_row_ns: int | None = None
        """When the newest entry with a feature row was committed."""
        self._entries_read = 0
        self._errors: Counter[str] = Counter()
        self._logged: set[str] = set()
        self._error: str | None = None
        self._retry_at: float | None = None
        self._next_evaluation_at = clocks.monotonic()
        self._report_pace = Pace(clocks.monotonic, report_share)

    @property
    def caught_up(self) -> bool:
        """Has the newest entry been reached at least once, and is the symbol readable?"""
        return self.state.evaluation is not None and self._error is None

    def take_flushed(self) -> list[Flushed]:
        """What has become of signals since the last call."""
        return [self._flushed.popleft() for _ in range(len(self._flushed))]

    def step(self) -> bool:
        """Read what is new, evaluate if due; True if there is more to read at once."""
        if self._retry_at is not None and self._clocks.monotonic() < self._retry_at:
            return False
        try:
            self._signals.open()
            if not self._is_resumed:
                self._resume()
            try:
                at_end = self._read()
            finally:
                self._flushed.append(self._signals.flush())
        except (StoreError, SinkError) as exc:
            self._fail(exc)
            return False
        if self._error is not None:
            self._error, self._retry_at = None, None
            self._logged.clear()
        if at_end:
            self._publish()
        if self._snapshots is not None and self._snapshots.is_due(self._next_seq):
            self._snapshots.save(self._take_snapshot())
        return not at_end

    def end(self) -> None:
        """Begin to write a last snapshot, if there is anything new and no error before it."""
        keeper = self._snapshots
        if keeper is not None and self._error is None and keeper.has_news(self._next_seq):
            keeper.save(self._take_snapshot())

    def _resume(self) -> None:
        """Go on from the snapshot, if there is one that is of use."""
        assert self._snapshots is not None
        if (resumed := self._snapshots.load(self._signals.recorded_ms)) is not None:
            self._engine, snapshot = resumed.engine, resumed.snapshot
            self._next_seq = self._reader.next_seq = snapshot.next_seq
            self._last_commit_ns = snapshot.committed_ns
            self._newest_row_ns = snapshot.newest_row_ns
            # What the engine knows has yet to be shown, as of its commit.
            self._new_rows = int(snapshot.newest_row_ns is not None)
        self._is_resumed = True

    def _take_snapshot(self) -> Snapshot:
        """To be called where all that the engine has seen is on record."""
        return Snapshot(
            self._next_seq, self._last_commit_ns, self._newest_row_ns, self._engine.export_state()
        )

    def _read(self) -> bool:
        """Feed the engine for a while; True when no committed entry is left."""
        stop_at = self._clocks.monotonic() + STEP_SECONDS
        while True:
            if not self._queue:
                self._queue.extend(self._reader.poll(POLL_LIMIT))
                if not self._queue:
                    return True
            entry = self._queue[0]
            try:
                features, scores = read_rows(self._storage, entry)
            except MissingPart:
                # Compacted or too old since the entry was read: look for what took its place.
                self._queue.clear()
                self._reader.rewind(entry.seq)
                if self._missed_at == entry.seq:
                    raise
                self._missed_at = entry.seq
                continue
            self._queue.popleft()
            self._entries_read += 1
            taken = self._engine.take_in(features, scores)
            self._signals.take_in(features, self._engine.scored, entry)
            self._next_seq, self._last_commit_ns = entry.next_seq, entry.committed_ns
            self._new_rows += taken
            if taken:
                self._newest_row_ns = entry.committed_ns
            if self._clocks.monotonic() >= stop_at:
                return False

    def _publish(self) -> None:
        """Evaluate if there are new rows (or nothing was shown yet), at most every 0.5 s."""
        now = self._clocks.monotonic()
        hidden = self.state.evaluation is None or self.state.error is not None
        if not hidden and (not self._new_rows or now < self._next_evaluation_at):
            return
        wall = self._clocks.wall()
        evidence, lag = self.state.evidence_seconds, self.state.lag_seconds
        if self._new_rows and self._newest_row_ns is not None:
            commit = self._newest_row_ns / 1e9
            evidence = wall if commit >= self._started_seconds else commit
            lag = wall - commit
        self._new_rows = 0
        self._next_evaluation_at = now + EVALUATION_INTERVAL_SECONDS
        evaluation = self._engine.evaluate()
        report = self._report_pace.run_if_due(self._engine.report) or self.state.report
        self.state = SymbolState(
            self._symbol,
            evaluation,
            evidence,
            lag,
            self._entries_read,
            None,
            tuple(sorted(self._errors.items())),
            report,
        )

    def _fail(self, exc: StoreError | SinkError) -> None:
        kind = type(exc).__name__
        self._errors[kind] += 1
        self._error = kind
        self._retry_at = self._clocks.monotonic() + RETRY_SECONDS
        if str(exc) not in self._logged:
            self._logged.add(str(exc))
            logger.error("%s: %s: %s; its values are withdrawn", self._symbol, kind, exc)
        self.state = SymbolState(
            self._symbol,
            self.state.evaluation,
            self.state.evidence_seconds,
            self.state.lag_seconds,
            self._entries_read,
            kind,
            tuple(sorted(self._errors.items())),
        )


def read_rows(storage: Storage, entry: Entry) -> tuple[FeatureRows, CvdRows]:
    """The feature and cvd rows of one commit, in order of event time and of arrival.

    Raises:
        StoreError: a part is missing, is not what the entry says, or lacks a column.
    """
    feature_tables = _read_kind(storage, entry, Kind.FEATURE, FEATURE_COLUMNS)
    cvd_tables = _read_kind(storage, entry, Kind.CVD, CVD_COLUMNS)
    features, scores = FeatureRows.empty(), CvdRows.empty()
    if feature_tables:
        features = FeatureRows.from_table(pa.concat_tables(feature_tables))
        features = features.take(np.argsort(features.ts_ms, kind="stable"))
    if cvd_tables:
        scores = CvdRows.from_table(pa.concat_tables(cvd_tables))
        scores = scores.take(np.argsort(scores.ingest, kind="stable"))
    return features, scores


def _read_kind(
    storage: Storage, entry: Entry, kind: Kind, columns: tuple[str, ...]
) -> list[pa.Table]:
    tables = []
    for part in entry.parts:
        if part.kind is not kind:
            continue
        table = read_part(storage, part, columns)
        for name in columns:
            _check_column(part, table, name)
        tables.append(table)
    return tables


def _check_column(part: Part, table: pa.Table, name: str) -> None:
    """The bytes are as committed, but they may have been written by another version."""
    wanted = SCHEMAS[part.kind].field(name)
    if name not in table.column_names:
        raise CorruptPart(f"{part.path}: lacks the column {name}")
    column = table.column(name)
    if column.type != wanted.type:
        raise CorruptPart(f"{part.path}: {name} is {column.type}, not {wanted.type}")
    if column.null_count and not wanted.nullable:
        raise CorruptPart(f"{part.path}: {name} must not be null")
