"""A signal whose skill is known, and what analysis would export of it look by look.

The market is that of the domain notes (§4, §5): a score with a given autocorrelation a second, a
return that it drives, and a label that looks a horizon ahead; so the AUC is known
(½ + (2/π)·asin(ρ/√2)) and labels overlap as real ones do. Values and bounds are those of
`signalcanary_workloads.analysis`; this is the only module of the operator that loads it.

All rows belong to the slice that is judged, which is as many as a slice can have. Lags, counts and
tails are no statistics of the signal; they are held at what is healthy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from signalcanary.api import Condition, SignalCanarySpec
from signalcanary_workloads.analysis.along import (
    Windows,
    auc_along,
    bounds_along,
    brier_along,
    calibration_error_along,
)
from signalcanary_workloads.analysis.anytime import Reference, judge_rows
from signalcanary_workloads.analysis.calibrate import FitFailure, fit_platt
from signalcanary_workloads.analysis.confidence import Bounds
from signalcanary_workloads.analysis.engine import WARMED_SHARE
from signalcanary_workloads.analysis.rows import Regime

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_CHUNK: Final = 64
_ACTIVE_COLUMN: Final = 0


@dataclass(frozen=True)
class Decay:
    """What goes wrong.

    Attributes:
        after_hours: from the first stage's beginning on.
        auc: of the score from then on; below 0.5 it predicts the wrong way.
        calibration_error: of p from then on: too high by as much in log-odds.
    """

    name: str
    auc: float | None = None
    calibration_error: float | None = None
    after_hours: float = 0.0


@dataclass(frozen=True)
class Market:
    """A signal and how it is looked at.

    Attributes:
        auc: of the healthy score.
        ar: autocorrelation of the score, a second.
        horizon_seconds: of the label.
        hours: simulated from the first stage's beginning on.
        look_seconds: between two looks.
        is_fitted: p comes from Platt fits, as in production, and strays with them; else it is the
            true probability of a rise.
    """

    auc: float = 0.58
    ar: float = 0.9
    horizon_seconds: int = 10
    hours: float = 48.0
    look_seconds: int = 60
    is_fitted: bool = False
    decay: Decay | None = None


@dataclass(frozen=True, eq=False)
class Path:
    """What is exported of one symbol, look by look; arrays over the looks.

    Attributes:
        values: by metric; NaN where there is none.
        samples: by metric, the rows behind the value.
        bounds: by metric, arrays of shape (levels, looks).
    """

    values: dict[str, Floats]
    samples: dict[str, npt.NDArray[np.int64]]
    bounds: dict[str, Bounds]

    @property
    def looks(self) -> int:
        return next(iter(self.values.values())).size


def draw_path(rng: np.random.Generator, market: Market, spec: SignalCanarySpec) -> Path:
    """Draw one symbol's history, and look at it from the first forward prediction on."""
    train, test, refit = (
        round(window.total_seconds())
        for window in (
            spec.signal.calibration.train,
            spec.signal.calibration.test,
            spec.signal.calibration.refit,
        )
    )
    horizon, step = market.horizon_seconds, market.look_seconds
    begin = train + horizon + 1  # the row after the first fit
    looks = 2 + math.ceil((warm_seconds(spec, horizon) + market.hours * 3_600) / step)
    rows = begin + looks * step + 1
    onset = begin + onset_look(spec, market) * step
    drawn = draw_rows(rng, market, rows, onset)
    score, up, p = drawn.score, drawn.up, drawn.p
    active = np.full(rows, Regime.ACTIVE, np.int8)
    # One regime's scores are all scores: no reference of its own is needed.
    none = np.full(rows, Regime.UNKNOWN, np.int8)
    rank = np.empty((rows, 2))
    for start in range(begin, rows, refit):
        known = slice(max(0, start - horizon - train), start - horizon)
        served = slice(start, start + refit)
        rank[served] = Reference.of(score[known], none[known]).rank(score[served], none[served])
        if market.is_fitted:
            fit = fit_platt(score[known], up[known])
            if not isinstance(fit, FitFailure):
                p[served] = fit.predict(score[served])
    if market.decay is not None and market.decay.calibration_error is not None:
        by = log_odds_shift(market.auc, market.decay.calibration_error)
        p[onset:] = _shifted(p[onset:], by)
    forward = slice(begin, rows)
    score, up, p, rank = score[forward], up[forward], p[forward], rank[forward]
    ts_ms = np.arange(begin, rows, dtype=np.int64) * 1_000
    table = judge_rows(ts_ms, rank, p, up, active[forward])
    at = np.arange(1, looks + 1, dtype=np.int64) * step  # event time of the newest row
    known_rows = np.maximum(at - horizon + 1, 0)
    windows = Windows(np.maximum(known_rows - test, 0), known_rows)
    is_warm = np.minimum(known_rows, test) >= WARMED_SHARE * test
    bounds = bounds_along(ts_ms, table, np.maximum(known_rows, 1), horizon * 1_000, _ACTIVE_COLUMN)
    values: dict[str, Floats] = {}
    for condition in spec.rollback.conditions:
        values[condition.metric] = np.where(
            is_warm, _figure(condition, score, up, p, windows, train), np.nan
        )
    of_metric = {m: b for m in values if (b := bounds.get(_figure_name(m))) is not None}
    return Path(values, dict.fromkeys(values, windows.end - windows.start), of_metric)


