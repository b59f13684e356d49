"""No transition is lost, whatever fails in whatever order: it is told, or its loss is.

Nor is a call for a person that still stands; of one that is over nobody need be told.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from notify_kit import Canary, FakeSender, Station

from signalcanary.notify.notification import id_of
from signalcanary.notify.receivers import MessageRefused, ServerFailed, Throttled, Unreachable
from signalcanary.notify.render import Message
from signalcanary.rollout import APPROVAL_NEEDED, MAX_HISTORY, Phase, call_of

SCHEDULES = int(os.environ.get("SIGNALCANARY_OUTBOX_SCHEDULES", "50"))

ERRORS = {
    "well": None,
    "away": Unreachable("away"),
    "ill": ServerFailed("HTTP 500"),
    "throttles": Throttled("HTTP 429", 40.0),
    "refuses": MessageRefused("HTTP 400"),
}

UIDS = ("one", "two", "three")

ACTIONS = st.one_of(
    st.tuples(st.just("transition"), st.sampled_from(UIDS), st.booleans()),
    st.tuples(st.just("call"), st.sampled_from(UIDS), st.booleans()),
    st.tuples(st.just("burst"), st.sampled_from(UIDS), st.integers(2, 14)),
    st.tuples(st.just("receiver"), st.sampled_from(["hook", "other"]), st.sampled_from([*ERRORS])),
    st.tuples(st.just("records"), st.sampled_from([None, None, "away", "the answer is lost"])),
    st.tuples(st.just("advance"), st.sampled_from([0.1, 1.0, 7.0, 400.0])),
    st.tuples(st.just("step"), st.integers(1, 3)),
    st.tuples(st.just("crash")),
    st.tuples(st.just("stop")),
    st.tuples(st.just("deleted"), st.sampled_from(UIDS)),
)

CONFIG: dict[str, Any] = {
    "receivers": {
        "hook": {"webhook": {"url": "http://127.0.0.1:9/hook"}},
        "other": {"webhook": {"url": "http://127.0.0.1:9/other"}},
    },
    "routes": [
        {"receivers": ["hook"]},
        {"receivers": ["other"], "digest": "60s"},
    ],
}

PHASES = (
    (Phase.PROGRESSING, "StageStarted"),
    (Phase.ROLLING_BACK, "ConditionBreached"),
    (Phase.SUCCEEDED, "Promoted"),
)


class Simulation:
    """Actions, and what must have been told in the end."""

    def __init__(self, folder: Path, config: dict[str, Any] = CONFIG) -> None:
        self.health = dict.fromkeys(config["receivers"], "well")
        self.sender = FakeSender(before=self.before)
        self.station = Station(folder, config, self.sender)
        self.canaries: dict[str, Canary] = {}
        self.expected: dict[str, list[str]] = {}
        self.count = 0
        self.missed_told = dict.fromkeys(config["receivers"], 0)
        self.on_record: list[str] = []
        self.calls: set[str] = set()

    def before(self, message: Message) -> None:
        error = ERRORS[self.health[message.batch.receiver]]
        if error is not None:
            raise error
        self.missed_told[message.batch.receiver] += message.batch.missed

    def transition(self, uid: str, is_noted: bool) -> None:
        # One that is made anew under its name has another uid.
        made = Canary(uid=f"uid-{self.count}", name=uid)
        canary = self.canaries.setdefault(uid, made)
        phase, reason = PHASES[self.count % len(PHASES)]
        self.count += 1
        canary.enter(phase, reason, self.station.now(), f"n{self.count}")
        self.expected.setdefault(uid, []).append(id_of(canary.uid, canary.state.history[0]))
        if is_noted:
            self.station.note(canary)

    def call(self, uid: str, is_noted: bool) -> None:
        """A person is called, and what they were called for before is over."""
        canary = self.canaries.setdefault(uid, Canary(uid=f"uid-{self.count}", name=uid))
        self.count += 1
        told = call_of(self.station.now(), APPROVAL_NEEDED, f"n{self.count}")
        canary.state = replace(canary.state, calls=(told,))
        self.calls.add(id_of(canary.uid, told))
        if is_noted:
            self.station.note(canary)

    def restart(self) -> None:
        self.station.restart()
        for canary in self.canaries.values():  # every object is looked at by a new leader
            self.station.note(canary)

    async def act(self, action: tuple[Any, ...]) -> None:
        match action:
            case ("transition", uid, is_noted):
                self.transition(uid, is_noted)
            case ("call", uid, is_noted):
                self.call(uid, is_noted)
            case ("burst", uid, count):
                for _ in range(count):
                    self.transition(uid, True)
            case ("receiver", name, health):
                self.health[name] = health
            case ("records", trouble):
                self.station.records.trouble = trouble
            case ("advance", seconds):
                self.station.seconds += seconds
            case ("step", count):
                await self.station.steps(count)
            case ("crash",):
                self.restart()
            case ("stop",):
                await self.station.notifier.end()
                self.restart()
            case ("deleted", uid) if uid in self.canaries:
                await self.delete(uid)

    async def delete(self, uid: str) -> None:
        """What was noted of an object is told though it is gone, once it is on record."""
        canary = self.canaries.pop(uid)
        self.station.note(canary)
        self.station.notifier.forget(canary.uid)
        noted = self.expected.pop(uid, [])
        if self.station.records.trouble is None:
            await self.station.steps(3, 400.0)
            self.on_record += noted[-MAX_HISTORY:]

    async def run(self, actions: list[tuple[Any, ...]]) -> None:
        await self.station.steps()  # notifications are on
        assert self.station.records.text is not None
        for action in actions:
            await self.act(action)
        self.health = dict.fromkeys(self.health, "well")
        self.station.records.trouble = None
        for uid in self.canaries:
            self.transition(uid, True)
        await self.station.steps(3, 400.0)  # longer than any pause, and than a digest
        left = -1
        while left != (left := self.left()):
            await self.station.steps(10, 15.0)

    def left(self) -> int:
        outbox = self.station.notifier._keeper.outbox
        assert outbox is not None
        return len(outbox.pending)


def standing(simulation: Simulation, uid: str) -> list[str]:
    canary = simulation.canaries[uid]
    return [id_of(canary.uid, call) for call in canary.state.calls]


@settings(max_examples=SCHEDULES, deadline=None)
@given(st.lists(ACTIONS, max_size=40))
def test_every_transition_is_told_or_its_loss_is(actions: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(Path(folder))
        asyncio.run(simulation.run(actions))
    for receiver in ("hook", "other"):
        told = set(simulation.sender.ids(receiver))
        for uid in simulation.canaries:
            lost = [key for key in simulation.expected[uid] if key not in told]
            lost += [key for key in standing(simulation, uid) if key not in told]
            assert not lost or simulation.missed_told[receiver], (receiver, uid, lost)
        # The newest ten of each object are in its status, and so never lost at all.
        for uid in simulation.canaries:
            assert set(simulation.expected[uid][-MAX_HISTORY:]) <= told
        assert set(simulation.on_record) <= told


@settings(max_examples=SCHEDULES // 2, deadline=None)
@given(st.lists(ACTIONS.filter(lambda a: a[0] not in ("crash", "stop", "deleted")), max_size=40))
def test_without_a_crash_each_is_told_once_and_in_order(actions: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(Path(folder))
        actions = [a for a in actions if a[-1] != "refuses"]
        # With each transition handed over, as the reconciler does.
        actions = [(*a[:-1], True) if a[0] in ("transition", "call") else a for a in actions]
        with_steps = [each for a in actions for each in (a, ("step", 1))]
        asyncio.run(simulation.run(with_steps))
    told = simulation.sender.ids("hook")
    assert len(told) == len(set(told))
    told = [key for key in told if key not in simulation.calls]
    transitions = simulation.count - len(simulation.calls)
    assert simulation.missed_told["hook"] or len(told) == transitions
    for uid in simulation.canaries:
        expected = [key for key in simulation.expected[uid] if key in set(told)]
        assert [key for key in told if key in expected] == expected


ALERTS: dict[str, Any] = {
    "receivers": {"hook": {"alertmanager": {"url": "http://127.0.0.1:9"}}},
    "routes": [{"receivers": ["hook"], "severities": ["P0", "P1"]}],
}


def fires(canary: Canary) -> bool:
    """Whether it was taken back since its last success."""
    ends = (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.SUCCEEDED)
    phases = [transition.phase for transition in canary.state.history if transition.phase in ends]
    return bool(phases) and phases[0] is not Phase.SUCCEEDED


@settings(max_examples=SCHEDULES // 2, deadline=None)
@given(st.lists(ACTIONS.filter(lambda a: a[1:2] != ("other",)), max_size=30))
def test_an_alertmanager_ends_with_what_is_true(actions: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(Path(folder), ALERTS)
        asyncio.run(simulation.run(actions))
    believed: dict[str, bool] = {}
    for message in simulation.sender.sent.get("hook", ()):
        for alert in message.batch.alerts():
            believed[alert.labels["signalcanary"]] = alert.ends_at is None
    for uid, canary in simulation.canaries.items():
        assert believed.get(uid, False) == fires(canary), uid
