"""Standard errors of dependent rows: the influences, the blocks, and what follows from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, roc_auc_score

from signalcanary_workloads.analysis.evidence import (
    BLOCKS_PER_HORIZON,
    MANY_BLOCKS,
    Influence,
    auc_influence,
    brier_influence,
    brier_skill_influence,
    choose_block_ms,
    estimate,
    standard_error,
    student_quantile,
)


def draw(seed: int, rows: int):
    rng = np.random.default_rng(seed)
    score = np.round(rng.standard_normal(rows), 1)
    p = 1 / (1 + np.exp(-0.7 * score - 0.2))
    return score, p, rng.random(rows) < p, np.arange(rows) * 1_000


def skill(p, up):
    return 1 - brier_score_loss(up, p) / (up.mean() * (1 - up.mean()))


FIGURES = {
    "auc": (lambda s, p, up, ts: auc_influence(s, up, ts), lambda s, p, up: roc_auc_score(up, s)),
    "brier": (
        lambda s, p, up, ts: brier_influence(p, up, ts),
        lambda s, p, up: brier_score_loss(up, p),
    ),
    "brier skill": (
        lambda s, p, up, ts: brier_skill_influence(p, up, ts),
        lambda s, p, up: skill(p, up),
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_value_is_the_figure_and_an_influence_what_a_row_does_to_it(name):
    influence_of, reference = FIGURES[name]
    score, p, up, ts = draw(1, 400)
    got = influence_of(score, p, up, ts)
    assert got.value == pytest.approx(reference(score, p, up), abs=1e-12)
    assert got.of_row.mean() == pytest.approx(0, abs=1e-12)
    n = up.size
    for row in range(0, n, 37):  # the jackknife: the figure without the row
        rest = np.arange(n) != row
        pull = (n - 1) * (got.value - reference(score[rest], p[rest], up[rest]))
        assert got.of_row[row] == pytest.approx(pull, abs=0.02)


def test_a_plain_mean_of_independent_rows_has_the_textbook_error():
    x = np.random.default_rng(2).standard_normal(40_000)
    influence = Influence(x.mean(), x - x.mean(), np.arange(x.size) * 1_000)
    got = estimate(influence, 1_000)
    assert got.error == pytest.approx(1 / np.sqrt(x.size), rel=0.3)
    assert got.effective_samples > 0.5 * x.size
    assert got.lower < got.value < got.upper
    assert (got.value - got.lower) / got.error == pytest.approx(
        student_quantile(0.975, MANY_BLOCKS - 1), rel=0.05
    )


@pytest.mark.parametrize("ar", [0.8, 0.97])
def test_the_effective_rows_of_an_autoregression_are_those_of_theory(ar):
    got = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = np.zeros(20_000)
        for i, e in enumerate(rng.standard_normal(x.size)[1:], 1):
            x[i] = ar * x[i - 1] + e
        influence = Influence(x.mean(), x - x.mean(), np.arange(x.size) * 1_000)
        got.append(estimate(influence, 1_000).effective_samples)
    assert 1 / np.mean(1 / np.array(got)) == pytest.approx(20_000 * (1 - ar) / (1 + ar), rel=0.25)


def test_blocks_span_five_horizons_and_grow_with_what_persists():
    rng = np.random.default_rng(3)
    ts = np.arange(21_600) * 1_000
    noise = rng.standard_normal(ts.size)
    assert choose_block_ms(noise, ts, 10_000) == int(ts[-1]) // MANY_BLOCKS
    assert choose_block_ms(noise[:1_800], ts[:1_800], 10_000) == BLOCKS_PER_HORIZON * 10_000
    slow = 0.2 * np.repeat(rng.choice([-1.0, 1.0], 12), 1_800)
    assert choose_block_ms(noise + slow, ts, 10_000) > int(ts[-1]) // MANY_BLOCKS


def test_too_few_blocks_give_a_value_and_no_error():
    score, _, up, ts = draw(4, 1_800)
    got = estimate(auc_influence(score, up, ts), 900_000)
    assert got.value == pytest.approx(roc_auc_score(up, score), abs=1e-12)
    assert (got.samples, got.effective_samples, got.error) == (1_800, None, None)
    assert (got.lower, got.upper) == (None, None)
    assert standard_error(auc_influence(score, up, ts), 1_000_000) is None


def test_one_class_has_no_auc_and_no_skill():
    score, p, up, ts = draw(5, 200)
    up[:] = True
    assert auc_influence(score, up, ts) is None
    assert brier_skill_influence(p, up, ts) is None


@pytest.mark.parametrize("freedom", [6.5, 7, 12, 39, 200])
@pytest.mark.parametrize("level", [0.975, 0.99])
def test_the_quantile_is_students(level, freedom):
    assert student_quantile(level, freedom) == pytest.approx(stats.t.ppf(level, freedom), rel=2e-3)


def test_a_paired_difference_is_surer_than_either():
    score, _, up, ts = draw(6, 20_000)
    other = score + 0.1 * np.random.default_rng(7).standard_normal(score.size)
    one, two = auc_influence(score, up, ts), auc_influence(other, up, ts)
    paired = Influence(one.value - two.value, one.of_row - two.of_row, ts)
    assert estimate(paired, 10_000).error < 0.3 * estimate(one, 10_000).error
