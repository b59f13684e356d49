"""Keeps the outbox on record, so that another process can go on where this one ended.

Written a short while after a change, so that one write tells of the taking in and of the
delivery. A server that fails is tried again, and holds up no message: what was told and is not
on record yet is told again if the process dies before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from signalcanary.cluster import Cluster, ClusterError, Conflict
from signalcanary.notify.outbox import Outbox, read_record
from signalcanary.notify.record import UnreadableRecord

logger = logging.getLogger(__name__)

LOOK_BACK_BLINDLY: Final = timedelta(hours=24)
"""Of the histories, where the record cannot be read: told twice rather than not at all."""

FAREWELL_SECONDS: Final = 1.5
"""That the last record may take, while the Lease is held."""


class Records(Protocol):
    """Keeps one text under optimistic concurrency."""

    async def read(self) -> tuple[str, str] | None:
        """The text and its version; None if there is none.

        Raises:
            ClusterError: nobody knows.
        """

    async def write(self, text: str, version: str | None) -> str:
        """Replace the text of that version; returns the new version.

        Raises:
            Conflict: it is another version by now.
            ClusterError: it was not written, or nobody knows.
        """


@dataclass(frozen=True)
class ConfigMapRecords:
    """A ConfigMap of the operator's namespace."""

    cluster: Cluster
    namespace: str
    name: str

    async def read(self) -> tuple[str, str] | None:
        return await self.cluster.read_text(self.namespace, self.name, "outbox.json")

    async def write(self, text: str, version: str | None) -> str:
        return await self.cluster.write_text(
            self.namespace, self.name, "outbox.json", text, version
        )


class Keeper:
    """Reads the record once, and writes it when the outbox has changed.

    Attributes:
        outbox: None until it is known what was told before.
        due: by the monotonic clock, when something is to be done; None if nothing is.
        task: the write that is under way.
    """

    def __init__(
        self,
        records: Records,
        started: datetime,
        delay_seconds: float,
        pause: Callable[[int], float],
        count: Callable[[Exception], None],
    ) -> None:
        """
        Args:
            started: from when on transitions are told, if there is no record.
            delay_seconds: from a change to its record.
            pause: seconds to wait after so many failures.
        """
        self._records = records
        self._started = started
        self._delay = delay_seconds
        self._pause = pause
        self._count = count
        self._version: str | None = None
        self._failures = 0
        self._complaint: str | None = None
        self.outbox: Outbox | None = None
        self.due: float | None = None
        self.task: asyncio.Task[None] | None = None

    async def load(self, monotonic: float) -> Outbox | None:
        """The outbox, as far as it can be known by now."""
        if self.outbox is not None or (self.due is not None and monotonic < self.due):
            return self.outbox
        try:
            found = await self._records.read()
            if found is None:
                # From now on a process that dies is missed: the next one looks back to here.
                first = Outbox(since=self._started).to_record()
                found = first, await self._records.write(first, None)
        except ClusterError as error:
            self._failed(error, monotonic)
            return None
        self._succeeded()
        text, self._version = found
        try:
            self.outbox = read_record(text)
        except UnreadableRecord as error:
            self._count(error)
            since = self._started - LOOK_BACK_BLINDLY
            logger.error(
                "notifications: the record of what was told cannot be read (%s); what happened "
                "since %s is told again",
                error,
                since.isoformat(timespec="seconds"),
            )
            self.outbox = Outbox(since=since)
        return self.outbox

    def keep(self, monotonic: float, then: Callable[[], None]) -> None:
        """Write the record, if that is due; does not wait for it.

        Args:
            then: called when it is written, or has failed.
        """
        if self.outbox is None or not self.outbox.is_dirty or self.task is not None:
            return
        if self.due is None:
            self.due = monotonic + self._delay
        if monotonic >= self.due:
            self.task = asyncio.create_task(self._keep(self.outbox, monotonic, then))

    async def _keep(self, outbox: Outbox, monotonic: float, then: Callable[[], None]) -> None:
        try:
            await self._write(outbox)
            self._succeeded()
        except ClusterError as error:
            self._failed(error, monotonic)
        except Exception as error:
            logger.exception("notifications: the record could not be written")
            self._failed(error, monotonic)
        finally:
            self.task = None
            then()

    async def _write(self, outbox: Outbox) -> None:
        outbox.is_dirty = False  # what changes while it is written is written next
        try:
            try:
                self._version = await self._records.write(outbox.to_record(), self._version)
            except Conflict:
                # A leader before this one has written last, or somebody by hand.
                await self._take_over(outbox)
                self._version = await self._records.write(outbox.to_record(), self._version)
        except BaseException:
            outbox.is_dirty = True
            raise

    async def _take_over(self, outbox: Outbox) -> None:
        found = await self._records.read()
        if found is None:
            self._version = None
            return
        text, self._version = found
        try:
            outbox.absorb(text)
        except UnreadableRecord as error:
            self._count(error)
            logger.error("notifications: the record was changed to what is none: %s", error)

    async def end(self) -> None:
        """Put on record what was told last."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})
        if self.outbox is None or not self.outbox.is_dirty:
            return
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._write(self.outbox)
        except (ClusterError, TimeoutError) as error:
            logger.warning("notifications: what was told last may be told again: %s", error)

    def _succeeded(self) -> None:
        self._failures, self.due, self._complaint = 0, None, None

    def _failed(self, error: Exception, monotonic: float) -> None:
        self._count(error)
        self._failures += 1
        self.due = monotonic + self._pause(self._failures)
        if self._complaint != str(error):
            logger.error("notifications: their record fails, and is tried again: %s", error)
        self._complaint = str(error)
