"""When a rollout may begin and move on: windows, blackouts, a start, and a person's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from signalcanary.api import Windows
from signalcanary.lifecycle import decide
from signalcanary.rollout import Phase
from signalcanary.windows import closed, opening

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# The simulated clock starts on Friday, 2026-05-01 08:00 UTC.
OFFICE = {"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": "09:00", "to": "17:00"}
ONE_STAGE = [{"name": "canary", "duration": "30m"}]
CALM = {"interval": "5m", "staleAfter": "15m"}
"""A look every 5 min, for stories that take days."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def condition(sim: Any, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in sim.status["conditions"] if c["type"] == kind)
    return found


# --------------------------------------------------------------------------- the start


def test_nothing_starts_before_its_time(start: Callable[..., Any]) -> None:
    sim = start(schedule={"startAt": "2026-05-01T10:00:00+01:00"}, stages=ONE_STAGE)
    sim.look()
    assert sim.phase is Phase.WAITING
    assert sim.status["observedGeneration"] == 1
    assert "2026-05-01 09:00 UTC" in sim.status["message"]
    assert sim.status["next"] == "starts v1 at Fri 2026-05-01 09:00 UTC"
    assert condition(sim, "Waiting")["reason"] == "BeforeStartAt"
    assert condition(sim, "Ready")["status"] == "False"
    assert condition(sim, "Reconciling")["status"] == "True"
    sim.run(59 * MINUTE)
    assert not sim.world.tracks, "not one pod before its time"
    assert sim.run_until(Phase.PENDING) <= MINUTE
    assert sim.reasons == ["WaitingToStart", "RolloutStarted"]
    sim.run_until(Phase.SUCCEEDED)


def test_stable_serves_on_while_the_next_waits(start: Callable[..., Any]) -> None:
    sim = start(stages=ONE_STAGE)
    sim.run_until(Phase.SUCCEEDED)
    sim.edit(version="v2", schedule={"startAt": "2026-05-02T08:00:00Z"})
    sim.run(HOUR)
    assert sim.phase is Phase.WAITING
    assert sim.state.stable.version == "v1"
    assert {revision.version for revision in (p.revision for p in sim.world.running.values())} == {
        "v1"
    }


def test_a_start_that_is_edited_counts_at_once(start: Callable[..., Any]) -> None:
    sim = start(schedule={"startAt": "2026-05-09T08:00:00Z"})
    sim.look()
    sim.edit(schedule={"startAt": "2026-05-01T08:00:00Z"})
    sim.look()
    assert sim.phase is Phase.PENDING


def test_what_waits_can_be_aborted_replaced_and_tried_again(start: Callable[..., Any]) -> None:
    sim = start(schedule={"startAt": "2026-05-02T08:00:00Z"})
    sim.look()
    assert sim.ask("promote").refusal == "NotRunning"
    assert not sim.ask("abort").refusal
    assert sim.phase is Phase.ROLLED_BACK
    assert not sim.ask("retry").refusal
    assert sim.phase is Phase.WAITING, "another attempt waits as the first did"
    sim.edit(version="v2")
    sim.look()
    assert sim.phase is Phase.WAITING
    assert sim.state.canary.version == "v2"
    sim.edit(schedule=None)
    sim.look()
    assert sim.phase is Phase.PENDING


def test_other_rules_keep_what_waits_waiting(start: Callable[..., Any]) -> None:
    sim = start(schedule={"startAt": "2026-05-01T09:00:00Z"})
    sim.look()
    sim.edit(rollback={"conditions": [{"metric": "platt_ece", "above": 0.2}]})
    sim.look()
    assert sim.phase is Phase.WAITING
    assert sim.reasons == ["WaitingToStart"]
    sim.run_until(Phase.PROGRESSING)
    assert "RulesChanged" not in sim.reasons


# --------------------------------------------------------------------------- windows


def test_a_rollout_moves_on_within_its_window_alone(start: Callable[..., Any]) -> None:
    """Allowed hours are 09:00 to 10:00 in London, 08:00 to 09:00 UTC: the first stage begins at
    08:05, and its 30 min are over by then; those of the second are over in the blackout."""
    hours = {
        "timeZone": "Europe/London",
        "allowed": [{"from": "09:00", "to": "10:00"}],
        "blackouts": [{"from": "09:50", "to": "10:20"}],
    }
    stages = [{"name": "shadow", "duration": "30m"}, {"name": "canary", "duration": "30m"}]
    sim = start(schedule=hours, stages=stages, evaluation=CALM)
    sim.look()
    sim.run(55 * MINUTE)
    assert sim.status["stage"]["name"] == "canary"
    assert "not before Sat 2026-05-02 08:00 UTC" in sim.status["next"]
    sim.run(15 * MINUTE)
    assert sim.status["stage"]["progress"] == "30m of 30m", "the clock ran on"
    assert condition(sim, "Waiting")["reason"] == "Blackout"
    assert sim.status["message"].startswith(
        "holding: it is a blackout, until Sat 2026-05-02 08:00 UTC"
    )
    sim.run(HOUR)
    assert condition(sim, "Waiting")["reason"] == "OutsideAllowedHours"
    sim.run_until(Phase.PROMOTING)
    assert sim.now == at("2026-05-02T08:00:00Z")
    sim.run_until(Phase.SUCCEEDED)


