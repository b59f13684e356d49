"""The task that writes reports as files, beside the poller (design 012).

What is pending is what the ConfigMaps say: one without the annotation `REPORT_URL` of the present
root is still to be written. They are listed at the start, and whatever is kept from then on is
handed over by `add`, which neither waits nor fails. All else happens in here: one report at a time,
and one that fails is tried again after all others.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from pydantic import ValidationError

from signalcanary.api import SignalCanarySpec
from signalcanary.cluster import Cluster, ClusterError, Gone
from signalcanary.metrics_source import HistorySource, MetricsSourceError, build_target
from signalcanary.report import (
    ENDED,
    HTML_FILE,
    JSON_FILE,
    LABEL_REPORT,
    MARKDOWN_FILE,
    REPORT_URL,
    Report,
    render_markdown,
)
from signalcanary.report_files import FilesError, FilesUnreachable
from signalcanary.report_history import (
    Curve,
    bound_query,
    choose_rows,
    choose_step,
    draw_history,
    read_curve,
)
from signalcanary.report_page import render_page
from signalcanary.reports import Links
from signalcanary.store import Key, Kind, Live, Store
from signalcanary.telemetry import OperatorMetrics

logger = logging.getLogger(__name__)


class Files(Protocol):
    """See `report_files`."""

    def url(self, key: str) -> str: ...

    async def put_once(self, key: str, data: bytes, content_type: str) -> bool: ...


@dataclass(frozen=True)
class Limits:
    """How long, and how many. Unit of times: seconds.

    Attributes:
        history: longest that the metrics over time are waited for, of one report.
        attempt: longest that an attempt takes.
        first_pause, longest_pause: between attempts: a random part of twice as much each time.
        pending: reports in memory, with their text; further ones are listed again when there is
            room.
    """

    history: float = 20.0
    attempt: float = 120.0
    first_pause: float = 1.0
    longest_pause: float = 300.0
    pending: int = 200


@dataclass(frozen=True)
class World:
    """What is not decided in here: time and chance."""

    monotonic: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)


@dataclass
class _Pending:
    """A report that is still to be written.

    Attributes:
        metadata: of its ConfigMap.
        text: the report as JSON; None if it is to be read from the ConfigMap.
    """

    metadata: Mapping[str, object]
    owner: str
    owner_uid: str
    text: str | None

    @property
    def namespace(self) -> str:
        return str(self.metadata["namespace"])

    @property
    def name(self) -> str:
        return str(self.metadata["name"])


_Name = tuple[str, str, str]
"""Of a report: namespace, ConfigMap and time; another attempt of a revision has the same name."""


class ReportWriter:
    """See the module. `add` may be called at any time, whatever goes on.

    Args:
        namespace: the only one that is watched; None for all.
    """

    def __init__(
        self,
        files: Files,
        cluster: Cluster,
        store: Store,
        source: HistorySource,
        metrics: OperatorMetrics,
        namespace: str | None,
        *,
        world: World = World(),
        limits: Limits = Limits(),
    ) -> None:
        self.links = Links()
        self._files = files
        self._cluster = cluster
        self._store = store
        self._source = source
        self._metrics = metrics
        self._namespace = namespace
        self._world = world
        self._limits = limits
        self._pending: dict[_Name, _Pending] = {}
        self._is_partial = True
        self._failures = 0
        self._until = 0.0
        self._wakeup = asyncio.Event()

    # ---------------------------------------------------------------- handed over

    def add(self, config_map: Live) -> None:
        """See `reports.Writer`. What there is no room for is found again by its ConfigMap."""
        metadata = config_map["metadata"]
        if self.has_written(config_map):
            return
        name = _name(metadata)
        if name not in self._pending and len(self._pending) >= self._limits.pending:
            self._is_partial = True
            return
        text = (config_map.get("data") or {}).get(JSON_FILE)
        owner, uid = _owner(metadata)
        self._pending[name] = _Pending(metadata, owner, uid, text)
        self._metrics.reports_pending.set(len(self._pending))
        self._wakeup.set()

    def has_written(self, config_map: Live) -> bool:
        """See `reports.Writer`."""
        return _url(config_map["metadata"]).startswith(self._prefix(config_map["metadata"]))

    def _prefix(self, metadata: Mapping[str, object]) -> str:
        """The beginning of the URL that a report is to have, as far as its ConfigMap tells."""
        owner, _ = _owner(metadata)
        attempt = str(metadata["name"]).removeprefix(f"{owner}-report-")
        folder = f"{metadata['namespace']}/{owner}/{_stamp(_ended(metadata))}-{attempt}-"
        return self._files.url(folder)

    # ---------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Run for ever. Nothing ends it but being cancelled."""
        while True:
            self._wakeup.clear()
            await self.step()
            await self._wait(self.pause_seconds())

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        except TimeoutError:
            return

    def pause_seconds(self) -> float | None:
        """How long nothing is due, if nothing happens; None for ever."""
        if not self._pending and not self._is_partial:
            return None
        return max(0.0, self._until - self._world.monotonic())

    async def step(self) -> None:
        """Do the next thing, if it is due: find out what is pending, or write one report."""
        if self._world.monotonic() < self._until:
            return
        about, name = "the reports' ConfigMaps", None
        try:
            if self._is_partial and len(self._pending) <= self._limits.pending / 2:
                about = "the reports' ConfigMaps are not listed"
                await self._list()
            elif self._pending:
                name, item = next(iter(self._pending.items()))
                about = f"{item.namespace}/{item.owner}: the report {item.name} is not written"
                await self._write_in_time(item)
                self._end(name)
        except Exception as error:  # noqa: BLE001 - counted, tried again
            self._failed(error, about, name)
        else:
            self._failures, self._until = 0, 0.0

    def _end(self, name: _Name) -> None:
        self._pending.pop(name, None)
        self._metrics.reports_pending.set(len(self._pending))

    def _failed(self, error: Exception, about: str, name: _Name | None) -> None:
        reason = error.reason if isinstance(error, FilesError) else type(error).__name__
        if name is None:
            self._metrics.errors.labels(reason).inc()
        else:
            self._metrics.report_failures.labels(reason).inc()
        if name is not None and isinstance(error, Gone | Unreadable):
            self._end(name)
            logger.error("%s: %s", about, error)
            return
        if name is not None and name in self._pending:
            # To the end of the line: others may fare better.
            self._pending[name] = self._pending.pop(name)
        self._failures += 1
        # Full jitter, so that what was overloaded is not met by all at once.
        bound = min(
            self._limits.longest_pause, self._limits.first_pause * 2 ** min(self._failures - 1, 20)
        )
        pause = self._world.rng.uniform(0, bound)
        self._until = self._world.monotonic() + pause
        logger.warning(
            "%s, tried again in %.0f s: %s: %s", about, pause, type(error).__name__, error
        )
        if not isinstance(error, FilesError | ClusterError):
            logger.error("%s", about, exc_info=error)

    async def _list(self) -> None:
        """Find out what is pending, and link what is not, from the ConfigMaps."""
        listed = await self._cluster.list_metadata(Kind.CONFIG_MAP, self._namespace, LABEL_REPORT)
        self._is_partial = False
        found = [item["metadata"] for item in listed if _is_report(item["metadata"])]
        for metadata in sorted(found, key=_ended):
            if self.has_written({"metadata": metadata}):
                _, uid = _owner(metadata)
                self.links.note(uid, _time(metadata), str(metadata["name"]), _url(metadata))
            else:
                self.add({"metadata": metadata})

    # ---------------------------------------------------------------- one report

    async def _write_in_time(self, item: _Pending) -> None:
        try:
            async with asyncio.timeout(self._limits.attempt):
                await self._write(item)
        except TimeoutError as error:
            raise FilesUnreachable(
                "timeout", f"not written within {self._limits.attempt:g} s"
            ) from error

    async def _write(self, item: _Pending) -> None:
        text = item.text if item.text is not None else await self._read(item)
        try:
            report = Report.model_validate_json(text)
            folder = folder_of(report)
        except (ValidationError, ValueError) as error:
            raise Unreadable(f"the ConfigMap {item.name} holds no report: {error}") from error
        # Anyone may make a ConfigMap in a namespace; it must not become a file of another.
        if not self._files.url(folder).startswith(self._prefix(item.metadata)):
            raise Unreadable(f"the ConfigMap {item.name} holds a report of {folder}")
        put = self._files.put_once
        await put(f"{folder}/{JSON_FILE}", text.encode(), "application/json")
        markdown = render_markdown(report).encode()
        await put(f"{folder}/{MARKDOWN_FILE}", markdown, "text/markdown; charset=utf-8")
        # Last, and only when the storage takes files: where it is, the others are.
        page = await self._page(report, item)
        key = f"{folder}/{HTML_FILE}"
        await put(key, page.encode(), "text/html; charset=utf-8")
        url = self._files.url(key)
        if item.metadata.get("uid"):
            try:
                annotated = {"metadata": dict(item.metadata)}
                await self._cluster.annotate(Kind.CONFIG_MAP, annotated, {REPORT_URL: url})
            except Gone:
                pass  # with its object: the files are what lasts
        assert report.ended is not None  # by folder_of
        self.links.note(item.owner_uid, report.ended, item.name, url)
        self._store.touch(Key(item.namespace, item.owner))
        self._metrics.reports_written.inc()
        logger.info("%s/%s: report written: %s", item.namespace, item.owner, url)

    async def _read(self, item: _Pending) -> str:
        """The report's text.

        Raises:
            Gone: it went before it could be written.
        """
        found = await self._cluster.read_text(item.namespace, item.name, JSON_FILE)
        if found is None:
            raise Gone(f"the ConfigMap {item.name} was deleted before it could be written")
        return found[0]

    async def _page(self, report: Report, item: _Pending) -> str:
        curves, note = await self._history(report, item)

        def render() -> str:
            picture = draw_history(report, curves)
            nothing = "the metrics source has nothing of that time"
            why = note or ("" if picture else nothing)
            notes = [f"The metrics over time are not drawn: {why}."] if why else []
            return render_page(report, picture, notes)

        return await asyncio.to_thread(render)

    async def _history(self, report: Report, item: _Pending) -> tuple[list[Curve], str]:
        """The metrics over time, or why there are none."""
        live = self._store.canaries().get(Key(item.namespace, item.owner))
        if live is None or live["metadata"]["uid"] != item.owner_uid:
            return [], "the SignalCanary is gone, and with it the name of its metrics source"
        rows, step = choose_rows(report), choose_step(report)
        if not rows or report.ended is None:
            return [], "no condition was judged that has a query"
        curves = []
        try:
            spec = SignalCanarySpec.model_validate(live["spec"])
            target = build_target(spec, report.namespace, report.name, report.canary.name)
            span = (report.started, report.ended, step)
            async with asyncio.timeout(self._limits.history):
                for row in rows:
                    values = await self._source.fetch_history(target, row.query, *span)
                    beside = bound_query(row)
                    bounds = (
                        await self._source.fetch_history(target, beside, *span) if beside else []
                    )
                    curves.append(read_curve(row, values, bounds))
        except TimeoutError:
            return [], f"the metrics source took longer than {self._limits.history:g} s"
        except MetricsSourceError as error:
            self._metrics.source_failures.labels(type(error).__name__).inc()
            return [], f"the metrics source could not be read: {error}"
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            return [], f"the metrics source answered no values over time ({type(error).__name__})"
        return curves, ""


