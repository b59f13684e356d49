"""The task that tells people, beside the poller.

What is decided is handed over by `note`, which neither waits nor fails. All else happens in
here: the outbox is filled from it, each receiver has at most one message under way, and none waits
for another.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Protocol

from signalcanary.notify import receivers
from signalcanary.notify.alerts import Alert
from signalcanary.notify.config import Config, NotificationsError, read_config
from signalcanary.notify.endpoints import Receiver
from signalcanary.notify.keeper import Keeper, Records
from signalcanary.notify.outbox import LOST, Batch, Ended, Outbox
from signalcanary.notify.receivers import DeliveryFailed, MessageRefused
from signalcanary.notify.render import Message, build_message
from signalcanary.rollout import Notice, RolloutState, Transition, notices
from signalcanary.telemetry import OperatorMetrics

logger = logging.getLogger(__name__)


class Sender(Protocol):
    """See `receivers`."""

    async def send(self, receiver: Receiver, message: Message) -> str: ...

    async def send_alerts(self, receiver: Receiver, alerts: list[Alert], now: datetime) -> str: ...


@dataclass(frozen=True)
class Pace:
    """How fast it goes. Unit of everything: seconds.

    Attributes:
        record: from a change to its record, see `keeper`.
        reload: between two looks at the administrator's file.
        restate: between two times that an Alertmanager is told what fires.
        first_pause, longest_pause: between attempts: a random part of twice as much each time.
        longest_asked: that a server may ask for.
        forget: from an object's end until it is forgotten.
        late: longest that a look at an object goes on after its end.
    """

    record: float = 1.0
    reload: float = 5.0
    restate: float = 300.0
    first_pause: float = 1.0
    longest_pause: float = 300.0
    longest_asked: float = 3600.0
    forget: float = 600.0
    late: float = 60.0


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class World:
    """What is not decided in here: time, chance and the network."""

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)
    sender: Sender = receivers


@dataclass
class _Line:
    """The way to one receiver.

    Attributes:
        task: the attempt that is under way.
        until: not before this; by the monotonic clock.
        aside: by id, messages that were refused, and until when each is let be.
        complaint: what was logged of it last.
    """

    task: asyncio.Task[None] | None = None
    failures: int = 0
    until: float = 0.0
    aside: dict[str, tuple[int, float]] = field(default_factory=dict)
    restated: float = 0.0
    complaint: str | None = None


_Noted = tuple[Mapping[str, Any], RolloutState]
"""An object's metadata and its state."""


