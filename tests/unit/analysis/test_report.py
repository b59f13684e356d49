"""The report: every horizon's figures, how sure they are, and the control on the same rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import brier_score_loss, roc_auc_score

from signalcanary.contract import Cvd, SignalConfig
from signalcanary_workloads.analysis.calibrate import fit_platt
from signalcanary_workloads.analysis.calibration_error import Binning
from signalcanary_workloads.analysis.engine import Engine, EngineConfig
from signalcanary_workloads.analysis.report import ALL_ROWS
from signalcanary_workloads.analysis.score import Slice

SIGNAL = {"calibration": {"train": "600s", "test": "3600s", "refit": "300s"}}


def configure(signal=SIGNAL, control=None) -> EngineConfig:
    read = SignalConfig.model_validate
    return EngineConfig.from_signal(read(signal), read(control) if control is not None else None)


def feed(engine: Engine, data, cuts=()) -> Engine:
    after = -1
    for cut in [*sorted(int(c * data.last_ingest) for c in cuts), data.last_ingest]:
        engine.take_in(*data.until(cut, after))
        after = max(after, cut)
    return engine


@pytest.fixture(scope="module")
def long_market(market):
    return market(seed=31, seconds=6_000, rough=False)


def horizons(config: EngineConfig) -> list[int]:
    return [config.horizon_ms, *config.reported_ms]


@pytest.mark.parametrize(
    ("horizon", "want"),
    [
        ("10s", [10, 60, 180, 300, 900]),
        ("60s", [60, 10, 180, 300, 900]),
        ("25s", [25, 10, 60, 180, 300, 900]),
        ("1500ms", [2, 10, 60, 180, 300, 900]),
    ],
)
def test_the_judged_horizon_comes_first_and_none_twice(horizon, want):
    config = configure({**SIGNAL, "label": {"horizon": horizon}})
    assert horizons(config) == [1_000 * seconds for seconds in want]
    assert [one.horizon_ms for one in Engine(config).report().horizons] == horizons(config)


def test_a_horizon_is_reported_as_it_would_be_if_it_were_judged(long_market):
    """The embargo, the fits and the windows of a reported horizon are those of a judged one."""
    quiet = {"cvd": {"autoFlip": False}}
    report = feed(Engine(configure({**SIGNAL, **quiet})), long_market).report()
    for one in report.horizons:
        horizon = {"label": {"horizon": f"{one.horizon_ms}ms"}}
        judged = feed(Engine(configure({**SIGNAL, **quiet, **horizon})), long_market)
        assert judged.report().horizons[0] == one
        values = judged.evaluate().values
        assert values["platt_test_samples"].samples == one.test_samples
        if one.horizon_ms > 300_000:
            continue  # not warm yet: the first fit came late
        error = one.calibration[Binning.EQUAL_WIDTH]
        assert values["platt_ece"].value == pytest.approx(error.value, abs=1e-12)
        assert values["platt_brier"].value == one.brier.value
        for which in Slice:
            if which in one.auc:
                value = values[f"slice_auc_{which}"].value
                assert value == pytest.approx(one.auc[which].value, abs=1e-12)


def test_a_reported_horizon_equals_an_independent_computation(long_market):
    config = configure({**SIGNAL, "cvd": {"autoFlip": False}})
    engine = feed(Engine(config), long_market)
    (one,) = [h for h in engine.report().horizons if h.horizon_ms == 60_000]
    grid = long_market.features
    mid = dict(zip(grid.ts_ms.tolist(), grid.mid.tolist(), strict=True))
    f = {}
    for run in engine.scored:  # all rows: they came at once
        f |= dict(zip(run.rows.ts_ms.tolist(), run.rows.f.tolist(), strict=True))
    y = {t: mid[t + 60_000] > mid[t] for t in f if mid.get(t + 60_000, mid[t]) != mid[t]}
    y = {t: up for t, up in y.items() if not np.isnan(f[t])}
    p, platt, due = {}, None, min(t for t in f if not np.isnan(f[t])) + 660_000
    for t in sorted(f):
        if platt is not None and t in y:
            p[t] = float(platt.predict(np.array([f[t]]))[0])
        if t >= due:
            train = [u for u in y if t - 660_000 < u <= t - 60_000]
            platt = fit_platt(np.array([f[u] for u in train]), np.array([y[u] for u in train]))
            due = t + 300_000
    end = max(f) - 60_000
    test = [t for t in p if end - 3_600_000 < t <= end]
    up, prob = np.array([y[t] for t in test]), np.array([p[t] for t in test])
    assert one.test_samples == len(test)
    assert one.brier.value == pytest.approx(brier_score_loss(up, prob), abs=1e-9)
    want = roc_auc_score(up, [f[t] for t in test])
    assert one.auc[ALL_ROWS].value == pytest.approx(want, abs=1e-9)


def test_without_a_control_there_is_no_difference(long_market):
    assert feed(Engine(configure()), long_market).report().differences is None


def test_a_control_like_the_canary_differs_by_exactly_nothing(long_market):
    got = feed(Engine(configure(SIGNAL, SIGNAL)), long_market).report().differences
    assert set(got) >= {"platt_ece", "platt_brier", "slice_auc_active_period"}
    for found in got.values():
        assert (found.value, found.error, found.lower, found.upper) == (0, 0, 0, 0)


OTHER = {
    "fusion": {"active": {"ofi": 0.4, "cvd": 0.6}, "quiet": {"ofi": 0.9, "cvd": 0.1}},
    "calibration": {"train": "900s", "test": "200s", "refit": "200s"},
    "merge": {"tolerance": "400ms"},
    "cvd": {"madMultiplier": 0.5, "halfLifeTrades": 50, "autoFlip": False},
}


def test_a_difference_is_that_of_two_engines_on_the_rows_that_both_have_scored(market):
    data = market(seed=32, seconds=6_000)
    engine = feed(Engine(configure(SIGNAL, OTHER)), data)
    got = engine.report().differences
    # The control alone, as if it were the canary, on scores made anew by harvest's own code.
    control = engine._control
    one, other = engine.recent, control.recent
    end = int(one.ts_ms[-1]) - 10_000
    p = dict(zip(other.ts_ms.tolist(), other.p.tolist(), strict=True))
    f = dict(zip(other.ts_ms.tolist(), other.f.tolist(), strict=True))
    rows = [
        i
        for i, t in enumerate(one.ts_ms.tolist())
        if end - 3_600_000 < t <= end
        and one.outcome[i] <= 1
        and not np.isnan(one.p[i])
        and not np.isnan(p[t])
    ]
    up = one.outcome[rows] == 1
    mine, theirs = one.p[rows], np.array([p[t] for t in one.ts_ms[rows].tolist()])
    found = got["platt_brier"]
    assert found.samples == len(rows)
    want = brier_score_loss(up, mine) - brier_score_loss(up, theirs)
    assert found.value == pytest.approx(want, abs=1e-9)
    member = one.regime[rows] == 1
    scores = one.f[rows], np.array([f[t] for t in one.ts_ms[rows].tolist()])
    want = roc_auc_score(up[member], scores[0][member]) - roc_auc_score(
        up[member], scores[1][member]
    )
    assert got["slice_auc_active_period"].value == pytest.approx(want, abs=1e-9)
    assert found.lower <= found.value <= found.upper


def test_the_control_on_the_same_rows_is_that_of_its_own_configuration(long_market):
    """Same scores, another fusion: the control's column is what it would show as a canary."""
    other = {**SIGNAL, "fusion": OTHER["fusion"]}
    engine = feed(Engine(configure(SIGNAL, other)), long_market)
    alone = feed(Engine(configure(other)), long_market)
    mine = engine._control.recent.p
    np.testing.assert_array_equal(mine, alone.recent.p[-mine.size :])


