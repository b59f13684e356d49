"""Laws that hold whatever the world does, in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary.contract import Track
from signalcanary.evaluate import Verdict
from signalcanary.publication import build_gate
from signalcanary.rollout import (
    ARMED,
    GUARDED,
    SERVED,
    Phase,
    plan,
)
from signalcanary.stream import Holder

SECOND = timedelta(seconds=1)
ECE = "platt_ece"
SPEC: dict[str, Any] = {
    "stages": [{"name": "shadow", "duration": "10s"}, {"name": "canary", "duration": "20s"}],
    "evaluation": {"interval": "10s", "staleAfter": "30s", "noDataAfter": "30s"},
    "rollback": {
        "conditions": [
            {"metric": ECE, "above": 0.1, "for": "30s"},
            {"metric": "slice_auc_active_period", "below": 0.55, "for": "1m"},
        ]
    },
}
EVENTS = st.sampled_from(
    [
        *["look"] * 4,
        *["heal"] * 5,
        *("calibration breaks", "ranking breaks", "source fails", "silence", "value vanishes"),
        *("pods fail", "pods linger", "gap", "edit version", "edit back", "edit stages"),
    ]
)

WALKS = st.lists(st.tuples(EVENTS, st.sampled_from([1, 1, 1, 2, 4, 8])), min_size=15, max_size=40)


def disturb(sim: Any, event: str) -> None:
    world = sim.world
    match event:
        case "heal":
            world.source_answers = world.pods_start = world.pods_stop = True
            world.silent.clear()
            world.values |= {ECE: 0.05, "slice_auc_active_period": 0.6}
        case "calibration breaks":
            world.values[ECE] = 0.3
        case "ranking breaks":
            world.values["slice_auc_active_period"] = 0.5
        case "source fails":
            world.source_answers = False
        case "silence":
            world.silent["BTCUSDT"] = sim.now - timedelta(minutes=1)
        case "value vanishes":
            world.values.pop(ECE, None)
        case "pods fail":
            world.pods_start = False
        case "pods linger":
            world.pods_stop = False
        case "gap":
            sim.idle(timedelta(hours=50))
        case "edit version":
            sim.edit(version=f"v{sim.generation + 1}")
        case "edit back":
            sim.edit(version=sim.state.stable.version if sim.state.stable else "v1")
        case "edit stages":
            sim.edit(stages=[{"name": f"s{sim.generation}", "duration": "20s"}])


def stable_plan(sim: Any) -> list[str]:
    state = sim.state
    return [
        p.revision.name
        for p in plan(state)
        if p.track is Track.STABLE and p.revision == state.stable
    ]


@settings(max_examples=100)
@given(events=WALKS)
def test_the_laws_of_a_rollout_hold_on_every_walk(
    start: Callable[..., Any], events: list[tuple[str, int]]
) -> None:
    sim = start(**SPEC)
    judged_time: dict[str, timedelta] = {}  # by stage, of the canary that runs
    canary = None
    for event, count in events:
        disturb(sim, event)
        for _ in range(count):
            before, stable_before, last = sim.state, stable_plan(sim), sim.now
            sim.now += 10 * SECOND
            decision = sim.look()  # asserts that the state survives a restart
            after = decision.state
            verdicts = {j.verdict for j in decision.judgements}

            if after.canary != canary or before.canary != canary:
                canary, judged_time = after.canary, {}
            if before.stage and verdicts <= {Verdict.OK, Verdict.BREACHED}:
                gap = sim.now - last
                judged_time[before.stage] = judged_time.get(before.stage, timedelta(0)) + gap

            entered = {t.phase for t in decision.transitions}
            if Phase.PROMOTING in entered or (
                Phase.SUCCEEDED in entered and after.reason == "Promoted"
            ):
                assert verdicts == {Verdict.OK}, "promoted on what was not Ok"
            if Phase.PROMOTING in entered:
                stage = sim.spec.stages[-1]
                assert before.stage == stage.name
                # One look on either side may be judged only in part.
                assert judged_time[stage.name] >= stage.duration
            if Phase.ROLLING_BACK in entered:
                assert sim.seen.metrics.failure is None, "rolled back blind"
                assert before.phase in GUARDED
                assert after.rejected == before.canary
                if after.reason == "ConditionBreached":
                    assert Verdict.BREACHED in verdicts
            if stable_plan(sim) != stable_before:
                assert after.reason == "Promoted"
                assert after.stable == before.canary
            if after.phase in GUARDED:
                assert after.canary is not None
                assert after.canary != after.stable
            else:
                assert after.canary is None
                assert after.timers == {}
            assert all(clock.elapsed(sim.now) >= timedelta(0) for clock in after.timers.values())


@settings(max_examples=100)
@given(events=WALKS)
def test_two_never_publish_as_stable_however_late_a_pod_learns_of_the_gate(
    start: Callable[..., Any], events: list[tuple[str, int]]
) -> None:
    """A pod may still go by any gate that it was ever shown; only its end is certain."""
    sim = start(**SPEC)
    shown: set[Holder] = set()
    for event, count in events:
        disturb(sim, event)
        for _ in range(count):
            sim.now += 10 * SECOND
            sim.look()
            holder = build_gate(sim.spec, sim.state).stable
            if holder is None:
                continue
            shown.add(holder)
            running = {name for track, name in sim.seen.tracks if track is Track.STABLE}
            others = {h for h in shown if h.revision in running and h.revision != holder.revision}
            wanted = {p.revision.name: p.revision.attempt for p in plan(sim.state)}
            # An attempt of its own goes by its own name, which no gate of the past has.
            believing = {h for h in others if wanted.get(h.revision, h.attempt) == h.attempt}
            assert believing == set()


@settings(max_examples=25)
@given(events=WALKS)
def test_from_wherever_it_got_a_healed_world_ends_at_rest(
    start: Callable[..., Any], events: list[tuple[str, int]]
) -> None:
    sim = start(**SPEC)
    for event, count in events:
        disturb(sim, event)
        for _ in range(count):
            sim.now += 10 * SECOND
            sim.look()
    disturb(sim, "heal")
    sim.run(timedelta(minutes=5))
    assert sim.phase in (Phase.SUCCEEDED, Phase.ROLLED_BACK)
    assert sim.state.observed_generation == sim.generation


SOAK: dict[str, Any] = {
    **SPEC,
    "stages": [{"name": "quick", "duration": "0s"}],
    "soak": "2m",
    "rollback": {
        **SPEC["rollback"],
        "delay": "10s",
        "verify": {"for": "1m", "successRate": 0.8},
        "ladder": [
            {"name": "plain", "disable": ["Regimes"]},
            {"name": "before", "revision": "Previous"},
            {"name": "nothing", "stop": True},
        ],
    },
}
LADDER = tuple(rung["name"] for rung in SOAK["rollback"]["ladder"])


@settings(max_examples=60)
@given(events=WALKS)
def test_the_laws_of_the_ladder_hold_on_every_walk(
    start: Callable[..., Any], events: list[tuple[str, int]]
) -> None:
    sim = start(**SOAK)
    sim.run_until(Phase.SOAKING)
    for event, count in events:
        disturb(sim, event)
        for _ in range(count):
            before = sim.state
            sim.now += 10 * SECOND
            decision = sim.look()
            after = decision.state
            verdicts = {j.verdict for j in decision.judgements}
            climbed = [
                t for t in decision.transitions if t.phase is Phase.ROLLING_BACK
            ] and before.phase in SERVED

            if climbed:
                assert sim.seen.metrics.failure is None, "replaced blind"
                assert after.rejected == before.stable
                assert after.stable is None or after.stable.name != before.stable.name
            if before.phase in SERVED and not climbed and after.phase is not Phase.PENDING:
                assert after.stable == before.stable, "replaced without a rung"
            if "Soaked" in [t.reason for t in decision.transitions]:
                assert verdicts <= {Verdict.OK, Verdict.UNPROVEN}
                assert before.phase is Phase.SOAKING
            # In the order of the ladder, and no rung twice.
            assert after.climbed == LADDER[: len(after.climbed)]
            if after.stable is None and before.stable is not None:
                assert after.climbed == LADDER, "nothing serves, though a rung was left"
            if after.phase is Phase.VERIFYING_ROLLBACK:
                assert after.checks is not None
                assert after.checks.good <= after.checks.made
            else:
                assert after.checks is None
            if after.phase not in ARMED:
                assert after.timers == {}
