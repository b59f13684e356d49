"""The reliability diagram and the ROC curves, against scikit-learn, and how sure a bin is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom, binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score, roc_curve

sys.path.insert(0, str(Path(__file__).parent))

from test_coverage import START_MS, draw_market

from signalcanary.contract import ALL_ROWS
from signalcanary_workloads.analysis.curves import (
    FALSE_POSITIVES,
    measure_reliability,
    measure_roc,
    wilson,
)
from signalcanary_workloads.analysis.engine import Engine
from signalcanary_workloads.analysis.score import Slice, expected_calibration_error

SEEDS = 4 * int(os.environ.get("SIGNALCANARY_INTERVAL_SEEDS", "15"))
SURELY = 1e-6


def draw(seed: int, rows: int, spread: float, digits: int):
    """Scores with ties, their probabilities and labels."""
    rng = np.random.default_rng(seed)
    score = np.round(rng.normal(0, spread, rows), digits)
    p = expit(score)
    return score, p, rng.random(rows) < p, START_MS + 1_000 * np.arange(rows)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(100, 3_000),
    spread=st.sampled_from([0.2, 1.0, 3.0]),
    digits=st.sampled_from([0, 1, 6]),
)
def test_both_curves_are_those_of_scikit_learn(seed, rows, spread, digits):
    score, p, up, ts = draw(seed, rows, spread, digits)
    found = measure_reliability(p, up, ts, 10_000)
    share, mean = calibration_curve(up, p, n_bins=10, strategy="uniform")
    # scikit-learn closes its bins above, which only rows at an edge itself can tell.
    if not np.isin(p, np.arange(11) / 10).any():
        assert [one.observed for one in found] == pytest.approx(share.tolist(), abs=1e-9)
        assert [one.predicted for one in found] == pytest.approx(mean.tolist(), abs=1e-9)
    points = measure_roc(score, up)
    if up.all() or not up.any():
        assert points is None
        return
    false, true, _ = roc_curve(up, score, drop_intermediate=False)
    assert points == pytest.approx(np.interp(FALSE_POSITIVES, false, true).tolist(), abs=1e-9)


def test_the_bins_explain_the_calibration_error_and_the_curve_the_area():
    score, p, up, ts = draw(1, 20_000, 0.5, 6)
    found = measure_reliability(p, up, ts, 10_000)
    assert sum(one.samples for one in found) == p.size
    error = sum(one.samples * abs(one.observed - one.predicted) for one in found) / p.size
    assert error == pytest.approx(expected_calibration_error(p, up), abs=1e-12)
    area = np.trapezoid([0.0, *measure_roc(score, up), 1.0], [0.0, *FALSE_POSITIVES, 1.0])
    assert area == pytest.approx(roc_auc_score(up, score), abs=2e-3)


def test_where_there_is_no_area_there_is_no_curve():
    score = np.arange(200.0)
    assert measure_roc(score, np.ones(200, bool)) is None
    assert measure_roc(score[:99], np.arange(99) % 2 == 0) is None
    # All scores alike tell nothing apart: the diagonal.
    assert measure_roc(np.zeros(200), np.arange(200) % 2 == 0) == pytest.approx(FALSE_POSITIVES)


@pytest.mark.parametrize(("rose", "rows"), [(0, 7), (3, 9), (41, 100), (500, 500)])
def test_the_interval_of_independent_rows_is_scipy_s(rose, rows):
    want = binomtest(rose, rows).proportion_ci(0.95, "wilson")
    assert wilson(rose / rows, rows, 1.959963984540054) == pytest.approx(tuple(want), abs=1e-9)


def test_rows_that_are_all_alike_count_once_a_block():
    # Ten minutes without a fall at a horizon of 10 s: twelve blocks, not 600 rows.
    ts = START_MS + 1_000 * np.arange(600)
    (one,) = measure_reliability(np.full(600, 0.55), np.ones(600, bool), ts, 10_000)
    assert (one.samples, one.effective_samples, one.upper) == (600, 12.0, 1.0)
    assert one.lower == pytest.approx(wilson(1.0, 12, 1.96)[0], abs=1e-3)
    assert (one.low, one.high) == (0.5, 0.6)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("horizon", "phi"), [(10, 0.8), (10, 0.97), (60, 0.97)])
def test_the_intervals_of_the_bins_hold_the_truth(horizon, phi):
    """Of perfect probabilities the true share in a bin is their mean."""
    held, naive, shares = [], [], []
    for seed in range(SEEDS):
        _, mid, chance = draw_market(70_000 + seed, horizon, phi, 7_200 + horizon)
        up = mid[horizon:] > mid[:-horizon]
        ts = START_MS + 1_000 * np.arange(7_200)
        for one in measure_reliability(chance[:7_200], up, ts, 1_000 * horizon):
            if one.samples >= 100:
                held.append(one.lower <= one.predicted <= one.upper)
                lower, upper = wilson(one.observed, one.samples, 1.96)
                naive.append(lower <= one.predicted <= upper)
                shares.append(one.effective_samples / one.samples)
    # The bins of one market are not independent: as few as a third may be.
    least = binom.ppf(SURELY, len(held) // 3, 0.93) / (len(held) // 3)
    assert np.mean(held) >= least
    assert np.mean(naive) < np.mean(held)
    assert np.mean(shares) < 0.4


def test_the_engine_traces_the_rows_that_it_judges(market, config):
    engine = Engine(config(test="3600s"))
    data = market(seed=5, seconds=6_000)
    assert engine.report().curves.reliability == ()
    engine.take_in(*data.until(data.last_ingest // 2))
    assert (engine.report().curves.reliability, engine.report().curves.roc) == ((), {}), "warming"
    engine.take_in(*data.until(data.last_ingest, data.last_ingest // 2))
    values, report = engine.evaluate().values, engine.report()
    bins = report.curves.reliability
    rows = sum(one.samples for one in bins)
    assert rows == values["platt_test_samples"].value
    error = sum(one.samples * abs(one.observed - one.predicted) for one in bins) / rows
    assert error == pytest.approx(values["platt_ece"].value, abs=1e-12)
    assert set(report.curves.roc) == set(report.horizons[0].auc) > {ALL_ROWS, Slice.ACTIVE}
    for which, points in report.curves.roc.items():
        area = np.trapezoid([0.0, *points, 1.0], [0.0, *FALSE_POSITIVES, 1.0])
        assert area == pytest.approx(report.horizons[0].auc[which].value, abs=0.01)
