"""Runs the upkeep of old data beside the commits, and counts what it does.

It is never urgent: a pass that fails is counted, logged once, and made again a minute later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from threading import Event

from signalcanary.contract import WorkloadConfig
from signalcanary_workloads.harvest.metrics import RuntimeCounts
from signalcanary_workloads.harvest.settings import Settings
from signalcanary_workloads.store import (
    Storage,
    StorageError,
    StoreError,
    Upkeep,
    UpkeepSettings,
)

log = logging.getLogger(__name__)


class Housekeeping:
    """The old data of a process's symbols, one symbol at a time."""

    def __init__(
        self,
        storage: Storage,
        config: WorkloadConfig,
        symbols: Iterable[str],
        counts: RuntimeCounts,
        settings: Settings,
    ) -> None:
        self._counts = counts
        self._seconds = settings.upkeep_seconds
        self._ended = asyncio.Event()
        self._stop = Event()
        self._logged: dict[str, str] = {}
        rules = UpkeepSettings(
            compaction_ms=round(config.compaction_interval.total_seconds() * 1000),
            retention_ms=None
            if config.retention is None
            else round(config.retention.total_seconds() * 1000),
            grace_seconds=settings.upkeep_grace_seconds,
        )
        self._upkeeps = {
            symbol: Upkeep(storage, symbol, rules, settings.monotonic, self._stop)
            for symbol in symbols
        }

    async def run(self) -> None:
        """Make passes until `end` is called. It must not be cancelled: a thread would go on."""
        while not self._ended.is_set():
            for symbol, upkeep in self._upkeeps.items():
                await asyncio.to_thread(self._pass, symbol, upkeep)
            try:
                async with asyncio.timeout(self._seconds):
                    await self._ended.wait()
            except TimeoutError:
                continue

    def end(self) -> None:
        """Let the pass that is under way stop where it may."""
        self._stop.set()
        self._ended.set()

    def _pass(self, symbol: str, upkeep: Upkeep) -> None:
        counts = self._counts.symbols[symbol]
        try:
            upkeep.run()
            self._logged.pop(symbol, None)
        except StoreError as exc:
            reason = exc.reason if isinstance(exc, StorageError) else type(exc).__name__
            counts.upkeep_errors[reason] = counts.upkeep_errors.get(reason, 0) + 1
            if self._logged.get(symbol) != reason:
                self._logged[symbol] = reason
                fields = {"symbol": symbol, "reason": reason, "detail": str(exc)}
                log.error("old data is left as it is", extra={"fields": fields})
        counts.entries_compacted = upkeep.compacted
        counts.entries_expired = upkeep.expired
