"""Do the 95 % intervals hold the truth in 95 % of cases? On a market whose truth is known.

Rows follow the law of the synthetic exchange (`exchange/oracle.py`): a flow with autocorrelation
φ moves the mid so that the score's AUC at the horizon is the one asked for, and p(up | score) is
known exactly. They go through the whole engine, prequential Platt fits included. The canary is
that score alone; the control fuses it with one that sees the flow through noise, so that the
difference of the two is known as well.

The suite takes few markets, and a bound that a right interval passes but for a chance of about
1e-6. `make intervals` takes 200 of six hours a row of the table, and prints it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import ndtr
from scipy.stats import binom

from signalcanary.contract import SignalConfig
from signalcanary_workloads.analysis.calibration_error import (
    Binning,
    bin_rows,
    residuals_by_bin,
)
from signalcanary_workloads.analysis.engine import Engine, EngineConfig
from signalcanary_workloads.analysis.evidence import auc_influence, estimate
from signalcanary_workloads.analysis.report import ALL_ROWS
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows, Regime
from signalcanary_workloads.exchange import oracle

SEEDS = int(os.environ.get("SIGNALCANARY_INTERVAL_SEEDS", "15"))
HOURS = float(os.environ.get("SIGNALCANARY_INTERVAL_HOURS", "2"))
MARKETS = int(os.environ.get("SIGNALCANARY_INTERVAL_MARKETS", "40"))
CASES = [(horizon, phi) for horizon in (10, 60) for phi in (0.8, 0.9, 0.97)]
AUC = 0.58
SEEN = 0.7
"""Correlation of the control's second feature with the flow."""
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
    auc_difference: bool
    error_difference: bool
    brier_difference: bool
    paired_gain: float
    """Standard error of the AUC over that of its difference to the control."""
    effective_samples: float
    standard_error: float


RIGHT = ("auc", "error", "equal_mass", "brier", "auc_difference", "brier_difference")
FIGURES = (*RIGHT[:4], *RIGHT[4:], "error_difference", "naive_auc")


def draw_market(seed: int, horizon: int, phi: float, rows: int):
    """Scores, mids and p(up | score) of each second."""
    rho = oracle.correlation_from_auc(AUC)
    beta = oracle.solve_beta(rho, phi, horizon)
    rng = np.random.default_rng([seed, horizon, round(100 * phi)])
    noise, surprise = rng.standard_normal((2, rows))
    later, _ = lfilter([np.sqrt(1 - phi * phi)], [1, -phi], noise[1:], zi=phi * noise[:1])
    flow = np.concatenate((noise[:1], later))
    moves = beta * flow + np.sqrt(1 - beta * beta) * surprise
    mid = 50_000 + np.concatenate(([0.0], np.cumsum(moves)[:-1]))
    return flow, mid, ndtr(rho * flow / np.sqrt(1 - rho * rho))


def true_error(p, q, binning: Binning = Binning.EQUAL_WIDTH) -> float:
    """The binned calibration error of p if y were replaced by its true probability."""
    return float(np.abs(residuals_by_bin(p, q, bin_rows(p, binning)).mean(axis=0)).sum())


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
    canary, control = (
        SignalConfig.model_validate(
            {
                "label": {"horizon": f"{horizon}s"},
                "calibration": {"train": f"{train}s", "test": f"{test}s", "refit": "1800s"},
                "cvd": {"autoFlip": False},
                "fusion": {"active": {"ofi": ofi, "cvd": 1 - ofi}},
            }
        )
        for ofi in (1.0, 0.5)
    )
    engine = Engine(replace(EngineConfig.from_signal(canary, control), reported_ms=()))
    noise = np.random.default_rng([seed, 7]).standard_normal(rows)
    seen = SEEN * score + np.sqrt(1 - SEEN**2) * noise
    engine.take_in(features, CvdRows(ts, 2 * order, seen, ones, ones))
    whole = engine.report()
    (report,) = whole.horizons
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
        found = report.calibration[binning]
        held[binning] = found.lower <= true_error(p, q, binning) <= found.upper
    other = engine._control.recent
    p_of = dict(zip(other.ts_ms.tolist(), other.p.tolist(), strict=True))
    p_other = np.array([p_of[t] for t in kept.ts_ms[chosen].tolist()])
    # The control's score correlates by √((1 + SEEN)/2) with the flow.
    rho = oracle.correlation_from_auc(AUC) * np.sqrt((1 + SEEN) / 2)
    differences = {
        "slice_auc_active_period": AUC - oracle.auc_from_correlation(rho),
        "platt_brier": np.mean((q - p) ** 2 - (q - p_other) ** 2),
        "platt_ece": true_error(p, q) - true_error(p_other, q),
    }
    differs = {
        name: whole.differences[name].lower <= truth <= whole.differences[name].upper
        for name, truth in differences.items()
    }
    return Trial(
        auc.lower <= AUC <= auc.upper,
        bool(abs(auc.value - AUC) <= naive),
        bool(held[Binning.EQUAL_WIDTH]),
        bool(held[Binning.EQUAL_MASS]),
        bool(brier.lower <= np.mean(q * (1 - q) + (q - p) ** 2) <= brier.upper),
        bool(differs["slice_auc_active_period"]),
        bool(differs["platt_ece"]),
        bool(differs["platt_brier"]),
        auc.error / whole.differences["slice_auc_active_period"].error,
        auc.effective_samples,
        auc.error,
    )


