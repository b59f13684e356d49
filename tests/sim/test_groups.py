"""Rollouts that move together, take turns, or come one after another."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from tests.sim.conftest import START, Sim
from tests.sim.namespace_kit import Namespace

from signalcanary.observe import observe_others
from signalcanary.rollout import GUARDED, STARTING, Phase

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
RUNNING = GUARDED - STARTING | {Phase.SOAKING}


def grouped(pace: str = "Together", verdict: str = "Hold", **changes: Any) -> dict[str, Any]:
    return {"group": {"name": "desk", "pace": pace, "onVerdict": verdict}} | changes


# --------------------------------------------------------------------------- together


def test_none_is_promoted_before_all_are_ready() -> None:
    both = Namespace(a=grouped(), b=grouped(stages=[{"name": "canary", "duration": "10m"}]))
    both.run(6 * MINUTE)
    assert both.phases == {"a": Phase.PROGRESSING, "b": Phase.PROGRESSING}
    assert both.waits("a") == ("GroupNotReady", "it is ready, and waits for b of group desk")
    assert "it is ready, and waits for b" in both["a"].status["message"]
    both["b"].world.pods_start = False
    both.run(8 * MINUTE)
    assert both.phases == {"a": Phase.PROMOTING, "b": Phase.PROMOTING}, "both have passed"
    assert both["a"].state.stable is None, "a's pods are ready, b's are not"
    both["b"].world.pods_start = True
    both.run(MINUTE)
    assert both.all_in(Phase.SUCCEEDED)


def test_three_are_promoted_within_two_looks_of_one_another() -> None:
    three = Namespace(a=grouped(), b=grouped(), c=grouped())
    three.run_until(lambda: Phase.SUCCEEDED in three.phases.values())
    three.run(20 * SECOND)
    assert three.all_in(Phase.SUCCEEDED)


def test_the_group_waits_for_one_that_is_paused_and_not_for_one_that_is_at_rest() -> None:
    three = Namespace(a=grouped(), b=grouped(), c=grouped())
    three.run_until(lambda: three.all_in(Phase.SUCCEEDED))
    for name in ("a", "b"):
        three[name].edit(version="v2")
    three["b"].annotations["signalcanary.dev/pause"] = "look into it"
    three.run(20 * MINUTE)
    assert three.phases["a"] is Phase.PROGRESSING
    del three["b"].annotations["signalcanary.dev/pause"]
    three.run_until(lambda: three.all_in(Phase.SUCCEEDED))
    assert three["c"].state.stable.version == "v1"


def test_a_person_promotes_one_alone() -> None:
    both = Namespace(a=grouped(), b=grouped(stages=[{"name": "canary", "duration": "48h"}]))
    both.run(5 * MINUTE)
    assert not both["a"].ask("promote").refusal
    both.run(MINUTE)
    assert both.phases == {"a": Phase.SUCCEEDED, "b": Phase.PROGRESSING}


def test_one_that_is_deleted_is_waited_for_no_more() -> None:
    both = Namespace(a=grouped(), b=grouped(stages=[{"name": "canary", "duration": "48h"}]))
    both.run(5 * MINUTE)
    assert both.phases["a"] is Phase.PROGRESSING
    del both.members["b"]
    both.run(MINUTE)
    assert both.phases["a"] is Phase.SUCCEEDED


# --------------------------------------------------------------------------- a verdict


def break_(sim: Sim) -> None:
    sim.world.values["platt_ece"] = 0.3


def test_a_verdict_against_one_holds_the_others_until_it_is_tried_again() -> None:
    both = Namespace(a=grouped(), b=grouped())
    both.run(MINUTE)
    break_(both["b"])
    both.run(10 * MINUTE)
    assert both.phases == {"a": Phase.PROGRESSING, "b": Phase.ROLLED_BACK}
    assert both.waits("a")[0] == "GroupHeld"
    both["b"].world.values["platt_ece"] = 0.05
    assert not both["b"].ask("retry").refusal
    both.run_until(lambda: both.all_in(Phase.SUCCEEDED))


@pytest.mark.parametrize("phase", [Phase.WARMING, Phase.PROGRESSING, Phase.SOAKING])
def test_a_verdict_against_one_rolls_back_the_others(phase: Phase) -> None:
    rules = grouped(verdict="Rollback", pace="Together")
    both = Namespace(a=rules | {"soak": "10m"}, b=rules)
    if phase is Phase.SOAKING:
        both["b"].edit(soak="10m")
    both["a"].world.source_answers = phase is not Phase.WARMING
    both.run_until(lambda: both.phases["a"] is phase)
    break_(both["b"])
    both.run_until(lambda: both.all_in(Phase.ROLLED_BACK))
    assert "GroupRolledBack" in both["a"].reasons
    assert "b of group desk was rolled back" in both["a"].status["message"]
    both["a"].world.source_answers = True
    both["a"].edit(version="v2")
    both.run(20 * SECOND)
    assert both.phases["a"] in GUARDED, "the verdict was of before it began"


def test_a_verdict_against_one_may_matter_nothing() -> None:
    both = Namespace(a=grouped(verdict="Ignore"), b=grouped())
    both.run(MINUTE)
    break_(both["b"])
    both.run_until(lambda: both.phases == {"a": Phase.SUCCEEDED, "b": Phase.ROLLED_BACK})


# --------------------------------------------------------------------------- order


def test_one_begins_when_the_other_has_succeeded_with_its_present_spec() -> None:
    both = Namespace(features={}, fusion={"after": ["features"]})
    both.run(2 * MINUTE)
    assert both.phases["fusion"] is Phase.WAITING
    assert both.waits("fusion")[0] == "AfterOthers"
    assert "features, which is Progressing" in both.waits("fusion")[1]
    both.run_until(lambda: both.all_in(Phase.SUCCEEDED))
    both["fusion"].edit(version="v2")
    both["features"].edit(version="v2")
    both.look("fusion")
    assert both.phases["fusion"] is Phase.WAITING, "nobody has looked at the other's new spec yet"
    break_(both["features"])
    both.run(10 * MINUTE)
    assert both.phases == {"features": Phase.ROLLED_BACK, "fusion": Phase.WAITING}


def test_a_ring_and_a_name_that_there_is_not_are_said() -> None:
    ring = Namespace(a={"after": ["b"]}, b={"after": ["c"]}, c={"after": ["a"]}, d={"after": ["x"]})
    ring.run(MINUTE)
    assert ring.all_in(Phase.WAITING)
    assert ring.waits("a") == (
        "OrderCycle",
        "the order goes in a ring: a after b after c after a: take one of them out",
    )
    assert ring.waits("d") == ("AfterMissing", "it comes after x, and there is no x here")
    ring["c"].edit(after=None)
    ring.run_until(lambda: {*list(ring.phases.values())[:3]} == {Phase.SUCCEEDED})


def test_order_within_a_group_that_moves_together_is_no_deadlock() -> None:
    both = Namespace(a=grouped(), b=grouped(after=["a"]))
    both.run_until(lambda: both.all_in(Phase.SUCCEEDED))


# --------------------------------------------------------------------------- turns


def test_one_rollout_at_a_time_and_the_longest_waiting_first() -> None:
    one = Namespace(a=grouped("InTurn"), b=grouped("InTurn"), c=grouped("InTurn"))
    began = []
    one.look("c")
    one.now += SECOND
    one.look("b")
    one.now += SECOND
    one.look("a")

    def is_done() -> bool:
        running = [name for name, phase in one.phases.items() if phase in GUARDED]
        assert len(running) <= 1
        began.extend(name for name in running if name not in began)
        return one.all_in(Phase.SUCCEEDED)

    one.run_until(is_done)
    assert began == ["c", "b", "a"]


def test_who_cannot_begin_anyway_keeps_nobody_from_it() -> None:
    late = {"schedule": {"startAt": "2026-05-02T08:00:00Z"}}
    both = Namespace(a=grouped("InTurn", **late), b=grouped("InTurn"))
    both.run_until(lambda: both.phases == {"a": Phase.WAITING, "b": Phase.SUCCEEDED})


def test_one_member_that_asks_for_turns_asks_for_all() -> None:
    both = Namespace(a=grouped("InTurn"), b=grouped("Together"))
    both.run_until(
        lambda: both.phases["b"] is Phase.SUCCEEDED or both.phases["a"] is Phase.SUCCEEDED
    )
    both.run_until(lambda: both.all_in(Phase.SUCCEEDED))


def test_who_began_later_on_an_old_view_goes_back_before_its_pods_run() -> None:
    both = Namespace(a=grouped("InTurn"), b=grouped("InTurn"))
    both["a"].world.pods_start = both["b"].world.pods_start = False
    neither = {name: both[name].item for name in "ab"}
    for _ in range(2):
        both.now += SECOND
        both.seen = {"b": neither["b"]}
        both.look("a")
        both.seen = {"a": neither["a"]}
        both.look("b")
    assert both.all_in(Phase.PENDING), "neither has seen the other"
    both.seen = {}
    both.run(20 * SECOND)
    assert sorted(both.phases.values()) == [Phase.PENDING, Phase.WAITING]
    both["a"].world.pods_start = both["b"].world.pods_start = True
    both.run_until(lambda: both.all_in(Phase.SUCCEEDED))


@pytest.mark.parametrize("seed", range(5))
def test_on_old_views_there_is_one_at_a_time_and_everyone_has_a_turn(seed: int) -> None:
    """A look sees of each other member what is now, or what was up to three rounds ago; pods take
    eight rounds to run. There are edits on the way, and one may be deleted."""
    chance = random.Random(seed)
    group = Namespace(**{name: grouped("InTurn", "Ignore") for name in "abc"})
    past: list[dict[str, Any]] = []
    edits = 3

    def take_round() -> None:
        names = list(group.members)
        chance.shuffle(names)
        for name in names:
            group.now += SECOND
            past.append({n: group[n].item for n in names})
            old = past[-min(len(past), 1 + chance.randrange(3 * len(names)))]
            late = [n for n in names if n != name and chance.random() < 0.8]
            group.seen = {n: old[n] for n in late}
            sim = group[name]
            since = sim.state.phase_since or group.now
            sim.world.pods_start = group.now - since > 8 * len(names) * SECOND
            group.look(name)
        running = [n for n, p in group.phases.items() if p in RUNNING]
        assert len(running) <= 1, group.phases

    for _ in range(80):
        take_round()
        if edits and chance.random() < 0.05:
            edits -= 1
            group[chance.choice(list(group.members))].edit(version=f"v{edits + 2}")
    if chance.random() < 0.5:
        del group.members[chance.choice(list(group.members))]
    for _ in range(400):
        if group.all_in(Phase.SUCCEEDED):
            break
        take_round()
    assert group.all_in(Phase.SUCCEEDED), group.phases


def test_a_queue_is_kept_by_a_restart_and_left_where_the_window_closes() -> None:
    both = Namespace(a=grouped("InTurn"), b=grouped("InTurn"))
    both.look("a")
    assert both["a"].state.queued_at == START
    both["a"].edit(schedule={"startAt": "2026-05-02T08:00:00Z"})
    both.now += SECOND
    both.look()
    assert both["a"].state.queued_at is None
    both.run_until(lambda: both.phases == {"a": Phase.WAITING, "b": Phase.SUCCEEDED})


def test_whatever_stands_in_the_namespace_is_read() -> None:
    own = {"metadata": {"name": "a"}, "spec": {"group": {"name": "g"}, "after": ["x", "y"]}}
    going = {"metadata": {"name": "y", "deletionTimestamp": "now"}, "spec": {}}
    strange = {"metadata": {"name": "x", "generation": 1}, "spec": {}, "status": {"phase": "Odd"}}
    (found,) = observe_others(own, [own, going, strange])
    assert (found.name, found.phase, found.is_current) == ("x", None, False)