def warm_seconds(spec: SignalCanarySpec, horizon_seconds: int) -> float:
    """From the first forward prediction to the first value."""
    test = spec.signal.calibration.test.total_seconds()
    return WARMED_SHARE * test + horizon_seconds


def first_judged_look(spec: SignalCanarySpec, market: Market) -> int:
    """Place of the first look with a value, from 1; the first stage begins at it."""
    rows = math.ceil(WARMED_SHARE * spec.signal.calibration.test.total_seconds())
    return math.ceil((rows + market.horizon_seconds - 1) / market.look_seconds)


def onset_look(spec: SignalCanarySpec, market: Market) -> int:
    """Place of the look, from 1, at which the decay begins; without one, the first judged."""
    after = 0.0 if market.decay is None else market.decay.after_hours
    return first_judged_look(spec, market) + round(after * 3_600 / market.look_seconds)


def _figure_name(metric: str) -> str:
    return "auc" if metric.startswith("slice_auc_") else metric


def _figure(
    condition: Condition, score: Floats, up: Bools, p: Floats, windows: Windows, train: int
) -> Floats:
    name = _figure_name(condition.metric)
    if name == "auc":
        return auc_along(score, up, windows)
    if name == "platt_ece":
        return calibration_error_along(p, up, windows)
    if name == "platt_brier":
        return brier_along(p, up, windows)
    looks = windows.end.size
    if name == "platt_train_samples":
        return np.full(looks, float(train))
    if name == "platt_test_samples":
        return (windows.end - windows.start).astype(np.float64)
    return np.zeros(looks)


@dataclass(frozen=True, eq=False)
class Rows:
    """One row a second.

    Attributes:
        price: of the rows and of the horizon after them.
        p: the true probability of a rise, for the healthy score.
    """

    score: Floats
    up: Bools
    p: Floats
    price: Floats


def draw_rows(rng: np.random.Generator, market: Market, rows: int, onset: int) -> Rows:
    """A score and its labels; a decay of the AUC begins at the row `onset`."""
    ar, horizon, decay = market.ar, market.horizon_seconds, market.decay
    score = autoregress(rng.standard_normal(rows + horizon), ar)
    drift = np.full(rows + horizon, drift_of(market.auc, ar, horizon))
    if decay is not None and decay.auc is not None:
        drift[onset:] = drift_of(decay.auc, ar, horizon)
    moves = drift * score + rng.standard_normal(rows + horizon)
    price = np.concatenate(([0.0], np.cumsum(moves)))
    up = price[horizon : horizon + rows] > price[:rows]
    score = score[:rows]
    return Rows(score, up, probability_of(score, market.auc), price)


def autoregress(noise: Floats, ar: float) -> Floats:
    """x_t = ar·x_{t−1} + √(1−ar²)·noise_t, started in its stationary distribution.

    In chunks: within one, a matrix; between them, a sum.
    """
    size = noise.size
    padded = np.zeros(-(-size // _CHUNK) * _CHUNK)
    padded[:size] = noise * math.sqrt(1.0 - ar**2)
    padded[0] = noise[0]
    powers = ar ** np.arange(_CHUNK + 1)
    lags = np.subtract.outer(np.arange(_CHUNK), np.arange(_CHUNK))
    within = padded.reshape(-1, _CHUNK) @ np.where(lags >= 0, powers[np.abs(lags)], 0.0).T
    carried = 0.0
    carry = powers[1:]
    for row in within:
        row += carried * carry
        carried = float(row[-1])
    return np.asarray(within.ravel()[:size])


def correlation_of(auc: float) -> float:
    """Of score and return over the horizon; AUC = ½ + (2/π)·asin(ρ/√2)."""
    return math.sqrt(2.0) * math.sin((auc - 0.5) * math.pi / 2.0)


def drift_of(auc: float, ar: float, horizon: int) -> float:
    """How much the score moves the price a second, for this AUC at the horizon."""
    rho = correlation_of(auc)
    lags = np.arange(-(horizon - 1), horizon)
    spread = float(((horizon - np.abs(lags)) * ar ** np.abs(lags)).sum())
    reach = float((ar ** np.arange(horizon)).sum())
    left = reach**2 - rho**2 * spread
    if left <= 0.0:
        raise ValueError(f"no score with an autocorrelation of {ar} has an AUC of {auc}")
    return math.copysign(math.sqrt(rho**2 * horizon / left), rho)


_GRID: Final = np.linspace(-9.0, 9.0, 36_001)


@lru_cache(maxsize=1)
def _normal_cdf() -> Floats:
    return np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in _GRID])


def probability_of(score: Floats, auc: float) -> Floats:
    """The true p(up) of a standard normal score: Φ(ρs/√(1−ρ²)), to 1e-8."""
    rho = correlation_of(auc)
    return np.interp(rho * score / math.sqrt(1.0 - rho**2), _GRID, _normal_cdf())


def _shifted(p: Floats, by: float) -> Floats:
    odds = p / (1.0 - p) * math.exp(by)
    return np.asarray(odds / (1.0 + odds))


@lru_cache(maxsize=32)
def log_odds_shift(auc: float, calibration_error: float) -> float:
    """By how much p must be too high in log-odds to be wrong by this on average."""
    weights = np.diff(_normal_cdf())
    p = probability_of((_GRID[1:] + _GRID[:-1]) / 2.0, auc)
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2.0
        error = float(weights @ np.abs(_shifted(p, middle) - p))
        low, high = (middle, high) if error < calibration_error else (low, middle)
    return high
