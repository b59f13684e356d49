"""The task beside the poller: nobody waits for it, and no receiver for another."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from notify_kit import (
    CUT_OFF,
    HANG,
    Canary,
    Records,
    Station,
    answer,
    failing,
    http_server,
)
from prometheus_client import CollectorRegistry

from signalcanary.api import Tier
from signalcanary.notify.notifier import Notifier, Pace, World
from signalcanary.notify.receivers import MessageRefused, Throttled, Unreachable
from signalcanary.rollout import (
    APPROVAL_NEEDED,
    DEADLINE_HELD,
    MAX_HISTORY,
    Phase,
    Standing,
    call_of,
)
from signalcanary.telemetry import OperatorMetrics

HOOK = {"webhook": {"url": "http://127.0.0.1:9/hook"}}


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path, {})


def canary(station: Station, *messages: str, **fields: Any) -> Canary:
    """One that went from stage to stage."""
    made = Canary(**fields)
    for message in messages:
        made.enter(Phase.PROGRESSING, "StageStarted", station.now(), message)
    return made


async def settle(station: Station, seconds: float = 1.1, count: int = 3) -> None:
    await station.steps(count, seconds)


# --------------------------------------------------------------------------- once, in order


async def test_each_transition_is_told_once_in_order_and_at_rest_nothing_is_written(
    station: Station,
) -> None:
    await station.steps()
    demo = canary(station, "one", "two", "three")
    for _ in range(5):
        station.note(demo)
        await settle(station)
    assert station.sender.told() == ["one", "two", "three"]
    writes = station.records.writes
    for _ in range(10):
        station.note(demo)
        await settle(station)
    assert station.records.writes == writes
    assert station.counted("notifications_total", receiver="hook", outcome="delivered") == 3


async def test_one_write_tells_of_the_taking_in_and_of_the_delivery(station: Station) -> None:
    await station.steps()
    station.note(canary(station, "one"))
    before = station.records.writes
    await settle(station)
    assert station.records.writes == before + 1


async def test_a_restart_tells_nothing_twice_and_forgets_nothing(station: Station) -> None:
    await station.steps()
    demo = canary(station, "one")
    station.note(demo)
    await settle(station)
    demo.enter(Phase.SUCCEEDED, "Promoted", station.now(), "two")
    station.restart()  # killed between the decision and the taking in
    station.note(demo)
    await settle(station)
    assert station.sender.told() == ["one", "two"]


async def test_killed_between_taking_in_and_delivery_it_is_told_by_the_next(
    station: Station,
) -> None:
    await station.steps()
    station.sender.before = failing(Unreachable("away"))
    demo = canary(station, "one")
    station.note(demo)
    await settle(station)
    station.restart()
    station.sender.before = lambda message: None
    # The object itself is gone by now: the record alone knows.
    await settle(station)
    assert station.sender.told() == ["one"]


def standing(station: Station, tier: Tier, message: str) -> Standing:
    return Standing(tier=tier, since=station.now(), message=message)


async def test_a_notice_is_told_once_while_it_stands_and_fires_no_alert(tmp_path: Path) -> None:
    receivers = {"hook": HOOK, "am": {"alertmanager": {"url": "http://127.0.0.1:9"}}}
    config = {"receivers": receivers, "routes": [{"receivers": ["hook", "am"]}]}
    station = Station(tmp_path, config)
    await station.steps()
    demo = canary(station, "one")
    station.note(demo)
    await settle(station)
    critical = standing(station, Tier.CRITICAL, "ECE is critical")
    demo.state = replace(demo.state, phase=Phase.ROLLED_BACK, standings={"ece": critical})
    station.note(demo)
    await settle(station)
    station.restart()
    station.note(demo)
    await settle(station)
    demo.state = replace(demo.state, phase=Phase.SUCCEEDED)  # it stands in another phase, too
    station.note(demo)
    await settle(station)
    assert station.sender.told() == ["one", "ECE is critical"]
    told = station.sender.sent["hook"][1].notifications[0]
    assert (told.severity, told.is_transition) == ("P2", False)
    calm = standing(station, Tier.NORMAL, "ECE is well again")
    demo.state = replace(demo.state, standings={"ece": calm})
    station.note(demo)
    await settle(station)
    assert station.sender.told()[2:] == ["ECE is well again"]
    assert "am" not in station.sender.sent


@pytest.mark.parametrize("reason", [APPROVAL_NEEDED, DEADLINE_HELD])
async def test_a_person_is_called_once_and_again_after_a_restart_only_if_they_were_not_reached(
    station: Station, reason: str
) -> None:
    await station.steps()
    station.sender.before = failing(Unreachable("away"))
    demo = canary(station, "one")
    call = call_of(station.now(), reason, "you are wanted")
    demo.state = replace(demo.state, phase=Phase.PROGRESSING, calls=(call,))
    for _ in range(2):
        station.note(demo)
        await settle(station)
        station.restart()
    assert station.sender.told() == []
    station.sender.before = lambda message: None
    for _ in range(3):
        station.note(demo)
        await settle(station)
        station.restart()
    assert station.sender.told() == ["one", "you are wanted"]
    told = station.sender.sent["hook"][1].notifications[0]
    assert (told.severity, told.phase, told.reason) == ("P2", "Progressing", reason)


async def test_what_happened_before_notifications_were_on_is_not_told(station: Station) -> None:
    old = canary(station, "long ago")
    station.seconds += 3600
    station.restart()
    station.note(old)
    await settle(station)
    assert station.sender.told() == []
    old.enter(Phase.SUCCEEDED, "Promoted", station.now(), "now")
    station.note(old)
    await settle(station)
    assert station.sender.told() == ["now"]


async def test_a_history_that_went_on_too_fast_says_that_it_did(station: Station) -> None:
    await station.steps()
    demo = canary(station, "first")
    station.note(demo)
    await settle(station)
    for n in range(MAX_HISTORY + 3):
        demo.enter(Phase.PROGRESSING, "StageStarted", station.now(), f"n{n}")
    station.note(demo)
    await settle(station, count=MAX_HISTORY + 3)
    assert station.sender.told() == ["first", *(f"n{n}" for n in range(3, MAX_HISTORY + 3))]
    assert station.sender.sent["hook"][1].batch.missed == 1
    assert station.sender.sent["hook"][2].batch.missed == 0
    assert station.counted("notifications_total", receiver="hook", outcome="overwritten") == 1


# --------------------------------------------------------------------------- failing


async def test_one_that_hangs_keeps_no_other_waiting(tmp_path: Path) -> None:
    config = {
        "receivers": {"slow": HOOK, "hook": HOOK},
        "routes": [{"receivers": ["slow", "hook"]}],
    }
    station = Station(tmp_path, config)
    is_free = asyncio.Event()

    def before(message: Any) -> Any:
        return is_free.wait() if message.batch.receiver == "slow" else None

    station.sender.before = before
    await station.notifier.step()
    demo = canary(station)
    for n in range(5):
        demo.enter(Phase.PROGRESSING, "StageStarted", station.now(), f"n{n}")
        station.note(demo)
        for _ in range(3):
            await station.notifier.step()
            await asyncio.sleep(0)
    assert station.sender.told("hook") == [f"n{n}" for n in range(5)]
    assert station.sender.told("slow") == []
    assert station.counted("notifications_pending", receiver="slow") == 5
    is_free.set()
    await settle(station, count=6)
    assert station.sender.told("slow") == [f"n{n}" for n in range(5)]


async def test_the_pause_that_a_server_asks_for_is_kept(station: Station) -> None:
    await station.steps()
    tries = []

    def before(message: Any) -> None:
        tries.append(station.seconds)
        if len(tries) == 1:
            raise Throttled("HTTP 429", 120.0)

    station.sender.before = before
    station.note(canary(station, "one"))
    await station.steps(200, 1.0)
    assert len(tries) == 2
    assert 120 <= tries[1] - tries[0] <= 122


async def test_pauses_grow_at_random_and_never_beyond_their_bound(station: Station) -> None:
    await station.steps()
    tries = []

    def before(message: Any) -> None:
        tries.append(station.seconds)
        raise Unreachable("away")

    station.sender.before = before
    station.note(canary(station, "one"))
    await station.steps(800, 5.0)
    pauses = [b - a for a, b in pairwise(tries)]
    assert len(set(pauses)) > 5
    assert max(pauses) <= 305
    for n, pause in enumerate(pauses):
        assert pause <= 2**n + 6
    attempts = station.counted("notification_attempts_total", receiver="hook", result="Unreachable")
    assert attempts == len(tries)


async def test_it_is_given_up_after_its_time_and_not_before_and_told_of(station: Station) -> None:
    station.write_config(giveUpAfter="2h")
    await station.steps()
    station.sender.before = failing(Unreachable("away"))
    demo = canary(station, "lost")
    station.note(demo)
    await station.steps(12, 600.0)
    outcome = {"receiver": "hook", "outcome": "gave_up"}
    counted = station.metrics.registry.get_sample_value("signalcanary_notifications_total", outcome)
    assert counted == 0.0  # and not absent, in which no alert sees an increase
    assert station.counted("notifications_oldest_pending_age_seconds", receiver="hook") > 6000
    await station.steps(2, 600.0)
    assert station.counted("notifications_total", **outcome) == 1
    await settle(station)
    station.sender.before = lambda message: None
    station.restart()
    demo.enter(Phase.SUCCEEDED, "Promoted", station.now(), "next")
    station.note(demo)
    await settle(station)
    (message,) = station.sender.sent["hook"]
    assert (message.batch.missed, station.sender.told()) == (1, ["next"])


async def test_what_was_down_for_days_is_tried_before_it_is_given_up(station: Station) -> None:
    await station.steps()
    station.sender.before = failing(Unreachable("away"))
    station.note(canary(station, "one"))
    await settle(station)
    station.seconds += timedelta(days=3).total_seconds()
    station.sender.before = lambda message: None
    station.restart()
    await settle(station)
    assert station.sender.told() == ["one"]


async def test_a_message_that_is_refused_is_in_nobodys_way(station: Station) -> None:
    await station.steps()

    def before(message: Any) -> None:
        if message.notifications[0].message == "poison" and station.seconds < 100:
            raise MessageRefused("HTTP 400")

    station.sender.before = before
    station.note(canary(station, "poison", "good"))
    await settle(station)
    assert station.sender.told() == ["good"]
    await station.steps(60, 10.0)
    assert station.sender.told() == ["good", "poison"]


async def test_a_full_outbox_sheds_the_mildest_and_says_so(station: Station) -> None:
    await station.steps()
    assert station.notifier._keeper.outbox is not None
    station.notifier._keeper.outbox.max_bytes = 1500
    station.sender.before = failing(Unreachable("away"))
    for n in range(8):
        made = Canary(uid=f"uid-{n}", name=f"demo{n}")
        phase = Phase.ROLLING_BACK if n == 0 else Phase.PROGRESSING
        made.enter(phase, "ConditionBreached", station.now(), f"n{n}")
        station.note(made)
        await station.steps(1, 1.0)
    dropped = station.counted("notifications_total", receiver="hook", outcome="dropped")
    assert dropped >= 3
    station.sender.before = lambda message: None
    await station.steps(30, 100.0)
    told = station.sender.told()
    assert told[0] == "n0"  # P1, though it is the oldest
    assert len(told) + dropped == 8
    assert station.sender.sent["hook"][0].batch.missed == dropped


# --------------------------------------------------------------------------- the record


@pytest.mark.parametrize("trouble", ["away", "the answer is lost"])
async def test_a_record_that_fails_holds_up_no_message(station: Station, trouble: str) -> None:
    await station.steps()
    station.records.trouble = trouble
    demo = canary(station, "one")
    station.note(demo)
    await settle(station)
    assert station.sender.told() == ["one"]
    assert station.counted("notification_errors_total", error="ClusterError") >= 1
    station.records.trouble = None
    await settle(station, 400.0)
    station.restart()
    station.note(demo)
    await settle(station)
    assert station.sender.told() == ["one"]


async def test_what_another_has_recorded_meanwhile_is_not_lost(station: Station) -> None:
    await station.steps()
    mine = station.notifier
    station.sender.before = failing(Unreachable("away"))
    station.restart()  # another leads
    station.note(canary(station, "of the other"))
    await settle(station)
    theirs, station.notifier = station.notifier, mine  # and this one has not noticed
    station.note(canary(station, "mine", uid="uid-2"))
    await settle(station)
    assert theirs is not mine
    station.restart()
    station.sender.before = lambda message: None
    await settle(station)
    assert sorted(station.sender.told()) == ["mine", "of the other"]


async def test_a_record_that_cannot_be_read_means_to_tell_the_last_day_again(
    station: Station,
) -> None:
    station.records.text, station.records.version = '{"since": "yesterday"}', 7
    station.seconds = timedelta(days=2).total_seconds()
    demo = canary(station, "of today")
    station.restart()
    station.note(demo)
    await settle(station)
    assert station.sender.told() == ["of today"]
    assert station.counted("notification_errors_total", error="UnreadableRecord") == 1


# --------------------------------------------------------------------------- the file


async def test_a_file_that_is_wrong_keeps_the_one_before_and_none_keeps_all(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    station.file.write_text("receivers: [")
    demo = canary(station, "early")
    station.note(demo)
    await settle(station)
    assert "this is not YAML" in caplog.text
    assert station.counted("notifications_config_broken") == 1
    station.write_config()
    await station.steps(2, 6.0)
    assert station.counted("notifications_config_broken") == 0
    assert station.sender.told() == ["early"]
    station.write_config(routes=[{"receivers": ["nobody"]}])
    demo.enter(Phase.SUCCEEDED, "Promoted", station.now(), "late")
    station.note(demo)
    await station.steps(2, 6.0)
    assert station.sender.told() == ["early", "late"]
    assert "there is no receiver nobody" in caplog.text
    assert caplog.text.count("there is no receiver nobody") == 1


async def test_a_receiver_that_was_taken_out_gets_nothing_more(station: Station) -> None:
    await station.steps()
    station.sender.before = failing(Unreachable("away"))
    station.note(canary(station, "one"))
    await settle(station)
    station.write_config(receivers={"new": HOOK}, routes=[{"receivers": ["new"]}])
    station.sender.before = lambda message: None
    await station.steps(3, 6.0)
    assert station.sender.told("hook") == []
    gone = {"receiver": "hook", "outcome": "receiver_removed"}
    assert station.counted("notifications_total", **gone) == 1


# --------------------------------------------------------------------------- digest and silence


async def test_a_digest_collects_the_mild_and_lets_the_grave_go_first(station: Station) -> None:
    station.write_config(routes=[{"receivers": ["hook"], "digest": "10m"}])
    await station.steps()
    demo = canary(station, "one")
    station.note(demo)
    await station.steps(3, 60.0)
    demo.enter(Phase.PROMOTING, "StagesPassed", station.now(), "two")
    station.note(demo)
    await station.steps(2, 60.0)
    demo.enter(Phase.ROLLING_BACK, "ConditionBreached", station.now(), "grave")
    station.note(demo)
    await station.steps(1, 1.0)
    assert station.sender.told() == ["grave"]
    assert station.counted("notifications_pending", receiver="hook") == 2
    # It waits because it is meant to.
    assert station.counted("notifications_oldest_pending_age_seconds", receiver="hook") == 0
    station.restart()  # a digest goes on over a restart, and does not begin anew
    await station.steps(6, 60.0)
    assert station.sender.told() == ["grave", "one", "two"]
    assert [len(m.notifications) for m in station.sender.sent["hook"]] == [1, 2]
    assert station.seconds <= 11 * 60 + 61


async def test_a_silence_keeps_quiet_what_it_names_for_its_time(station: Station) -> None:
    silence = {"from": "2026-05-01T00:10:00Z", "to": "2026-05-01T00:20:00Z", "names": ["de*"]}
    station.write_config(silences=[silence])
    await station.steps()
    demo, other = canary(station), canary(station, uid="uid-2", name="other")
    for minute in (5, 10, 15, 20):
        station.seconds = minute * 60.0
        for each in (demo, other):
            each.enter(Phase.ROLLED_BACK, "ConditionBreached", station.now(), str(minute))
            station.note(each)
        await station.steps(3)
    told = [(n.name, n.message) for m in station.sender.sent["hook"] for n in m.notifications]
    assert [minute for name, minute in told if name == "demo"] == ["5", "20"]
    assert [minute for name, minute in told if name == "other"] == ["5", "10", "15", "20"]
    assert station.counted("notifications_total", receiver="hook", outcome="silenced") == 2


# --------------------------------------------------------------------------- alerts


async def test_an_alert_is_said_again_while_it_fires_and_ends_with_its_object(
    tmp_path: Path,
) -> None:
    receivers = {"am": {"alertmanager": {"url": "http://127.0.0.1:9"}}}
    station = Station(tmp_path, {"receivers": receivers, "routes": [{"receivers": ["am"]}]})
    await station.steps()
    demo = Canary()
    demo.enter(Phase.ROLLED_BACK, "ConditionBreached", station.now())
    station.note(demo)
    await settle(station)
    assert len(station.sender.sent["am"]) == 1
    station.restart()  # it goes on with what is on record
    await station.steps(30, 60.0)
    assert 5 <= len(station.sender.alerts) <= 7
    assert len({tuple(alert.labels.items()) for alert in station.sender.alerts}) == 1
    station.notifier.forget(demo.uid)
    await settle(station)
    (resolved,) = station.sender.sent["am"][1].batch.alerts()
    assert resolved.ends_at is not None
    assert resolved.labels == station.sender.alerts[0].labels
    station.sender.alerts.clear()
    await station.steps(20, 60.0)
    assert station.sender.alerts == []
    assert station.notifier._keeper.outbox is not None
    assert station.notifier._keeper.outbox.known == {}


async def test_an_alert_goes_on_to_say_why_when_the_canary_is_gone(tmp_path: Path) -> None:
    receivers = {"am": {"alertmanager": {"url": "http://127.0.0.1:9"}}}
    station = Station(tmp_path, {"receivers": receivers, "routes": [{"receivers": ["am"]}]})
    await station.steps()
    demo = Canary()
    why, then = "rolling back v2: the ECE", "rolling back v1: not verified"
    for phase, message in (
        (Phase.ROLLING_BACK, why),
        (Phase.ROLLED_BACK, "v2 has no pod any more, and v1 serves"),
        (Phase.ROLLING_BACK, then),
    ):
        demo.enter(phase, "ConditionBreached", station.now(), message)
        station.note(demo)
        await settle(station)
        station.seconds += 1
    alerts = [message.batch.alerts()[-1] for message in station.sender.sent["am"]]
    assert [alert.annotations["description"] for alert in alerts] == [why, why, then]
    assert "is rolled back" in alerts[1].annotations["summary"]


async def test_an_alert_is_said_again_however_much_else_is_told(tmp_path: Path) -> None:
    receivers = {"am": {"alertmanager": {"url": "http://127.0.0.1:9"}}}
    station = Station(tmp_path, {"receivers": receivers, "routes": [{"receivers": ["am"]}]})
    await station.steps()
    for n in range(20):
        made = Canary(uid=f"uid-{n}", name=f"demo{n}")
        made.enter(Phase.ROLLED_BACK, "ConditionBreached", station.now())
        station.note(made)
        await station.steps(2, 60.0)
    first = [alert for alert in station.sender.alerts if alert.labels["signalcanary"] == "demo0"]
    assert len(first) >= 6


async def test_a_look_that_ends_after_its_object_keeps_no_alert_firing(tmp_path: Path) -> None:
    receivers = {"am": {"alertmanager": {"url": "http://127.0.0.1:9"}}}
    station = Station(tmp_path, {"receivers": receivers, "routes": [{"receivers": ["am"]}]})
    await station.steps()
    demo = Canary()
    demo.enter(Phase.ROLLED_BACK, "ConditionBreached", station.now())
    station.notifier.forget(demo.uid)
    station.note(demo)
    await settle(station)
    fired, resolved = (message.batch.alerts() for message in station.sender.sent["am"])
    assert fired[0].ends_at is None
    assert resolved[0].ends_at is not None
    await station.steps(20, 60.0)
    assert station.sender.alerts == []


async def test_what_resolves_an_alert_does_not_overtake_what_fires_it(tmp_path: Path) -> None:
    receivers = {"am": {"alertmanager": {"url": "http://127.0.0.1:9"}}}
    station = Station(tmp_path, {"receivers": receivers, "routes": [{"receivers": ["am"]}]})
    await station.steps()

    def before(message: Any) -> None:
        is_firing = any(alert.ends_at is None for alert in message.batch.alerts())
        if is_firing and station.seconds < 100:
            raise MessageRefused("HTTP 400")

    station.sender.before = before
    demo = Canary()
    demo.enter(Phase.ROLLED_BACK, "ConditionBreached", station.now())
    station.note(demo)
    await settle(station)
    demo.enter(Phase.SUCCEEDED, "Promoted", station.now())
    station.note(demo)
    await station.steps(60, 10.0)
    fired, resolved = (message.batch.alerts()[0].ends_at for message in station.sender.sent["am"])
    assert fired is None
    assert resolved is not None


# --------------------------------------------------------------------------- bugs


async def test_an_object_that_cannot_be_told_of_keeps_no_other_from_it(station: Station) -> None:
    await station.steps()
    strange = canary(station, "strange", uid="uid-2", name=["no", "name"])
    station.note(strange)
    station.note(canary(station, "good"))
    await settle(station)
    assert station.sender.told() == ["good"]
    assert station.counted("notification_errors_total", error="ValidationError") >= 1


async def test_a_message_that_cannot_be_written_is_in_nobodys_way(station: Station) -> None:
    await station.steps()

    def before(message: Any) -> None:
        if message.notifications[0].message == "bug" and station.seconds < 60:
            raise KeyError("bug")

    station.sender.before = before
    station.note(canary(station, "bug", "good"))
    await settle(station)
    assert station.sender.told() == ["good"]
    attempts = {"receiver": "hook", "result": "KeyError"}
    assert station.counted("notification_attempts_total", **attempts) >= 1
    await station.steps(30, 10.0)
    assert station.sender.told() == ["good", "bug"]


# --------------------------------------------------------------------------- as it runs


def running(tmp_path: Path, records: Records, url: str, **config: Any) -> Notifier:
    """A notifier as it runs, but for its patience."""
    file = tmp_path / "notifications.yaml"
    receiver = {"webhook": {"url": url}, "deadline": "300ms"}
    wire = {"receivers": {"hook": receiver}, "routes": [{"receivers": ["hook"]}], **config}
    file.write_text(yaml.safe_dump(wire))
    pace = Pace(record=0.02, reload=0.05, first_pause=0.02, longest_pause=0.05)
    metrics = OperatorMetrics(CollectorRegistry())
    return Notifier(file, records, metrics, world=World(rng=random.Random(1)), pace=pace)


async def until(what: Any, within: float = 60.0) -> None:
    ends_at = time.monotonic() + within
    while not what():
        assert time.monotonic() < ends_at
        await asyncio.sleep(0.01)


async def test_a_server_that_fails_in_every_way_and_comes_back_gets_every_message(
    tmp_path: Path,
) -> None:
    records = Records()
    throttled = answer("429 Slow", "", "Retry-After: 0")
    async with http_server(answer("500 Oh"), HANG, throttled, CUT_OFF, b"") as server:
        notifier = running(tmp_path, records, server.url)
        task = asyncio.create_task(notifier.run())
        await until(lambda: records.text is not None)
        demo = Canary()
        for n in range(3):
            demo.enter(Phase.PROGRESSING, "StageStarted", World().now(), f"n{n}")
        notifier.note(demo.metadata, demo.state)
        await until(lambda: len(server.requests) >= 8)
        await until(lambda: notifier._keeper.outbox and not notifier._keeper.outbox.pending)
        task.cancel()
        await asyncio.wait({task})
    told = [request.json["notifications"][0]["message"] for request in server.requests]
    # On a slow machine one more may have come too late, and again.
    assert told[:6] == ["n0"] * 6
    assert list(dict.fromkeys(told)) == ["n0", "n1", "n2"]
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 3


async def test_a_server_that_comes_only_later_is_reached_then(tmp_path: Path) -> None:
    async with http_server() as server:
        port = int(server.url.rpartition(":")[2])
    records = Records()
    notifier = running(tmp_path, records, server.url)
    task = asyncio.create_task(notifier.run())
    await until(lambda: records.text is not None)
    demo = Canary()
    demo.enter(Phase.SUCCEEDED, "Promoted", World().now(), "late")
    notifier.note(demo.metadata, demo.state)
    await asyncio.sleep(0.2)
    async with http_server(port=port) as server:
        await until(lambda: len(server.requests) >= 1)
        await until(lambda: notifier._keeper.outbox and not notifier._keeper.outbox.pending)
        task.cancel()
        await asyncio.wait({task})
    # It was put on record at the end that it is told.
    assert records.text is not None
    assert '"pending":[]' in records.text
    assert "late" not in records.text
