"""One symbol's way from messages to rows: order, features, columns, and the cut.

No socket, file or clock: everything that arrives is handed in, receive time included, so the
same messages always give the same rows. `ingest` counts what entered the features, in the
order in which it did; a trade that had to wait behind a hole counts from when it was released,
since the live signal had it no earlier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import Any, Final

from signalcanary.contract import SignalConfig
from signalcanary_workloads.harvest.columns import CODES, NULL_INT, Columns
from signalcanary_workloads.harvest.cvd import CvdScore
from signalcanary_workloads.harvest.features import Grid
from signalcanary_workloads.harvest.histogram import Histogram
from signalcanary_workloads.harvest.quality import CvdQuality, QualityWindow
from signalcanary_workloads.harvest.sequence import Arrival, Hole, TradeSequencer
from signalcanary_workloads.harvest.sides import SideAgreement
from signalcanary_workloads.harvest.wire import BOOK_STREAM, BookTicker
from signalcanary_workloads.store import HARVESTED, Gap, Kind, Quality

STATE_VERSION: Final = 1
ABS_Z_BOUNDS: Final = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
_SRC: Final = CODES["src"]
_REGIME: Final = CODES["regime"]


@dataclass(frozen=True)
class Cut:
    """All that one commit writes of a symbol: consistent over the kinds."""

    symbol: str
    columns: dict[Kind, Columns]
    gaps: tuple[Gap, ...]
    watermark_ms: int
    gap_epoch: int
    state: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Memory that its rows take."""
        return sum(columns.nbytes for columns in self.columns.values())


@dataclass
class Counts:
    """What has happened since the process started."""

    quotes: int = 0
    stale_quotes: int = 0
    regressed_quotes: int = 0
    """Of these, those with a newer time: no repetition, but ids that began anew."""
    regressed_quotes_run: int = 0
    """Of these, those since the last quote that was kept."""
    trades: int = 0
    ordered: int = 0
    late_trades: int = 0
    """Released after their second was closed; kept all the same."""
    backfilled: int = 0
    gaps: dict[tuple[str, bool], int] = field(default_factory=dict)


