"""The operator as a process, on a real API server and with the chart's rights alone."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from api_server import (
    NAMESPACED,
    OPERATOR,
    SYSTEM,
    ApiServer,
    eventually,
    install_crd,
    process,
    running_api_server,
)
from test_cluster import CANARIES, manifest

from signalcanary.crd import build_crd


@dataclass(frozen=True)
class Operator:
    name: str
    child: Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def waits_for(self, text: str, within: float = 30) -> None:
        def look() -> bool:
            assert self.child.poll() is None, f"{self.name} ended: {self.log}"
            return text in self.log

        eventually(f"{self.name} says {text!r}", look, within)

    def leads(self, within: float = 30) -> None:
        self.waits_for(f"{self.name} leads", within)

    def stop(self) -> float:
        """SIGTERM; how long it took to end, in seconds."""
        began = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        assert self.child.wait(15) == 0, self.log
        return time.monotonic() - began


@pytest.fixture
def start(api: ApiServer, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Starts operators; those that a test leaves running are ended after it."""
    with ExitStack() as stack:

        def start(name: str, *args: str, server: ApiServer = api, user: str = OPERATOR) -> Operator:
            kubeconfig = server.kubeconfig(user)
            command = [
                *(sys.executable, "-m", "signalcanary", "operator"),
                "--prometheus-url=http://127.0.0.1:9",  # nobody answers there
                "--workloads-image=workloads:1",
                "--listen=127.0.0.1:0",
                f"--identity={name}",
                f"--lease-namespace={SYSTEM}",
                *args,
            ]
            log = tmp_path / f"{name}.log"
            env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
            return Operator(name, stack.enter_context(process(command, log, env=env)), log)

        yield start


def status(api: ApiServer, namespace: str) -> dict[str, Any]:
    found = api.must("GET", f"{CANARIES.format(namespace)}/demo")
    return dict(found.get("status", {}))


