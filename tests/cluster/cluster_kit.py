"""What the tests on the real cluster share: kubectl, and waiting for what must come true."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import yaml

REPO = Path(__file__).resolve().parents[2]

T = TypeVar("T")


# A container that begins with this waits for files, then becomes the program that needs them.
WAIT_FOR_FILES = """
import os, sys, time
while not all(os.path.exists(path) for path in sys.argv[1].split(",")):
    time.sleep(0.1)
os.execvp(sys.argv[2], sys.argv[2:])
"""
_RECEIVE = """
import os, sys
path = sys.argv[1]
with open(path + ".part", "wb") as out:
    while block := sys.stdin.buffer.read(1 << 20):
        out.write(block)
os.chmod(path + ".part", 0o755)
os.rename(path + ".part", path)
"""


def find_tool(tool: str) -> str:
    """A program of the cluster's, else the one on the PATH."""
    own = REPO / "build/cluster/bin" / tool
    found = str(own) if own.exists() else shutil.which(tool)
    assert found, f"no {tool}: run `make cluster-up` first"
    return found


def find_kubectl() -> str:
    """The kubectl that came with the cluster, else the one on the PATH."""
    return find_tool("kubectl")


def find_helm() -> str:
    """The helm that came with the cluster, else the one on the PATH."""
    return find_tool("helm")


@dataclass(frozen=True)
class Kubectl:
    """kubectl, bound to a cluster and, if given, to a namespace."""

    binary: str
    kubeconfig: Path
    namespace: str | None = None

    def __call__(self, *args: str, stdin: str | None = None, timeout: float = 90) -> str:
        """Run it and return what it printed; a failure is an assertion with its message."""
        done = self._run(args, stdin, timeout)
        # A difference that `diff` finds is on its standard output.
        said = done.stderr + (done.stdout if args[0] == "diff" else "")
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {said}"
        return done.stdout

    def fails(self, *args: str, stdin: str | None = None) -> str:
        """Run it, expect a refusal, and return its message."""
        done = self._run(args, stdin, 90)
        assert done.returncode != 0, f"kubectl {' '.join(args)} was not refused: {done.stdout}"
        return done.stderr

    def send_file(self, file: Path, pod: str, path: str) -> None:
        """Write a file, whole or not at all, into a running pod that has Python."""
        args = ("exec", "-i", pod, "--", "python", "-c", _RECEIVE, path)
        with file.open("rb") as stream:
            subprocess.run(
                self._command(args), stdin=stream, check=True, timeout=120, env=self._environment()
            )

    @contextmanager
    def forward(self, target: str, port: int) -> Iterator[int]:
        """A port of this machine that leads to one in the cluster."""
        command = self._command(("port-forward", target, f":{port}"))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=self._environment()
        ) as process:
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                own = re.search(r"127\.0\.0\.1:(\d+)", said)
                assert own is not None, said
                yield int(own[1])
            finally:
                process.terminate()

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "-o", "json"))

    def in_namespace(self, namespace: str) -> Kubectl:
        return Kubectl(self.binary, self.kubeconfig, namespace)

    def answers(self) -> bool:
        return self._run(("get", "--raw", "/readyz"), None, 20).returncode == 0

    def _run(
        self, args: tuple[str, ...], stdin: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(args),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=self._environment(),
        )

    def _command(self, args: tuple[str, ...]) -> list[str]:
        return [self.binary, *(["-n", self.namespace] if self.namespace else []), *args]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}


def eventually(
    what: str,
    look: Callable[[], T | None],
    timeout: float = 120,
    pause: float = 0.3,
    explain: Callable[[], str] | None = None,
) -> T:
    """Wait until a look finds something, and return it.

    Raises:
        AssertionError: it did not come true in time; says what was seen instead.
    """
    ends_at = time.monotonic() + timeout
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > ends_at:
            detail = f"\n{explain()}" if explain else ""
            raise AssertionError(f"not within {timeout:.0f} s: {what}{detail}")
        time.sleep(pause)


# --------------------------------------------------------------------------- the demo's market


