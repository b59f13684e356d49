"""Refusals where no API server stands guard: each says what to write."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from signalcanary.api import Condition, SignalCanarySpec, Tier
from signalcanary.lint import explain

GOOD: dict[str, Any] = {"version": "v1", "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]}}


def conditions(*items: dict[str, Any]) -> dict[str, Any]:
    return {"rollback": {"conditions": list(items)}}


ECE = {"metric": "platt_ece", "above": 0.1}
TWISTED, LOWER = {"warning": 0.78, "critical": 0.77}, {"warning": 0.59}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown metric": (conditions({"metric": "ece", "above": 1}), "write one of .*platt_ece"),
    "a counter that is not judged": (
        conditions({"metric": "cvd_direction_flipped_total", "above": 1}),
        "write one of",
    ),
    "both bounds": (conditions(ECE | {"below": 0}), "write exactly one of above and below"),
    "no bound": (conditions({"metric": "platt_ece"}), "write exactly one of above and below"),
    "an AUC that is bad when it is good": (
        conditions({"metric": "slice_auc_active_period", "above": 0.7499}),
        "a high AUC is good: write below",
    ),
    **{
        f"a low {metric}": (
            conditions({"metric": metric, "below": 0.05}),
            f"{metric}: this metric is bad when it is high: write above",
        )
        for metric in ("platt_ece", "platt_brier", "merge_time_diff_ms_p99")
    },
    "one direction twice": (conditions(ECE, ECE | {"above": 0.2}), "keep one of them"),
    **{
        f"{side} and {tiers} out of order": (
            conditions({"metric": "slice_auc_ny_session", side: bound} | tiers),
            f"slice_auc_ny_session: with {side}, write warning . critical . {side}",
        )
        for side, bound, wrong in (
            ("above", 0.8, ({"warning": 0.81}, {"critical": 0.81}, TWISTED)),
            ("below", 0.5, ({"warning": 0.49}, {"critical": 0.49}, {"critical": 0.6} | LOWER)),
        )
        for tiers in wrong
    },
    **{
        f"a {scope} of {quorum}": (
            {"rollback": {"scope": scope} | ({"quorum": quorum} if quorum else {})},
            "write quorum with scope: Quorum, and only there",
        )
        for scope, quorum in (("All", 2), ("Symbol", 0.5), ("Quorum", None))
    },
    "a quorum of one and a half": (
        {"rollback": {"scope": "Quorum", "quorum": 1.5}},
        "quorum: write a whole number of symbols such as 2, or a share below 1 such as 0.5",
    ),
    "a quorum of nothing": ({"rollback": {"scope": "Quorum", "quorum": 0}}, "greater than 0"),
    "a quorum that cannot be": (
        {"rollback": {"scope": "Quorum", "quorum": 2}},
        "rollback.quorum is more than there are canary symbols",
    ),
    "no evaluation at all": (conditions(ECE | {"consecutive": 0}), "greater than or equal to 1"),
    "no condition": (conditions(), "at least 1 item"),
    "a bound that is no number": (conditions(ECE | {"above": float("nan")}), "finite number"),
    "a duration without a unit": (conditions(ECE | {"for": "2"}), "write a duration such as"),
    "a symbol twice": (
        {"symbols": {"canary": ["BTCUSDT"] * 2, "full": ["BTCUSDT"]}},
        "BTCUSDT stands in canary twice: write each symbol once",
    ),
    "a canary outside the full set": (
        {"symbols": {"canary": ["ETHUSDT"], "full": ["BTCUSDT"]}},
        "add ETHUSDT to full, or take it out of canary",
    ),
    "no symbol": ({"symbols": {"canary": [], "full": []}}, "at least 1 item"),
    "two stages of one name": (
        {"stages": [{"name": "a", "duration": "1h"}] * 2},
        "give each a name of its own",
    ),
    "a shadow that publishes": (
        {"stages": [{"name": "shadow", "duration": "1h", "publish": True}]},
        "a stage called shadow publishes to nobody",
    ),
    "no stage": ({"stages": []}, "at least 1 item"),
    "a pace under a second": ({"evaluation": {"interval": "999ms"}}, "at least 1s"),
    "a pace of zero": ({"evaluation": {"interval": "0s"}}, "longer than 0s"),
    "weights that do not sum to one": (
        {"signal": {"fusion": {"active": {"ofi": 0.7, "cvd": 0.7}}}},
        r"must sum to 1, not 1.4; for example \{ofi: 0.6, cvd: 0.4\}",
    ),
    "a field that is not there": ({"stagse": []}, "stagse"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_what_to_write(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SignalCanarySpec.model_validate(GOOD | changes)


def test_the_least_that_must_be_written_is_enough() -> None:
    spec = SignalCanarySpec.model_validate(GOOD)
    assert [c.describe() for c in spec.rollback.conditions] == [
        "platt_ece > 0.1",
        "merge_time_diff_ms_p99 > 2000 ms for 5m",
        "slice_auc_active_period < 0.55",
    ]


def test_one_metric_may_be_bounded_on_both_sides() -> None:
    auc, rows = {"metric": "slice_auc_ny_session"}, {"metric": "platt_test_samples"}
    spec = SignalCanarySpec.model_validate(
        GOOD
        | conditions(
            auc | {"above": 0.75}, auc | {"below": 0.5}, rows | {"above": 9e6}, rows | {"below": 9}
        )
    )
    assert [c.key for c in spec.rollback.conditions] == [
        "slice_auc_ny_session>0.75",
        "slice_auc_ny_session<0.5",
        "platt_test_samples>9000000",
        "platt_test_samples<9",
    ]


def test_a_condition_says_all_that_it_asks() -> None:
    tail = {"metric": "cvd_z_tail_p2", "warning": 5, "critical": 8, "above": 10, "consecutive": 3}
    auc = {"metric": "slice_auc_ny_session", "warning": 0.5, "below": 0.5, "for": "2m"}
    spec = SignalCanarySpec.model_validate(GOOD | conditions(tail, auc | {"consecutive": 2}))
    assert [c.describe() for c in spec.rollback.conditions] == [
        "cvd_z_tail_p2 > 10 % at 3 evaluations in a row",
        "slice_auc_ny_session < 0.5 for 2m and at 2 evaluations in a row",
    ]
    assert explain(spec) == [
        "cvd_z_tail_p2: rolls back if > 10 % at 3 evaluations in a row, 20s after the "
        "first at the earliest (a look every 10s)",
        "cvd_z_tail_p2: no stage is passed and nothing promoted while > 8 %",
        "cvd_z_tail_p2: told while > 5 %",
        "slice_auc_ny_session: rolls back if < 0.5 for 2m and at 2 evaluations in a row, 2m after "
        "the first at the earliest (a look every 10s)",
        "slice_auc_ny_session: told while < 0.5",
    ]


def test_a_condition_that_one_look_would_decide_says_that_it_waits() -> None:
    tail, query = {"metric": "cvd_z_tail_p2", "above": 10}, {"name": "depth", "query": "x"}
    spec = SignalCanarySpec.model_validate(
        GOOD
        | conditions(
            tail,
            query | {"below": 3},
            {"metric": "platt_ece", "above": 0.1},
            {"metric": "merge_time_diff_ms_p99", "above": 2000, "mode": "literal"},
        )
    )
    waits = (
        "for 2m and at 3 evaluations in a row, 2m after the first at the earliest (a look every "
        "10s); it comes without bounds, so one look is not enough: write for or consecutive, or "
        "mode: literal to act at the first"
    )
    assert explain(spec) == [
        f"cvd_z_tail_p2: rolls back if > 10 % {waits}",
        f"depth: rolls back if < 3 {waits}",
    ]


@pytest.mark.parametrize(
    ("value", "above", "below"),
    [
        (4.9, Tier.NORMAL, Tier.CRITICAL),
        (5.0, Tier.NORMAL, Tier.CRITICAL),
        (5.1, Tier.WARNING, Tier.CRITICAL),
        (8.0, Tier.WARNING, Tier.WARNING),
        (8.1, Tier.CRITICAL, Tier.WARNING),
        (99.0, Tier.CRITICAL, Tier.NORMAL),
    ],
)
def test_a_value_is_in_the_worst_tier_that_it_is_beyond(
    value: float, above: Tier, below: Tier
) -> None:
    high = Condition(metric_="platt_test_samples", above=10, critical=8, warning=5)
    low = Condition(metric_="platt_test_samples", below=1, critical=8, warning=11)
    assert (high.tier_of(value), low.tier_of(value)) == (above, below)


@pytest.mark.parametrize(
    ("rollback", "most"),
    [
        ({}, 1),
        ({"scope": "Symbol"}, 100),
        *(
            ({"scope": "Quorum", "quorum": quorum}, most)
            for quorum, most in ((1, 1), (99, 99), (0.07, 7), (0.071, 8), (0.999, 100), (1e-9, 1))
        ),
    ],
)
def test_so_many_of_a_hundred_symbols_take_the_whole_canary_back(
    rollback: dict[str, Any], most: int
) -> None:
    symbols = [f"SYM{n}USDT" for n in range(100)]
    changes = {"symbols": {"canary": symbols, "full": symbols}, "rollback": rollback}
    assert SignalCanarySpec.model_validate(GOOD | changes).rollback.most_held(100) == most


def test_a_spec_reads_back_from_what_it_writes() -> None:
    spec = SignalCanarySpec.model_validate(GOOD)
    assert SignalCanarySpec.model_validate(spec.to_wire()) == spec


@pytest.mark.parametrize(
    ("value", "above", "below"), [(0.8, False, False), (0.81, True, False), (0.79, False, True)]
)
def test_a_bound_itself_is_not_beyond_it(value: float, above: bool, below: bool) -> None:
    auc = "slice_auc_active_period"
    assert Condition(metric_=auc, above=0.8).is_beyond(value) is above
    assert Condition(metric_=auc, below=0.8).is_beyond(value) is below