def test_one_leads_and_another_takes_over_after_a_kill_and_at_once_after_a_stop(
    api: ApiServer, namespace: str, start: Callable[..., Operator]
) -> None:
    first = start("first")
    first.leads()
    second = start("second")
    api.apply(manifest(namespace))
    eventually("a rollout begins", lambda: status(api, namespace).get("phase") == "Pending")
    second.waits_for("metrics at")
    assert "second leads" not in second.log

    first.child.kill()
    second.leads(within=30)  # the Lease is of 15 s
    api.apply(manifest(namespace, version="v2"))
    eventually("v2", lambda: status(api, namespace).get("observedGeneration") == 2, within=10)

    third = start("third")
    third.waits_for("metrics at")
    assert second.stop() < 5
    third.leads(within=8)  # not the 15 s of the Lease: it was let go
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/signalcanary-operator"
    assert api.must("GET", lease)["spec"]["holderIdentity"] == "third"
    assert third.stop() < 5
    assert not api.must("GET", lease)["spec"].get("holderIdentity")

    for operator in (second, third):
        assert not re.search("ERROR|Traceback|Exception", operator.log), operator.log
        # Nothing but what happened: start, election, transitions, stop.
        assert len(operator.log.splitlines()) < 15, operator.log
    found = api.must("GET", f"{CANARIES.format(namespace)}/demo")
    assert not {"annotations", "finalizers", "labels"} & set(found["metadata"])
    assert {m["manager"] for m in found["metadata"]["managedFields"]} == {"kubectl", "signalcanary"}
    events = api.must("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    assert [e["reason"] for e in events].count("RolloutStarted") == 2


def test_an_operator_of_one_namespace_needs_no_rights_outside_of_it(
    api: ApiServer, namespace: str, start: Callable[..., Operator]
) -> None:
    other = api.namespace(f"{namespace}-other")
    options = f"--set=watchNamespace={namespace},prometheus.url=http://prometheus"
    for item in api.template(options, release=f"signalcanary-{NAMESPACED}"):
        assert not item["kind"].startswith("Cluster")
        if "Role" in item["kind"]:
            api.apply(item)
    name = f"signalcanary-{NAMESPACED}-operator"
    operator = start(
        "namespaced", f"--namespace={namespace}", f"--lease-name={name}", user=NAMESPACED
    )
    operator.leads()
    for each in (namespace, other):
        api.apply(manifest(each))
    eventually("a rollout begins", lambda: status(api, namespace).get("phase") == "Pending")
    assert "phase" not in status(api, other)
    assert api.request("GET", CANARIES.format(other), user=NAMESPACED)[0] == 403
    assert operator.stop() < 5


def test_a_group_takes_turns_and_an_order_is_kept_whoever_leads(
    api: ApiServer, namespace: str, start: Callable[..., Operator]
) -> None:
    """Nothing runs pods here, so who has begun is Pending until somebody aborts it."""

    def apply(name: str, **spec: Any) -> None:
        made = manifest(namespace, evaluation={"interval": "1s"}, **spec)
        api.apply(made | {"metadata": {"name": name, "namespace": namespace}})

    def statuses() -> dict[str, dict[str, Any]]:
        items = api.must("GET", CANARIES.format(namespace))["items"]
        return {item["metadata"]["name"]: item.get("status", {}) for item in items}

    def phases() -> dict[str, str]:
        return {name: one.get("phase", "") for name, one in statuses().items()}

    def running() -> set[str]:
        found = {name for name, phase in phases().items() if phase == "Pending"}
        assert len(found) <= 1, found
        return found

    def abort(name: str) -> None:
        asked = {"signalcanary.dev/abort": statuses()[name]["subject"]}
        path = f"{CANARIES.format(namespace)}/{name}"
        api.must("PATCH", path, {"metadata": {"annotations": asked}}, kind="merge-patch+json")

    def waits_for(name: str) -> tuple[str, str]:
        told = statuses()[name].get("conditions", ())
        return next(((c["reason"], c["message"]) for c in told if c["type"] == "Waiting"), ("", ""))

    first = start("first")
    first.leads()
    turns = {"group": {"name": "desk", "pace": "InTurn", "onVerdict": "Ignore"}}
    for name in ("a", "b", "c"):
        apply(name, **turns)
    apply("next", after=["a", "b"])
    apply("lost", after=["nobody"])
    (one,) = eventually("one has begun", running)
    rest = {"a", "b", "c"} - {one}
    eventually("the others queue", lambda: {phases()[name] for name in rest} == {"Waiting"})
    eventually("they say why", lambda: all(one in waits_for(name)[1] for name in rest))
    eventually("order", lambda: waits_for("next")[0] == "AfterOthers")
    eventually("a missing one", lambda: waits_for("lost")[0] == "AfterMissing")

    first.child.kill()
    abort(one)
    start("second").leads(within=120)  # the Lease is of 15 s
    (two,) = eventually("another has begun", lambda: running() - {one})
    assert phases()[one] == "RolledBack"
    api.must("DELETE", f"{CANARIES.format(namespace)}/{two}")
    (last,) = rest - {two}
    eventually("the last has begun", lambda: running() == {last})
    assert phases()["next"] == "Waiting"
    apply("a", after=["next"]) if "a" in phases() else apply("b", after=["next"])
    eventually("the ring is found", lambda: waits_for("next")[0] == "OrderCycle")


def test_a_report_that_was_pending_at_a_kill_is_written_by_the_next_operator(
    api: ApiServer, namespace: str, start: Callable[..., Operator], tmp_path: Path
) -> None:
    root = tmp_path / "reports"  # is not there yet, as a volume that is not mounted
    first = start("first", f"--reports={root}")
    first.leads()
    api.apply(manifest(namespace, evaluation={"interval": "1s"}))
    eventually("a rollout begins", lambda: status(api, namespace).get("phase") == "Pending")
    asked = {"signalcanary.dev/abort": status(api, namespace)["subject"]}
    path = f"{CANARIES.format(namespace)}/demo"
    api.must("PATCH", path, {"metadata": {"annotations": asked}}, kind="merge-patch+json")
    eventually("it is decided", lambda: status(api, namespace).get("phase") == "RolledBack")
    first.waits_for("is not written, tried again in")
    assert "FilesRefused" in first.log
    eventually("the ConfigMap", lambda: "configMap" in status(api, namespace).get("report", {}))
    first.child.kill()

    root.mkdir()
    second = start("second", f"--reports={root}")
    second.leads()
    second.waits_for("report written: ")
    url = eventually("the link", lambda: status(api, namespace)["report"].get("url"))
    page = Path(url)
    assert page.parent.parent == root / namespace / "demo"
    assert page.name == "report.html"
    assert "rolled back" in page.read_text()
    assert json.loads((page.parent / "report.json").read_text())["outcome"] == "RolledBack"
    assert "# " in (page.parent / "report.md").read_text()
    assert not [file for file in root.rglob("*") if "#" in file.name]
    assert second.stop() < 5
    for operator in (first, second):
        assert not re.search("Traceback|ERROR", operator.log), operator.log


def test_what_a_quota_refuses_is_told_on_the_object(
    api: ApiServer, namespace: str, start: Callable[..., Operator]
) -> None:
    quota: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small", "namespace": namespace},
        "spec": {"hard": {"count/statefulsets.apps": "0"}},
    }
    made = api.must("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
    # As the controller does that is not here; a quota binds by its status.
    made["status"] = {"hard": quota["spec"]["hard"], "used": {"count/statefulsets.apps": "0"}}
    api.must("PUT", f"/api/v1/namespaces/{namespace}/resourcequotas/small/status", made)
    start("quota").leads()
    api.apply(manifest(namespace, evaluation={"interval": "1s"}))

    def told() -> list[str]:
        events = api.must("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        return [e["message"] for e in events if e["reason"] == "Refused"]

    eventually("both StatefulSets are refused", lambda: len(told()) == 2)
    assert all("quota" in message for message in told())
    # The rest of it was made.
    for kind in ("configmaps", "persistentvolumeclaims"):
        assert api.must("GET", f"/api/v1/namespaces/{namespace}/{kind}")["items"]


def test_without_its_crd_it_says_what_is_missing_and_ends(
    tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Operator], api: ApiServer
) -> None:
    with running_api_server(tmp_path_factory.mktemp("bare"), has_crd=False) as bare:
        early = start("early", server=bare, user="admin")
        assert early.child.wait(30) == 1
        crd = build_crd()
        fields = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        status = fields["status"]["properties"]
        del status["publisher"], status["timers"]["items"]["properties"]["clock"]
        install_crd(bare, crd)
        late = start("late", server=bare, user="admin")
        assert late.child.wait(30) == 1
    assert "apply the CRD" in early.log
    assert "it does not know status.publisher and 1 more; apply" in late.log
    assert "Traceback" not in early.log + late.log


def test_without_rights_it_says_so_and_ends(api: ApiServer, start: Callable[..., Operator]) -> None:
    operator = start("powerless", user=NAMESPACED)  # has none in the whole cluster
    assert operator.child.wait(30) == 1
    assert "cannot list resource" in operator.log
    assert "Traceback" not in operator.log
