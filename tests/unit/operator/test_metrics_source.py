"""Reading metrics: what belongs to whom, and what is no answer at all."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import (
    EVIDENCE_EFFECTIVE_SAMPLES,
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HEARTBEAT,
    WARMUP,
)
from signalcanary.evaluate import Judgement, MetricsSeen, evaluate
from signalcanary.metrics_source import (
    BadResponse,
    Series,
    Target,
    assemble,
    escape,
    parse_vector,
)
from signalcanary.revisions import build_revision, refer_to

SPEC = SignalCanarySpec.model_validate(
    {
        "version": "v1",
        "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]},
        "stages": [{"name": "canary", "duration": "0s"}],
        "rollback": {"conditions": [{"metric": "platt_ece", "above": 0.1, "mode": "literal"}]},
    }
)
REVISION = refer_to(build_revision(SPEC, "img:1"), 1)
TARGET = Target("ns", "demo", REVISION.name, "10s", frozenset({"platt_ece"}))
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
UNIX = NOW.timestamp()
LABELS = {
    "namespace": "ns",
    "signalcanary": "demo",
    "track": "canary",
    "revision": REVISION.name,
    "symbol": "BTCUSDT",
    "horizon": "10s",
}


# ------------------------------------------------------------------ assemble


def series(
    metric: str = "platt_ece", value: float = 0.05, drop: tuple[str, ...] = (), **labels: str
) -> Series:
    return Series(metric, {k: v for k, v in (LABELS | labels).items() if k not in drop}, value)


def evidence(name: str, value: float, **labels: str) -> Series:
    return Series(name, LABELS | {"metric": "platt_ece"} | labels, value)


def seen_of(*items: Series) -> MetricsSeen:
    return assemble([TARGET], items)[TARGET]


def judged(*items: Series) -> Judgement:
    (judgement,) = evaluate(SPEC, seen_of(*items), NOW)
    return judgement


def test_a_value_with_its_evidence_is_judged() -> None:
    seen = seen_of(
        series(),
        evidence(EVIDENCE_TIMESTAMP, UNIX - 5),
        evidence(EVIDENCE_SAMPLES, 4000),
        evidence(EVIDENCE_EFFECTIVE_SAMPLES, 512.7),
        series(HEARTBEAT, UNIX - 1),
        series(WARMUP, 0.5),
    )
    measurement = seen.measurements["platt_ece", "BTCUSDT"]
    assert measurement.values == (0.05,)
    assert measurement.samples == 4000
    assert measurement.effective_samples == 512
    assert measurement.evaluated_at == NOW - timedelta(seconds=5)
    assert seen.heartbeats == {"BTCUSDT": NOW - timedelta(seconds=1)}
    assert seen.warmup_ratio == {"BTCUSDT": 0.5}
    assert seen.revision == REVISION.name


def test_the_stable_tracks_heartbeat_counts_whatever_its_horizon() -> None:
    seen = seen_of(series(HEARTBEAT, UNIX, track="stable", revision="deadbeef", horizon="1m"))
    assert seen.stable_heartbeats == {"BTCUSDT": NOW}


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"revision": "deadbeef"}, id="another revision"),
        pytest.param({"namespace": "other"}, id="another namespace"),
        pytest.param({"signalcanary": "other"}, id="another SignalCanary"),
        pytest.param({"track": "stable"}, id="the stable track"),
        pytest.param({"symbol": "ETHUSDT"}, id="another symbol"),
        pytest.param({"horizon": "1m"}, id="another horizon"),
        pytest.param({"horizon": "10000ms"}, id="the horizon in other words"),
    ],
)
def test_what_is_of_something_else_is_not_judged(labels: dict[str, str]) -> None:
    judgement = judged(
        Series("platt_ece", LABELS | labels, 0.9), evidence(EVIDENCE_TIMESTAMP, UNIX, **labels)
    )
    assert judgement.reason == "Absent"
    both = judged(
        series(),
        evidence(EVIDENCE_TIMESTAMP, UNIX),
        Series("platt_ece", LABELS | labels, 0.9),
        evidence(EVIDENCE_TIMESTAMP, UNIX, **labels),
    )
    assert (both.reason, both.value) == ("WithinThreshold", 0.05)


def test_a_series_without_a_horizon_depends_on_none() -> None:
    got = judged(series(drop=("horizon",)), evidence(EVIDENCE_TIMESTAMP, UNIX))
    assert got.reason == "WithinThreshold"


@pytest.mark.parametrize("label", sorted(LABELS.keys() - {"horizon"}))
def test_a_series_that_lacks_a_label_is_dropped(label: str) -> None:
    assert judged(series(drop=(label,)), evidence(EVIDENCE_TIMESTAMP, UNIX)).reason == "NoValue"


def test_a_value_without_evidence_is_not_judged() -> None:
    assert judged(series()).reason == "Absent"


def test_two_series_of_one_value_are_ambiguous() -> None:
    twice = judged(
        series(),
        Series("platt_ece", LABELS | {"pod": "b"}, 0.05),
        evidence(EVIDENCE_TIMESTAMP, UNIX),
    )
    assert twice.reason == "Ambiguous"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 0.0, -1.0])
@pytest.mark.parametrize("is_first", [True, False])
def test_evidence_that_is_no_time_is_none_whatever_stands_beside_it(
    bad: float, is_first: bool
) -> None:
    stamps = [evidence(EVIDENCE_TIMESTAMP, bad), evidence(EVIDENCE_TIMESTAMP, UNIX, pod="b")]
    assert judged(series(), *(stamps if is_first else reversed(stamps))).reason == "Absent"


def test_of_two_times_the_older_is_believed() -> None:
    stamps = evidence(EVIDENCE_TIMESTAMP, UNIX), evidence(EVIDENCE_TIMESTAMP, UNIX - 500, pod="b")
    assert judged(series(), *stamps).reason == "Stale"


@given(
    st.sampled_from([EVIDENCE_SAMPLES, EVIDENCE_TIMESTAMP, HEARTBEAT, WARMUP, "platt_ece"]),
    st.floats(),
)
def test_no_number_breaks_anything(name: str, value: float) -> None:
    seen = seen_of(
        evidence(EVIDENCE_TIMESTAMP, UNIX), evidence(name, value), Series(name, LABELS, value)
    )
    evaluate(SPEC, seen, NOW)
    assert all(0 <= ratio <= 1 for ratio in seen.warmup_ratio.values())


# ------------------------------------------------------------------ parse_vector, escape


def item(value: Any = "0.05", at: Any = UNIX, metric: Any = None) -> dict[str, Any]:
    return {"metric": LABELS if metric is None else metric, "value": [at, value]}


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.05", 0.05), ("+Inf", float("inf")), ("-Inf", float("-inf")), ("1e-3", 0.001)],
)
def test_the_numbers_of_prometheus_are_read(text: str, value: float) -> None:
    assert parse_vector("m", [item(text)], NOW) == [Series("m", LABELS, value)]


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(None, id="null"),
        pytest.param("0.05", id="text"),
        pytest.param({"a": 1}, id="an object"),
        pytest.param([UNIX, "0.05"], id="a scalar"),
        pytest.param([{"metric": LABELS, "values": [[UNIX, "0.05"]]}], id="a range vector"),
        pytest.param([item("abc")], id="no number"),
        pytest.param([item("1_0")], id="a number as only Python reads it"),
        pytest.param([item(True)], id="a boolean"),
        pytest.param([item(10**400)], id="a number too large for a float"),
        pytest.param([item(None)], id="no value"),
        pytest.param([{"metric": LABELS, "value": "05"}], id="a text for the pair"),
        pytest.param([{"metric": LABELS, "value": [UNIX]}], id="half a pair"),
        pytest.param([{"metric": LABELS, "value": [UNIX, "1", "2"]}], id="more than a pair"),
        pytest.param([item(metric={"symbol": {}})], id="a label that is an object"),
        pytest.param([item(metric=[["a", "b"]])], id="labels as a list"),
        pytest.param([item(metric="a")], id="labels as a text"),
        pytest.param([item(at=UNIX - 3600)], id="a sample an hour old"),
        pytest.param([item(at=UNIX + 3600)], id="a sample an hour ahead"),
        pytest.param([item(at="NaN")], id="a sample of no time"),
        pytest.param([item(), None], id="one good and one null"),
    ],
)
def test_what_is_no_instant_vector_of_now_is_refused(result: Any) -> None:
    with pytest.raises(BadResponse):
        parse_vector("m", result, NOW)


def test_a_label_value_cannot_leave_its_quotes() -> None:
    assert escape('a"} or up{x="\\\n') == 'a\\"} or up{x=\\"\\\\\\n'


@given(st.text(max_size=30))
def test_an_escaped_text_has_no_bare_quote_and_no_line_end(text: str) -> None:
    inside = re.sub(r"\\.", "", escape(text))
    assert '"' not in inside
    assert "\n" not in escape(text)
