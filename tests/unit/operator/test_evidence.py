"""Guarded conditions: what the bounds say decides, not where the value happens to be."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import EVIDENCE_BOUND, EVIDENCE_TIMESTAMP
from signalcanary.evaluate import Bound, Judgement, Measurement, MetricsSeen, Verdict, evaluate
from signalcanary.metrics_source import Series, Target, assemble

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
AUC, ECE, LAG = "slice_auc_active_period", "platt_ece", "merge_time_diff_ms_p99"
INF = math.inf


def spec_of(*conditions: dict[str, Any], canary: int = 1, rate: float = 0.05) -> SignalCanarySpec:
    symbols = [f"S{i}USDT" for i in range(canary)]
    return SignalCanarySpec.model_validate(
        {
            "version": "v1",
            "symbols": {"canary": symbols, "full": symbols},
            "rollback": {"conditions": list(conditions), "errorRate": rate},
        }
    )


def judge(condition: dict[str, Any], value: float, *bounds: Bound, **of: Any) -> Judgement:
    spec = spec_of(condition, **of)
    measurement = Measurement((value,), 5_000, NOW, bounds)
    seen = MetricsSeen({(condition["metric"], "S0USDT"): measurement})
    return evaluate(spec, seen, NOW)[0]


BELOW = {"metric": AUC, "below": 0.55}
ABOVE = {"metric": ECE, "above": 0.1}
CASES: dict[str, tuple[dict[str, Any], float, tuple[Bound, ...], Verdict, str]] = {
    "an AUC below its bound by chance": (
        BELOW,
        0.53,
        (Bound(0.05, 0.5, 0.58, 0.54, 0.57),),
        Verdict.UNPROVEN,
        "EvidenceInsufficient",
    ),
    "an AUC that is surely below": (
        BELOW,
        0.50,
        (Bound(0.05, 0.46, 0.549, 0.47, 0.56),),
        Verdict.BREACHED,
        "EvidenceBeyond",
    ),
    "an AUC that is surely above": (
        BELOW,
        0.58,
        (Bound(0.05, 0.56, 0.6, 0.55, 0.6),),
        Verdict.OK,
        "EvidenceWithin",
    ),
    "an AUC whose bound is the threshold itself": (
        BELOW,
        0.53,
        (Bound(0.05, 0.5, 0.55, 0.5, 0.56),),
        Verdict.UNPROVEN,
        "EvidenceInsufficient",
    ),
    "bad of late, good on the whole": (
        BELOW,
        0.52,
        (Bound(0.05, 0.57, 0.54, 0.57, 0.59),),
        Verdict.BREACHED,
        "EvidenceBeyond",
    ),
    "a calibration error above its bound by chance": (
        ABOVE,
        0.12,
        (Bound(0.05, 0.04, 0.2, 0.04, 0.2),),
        Verdict.UNPROVEN,
        "EvidenceInsufficient",
    ),
    "a calibration error that is surely above": (
        ABOVE,
        0.2,
        (Bound(0.05, 0.101, 0.3, 0.08, 0.3),),
        Verdict.BREACHED,
        "EvidenceBeyond",
    ),
    "a calibration error that is surely within": (
        ABOVE,
        0.04,
        (Bound(0.05, 0.0, 0.1, 0.0, 0.1),),
        Verdict.OK,
        "EvidenceWithin",
    ),
    "a whole that contradicts itself": (
        BELOW,
        0.58,
        (Bound(0.05, 0.4, 0.7, 0.57, 0.5),),
        Verdict.NO_DATA,
        "Contradictory",
    ),
    "nothing known yet": (BELOW, 0.3, (Bound(0.05),), Verdict.UNPROVEN, "EvidenceInsufficient"),
    "no evidence exported: the value decides": (
        BELOW,
        0.53,
        (),
        Verdict.BREACHED,
        "BeyondThreshold",
    ),
    "literal: the value decides": (
        BELOW | {"mode": "literal"},
        0.53,
        (Bound(0.05, 0.5, 0.58, 0.5, 0.58),),
        Verdict.BREACHED,
        "BeyondThreshold",
    ),
    "a lag has no evidence": (
        {"metric": LAG, "above": 2000},
        2500.0,
        (Bound(0.05, 0.0, 1.0, 0.0, 1.0),),
        Verdict.BREACHED,
        "BeyondThreshold",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_evidence_is_judged(
    case: tuple[dict[str, Any], float, tuple[Bound, ...], Verdict, str],
) -> None:
    condition, value, bounds, verdict, reason = case
    judgement = judge(condition, value, *bounds)
    assert (judgement.verdict, judgement.reason) == (verdict, reason)


LEVELS = tuple(Bound(level, upper=0.5 + level) for level in (0.05, 0.005, 0.0005))


@pytest.mark.parametrize(
    ("symbols", "rate", "level"),
    [(1, 0.05, 0.05), (2, 0.05, 0.005), (10, 0.05, 0.005), (11, 0.05, 0.0005), (1, 0.001, 0.0005)],
)
def test_the_error_rate_is_shared_by_all_that_is_judged(
    symbols: int, rate: float, level: float
) -> None:
    judgement = judge(BELOW, 0.5, *LEVELS, canary=symbols, rate=rate)
    assert judgement.bound is not None
    assert judgement.bound.level == level


def test_a_share_smaller_than_any_level_takes_the_strictest() -> None:
    judgement = judge(BELOW, 0.5, *LEVELS, canary=200)
    assert judgement.bound is not None
    assert judgement.bound.level == 0.0005


def test_the_message_says_what_is_known_and_how_surely() -> None:
    breached = judge(BELOW, 0.50, Bound(0.005, 0.46, 0.5432, 0.47, 0.56), rate=0.005)
    assert breached.message == (
        f"{AUC} on S0USDT is 0.5, at most 0.5432 with 99.5 % confidence (< 0.55)"
    )
    open_still = judge(BELOW, 0.56, Bound(0.05))
    assert open_still.message.endswith(
        "the evidence says ? to ? with 95 % confidence (< 0.55 is open)"
    )


# --------------------------------------------------------------------------- reading

TARGET = Target("ns", "demo", "0123abcd", "10s", frozenset({AUC}))
LABELS = {
    "namespace": "ns",
    "signalcanary": "demo",
    "track": "canary",
    "revision": "0123abcd",
    "symbol": "S0USDT",
    "metric": AUC,
    "horizon": "10s",
}


def bound_series(value: float, level: str, side: str, window: str, **more: str) -> Series:
    own = {"level": level, "side": side, "window": window}
    return Series(EVIDENCE_BOUND, LABELS | own | more, value)


def bounds_of(*series: Series) -> tuple[Bound, ...]:
    stamp = Series(EVIDENCE_TIMESTAMP, LABELS, NOW.timestamp())
    seen = assemble([TARGET], [stamp, *series])[TARGET]
    return seen.measurements[AUC, "S0USDT"].bounds


def test_the_four_ends_of_a_bound_are_put_together() -> None:
    assert bounds_of(
        bound_series(0.51, "0.05", "lower", "now"),
        bound_series(0.61, "0.05", "upper", "now"),
        bound_series(0.52, "0.05", "lower", "whole"),
        bound_series(0.62, "0.05", "upper", "whole"),
        bound_series(0.63, "0.005", "upper", "whole"),
    ) == (Bound(0.05, 0.51, 0.61, 0.52, 0.62), Bound(0.005, whole_upper=0.63))


@pytest.mark.parametrize(
    "labels",
    [
        {"track": "stable"},
        {"revision": "another"},
        {"namespace": "another"},
        {"metric": ECE},
        {"symbol": "S1USDT"},
    ],
)
def test_what_is_no_bound_of_this_canary_is_dropped(labels: dict[str, str]) -> None:
    assert bounds_of(bound_series(0.5, "0.05", "upper", "now", **labels)) == ()


@pytest.mark.parametrize(
    "series",
    [
        bound_series(0.5, "", "upper", "now"),
        bound_series(0.5, "nonsense", "upper", "now"),
        bound_series(0.5, "nan", "upper", "now"),
        bound_series(0.5, "0", "upper", "now"),
        bound_series(0.5, "1", "upper", "now"),
        bound_series(0.5, "0.05", "middle", "now"),
        bound_series(0.5, "0.05", "upper", "tomorrow"),
    ],
)
def test_a_bound_that_cannot_be_read_proves_nothing_and_is_not_judged_literally(
    series: Series,
) -> None:
    (bound,) = bounds_of(series)
    assert judge(BELOW, 0.3, bound).verdict is Verdict.UNPROVEN
    readable = Bound(0.05, upper=0.5)
    assert judge(BELOW, 0.3, bound, readable).bound == readable


@pytest.mark.parametrize("value", [math.nan, INF, -INF])
def test_an_end_that_is_no_number_never_makes_surer(value: float) -> None:
    # −∞ as an upper end would condemn: it is no number that analysis could have meant.
    (bound,) = bounds_of(bound_series(value, "0.05", "upper", "now"))
    assert bound.upper == INF


def test_of_two_series_of_one_end_the_more_cautious_is_believed() -> None:
    (bound,) = bounds_of(
        bound_series(0.5, "0.05", "upper", "now", pod="a"),
        bound_series(0.6, "0.05", "upper", "now", pod="b"),
        bound_series(0.4, "0.05", "lower", "now", pod="a"),
        bound_series(0.3, "0.05", "lower", "now", pod="b"),
    )
    assert (bound.lower, bound.upper) == (0.3, 0.6)


def test_evidence_does_not_outlive_its_value() -> None:
    stale = Measurement((0.5,), 5_000, NOW - timedelta(minutes=5), (Bound(0.05, upper=0.4),))
    seen = MetricsSeen({(AUC, "S0USDT"): stale})
    (judgement,) = evaluate(spec_of(BELOW), seen, NOW)
    assert judgement.verdict is Verdict.NO_DATA
