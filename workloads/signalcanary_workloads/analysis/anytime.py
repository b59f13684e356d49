"""Anytime-valid bounds of what a rollout is judged on: AUC by slice, calibration error, Brier.

Each figure is brought into the form that `confidence.MovingMeans` needs, a mean of one number
a labelled row, computed from what was known before the row:

- **AUC**: F is the distribution of the scores in the training window. A row counts F(f) if the
  mid rose and 1 − F(f) if it fell; twice that less one half has the AUC as its mean, for as many
  rises as falls (two of three would pull it towards one half by a tenth). It is the Mann–Whitney
  statistic against a sample that was fixed beforehand (H. Mann and D. Whitney, Annals of
  Mathematical Statistics 18, 1947).
- **Calibration error**: for any signs that depend on p alone, |E[sign·(y − p)]| is at most the
  error, without the upward bias of the binned estimate. Two are watched: all signs alike (p is
  too high or too low) and turned at one half (p is too bold or too timid). From above, the
  binned estimate plus a margin serves, as its bias only makes it cautious.
- **Brier score**: (p − y)², as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .confidence import LEVELS, MovingMeans
from .critical import (
    AUC_ROW_VARIANCE,
    BRIER_ROW_VARIANCE,
    RESIDUAL_ROW_VARIANCE,
    SIGNED_SHARES,
    block_length_ms,
    rows_worth_one,
)
from .evidence import share_below
from .rows import Bools, Codes, Floats, Ints, Regime
from .score import ECE_BINS, Slice, slice_members

MIN_REFERENCE: Final = 100
"""Fewer training rows of a regime than this do not tell its scores apart from all scores."""
_SLICES: Final = tuple(Slice)
BRIER: Final = len(_SLICES)
LARGE: Final = BRIER + 1
SLOPE: Final = LARGE + 1
BIN: Final = SLOPE + 1
_COLUMNS: Final = BIN + ECE_BINS
_REGIME_OF: Final = {Slice.ACTIVE: Regime.ACTIVE, Slice.QUIET: Regime.QUIET}


@dataclass(frozen=True)
class Anytime:
    """Bounds of one figure at one level; ∓inf where nothing can be said yet.

    Attributes:
        lower, upper: the sharpest of all windows: what the figure is *now*, at least or at most.
        whole_lower, whole_upper: what it has been over the whole span.
    """

    level: float
    lower: float
    upper: float
    whole_lower: float
    whole_upper: float


UNKNOWN: Final = tuple(Anytime(level, -math.inf, math.inf, -math.inf, math.inf) for level in LEVELS)
"""Bounds of a figure that nothing can be said of."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The training window's scores, sorted: all of them, and those of each regime."""

    every: Floats
    of_regime: dict[int, Floats]

    @classmethod
    def of(cls, f: Floats, regime: Codes) -> Reference:
        """From the rows of a fit."""
        parts = {int(r): np.sort(f[regime == r]) for r in _REGIME_OF.values()}
        return cls(np.sort(f), {r: p for r, p in parts.items() if p.size >= MIN_REFERENCE})

    def rank(self, f: Floats, regime: Codes) -> Floats:
        """Share below each score, of all and of its regime; shape (rows, 2), NaN as f is."""
        ranks = np.empty((f.size, 2))
        ranks[:, 0] = ranks[:, 1] = share_below(self.every, f)
        for code, sample in self.of_regime.items():
            of_code = regime == code
            ranks[of_code, 1] = share_below(sample, f[of_code])
        ranks[np.isnan(f)] = np.nan
        return ranks

    def export_state(self) -> dict[str, Any]:
        """The samples, as they are."""
        return {"every": self.every, "of_regime": self.of_regime}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Reference:
        """From an exported state."""
        return cls(state["every"], state["of_regime"])


def judge_rows(ts_ms: Ints, rank: Floats, p: Floats, up: Bools, regime: Codes) -> Floats:
    """What each labelled row says of each figure; shape (rows, columns), NaN for nothing.

    Args:
        rank: as `Reference.rank` gave it when the row was scored, shape (rows, 2).
    """
    values = np.full((ts_ms.size, _COLUMNS), np.nan)
    signed = np.where(up[:, None], rank, 1.0 - rank)
    for column, which in enumerate(_SLICES):
        member = slice_members(which, ts_ms, regime)
        values[member, column] = 2.0 * signed[member, int(which in _REGIME_OF)] - 0.5
    residual = up - p
    values[:, BRIER] = residual**2
    values[:, LARGE] = residual
    values[:, SLOPE] = np.where(p >= 0.5, residual, -residual)
    values[:, BIN:] = 0.0
    bins = np.minimum((p * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    values[np.arange(bins.size), BIN + bins] = residual
    return values


def prior_variance(horizon_ms: int) -> Floats:
    """Long-run variance of a row before any was seen; shape (columns,)."""
    variance = np.full(_COLUMNS, RESIDUAL_ROW_VARIANCE)
    variance[: len(_SLICES)] = AUC_ROW_VARIANCE
    variance[BRIER] = BRIER_ROW_VARIANCE
    return variance * rows_worth_one(horizon_ms)


class AnytimeEvidence:
    """The bounds of one symbol's figures at one horizon."""

    def __init__(self, horizon_ms: int) -> None:
        self._means = MovingMeans(_COLUMNS, block_length_ms(horizon_ms), prior_variance(horizon_ms))

    def add(self, ts_ms: Ints, values: Floats) -> None:
        """Take in labelled rows that were scored forward, in the order of their time.

        Args:
            values: as `judge_rows` gives them, or the differences of two such tables.
        """
        self._means.add(ts_ms, values)

    def bounds(self) -> dict[str, tuple[Anytime, ...]]:
        """By core metric, one a level; a figure that nothing can be said of is left out."""
        found = self.difference_bounds()
        signed = self._means.bounds(np.array(LEVELS) / SIGNED_SHARES, (LARGE, SLOPE))
        if math.isfinite(signed.whole_lower[0, 0]):
            binned = float(np.abs(self._means.means()[BIN:]).sum())
            found["platt_ece"] = tuple(
                Anytime(
                    level,
                    _least_size(signed.lower[i], signed.upper[i]),
                    binned + _margin(signed.whole_lower[i], signed.whole_upper[i]),
                    _least_size(signed.whole_lower[i], signed.whole_upper[i]),
                    binned + _margin(signed.whole_lower[i], signed.whole_upper[i]),
                )
                for i, level in enumerate(LEVELS)
            )
        return found

    def difference_bounds(self) -> dict[str, tuple[Anytime, ...]]:
        """The same of the figures that are means, and so have differences that are."""
        plain = self._means.bounds(np.array(LEVELS), range(BRIER + 1))
        names = [*(f"slice_auc_{which}" for which in _SLICES), "platt_brier"]
        return {
            name: tuple(
                Anytime(
                    level,
                    float(plain.lower[i, column]),
                    float(plain.upper[i, column]),
                    float(plain.whole_lower[i, column]),
                    float(plain.whole_upper[i, column]),
                )
                for i, level in enumerate(LEVELS)
            )
            for column, name in enumerate(names)
            if math.isfinite(plain.whole_lower[0, column])
        }

    def export_state(self) -> dict[str, Any]:
        """All that the bounds depend on."""
        return self._means.export_state()

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        self._means.import_state(state)


def _least_size(lower: Floats, upper: Floats) -> float:
    """How far from zero the intervals' values are at least."""
    return float(max(0.0, lower.max(), -upper.min()))


def _margin(lower: Floats, upper: Floats) -> float:
    """Half the width of the widest interval."""
    return float((upper - lower).max()) / 2.0
