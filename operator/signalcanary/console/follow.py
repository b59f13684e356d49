"""What the API server tells of objects, kept up to date by watches.

A watch that ends is taken up where it ended; where that is too long ago (410), or where the server
was gone, all is listed anew, so that nothing that was deleted meanwhile is still shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from signalcanary.apiserver import ClusterError, call, watch
from signalcanary.console.access import Access
from signalcanary.store import Key, Live

MOST_WAIT_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.5


@dataclass
class Followed:
    """The objects of one list, by namespace and name.

    Attributes:
        touch: called when something has changed.
        take: called with each object, as it is found and whenever it has changed.
        hopeless: errors that end it; after others it is tried again.
        trouble: why what is known may be old; empty if it is not.
        is_listed: whether all were seen at least once.
    """

    touch: Callable[[], None]
    take: Callable[[Live], None] = lambda item: None
    hopeless: tuple[type[ClusterError], ...] = ()
    items: dict[Key, Live] = field(default_factory=dict)
    trouble: str = ""
    is_listed: bool = False

    async def follow(self, access: Access, path: str, what: str, **selectors: str) -> None:
        """Keep it up to date, for ever; what goes wrong is told and tried again.

        Raises:
            AccessError: there is no hope.
        """
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
                if isinstance(error, self.hopeless):
                    raise access.explain(error) from error
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
        for item in items.values():
            self._put(item)
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
                    self._put(item)
                self._tell("")
        return version

    def _put(self, item: Live) -> None:
        self.items[key_of(item)] = item
        self.take(item)

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble
        self.touch()


def key_of(item: Live) -> Key:
    return Key(item["metadata"]["namespace"], item["metadata"]["name"])
