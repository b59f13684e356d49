"""The 1 Hz grid of event time: order-flow imbalance, mid, trade rate and regime.

Definitions: domain notes §1; the grid's rules: docs/designs/002. Pure, incremental and
causal: it reads no clock, and a row is closed by the book stream's own watermark
(max(T) − 2 s), so the market may run at any speed. A late quote never changes a closed row.

OFI (Cont, Kukanov, Stoikov, J. Financial Econometrics 12(1), 2014), with their non-strict
inequalities, in base units:
    e = qb·1{Pb ≥ Pb'} − qb'·1{Pb ≤ Pb'} − qa·1{Pa ≤ Pa'} + qa'·1{Pa ≥ Pa'}
"""

from __future__ import annotations

from collections import deque
from math import fsum, nan, sqrt
from typing import Any, Final, NamedTuple

from signalcanary_workloads.harvest.regime import RegimeDetector, TradeRate
from signalcanary_workloads.harvest.wire import BookTicker
from signalcanary_workloads.store import Quality

OFI_WINDOW_SECONDS: Final = 300
OFI_MIN_BINS: Final = 60  # fewer past bins give no z-score
OFI_LIMIT: Final = 8.0
LATENESS_MS: Final = 2_000
QUOTE_MAX_AGE_MS: Final = 1_500
# A silence of the book longer than this leaves no rows: they would say nothing.
FILL_SECONDS: Final = 300


class FeatureRow(NamedTuple):
    """One second. NaN stands for null."""

    ts: int
    mid: float
    spread_bps: float
    ofi: float
    z_ofi: float
    tps: float
    regime: str
    gap_epoch: int
    quality: int


