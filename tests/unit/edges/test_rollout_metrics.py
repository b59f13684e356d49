"""What a rollout shows on /metrics: that which its status says, and nothing of what is over."""

from __future__ import annotations

from edges_kit import INTERVAL, World

from signalcanary.store import Kind

STEP = INTERVAL.total_seconds()
WHOSE = {"object_namespace": "default", "signalcanary": "demo"}
ECE = {"symbol": "BTCUSDT", "metric": "platt_ece", "condition": "platt_ece>0.1"}


def shown(world: World) -> dict[str, list[dict[str, str]]]:
    """The labels of every series of a rollout, by name."""
    found: dict[str, list[dict[str, str]]] = {}
    for family in world.metrics.rollouts.collect():
        for sample in family.samples:
            found.setdefault(sample.name.removeprefix("signalcanary_"), []).append(sample.labels)
    return found


def value(world: World, name: str, **extra: str) -> float | None:
    """Of the condition on ECE."""
    of = {**WHOSE, **ECE, **extra}
    return world.metrics.registry.get_sample_value(f"signalcanary_{name}", of)


def labels(name: str, world: World, *names: str) -> list[tuple[str, ...]]:
    return [tuple(series[n] for n in names) for series in shown(world).get(name, [])]


async def test_a_canary_that_is_judged_shows_its_conditions(world: World) -> None:
    world.create()
    await world.settle()
    await world.rounds(2, STEP)
    status = world.status()
    assert labels("rollout_phase", world, "phase", "version") == [("Progressing", "v1")]
    assert labels("rollout_stage", world, "stage") == [("canary",)]
    held = {kind for (kind,) in labels("rollout_condition", world, "type")}
    assert held == {"Progressing", "Reconciling", "MetricsAvailable"}
    assert labels("rollout_revision_info", world, "track", "revision") == [
        ("canary", status["canary"]["name"])
    ]
    assert ("platt_ece>0.1", "Ok") in labels("condition_verdict", world, "condition", "verdict")
    assert value(world, "condition_threshold") == 0.1
    assert value(world, "condition_value") == 0.04
    assert value(world, "condition_bound", side="upper") == 0.04
    assert value(world, "condition_breach_seconds") == 0.0


async def test_a_breach_is_timed(world: World) -> None:
    world.create()
    await world.settle()
    world.source.values["platt_ece"] = 0.3
    await world.rounds(4, STEP)
    assert ("platt_ece>0.1", "Breached") in labels(
        "condition_verdict", world, "condition", "verdict"
    )
    assert value(world, "condition_breach_seconds") == 30.0


async def test_what_is_over_is_not_shown(world: World) -> None:
    world.create()
    await world.promote()
    assert labels("rollout_phase", world, "phase", "version") == [("Succeeded", "v1")]
    assert labels("rollout_revision_info", world, "track", "version") == [("stable", "v1")]
    assert shown(world).keys() == {"rollout_phase", "rollout_condition", "rollout_revision_info"}
    world.cluster.drop(Kind.SIGNAL_CANARY, "demo")
    await world.rounds(1)
    assert shown(world) == {}
