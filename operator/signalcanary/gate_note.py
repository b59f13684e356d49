"""Makes pods see a changed gate at once, instead of within a minute.

A mounted ConfigMap changes under a pod when the kubelet syncs the pod: about once a minute, or at
once when the pod itself has changed (Kubernetes, "Mounted ConfigMaps are updated automatically").
So each analysis pod has an annotation that says which gate it was last told of, and gets a new
one when the gate is another. The pod goes on running; its StatefulSet does not look at it.

It only makes pods look sooner. Who may publish is in the gate alone, nothing waits for the note,
and a note that cannot be written costs the minute: it is counted, said once, and let be.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from signalcanary.api import GROUP
from signalcanary.cluster import Cluster, Gone, Refused
from signalcanary.contract import Component
from signalcanary.resources import APPLIED_HASH, LABEL_COMPONENT, gate_name
from signalcanary.store import Kind, Live, Store
from signalcanary.subject import Subject
from signalcanary.telemetry import OperatorMetrics

logger = logging.getLogger(__name__)

GATE_NOTE: Final = f"{GROUP}/gate"
"""Annotation of a pod: the hash of the gate that it was last told of."""


def find_untold(told_of: str, stateful_sets: Iterable[Live], pods: Iterable[Live]) -> list[Live]:
    """Running analysis pods that do not know of this gate. Pure.

    Args:
        stateful_sets: of the SignalCanary; labels alone do not make a pod its own.
    """
    owners = {sts["metadata"]["uid"] for sts in stateful_sets}
    return [pod for pod in pods if _is_asked(pod, owners) and _note_of(pod) != told_of]


def _is_asked(pod: Live, owners: set[str]) -> bool:
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    return (
        labels.get(LABEL_COMPONENT) == Component.ANALYSIS
        and pod.get("status", {}).get("phase") == "Running"
        and not metadata.get("deletionTimestamp")
        and any(owner.get("uid") in owners for owner in metadata.get("ownerReferences") or ())
    )


def _note_of(pod: Live) -> str | None:
    annotations: Mapping[str, Any] = pod["metadata"].get("annotations") or {}
    return annotations.get(GATE_NOTE)


class GateNotes:
    """Tells pods of the gate."""

    def __init__(self, cluster: Cluster, store: Store, metrics: OperatorMetrics) -> None:
        self._cluster = cluster
        self._store = store
        self._metrics = metrics
        self._refused: dict[str, set[tuple[str, str]]] = {}

    async def tell(self, subject: Subject) -> None:
        """Tell the pods that do not know of the gate as it was applied.

        Raises:
            ClusterError: the server cannot be reached, or fails.
        """
        told_of = self._applied_gate(subject)
        if told_of is None:
            return
        stateful_sets = self._store.owned(subject.key, Kind.STATEFUL_SET)
        untold = find_untold(told_of, stateful_sets, self._store.owned(subject.key, Kind.POD))
        uid = subject.owner.uid
        marks = {(pod["metadata"]["uid"], told_of) for pod in untold}
        refused = self._refused[uid] = self._refused.get(uid, set()) & marks
        for pod in untold:
            mark = (pod["metadata"]["uid"], told_of)
            if mark in refused:
                continue
            try:
                self._store.put(
                    Kind.POD, await self._cluster.annotate(Kind.POD, pod, {GATE_NOTE: told_of})
                )
            except Gone:
                continue
            except Refused as error:
                refused.add(mark)
                self._metrics.errors.labels(type(error).__name__).inc()
                logger.warning(
                    "%s: it reads the changed gate within a minute, not at once: %s",
                    pod["metadata"]["name"],
                    error,
                )

    def _applied_gate(self, subject: Subject) -> str | None:
        name = gate_name(subject.owner)
        for item in self._store.owned(subject.key, Kind.CONFIG_MAP):
            if item["metadata"]["name"] == name:
                annotations: Mapping[str, str] = item["metadata"].get("annotations") or {}
                return annotations.get(APPLIED_HASH)
        return None

    def forget(self, uid: str) -> None:
        """Drop what is remembered of an object that is gone."""
        self._refused.pop(uid, None)
