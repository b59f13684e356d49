"""State first, then actions: whatever breaks in between, the next look heals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from edges_kit import INTERVAL, World, labelled, state_of

from signalcanary.cluster import ClusterError, Conflict, Refused
from signalcanary.reconciler import REVISION_HISTORY_LIMIT
from signalcanary.resources import LABEL_COMPONENT, LABEL_REVISION, REVISION_RECORD
from signalcanary.rollout import RolloutState
from signalcanary.store import Kind

STEP = INTERVAL.total_seconds()


def fail(text: str, error: Exception) -> Callable[[str], None]:
    """Fails the calls that begin with a text."""

    def before(call: str) -> None:
        if call.startswith(text):
            raise error

    return before


def calls_of(world: World, verb: str) -> list[str]:
    return [call for call in world.cluster.calls if call.startswith(verb)]


async def test_the_record_comes_first_then_the_state_then_the_actions(world: World) -> None:
    world.create()
    await world.rounds()
    calls = world.cluster.calls
    assert calls[0].startswith("apply ControllerRevision/demo-")
    assert calls[1] == "status SignalCanary/demo"
    assert {call.split("/")[0] for call in calls[2:-1]} == {
        "apply PersistentVolumeClaim",
        "apply ConfigMap",
        "apply Service",
        "apply StatefulSet",
    }
    assert calls[-1] == "event RolloutStarted"


@pytest.mark.parametrize("dies_at", ["apply ControllerRevision", "status", "apply C", "apply S"])
@pytest.mark.parametrize("is_restarted", [True, False], ids=["restarted", "same process"])
async def test_whatever_dies_anywhere_the_next_look_does_the_rest(
    world: World, dies_at: str, is_restarted: bool
) -> None:
    world.create()
    await world.settle()
    healthy = {kind: world.cluster.names(kind) for kind in Kind}
    other = World()
    other.create()
    other.cluster.before = fail(dies_at, RuntimeError("died"))
    await other.rounds()
    other.cluster.before = lambda call: None
    if is_restarted:
        other.restart()
        assert await other.poller.resync()
    other.seconds += STEP
    await other.settle()
    assert {kind: other.cluster.names(kind) for kind in Kind} == healthy
    assert state_of(other).phase == state_of(world).phase


async def test_a_state_refers_to_no_revision_that_is_not_on_record(world: World) -> None:
    world.create()
    world.cluster.before = fail("apply ControllerRevision", ClusterError("away"))
    await world.rounds(3, STEP)
    assert world.status() == {}
    assert calls_of(world, "status") == []


async def test_a_conflict_drops_everything(world: World) -> None:
    world.create()
    await world.rounds()
    world.cluster.calls.clear()
    world.create(version="v2")
    world.cluster.before = fail("status", Conflict("changed"))
    await world.rounds(1, STEP)
    assert {call.split("/")[0] for call in world.cluster.calls} == {
        "apply ControllerRevision",
        "status SignalCanary",
    }
    assert world.counted("status_conflicts_total") == 1


async def test_a_stale_picture_does_not_make_a_storm_of_conflicts(world: World) -> None:
    world.create()
    await world.settle()
    world.cluster.is_watched = False  # the watch is silent: what others write is not seen
    world.cluster.put(Kind.SIGNAL_CANARY, "demo", metadata={"annotations": {"x": "y"}})
    world.source.values["platt_ece"] = 0.5
    await world.rounds(50)
    assert len(calls_of(world, "status")) <= 3
    assert await world.poller.resync()
    world.cluster.is_watched = True
    await world.rounds(2)
    assert world.status()["health"] == "Breached"


async def test_at_rest_nothing_is_written(world: World) -> None:
    world.create()
    await world.promote()
    world.cluster.calls.clear()
    await world.rounds(100, 31.0)
    assert world.cluster.calls == []


async def test_one_that_waits_says_what_for_now_and_then_writes_nothing(world: World) -> None:
    world.create("first", stages=[{"name": "canary", "duration": "48h"}])
    world.create(after=["first"])
    await world.rounds(4, STEP)
    told = "waits to start: it comes after first, which is {}, not Succeeded"
    assert world.status()["message"].endswith(told.format("Pending"))
    world.cluster.start_pods()
    await world.rounds(4, 31.0)
    phase = world.phase("first")
    assert phase != "Pending"
    assert world.status()["message"].endswith(told.format(phase))
    world.cluster.calls.clear()
    await world.rounds(30, 31.0)
    assert not [call for call in world.cluster.calls if call.endswith("/demo")]


async def test_live_values_are_written_at_the_pace_of_status(world: World) -> None:
    world.create()
    await world.settle()
    world.cluster.calls.clear()
    await world.rounds(30, STEP)
    written = calls_of(world, "status")
    assert 9 <= len(written) <= 11, written  # 300 s at one in 30 s
    assert calls_of(world, "apply") == []


async def test_a_clock_that_is_set_back_does_not_stop_the_status(world: World) -> None:
    world.create()
    await world.settle()
    before = world.status()["lastEvaluationTime"]
    world.source.now = lambda: world.now()
    world.seconds -= 3600
    world.restart()
    assert await world.poller.resync()
    await world.rounds()
    assert world.status()["lastEvaluationTime"] < before


async def test_events_come_once_a_transition_across_restarts(world: World) -> None:
    world.create()
    await world.promote()
    events = dict(world.cluster.events)
    assert list(events.values()) == [
        "RolloutStarted",
        "CanaryRunning",
        "StageStarted",
        "StagesPassed",
        "Promoted",
    ]
    world.restart()
    assert await world.poller.resync()
    await world.settle()
    assert world.cluster.events == events
    world.cluster.calls.clear()
    await world.rounds(5, STEP)
    assert calls_of(world, "event") == []


async def test_stages_that_pass_at_one_look_have_an_event_each(world: World) -> None:
    stages = [{"name": name, "duration": "0s"} for name in ("one", "two")]
    world.create(stages=stages)
    await world.settle()
    assert list(world.cluster.events.values()).count("StageStarted") == 2


async def test_an_event_that_is_not_posted_is_tried_again_and_one_refused_is_not(
    world: World,
) -> None:
    world.create()
    world.cluster.before = fail("event", ClusterError("away"))
    await world.rounds()
    assert world.cluster.events == {}
    world.cluster.before = lambda call: None
    await world.rounds(1, STEP)
    assert list(world.cluster.events.values()) == ["RolloutStarted"]
    world.create(version="v2")
    world.cluster.before = fail("event", Refused("too long"))
    await world.rounds(4, STEP)
    assert calls_of(world, "event").count("event RolloutStarted") == 3


async def test_revisions_are_pruned_but_not_those_in_use(world: World) -> None:
    world.create(version="v0", stages=[{"name": "quick", "duration": "0s"}])
    await world.promote()
    stable = state_of(world).stable.name
    for n in range(1, REVISION_HISTORY_LIMIT + 6):
        world.create(version=f"v{n}")
        await world.rounds(3)
    records = world.cluster.names(Kind.CONTROLLER_REVISION)
    assert f"demo-{stable}" in records
    assert f"demo-{state_of(world).canary.name}" in records
    assert len(records) == REVISION_HISTORY_LIMIT + 2


async def test_only_what_is_ours_and_not_wanted_is_deleted_and_never_a_claim(
    world: World,
) -> None:
    world.create()
    await world.settle()
    for kind in (Kind.STATEFUL_SET, Kind.CONFIG_MAP, Kind.POD):
        world.cluster.put(kind, "copy", metadata=labelled("demo"), spec={"replicas": 1})
    uid = world.item()["metadata"]["uid"]
    for kind in (Kind.CONFIG_MAP, Kind.CLAIM):
        metadata = labelled("demo") | {"ownerReferences": [{"uid": uid}]}
        world.cluster.put(kind, "left-over", metadata=metadata)
    await world.settle()
    assert calls_of(world, "delete") == ["delete ConfigMap/left-over"]


async def test_a_rollback_takes_the_canary_away_though_other_things_are_refused(
    world: World,
) -> None:
    world.create(version="v0", stages=[{"name": "quick", "duration": "0s"}])
    await world.promote()
    world.create(version="v1")
    await world.settle()
    canary = state_of(world).canary.name
    world.cluster.before = fail("apply", Refused("over quota"))
    for item in [*world.cluster.objects.values()]:  # as after an upgrade of the operator
        item["metadata"].pop("annotations", None)
    await world.poller.resync()
    world.restart()
    assert await world.poller.resync()
    world.source.values["platt_ece"] = 0.5
    for _ in range(20):
        await world.rounds(1, STEP)
    assert world.phase() == "RolledBack"
    assert not any(canary in name for name in world.cluster.names(Kind.STATEFUL_SET))
    assert any(state_of(world).stable.name in n for n in world.cluster.names(Kind.STATEFUL_SET))


async def test_a_refused_action_does_not_stop_the_clock_of_a_breach(world: World) -> None:
    world.create()
    await world.settle()
    world.cluster.drop(Kind.CLAIM, "demo-data")
    world.cluster.before = fail("apply", Refused("over quota"))
    world.source.values["platt_ece"] = 0.5  # for 2m
    await world.rounds(14, STEP)
    assert world.phase() in ("RollingBack", "RolledBack")


async def test_what_is_refused_is_told_once_and_stands_in_the_status(world: World) -> None:
    world.create()
    world.cluster.before = fail("apply StatefulSet", Refused("exceeded quota: pods"))
    await world.rounds(8, STEP)
    told = [text for about, text in world.cluster.events.items() if about[1] == "Refused"]
    assert len(told) == 2  # harvest and analysis
    assert all("exceeded quota: pods" in text for text in told)
    assert calls_of(world, "event").count("event Refused") == 2
    assert "exceeded quota: pods" in world.status()["message"]
    assert world.phase() == "Pending"
    world.cluster.before = lambda call: None
    await world.settle()
    await world.rounds(8, STEP)
    assert "quota" not in world.status()["message"]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({"data": {"spec": {"replicas": 1}}, "revision": 1}, id="of a foreign shape"),
        pytest.param({"data": None}, id="empty"),
        pytest.param({}, id="bare"),
    ],
)
async def test_a_strange_record_stops_nothing(world: World, record: dict[str, Any]) -> None:
    world.create()
    await world.rounds()
    uid = world.item()["metadata"]["uid"]
    for n, labels in enumerate([{}, {LABEL_REVISION: "x"}]):
        metadata = labelled("demo", **{LABEL_COMPONENT: REVISION_RECORD}, **labels)
        owned = metadata | {"ownerReferences": [{"uid": uid}]}
        world.cluster.put(Kind.CONTROLLER_REVISION, f"strange-{n}", metadata=owned, **record)
    await world.settle()
    assert world.phase() == "Progressing"


async def test_a_record_of_the_object_before_of_this_name_is_not_ours(world: World) -> None:
    world.create(version="v0", stages=[{"name": "quick", "duration": "0s"}])
    await world.settle()
    (record,) = world.cluster.names(Kind.CONTROLLER_REVISION)
    world.cluster.drop(Kind.SIGNAL_CANARY, "demo")
    await world.rounds()
    world.create(version="v0", stages=[{"name": "quick", "duration": "0s"}])
    world.cluster.calls.clear()
    await world.rounds()
    assert world.cluster.calls[0] == f"apply ControllerRevision/{record}"


async def test_a_record_that_was_deleted_leaves_the_pods_alone_and_is_asked_for(
    world: World,
) -> None:
    world.create(version="v0", stages=[{"name": "quick", "duration": "0s"}])
    await world.promote()
    stable = state_of(world).stable.name
    running = world.cluster.names(Kind.STATEFUL_SET)
    world.create(version="v1")
    await world.settle()
    world.cluster.drop(Kind.CONTROLLER_REVISION, f"demo-{stable}")
    world.cluster.calls.clear()
    await world.rounds(5, STEP)
    assert set(running) <= set(world.cluster.names(Kind.STATEFUL_SET))
    assert world.cluster.calls == ["event InvalidObject"]
    (told,) = [t for about, t in world.cluster.events.items() if about[1] == "InvalidObject"]
    assert f"ControllerRevision demo-{stable}" in told


async def test_what_is_remembered_of_an_object_goes_with_it(world: World) -> None:
    for n in range(5):
        world.create(f"demo{n}")
    world.cluster.before = fail("apply StatefulSet", Refused("over quota"))
    await world.rounds()
    for n in range(5):
        world.cluster.drop(Kind.SIGNAL_CANARY, f"demo{n}")
    await world.rounds()
    reconciler = world.reconciler
    assert (reconciler._posted, reconciler._warned, reconciler._refusals) == ({}, {}, {})
    assert world.poller._memory == {}


class Listener:
    """Notes what it is told, and what had been done by then."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.noted: list[tuple[str, str, str]] = []
        self.forgotten: list[str] = []

    def note(self, metadata: Mapping[str, Any], state: RolloutState) -> None:
        self.noted.append((metadata["uid"], state.phase.value, self.world.cluster.calls[-1]))

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)


