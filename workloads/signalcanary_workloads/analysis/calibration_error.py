"""How far probabilities are off: the binned calibration error, what chance alone would show, and
an interval for the true one.

ECE = Σ_b |d_b| with d_b the sum of y − p over the rows of bin b, divided by all rows (Guo et al.,
ICML 2017). Chance makes every |d_b| positive, so a perfectly calibrated model shows an error too,
the larger the fewer independent rows there are. Two things are said about it here:

- the **null**: the mean and 95 % quantile of ECE if every true d_b were 0;
- the **interval**: all sizes of a true error that do not make the measured one surprising: from
  that of which it is the 97.5 % quantile to that of which it is the 2.5 % quantile (J. Neyman
  1937, test inversion). That depends on how the error lies over the bins, so three are tried and
  the widest interval is taken: the measured proportions with what chance explains shrunk away
  (W. James and C. Stein, 4th Berkeley Symposium, 1961); p too high everywhere; p too bold. The
  sizes of which the measured error is the median give the debiased estimate, as their mean.

How the d_b stray together is drawn from their sums over blocks of time with normal multipliers
(R. Liu, Annals of Statistics 16, 1988), so dependence between rows and bins is in it. The draws
are the same each time: the same rows give the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np

from .evidence import (
    LEVEL,
    MANY_BLOCKS,
    Influence,
    choose_block_ms,
    standard_error,
    student_quantile,
    sum_blocks,
)
from .rows import Bools, Floats, Ints
from .score import ECE_BINS

_DRAWS: Final = 1_000
_DRAW_SEED: Final = 1_937
_HALVINGS: Final = 12
"""Steps of the search for a size: to a four-thousandth of its range."""
_NORMAL_REACH: Final = NormalDist().inv_cdf((1.0 + LEVEL) / 2.0)


class Binning(StrEnum):
    """How p is cut into bins."""

    EQUAL_WIDTH = "equal_width"
    EQUAL_MASS = "equal_mass"


@dataclass(frozen=True)
class CalibrationError:
    """The calibration error of forward predictions.

    Attributes:
        value: the binned estimate, biased upward.
        samples: rows.
        null_mean, null_q95: mean and 95 % quantile of `value` for perfect probabilities; None,
            as are all below, with too few blocks of time to tell.
        debiased: estimate of the true error.
        lower, upper: 95 % interval of the true error.
        effective_samples: independent rows that would leave `value` as unsure.
    """

    value: float
    samples: int
    null_mean: float | None = None
    null_q95: float | None = None
    debiased: float | None = None
    lower: float | None = None
    upper: float | None = None
    effective_samples: float | None = None


def bin_rows(p: Floats, binning: Binning) -> Ints:
    """The bin of each row, from 0. Equal p are in one bin, so that with many ties the bins of
    equal mass may be fewer than 10 and of unequal mass."""
    if binning is Binning.EQUAL_WIDTH:
        edges = np.arange(1, ECE_BINS) / ECE_BINS
    else:
        edges = np.unique(np.quantile(p, np.arange(1, ECE_BINS) / ECE_BINS))
    return np.searchsorted(edges, p, side="right").astype(np.int64)


def residuals_by_bin(p: Floats, up: Bools, bins: Ints) -> Floats:
    """y − p in the column of the row's bin, 0 elsewhere; shape (rows, 10)."""
    table = np.zeros((p.size, ECE_BINS))
    table[np.arange(p.size), bins] = up - p
    return table


def error_influence(p: Floats, up: Bools, ts_ms: Ints, binning: Binning) -> Influence:
    """The binned error with the influence of each row, good where it is not all chance: the
    row's residual, with the sign of its bin's."""
    bins = bin_rows(p, binning)
    gap = np.bincount(bins, weights=up - p, minlength=ECE_BINS) / p.size
    value = float(np.abs(gap).sum())
    return Influence(value, np.sign(gap)[bins] * (up - p) - value, ts_ms)


