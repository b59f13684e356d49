"""Platt scaling: p = σ(a·f + b), fitted by Newton's method on smoothed targets.

J. Platt, "Probabilistic outputs for support vector machines" (1999), with the numerically
robust algorithm of H.-T. Lin, C.-J. Lin and R. C. Weng, "A note on Platt's probabilistic
outputs for support vector machines", Machine Learning 68 (2007). The sign of a and b is ours:
they write 1/(1 + exp(Af + B)), so a = −A, b = −B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from .rows import Bools, Floats

MIN_FIT_ROWS: Final = 100
MAX_ITERATIONS: Final = 100
_MIN_STEP: Final = 1e-10
_RIDGE: Final = 1e-12
_ROUNDING: Final = 1e-13
"""Relative error of a summed loss: near the optimum a good step may seem to gain nothing."""
_GRADIENT_TOLERANCE: Final = 1e-11
"""On the gradient divided by the rows; Lin (2007) stops at 1e-5 of the undivided one."""


class FitFailure(StrEnum):
    """Why a training window gave no calibration."""

    TOO_FEW_ROWS = "too_few_rows"
    ONE_CLASS = "one_class"
    NO_CONVERGENCE = "no_convergence"


@dataclass(frozen=True)
class Platt:
    """p(up) = σ(slope·f + intercept)."""

    slope: float
    intercept: float

    def predict(self, f: Floats) -> Floats:
        """p(up) of each score, without overflow at either end."""
        return sigmoid(self.slope * f + self.intercept)


def sigmoid(x: Floats) -> Floats:
    """1/(1 + e^−x), computed so that the exponent is never positive."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def smoothed_targets(up: Bools) -> Floats:
    """Platt's targets (N₊+1)/(N₊+2) and 1/(N₋+2), which keep a finite optimum."""
    n_up = int(np.count_nonzero(up))
    n_down = int(up.size) - n_up
    return np.where(up, (n_up + 1.0) / (n_up + 2.0), 1.0 / (n_down + 2.0))


def fit_platt(f: Floats, up: Bools) -> Platt | FitFailure:
    """Fit on labelled rows, or say why not.

    Args:
        f: finite scores.
        up: their labels.
    """
    if f.size < MIN_FIT_ROWS:
        return FitFailure.TOO_FEW_ROWS
    n_up = int(np.count_nonzero(up))
    if n_up in (0, f.size):
        return FitFailure.ONE_CLASS
    # In units of its own size, so that the tolerance below means the same for every score.
    unit = math.sqrt(float(f @ f) / f.size) or 1.0
    start = math.log((n_up + 1.0) / (f.size - n_up + 1.0))
    scaled = _minimise(f / unit, smoothed_targets(up), start)
    if scaled is None:
        return FitFailure.NO_CONVERGENCE
    return Platt(scaled[0] / unit, scaled[1])


def _minimise(f: Floats, targets: Floats, intercept: float) -> tuple[float, float] | None:
    """Newton's method with backtracking (Lin 2007, appendix); None without convergence."""
    slope = 0.0
    loss = _loss(f, targets, slope, intercept)
    for _ in range(MAX_ITERATIONS):
        p = sigmoid(slope * f + intercept)
        residual = p - targets
        g_slope, g_intercept = float(residual @ f), float(residual.sum())
        if max(abs(g_slope), abs(g_intercept)) < _GRADIENT_TOLERANCE * f.size:
            return slope, intercept
        weight = p * (1.0 - p)
        h11 = float(weight @ (f * f)) + _RIDGE
        h22 = float(weight.sum()) + _RIDGE
        h21 = float(weight @ f)
        det = h11 * h22 - h21 * h21
        d_slope = -(h22 * g_slope - h21 * g_intercept) / det
        d_intercept = -(h11 * g_intercept - h21 * g_slope) / det
        descent = g_slope * d_slope + g_intercept * d_intercept
        step = 1.0
        while True:
            tried = slope + step * d_slope, intercept + step * d_intercept
            tried_loss = _loss(f, targets, *tried)
            if tried_loss <= loss + 1e-4 * step * descent + _ROUNDING * abs(loss):
                break
            step /= 2.0
            if step < _MIN_STEP:
                return None
        (slope, intercept), loss = tried, tried_loss
    return None


def _loss(f: Floats, targets: Floats, slope: float, intercept: float) -> float:
    """Cross-entropy, in the form of Lin (2007) that neither overflows nor cancels."""
    x = slope * f + intercept
    return float(np.sum(np.maximum(x, 0.0) - targets * x + np.log1p(np.exp(-np.abs(x)))))
