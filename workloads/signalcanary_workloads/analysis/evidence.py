"""How sure a figure is: standard errors and intervals of dependent rows, by influence functions.

Rows a second apart share most of their label's future and much of their score, so the number of
rows says little about how sure a figure is. Every figure here is brought into one form: a value
and, for each row, its *influence*, which is by how much the row pulls the value away from the
truth (F. Hampel, JASA 69, 1974), so that value − truth ≈ mean of the influences. What the sums of
the influences over blocks of time stray is then the figure's variance, with all dependence within
a block in it (E. Carlstein, Annals of Statistics 14, 1986).

The intervals are pointwise: they hold for one look. Who watches them for hours wants
`confidence`. Pure; no randomness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from .rows import Bools, Floats, Ints

LEVEL: Final = 0.95
"""Two-sided."""
BLOCKS_PER_HORIZON: Final = 5
"""Labels within one horizon overlap; a block of five is little touched by its neighbours."""
MANY_BLOCKS: Final = 40
"""More blocks than this make an interval hardly narrower (t is 2.02 instead of 1.96), while
longer ones miss less of the dependence across their borders: blocks grow with the window."""
MIN_BLOCKS: Final = 8
"""Fewer independent blocks than this say nothing about how far block sums stray."""
_NORMAL: Final = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """A figure and how sure it is.

    Attributes:
        value: as computed from all rows.
        samples: rows that it was computed from.
        effective_samples: independent rows that would leave it as unsure; None, as are all
            below, if there are too few blocks of time to tell.
        error: its standard error.
        lower, upper: its 95 % interval.
    """

    value: float
    samples: int
    effective_samples: float | None = None
    error: float | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, eq=False)
class Influence:
    """A figure with the influence of each of its rows.

    Attributes:
        value: the figure.
        of_row: shape (rows,), with a mean of zero; value − truth ≈ mean of `of_row`.
        ts_ms: the rows' event times, rising.
    """

    value: float
    of_row: Floats
    ts_ms: Ints


@dataclass(frozen=True, eq=False)
class Blocks:
    """Sums over consecutive blocks of time.

    Attributes:
        sums: shape (blocks,) or (blocks, columns).
        freedom: degrees of freedom of the sums' variance: how many blocks of equal size would
            tell as much, less one.
    """

    sums: Floats
    freedom: float


def sum_blocks(of_row: Floats, ts_ms: Ints, block_ms: int) -> Blocks:
    """Sum rows over blocks of event time that begin at multiples of `block_ms`.

    Args:
        of_row: shape (rows,) or (rows, columns), at least one row.
        ts_ms: event times, rising.
    """
    block = ts_ms // block_ms
    starts = np.flatnonzero(np.diff(block, prepend=block[0] - 1))
    sizes = np.diff(starts, append=ts_ms.size).astype(np.float64)
    sums = np.add.reduceat(of_row, starts, axis=0)
    return Blocks(sums, float(sizes.sum() ** 2 / (sizes @ sizes)) - 1.0)


def choose_block_ms(of_row: Floats, ts_ms: Ints, horizon_ms: int) -> int:
    """The length of blocks that are nearly independent of each other.

    At least 5 horizons, and as long as the influences' autocorrelation (domain notes, §1). The
    latter is read off the blocks themselves: while neighbours are correlated beyond chance they
    are doubled, as long as enough remain. A slow change, of skill with the regime say, drowns in
    the noise of single rows, where their autocorrelation function would be searched for it.
    """
    if not ts_ms.size:
        return BLOCKS_PER_HORIZON * horizon_ms
    span_ms = int(ts_ms[-1] - ts_ms[0])
    block_ms = max(BLOCKS_PER_HORIZON * horizon_ms, span_ms // MANY_BLOCKS)
    while True:
        blocks = sum_blocks(of_row, ts_ms, block_ms)
        if (blocks.freedom + 1.0) / 2.0 < 2.0 * MIN_BLOCKS:
            return block_ms
        sums = blocks.sums - blocks.sums.mean()
        spread = float(np.sum(sums**2))
        correlation = float(np.sum(sums[1:] * sums[:-1])) / spread if spread else 0.0
        if correlation * math.sqrt(sums.size) < _NORMAL.inv_cdf(LEVEL):
            return block_ms
        block_ms *= 2


def estimate(
    influence: Influence, horizon_ms: int, limits: tuple[float, float] | None = None
) -> Estimate:
    """A figure with its standard error and its 95 % interval.

    Args:
        horizon_ms: of the label, which says how far rows overlap.
        limits: what the figure lies between in any case.
    """
    samples = int(influence.of_row.size)
    block_ms = choose_block_ms(influence.of_row, influence.ts_ms, horizon_ms)
    error = standard_error(influence, block_ms)
    if error is None:
        return Estimate(influence.value, samples)
    reach = student_quantile((1.0 + LEVEL) / 2.0, error.freedom) * error.size
    lower, upper = influence.value - reach, influence.value + reach
    if limits is not None:
        lower, upper = max(lower, limits[0]), min(upper, limits[1])
    return Estimate(influence.value, samples, error.effective_samples, error.size, lower, upper)


@dataclass(frozen=True)
class StandardError:
    """A standard error and what it rests on."""

    size: float
    freedom: float
    effective_samples: float


def standard_error(
    influence: Influence, block_ms: int, min_blocks: float = MIN_BLOCKS
) -> StandardError | None:
    """The standard error of a figure; None with fewer than `min_blocks` blocks."""
    samples = int(influence.of_row.size)
    if not samples:
        return None
    blocks = sum_blocks(influence.of_row, influence.ts_ms, block_ms)
    # As many blocks of unequal size say less; a window rarely begins at the start of a block.
    if blocks.freedom + 1.0 < min_blocks - 0.5:
        return None
    spread = float(np.sum(blocks.sums**2)) * (blocks.freedom + 1.0) / blocks.freedom
    independent = float(np.sum(influence.of_row**2))
    effective = samples * independent / spread if spread > independent else float(samples)
    return StandardError(math.sqrt(spread) / samples, blocks.freedom, effective)


# --------------------------------------------------------------------------- influences


def auc_influence(score: Floats, up: Bools, ts_ms: Ints) -> Influence | None:
    """Of the area under the ROC curve: DeLong's structural components (E. DeLong, D. DeLong and
    D. Clarke-Pearson, Biometrics 44, 1988). None with one class."""
    n = int(up.size)
    n_up = int(np.count_nonzero(up))
    if n_up in (0, n):
        return None
    order = np.argsort(score)  # looking up sorted scores is ten times faster
    score_sorted, up_sorted = score[order], up[order]
    ups, downs = score_sorted[up_sorted], score_sorted[~up_sorted]
    share = np.empty(n)
    share[up_sorted] = share_below(downs, ups)
    share[~up_sorted] = 1.0 - share_below(ups, downs)
    of_row = np.empty(n)
    of_row[order] = share
    auc = float(of_row[up].sum()) / n_up
    of_row -= auc
    of_row[up] *= n / n_up
    of_row[~up] *= n / (n - n_up)
    return Influence(auc, of_row, ts_ms)


def brier_influence(p: Floats, up: Bools, ts_ms: Ints) -> Influence:
    """Of the Brier score, a plain mean of (p − y)²."""
    loss = (p - up) ** 2
    value = float(loss.mean())
    return Influence(value, loss - value, ts_ms)


def brier_skill_influence(p: Floats, up: Bools, ts_ms: Ints) -> Influence | None:
    """Of the skill 1 − B/(ȳ(1 − ȳ)), by the delta method. None with one class."""
    share = float(np.count_nonzero(up)) / up.size
    chance = share * (1.0 - share)
    if chance == 0.0:
        return None
    brier = brier_influence(p, up, ts_ms)
    of_row = (brier.value / chance * (1.0 - 2.0 * share) * (up - share) - brier.of_row) / chance
    return Influence(1.0 - brier.value / chance, of_row, ts_ms)


def share_below(sorted_sample: Floats, score: Floats) -> Floats:
    """Share of the sample below each score, ties half."""
    below = np.searchsorted(sorted_sample, score, side="left")
    not_above = np.searchsorted(sorted_sample, score, side="right")
    return np.asarray((below + not_above) / (2.0 * sorted_sample.size), dtype=np.float64)


def student_quantile(level: float, freedom: float) -> float:
    """A quantile of Student's t (Cornish–Fisher; Abramowitz & Stegun 26.7.5); with 5 degrees
    of freedom and more it is good to three digits."""
    z, v = _NORMAL.inv_cdf(level), freedom
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / v + g2 / v**2 + g3 / v**3 + g4 / v**4
