"""The simulated signal: its skill is what is asked for, its export what analysis exports."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest.simulation import (
    Decay,
    Market,
    autoregress,
    correlation_of,
    draw_path,
    draw_rows,
    first_judged_look,
    log_odds_shift,
    probability_of,
)
from signalcanary.contract import EVIDENCE_LEVELS, SignalConfig
from signalcanary_workloads.analysis.anytime import UNKNOWN
from signalcanary_workloads.analysis.engine import Engine, EngineConfig
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows
from signalcanary_workloads.analysis.score import area_under_curve, expected_calibration_error

AUC, ECE = "slice_auc_active_period", "platt_ece"


@pytest.mark.parametrize("ar", [0.0, 0.9, 0.99])
@pytest.mark.parametrize("size", [1, 63, 64, 1_000])
def test_an_autoregression_is_the_filter_of_its_noise(ar: float, size: int) -> None:
    noise = np.random.default_rng(1).standard_normal(size)
    scaled = math.sqrt(1 - ar**2) * noise
    scaled[0] = noise[0]  # as if it had gone on for ever before
    assert autoregress(noise, ar) == pytest.approx(lfilter([1], [1, -ar], scaled), abs=1e-12)


@pytest.mark.parametrize(("ar", "horizon"), [(0.8, 10), (0.97, 10), (0.9, 60)])
@pytest.mark.parametrize("auc", [0.58, 0.42])
def test_the_auc_is_the_one_that_was_asked_for(ar: float, horizon: int, auc: float) -> None:
    market = Market(0.58, ar, horizon, decay=Decay("", auc=auc))
    drawn = draw_rows(np.random.default_rng(2), market, 400_000, 0)
    found = area_under_curve(drawn.score, drawn.up)
    assert found == pytest.approx(auc, abs=0.012)
    if auc == 0.58:
        assert expected_calibration_error(drawn.p, drawn.up) < 0.012


def test_the_correlation_of_the_notes_is_found() -> None:
    assert correlation_of(0.55) == pytest.approx(0.111, abs=5e-4)
    assert correlation_of(0.58) == pytest.approx(0.177, abs=5e-4)


@pytest.mark.parametrize("error", [0.1, 0.15, 0.2])
def test_a_shift_in_log_odds_makes_the_error_that_was_asked_for(error: float) -> None:
    p = probability_of(np.random.default_rng(3).standard_normal(200_000), 0.58)
    odds = p / (1 - p) * math.exp(log_odds_shift(0.58, error))
    assert np.abs(odds / (1 + odds) - p).mean() == pytest.approx(error, abs=1e-3)


def test_a_score_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="has an AUC of"):
        draw_rows(np.random.default_rng(1), Market(auc=0.9, ar=0.0, horizon_seconds=60), 100, 0)


def spec_of(horizon: int) -> SignalCanarySpec:
    return SignalCanarySpec.model_validate(
        {
            "version": "v1",
            "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]},
            "signal": {
                "fusion": {"active": {"ofi": 1.0, "cvd": 0.0}},
                "label": {"horizon": f"{horizon}s"},
                "calibration": {"train": "1200s", "test": "600s", "refit": "600s"},
                "cvd": {"autoFlip": False},
            },
            "rollback": {
                "conditions": [
                    {"metric": AUC, "below": 0.55},
                    {"metric": ECE, "above": 0.1},
                    {"metric": "platt_brier", "above": 0.3},
                ]
            },
        }
    )


@pytest.mark.parametrize("horizon", [10, 60])
def test_what_is_simulated_is_what_the_engine_of_analysis_makes_of_such_rows(horizon: int) -> None:
    spec = spec_of(horizon)
    market = Market(0.6, 0.9, horizon, hours=0.5, look_seconds=60, is_fitted=True)
    path = draw_path(np.random.default_rng(7), market, spec)
    begin = 1_200 + horizon + 1
    rows = begin + path.looks * 60 + 1
    drawn = draw_rows(np.random.default_rng(7), market, rows, rows)

    engine = Engine(EngineConfig.from_signal(SignalConfig.model_validate(spec.signal.to_wire())))
    ts = np.arange(rows, dtype=np.int64) * 1_000
    zeros, ones = np.zeros(rows, np.int64), np.ones(rows, np.int8)
    features = FeatureRows(
        ts,
        2 * np.arange(rows, dtype=np.int64) + 1,
        1e6 + drawn.price[:rows],
        drawn.score,
        ones,
        zeros,
        zeros,
    )
    none = np.zeros(rows)
    scores = CvdRows(ts, 2 * np.arange(rows, dtype=np.int64), none, none, none + 1.0)
    compared = told = 0
    taken = 0
    for look in range(path.looks):
        until = begin + (look + 1) * 60 + 1
        part = slice(taken, until)
        engine.take_in(features.take(part), scores.take(part))
        taken = until
        found = engine.evaluate()
        for metric in (AUC, ECE, "platt_brier"):
            value = found.values[metric]
            simulated = path.values[metric][look]
            assert (value.value is None) == bool(np.isnan(simulated)), (metric, look)
            if value.value is None:
                continue
            compared += 1
            assert value.samples == path.samples[metric][look]
            assert simulated == pytest.approx(value.value, abs=1e-9)
            bounds = path.bounds[metric]
            told += metric in found.bounds
            for i, level in enumerate(found.bounds.get(metric, UNKNOWN)):
                assert level.level == EVIDENCE_LEVELS[i]
                assert bounds.lower[i, look] == pytest.approx(level.lower, abs=1e-6)
                assert bounds.whole_upper[i, look] == pytest.approx(level.whole_upper, abs=1e-6)
    assert compared > 60
    assert told > 10
    first = first_judged_look(spec, market)
    assert np.isnan(path.values[AUC][first - 2])
    assert np.isfinite(path.values[AUC][first - 1])
