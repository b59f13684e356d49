"""Everything that is said to the Kubernetes API server, beside watching.

Reads and writes are thin and idempotent; what to write is decided elsewhere. The errors are those
of `apiserver`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from kubernetes.aio import client, config

from signalcanary.api import API_VERSION, GROUP, KIND
from signalcanary.apiserver import METADATA, ClusterError, Conflict, Gone, Refused, call
from signalcanary.apiserver import path_of as _path
from signalcanary.resources import MANAGED_BY, MANAGER, Manifest
from signalcanary.revisions import canonical_hash
from signalcanary.rollout import (
    Notice,
    Phase,
    Transition,
)
from signalcanary.store import Kind, Live
from signalcanary.telemetry import OperatorMetrics

__all__ = ["Cluster", "ClusterError", "Conflict", "Gone", "Listed", "Problem", "Refused", "connect"]

FIELD_MANAGER: Final = "signalcanary"
_PAGE: Final = 500
"""Objects in one answer to a long list."""
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"


@asynccontextmanager
async def connect() -> AsyncIterator[client.ApiClient]:
    """A client from the pod's service account, or from the kubeconfig outside a cluster."""
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)
    async with client.ApiClient(configuration) as api:
        yield api


@dataclass(frozen=True)
class Problem:
    """What keeps an object from being carried out.

    Attributes:
        about: what it is about, the same however often and in whatever words it is said.
    """

    reason: str
    about: str
    message: str


@dataclass(frozen=True)
class Listed:
    """A list of one kind, and the version of the cluster that it shows."""

    items: list[Live]
    version: str | None