def test_the_promotion_waits_where_the_window_closes_while_pods_start(
    progressing: Callable[..., Any],
) -> None:
    sim = progressing(stages=ONE_STAGE, evaluation=CALM)
    sim.world.pods_start = False
    sim.run_until(Phase.PROMOTING)
    night = {"start": sim.status["phaseSince"].replace(".000", ""), "end": "2026-05-01T20:00:00Z"}
    sim.edit(schedule={"blackouts": [night]})
    sim.world.pods_start = True
    sim.run(10 * HOUR)
    assert sim.phase is Phase.PROMOTING
    assert sim.state.publisher.version == "v0"
    sim.run_until(Phase.SUCCEEDED)
    assert at("2026-05-01T20:00:00Z") <= sim.now < at("2026-05-01T20:05:00Z")


def test_the_first_stage_begins_within_the_window(start: Callable[..., Any]) -> None:
    sim = start(evaluation=CALM)
    sim.look()
    sim.edit(schedule={"allowed": [{"from": "18:00", "to": "19:00"}]})
    sim.run_until(Phase.PROGRESSING)
    assert sim.now == at("2026-05-01T18:00:00Z")


def test_a_stage_has_windows_of_its_own(start: Callable[..., Any]) -> None:
    stages = [
        {"name": "shadow", "duration": "10m"},
        {"name": "canary", "duration": "10m", "schedule": {"allowed": [OFFICE]}},
    ]
    morning = {"blackouts": [{"from": "08:00", "to": "12:00"}]}
    sim = start(stages=stages, schedule=morning, evaluation=CALM)
    sim.run_until(Phase.PROMOTING)
    assert sim.now == at("2026-05-01T12:25:00Z")
    slow = {"interval": "15m", "staleAfter": "1h"}
    late = start(stages=stages, evaluation=slow)
    late.now = at("2026-05-01T16:45:00Z")
    late.run_until(Phase.PROMOTING)
    assert late.now == at("2026-05-04T09:00:00Z"), "over the weekend"


def test_an_edited_stage_is_begun_anew_in_the_window_alone(progressing: Callable[..., Any]) -> None:
    sim = progressing(evaluation=CALM)
    sim.edit(
        stages=[{"name": "other", "duration": "10m"}],
        schedule={"allowed": [{"from": "20:00", "to": "21:00"}]},
    )
    sim.run(HOUR)
    assert sim.status["stage"]["name"] == "shadow"
    sim.run(11 * HOUR)
    assert sim.status["stage"]["name"] == "other"


# --------------------------------------------------------------------------- what never waits

SHUT = {"blackouts": [{"start": "2026-05-01T00:00:00Z", "end": "2026-05-20T00:00:00Z"}]}


@pytest.mark.parametrize("phase", [Phase.WARMING, Phase.PROGRESSING, Phase.PROMOTING])
def test_a_breach_rolls_back_outside_every_window(start: Callable[..., Any], phase: Phase) -> None:
    sim = start(stages=ONE_STAGE)
    # Until it is seen, nothing is judged; until its pods run, nothing is promoted.
    sim.look()
    sim.world.source_answers = phase is not Phase.WARMING
    sim.run(MINUTE)
    sim.world.pods_start = False
    sim.run_until(phase)
    sim.edit(schedule=SHUT)
    sim.world.pods_start = sim.world.source_answers = True
    sim.run(MINUTE)
    assert sim.phase is phase
    sim.world.values["platt_ece"] = 0.3
    assert sim.run_until(Phase.ROLLED_BACK) <= 3 * MINUTE


def test_silence_an_abort_and_a_rollback_by_hand_wait_for_nothing(
    progressing: Callable[..., Any],
) -> None:
    silent = progressing()
    silent.edit(schedule=SHUT)
    silent.world.silent["BTCUSDT"] = silent.now
    silent.run_until(Phase.ROLLED_BACK)
    aborted = progressing()
    aborted.edit(schedule=SHUT)
    assert not aborted.ask("abort").refusal
    assert aborted.phase is Phase.ROLLING_BACK
    promoted = progressing(stages=ONE_STAGE)
    promoted.run_until(Phase.SUCCEEDED)
    promoted.edit(schedule=SHUT)
    stable, former = promoted.state.stable, promoted.state.former[0]
    assert not promoted.ask("rollback", f"{stable.name}-{stable.attempt}/{former.name}").refusal
    promoted.run_until(Phase.ROLLED_BACK)
    assert promoted.state.stable.version == "v0"


