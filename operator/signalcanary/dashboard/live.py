"""What the API server tells of rollouts and their Events, kept up to date by watches.

A watch that ends is taken up where it ended; where that is too long ago (410), or where the server
was gone, all is listed anew, so that nothing that was deleted meanwhile is still shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from signalcanary.api import KIND
from signalcanary.apiserver import ClusterError, call, path_of, watch
from signalcanary.console.access import Access
from signalcanary.dashboard.curves import Curves
from signalcanary.store import Key, Kind, Live

MOST_WAIT_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.5


@dataclass
class Followed:
    """The objects of one list, by namespace and name.

    Attributes:
        trouble: why what is known may be old; empty if it is not.
        is_listed: whether all were seen at least once.
    """

    touch: Callable[[], None]
    take: Callable[[Key, Live], None] = lambda key, item: None
    items: dict[Key, Live] = field(default_factory=dict)
    trouble: str = ""
    is_listed: bool = False

    async def follow(self, access: Access, path: str, what: str, **selectors: str) -> None:
        """Keep it up to date, for ever; what goes wrong is told and tried again."""
        wait_seconds = 0.5
        while True:
            try:
                version = await self._list(access, path, what, selectors)
                wait_seconds = 0.5
                while True:
                    version = await self._watch(access, path, what, selectors, version)
                    # Something between may end every watch at once.
                    await asyncio.sleep(PAUSE_SECONDS)
            except ClusterError as error:
                self._tell(str(access.explain(error)))
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, MOST_WAIT_SECONDS)

    async def _list(
        self, access: Access, path: str, what: str, selectors: Mapping[str, str]
    ) -> str:
        query = f"?{urlencode(selectors)}" if selectors else ""
        answer = await call(access.api, "GET", path + query, what)
        try:
            items = {key_of(item): item for item in answer["items"]}
            version = str(answer["metadata"]["resourceVersion"])
        except (KeyError, TypeError) as error:
            raise ClusterError(f"the list of {what} is none") from error
        self.items = {}
        for key, item in items.items():
            self._put(key, item)
        self.is_listed, self.trouble = True, ""
        self.touch()
        return version

    async def _watch(
        self, access: Access, path: str, what: str, selectors: Mapping[str, str], version: str
    ) -> str:
        """One watch, until the server ends it; gives the version to go on from."""
        events = watch(access.api, path, what, resourceVersion=version, **selectors)
        async with aclosing(events):
            async for kind, item in events:
                version = str(item["metadata"]["resourceVersion"])
                if kind == "DELETED":
                    self.items.pop(key_of(item), None)
                elif kind in ("ADDED", "MODIFIED"):
                    self._put(key_of(item), item)
                self._tell("")
        return version

    def _put(self, key: Key, item: Live) -> None:
        self.items[key] = item
        self.take(key, item)

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble
        self.touch()


def key_of(item: Live) -> Key:
    return Key(item["metadata"]["namespace"], item["metadata"]["name"])


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

    def _take(self, key: Key, item: Live) -> None:
        self.curves.setdefault(key, Curves()).take(item.get("status") or {})
