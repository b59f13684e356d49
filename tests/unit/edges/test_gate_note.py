"""A pod that publishes is told of a changed gate, once, and nothing hangs on it."""

from __future__ import annotations

from typing import Any

from edges_kit import INTERVAL, World, labelled

from signalcanary.cluster import ClusterError, Refused
from signalcanary.gate_note import GATE_NOTE
from signalcanary.resources import APPLIED_HASH, LABEL_COMPONENT
from signalcanary.store import Kind

STEP = INTERVAL.total_seconds()


def applied_gate(world: World) -> Any:
    gate = world.cluster.get(Kind.CONFIG_MAP, "demo-signals-gate")
    return gate["metadata"]["annotations"][APPLIED_HASH]


def start_pod(world: World, track: str, component: str = "analysis", phase: str = "Running") -> str:
    """The pod of a track's StatefulSet; gives its name."""
    (sts,) = [
        n for n in world.cluster.names(Kind.STATEFUL_SET) if n.endswith(f"{track}-{component}")
    ]
    owner = world.cluster.get(Kind.STATEFUL_SET, sts)["metadata"]
    metadata = labelled("demo", **{LABEL_COMPONENT: component})
    metadata["ownerReferences"] = [{"kind": "StatefulSet", "uid": owner["uid"]}]
    world.cluster.put(Kind.POD, f"{sts}-0", metadata=metadata, status={"phase": phase})
    return f"{sts}-0"


def note_of(world: World, pod: str) -> Any:
    return world.cluster.get(Kind.POD, pod)["metadata"].get("annotations", {}).get(GATE_NOTE)


def told(world: World) -> list[str]:
    return [call for call in world.cluster.calls if call.startswith("annotate")]


async def test_running_analysis_pods_are_told_of_each_gate_once(world: World) -> None:
    world.create()
    await world.settle()
    pod = start_pod(world, "canary")
    await world.settle()
    first = applied_gate(world)
    assert note_of(world, pod) == first
    await world.rounds(5, STEP)
    assert told(world) == [f"annotate Pod/{pod}"]
    world.cluster.drop(Kind.POD, pod)
    await world.promote()
    pod = start_pod(world, "stable")
    await world.settle()
    assert applied_gate(world) != first, "it names the stable revision now"
    assert note_of(world, pod) == applied_gate(world)
    world.cluster.calls.clear()
    await world.rounds(100, 31.0)
    assert world.cluster.calls == [], "at rest nothing is written"


async def test_they_are_told_after_the_gate_has_changed(world: World) -> None:
    publishing = {"name": "canary", "duration": "10m", "publish": True}
    world.create(stages=[{"name": "shadow", "duration": "1m"}, publishing])
    await world.settle()
    pod = start_pod(world, "canary")
    await world.settle()
    world.cluster.calls.clear()
    await world.rounds(20, STEP)
    calls = world.cluster.calls
    assert calls.index("apply ConfigMap/demo-signals-gate") < calls.index(f"annotate Pod/{pod}")


async def test_no_other_pod_is_touched(world: World) -> None:
    world.create()
    await world.settle()
    start_pod(world, "canary", "harvest")
    start_pod(world, "canary", phase="Pending")
    stranger = labelled("demo", **{LABEL_COMPONENT: "analysis"})
    world.cluster.put(Kind.POD, "stranger", metadata=stranger, status={"phase": "Running"})
    await world.settle()
    assert told(world) == []


async def test_what_may_not_be_told_is_said_once_and_everything_goes_on(world: World) -> None:
    world.create()
    await world.settle()
    start_pod(world, "canary")

    def refuse(call: str) -> None:
        if call.startswith("annotate"):
            raise Refused("pods is forbidden")

    world.cluster.before = refuse
    await world.rounds(5, STEP)
    assert len(told(world)) == 1
    assert world.counted("reconcile_errors_total", error="Refused") == 1
    assert world.phase() not in (None, "Pending")


async def test_what_could_not_be_told_is_told_at_the_next_look(world: World) -> None:
    world.create()
    await world.settle()
    pod = start_pod(world, "canary")

    def fail(call: str) -> None:
        if call.startswith("annotate"):
            raise ClusterError("away")

    world.cluster.before = fail
    await world.rounds(2, STEP)
    assert note_of(world, pod) is None
    world.cluster.before = lambda call: None
    await world.rounds(3, STEP)
    assert note_of(world, pod) == applied_gate(world)
