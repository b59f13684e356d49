"""The operator's picture of the cluster, kept by watch events.

Handlers put events in; the reconciler takes snapshots out. Nothing here decides anything, and
nothing iterates over what an event may change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from signalcanary.resources import LABEL_NAME

Live = Mapping[str, Any]


class Kind(StrEnum):
    """The kinds that are watched."""

    SIGNAL_CANARY = "SignalCanary"
    STATEFUL_SET = "StatefulSet"
    POD = "Pod"
    CONFIG_MAP = "ConfigMap"
    SERVICE = "Service"
    CONTROLLER_REVISION = "ControllerRevision"
    CLAIM = "PersistentVolumeClaim"


@dataclass(frozen=True, order=True)
class Key:
    """Names a SignalCanary."""

    namespace: str
    name: str


MAX_GRAVES = 10_000
"""Deletions remembered of a kind between two lists; a replica that stands by makes no lists."""


class Store:
    """Live objects by kind, and which SignalCanaries have changed since they were last asked.

    What is older than what is known is left out: watches, lists and answers to writes come in
    any order, and the last to arrive need not be the newest.
    """

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[Key, Live]] = {kind: {} for kind in Kind}
        self._owned: dict[Key, dict[tuple[Kind, str], Live]] = {}
        # Versions of the deleted, until a list was made after the deletion.
        self._graves: dict[Kind, dict[Key, int]] = {kind: {} for kind in Kind}
        self._changed: set[Key] = set()
        self.wakeup = asyncio.Event()

    def put(self, kind: Kind, item: Live) -> None:
        key = _key(item)
        known = self._objects[kind].get(key)
        if 0 <= _version(item) <= self._graves[kind].get(key, -1):
            return
        if known is not None:
            if 0 <= _version(item) <= _version(known):
                return
            self._disown(kind, key, known)
        self._objects[kind][key] = item
        owner = _owner(kind, key, item)
        if kind is not Kind.SIGNAL_CANARY:
            self._owned.setdefault(owner, {})[kind, key.name] = item
        self._note(owner)

    def remove(self, kind: Kind, item: Live) -> None:
        key = _key(item)
        graves = self._graves[kind]
        graves[key] = max(_version(item), graves.pop(key, -1))
        if len(graves) > MAX_GRAVES:
            del graves[next(iter(graves))]
        known = self._objects[kind].get(key)
        if known is None or 0 <= _version(item) < _version(known):
            return
        del self._objects[kind][key]
        self._disown(kind, key, known)

    def replace(self, kind: Kind, items: Iterable[Live], version: str | None = None) -> None:
        """Take a full list as the truth: what it lacks is gone, unless it is newer.

        Args:
            version: resourceVersion of the list.
        """
        listed = _number(version)
        fresh = {_key(item): item for item in items}
        known = self._objects[kind]
        gone = [item for key, item in known.items() if key not in fresh]
        for item in gone:
            if listed < 0 or _version(item) <= listed:
                del known[_key(item)]
                self._disown(kind, _key(item), item)
        for item in fresh.values():
            self.put(kind, item)
        graves = self._graves[kind]
        self._graves[kind] = {key: at for key, at in graves.items() if at > listed}

    def _disown(self, kind: Kind, key: Key, known: Live) -> None:
        """Take an object from its owner; its labels may name another one by now."""
        owner = _owner(kind, key, known)
        owned = self._owned.get(owner, {})
        owned.pop((kind, key.name), None)
        if not owned:
            self._owned.pop(owner, None)
        self._note(owner)

    def touch(self, key: Key) -> None:
        """Have a SignalCanary looked at soon, as something beside the cluster has changed."""
        self._note(key)

    def _note(self, owner: Key) -> None:
        self._changed.add(owner)
        self.wakeup.set()

    def canaries(self) -> dict[Key, Live]:
        """A snapshot of all SignalCanaries."""
        return dict(self._objects[Kind.SIGNAL_CANARY])

    def canaries_of(self, namespace: str) -> list[Live]:
        """A snapshot of the SignalCanaries of one namespace."""
        return [item for key, item in self.canaries().items() if key.namespace == namespace]

    def owned(self, owner: Key, kind: Kind) -> list[Live]:
        """A snapshot of what carries the owner's label."""
        items = self._owned.get(owner, {}).items()
        return [item for (of_kind, _), item in list(items) if of_kind is kind]

    def take_changed(self) -> set[Key]:
        """The SignalCanaries that changed, or whose objects did, since the last call."""
        changed, self._changed = self._changed, set()
        self.wakeup.clear()
        return changed


def _key(item: Live) -> Key:
    return Key(item["metadata"]["namespace"], item["metadata"]["name"])


def _owner(kind: Kind, key: Key, item: Live) -> Key:
    if kind is Kind.SIGNAL_CANARY:
        return key
    labels = item["metadata"].get("labels") or {}
    return Key(key.namespace, labels.get(LABEL_NAME, ""))


def _version(item: Live) -> int:
    return _number(item["metadata"].get("resourceVersion"))


def _number(version: Any) -> int:
    """A resourceVersion as a number, which the API server's are, and grow; -1 if it is none."""
    text = str(version)
    return int(text) if text.isascii() and text.isdigit() else -1