class Cluster:
    """The API server, as the reconciler needs it."""

    def __init__(self, api: client.ApiClient, metrics: OperatorMetrics, identity: str) -> None:
        self._api = api
        self._metrics = metrics
        self._identity = identity

    async def list_all(self, kind: Kind, namespace: str | None) -> Listed:
        """Every object of a kind that this operator owns, or every SignalCanary."""
        path = _path(kind, namespace)
        if kind is not Kind.SIGNAL_CANARY:
            path += "?" + urlencode({"labelSelector": f"{MANAGED_BY}={MANAGER}"})
        listed = await self._call("GET", path, kind.value, None)
        try:
            return Listed(list(listed["items"]), listed["metadata"].get("resourceVersion"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ClusterError(f"{kind.value}: the answer is no list") from error

    async def list_labelled(self, kind: Kind, namespace: str, label: str, value: str) -> list[Live]:
        """The objects of a kind with a label, watched or not."""
        query = urlencode({"labelSelector": f"{label}={value}"})
        listed = await self._call("GET", f"{_path(kind, namespace)}?{query}", kind.value, None)
        try:
            return list(listed["items"])
        except (KeyError, TypeError) as error:
            raise ClusterError(f"{kind.value}: the answer is no list") from error

    async def list_metadata(self, kind: Kind, namespace: str | None, label: str) -> list[Live]:
        """The objects of a kind that have a label, watched or not, with their metadata alone."""
        query, found = {"labelSelector": label, "limit": str(_PAGE)}, list[Live]()
        while True:
            path = f"{_path(kind, namespace)}?{urlencode(query)}"
            listed = await call(self._api, "GET", path, kind.value, accept=METADATA)
            try:
                found += listed["items"]
                query["continue"] = listed["metadata"].get("continue", "")
            except (KeyError, TypeError, AttributeError) as error:
                raise ClusterError(f"{kind.value}: the answer is no list") from error
            if not query["continue"]:
                return found

    async def fetch_status_schema(self) -> Any:
        """The schema of status in the CRD that is served, as OpenAPI."""
        answer = await self._call("GET", f"/openapi/v3/apis/{API_VERSION}", "OpenAPI", None)
        try:
            schemas = answer["components"]["schemas"].items()
            (schema,) = [s for name, s in schemas if name.endswith(f".{KIND}")]
            return schema["properties"]["status"]
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ClusterError("OpenAPI: the answer has no schema of SignalCanaries") from error

    async def write_status(self, item: Live, status: Mapping[str, Any]) -> Live:
        """Replace the status, if the object is still the one that was read.

        Raises:
            Conflict: it has changed; nothing was written.
            Gone: it was deleted.
        """
        metadata = item["metadata"]
        path = _path(Kind.SIGNAL_CANARY, metadata["namespace"], metadata["name"])
        body = {**item, "apiVersion": API_VERSION, "kind": KIND, "status": dict(status)}
        written: Live = await self._call(
            "PUT", f"{path}/status?fieldManager={FIELD_MANAGER}", KIND, "status", body
        )
        return written

    async def apply(self, manifest: Manifest) -> Live:
        """Server-side apply; takes over fields that others have set on our objects.

        Raises:
            Refused: there is an object of that name, and it is not the SignalCanary's.
        """
        kind, metadata = Kind(manifest["kind"]), manifest["metadata"]
        path = _path(kind, metadata["namespace"], metadata["name"])
        try:
            existing = await self._call("GET", path, kind.value, None)
        except Gone:
            existing = None
        if existing is not None and existing["metadata"].get("deletionTimestamp"):
            raise ClusterError(f"{kind}: {metadata['name']} is still being deleted: waiting")
        if existing is not None and not _belongs(existing, manifest):
            if _is_left_over(existing, manifest):
                raise ClusterError(
                    f"{kind}: {metadata['name']} is of the SignalCanary before it of this name: "
                    "waiting until it is collected"
                )
            raise Refused(
                f"{kind}: {metadata['name']} exists and is not this SignalCanary's: "
                "rename or delete the one or the other"
            )
        path += f"?fieldManager={FIELD_MANAGER}&force=true"
        applied: Live = await self._call("PATCH", path, kind.value, "apply", manifest)
        return applied

    async def annotate(self, kind: Kind, item: Live, annotations: Mapping[str, str]) -> Live:
        """Set annotations of an object that is not the operator's own.

        Raises:
            Gone: there is none of that name.
            Refused: it is another object of that name by now: a uid does not change.
        """
        metadata = item["metadata"]
        path = _path(kind, metadata["namespace"], metadata["name"])
        body = {"metadata": {"uid": metadata["uid"], "annotations": dict(annotations)}}
        path += f"?fieldManager={FIELD_MANAGER}"
        answer: Live = await self._call("PATCH", path, kind.value, "annotate", body, _MERGE)
        return answer

    async def set_images(self, pod: Live, images: Mapping[str, str]) -> Live:
        """Set images of a running pod, by container; those containers are started anew.

        Raises:
            Gone: there is none of that name.
            Refused: it is another pod of that name by now, or is not to be changed.
        """
        metadata = pod["metadata"]
        path = _path(Kind.POD, metadata["namespace"], metadata["name"])
        containers = [{"name": name, "image": image} for name, image in images.items()]
        body = {"metadata": {"uid": metadata["uid"]}, "spec": {"containers": containers}}
        path += f"?fieldManager={FIELD_MANAGER}"
        answer: Live = await self._call("PATCH", path, Kind.POD, "set images", body, _STRATEGIC)
        return answer

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete an owned object and what hangs on it; one that is gone already, or is another
        one by now, is fine."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", _path(kind, namespace, name), kind.value, "delete", options)
        except (Gone, Conflict):
            return

    async def read_text(self, namespace: str, name: str, key: str) -> tuple[str, str] | None:
        """The text of a ConfigMap, and its version; None if there is none."""
        try:
            found = await self._call("GET", _path(Kind.CONFIG_MAP, namespace, name), name, None)
        except Gone:
            return None
        metadata = found["metadata"]
        return (found.get("data") or {}).get(key, ""), metadata.get("resourceVersion", "")

    async def write_text(
        self, namespace: str, name: str, key: str, text: str, version: str | None
    ) -> str:
        """Replace the text of a ConfigMap, if it is still of that version; gives the new one.

        Raises:
            Conflict: it has changed. One that is gone is made anew.
        """
        metadata = {
            "name": name,
            "namespace": namespace,
            # Not those of the objects that SignalCanaries own, which are watched.
            "labels": {"app.kubernetes.io/part-of": "signalcanary-operator"},
        }
        if version is not None:
            metadata["resourceVersion"] = version
        manifest = {
            "apiVersion": "v1",
            "kind": Kind.CONFIG_MAP.value,
            "metadata": metadata,
            "data": {key: text},
        }
        path = _path(Kind.CONFIG_MAP, namespace, name)
        path += f"?fieldManager={FIELD_MANAGER}&force=true"
        written = await self._call("PATCH", path, Kind.CONFIG_MAP.value, "apply", manifest)
        return str(written["metadata"].get("resourceVersion", ""))

    async def emit(self, item: Live, what: Transition | Notice) -> None:
        """Post an Event of what has happened, once."""
        at = what.time.isoformat(timespec="milliseconds")
        phase = what.phase if isinstance(what, Transition) else None
        said = [at, what.reason, phase, what.message]
        await self._post(
            item,
            canonical_hash([item["metadata"]["uid"], *said]),
            what.time,
            {
                "action": _ACTIONS[phase] if phase else "Judge",
                "reason": what.reason,
                "message": what.message,
                "type": "Warning" if what.is_warning else "Normal",
            },
        )

    async def warn(self, item: Live, problem: Problem, at: datetime) -> None:
        """Post an Event of what keeps an object from being carried out, once a generation."""
        metadata = item["metadata"]
        about = [metadata["uid"], metadata.get("generation"), problem.reason, problem.about]
        fields = {"action": "Reconcile", "reason": problem.reason, "message": problem.message}
        await self._post(item, canonical_hash(about), at, {**fields, "type": "Warning"})

    async def _post(self, item: Live, name: str, at: datetime, fields: Mapping[str, str]) -> None:
        """Post an Event; its name is a hash of what it says, so that it is posted only once."""
        metadata = item["metadata"]
        seconds = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        # Of core/v1, not events.k8s.io: that one refuses the timestamps kubectl sorts by.
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name']}.{name[:16]}",
                "namespace": metadata["namespace"],
            },
            "firstTimestamp": seconds,
            "lastTimestamp": seconds,
            "count": 1,
            "source": {"component": f"{GROUP}/operator"},
            "reportingComponent": f"{GROUP}/operator",
            "reportingInstance": self._identity[:128],
            **fields,
            "message": _cut(fields["message"], 1024),
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        try:
            await self._call("POST", path, "Event", "create", event)
        except Conflict:
            return  # posted before, by this process or the one before it

    async def _call(
        self,
        method: str,
        path: str,
        kind: str,
        verb: str | None,
        body: Any = None,
        content: str | None = None,
    ) -> Any:
        answer = await call(self._api, method, path, kind, body, content)
        if verb is not None:
            self._metrics.writes.labels(kind, verb).inc()
        return answer