class SymbolPipeline:
    """The incremental state of one symbol."""

    def __init__(
        self,
        symbol: str,
        signal: SignalConfig,
        trade_stream: str,
        resume: dict[str, Any] | None = None,
    ) -> None:
        self.symbol = symbol
        self.counts = Counts()
        self.abs_z = Histogram(ABS_Z_BOUNDS)
        self._grid = Grid()
        self._cvd = CvdScore(signal.cvd)
        self._sides = SideAgreement()
        self._ingest = 0
        self._last_update_id = -1
        next_trade_id: int | None = None
        last_trade_ts: int | None = None
        if resume is not None:
            if resume.get("version") != STATE_VERSION:
                raise ValueError(f"{symbol}: state of version {resume.get('version')}")
            self._grid.import_state(resume["grid"])
            self._cvd.import_state(resume["cvd"])
            if "sides" in resume:  # not in entries of before it was measured
                self._sides.import_state(resume["sides"])
            self._ingest = resume["ingest"]
            self._last_update_id = resume["last_update_id"]
            next_trade_id = resume["next_trade_id"]
            last_trade_ts = resume["cvd"]["last_ts"]
        # What waited behind a hole was not committed, and is fetched again.
        self._grid.trades_missing = False
        self._sequencer = TradeSequencer(trade_stream, next_trade_id, last_trade_ts)
        self._book_away_since: int | None = None
        self._book_reason = "reconnect" if resume is None else "restart"
        self._gaps: list[Gap] = []
        self._quality = QualityWindow()
        self._trade_ms = 0
        self._columns = _empty_columns()

    @property
    def hole(self) -> Hole | None:
        """Trades to fetch, if some are missing."""
        return self._sequencer.hole

    @property
    def sequencer(self) -> TradeSequencer:
        """For its counters."""
        return self._sequencer

    @property
    def grid(self) -> Grid:
        """For its counters and its watermark."""
        return self._grid

    @property
    def nbytes(self) -> int:
        """Memory that uncommitted rows take."""
        return sum(columns.nbytes for columns in self._columns.values())

    def on_book_gap(self, reason: str | None = None) -> None:
        """What happened to the book since its last quote is not known.

        Args:
            reason: for the gap log; None: the stream begins anew.
        """
        if self._grid.max_ts is None or self._book_away_since is not None:
            return
        self._book_away_since = self._grid.max_ts
        if reason is not None:
            self._book_reason = reason
        self._grid.reset_book()
        self._sides.forget_quotes()

    def on_quote(self, quote: BookTicker, recv_ns: int, conn_id: int) -> None:
        """A best bid and ask."""
        self.counts.quotes += 1
        if quote.update_id <= self._last_update_id:
            self.counts.stale_quotes += 1
            if quote.ts > (self._grid.max_ts or 0):
                self.counts.regressed_quotes += 1
                self.counts.regressed_quotes_run += 1
            return
        self.counts.regressed_quotes_run = 0
        self._last_update_id = quote.update_id
        self._ingest += 1
        ingest = self._ingest
        if self._book_away_since is not None:
            self._note_gap(
                Gap(BOOK_STREAM, self._book_away_since, quote.ts, self._book_reason, False)
            )
            self._book_away_since = None
            self._book_reason = "reconnect"
        self._columns[Kind.BBO].append(
            (
                quote.update_id,
                quote.bid_price,
                quote.bid_qty,
                quote.ask_price,
                quote.ask_qty,
                quote.ts,
                quote.event_ms,
                recv_ns,
                ingest,
                conn_id,
            )
        )
        self._sides.on_quote(quote)
        for row in self._grid.on_quote(quote):
            disputed = Quality.SIDE_DISPUTED if self._sides.is_disputed(row.ts) else 0
            self._columns[Kind.FEATURE].append(
                (
                    row.ts,
                    ingest,
                    row.mid,
                    row.spread_bps,
                    row.ofi,
                    row.z_ofi,
                    row.tps,
                    _REGIME[row.regime],
                    row.gap_epoch,
                    row.quality | disputed,
                )
            )

    def on_trade(self, arrival: Arrival) -> None:
        """A trade, live or fetched."""
        if arrival.src == "ws":
            self.counts.trades += 1
        self._take(self._sequencer.offer(arrival))

    def give_up_hole(self) -> None:
        """The missing trades cannot be had."""
        self._take(self._sequencer.give_up())

    def _take(self, released: list[Arrival]) -> None:
        for arrival in released:
            self._on_ordered_trade(arrival)
        self._grid.trades_missing = self._sequencer.hole is not None
        for gap in self._sequencer.take_gaps():
            self._note_gap(gap)

    def _on_ordered_trade(self, arrival: Arrival) -> None:
        trade = arrival.trade
        self._ingest += 1
        self.counts.ordered += 1
        if trade.ts <= self._grid.watermark_ms:
            self.counts.late_trades += 1
        if arrival.src == "rest":
            self.counts.backfilled += 1
        self._columns[Kind.TRADE].append(
            (
                trade.trade_id,
                trade.first_id,
                trade.last_id,
                trade.ts,
                NULL_INT if trade.event_ms is None else trade.event_ms,
                arrival.recv_ns,
                self._ingest,
                trade.price,
                trade.qty,
                nan if trade.nq is None else trade.nq,
                trade.is_buyer_maker,
                _SRC[arrival.src],
                arrival.conn_id,
            )
        )
        self._sides.on_trade(trade)
        row = self._cvd.add(trade)
        self._columns[Kind.CVD].append((trade.trade_id, trade.ts, self._ingest, *row))
        self._grid.on_trade(trade.ts)
        self._trade_ms = trade.ts
        abs_z = abs(row.z_cvd)
        if abs_z == abs_z:
            self.abs_z.observe(abs_z)
            self._quality.add(trade.ts, row.scale, row.floor_hit, abs_z)

    def _note_gap(self, gap: Gap) -> None:
        self._gaps.append(gap)
        key = (gap.stream, gap.recovered)
        self.counts.gaps[key] = self.counts.gaps.get(key, 0) + 1

    def cvd_quality(self) -> CvdQuality:
        """Computed on demand: a scrape is rare, a trade is not."""
        return self._quality.evaluate(self._event_ms())

    def side_agreement(self) -> float | None:
        """Share of trades on the side of the quote that their flag says, over 300 s."""
        agreement = self._sides.agreement(self._event_ms())
        return None if agreement is None else agreement.ratio

    def _event_ms(self) -> int:
        """The newest event time of either stream; 0 before the first."""
        return max(self._grid.max_ts or 0, self._trade_ms)

    def cut(self) -> Cut | None:
        """Take out all rows, with the state to go on from behind them; `None` without any."""
        if not self._gaps and not any(map(len, self._columns.values())):
            return None
        cut = Cut(
            symbol=self.symbol,
            columns=self._columns,
            gaps=tuple(self._gaps),
            watermark_ms=self._grid.watermark_ms,
            gap_epoch=self._grid.gap_epoch,
            state=self.export_state(),
        )
        self._columns = _empty_columns()
        self._gaps = []
        return cut

    def export_state(self) -> dict[str, Any]:
        """All that the rows to come depend on, as JSON-able data."""
        return {
            "version": STATE_VERSION,
            "ingest": self._ingest,
            "last_update_id": self._last_update_id,
            "next_trade_id": self._sequencer.next_id,
            "cvd": self._cvd.export_state(),
            "grid": self._grid.export_state(),
            "sides": self._sides.export_state(),
        }


def _empty_columns() -> dict[Kind, Columns]:
    return {kind: Columns(kind) for kind in HARVESTED}
