"""A symbol that is held back, through the whole loop: what runs, who may publish, what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from edges_kit import INTERVAL, World

from signalcanary.evaluate import Measurement, MetricsSeen
from signalcanary.metrics_source import Target
from signalcanary.reconciler import REVISION_HISTORY_LIMIT
from signalcanary.store import Kind

STEP = INTERVAL.total_seconds()
BTC, ETH, ECE = "BTCUSDT", "ETHUSDT", "platt_ece"
SPEC: dict[str, Any] = {
    "symbols": {"canary": [BTC, ETH], "full": [BTC, ETH]},
    "rollback": {
        "scope": "Symbol",
        "conditions": [{"metric": ECE, "above": 0.1, "for": "30s", "mode": "literal"}],
    },
    "stages": [{"name": "canary", "duration": "2m"}],
}


def on_two_symbols(world: World, **eth: float) -> None:
    """Let the source answer for both; ETHUSDT with values of its own."""

    def answer(target: Target, at: datetime | None, seen: MetricsSeen) -> MetricsSeen:
        (now,) = seen.heartbeats.values()
        of_btc = dict(seen.measurements)
        of_eth = {
            (metric, ETH): replace(one, values=(eth.get(metric, one.values[0]),), bounds=())
            for (metric, _), one in of_btc.items()
        }
        measurements: dict[tuple[str, str], Measurement] = of_btc | of_eth
        return replace(
            seen,
            measurements=measurements,
            heartbeats={BTC: now, ETH: now},
            warmup_ratio={BTC: 1.0, ETH: 1.0},
        )

    world.source.answer = answer


def files_of(world: World) -> dict[str, list[str]]:
    """By version, the symbols that stable pods are started with."""
    files = {}
    for name in world.cluster.names(Kind.CONFIG_MAP):
        text = world.cluster.get(Kind.CONFIG_MAP, name)["data"].get("config.json")
        file = json.loads(text) if text else {}
        if file.get("track") == "stable":
            files[file["version"]] = [s for shard in file["shards"] for s in shard]
    return files


def data_of(world: World, name: str) -> dict[str, str]:
    data: dict[str, str] = world.cluster.get(Kind.CONFIG_MAP, name)["data"]
    return data


async def roll_out(world: World, version: str, **changes: Any) -> None:
    spec = SPEC | {"version": version} | changes
    world.cluster.put(Kind.SIGNAL_CANARY, "demo", spec=world.item()["spec"] | spec)
    await world.rounds(2, STEP)
    await world.promote()


async def test_it_stays_on_the_revision_that_served_it_and_that_is_kept(world: World) -> None:
    on_two_symbols(world)
    world.create(**SPEC)
    await world.settle()
    await world.promote()
    on_two_symbols(world, platt_ece=0.3)
    await roll_out(world, "v2")
    (kept,) = world.status()["kept"]
    assert (kept["symbol"], kept["revision"]["version"]) == (ETH, "v1")
    assert files_of(world) == {"v1": [ETH], "v2": [BTC]}
    assert "SymbolsHeld" in world.cluster.events.values()
    await world.rounds(3, STEP)
    gate = json.loads(data_of(world, "demo-signals-gate")["gate.json"])
    assert gate["stable"]["without"] == [ETH]
    assert [holder["only"] for holder in gate["kept"]] == [[ETH]]
    assert data_of(world, "demo-active")["symbols"] == BTC
    (active,) = json.loads(data_of(world, "demo-active")["kept.json"])
    assert (active["version"], active["symbols"]) == ("v1", [ETH])

    # However many come after it, what still serves is on record, over restarts too.
    for n in range(3, REVISION_HISTORY_LIMIT + 5):
        await roll_out(world, f"v{n}")
        assert files_of(world) == {"v1": [ETH], f"v{n}": [BTC]}
    world.restart()
    assert await world.poller.resync()
    await world.settle()
    assert files_of(world)["v1"] == [ETH]

    on_two_symbols(world)
    await roll_out(world, "v99")
    assert files_of(world) == {"v99": [BTC, ETH]}
    assert "kept" not in world.status()
    assert "kept.json" not in data_of(world, "demo-active")
