"""Models in the signal: what they say, what is done without it, and that nothing looks ahead."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from signalcanary.artifacts import ArtifactModel, Artifacts
from signalcanary.contract import Fusion, RegimeWeights
from signalcanary_workloads.analysis.engine import Engine, Models
from signalcanary_workloads.analysis.ensemble import CENTRAL, COVERED, STACKED, Ensemble
from signalcanary_workloads.analysis.fusion import FusionTable
from signalcanary_workloads.analysis.rows import Regime
from signalcanary_workloads.analysis.snapshot import Snapshot, decode, encode
from signalcanary_workloads.artifacts.inference import BadModel, Model

MAKER = Path(__file__).parents[3] / "examples" / "models" / "make_models.py"
LGB = {"name": "lgb", "file": "lgb.onnx", "inputs": ["z_ofi", "z_cvd", "active"]}
LSTM = {"name": "lstm", "file": "lstm.onnx", "inputs": ["z_ofi", "z_cvd"], "window": 20}
STACKING = {
    "name": "stacking",
    "file": "stacking.onnx",
    "role": "stacking",
    "inputs": ["lgb", "lstm"],
}
WEIGHTS = RegimeWeights(ofi=0.4, cvd=0.2, ml=0.4)
LGB_BIT, LSTM_BIT, STACKING_BIT = 8, 16, 32
SHA = "0" * 64


def declare(*models, **options) -> Artifacts:
    files = {one["file"] for one in models}
    listed = [{"path": path, "size": 1, "sha256": SHA, "format": "onnx"} for path in sorted(files)]
    given = {"path": "x", "files": listed, "models": list(models), **options}
    return Artifacts.model_validate(given)


@pytest.fixture(scope="module")
def files():
    spec = importlib.util.spec_from_file_location("make_models", MAKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build_files()


@pytest.fixture(scope="module")
def models(files):
    """The example's models, in the real onnxruntime."""
    return {
        one["name"]: Model(files[one["file"]], ArtifactModel.model_validate(one))
        for one in (LGB, LSTM, STACKING)
    }


@pytest.fixture(scope="module")
def with_models(config):
    """A configuration that leans on three models, beside a control with one."""
    fusion = Fusion(baseline=WEIGHTS, active=WEIGHTS, quiet=WEIGHTS)
    plain = config(train="200s", test="200s", refit="60s")
    chosen = replace(plain, fusion=fusion, artifacts=declare(LGB, LSTM, STACKING))
    control = replace(chosen, reported_ms=(), artifacts=declare(LGB))
    return replace(chosen, control=control)


def score(ensemble, z_ofi, z_cvd=None, ts=None, epoch=None, usable=None):
    count = len(z_ofi)
    z_cvd = np.zeros(count) if z_cvd is None else z_cvd
    ts = 1_000 * np.arange(count) if ts is None else ts
    epoch = np.zeros(count, np.int64) if epoch is None else epoch
    usable = np.ones(count, bool) if usable is None else usable
    regime = np.full(count, Regime.ACTIVE, np.int8)
    return ensemble.score(ts, epoch, usable, (np.asarray(z_ofi, float), z_cvd, regime))


