"""One symbol's signals on their way out: recorded first, each row once, then handed over to send.

docs/designs/003 says why. A row is written to ``<data path>/signals`` as ``kind=signal`` with
what was decided about it, sent or withheld and why; only then may it be sent. So whatever a
consumer has seen is on record, and a process killed between the two leaves a hole in the
sequence, which the consumer sees. The record's last entry says where a restart goes on: rows up
to its watermark are never written again, later ones that are too old to be live are written as
replayed, and not sent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from signalcanary.contract import WorkloadConfig
from signalcanary.stream import Signal

from .. import store
from ..harvest.sink import Batch, CommitFailed, ResumeFailed, SymbolSink
from .engine import EngineConfig, Scored, Unusable
from .gate import GateReader
from .rows import FeatureRows, Floats, Ints, Regime

FOLDER: Final = "signals"
"""Under the data path: a root of its own, as a manifest has one writer."""
LIVE_NS: Final = 10 * 10**9
"""A row whose commit is older than this when it is scored is history. Unit: ns, wall clock."""
REPLAYED: Final = "replayed"

_REGIMES: Final = {
    Regime.UNKNOWN: store.Regime.UNKNOWN.value,
    Regime.ACTIVE: store.Regime.ACTIVE.value,
    Regime.QUIET: store.Regime.QUIET.value,
}


@dataclass(frozen=True)
class Sendable:
    """A signal that is on record as sent, and is to be sent now.

    Attributes:
        market_lag_seconds: how far the market had gone on when its row came, in event time.
        wall_lag_seconds: from the commit of its row to its emission.
    """

    signal: Signal
    market_lag_seconds: float
    wall_lag_seconds: float


@dataclass(frozen=True)
class Flushed:
    """What became of the rows of one flush."""

    sendable: tuple[Sendable, ...] = ()
    withheld: tuple[tuple[str, int], ...] = ()
    """Rows that are not sent, by reason."""


@dataclass(frozen=True, eq=False)
class _Pending:
    """Rows that came with one commit of harvest."""

    columns: dict[str, list[Any]]
    committed_ns: int
    watermark_ms: int

    def __len__(self) -> int:
        return len(self.columns["ts"])

    def after(self, ts_ms: int) -> _Pending:
        """The rows later than a time."""
        start = bisect_right(self.columns["ts"], ts_ms)
        columns = {name: values[start:] for name, values in self.columns.items()}
        return replace(self, columns=columns)


@dataclass(frozen=True, eq=False)
class _Decided:
    """Rows, and why they are withheld; None if they go out, numbered on after `after_seq`."""

    pending: _Pending
    withheld: str | None
    after_seq: int

    @property
    def sent(self) -> int:
        return len(self.pending) if self.withheld is None else 0


class SignalLog:
    """The signals of one symbol. Not for two threads at once."""

    def __init__(
        self,
        symbol: str,
        config: WorkloadConfig,
        gate: GateReader,
        wall_ns: Callable[[], int],
    ) -> None:
        self._symbol = symbol
        self._config = config
        self._horizon_ms = EngineConfig.from_signal(config.signal).horizon_ms
        self._gate = gate
        self._wall_ns = wall_ns
        self._started_ns = wall_ns()
        self._root = f"{config.data_path}/{FOLDER}"
        self._sink: SymbolSink | None = None
        self._recorded_ms: int | None = None
        self._pending: list[_Pending] = []
        self._seq = 0
        self.resumed_seq: int | None = None
        """Of the last signal that processes before this one had on record as sent, if any."""

    def open(self) -> None:
        """Take the record, and find where it ends; does nothing if it is open.

        What was queued and is on record after all is not sent: it is a hole in the sequence.

        Raises:
            SinkError: another process has it, or what is there cannot be continued.
        """
        if self._sink is not None:
            return
        sink = SymbolSink(store.open_storage(self._root), self._symbol, self._wall_ns)
        if sink.last is not None:
            seq = sink.last.state.get("seq")
            if not isinstance(seq, int):
                sink.close()
                raise ResumeFailed(f"{self._root}: the last entry of {self._symbol} has no seq")
            self._recorded_ms, self._seq = sink.last.watermark_ms, seq
            self.resumed_seq = seq or None
            later = [pending.after(self._recorded_ms) for pending in self._pending]
            self._pending = [pending for pending in later if len(pending)]
        self._sink = sink

    @property
    def recorded_ms(self) -> int | None:
        """Event time of the last row on record, as far as this process knows."""
        return self._recorded_ms

    def close(self) -> None:
        """Let another process take the record."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def take_in(
        self, features: FeatureRows, scored: tuple[Scored, ...], entry: store.Entry
    ) -> None:
        """Queue what the engine has just scored, but for what is on record already.

        Args:
            features: the rows the engine was given, in the order of `ts`.
            entry: the commit that they came with.
        """
        columns = _columns_of(features, scored, self._recorded_ms)
        if columns["ts"]:
            self._pending.append(_Pending(columns, entry.committed_ns, entry.watermark_ms))

    def flush(self) -> Flushed:
        """Decide about the queued rows, record them, and hand over what is to be sent.

        Raises:
            CommitFailed: nothing may be sent; the rows stay queued, and the record is to be
                opened again.
        """
        if not self._pending:
            return Flushed()
        assert self._sink is not None  # it was opened
        now_ns = self._wall_ns()
        closed = self._gate.read(self._symbol)
        seq = self._seq
        decided: list[_Decided] = []
        for pending in self._pending:
            is_replayed = self._is_history(pending.committed_ns, now_ns)
            decided.append(_Decided(pending, REPLAYED if is_replayed else closed, seq))
            seq += decided[-1].sent
        tables = {store.Kind.SIGNAL: pa.concat_tables(self._table(d, now_ns) for d in decided)}
        last = self._pending[-1].columns
        last_ms: int = last["ts"][-1]
        try:
            self._sink.commit_batch(Batch(tables, last_ms, last["gap_epoch"][-1], {"seq": seq}))
        except CommitFailed:
            # Perhaps only the answer was lost: to open it anew tells what is on record.
            self.close()
            raise
        self._pending.clear()
        self._recorded_ms, self._seq = last_ms, seq
        withheld: Counter[str] = Counter()
        for one in decided:
            if one.withheld is not None:
                withheld[one.withheld] += len(one.pending)
        sendable = tuple(s for d in decided if d.sent for s in self._sendable(d, now_ns))
        return Flushed(sendable, tuple(sorted(withheld.items())))

    def _is_history(self, committed_ns: int, now_ns: int) -> bool:
        return committed_ns < self._started_ns or now_ns - committed_ns > LIVE_NS

    def _table(self, decided: _Decided, now_ns: int) -> pa.Table:
        rows = len(decided.pending)
        is_sent = decided.withheld is None
        same = self._same(now_ns) | {
            "replayed": decided.withheld == REPLAYED,
            "published": is_sent,
            "withheld": decided.withheld,
        }
        columns = {name: [value] * rows for name, value in same.items()}
        numbers = range(decided.after_seq + 1, decided.after_seq + 1 + rows)
        columns["seq"] = list(numbers) if is_sent else [None] * rows
        schema = store.SCHEMAS[store.Kind.SIGNAL]
        return pa.Table.from_pydict(decided.pending.columns | columns, schema=schema)

    def _sendable(self, decided: _Decided, now_ns: int) -> Iterator[Sendable]:
        pending = decided.pending
        same = self._same(now_ns) | {"symbol": self._symbol}
        wall_lag_seconds = (now_ns - pending.committed_ns) / 1e9
        for n, values in enumerate(zip(*pending.columns.values(), strict=True), start=1):
            row = dict(zip(pending.columns, values, strict=True))
            signal = Signal.model_validate(row | same | {"seq": decided.after_seq + n})
            yield Sendable(signal, (pending.watermark_ms - signal.ts) / 1e3, wall_lag_seconds)

    def _same(self, now_ns: int) -> dict[str, Any]:
        """What all rows of a flush have in common."""
        config = self._config
        return {
            "horizon_ms": self._horizon_ms,
            "track": config.track.value,
            "revision": config.revision,
            "attempt": config.attempt,
            "fingerprint": config.fingerprint,
            "version": config.version,
            "emitted_ns": now_ns,
        }


