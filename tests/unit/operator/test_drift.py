"""What counts as drift of an object, and what is somebody else's business."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from signalcanary.drift import find_difference, find_edited_images, find_mixed_images

Change = Callable[[dict[str, Any]], None]

DECLARED: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "a", "labels": {"x": "1"}, "annotations": {"hash": "h"}},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "harvest",
                        "image": "workloads:1",
                        "args": ["harvest", "--config=/c"],
                        "env": [{"name": "SHARD", "value": "0"}],
                        "resources": {"limits": {"memory": "1Gi"}},
                        "volumeMounts": [
                            {"name": "config", "mountPath": "/c"},
                            {"name": "config", "mountPath": "/d"},
                        ],
                    }
                ],
                "nodeSelector": {},
            }
        },
    },
}


def container(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = item["spec"]["template"]["spec"]["containers"][0]
    return found


def live(change: Change = lambda item: None) -> dict[str, Any]:
    """As a server has it: with its defaults, without the kind, in another order."""
    item = deepcopy(DECLARED)
    del item["kind"], item["spec"]["template"]["spec"]["nodeSelector"]
    item["metadata"] |= {"uid": "u", "generation": 3}
    item["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    container(item)["volumeMounts"].reverse()
    container(item)["terminationMessagePath"] = "/dev/termination-log"
    change(item)
    return item


def set_to(name: str, value: Any) -> Change:
    return lambda item: container(item).__setitem__(name, value)


def test_what_the_server_adds_is_no_drift() -> None:
    assert find_difference(DECLARED, live()) is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(set_to("resources", {"limits": {"memory": "4Gi"}}), id="resources"),
        pytest.param(
            lambda item: container(item)["env"].append({"name": "HTTP_PROXY", "value": "p"}),
            id="one variable more",
        ),
        pytest.param(
            lambda item: item["spec"]["template"]["spec"]["containers"].append({"name": "side"}),
            id="a sidecar",
        ),
        pytest.param(lambda item: item["metadata"]["labels"].update(team="t"), id="a label"),
    ],
)
def test_what_others_add_or_give_is_theirs(change: Change) -> None:
    assert find_difference(DECLARED, live(change)) is None


CONTAINER = "spec.template.spec.containers[harvest]"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            set_to("image", "workloads:2"),
            f"{CONTAINER}.image was workloads:2, declared is workloads:1",
        ),
        (
            lambda item: item["spec"].update(replicas=0),
            "spec.replicas was 0, declared is 2",
        ),
        (set_to("args", ["harvest"]), f"{CONTAINER}.args was ['harvest'], "),
        (set_to("args", ["harvest", "--x"]), f"{CONTAINER}.args[1] was --x, "),
        (set_to("env", []), f"{CONTAINER}.env[SHARD] was nothing, "),
        (
            lambda item: container(item)["volumeMounts"][0].update(name="other"),
            f"{CONTAINER}.volumeMounts[/d].name was other, ",
        ),
        (
            lambda item: item["metadata"]["labels"].clear(),
            "metadata.labels.x was nothing, declared is 1",
        ),
        (
            lambda item: item["spec"]["template"]["spec"].update(containers=None),
            f"{CONTAINER} was nothing, ",
        ),
    ],
)
def test_what_is_declared_and_is_another_is_drift(change: Change, said: str) -> None:
    assert str(find_difference(DECLARED, live(change))).startswith(said)


# --------------------------------------------------------------------------- pods

STATEFUL_SET = {
    **live(),
    "status": {"updateRevision": "r1"},
}


def pod(image: str, set_by: str = "", revision: str = "r1", **status: Any) -> dict[str, Any]:
    """A pod of the StatefulSet, as managed fields tell of it."""
    whole: dict[str, Any] = {"f:name": {}, "f:args": {}}
    by_hand: list[dict[str, Any]] = []
    if set_by:
        by_hand = [owns(set_by, {"f:image": {}})]
    else:
        whole["f:image"] = {}
    return {
        "metadata": {
            "name": "a-0",
            "labels": {"controller-revision-hash": revision},
            "ownerReferences": [{"uid": "u"}],
            "managedFields": [owns("kube-controller-manager", whole), *by_hand],
        },
        "spec": {"containers": [{"name": "harvest", "image": image}]},
        "status": status,
    }


def owns(manager: str, fields: dict[str, Any]) -> dict[str, Any]:
    containers = {"f:containers": {'k:{"name":"harvest"}': fields}}
    return {"manager": manager, "fieldsV1": {"f:spec": containers}}


def test_an_image_that_somebody_gave_a_running_pod_is_put_back() -> None:
    edited = pod("workloads:2", set_by="kubectl-set")
    assert find_edited_images(edited, [STATEFUL_SET]) == {"harvest": "workloads:1"}


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(pod("workloads:1"), id="as declared"),
        pytest.param(pod("mirror/workloads:1"), id="made so by an admission webhook"),
        pytest.param(pod("workloads:1", set_by="signalcanary"), id="put back"),
        pytest.param(pod("workloads:0", "kubectl-set", revision="r0"), id="about to be replaced"),
    ],
)
def test_other_pods_are_left_as_they_are(item: dict[str, Any]) -> None:
    assert find_edited_images(item, [STATEFUL_SET]) == {}


def test_a_pod_of_somebody_elses_is_none_of_ours() -> None:
    edited = pod("workloads:2", set_by="kubectl-set")
    edited["metadata"]["ownerReferences"] = [{"uid": "another"}]
    assert find_edited_images(edited, [STATEFUL_SET]) == {}


def running(name: str, image: str, image_id: str) -> dict[str, Any]:
    item = pod(image, containerStatuses=[{"name": "harvest", "imageID": image_id}])
    item["metadata"]["name"] = name
    return item


def test_a_tag_that_was_moved_under_a_revision_is_told() -> None:
    told = find_mixed_images(
        [running("a-0", "w:1", "w@sha256:aa"), running("a-1", "w:1", "w@sha256:bb")]
    )
    assert told is not None
    assert told.startswith("w:1 is not one image (a-0 runs sha256:aa, a-1 runs sha256:bb)")


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param(
            [running("a-0", "w:1", "w@sha256:aa"), running("a-1", "w:1", "mirror/w@sha256:aa")],
            id="one image",
        ),
        pytest.param(
            [running("a-0", "w:1", "w@sha256:aa"), running("a-1", "w:1", "sha256:bb")],
            id="not from a registry",
        ),
        pytest.param(
            [running("a-0", "w:1", "w@sha256:aa"), running("a-1", "w:1", "")], id="not pulled yet"
        ),
        pytest.param(
            [running("a-0", "w@sha256:cc", "w@sha256:aa"), running("a-1", "w@sha256:cc", "w@b:c")],
            id="named by digest, on two architectures",
        ),
        pytest.param(
            [running("a-0", "w:1", "w@sha256:aa"), running("a-1", "w:2", "w@sha256:bb")],
            id="two tags, of which one is put back",
        ),
    ],
)
def test_what_is_no_moved_tag(pods: list[dict[str, Any]]) -> None:
    assert find_mixed_images(pods) is None
