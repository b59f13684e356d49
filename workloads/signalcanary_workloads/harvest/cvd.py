"""The cumulative volume delta and its z-score, one trade at a time.

Definitions: domain notes §1 ("CVD", "Delta z"); parameters: `SignalConfig.cvd`. Pure and
causal: a trade's scale is computed before the trade is added to it. Costs O(log 300) a trade.
The state goes in and out as JSON-able data, exactly, so that a resumed run writes the rows
that an uninterrupted one would have written.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import asdict, dataclass
from math import nan
from typing import Any, Final, NamedTuple

from signalcanary.contract import Cvd
from signalcanary_workloads.harvest.wire import Trade

FAST_HALF_LIFE_TRADES: Final = 80  # seed 001's origin, its default
WARMUP_TRADES: Final = 80
MAD_WINDOW_TRADES: Final = 300
MAD_TO_SIGMA: Final = 1.4826  # consistent for a normal distribution
SCALE_MIN: Final = 1e-9
SKIP_ONE_AFTER_MS: Final = 4_000
SKIP_TWO_AFTER_MS: Final = 5_000
# Quantities have at most 8 decimals, so the running sum is kept in whole 1e-8 units: exact
# over any number of trades, where a sum of floats would drift away from the file's.
UNITS_PER_ONE: Final = 100_000_000


class RollingMad:
    """Median absolute deviation of the last `size` values; O(log size) after the insert."""

    def __init__(self, size: int = MAD_WINDOW_TRADES) -> None:
        self._size = size
        self._arrived: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, value: float) -> None:
        """Take a value in; the oldest leaves when the window is full."""
        if len(self._arrived) == self._size:
            oldest = self._arrived.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._arrived.append(value)
        insort(self._sorted, value)

    def values(self) -> list[float]:
        """The window's values in order of arrival."""
        return list(self._arrived)

    def mad(self) -> float:
        """The deviation; 0 of an empty window."""
        ordered = self._sorted
        n = len(ordered)
        if n == 0:
            return 0.0
        upper = n // 2
        median = ordered[upper] if n % 2 else (ordered[upper - 1] + ordered[upper]) / 2
        if n % 2:
            return self._kth_distance(median, upper + 1)
        return (self._kth_distance(median, upper) + self._kth_distance(median, upper + 1)) / 2

    def _kth_distance(self, centre: float, k: int) -> float:
        """The k-th smallest distance to `centre`. The k nearest values of a sorted list are
        neighbours, so this searches where that run of k begins."""
        ordered = self._sorted
        low, high = 0, len(ordered) - k
        while low < high:
            middle = (low + high) // 2
            if centre - ordered[middle] > ordered[middle + k] - centre:
                low = middle + 1
            else:
                high = middle
        return max(centre - ordered[low], ordered[low + k - 1] - centre)


class CvdRow(NamedTuple):
    """What one trade adds. NaN stands for null: warm-up, skipped, or no order flow."""

    delta: float
    """Signed notional."""
    delta_qty: float
    cvd: float
    """Running sum of `delta_qty`."""
    z_raw: float
    z_cvd: float
    scale: float
    floor: float
    floor_hit: bool


@dataclass
class _State:
    units: int = 0
    seen: int = 0
    fast: float = 0.0
    slow: float = 0.0
    last_ts: int | None = None
    skip: int = 0


class CvdScore:
    """The incremental z-score of one symbol."""

    def __init__(self, config: Cvd) -> None:
        self._fast_alpha = 1 - 2 ** (-1 / FAST_HALF_LIFE_TRADES)
        self._slow_alpha = 1 - 2 ** (-1 / config.half_life_trades)
        self._fast_weight = config.scale_fast_weight
        self._floor_factor = config.mad_multiplier * MAD_TO_SIGMA
        self._limit = config.winsor_limit
        self._state = _State()
        self._mad = RollingMad()

    def add(self, trade: Trade) -> CvdRow:
        """Take the next trade in, in order of its id."""
        state = self._state
        if not trade.is_market:  # recorded, but neither bought nor sold by anyone's decision
            return CvdRow(0.0, 0.0, state.units / UNITS_PER_ONE, nan, nan, nan, nan, False)
        qty = trade.qty if trade.nq is None else trade.nq
        delta_qty = -qty if trade.is_buyer_maker else qty
        delta = trade.price * delta_qty
        state.units += round(delta_qty * UNITS_PER_ONE)

        if state.last_ts is not None:
            silence_ms = trade.ts - state.last_ts
            if silence_ms > SKIP_TWO_AFTER_MS:
                state.skip = 2
            elif silence_ms > SKIP_ONE_AFTER_MS:
                state.skip = max(state.skip, 1)
        state.last_ts = trade.ts

        z_raw = z_cvd = scale = floor = nan
        floor_hit = False
        if state.seen:
            mix = self._fast_weight * state.fast + (1 - self._fast_weight) * state.slow
            floor = self._floor_factor * self._mad.mad()
            floor_hit = floor >= mix
            scale = max(mix, floor, SCALE_MIN)
            if state.skip:
                state.skip -= 1
            elif state.seen >= WARMUP_TRADES:
                z_raw = delta / scale
                z_cvd = min(max(z_raw, -self._limit), self._limit)

        size = abs(delta)
        if state.seen:
            state.fast += self._fast_alpha * (size - state.fast)
            state.slow += self._slow_alpha * (size - state.slow)
        else:
            state.fast = state.slow = size
        state.seen += 1
        self._mad.add(delta)
        return CvdRow(
            delta, delta_qty, state.units / UNITS_PER_ONE, z_raw, z_cvd, scale, floor, floor_hit
        )

    def export_state(self) -> dict[str, Any]:
        """All that the next trade's row depends on."""
        return {**asdict(self._state), "deltas": self._mad.values()}

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        plain = {key: value for key, value in state.items() if key != "deltas"}
        self._state = _State(**plain)
        self._mad = RollingMad()
        for delta in state["deltas"]:
            self._mad.add(delta)