class Unreadable(Exception):
    """The ConfigMap holds no report."""


def folder_of(report: Report) -> str:
    """The folder of a report's files, below the root; those of one object sort by time.

    Raises:
        ValueError: it has not ended.
    """
    if report.ended is None:
        raise ValueError("a report of a rollout that has not ended has no place")
    canary = report.canary
    name = f"{_stamp_of(report.ended)}-{canary.name}-{canary.attempt}-{report.outcome.value}"
    return f"{report.namespace}/{report.name}/{name}"


def _stamp_of(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


# --------------------------------------------------------------------------- the ConfigMap


def _is_report(metadata: Mapping[str, object]) -> bool:
    """Whether it is one that the operator has made, by its metadata."""
    try:
        _time(metadata)
    except ValueError:
        return False
    return bool(_owner(metadata)[1])


def _annotations(metadata: Mapping[str, object]) -> Mapping[str, str]:
    found = metadata.get("annotations")
    return found if isinstance(found, Mapping) else {}


def _url(metadata: Mapping[str, object]) -> str:
    return _annotations(metadata).get(REPORT_URL, "")


def _ended(metadata: Mapping[str, object]) -> str:
    return _annotations(metadata).get(ENDED, "")


def _time(metadata: Mapping[str, object]) -> datetime:
    """Raises ValueError: it has none."""
    return datetime.strptime(_ended(metadata), "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)


def _stamp(ended: str) -> str:
    """The time of the annotation, as files have it."""
    return ended.removesuffix(" UTC").replace("-", "").replace(":", "").replace(" ", "T") + "Z"


def _owner(metadata: Mapping[str, object]) -> tuple[str, str]:
    """Name and uid of the SignalCanary."""
    labels, owners = metadata.get("labels"), metadata.get("ownerReferences")
    name = labels.get(LABEL_REPORT, "") if isinstance(labels, Mapping) else ""
    first = owners[0] if isinstance(owners, list) and owners else {}
    return name, str(first.get("uid", ""))


def _name(metadata: Mapping[str, object]) -> _Name:
    return str(metadata["namespace"]), str(metadata["name"]), _ended(metadata)
