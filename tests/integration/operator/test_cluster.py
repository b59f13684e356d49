"""What the operator says to the API server, said to a real one, with the chart's rights."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_server import OPERATOR, SERVICE_ACCOUNT, ApiServer

from signalcanary.cluster import Cluster, Conflict, Gone, Problem, Refused
from signalcanary.drift import find_difference
from signalcanary.resources import Owner, WorkloadSettings, build_controller_revision
from signalcanary.resources import build_resources as build
from signalcanary.rollout import Phase, RolloutState, Transition
from signalcanary.store import Kind, Live
from signalcanary.subject import Settings, Subject, read

SPEC = {
    "version": "v1",
    "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
}
NOW = datetime.now(UTC).replace(microsecond=0)
CANARIES = "/apis/signalcanary.dev/v1alpha1/namespaces/{}/signalcanaries"
STATUS = {"phase": "Pending", "reason": "New", "observedGeneration": 1}


def manifest(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "signalcanary.dev/v1alpha1",
        "kind": "SignalCanary",
        "metadata": {"name": "demo", "namespace": namespace},
        "spec": SPEC | spec,
    }


@pytest.fixture
async def item(api: ApiServer, kube: Cluster, namespace: str) -> Live:
    """A SignalCanary as the operator lists it."""
    api.apply(manifest(namespace))
    (found,) = (await kube.list_all(Kind.SIGNAL_CANARY, namespace)).items
    return found


@pytest.fixture
def subject(item: Live) -> Subject:
    return read(item, Settings("workloads:1"))


def resources_of(subject: Subject) -> list[dict[str, Any]]:
    """Everything that the operator ever applies."""
    state = RolloutState(phase=Phase.WARMING, canary=subject.target, stable=subject.target)
    revisions = {subject.target.name: subject.target_revision}
    record = build_controller_revision(subject.owner, subject.target, subject.target_revision)
    made = build(subject.owner, subject.spec, state, revisions, WorkloadSettings())
    return [record, *made]


def transition(message: str = "rolling out", at: datetime = NOW) -> Transition:
    return Transition(at, Phase.PENDING, "RolloutStarted", message, "v1")


def events(api: ApiServer, namespace: str) -> list[dict[str, Any]]:
    return list(api.must("GET", f"/api/v1/namespaces/{namespace}/events")["items"])


async def test_a_status_is_written_under_the_version_that_was_read(
    api: ApiServer, kube: Cluster, item: Live
) -> None:
    written = await kube.write_status(item, STATUS)
    assert written["status"]["phase"] == "Pending"
    with pytest.raises(Conflict):
        await kube.write_status(item, STATUS | {"phase": "Warming"})
    again = await kube.write_status(written, STATUS | {"phase": "Warming"})
    assert again["status"]["phase"] == "Warming"


async def test_writing_a_status_changes_nothing_else(
    api: ApiServer, kube: Cluster, item: Live, namespace: str
) -> None:
    tampered = {**item, "spec": {**item["spec"], "version": "v9"}}
    tampered["metadata"] = {**item["metadata"], "annotations": {"x": "y"}, "finalizers": ["a/b"]}
    written = await kube.write_status(tampered, STATUS)
    assert written["spec"] == item["spec"]
    assert written["metadata"]["generation"] == 1
    assert not {"annotations", "finalizers"} & set(written["metadata"])
    managers = {(m["manager"], m.get("subresource")) for m in written["metadata"]["managedFields"]}
    assert managers == {("kubectl", None), ("signalcanary", "status")}


async def test_a_gitops_tool_sees_no_difference_after_the_operator_has_written(
    api: ApiServer, kube: Cluster, item: Live, namespace: str
) -> None:
    def without_bookkeeping(found: dict[str, Any]) -> dict[str, Any]:
        metadata = found["metadata"]
        return {**found, "metadata": {**metadata, "managedFields": None, "resourceVersion": None}}

    api.apply(manifest(namespace), "argocd")
    (item,) = (await kube.list_all(Kind.SIGNAL_CANARY, namespace)).items
    written = await kube.write_status(item, STATUS)
    wanted = api.apply(manifest(namespace), "argocd", dry_run=True)
    assert without_bookkeeping(wanted) == without_bookkeeping(dict(written))


async def test_an_object_that_is_gone_or_made_anew_is_not_written(
    api: ApiServer, kube: Cluster, item: Live, namespace: str
) -> None:
    path = f"{CANARIES.format(namespace)}/demo"
    api.must("DELETE", path)
    with pytest.raises(Gone):
        await kube.write_status(item, STATUS)
    api.apply(manifest(namespace))
    with pytest.raises(Conflict):
        await kube.write_status(item, STATUS)
    nowhere = {**item, "metadata": {**item["metadata"], "namespace": "nowhere"}}
    with pytest.raises(Gone):
        await kube.write_status(nowhere, STATUS)


async def test_every_manifest_is_accepted_and_applying_it_again_changes_nothing(
    kube: Cluster, subject: Subject
) -> None:
    resources = resources_of(subject)
    kinds = {m["kind"] for m in resources}
    expected = "ControllerRevision PersistentVolumeClaim ConfigMap Service StatefulSet"
    assert kinds == set(expected.split())
    for each in resources:
        await kube.apply(each)
        # Of a claim that it has just made the server stores the first apply once more.
        second, third = await kube.apply(each), await kube.apply(each)
        assert second["metadata"]["resourceVersion"] == third["metadata"]["resourceVersion"]
        assert find_difference(each, second) is None, "what the server adds is no drift"


async def test_an_object_of_somebody_elses_is_not_taken_over(
    api: ApiServer, kube: Cluster, subject: Subject, namespace: str
) -> None:
    active = next(m for m in resources_of(subject) if m["metadata"]["name"] == "demo-active")
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "demo-active", "namespace": namespace},
        "data": {"mine": "yes"},
    }
    api.apply(theirs)
    with pytest.raises(Refused, match="demo-active exists and is not this SignalCanary's"):
        await kube.apply(active)
    live = api.must("GET", f"/api/v1/namespaces/{namespace}/configmaps/demo-active")
    assert live["data"] == {"mine": "yes"}


async def test_what_others_have_changed_on_our_objects_is_taken_back(
    api: ApiServer, kube: Cluster, subject: Subject
) -> None:
    (sts, *_) = [m for m in resources_of(subject) if m["kind"] == "StatefulSet"]
    await kube.apply(sts)
    others = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": sts["metadata"]["name"], "namespace": subject.key.namespace},
        "spec": {"replicas": 7},
    }
    assert api.apply(others, "somebody")["spec"]["replicas"] == 7
    assert (await kube.apply(sts))["spec"]["replicas"] == sts["spec"]["replicas"]


async def test_lists_hold_our_own_and_say_of_which_version_they_are(
    api: ApiServer, kube: Cluster, subject: Subject, namespace: str
) -> None:
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "data": {}}
    api.apply(stranger | {"metadata": {"name": "stranger", "namespace": namespace}})
    for each in resources_of(subject):
        await kube.apply(each)
    listed = await kube.list_all(Kind.CONFIG_MAP, namespace)
    assert len(listed.items) == 4
    assert int(listed.version or 0) >= max(
        int(item["metadata"]["resourceVersion"]) for item in listed.items
    )
    everywhere = await kube.list_all(Kind.CONFIG_MAP, None)
    assert len(everywhere.items) >= 4


async def test_only_the_very_object_is_deleted_and_one_that_is_gone_is_fine(
    kube: Cluster, subject: Subject, namespace: str
) -> None:
    (sts, *_) = [m for m in resources_of(subject) if m["kind"] == "StatefulSet"]
    applied = await kube.apply(sts)
    name, uid = applied["metadata"]["name"], applied["metadata"]["uid"]
    await kube.delete(Kind.STATEFUL_SET, namespace, name, "another-uid")
    assert (await kube.list_all(Kind.STATEFUL_SET, namespace)).items
    await kube.delete(Kind.STATEFUL_SET, namespace, name, uid)
    assert not (await kube.list_all(Kind.STATEFUL_SET, namespace)).items
    await kube.delete(Kind.STATEFUL_SET, namespace, name, uid)


async def test_an_event_appears_once_and_can_be_sorted(
    api: ApiServer, kube: Cluster, item: Live, namespace: str
) -> None:
    later = transition("its pods run", NOW + timedelta(seconds=5))
    for each in (later, transition(), transition(), later):
        await kube.emit(item, each)
    found = sorted(events(api, namespace), key=lambda e: str(e["lastTimestamp"]))
    assert [e["message"] for e in found] == ["rolling out", "its pods run"]
    assert all(e["involvedObject"]["uid"] == item["metadata"]["uid"] for e in found)


async def test_there_is_an_event_of_every_phase(
    api: ApiServer, kube: Cluster, item: Live, namespace: str
) -> None:
    for phase in Phase:
        await kube.emit(item, replace(transition(), phase=phase, message=phase.value))
    assert {event["message"] for event in events(api, namespace)} == set(Phase)


async def test_an_event_of_any_length_and_script_is_accepted(
    api: ApiServer, kube: Cluster, item: Live, namespace: str
) -> None:
    await kube.emit(item, transition("→ × 好" * 500))
    (event,) = events(api, namespace)
    assert len(event["message"].encode()) <= 1024


async def test_a_warning_is_posted_once_a_generation_in_whatever_words(
    api: ApiServer, kube: Cluster, item: Live, namespace: str
) -> None:
    for used in range(3):
        await kube.warn(item, Problem("Refused", "StatefulSet a", f"used: {used}"), NOW)
    (event,) = events(api, namespace)
    assert (event["reason"], event["type"]) == ("Refused", "Warning")
    changed = {**item, "metadata": {**item["metadata"], "generation": 2}}
    await kube.warn(changed, Problem("Refused", "StatefulSet a", "again"), NOW)
    assert len(events(api, namespace)) == 2


async def test_a_pod_is_annotated_and_no_other_of_its_name(
    api: ApiServer, kube: Cluster, namespace: str
) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": namespace, "annotations": {"x": "y"}},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    made = api.apply(pod)
    noted = await kube.annotate(Kind.POD, made, {"signalcanary.dev/gate": "1234"})
    assert noted["metadata"]["annotations"] == {"x": "y", "signalcanary.dev/gate": "1234"}
    assert noted["spec"] == made["spec"]
    former = {**made, "metadata": {**made["metadata"], "uid": "of-one-before"}}
    with pytest.raises(Refused, match="immutable"):
        await kube.annotate(Kind.POD, former, {"signalcanary.dev/gate": "5678"})
    gone = {**made, "metadata": {**made["metadata"], "name": "b"}}
    with pytest.raises(Gone):
        await kube.annotate(Kind.POD, gone, {"signalcanary.dev/gate": "1234"})


async def test_a_refusal_is_told_in_the_servers_words(
    api: ApiServer, kube: Cluster, subject: Subject, namespace: str
) -> None:
    claim = next(m for m in resources_of(subject) if m["kind"] == "PersistentVolumeClaim")
    await kube.apply(claim)
    smaller = {**claim, "spec": {**claim["spec"], "accessModes": ["ReadWriteMany"]}}
    with pytest.raises(Refused, match="immutable"):
        await kube.apply(smaller)
    elsewhere = Owner("nowhere", "demo", subject.owner.uid)
    record = build_controller_revision(elsewhere, subject.target, subject.target_revision)
    with pytest.raises(Gone, match='namespaces "nowhere" not found'):
        await kube.apply(record)


FORBIDDEN = {
    "read Secrets": ("GET", "/api/v1/namespaces/{}/secrets", None),
    "delete claims": ("DELETE", "/api/v1/namespaces/{}/persistentvolumeclaims/demo-data", None),
    "delete all claims": ("DELETE", "/api/v1/namespaces/{}/persistentvolumeclaims", None),
    "delete a SignalCanary": ("DELETE", CANARIES + "/demo", None),
    "change a spec": ("PATCH", CANARIES + "/demo", {"spec": {"version": "v2"}}),
    "annotate a SignalCanary": (
        "PATCH",
        CANARIES + "/demo",
        {"metadata": {"annotations": {"x": "y"}}},
    ),
    "make pods": ("POST", "/api/v1/namespaces/{}/pods", {}),
    "delete pods": ("DELETE", "/api/v1/namespaces/{}/pods/a", None),
    "make roles": ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles", {}),
    "read nodes": ("GET", "/api/v1/nodes", None),
    "change another Lease": (
        "PATCH",
        "/apis/coordination.k8s.io/v1/namespaces/signalcanary-system/leases/other",
        {"spec": {}},
    ),
}


@pytest.mark.parametrize(("method", "path", "body"), FORBIDDEN.values(), ids=FORBIDDEN)
async def test_the_operator_may_not(
    api: ApiServer, namespace: str, method: str, path: str, body: Any
) -> None:
    code, answer = api.request(
        method, path.format(namespace), body, user=OPERATOR, kind="merge-patch+json"
    )
    assert code == 403, answer


@pytest.mark.parametrize("kind", list(Kind))
async def test_the_operator_may_watch(api: ApiServer, kind: Kind) -> None:
    group = {Kind.SIGNAL_CANARY: "signalcanary.dev"}.get(kind, "")
    if kind in (Kind.STATEFUL_SET, Kind.CONTROLLER_REVISION):
        group = "apps"
    plural = "signalcanaries" if kind is Kind.SIGNAL_CANARY else f"{kind.lower()}s"
    asked = {"group": group, "resource": plural, "verb": "watch"}
    answer = api.must(
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        {"spec": {"user": SERVICE_ACCOUNT, "resourceAttributes": asked}},
    )
    assert answer["status"]["allowed"], answer


def test_the_server_refuses_a_shadow_that_publishes_and_takes_a_canary_that_does(
    api: ApiServer, namespace: str
) -> None:
    def create(name: str) -> tuple[int, Any]:
        stages = [{"name": name, "duration": "1h", "publish": True}]
        path = CANARIES.format(namespace) + "?dryRun=All"
        return api.request("POST", path, manifest(namespace, stages=stages))

    status, answer = create("shadow")
    assert (status, "publishes to nobody" in str(answer)) == (422, True)
    status, answer = create("canary")
    assert (status, answer["spec"]["stages"][0]["publish"]) == (201, True)


async def test_a_retained_claim_can_be_applied_again_and_given_an_owner_and_lose_it(
    api: ApiServer, kube: Cluster, namespace: str, subject: Subject
) -> None:
    def claim(policy: str) -> dict[str, Any]:
        storage = {"reclaimPolicy": policy}
        spec = subject.spec.model_validate(SPEC | {"storage": storage})
        state = RolloutState(phase=Phase.WARMING, canary=subject.target)
        revisions = {subject.target.name: subject.target_revision}
        made = build(subject.owner, spec, state, revisions, WorkloadSettings())
        (found,) = [m for m in made if m["kind"] == "PersistentVolumeClaim"]
        return found

    for policy in ("Retain", "Retain", "Delete", "Retain"):
        applied = await kube.apply(claim(policy))
        assert bool(applied["metadata"].get("ownerReferences")) is (policy == "Delete")
    stranger = claim("Retain")
    stranger["metadata"]["labels"] = {"app": "another"}
    stranger["metadata"]["name"] = "taken"
    api.apply(stranger)
    mine = claim("Retain")
    mine["metadata"]["name"] = "taken"
    with pytest.raises(Refused, match="is not this SignalCanary's"):
        await kube.apply(mine)


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ({"claimName": "mine", "bucket": {"url": "s3://lake"}}, "take claimName out"),
        ({"bucket": {"url": "https://lake"}}, "write s3://bucket or s3://bucket/prefix"),
        ({"bucket": {"url": "s3://lake", "endpoint": "lake:9000"}}, "write an address such as"),
    ],
)
async def test_storage_that_cannot_be_is_refused_in_words(
    api: ApiServer, namespace: str, storage: dict[str, Any], said: str
) -> None:
    status, answer = api.request(
        "POST", CANARIES.format(namespace), manifest(namespace, storage=storage)
    )
    assert status == 422
    assert said in answer["message"]


async def test_a_bucket_cannot_be_changed_under_the_data(api: ApiServer, namespace: str) -> None:
    api.apply(manifest(namespace, storage={"bucket": {"url": "s3://lake"}}))
    path = f"{CANARIES.format(namespace)}/demo"
    found = api.request("GET", path)[1]
    found["spec"]["storage"]["bucket"]["url"] = "s3://pond"
    status, answer = api.request("PUT", path, found)
    assert status == 422
    assert "storage.bucket cannot be changed" in answer["message"]
