"""When rows are committed, and what happens while they cannot be.

A volume or bucket may be full, read-only or away for hours. Rows of the book cannot be had
again, so a cut that is refused is held and tried again for as long as the process lives;
ending it would lose what it holds. Memory is the bound: once that many bytes wait, reading
stops, the exchange's sockets fill up, and what it drops then is a gap or is fetched afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from signalcanary_workloads.harvest.metrics import RuntimeCounts
from signalcanary_workloads.harvest.pipeline import Cut, SymbolPipeline
from signalcanary_workloads.harvest.settings import Settings
from signalcanary_workloads.harvest.sink import CommitFailed, SymbolSink

log = logging.getLogger(__name__)


class Commits:
    """Takes cuts from the pipelines to their sinks."""

    def __init__(
        self,
        sinks: Mapping[str, SymbolSink],
        pipelines: Mapping[str, SymbolPipeline],
        counts: RuntimeCounts,
        interval_seconds: float,
        settings: Settings,
    ) -> None:
        self._sinks = sinks
        self._pipelines = pipelines
        self._counts = counts
        self._interval_seconds = interval_seconds
        self._settings = settings
        self._held: dict[str, Cut] = {}
        self._now = asyncio.Event()
        self._passed = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        """Memory of all rows that are not committed."""
        return sum(pipeline.nbytes for pipeline in self._pipelines.values()) + sum(
            cut.nbytes for cut in self._held.values()
        )

    async def run(self) -> None:
        """Commit at every interval, or sooner if asked to, until `finish` is called.

        It must not be cancelled before: a commit in its thread would go on, and be repeated.

        Raises:
            SymbolLocked: another process writes a symbol.
        """
        while not self._stopping.is_set():
            await self._wait_for(self._now, self._interval_seconds)
            self._now.clear()
            await self._commit_all()
            self._passed.set()
            while self._held and not self._stopping.is_set():
                await self._wait_for(self._stopping, self._settings.commit_retry_seconds)
                await self._commit_all()
                self._passed.set()

    async def finish(self, running: asyncio.Task[None]) -> str | None:
        """End `running`, then commit everything; says what stands against it, if it is not done
        within `last_commit_seconds`.
        """
        self._stopping.set()
        self._now.set()
        problem: str | None = "the volume or bucket does not answer"
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.last_commit_seconds):
                await running
                problem = await self._commit_all()
                while problem is not None:
                    await asyncio.sleep(self._settings.commit_retry_seconds)
                    problem = await self._commit_all()
        return problem

    async def mind_memory(self, heartbeat: Callable[[], None]) -> None:
        """Wait while too much is waiting to be committed; `heartbeat` is called meanwhile."""
        most = max(pipeline.nbytes for pipeline in self._pipelines.values())
        if most >= self._settings.commit_bytes:
            self._now.set()
        if self.waiting_bytes < self._settings.stop_reading_bytes:
            return
        log.warning("reading stops", extra={"fields": {"uncommitted_bytes": self.waiting_bytes}})
        self._counts.reading_stopped = True
        while self.waiting_bytes >= self._settings.stop_reading_bytes:
            heartbeat()
            self._passed.clear()
            self._now.set()
            await self._wait_for(self._passed, self._settings.tick_seconds)
        self._counts.reading_stopped = False
        log.warning("reading goes on")

    @staticmethod
    async def _wait_for(event: asyncio.Event, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    async def _commit_all(self) -> str | None:
        """Try each symbol once; the last refusal, if there was one."""
        problem = None
        for symbol, pipeline in self._pipelines.items():
            cut = self._held.get(symbol) or pipeline.cut()
            if cut is not None:
                self._held[symbol] = cut
                problem = await self._commit(symbol, cut) or problem
        return problem

    async def _commit(self, symbol: str, cut: Cut) -> str | None:
        counts = self._counts.symbols[symbol]
        counts.held_bytes = cut.nbytes
        try:
            entry = await asyncio.to_thread(self._sinks[symbol].commit, cut)
        except CommitFailed as exc:
            counts.commit_errors[exc.reason] = counts.commit_errors.get(exc.reason, 0) + 1
            if not counts.commit_refused:
                fields = {"symbol": symbol, "reason": exc.reason, "detail": str(exc)}
                log.error("commit failed, rows are kept", extra={"fields": fields})
            counts.commit_refused = True
            return f"{symbol}: {exc}"
        del self._held[symbol]
        counts.held_bytes = 0
        if counts.commit_refused:
            log.warning("commits succeed again", extra={"fields": {"symbol": symbol}})
        counts.commit_refused = False
        counts.commits += 1
        counts.last_commit_seconds = entry.committed_ns / 1e9
        for part in entry.parts:
            counts.rows[part.kind] = counts.rows.get(part.kind, 0) + part.rows
        return None