def test_a_soak_ends_in_a_blackout_too(progressing: Callable[..., Any]) -> None:
    sim = progressing(stages=ONE_STAGE, soak="10m")
    sim.run_until(Phase.SOAKING)
    sim.edit(schedule=SHUT)
    assert sim.run_until(Phase.SUCCEEDED) <= 11 * MINUTE


def test_a_closed_window_is_not_held_against_the_canary(progressing: Callable[..., Any]) -> None:
    late = CALM | {"deadline": "1h", "onDeadline": "Rollback"}
    sim = progressing(stages=ONE_STAGE, evaluation=late)
    sim.edit(schedule={"allowed": [{"from": "20:00", "to": "21:00"}]})
    sim.run_until(Phase.SUCCEEDED)
    unproven = progressing(stages=ONE_STAGE, evaluation=late)
    unproven.edit(schedule=SHUT)
    unproven.world.values.pop("slice_auc_active_period")
    unproven.run_until(Phase.ROLLED_BACK, within=3 * HOUR)
    assert unproven.story[-1][2] == "DeadlineExceeded", "it was late by itself"


# --------------------------------------------------------------------------- a person's word


def test_a_person_moves_nothing_on_outside_unless_that_is_allowed(
    progressing: Callable[..., Any],
) -> None:
    sim = progressing()
    sim.edit(schedule=SHUT)
    for verb in ("skip", "promote"):
        answer = sim.ask(verb)
        assert answer.refusal == "Blackout"
        assert "2026-05-20 00:00 UTC" in answer.message
    sim.edit(schedule=SHUT | {"manual": "Allow"})
    assert not sim.ask("skip", id="again").refusal
    assert sim.status["stage"]["name"] == "canary"
    sim.run(HOUR)
    assert sim.phase is Phase.PROGRESSING, "by itself it waits all the same"
    assert not sim.ask("promote", id="again").refusal
    sim.run_until(Phase.SUCCEEDED, within=MINUTE)


def test_an_approval_opens_no_window(progressing: Callable[..., Any]) -> None:
    stages = [{"name": "canary", "duration": "10m", "approval": "Required"}]
    sim = progressing(stages=stages, evaluation=CALM)
    sim.edit(schedule={"allowed": [{"from": "20:00", "to": "21:00"}], "manual": "Allow"})
    assert not sim.ask("approve", sim.status["subject"]).refusal
    sim.run_until(Phase.PROMOTING)
    assert at("2026-05-01T20:00:00Z") <= sim.now < at("2026-05-01T20:05:00Z")


def test_a_look_that_is_made_up_for_moves_nothing_on_after_the_window(
    progressing: Callable[..., Any],
) -> None:
    sim = progressing(stages=ONE_STAGE)
    sim.run(29 * MINUTE)
    sim.edit(schedule={"allowed": [{"from": "00:00", "to": "08:45"}]})
    sim.now += MINUTE
    seen = replace(sim.observe(), asked=None)
    then = decide(sim.spec, sim.state, seen, sim.now)
    assert then.state.phase is Phase.PROMOTING
    late = replace(seen, present=at("2026-05-01T09:00:00Z"))
    assert decide(sim.spec, sim.state, late, sim.now).state.phase is Phase.PROGRESSING


# --------------------------------------------------------------------------- the calendar


def windows(**wire: Any) -> list[Windows]:
    return [Windows.model_validate(wire)]


def open_between(of: list[Windows], begin: str, end: str) -> list[tuple[str, str]]:
    """When they are open, to 15 min, in UTC."""
    found: list[tuple[str, str]] = []
    now, last = at(begin), at(end)
    since = None
    while now <= last:
        is_open = closed(of, now) is None
        if is_open and since is None:
            since = now
        if not is_open and since is not None:
            found.append((f"{since:%d %H:%M}", f"{now:%d %H:%M}"))
            since = None
        now += 15 * MINUTE
    return found


def test_a_window_over_midnight_is_of_the_day_on_which_it_begins() -> None:
    of = windows(allowed=[{"days": ["Fri"], "from": "22:00", "to": "02:00"}])
    assert open_between(of, "2026-05-01T00:00Z", "2026-05-04T00:00Z") == [("01 22:00", "02 02:00")]


