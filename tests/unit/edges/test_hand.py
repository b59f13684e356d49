"""Commands on their way from an annotation to an Event, and back to the command line."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from edges_kit import INTERVAL, World, state_of

from signalcanary.cli import build_parser
from signalcanary.commands import Verb
from signalcanary.console.hand import run
from signalcanary.console.options import HAND_VERBS
from signalcanary.reconciler import REVISION_HISTORY_LIMIT
from signalcanary.store import Kind

STEP = INTERVAL.total_seconds()


def annotate(world: World, **values: str | None) -> None:
    """What `kubectl annotate` does."""
    now = world.item()["metadata"].get("annotations", {})
    changed = {**now, **{f"signalcanary.dev/{verb}": text for verb, text in values.items()}}
    kept = {name: text for name, text in changed.items() if text is not None}
    world.cluster.put(Kind.SIGNAL_CANARY, "demo", metadata={"annotations": kept})


async def promote_two(world: World) -> None:
    world.create(stages=[{"name": "quick", "duration": "0s"}])
    await world.promote()
    world.create(version="v2", stages=[{"name": "quick", "duration": "0s"}])
    await world.rounds()
    await world.promote()


async def test_an_annotation_is_heeded_at_once_and_not_at_the_next_interval(world: World) -> None:
    world.create()
    await world.settle()
    looked = len(world.source.asked)
    annotate(world, abort=world.status()["subject"] + " wrong weights")
    assert world.store.wakeup.is_set(), "the loop sleeps on"
    await world.rounds(1, step=0.2)
    assert len(world.source.asked) == looked + 1
    assert world.status()["reason"] == "Aborted"
    said = [
        text for (_, _, text), reason in world.cluster.events.items() if reason == "CommandDone"
    ]
    assert said == ["abort by somebody (wrong weights): v1 is taken back"]
    assert world.counted("commands_total", verb="abort", outcome="Done") == 1


async def test_a_command_at_rest_is_heeded_at_once_and_then_nothing_is_written(
    world: World,
) -> None:
    world.create()
    await world.promote()
    annotate(world, retry=world.status()["subject"], nonsense="x" * 300)
    await world.rounds(1, step=0.2)
    refused = {a["verb"]: a["refusal"] for a in world.status()["hand"]["answers"]}
    assert refused == {"retry": "NotRolledBack", "nonsense": "UnknownVerb"}
    assert world.counted("commands_total", verb="unknown", outcome="UnknownVerb") == 1
    await world.settle()
    world.cluster.calls.clear()
    await world.rounds(50, 31.0)
    world.restart()
    assert await world.poller.resync()
    await world.rounds(3, 31.0)
    assert [call for call in world.cluster.calls if not call.startswith("event")] == []


async def test_paused_and_judged_only_live_values_are_written(world: World) -> None:
    world.create()
    await world.settle()
    await world.rounds(30, STEP)
    annotate(world, pause="maintenance")
    await world.settle()
    world.cluster.calls.clear()
    await world.rounds(30, STEP)
    assert 9 <= len(world.cluster.calls) <= 11, "300 s at one status in 30 s"
    how = "kubectl annotate --overwrite -n default sigc demo signalcanary.dev/pause-"
    assert world.status()["next"].endswith(f": {how}")


async def test_what_was_asked_for_while_nobody_looked_is_done_now(world: World) -> None:
    world.create()
    await world.settle()
    await world.rounds(10, STEP)
    world.restart()
    annotate(world, pause="maintenance")
    world.seconds += 600
    assert await world.poller.resync()
    await world.rounds()
    assert state_of(world).hand.pause.at == world.poller._now()


async def test_a_person_is_called_once_whatever_restarts_and_told_what_to_type(
    world: World,
) -> None:
    world.create(stages=[{"name": "canary", "duration": "0s", "approval": "Required"}])
    await world.settle()
    await world.rounds(2, STEP)
    world.restart()
    assert await world.poller.resync()
    await world.rounds(3, STEP)
    told = [said for said in world.cluster.events.values() if said == "ApprovalNeeded"]
    assert told == ["ApprovalNeeded"]
    (call,) = world.status()["calls"]
    what = f"signalcanary.dev/approve={world.status()['subject']}"
    command = f"kubectl annotate --overwrite -n default sigc demo {what}"
    assert call["message"].endswith(f"; to approve: {command}")
    assert command in world.status()["next"]
    annotate(world, approve=what.partition("=")[2])
    await world.rounds(1, STEP)
    assert "calls" not in world.status()


async def test_a_former_revision_serves_again_and_its_record_is_kept_for_that(
    world: World,
) -> None:
    await promote_two(world)
    former = world.status()["former"][0]["name"]
    for number in range(REVISION_HISTORY_LIMIT + 3):
        world.create(version=f"x{number}")
        await world.settle()
    world.create(version="v2", stages=[{"name": "quick", "duration": "0s"}])
    await world.settle()
    assert f"demo-{former}" in world.cluster.names(Kind.CONTROLLER_REVISION)
    stable = world.status()["stable"]
    annotate(world, rollback=f"{stable['name']}-{stable['attempt']}/{former} losing money")
    await world.settle()
    assert world.phase() == "RolledBack"
    assert world.status()["stable"]["version"] == "v1"
    active = world.cluster.get(Kind.CONFIG_MAP, "demo-active")["data"]
    assert active["version"] == "v1"
    sets = world.cluster.names(Kind.STATEFUL_SET)
    assert sets
    assert all(former in name for name in sets)


# ------------------------------------------------------------------ the command line


@pytest.fixture
async def server(world: World, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """A real HTTP server before the cluster in memory, and the command line against it."""

    async def on_get(request: web.Request) -> web.Response:
        if world.cluster.is_watched:
            await world.rounds()
        return web.json_response(world.item(request.match_info["name"]))

    async def on_patch(request: web.Request) -> web.Response:
        assert request.content_type == "application/merge-patch+json"
        assert request.query["fieldManager"] == "kubectl-signalcanary"
        patch = await request.json()
        assert set(patch) == {"metadata"}
        changes = {
            name.removeprefix("signalcanary.dev/"): text
            for name, text in patch["metadata"]["annotations"].items()
        }
        annotate(world, **changes)
        return web.json_response(world.item(request.match_info["name"]))

    async def on_review(request: web.Request) -> web.Response:
        return web.json_response({"status": {"userInfo": {"username": "alice@example"}}})

    app = web.Application()
    path = "/apis/signalcanary.dev/v1alpha1/namespaces/default/signalcanaries/{name}"
    app.router.add_get(path, on_get)
    app.router.add_patch(path, on_patch)
    app.router.add_post("/apis/authentication.k8s.io/v1/selfsubjectreviews", on_review)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [
            {"name": "test", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}
        ],
        "users": [{"name": "test", "user": {}}],
    }
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config))

    async def command(*arguments: str) -> int:
        args: argparse.Namespace = build_parser().parse_args(
            [*arguments, "--kubeconfig", str(file), "--timeout=2"]
        )
        return await asyncio.to_thread(run, args)

    yield command
    await runner.cleanup()


def test_there_is_a_command_for_every_verb() -> None:
    assert set(HAND_VERBS) == {verb.value for verb in Verb}


async def test_a_command_is_written_with_who_asks_and_its_answer_is_printed(
    world: World, server: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    world.create()
    await world.settle()
    assert await server("pause", "demo", "--reason", "maintenance") == 0
    assert "nothing is promoted; every guard stays armed" in capsys.readouterr().out
    assert state_of(world).hand.pause.by == "alice@example"
    assert await server("pause", "demo") == 0
    assert "paused already, by alice@example" in capsys.readouterr().out
    assert await server("resume", "demo") == 0
    assert capsys.readouterr().out == "demo: goes on where it was\n"
    assert await server("abort", "demo", "--reason=wrong") == 0
    assert "v1 is taken back" in capsys.readouterr().out


async def test_a_refusal_is_told_with_its_reason_and_is_a_failure(
    world: World, server: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    world.create()
    await world.settle()
    assert await server("retry", "demo") == 1
    told = capsys.readouterr().err
    assert told.startswith("signalcanary retry: only what is RolledBack is tried again")
    assert told.endswith("(NotRolledBack)\n")
    # The same again is another command: it may be possible by now.
    assert await server("retry", "demo") == 1
    assert len(state_of(world).hand.answers) == 2


async def test_a_rollback_goes_by_version_and_knows_what_there_is(
    world: World, server: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    await promote_two(world)
    assert await server("rollback", "demo", "--to", "v7") == 1
    assert "v7 was not stable before; those that were: v1 (" in capsys.readouterr().err
    assert await server("rollback", "demo", "--to", "v1") == 0
    await world.settle()
    assert world.status()["stable"]["version"] == "v1"


async def test_an_operator_that_does_not_answer_is_told_as_that(
    world: World, server: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    world.create()
    world.cluster.is_watched = False  # nobody is there who would look
    assert await server("abort", "demo") == 1
    assert "the operator has not looked at it yet" in capsys.readouterr().err
    world.cluster.is_watched = True
    await world.settle()
    world.cluster.is_watched = False
    assert await server("abort", "demo") == 1
    assert "has not answered within 2 s: does it run?" in capsys.readouterr().err
