"""The loop: who is due, and that nobody keeps anybody from their look."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Any

import pytest
from edges_kit import INTERVAL, World

from signalcanary.cluster import ClusterError
from signalcanary.evaluate import MetricsSeen, SourceFailure
from signalcanary.metrics_source import Target
from signalcanary.poller import MAX_MISSED_LOOKS, Pace
from signalcanary.store import Kind

STEP = INTERVAL.total_seconds()


async def test_a_guarded_canary_is_looked_at_by_its_interval(world: World) -> None:
    world.create()
    world.create("slow", evaluation={"interval": "60s"})
    await world.settle()
    world.source.asked.clear()
    await world.rounds(120, 1.0)
    asked = [name for name, _ in world.source.asked]
    assert 11 <= asked.count("demo") <= 18  # its own writes of status wake it, too
    assert 2 <= asked.count("slow") <= 8


async def test_one_read_serves_all_that_are_due(world: World) -> None:
    for n in range(20):
        world.create(f"demo{n}")
    await world.settle()
    world.source.fetches = 0
    await world.rounds(1, STEP)
    assert world.source.fetches == 1


async def test_a_changed_object_is_looked_at_at_once(world: World) -> None:
    world.create()
    await world.promote()
    assert world.poller.pause_seconds() > 1
    world.create(version="v2")
    assert world.store.wakeup.is_set()
    await world.rounds(1, 0.0)
    assert world.phase() == "Pending"


async def test_at_rest_the_loop_sleeps(world: World) -> None:
    world.create()
    await world.promote()
    world.source.asked.clear()
    await world.rounds(5, 0.2)
    assert world.source.asked == []
    assert world.poller.pause_seconds() == pytest.approx(5.0)


async def test_an_object_on_its_way_out_is_left_alone_and_keeps_nobody_busy(
    world: World,
) -> None:
    world.create()
    await world.settle()
    at = "2026-05-01T00:00:00Z"
    world.cluster.put(Kind.SIGNAL_CANARY, "demo", metadata={"deletionTimestamp": at})
    world.cluster.calls.clear()
    await world.rounds(5, STEP)
    assert world.cluster.calls == []
    assert world.poller.pause_seconds() > 1


TAMPERED = {
    "an unknown phase": {"phase": "Sideways"},
    "a number too large for a time": {
        "timers": [
            {
                "key": "platt_ece>0.1",
                "symbol": "BTCUSDT",
                "clock": {"startedAt": "2026-05-01T00:00:00Z", "blindSeconds": 1e300},
            }
        ]
    },
    "a time without a zone": {"lastEvaluationTime": "2026-05-01T00:00:00"},
    "no time": {"lastEvaluationTime": "yesterday"},
    "a clock that never started": {"stage": {"name": "canary", "clock": {}}},
    "a phase's clock that never started": {"phaseClock": {"blindSeconds": 1}},
    "a stage without a clock": {"stage": {"name": "canary"}},
    "a bare history": {"history": [{}]},
    "a bare revision": {"canary": {"name": "x"}},
    "conditions without times": {"conditions": [{"type": "Promoted", "status": "False"}]},
    "no conditions": {"conditions": None},
    "a list for a map": {"canary": ["x"]},
    "the last look long ago": {"lastEvaluationTime": "0001-01-01T00:00:00Z"},
    "the last look far ahead": {"lastEvaluationTime": "9999-12-31T23:59:59Z"},
}


@pytest.mark.parametrize("changes", TAMPERED.values(), ids=TAMPERED)
@pytest.mark.parametrize("is_restarted", [True, False], ids=["restarted", "same process"])
async def test_a_tampered_status_stops_nobody_else(
    world: World, changes: dict[str, Any], is_restarted: bool
) -> None:
    world.create()
    world.create("other")
    await world.settle()
    world.edit_status(**changes)
    if is_restarted:
        world.restart()
        assert await world.poller.resync()
    world.create("new")
    await world.rounds(5, STEP)
    await world.settle()
    assert world.phase("other") == world.phase("new") == "Progressing"


@pytest.mark.parametrize(
    "item",
    [{"spec": None}, {"spec": {"version": 3}}, {"spec": []}, {"status": None}, {"status": {}}],
    ids=repr,
)
async def test_an_object_of_another_shape_stops_nobody_else(
    world: World, item: dict[str, Any]
) -> None:
    world.create()
    world.cluster.put(Kind.SIGNAL_CANARY, "strange", **item)
    await world.settle()
    assert world.phase() == "Progressing"


async def test_an_invalid_object_is_logged_once_told_once_and_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.create()
    world.create("strange", symbols={"canary": ["DOGE"], "full": ["BTCUSDT"]})
    with caplog.at_level(logging.ERROR):
        await world.rounds(20, 31.0)
    assert len([r for r in caplog.records if "default/strange" in r.message]) == 1
    assert world.cluster.calls.count("event InvalidObject") == 1
    assert world.counted("invalid_objects") == 1
    assert world.counted("reconcile_errors_total", error="InvalidObject") == 20
    world.create("strange")
    await world.settle()
    assert world.phase("strange") == "Progressing"
    assert world.counted("invalid_objects") == 0


async def test_one_that_fails_does_not_stop_the_others_and_is_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def before(call: str) -> None:
        if "bad" in call:
            raise ZeroDivisionError("a bug")

    world.cluster.before = before
    world.create("bad")
    world.create("good")
    await world.rounds(4, STEP)
    await world.settle()
    assert world.phase("good") == "Progressing"
    assert world.counted("reconcile_errors_total", error="ZeroDivisionError") >= 4
    assert len([r for r in caplog.records if "default/bad" in r.message]) == 1
    world.cluster.before = lambda call: None
    await world.rounds(1, STEP)
    assert world.phase("bad") == "Pending"


async def test_one_that_hangs_does_not_hold_up_the_others() -> None:
    world = World(Pace(round=0.05, look=30.0))
    free = asyncio.Event()
    apply = world.cluster.apply

    async def slow_apply(manifest: Any) -> Any:
        if manifest["metadata"]["name"].startswith("slow"):
            await free.wait()
        return await apply(manifest)

    world.cluster.apply = slow_apply  # type: ignore[method-assign]
    world.create("slow")
    world.create("good")
    await world.settle()
    assert (world.phase("good"), world.phase("slow")) == ("Progressing", None)
    assert world.poller.pause_seconds() <= 1.0
    world.create("slow", version="v2")  # a change in between is not lost
    await world.rounds(3)
    free.set()
    await world.rounds(50, 0.01)
    assert world.status("slow")["canary"]["version"] == "v2"


async def test_a_look_that_takes_too_long_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Pace(look=0.05))

    async def hang(manifest: Any) -> Any:
        await asyncio.Event().wait()

    world.cluster.apply = hang  # type: ignore[method-assign]
    world.create()
    await world.rounds()
    assert "took longer than 0.05 s" in caplog.text


async def test_the_missed_looks_are_made_up_for_once(world: World) -> None:
    world.create()
    await world.settle()
    world.source.values["platt_ece"] = 0.5  # for 2m
    await world.rounds(3, STEP)
    world.seconds += 100.0
    world.restart()
    assert await world.poller.resync()
    world.source.asked.clear()
    await world.rounds()
    asked = [at for _, at in world.source.asked if at is not None]
    assert len(asked) in range(9, 14)
    assert asked == sorted(asked)
    assert asked[-1] < world.now()
    await world.rounds(1, STEP)
    assert len([at for _, at in world.source.asked if at is not None]) == len(asked)
    assert world.phase() in ("RollingBack", "RolledBack"), "the breach went on all the while"
    # Decided at a look that was made up for, and on what was seen at that one.
    decision = world.status()["decision"]
    assert decision["reason"] == "ConditionBreached"
    assert decision["conditions"][0]["verdict"] == "Breached"


async def test_an_edit_while_nobody_looked_is_taken_up_now_and_not_in_the_past(
    world: World,
) -> None:
    world.create()
    await world.settle()
    world.seconds += 3600
    world.create(version="v2")
    world.restart()
    assert await world.poller.resync()
    await world.rounds(3, STEP)
    assert world.phase() == "Pending"
    assert world.status()["canary"]["version"] == "v2"
    # An hour is longer than `noDataAfter`, and its pods have had no time to start.
    await world.settle()
    assert world.phase() == "Progressing"


async def test_a_long_gap_is_made_up_for_in_coarse_steps(world: World) -> None:
    world.create()
    await world.settle()
    world.seconds += 86_400
    world.restart()
    assert await world.poller.resync()
    world.source.asked.clear()
    await world.rounds()
    assert len(world.source.asked) <= MAX_MISSED_LOOKS


async def test_an_ill_source_is_asked_for_the_past_once_not_for_every_instant(
    world: World,
) -> None:
    def fail(target: Target, at: datetime | None, seen: MetricsSeen) -> MetricsSeen:
        return MetricsSeen(failure=SourceFailure("SourceTimeout", "no answer"))

    world.create()
    await world.settle()
    world.source.values["platt_ece"] = 0.5
    await world.rounds(3, STEP)
    world.seconds += 3600
    world.restart()
    assert await world.poller.resync()
    world.source.answer = fail
    world.source.asked.clear()
    await world.rounds()
    assert len(world.source.asked) == 2  # for now, and for the first instant
    world.source.answer = lambda target, at, seen: seen
    await world.rounds(3, STEP)
    assert world.phase() == "Progressing", "time that nobody saw condemns nobody"


async def test_making_up_for_the_past_does_not_keep_the_present_waiting(world: World) -> None:
    def slow(target: Target, at: datetime | None, seen: MetricsSeen) -> MetricsSeen:
        world.seconds += 2.0 if at else 0.0
        return seen

    world.create()
    await world.settle()
    world.seconds += 3600
    world.restart()
    assert await world.poller.resync()
    world.source.answer = slow
    world.source.asked.clear()
    await world.rounds()
    assert len(world.source.asked) <= 1 + Pace().catching_up / 2 + 1


async def test_a_source_with_a_bug_decides_nothing_and_ends_nothing(world: World) -> None:
    world.create()
    await world.settle()

    def crash(target: Target, at: datetime | None, seen: MetricsSeen) -> MetricsSeen:
        raise AttributeError("a bug")

    world.source.answer = crash
    await world.rounds(90, STEP)
    assert world.phase() == "Progressing"
    assert world.status()["health"] == "Error"


async def test_an_object_made_anew_under_its_name_begins_anew(world: World) -> None:
    world.create()
    await world.promote()
    world.cluster.drop(Kind.SIGNAL_CANARY, "demo")
    world.create()
    await world.rounds()
    assert world.phase() == "Pending"
    assert len({about[0] for about in world.cluster.events}) == 2


async def test_nothing_is_decided_before_everything_could_be_listed() -> None:
    world = World(Pace(shortest_pause=0.001))
    world.cluster.is_watched = False
    world.create()
    refused = {"list Pod": 3}

    def before(call: str) -> None:
        if refused.get(call):
            refused[call] -= 1
            raise ClusterError("away")
        assert refused["list Pod"] == 0 or call.startswith("list"), "a look on half a picture"

    world.cluster.before = before
    running = asyncio.create_task(world.poller.run())
    for _ in range(5000):
        if world.status():
            break
        await asyncio.sleep(0.001)
    assert world.status()
    assert refused["list Pod"] == 0
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_lost_deletion_is_found_by_the_next_list(world: World) -> None:
    world.create()
    await world.settle()
    world.cluster.is_watched = False
    world.cluster.drop(Kind.SIGNAL_CANARY, "demo")
    assert await world.poller.resync()
    await world.rounds()
    assert world.poller._memory == {}


async def test_an_object_that_is_gone_when_it_is_written_is_forgotten(world: World) -> None:
    world.create()
    await world.settle()
    world.cluster.is_watched = False
    world.cluster.drop(Kind.SIGNAL_CANARY, "demo")
    world.seconds += timedelta(minutes=1).total_seconds()
    await world.rounds(2)
    assert world.store.canaries() == {}


async def test_what_escapes_the_loop_ends_it_and_its_looks() -> None:
    world = World(Pace(round=0.01, shortest_pause=0.001))
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang(manifest: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    world.cluster.apply = hang  # type: ignore[method-assign]
    world.create()
    running = asyncio.create_task(world.poller.run())
    async with asyncio.timeout(10):
        await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