async def test_who_tells_people_hears_of_a_rollback_after_it_was_carried_out(world: World) -> None:
    listener = Listener(world)
    world.reconciler._listener = listener
    world.create()
    await world.settle()
    uid = world.item()["metadata"]["uid"]
    world.source.values["platt_ece"] = 0.5
    await world.rounds(14, STEP)
    told = [call for _, phase, call in listener.noted if phase in ("RollingBack", "RolledBack")]
    assert told[0].startswith("delete ")
    assert [call for call in world.cluster.calls if "event ConditionBreached" in call]
    world.cluster.drop(Kind.SIGNAL_CANARY, "demo")
    await world.rounds(2)
    assert listener.forgotten == [uid]


async def test_what_could_not_be_carried_out_is_told_all_the_same(world: World) -> None:
    listener = Listener(world)
    world.reconciler._listener = listener
    world.create()
    world.cluster.before = fail("apply StatefulSet", ClusterError("away"))
    await world.rounds(1)
    assert [phase for _, phase, _ in listener.noted] == ["Pending"]


async def test_a_tier_is_told_once_whatever_restarts(world: World) -> None:
    tiers = {"metric": "platt_ece", "warning": 0.06, "above": 0.1, "mode": "literal"}
    world.create(rollback={"conditions": [tiers]})
    await world.settle()
    await world.rounds(2, STEP)
    world.source.values["platt_ece"] = 0.08
    await world.rounds(3, STEP)
    labels = {
        "object_namespace": "default",
        "signalcanary": "demo",
        "symbol": "BTCUSDT",
        "metric": "platt_ece",
        "condition": "platt_ece>0.1",
    }
    name = "signalcanary_condition_tier"
    assert world.metrics.registry.get_sample_value(name, labels) == 1
    world.restart()
    assert await world.poller.resync()
    await world.rounds(3, STEP)
    told = [said for said in world.cluster.events.values() if said.startswith("Tier")]
    assert told == ["TierWarning"]
    (standing,) = world.status()["tiers"]
    assert (standing["condition"], standing["tier"]) == ("platt_ece>0.1", "Warning")


async def test_a_tier_whose_event_was_not_posted_is_told_later(world: World) -> None:
    tiers = {"metric": "platt_ece", "warning": 0.06, "above": 0.1, "mode": "literal"}
    world.create(rollback={"conditions": [tiers]})
    await world.settle()
    await world.rounds(2, STEP)
    world.source.values["platt_ece"] = 0.08
    world.cluster.before = fail("event", ClusterError("away"))
    await world.rounds(2, STEP)
    assert "TierWarning" not in world.cluster.events.values()
    world.cluster.before = lambda call: None
    await world.rounds(1, STEP)
    assert "TierWarning" in world.cluster.events.values()
