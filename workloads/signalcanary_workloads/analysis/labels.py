"""Labels: did the mid price rise within the horizon? Known only a horizon later.

y = 1 if mid(t + h) > mid(t). The known origin of this rule shifted the rows the wrong way and
predicted the past (domain notes, finding 1), so a label here is made by the arrival of the row
at t + h and by nothing else. Ties carry no direction and are left out; rows whose t … t + h
crosses a gap, or that lack a mid at either end, are masked. Each row gets exactly one outcome.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np

from .rows import Codes, FeatureRows, Floats, Ints

GRID_MS: Final = 1_000
"""The feature grid is 1 Hz; a horizon is rounded up to it, never shortened."""


class Outcome(IntEnum):
    """What became of a row's label."""

    DOWN = 0
    UP = 1
    TIE = 2
    GAP = 3
    NO_MID = 4
    MISSING_ROW = 5
    """The grid has no row at t + h at all."""
    PENDING = 6


def round_to_grid(horizon_ms: int) -> int:
    """The horizon in whole grid steps, rounded up: 1500 ms looks 2 s ahead."""
    return -(-horizon_ms // GRID_MS) * GRID_MS


class PendingLabels:
    """Rows that wait for their future, first in, first out."""

    def __init__(self, horizon_ms: int) -> None:
        self._horizon_ms = horizon_ms
        self._ts_ms: Ints = np.empty(0, np.int64)
        self._mid: Floats = np.empty(0, np.float64)
        self._gap_epoch: Ints = np.empty(0, np.int64)

    def __len__(self) -> int:
        return int(self._ts_ms.size)

    def take_in(self, rows: FeatureRows) -> Codes:
        """Queue new rows (strictly later than all before); return the outcomes now known.

        Returns:
            Outcomes of the oldest pending rows, in their order. A row is settled as soon as
            the grid has reached t + h, whether or not a row stands exactly there.
        """
        ts = np.concatenate((self._ts_ms, rows.ts_ms))
        mid = np.concatenate((self._mid, rows.mid))
        epoch = np.concatenate((self._gap_epoch, rows.gap_epoch))
        count = 0
        if ts.size:
            count = int(np.searchsorted(ts, ts[-1] - self._horizon_ms, side="right"))
        then = ts[:count] + self._horizon_ms
        future = np.searchsorted(ts, then, side="left")
        before, after = mid[:count], mid[future]
        outcome = np.where(after > before, Outcome.UP, Outcome.DOWN).astype(np.int8)
        outcome[after == before] = Outcome.TIE
        outcome[np.isnan(before) | np.isnan(after)] = Outcome.NO_MID
        outcome[epoch[future] != epoch[:count]] = Outcome.GAP
        outcome[ts[future] != then] = Outcome.MISSING_ROW
        self._ts_ms, self._mid, self._gap_epoch = ts[count:], mid[count:], epoch[count:]
        return outcome

    def export_state(self) -> dict[str, Any]:
        """The rows that wait."""
        return {"ts_ms": self._ts_ms, "mid": self._mid, "gap_epoch": self._gap_epoch}

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        self._ts_ms, self._mid = state["ts_ms"], state["mid"]
        self._gap_epoch = state["gap_epoch"]