def measure_calibration(
    p: Floats, up: Bools, ts_ms: Ints, horizon_ms: int, binning: Binning
) -> CalibrationError:
    """The calibration error of at least one row, with all that can be said about it."""
    samples = int(p.size)
    bins = bin_rows(p, binning)
    table = residuals_by_bin(p, up, bins)
    gap = table.mean(axis=0)
    value = float(np.abs(gap).sum())
    rows_in = np.bincount(bins, minlength=ECE_BINS)
    # Within its bin a row strays about the bin's own mean: a bias is not spread.
    centred = table.copy()
    centred[np.arange(samples), bins] -= (gap * samples / np.maximum(rows_in, 1))[bins]
    alike = Influence(value, centred.sum(axis=1), ts_ms)
    block_ms = choose_block_ms(alike.of_row, ts_ms, horizon_ms)
    error = standard_error(alike, block_ms)
    if error is None:
        return CalibrationError(value, samples)
    blocks = sum_blocks(centred, ts_ms, block_ms)
    sums = blocks.sums * np.sqrt((blocks.freedom + 1.0) / blocks.freedom) / samples
    reach = student_quantile((1.0 + LEVEL) / 2.0, blocks.freedom) / _NORMAL_REACH
    is_there = rows_in > 0
    chance = reach * (_draw_multipliers()[:, : sums.shape[0]] @ sums[:, is_there])
    null = np.abs(chance).sum(axis=1)
    likely = _shrink(gap, (sums**2).sum(axis=0))[is_there]
    shapes = [likely, *_plain_shapes(p, bins, rows_in)]
    tail = (1.0 - LEVEL) / 2.0
    return CalibrationError(
        value,
        samples,
        float(null.mean()),
        float(np.quantile(null, LEVEL)),
        float(np.mean([_size_at(value, shape, chance, 0.5) for shape in shapes])),
        min(_size_at(value, shape, chance, tail) for shape in shapes),
        max(_size_at(value, shape, chance, 1.0 - tail) for shape in shapes),
        error.effective_samples,
    )


def _plain_shapes(p: Floats, bins: Ints, rows_in: Ints) -> tuple[Floats, Floats]:
    """p too high everywhere, and p too bold: higher above the median, lower below it."""
    share = rows_in[rows_in > 0] / p.size
    middle = int(np.median(bins))
    side = np.where(np.flatnonzero(rows_in) >= middle, 1.0, -1.0)
    return share, share * side


def _shrink(gap: Floats, variance: Floats) -> Floats:
    """The proportions of the true gaps, absolute values summing to one."""
    kept = np.where(variance < gap**2, gap - variance / np.where(gap == 0.0, 1.0, gap), 0.0)
    if not kept.any():
        kept = np.sqrt(variance)
    total = float(np.abs(kept).sum())
    return kept / total if total else np.full(gap.size, 1.0 / gap.size)


def _size_at(value: float, shape: Floats, chance: Floats, exceeded: float) -> float:
    """The size of a true error at which the measured one is exceeded with this chance; 0 if it
    is exceeded more often even without any."""

    def share_above(size: float) -> float:
        drawn = np.abs(size * shape + chance).sum(axis=1)
        return float(np.mean(drawn >= value))

    if share_above(0.0) >= exceeded:
        return 0.0
    low, high = 0.0, value + float(np.abs(chance).sum(axis=1).max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if share_above(middle) >= exceeded else (middle, high)
    return (low + high) / 2.0


@lru_cache(maxsize=1)
def _draw_multipliers() -> Floats:
    """Standard normal draws, half of them the other half's negatives; shape (draws, blocks)."""
    shape = (_DRAWS // 2, MANY_BLOCKS + 2)  # the first and the last block may be cut
    half = np.random.Generator(np.random.PCG64(_DRAW_SEED)).standard_normal(shape)
    return np.concatenate((half, -half))
