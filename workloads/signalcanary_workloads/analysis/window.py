"""The trailing rows of one symbol as growing columns: append at the end, forget the start.

A table of its own because three windows of different length (train, test, merge) look at the
same rows, and labels arrive into the middle of it. Append and forget cost O(new rows) on
average: space is reused, and copied only when it has run out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from .labels import Outcome
from .rows import Codes, Floats, Ints

_INITIAL_ROWS: Final = 1_024


@dataclass(eq=False)
class Columns:
    """One row a second of event time."""

    ts_ms: Ints
    z_ofi: Floats
    z_cvd: Floats
    delta_ms: Floats
    """Age of the matched score before the tolerance; NaN if there was none."""
    regime: Codes
    unusable: Codes
    """0 if the row can be scored, else the code of the reason."""
    f: Floats
    """Fused score with the direction of the moment; NaN if the row cannot be scored."""
    p: Floats
    """p(up) by the calibration of the moment; NaN if there was none."""
    outcome: Codes
    """`Outcome` of the label; PENDING until the future has come."""

    def slice(self, start: int, end: int) -> Columns:
        """Views of the rows from `start` to `end`."""
        return Columns(*(getattr(self, name)[start:end] for name in _NAMES))


_NAMES: Final = tuple(field.name for field in fields(Columns))


def _allocate(rows: int) -> Columns:
    ints, floats = np.zeros(rows, np.int64), np.full(rows, np.nan)
    return Columns(
        ints,
        floats,
        floats.copy(),
        floats.copy(),
        np.zeros(rows, np.int8),
        np.zeros(rows, np.int8),
        floats.copy(),
        floats.copy(),
        np.full(rows, Outcome.PENDING, np.int8),
    )


class RowWindow:
    """Rows in the order of their event time; labels settle in the same order."""

    def __init__(self) -> None:
        self._store = _allocate(_INITIAL_ROWS)
        self._start = 0
        self._end = 0
        self._settled = 0
        """Rows from `_start` on whose outcome is known."""

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def rows(self) -> Columns:
        """All rows, as views that may be written to."""
        return self._store.slice(self._start, self._end)

    def between(self, after_ms: int, until_ms: int) -> Columns:
        """Rows with after < ts ≤ until, as views."""
        ts = self._store.ts_ms[self._start : self._end]
        low, high = np.searchsorted(ts, (after_ms, until_ms), side="right")
        return self._store.slice(self._start + int(low), self._start + max(int(low), int(high)))

    def append(self, new: Columns) -> None:
        """Add rows, all later than those present."""
        count = int(new.ts_ms.size)
        self._make_room(count)
        end = self._end + count
        for name in _NAMES:
            getattr(self._store, name)[self._end : end] = getattr(new, name)
        self._end = end

    def settle(self, outcome: Codes) -> Columns:
        """Write the outcomes of the oldest unsettled rows; return those rows."""
        first = self._start + self._settled
        rows = self._store.slice(first, first + int(outcome.size))
        rows.outcome[:] = outcome
        self._settled += int(outcome.size)
        return rows

    def forget(self, until_ms: int) -> None:
        """Drop settled rows with ts ≤ until."""
        ts = self._store.ts_ms[self._start : self._start + self._settled]
        count = int(np.searchsorted(ts, until_ms, side="right"))
        self._start += count
        self._settled -= count

    def _make_room(self, count: int) -> None:
        capacity = int(self._store.ts_ms.size)
        if self._end + count <= capacity:
            return
        used = len(self)
        fresh = _allocate(max(_INITIAL_ROWS, 2 * (used + count)))
        for name in _NAMES:
            getattr(fresh, name)[:used] = getattr(self._store, name)[self._start : self._end]
        self._store, self._start, self._end = fresh, 0, used