def _belongs(existing: Live, manifest: Manifest) -> bool:
    """Is it the object that is to be applied, and not one that only has its name?

    A claim that is, or was, to be retained has no owner; its labels say whose it is.
    """
    if _owners(existing) & _owners(manifest):
        return True
    if manifest["kind"] != Kind.CLAIM or (_owners(existing) and _owners(manifest)):
        return False
    labels = existing["metadata"].get("labels") or {}
    return bool(manifest["metadata"]["labels"].items() <= labels.items())


def _is_left_over(existing: Live, manifest: Manifest) -> bool:
    """Is it of an object of the same name that was deleted, which the garbage collector takes?"""

    def names(item: Live) -> set[tuple[Any, Any]]:
        owners = item["metadata"].get("ownerReferences") or ()
        return {(owner.get("kind"), owner.get("name")) for owner in owners}

    return bool(names(existing) & names(manifest))


def _owners(item: Live) -> set[str]:
    return {str(o.get("uid")) for o in item["metadata"].get("ownerReferences") or ()}


def _cut(text: str, most_bytes: int) -> str:
    """The server counts bytes, and refuses an Event with one too many."""
    if len(text.encode()) <= most_bytes:
        return text
    return text.encode()[: most_bytes - 3].decode(errors="ignore") + "…"


_ACTIONS: Final = {
    Phase.WAITING: "WaitToStart",
    Phase.VERIFYING: "VerifyArtifacts",
    Phase.PENDING: "StartRollout",
    Phase.WARMING: "WarmUp",
    Phase.PROGRESSING: "StartStage",
    Phase.PROMOTING: "StartPromotion",
    Phase.SOAKING: "Promote",
    Phase.SUCCEEDED: "Promote",
    Phase.ROLLING_BACK: "RollBack",
    Phase.VERIFYING_ROLLBACK: "VerifyRollback",
    Phase.ROLLED_BACK: "RollBack",
}
