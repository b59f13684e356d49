"""One measurement, one verdict: the table of all that a value can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcanary.api import SignalCanarySpec
from signalcanary.evaluate import (
    Judgement,
    Measurement,
    MetricsSeen,
    Silence,
    SourceFailure,
    Verdict,
    evaluate,
    silence_of,
    worst,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ECE, AUC, LAG = "platt_ece", "slice_auc_active_period", "merge_time_diff_ms_p99"


def spec_of(*conditions: dict[str, Any], canary: tuple[str, ...] = ("BTCUSDT",)) -> Any:
    return SignalCanarySpec.model_validate(
        {
            "version": "v1",
            "symbols": {"canary": list(canary), "full": list(canary)},
            "rollback": {"conditions": list(conditions)},
        }
    )


ABOVE = {"metric": ECE, "above": 0.1, "mode": "literal"}
BELOW = {"metric": AUC, "below": 0.55, "mode": "literal"}


def judge(condition: dict[str, Any], seen: MetricsSeen) -> Judgement:
    (judgement,) = evaluate(spec_of(condition), seen, NOW)
    return judgement


def seen_of(metric: str, *values: float, age: float = 1, samples: int | None = 100) -> MetricsSeen:
    at = NOW - timedelta(seconds=age)
    return MetricsSeen({(metric, "BTCUSDT"): Measurement(values, samples, at)})


NAN, INF = float("nan"), float("inf")
ENOUGH = ABOVE | {"minSamples": 100}
CASES: dict[str, tuple[dict[str, Any], MetricsSeen, Verdict, str]] = {
    "nothing came back": (ABOVE, MetricsSeen(), Verdict.NO_DATA, "Absent"),
    "a value without evidence": (
        ABOVE,
        MetricsSeen({(ECE, "BTCUSDT"): Measurement((0.5,))}),
        Verdict.NO_DATA,
        "Absent",
    ),
    "stale by a millisecond": (ABOVE, seen_of(ECE, 0.5, age=60.001), Verdict.NO_DATA, "Stale"),
    "as old as may be": (ABOVE, seen_of(ECE, 0.5, age=60), Verdict.BREACHED, "BeyondThreshold"),
    "ahead by a millisecond too much": (
        ABOVE,
        seen_of(ECE, 0.5, age=-5.001),
        Verdict.NO_DATA,
        "ClockAhead",
    ),
    "as far ahead as may be": (
        ABOVE,
        seen_of(ECE, 0.5, age=-5),
        Verdict.BREACHED,
        "BeyondThreshold",
    ),
    "two series": (ABOVE, seen_of(ECE, 0.5, 0.5), Verdict.NO_DATA, "Ambiguous"),
    "no value": (ABOVE, seen_of(ECE), Verdict.INCONCLUSIVE, "NoValue"),
    "NaN": (ABOVE, seen_of(ECE, NAN), Verdict.NO_DATA, "NotFinite"),
    "+Inf": (ABOVE, seen_of(ECE, INF), Verdict.NO_DATA, "NotFinite"),
    "−Inf": (BELOW, seen_of(AUC, -INF), Verdict.NO_DATA, "NotFinite"),
    "less than can be": (BELOW, seen_of(AUC, -0.001), Verdict.NO_DATA, "OutOfRange"),
    "more than can be": (ABOVE, seen_of(ECE, 1.001), Verdict.NO_DATA, "OutOfRange"),
    "the most that can be": (ABOVE, seen_of(ECE, 1.0), Verdict.BREACHED, "BeyondThreshold"),
    "the least that can be": (BELOW, seen_of(AUC, 0.0), Verdict.BREACHED, "BeyondThreshold"),
    "a metric without a most": (
        {"metric": LAG, "above": 2000},
        seen_of(LAG, 1e300),
        Verdict.BREACHED,
        "BeyondThreshold",
    ),
    "one sample too few": (
        ENOUGH,
        seen_of(ECE, 0.5, samples=99),
        Verdict.INCONCLUSIVE,
        "TooFewSamples",
    ),
    "samples not exported": (
        ENOUGH,
        seen_of(ECE, 0.5, samples=None),
        Verdict.INCONCLUSIVE,
        "TooFewSamples",
    ),
    "just enough samples": (ENOUGH, seen_of(ECE, 0.5), Verdict.BREACHED, "BeyondThreshold"),
    "samples not exported, none wanted": (
        ABOVE,
        seen_of(ECE, 0.5, samples=None),
        Verdict.BREACHED,
        "BeyondThreshold",
    ),
    "exactly at the upper bound": (ABOVE, seen_of(ECE, 0.1), Verdict.OK, "WithinThreshold"),
    "just above the upper bound": (
        ABOVE,
        seen_of(ECE, 0.1000001),
        Verdict.BREACHED,
        "BeyondThreshold",
    ),
    "exactly at the lower bound": (BELOW, seen_of(AUC, 0.55), Verdict.OK, "WithinThreshold"),
    "just below the lower bound": (
        BELOW,
        seen_of(AUC, 0.5499999),
        Verdict.BREACHED,
        "BeyondThreshold",
    ),
}


@pytest.mark.parametrize(("condition", "seen", "verdict", "reason"), CASES.values(), ids=CASES)
def test_a_measurement_gets_its_verdict(
    condition: dict[str, Any], seen: MetricsSeen, verdict: Verdict, reason: str
) -> None:
    judgement = judge(condition, seen)
    assert (judgement.verdict, judgement.reason) == (verdict, reason)
    assert judgement.message


@pytest.mark.parametrize(
    ("warmup", "reason"),
    [(0.0, "Warming"), (0.999, "Warming"), (1.0, "NoValue"), (None, "NoValue")],
)
def test_a_missing_value_is_explained_by_the_warm_up(warmup: float | None, reason: str) -> None:
    ratio = {} if warmup is None else {"BTCUSDT": warmup}
    seen = MetricsSeen({(ECE, "BTCUSDT"): Measurement((), 0, NOW)}, warmup_ratio=ratio)
    assert judge(ABOVE, seen).reason == reason


def test_a_source_that_failed_says_why_of_every_condition() -> None:
    failure = SourceFailure("SourceTimeout", "no answer")
    seen = MetricsSeen(failure=failure)
    judgements = evaluate(spec_of(ABOVE, BELOW), seen, NOW)
    assert {(j.verdict, j.reason, j.message) for j in judgements} == {
        (Verdict.ERROR, "SourceTimeout", "no answer")
    }


def test_every_condition_is_judged_on_every_canary_symbol_in_order() -> None:
    spec = spec_of(BELOW, ABOVE, canary=("ETHUSDT", "BTCUSDT"))
    order = [(j.symbol, j.condition.metric) for j in evaluate(spec, MetricsSeen(), NOW)]
    assert order == [("ETHUSDT", AUC), ("ETHUSDT", ECE), ("BTCUSDT", AUC), ("BTCUSDT", ECE)]


@pytest.mark.parametrize(
    ("value", "threshold"), [(0.10001, 0.1), (0.100000001, 0.1), (2000.4, 2000), (12345.6, 12345)]
)
def test_the_value_shown_differs_from_the_bound_it_crosses(value: float, threshold: float) -> None:
    metric = ECE if threshold < 1 else LAG
    message = judge(
        {"metric": metric, "above": threshold, "mode": "literal"}, seen_of(metric, value)
    ).message
    shown, bound = message.split(" is ")[1].rstrip(")").split(" (> ")
    assert float(shown) > float(bound) == threshold
    assert "e+" not in message


@given(
    st.lists(st.floats(), max_size=3),
    st.none() | st.integers(0, 2000),
    st.none() | st.floats(-4000, 4000),
    st.sampled_from([ABOVE, BELOW, ENOUGH]),
)
def test_only_one_fresh_finite_value_is_ever_judged(
    values: list[float], samples: int | None, age: float | None, condition: dict[str, Any]
) -> None:
    at = None if age is None else NOW - timedelta(seconds=age)
    seen = MetricsSeen({(condition["metric"], "BTCUSDT"): Measurement(tuple(values), samples, at)})
    judgement = judge(condition, seen)
    if judgement.verdict.is_judged:
        assert age is not None
        assert -5 <= age <= 60
        (value,) = values
        assert 0 <= value <= 1
        assert judgement.value == value


@pytest.mark.parametrize(
    ("age", "is_silent"),
    [(0, False), (60, False), (60.001, True), (-5, False), (-5.001, True), (None, True)],
)
def test_a_symbol_without_a_fresh_heartbeat_is_silent(age: float | None, is_silent: bool) -> None:
    beats = {} if age is None else {"BTCUSDT": NOW - timedelta(seconds=age)}
    silence = silence_of("BTCUSDT", spec_of(ABOVE), MetricsSeen(heartbeats=beats), NOW)
    assert silence is (Silence.CANARY if is_silent else Silence.NONE)


@pytest.mark.parametrize(
    ("control", "silence"),
    [
        (None, Silence.CANARY),
        (0, Silence.CANARY),
        (60, Silence.CANARY),
        (61, Silence.MARKET),
        (-6, Silence.MARKET),
    ],
)
def test_a_silence_that_the_stable_track_shares_is_the_markets(
    control: float | None, silence: Silence
) -> None:
    stable = {} if control is None else {"BTCUSDT": NOW - timedelta(seconds=control)}
    seen = MetricsSeen(
        heartbeats={"BTCUSDT": NOW - timedelta(seconds=90)}, stable_heartbeats=stable
    )
    assert silence_of("BTCUSDT", spec_of(ABOVE), seen, NOW) is silence


def test_no_symbol_is_silent_while_the_source_cannot_be_read() -> None:
    seen = MetricsSeen(failure=SourceFailure("SourceTimeout", ""))
    assert silence_of("BTCUSDT", spec_of(ABOVE), seen, NOW) is Silence.UNKNOWN


def test_a_breach_is_shown_before_all_else() -> None:
    assert worst(list(Verdict)) is Verdict.BREACHED
    assert worst([Verdict.OK, Verdict.NO_DATA, Verdict.INCONCLUSIVE]) is Verdict.NO_DATA
    assert worst([]) is None
