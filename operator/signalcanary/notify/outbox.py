"""What is to be sent to whom and when, and what was taken in already. Pure: no clock, no I/O.

The history of an object's status is where transitions come from, and outlives the process; this
remembers how far each history was taken in, and what of it has not reached a receiver yet. So
whatever dies whenever, the next process finds in the one or the other all that is not told.

Nothing is lost in silence: what is shed, given up or overwritten is counted, and each receiver
is told with its next message how many it missed.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from signalcanary.notify.alerts import Alert, build_alert, is_alertmanager, resolved
from signalcanary.notify.config import Config
from signalcanary.notify.notification import (
    DELETED,
    Notification,
    build_notification,
    id_of,
    is_rollback,
    is_success,
)
from signalcanary.notify.record import Pending, Record, parse_record
from signalcanary.notify.routing import DIGESTED, Route
from signalcanary.revisions import canonical_hash
from signalcanary.rollout import MAX_HISTORY, Phase, RolloutState, notices

MAX_PENDING_BYTES: Final = 512 * 1024
"""Of what waits, as it is recorded: a ConfigMap holds 1 MiB, and the rest is for what is known
of objects at rest, some 40 bytes each."""

MAX_DIGESTED: Final = 50
"""Notifications in one message."""


LOST: Final = ("gave_up", "dropped", "overwritten")
"""The ends of a notification that a receiver was not told of, and should have been."""


@dataclass(frozen=True)
class Batch:
    """One message to one receiver.

    Attributes:
        missed: how many before it the receiver was not told of.
    """

    receiver: str
    route: Route
    items: tuple[Pending, ...]
    missed: int

    @property
    def notifications(self) -> tuple[Notification, ...]:
        return tuple(item.notification for item in self.items)

    def alerts(self) -> list[Alert]:
        return [alert for item in self.items for alert in item.alerts.get(self.receiver, ())]


@dataclass(frozen=True)
class Ended:
    """The end of a notification for a receiver, other than its delivery.

    Attributes:
        how: silenced, unrouted, dropped, gave_up, overwritten or receiver_removed.
        about: what is not told, in words.
        key: the notification's id, where there is one.
    """

    how: str
    receiver: str
    about: str
    key: str = ""


@dataclass
class Outbox:
    """See the module. Changed by its methods alone; `is_dirty` until it is recorded."""

    since: datetime
    known: dict[str, str] = field(default_factory=dict)
    noticed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    firing: dict[str, dict[str, Alert]] = field(default_factory=dict)
    settled: dict[str, None] = field(default_factory=dict)
    """Ids that have reached everybody of late, by this process."""
    is_dirty: bool = True
    size: int = 0
    max_bytes: int = MAX_PENDING_BYTES

    # ---------------------------------------------------------------- taking in

    def take(
        self, metadata: Mapping[str, Any], state: RolloutState, config: Config, now: datetime
    ) -> list[Ended]:
        """Take in what is new of an object; returns what ends at once."""
        ended = self._take_transitions(metadata, state, config, now)
        return ended + self._take_notices(metadata, state, config, now)

    def _take_notices(
        self, metadata: Mapping[str, Any], state: RolloutState, config: Config, now: datetime
    ) -> list[Ended]:
        """Those that stand; one that stood only between two looks is not known of."""
        uid, ended = metadata["uid"], []
        before = self.noticed.get(_short(uid), ())
        standing = {id_of(uid, notice): notice for notice in notices(state)}
        for key, notice in standing.items():
            if key not in before and notice.time >= self.since:
                notification = build_notification(metadata, state, notice)
                ended += self._take(config.judge(notification), config, now)
        if tuple(sorted(standing)) != before:
            self.noticed[_short(uid)] = tuple(sorted(standing))
            if not standing:
                del self.noticed[_short(uid)]
            self.is_dirty = True
        return ended

    def _take_transitions(
        self, metadata: Mapping[str, Any], state: RolloutState, config: Config, now: datetime
    ) -> list[Ended]:
        uid, history = metadata["uid"], state.history
        last = self.known.get(_short(uid))
        if not history or last == id_of(uid, history[0]):
            return []
        fresh = []
        for transition in history:  # newest first
            if last is not None and id_of(uid, transition) == last:
                break
            if last is None and transition.time < self.since:
                break
            fresh.append(transition)
        ended = []
        if len(fresh) >= MAX_HISTORY:
            # The one taken in last is not in the history any more; who knows what else is not.
            about = (
                f"{metadata['namespace']}/{metadata['name']}: whatever was in its history before"
            )
            ended = [Ended("overwritten", receiver, about) for receiver in config.receivers]
            for receiver in config.receivers:
                self.missed[receiver] = self.missed.get(receiver, 0) + 1
        for transition in reversed(fresh):
            notification = build_notification(metadata, state, transition)
            ended += self._take(config.judge(notification), config, now)
        self.known[_short(uid)] = id_of(uid, history[0])
        self.is_dirty = True
        return ended

    def _take(self, notification: Notification, config: Config, now: datetime) -> list[Ended]:
        routed = config.receivers_of(notification)
        silenced = config.is_silenced(notification, now)
        to, alerts, ended = {}, {}, []
        for receiver, route in routed.items():
            if config.receivers[receiver].alertmanager is None and not silenced:
                to[receiver] = route
            elif silenced:
                ended.append(_ended("silenced", receiver, notification))
        for receiver, told in self._alerts(notification, config, () if silenced else routed):
            to[receiver] = routed.get(receiver, "")
            alerts[receiver] = told
        if not routed and not to:
            ended.append(_ended("unrouted", "", notification))
        if to and notification.id not in self.pending:
            self._add(Pending(notification=notification, taken=now, to=to, alerts=alerts))
            ended += self._shed()
        return ended

    def _alerts(
        self, notification: Notification, config: Config, routed: Iterable[str]
    ) -> list[tuple[str, tuple[Alert, ...]]]:
        """What Alertmanagers are told: a rollback fires; a success resolves what fires, whatever
        is routed there or silenced."""
        firing = self.firing.setdefault(notification.uid, {})
        told: list[tuple[str, tuple[Alert, ...]]] = []
        if is_success(notification) or notification.phase == DELETED:
            told = [
                (receiver, (resolved(alert, notification.time),))
                for receiver, alert in firing.items()
                if is_alertmanager(config, receiver)
            ]
            firing.clear()
        elif is_rollback(notification):
            for receiver in routed:
                if is_alertmanager(config, receiver):
                    told.append((receiver, self._fire(notification, receiver, config)))
        if not firing:
            del self.firing[notification.uid]
        return told

    def _fire(self, notification: Notification, receiver: str, config: Config) -> tuple[Alert, ...]:
        firing = self.firing[notification.uid]
        alert, before = build_alert(notification, receiver, config), firing.get(receiver)
        if before is not None and before.labels != alert.labels:
            firing[receiver] = alert
            return (resolved(before, notification.time), alert)
        if before is not None:
            # The same alert goes on, in the words of now; but why it began stays why.
            said = dict(alert.annotations)
            if notification.phase != Phase.ROLLING_BACK and "description" in before.annotations:
                said["description"] = before.annotations["description"]
            update = {"starts_at": before.starts_at, "annotations": said}
            alert = alert.model_copy(update=update)
        firing[receiver] = alert
        return (alert,)

    def forget(self, uid: str) -> None:
        """Nothing more is heard of an object that is gone."""
        self.is_dirty |= self.known.pop(_short(uid), None) is not None
        self.noticed.pop(_short(uid), None)

    def resolve(self, uid: str, config: Config, now: datetime) -> list[Ended]:
        """An object is gone: its alerts are resolved; what waits is still sent."""
        fired = self.firing.get(uid)
        if not fired:
            return []
        labels = next(iter(fired.values())).labels
        gone = Notification(
            id=canonical_hash([uid, DELETED])[:16],
            uid=uid,
            namespace=labels.get("namespace", ""),
            name=labels.get("signalcanary", ""),
            time=now,
            phase=DELETED,
            reason="ObjectDeleted",
            message="the SignalCanary is gone, and its alert with it",
            version="",
        )
        told = self._alerts(gone, config, ())
        if told:
            to = {receiver: "" for receiver, _ in told}
            self._add(Pending(notification=gone, taken=now, to=to, alerts=dict(told)))
        return self._shed()

    def _add(self, item: Pending) -> None:
        self.pending[item.notification.id] = item
        self.size += _size(item)
        self.is_dirty = True

    def _shed(self) -> list[Ended]:
        """Make room: the least severe goes first, and of these the oldest."""
        ended = []
        while self.size > self.max_bytes and self.pending:
            least = max(self.pending.values(), key=lambda item: item.notification.severity)
            for receiver in list(least.to):
                ended.append(self._miss("dropped", least, receiver))
        return ended

    # ---------------------------------------------------------------- sending

    def next_batch(
        self, receiver: str, config: Config, now: datetime, aside: Container[str] = ()
    ) -> Batch | None:
        """What to send to a receiver now: the oldest first, but for digests that are not over.

        Args:
            aside: ids that are not to be tried yet.
        """
        digests: dict[str, list[Pending]] = {}
        held: set[str] = set()
        for item in self.pending.values():
            if receiver not in item.to:
                continue
            told = item.notification
            if told.id in aside or (receiver in item.alerts and told.uid in held):
                # What resolves an alert must not overtake what fires it.
                held.add(told.uid)
                continue
            route = config.route(item.to[receiver])
            if not _is_digested(item, route, receiver):
                return self._batch(receiver, route, [item])
            digests.setdefault(route.name, []).append(item)
        for name, items in digests.items():
            route = config.route(name)
            if not _waits(items[0], route, now):
                return self._batch(receiver, route, items[:MAX_DIGESTED])
        return None

    def _batch(self, receiver: str, route: Route, items: Sequence[Pending]) -> Batch:
        return Batch(receiver, route, tuple(items), self.missed.get(receiver, 0))

    def next_digest(self, config: Config, now: datetime) -> timedelta | None:
        """How long until the next digest is over; None if nothing waits for one."""
        left = [
            item.taken + route.digest - now
            for item in self.pending.values()
            for receiver, name in item.to.items()
            if _is_digested(item, route := config.route(name), receiver)
            and _waits(item, route, now)
        ]
        return min(left, default=None)

    def delivered(self, batch: Batch) -> None:
        """A receiver has taken a message."""
        for item in batch.items:
            self._settle(item, batch.receiver)
        if batch.missed:
            left = self.missed.get(batch.receiver, 0) - batch.missed
            self.missed[batch.receiver] = max(0, left)
            self.is_dirty = True

    def failed(self, batch: Batch, config: Config, now: datetime) -> list[Ended]:
        """A receiver has not; returns what is given up, which was tried for long enough."""
        return [
            self._miss("gave_up", item, batch.receiver)
            for item in batch.items
            if now - item.taken >= config.give_up_after
        ]

    def drop_receivers(self, config: Config) -> list[Ended]:
        """Let go of what waits for receivers that are not there any more."""
        ended = []
        for item in list(self.pending.values()):
            for receiver in [r for r in item.to if r not in config.receivers]:
                self._settle(item, receiver)
                ended.append(_ended("receiver_removed", receiver, item.notification))
        for receiver in [r for r in self.missed if r not in config.receivers]:
            del self.missed[receiver]
        for uid, fired in list(self.firing.items()):
            kept = {r: alert for r, alert in fired.items() if is_alertmanager(config, r)}
            self.firing[uid] = kept
            if not kept:
                del self.firing[uid]
        return ended

    def _miss(self, how: str, item: Pending, receiver: str) -> Ended:
        self._settle(item, receiver)
        self.missed[receiver] = self.missed.get(receiver, 0) + 1
        return _ended(how, receiver, item.notification)

    def _settle(self, item: Pending, receiver: str) -> None:
        """Nothing more is to be done for a receiver."""
        key = item.notification.id
        current = self.pending.get(key)
        if current is None or receiver not in current.to:
            return
        self.is_dirty = True
        self.size -= _size(current)
        to = {name: route for name, route in current.to.items() if name != receiver}
        if to:
            self.pending[key] = current.model_copy(update={"to": to})
            self.size += _size(self.pending[key])
            return
        del self.pending[key]
        self.settled[key] = None
        if len(self.settled) > 10_000:
            del self.settled[next(iter(self.settled))]

    # ---------------------------------------------------------------- what is seen of it

    def waiting(self, receiver: str) -> list[Pending]:
        return [item for item in self.pending.values() if receiver in item.to]

    def oldest_age(self, receiver: str, config: Config, now: datetime) -> timedelta:
        """How long a receiver has not been told what it should have been; 0 if it was."""
        ages = [
            now - item.taken
            for item in self.waiting(receiver)
            if not _is_digested(item, route := config.route(item.to[receiver]), receiver)
            or not _waits(item, route, now)
        ]
        return max(ages, default=timedelta(0))

    def alerts_of(self, receiver: str) -> list[Alert]:
        """What fires at an Alertmanager, and was told to it."""
        if any(item.alerts.get(receiver) for item in self.waiting(receiver)):
            return []
        return [fired[receiver] for fired in self.firing.values() if receiver in fired]

    # ---------------------------------------------------------------- recording

    def to_record(self) -> str:
        record = Record(
            since=self.since,
            known=self.known,
            noticed=self.noticed,
            pending=tuple(self.pending.values()),
            missed={name: count for name, count in self.missed.items() if count},
            firing=self.firing,
        )
        return json.dumps(record.to_wire(), ensure_ascii=False, separators=(",", ":"))

    def absorb(self, text: str) -> None:
        """Take over what somebody else has recorded meanwhile: what is not known here waits here.

        Raises:
            UnreadableRecord: it is none.
        """
        theirs = parse_record(text)
        for uid, newest in theirs.known.items():
            self.known.setdefault(uid, newest)
        for uid, keys in theirs.noticed.items():
            self.noticed.setdefault(uid, keys)
        for item in theirs.pending:
            if not (item.notification.id in self.pending or item.notification.id in self.settled):
                self._add(item)
        for uid, fired in theirs.firing.items():
            self.firing.setdefault(uid, fired)
        self.is_dirty = True


def read_record(text: str) -> Outbox:
    """The outbox that a record is of.

    Raises:
        UnreadableRecord: it is none.
    """
    record = parse_record(text)
    outbox = Outbox(
        since=record.since,
        known=dict(record.known),
        noticed=dict(record.noticed),
        missed=dict(record.missed),
        firing={uid: dict(fired) for uid, fired in record.firing.items()},
    )
    for item in record.pending:
        outbox._add(item)
    outbox.is_dirty = False
    return outbox


def _short(uid: str) -> str:
    """Enough of a uid: 60 random bits."""
    return uid[:18]


def _ended(how: str, receiver: str, told: Notification) -> Ended:
    about = f"{told.namespace}/{told.name}: {told.phase} ({told.reason}): {told.message}"
    return Ended(how, receiver, about, told.id)


def _size(item: Pending) -> int:
    return len(item.model_dump_json(by_alias=True, exclude_none=True).encode())


def _is_digested(item: Pending, route: Route, receiver: str) -> bool:
    is_mild = item.notification.severity in DIGESTED
    return is_mild and route.digest > timedelta(0) and receiver not in item.alerts


def _waits(oldest: Pending, route: Route, now: datetime) -> bool:
    """Whether a digest is not over; one that is of the future, by a clock set back, is."""
    return timedelta(0) <= now - oldest.taken < route.digest
