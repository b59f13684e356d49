"""What people read of an object that a real rollout has left, and what scripts do."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from console_kit import BAD, DOWN, MINUTE, SPEC, Story, progressing, rolled_back

from signalcanary.api import SignalCanarySpec
from signalcanary.console import text
from signalcanary.console.explained import explain
from signalcanary.console.health import Health, stand, worst
from signalcanary.console.history import history
from signalcanary.evaluate import Bound, Measurement, MetricsSeen
from signalcanary.resources import Owner, build_controller_revision
from signalcanary.revisions import build_revision

OPEN = Bound(0.005, 0.03, 0.12, 0.02, 0.15)


def health(story: Story, after: timedelta = timedelta(0), **metadata: Any) -> Health:
    return stand(story.item(**metadata), story.now + after).health


def test_an_object_that_no_operator_has_seen_is_held_and_says_what_to_look_for() -> None:
    standing = stand(Story().item(), Story().now)
    assert (standing.health, standing.exit_code) == (Health.HELD, 4)
    assert "see that one runs" in standing.why


def test_a_canary_that_goes_on_is_progressing() -> None:
    assert health(progressing()) is Health.PROGRESSING
    assert stand(progressing().item(), progressing().now).exit_code == 0


def test_a_breach_and_a_rollback_are_degraded() -> None:
    story = progressing()
    story.looks(1, ece=0.2, bound=BAD)
    assert health(story) is Health.DEGRADED
    assert health(rolled_back()) is Health.DEGRADED
    assert stand(rolled_back().item(), rolled_back().now).exit_code == 3


def test_a_source_that_cannot_be_read_and_a_clock_that_stands_still_hold() -> None:
    story = progressing()
    story.look(DOWN)
    assert health(story) is Health.HELD
    story = progressing()
    story.looks(1, ece=None)
    assert health(story) is Health.HELD


def test_an_operator_that_has_gone_silent_over_a_canary_holds() -> None:
    story = progressing()
    assert health(story, timedelta(minutes=4)) is Health.PROGRESSING
    assert health(story, timedelta(minutes=6)) is Health.HELD
    assert "nobody guards the canary" in stand(story.item(), story.now + 6 * MINUTE).why


def test_at_rest_the_operator_writes_nothing_and_that_is_no_silence() -> None:
    assert stand(rolled_back().item(), rolled_back().now + timedelta(days=3)).why == ""


def test_a_spec_that_the_operator_has_not_seen_yet_holds() -> None:
    assert health(progressing(), generation=3) is Health.HELD


def test_evidence_that_is_waited_for_after_the_last_stage_holds() -> None:
    spec = SPEC.to_wire() | {"stages": [{"name": "only", "duration": "2m"}]}
    story = Story(SignalCanarySpec.model_validate(spec))
    story.look(MetricsSeen())
    story.looks(3, bound=OPEN)
    assert health(story) is Health.PROGRESSING
    story.looks(4, bound=OPEN)
    assert story.status["phase"] == "Progressing"
    assert health(story) is Health.HELD


def test_the_worst_of_several_counts() -> None:
    standings = [stand(s.item(), s.now) for s in (progressing(), rolled_back(), Story())]
    assert worst(standings).exit_code == 3
    assert worst([]).exit_code == 0


# ------------------------------------------------------------------ explain


def test_a_rollback_is_explained_after_the_fact_with_all_it_rests_on() -> None:
    story = rolled_back()
    document = explain(story.item(), story.now + timedelta(days=2))
    row = document["decision"]["conditions"][0]
    assert (row["symbol"], row["value"], row["samples"]) == ("BTCUSDT", 0.2, 1800)
    assert (row["effectiveSamples"], row["breachedFor"]) == (430, "2m")
    assert row["wouldChange"] == (
        "keeping it takes evidence that leaves 0.1 open at one look within 2m"
    )
    assert row["test"] == "guarded: by bounds that hold at every look, but for a chance of 0.005"
    assert row["query"] == (
        'platt_ece{namespace="trading",signalcanary="demo",'
        f'revision="{story.target.name}",track="canary",symbol="BTCUSDT",horizon=~"10s|"}}'
    )
    told = text.render_explanation(document, story.now + timedelta(days=2))
    assert "0.15 to 0.3 by the rows of late, 0.12 to 0.25 by all rows since the start" in told
    assert "0.2 on 1,800 rows, worth 430 independent ones" in told
    assert "Degraded: RolledBack" in told


def test_of_the_present_it_says_what_blocks_and_what_comes_when() -> None:
    story = progressing()
    story.looks(1, bound=OPEN)
    document = explain(story.item(), story.now)
    assert document["blocks"][-1] == "stage shadow has 40m more to be observed"
    assert "BTCUSDT: platt_ece > 0.1 for 2m: Unproven" in document["blocks"][0]
    assert "at about 13:02:00 UTC" in document["next"]
    assert document["conditions"][0]["wouldChange"] == (
        "Ok takes evidence that it is at most 0.1 (as far as is known it may be 0.15); "
        "a rollback takes a lower bound of late above 0.1 for 2m (it is 0.03)"
    )
    assert document["conditions"][1]["test"] == "literal: the value itself, at every look"


def test_what_nobody_can_judge_for_one_reason_is_told_once_for_all_symbols() -> None:
    story = progressing()
    story.looks(1, ece=None)
    blocks = explain(story.item(), story.now)["blocks"]
    (told,) = (line for line in blocks if "platt_ece" in line)
    assert told == "BTCUSDT, ETHUSDT: platt_ece > 0.1 for 2m: Inconclusive (NoValue)"


@pytest.mark.parametrize(
    ("metrics", "wanted"),
    [
        pytest.param({"ece": None, "warmup": 0.4}, "judged once there is a value", id="warming up"),
        pytest.param({}, "a rollback takes a value above 2000 for 5m", id="Ok, literal"),
        pytest.param(
            {"lag": 3000.0},
            "keeping it takes a value of at most 2000 at one look",
            id="breached, literal",
        ),
    ],
)
def test_what_would_change_a_verdict_is_said_of_each(metrics: dict[str, Any], wanted: str) -> None:
    story = progressing()
    story.looks(1, **metrics)
    rows = explain(story.item(), story.now)["conditions"]
    assert any(row["wouldChange"].startswith(wanted) for row in rows)


def test_a_condition_from_below_has_an_upper_bound_and_no_value_promises_no_test() -> None:
    wire = SPEC.to_wire()
    wire["rollback"]["conditions"] = [{"metric": "slice_auc_active_period", "below": 0.55}]
    story = Story(SignalCanarySpec.model_validate(wire))
    story.look(MetricsSeen())
    story.looks(1)
    at = story.now + timedelta(seconds=59)
    measured = Measurement((0.6,), 1800, at, (Bound(0.005, 0.57, 0.63, 0.58, 0.62),))
    key = ("slice_auc_active_period", "BTCUSDT")
    story.look(MetricsSeen({key: measured}, revision=story.target.name))
    (row, other) = explain(story.item(), story.now)["conditions"]
    assert row["wouldChange"] == "a rollback takes an upper bound of late below 0.55 (it is 0.63)"
    row = other
    assert row["verdict"] == "NoData"
    assert (
        row["test"] == "guarded: by bounds that hold at every look, where they come with the value"
    )


def test_a_number_and_its_per_cent_sign_stay_on_one_line() -> None:
    for length in range(60, 110):
        lines = text.paragraph("why", "x" * length + " 99.5 % confidence")
        assert any("99.5 %" in line for line in lines)
        assert "\N{NO-BREAK SPACE}" not in "".join(lines)


def test_a_condition_that_the_spec_has_lost_is_still_explained() -> None:
    story = rolled_back()
    item = story.item()
    item["spec"]["rollback"]["conditions"] = [{"metric": "platt_brier", "above": 0.3}]
    (row, *_) = explain(item, story.now)["decision"]["conditions"]
    assert (row["query"], row["value"]) == ("", 0.2)


def test_a_query_of_ones_own_is_shown_filled_in() -> None:
    spec = SPEC.to_wire()
    spec["rollback"]["conditions"] = [
        {"name": "depth", "query": 'book{symbol="{{symbol}}",x="{{name}}"}', "below": 3}
    ]
    story = Story(SignalCanarySpec.model_validate(spec))
    story.look(MetricsSeen())
    story.looks(1)
    (row, *_) = explain(story.item(), story.now)["conditions"]
    assert row["query"] == 'book{symbol="BTCUSDT",x="demo"}'
    assert row["verdict"] == "NoData"


def test_what_is_printed_for_programs_is_json() -> None:
    for story in (Story(), progressing(), rolled_back()):
        json.dumps(explain(story.item(), story.now), allow_nan=False)


# ------------------------------------------------------------------ status and history


def test_the_list_has_a_line_each_and_says_why_one_is_not_well() -> None:
    story = rolled_back()
    document = {
        "namespace": "trading",
        "name": "demo",
        "created": "2026-05-01T12:00:00Z",
        "health": "Degraded",
        "why": story.status["message"],
        "status": story.status,
    }
    lines = text.render_list([document], story.now, named=True).splitlines()
    titles = "NAMESPACE NAME HEALTH PHASE STAGE PROGRESS WORST CANARY STABLE AGE"
    assert " ".join(lines[0].split()) == titles
    assert " ".join(lines[1].split()) == "trading demo Degraded RolledBack – – – v2 v1 26m"
    assert lines[3].startswith("demo: rolled back v2: platt_ece > 0.1 for 2m on BTCUSDT")


def test_history_puts_status_events_and_revisions_together_once() -> None:
    story = rolled_back()
    item = story.item()
    first = item["status"]["history"][-1]
    events = [
        # The Event of a transition that status tells, to the second; and one that it does not.
        {"reason": first["reason"], "firstTimestamp": first["time"][:19] + "Z", "message": "same"},
        {"reason": "Refused", "firstTimestamp": "2026-05-01T12:10:30Z", "message": "over quota"},
    ]
    record = build_controller_revision(
        Owner("trading", "demo", "u-1"), story.target, build_revision(story.spec, "img:1")
    )
    record["metadata"]["creationTimestamp"] = "2026-05-01T12:01:00Z"
    strangers = {**record, "metadata": {**record["metadata"], "ownerReferences": []}}
    document = history(item, events, [record, strangers])
    reasons = [entry["reason"] for entry in document["history"]]
    assert reasons == [
        "RolloutStarted",
        "CanaryRunning",
        "StageStarted",
        "Refused",
        "ConditionBreached",
        "ConditionBreached",
    ]
    assert [(r["name"], r["role"]) for r in document["revisions"]] == [
        (story.target.name, "rejected")
    ]
    told = text.render_history(document, story.now)
    assert "over quota" in told
    assert "img:1" in told
