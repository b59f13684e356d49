"""Dear work at a bounded share of the time, however long it takes on this machine.

An interval would have to be guessed: a report of six hours at five horizons takes long on a slow
machine, and may then eat it. Here the work's own duration sets the time until it is done again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Pace:
    """When to do a piece of work again.

    Args:
        clock: monotonic, s.
        share: of the time that the work may take (0–1).
    """

    def __init__(self, clock: Callable[[], float], share: float) -> None:
        self._clock = clock
        self._share = share
        self._next_at = clock()

    def run_if_due(self, work: Callable[[], Result]) -> Result | None:
        """Do the work if it is time; None if not."""
        started_at = self._clock()
        if started_at < self._next_at:
            return None
        result = work()
        self._next_at = started_at + (self._clock() - started_at) / self._share
        return result
