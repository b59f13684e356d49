"""Puts back what somebody has changed on the objects of a rollout.

An object carries the hash of what was declared when it was applied, so that an unchanged one is
left alone; an edit by hand leaves the hash as it is. So the live object itself is looked at: what
is declared and is another is applied once more, counted and told. What is another still after
that, an admission webhook insists on: it is told, and not fought.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from signalcanary.cluster import Cluster, Conflict, Gone, Problem, Refused
from signalcanary.drift import Difference, find_difference, find_edited_images
from signalcanary.resources import APPLIED_HASH, Manifest
from signalcanary.store import Key, Kind, Live, Store
from signalcanary.telemetry import OperatorMetrics

logger = logging.getLogger(__name__)


class Corrections:
    """Finds drift and undoes it."""

    def __init__(self, cluster: Cluster, store: Store, metrics: OperatorMetrics) -> None:
        self._cluster = cluster
        self._store = store
        self._metrics = metrics
        self._insisted: dict[str, dict[str, tuple[str, str]]] = {}
        self._untold: dict[str, list[Problem]] = {}
        # By kind and name the version at which an object was last found to be as declared.
        self._known: dict[str, dict[tuple[str, str], tuple[str, str]]] = {}

    def find_drifted(self, key: Key, uid: str, desired: Sequence[Manifest]) -> frozenset[str]:
        """Names of the StatefulSets that are not, or whose pods are not, as they are declared."""
        stateful_sets = self._store.owned(key, Kind.STATEFUL_SET)
        live = {sts["metadata"]["name"]: sts for sts in stateful_sets}
        wanted = [m for m in desired if m["kind"] == Kind.STATEFUL_SET]
        names = {(m["kind"], m["metadata"]["name"]) for m in desired}
        known = self._known.get(uid, {})
        for gone in known.keys() - names:
            del known[gone]
        changed = {
            name
            for manifest in wanted
            if (existing := live.get(name := manifest["metadata"]["name"])) is not None
            and self._find(uid, manifest, existing) is not None
        }
        owners = {
            owner.get("uid")
            for pod in self._store.owned(key, Kind.POD)
            if find_edited_images(pod, stateful_sets)
            for owner in pod["metadata"].get("ownerReferences") or ()
        }
        return frozenset(
            changed | {n for n, sts in live.items() if sts["metadata"]["uid"] in owners}
        )

    async def put_back(self, uid: str, manifest: Manifest, existing: Live) -> None:
        """Apply an object once more, if it is not as it is declared.

        Args:
            uid: of the SignalCanary.
            existing: was applied as this very manifest.

        Raises:
            Refused, Conflict, Gone: the server will not have it.
        """
        kind, name = Kind(manifest["kind"]), manifest["metadata"]["name"]
        difference = self._find(uid, manifest, existing)
        if difference is None:
            return
        metadata = existing["metadata"]
        owners = {owner.get("uid") for owner in metadata.get("ownerReferences") or ()}
        if existing.get("immutable") and uid in owners:
            # Somebody has made it anew; it is ours to delete, and made again at the next look.
            await self._cluster.delete(kind, metadata["namespace"], name, metadata["uid"])
            self._note(uid, kind, name, difference)
            return
        applied = await self._cluster.apply(manifest)
        self._store.put(kind, applied)
        still = find_difference(manifest, applied)
        if still is None:
            self._note(uid, kind, name, difference)
            return
        self._insisted.setdefault(uid, {})[applied["metadata"]["uid"]] = _mark(manifest, still)
        told = f"{name}: {still}; it was applied, and is changed on its way in: left as it is"
        self._untold.setdefault(uid, []).append(Problem("DriftInsisted", f"{kind} {name}", told))

    async def put_images_back(self, uid: str, key: Key) -> list[Problem]:
        """Give the pods their images back; what the server refuses of it."""
        problems = []
        stateful_sets = self._store.owned(key, Kind.STATEFUL_SET)
        for pod in self._store.owned(key, Kind.POD):
            images = find_edited_images(pod, stateful_sets)
            if not images:
                continue
            name = pod["metadata"]["name"]
            found = {c["name"]: c["image"] for c in pod["spec"]["containers"]}
            try:
                self._store.put(Kind.POD, await self._cluster.set_images(pod, images))
            except (Refused, Conflict, Gone) as error:
                problems.append(Problem("Refused", f"{Kind.POD} {name}", f"{name}: {error}"))
                continue
            for container, image in images.items():
                field = f"spec.containers[{container}].image"
                self._note(uid, Kind.POD, name, Difference(field, image, found[container]))
        return problems

    def take_untold(self, uid: str) -> list[Problem]:
        """What was corrected, and nobody has been told of."""
        return self._untold.pop(uid, [])

    def _find(self, uid: str, manifest: Manifest, existing: Live) -> Difference | None:
        """Of a claim nothing: people enlarge it, and nobody can make it smaller again."""
        if manifest["kind"] == Kind.CLAIM or _hash_of(existing) != _hash_of(manifest):
            return None  # another one is applied anyway
        metadata = existing["metadata"]
        version = (str(metadata.get("resourceVersion")), _hash_of(manifest))
        known = self._known.setdefault(uid, {})
        which = (manifest["kind"], metadata["name"])
        if known.get(which) == version:
            return None
        difference = find_difference(manifest, existing)
        insisted = self._insisted.get(uid, {}).get(metadata["uid"])
        if difference is None or insisted == _mark(manifest, difference):
            known[which] = version
            return None
        return difference

    def _note(self, uid: str, kind: Kind, name: str, difference: Difference) -> None:
        self._metrics.drift.labels(kind.value).inc()
        logger.warning("%s %s: %s; put back", kind, name, difference)
        told = Problem("DriftCorrected", f"{kind} {name}", f"{name}: {difference}; put back")
        self._untold.setdefault(uid, []).append(told)

    def forget(self, uid: str) -> None:
        """Drop what is remembered of an object that is gone."""
        self._insisted.pop(uid, None)
        self._untold.pop(uid, None)
        self._known.pop(uid, None)


def _mark(manifest: Manifest, difference: Difference) -> tuple[str, str]:
    return _hash_of(manifest), difference.field


def _hash_of(item: Live) -> str:
    return str((item["metadata"].get("annotations") or {}).get(APPLIED_HASH))