@cache
def trials(horizon: int, phi: float) -> tuple[Trial, ...]:
    return tuple(analyse(seed, horizon, phi) for seed in range(SEEDS))


def holds_auc(seed: int, horizon: int, phi: float) -> bool:
    """Does the AUC's interval hold the truth? Without an engine, so of many markets."""
    rows = int(3_600 * HOURS)
    score, mid, _ = draw_market(10_000 + seed, horizon, phi, rows + horizon)
    up = mid[horizon:] > mid[:-horizon]
    influence = auc_influence(score[:rows], up, START_MS + 1_000 * np.arange(rows, dtype=np.int64))
    found = estimate(influence, 1_000 * horizon, (0.0, 1.0))
    return bool(found.lower <= AUC <= found.upper)


@cache
def auc_share(horizon: int, phi: float) -> float:
    return float(np.mean([holds_auc(seed, horizon, phi) for seed in range(MARKETS)]))


def share(results, figure: str) -> float:
    return float(np.mean([getattr(trial, figure) for trial in results]))


def least(count: int) -> float:
    """The least share of hits that a right interval has, but for a chance of 1e-6."""
    return float(binom.ppf(SURELY, count, ALLOWED)) / count


def every():
    return [trial for case in CASES for trial in trials(*case)]


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("figure", RIGHT)
def test_the_intervals_hold_the_truth_as_often_as_they_say(figure):
    results = every()
    assert share(results, figure) >= least(len(results))


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(("horizon", "phi"), CASES)
def test_they_hold_it_in_each_market_alone(horizon, phi):
    results = trials(horizon, phi)
    for figure in RIGHT:
        assert share(results, figure) >= least(len(results)), figure


@pytest.mark.timeout(7_200)
def test_an_interval_of_independent_rows_would_not():
    results = every()
    assert share(results, "naive_auc") < least(len(results))


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(("horizon", "phi"), CASES)
def test_the_interval_of_the_auc_holds_on_many_markets(horizon, phi):
    assert auc_share(horizon, phi) >= least(MARKETS)


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
        "held the truth; Δ: against the control; naive: AUC, for independent rows; gain: standard",
        "error of the AUC over that of its Δ",
        "   h    φ    AUC    ECE by mass  Brier   ΔAUC ΔBrier   ΔECE  naive  n_eff se(AUC)  gain",
    ]
    for horizon, phi in CASES:
        results = trials(horizon, phi)
        shares = "  ".join(f"{share(results, figure):5.3f}" for figure in FIGURES)
        means = [
            float(np.mean([getattr(trial, name) for trial in results]))
            for name in ("effective_samples", "standard_error", "paired_gain")
        ]
        lines.append(
            f"{horizon:4} {phi:4.2f}  {shares}  {means[0]:5.0f}  {means[1]:.4f}  {means[2]:4.1f}"
        )
    lines.append(f"the AUC's interval alone, on {MARKETS} markets:")
    lines += [f"{horizon:4} {phi:4.2f}  {auc_share(horizon, phi):6.4f}" for horizon, phi in CASES]
    return "\n".join(lines)


if __name__ == "__main__":
    print(build_table())
