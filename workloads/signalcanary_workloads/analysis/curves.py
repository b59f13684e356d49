"""The curves behind two of the judged figures: the reliability diagram, and the ROC by slice.

Both are of a bounded size however many rows there are: ten bins of p, those of the judged
calibration error, and the true-positive ratio at nineteen false-positive ratios a slice. Pure:
rows in, points out.

**How sure a bin is.** The share of rises among a bin's rows has a Wilson interval (E. Wilson,
JASA 22, 1927), which holds near 0 and 1 too, on *effective* rows: rows of one bin lie side by
side in time and share most of their label's future. How many rows are worth one independent row
is read off block sums, as with every figure (`evidence`). Where there are too few blocks for
that, or all rows of the bin came out alike, every block of five horizons that has a row counts
as one row: labels that far apart have nothing in common, so there are at least as many.

**How sure a ROC curve is** says its area, whose interval is exported beside it
(`signal_auc_ratio`). The points themselves come without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from statistics import NormalDist
from typing import Final

import numpy as np

from .calibration_error import Binning, bin_rows
from .evidence import (
    BLOCKS_PER_HORIZON,
    LEVEL,
    Influence,
    choose_block_ms,
    standard_error,
    student_quantile,
)
from .rows import Bools, Floats, Ints
from .score import ECE_BINS, MIN_ROWS

FALSE_POSITIVES: Final = tuple(step / 20 for step in range(1, 20))
"""False-positive ratios at which a ROC curve is given; it ends in (0, 0) and (1, 1)."""
_TAIL: Final = (1.0 + LEVEL) / 2.0


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose probability lies in one bin.

    Attributes:
        low, high: edges of the bin; it is closed below, and the last one above too.
        predicted: mean probability.
        observed: share of rows whose mid rose.
        samples: rows.
        effective_samples: independent rows that would leave `observed` as unsure.
        lower, upper: 95 % interval of the true share, for one look.
    """

    low: float
    high: float
    predicted: float
    observed: float
    samples: int
    effective_samples: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Curves:
    """The curves of one horizon.

    Attributes:
        reliability: of the bins that have rows, by rising probability.
        roc: by slice, the true-positive ratio at each of `FALSE_POSITIVES`.
    """

    reliability: tuple[ReliabilityBin, ...] = ()
    roc: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def measure_reliability(
    p: Floats, up: Bools, ts_ms: Ints, horizon_ms: int
) -> tuple[ReliabilityBin, ...]:
    """The bins of the reliability diagram that have rows; they explain `platt_ece`."""
    bins = bin_rows(p, Binning.EQUAL_WIDTH)
    found = []
    for index in np.unique(bins).tolist():
        inside = bins == index
        rose, times = up[inside], ts_ms[inside]
        observed = float(np.count_nonzero(rose)) / rose.size
        effective, reach = _effective(rose, observed, times, horizon_ms)
        lower, upper = wilson(observed, effective, reach)
        found.append(
            ReliabilityBin(
                index / ECE_BINS,
                (index + 1) / ECE_BINS,
                float(p[inside].mean()),
                observed,
                int(rose.size),
                effective,
                lower,
                upper,
            )
        )
    return tuple(found)


def _effective(rose: Bools, observed: float, ts_ms: Ints, horizon_ms: int) -> tuple[float, float]:
    """Effective rows of a bin, and how many standard errors its interval reaches."""
    influence = Influence(observed, rose.astype(np.float64) - observed, ts_ms)
    if 0.0 < observed < 1.0:
        block_ms = choose_block_ms(influence.of_row, ts_ms, horizon_ms)
        error = standard_error(influence, block_ms)
        if error is not None:
            return error.effective_samples, student_quantile(_TAIL, error.freedom)
    blocks = np.unique(ts_ms // (BLOCKS_PER_HORIZON * horizon_ms)).size
    return float(blocks), NormalDist().inv_cdf(_TAIL)


def wilson(share: float, samples: float, reach: float) -> tuple[float, float]:
    """Wilson's interval of a share.

    Args:
        samples: independent rows, more than 0; need not be whole.
        reach: in standard errors, 1.96 for 95 %.
    """
    squared = reach * reach / samples
    middle = (share + squared / 2.0) / (1.0 + squared)
    half = reach * sqrt(share * (1.0 - share) / samples + squared / (4.0 * samples))
    half /= 1.0 + squared
    return max(0.0, middle - half), min(1.0, middle + half)


def measure_roc(score: Floats, up: Bools) -> tuple[float, ...] | None:
    """The true-positive ratio at each of `FALSE_POSITIVES`; None where there is no AUC.

    Between two thresholds, and where scores are tied, the curve is a straight line; where it
    rises at one false-positive ratio, the point is the top.
    """
    n = int(up.size)
    n_up = int(np.count_nonzero(up))
    if n < MIN_ROWS or n_up in (0, n):
        return None
    order = np.argsort(-score, kind="stable")
    falling, rose = score[order], up[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(falling)), n - 1)
    true = np.cumsum(rose)[last_of_ties]
    false = last_of_ties + 1 - true
    x = np.concatenate(([0.0], false / (n - n_up)))
    y = np.concatenate(([0.0], true / n_up))
    return tuple(np.interp(FALSE_POSITIVES, x, y).tolist())
