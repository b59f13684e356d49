"""What GitOps tools make of a SignalCanary, on statuses that the operator's own code has written.

Argo CD's health and actions are run as Lua 5.1, as its gopher-lua is, without the libraries that it
does not open. kstatus, which Flux goes by, is its documented algorithm.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import lupa.lua51
import pytest
import yaml
from edges_kit import INTERVAL, World, labelled

from signalcanary.console.health import Health, stand
from signalcanary.resources import LABEL_COMPONENT, LABEL_REVISION, LABEL_TRACK
from signalcanary.store import Kind

ARGO = Path(__file__).parents[3] / "charts/argocd"
STEP = INTERVAL.total_seconds()
PHASES = {
    # What Argo CD and kstatus make of each phase.
    "Pending": ("Progressing", "InProgress"),
    "Warming": ("Progressing", "InProgress"),
    "Progressing": ("Progressing", "InProgress"),
    "Promoting": ("Progressing", "InProgress"),
    "Succeeded": ("Healthy", "Current"),
    "RollingBack": ("Degraded", "InProgress"),
    "RolledBack": ("Degraded", "Failed"),
}

Item = Mapping[str, Any]


class Watcher:
    """Keeps the object as it was first seen in each phase."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: dict[str, dict[str, Any]] = {}

    async def rounds(self, until: str, most: int = 400) -> None:
        for _ in range(most):
            phase = self.world.phase()
            if phase is not None:
                self.seen.setdefault(phase, deepcopy(self.world.item()))
            if phase == until:
                return
            await self.world.rounds(step=STEP)
        raise AssertionError(f"no {until}: {self.world.status()}")


async def collect() -> dict[str, dict[str, Any]]:
    world = World()
    watch = Watcher(world)
    quick = {"stages": [{"name": "canary", "duration": "1m"}]}
    world.create(**quick)
    await watch.rounds("Pending")
    world.source.values.clear()
    world.cluster.start_pods()
    await watch.rounds("Warming")
    world.source.values.update({"platt_ece": 0.04, "merge_time_diff_ms_p99": 400.0})
    world.source.values["slice_auc_active_period"] = 0.61
    await watch.rounds("Promoting")
    world.cluster.start_pods()
    await watch.rounds("Succeeded")
    world.create(**quick, version="v2", signal={"fusion": {"active": {"ofi": 0.9, "cvd": 0.1}}})
    await world.rounds(3, STEP)
    world.cluster.start_pods()
    canary = {LABEL_TRACK: "canary", LABEL_COMPONENT: "harvest"}
    canary[LABEL_REVISION] = world.status()["canary"]["name"]
    world.cluster.put(Kind.POD, "demo-0", metadata=labelled("demo", **canary))
    await world.rounds(3, STEP)
    world.source.values["platt_ece"] = 0.3
    await watch.rounds("RollingBack")
    world.cluster.drop(Kind.POD, "demo-0")
    await watch.rounds("RolledBack")
    assert watch.seen.keys() == PHASES.keys()
    return watch.seen


@pytest.fixture(scope="module")
def items() -> dict[str, dict[str, Any]]:
    """The object in every phase: promoted, changed, and that taken back."""
    return asyncio.run(collect())


# --------------------------------------------------------------------------- Argo CD


def run_lua(text: str, item: Item) -> Any:
    """Run a script as Argo CD does: the object is `obj`, and string, io and os are not there."""
    lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False)
    # What is left of os, for `require`, tells the time.
    lua.execute("package.loaded.os = {date = os.date, time = os.time}")
    for library in ("string", "io", "os", "math", "debug", "python"):
        del lua.globals()[library]
    lua.globals()["obj"] = to_lua(lua, item)
    return from_lua(lua.execute(text))


