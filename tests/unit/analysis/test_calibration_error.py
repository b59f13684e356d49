"""The calibration error, what chance alone would show, and the interval of the true one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from signalcanary_workloads.analysis.calibration_error import (
    Binning,
    bin_rows,
    error_influence,
    measure_calibration,
)
from signalcanary_workloads.analysis.score import expected_calibration_error


def draw(seed: int, rows: int, offset: float = 0.0):
    rng = np.random.default_rng(seed)
    q = expit(rng.normal(0, 0.5, rows))
    return expit(logit(q) + offset), rng.random(rows) < q, np.arange(rows) * 1_000


def naive_equal_mass(p, up):
    order = np.argsort(p)
    parts = np.array_split(order, 10)
    return sum(abs(up[i].mean() - p[i].mean()) * i.size for i in parts) / p.size


def test_equal_width_is_the_judged_error_and_equal_mass_the_textbooks():
    p, up, ts = draw(1, 5_000, 0.3)
    width = measure_calibration(p, up, ts, 10_000, Binning.EQUAL_WIDTH)
    assert width.value == pytest.approx(expected_calibration_error(p, up), abs=1e-12)
    mass = measure_calibration(p, up, ts, 10_000, Binning.EQUAL_MASS)
    assert mass.value == pytest.approx(naive_equal_mass(p, up), abs=1e-3)
    assert np.bincount(bin_rows(p, Binning.EQUAL_MASS)).tolist() == [500] * 10


def test_equal_probabilities_are_never_torn_apart():
    p = np.repeat([0.4, 0.5, 0.6], [10, 900, 90])
    assert len({*bin_rows(p, Binning.EQUAL_MASS)[10:910].tolist()}) == 1


@pytest.mark.parametrize("binning", Binning)
def test_the_null_is_what_a_simulation_of_perfect_probabilities_shows(binning):
    p, _, ts = draw(2, 3_000)
    rng = np.random.default_rng(3)
    shown = [error_influence(p, rng.random(p.size) < p, ts, binning).value for _ in range(2_000)]
    got = [measure_calibration(p, rng.random(p.size) < p, ts, 1_000, binning) for _ in range(40)]
    assert np.mean([one.null_mean for one in got]) == pytest.approx(np.mean(shown), rel=0.1)
    assert np.mean([one.null_q95 for one in got]) == pytest.approx(
        np.quantile(shown, 0.95), rel=0.1
    )


def test_the_bias_is_taken_off_and_the_interval_holds_the_truth():
    raw, debiased, covered = [], [], 0
    for seed in range(60):
        p, up, ts = draw(seed, 2_000, 0.1)
        truth = error_influence(p, expit(logit(p) - 0.1), ts, Binning.EQUAL_WIDTH).value
        got = measure_calibration(p, up, ts, 1_000, Binning.EQUAL_WIDTH)
        raw.append(got.value - truth)
        debiased.append(got.debiased - truth)
        covered += got.lower <= truth <= got.upper
    assert abs(np.mean(debiased)) < 0.7 * np.mean(raw)
    assert covered >= 51  # of 60 at 0.95: fewer have a chance of 1e-4


def test_a_perfect_model_may_have_no_error_at_all():
    p, up, ts = draw(4, 5_000)
    got = measure_calibration(p, up, ts, 10_000, Binning.EQUAL_WIDTH)
    assert got.lower == 0.0
    assert got.value > 0.0


def test_repeated_rows_add_no_evidence():
    p, up, ts = draw(5, 4_000, 0.2)
    once = measure_calibration(p, up, ts, 1_000, Binning.EQUAL_WIDTH)
    often = measure_calibration(
        p.repeat(5), up.repeat(5), np.arange(20_000) * 1_000, 5_000, Binning.EQUAL_WIDTH
    )
    assert often.value == pytest.approx(once.value, abs=1e-12)
    assert often.null_mean == pytest.approx(once.null_mean, rel=0.05)
    assert often.effective_samples == pytest.approx(once.effective_samples, rel=0.3)


def test_too_few_blocks_give_the_error_alone():
    p, up, ts = draw(6, 1_800)
    got = measure_calibration(p, up, ts, 900_000, Binning.EQUAL_WIDTH)
    assert got.value > 0
    assert (got.null_mean, got.debiased, got.upper) == (None, None, None)


def test_the_same_rows_give_the_same_figures():
    p, up, ts = draw(7, 2_000)
    one, other = (measure_calibration(p, up, ts, 10_000, Binning.EQUAL_MASS) for _ in range(2))
    assert one == other
