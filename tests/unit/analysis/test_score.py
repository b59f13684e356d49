"""ECE, Brier and AUC against scikit-learn and a naive loop, and the laws AUC obeys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from signalcanary_workloads.analysis.rows import Regime
from signalcanary_workloads.analysis.score import (
    Reason,
    Slice,
    area_under_curve,
    brier_score,
    evaluate_slice,
    expected_calibration_error,
    slice_members,
)

samples = st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=2, max_size=200).filter(
    lambda rows: len({up for _, up in rows}) == 2
)


def naive_ece(p, up):
    total = 0.0
    for b in range(10):
        low, high = b / 10, (b + 1) / 10
        inside = [i for i, x in enumerate(p) if low <= x < high or (b == 9 and x == 1.0)]
        if inside:
            gap = abs(np.mean([up[i] for i in inside]) - np.mean([p[i] for i in inside]))
            total += len(inside) / len(p) * gap
    return total


@settings(max_examples=100, deadline=None, derandomize=True)
@given(samples)
def test_auc_with_ties_equals_scikit_learn(rows):
    score, up = np.array([s for s, _ in rows], float), np.array([u for _, u in rows])
    assert area_under_curve(score, up) == pytest.approx(roc_auc_score(up, score), abs=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(samples)
def test_auc_does_not_change_under_a_rising_map_and_mirrors_under_a_sign(rows):
    score, up = np.array([s for s, _ in rows], float), np.array([u for _, u in rows])
    auc = area_under_curve(score, up)
    assert auc is not None
    assert area_under_curve(score**3 + 5 * score, up) == auc
    assert area_under_curve(-score, up) == pytest.approx(1 - auc, abs=1e-12)
    assert area_under_curve(score, ~up) == pytest.approx(1 - auc, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_brier_and_ece_equal_their_references(seed):
    rng = np.random.default_rng(seed)
    p = np.concatenate((rng.random(3_000), np.arange(11) / 10))
    up = rng.random(p.size) < p
    assert brier_score(p, up) == pytest.approx(brier_score_loss(up, p), abs=1e-12)
    assert expected_calibration_error(p, up) == pytest.approx(naive_ece(p, up), abs=1e-12)


def test_a_logit_shift_of_0_405_gives_an_ece_of_about_a_tenth():
    rng = np.random.default_rng(9)
    p = np.clip(rng.normal(0.5, 0.08, 200_000), 0.01, 0.99)
    up = rng.random(p.size) < p
    shifted = 1 / (1 + (1 - p) / p * np.exp(-0.405))
    assert expected_calibration_error(p, up) < 0.005
    assert expected_calibration_error(shifted, up) == pytest.approx(0.098, abs=0.005)


def test_a_slice_with_one_class_or_few_rows_has_no_value_and_says_why():
    score = np.arange(150.0)
    assert evaluate_slice(score, np.ones(150, bool)).reason is Reason.ONE_CLASS
    few = evaluate_slice(score[:99], np.arange(99) % 2 == 0)
    assert (few.value, few.samples, few.reason) == (None, 99, Reason.TOO_FEW_ROWS)


@pytest.mark.parametrize(
    ("hour", "want"),
    [(0, Slice.TOKYO), (7, Slice.TOKYO), (8, Slice.LONDON), (15, Slice.LONDON), (16, Slice.NY)],
)
def test_sessions_are_eight_hours_of_utc(hour, want):
    ts = np.array([1_777_593_600_000 + hour * 3_600_000])  # 2026-05-01T00:00Z
    sessions = (Slice.TOKYO, Slice.LONDON, Slice.NY)
    regime = np.array([Regime.ACTIVE], np.int8)
    assert [s for s in sessions if slice_members(s, ts, regime)[0]] == [want]
    assert slice_members(Slice.ACTIVE, ts, regime)[0]
    assert not slice_members(Slice.QUIET, ts, regime)[0]
