"""Do the 95 % intervals hold the truth in 95 % of cases? On a market whose truth is known.

Rows follow the law of the synthetic exchange (`exchange/oracle.py`): a flow with autocorrelation
φ moves the mid so that the score's AUC at the horizon is the one asked for, and p(up | score) is
known exactly. They go through the whole engine, prequential Platt fits included.

The suite takes few markets, and a bound that a right interval passes but for a chance of about
1e-6. `make intervals` takes 200 of six hours a row of the table, and prints it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from signalcanary.contract import SignalConfig
from signalcanary_workloads.analysis.calibration_error import (
    Binning,
    bin_rows,
    residuals_by_bin,
)
from signalcanary_workloads.analysis.engine import Engine, EngineConfig
from signalcanary_workloads.analysis.evidence import auc_influence
from signalcanary_workloads.analysis.report import ALL_ROWS
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows, Regime
from signalcanary_workloads.exchange import oracle

SEEDS = int(os.environ.get("SIGNALCANARY_INTERVAL_SEEDS", "15"))
HOURS = float(os.environ.get("SIGNALCANARY_INTERVAL_HOURS", "2"))
CASES = [(horizon, phi) for horizon in (10, 60) for phi in (0.8, 0.9, 0.97)]
AUC = 0.58
START_MS = 1_777_618_800_000
Z95 = 1.959964
SURELY = 1e-6
ALLOWED = 0.93
"""The least coverage that passes for 0.95: the method is good to large numbers of blocks."""


@dataclass(frozen=True)
class Trial:
    """Which intervals held the truth, and how wide they were."""

    auc: bool
    naive_auc: bool
    error: bool
    equal_mass: bool
    brier: bool
    below_null: bool
    effective_samples: float
    standard_error: float


FIGURES = ("auc", "naive_auc", "error", "equal_mass", "brier")


def draw_market(seed: int, horizon: int, phi: float, rows: int):
    """Scores, mids and p(up | score) of each second."""
    rho = oracle.correlation_from_auc(AUC)
    beta = oracle.solve_beta(rho, phi, horizon)
    rng = np.random.default_rng([seed, horizon, round(100 * phi)])
    noise, surprise = rng.standard_normal((2, rows))
    flow = np.empty(rows)
    flow[0] = noise[0]
    for i in range(1, rows):
        flow[i] = phi * flow[i - 1] + np.sqrt(1 - phi * phi) * noise[i]
    moves = beta * flow + np.sqrt(1 - beta * beta) * surprise
    mid = 50_000 + np.concatenate(([0.0], np.cumsum(moves)[:-1]))
    return flow, mid, ndtr(rho * flow / np.sqrt(1 - rho * rho))


def analyse(seed: int, horizon: int, phi: float) -> Trial:
    train, test = int(1_800 * HOURS / 2), int(3_600 * HOURS)
    rows = train + test + 2 * horizon + 60
    score, mid, chance = draw_market(seed, horizon, phi, rows)
    ts = START_MS + 1_000 * np.arange(rows, dtype=np.int64)
    order = np.arange(rows, dtype=np.int64)
    ones = np.ones(rows)
    regime = np.full(rows, Regime.ACTIVE, np.int8)
    nothing = np.zeros(rows, np.int64)
    features = FeatureRows(ts, 2 * order + 1, mid, score, regime, nothing, nothing)
    signal = SignalConfig.model_validate(
        {
            "label": {"horizon": f"{horizon}s"},
            "calibration": {"train": f"{train}s", "test": f"{test}s", "refit": "1800s"},
            "cvd": {"autoFlip": False},
        }
    )
    engine = Engine(replace(EngineConfig.from_signal(signal), reported_ms=()))
    engine.take_in(features, CvdRows(ts, 2 * order, score, ones, ones))
    (report,) = engine.report().horizons
    kept = engine.recent
    until = int(ts[-1]) - 1_000 * horizon
    chosen = (kept.ts_ms > until - 1_000 * test) & ~np.isnan(kept.p) & (kept.outcome <= 1)
    p, truth = kept.p[chosen], dict(zip(ts.tolist(), chance.tolist(), strict=True))
    q = np.array([truth[t] for t in kept.ts_ms[chosen].tolist()])
    assert report.test_samples == p.size

    auc, brier = report.auc[ALL_ROWS], report.brier
    influence = auc_influence(kept.f[chosen], kept.outcome[chosen] == 1, kept.ts_ms[chosen])
    naive = Z95 * influence.of_row.std() / np.sqrt(p.size)
    held = {}
    for binning in Binning:
        bins = bin_rows(p, binning)
        error = np.abs(residuals_by_bin(p, q, bins).mean(axis=0)).sum()
        found = report.calibration[binning]
        held[binning] = found.lower <= error <= found.upper
    found = report.calibration[Binning.EQUAL_WIDTH]
    return Trial(
        auc.lower <= AUC <= auc.upper,
        bool(abs(auc.value - AUC) <= naive),
        bool(held[Binning.EQUAL_WIDTH]),
        bool(held[Binning.EQUAL_MASS]),
        bool(brier.lower <= np.mean(q * (1 - q) + (q - p) ** 2) <= brier.upper),
        found.value <= found.null_q95,
        auc.effective_samples,
        auc.error,
    )


@cache
def trials(horizon: int, phi: float) -> tuple[Trial, ...]:
    return tuple(analyse(seed, horizon, phi) for seed in range(SEEDS))


def share(results, figure: str) -> float:
    return float(np.mean([getattr(trial, figure) for trial in results]))


def least(count: int) -> float:
    """The least share of hits that a right interval has, but for a chance of 1e-6."""
    return float(binom.ppf(SURELY, count, ALLOWED)) / count


def every():
    return [trial for case in CASES for trial in trials(*case)]


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("figure", ["auc", "error", "equal_mass", "brier"])
def test_the_intervals_hold_the_truth_as_often_as_they_say(figure):
    results = every()
    assert share(results, figure) >= least(len(results))


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(("horizon", "phi"), CASES)
def test_they_hold_it_in_each_market_alone(horizon, phi):
    results = trials(horizon, phi)
    for figure in ("auc", "error", "equal_mass", "brier"):
        assert share(results, figure) >= least(len(results)), figure


@pytest.mark.timeout(7_200)
def test_an_interval_of_independent_rows_would_not():
    results = every()
    assert share(results, "naive_auc") < least(len(results))


def test_the_score_has_the_auc_that_was_asked_for():
    hits = []
    for seed in range(100, 104):
        score, mid, chance = draw_market(seed, 10, 0.9, 60_000)
        up = mid[10:] > mid[:-10]
        influence = auc_influence(score[:-10], up, np.arange(up.size))
        hits.append(influence.value)
        assert up.mean() == pytest.approx(chance[:-10].mean(), abs=0.02)
    assert np.mean(hits) == pytest.approx(AUC, abs=0.008)


def build_table() -> str:
    """What was measured, for people."""
    lines = [
        f"{SEEDS} markets a row, test window {HOURS:g} h, AUC {AUC}: share of 95 % intervals that",
        "held the truth; naive: for independent rows; null: ECE below its 95 % null quantile",
        "   h    φ    AUC  naive    ECE  by mass  Brier   null  n_eff  se(AUC)",
    ]
    for horizon, phi in CASES:
        results = trials(horizon, phi)
        auc, naive, error, mass, brier, null = (
            share(results, figure) for figure in (*FIGURES, "below_null")
        )
        effective = np.mean([trial.effective_samples for trial in results])
        deviation = np.mean([trial.standard_error for trial in results])
        lines.append(
            f"{horizon:4} {phi:4.2f}  {auc:5.3f}  {naive:5.3f}  {error:5.3f}    {mass:5.3f}  "
            f"{brier:5.3f}  {null:5.3f}  {effective:5.0f}   {deviation:.4f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(build_table())
