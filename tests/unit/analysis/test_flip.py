"""The sign of the volume delta turns only on strong, repeated evidence from training data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from signalcanary_workloads.analysis.flip import (
    COOLDOWN_MS,
    AucBound,
    Direction,
    bound_auc,
    decide_direction,
)

WRONG = AucBound(auc=0.40, upper=0.45, effective_rows=3_000.0)
APART = 7_210_000


def draw(seed: int, rows: int, skill: float):
    rng = np.random.default_rng(seed)
    score = rng.standard_normal(rows)
    return score, skill * score + rng.standard_normal(rows) > 0, np.arange(rows) * 1_000


def test_the_auc_inside_the_bound_is_the_auc():
    score, up, ts = draw(1, 4_000, -0.2)
    score = np.round(score, 1)
    bound = bound_auc(score, up, ts, 10_000)
    assert bound is not None
    assert bound.auc == pytest.approx(roc_auc_score(up, score), abs=1e-12)


def test_the_bound_covers_the_truth_at_about_its_level():
    truth, misses = 0.5, 0
    for seed in range(400):
        score, up, ts = draw(seed, 2_000, 0.0)
        bound = bound_auc(score, up, ts, 10_000)
        assert bound is not None
        misses += bound.upper < truth
    assert misses / 400 < 0.03


def test_dependent_rows_count_for_less():
    score, up, ts = draw(2, 8_000, 0.3)
    plain = bound_auc(score, up, ts, 10_000)
    repeated = bound_auc(score.repeat(10), up.repeat(10), np.arange(80_000) * 1_000, 100_000)
    assert plain is not None
    assert repeated is not None
    assert repeated.effective_rows == pytest.approx(plain.effective_rows, rel=0.3)


def test_one_class_or_few_blocks_give_no_bound():
    score, up, ts = draw(3, 500, 0.1)
    assert bound_auc(score, up, ts, 10_000) is None
    assert bound_auc(score, np.ones(500, bool), ts, 1_000) is None


def test_one_window_is_not_enough_but_a_second_disjoint_one_is():
    first = decide_direction(Direction(), WRONG, 0, APART)
    overlapping = decide_direction(first, WRONG, APART - 1, APART)
    disjoint = decide_direction(overlapping, WRONG, APART, APART)
    assert (first.sign, overlapping.sign) == (1, 1)
    assert (disjoint.sign, disjoint.flips) == (-1, 1)


@pytest.mark.parametrize(
    "bound",
    [
        pytest.param(None, id="no bound"),
        pytest.param(AucBound(0.45, 0.481, 5_000.0), id="not sure"),
        pytest.param(AucBound(0.40, 0.45, 1_999.0), id="few effective rows"),
    ],
)
def test_a_window_that_does_not_show_it_starts_the_count_anew(bound):
    state = decide_direction(Direction(), WRONG, 0, APART)
    state = decide_direction(state, bound, APART, APART)
    assert decide_direction(state, WRONG, 2 * APART, APART).sign == 1


def test_after_a_flip_six_hours_pass_before_the_next():
    state = Direction(sign=-1, flips=1, last_flip_ms=0)
    for fit_ms in range(0, COOLDOWN_MS, 1_800_000):
        state = decide_direction(state, WRONG, fit_ms, APART)
        assert state.flips == 1
    assert decide_direction(state, WRONG, COOLDOWN_MS, APART).flips == 2
