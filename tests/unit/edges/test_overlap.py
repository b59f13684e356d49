"""Two SignalCanaries of one namespace that roll out the same symbol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from edges_kit import INTERVAL, World

from signalcanary.overlap import find_overlaps
from signalcanary.store import Key, Kind

STEP = INTERVAL.total_seconds()
QUICK = [{"name": "quick", "duration": "0s"}]


def told(world: World) -> list[str]:
    return [text for about, text in world.cluster.events.items() if about[1] == "SymbolsShared"]


async def test_both_go_on_with_nothing_in_common_and_the_second_is_told(world: World) -> None:
    world.create("first", version="v1", stages=QUICK)
    await world.promote("first")
    assert told(world) == []
    world.create("second", version="v1", stages=QUICK)
    await world.promote("second")
    assert [text.partition(";")[0] for text in told(world)] == [
        "BTCUSDT, ETHUSDT of this SignalCanary: first rolls out as well"
    ]
    folders = {
        json.loads(data)["dataPath"]
        for name in world.cluster.names(Kind.CONFIG_MAP)
        if (data := world.cluster.get(Kind.CONFIG_MAP, name)["data"].get("config.json"))
    }
    assert len(folders) == 2
    for kind in (Kind.STATEFUL_SET, Kind.CONFIG_MAP, Kind.SERVICE, Kind.CLAIM):
        names = world.cluster.names(kind)
        assert {name.partition("-")[0] for name in names} == {"first", "second"}


async def test_a_rollback_of_one_leaves_the_other_alone(world: World) -> None:
    for name in ("first", "second"):
        world.create(name, version="v1", stages=QUICK)
        await world.promote(name)
    before = world.status("first")["stable"], world.status("first")["phase"]
    world.create("second", version="v2")
    world.source.values["platt_ece"] = 0.5
    for _ in range(20):
        await world.rounds(1, STEP)
        world.cluster.start_pods()
    assert world.phase("second") == "RolledBack"
    assert (world.status("first")["stable"], world.status("first")["phase"]) == before


@pytest.mark.parametrize(
    ("namespace", "item", "shared"),
    [
        ("a", {"spec": {"symbols": {"full": ["BTCUSDT", "XRPUSDT"]}}}, {"other": ["BTCUSDT"]}),
        ("a", {"spec": {"symbols": {"full": ["XRPUSDT"]}}}, {}),
        ("b", {"spec": {"symbols": {"full": ["BTCUSDT"]}}}, {}),
        ("a", {"spec": {"symbols": None}}, {}),
        ("a", {}, {}),
    ],
    ids=["one symbol", "no symbol", "another namespace", "of another shape", "without a spec"],
)
def test_only_the_same_symbols_of_one_namespace_are_shared(
    namespace: str, item: dict[str, Any], shared: dict[str, list[str]]
) -> None:
    canaries = {Key("a", "mine"): {"spec": {}}, Key(namespace, "other"): item}
    assert find_overlaps(Key("a", "mine"), ["BTCUSDT", "ETHUSDT"], canaries) == shared
