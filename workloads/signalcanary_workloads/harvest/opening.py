"""Opens the symbols' folders when the process starts, for as long as the storage refuses.

A bucket that is away, or that nobody has made yet, is no reason to end: a process that ends is
started again at growing intervals, and between them nobody answers why. Here it waits, serves its
metrics, and says what is refused and what to do. What does not pass by itself (no such bucket, no
permission) is tried again as well, for a person may mend it. Nothing is received meanwhile: where
a symbol's rows go on is only known from its last manifest entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from threading import Lock
from typing import Final

from signalcanary_workloads.harvest.feed import full_jitter
from signalcanary_workloads.harvest.settings import Settings
from signalcanary_workloads.harvest.sink import CommitFailed, SymbolSink
from signalcanary_workloads.serving import Health
from signalcanary_workloads.store import Storage

log = logging.getLogger(__name__)

_PERMISSION: Final = "let this account write there, or mend its credentials"
REMEDIES: Final = {
    "NoSuchBucket": "make the bucket, or name another one",
    "InvalidBucketName": "name another one",
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccountProblem",
            "AllAccessDisabled",
            "EACCES",
            "EPERM",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidToken",
            "SignatureDoesNotMatch",
            "http_401",
            "http_403",
        ),
        _PERMISSION,
    ),
    "EROFS": "mount the volume writable",
    "corrupt_owner": "delete the object, if no other process writes here",
}
"""By the reason of a refusal that does not pass by itself: what a person can do."""


class Opening:
    """One process's folders. `close` lets go of those that were opened."""

    def __init__(
        self, storage: Storage, symbols: Sequence[str], settings: Settings, health: Health
    ) -> None:
        self.sinks: dict[str, SymbolSink] = {}
        self.refusals: dict[str, dict[str, int]] = {symbol: {} for symbol in symbols}
        """Tries that were refused, by symbol and reason."""
        self._storage = storage
        self._settings = settings
        self._health = health
        # A try runs in a thread that outlives a cancelled caller.
        self._trying = Lock()
        self._closed = False

    async def run(self, stop: asyncio.Event) -> bool:
        """Open them all; gives False if `stop` was set before that.

        Raises:
            SymbolLocked: another process writes a symbol.
            ResumeFailed: what was written of a symbol cannot be continued.
        """
        settings, attempt = self._settings, 0
        beating = asyncio.create_task(self._beat())
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                for symbol in [one for one in self.refusals if one not in self.sinks]:
                    try:
                        await asyncio.to_thread(self._open, symbol)
                    except CommitFailed as exc:
                        delay = full_jitter(
                            attempt,
                            settings.open_first_delay_seconds,
                            settings.open_max_delay_seconds,
                            settings.random,
                        )
                        attempt += 1
                        self._tell(symbol, exc, delay)
                        await asyncio.wait({stopped}, timeout=delay)
                        break
                else:
                    self._health.set_ready(False, "starting")
                    return True
            return False
        finally:
            for task in (beating, stopped):
                task.cancel()
            await asyncio.gather(beating, stopped, return_exceptions=True)

    def _open(self, symbol: str) -> None:
        with self._trying:
            if not self._closed:
                self.sinks[symbol] = SymbolSink(self._storage, symbol, self._settings.wall_ns)

    def _tell(self, symbol: str, exc: CommitFailed, delay: float) -> None:
        counts = self.refusals[symbol]
        counts[exc.reason] = counts.get(exc.reason, 0) + 1
        remedy = REMEDIES.get(exc.reason)
        what = f"{symbol} cannot be opened: {exc}"
        self._health.set_ready(False, f"{what}; {remedy}" if remedy else what)
        fields = {"symbol": symbol, "reason": exc.reason, "detail": str(exc), "retry_s": delay}
        if remedy is None:
            log.warning("the storage refuses; it is tried again", extra={"fields": fields})
        else:
            log.error(
                "the storage refuses until somebody mends it; it is tried again",
                extra={"fields": {**fields, "remedy": remedy}},
            )

    async def _beat(self) -> None:
        """Waiting is no hanging: each try has its limit of time."""
        while True:
            self._health.heartbeat()
            await asyncio.sleep(self._settings.tick_seconds)

    def close(self) -> None:
        """Let other processes write the symbols."""
        with self._trying:
            self._closed = True
            for sink in self.sinks.values():
                sink.close()