class Says:
    """A model with an answer of its own making, or none."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def answer(self, row):
        answer = self.answers.pop(0)
        if answer is None:
            raise BadModel("no answer")
        return answer


def test_a_row_gets_what_the_real_model_says_of_it(models):
    z, bits = score(Ensemble(declare(LGB, logOddsPerZ=0.5), models), [2.0, -1.0], np.array([1, 0]))
    # The example's model is σ(0.25·z_ofi + 0.1·z_cvd + 0.05·active).
    np.testing.assert_allclose(z, [0.65 / 0.5, -0.2 / 0.5], rtol=1e-5)
    assert bits.tolist() == [COVERED | CENTRAL | LGB_BIT] * 2


def test_a_window_is_of_consecutive_seconds_of_one_epoch(models):
    ensemble = Ensemble(declare(LSTM), models)
    _, bits = score(ensemble, np.ones(30))
    assert np.flatnonzero(bits & LSTM_BIT // 2).tolist() == list(range(19, 30))
    ts = 1_000 * np.concatenate((np.arange(30, 45), np.arange(46, 70)))
    _, bits = score(ensemble, np.ones(39), ts=ts)
    assert np.flatnonzero(bits).tolist() == [*range(15), *range(34, 39)]
    epoch = np.repeat([0, 1], [5, 25])
    _, bits = score(ensemble, np.ones(30), ts=1_000 * np.arange(70, 100), epoch=epoch)
    assert np.flatnonzero(bits).tolist() == [*range(5), *range(24, 30)]


def test_stacking_says_what_is_otherwise_the_mean():
    one = {**LGB, "name": "lstm", "file": "lstm.onnx"}
    said = {"lgb": Says(0.5, 0.6), "lstm": Says(0.7, None), "stacking": Says(0.9)}
    z, bits = score(Ensemble(declare(LGB, one, STACKING, logOddsPerZ=1), said), [1.0, 1.0])
    np.testing.assert_allclose(z, [np.log(9), np.log(1.5)])
    assert bits.tolist() == [
        COVERED | STACKED | LGB_BIT | LSTM_BIT | STACKING_BIT,
        COVERED | CENTRAL | LGB_BIT,
    ]
    said = {"lgb": Says(0.5), "lstm": Says(0.7), "stacking": Says()}
    z, bits = score(
        Ensemble(declare(LGB, one, STACKING, logOddsPerZ=1, stacking=False), said), [1.0]
    )
    np.testing.assert_allclose(z, [np.log(1.5)])
    assert not bits[0] & STACKED


@pytest.mark.parametrize("answer", [np.nan, np.inf, -0.1, 1.1, None], ids=str)
def test_what_is_no_probability_is_no_answer(answer):
    ensemble = Ensemble(declare(LGB), {"lgb": Says(answer)})
    z, bits = score(ensemble, [1.0])
    assert np.isnan(z[0])
    values, ok = ensemble.evaluate(bits)
    assert (values["signal_ml_coverage_ratio"].value, ok) == (0.0, {"lgb": 0.0})
    assert values["signal_ml_central_ratio"].value is None, "of no prediction there is no share"


def test_shares_are_of_the_rows_that_can_be_scored():
    one = {**LGB, "name": "lstm", "file": "lstm.onnx"}
    said = {"lgb": Says(0.1, 0.6, None, 0.5), "lstm": Says(0.1, None, None, 0.5)}
    said["stacking"] = Says(0.1, 0.4)
    ensemble = Ensemble(declare(LGB, one, STACKING), said)
    usable = np.array([True, True, False, True, True])
    _, bits = score(ensemble, np.ones(5), usable=usable)
    values, ok = ensemble.evaluate(bits[usable])
    assert {name: value.value for name, value in values.items()} == {
        "signal_ml_coverage_ratio": 0.75,
        "signal_ml_output_ok_ratio": 0.5,
        "signal_ml_stacking_active_ratio": pytest.approx(2 / 3),
        "signal_ml_central_ratio": pytest.approx(2 / 3),
    }
    assert ok == {"lgb": 0.75, "lstm": 0.5, "stacking": 0.5}


def test_weights_of_a_missing_score_go_to_what_is_there():
    table = FusionTable(Fusion(baseline=WEIGHTS))
    z = np.array([1.0, 1.0])
    codes = np.full(2, Regime.UNKNOWN, np.int8)
    got = table.fuse(z, np.array([-2.0, -2.0]), codes, 1, np.array([3.0, np.nan]))
    np.testing.assert_allclose(got, [0.4 - 0.4 + 1.2, 0.4 / 0.6 - 2 * 0.2 / 0.6])
    plain = FusionTable(Fusion())
    np.testing.assert_array_equal(
        plain.fuse(z, z, codes, 1, np.array([3.0, np.nan])), plain.fuse(z, z, codes, 1)
    )


def test_batches_single_rows_and_resumes_end_in_the_same_state(market, with_models, models):
    data = market(seed=11, seconds=900)
    all_models = Models(models, models)

    def run(cuts, resumes):
        engine, after = Engine(with_models, models=all_models), -1
        for cut in cuts:
            engine.take_in(*data.until(cut, after))
            after = cut
            if resumes:
                kept = encode(Snapshot(1, 2, 3, engine.export_state()), with_models)
                engine = Engine(with_models, models=all_models)
                engine.import_state(decode(kept, with_models).engine)
        return engine

    whole = run([data.last_ingest], False)
    pieces = run([*range(0, data.last_ingest, 7), data.last_ingest], False)
    resumed = run([*range(0, data.last_ingest, 130), data.last_ingest], True)
    shown = whole.evaluate()
    assert shown == pieces.evaluate() == resumed.evaluate()
    assert whole.report() == pieces.report() == resumed.report()
    assert 0.5 < shown.answers_ok["lstm"] < shown.answers_ok["lgb"] == 1.0
    assert shown.values["signal_ml_coverage_ratio"].value == 1.0
    assert 0 < shown.values["signal_ml_stacking_active_ratio"].value < 1
    without = replace(with_models, artifacts=None, control=None)
    plain = Engine(without)
    plain.take_in(*data.until(data.last_ingest))
    assert shown.values["platt_brier"] != plain.evaluate().values["platt_brier"]


def test_changing_the_future_changes_no_score_of_the_models(market, with_models, models):
    data = market(seed=12, seconds=300)
    cut = int(data.features.ts_ms[200])
    z_ofi = np.where(data.features.ts_ms > cut, -data.features.z_ofi, data.features.z_ofi)
    changed = replace(data, features=replace(data.features, z_ofi=z_ofi))
    seen = []
    for history in (data, changed):
        engine = Engine(with_models, models=Models(models, models))
        engine.take_in(*history.until(history.last_ingest))
        rows = engine.recent
        seen.append((rows.z_ml[rows.ts_ms <= cut], rows.z_ml[rows.ts_ms > cut]))
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    assert np.isfinite(seen[0][0]).any()
    assert (seen[0][1] != seen[1][1]).any()
