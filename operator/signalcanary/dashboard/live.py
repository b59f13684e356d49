"""What the API server tells of rollouts and their Events, kept up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from signalcanary.api import KIND
from signalcanary.apiserver import path_of
from signalcanary.console.access import Access
from signalcanary.console.follow import Followed, key_of
from signalcanary.dashboard.curves import Curves
from signalcanary.store import Key, Kind, Live


class Cluster:
    """All that the page shows, as of now."""

    def __init__(self, access: Access, *, everywhere: bool) -> None:
        self.access = access
        self._namespace = None if everywhere else access.namespace
        self._changed = asyncio.Event()
        self.rollouts = Followed(self.touch, self._take)
        self.events = Followed(self.touch)
        self.curves: dict[Key, Curves] = {}

    def touch(self) -> None:
        """Wake all who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self) -> None:
        """Until something changes."""
        await self._changed.wait()

    async def follow(self) -> None:
        """Keep all of it up to date, for ever."""
        scope = f"/namespaces/{self._namespace}" if self._namespace else ""
        path = path_of(Kind.SIGNAL_CANARY, self._namespace)
        of_ours = {"fieldSelector": f"involvedObject.kind={KIND}"}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.rollouts.follow(self.access, path, "SignalCanaries"))
            tasks.create_task(
                self.events.follow(self.access, f"/api/v1{scope}/events", "Events", **of_ours)
            )

    def events_of(self, item: Live) -> list[Mapping[str, Any]]:
        """The Events of an object."""
        uid = item["metadata"]["uid"]
        return [e for e in self.events.items.values() if e["involvedObject"].get("uid") == uid]

    def _take(self, item: Live) -> None:
        self.curves.setdefault(key_of(item), Curves()).take(item.get("status") or {})
