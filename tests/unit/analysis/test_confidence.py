"""The bounds that hold at every look: their error rates are measured, not assumed.

Simulated rows are those of the domain notes: an autocorrelated score, and labels that look a
horizon ahead, overlap, and have a known AUC. `SIGNALCANARY_RUNS` sets how many histories of
48 h are drawn (400 in `make error-rates`); the bounds asserted allow for the number drawn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom, norm

from signalcanary_workloads.analysis.along import bounds_along
from signalcanary_workloads.analysis.anytime import (
    Anytime,
    AnytimeEvidence,
    Reference,
    judge_rows,
    prior_variance,
)
from signalcanary_workloads.analysis.confidence import LEVELS, MovingMeans, long_run_variance
from signalcanary_workloads.analysis.critical import (
    SPAN_MS,
    block_length_ms,
    critical_value,
    critical_values,
    moving_windows,
    union_level,
)
from signalcanary_workloads.analysis.rows import Bools, Floats, Ints

RUNS = int(os.environ.get("SIGNALCANARY_RUNS", "3"))
SHORT_RUNS = max(RUNS, 24)
"""Histories of a few hours, which cost little; a median of fewer says nothing."""
LEVEL = LEVELS[0]
TRAIN = 7_200


def draw(
    rng: np.random.Generator, seconds: int, ar: float, horizon: int, auc: float
) -> tuple[Floats, Bools, Floats]:
    """A score, its labels and the true p(up), a row a second."""
    rows = seconds + horizon
    score = lfilter([np.sqrt(1 - ar**2)], [1, -ar], rng.standard_normal(rows))
    rho = np.sqrt(2) * np.sin((auc - 0.5) * np.pi / 2)
    lags = np.arange(-(horizon - 1), horizon)
    spread = ((horizon - np.abs(lags)) * ar ** np.abs(lags)).sum()
    reach = (ar ** np.arange(horizon)).sum()
    beta = np.sign(rho) * np.sqrt(rho**2 * horizon / (reach**2 - rho**2 * spread))
    path = np.concatenate(([0.0], np.cumsum(beta * score + rng.standard_normal(rows))))
    up = path[horizon : horizon + seconds] > path[:seconds]
    p = norm.cdf(rho * score[:seconds] / np.sqrt(1 - rho**2))
    return score[:seconds], up, p


def times(rows: int) -> Ints:
    return np.arange(rows, dtype=np.int64) * 1_000


def test_critical_values_are_the_crossing_rate_of_a_moving_window() -> None:
    # White noise over 2,000 windows of 50: how often does the standardised mean ever exceed z?
    rng = np.random.default_rng(5)
    window, lengths, level = 50, 40.0, 0.2
    z = critical_value(lengths, level)
    crossed = 0
    for _ in range(300):
        sums = np.cumsum(rng.standard_normal(int(window * (lengths + 1))))
        crossed += bool((sums[window:] - sums[:-window]).max() / np.sqrt(window) > z)
    # Looked at in steps rather than at every instant, the process crosses a little less often.
    assert 0.10 < crossed / 300 < 0.24


def test_the_windows_together_spend_what_makes_the_level() -> None:
    span, level = 8_640, 0.05
    windows = moving_windows(span)
    *moving, whole = critical_values(span, len(windows), level)
    spent = sum(
        span / w * z * norm.pdf(z) + norm.sf(z) for w, z in zip(windows, moving, strict=True)
    )
    spent += np.log(span / windows[0]) / 2 * whole * norm.pdf(whole) + norm.sf(whole)
    assert spent == pytest.approx(union_level(level), rel=1e-6)
    assert list(critical_values(span, 3, level)[:3]) == moving[:3]


@pytest.mark.parametrize(("horizon", "runs"), [(10, 15 * RUNS), (60, 80 * RUNS), (900, 400 * RUNS)])
def test_a_bound_of_independent_blocks_fails_as_often_as_its_level_says(
    horizon: int, runs: int
) -> None:
    # One row a block, with the variance that the prior says of a row, a mean of 0, and a look at
    # each block of 48 h: how often is the mean ever shown to be below 0?
    rng = np.random.default_rng(27)
    block_ms = block_length_ms(horizon * 1_000)
    blocks = SPAN_MS // block_ms
    ts_ms, known = np.arange(blocks) * block_ms, np.arange(1, blocks + 1)
    spread = np.sqrt(prior_variance(horizon * 1_000))
    failed = np.zeros(len(LEVELS), np.int64)
    for _ in range(runs):
        rows = spread * rng.standard_normal((blocks, spread.size))
        upper = bounds_along(ts_ms, rows, known, horizon * 1_000, 0)["auc"].upper
        failed += (upper < 0.0).any(axis=1)
    rates = {level: float(n) / runs for level, n in zip(LEVELS, failed, strict=True)}
    print(f"horizon {horizon} s, {blocks} blocks, {runs} histories: {rates}")
    for level, n in zip(LEVELS, failed, strict=True):
        assert n <= at_most(level, runs)
    assert failed[0] >= binom.ppf(0.001, runs, LEVELS[0] / 2), "the level is not made use of"


@pytest.mark.parametrize("chunk", [1, 7, 60, 5_000])
def test_bounds_do_not_depend_on_how_rows_came_in(chunk: int) -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal((5_000, 2))
    values[rng.random((5_000, 2)) < 0.3] = np.nan
    once, often = (MovingMeans(2, 20_000, np.ones(2)) for _ in range(2))
    once.add(times(5_000), values)
    for start in range(0, 5_000, chunk):
        often.add(times(5_000)[start : start + chunk], values[start : start + chunk])
    levels = np.array(LEVELS)
    for one, other in zip(
        vars(once.bounds(levels, range(2))).values(),
        vars(often.bounds(levels, range(2))).values(),
        strict=True,
    ):
        assert np.array_equal(one, other)
    resumed = MovingMeans(2, 20_000, np.ones(2))
    resumed.import_state(often.export_state())
    assert np.array_equal(resumed.means(), once.means())


@pytest.mark.parametrize("step", [0.0, 0.5], ids=["one mean", "two means"])
@pytest.mark.parametrize("share", [1.0, 0.4], ids=["every row", "some rows"])
def test_the_variance_is_that_of_theory_whatever_the_mean_does(step: float, share: float) -> None:
    rng, rows, block = np.random.default_rng(9), 200_000, 20
    x = lfilter([1], [1, -0.6], rng.standard_normal(rows))
    x[rows // 2 :] += step
    is_there = rng.random(rows) < share
    n, total = (v.reshape(-1, block).sum(1) for v in (is_there * 1.0, np.where(is_there, x, 0)))
    n, total = n[n > 0], total[n > 0]
    # A share of rows thins their dependence, and leaves their own variance.
    own = 1 / (1 - 0.6**2)
    expected = own + share * (1 / (1 - 0.6) ** 2 - own)
    assert long_run_variance(n, total, expected) == pytest.approx(expected, rel=0.05)


def test_rows_older_than_the_span_are_forgotten() -> None:
    means = MovingMeans(1, 60_000, np.ones(1))
    means.add(times(600), np.full((600, 1), 9.0))
    later = times(600) + SPAN_MS + 3_600_000
    means.add(later, np.zeros((600, 1)))
    assert means.means()[0] == 0.0
    assert means.blocks == 9


def test_nothing_is_said_of_a_series_with_too_few_rows() -> None:
    means = MovingMeans(2, 10_000, np.ones(2))
    values = np.full((200, 2), np.nan)
    values[:, 0] = 0.5
    means.add(times(200), values)
    bounds = means.bounds(np.array([0.05]), (0, 1))
    assert np.isfinite(bounds.lower[0, 0])
    assert bounds.lower[0, 1] == -np.inf
    assert bounds.upper[0, 1] == np.inf


class Watched:
    """A history that is looked at every ten minutes."""

    LOOK = 600

    def __init__(
        self, rng: np.random.Generator, hours: float, ar: float, horizon: int, auc: float
    ) -> None:
        seconds = TRAIN + int(hours * 3_600)
        self.score, self.up, self.p = draw(rng, seconds, ar, horizon, auc)
        self.horizon = horizon

    def shifted_by(self, delta: float) -> Watched:
        """p(up) moved by as much in log-odds: wrong by a known amount."""
        self.p = 1 / (1 + np.exp(-(np.log(self.p / (1 - self.p)) + delta)))
        return self

    def looks(self) -> Iterator[dict[str, Anytime]]:
        """What is known at each look, at the level `LEVEL`."""
        regime = np.ones(self.score.size, np.int8)
        reference = Reference.of(self.score[:TRAIN], regime[:TRAIN])
        rank = reference.rank(self.score, regime)
        evidence = AnytimeEvidence(self.horizon * 1_000)
        ts = times(self.score.size)
        for start in range(TRAIN, self.score.size, self.LOOK):
            new = slice(start, start + self.LOOK)
            rows = judge_rows(ts[new], rank[new], self.p[new], self.up[new], regime[new])
            evidence.add(ts[new], rows)
            yield {name: levels[0] for name, levels in evidence.bounds().items()}

    def hours_until(self, found: Callable[[dict[str, Anytime]], bool]) -> float | None:
        """When a look first finds it."""
        for i, look in enumerate(self.looks()):
            if found(look):
                return (i + 1) * self.LOOK / 3_600
        return None


ACTIVE = "slice_auc_active_period"


def is_below(threshold: float) -> Callable[[dict[str, Anytime]], bool]:
    return lambda look: ACTIVE in look and look[ACTIVE].upper < threshold


def is_miscalibrated(threshold: float) -> Callable[[dict[str, Anytime]], bool]:
    return lambda look: "platt_ece" in look and look["platt_ece"].lower > threshold


def at_most(rate: float, runs: int) -> int:
    """So many of `runs` or fewer, if each has this chance: but for one case in a thousand."""
    return int(binom.ppf(0.999, runs, rate))


CELLS = [(0.8, 10), (0.97, 10), (0.9, 60)] if RUNS > 50 else [(0.97, 10), (0.9, 60)]


@pytest.mark.parametrize(("ar", "horizon"), CELLS)
def test_a_healthy_canary_is_hardly_ever_condemned(ar: float, horizon: int) -> None:
    rng = np.random.default_rng(21)
    by_auc, by_calibration = is_below(0.55), is_miscalibrated(0.1)
    condemned = 0
    for _ in range(RUNS):
        history = Watched(rng, 48, ar, horizon, 0.58)
        found = history.hours_until(lambda look: by_auc(look) or by_calibration(look))
        condemned += found is not None
    print(f"AR {ar}, h {horizon} s: {condemned} of {RUNS} healthy canaries condemned in 48 h")
    assert condemned <= at_most(0.01, RUNS)


@pytest.mark.parametrize(("ar", "horizon"), CELLS)
def test_a_canary_at_the_very_threshold_is_condemned_at_the_level(ar: float, horizon: int) -> None:
    rng = np.random.default_rng(22)
    histories = [Watched(rng, 48, ar, horizon, 0.55) for _ in range(RUNS)]
    condemned = sum(h.hours_until(is_below(0.55)) is not None for h in histories)
    assert condemned <= at_most(LEVEL, RUNS)


@pytest.mark.parametrize(
    ("auc", "hours"),
    [(0.50, 3.0), (0.45, 1.0), (0.42, 0.75)],
    ids=["coin toss", "wrong", "flipped"],
)
@pytest.mark.parametrize("ar", [0.8, 0.97])
def test_what_is_bad_from_the_beginning_is_found_soon(ar: float, auc: float, hours: float) -> None:
    rng = np.random.default_rng(23)
    took = [
        Watched(rng, 8, ar, 10, auc).hours_until(is_below(0.55)) or np.inf
        for _ in range(SHORT_RUNS)
    ]
    assert np.median(took) <= hours


@pytest.mark.parametrize(("delta", "hours"), [(0.80, 3.0), (1.3, 1.0)], ids=["0.2", "0.3"])
def test_a_calibration_error_is_found_soon(delta: float, hours: float) -> None:
    rng = np.random.default_rng(24)
    took = [
        Watched(rng, 8, 0.9, 10, 0.58).shifted_by(delta).hours_until(is_miscalibrated(0.1))
        or np.inf
        for _ in range(SHORT_RUNS)
    ]
    assert np.median(took) <= hours


def test_a_history_brings_the_good_side_too() -> None:
    # A promotion needs to be sure of the good: two days of a good signal are enough for that.
    rng = np.random.default_rng(25)
    for _ in range(max(3, RUNS // 8)):
        *_, last = Watched(rng, 48, 0.9, 10, 0.58).looks()
        assert last[ACTIVE].whole_lower > 0.55
        assert last["platt_ece"].whole_upper < 0.1
        assert last[ACTIVE].whole_lower < 0.58 < last[ACTIVE].whole_upper


def test_an_auc_is_that_of_its_own_regime() -> None:
    # The scores of a quiet market are smaller: against all scores their AUC would seem smaller.
    rng = np.random.default_rng(26)
    score, up, p = draw(rng, 40_000, 0.9, 10, 0.6)
    quiet = (np.arange(40_000) // 500) % 2 == 0
    regime = np.where(quiet, 2, 1).astype(np.int8)
    f = np.where(quiet, 0.2 * score, score)
    evidence = AnytimeEvidence(10_000)
    rank = Reference.of(f[:TRAIN], regime[:TRAIN]).rank(f, regime)
    rest = slice(TRAIN, None)
    ts = times(40_000)[rest]
    evidence.add(ts, judge_rows(ts, rank[rest], p[rest], up[rest], regime[rest]))
    for name in ("slice_auc_quiet_period", ACTIVE):
        widest = evidence.bounds()[name][0]
        assert (widest.whole_lower + widest.whole_upper) / 2 == pytest.approx(0.6, abs=0.015)
