"""Is the market busy, measured against its own last day.

Domain notes §1 ("Regime"): trades per second over 300 s against the trailing 24 h P60, left
below P50, dwell 60 s, causal, `unknown` until 600 s of history. Pure; event time only.

The rate is a mean over 300 s, so one sample of it a minute loses nothing of its distribution,
and the day fits in 1,440 numbers: small enough for the resumable state in every manifest
entry, where 86,400 are not.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from itertools import accumulate, pairwise
from math import ceil
from typing import Any, Final

from signalcanary_workloads.store import Regime

RATE_WINDOW_SECONDS: Final = 300
HISTORY_SECONDS: Final = 86_400
HISTORY_MIN_SECONDS: Final = 600
SAMPLE_EVERY_SECONDS: Final = 60
ENTER_PERCENT: Final = 60
LEAVE_PERCENT: Final = 50
DWELL_SECONDS: Final = 60


class TradeRate:
    """Trades per second of event time over the trailing 300 s, on a 1 Hz grid."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._closed: int | None = None
        self._start: int | None = None

    def add(self, second: int) -> None:
        """A trade in the bin (second − 1, second]. Later than 300 s it changes nothing."""
        if self._closed is None or second > self._closed - RATE_WINDOW_SECONDS:
            self._counts[second] = self._counts.get(second, 0) + 1

    def close(self, second: int) -> float:
        """The rate at the end of `second`, by the trades that have arrived by now."""
        if self._start is None:
            self._start = second - 1
        self._closed = second
        first = second - RATE_WINDOW_SECONDS
        # At most 300 bins and those not closed yet: summing them anew each second is cheap,
        # and counts trades that came late without any bookkeeping.
        self._counts = {s: n for s, n in self._counts.items() if s > first}
        trades = sum(n for s, n in self._counts.items() if s <= second)
        return trades / self.span(second)

    def span(self, second: int) -> int:
        """Seconds that the window covers: less than 300 only after the very start."""
        return min(RATE_WINDOW_SECONDS, second - (self._start or 0))

    def export_state(self) -> dict[str, Any]:
        """All that the next rate depends on."""
        return {
            "counts": [list(item) for item in sorted(self._counts.items())],
            "closed": self._closed,
            "start": self._start,
        }

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        self._counts = {int(s): int(n) for s, n in state["counts"]}
        self._closed = state["closed"]
        self._start = state["start"]


class RegimeDetector:
    """A two-state switch with hysteresis over the trade rate's own percentiles."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, float]] = deque()
        self._sorted: list[float] = []
        self._start: int | None = None
        self._regime = Regime.UNKNOWN
        self._since = 0

    def update(self, second: int, rate: float) -> Regime:
        """The regime at `second`; `rate` joins the history only afterwards."""
        if self._start is None:
            self._start = second
        while self._samples and self._samples[0][0] <= second - HISTORY_SECONDS:
            _, old = self._samples.popleft()
            del self._sorted[bisect_left(self._sorted, old)]
        age_seconds = second - self._start
        if age_seconds >= HISTORY_MIN_SECONDS and self._sorted:
            self._decide(second, rate)
        # Earlier the rate is a mean over less than its window: not yet a sample of it.
        due = not self._samples or second - self._samples[-1][0] >= SAMPLE_EVERY_SECONDS
        if due and age_seconds >= RATE_WINDOW_SECONDS:
            self._samples.append((second, rate))
            insort(self._sorted, rate)
        return self._regime

    def _decide(self, second: int, rate: float) -> None:
        if self._regime is Regime.UNKNOWN:
            busy = rate > self._percentile(ENTER_PERCENT)
            self._switch(second, Regime.ACTIVE if busy else Regime.QUIET)
        elif second - self._since < DWELL_SECONDS:
            return
        elif self._regime is Regime.QUIET and rate > self._percentile(ENTER_PERCENT):
            self._switch(second, Regime.ACTIVE)
        elif self._regime is Regime.ACTIVE and rate < self._percentile(LEAVE_PERCENT):
            self._switch(second, Regime.QUIET)

    def _switch(self, second: int, regime: Regime) -> None:
        self._regime = regime
        self._since = second

    def _percentile(self, percent: int) -> float:
        """Nearest rank: the smallest sample that `percent` % of them do not exceed."""
        rank = ceil(len(self._sorted) * percent / 100)
        return self._sorted[max(rank, 1) - 1]

    def export_state(self) -> dict[str, Any]:
        """All that the next regime depends on."""
        return {
            # As differences and whole trades a window: a day of them stays small.
            "sample_gaps": [
                second - before
                for before, second in pairwise([0, *(second for second, _ in self._samples)])
            ],
            "sample_trades": [round(rate * RATE_WINDOW_SECONDS) for _, rate in self._samples],
            "start": self._start,
            "regime": self._regime.value,
            "since": self._since,
        }

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        self._samples = deque(
            (second, trades / RATE_WINDOW_SECONDS)
            for second, trades in zip(
                accumulate(state["sample_gaps"]), state["sample_trades"], strict=True
            )
        )
        self._sorted = sorted(rate for _, rate in self._samples)
        self._start = state["start"]
        self._regime = Regime(state["regime"])
        self._since = state["since"]
