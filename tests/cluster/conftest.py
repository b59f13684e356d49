"""The real cluster: `make cluster-up` makes it, these fixtures use it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster_kit import REPO, Exchange, Kubectl, Rollout, eventually, find_helm, find_kubectl
from scene import MARKET_OPENS

LONGEST = ("test_rollout", "test_scope", "test_replay", "test_bucket")
"""Files that take longest, the longest first; begun last, one would be waited for alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the longest files to the front, and leave all else in its order."""
    order = {stem: place for place, stem in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of the running cluster; without one the test fails where a cluster is
    demanded (`make test`, CI), and is skipped elsewhere."""
    path = Path(os.environ.get("SIGNALCANARY_KUBECONFIG", REPO / "build/cluster/kubeconfig"))
    if path.exists() and Kubectl(find_kubectl(), path).answers():
        return path
    message = "no cluster: run `make cluster-up` first"
    if os.environ.get("SIGNALCANARY_REQUIRE_CLUSTER"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    """kubectl against the cluster, with the CRD installed."""
    kubectl = Kubectl(find_kubectl(), kubeconfig)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPO / "crds"))

    def is_established() -> bool:
        # `kubectl wait` fails on a CRD that has no conditions at all yet.
        found = kubectl.json("get", "crd", "signalcanaries.signalcanary.dev").get("status", {})
        conditions = found.get("conditions") or ()
        return ("Established", "True") in [(c["type"], c["status"]) for c in conditions]

    eventually("the CRD established", is_established, timeout=30)
    return kubectl


@pytest.fixture(scope="session")
def operator(
    kubectl: Kubectl, testrun_uid: str, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    """The operator, installed from its chart once a run; gives kubectl in its namespace."""
    own = kubectl.in_namespace("signalcanary-system")
    # Where a run has workers, each has a temporary folder of its own below the run's.
    note = tmp_path_factory.getbasetemp().parent / f"operator-{testrun_uid}"
    with note.open("a+") as installed:
        fcntl.flock(installed, fcntl.LOCK_EX)
        installed.seek(0)
        if not installed.read():
            install_operator(kubectl, own)
            installed.write("installed")
    return own


def install_operator(kubectl: Kubectl, own: Kubectl) -> None:
    """Install the chart, with the images as they are now."""
    subprocess.run(
        [
            find_helm(),
            "upgrade",
            "--install",
            "signalcanary",
            str(REPO / "charts/signalcanary"),
            "--namespace=signalcanary-system",
            "--create-namespace",
            "--set=image.tag=dev,workloads.image.tag=dev",
            "--set=prometheus.url=http://prometheus.monitoring.svc:9090",
            "--set=statusInterval=2s,restInterval=10s",
            "--wait",
            "--timeout=90s",
        ],
        check=True,
        env={**os.environ, "KUBECONFIG": str(kubectl.kubeconfig)},
    )
    # Images by tag are replaced in place: a pod that runs already would go on with the old one.
    own("rollout", "restart", "deployment/signalcanary")
    own("rollout", "status", "deployment/signalcanary", "--timeout=60s")


@pytest.fixture(scope="session")
def deleted(kubectl: Kubectl) -> Iterator[list[str]]:
    """Names of namespaces that were deleted; at the end all of them must be gone."""
    names: list[str] = []
    yield names
    for name in names:
        kubectl("wait", "--for=delete", f"namespace/{name}", "--timeout=120s", timeout=130)


@pytest.fixture(scope="module")
def namespace(
    kubectl: Kubectl, deleted: list[str], request: pytest.FixtureRequest
) -> Iterator[Kubectl]:
    """A namespace of the test module's own, deleted with all that is in it."""
    name = request.module.__name__.rsplit(".", 1)[-1].replace("_", "-")
    kubectl("create", "namespace", name)
    try:
        yield kubectl.in_namespace(name)
    finally:
        # A quarter of a minute goes by until it is gone; the next module need not wait for it, and
        # the disruptive one is the last before the cluster itself goes.
        kubectl("delete", "namespace", name, "--wait=false")
        if request.node.get_closest_marker("disruptive") is None:
            deleted.append(name)


@pytest.fixture(scope="module")
def rollout(namespace: Kubectl, operator: Kubectl) -> Rollout:
    """The SignalCanary that lives through all tests of the module."""
    return Rollout(namespace, "ofi-cvd-fusion")


@pytest.fixture(scope="module")
def exchange(namespace: Kubectl, request: pytest.FixtureRequest) -> Exchange:
    """The market that it trades on; it opens when the module's `OPENS` says so."""
    exchange = Exchange(namespace)
    exchange.start(getattr(request.module, "OPENS", MARKET_OPENS))
    return exchange
