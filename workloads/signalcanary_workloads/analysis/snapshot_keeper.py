"""Keeps a symbol's snapshot beside its data, so that a restart need not replay its history.

There is one, at ``state/analysis/symbol=…/snapshot.msgpack``, replaced as a whole every few
minutes and at a clean end. It only saves time: whatever is wrong with it, or with writing it,
is counted and logged once, and history is replayed. What it is taken of is copied between two
steps (milliseconds); compressing and writing it has a thread of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Thread
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from signalcanary.contract import WorkloadConfig

from ..labels import OF_SYMBOL, common_values
from ..store import NotFound, Storage, StorageError, has_entry
from .engine import Engine, EngineConfig, Models
from .snapshot import Ignored, Snapshot, UnusableSnapshot, decode, encode

logger = logging.getLogger(__name__)

SNAPSHOT_SECONDS: Final = 300.0
"""Wall time between two snapshots: the most that a restart has to replay."""
UNEXPECTED: Final = "unexpected"


class SnapshotMetrics:
    """What becomes of snapshots, for Prometheus."""

    def __init__(
        self, registry: CollectorRegistry, config: WorkloadConfig, symbols: Iterable[str]
    ) -> None:
        self._base = common_values(config)
        self._ignored = Counter(
            "analysis_snapshots_ignored",
            "Snapshots not gone on from: history was replayed.",
            [*OF_SYMBOL, "reason"],
            registry=registry,
        )
        self._resumed = Counter(
            "analysis_snapshots_resumed",
            "Snapshots gone on from.",
            OF_SYMBOL,
            registry=registry,
        )
        self._failed = Counter(
            "analysis_snapshot_write_errors",
            "Snapshots that could not be written.",
            [*OF_SYMBOL, "reason"],
            registry=registry,
        )
        self._bytes = Gauge(
            "analysis_snapshot_bytes", "Size of the last snapshot.", OF_SYMBOL, registry=registry
        )
        self._seconds = Histogram(
            "analysis_snapshot_write_seconds",
            "Time to compress and write a snapshot, beside the analysis.",
            OF_SYMBOL,
            registry=registry,
        )
        for symbol in symbols:
            labels = (*self._base, symbol)
            self._resumed.labels(*labels)
            self._seconds.labels(*labels)
            for reason in Ignored:
                self._ignored.labels(*labels, reason)

    def count_ignored(self, symbol: str, reason: Ignored) -> None:
        self._ignored.labels(*self._base, symbol, reason).inc()

    def count_resumed(self, symbol: str) -> None:
        self._resumed.labels(*self._base, symbol).inc()

    def count_failed(self, symbol: str, reason: str) -> None:
        self._failed.labels(*self._base, symbol, reason).inc()

    def count_written(self, symbol: str, size: int, seconds: float) -> None:
        self._bytes.labels(*self._base, symbol).set(size)
        self._seconds.labels(*self._base, symbol).observe(seconds)


@dataclass(frozen=True, eq=False)
class Resumed:
    """An engine that has all entries before `snapshot.next_seq`."""

    engine: Engine
    snapshot: Snapshot


class SnapshotKeeper:
    """The snapshot of one symbol. For whoever holds the lease of its signals; one thread."""

    def __init__(
        self,
        storage: Storage,
        symbol: str,
        config: EngineConfig,
        metrics: SnapshotMetrics,
        monotonic: Callable[[], float],
        every_seconds: float = SNAPSHOT_SECONDS,
        models: Models | None = None,
    ) -> None:
        self._models = models
        self.key = f"state/analysis/symbol={symbol}/snapshot.msgpack"
        self._storage = storage
        self._symbol = symbol
        self._config = config
        self._metrics = metrics
        self._monotonic = monotonic
        self._every_seconds = every_seconds
        self._due_at = monotonic() + every_seconds
        self._taken_seq = 0
        self._thread: Thread | None = None
        self._problem: str | None = None
        """Of the last try to write; None if it was well."""

    def load(self, recorded_ms: int | None) -> Resumed | None:
        """Go on from the snapshot, if there is a usable one; None if history is to be replayed.

        Args:
            recorded_ms: event time that the record of signals reaches.

        Raises:
            StoreError: the manifest cannot be read.
        """
        try:
            data = self._storage.read(self.key)
        except NotFound:
            return None
        except StorageError as exc:
            self._ignore(Ignored.UNREADABLE, str(exc))
            return None
        try:
            resumed = self._resume(data)
            self._check_place(resumed, recorded_ms)
        except UnusableSnapshot as exc:
            self._ignore(exc.reason, str(exc))
            return None
        self._taken_seq = resumed.snapshot.next_seq
        self._metrics.count_resumed(self._symbol)
        logger.info("%s: goes on at entry %d, from a snapshot", self._symbol, self._taken_seq)
        return resumed

    def _resume(self, data: bytes) -> Resumed:
        snapshot = decode(data, self._config)
        engine = Engine(self._config, models=self._models)
        try:
            engine.import_state(snapshot.engine)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as exc:
            raise UnusableSnapshot(Ignored.CORRUPT, f"no state of an engine: {exc!r}") from exc
        return Resumed(engine, snapshot)

    def _check_place(self, resumed: Resumed, recorded_ms: int | None) -> None:
        snapshot, last_ms = resumed.snapshot, resumed.engine.last_ts_ms
        seq = snapshot.next_seq - 1
        if not has_entry(self._storage, self._symbol, seq, snapshot.committed_ns):
            raise UnusableSnapshot(Ignored.OTHER_HISTORY, f"entry {seq} is not the one it was")
        if last_ms is not None and (recorded_ms is None or recorded_ms < last_ms):
            raise UnusableSnapshot(
                Ignored.UNRECORDED, f"at {last_ms}, while signals are on record to {recorded_ms}"
            )

    def _ignore(self, reason: Ignored, detail: str) -> None:
        self._metrics.count_ignored(self._symbol, reason)
        logger.warning(
            "%s: %s is ignored (%s): %s; history is replayed",
            self._symbol,
            self.key,
            reason,
            detail,
        )

    def is_due(self, next_seq: int) -> bool:
        """Has enough time passed, is anything new, and is the last one written?"""
        if self._monotonic() < self._due_at or not self.has_news(next_seq):
            return False
        return self._thread is None or not self._thread.is_alive()

    def has_news(self, next_seq: int) -> bool:
        """Would a snapshot taken before this entry say more than the last one?"""
        return next_seq > self._taken_seq

    def save(self, snapshot: Snapshot) -> None:
        """Begin to write a snapshot; it is written after the one before."""
        self._due_at = self._monotonic() + self._every_seconds
        self._taken_seq = snapshot.next_seq
        # A daemon: a bucket that does not answer must not keep the process from ending.
        self._thread = Thread(target=self._write, args=(snapshot, self._thread), daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until what was begun is written, at most so long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _write(self, snapshot: Snapshot, before: Thread | None) -> None:
        if before is not None:
            before.join()
        begun = time.perf_counter()
        try:
            data = encode(snapshot, self._config)
            self._storage.put(self.key, data)
        except StorageError as exc:
            self._fail(exc.reason, str(exc))
        except Exception as exc:  # noqa: BLE001 - in this thread nobody else hears of it
            self._fail(UNEXPECTED, repr(exc))
        else:
            self._problem = None
            seconds = time.perf_counter() - begun
            self._metrics.count_written(self._symbol, len(data), seconds)

    def _fail(self, reason: str, detail: str) -> None:
        self._metrics.count_failed(self._symbol, reason)
        if self._problem != reason:
            self._problem = reason
            logger.error("%s: no snapshot is written (%s): %s", self._symbol, reason, detail)