def second_of(ts_ms: int) -> int:
    """The bin (t − 1 s, t] that a time belongs to, by its end in whole seconds."""
    return -(-ts_ms // 1000)


def order_flow(before: BookTicker, after: BookTicker) -> float:
    """The contribution e of one change of the best quotes."""
    flow = 0.0
    if after.bid_price >= before.bid_price:
        flow += after.bid_qty
    if after.bid_price <= before.bid_price:
        flow -= before.bid_qty
    if after.ask_price <= before.ask_price:
        flow -= after.ask_qty
    if after.ask_price >= before.ask_price:
        flow += before.ask_qty
    return flow


class _Quote(NamedTuple):
    ts: int
    bid: float
    ask: float


class _Bin:
    """What is known of one second that is not closed yet."""

    __slots__ = ("ofi", "quote")

    def __init__(self, ofi: float = 0.0, quote: _Quote | None = None) -> None:
        self.ofi = ofi
        self.quote = quote


class Grid:
    """The feature rows of one symbol."""

    def __init__(self) -> None:
        self.gap_epoch = 0
        self.trades_missing = False
        """Set by whoever orders the trades, while a hole in them is open."""
        self.late_quotes = 0
        self._closed: int | None = None
        self._max_ts: int | None = None
        self._previous: BookTicker | None = None
        self._quote: _Quote | None = None  # the last one of a closed second
        self._bins: dict[int, _Bin] = {}
        self._late_since_row = False
        # Seconds from..to that the book was away in; `None`: since then, and still is.
        self._gaps: list[tuple[int, int | None]] = []
        self._history: deque[tuple[int, float]] = deque()
        self._rate = TradeRate()
        self._regime = RegimeDetector()

    @property
    def watermark_ms(self) -> int:
        """Event time up to which rows are final; 0 before the first."""
        return 0 if self._closed is None else self._closed * 1000

    @property
    def max_ts(self) -> int | None:
        """The newest quote's time."""
        return self._max_ts

    def on_trade(self, ts_ms: int) -> None:
        """A trade, for the rate."""
        self._rate.add(second_of(ts_ms))

    def reset_book(self) -> None:
        """The book stream was away: the next quote must not be compared with the last one."""
        if self._max_ts is None:
            return
        self.gap_epoch += 1
        self._previous = None
        if not self._gaps or self._gaps[-1][1] is not None:
            self._gaps.append((second_of(self._max_ts), None))

    def on_quote(self, quote: BookTicker) -> list[FeatureRow]:
        """Take a quote in; gives the rows that it closes."""
        second = second_of(quote.ts)
        if self._closed is None or self._max_ts is None:
            # The first second is incomplete, as is one after a gap. Rows begin with it.
            self._closed = second - 1
            self._max_ts = quote.ts
            self._gaps.append((second, second))
        previous, self._previous = self._previous, quote
        if previous is None and self._gaps and self._gaps[-1][1] is None:
            self._gaps[-1] = (self._gaps[-1][0], max(second, self._gaps[-1][0]))
        if second <= self._closed:
            self.late_quotes += 1
            self._late_since_row = True
            return []
        slot = self._bins.get(second)
        if slot is None:
            slot = self._bins[second] = _Bin()
        if previous is not None:
            slot.ofi += order_flow(previous, quote)
        if slot.quote is None or quote.ts >= slot.quote.ts:
            slot.quote = _Quote(quote.ts, quote.bid_price, quote.ask_price)
        if quote.ts <= self._max_ts:
            return []
        self._max_ts = quote.ts
        # Closed are the seconds t with t ≤ max(T) − 2 s.
        final = (quote.ts - LATENESS_MS) // 1000
        return self._close_up_to(final) if final > self._closed else []

    def _close_up_to(self, final: int) -> list[FeatureRow]:
        rows: list[FeatureRow] = []
        assert self._closed is not None
        while self._closed < final:
            second = self._closed + 1
            last_quoted = self._quote.ts // 1000 if self._quote else second
            if second not in self._bins and second > last_quoted + FILL_SECONDS:
                upcoming = min((s for s in self._bins if s <= final), default=final + 1)
                self._closed = upcoming - 1
                continue
            self._closed = second
            rows.append(self._row(second))
        return rows

    def _row(self, second: int) -> FeatureRow:
        slot = self._bins.pop(second, None) or _Bin()
        ts = second * 1000
        quality = Quality(0)
        if slot.quote is not None:
            self._quote = slot.quote
        quote = self._quote
        mid = spread_bps = nan
        if (
            quote is not None
            and ts - quote.ts <= QUOTE_MAX_AGE_MS
            and quote.bid > 0
            and quote.ask > 0
        ):
            mid = (quote.bid + quote.ask) / 2
            spread_bps = (quote.ask - quote.bid) / mid * 10_000
        else:
            quality |= Quality.STALE_QUOTE
        self._gaps = [(a, b) for a, b in self._gaps if b is None or b >= second]
        in_gap = any(a <= second and (b is None or second <= b) for a, b in self._gaps)
        if in_gap:
            quality |= Quality.BOOK_GAP
        z_ofi = self._score(second, slot.ofi)
        if z_ofi != z_ofi:
            quality |= Quality.OFI_WARMING
        if not in_gap:  # an incomplete bin would distort the scores of the next 300
            self._history.append((second, slot.ofi))
        if self.trades_missing:
            quality |= Quality.TRADE_GAP
        if self._late_since_row:
            quality |= Quality.LATE_QUOTES
            self._late_since_row = False
        tps = self._rate.close(second)
        regime = self._regime.update(second, tps)
        return FeatureRow(
            ts, mid, spread_bps, slot.ofi, z_ofi, tps, regime.value, self.gap_epoch, int(quality)
        )

    def _score(self, second: int, ofi: float) -> float:
        """z over the bins of the 300 s before `second`. Population standard deviation;
        exactly rounded sums, so that the order of adding cannot matter after a resume."""
        history = self._history
        while history and history[0][0] < second - OFI_WINDOW_SECONDS:
            history.popleft()
        n = len(history)
        if n < OFI_MIN_BINS:
            return nan
        mean = fsum(v for _, v in history) / n
        deviation = sqrt(fsum((v - mean) ** 2 for _, v in history) / n)
        if deviation == 0.0:
            return nan
        return min(max((ofi - mean) / deviation, -OFI_LIMIT), OFI_LIMIT)

    def export_state(self) -> dict[str, Any]:
        """All that the next row depends on, as JSON-able data."""
        previous = self._previous
        return {
            "gap_epoch": self.gap_epoch,
            "trades_missing": self.trades_missing,
            "late_quotes": self.late_quotes,
            "closed": self._closed,
            "max_ts": self._max_ts,
            "previous": None
            if previous is None
            else [
                previous.symbol,
                previous.update_id,
                previous.bid_price,
                previous.bid_qty,
                previous.ask_price,
                previous.ask_qty,
                previous.ts,
                previous.event_ms,
            ],
            "quote": None if self._quote is None else list(self._quote),
            "bins": [
                [second, slot.ofi, None if slot.quote is None else list(slot.quote)]
                for second, slot in sorted(self._bins.items())
            ],
            "late_since_row": self._late_since_row,
            "gaps": [list(gap) for gap in self._gaps],
            "history": [list(item) for item in self._history],
            "rate": self._rate.export_state(),
            "regime": self._regime.export_state(),
        }

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        self.gap_epoch = state["gap_epoch"]
        self.trades_missing = state["trades_missing"]
        self.late_quotes = state["late_quotes"]
        self._closed = state["closed"]
        self._max_ts = state["max_ts"]
        self._previous = None if state["previous"] is None else BookTicker(*state["previous"])
        self._quote = None if state["quote"] is None else _Quote(*state["quote"])
        self._bins = {
            second: _Bin(ofi, None if quote is None else _Quote(*quote))
            for second, ofi, quote in state["bins"]
        }
        self._late_since_row = state["late_since_row"]
        self._gaps = [(a, b) for a, b in state["gaps"]]
        self._history = deque((second, ofi) for second, ofi in state["history"])
        self._rate.import_state(state["rate"])
        self._regime.import_state(state["regime"])
