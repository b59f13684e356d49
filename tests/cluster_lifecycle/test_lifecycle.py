"""The cluster's own life: it tells when it is ill, goes down without a trace, comes up again.

Run after every other test on the cluster, which it takes down.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

REPO = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("SIGNALCANARY_CLUSTER_DIR", "/var/lib/signalcanary-cluster"))
OK, DEGRADED, DOWN = 0, 1, 3
COMPONENTS = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "provisioner",
)


def cluster(verb: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPO / "hack/cluster/cluster.py"), verb],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


@pytest.fixture(scope="module", autouse=True)
def _bare_node() -> None:
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    ):
        pytest.skip("here the cluster is kind's; its life is kind's to test")
    if cluster("status").returncode != OK:
        message = "no cluster in good health: run `make cluster-up` first"
        if os.environ.get("SIGNALCANARY_REQUIRE_CLUSTER"):
            pytest.fail(message)
        pytest.skip(message)


def node_processes() -> list[int]:
    """Ids of every process of the node, its pods' included; pods may end at any time meanwhile."""
    ids: set[int] = set()  # a process stands in the cgroup of more than one controller
    # Unlike rglob, it goes on where a folder has just gone.
    for folder, _, files in os.walk("/sys/fs/cgroup"):
        if "signalcanary" in Path(folder).parts and "cgroup.procs" in files:
            ids |= {int(line) for line in read(Path(folder, "cgroup.procs")).split()}
    return sorted(ids)


def read(path: Path) -> bytes:
    """A file of the kernel's; nothing if what it tells of is gone."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.ENODEV):
            return b""
        raise


def traces() -> list[str]:
    """All that a node that is gone must not have left on the machine."""
    found = [f"process {pid}" for pid in node_processes()]
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").rglob("signalcanary*")]
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").rglob("kubepods*")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if str(STATE) in line or "/kubelet" in line]
    found += [
        f"interface {path.name}"
        for path in Path("/sys/class/net").iterdir()
        if path.name.startswith(("sc-", "cni", "veth"))
    ]
    if shutil.which("iptables-save"):
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True)
        found += [
            f"iptables {line}"
            for line in rules.stdout.splitlines()
            if "KUBE-" in line or "CNI-" in line
        ]
    return found


def test_status_names_every_component() -> None:
    said = cluster("status")
    assert said.returncode == OK
    for component in COMPONENTS:
        assert component in said.stdout


def test_a_dead_component_is_named_and_not_papered_over() -> None:
    (scheduler,) = (
        pid for pid in node_processes() if b"kube-scheduler" in read(Path(f"/proc/{pid}/cmdline"))
    )
    os.kill(scheduler, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while (said := cluster("status")).returncode == OK and time.monotonic() < deadline:
        pass
    assert said.returncode == DEGRADED
    assert "kube-scheduler" in said.stdout
    again = cluster("up")
    assert again.returncode == 1
    assert "down" in again.stdout + again.stderr


def test_a_killed_node_is_cleaned_up_without_a_trace() -> None:
    os.kill(json.loads((STATE / "node.json").read_text())["pid"], signal.SIGKILL)
    assert cluster("status").returncode == DOWN
    down = cluster("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert "nothing is left" in down.stdout + down.stderr
    assert traces() == []


def test_it_comes_up_again_and_goes_down_without_a_trace() -> None:
    started = time.monotonic()
    up = cluster("up")
    assert up.returncode == 0, up.stdout + up.stderr
    print(f"warm up took {time.monotonic() - started:.1f} s")
    assert cluster("status").returncode == OK
    down = cluster("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert traces() == []
    assert not (REPO / "build/cluster/kubeconfig").exists()


def test_taking_down_what_is_not_there_is_fine() -> None:
    down = cluster("down")
    assert down.returncode == 0
    assert "there was no node" in down.stdout + down.stderr
