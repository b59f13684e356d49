"""Confidence bounds of a mean that may drift, valid however often they are looked at.

An interval for one look is wrong about one time in twenty; a rollout that looks every ten
seconds for two days finds that time. The bounds here hold at every look of a `SPAN_MS` at once,
but for the stated chance, and so may be watched for as long as one likes.

How: rows are summed over blocks of time. Two kinds of window end now, and share the level:

- **moving** windows of 16, 23, 32, 45, … blocks. Their standardised mean is a Slepian process,
  which crosses z at the rate z·φ(z) a window length (D. Slepian, Bell System Tech. J. 40, 1961;
  D. Aldous, Probability Approximations via the Poisson Clumping Heuristic, 1989). Short ones find
  a large change soon, long ones a small one within hours;
- the **whole** history, whose standardised mean is an Ornstein–Uhlenbeck process in log time,
  with the rate z·φ(z)/2 a unit of it: there z may be smaller, so that what has been bad from
  the beginning is found soonest.

A bound is the window's mean ± z standard errors, z such that these rates add up, over the span, to
what makes any of them fail with the level (`critical.union_level`: they share rows, so they fail
together); of all windows the narrowest speaks. Each side has the whole level, as a rollback asks
one of them. That is a confidence sequence of finite horizon, by a union bound. One that holds
for ever (I. Waudby-Smith et al., Annals of Statistics 52, 2024) would be sharper for a mean that
never changes, but in it two healthy days outweigh an hour of failure. The error rates are
measured in tests/unit/analysis/test_confidence.py.

Pure: event time in, bounds out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from signalcanary.contract import EVIDENCE_LEVELS

from .critical import SMALLEST_WINDOW, critical_values, moving_windows, span_blocks
from .rows import Floats, Ints

LEVELS: Final = EVIDENCE_LEVELS
FAR_BLOCKS: Final = 8
"""Blocks so far apart are independent, and near enough to have the same mean."""
PRIOR_BLOCKS: Final = 20
"""Weight of the prior variance: with few blocks a small one may be chance."""


@dataclass(frozen=True)
class Bounds:
    """What is known of a mean at one level, or of several (arrays of the same shape).

    Attributes:
        lower, upper: the sharpest bounds of all windows. After a change the two may
            contradict each other: the old, long windows still speak of before.
        whole_lower, whole_upper: of all rows in the span.
    """

    lower: Floats
    upper: Floats
    whole_lower: Floats
    whole_upper: Floats


class MovingMeans:
    """Block sums of several series on one clock; a series may have no row at a time.

    Args:
        columns: how many series.
        block_ms: length of a block of event time, at least two horizons: dependence within a
            block and between neighbours is allowed for, dependence beyond is not.
        prior_variance: long-run variance of a row (variance times the rows that are worth one
            independent row), which counts like `PRIOR_BLOCKS` blocks; shape (columns,).
    """

    def __init__(self, columns: int, block_ms: int, prior_variance: Floats) -> None:
        self._block_ms = block_ms
        self._span_blocks = span_blocks(block_ms)
        self._prior = np.asarray(prior_variance, np.float64)
        self._ids = np.empty(0, np.int64)
        self._counts = np.empty((0, columns))
        self._sums = np.empty((0, columns))

    @property
    def blocks(self) -> int:
        """Whole blocks held: all but the newest."""
        return max(0, int(self._ids.size) - 1)

    def add(self, ts_ms: Ints, values: Floats) -> None:
        """Take rows in, in the order of their time.

        Args:
            ts_ms: event time, shape (rows,).
            values: shape (rows, columns); NaN where a series has no row.
        """
        if not ts_ms.size:
            return
        ids = ts_ms // self._block_ms
        fresh = np.unique(ids)
        if self._ids.size:
            fresh = fresh[fresh > self._ids[-1]]
        columns = self._sums.shape[1]
        empty = np.zeros((fresh.size, columns))
        self._ids = np.concatenate((self._ids, fresh))
        self._counts = np.concatenate((self._counts, empty))
        self._sums = np.concatenate((self._sums, empty))
        at = np.searchsorted(self._ids, ids)
        is_there = ~np.isnan(values)
        # One by one, onto what is there: the sums are the same however the rows came in.
        np.add.at(self._sums, at, np.where(is_there, values, 0.0))
        np.add.at(self._counts, at, is_there)
        keep = int(np.searchsorted(self._ids, self._ids[-1] - self._span_blocks))
        if keep:
            self._ids = self._ids[keep:]
            self._counts, self._sums = self._counts[keep:], self._sums[keep:]

    def means(self) -> Floats:
        """The mean of each series over the whole blocks, NaN without a row; shape (columns,)."""
        count = self._counts[:-1].sum(0)
        with np.errstate(invalid="ignore"):
            return np.asarray(self._sums[:-1].sum(0) / np.where(count, count, np.nan))

    def bounds(self, levels: Floats, columns: Sequence[int]) -> Bounds:
        """Bounds of some series at each level; shape (levels, columns), ∓inf where nothing can
        be said."""
        shape = (levels.size, len(columns))
        lower, upper = np.full(shape, -np.inf), np.full(shape, np.inf)
        whole_lower, whole_upper = lower.copy(), upper.copy()
        blocks = self.blocks
        if blocks < SMALLEST_WINDOW:
            return Bounds(lower, upper, whole_lower, whole_upper)
        counts, sums = self._counts[:blocks], self._sums[:blocks]
        for at, column in enumerate(columns):
            # A session's rows come for 8 h and stay away for 16: its windows are of its rows.
            there = counts[:, column] > 0
            n, total = counts[there, column], sums[there, column]
            if n.size < SMALLEST_WINDOW:
                continue
            error_of_row = math.sqrt(long_run_variance(n, total, float(self._prior[column])))
            rows_back, total_back = np.cumsum(n[::-1]), np.cumsum(total[::-1])
            sizes = moving_windows(int(n.size))
            ends = [*(size - 1 for size in sizes), n.size - 1]
            rows = rows_back[ends]
            mean, error = total_back[ends] / rows, error_of_row / np.sqrt(rows)
            for i, level in enumerate(levels):
                z = np.array(critical_values(self._span_blocks, len(sizes), float(level)))
                low, high = mean - z * error, mean + z * error
                lower[i, at], upper[i, at] = low.max(), high.min()
                whole_lower[i, at], whole_upper[i, at] = low[-1], high[-1]
        return Bounds(lower, upper, whole_lower, whole_upper)

    def export_state(self) -> dict[str, Any]:
        """All that the bounds depend on."""
        return {
            "ids": self._ids.copy(),
            "counts": self._counts.copy(),
            "sums": self._sums.copy(),
        }

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        self._ids, self._counts, self._sums = state["ids"], state["counts"], state["sums"]


def long_run_variance(n: Floats, total: Floats, prior: float) -> float:
    """Variance of a row times the rows that are worth one independent row.

    From differences of blocks, not from their distance to the mean: a change of the mean, which
    is what is looked for, would else make everything less sure (J. von Neumann, Annals of
    Mathematical Statistics 12, 1941). Labels overlap across the border of two blocks, so
    neighbours are correlated: their covariance counts where it is positive (W. Newey and K. West,
    Econometrica 55, 1987, with one lag, unweighted).

    Args:
        n, total: rows of each block, none empty, and their sum; more than `FAR_BLOCKS`.
        prior: counts like `PRIOR_BLOCKS` blocks.
    """
    terms = (pair_terms(n, total, lag) for lag in (FAR_BLOCKS, 1))
    own, near = (float(squares.sum() / rows.sum()) for squares, rows in terms)
    pairs = n.size - FAR_BLOCKS
    seen = own + 2.0 * max(0.0, own - near)
    return (pairs * seen + PRIOR_BLOCKS * prior) / (pairs + PRIOR_BLOCKS)


def pair_terms(n: Floats, total: Floats, lag: int) -> tuple[Floats, Floats]:
    """Of each block and the one so many before: n·n′·(difference of the means)², which is
    variance × (n + n′) where the two are independent; and n + n′. Shape (blocks − lag,)."""
    later, earlier = n[lag:], n[:-lag]
    squares = (total[lag:] * earlier - total[:-lag] * later) ** 2 / (later * earlier)
    return squares, later + earlier
