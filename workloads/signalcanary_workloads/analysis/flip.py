"""Auto-flip: turn the sign of the volume delta around when it predicts the wrong way.

The decision uses training data only and takes effect with the next calibration; flipping on
the rows that are then scored would lift AUC above 0.5 by selection alone. It must be sure
(domain notes, §1): the dependence-aware 99 % upper bound of the AUC below 0.48, at least 2,000
effective rows, in two disjoint windows, and 6 h between flips. A training window shorter than
that can never show 2,000 effective rows; then the sign never flips, which is meant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .evidence import auc_influence, choose_block_ms, standard_error, student_quantile
from .rows import Bools, Floats, Ints

FLIP_BOUND: Final = 0.48
MIN_EFFECTIVE_ROWS: Final = 2_000.0
COOLDOWN_MS: Final = 6 * 3_600_000
MIN_BLOCKS: Final = 20
LEVEL: Final = 0.99
"""One-sided."""


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


def bound_auc(score: Floats, up: Bools, ts_ms: Ints, horizon_ms: int) -> AucBound | None:
    """Bound the AUC from above; None when there is one class or fewer than 20 blocks.

    Args:
        horizon_ms: of the labels, which says how far rows overlap.
    """
    influence = auc_influence(score, up, ts_ms)
    if influence is None:
        return None
    block_ms = choose_block_ms(influence.of_row, ts_ms, horizon_ms)
    error = standard_error(influence, block_ms, MIN_BLOCKS)
    if error is None:
        return None
    upper = influence.value + student_quantile(LEVEL, error.freedom) * error.size
    return AucBound(influence.value, upper, error.effective_samples)


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
