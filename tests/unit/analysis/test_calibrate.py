"""Platt scaling against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from signalcanary_workloads.analysis.calibrate import (
    FitFailure,
    Platt,
    fit_platt,
    sigmoid,
    smoothed_targets,
)


def draw(seed: int, rows: int, slope: float = 0.5, intercept: float = 0.2):
    rng = np.random.default_rng(seed)
    f = rng.standard_normal(rows)
    return f, rng.random(rows) < expit(slope * f + intercept)


@pytest.mark.parametrize("rows", [100, 1_800, 7_200])
def test_it_equals_logistic_regression_on_smoothed_targets(rows):
    f, up = draw(5, rows)
    t = smoothed_targets(up)
    reference = LogisticRegression(C=1e14, solver="newton-cholesky", tol=1e-13, max_iter=1_000)
    reference.fit(
        np.concatenate((f, f))[:, None],
        np.repeat([1, 0], rows),
        sample_weight=np.concatenate((t, 1 - t)),
    )
    got = fit_platt(f, up)
    assert isinstance(got, Platt)
    assert got.slope == pytest.approx(reference.coef_[0, 0], abs=1e-8)
    assert got.intercept == pytest.approx(reference.intercept_[0], abs=1e-8)


def test_it_is_the_minimum_that_scipy_finds():
    f, up = draw(6, 3_000, slope=-0.8)
    t = smoothed_targets(up)

    def loss(ab):
        x = ab[0] * f + ab[1]
        return np.sum(np.logaddexp(0, x) - t * x)

    reference = minimize(loss, [0, 0], method="BFGS", options={"gtol": 1e-6})
    got = fit_platt(f, up)
    assert isinstance(got, Platt)
    assert (got.slope, got.intercept) == pytest.approx(tuple(reference.x), abs=1e-6)


def test_separable_rows_still_give_a_finite_calibration():
    f = np.linspace(-3, 3, 400)
    got = fit_platt(f, f > 0)
    assert isinstance(got, Platt)
    assert np.isfinite([got.slope, got.intercept]).all()


def test_a_constant_score_calibrates_to_the_base_rate():
    up = np.arange(400) % 4 == 0
    got = fit_platt(np.zeros(400), up)
    assert isinstance(got, Platt)
    assert got.predict(np.zeros(1))[0] == pytest.approx(smoothed_targets(up).mean(), abs=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_predictions_do_not_depend_on_the_unit_of_the_score(scale):
    f, up = draw(7, 2_000)
    plain, scaled = fit_platt(f, up), fit_platt(scale * f, up)
    assert isinstance(plain, Platt)
    assert isinstance(scaled, Platt)
    np.testing.assert_allclose(scaled.predict(scale * f), plain.predict(f), atol=1e-6)


def test_negating_scores_and_labels_mirrors_the_prediction():
    f, up = draw(8, 1_500)
    one, other = fit_platt(f, up), fit_platt(-f, ~up)
    assert isinstance(one, Platt)
    assert isinstance(other, Platt)
    np.testing.assert_allclose(other.predict(-f), 1 - one.predict(f), atol=1e-9)


def test_windows_that_support_no_fit_say_why():
    assert fit_platt(np.zeros(99), np.arange(99) % 2 == 0) is FitFailure.TOO_FEW_ROWS
    assert fit_platt(np.zeros(200), np.ones(200, bool)) is FitFailure.ONE_CLASS


def test_the_sigmoid_neither_overflows_nor_loses_precision():
    x = np.array([-800.0, -30.0, -1.0, 0.0, 1.0, 30.0, 800.0])
    np.testing.assert_allclose(sigmoid(x), expit(x), rtol=1e-14)
