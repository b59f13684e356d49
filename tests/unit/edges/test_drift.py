"""An object of a rollout that somebody has changed by hand is put back, counted and told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
from edges_kit import INTERVAL, World, state_of

from signalcanary.store import Kind

STEP = INTERVAL.total_seconds()
STABLE = {"version": "v0", "stages": [{"name": "quick", "duration": "0s"}]}


def told(world: World, reason: str) -> list[str]:
    return [text for about, text in world.cluster.events.items() if about[1] == reason]


def change_sets(world: World, track: str, **spec: Any) -> list[str]:
    """What `kubectl edit` does to the StatefulSets of a track; the hash stays as it is."""
    names = [n for n in world.cluster.names(Kind.STATEFUL_SET) if f"-{track}-" in n]
    for name in names:
        before = world.cluster.get(Kind.STATEFUL_SET, name)["spec"]
        world.cluster.put(Kind.STATEFUL_SET, name, spec={**before, **spec})
    return names


async def test_stable_pods_that_somebody_scaled_away_come_back(world: World) -> None:
    world.create(**STABLE)
    await world.promote()
    names = change_sets(world, "stable", replicas=0)
    await world.settle()
    assert [world.cluster.get(Kind.STATEFUL_SET, n)["spec"]["replicas"] for n in names] == [1, 1]
    assert world.counted("drift_corrected_total", kind="StatefulSet") == 2
    assert sorted(told(world, "DriftCorrected")) == [
        f"{name}: spec.replicas was 0, declared is 1; put back" for name in names
    ]
    assert world.phase() == "Succeeded"


@pytest.mark.parametrize(
    ("name", "key"), [("demo-active", "version"), ("demo-signals-gate", "gate.json")]
)
async def test_what_consumers_and_publishers_go_by_is_put_back(
    world: World, name: str, key: str
) -> None:
    world.create(**STABLE)
    await world.promote()
    before = world.cluster.get(Kind.CONFIG_MAP, name)["data"]
    world.cluster.put(Kind.CONFIG_MAP, name, data={**before, key: "of my own"})
    await world.settle()
    assert world.cluster.get(Kind.CONFIG_MAP, name)["data"] == before


async def test_an_immutable_file_made_anew_with_other_content_is_made_anew_once_more(
    world: World,
) -> None:
    world.create(**STABLE)
    await world.promote()
    (name,) = (n for n in world.cluster.names(Kind.CONFIG_MAP) if "-stable-" in n)
    before = deepcopy(world.cluster.get(Kind.CONFIG_MAP, name))
    world.cluster.drop(Kind.CONFIG_MAP, name)
    forged = json.loads(before["data"]["config.json"]) | {"fingerprint": "f" * 16}
    parts = {**before, "data": {"config.json": json.dumps(forged)}}
    world.cluster.put(Kind.CONFIG_MAP, name, **parts)
    await world.settle()
    assert world.cluster.get(Kind.CONFIG_MAP, name)["data"] == before["data"]
    assert world.counted("drift_corrected_total", kind="ConfigMap") == 1


async def test_pods_that_are_not_as_declared_are_not_those_that_are_promoted(world: World) -> None:
    """Ready they are: with another image."""
    world.create(stages=[{"name": "quick", "duration": "0s"}])
    world.source.values["platt_ece"] = 0.09
    await world.rounds(1, STEP)
    for _ in range(20):
        world.cluster.start_pods()
        await world.rounds(1, STEP)
        if world.phase() == "Promoting":
            break
    assert world.phase() == "Promoting"
    (template, *_) = [
        world.cluster.get(Kind.STATEFUL_SET, n)["spec"]["template"]
        for n in world.cluster.names(Kind.STATEFUL_SET)
        if "-stable-" in n
    ]
    other = deepcopy(template)
    other["spec"]["containers"][0]["image"] = "workloads:mine"
    change_sets(world, "stable", template=other)
    world.cluster.start_pods()
    await world.rounds(1, STEP)
    assert world.phase() == "Promoting"
    await world.settle()
    assert world.phase() == "Succeeded"
    images = {
        world.cluster.get(Kind.STATEFUL_SET, n)["spec"]["template"]["spec"]["containers"][0][
            "image"
        ]
        for n in world.cluster.names(Kind.STATEFUL_SET)
    }
    assert images == {"workloads:1"}


async def test_what_an_admission_webhook_insists_on_is_told_and_not_fought(world: World) -> None:
    put = world.cluster.put

    def with_a_mirror(kind: Kind, name: str, *rest: Any, **parts: Any) -> Mapping[str, Any]:
        if kind is Kind.STATEFUL_SET and "spec" in parts:
            spec = parts["spec"] = deepcopy(parts["spec"])
            spec["template"]["spec"]["containers"][0]["image"] = "mirror/workloads:1"
        return put(kind, name, *rest, **parts)

    world.cluster.put = with_a_mirror  # type: ignore[method-assign]
    world.create(**STABLE)
    await world.promote()
    assert world.counted("drift_corrected_total", kind="StatefulSet") == 0
    assert all("mirror/workloads:1" in text for text in told(world, "DriftInsisted"))
    assert told(world, "DriftInsisted")
    world.cluster.calls.clear()
    await world.rounds(10, STEP)
    assert world.cluster.calls == []


async def test_a_pod_that_somebody_gave_another_image_gets_its_own_back(world: World) -> None:
    world.create()
    await world.settle()
    (name, *_) = world.cluster.names(Kind.STATEFUL_SET)
    owner = world.cluster.get(Kind.STATEFUL_SET, name)
    component = owner["metadata"]["labels"]["app.kubernetes.io/component"]
    fields = {"f:containers": {f'k:{{"name":"{component}"}}': {"f:image": {}}}}
    metadata = {
        "labels": owner["metadata"]["labels"],
        "ownerReferences": [{"uid": owner["metadata"]["uid"]}],
        "managedFields": [{"manager": "kubectl-set", "fieldsV1": {"f:spec": fields}}],
    }
    containers = [{"name": component, "image": "workloads:mine"}]
    world.cluster.put(Kind.POD, f"{name}-0", metadata=metadata, spec={"containers": containers})
    await world.settle()
    pod = world.cluster.get(Kind.POD, f"{name}-0")
    assert pod["spec"]["containers"][0]["image"] == "workloads:1"
    assert world.counted("drift_corrected_total", kind="Pod") == 1
    assert state_of(world).phase == "Progressing"
