"""Virtual event time: wall time, multiplied.

A market that runs 120 times as fast as the wall fills a calibration window of two hours in a
minute. The wall clock is injected, so that tests move it by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LARGEST_LAG_SECONDS: Final = 1.0
"""Wall time by which delivery may fall behind before event time waits for it."""


class VirtualClock:
    """Event time in milliseconds, `speed` times as fast as the injected monotonic clock."""

    def __init__(self, start_ms: int, speed: float, monotonic: Callable[[], float]) -> None:
        self.start_ms = start_ms
        self.speed = speed
        self._monotonic = monotonic
        self._origin_ms = float(start_ms)
        self._origin_seconds = monotonic()

    def now_ms(self) -> int:
        elapsed = self._monotonic() - self._origin_seconds
        return int(self._origin_ms + elapsed * 1000 * self.speed)

    def hold_back_to(self, delivered_ms: float) -> bool:
        """Slip to what was delivered if delivery is too far behind; True if it did.

        An overloaded or suspended process must not owe its clients an ever longer burst.
        """
        lag_seconds = (self.now_ms() - delivered_ms) / 1000 / self.speed
        if lag_seconds <= LARGEST_LAG_SECONDS:
            return False
        self.set_to(delivered_ms)
        return True

    def set_to(self, event_ms: float) -> None:
        """Go on from `event_ms`."""
        self._origin_ms = float(event_ms)
        self._origin_seconds = self._monotonic()