def test_windows_overlap_and_a_blackout_cuts_a_hole() -> None:
    of = windows(
        allowed=[{"from": "08:00", "to": "12:00"}, {"from": "11:00", "to": "16:00"}],
        blackouts=[{"from": "13:00", "to": "13:30"}, {"from": "13:15", "to": "14:00"}],
    )
    assert open_between(of, "2026-05-01T00:00Z", "2026-05-02T00:00Z") == [
        ("01 08:00", "01 13:00"),
        ("01 14:00", "01 16:00"),
    ]
    assert opening(of, at("2026-05-01T13:05Z")) == at("2026-05-01T14:00Z")


def test_a_day_has_twenty_four_hours() -> None:
    of = windows(allowed=[{"days": ["Sat"], "from": "00:00", "to": "24:00"}])
    assert open_between(of, "2026-05-01T00:00Z", "2026-05-04T00:00Z") == [("02 00:00", "03 00:00")]


# Berlin sets its clock forward on 2026-03-29 at 02:00 (01:00 UTC), and back on 2026-10-25 at 03:00.
SPRING, AUTUMN = (
    ("2026-03-29T00:00Z", "2026-03-29T03:00Z"),
    ("2026-10-25T00:00Z", "2026-10-25T04:00Z"),
)


@pytest.mark.parametrize(
    ("begin", "end", "day", "expected"),
    [
        ("02:15", "02:45", SPRING, []),
        ("01:30", "02:30", SPRING, [("29 00:30", "29 01:00")]),
        ("02:30", "03:30", SPRING, [("29 01:00", "29 01:30")]),
        ("01:30", "03:30", SPRING, [("29 00:30", "29 01:30")]),
        ("02:15", "02:45", AUTUMN, [("25 00:15", "25 01:45")]),
        ("01:30", "02:30", AUTUMN, [("25 00:00", "25 01:30")]),
        ("02:30", "03:30", AUTUMN, [("25 00:30", "25 02:30")]),
    ],
    ids=[
        "in the hour that there is not",
        "ends in it",
        "begins in it",
        "over it",
        "in the hour that comes twice",
        "ends in that",
        "begins in that",
    ],
)
def test_the_night_on_which_the_clock_is_set(
    begin: str, end: str, day: tuple[str, str], expected: list[tuple[str, str]]
) -> None:
    of = windows(timeZone="Europe/Berlin", allowed=[{"from": begin, "to": end}])
    assert open_between(of, *day) == expected
    as_blackout = windows(timeZone="Europe/Berlin", blackouts=[{"from": begin, "to": end}])
    now = datetime.fromisoformat(day[0])
    while now < datetime.fromisoformat(day[1]):
        is_allowed, is_black = closed(of, now) is None, closed(as_blackout, now) is not None
        assert is_allowed == is_black, "one rule for both"
        now += 15 * MINUTE


def test_the_session_stays_where_the_clock_on_the_wall_has_it() -> None:
    of = windows(timeZone="America/New_York", allowed=[OFFICE | {"from": "09:30", "to": "16:00"}])
    assert opening(of, at("2026-03-06T22:00Z")) == at("2026-03-09T13:30Z"), "daylight saving time"
    assert opening(of, at("2026-03-05T22:00Z")) == at("2026-03-06T14:30Z")


@pytest.mark.parametrize(
    "wire",
    [
        {"allowed": [OFFICE], "blackouts": [{"from": "08:00", "to": "18:00"}]},
        {"allowed": [{"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}]},
        {"blackouts": [{"from": "00:00", "to": "12:00"}, {"from": "12:00", "to": "00:00"}]},
        {"blackouts": [{"from": "00:00", "to": "24:00"}]},
    ],
)
def test_what_never_opens_is_said_to(wire: dict[str, Any], start: Callable[..., Any]) -> None:
    assert opening(windows(**wire), at("2026-05-01T08:00Z")) is None
    sim = start(schedule=wire)
    sim.look()
    assert "no window opens" in sim.status["message"]
    assert sim.phase is Phase.WAITING


def test_what_opens_after_a_long_blackout_is_found() -> None:
    of = windows(
        allowed=[{"days": ["Tue"], "from": "10:00", "to": "11:00"}],
        blackouts=[{"start": "2026-05-01T00:00:00Z", "end": "2027-05-01T00:00:00Z"}],
    )
    assert opening(of, at("2026-05-01T08:00Z")) == at("2027-05-04T10:00Z")
    two = [*of, *windows(timeZone="Asia/Tokyo", allowed=[{"from": "19:30", "to": "23:00"}])]
    assert opening(two, at("2026-05-01T08:00Z")) == at("2027-05-04T10:30Z")
