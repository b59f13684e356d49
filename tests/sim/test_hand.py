"""Stories of a person's hand on a rollout: what is asked for, what comes of it, what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from signalcanary.contract import Track
from signalcanary.evaluate import Bound
from signalcanary.rollout import Phase, plan

Start = Callable[..., Any]

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
PAUSE, RESUME = "signalcanary.dev/pause", "signalcanary.dev/resume"
APPROVED_STAGES = [
    {"name": "shadow", "duration": "10m"},
    {"name": "canary", "duration": "30m", "approval": "Required"},
]
HOLDS = {"platt_ece": Bound(0.0005, 0.0, 1.0, 0.0, 1.0)}
"""Evidence that says nothing yet."""


def serving(sim: Any) -> set[str]:
    return {p.revision.version for p in plan(sim.state) if p.track is Track.STABLE}


def condition(sim: Any, kind: str) -> dict[str, Any]:
    return next(c for c in sim.status["conditions"] if c["type"] == kind)


def resume(sim: Any) -> None:
    del sim.annotations[PAUSE]
    sim.ask("resume", why="checked")


def promoted_twice(start: Start) -> Any:
    """v1 and then v2 were promoted: v1 is a former revision."""
    sim = start(stages=[{"name": "quick", "duration": "0s"}])
    sim.run_until(Phase.SUCCEEDED)
    sim.edit(version="v2")
    sim.look()
    sim.run_until(Phase.SUCCEEDED)
    assert [ref.version for ref in sim.state.former] == ["v1"]
    sim.story.clear()
    return sim


# ------------------------------------------------------------------ pause and resume


def test_a_pause_freezes_the_stage_and_resuming_goes_on_where_it_was(progressing: Start) -> None:
    sim = progressing()
    sim.run(5 * MINUTE)
    before = sim.state.stage_clock.elapsed(sim.now)
    sim.annotations[PAUSE] = "exchange maintenance"
    sim.run(2 * HOUR)
    assert sim.state.stage_clock.elapsed(sim.now) <= before + 10 * SECOND
    assert sim.reasons == []
    assert "paused by somebody (exchange maintenance)" in sim.status["message"]
    assert condition(sim, "Paused")["status"] == "True"
    resume(sim)
    assert condition(sim, "Paused")["status"] == "False"
    assert sim.state.hand.answers[0].message == "goes on where it was"
    took = sim.run_until(Phase.PROMOTING)
    assert 35 * MINUTE <= took + 20 * SECOND <= 36 * MINUTE


def test_a_breach_rolls_back_while_it_is_paused(progressing: Start) -> None:
    sim = progressing()
    sim.annotations[PAUSE] = "looking into it"
    sim.run(MINUTE)
    sim.world.values["platt_ece"] = 0.3
    assert sim.run_until(Phase.ROLLED_BACK) <= 3 * MINUTE
    assert sim.reasons == ["ConditionBreached", "ConditionBreached"]


def test_a_silence_rolls_back_while_it_is_paused(progressing: Start) -> None:
    sim = progressing()
    sim.annotations[PAUSE] = ""
    sim.run(MINUTE)
    sim.world.silent["BTCUSDT"] = sim.now
    sim.run_until(Phase.ROLLED_BACK)
    assert sim.state.reason == "CanarySilent"


def test_the_deadline_stands_still_while_it_is_paused(progressing: Start) -> None:
    sim = progressing(evaluation={"deadline": "10m", "onDeadline": "Rollback"})
    sim.world.bounds |= {"platt_ece": (HOLDS["platt_ece"],)}
    sim.annotations[PAUSE] = "the weekend"
    sim.run(2 * HOUR)
    assert sim.phase is Phase.PROGRESSING
    resume(sim)
    sim.run_until(Phase.ROLLED_BACK)
    assert sim.state.reason == "DeadlineExceeded"


def test_a_pause_holds_the_promotion_too(progressing: Start) -> None:
    sim = progressing()
    sim.world.pods_start = False
    sim.run_until(Phase.PROMOTING)
    sim.annotations[PAUSE] = "not now"
    sim.world.pods_start = True
    sim.run(2 * HOUR)
    assert sim.phase is Phase.PROMOTING
    assert serving(sim) == {"v0", "v1"}
    resume(sim)
    sim.run_until(Phase.SUCCEEDED)


def test_a_canary_that_starts_while_it_is_paused_is_judged_but_begins_no_stage(
    start: Start,
) -> None:
    sim = start()
    sim.annotations[PAUSE] = "not before nine"
    sim.run(2 * HOUR)
    assert sim.phase is Phase.WARMING
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK)


def test_a_pause_that_stays_in_git_is_told_once_and_holds_the_next_revision_too(
    progressing: Start,
) -> None:
    sim = progressing()
    sim.annotations[PAUSE] = "frozen"
    sim.run(10 * MINUTE)
    sim.edit(version="v2")
    sim.run(10 * MINUTE)
    assert sim.phase is Phase.WARMING
    assert [a.verb for a in sim.state.hand.answers] == ["pause"]


@pytest.mark.parametrize("value", ["false", "False", " false "])
def test_a_pause_that_says_false_is_none(progressing: Start, value: str) -> None:
    sim = progressing()
    sim.annotations[PAUSE] = value
    sim.run_until(Phase.SUCCEEDED)
    assert sim.state.hand.answers == ()


def test_resuming_what_git_pauses_is_refused_and_says_what_to_do(progressing: Start) -> None:
    sim = progressing()
    sim.annotations[PAUSE] = "frozen"
    sim.run(MINUTE)
    answer = sim.ask("resume")
    assert (answer.refusal, sim.state.hand.pause is not None) == ("StillPaused", True)
    assert "take the annotation signalcanary.dev/pause out" in answer.message


def test_taking_the_annotation_out_by_hand_resumes_as_well(progressing: Start) -> None:
    sim = progressing()
    sim.annotations[PAUSE] = "frozen"
    sim.run(MINUTE)
    del sim.annotations[PAUSE]
    sim.run_until(Phase.SUCCEEDED)
    assert [a.verb for a in sim.state.hand.answers] == ["resume", "pause"]


# ------------------------------------------------------------------ approve


def test_a_stage_that_needs_approval_waits_for_it_however_long(progressing: Start) -> None:
    sim = progressing(
        stages=APPROVED_STAGES, evaluation={"deadline": "10m", "onDeadline": "Rollback"}
    )
    sim.run(2 * HOUR)
    assert sim.state.stage == "canary"
    assert condition(sim, "ApprovalNeeded")["status"] == "True"
    assert sim.status["next"].endswith(f"signalcanary.dev/approve: {sim.status['subject']}")
    sim.ask("approve", why="reviewed")
    assert sim.phase is Phase.PROMOTING
    assert sim.state.message.startswith("stage canary was approved by alice (reviewed); ")
    assert condition(sim, "ApprovalNeeded")["status"] == "False"


def test_a_stage_may_be_approved_before_its_time_is_over(progressing: Start) -> None:
    sim = progressing(stages=APPROVED_STAGES)
    attempt = sim.status["subject"].partition("/")[0]
    assert sim.ask("approve", f"{attempt}/canary").refusal == ""
    assert sim.state.stage == "shadow"
    took = sim.run_until(Phase.SUCCEEDED)
    assert took >= 39 * MINUTE


def test_an_approval_does_not_make_up_for_evidence(progressing: Start) -> None:
    sim = progressing(stages=APPROVED_STAGES)
    attempt = sim.status["subject"].partition("/")[0]
    sim.ask("approve", f"{attempt}/canary")
    sim.world.bounds |= {"platt_ece": (HOLDS["platt_ece"],)}
    sim.run(HOUR)
    assert sim.phase is Phase.PROGRESSING
    assert condition(sim, "ApprovalNeeded")["status"] == "False"


def test_a_breach_rolls_back_while_an_approval_is_waited_for(progressing: Start) -> None:
    sim = progressing(stages=APPROVED_STAGES)
    sim.run(HOUR)
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK)
    assert sim.state.reason == "ConditionBreached"


def test_an_approval_in_git_is_of_that_attempt_and_not_of_the_next(progressing: Start) -> None:
    sim = progressing(stages=APPROVED_STAGES)
    first = sim.status["subject"].partition("/")[0]
    sim.annotations["signalcanary.dev/approve"] = f"{first}/canary reviewed"
    sim.run_until(Phase.SUCCEEDED)
    sim.edit(version="v2")
    sim.run(HOUR)
    assert sim.state.stage == "canary"
    assert condition(sim, "ApprovalNeeded")["status"] == "True"
    assert len(sim.state.hand.answers) == 1, "done once, and not refused for the next"


def test_edited_conditions_want_another_approval(progressing: Start) -> None:
    sim = progressing(stages=APPROVED_STAGES)
    attempt = sim.status["subject"].partition("/")[0]
    sim.ask("approve", f"{attempt}/canary")
    sim.edit(rollback={"conditions": [{"metric": "platt_ece", "above": 0.2}]})
    sim.run(HOUR)
    assert condition(sim, "ApprovalNeeded")["status"] == "True"


@pytest.mark.parametrize(
    ("about", "refusal"),
    [
        ("00000000-1/canary", "OtherAttempt"),
        ("{}/shadow", "NotNeeded"),
        ("{}/nowhere", "NoSuchStage"),
    ],
)
def test_an_approval_of_something_else_is_refused(
    progressing: Start, about: str, refusal: str
) -> None:
    sim = progressing(stages=APPROVED_STAGES)
    answer = sim.ask("approve", about.format(sim.status["subject"].partition("/")[0]))
    assert answer.refusal == refusal


# ------------------------------------------------------------------ promote and skip


def test_promoting_now_needs_the_pods_and_tells_whose_word_overrode_the_evidence(
    progressing: Start,
) -> None:
    sim = progressing()
    sim.world.bounds |= {"platt_ece": (HOLDS["platt_ece"],)}
    sim.world.pods_start = False
    sim.now += 10 * SECOND
    assert sim.ask("promote", why="hotfix").refusal == ""
    assert sim.phase is Phase.PROMOTING
    sim.run(MINUTE)
    assert sim.phase is Phase.PROMOTING
    assert sim.state.stable.version == "v0"
    sim.world.pods_start = True
    sim.run_until(Phase.SUCCEEDED)
    assert sim.state.stable.version == "v1"
    message = sim.status["message"]
    assert "on the word of alice (hotfix), before its stages had passed" in message
    assert "which overrides the evidence: platt_ece" in message


def test_promoting_what_warms_up_is_a_persons_to_say(start: Start) -> None:
    sim = start()
    sim.world.samples = 0
    sim.world.values.clear()
    sim.run_until(Phase.WARMING)
    sim.run(MINUTE)
    verdicts = {j.verdict.value for j in sim.last.judgements}
    answer = sim.ask("promote")
    # Nothing is known of it at all, which no word stands in for.
    assert verdicts <= {"NoData", "Inconclusive"}
    assert (answer.refusal == "CannotBeSeen") == ("NoData" in verdicts)


@pytest.mark.parametrize("verb", ["promote", "skip"])
@pytest.mark.parametrize(
    ("trouble", "refusal"),
    [
        (lambda w, now: w.values.update(platt_ece=0.3), "ConditionBreached"),
        (lambda w, now: setattr(w, "source_answers", False), "CannotBeSeen"),
        (lambda w, now: w.silent.update(BTCUSDT=now - HOUR), "CannotBeSeen"),
    ],
    ids=["breached", "source away", "silent"],
)
def test_nobody_moves_on_what_is_breached_or_cannot_be_seen(
    progressing: Start, verb: str, trouble: Callable[..., None], refusal: str
) -> None:
    sim = progressing()
    trouble(sim.world, sim.now)
    sim.now += 10 * SECOND
    answer = sim.ask(verb)
    assert (answer.refusal, sim.phase) == (refusal, Phase.PROGRESSING)
    assert sim.reasons == []


def test_what_breaks_after_the_word_to_promote_still_rolls_back(progressing: Start) -> None:
    sim = progressing()
    sim.world.pods_start = False
    sim.ask("promote")
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK)
    assert sim.state.reason == "ConditionBreached"
    assert sim.state.hand.promote is None


def test_a_skipped_stage_ends_at_once_and_the_next_is_observed_in_full(progressing: Start) -> None:
    sim = progressing()
    sim.ask("skip", why="known")
    assert sim.state.stage == "canary"
    assert sim.state.message.startswith("stage shadow was skipped by alice (known); ")
    assert sim.run_until(Phase.PROMOTING) >= 30 * MINUTE


def test_a_skip_that_stays_does_not_skip_the_next_stage(progressing: Start) -> None:
    sim = progressing()
    sim.annotations["signalcanary.dev/skip"] = f"{sim.status['subject']}"
    sim.run(15 * MINUTE)
    assert sim.state.stage == "canary"
    assert len(sim.state.hand.answers) == 1


def test_the_last_stage_skipped_still_needs_every_condition_ok(progressing: Start) -> None:
    sim = progressing(stages=[{"name": "canary", "duration": "48h", "approval": "Required"}])
    sim.world.bounds |= {"platt_ece": (HOLDS["platt_ece"],)}
    sim.ask("skip")
    sim.run(10 * MINUTE)
    assert sim.phase is Phase.PROGRESSING
    sim.world.bounds.clear()
    sim.run_until(Phase.SUCCEEDED)


@pytest.mark.parametrize("verb", ["promote", "skip"])
def test_nothing_moves_on_by_hand_while_it_is_paused(progressing: Start, verb: str) -> None:
    sim = progressing()
    sim.annotations[PAUSE] = "frozen"
    sim.look()
    assert sim.ask(verb).refusal == "Paused"


# ------------------------------------------------------------------ abort and retry


def test_an_abort_takes_the_canary_back_and_says_who_and_why(progressing: Start) -> None:
    sim = progressing()
    sim.ask("abort", why="wrong weights")
    sim.run_until(Phase.ROLLED_BACK)
    assert sim.reasons == ["Aborted", "Aborted"]
    assert (
        "aborted by alice (wrong weights); v1 has no pod any more, and v0 " in sim.status["message"]
    )
    assert serving(sim) == {"v0"}


def test_a_retry_is_another_attempt_observed_anew(progressing: Start) -> None:
    sim = progressing()
    first = sim.state.canary
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLED_BACK)
    sim.world.values["platt_ece"] = 0.05
    assert sim.ask("retry", why="the feed was ill").refusal == ""
    again = sim.state.canary
    assert (again.name, again.version) == (first.name, first.version)
    assert again.attempt == first.attempt + 1
    assert sim.run_until(Phase.SUCCEEDED) >= 40 * MINUTE


def test_a_retry_in_git_tries_once(progressing: Start) -> None:
    sim = progressing()
    sim.ask("abort")
    sim.run_until(Phase.ROLLED_BACK)
    sim.annotations["signalcanary.dev/retry"] = sim.status["subject"]
    sim.world.values["platt_ece"] = 0.3
    sim.look()
    sim.run_until(Phase.ROLLED_BACK)
    at_rest = sim.state
    sim.run(HOUR)
    assert sim.state == at_rest
    # Not even by an operator that has forgotten what it answered.
    sim.status = sim.status | {"hand": {}}
    sim.run(HOUR)
    assert sim.phase is Phase.ROLLED_BACK
    assert sim.state.hand.answers[0].refusal == "OtherAttempt"


def test_no_two_attempts_of_a_revision_share_a_number(progressing: Start) -> None:
    sim = progressing()
    seen = []
    for _ in range(3):
        seen.append(sim.state.canary)
        sim.ask("abort")
        sim.run_until(Phase.ROLLED_BACK)
        sim.ask("retry")
    sim.edit(version="v2")
    sim.run(MINUTE)
    sim.edit(version="v1")
    sim.run(MINUTE)
    seen.append(sim.state.canary)
    assert len({ref.name for ref in seen}) == 1
    assert len({ref.attempt for ref in seen}) == len(seen)


@pytest.mark.parametrize("verb", ["abort", "promote", "skip", "approve"])
def test_where_no_canary_runs_there_is_nothing_to_do(start: Start, verb: str) -> None:
    sim = start(stages=[{"name": "quick", "duration": "0s"}])
    sim.run_until(Phase.SUCCEEDED)
    before = sim.state
    answer = sim.ask(verb, f"{sim.status['subject']}/quick")
    assert answer.refusal == "NothingRunning"
    assert sim.state.phase is Phase.SUCCEEDED
    assert sim.state.history == before.history


def test_what_succeeded_is_not_tried_again(start: Start) -> None:
    sim = start(stages=[{"name": "quick", "duration": "0s"}])
    sim.run_until(Phase.SUCCEEDED)
    assert sim.ask("retry").refusal == "NotRolledBack"


# ------------------------------------------------------------------ rollback to a revision


def test_a_rollback_to_a_former_revision_starts_it_beside_the_stable_one(start: Start) -> None:
    sim = promoted_twice(start)
    former, stable = sim.state.former[0], sim.state.stable
    sim.world.pods_start = False
    sim.ask("rollback", f"{sim.status['subject']}/{former.name}", why="losing money")
    assert (sim.phase, serving(sim)) == (Phase.ROLLING_BACK, {"v1", "v2"})
    sim.run(HOUR)
    assert sim.state.stable == stable, "nothing is taken away before the other runs"
    assert "ImagePullBackOff" in sim.status["message"]
    sim.world.pods_start = True
    sim.run_until(Phase.ROLLED_BACK)
    assert serving(sim) == {"v1"}
    assert "rolled back to v1, asked for by alice (losing money)" in sim.status["message"]
    assert sim.state.rejected == stable
    assert sim.state.stable.attempt > stable.attempt
    assert [ref.version for ref in sim.state.former] == ["v2"]


def test_after_a_rollback_the_same_spec_is_not_tried_until_it_changes_or_is_retried(
    start: Start,
) -> None:
    sim = promoted_twice(start)
    sim.ask("rollback", f"{sim.status['subject']}/{sim.state.former[0].name}")
    sim.run_until(Phase.ROLLED_BACK)
    sim.run(HOUR)
    assert sim.phase is Phase.ROLLED_BACK
    sim.ask("retry")
    sim.run_until(Phase.SUCCEEDED)
    assert sim.state.stable.version == "v2"


def test_a_rollback_during_a_rollout_takes_the_canary_back_as_well(start: Start) -> None:
    sim = promoted_twice(start)
    about = f"{sim.status['subject']}/{sim.state.former[0].name}"
    sim.edit(version="v3", stages=[{"name": "canary", "duration": "48h"}])
    sim.run_until(Phase.PROGRESSING)
    assert sim.ask("rollback", about).refusal == ""
    sim.run_until(Phase.ROLLED_BACK)
    assert serving(sim) == {"v1"}
    assert sim.state.rejected.version == "v3"
    assert [ref.version for ref in sim.state.former] == ["v2"]


def test_a_rollback_that_cannot_start_can_be_given_up(start: Start) -> None:
    sim = promoted_twice(start)
    sim.world.pods_start = False
    sim.ask("rollback", f"{sim.status['subject']}/{sim.state.former[0].name}")
    sim.run(MINUTE)
    assert sim.ask("abort").refusal == ""
    assert (sim.phase, serving(sim)) == (Phase.SUCCEEDED, {"v2"})
    assert sim.status["message"] == "rolling back to v1 was given up by alice"
    sim.edit(version="v3")
    sim.world.pods_start = True
    sim.run_until(Phase.SUCCEEDED)


def test_going_back_to_what_the_spec_declares_succeeds(start: Start) -> None:
    sim = promoted_twice(start)
    sim.ask("rollback", f"{sim.status['subject']}/{sim.state.former[0].name}")
    sim.run_until(Phase.ROLLED_BACK)
    stable = f"{sim.state.stable.name}-{sim.state.stable.attempt}"
    sim.ask("rollback", f"{stable}/{sim.state.former[0].name}")
    assert sim.status["message"] == (
        "rolling back to v2, asked for by alice; stable v1 keeps running until its pods are ready"
    )
    sim.run_until(Phase.SUCCEEDED)
    assert serving(sim) == {"v2"}
    assert sim.state.rejected is None
    # What went on until then is over.
    assert sim.status["message"] == "rolled back to v2, asked for by alice"


@pytest.mark.parametrize(
    ("to", "refusal"),
    [("{stable}", "AlreadyStable"), ("{canary}", "NeverStable"), ("0badcafe", "NeverStable")],
)
def test_only_what_was_stable_before_is_gone_back_to(start: Start, to: str, refusal: str) -> None:
    sim = promoted_twice(start)
    stable = sim.state.stable
    sim.edit(version="v3", stages=[{"name": "canary", "duration": "48h"}])
    sim.run_until(Phase.PROGRESSING)
    to = to.format(stable=stable.name, canary=sim.state.canary.name)
    answer = sim.ask("rollback", f"{stable.name}-{stable.attempt}/{to}")
    assert (answer.refusal, sim.phase) == (refusal, Phase.PROGRESSING)


def test_a_revision_whose_record_is_gone_is_not_gone_back_to(start: Start) -> None:
    sim = promoted_twice(start)
    former = sim.state.former[0].name
    del sim.records[former]
    assert sim.ask("rollback", f"{sim.status['subject']}/{former}").refusal == "NotOnRecord"


# ------------------------------------------------------------------ what cannot be done


UNREADABLE = {
    "no subject": ("abort", "please", "Unreadable"),
    "no attempt": ("retry", "3f9a1c2e", "Unreadable"),
    "no stage": ("approve", "3f9a1c2e-4", "Unreadable"),
    "half of JSON": ("promote", '{"about": ', "Unreadable"),
    "unknown field": ("abort", '{"abuot": "3f9a1c2e-4"}', "Unreadable"),
    "wrong type": ("abort", '{"about": 4}', "Unreadable"),
    "deep": ("abort", '{"about":' + "[" * 900, "Unreadable"),
    "long": ("abort", "x" * 5000, "Unreadable"),
    "typing error": ("aprove", "3f9a1c2e-4/canary", "UnknownVerb"),
    "not Unicode": ("abort", "3f9a1c2e-4 \ud800", "OtherAttempt"),
    "not a number": ("abort", "3f9a1c2e-٤", "Unreadable"),
}


@pytest.mark.parametrize(("verb", "value", "refusal"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_done_is_answered_once_and_stops_nothing(
    progressing: Start, verb: str, value: str, refusal: str
) -> None:
    sim = progressing()
    sim.annotations[f"signalcanary.dev/{verb}"] = value
    sim.run(5 * MINUTE)
    (answer,) = sim.state.hand.answers
    assert (answer.verb, answer.refusal) == (verb, refusal)
    json.dumps(sim.status).encode()
    assert answer.as_notice().is_warning
    sim.run_until(Phase.SUCCEEDED)


def test_very_many_annotations_are_neither_all_read_nor_forgotten_and_done_again(
    progressing: Start,
) -> None:
    sim = progressing()
    sim.annotations |= {f"signalcanary.dev/x{i}": "?" for i in range(500)}
    sim.annotations["signalcanary.dev/abort"] = sim.status["subject"]
    sim.look()
    assert sim.phase is Phase.ROLLED_BACK or sim.state.reason == "Aborted"
    sim.run_until(Phase.ROLLED_BACK)
    at_rest = sim.state
    sim.run(MINUTE)
    assert sim.state == at_rest
    assert len(sim.state.hand.answers) <= 32


def test_what_is_asked_for_is_done_at_the_look_of_now_and_not_at_those_made_up_for(
    progressing: Start,
) -> None:
    sim = progressing()
    observed = sim.observe
    sim.annotations["signalcanary.dev/abort"] = sim.status["subject"]
    sim.observe = lambda: replace(observed(), asked=None)
    sim.run(MINUTE)
    assert (sim.phase, sim.state.hand.answers) == (Phase.PROGRESSING, ())
    sim.observe = observed
    sim.run(10 * SECOND)
    assert sim.state.reason == "Aborted"
