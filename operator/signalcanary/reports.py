"""Keeping the report of each rollout that has ended, in a ConfigMap of the object's.

Where reports are kept as files, too, this hands them over (`Writer`) and waits for nothing.

Last of all that is done, because telling must never hold up doing: a report that cannot be kept is
tried again at the next look, and one that the server refuses is logged and left out. Its curves are
asked for once, as of the decision; a report without them says why, and whoever wants them later
asks `signalcanary report --prometheus`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from signalcanary.api import SignalCanarySpec
from signalcanary.cluster import Cluster, ClusterError, Refused
from signalcanary.metrics_source import MetricsSourceError, SeriesSource, build_target
from signalcanary.report import (
    ENDED,
    LABEL_REPORT,
    NoReport,
    Report,
    build_config_map,
    build_report,
)
from signalcanary.report_curves import curve_query, with_curves, without_curves
from signalcanary.resources import Manifest, Owner
from signalcanary.rollout import Phase
from signalcanary.store import Kind, Live
from signalcanary.telemetry import OperatorMetrics
from signalcanary.wire import format_instant

logger = logging.getLogger(__name__)

LIMIT = 10
"""Reports kept of an object, as many as revisions."""
LIMIT_PENDING = 100
"""With those that are still to be written as files."""
LATEST = timedelta(hours=1)
"""After a restart a report that is missing is written, and no other, if it is not older."""
LATEST_FOR_FILES = timedelta(days=30)
"""The same where reports are written as files, and a record is to have no holes."""


class Links:
    """Where the last report of each object is, as its `status.report` says.

    What a process does not know, as it has just started, is in the status that is there.
    """

    def __init__(self) -> None:
        self._known: dict[str, Mapping[str, str]] = {}

    def note(self, uid: str, ended: datetime, config_map: str, url: str | None = None) -> None:
        """A report was kept, or written."""
        # To the second, as the ConfigMap's annotation has it.
        link = {"time": format_instant(ended.replace(microsecond=0)), "configMap": config_map}
        link |= {"url": url} if url else {}
        self._known[uid] = max(self._known.get(uid, {}), link, key=_newest)

    def of(self, uid: str, status: Mapping[str, Any]) -> Mapping[str, str] | None:
        """The link, by what is known and what the status has."""
        return max(self._known.get(uid, {}), status.get("report") or {}, key=_newest) or None

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)


def _newest(link: Mapping[str, str]) -> tuple[str, bool]:
    return str(link.get("time", "")), "url" in link


class Writer(Protocol):
    """Writes reports as files. It keeps nobody waiting and raises nothing."""

    links: Links

    def add(self, config_map: Live) -> None:
        """A report was kept, or would have been but for the server."""

    def has_written(self, config_map: Live) -> bool:
        """Whether the report that it keeps is a file, as its metadata say."""


class Reports:
    """Keeps reports, each once.

    Args:
        source: of the curves; None if there is none to ask.
        writer: of files; None if there are to be none.
    """

    def __init__(
        self,
        cluster: Cluster,
        metrics: OperatorMetrics,
        source: SeriesSource | None = None,
        writer: Writer | None = None,
    ) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._source = source
        self._writer = writer
        self._kept: dict[str, str] = {}
        self.links = writer.links if writer is not None else Links()

    async def keep(self, item: Live, owner: Owner, now: datetime) -> None:
        """Keep the report of the rollout that has ended, if one has."""
        status = item.get("status") or {}
        decision = status.get("decision")
        if status.get("phase") not in (Phase.SUCCEEDED, Phase.ROLLED_BACK) or not decision:
            return
        ended: str = decision["time"]
        latest = LATEST if self._writer is None else LATEST_FOR_FILES
        is_old = now - datetime.fromisoformat(ended) > latest
        if is_old or self._kept.get(owner.uid) == ended:
            return
        try:
            report = build_report(item)
            if report.ended is not None:
                await self._apply_and_prune(item, owner, report)
        except NoReport:
            pass  # the history of the status begins after the rollout
        except Refused as error:
            self._metrics.errors.labels(type(error).__name__).inc()
            logger.error("%s/%s: report refused: %s", owner.namespace, owner.name, error)
        except ClusterError as error:
            self._metrics.errors.labels(type(error).__name__).inc()
            logger.warning(
                "%s/%s: report not kept, tried again: %s", owner.namespace, owner.name, error
            )
            return
        self._kept[owner.uid] = ended

    async def _apply_and_prune(self, item: Live, owner: Owner, report: Report) -> None:
        listed = await self._cluster.list_labelled(
            Kind.CONFIG_MAP, owner.namespace, LABEL_REPORT, owner.name
        )
        kept: list[Live] = [
            one
            for one in listed
            if any(o.get("uid") == owner.uid for o in one["metadata"].get("ownerReferences", ()))
        ]
        manifest = build_config_map(owner, report)
        # After a restart it is there already, as a rule, and what is at rest is not written.
        if not any(_is_same(one, manifest) for one in kept):
            manifest = build_config_map(owner, await self._trace(item, report))
            kept_as: Live = manifest
            try:
                kept_as = await self._cluster.apply(manifest)
            finally:
                # Also if it is refused: the files are the record that is to last.
                if self._writer is not None:
                    self._writer.add({**manifest, "metadata": kept_as["metadata"]})
            kept = [one for one in kept if _name(one) != _name(manifest)] + [manifest]
        assert report.ended is not None  # by the caller
        self.links.note(owner.uid, report.ended, _name(manifest))
        kept.sort(key=lambda one: _annotation(one, ENDED), reverse=True)
        for n, one in enumerate(kept[LIMIT:], LIMIT):
            # What is still to be written is what a restart writes it from.
            is_spare = self._writer is None or self._writer.has_written(one) or n >= LIMIT_PENDING
            if one is not manifest and is_spare:
                metadata = one["metadata"]
                await self._cluster.delete(
                    Kind.CONFIG_MAP, metadata["namespace"], metadata["name"], metadata["uid"]
                )

    async def _trace(self, item: Live, report: Report) -> Report:
        """The report with its curves, or with why it has none."""
        assert report.ended is not None  # by the caller
        if self._source is None:
            return report
        spec = SignalCanarySpec.model_validate(item["spec"])
        target = build_target(spec, report.namespace, report.name, report.canary.name)
        query = curve_query(report.namespace, report.name)
        try:
            series = await self._source.fetch_series(target, query, report.ended)
        except MetricsSourceError as error:
            self._metrics.source_failures.labels(type(error).__name__).inc()
            logger.warning(
                "%s/%s: the report has no curves: %s", report.namespace, report.name, error
            )
            return without_curves(report, f"The metrics source could not be read: {error}.")
        return with_curves(report, series, report.ended)

    def forget(self, uid: str) -> None:
        """Drop what is remembered of an object that is gone."""
        self._kept.pop(uid, None)
        self.links.forget(uid)


def _is_same(item: Live, manifest: Manifest) -> bool:
    ended = _annotation(manifest, ENDED)
    return _name(item) == _name(manifest) and _annotation(item, ENDED) == ended


def _name(item: Live) -> str:
    return str(item["metadata"]["name"])


def _annotation(item: Live, name: str) -> str:
    return str((item["metadata"].get("annotations") or {}).get(name, ""))
