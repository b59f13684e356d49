"""The volume delta's health over the last 300 s of event time (seed 001).

Columns of machine numbers, not a queue of tuples: a scrape reads hundreds of thousands of
trades of a busy market between two frames, and whatever it takes, the frames wait. Pure.
"""

from __future__ import annotations

from array import array
from math import nan
from typing import Final, NamedTuple

import numpy as np

QUALITY_WINDOW_MS: Final = 300_000
_KEPT_FORGOTTEN: Final = 1_024
"""Forgotten trades are cut off when there are more than this, and as many as are remembered."""


class CvdQuality(NamedTuple):
    """Of the trades that have a score. NaN: there are none."""

    scale_median: float
    floor_hit_ratio: float
    abs_z_p95: float
    tail2_ratio: float
    tail3_ratio: float
    samples: int
    """Trades with a score."""


class QualityWindow:
    """The scored trades of the last 300 s, in order of arrival."""

    def __init__(self) -> None:
        self._ts = array("q")
        self._scale = array("d")
        self._floor_hit = array("b")
        self._abs_z = array("d")
        self._start = 0

    def add(self, ts_ms: int, scale: float, floor_hit: bool, abs_z: float) -> None:
        """A scored trade; forgets those at the start that are too old beside it."""
        times = self._ts
        times.append(ts_ms)
        self._scale.append(scale)
        self._floor_hit.append(floor_hit)
        self._abs_z.append(abs_z)
        start, oldest = self._start, ts_ms - QUALITY_WINDOW_MS
        while times[start] <= oldest:
            start += 1
        self._start = start
        if start > _KEPT_FORGOTTEN and 2 * start > len(times):
            for column in (times, self._scale, self._floor_hit, self._abs_z):
                del column[:start]
            self._start = 0

    def evaluate(self, now_ms: int) -> CvdQuality:
        """Over the 300 s before an event time; costs some ms a hundred thousand trades."""
        start = self._start
        recent = np.frombuffer(self._ts, np.int64)[start:] > now_ms - QUALITY_WINDOW_MS
        if not recent.any():
            return CvdQuality(nan, nan, nan, nan, nan, 0)
        scale = np.frombuffer(self._scale, np.float64)[start:][recent]
        floor_hit = np.frombuffer(self._floor_hit, np.int8)[start:][recent]
        abs_z = np.frombuffer(self._abs_z, np.float64)[start:][recent]
        return CvdQuality(
            float(np.median(scale)),
            float(np.mean(floor_hit)),
            float(np.quantile(abs_z, 0.95)),
            float(np.mean(abs_z > 2)),
            float(np.mean(abs_z > 3)),
            len(abs_z),
        )