class Notifier:
    """See the module. `note` and `forget` may be called at any time, whatever goes on."""

    def __init__(
        self,
        file: Path,
        records: Records,
        metrics: OperatorMetrics,
        *,
        world: World = World(),
        pace: Pace = Pace(),
    ) -> None:
        self._file = file
        self._metrics = metrics
        self._world = world
        self._pace = pace
        self._noted: dict[str, _Noted] = {}
        self._newest: dict[str, tuple[Transition | Notice, ...]] = {}
        self._gone: dict[str, float] = {}
        self._config: Config | None = None
        self._read_at = float("-inf")
        self._file_complaint: str | None = None
        self._keeper = Keeper(records, world.now(), pace.record, self._pause, self._count)
        self._lines: dict[str, _Line] = {}
        self._wakeup = asyncio.Event()

    # ---------------------------------------------------------------- handed over

    def note(self, metadata: Mapping[str, Any], state: RolloutState) -> None:
        """An object as it was looked at; only what is new in its history is told."""
        uid = metadata["uid"]
        if self._gone.get(uid, inf) <= self._world.monotonic() - self._pace.late:
            del self._gone[uid]  # it was not gone after all
        if (*state.history[:1], *notices(state)) == self._newest.get(uid):
            return  # at nearly every look
        self._noted[uid] = (metadata, state)
        self._wakeup.set()

    def forget(self, uid: str) -> None:
        """An object is gone; a look at it that was under way may still be noted."""
        self._gone[uid] = self._world.monotonic()
        self._wakeup.set()

    # ---------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Run for ever. Nothing ends it but being cancelled."""
        complaint = None
        try:
            while True:
                try:
                    self._wakeup.clear()
                    await self.step()
                    complaint = None
                    pause = self.pause_seconds()
                except Exception as error:
                    self._count(error)
                    if complaint != str(error):
                        logger.exception("notifications: a step failed, and is tried again")
                    complaint, pause = str(error), 5.0
                await self._wait(pause)
        finally:
            await self.end()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        except TimeoutError:
            return

    async def end(self) -> None:
        """Stop what is under way, and put on record what was told."""
        tasks = [line.task for line in self._lines.values() if line.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._keeper.end()

    def pause_seconds(self) -> float:
        """How long nothing is due, if nothing happens."""
        now = self._world.monotonic()
        due = [self._read_at + self._pace.reload]
        keeper = self._keeper
        due += [keeper.due] if keeper.due is not None and keeper.task is None else []
        if keeper.outbox is not None and self._config is not None:
            digest = keeper.outbox.next_digest(self._config, self._world.now())
            due += [now + digest.total_seconds()] if digest is not None else []
            for line in self._lines.values():
                if line.task is None:
                    due += [line.until] if line.until > now else []
                    due += [until for _, until in line.aside.values() if until > now]
        return max(0.05, min(due) - now)

    async def step(self) -> None:
        """Do what is due: read the file, take in, send, record."""
        await self._reload()
        outbox = await self._keeper.load(self._world.monotonic())
        if outbox is None:
            return
        if self._config is not None:
            self._take_in(outbox, self._config)
            self._send(outbox, self._config)
        self._keeper.keep(self._world.monotonic(), self._wakeup.set)

    # ---------------------------------------------------------------- the file

    async def _reload(self) -> None:
        now = self._world.monotonic()
        if now - self._read_at < self._pace.reload:
            return
        self._read_at = now
        try:
            config = await asyncio.to_thread(read_config, self._file)
        except NotificationsError as error:
            self._metrics.notifications_config_broken.set(1)
            if self._file_complaint != str(error):
                self._count(error)
                kept = "nobody is told anything" if self._config is None else "the one before holds"
                logger.error("notifications: %s; %s", error, kept)
            self._file_complaint = str(error)
            return
        self._file_complaint = None
        self._metrics.notifications_config_broken.set(0)
        if config == self._config:
            return
        for problem in await asyncio.to_thread(config.file_problems, config.receivers):
            logger.error("notifications: %s", problem)
        is_first, self._config = self._config is None, config
        names = ", ".join(config.receivers)
        logger.info("notifications: %s %s", "to" if is_first else "now to", names)
        self._watch_receivers(config)

    def _watch_receivers(self, config: Config) -> None:
        for name in set(self._lines) - set(config.receivers):
            line = self._lines.pop(name)
            if line.task is not None:
                line.task.cancel()
        for name in config.receivers:
            # A new address or password is tried at once.
            line = self._lines.setdefault(name, _Line())
            line.until, line.failures, line.aside = 0.0, 0, {}
        pending, oldest = self._metrics.notifications_pending, self._metrics.notifications_oldest
        pending.clear()
        oldest.clear()
        for name in config.receivers:
            pending.labels(name).set_function(partial(self._count_waiting, name))
            oldest.labels(name).set_function(partial(self._oldest_seconds, name))
            for outcome in ("delivered", *LOST):
                # From 0 on, for Prometheus sees no increase in a series' first value.
                self._metrics.notifications.labels(name, outcome)

    def _count_waiting(self, receiver: str) -> float:
        outbox = self._keeper.outbox
        return float(len(outbox.waiting(receiver))) if outbox is not None else 0.0

    def _oldest_seconds(self, receiver: str) -> float:
        outbox, config = self._keeper.outbox, self._config
        if outbox is None or config is None:
            return 0.0
        return outbox.oldest_age(receiver, config, self._world.now()).total_seconds()

    # ---------------------------------------------------------------- taking in and sending

    def _take_in(self, outbox: Outbox, config: Config) -> None:
        now, ended = self._world.now(), outbox.drop_receivers(config)
        noted, self._noted = self._noted, {}
        # One that is gone first, for another of its name may fire the alert that it ends.
        ended += self._take(outbox, config, {u: n for u, n in noted.items() if u in self._gone})
        for uid, since in list(self._gone.items()):
            ended += outbox.resolve(uid, config, now)
            if self._world.monotonic() >= since + self._pace.forget:
                outbox.forget(uid)
                self._newest.pop(uid, None)
                del self._gone[uid]
        ended += self._take(outbox, config, {u: n for u, n in noted.items() if u not in self._gone})
        self._tell_ended(ended)

    def _take(self, outbox: Outbox, config: Config, noted: Mapping[str, _Noted]) -> list[Ended]:
        ended: list[Ended] = []
        for uid, (metadata, state) in noted.items():
            try:
                ended += outbox.take(metadata, state, config, self._world.now())
            except Exception as error:
                # Whatever it holds, it keeps no other from being told of; noted again soon.
                self._count(error)
                logger.exception("notifications: %s cannot be told of", uid)
            else:
                self._newest[uid] = (*state.history[:1], *notices(state))
        return ended

    def _tell_ended(self, ended: Sequence[Ended]) -> None:
        for one in ended:
            self._metrics.notifications.labels(one.receiver, one.how).inc()
            if one.how in ("silenced", "unrouted"):
                continue
            logger.error("notification %s for %s: %s", one.how, one.receiver, one.about)

    def _send(self, outbox: Outbox, config: Config) -> None:
        """Start an attempt for each receiver that is free and has something to be sent."""
        monotonic, now = self._world.monotonic(), self._world.now()
        for name, line in self._lines.items():
            if line.task is not None or monotonic < line.until:
                continue
            aside = {key for key, (_, until) in line.aside.items() if monotonic < until}
            batch = outbox.next_batch(name, config, now, aside)
            attempt: Coroutine[Any, Any, None] | None = None
            if batch is not None:
                attempt = self._deliver(outbox, batch, config, line)
            elif monotonic - line.restated >= self._pace.restate and outbox.alerts_of(name):
                line.restated = monotonic
                attempt = self._restate(outbox, name, config, line)
            if attempt is not None:
                line.task = asyncio.create_task(self._occupy(line, attempt), name=f"notify-{name}")

    async def _occupy(self, line: _Line, attempt: Coroutine[Any, Any, None]) -> None:
        try:
            await attempt
        finally:
            line.task = None
            self._wakeup.set()

    async def _deliver(self, outbox: Outbox, batch: Batch, config: Config, line: _Line) -> None:
        name = batch.receiver

        async def send() -> str:
            message = build_message(batch, config.cluster, self._world.now())
            return await self._world.sender.send(config.receivers[name], message)

        error = await self._attempt(name, line, send, [item.id for item in batch.notifications])
        if error is None:
            outbox.delivered(batch)
            for item in batch.notifications:
                line.aside.pop(item.id, None)
                self._metrics.notifications.labels(name, "delivered").inc()
            return
        ended = outbox.failed(batch, config, self._world.now())
        for one in ended:
            line.aside.pop(one.key, None)
        self._tell_ended(ended)

    async def _restate(self, outbox: Outbox, name: str, config: Config, line: _Line) -> None:
        async def send() -> str:
            alerts, now = outbox.alerts_of(name), self._world.now()
            return await self._world.sender.send_alerts(config.receivers[name], alerts, now)

        await self._attempt(name, line, send, ())

    async def _attempt(
        self,
        name: str,
        line: _Line,
        send: Callable[[], Awaitable[str]],
        ids: Sequence[str],
    ) -> Exception | None:
        """One attempt; what becomes of the line to the receiver by it."""
        monotonic = self._world.monotonic
        try:
            await send()
        except Exception as error:
            kind = type(error).__name__
            self._metrics.notification_attempts.labels(name, kind).inc()
            if isinstance(error, DeliveryFailed) and not isinstance(error, MessageRefused):
                line.failures += 1
                asked = min(error.retry_after_seconds, self._pace.longest_asked)
                line.until = monotonic() + max(self._pause(line.failures), asked)
            else:
                # It is the message's: that is tried again, but not in the way of others.
                for key in ids:
                    count = line.aside.get(key, (0, 0.0))[0] + 1
                    line.aside[key] = (count, monotonic() + self._pause(count))
            if line.complaint != f"{kind}: {error}":
                logger.warning("notifications: %s: %s: %s; tried again", name, kind, error)
                if not isinstance(error, DeliveryFailed):
                    logger.exception("notifications: %s", name, exc_info=error)
            line.complaint = f"{kind}: {error}"
            return error
        else:
            self._metrics.notification_attempts.labels(name, "ok").inc()
            if line.failures:
                logger.info("notifications: %s takes messages again", name)
            line.failures, line.until, line.complaint = 0, 0.0, None
            return None

    def _pause(self, failures: int) -> float:
        """Full jitter: any part of a bound that doubles, so that many do not come back at once."""
        bound = min(self._pace.longest_pause, self._pace.first_pause * 2 ** min(failures - 1, 20))
        return self._world.rng.uniform(0, bound)

    def _count(self, error: Exception) -> None:
        self._metrics.notification_errors.labels(type(error).__name__).inc()

    async def drain(self) -> None:
        """Wait until no attempt and no write is under way."""
        while tasks := [
            *(line.task for line in self._lines.values() if line.task),
            *([self._keeper.task] if self._keeper.task else []),
        ]:
            await asyncio.wait(tasks)
