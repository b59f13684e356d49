"""From live objects to what a decision knows: when is a track ready, and what keeps a pod."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from signalcanary.artifacts import Verification
from signalcanary.contract import Track
from signalcanary.observe import describe_problem, observe_tracks, observe_workloads
from signalcanary.resources import (
    APPLIED_HASH,
    LABEL_COMPONENT,
    LABEL_NAME,
    LABEL_REVISION,
    LABEL_TRACK,
)

LABELS = {
    LABEL_NAME: "demo",
    LABEL_TRACK: "canary",
    LABEL_REVISION: "01234567",
    LABEL_COMPONENT: "analysis",
}
KEY = (Track.CANARY, "01234567")
WANTED: dict[str, Any] = {
    "kind": "StatefulSet",
    "metadata": {"name": "a", "labels": LABELS, "annotations": {APPLIED_HASH: "h1"}},
    "spec": {"replicas": 2},
}
LIVE: dict[str, Any] = {
    "metadata": WANTED["metadata"] | {"generation": 3, "uid": "u1"},
    "spec": {"replicas": 2},
    "status": {"observedGeneration": 3, "readyReplicas": 2, "updatedReplicas": 2},
}


def live(path: str = "", value: Any = None) -> dict[str, Any]:
    item = deepcopy(LIVE)
    node = item
    *parents, last = path.split("/") if path else ("status", "x")
    for key in parents:
        node = node[key]
    if value is None:
        node.pop(last, None)
    else:
        node[last] = value
    return item


def pod(name: str = "a-0", **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": LABELS, "ownerReferences": [{"uid": "u1"}]}
    return {"metadata": metadata, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "analysis", "restartCount": 2, **state}]}


def test_a_track_is_ready_when_all_that_is_wanted_runs_and_is_ready() -> None:
    seen = observe_tracks([WANTED], [live()], [pod(), pod("a-1")])
    assert seen[KEY].is_ready
    assert seen[KEY].pods == 2
    assert seen[KEY].problem is None


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(live("metadata/annotations", {APPLIED_HASH: "h0"}), id="an older manifest"),
        pytest.param(live("metadata/annotations"), id="not applied by us"),
        pytest.param(live("status/observedGeneration", 2), id="not yet taken up"),
        pytest.param(live("status/readyReplicas", 1), id="a pod not ready"),
        pytest.param(live("status/readyReplicas"), id="no pod ready"),
        pytest.param(live("status/updatedReplicas", 1), id="a pod not updated"),
        pytest.param(live("status"), id="just made"),
    ],
)
def test_a_track_is_not_ready_while_anything_is_missing(item: dict[str, Any]) -> None:
    assert not observe_tracks([WANTED], [item], [pod()])[KEY].is_ready


def test_every_workload_of_a_track_must_be_ready() -> None:
    other = deepcopy(WANTED)
    other["metadata"]["name"] = "b"
    assert not observe_tracks([WANTED, other], [live()], [])[KEY].is_ready


def test_a_track_that_is_not_wanted_is_never_ready_but_its_pods_count() -> None:
    seen = observe_tracks([], [live()], [pod()])
    assert not seen[KEY].is_ready
    assert seen[KEY].pods == 1


def with_file(item: dict[str, Any], name: str, **metadata: Any) -> dict[str, Any]:
    """A pod, or what its StatefulSet makes pods of, with the file that it is started with."""
    volumes = [{"name": "tmp"}, {"name": "config", "configMap": {"name": name}}]
    return {**item, "metadata": item["metadata"] | metadata, "spec": {"volumes": volumes}}


@pytest.mark.parametrize(
    ("running", "is_stray"),
    [
        (with_file(pod(), "new"), False),
        (with_file(pod(), "old"), True),
        (with_file(pod(), "new", deletionTimestamp="2026-05-01T12:00:00Z"), True),
        (pod(), True),
    ],
    ids=["as wanted", "another file", "ending", "nobody knows what"],
)
def test_a_pod_that_does_not_run_what_is_wanted_is_a_stray(
    running: dict[str, Any], is_stray: bool
) -> None:
    template = {"spec": with_file(pod(), "new")["spec"]}
    wanted = {**WANTED, "spec": {**WANTED["spec"], "template": template}}
    assert observe_tracks([wanted], [live()], [running])[KEY].strays == is_stray
    assert observe_tracks([], [live()], [running])[KEY].strays == 1, "nothing of it is wanted"


def test_pods_without_a_workload_are_still_pods() -> None:
    assert observe_tracks([], [], [pod()])[KEY].pods == 1


@pytest.mark.parametrize(
    "labels", [{}, {LABEL_TRACK: "canary"}, LABELS | {LABEL_TRACK: "sideways"}], ids=repr
)
def test_what_somebody_else_labelled_stops_no_look(labels: dict[str, str]) -> None:
    stranger = pod("stranger")
    stranger["metadata"]["labels"] = {LABEL_NAME: "demo"} | labels
    stranger["metadata"]["labels"].pop(LABEL_REVISION, None)
    sts = deepcopy(LIVE)
    sts["metadata"]["labels"] = stranger["metadata"]["labels"]
    assert set(observe_tracks([WANTED], [live(), sts], [stranger])) == {KEY}
    assert [w.name for w in observe_workloads([live(), sts], [stranger])] == ["a"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(
            container(
                state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
            ),
            "pod a-0 is waiting: ImagePullBackOff: no such image",
            id="no image",
        ),
        pytest.param(
            container(
                state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
                lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            ),
            "pod a-0 is waiting: CrashLoopBackOff: back-off 40s "
            "(it ended before: OOMKilled, exit code 137)",
            id="crashes for want of memory",
        ),
        pytest.param(
            container(state={"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
            "pod a-0 ended: OOMKilled, exit code 137",
            id="killed for want of memory",
        ),
        pytest.param(
            container(
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={
                    "terminated": {
                        "reason": "Error",
                        "exitCode": 1,
                        "message": "starting\nverify: the registry r: it cannot be reached\n",
                    }
                },
            ),
            "pod a-0 is waiting: CrashLoopBackOff "
            "(it ended before: Error, exit code 1: verify: the registry r: it cannot be reached)",
            id="with its last words",
        ),
        pytest.param(
            container(
                state={
                    "terminated": {"reason": "Error", "exitCode": 3, "message": '{"revision": "a"}'}
                }
            ),
            "pod a-0 ended: Error, exit code 3",
            id="with a document for programs",
        ),
        pytest.param(
            container(state={"terminated": {"exitCode": 1, "message": "x" * 5000}}),
            f"pod a-0 ended: Unknown, exit code 1: {'x' * 400}",
            id="with many words",
        ),
        pytest.param(
            container(state={"waiting": {"reason": "CreateContainerConfigError"}}),
            "pod a-0 is waiting: CreateContainerConfigError",
            id="its configuration is missing",
        ),
        pytest.param(
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available",
                    }
                ]
            },
            "pod a-0 is not scheduled: 0/1 nodes are available",
            id="no node",
        ),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Gated"}]},
            "pod a-0 is not scheduled: Gated",
            id="no node, no message",
        ),
        pytest.param(
            container(state={"waiting": {"reason": "ContainerCreating"}}), None, id="starting"
        ),
        pytest.param(
            {**container(state={"running": {}}), "conditions": [{"type": "Ready"}]},
            None,
            id="running",
        ),
        pytest.param({}, None, id="just made"),
    ],
)
def test_what_keeps_a_pod_from_running_is_put_in_words(
    status: dict[str, Any], words: str | None
) -> None:
    assert describe_problem(pod(**status)) == words


def test_a_workload_is_one_line() -> None:
    waiting = pod("a-1", **container(state={"waiting": {"reason": "ImagePullBackOff"}}))
    stranger = pod("b-0", **container(state={}))
    stranger["metadata"]["ownerReferences"] = [{"uid": "u2"}]
    ready = pod("a-0", **container(state={"running": {}}))
    (line,) = observe_workloads([live("status/readyReplicas", 1)], [ready, waiting, stranger])
    assert (line.ready, line.wanted, line.restarts) == (1, 2, 4)
    assert (line.track, line.component, line.revision) == ("canary", "analysis", "01234567")
    assert line.message == "pod a-1 is waiting: ImagePullBackOff"


FOUND = Verification(revision="01234567", attempt=3, files=2, total_bytes=10)
SAID = {"terminated": {"exitCode": 0, "message": FOUND.model_dump_json(by_alias=True)}}
VERIFIER = LABELS | {LABEL_COMPONENT: "verify"}


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ({"state": SAID}, FOUND),
        ({"state": {"running": {}}, "lastState": SAID}, FOUND),
        ({"state": {"terminated": {"message": "Killed"}}, "lastState": SAID}, FOUND),
        ({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}, None),
        ({"state": {"terminated": {"message": '{"revision": "01234567"}'}}}, None),
        ({"state": {"running": {}}}, None),
    ],
    ids=["at its end", "started again", "killed since", "killed", "cut off", "not yet"],
)
def test_what_a_verification_found_is_the_message_of_its_end(
    state: dict[str, Any], found: Verification | None
) -> None:
    sts, verifier = live("metadata/labels", VERIFIER), pod(**container(**state))
    verifier["metadata"]["labels"] = VERIFIER
    assert observe_tracks([], [sts], [verifier])[KEY].verification == found


def test_nobody_else_can_say_what_a_verification_found() -> None:
    forged = pod(**container(state=SAID))
    forged["metadata"] |= {"labels": VERIFIER, "ownerReferences": [{"uid": "u2"}]}
    sts = live("metadata/labels", VERIFIER)
    assert observe_tracks([], [sts], [forged])[KEY].verification is None
    # Nor the pod of another component.
    assert observe_tracks([], [LIVE], [pod(**container(state=SAID))])[KEY].verification is None
