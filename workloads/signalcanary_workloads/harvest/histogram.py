"""A histogram of plain integers, without the lock that a Prometheus client's takes.

The loop that counts is the loop that is scraped, so nothing needs guarding, and an observation
costs a binary search. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import inf


class Histogram:
    """Counts by upper bound. Negative values are counted where they fall, never clamped."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """
        Args:
            bounds: inclusive upper bounds, growing; one without bound is added.
        """
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[float, int]]:
        """Bound, and how many values are not above it."""
        return list(zip((*self.bounds, inf), accumulate(self.counts), strict=True))
