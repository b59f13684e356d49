"""The trailing rows of one symbol as growing columns: append at the end, forget the start.

A table of its own because three windows of different length (train, test, merge) look at the
same rows, and labels arrive into the middle of it. Append and forget cost O(new rows) on
average: space is reused, and copied only when it has run out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

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
    z_ml: Floats
    """The models' score; NaN if there is none."""
    ml: Ints
    """What of the models' answers was good, as bits (`ensemble`)."""
    unusable: Codes
    """0 if the row can be scored, else the code of the reason."""
    f: Floats
    """Fused score with the direction of the moment; NaN if the row cannot be scored."""
    rank: Floats
    """Share of the training scores below f (0–1): of all, and of those of the row's regime;
    NaN if there was no calibration."""
    p_at: Floats
    """p(up) by the calibration of the moment, one column a horizon; NaN if there was none."""
    outcome_at: Codes
    """`Outcome` of the label, one column a horizon; PENDING until the future has come."""

    @property
    def p(self) -> Floats:
        """p(up) at the judged horizon."""
        return self.p_at[:, 0]

    @property
    def outcome(self) -> Codes:
        """The outcome at the judged horizon."""
        return self.outcome_at[:, 0]

    def slice(self, start: int, end: int) -> Columns:
        """Views of the rows from `start` to `end`."""
        return Columns(*(getattr(self, name)[start:end] for name in _NAMES))


_NAMES: Final = tuple(field.name for field in fields(Columns))


def blank_predictions(rows: int, horizons: int) -> tuple[Floats, Floats, Floats, Codes]:
    """The columns f, rank, p_at and outcome_at of rows that are not scored yet."""
    rank, p_at = np.full((rows, 2), np.nan), np.full((rows, horizons), np.nan)
    return np.full(rows, np.nan), rank, p_at, np.full((rows, horizons), Outcome.PENDING, np.int8)


def _allocate(rows: int, horizons: int) -> Columns:
    ints, codes = np.zeros(rows, np.int64), np.zeros(rows, np.int8)
    z_ofi, z_cvd, delta, z_ml = (np.full(rows, np.nan) for _ in range(4))
    blank = blank_predictions(rows, horizons)
    return Columns(ints, z_ofi, z_cvd, delta, codes, z_ml, ints.copy(), codes.copy(), *blank)


class RowWindow:
    """Rows in the order of their event time; labels settle in the same order.

    Args:
        horizons: how many there are; the first is the judged one.
    """

    def __init__(self, horizons: int) -> None:
        self._store = _allocate(_INITIAL_ROWS, horizons)
        self._start = 0
        self._end = 0
        self._settled = [0] * horizons
        """Rows from `_start` on whose outcome is known, by horizon."""

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

    def settle(self, column: int, outcome: Codes) -> Columns:
        """Write the outcomes of the oldest unsettled rows at a horizon; return those rows."""
        first = self._start + self._settled[column]
        rows = self._store.slice(first, first + int(outcome.size))
        rows.outcome_at[:, column] = outcome
        self._settled[column] += int(outcome.size)
        return rows

    def forget(self, until_ms: int) -> None:
        """Drop rows with ts ≤ until that are settled at every horizon."""
        ts = self._store.ts_ms[self._start : self._start + min(self._settled)]
        count = int(np.searchsorted(ts, until_ms, side="right"))
        self._start += count
        self._settled = [settled - count for settled in self._settled]

    def export_state(self) -> dict[str, Any]:
        """The rows held, and how many are settled at each horizon."""
        rows = {name: getattr(self.rows, name).copy() for name in _NAMES}
        return {"rows": rows, "settled": list(self._settled)}

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state of as many horizons."""
        rows = Columns(**state["rows"])
        self._store = _allocate(_INITIAL_ROWS, len(self._settled))
        self._start = self._end = 0
        self.append(rows)
        self._settled = state["settled"]

    def _make_room(self, count: int) -> None:
        capacity = int(self._store.ts_ms.size)
        if self._end + count <= capacity:
            return
        used = len(self)
        horizons = len(self._settled)
        fresh = _allocate(max(_INITIAL_ROWS, 2 * (used + count)), horizons)
        for name in _NAMES:
            getattr(fresh, name)[:used] = getattr(self._store, name)[self._start : self._end]
        self._store, self._start, self._end = fresh, 0, used