class Exchange:
    """The synthetic exchange in a namespace, and the faults that are put into it."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._control = (
            f"/api/v1/namespaces/{kubectl.namespace}/services/exchange:9600/proxy/control"
        )

    def start(self, *options: str) -> None:
        """Start it, with further options after those of the example."""
        service, deployment = yaml.safe_load_all((REPO / "examples/demo/exchange.yaml").read_text())
        deployment["spec"]["template"]["spec"]["containers"][0]["args"] += options
        self._kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([service, deployment]))
        self._kubectl("rollout", "status", "deployment/exchange", "--timeout=60s")

    def impose(self, **fault: Any) -> None:
        self.impose_all([fault])

    def impose_all(self, faults: list[dict[str, Any]]) -> None:
        path = f"{self._control}/faults"
        self._kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(faults))

    def clear(self) -> None:
        self._kubectl("delete", "--raw", f"{self._control}/faults")

    def state(self) -> Any:
        return json.loads(self._kubectl("get", "--raw", f"{self._control}/state"))


@dataclass(frozen=True)
class Rollout:
    """A SignalCanary on the cluster."""

    kubectl: Kubectl
    name: str

    def document(self, spec: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": "signalcanary.dev/v1alpha1",
            "kind": "SignalCanary",
            "metadata": {"name": self.name},
            "spec": spec,
        }

    def apply(self, spec: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(self.document(spec)))

    def read(self) -> Any:
        return self.kubectl.json("get", "signalcanary", self.name)

    def status(self) -> Any:
        return self.read().get("status", {})

    def describe(self) -> str:
        return self.kubectl("describe", "signalcanary", self.name)

    def wait_for_phase(self, *phases: str, timeout: float = 150) -> Any:
        """Wait until the status is of the newest spec and in one of the phases."""

        def look() -> Any:
            live = self.read()
            status = live.get("status", {})
            is_current = status.get("observedGeneration") == live["metadata"]["generation"]
            return status if is_current and status.get("phase") in phases else None

        return eventually(
            f"{self.name} in {' or '.join(phases)}", look, timeout, explain=self.describe
        )

    def approve(self, stage: str) -> None:
        """Wait until a stage waits for a person, and approve it."""
        sigc = f"signalcanary/{self.name}"
        needs = ("wait", "--for=condition=ApprovalNeeded", "--timeout=150s", sigc)
        eventually(
            f"stage {stage} waits for its approval",
            lambda: self.kubectl(*needs, timeout=160) and self.status()["stage"]["name"] == stage,
            timeout=10,
            explain=self.describe,
        )
        value = f"signalcanary.dev/approve={self.status()['subject']} checked"
        self.kubectl("annotate", "--overwrite", sigc, value)

    def delete(self) -> None:
        """Delete it and wait until its pods are gone."""
        self.kubectl("delete", "signalcanary", self.name, "--timeout=30s")
        eventually("the pods gone", lambda: not self.pods())

    def pods(self, **labels: str) -> list[Any]:
        """Pods of this rollout by label (without its group), as JSON."""
        selector = ",".join(
            [f"signalcanary.dev/name={self.name}"]
            + [f"signalcanary.dev/{key}={value}" for key, value in labels.items()]
        )
        return list(self.kubectl.json("get", "pods", "-l", selector)["items"])

    def pod_lives(self, **labels: str) -> dict[str, tuple[str, int]]:
        """What changes if a pod is touched: its uid and its restarts, by name."""
        return {
            pod["metadata"]["name"]: (pod["metadata"]["uid"], restarts_of(pod))
            for pod in self.pods(**labels)
        }


def restarts_of(pod: Any) -> int:
    """Restarts of all containers of a pod."""
    return sum(c["restartCount"] for c in pod["status"].get("containerStatuses", ()))


def kill_containers_of(pod: Any) -> None:
    """kill -9 the processes of a pod's containers, as the kernel's OOM killer would.

    The node's processes are this machine's; which of them are the pod's, their cgroup tells.
    """
    uid = pod["metadata"]["uid"]
    killed = []
    for entry in Path("/proc").iterdir():
        try:
            cgroups = (entry / "cgroup").read_text() if entry.name.isdigit() else ""
            command = (entry / "cmdline").read_bytes() if cgroups else b""
        except (FileNotFoundError, ProcessLookupError):
            continue
        is_of_pod = uid in cgroups or uid.replace("-", "_") in cgroups
        if is_of_pod and b"python" in command:
            os.kill(int(entry.name), signal.SIGKILL)
            killed.append(entry.name)
    assert killed, f"no process of pod {pod['metadata']['name']} found"


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def query_prometheus(kubectl: Kubectl, query: str) -> list[Any]:
    """An instant query to the cluster's Prometheus."""
    path = "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query?query="
    answer = json.loads(kubectl("get", "--raw", path + quote(query)))
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def metric_of_every_symbol(
    kubectl: Kubectl, metric: str, namespace: str | None, timeout: float
) -> None:
    """Wait until Prometheus has a metric of the stable track for each symbol of the scene.

    A session of 8 h lasts 4 min of the scene's market; its metric has a value only while it lasts.
    """
    query = f'last_over_time({metric}{{namespace="{namespace}",track="stable"}}[15m])'

    def symbols() -> Any:
        found = {s["metric"]["symbol"] for s in query_prometheus(kubectl, query)}
        return found >= {"BTCUSDT", "ETHUSDT", "ADAUSDT"}

    eventually(f"{metric} of every symbol", symbols, timeout=timeout)