def to_lua(lua: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return lua.table_from({key: to_lua(lua, v) for key, v in value.items()})
    if isinstance(value, list | tuple):
        return lua.table_from([to_lua(lua, v) for v in value])
    return value


def from_lua(value: Any) -> Any:
    if lupa.lua51.lua_type(value) != "table":
        return value
    items = {key: from_lua(v) for key, v in value.items()}
    is_list = bool(items) and all(isinstance(key, int) for key in items)
    return [items[key] for key in sorted(items)] if is_list else items


def health(item: Item) -> tuple[str, str]:
    found = run_lua((ARGO / "health.lua").read_text(), item)
    assert found.keys() == {"status", "message"}
    return found["status"], found["message"]


def test_argo_sees_the_health_of_every_phase(items: Mapping[str, Item]) -> None:
    for phase, item in items.items():
        status, message = health(item)
        assert status == PHASES[phase][0], phase
        assert message.startswith(item["status"]["message"]), phase
    assert "platt_ece > 0.1" in health(items["RolledBack"])[1]
    assert "; next: " in health(items["Progressing"])[1]


async def test_argo_says_degraded_of_what_the_command_line_calls_so() -> None:
    world = World()
    world.create(stages=[{"name": "canary", "duration": "10m"}])
    await world.rounds(3, STEP)
    world.cluster.start_pods()
    await world.rounds(6, STEP)
    good = world.item()
    world.source.values["platt_ece"] = 0.3
    await world.rounds(2, STEP)
    breached = world.item()
    for item, stood in ((good, Health.PROGRESSING), (breached, Health.DEGRADED)):
        now = datetime.fromisoformat(item["status"]["lastEvaluationTime"])
        assert stand(item, now).health is stood
        status, message = health(item)
        # It may pass, and a sync must not fail for it.
        assert (status, item["status"]["phase"]) == ("Progressing", "Progressing")
        assert message.startswith("Degraded") == (stood is Health.DEGRADED)
    told = f"Degraded (ConditionBreached), not taken back: {breached['status']['message']}; next: "
    assert message.startswith(told)


def test_argo_waits_while_nobody_has_looked(items: Mapping[str, Item]) -> None:
    done = items["Succeeded"]
    changed = {**done, "metadata": {**done["metadata"], "generation": 99}}
    assert health(changed)[0] == "Progressing"
    for status in ({}, {"observedGeneration": -1}):
        assert health({**done, "status": status})[0] == "Progressing"
    assert health({key: value for key, value in done.items() if key != "status"})[0] == (
        "Progressing"
    )
    bare = {**items["Progressing"]["status"]}
    for field in ("conditions", "next", "message"):
        bare.pop(field)
    assert health({**items["Progressing"], "status": bare}) == ("Progressing", "Progressing")


def test_argo_shows_that_a_person_is_waited_for(items: Mapping[str, Item]) -> None:
    going = items["Progressing"]
    for kind in ("Paused", "ApprovalNeeded"):
        condition = {"type": kind, "status": "True"}
        conditions = [*going["status"]["conditions"], condition]
        suspended = {**going, "status": {**going["status"], "conditions": conditions}}
        assert health(suspended)[0] == "Suspended"
        condition["status"] = "False"
        assert health(suspended)[0] == "Progressing"


# --------------------------------------------------------------------------- actions of Argo CD

ACTIONS = ("pause", "resume", "approve", "skip", "promote", "abort", "retry")


def enabled(item: Item) -> set[str]:
    found = run_lua((ARGO / "actions/discovery.lua").read_text(), item)
    assert sorted(found) == sorted(ACTIONS)
    return {name for name, action in found.items() if not action["disabled"]}


def act(world: World, name: str) -> None:
    """What Argo CD does: the script changes the object, and the change is written."""
    assert name in enabled(world.item()), name
    changed = run_lua((ARGO / f"actions/{name}.lua").read_text(), world.item())
    annotations = changed["metadata"].get("annotations") or {}
    world.cluster.put(Kind.SIGNAL_CANARY, "demo", metadata={"annotations": annotations})


def answers(world: World) -> list[tuple[str, str]]:
    """Newest first."""
    return [(a["verb"], a["outcome"]) for a in world.status()["hand"]["answers"]]


def test_argo_offers_what_can_be_done(items: Mapping[str, Item]) -> None:
    assert {phase: enabled(item) for phase, item in items.items()} == {
        "Pending": {"pause", "abort"},
        "Warming": {"pause", "promote", "abort"},
        "Progressing": {"pause", "skip", "promote", "abort"},
        "Promoting": {"pause", "promote", "abort"},
        "Succeeded": set(),
        "RollingBack": set(),
        "RolledBack": {"retry"},
    }
    nobody_has_looked = {"metadata": {"name": "demo"}}
    assert enabled(nobody_has_looked) == set()


async def test_the_operator_does_what_is_asked_for_in_argo(world: World) -> None:
    stages = [
        {"name": "shadow", "duration": "1h", "approval": "Required"},
        {"name": "canary", "duration": "1h", "approval": "Required"},
    ]
    world.create(stages=stages)
    await world.settle()
    await world.rounds(3, STEP)
    assert world.phase() == "Progressing"

    act(world, "pause")
    await world.rounds(2, STEP)
    assert answers(world)[0] == ("pause", "Done")
    assert health(world.item())[0] == "Suspended"
    assert {"skip", "promote"} & enabled(world.item()) == set()
    act(world, "resume")
    await world.rounds(2, STEP)
    assert answers(world)[0] == ("resume", "Done")
    assert health(world.item())[0] == "Progressing"

    act(world, "skip")
    await world.rounds(2, STEP)
    assert answers(world)[0] == ("skip", "Done")
    assert world.status()["stage"]["name"] == "canary"
    await world.rounds(370, STEP)
    assert health(world.item())[0] == "Suspended"  # it waits for the approval
    act(world, "approve")
    await world.rounds(3, STEP)
    assert answers(world)[0] == ("approve", "Done")
    assert world.phase() == "Promoting"
    act(world, "abort")
    await world.rounds(3, STEP)
    assert answers(world)[0] == ("abort", "Done")
    assert health(world.item())[0] == "Degraded"
    act(world, "retry")
    await world.rounds(3, STEP)
    assert answers(world)[0] == ("retry", "Done")
    world.cluster.start_pods()
    await world.rounds(3, STEP)
    act(world, "promote")
    await world.rounds(2, STEP)
    world.cluster.start_pods()
    await world.rounds(3, STEP)
    assert answers(world)[0] == ("promote", "Done")
    assert health(world.item())[0] == "Healthy"


# --------------------------------------------------------------------------- kstatus


def kstatus(item: Item) -> str:
    """Compute of sigs.k8s.io/cli-utils/pkg/kstatus, for a kind that it has no rules for."""
    if item["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = item.get("status") or {}
    observed = status.get("observedGeneration")
    if observed is not None and observed != item["metadata"]["generation"]:
        return "InProgress"
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if "Ready" in conditions:
        return "Current" if conditions["Ready"] == "True" else "InProgress"
    return "Current"


def test_kstatus_sees_every_phase(items: Mapping[str, Item]) -> None:
    assert {phase: kstatus(item) for phase, item in items.items()} == {
        phase: expected for phase, (_, expected) in PHASES.items()
    }
    done = items["Succeeded"]
    assert kstatus({**done, "metadata": {**done["metadata"], "generation": 99}}) == "InProgress"


def test_the_three_conditions_never_contradict_each_other(items: Mapping[str, Item]) -> None:
    for phase, item in items.items():
        told = {c["type"]: c["status"] for c in item["status"]["conditions"]}
        assert [told[k] for k in ("Ready", "Reconciling", "Stalled")].count("True") == 1, phase


# --------------------------------------------------------------------------- what is committed


def test_the_settings_of_argo_hold_the_scripts() -> None:
    """argocd-cm.yaml is a patch of Argo CD's ConfigMap; `make gitops` writes it."""
    kind = "signalcanary.dev_SignalCanary"
    definitions = [
        {"name": name, "action.lua": (ARGO / f"actions/{name}.lua").read_text()} for name in ACTIONS
    ]
    actions = {"discovery.lua": (ARGO / "actions/discovery.lua").read_text()}
    data = {
        f"resource.customizations.health.{kind}": (ARGO / "health.lua").read_text(),
        f"resource.customizations.actions.{kind}": dump(actions | {"definitions": definitions}),
    }
    metadata = {"name": "argocd-cm", "namespace": "argocd"}
    text = dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    text = "# Written by `make gitops` from the scripts beside it.\n" + text
    file = ARGO / "argocd-cm.yaml"
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        file.write_text(text)
    assert file.read_text() == text, "run make gitops"


def dump(document: Item) -> str:
    return str(yaml.dump(document, Dumper=_Literal, sort_keys=False, width=200))


class _Literal(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


_Literal.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)
