"""The engine as a whole: against an independent computation, and the laws it must obey."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from signalcanary.contract import CORE_METRICS, SignalConfig
from signalcanary_workloads.analysis.calibrate import Platt, fit_platt
from signalcanary_workloads.analysis.engine import Count, Engine, EngineConfig, Evaluation
from signalcanary_workloads.analysis.rows import CvdRows
from signalcanary_workloads.analysis.score import Reason
from signalcanary_workloads.store import Quality


def feed(engine: Engine, data, cuts=()) -> Engine:
    after = -1
    for cut in [*sorted(int(c * data.last_ingest) for c in cuts), data.last_ingest]:
        engine.take_in(*data.until(cut, after))
        after = max(after, cut)
    return engine


def reference(data, config: EngineConfig):
    """The definitions, row by row and slowly: f, p, y of every row, keyed by its time."""
    weights = {
        0: config.fusion.baseline,
        1: config.fusion.active,
        2: config.fusion.quiet,
    }
    arrived = sorted(
        zip(
            data.scores.ts_ms.tolist(),
            data.scores.ingest.tolist(),
            data.scores.z.tolist(),
            strict=True,
        )
    )
    grid = data.features
    at = {t: i for i, t in enumerate(grid.ts_ms.tolist())}
    f, p, y, z = {}, {}, {}, {}
    platt, due = None, None
    for i, t in enumerate(grid.ts_ms.tolist()):
        seen = [row for row in arrived if row[0] <= t and row[1] < grid.ingest[i]]
        later = at.get(t + config.horizon_ms)
        if seen and t - seen[-1][0] <= config.tolerance_ms:
            z[t] = (grid.z_ofi[i], seen[-1][2])
            if not np.isnan(z[t]).any():
                w = weights[int(grid.regime[i])]
                x = w.ofi * z[t][0] + w.cvd * z[t][1]
                f[t] = 0.0 if abs(x) < w.gate else x
        if later is not None and grid.gap_epoch[later] == grid.gap_epoch[i]:
            move = grid.mid[later] - grid.mid[i]
            if move != 0 and not np.isnan(move):
                y[t] = move > 0
        if due is None and f:
            due = t + config.train_ms + config.horizon_ms
        if t in f and platt is not None:
            p[t] = 1 / (1 + np.exp(-(platt.slope * f[t] + platt.intercept)))
        if due is not None and t >= due:
            end = t - config.horizon_ms
            train = [u for u in f if u in y and end - config.train_ms < u <= end]
            platt = fit_platt(np.array([f[u] for u in train]), np.array([y[u] for u in train]))
            assert isinstance(platt, Platt)
            due = t + config.refit_ms
    return f, p, y


def ece_of(p, up):
    bins = np.minimum((p * 10).astype(int), 9)
    return sum(abs(up[bins == b].sum() - p[bins == b].sum()) for b in range(10)) / p.size


def test_every_figure_equals_an_independent_computation(market, config):
    data, settings_ = market(seed=11, seconds=2_400), config(auto_flip=False)
    got = feed(Engine(settings_), data).evaluate()
    f, p, y = reference(data, settings_)
    end = int(data.features.ts_ms[-1]) - settings_.horizon_ms
    test = [t for t in p if t in y and end - settings_.test_ms < t <= end]
    up, prob = np.array([y[t] for t in test]), np.array([p[t] for t in test])
    score = np.array([f[t] for t in test])
    regime = dict(zip(data.features.ts_ms.tolist(), data.features.regime.tolist(), strict=True))
    assert got.values["platt_test_samples"].value == len(test)
    assert got.values["platt_brier"].value == pytest.approx(brier_score_loss(up, prob), abs=1e-9)
    assert got.values["platt_ece"].value == pytest.approx(ece_of(prob, up), abs=1e-9)
    for code, name in ((1, "slice_auc_active_period"), (2, "slice_auc_quiet_period")):
        inside = np.array([regime[t] == code for t in test])
        want = roc_auc_score(up[inside], score[inside])
        assert got.values[name].value == pytest.approx(want, abs=1e-9)
        assert got.values[name].samples == inside.sum()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.floats(0, 1), max_size=40))
def test_batch_and_any_chunking_end_in_the_same_evaluation(market, config, seed, cuts):
    data = market(seed=seed, seconds=700, trades_per_second=1.5)
    chosen = config(train="200s", test="200s", refit="60s")
    whole, pieces = feed(Engine(chosen), data), feed(Engine(chosen), data, cuts)
    assert pieces.evaluate() == whole.evaluate()
    for name in ("ts_ms", "f", "p", "outcome", "delta_ms"):
        np.testing.assert_array_equal(getattr(pieces.recent, name), getattr(whole.recent, name))


def test_row_by_row_equals_batch_over_a_long_run(market, config):
    data = market(seed=12, seconds=3_000)
    chosen = config(train="300s", test="300s", refit="100s")
    pieces = feed(Engine(chosen), data, np.linspace(0, 1, 2_500))
    assert pieces.evaluate() == feed(Engine(chosen), data).evaluate()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), at=st.integers(0, 699))
def test_changing_the_future_changes_no_prediction_made_before(market, config, seed, at):
    data = market(seed=seed, seconds=700, trades_per_second=1.5)
    chosen = config(train="200s", test="700s", refit="60s")
    at = min(at, len(data.features) - 1)
    now_ms, closed = int(data.features.ts_ms[at]), int(data.features.ingest[at])
    future = data.features.ts_ms > now_ms
    noise = np.random.default_rng(0)
    mid, z_ofi = data.features.mid.copy(), data.features.z_ofi.copy()
    mid[future] += 1_000 * noise.standard_normal(int(future.sum()))
    z_ofi[future] = noise.standard_normal(int(future.sum()))
    z = data.scores.z.copy()
    unseen = (data.scores.ingest >= closed) | (data.scores.ts_ms > now_ms)
    z[unseen] = noise.standard_normal(int(unseen.sum()))
    changed = replace(
        data,
        features=replace(data.features, mid=mid, z_ofi=z_ofi),
        scores=replace(data.scores, z=z),
    )
    one, other = feed(Engine(chosen), data).recent, feed(Engine(chosen), changed).recent
    past = one.ts_ms <= now_ms
    np.testing.assert_array_equal(one.f[past], other.f[past])
    np.testing.assert_array_equal(one.p_at[past], other.p_at[past])
    for column, horizon_ms in enumerate((chosen.horizon_ms, *chosen.reported_ms)):
        known = one.ts_ms <= now_ms - horizon_ms
        outcomes = one.outcome_at[known, column], other.outcome_at[known, column]
        np.testing.assert_array_equal(*outcomes)


def test_each_row_ends_in_exactly_one_count(market, config):
    data, chosen = market(seed=13, seconds=1_500), config()
    got = feed(Engine(chosen), data).evaluate()
    end = int(data.features.ts_ms[-1]) - chosen.horizon_ms
    settled = int((data.features.ts_ms <= end).sum())
    counted = got.counts[Count.LABELLED] + got.counts[Count.TIES] + sum(got.masked.values())
    assert counted == settled
    assert got.counts[Count.TIES] > 0
    for reason in ("stale_cvd", "cvd_warmup", "ofi_warmup", "gap", "no_mid", "missing_row"):
        assert got.masked[reason] > 0


def trace(data, chosen, every: int = 20) -> list[Evaluation]:
    engine, after, out = Engine(chosen), -1, []
    for cut in data.features.ingest[::every].tolist():
        engine.take_in(*data.until(cut, after))
        after = cut
        out.append(engine.evaluate())
    return out


def test_values_appear_only_once_the_test_window_is_filled(market, config):
    data, chosen = market(seed=14, seconds=1_700, rough=False), config()
    states = trace(data, chosen)
    start = data.features.ts_ms[0] + 20_000  # the first row with a z_ofi
    fitted = start + chosen.train_ms + chosen.horizon_ms
    for state in states:
        assert set(state.values) == {metric.name for metric in CORE_METRICS}
        assert (state.values["platt_train_samples"].value is not None) == (
            state.last_ts_ms >= fitted
        )
        filled = state.last_ts_ms - chosen.horizon_ms - fitted >= 0.9 * chosen.test_ms
        for name in ("platt_ece", "platt_brier", "platt_test_samples"):
            assert (state.values[name].value is not None) == filled
            if not filled:
                assert state.values[name].reason is Reason.WARMING
        if not filled:
            assert state.values["slice_auc_tokyo_session"].value is None
    assert states[-1].values["slice_auc_tokyo_session"].value is not None
    assert states[-1].values["slice_auc_ny_session"].reason is Reason.TOO_FEW_ROWS


def test_warmup_rises_from_zero_to_one_and_evidence_with_it(market, config):
    states = trace(market(seed=15, seconds=1_700, rough=False), config())
    ratios = [state.warmup_ratio for state in states]
    assert ratios[0] == 0.0
    assert ratios[-1] == 1.0
    assert ratios == sorted(ratios)
    samples = [state.values["platt_ece"].samples for state in states]
    assert samples[0] == 0
    assert samples[-1] > 100


def test_merge_figures_appear_after_thirty_rows(market, config):
    states = trace(market(seed=16, seconds=100, rough=False), config(), every=1)
    shown = [s.values["merge_time_diff_ms_p99"].value is not None for s in states]
    assert shown.index(True) in range(29, 33)
    assert all(shown[shown.index(True) :])


def test_a_lost_trade_stream_shows_as_a_growing_lag_and_ends_the_figures(market, config):
    data = market(seed=17, seconds=3_600, rough=False)
    cut = int(data.features.ingest[1_700])
    lost = replace(data, scores=data.scores.take(data.scores.ingest < cut))
    got = feed(Engine(config()), lost).evaluate()
    assert got.values["merge_time_diff_ms_p99"].value > 1_500_000
    assert got.match_ratio == 0.0
    assert got.values["platt_ece"].reason is Reason.WARMING
    assert got.warmup_ratio < 1.0


def test_a_one_class_market_gives_no_figure(market, config):
    data = market(seed=18, seconds=1_700, rough=False)
    rising = replace(data, features=replace(data.features, mid=np.arange(1_700.0)))
    got = feed(Engine(config()), rising).evaluate()
    assert got.values["platt_train_samples"].reason is Reason.NO_CALIBRATION
    assert got.values["platt_ece"].value is None
    assert got.fit_failures["one_class"] > 1
    assert got.warmup_ratio < 1.0


def test_an_all_tie_market_is_counted_and_gives_no_figure(market, config):
    data = market(seed=19, seconds=1_700, rough=False)
    frozen = replace(data, features=replace(data.features, mid=np.full(1_700, 5.0)))
    got = feed(Engine(config()), frozen).evaluate()
    assert got.counts[Count.LABELLED] == 0
    assert got.counts[Count.TIES] > 1_000
    assert got.fit_failures["too_few_rows"] > 0


def test_rows_seen_before_are_dropped_and_counted(market, config):
    data = market(seed=20, seconds=400)
    engine = feed(Engine(config()), data)
    before = engine.evaluate()
    assert engine.take_in(data.features, CvdRows.empty()) == 0
    after = engine.evaluate()
    assert after.counts[Count.OUT_OF_ORDER] == len(data.features)
    assert after.values == before.values


def wrong_way(market, seconds: int):
    """A market whose volume delta predicts the wrong way, and not much overlap of labels."""
    data = market(seed=21, seconds=seconds, trades_per_second=4.0, skill=1.5, rough=False)
    return replace(data, scores=replace(data.scores, z=-data.scores.z))


def test_a_delta_that_predicts_the_wrong_way_is_turned_around_once(market, config):
    data = wrong_way(market, 14_000)
    chosen = config(horizon="1s", train="4000s", test="2000s", refit="1000s")
    got = feed(Engine(chosen), data).evaluate()
    assert got.direction == -1
    assert got.values["cvd_direction_flipped_total"].value == 1.0
    kept = feed(Engine(replace(chosen, auto_flip=False)), data).evaluate()
    assert kept.direction == 1
    name = "slice_auc_active_period"
    assert got.values[name].value > kept.values[name].value
    # But not where the trades' sides are what is wrong.
    quality = np.full(len(data.features), int(Quality.SIDE_DISPUTED))
    disputed = replace(data, features=replace(data.features, quality=quality))
    assert feed(Engine(chosen), disputed).evaluate().direction == 1


def test_the_flip_waits_for_two_disjoint_training_windows(market, config):
    data = wrong_way(market, 9_500)
    chosen = config(horizon="1s", train="4000s", test="2000s", refit="1000s")
    engine, after = Engine(chosen), -1
    for cut in data.features.ingest[::50].tolist():
        engine.take_in(*data.until(cut, after))
        after = cut
        state = engine.evaluate()
        if state.direction == -1:
            break
    assert state.direction == -1
    waited = state.last_ts_ms - int(data.features.ts_ms[0])
    assert waited >= 2 * chosen.train_ms
    # The scores mean something else from now on: every horizon is calibrated anew at once.
    fits = [lane.fit for lane in engine._lanes]
    assert len(fits) == 6
    assert {fit.fitted_ms for fit in fits} == {fits[0].fitted_ms}


def test_an_engine_without_rows_knows_nothing_and_says_so(config):
    got = Engine(config()).evaluate()
    assert got.warmup_ratio == 0.0
    assert got.values["cvd_direction_flipped_total"].value == 0.0
    others = [v for k, v in got.values.items() if k != "cvd_direction_flipped_total"]
    assert all(v.value is None and v.samples == 0 and v.reason for v in others)


def test_the_configuration_is_read_in_milliseconds():
    got = EngineConfig.from_signal(SignalConfig())
    assert (got.horizon_ms, got.train_ms, got.test_ms) == (10_000, 7_200_000, 1_800_000)
    assert (got.refit_ms, got.tolerance_ms, got.auto_flip) == (1_800_000, 1_500, True)


def test_rows_whose_trade_sides_are_disputed_are_not_scored(market, config):
    data, chosen = market(seed=3, seconds=1_200, skill=-0.9), config(train="200s", test="200s")
    quality = data.features.quality.copy()
    quality[100:900] = Quality.SIDE_DISPUTED | Quality.TRADE_GAP
    got = feed(Engine(chosen), replace(data, features=replace(data.features, quality=quality)))
    rows = got.recent
    disputed = np.isin(rows.ts_ms, data.features.ts_ms[100:900])
    assert np.isnan(rows.f[disputed]).all()
    assert got.evaluate().masked["side_disputed"] == np.count_nonzero(quality)
    assert not np.isnan(rows.f[~disputed]).all()