def test_a_difference_is_several_times_surer_than_either_figure(long_market):
    nearly = {
        **SIGNAL,
        "fusion": {"active": {"ofi": 0.65, "cvd": 0.35}, "quiet": {"ofi": 0.55, "cvd": 0.45}},
    }
    report = feed(Engine(configure(SIGNAL, nearly)), long_market).report()
    for metric in ("slice_auc_active_period", "platt_brier"):
        alone = report.horizons[0].evidence[metric].error
        assert report.differences[metric].error < 0.35 * alone


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.floats(0, 1), max_size=30))
def test_any_chunking_gives_the_same_report_to_the_last_bit(market, seed, cuts):
    data = market(seed=seed, seconds=1_100, trades_per_second=1.5)
    short = {"calibration": {"train": "200s", "test": "400s", "refit": "60s"}}
    config = configure(short, {**OTHER, **short})
    whole, pieces = feed(Engine(config), data), feed(Engine(config), data, cuts)
    assert repr(pieces.report()) == repr(whole.report())
    assert pieces.evaluate() == whole.evaluate()


def test_rows_that_come_twice_change_nothing(market):
    data = market(seed=33, seconds=2_000)
    short = {"calibration": {"train": "300s", "test": "900s", "refit": "100s"}}
    config = configure(short, {**OTHER, **short})
    once, twice, after = feed(Engine(config), data), Engine(config), -1
    for cut in range(500, data.last_ingest + 500, 500):
        twice.take_in(*data.until(cut, after))
        twice.take_in(*data.until(cut, after))
        after = cut
    assert repr(twice.report()) == repr(once.report())
    assert twice.evaluate().values == once.evaluate().values


def test_the_auc_of_the_report_does_not_change_under_a_rising_map_of_the_scores(long_market):
    engine = feed(Engine(configure()), long_market)
    before = engine.report().horizons[0]
    kept = engine.recent.f.copy()
    there = ~np.isnan(kept)
    engine.recent.f[there] = rankdata(kept[there]) ** 3
    after = engine.report().horizons[0]
    assert after.auc == before.auc
    engine.recent.f[there] = -kept[there]
    for which, found in engine.report().horizons[0].auc.items():
        assert found.value == pytest.approx(1 - before.auc[which].value, abs=1e-12)
        assert found.error == pytest.approx(before.auc[which].error, rel=1e-9)


def test_the_horizon_of_the_control_does_not_count():
    config = configure(SIGNAL, {**SIGNAL, "label": {"horizon": "60s"}})
    assert config.control.horizon_ms == 10_000
    assert config.control.reported_ms == ()
    assert replace(config.control, reported_ms=config.reported_ms) == replace(config, control=None)
    assert config.cvd == Cvd()
