"""A small API server and metrics source in memory, behind the operator's two ports.

The server keeps versions, generations and uids as the real one does; what it does not do is
tested on the real one, in tests/integration/operator.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

from prometheus_client import CollectorRegistry

from signalcanary import status as statuses
from signalcanary.cluster import Cluster, Conflict, Gone, Listed, Problem, Refused
from signalcanary.evaluate import Bound, Measurement, MetricsSeen
from signalcanary.metrics_source import Series, Target
from signalcanary.poller import Clock, Pace, Poller
from signalcanary.reconciler import Reconciler
from signalcanary.report_writer import Files, Limits, ReportWriter
from signalcanary.report_writer import World as Wits
from signalcanary.reports import Reports
from signalcanary.resources import APPLIED_HASH, LABEL_NAME
from signalcanary.store import Key, Kind, Live, Store
from signalcanary.subject import Settings, Subject, read
from signalcanary.telemetry import Health, OperatorMetrics

START = datetime(2026, 5, 1, tzinfo=UTC)
INTERVAL = timedelta(seconds=10)
HEALTHY = {
    "platt_ece": 0.04,
    "merge_time_diff_ms_p99": 400.0,
    "slice_auc_active_period": 0.61,
}
SETTINGS = Settings(workloads_image="workloads:1")


def _surely(value: float) -> Bound:
    return Bound(0.0005, value, value, value, value)


def spec_of(**changes: Any) -> dict[str, Any]:
    """A spec as it is on the wire, of one symbol and one short stage."""
    wire: dict[str, Any] = {
        "version": "v1",
        "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
        "stages": [{"name": "canary", "duration": "30m"}],
        # A breach that is timed, as those of the reports are.
        "rollback": {
            "conditions": [
                {"metric": "platt_ece", "above": 0.1, "for": "2m"},
                {"metric": "merge_time_diff_ms_p99", "above": 2000, "for": "5m"},
                {"metric": "slice_auc_active_period", "below": 0.55, "for": "10m"},
            ]
        },
    }
    return wire | changes


def copied(item: Any) -> Any:
    """A deep copy of what is all JSON, several times as fast as `copy` makes it."""
    return pickle.loads(pickle.dumps(item))


@dataclass
class FakeCluster:
    """Attributes:
    calls: every write that was tried, in order, as "verb Kind/name".
    before: called with each of these before it is done; may raise.
    """

    store: Store
    objects: dict[tuple[Kind, Key], dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    events: dict[tuple[str, ...], str] = field(default_factory=dict)
    before: Callable[[str], None] = lambda call: None
    is_watched: bool = True
    version: int = 0

    # ---------------------------------------------------------------- what others do

    def put(self, kind: Kind, name: str, namespace: str = "default", **parts: Any) -> Live:
        """Make or change an object, as anybody may."""
        key = (kind, Key(namespace, name))
        item = copied(self.objects.get(key)) or {
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{self.version}"}
        }
        metadata = {**item["metadata"], **parts.pop("metadata", {})}
        if "spec" in parts and parts["spec"] != item.get("spec"):
            metadata["generation"] = metadata.get("generation", 0) + 1
        return self._keep(kind, {**item, **parts, "metadata": metadata})

    def drop(self, kind: Kind, name: str, namespace: str = "default") -> None:
        item = self.objects.pop((kind, Key(namespace, name)))
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        if self.is_watched:
            self.store.remove(kind, item)

    def _keep(self, kind: Kind, item: dict[str, Any]) -> Live:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        key = Key(item["metadata"]["namespace"], item["metadata"]["name"])
        self.objects[kind, key] = item
        if self.is_watched:
            self.store.put(kind, copied(item))
        return copied(item)

    def names(self, kind: Kind) -> list[str]:
        return sorted(key.name for of_kind, key in self.objects if of_kind is kind)

    def get(self, kind: Kind, name: str, namespace: str = "default") -> dict[str, Any]:
        return self.objects[kind, Key(namespace, name)]

    def start_pods(self) -> None:
        """Every StatefulSet rolls out."""
        for kind, key in list(self.objects):
            if kind is Kind.STATEFUL_SET:
                replicas = self.objects[kind, key]["spec"]["replicas"]
                status = {"readyReplicas": replicas, "updatedReplicas": replicas}
                generation = self.objects[kind, key]["metadata"]["generation"]
                status["observedGeneration"] = generation
                if self.objects[kind, key].get("status") != status:
                    self.put(kind, key.name, key.namespace, status=status)

    # ---------------------------------------------------------------- the port

    def _call(self, text: str) -> None:
        self.calls.append(text)
        self.before(text)

    async def list_all(self, kind: Kind, namespace: str | None) -> Listed:
        self.before(f"list {kind}")
        items = [copied(i) for (k, key), i in self.objects.items() if k is kind]
        items = [i for i in items if namespace in (None, i["metadata"]["namespace"])]
        return Listed(items, str(self.version))

    async def list_labelled(self, kind: Kind, namespace: str, label: str, value: str) -> list[Live]:
        self.before(f"list {kind}")
        return [
            copied(i)
            for (k, key), i in self.objects.items()
            if (k, key.namespace) == (kind, namespace)
            and (i["metadata"].get("labels") or {}).get(label) == value
        ]

    async def list_metadata(self, kind: Kind, namespace: str | None, label: str) -> list[Live]:
        self.before(f"list metadata of {kind}")
        return [
            {"metadata": copied(i["metadata"])}
            for (k, key), i in self.objects.items()
            if k is kind
            and namespace in (None, key.namespace)
            and label in (i["metadata"].get("labels") or {})
        ]

    async def read_text(self, namespace: str, name: str, key: str) -> tuple[str, str] | None:
        self.before(f"read ConfigMap/{name}")
        found = self.objects.get((Kind.CONFIG_MAP, Key(namespace, name)))
        return (found["data"].get(key, ""), "") if found is not None else None

    async def write_status(self, item: Live, status: Mapping[str, Any]) -> Live:
        metadata = item["metadata"]
        self._call(f"status SignalCanary/{metadata['name']}")
        known = self.objects.get((Kind.SIGNAL_CANARY, Key(metadata["namespace"], metadata["name"])))
        if known is None:
            raise Gone(metadata["name"])
        if known["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise Conflict(metadata["name"])
        return self._keep(Kind.SIGNAL_CANARY, {**copied(known), "status": dict(status)})

    async def apply(self, manifest: Mapping[str, Any]) -> Live:
        kind, metadata = Kind(manifest["kind"]), manifest["metadata"]
        self._call(f"apply {kind}/{metadata['name']}")
        known = self.objects.get((kind, Key(metadata["namespace"], metadata["name"])))
        parts = {k: copied(v) for k, v in manifest.items() if k not in ("metadata", "kind")}
        if known is not None:
            same = known["metadata"].get("annotations", {}).get(APPLIED_HASH, "")
            is_same = same == metadata.get("annotations", {}).get(APPLIED_HASH)
            if is_same and parts.items() <= known.items():
                return copied(known)
            if known.get("immutable") and known.get("data") != parts.get("data"):
                raise Refused("data: field is immutable when `immutable` is set")
        return self.put(
            kind, metadata["name"], metadata["namespace"], metadata=dict(metadata), **parts
        )

    async def annotate(self, kind: Kind, item: Live, annotations: Mapping[str, str]) -> Live:
        metadata = item["metadata"]
        self._call(f"annotate {kind}/{metadata['name']}")
        known = self.objects.get((kind, Key(metadata["namespace"], metadata["name"])))
        if known is None:
            raise Gone(metadata["name"])
        if known["metadata"]["uid"] != metadata["uid"]:
            raise Refused("metadata.uid: field is immutable")
        all_of_it = {**known["metadata"].get("annotations", {}), **annotations}
        where = (metadata["name"], metadata["namespace"])
        return self.put(kind, *where, metadata={"annotations": all_of_it})

    async def set_images(self, pod: Live, images: Mapping[str, str]) -> Live:
        metadata = pod["metadata"]
        self._call(f"set images Pod/{metadata['name']}")
        spec = copied(self.get(Kind.POD, metadata["name"], metadata["namespace"])["spec"])
        for container in spec["containers"]:
            container["image"] = images.get(container["name"], container["image"])
        return self.put(Kind.POD, metadata["name"], metadata["namespace"], spec=spec)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        self._call(f"delete {kind}/{name}")
        known = self.objects.get((kind, Key(namespace, name)))
        if known is not None and known["metadata"]["uid"] == uid:
            self.drop(kind, name, namespace)

    async def emit(self, item: Live, transition: Any) -> None:
        self._call(f"event {transition.reason}")
        at, said = transition.time.isoformat(), transition.message
        self.events.setdefault((item["metadata"]["uid"], at, said), transition.reason)

    async def warn(self, item: Live, problem: Problem, at: datetime) -> None:
        self._call(f"event {problem.reason}")
        about = (item["metadata"]["uid"], problem.reason, problem.about)
        self.events.setdefault(about, problem.message)


@dataclass
class FakeSource:
    """Attributes:
    asked: the instants that were asked for, by the name of the canary; None is now.
    curves: what it has of the curves of a target as of an instant; may raise.
    history: what a query gave from one instant to another; may raise.
    """

    now: Callable[[], datetime]
    values: dict[str, float] = field(default_factory=lambda: dict(HEALTHY))
    asked: list[tuple[str, datetime | None]] = field(default_factory=list)
    fetches: int = 0
    answer: Callable[[Target, datetime | None, MetricsSeen], MetricsSeen] = lambda t, a, seen: seen
    curves: Callable[[Target, datetime], list[Series]] = lambda target, at: []
    history: Callable[[str, datetime, datetime], list[Any]] = lambda query, first, last: []

    async def fetch(
        self, targets: Sequence[Target], at: datetime | None = None
    ) -> Mapping[Target, MetricsSeen]:
        self.fetches += bool(targets)
        self.asked += [(target.name, at) for target in targets]
        return {t: self.answer(t, at, self._seen(t, at or self.now())) for t in targets}

    async def fetch_series(self, target: Target, query: str, at: datetime) -> list[Series]:
        return self.curves(target, at)

    async def fetch_history(
        self, target: Target, query: str, first: datetime, last: datetime, step: timedelta
    ) -> list[Any]:
        return self.history(query, first, last)

    def _seen(self, target: Target, at: datetime) -> MetricsSeen:
        return MetricsSeen(
            measurements={
                (metric, "BTCUSDT"): Measurement((value,), 5000, at, (_surely(value),))
                for metric, value in self.values.items()
                if metric in target.metrics
            },
            heartbeats={"BTCUSDT": at},
            warmup_ratio={"BTCUSDT": 1.0},
            revision=target.revision,
        )


class World:
    """The operator's loop on a clock of its own, and the cluster that it works on.

    Attributes:
        files: where reports are written as files; None for nowhere.
        limits: of that.
    """

    def __init__(self, pace: Pace | None = None, files: Files | None = None) -> None:
        self.files = files
        self.limits = Limits()
        self.seconds = 0.0
        self.store = Store()
        self.cluster = FakeCluster(self.store)
        self.source = FakeSource(self.now)
        self.pace = pace or Pace()
        self.restart()

    def restart(self) -> None:
        """A new process: whatever is only in memory is forgotten."""
        self.store = self.cluster.store = Store()
        self.metrics = OperatorMetrics(CollectorRegistry())
        self.health = Health(monotonic=self.monotonic)
        kube = cast(Cluster, self.cluster)
        self.writer = self.files and ReportWriter(
            self.files,
            kube,
            self.store,
            self.source,
            self.metrics,
            None,
            world=Wits(self.monotonic, Random(1)),
            limits=self.limits,
        )
        reports = Reports(kube, self.metrics, self.source, self.writer)
        self.reconciler = Reconciler(kube, self.store, SETTINGS, self.metrics, reports=reports)
        self.poller = Poller(
            self.store,
            kube,
            self.source,
            self.reconciler,
            SETTINGS,
            self.metrics,
            self.health,
            None,
            clock=Clock(self.now, self.monotonic),
            pace=self.pace,
        )

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def create(self, name: str = "demo", **changes: Any) -> None:
        self.cluster.put(Kind.SIGNAL_CANARY, name, spec=spec_of(**changes))

    def item(self, name: str = "demo") -> dict[str, Any]:
        return self.cluster.get(Kind.SIGNAL_CANARY, name)

    def status(self, name: str = "demo") -> dict[str, Any]:
        return cast(dict[str, Any], self.item(name).get("status", {}))

    def phase(self, name: str = "demo") -> str | None:
        return self.status(name).get("phase")

    def subject(self, name: str = "demo") -> Subject:
        return read(self.store.canaries()[Key("default", name)], SETTINGS)

    def counted(self, metric: str, **labels: str) -> float:
        name = f"signalcanary_{metric}"
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def rounds(self, count: int = 1, step: float = 0.2) -> None:
        for _ in range(count):
            self.seconds += step
            await self.poller.round()
            await asyncio.sleep(0)  # as between two rounds, for the looks that go on beside

    async def write(self) -> None:
        """Write the reports that are pending, until there are none or the storage fails."""
        assert self.writer is not None
        while self.writer.pause_seconds() == 0:
            await self.writer.step()

    async def settle(self) -> None:
        """Rounds until nothing changes any more, all within a moment."""
        for _ in range(30):
            before = len(self.cluster.calls)
            await self.rounds()
            self.cluster.start_pods()
            if len(self.cluster.calls) == before and not self.store.wakeup.is_set():
                return
        raise AssertionError(f"it never rests: {self.cluster.calls[-10:]}")

    async def promote(self, name: str = "demo") -> None:
        """Run the rollout to its end."""
        self.cluster.start_pods()
        for _ in range(400):
            await self.rounds(step=INTERVAL.total_seconds())
            self.cluster.start_pods()
            if self.phase(name) == "Succeeded":
                await self.settle()
                return
        raise AssertionError(f"not promoted: {self.status(name)}")

    def edit_status(self, name: str = "demo", **changes: Any) -> None:
        """What a tenant with too many rights may do."""
        self.cluster.put(Kind.SIGNAL_CANARY, name, status={**self.status(name), **changes})


def labelled(name: str, **labels: str) -> dict[str, Any]:
    return {"labels": {LABEL_NAME: name, **labels}}


def state_of(world: World) -> Any:
    return statuses.parse(world.status())
