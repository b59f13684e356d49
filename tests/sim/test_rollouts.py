"""Stories: what happens to a canary, told from its first look to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from signalcanary.contract import Track
from signalcanary.evaluate import Verdict
from signalcanary.lifecycle import decide
from signalcanary.rollout import (
    Phase,
    RolloutState,
    plan,
)

Start = Callable[..., Any]

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BAD = {
    "platt_ece": 0.25,
    "merge_time_diff_ms_p99": 2600.0,
    "slice_auc_active_period": 0.5,
}
PROMOTED = [
    "RolloutStarted",
    "CanaryRunning",
    "StageStarted",
    "StageStarted",
    "StagesPassed",
    "Promoted",
]


def serving(state: RolloutState) -> set[str]:
    return {p.revision.version for p in plan(state) if p.track is Track.STABLE}


def test_a_healthy_first_version_is_promoted_through_its_stages(start: Start) -> None:
    sim = start()
    sim.run_until(Phase.SUCCEEDED)
    assert sim.reasons == PROMOTED
    assert sim.state.stable.version == "v1"
    assert sim.state.canary is None
    assert 40 * MINUTE <= sim.age <= 42 * MINUTE


def test_the_default_48_hours_are_observed_in_full(start: Start) -> None:
    sim = start(
        stages=[{"name": "canary", "duration": "48h"}],
        evaluation={"interval": "5m", "staleAfter": "10m"},
    )
    sim.run_until(Phase.SUCCEEDED)
    assert 48 * HOUR <= sim.age <= 48 * HOUR + 30 * MINUTE


def test_at_rest_nothing_changes_any_more(start: Start) -> None:
    sim = start()
    sim.run_until(Phase.SUCCEEDED)
    before = sim.state
    sim.run(10 * MINUTE)
    assert sim.state == before
    assert sim.reasons == PROMOTED


@pytest.mark.parametrize(
    ("metric", "hold"),
    [
        pytest.param("platt_ece", 2 * MINUTE, id="calibration error"),
        pytest.param("merge_time_diff_ms_p99", 5 * MINUTE, id="merge lag"),
        pytest.param("slice_auc_active_period", 10 * MINUTE, id="ranking in the active period"),
    ],
)
@pytest.mark.parametrize("has_stable", [True, False], ids=["beside a stable", "first rollout"])
def test_each_condition_of_the_seed_rolls_back_within_its_time_and_two_looks(
    progressing: Start, metric: str, hold: timedelta, has_stable: bool
) -> None:
    sim = progressing(stable=has_stable, stages=[{"name": "canary", "duration": "48h"}])
    sim.world.values[metric] = BAD[metric]
    took = sim.run_until(Phase.ROLLING_BACK)
    assert hold <= took <= hold + 2 * sim.spec.evaluation.interval
    assert metric in sim.state.message
    assert "BTCUSDT" in sim.state.message
    assert f"{BAD[metric]:g}" in sim.state.message
    sim.run_until(Phase.ROLLED_BACK)
    assert sim.reasons == ["ConditionBreached", "ConditionBreached"]
    assert sim.state.rejected.version == "v1"
    assert serving(sim.state) == ({"v0"} if has_stable else set())


def test_the_first_rollout_rolled_back_leaves_nothing_serving_and_says_so(
    progressing: Start,
) -> None:
    sim = progressing(stable=False)
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK)
    assert plan(sim.state) == ()
    begun, done = sim.state.history[1], sim.state.message
    assert begun.consequence == "there is no stable revision yet, so nothing serves"
    assert begun.message == f"rolling back {begun.cause}; {begun.consequence}"
    assert done == "v1 has no pod any more, and nothing serves"
    # It is told once.
    assert sim.status["message"] == f"rolled back {begun.cause}; {done}"


def test_a_rollback_beside_a_stable_says_what_keeps_running(progressing: Start) -> None:
    sim = progressing()
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK)
    begun, done = sim.state.history[1], sim.state.history[0].message
    decided = begun.message
    assert decided.startswith("rolling back v1: platt_ece > 0.1 for 2m on BTCUSDT: it is 0.3")
    assert begun.cause.startswith("v1: platt_ece > 0.1 for 2m on BTCUSDT: it is 0.3")
    assert begun.cause.endswith(" would have kept it")
    assert begun.consequence == "stable v0 keeps running"
    assert decided == f"rolling back {begun.cause}; {begun.consequence}"
    # The second Event does not say the first one again.
    assert done == f"v1 has no pod any more, and v0 (revision {sim.state.stable.name}) serves"
    assert sim.status["message"] == f"rolled back {begun.cause}; {done}"
    conditions = {c["type"]: c["message"] for c in sim.status["conditions"]}
    assert conditions["RolledBack"] == conditions["Stalled"] == sim.status["message"]


def test_a_canary_that_is_young_does_not_look_ill(start: Start) -> None:
    sim = start()
    sim.world.samples = 0
    sim.world.values.clear()
    sim.run(2 * MINUTE)
    assert (sim.phase, sim.status["health"]) == (Phase.WARMING, "Warming")
    sim.world.silent["BTCUSDT"] = sim.now
    sim.run(MINUTE)
    assert sim.status["health"] == "Warming"
    sim.run(2 * MINUTE)
    assert sim.status["health"] == "NoData", "that is no matter of its age any more"
    sim.world.silent.clear()
    sim.world.values |= {"platt_ece": 0.3}
    sim.world.samples = 5000
    sim.run(MINUTE)
    assert sim.status["health"] == "Breached"


def test_a_breach_that_ends_in_time_does_not_roll_back(progressing: Start) -> None:
    sim = progressing()
    for _ in range(3):
        sim.world.values["platt_ece"] = 0.3
        sim.run(110 * SECOND)
        sim.world.values["platt_ece"] = 0.05
        sim.run(10 * SECOND)
        assert sim.state.timers == {}
    assert sim.reasons == []
    sim.run_until(Phase.SUCCEEDED)


def test_a_condition_without_a_time_rolls_back_at_the_first_breach(progressing: Start) -> None:
    sim = progressing(
        stable=False, rollback={"conditions": [{"metric": "platt_ece", "above": 0.1}]}
    )
    sim.world.values["platt_ece"] = 0.3
    assert sim.run_until(Phase.ROLLING_BACK) == 10 * SECOND


def test_two_breaches_at_once_name_the_first_of_the_spec(progressing: Start) -> None:
    sim = progressing(
        rollback={
            "conditions": [
                {"metric": "slice_auc_active_period", "below": 0.55, "for": "1m"},
                {"metric": "platt_ece", "above": 0.1, "for": "1m"},
            ]
        }
    )
    sim.world.values |= BAD
    sim.run_until(Phase.ROLLING_BACK)
    assert "slice_auc_active_period < 0.55 for 1m" in sim.state.message
    assert "platt_ece" not in sim.state.message


def test_one_bad_symbol_of_several_rolls_all_back(progressing: Start) -> None:
    sim = progressing(symbols={"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT"]})
    sim.world.of_symbol["platt_ece", "ETHUSDT"] = 0.3
    sim.run_until(Phase.ROLLING_BACK)
    assert "ETHUSDT" in sim.state.message


# ------------------------------------------------------------------ blind time


@pytest.mark.parametrize("blind", [MINUTE, HOUR, 47 * HOUR], ids=["a minute", "an hour", "47 h"])
def test_blind_time_counts_toward_nothing_and_the_canary_goes_on_after_it(
    progressing: Start, blind: timedelta
) -> None:
    sim = progressing()
    sim.run(5 * MINUTE)
    sim.world.values["platt_ece"] = 0.3
    sim.run(MINUTE)
    breach = sim.state.timers["platt_ece>0.1", "BTCUSDT"].elapsed(sim.now)
    stage = sim.state.stage_clock.elapsed(sim.now)

    sim.world.source_answers = False
    sim.run(blind, step=max(10 * SECOND, blind / 200))
    assert sim.phase is Phase.PROGRESSING
    assert sim.reasons == []
    assert "unreachable" in sim.status["message"]

    sim.world.source_answers = True
    sim.world.values["platt_ece"] = 0.05
    sim.now += 10 * SECOND
    sim.look()
    one_step = max(10 * SECOND, blind / 200)
    assert sim.state.stage_clock.elapsed(sim.now) - stage <= one_step
    assert breach < 2 * MINUTE
    sim.run_until(Phase.SUCCEEDED)
    assert "ConditionBreached" not in sim.reasons


def test_a_breach_goes_on_after_blind_time_where_it_stood(progressing: Start) -> None:
    sim = progressing()
    sim.world.values["platt_ece"] = 0.3
    sim.run(70 * SECOND)
    sim.world.source_answers = False
    sim.run(HOUR)
    sim.world.source_answers = True
    took = sim.run_until(Phase.ROLLING_BACK)
    assert 40 * SECOND <= took <= 70 * SECOND


def test_blind_time_is_no_silence(progressing: Start) -> None:
    sim = progressing()
    sim.world.silent["BTCUSDT"] = sim.now
    sim.run(5 * MINUTE)
    sim.world.source_answers = False
    sim.run(3 * HOUR)
    assert sim.reasons == []
    sim.world.source_answers = True
    took = sim.run_until(Phase.ROLLING_BACK)
    assert 5 * MINUTE <= took <= 6 * MINUTE + 20 * SECOND
    assert sim.state.reason == "CanarySilent"


# ------------------------------------------------------------------ silence


def test_a_silent_canary_stops_the_clocks_and_is_rolled_back_in_the_end(
    progressing: Start,
) -> None:
    sim = progressing()
    sim.world.silent["BTCUSDT"] = sim.now
    sim.run(2 * MINUTE)
    stage = sim.state.stage_clock.elapsed(sim.now)
    assert stage <= 70 * SECOND
    sim.run(5 * MINUTE)
    assert sim.state.stage_clock.elapsed(sim.now) == stage
    took = 7 * MINUTE + sim.run_until(Phase.ROLLING_BACK)
    assert 11 * MINUTE <= took <= 11 * MINUTE + 20 * SECOND  # staleAfter + noDataAfter
    assert sim.state.reason == "CanarySilent"
    assert "BTCUSDT" in sim.state.message


def test_a_canary_that_speaks_again_is_not_silent(progressing: Start) -> None:
    sim = progressing()
    for _ in range(3):
        sim.world.silent["BTCUSDT"] = sim.now
        sim.run(10 * MINUTE)
        sim.world.silent.clear()
        sim.run(20 * SECOND)
    assert sim.reasons == []


def test_a_canary_whose_pods_never_start_is_rolled_back(start: Start) -> None:
    sim = start()
    sim.world.pods_start = False
    took = sim.run_until(Phase.ROLLING_BACK)
    assert 10 * MINUTE <= took <= 10 * MINUTE + 20 * SECOND
    assert sim.state.reason == "CanaryNotRunning"
    assert "its pods were not ready for 10m" in sim.state.message


def test_a_silence_that_stable_shares_holds_and_rolls_nothing_back(progressing: Start) -> None:
    sim = progressing()
    stopped = sim.now
    sim.world.silent["BTCUSDT"] = sim.world.stable_silent["BTCUSDT"] = stopped
    sim.run(3 * HOUR)
    assert sim.phase is Phase.PROGRESSING
    assert "silent on the stable track too" in sim.status["message"]
    sim.world.stable_silent.clear()
    took = sim.run_until(Phase.ROLLING_BACK)
    assert sim.state.reason == "CanarySilent"
    assert took >= 9 * MINUTE, "the shared silence did not count"


def test_too_few_samples_hold_the_canary_in_warming(start: Start) -> None:
    sim = start(
        rollback={"conditions": [{"metric": "platt_ece", "above": 0.1, "minSamples": 1000}]}
    )
    sim.world.samples = 10
    sim.world.values["platt_ece"] = 0.9
    sim.run(3 * HOUR, step=MINUTE)
    assert sim.phase is Phase.WARMING
    sim.world.samples = 1000
    sim.world.values["platt_ece"] = 0.01
    sim.run_until(Phase.SUCCEEDED)


# ------------------------------------------------------------------ promotion


def test_a_stage_that_is_over_waits_for_every_condition_to_be_ok(progressing: Start) -> None:
    sim = progressing(
        stages=[{"name": "canary", "duration": "10m"}],
        rollback={"conditions": [{"metric": "platt_ece", "above": 0.1, "for": "1h"}]},
    )
    sim.world.values["platt_ece"] = 0.3
    sim.run(30 * MINUTE)
    assert sim.phase is Phase.PROGRESSING
    assert sim.last.judgements[0].verdict is Verdict.BREACHED
    sim.world.values["platt_ece"] = 0.05
    sim.run_until(Phase.SUCCEEDED, within=MINUTE)


def test_a_breach_while_promoting_rolls_back_and_leaves_the_stable_untouched(
    progressing: Start,
) -> None:
    sim = progressing()
    sim.world.pods_start = False
    sim.run_until(Phase.PROMOTING)
    stable = sim.state.stable
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK, within=3 * MINUTE)
    assert sim.state.stable == stable
    assert [p.revision for p in plan(sim.state)] == [stable]


# ------------------------------------------------------------------ edits


def test_a_spec_edited_under_the_canary_starts_a_new_rollout(progressing: Start) -> None:
    sim = progressing()
    sim.run(5 * MINUTE)
    first = sim.state.canary
    sim.edit(version="v2")
    sim.look()
    assert sim.phase in (Phase.PENDING, Phase.WARMING)
    assert sim.state.canary != first
    assert sim.state.stage_clock is None
    sim.run_until(Phase.SUCCEEDED)
    assert sim.state.stable.version == "v2"


def test_an_edit_back_to_the_stable_version_ends_the_canary(progressing: Start) -> None:
    sim = progressing()
    sim.edit(version="v0")
    sim.run(20 * SECOND)
    assert (sim.phase, sim.state.reason) == (Phase.SUCCEEDED, "AlreadyStable")
    assert serving(sim.state) == {"v0"}
    assert sim.state.canary is None


def test_an_edit_back_to_the_stable_version_heals_a_rollback(progressing: Start) -> None:
    sim = progressing()
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK)
    sim.edit(version="v0")
    sim.run(20 * SECOND)
    assert (sim.phase, sim.state.reason) == (Phase.SUCCEEDED, "AlreadyStable")
    assert sim.state.rejected is None


def test_a_spec_that_was_rolled_back_is_not_tried_again(progressing: Start) -> None:
    sim = progressing()
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK)
    state = sim.state
    sim.world.values["platt_ece"] = 0.05
    sim.run(24 * HOUR, step=10 * MINUTE)
    assert sim.state == state


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": "v2"}, id="a new version"),
        pytest.param({"stages": [{"name": "canary", "duration": "20m"}]}, id="only the stages"),
        pytest.param({"evaluation": {"interval": "20s"}}, id="only the pace"),
    ],
)
def test_any_change_of_the_spec_after_a_rollback_is_a_new_try(
    progressing: Start, change: dict[str, Any]
) -> None:
    sim = progressing()
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK)
    rejected = sim.state.rejected
    sim.world.values["platt_ece"] = 0.05
    sim.edit(**change)
    sim.run_until(Phase.PROGRESSING)
    assert sim.state.canary.attempt > rejected.attempt, "evidence must be collected anew"
    sim.run_until(Phase.SUCCEEDED)


def test_an_edit_while_rolling_back_waits_until_the_pods_are_gone(progressing: Start) -> None:
    sim = progressing()
    sim.world.pods_stop = False
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLING_BACK)
    sim.world.values["platt_ece"] = 0.05
    sim.edit(version="v2")
    sim.run(HOUR, step=MINUTE)
    assert sim.phase is Phase.ROLLING_BACK
    assert sim.state.rejected.version == "v1"
    sim.world.pods_stop = True
    sim.run_until(Phase.SUCCEEDED)
    assert sim.state.stable.version == "v2"


def test_two_edits_while_rolling_back_take_up_the_last(progressing: Start) -> None:
    sim = progressing()
    sim.world.pods_stop = False
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLING_BACK)
    sim.edit(version="v2")
    sim.run(MINUTE)
    sim.edit(version="v0")
    sim.world.pods_stop = True
    sim.run(MINUTE)
    assert (sim.phase, sim.state.reason) == (Phase.SUCCEEDED, "AlreadyStable")


def test_a_stage_renamed_under_the_canary_is_observed_from_the_first_stage(
    progressing: Start,
) -> None:
    sim = progressing()
    sim.run(9 * MINUTE)
    sim.edit(stages=[{"name": "careful", "duration": "15m"}, {"name": "wide", "duration": "5m"}])
    sim.now += 10 * SECOND
    sim.look()
    assert sim.state.stage == "careful"
    assert sim.state.stage_clock.elapsed(sim.now) == timedelta(0)
    canary = sim.state.canary
    took = sim.run_until(Phase.SUCCEEDED)
    assert sim.state.stable == canary, "the same canary goes on"
    assert took >= 20 * MINUTE


def test_a_canary_symbol_more_keeps_the_canary_and_judges_the_new_one_too(
    progressing: Start,
) -> None:
    sim = progressing()
    canary = sim.state.canary
    sim.edit(symbols={"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT"]})
    sim.world.of_symbol["platt_ece", "ETHUSDT"] = 0.3
    sim.run(MINUTE)
    assert sim.state.canary == canary
    sim.run_until(Phase.ROLLING_BACK, within=3 * MINUTE)
    assert "ETHUSDT" in sim.state.message


STRICTER = {"conditions": [{"metric": "platt_ece", "above": 0.08, "for": "2m"}]}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"rollback": STRICTER}, id="a condition"),
        pytest.param(
            {"symbols": {"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT"]}},
            id="a symbol",
        ),
    ],
)
def test_time_observed_under_other_rules_does_not_count(
    progressing: Start, change: dict[str, Any]
) -> None:
    sim = progressing()
    sim.run(39 * MINUTE)
    canary = sim.state.canary
    sim.edit(**change)
    took = sim.run_until(Phase.SUCCEEDED)
    assert took >= 40 * MINUTE
    assert sim.state.stable == canary


def test_a_breach_keeps_its_beginning_when_other_rules_change(progressing: Start) -> None:
    condition = {"metric": "platt_ece", "above": 0.1, "for": "10m"}
    sim = progressing(rollback={"conditions": [condition]})
    sim.world.values["platt_ece"] = 0.3
    sim.run(8 * MINUTE)
    other = {"metric": "merge_time_diff_ms_p99", "above": 2000}
    sim.edit(rollback={"conditions": [condition, other]})
    sim.run_until(Phase.ROLLING_BACK, within=3 * MINUTE)


def test_a_canary_symbol_less_forgets_its_breach(progressing: Start) -> None:
    sim = progressing(symbols={"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT"]})
    sim.world.of_symbol["platt_ece", "ETHUSDT"] = 0.3
    sim.run(MINUTE)
    sim.edit(symbols={"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]})
    sim.run(MINUTE)
    assert sim.state.timers == {}
    sim.run_until(Phase.SUCCEEDED)


@pytest.mark.parametrize(
    "trouble", ["breach", "source down", "silent", "no value"], ids=lambda t: f"not with {t}"
)
def test_the_promotion_waits_until_every_condition_is_ok_at_that_look(
    progressing: Start, trouble: str
) -> None:
    sim = progressing()
    sim.world.pods_start = False  # the new stable pods wait, the canary's run
    sim.run_until(Phase.PROMOTING)
    sim.run(MINUTE)
    assert sim.phase is Phase.PROMOTING
    match trouble:
        case "breach":
            sim.world.values["slice_auc_active_period"] = 0.5
        case "source down":
            sim.world.source_answers = False
        case "silent":
            sim.world.silent["BTCUSDT"] = sim.now - 2 * MINUTE
        case "no value":
            del sim.world.values["platt_ece"]
    sim.world.pods_start = True
    sim.run(5 * MINUTE)
    assert sim.phase is Phase.PROMOTING
    assert serving(sim.state) == {"v0", "v1"}
    sim.world.values["platt_ece"] = 0.05
    sim.world.values["slice_auc_active_period"] = 0.6
    sim.world.source_answers = True
    sim.world.silent.clear()
    sim.run(20 * SECOND)
    assert sim.phase is Phase.SUCCEEDED


def test_a_shorter_deadline_set_while_blind_rolls_nothing_back(progressing: Start) -> None:
    sim = progressing(evaluation={"onNoData": "Hold"})
    sim.world.silent["BTCUSDT"] = sim.now - 2 * MINUTE
    sim.run(HOUR)
    sim.world.source_answers = False
    sim.run(MINUTE)
    sim.edit(evaluation={"onNoData": "Rollback", "noDataAfter": "1m"})
    sim.run(HOUR)
    assert sim.phase is Phase.PROGRESSING


def test_a_silence_that_would_be_due_waits_until_the_source_answers(progressing: Start) -> None:
    """The look that finds the source down must not roll back, however close it was."""
    sim = progressing()
    sim.world.silent["BTCUSDT"] = sim.now - 2 * MINUTE
    sim.run(10 * MINUTE)
    assert sim.phase is Phase.PROGRESSING
    sim.world.source_answers = False
    sim.run(5 * MINUTE)
    assert sim.phase is Phase.PROGRESSING
    sim.world.source_answers = True
    sim.run(20 * SECOND)
    assert sim.state.reason == "CanarySilent"


def test_a_new_canary_is_not_judged_by_what_the_last_one_did(progressing: Start) -> None:
    """The look that takes up an edit still holds the metrics of the revision before."""
    sim = progressing(rollback={"conditions": [{"metric": "platt_ece", "above": 0.1}]})
    sim.edit(version="v2")
    sim.world.values["platt_ece"] = 0.3  # v1's, at the very look at which v2 is taken up
    sim.now += 10 * SECOND
    sim.look()
    assert sim.phase is Phase.PENDING
    assert sim.state.timers.keys() <= {("silence", "BTCUSDT")}
    sim.world.values["platt_ece"] = 0.05
    sim.run_until(Phase.SUCCEEDED)


def test_the_same_look_again_changes_nothing(start: Start) -> None:
    sim = start()
    for version, looks, values in (("v1", 300, {}), ("v2", 60, BAD), ("v3", 30, {}), ("v4", 9, {})):
        sim.edit(version=version)
        sim.world.values |= values
        for _ in range(looks):
            sim.now += 10 * SECOND
            first = sim.look()
            seen = replace(sim.seen, previous_look=sim.now)
            again = decide(sim.spec, first.state, seen, sim.now)
            assert again.state == first.state
            assert again.transitions == ()
    assert {"Promoted", "ConditionBreached"} <= set(sim.reasons)


def test_a_condition_edited_before_the_pods_run_waits_for_them_all_the_same(start: Start) -> None:
    sim = start(evaluation={"noDataAfter": "2h"})
    sim.world.pods_start = False
    sim.run(MINUTE)
    sim.edit(rollback=STRICTER)
    sim.run(MINUTE)
    assert sim.phase is Phase.PENDING
    assert sim.reasons[-1] == "RulesChanged"
    sim.world.pods_start = True
    sim.run_until(Phase.SUCCEEDED)


# ------------------------------------------------------------------ a clock set back


def test_a_clock_set_back_loses_no_time_that_was_observed(progressing: Start) -> None:
    sim = progressing()
    sim.run(MINUTE)
    sim.world.values["platt_ece"] = 0.3
    sim.run(MINUTE)
    key = ("platt_ece>0.1", "BTCUSDT")
    breach = sim.state.timers[key].elapsed(sim.now)
    sim.now -= HOUR
    sim.look()
    assert sim.state.timers[key].elapsed(sim.now) == breach
    assert breach + sim.run_until(Phase.ROLLING_BACK) <= 2 * MINUTE + 20 * SECOND


# ------------------------------------------------------------------ gaps


def test_time_in_which_nobody_looked_is_not_observed(progressing: Start) -> None:
    sim = progressing()
    sim.run(5 * MINUTE)
    sim.world.values["platt_ece"] = 0.3
    sim.run(MINUTE)
    sim.idle(24 * HOUR)
    sim.world.values["platt_ece"] = 0.3
    sim.now += 10 * SECOND
    sim.look()
    assert sim.phase is Phase.PROGRESSING, "the breach was seen for a minute, not for a day"
    assert sim.state.stage_clock.elapsed(sim.now) <= 7 * MINUTE
    took = sim.run_until(Phase.ROLLING_BACK)
    assert 40 * SECOND <= took <= 80 * SECOND


def test_a_gap_does_not_let_a_stage_pass(progressing: Start) -> None:
    sim = progressing()
    sim.run(MINUTE)
    sim.idle(48 * HOUR)
    sim.run(MINUTE)
    assert sim.state.stage == "shadow"
    assert sim.phase is Phase.PROGRESSING


@pytest.mark.parametrize("source_answers", [True, False], ids=["source up", "source down"])
def test_a_gap_is_no_silence(progressing: Start, source_answers: bool) -> None:
    sim = progressing()
    sim.world.silent["BTCUSDT"] = sim.now
    sim.run(3 * MINUTE)
    sim.idle(6 * HOUR)
    sim.world.source_answers = source_answers
    sim.run(MINUTE)
    assert sim.phase is Phase.PROGRESSING


def test_a_silent_canary_is_held_where_the_policy_says_so(progressing: Start) -> None:
    sim = progressing(evaluation={"onNoData": "Hold"})
    sim.world.silent["BTCUSDT"] = sim.now
    sim.run(6 * HOUR, step=MINUTE)
    assert sim.phase is Phase.PROGRESSING
    assert "rolls back" not in sim.status["next"]
    assert "holding" in sim.status["message"]
    sim.world.silent.clear()
    sim.run_until(Phase.SUCCEEDED)


def test_a_stage_renamed_while_promoting_survives_a_restart(progressing: Start) -> None:
    sim = progressing()
    sim.world.pods_start = False
    sim.run_until(Phase.PROMOTING)
    sim.edit(stages=[{"name": "other", "duration": "1h"}])
    sim.run(MINUTE)  # every look asserts parse(render(state)) == state
    sim.world.pods_start = True
    sim.run_until(Phase.SUCCEEDED)
