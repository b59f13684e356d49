"""One loop for all canaries: who is due, one read of the metrics for all of them, then a look
at each.

The loop is supervised by its caller: what escapes it ends the process, and liveness is the age
of its last round. A failed look at one SignalCanary is counted, logged and tried again; one that
takes long goes on beside the next rounds. Neither keeps the others from theirs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from signalcanary.cluster import Cluster, ClusterError, Conflict, Gone, Problem, Refused
from signalcanary.evaluate import MetricsSeen, SourceFailure
from signalcanary.metrics_source import MetricsSource
from signalcanary.reconciler import ActionsRefused, Reconciler
from signalcanary.rollout import Phase
from signalcanary.store import Key, Kind, Live, Store
from signalcanary.subject import InvalidObject, Settings, Subject, describe, read
from signalcanary.telemetry import Health, OperatorMetrics

logger = logging.getLogger(__name__)

MAX_MISSED_LOOKS = 120
"""Looks that a restart makes up for; longer gaps are made up for at a coarser step."""

_CONCURRENT_LOOKS = 32

NO_HISTORY = SourceFailure("NoHistory", "the metrics source says nothing of that time")


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """What time it is, and how much has passed."""

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Pace:
    """How fast the loop goes. Unit of everything: seconds.

    Attributes:
        resync: between full lists, in case a watch has lost a deletion.
        shortest_pause: between two rounds: a burst of events makes one round, not many.
        rest: between looks at a SignalCanary at rest whose objects do not change.
        round: longest that a round waits for its looks; those that take longer go on beside.
        look: longest that a look may take.
        catching_up: longest that a round asks for the past; the rest counts as not seen.
    """

    resync: float = 300.0
    shortest_pause: float = 0.2
    rest: float = 30.0
    round: float = 5.0
    look: float = 60.0
    catching_up: float = 10.0


@dataclass
class _Memory:
    """What is known of one SignalCanary from look to look, by this process."""

    uid: str
    due: float = 0.0
    looked_at: datetime | None = None
    complaint: str | None = None
    is_invalid: bool = False
    is_changed: bool = True
    look: asyncio.Task[None] | None = None


class Poller:
    """Decides when to look at which SignalCanary."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        source: MetricsSource,
        reconciler: Reconciler,
        settings: Settings,
        metrics: OperatorMetrics,
        health: Health,
        namespace: str | None,
        *,
        clock: Clock = Clock(),
        pace: Pace = Pace(),
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._source = source
        self._reconciler = reconciler
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._namespace = namespace
        self._clock = clock
        self._pace = pace
        self._memory: dict[Key, _Memory] = {}
        self._places = asyncio.Semaphore(_CONCURRENT_LOOKS)

    async def run(self) -> None:
        """Run for ever; returns only by an exception."""
        try:
            # On half a picture pods would seem to be gone that are only not listed yet.
            is_complete = await self.resync()
            while not is_complete:
                await asyncio.sleep(self._pace.shortest_pause * 10)
                is_complete = await self.resync()
            last_resync = self._clock.monotonic()
            while True:
                if self._clock.monotonic() - last_resync >= self._pace.resync:
                    await self.resync()
                    last_resync = self._clock.monotonic()
                with self._metrics.round_seconds.time():
                    await self.round()
                self._health.round_completed()
                self._metrics.last_round.set_to_current_time()
                await asyncio.sleep(self._pace.shortest_pause)
                await self._wait()
        finally:
            looks = [memory.look for memory in self._memory.values() if memory.look]
            for look in looks:
                look.cancel()
            await asyncio.gather(*looks, return_exceptions=True)

    async def _wait(self) -> None:
        """Sleep until the next look is due or something has changed."""
        try:
            async with asyncio.timeout(self.pause_seconds()):
                await self._store.wakeup.wait()
        except TimeoutError:
            return

    def pause_seconds(self) -> float:
        """How long nothing is due, if nothing changes."""
        memories = self._memory.values()
        longest = 1.0 if any(m.look for m in memories) or not memories else 5.0
        next_due = min((m.due for m in memories if m.look is None), default=float("inf"))
        return min(max(0.0, next_due - self._clock.monotonic()), longest)

    async def resync(self) -> bool:
        """List everything anew; whether all of it could be listed."""
        is_complete = True
        for kind in Kind:
            try:
                listed = await self._cluster.list_all(kind, self._namespace)
            except ClusterError as error:
                self._count(error)
                logger.warning("resync of %s failed, tried again: %s", kind.value, error)
                is_complete = False
            else:
                self._store.replace(kind, listed.items, listed.version)
        return is_complete

    async def round(self) -> None:
        """Look at every SignalCanary that is due or has changed."""
        canaries = self._store.canaries()
        self._count_phases(canaries)
        self._remember(canaries)
        subjects = []
        for key, item in canaries.items():
            memory = self._memory[key]
            is_due = memory.is_changed or memory.due <= self._clock.monotonic()
            if memory.look is None and is_due:
                memory.is_changed = False
                # What ends no look otherwise, such as an object on its way out, is at rest.
                memory.due = self._clock.monotonic() + self._pace.rest
                if not item["metadata"].get("deletionTimestamp"):
                    subject = await self._read(item, memory)
                    subjects += [subject] if subject else []
        self._metrics.invalid.set(sum(m.is_invalid for m in self._memory.values()))
        if not subjects:
            return
        seen = await self._read_metrics(subjects)
        at = self._now()
        catch_up_until = self._clock.monotonic() + self._pace.catching_up
        looks = []
        for subject in subjects:
            memory = self._memory[subject.key]
            of_subject = seen.get(subject.key, MetricsSeen())
            memory.look = asyncio.create_task(
                self._look(subject, memory, (at, of_subject), catch_up_until)
            )
            looks.append(memory.look)
        await asyncio.wait(looks, timeout=self._pace.round)

    def _remember(self, canaries: Mapping[Key, Live]) -> None:
        """Bring the memory in step with what there is."""
        changed = self._store.take_changed()
        for key, memory in list(self._memory.items()):
            if key not in canaries or canaries[key]["metadata"]["uid"] != memory.uid:
                if memory.look is not None:
                    memory.look.cancel()
                self._reconciler.forget(memory.uid)
                del self._memory[key]
        for key, item in canaries.items():
            memory = self._memory.setdefault(key, _Memory(item["metadata"]["uid"]))
            memory.is_changed |= key in changed

    async def _read(self, item: Live, memory: _Memory) -> Subject | None:
        try:
            subject = read(item, self._settings)
        except Exception as error:  # noqa: BLE001 - whatever it holds, it stops no other
            memory.is_invalid = True
            await self._complain(item, memory, error)
            return None
        memory.is_invalid = False
        return subject

    async def _read_metrics(self, subjects: Sequence[Subject]) -> dict[Key, MetricsSeen]:
        targets = {s.key: t for s in subjects if (t := s.metrics_target()) is not None}
        try:
            seen = await self._source.fetch(list(targets.values()))
        except Exception as error:
            self._count(error)
            logger.exception("the metrics could not be read")
            failure = SourceFailure(type(error).__name__, str(error))
            seen = {target: MetricsSeen(failure=failure) for target in targets.values()}
        for metrics in seen.values():
            if metrics.failure is not None:
                self._metrics.source_failures.labels(metrics.failure.reason).inc()
        return {key: seen[target] for key, target in targets.items()}

    async def _look(
        self,
        subject: Subject,
        memory: _Memory,
        look: tuple[datetime, MetricsSeen],
        catch_up_until: float,
    ) -> None:
        pause = subject.spec.evaluation.interval.total_seconds()
        try:
            async with self._places, asyncio.timeout(self._pace.look):
                looks = [*await self._missed(subject, memory, look[0], catch_up_until), look]
                previous = memory.looked_at or subject.evaluated_at
                outcome = await self._reconciler.persist(subject, looks, previous)
                # Seen is seen: that an action fails must not stop the clock of a breach.
                memory.looked_at = look[0]
                await self._reconciler.act(outcome)
            memory.complaint = None
            if outcome.state.phase != subject.state.phase:
                pause = 0.0  # the next phase may have something to do at once
            elif subject.metrics_target() is None and outcome.state.phase is not Phase.WAITING:
                pause = self._pace.rest
        except Conflict:
            # The watch brings the object as it is now, and with it the next look.
            self._metrics.conflicts.inc()
        except Gone:
            self._store.remove(Kind.SIGNAL_CANARY, subject.item)
        except TimeoutError:
            error = ClusterError(f"a look took longer than {self._pace.look:g} s, and was ended")
            await self._complain(subject.item, memory, error)
        except Exception as error:  # noqa: BLE001 - a look that fails stops no other
            await self._complain(subject.item, memory, error)
        finally:
            memory.due = self._clock.monotonic() + pause
            memory.look = None

    async def _complain(self, item: Live, memory: _Memory, error: Exception) -> None:
        """Say what is wrong, once: to the log and, if it is the object, to its user."""
        self._count(error)
        for problem in _problems(error):
            await self._reconciler.warn(item, problem, self._now())
        if memory.complaint == describe(error):
            return
        memory.complaint = describe(error)
        name = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        if isinstance(error, ClusterError | InvalidObject):
            logger.error("%s: %s", name, describe(error))
        else:
            logger.error("%s: the look failed", name, exc_info=error)

    async def _missed(
        self, subject: Subject, memory: _Memory, at: datetime, until: float
    ) -> list[tuple[datetime, MetricsSeen]]:
        """The looks that nobody took while no operator ran, with what the metrics source says
        of those instants: a breach that went on all the while has lost no time, and one that
        ended meanwhile is not carried over. What cannot be asked was not seen."""
        target, last = subject.metrics_target(), subject.evaluated_at
        if memory.looked_at is not None or target is None or last is None:
            return []
        if subject.item["metadata"].get("generation") != subject.state.observed_generation:
            # The spec was edited meanwhile: what it declares has not run then, and the time in
            # which it could not run is not held against it.
            return []
        interval = subject.spec.evaluation.interval
        gap = at - last
        step = max(interval, gap / MAX_MISSED_LOOKS)
        looks = []
        for instant in (last + step * n for n in range(1, int(gap / step))):
            if self._clock.monotonic() > until:
                break
            seen = (await self._source.fetch([target], instant))[target]
            if seen.failure is not None:
                break
            if not seen.heartbeats:
                # The source may simply not reach back so far: that is no silence of the canary.
                seen = MetricsSeen(failure=NO_HISTORY)
            looks.append((_truncate(instant), seen))
        if looks:
            logger.info(
                "%s/%s: made up for %d missed looks since %s",
                subject.key.namespace,
                subject.key.name,
                len(looks),
                last.isoformat(),
            )
        return looks

    def _count_phases(self, canaries: Mapping[Key, Live]) -> None:
        counts: dict[str, int] = {}
        for item in canaries.values():
            phase = (item.get("status") or {}).get("phase", "Pending")
            counts[phase] = counts.get(phase, 0) + 1
        self._metrics.objects.clear()
        for phase, count in counts.items():
            self._metrics.objects.labels(phase).set(count)

    def _count(self, error: Exception) -> None:
        self._metrics.errors.labels(type(error).__name__).inc()

    def _now(self) -> datetime:
        return _truncate(self._clock.now())


def _problems(error: Exception) -> Sequence[Problem]:
    """What of an error is worth telling the object's user."""
    if isinstance(error, ActionsRefused):
        return error.problems
    if isinstance(error, Refused | InvalidObject):
        return (Problem(type(error).__name__, "", str(error)),)
    if isinstance(error, ClusterError):
        return ()  # the cluster is ill, not the object
    return (Problem("LookFailed", type(error).__name__, describe(error)),)


def _truncate(at: datetime) -> datetime:
    """To whole milliseconds, which is what status can hold."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