def _columns_of(
    features: FeatureRows, scored: tuple[Scored, ...], after_ms: int | None
) -> dict[str, list[Any]]:
    """The columns that come from the market and the engine, of rows later than `after_ms`."""
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            *("ts", "f", "p", "regime", "direction", "reason", "quality"),
            *("mid", "gap_epoch", "fitted_ms"),
        )
    }
    for run in scored:
        rows = run.rows
        start = 0 if after_ms is None else int(np.searchsorted(rows.ts_ms, after_ms, side="right"))
        rows = rows.slice(start, int(rows.ts_ms.size))
        count = int(rows.ts_ms.size)
        # Rows out of order were dropped; of equal times the first was taken.
        at: Ints = np.searchsorted(features.ts_ms, rows.ts_ms, side="left").astype(np.int64)
        columns["ts"] += rows.ts_ms.tolist()
        columns["f"] += _nullable(rows.f)
        columns["p"] += _nullable(rows.p)
        columns["regime"] += [_REGIMES[Regime(code)] for code in rows.regime.tolist()]
        columns["direction"] += [run.direction] * count
        columns["reason"] += [_reason(code) for code in rows.unusable.tolist()]
        columns["quality"] += features.quality[at].tolist()
        columns["mid"] += _nullable(features.mid[at])
        columns["gap_epoch"] += features.gap_epoch[at].tolist()
        columns["fitted_ms"] += [run.fit.fitted_ms if run.fit else None] * count
    return columns


def _nullable(values: Floats) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _reason(code: int) -> str | None:
    return None if code == Unusable.USABLE else Unusable(code).name.lower()
