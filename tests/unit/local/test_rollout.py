"""The loop of a local rollout on fake processes, fake metrics and a clock moved by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from local_kit import World, build_spec

from signalcanary.api import SignalCanarySpec
from signalcanary.local.world import LocalRollout, Look
from signalcanary.rollout import (
    Phase,
)
from signalcanary.stream import Gate, Holder


async def look_until(world: World, rollout: LocalRollout, phase: Phase, most: int = 20) -> Look:
    for _ in range(most):
        look = await rollout.look()
        if look.state.phase is phase:
            return look
        await world.pass_seconds(1)
    raise AssertionError(f"{phase} was never reached: {look.state}")


async def promote(world: World, rollout: LocalRollout, version: str = "v1") -> Look:
    world.auc[version] = 0.7
    rollout.apply(build_spec(version))
    await look_until(world, rollout, Phase.SUCCEEDED)
    await world.pass_seconds(1)
    return await rollout.look()


async def test_a_new_object_runs_the_canary_on_its_symbols_alone(world: World) -> None:
    rollout = world.rollout()
    rollout.apply(build_spec())
    look = await rollout.look()
    assert look.state.phase is Phase.PENDING
    assert world.names() == ["canary analysis v1", "canary harvest v1"]
    assert {p.config.shards for p in world.running} == {(("BTCUSDT",),)}


async def test_processes_keep_their_data_as_the_spec_says(world: World) -> None:
    document = build_spec().to_wire()
    document["storage"] = {
        "commitInterval": "1s", "compactionInterval": "10m", "retention": "6h"
    }  # fmt: skip
    rollout = world.rollout()
    rollout.apply(SignalCanarySpec.model_validate(document))
    await rollout.look()
    for process in world.running:
        config = process.config
        kept = (config.commit_interval, config.compaction_interval, config.retention)
        assert kept == (timedelta(seconds=1), timedelta(minutes=10), timedelta(hours=6))


async def test_processes_are_called_as_the_pods_are(world: World) -> None:
    rollout = world.rollout()
    rollout.apply(build_spec())
    await rollout.look()
    argv = world.running[0].argv
    assert argv[1:4] == ("-m", "signalcanary_workloads", "harvest")
    assert argv[5:] == ("--shard=0", "--listen=127.0.0.1:0")


async def test_it_warms_up_only_when_every_process_is_ready(world: World) -> None:
    rollout = world.rollout()
    rollout.apply(build_spec())
    await rollout.look()
    (analysis,) = [p for p in world.running if "analysis" in p.name]
    world.unready.add(analysis.name)
    look = await rollout.look()
    assert look.state.phase is Phase.PENDING
    workloads = (await rollout.look()).document["status"]["workloads"]
    assert [w["message"] for w in workloads if w["component"] == "analysis"] == ["no stream yet"]
    world.unready.clear()
    assert (await rollout.look()).state.phase is Phase.WARMING


async def test_a_good_version_is_promoted_to_the_full_set_and_the_canary_ends(
    world: World,
) -> None:
    rollout = world.rollout()
    look = await promote(world, rollout)
    assert look.is_settled
    assert world.names() == ["stable analysis v1", "stable harvest v1"]
    assert {p.config.shards for p in world.running} == {(("BTCUSDT", "ETHUSDT"),)}
    assert [event.reason for event in look.events] == [
        "RolloutStarted",
        "CanaryRunning",
        "StageStarted",
        "StagesPassed",
        "Promoted",
    ]


async def test_while_promoting_the_old_stable_version_runs_until_the_new_one_is_ready(
    world: World,
) -> None:
    rollout = world.rollout()
    await promote(world, rollout)
    world.auc["v2"] = 0.72
    rollout.apply(build_spec("v2", ofi=0.8))
    await look_until(world, rollout, Phase.PROMOTING)
    new = [p for p in world.running if p.config.track == "stable" and p.config.version == "v2"]
    world.unready |= {p.name for p in new}
    await rollout.look()
    assert "stable harvest v1" in world.names()
    assert "stable harvest v2" in world.names()
    world.unready.clear()
    look = await look_until(world, rollout, Phase.SUCCEEDED)
    await world.pass_seconds(1)
    assert look.state.stable is not None
    assert look.state.stable.version == "v2"
    assert world.names() == ["stable analysis v2", "stable harvest v2"]


async def test_a_bad_version_is_rolled_back_and_the_stable_processes_are_not_touched(
    world: World,
) -> None:
    rollout = world.rollout()
    await promote(world, rollout)
    stable = {p.pid for p in world.running}
    world.auc["v2"] = 0.5
    rollout.apply(build_spec("v2", ofi=0.1))
    look = await look_until(world, rollout, Phase.ROLLED_BACK)
    assert "slice_auc_active_period < 0.55 for 2s" in look.document["status"]["message"]
    assert {p.pid for p in world.running} == stable
    assert look.document["status"]["rejected"]["version"] == "v2"


async def test_a_process_that_has_ended_is_waited_for_before_the_rollback_is_over(
    world: World,
) -> None:
    rollout = world.rollout()
    world.auc["v1"] = 0.5
    rollout.apply(build_spec())
    look = await look_until(world, rollout, Phase.ROLLING_BACK)
    assert not look.is_settled
    look = await look_until(world, rollout, Phase.ROLLED_BACK)
    assert world.running == []


async def test_the_same_spec_keeps_its_generation(world: World) -> None:
    rollout = world.rollout()
    assert rollout.apply(build_spec()) == 1
    assert rollout.apply(build_spec()) == 1
    assert rollout.apply(build_spec("v2")) == 2


async def test_a_run_goes_on_from_the_folder_of_an_earlier_one(world: World) -> None:
    first = world.rollout()
    before = await promote(world, first)
    await first.close()
    second = world.rollout()
    assert second.apply(build_spec()) == 1
    look = await second.look()
    assert look.state == before.state
    assert world.names() == ["stable analysis v1", "stable harvest v1"]


async def test_closing_ends_every_process(world: World) -> None:
    rollout = world.rollout()
    rollout.apply(build_spec())
    await rollout.look()
    await rollout.close()
    assert world.running == []
    assert rollout.processes() == ()


async def test_what_happens_to_a_process_becomes_an_event(world: World) -> None:
    rollout = world.rollout()
    rollout.apply(build_spec())
    await rollout.look()
    process = world.running[0]
    process.notice(process.name, "process ended with exit code 3")
    (event,) = [e for e in (await rollout.look()).events if e.reason == "ProcessEnded"]
    assert event.is_warning
    assert event.message == "process ended with exit code 3"


async def test_a_workload_that_does_not_answer_is_no_data_not_a_failed_source(
    world: World, tmp_path: Path
) -> None:
    rollout = world.rollout()
    rollout.apply(build_spec())
    look = await look_until(world, rollout, Phase.WARMING)
    assert look.seen.metrics.failure is None
    assert look.decision.judgements[0].verdict == "Inconclusive"


async def test_the_gate_is_written_before_the_processes_change(world: World) -> None:
    rollout = world.rollout()
    gate = world.folder / "default" / "ofi" / "gate.json"

    def holders() -> Gate:
        return Gate.model_validate_json(gate.read_text())

    await promote(world, rollout)
    first = holders().stable
    (analysis,) = [p for p in world.running if "analysis" in p.name]
    assert f"--gate={gate}" in analysis.argv
    assert first == Holder(revision=analysis.config.revision, attempt=analysis.config.attempt)
    world.auc["v2"] = 0.7
    rollout.apply(build_spec("v2"))
    look = await look_until(world, rollout, Phase.PROMOTING)
    assert holders().stable == first
    look = await look_until(world, rollout, Phase.SUCCEEDED)
    assert holders() == Gate(), "the old stable has not ended yet"
    assert any(process.is_ending for process in look.processes)
    await world.pass_seconds(1)
    await rollout.look()
    stable = (await rollout.look()).state.stable
    assert stable is not None
    assert holders().stable == Holder(revision=stable.name, attempt=stable.attempt)
    assert holders().stable != first
    await rollout.close()


async def test_a_canary_is_given_the_stable_configuration_to_be_compared_with(
    world: World,
) -> None:
    rollout = world.rollout()
    await promote(world, rollout, "v1")
    assert all(p.config.control is None for p in world.processes)
    rollout.apply(build_spec("v2", ofi=0.9))
    await look_until(world, rollout, Phase.WARMING)
    controls = {p.config.track.value: p.config.control for p in world.running}
    stable = build_spec("v1")
    assert controls["stable"] is None
    assert controls["canary"] is not None
    assert controls["canary"].signal == stable.signal
    (revision,) = {p.config.revision for p in world.running if p.config.track.value == "stable"}
    assert controls["canary"].revision == revision
