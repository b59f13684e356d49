"""Stories of what a person is called for: an approval, and a deadline that only holds.

Each is told once in a phase or stage, whatever restarts in between (every look of these stories
passes the state through the status) and however the canary sways.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from signalcanary.evaluate import Bound
from signalcanary.rollout import Phase

Start = Callable[..., Any]

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
APPROVED = [
    {"name": "shadow", "duration": "10m", "approval": "Required"},
    {"name": "canary", "duration": "30m", "approval": "Required"},
]
ECE = "platt_ece"
OPEN = (Bound(0.0005, 0.0, 1.0, 0.0, 1.0),)
"""Evidence that says nothing yet."""
HOLD_1H = {"deadline": "1h", "onDeadline": "Hold"}


def called(sim: Any, duration: timedelta) -> list[str]:
    """The calls that are new within some time, by their reasons."""
    told: list[str] = []
    end = sim.now + duration
    while sim.now < end:
        sim.now += 3 * sim.spec.evaluation.interval  # more would be time in which nobody looked
        told += [n.reason for n in sim.look().notices if n.reason != "CommandDone"]
    return told


def standing(sim: Any) -> dict[str, str]:
    return {call["reason"]: call["message"] for call in sim.status.get("calls", ())}


def is_true(sim: Any, kind: str) -> bool:
    return next(c["status"] for c in sim.status["conditions"] if c["type"] == kind) == "True"


# --------------------------------------------------------------------------- approvals


def test_a_person_is_called_once_for_each_stage_that_waits_for_them(progressing: Start) -> None:
    sim = progressing(stages=APPROVED)
    assert called(sim, 9 * MINUTE) == []
    assert called(sim, 2 * HOUR) == ["ApprovalNeeded"]
    assert standing(sim)["ApprovalNeeded"] == (
        "stage shadow of v1 has passed and waits for a person's approval, every guard armed; "
        f"to approve: signalcanary.dev/approve: {sim.status['subject']}"
    )
    sim.ask("approve", why="seen")
    assert standing(sim) == {}
    assert called(sim, 2 * HOUR) == ["ApprovalNeeded"]
    assert standing(sim)["ApprovalNeeded"].startswith("stage canary of v1 has passed")


def test_nobody_is_called_for_what_was_approved_before(progressing: Start) -> None:
    sim = progressing(stages=APPROVED[:1])
    sim.ask("approve")
    assert called(sim, HOUR) == []
    assert sim.phase is Phase.SUCCEEDED


def test_a_canary_that_comes_and_goes_is_told_of_once(progressing: Start) -> None:
    sim = progressing(stages=APPROVED[:1])
    assert called(sim, 11 * MINUTE) == ["ApprovalNeeded"]
    for _ in range(3):
        sim.world.bounds[ECE] = OPEN
        assert called(sim, 5 * MINUTE) == []
        assert not is_true(sim, "ApprovalNeeded")
        sim.world.bounds.clear()
        assert called(sim, 5 * MINUTE) == []
        assert is_true(sim, "ApprovalNeeded")


@pytest.mark.parametrize("ends", ["breach", "edited", "skipped"])
def test_a_call_ends_with_what_it_is_about(progressing: Start, ends: str) -> None:
    sim = progressing(stages=APPROVED[:1])
    assert called(sim, 11 * MINUTE) == ["ApprovalNeeded"]
    match ends:
        case "breach":
            sim.world.values[ECE] = 0.3
            sim.run_until(Phase.ROLLED_BACK, within=HOUR)
        case "edited":
            sim.world.bounds[ECE] = OPEN
            sim.edit(stages=[{"name": "shadow", "duration": "10m"}])
            sim.look()
            assert sim.phase is Phase.PROGRESSING
        case "skipped":
            sim.ask("skip")
    assert standing(sim) == {}


def test_a_stage_observed_anew_calls_anew(progressing: Start) -> None:
    sim = progressing(stages=APPROVED[:1])
    assert called(sim, 11 * MINUTE) == ["ApprovalNeeded"]
    sim.edit(rollback={"conditions": [{"metric": ECE, "above": 0.2}]})
    assert called(sim, 20 * MINUTE) == ["ApprovalNeeded"]


# --------------------------------------------------------------------------- the deadline


def test_a_stage_held_at_its_deadline_calls_a_person_once(progressing: Start) -> None:
    sim = progressing(evaluation=HOLD_1H)
    assert called(sim, 15 * MINUTE) == []
    assert sim.state.stage == "canary"
    sim.world.bounds[ECE] = OPEN
    assert called(sim, 84 * MINUTE) == []
    assert called(sim, 2 * HOUR) == ["DeadlineHeld"]
    assert is_true(sim, "Overdue")
    message, subject = standing(sim)["DeadlineHeld"], sim.status["subject"]
    assert message.startswith("not judged good 1h after it was due: platt_ece on BTCUSDT is 0.05")
    assert message.endswith(
        "; it is held (evaluation.onDeadline), every guard armed, for a person, or for every "
        f"condition Ok at one look; to take it back: signalcanary.dev/abort: {subject}"
    )
    assert sim.status["next"] == (
        "the promotion as soon as every condition is Ok; held beyond its deadline until then, or "
        f"until a person takes it back: signalcanary.dev/abort: {subject}"
    )
    sim.world.bounds.clear()
    sim.run_until(Phase.SUCCEEDED, within=MINUTE)
    assert standing(sim) == {}
    assert not is_true(sim, "Overdue")


def test_warming_and_promoting_held_at_their_deadlines_call_a_person(start: Start) -> None:
    sim = start(evaluation=HOLD_1H)
    del sim.world.values[ECE]
    sim.run_until(Phase.WARMING)
    due = timedelta(hours=2, minutes=30) + HOUR
    assert called(sim, due - MINUTE) == []
    assert called(sim, 2 * HOUR) == ["DeadlineHeld"]
    assert standing(sim)["DeadlineHeld"].startswith("not judgeable 1h after its windows should")
    sim.world.values[ECE] = 0.05
    sim.run_until(Phase.PROGRESSING)
    assert standing(sim) == {}
    sim.world.pods_start = False
    sim.run_until(Phase.PROMOTING)
    assert called(sim, 3 * HOUR) == ["DeadlineHeld"]
    assert "its pods on the full symbol set are not ready" in standing(sim)["DeadlineHeld"]


def test_time_that_does_not_count_calls_nobody(progressing: Start) -> None:
    sim = progressing(evaluation=HOLD_1H)
    sim.world.source_answers = False
    assert called(sim, 5 * HOUR) == []
    sim.world.source_answers, sim.world.bounds[ECE] = True, OPEN
    assert called(sim, 59 * MINUTE) == []


def test_a_deadline_that_is_put_off_calls_when_it_comes(progressing: Start) -> None:
    sim = progressing(evaluation=HOLD_1H)
    del sim.world.values[ECE]
    assert called(sim, 2 * HOUR) == ["DeadlineHeld"]
    sim.edit(evaluation={"deadline": "3h", "onDeadline": "Hold"})
    assert called(sim, HOUR) == []
    assert standing(sim) == {}
    assert called(sim, HOUR) == ["DeadlineHeld"]


def test_told_to_roll_back_after_all_it_does(progressing: Start) -> None:
    sim = progressing(evaluation=HOLD_1H)
    del sim.world.values[ECE]
    assert called(sim, 2 * HOUR) == ["DeadlineHeld"]
    sim.edit(evaluation={"deadline": "1h", "onDeadline": "Rollback"})
    sim.run_until(Phase.ROLLED_BACK, within=MINUTE)
    assert sim.state.reason == "DeadlineExceeded"
    assert standing(sim) == {}
