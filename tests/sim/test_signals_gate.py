"""Who may publish signals, through whole rollouts: the stable, and a canary whose stage allows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from signalcanary.contract import Track
from signalcanary.publication import build_gate
from signalcanary.rollout import Phase
from signalcanary.stream import Gate, Holder

Start = Callable[..., Any]
SHADOW_THEN_CANARY = {
    "stages": [
        {"name": "shadow", "duration": "10m"},
        {"name": "canary", "duration": "30m", "publish": True},
    ]
}


def gate_of(sim: Any) -> Gate:
    return build_gate(sim.spec, sim.state)


def named(holder: Holder | None, ref: Any) -> bool:
    return ref is not None and holder == Holder(revision=ref.name, attempt=ref.attempt)


def test_shadow_publishes_to_nobody_and_the_canary_once_its_stage_allows_it(start: Start) -> None:
    sim = start(**SHADOW_THEN_CANARY)
    seen = []
    while sim.phase is not Phase.SUCCEEDED:
        sim.run(timedelta(seconds=10))
        assert gate_of(sim).stable is None or sim.phase is Phase.SUCCEEDED
        seen.append((sim.phase, sim.state.stage, named(gate_of(sim).canary, sim.state.canary)))
    open_at = {(phase, stage) for phase, stage, is_open in seen if is_open}
    assert open_at == {(Phase.PROGRESSING, "canary"), (Phase.PROMOTING, "canary")}
    closed_at = {(phase, stage) for phase, stage, is_open in seen if not is_open}
    assert (Phase.PROGRESSING, "shadow") in closed_at
    assert open_at.isdisjoint(closed_at)
    assert gate_of(sim).canary is None
    assert named(gate_of(sim).stable, sim.state.stable)


def test_by_default_no_stage_publishes(progressing: Start) -> None:
    sim = progressing()
    while sim.phase is not Phase.SUCCEEDED:
        assert gate_of(sim).canary is None
        assert named(gate_of(sim).stable, sim.state.stable)
        sim.run(timedelta(seconds=10))


def test_the_old_stable_publishes_until_it_is_replaced_and_the_new_one_once_it_is_gone(
    progressing: Start,
) -> None:
    sim = progressing()
    old = sim.state.stable
    sim.run_until(Phase.PROMOTING)
    assert named(gate_of(sim).stable, old)
    sim.world.pods_stop = False
    sim.run_until(Phase.SUCCEEDED)
    new = sim.state.stable
    assert new != old
    sim.run(timedelta(minutes=5))
    assert gate_of(sim) == Gate(), "the old one's pods are there still"
    assert sim.status["next"] == f"publishes signals once the pods of {old.version} are gone"
    sim.world.pods_stop = True
    sim.run(timedelta(seconds=20))
    assert named(gate_of(sim).stable, new)
    assert (Track.STABLE, old.name) not in sim.world.tracks


def test_a_rollback_closes_the_canary_and_leaves_the_stable_open(progressing: Start) -> None:
    sim = progressing(**SHADOW_THEN_CANARY)
    sim.run(timedelta(minutes=15))
    stable = sim.state.stable
    assert named(gate_of(sim).canary, sim.state.canary)
    sim.world.values["platt_ece"] = 0.3
    sim.run_until(Phase.ROLLING_BACK)
    assert gate_of(sim) == Gate(stable=Holder(revision=stable.name, attempt=stable.attempt))
    sim.run_until(Phase.ROLLED_BACK)
    assert named(gate_of(sim).stable, stable)


def test_a_canary_that_is_observed_anew_publishes_nothing_meanwhile(progressing: Start) -> None:
    sim = progressing(**SHADOW_THEN_CANARY)
    sim.run(timedelta(minutes=15))
    assert gate_of(sim).canary is not None
    sim.edit(stages=[{"name": "watch", "duration": "5m"}])
    assert gate_of(sim).canary is None, "the stage that allowed it is not in the spec any more"
    sim.run(timedelta(seconds=10))
    assert gate_of(sim).canary is None


def test_the_gate_changes_no_decision(progressing: Start) -> None:
    silent, loud = progressing(), progressing(**SHADOW_THEN_CANARY)
    for sim in (silent, loud):
        sim.run_until(Phase.SUCCEEDED)
    assert silent.story == loud.story
