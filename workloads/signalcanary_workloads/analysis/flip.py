"""Auto-flip: turn the sign of the volume delta around when it predicts the wrong way.

The decision uses training data only and takes effect with the next calibration; flipping on
the rows that are then scored would lift AUC above 0.5 by selection alone. It must be sure
(domain notes, §1): the dependence-aware 99 % upper bound of the AUC below 0.48, at least 2,000
effective rows, in two disjoint windows, and 6 h between flips. A training window shorter than
that can never show 2,000 effective rows; then the sign never flips, which is meant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from .rows import Bools, Floats, Ints

FLIP_BOUND: Final = 0.48
MIN_EFFECTIVE_ROWS: Final = 2_000.0
COOLDOWN_MS: Final = 6 * 3_600_000
BLOCKS_PER_HORIZON: Final = 5
"""Blocks of 5 horizons: labels within one horizon overlap, so rows inside are dependent."""
MIN_BLOCKS: Final = 20
_Z99: Final = 2.3263478740408408


@dataclass(frozen=True)
class AucBound:
    """The AUC of a dependent series, its one-sided 99 % upper bound and effective rows."""

    auc: float
    upper: float
    effective_rows: float


@dataclass(frozen=True)
class Direction:
    """The sign in use and what speaks for turning it around."""

    sign: int = 1
    flips: int = 0
    last_flip_ms: int | None = None
    wrong_since_ms: int | None = None
    """Time of the first fit in the unbroken run of fits that found the sign wrong."""


def bound_auc(score: Floats, up: Bools, ts_ms: Ints, block_ms: int) -> AucBound | None:
    """Bound the AUC by sums of its influence function over blocks of time.

    The influence of a row is DeLong's structural component (DeLong et al., Biometrics 1988);
    its variance over non-overlapping blocks allows for dependence within a block (Carlstein,
    Annals of Statistics 1986). None when there is one class or fewer than 20 blocks.
    """
    n = int(up.size)
    n_up = int(np.count_nonzero(up))
    if n_up in (0, n):
        return None
    ups, downs = np.sort(score[up]), np.sort(score[~up])
    influence = np.empty(n)
    influence[up] = _share_below(downs, score[up]) * n / n_up
    influence[~up] = (1.0 - _share_below(ups, score[~up])) * n / (n - n_up)
    auc = float(influence[up].sum()) / n
    influence[up] -= auc * n / n_up
    influence[~up] -= auc * n / (n - n_up)
    block = ts_ms // block_ms
    starts = np.flatnonzero(np.diff(block, prepend=block[0] - 1))
    if starts.size < MIN_BLOCKS:
        return None
    sums = np.add.reduceat(influence, starts)
    blocks = int(starts.size)
    spread = float(sums @ sums) * blocks / (blocks - 1)
    error = math.sqrt(spread) / n
    independent = float(influence @ influence)
    effective = n if spread <= independent else n * independent / spread
    return AucBound(auc, auc + _student_99(blocks - 1) * error, effective)


def decide_direction(
    now: Direction, bound: AucBound | None, fit_ms: int, apart_ms: int
) -> Direction:
    """The direction after a fit at `fit_ms`.

    Args:
        bound: of the volume delta with the present sign, on the training window.
        apart_ms: fits this far apart have training windows with no row and no label in common.
    """
    wrong = (
        bound is not None
        and bound.upper < FLIP_BOUND
        and bound.effective_rows >= MIN_EFFECTIVE_ROWS
    )
    if not wrong:
        return replace(now, wrong_since_ms=None)
    since = fit_ms if now.wrong_since_ms is None else now.wrong_since_ms
    cooling = now.last_flip_ms is not None and fit_ms - now.last_flip_ms < COOLDOWN_MS
    if cooling or fit_ms - since < apart_ms:
        return replace(now, wrong_since_ms=since)
    return Direction(-now.sign, now.flips + 1, fit_ms, None)


def _share_below(reference: Floats, score: Floats) -> Floats:
    """Share of the sorted reference below each score, ties half."""
    below = np.searchsorted(reference, score, side="left")
    not_above = np.searchsorted(reference, score, side="right")
    return np.asarray((below + not_above) / (2.0 * reference.size), dtype=np.float64)


def _student_99(freedom: int) -> float:
    """The 99 % quantile of Student's t (Cornish–Fisher; Abramowitz & Stegun 26.7.5)."""
    z, v = _Z99, float(freedom)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + g1 / v + g2 / v**2
