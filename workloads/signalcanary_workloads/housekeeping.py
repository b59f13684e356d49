"""Runs the upkeep of old data beside the commits of a workload, and counts what it does.

It is never urgent: a pass that fails is counted, logged once, and made again a minute later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Final

from signalcanary.contract import WorkloadConfig

from .store import GRACE_SECONDS, Storage, StorageError, StoreError, Upkeep, UpkeepSettings

log = logging.getLogger(__name__)

UPKEEP_SECONDS: Final = 60.0
"""Between two looks for old data to be compacted or deleted; one listing a symbol each."""


@dataclass
class UpkeepCounts:
    """What upkeep did to one symbol's data in this process."""

    compacted: int = 0
    """Entries made one with others."""
    expired: int = 0
    """Entries deleted after their retention."""
    errors: dict[str, int] = field(default_factory=dict)
    """Passes that failed, by reason."""


class Housekeeping:
    """The old data of a process's symbols, one symbol at a time."""

    def __init__(
        self,
        storage: Storage,
        config: WorkloadConfig,
        counts: Mapping[str, UpkeepCounts],
        seconds: float = UPKEEP_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._counts = counts
        self._seconds = seconds
        self._ended = asyncio.Event()
        self._stop = Event()
        self._logged: dict[str, str] = {}
        self._collected: set[str] = set()
        rules = UpkeepSettings(
            compaction_ms=round(config.compaction_interval.total_seconds() * 1000),
            retention_ms=None
            if config.retention is None
            else round(config.retention.total_seconds() * 1000),
            grace_seconds=grace_seconds,
        )
        self._upkeeps = {
            symbol: Upkeep(storage, symbol, rules, clock, self._stop) for symbol in counts
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
        counts = self._counts[symbol]
        try:
            upkeep.run()
            self._logged.pop(symbol, None)
        except StoreError as exc:
            reason = exc.reason if isinstance(exc, StorageError) else type(exc).__name__
            counts.errors[reason] = counts.errors.get(reason, 0) + 1
            if self._logged.get(symbol) != reason:
                self._logged[symbol] = reason
                fields = {"symbol": symbol, "reason": reason, "detail": str(exc)}
                log.error(
                    "%s: old data is left as it is (%s)", symbol, exc, extra={"fields": fields}
                )
        if upkeep.collected and symbol not in self._collected:
            self._collected.add(symbol)
            log.info(
                "what a killed compaction had left is deleted",
                extra={"fields": {"symbol": symbol, "parts": upkeep.collected}},
            )
        counts.compacted = upkeep.compacted
        counts.expired = upkeep.expired
