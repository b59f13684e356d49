"""Do trades print on the side of the book that their taker is said to have taken?

A taker who buys pays the ask, one who sells gets the bid, so a trade away from the prevailing
mid says by itself which side was the taker's (the quote test of Lee and Ready, J. Finance
46(2), 1991). If that contradicts the flag "buyer is maker" more often than not, the flag is
reversed, and with it the sign of the volume delta. The automatic flip would learn to live
with it; here it is found out.

Prevailing is the last quote with an earlier event time, of those that have arrived: the quote
that arrived last often shows already what the trade did to the book (on 35,000 recorded trades
of BTCUSDT and ETHUSDT it agrees with the flag in 87 and 81 %, the prevailing one in 98.9 and
99.9 %). Causal, pure, event time only.
"""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Any, Final, NamedTuple

from signalcanary_workloads.harvest.wire import BookTicker, Trade

WINDOW_MS: Final = 300_000
CLUSTER_MS: Final = 5_000
"""One large order prints many trades of one side: seconds, not trades, are independent."""
MIN_TRADES: Final = 50
MIN_CLUSTERS: Final = 10
STANDARD_ERRORS: Final = 4.0
"""Of the upper bound: with ten clusters this leaves less than one in 500 to chance."""
QUOTES_KEPT: Final = 32
QUOTE_MAX_AGE_MS: Final = 1_500


class Agreement(NamedTuple):
    """Share of compared trades on the side that their flag says (0–1), and its upper bound."""

    ratio: float
    upper: float


class SideAgreement:
    """One symbol's trades against its quotes over 300 s."""

    def __init__(self) -> None:
        # (ts, bid + ask) of the last quotes, one a millisecond, the newest last.
        self._quotes: deque[tuple[int, float]] = deque(maxlen=QUOTES_KEPT)
        # [number of the cluster, trades that agree, trades compared], the newest last.
        self._clusters: deque[list[int]] = deque()

    def on_quote(self, quote: BookTicker) -> None:
        """A quote that is not stale."""
        quotes = self._quotes
        if quotes and quotes[-1][0] == quote.ts:
            quotes.pop()
        quotes.append((quote.ts, quote.bid_price + quote.ask_price))

    def forget_quotes(self) -> None:
        """The book was away: none of the quotes is known to prevail."""
        self._quotes.clear()

    def on_trade(self, trade: Trade) -> None:
        """A trade in its turn."""
        if not trade.is_market:
            return
        ts = trade.ts
        prevailing = next((quote for quote in reversed(self._quotes) if quote[0] < ts), None)
        if prevailing is None:
            return
        quoted, twice_mid = prevailing
        twice_price = 2 * trade.price
        if ts - quoted > QUOTE_MAX_AGE_MS or twice_price == twice_mid:
            return
        clusters, number = self._clusters, ts // CLUSTER_MS
        if not clusters or number > clusters[-1][0]:
            clusters.append([number, 0, 0])
            self._forget(ts)
        newest = clusters[-1]
        newest[1] += (twice_price > twice_mid) is not trade.is_buyer_maker
        newest[2] += 1

    def _forget(self, now_ms: int) -> None:
        clusters, first = self._clusters, (now_ms - WINDOW_MS) // CLUSTER_MS
        while clusters and clusters[0][0] <= first:
            clusters.popleft()

    def agreement(self, now_ms: int) -> Agreement | None:
        """Over the 300 s before an event time; `None`: too little was compared."""
        self._forget(now_ms)
        clusters = self._clusters
        trades = sum(n for _, _, n in clusters)
        if trades < MIN_TRADES or len(clusters) < MIN_CLUSTERS:
            return None
        ratio = sum(agree for _, agree, _ in clusters) / trades
        # The ratio estimator's variance, by clusters (Cochran, Sampling Techniques, §6).
        spread = sum((agree - ratio * n) ** 2 for _, agree, n in clusters)
        variance = spread / trades**2 * len(clusters) / (len(clusters) - 1)
        return Agreement(ratio, ratio + STANDARD_ERRORS * sqrt(variance))

    def is_disputed(self, now_ms: int) -> bool:
        """Do more trades contradict their flag than chance can explain?"""
        agreement = self.agreement(now_ms)
        return agreement is not None and agreement.upper < 0.5

    def export_state(self) -> dict[str, Any]:
        """All that the next answer depends on, as JSON-able data."""
        return {
            "quotes": [list(quote) for quote in self._quotes],
            "clusters": [list(cluster) for cluster in self._clusters],
        }

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        self._quotes.extend((ts, twice_mid) for ts, twice_mid in state["quotes"])
        self._clusters.extend(list(cluster) for cluster in state["clusters"])
