"""The backward as-of join of feature rows with volume-delta scores, incrementally.

A feature row at `ts`, closed by frame `ingest`, is joined with the latest score (greatest
`ts`, then greatest `ingest`) whose `ts` is not later **and** whose `ingest` is smaller: what
the live signal had, not what a later reader could repair (design 002). The age δ is recorded
before the tolerance is applied; after it, p99 could never exceed the tolerance and a rule on
it would never fire (domain notes, trap 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .rows import Bools, CvdRows, FeatureRows, Floats, Ints

MERGE_WINDOW_MS: Final = 300_000
"""Quantiles of δ and the match ratio are taken over the last 5 min of event time."""
MERGE_MIN_ROWS: Final = 30
"""Fewer joined rows than this in the window say nothing about a 99 % quantile."""


@dataclass(frozen=True, eq=False)
class Joined:
    """For each feature row the score it was joined with, whatever its age."""

    z: Floats
    """The score; NaN if there was none, or if it was null (warming up after a gap)."""
    delta_ms: Floats
    """Age of the score, ts − cvd.ts, before the tolerance; NaN if there was none."""


class AsOfJoin:
    """Joins batches in the order of arrival; equal to one join of everything at once."""

    def __init__(self) -> None:
        self._carry = CvdRows.empty()

    def join(self, features: FeatureRows, scores: CvdRows) -> Joined:
        """Join new feature rows with the scores seen so far.

        Args:
            features: new rows, `ts` and `ingest` not decreasing.
            scores: new scores in the order of arrival. Every score that arrived before a
                feature row was closed must come with it or earlier; later ones do no harm.
        """
        pool = self._carry.followed_by(scores) if len(scores) else self._carry
        if not len(features):
            self._carry = pool
            return Joined(np.empty(0), np.empty(0))
        order = np.lexsort((pool.ingest, pool.ts_ms))
        pool = pool.take(order)
        position = _latest_visible(pool, features.ts_ms, features.ingest)
        found = position >= 0
        safe = np.where(found, position, 0)
        z = np.full(len(features), np.nan)
        delta = np.full(len(features), np.nan)
        if len(pool):
            z[found] = pool.z[safe[found]]
            delta[found] = (features.ts_ms[found] - pool.ts_ms[safe[found]]).astype(np.float64)
        self._carry = _still_needed(pool, int(features.ts_ms[-1]), int(features.ingest[-1]))
        return Joined(z, delta)

    def export_state(self) -> dict[str, Any]:
        """The scores that later rows may be joined with."""
        return dict(vars(self._carry))

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        self._carry = CvdRows(**state)


def _latest_visible(pool: CvdRows, ts_ms: Ints, ingest: Ints) -> Ints:
    """Index of the last score (sorted by ts, ingest) at or before `ts` that had arrived."""
    position = np.searchsorted(pool.ts_ms, ts_ms, side="right").astype(np.int64) - 1
    while True:
        late = position >= 0
        late[late] = pool.ingest[position[late]] >= ingest[late]
        if not late.any():
            return position
        position[late] -= 1


def _still_needed(pool: CvdRows, last_ts_ms: int, last_ingest: int) -> CvdRows:
    """What a later feature row can still be joined with: the newest visible, and all newer."""
    pending = (pool.ts_ms > last_ts_ms) | (pool.ingest >= last_ingest)
    visible = np.flatnonzero(~pending)
    if visible.size:
        pending[visible[-1]] = True
    kept = pool.take(pending)
    return kept.take(np.argsort(kept.ingest, kind="stable"))


@dataclass(frozen=True)
class MergeFigures:
    """How old the matched scores are, over the last 5 min of event time."""

    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True)
class MergeWindow:
    """The window's counts, and its quantiles once it holds enough rows."""

    rows: int
    joined: int
    match_ratio: float | None
    figures: MergeFigures | None


def evaluate_merge(delta_ms: Floats, tolerance_ms: int) -> MergeWindow:
    """Quantiles of δ and the share of rows with δ ≤ tolerance.

    Args:
        delta_ms: δ of each feature row in the window; NaN where no score existed at all.
        tolerance_ms: the oldest age that still counts as a match.
    """
    known = delta_ms[~np.isnan(delta_ms)]
    rows, joined = int(delta_ms.size), int(known.size)
    ratio = float(np.count_nonzero(known <= tolerance_ms)) / rows if rows else None
    figures = None
    if joined >= MERGE_MIN_ROWS:
        p50, p90, p99 = (float(q) for q in np.quantile(known, (0.5, 0.9, 0.99)))
        figures = MergeFigures(p50, p90, p99)
    return MergeWindow(rows, joined, ratio, figures)


def within_tolerance(joined: Joined, tolerance_ms: int) -> Bools:
    """Which rows have a score young enough to be used."""
    return ~np.isnan(joined.delta_ms) & (joined.delta_ms <= tolerance_ms)
