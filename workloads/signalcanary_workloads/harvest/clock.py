"""Keeps an eye on the wall clock, which nothing but receive times depends on.

Features follow event time alone, so a wrong wall clock costs no row; but latencies, and the
receive times in the data, mean nothing while nobody knows that it was wrong. Pure: readings
are handed in.
"""

from __future__ import annotations

from typing import Final

NS_PER_MS: Final = 1_000_000
STEP_SECONDS: Final = 1.0
"""A difference between the two clocks' advance that no slewing makes."""
OFFSET_WINDOW_SECONDS: Final = 300.0
NEVER: Final = 2**63


class ClockWatch:
    """Steps of the wall clock against the monotonic one."""

    def __init__(self) -> None:
        self.steps = 0
        self._ahead: float | None = None

    def look(self, wall_ns: int, monotonic: float) -> float | None:
        """Seconds by which the wall clock has jumped since the last look; `None`: it has not."""
        ahead = wall_ns / 1e9 - monotonic
        before, self._ahead = self._ahead, ahead
        if before is None or abs(ahead - before) <= STEP_SECONDS:
            return None
        self.steps += 1
        return ahead - before


class OffsetEstimate:
    """The smallest receive − event time of the last 150 to 300 s.

    It is the offset of the two clocks plus the shortest time on the way, so it may be
    negative: then the local clock is behind the exchange's by at least that much.
    """

    def __init__(self) -> None:
        self.least_ns = NEVER
        """Of the current half window; the receiving loop lowers it itself, to save a call."""
        self._previous_ns = NEVER
        self._turned: float | None = None

    @property
    def total_ns(self) -> int:
        """Of the whole window; `NEVER`: nothing was received."""
        return min(self.least_ns, self._previous_ns)

    @property
    def seconds(self) -> float | None:
        """`None`: nothing was received."""
        least = self.total_ns
        return None if least == NEVER else least / 1e9

    def forget(self) -> None:
        """The clock was set: what was measured against it means nothing any more."""
        self.least_ns = self._previous_ns = NEVER

    def look(self, monotonic: float) -> None:
        """Let old minima go."""
        if self._turned is None:
            self._turned = monotonic
        elif monotonic - self._turned >= OFFSET_WINDOW_SECONDS / 2:
            self._previous_ns, self.least_ns = self.least_ns, NEVER
            self._turned = monotonic
