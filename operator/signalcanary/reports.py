"""Keeping the report of each rollout that has ended, in a ConfigMap of the object's.

Last of all that is done, because telling must never hold up doing: a report that cannot be kept is
tried again at the next look, and one that the server refuses is logged and left out.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from signalcanary.cluster import Cluster, ClusterError, Refused
from signalcanary.report import ENDED, LABEL_REPORT, NoReport, build_config_map, build_report
from signalcanary.resources import Manifest, Owner
from signalcanary.rollout import Phase
from signalcanary.store import Kind, Live
from signalcanary.telemetry import OperatorMetrics

logger = logging.getLogger(__name__)

LIMIT = 10
"""Reports kept of an object, as many as revisions."""
LATEST = timedelta(hours=1)
"""After a restart a report that is missing is written, and no other, if it is not older."""


class Reports:
    """Keeps reports, each once."""

    def __init__(self, cluster: Cluster, metrics: OperatorMetrics) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._kept: dict[str, str] = {}

    async def keep(self, item: Live, owner: Owner, now: datetime) -> None:
        """Keep the report of the rollout that has ended, if one has."""
        status = item.get("status") or {}
        decision = status.get("decision")
        if status.get("phase") not in (Phase.SUCCEEDED, Phase.ROLLED_BACK) or not decision:
            return
        ended: str = decision["time"]
        is_old = now - datetime.fromisoformat(ended) > LATEST
        if is_old or self._kept.get(owner.uid) == ended:
            return
        try:
            report = build_report(item)
            if report.ended is not None:
                await self._apply_and_prune(owner, build_config_map(owner, report))
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

    async def _apply_and_prune(self, owner: Owner, manifest: Manifest) -> None:
        listed = await self._cluster.list_labelled(
            Kind.CONFIG_MAP, owner.namespace, LABEL_REPORT, owner.name
        )
        kept: list[Live] = [
            item
            for item in listed
            if any(o.get("uid") == owner.uid for o in item["metadata"].get("ownerReferences", ()))
        ]
        # After a restart it is there already, as a rule, and what is at rest is not written.
        if not any(_is_same(item, manifest) for item in kept):
            await self._cluster.apply(manifest)
            kept = [item for item in kept if _name(item) != _name(manifest)] + [manifest]
        kept.sort(key=lambda item: _annotation(item, ENDED), reverse=True)
        for item in kept[LIMIT:]:
            if item is not manifest:
                metadata = item["metadata"]
                await self._cluster.delete(
                    Kind.CONFIG_MAP, metadata["namespace"], metadata["name"], metadata["uid"]
                )

    def forget(self, uid: str) -> None:
        """Drop what is remembered of an object that is gone."""
        self._kept.pop(uid, None)


def _is_same(item: Live, manifest: Manifest) -> bool:
    ended = _annotation(manifest, ENDED)
    return _name(item) == _name(manifest) and _annotation(item, ENDED) == ended


def _name(item: Live) -> str:
    return str(item["metadata"]["name"])


def _annotation(item: Live, name: str) -> str:
    return str((item["metadata"].get("annotations") or {}).get(name, ""))
