"""The stable revision as the control: differences on the same rows, and whose fault a breach is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import DIFFERENCE, DIFFERENCE_BOUND, EVIDENCE_TIMESTAMP
from signalcanary.evaluate import Bound, Judgement, Measurement, MetricsSeen, Verdict, evaluate
from signalcanary.metrics_source import Series, Target, assemble

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
AUC, ECE = "slice_auc_active_period", "platt_ece"
SYMBOL = "BTCUSDT"


def spec_of(condition: dict[str, Any]) -> SignalCanarySpec:
    return SignalCanarySpec.model_validate(
        {
            "version": "v1",
            "symbols": {"canary": [SYMBOL], "full": [SYMBOL]},
            "rollback": {"conditions": [condition]},
        }
    )


def measured(value: float, *bounds: Bound) -> Measurement:
    return Measurement((value,), 5_000, NOW, bounds)


def judge(
    condition: dict[str, Any],
    own: Measurement,
    difference: Measurement | None,
    has_stable: bool = True,
) -> Judgement:
    key = (condition["metric"], SYMBOL)
    seen = MetricsSeen({key: own}, differences={} if difference is None else {key: difference})
    (judgement,) = evaluate(spec_of(condition), seen, NOW, has_stable=has_stable)
    return judgement


LEVEL = {"metric": AUC, "below": 0.55}
BAD = measured(0.50, Bound(0.05, 0.47, 0.53, 0.47, 0.53))


@pytest.mark.parametrize(
    ("difference", "verdict", "reason"),
    [
        pytest.param(
            measured(-0.08, Bound(0.05, -0.12, -0.04, -0.12, -0.04)),
            Verdict.BREACHED,
            "EvidenceBeyond",
            id="stable is good at 0.58: the canary's fault",
        ),
        pytest.param(
            measured(0.0, Bound(0.05, -0.02, 0.02, -0.02, 0.02)),
            Verdict.INCONCLUSIVE,
            "SharedWithStable",
            id="stable is as bad: the market",
        ),
        pytest.param(
            measured(-0.03, Bound(0.05, -0.05, -0.01, -0.05, -0.01)),
            Verdict.BREACHED,
            "EvidenceBeyond",
            id="stable is bad too, but the canary is surely worse",
        ),
        pytest.param(
            measured(-0.03, Bound(0.05, -0.07, 0.01, -0.07, 0.01)),
            Verdict.INCONCLUSIVE,
            "SharedWithStable",
            id="stable is bad too, and the canary perhaps worse",
        ),
        pytest.param(
            measured(0.0), Verdict.BREACHED, "EvidenceBeyond", id="a difference without evidence"
        ),
        pytest.param(None, Verdict.BREACHED, "EvidenceBeyond", id="no difference known"),
    ],
)
def test_a_breach_is_excused_only_if_stable_shares_it(
    difference: Measurement | None, verdict: Verdict, reason: str
) -> None:
    judgement = judge(LEVEL, BAD, difference)
    assert (judgement.verdict, judgement.reason) == (verdict, reason)


def test_a_literal_breach_is_not_excused() -> None:
    shared = measured(0.0, Bound(0.05, -0.02, 0.02, -0.02, 0.02))
    assert judge(LEVEL | {"mode": "literal"}, BAD, shared).verdict is Verdict.BREACHED


def test_a_calibration_error_is_excused_in_its_own_direction() -> None:
    bad = measured(0.2, Bound(0.05, 0.15, 0.3, 0.15, 0.3))
    condition = {"metric": ECE, "above": 0.1}
    shared = measured(0.01, Bound(0.05, -0.03, 0.04, -0.03, 0.04))
    worse = measured(0.05, Bound(0.05, 0.01, 0.09, 0.01, 0.09))
    assert judge(condition, bad, shared).reason == "SharedWithStable"
    assert judge(condition, bad, worse).verdict is Verdict.BREACHED


# --------------------------------------------------------------------------- bounds on differences

WORSE = {"metric": AUC, "below": -0.02, "of": "difference"}
GOOD = measured(0.60, Bound(0.05, 0.58, 0.62, 0.58, 0.62))


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (measured(-0.06, Bound(0.05, -0.09, -0.03, -0.09, -0.03)), Verdict.BREACHED),
        (measured(-0.01, Bound(0.05, -0.04, 0.02, -0.04, 0.02)), Verdict.UNPROVEN),
        (measured(0.01, Bound(0.05, -0.02, 0.04, -0.02, 0.04)), Verdict.OK),
        (measured(-0.03), Verdict.BREACHED),
        (None, Verdict.NO_DATA),
    ],
)
def test_a_difference_is_judged_by_its_evidence(
    difference: Measurement | None, verdict: Verdict
) -> None:
    assert judge(WORSE, GOOD, difference).verdict is verdict


def test_without_a_stable_revision_there_is_nothing_to_be_worse_than() -> None:
    judgement = judge(WORSE, GOOD, None, has_stable=False)
    assert (judgement.verdict, judgement.reason) == (Verdict.OK, "NoStable")


def test_a_relative_difference_is_a_share_of_stable() -> None:
    # The canary shows 0.55 and stable 0.6 − a share of −1/12.
    own, difference = measured(0.55), measured(-0.05, Bound(0.05, -0.06, -0.04, -0.06, -0.04))
    condition = {"metric": AUC, "below": -0.05, "of": "relative"}
    judgement = judge(condition, own, difference)
    assert judgement.value == pytest.approx(-1 / 12)
    assert judgement.bound is not None
    assert judgement.bound.upper == pytest.approx(-0.04 / 0.6)
    assert judgement.verdict is Verdict.BREACHED
    assert judge(condition | {"below": -0.09}, own, difference).verdict is Verdict.UNPROVEN


@pytest.mark.parametrize("own", [Measurement((), 5_000, NOW), measured(-0.05)])
def test_a_relative_difference_to_nothing_is_not_judged(own: Measurement) -> None:
    # Stable would be at 0, or is not known.
    judgement = judge(WORSE | {"of": "relative"}, own, measured(-0.05))
    assert judgement.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("value", [-1.01, 1.01])
def test_a_difference_that_cannot_be_is_no_data(value: float) -> None:
    assert judge(WORSE, GOOD, measured(value)).reason == "OutOfRange"


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"metric": "merge_time_diff_ms_p99", "above": 1, "of": "difference"}, "are compared with"),
        ({"metric": AUC, "above": 0.02, "of": "difference"}, "write below, for example"),
        ({"metric": ECE, "below": -0.02, "of": "relative"}, "write above"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(condition: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec_of(condition)


def test_a_level_and_a_difference_of_one_metric_may_stand_together() -> None:
    spec = SignalCanarySpec.model_validate(
        {
            "version": "v1",
            "symbols": {"canary": [SYMBOL], "full": [SYMBOL]},
            "rollback": {"conditions": [LEVEL, WORSE]},
        }
    )
    keys = [condition.key for condition in spec.rollback.conditions]
    assert keys == [f"{AUC}<0.55", f"{AUC} − stable<-0.02"]
    assert spec.rollback.conditions[1].describe() == f"{AUC} − stable < -0.02"


# --------------------------------------------------------------------------- reading


def test_differences_are_read_beside_the_values() -> None:
    labels = {
        "namespace": "ns",
        "signalcanary": "demo",
        "track": "canary",
        "revision": "0123abcd",
        "symbol": SYMBOL,
        "horizon": "10s",
        "metric": AUC,
    }
    end = {"level": "0.05", "side": "upper", "window": "now", "control": "deadbeef"}
    target = Target("ns", "demo", "0123abcd", "10s", frozenset({AUC}))
    seen = assemble(
        [target],
        [
            Series(AUC, {k: v for k, v in labels.items() if k != "metric"}, 0.55),
            Series(EVIDENCE_TIMESTAMP, labels, NOW.timestamp()),
            Series(DIFFERENCE, labels | {"control": "deadbeef"}, -0.03),
            Series(DIFFERENCE_BOUND, labels | end, -0.01),
        ],
    )[target]
    assert seen.measurements[AUC, SYMBOL].values == (0.55,)
    assert seen.measurements[AUC, SYMBOL].bounds == ()
    assert seen.differences[AUC, SYMBOL] == Measurement(
        (-0.03,), None, NOW, (Bound(0.05, upper=-0.01),)
    )
