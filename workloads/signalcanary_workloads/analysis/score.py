"""How good forward predictions are: ECE, Brier score and the area under the ROC curve.

A figure that its rows cannot support is not computed at all: a slice with one class has no
AUC, and 0.5 in its place would read as "the signal is worthless".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from .rows import Bools, Codes, Floats, Ints, Regime

ECE_BINS: Final = 10
MIN_ROWS: Final = 100
"""Fewer labelled rows than this support no figure."""
_HOUR_MS: Final = 3_600_000


class Slice(StrEnum):
    """Parts of the day and of the market; a row lies in one session and at most one regime."""

    ACTIVE = "active_period"
    QUIET = "quiet_period"
    TOKYO = "tokyo_session"
    LONDON = "london_session"
    NY = "ny_session"


class Reason(StrEnum):
    """Why a value is not exported."""

    WARMING = "warming"
    TOO_FEW_ROWS = "too_few_rows"
    ONE_CLASS = "one_class"
    NO_CALIBRATION = "no_calibration"
    READ_ERROR = "read_error"
    CATCHING_UP = "catching_up"


_SESSIONS: Final = {Slice.TOKYO: 0, Slice.LONDON: 1, Slice.NY: 2}
_REGIMES: Final = {Slice.ACTIVE: Regime.ACTIVE, Slice.QUIET: Regime.QUIET}


@dataclass(frozen=True)
class Value:
    """One figure with its evidence: a value, or the reason why there is none."""

    value: float | None
    samples: int
    reason: Reason | None = None


def slice_members(which: Slice, ts_ms: Ints, regime: Codes) -> Bools:
    """Rows of a slice: by their regime, or by UTC hour (0–8, 8–16, 16–24)."""
    if which in _REGIMES:
        return np.equal(regime, _REGIMES[which])
    return np.equal((ts_ms // _HOUR_MS) % 24 // 8, _SESSIONS[which])


def expected_calibration_error(p: Floats, up: Bools) -> float:
    """Σ n_b/n·|ȳ_b − p̄_b| over 10 equal-width bins of p (Guo et al., ICML 2017).

    Bins are closed below, [b/10, (b+1)/10), and the last one also holds p = 1.
    """
    edges = np.arange(1, ECE_BINS) / ECE_BINS
    bins = np.searchsorted(edges, p, side="right")
    sum_p = np.bincount(bins, weights=p, minlength=ECE_BINS)
    sum_y = np.bincount(bins, weights=up.astype(np.float64), minlength=ECE_BINS)
    return float(np.abs(sum_y - sum_p).sum() / p.size)


def brier_score(p: Floats, up: Bools) -> float:
    """mean (p − y)² (Brier 1950, the half that scikit-learn reports)."""
    return float(np.mean((p - up) ** 2))


def area_under_curve(score: Floats, up: Bools) -> float | None:
    """(concordant + ½·ties)/(n₊·n₋), by mid-ranks (Mann–Whitney); None with one class."""
    n_up = int(np.count_nonzero(up))
    n_down = int(up.size) - n_up
    if not n_up or not n_down:
        return None
    down = np.sort(score[~up])
    below = np.searchsorted(down, score[up], side="left")
    not_above = np.searchsorted(down, score[up], side="right")
    return float(int(below.sum()) + int(not_above.sum())) / (2.0 * n_up * n_down)


def evaluate_slice(score: Floats, up: Bools) -> Value:
    """The AUC of one slice, or why it has none."""
    samples = int(up.size)
    if samples < MIN_ROWS:
        return Value(None, samples, Reason.TOO_FEW_ROWS)
    auc = area_under_curve(score, up)
    return Value(auc, samples, Reason.ONE_CLASS if auc is None else None)
