"""That a GitOps tool finds nothing to correct, on a real API server."""

from __future__ import annotations

from typing import Any

from api_server import ApiServer
from test_cluster import CANARIES, manifest

from signalcanary.cluster import Cluster
from signalcanary.store import Kind


def without_bookkeeping(item: dict[str, Any]) -> dict[str, Any]:
    metadata = dict(item["metadata"])
    metadata.pop("managedFields", None)
    return {**item, "metadata": metadata}


async def test_what_nobody_has_looked_at_does_not_seem_done(api: ApiServer, namespace: str) -> None:
    made = api.apply(manifest(namespace), manager="argocd-controller")
    assert made["status"] == {"observedGeneration": -1}
    read = api.must("GET", f"{CANARIES.format(namespace)}/demo")
    assert read["status"] == {"observedGeneration": -1}


async def test_what_the_operator_writes_is_no_drift(
    api: ApiServer, namespace: str, kube: Cluster
) -> None:
    declared = manifest(namespace)
    api.apply(declared, manager="argocd-controller")
    (item,) = (await kube.list_all(Kind.SIGNAL_CANARY, namespace)).items
    await kube.write_status(item, {"observedGeneration": 1, "phase": "Pending", "reason": "New"})
    live = api.must("GET", f"{CANARIES.format(namespace)}/demo")
    assert live["status"]["phase"] == "Pending"
    assert live["metadata"]["generation"] == 1
    again = api.apply(declared, manager="argocd-controller", dry_run=True)
    assert without_bookkeeping(again) == without_bookkeeping(live)
    owned = {m["manager"]: m["fieldsV1"].keys() for m in live["metadata"]["managedFields"]}
    assert owned["signalcanary"] == {"f:status"}
