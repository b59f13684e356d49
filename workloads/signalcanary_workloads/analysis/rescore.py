"""Volume-delta scores under other parameters than those they were harvested with.

The stable configuration is scored on the canary's rows, so that the two differ in nothing but
their configuration. A harvested row holds each trade's signed notional, which is all that the
score is made of; harvest's own code makes it anew.
"""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np

from signalcanary.contract import Cvd

from ..harvest.cvd import CvdScore
from ..harvest.wire import AggTrade
from .rows import CvdRows


def scores_alike(one: Cvd, other: Cvd) -> bool:
    """Whether two configurations give each trade the same score."""
    return one == other.model_copy(update={"auto_flip": one.auto_flip})


class Rescore:
    """The incremental score of one symbol, from harvested rows."""

    def __init__(self, config: Cvd) -> None:
        self._score = CvdScore(config)
        self._last_ingest = -1

    def take_in(self, rows: CvdRows) -> CvdRows:
        """The same trades, in the order of arrival, with their new scores; without those that
        came before.

        A trade that harvest did not take for order flow (it has neither delta nor scale) is
        none here. The first trade of all has no scale either, but a delta.
        """
        rows = rows.take(rows.ingest > self._last_ingest)
        if len(rows):
            self._last_ingest = int(rows.ingest[-1])
        z = np.full(len(rows), np.nan)
        columns = (rows.ts_ms, rows.delta, rows.scale)
        for at, (ts, delta, scale) in enumerate(zip(*map(np.ndarray.tolist, columns), strict=True)):
            if delta == 0.0 and isnan(scale):
                continue
            # Notional as a quantity at a price of 1: exactly the harvested delta.
            trade = AggTrade("", 0, 1.0, abs(delta), 0, 0, ts, delta < 0.0)
            z[at] = self._score.add(trade).z_cvd
        return replace(rows, z=z)

    def export_state(self) -> dict[str, Any]:
        """All that the next trade's score depends on."""
        score = self._score.export_state()
        # A running sum in units of 1e-8, of amounts here: it may outgrow 64 bits.
        return {
            "score": score | {"units": str(score["units"])},
            "last_ingest": self._last_ingest,
        }

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        score = state["score"]
        self._score.import_state(score | {"units": int(score["units"])})
        self._last_ingest = state["last_ingest"]
