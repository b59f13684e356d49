"""What the report looks like to Prometheus: evidence beside the core values, and horizons."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from signalcanary.contract import (
    AUC,
    CORE_METRICS,
    DIFFERENCE,
    DIFFERENCE_BOUND,
    DIFFERENCE_LOWER,
    DIFFERENCE_SAMPLES,
    DIFFERENCE_UPPER,
    EVIDENCE_BOUND,
    EVIDENCE_EFFECTIVE_SAMPLES,
    EVIDENCE_LEVELS,
    EVIDENCE_LOWER,
    EVIDENCE_SAMPLES,
    EVIDENCE_UPPER,
    RELIABILITY_EFFECTIVE_SAMPLES,
    RELIABILITY_LOWER,
    RELIABILITY_OBSERVED,
    RELIABILITY_PREDICTED,
    RELIABILITY_SAMPLES,
    RELIABILITY_UPPER,
    ROC_TRUE_POSITIVES,
    Control,
)
from signalcanary_workloads.analysis.engine import Engine, EngineConfig
from signalcanary_workloads.analysis.exporter import AnalysisCollector
from signalcanary_workloads.analysis.runner import SymbolState, read_rows
from signalcanary_workloads.store import open_storage

SECONDS = 2_400
CURVES = ("signal_reliability", "signal_roc")


@pytest.fixture
def state(volume, signal) -> SymbolState:
    storage = open_storage(str(volume.data_path))
    control = signal.model_copy(
        update={"cvd": signal.cvd.model_copy(update={"mad_multiplier": 0.1})}
    )
    engine = Engine(EngineConfig.from_signal(signal, control))
    for _ in range(4):
        entry = volume.commit(SECONDS // 4, 1_800_000_000.0)
        engine.take_in(*read_rows(storage, entry))
    return SymbolState("BTCUSDT", engine.evaluate(), 1_800_000_000.0, report=engine.report())


def scrape(workload, *states):
    """Samples by name, horizon and the other labels that are not in common, by their names."""
    registry = CollectorRegistry()
    registry.register(AnalysisCollector(workload, lambda: states))
    text = generate_latest(registry).decode()
    assert "NaN" not in text
    out: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            for common in ("namespace", "signalcanary", "track", "revision", "symbol"):
                labels.pop(common)
            horizon = labels.pop("horizon")
            key = (sample.name, horizon, *(labels[name] for name in sorted(labels)))
            assert key not in out, "each series once"
            out[key] = sample.value
    return out


@pytest.fixture
def with_control(workload, signal):
    return workload.model_copy(update={"control": Control(revision="s1", signal=signal)})


@pytest.mark.parametrize("metric", ["slice_auc_active_period", "platt_ece", "platt_brier"])
def test_each_judged_figure_has_its_bounds_at_each_level(state, with_control, metric):
    shown = scrape(with_control, state)
    widths = []
    for level in map(str, EVIDENCE_LEVELS):
        # The labels in the order of their names: level, metric, side, window.
        lower, upper, now_lower, now_upper = (
            shown[EVIDENCE_BOUND, "10s", level, metric, side, window]
            for window in ("whole", "now")
            for side in ("lower", "upper")
        )
        assert lower <= now_lower
        assert now_upper <= upper
        widths.append(upper - lower)
    assert widths == sorted(widths)
    difference = [key for key in shown if key[0] == DIFFERENCE_BOUND and metric in key]
    assert bool(difference) is (metric != "platt_ece"), "only means have differences that are"


def test_the_first_value_has_bounds_already(state, workload):
    # Else it would be judged literally, and nothing is noisier than the first rows.
    assert state.evaluation is not None
    shown = scrape(workload, replace(state, evaluation=replace(state.evaluation, bounds={})))
    ends = {
        value
        for (name, *_, metric, side, window), value in (
            (key, value) for key, value in shown.items() if key[0] == EVIDENCE_BOUND
        )
        if metric == "platt_ece" and side == "upper"
    }
    assert ends == {math.inf}


def test_a_value_that_is_withdrawn_takes_its_bounds_along(state, with_control):
    shown = scrape(with_control, replace(state, error="MissingPart"))
    assert not [key for key in shown if key[0] in (EVIDENCE_BOUND, DIFFERENCE_BOUND)]


def test_each_judged_figure_has_its_interval_beside_it(state, with_control):
    shown = scrape(with_control, state)
    for metric in ("slice_auc_active_period", "platt_ece", "platt_brier"):
        value, lower, upper = (
            shown[metric, "10s"],
            shown[EVIDENCE_LOWER, "10s", metric],
            shown[EVIDENCE_UPPER, "10s", metric],
        )
        assert lower < upper
        assert lower <= value
        effective = shown[EVIDENCE_EFFECTIVE_SAMPLES, "10s", metric]
        assert 20 < effective <= shown[EVIDENCE_SAMPLES, "10s", metric]
    assert (EVIDENCE_LOWER, "10s", "merge_time_diff_ms_p99") not in shown


def test_core_series_and_their_evidence_are_of_the_judged_horizon_alone(state, with_control):
    core = {metric.name for metric in CORE_METRICS}
    shown = scrape(with_control, state)
    for name, horizon, *_ in shown:
        if name in core or name.startswith(("signal_evidence", "signal_difference")):
            assert horizon == "10s"
    assert {key[1] for key in shown if key[0] == "signal_calibration_samples"} == {
        *("10s", "1m", "3m", "5m", "15m")
    }


def test_the_conventional_names_say_the_same_as_the_seeds(state, with_control):
    shown = scrape(with_control, state)
    pairs = {
        ("signal_auc_ratio", "10s", "active_period"): "slice_auc_active_period",
        ("signal_calibration_error_ratio", "10s", "equal_width"): "platt_ece",
        ("signal_brier_score", "10s"): "platt_brier",
        ("signal_calibration_samples", "10s", "train"): "platt_train_samples",
        ("signal_calibration_samples", "10s", "test"): "platt_test_samples",
    }
    for key, seed in pairs.items():
        assert shown[key] == pytest.approx(shown[seed, "10s"], abs=1e-12)
    effective = shown["signal_calibration_effective_samples", "10s", "test"]
    assert 20 < effective <= shown["signal_calibration_samples", "10s", "test"]
    skill = shown["signal_brier_skill_ratio", "10s"]
    assert shown["signal_brier_skill_lower_ratio", "10s"] < skill
    assert skill < shown["signal_brier_skill_upper_ratio", "10s"]
    null = "signal_calibration_error_null_ratio"
    assert 0 < shown[null, "10s", "equal_mass", "mean"] < shown[null, "10s", "equal_mass", "q95"]
    assert 0 <= shown["signal_label_tie_ratio", "1m"] < 0.2


def test_the_curves_are_of_the_judged_horizon_and_explain_its_figures(state, with_control):
    shown = scrape(with_control, state)
    assert {key[1] for key in shown if key[0].startswith(CURVES)} == {"10s"}
    bins = {key[2] for key in shown if key[0] == RELIABILITY_SAMPLES}
    assert bins <= {f"{n / 10:g}-{(n + 1) / 10:g}" for n in range(10)}
    rows = {one: shown[RELIABILITY_SAMPLES, "10s", one] for one in bins}
    assert sum(rows.values()) == shown["platt_test_samples", "10s"]
    gaps = [
        rows[one]
        * abs(shown[RELIABILITY_OBSERVED, "10s", one] - shown[RELIABILITY_PREDICTED, "10s", one])
        for one in bins
    ]
    assert sum(gaps) / sum(rows.values()) == pytest.approx(shown["platt_ece", "10s"], abs=1e-12)
    for one in bins:
        lower, upper = (shown[n, "10s", one] for n in (RELIABILITY_LOWER, RELIABILITY_UPPER))
        assert 0 <= lower <= shown[RELIABILITY_OBSERVED, "10s", one] <= upper <= 1
        assert 1 <= shown[RELIABILITY_EFFECTIVE_SAMPLES, "10s", one] <= rows[one]
    # The labels in the order of their names: the ratio, then the slice.
    roc = {key[2:]: value for key, value in shown.items() if key[0] == ROC_TRUE_POSITIVES}
    assert {which for _, which in roc} == {key[2] for key in shown if key[0] == AUC}
    active = [roc[f"{n / 20:g}", "active_period"] for n in range(1, 20)]
    assert active == sorted(active)
    area = sum(active) / 20 + 0.025
    assert area == pytest.approx(shown["slice_auc_active_period", "10s"], abs=0.01)


def test_the_curves_take_a_bounded_number_of_series(state, with_control):
    # Ten bins of six figures, six slices of nineteen points, however long it runs.
    shown = [key for key in scrape(with_control, state) if key[0].startswith(CURVES)]
    assert 100 < len(shown) <= 10 * 6 + 6 * 19


def test_merge_times_are_a_histogram_in_seconds(state, with_control):
    shown = scrape(with_control, state)
    name = "signal_merge_time_diff_seconds"
    counts = [value for key, value in shown.items() if key[0] == f"{name}_bucket"]
    assert counts == sorted(counts)
    joined = counts[-1]
    assert joined == shown[f"{name}_count", "10s"]
    assert SECONDS - 10 <= joined <= SECONDS
    assert shown[f"{name}_sum", "10s"] / joined < 2.0
    assert shown["signal_merge_match_ratio", "10s"] > 0.9


def test_differences_name_the_control(state, with_control):
    shown = scrape(with_control, state)
    for metric in ("slice_auc_active_period", "platt_ece", "platt_brier"):
        key = ("10s", "s1", metric)
        assert shown[(DIFFERENCE_LOWER, *key)] < shown[(DIFFERENCE, *key)]
        assert shown[(DIFFERENCE, *key)] < shown[(DIFFERENCE_UPPER, *key)]
        assert shown[(DIFFERENCE_SAMPLES, *key)] > 100


def test_without_a_report_or_a_readable_store_nothing_of_it_is_shown(state, workload):
    unread = SymbolState("ETHUSDT", state.evaluation, error="MissingPart", report=state.report)
    for one in (SymbolState("ETHUSDT"), unread):
        shown = scrape(workload, one)
        names = {key[0] for key in shown}
        assert not any(name.startswith(("signal_auc", *CURVES)) for name in names)
        assert EVIDENCE_LOWER not in names
