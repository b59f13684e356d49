"""What somebody changes by hand on the objects of a rollout is put back, on a real API server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from api_server import ApiServer, eventually
from test_cluster import CANARIES, manifest, resources_of
from test_process import Operator, start, status  # noqa: F401 - start is a fixture

from signalcanary.cluster import Cluster
from signalcanary.drift import find_edited_images
from signalcanary.store import Kind
from signalcanary.subject import Settings, Subject, read

APPS = "/apis/apps/v1/namespaces/{}/statefulsets"
CORE = "/api/v1/namespaces/{}"
MERGE = {"kind": "strategic-merge-patch+json"}


def edit(api: ApiServer, path: str, change: dict[str, Any]) -> None:
    """As `kubectl edit` does it: by a patch, under a name of its own."""
    api.must("PATCH", f"{path}?fieldManager=kubectl-edit", change, **MERGE)


def listed(api: ApiServer, path: str) -> dict[str, Any]:
    return {item["metadata"]["name"]: item for item in api.must("GET", path)["items"]}


def containers(item: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = item["spec"]["template"]["spec"]["containers"]
    return found


def test_objects_that_somebody_edits_are_put_back_and_it_is_told(
    api: ApiServer,
    namespace: str,
    start: Callable[..., Operator],  # noqa: F811
) -> None:
    operator = start("drift")
    operator.leads()
    api.apply(manifest(namespace, evaluation={"interval": "1s"}))
    sets, maps = APPS.format(namespace), f"{CORE.format(namespace)}/configmaps"
    eventually("both StatefulSets", lambda: len(listed(api, sets)) == 2)
    by_component = {name.rpartition("-")[2]: name for name in listed(api, sets)}
    gate = listed(api, maps)["demo-signals-gate"]["data"]
    (file,) = (name for name in listed(api, maps) if "-canary-" in name)
    config = listed(api, maps)[file]

    image = {"containers": [{"name": "harvest", "image": "workloads:mine"}]}
    of_harvest = f"{sets}/{by_component['harvest']}"
    edit(api, of_harvest, {"spec": {"template": {"spec": image}}})
    edit(api, f"{sets}/{by_component['analysis']}", {"spec": {"replicas": 0}})
    forged = {"stable": {"revision": "0" * 8, "attempt": 1}}
    edit(api, f"{maps}/demo-signals-gate", {"data": {"gate.json": json.dumps(forged)}})
    api.must("DELETE", f"{maps}/{file}")
    other = {**config, "data": {"config.json": "{}"}, "immutable": True}
    other["metadata"] = {
        name: config["metadata"][name]
        for name in ("name", "namespace", "labels", "annotations", "ownerReferences")
    }

    def made_by_hand() -> bool:
        # The operator may have made it again first.
        code, _ = api.request("POST", maps, other)
        if code == 409:
            api.request("DELETE", f"{maps}/{file}")
        return code == 201

    eventually("a file of another content", made_by_hand)

    def is_put_back() -> bool:
        live = listed(api, sets)
        maps_now = listed(api, maps)
        return (
            containers(live[by_component["harvest"]])[0]["image"] == "workloads:1"
            and live[by_component["analysis"]]["spec"]["replicas"] == 1
            and maps_now["demo-signals-gate"]["data"] == gate
            and maps_now.get(file, {}).get("data") == config["data"]
        )

    eventually("all of it put back", is_put_back)

    def told() -> set[str]:
        events = api.must("GET", f"{CORE.format(namespace)}/events")["items"]
        return {e["message"] for e in events if e["reason"] == "DriftCorrected"}

    eventually(f"an Event of each object: {operator.log}", lambda: len(told()) == 4)
    harvest = by_component["harvest"]
    field = "spec.template.spec.containers[harvest].image"
    said = f"{harvest}: {field} was workloads:mine, declared is workloads:1; put back"
    assert said in told()
    assert status(api, namespace)["phase"] == "Pending"
    # And that was that: nothing is written again and again.
    versions = {n: i["metadata"]["resourceVersion"] for n, i in listed(api, sets).items()}
    looked_at = status(api, namespace)["lastEvaluationTime"]
    eventually(
        "another look",
        lambda: status(api, namespace)["lastEvaluationTime"] != looked_at,
        within=60,
    )
    assert {n: i["metadata"]["resourceVersion"] for n, i in listed(api, sets).items()} == versions


def test_deleted_it_is_gone_at_once_and_all_it_owned_is_the_collector_s(
    api: ApiServer,
    namespace: str,
    start: Callable[..., Operator],  # noqa: F811
) -> None:
    operator = start("deleted")
    operator.leads()
    api.apply(manifest(namespace, evaluation={"interval": "1s"}))
    sets = APPS.format(namespace)
    eventually("both StatefulSets", lambda: len(listed(api, sets)) == 2)
    path = f"{CANARIES.format(namespace)}/demo"
    uid = api.must("GET", path)["metadata"]["uid"]
    api.must("DELETE", path)
    assert api.request("GET", path)[0] == 404, "nothing is waited for"
    core = CORE.format(namespace)
    places = (sets, f"{core}/configmaps", f"{core}/services", f"{core}/persistentvolumeclaims")
    for place in (*places, f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"):
        items = listed(api, place).values()
        assert items, place
        for item in items:
            assert [o["uid"] for o in item["metadata"]["ownerReferences"]] == [uid]
    # Another of its name waits until the collector, which is not here, has been.
    api.apply(manifest(namespace, evaluation={"interval": "1s"}))
    operator.waits_for("is of the SignalCanary before it of this name: waiting")
    assert "status" not in api.must("GET", path) or status(api, namespace).get("phase") is None
    for place in (*places, f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"):
        for name in listed(api, place):
            api.must("DELETE", f"{place}/{name}")

    def has_begun() -> bool:
        return status(api, namespace).get("phase") == "Pending"

    eventually("another begins", has_begun, within=60)
    events = api.must("GET", f"{core}/events")["items"]
    assert "Refused" not in {event["reason"] for event in events}


async def test_a_running_pod_gets_its_image_back_and_one_from_a_mirror_keeps_it(
    api: ApiServer, kube: Cluster, namespace: str
) -> None:
    api.apply(manifest(namespace))
    (item,) = (await kube.list_all(Kind.SIGNAL_CANARY, namespace)).items
    subject: Subject = read(item, Settings("workloads:1"))
    (declared, *_) = [m for m in resources_of(subject) if m["kind"] == "StatefulSet"]
    applied = await kube.apply(declared)
    sts = json.loads(json.dumps(applied)) | {"status": {"updateRevision": "r1"}}

    def make(name: str, image: str) -> str:
        """A pod as the controller that is not here makes it."""
        reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "controller": True}
        reference |= {key: applied["metadata"][key] for key in ("name", "uid")}
        template = sts["spec"]["template"]
        labels = {**template["metadata"]["labels"], "controller-revision-hash": "r1"}
        metadata = {"name": name, "labels": labels, "ownerReferences": [reference]}
        (container,) = template["spec"]["containers"]
        pod = {"metadata": metadata, "spec": {"containers": [{**container, "image": image}]}}
        pod["spec"] |= {"volumes": template["spec"]["volumes"]}
        path = f"{CORE.format(namespace)}/pods"
        api.must("POST", f"{path}?fieldManager=kube-controller-manager", pod)
        return f"{path}/{name}"

    (component,) = (
        container["name"] for container in sts["spec"]["template"]["spec"]["containers"]
    )
    edited, mirrored = make("a-0", "workloads:1"), make("a-1", "mirror/workloads:1")
    change = {"spec": {"containers": [{"name": component, "image": "workloads:mine"}]}}
    edit(api, edited, change)
    assert find_edited_images(api.must("GET", mirrored), [sts]) == {}
    pod = api.must("GET", edited)
    assert find_edited_images(pod, [sts]) == {component: "workloads:1"}
    back = await kube.set_images(pod, {component: "workloads:1"})
    assert back["spec"]["containers"][0]["image"] == "workloads:1"
    assert find_edited_images(back, [sts]) == {}
