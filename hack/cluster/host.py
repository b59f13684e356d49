"""The host's side of the node: it starts the namespaces and takes them away.

Why it exists: the node must leave nothing behind, however it ended. Every
process of the node is in one cgroup that bears the node's name, so `stop` finds
them even when the record is lost or the first process was killed; what the
kernel does not take away with the namespaces is the cgroups and nothing else.
It must never look for a process by its name or command line.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import certificates
from components import build_files
from settings import FIXED_FOLDERS, HERE, Settings
from shell import ClusterError, run, wait_for

STOP_SECONDS = 8.0
UNSHARE = ("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child")
UNSHARE_PROPAGATION = ("--propagation", "private")
FOREIGN_CHAINS = (":KUBE-", ":CNI-")


def read_record(settings: Settings) -> dict[str, Any]:
    try:
        record = json.loads(settings.record.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _cgroup_mounts() -> list[tuple[Path, str]]:
    """The mounted hierarchies and their options; version 2 alone counts if it is alone."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            mounts.append((Path(before.split()[4]), options if kind == "cgroup" else "unified"))
    if not mounts:
        raise ClusterError("no cgroup hierarchy is mounted under /sys/fs/cgroup")
    return mounts


def _cgroups(settings: Settings) -> list[Path]:
    return [mount / settings.name for mount, _ in _cgroup_mounts()]


def _tracker(settings: Settings) -> Path:
    """The hierarchy that every process of the node is in, whatever it does."""
    mounts = _cgroup_mounts()
    for mount, options in mounts:
        if "pids" in options.split(","):
            return mount / settings.name
    return mounts[0][0] / settings.name


def _create_cgroups(settings: Settings) -> Path:
    mounts = _cgroup_mounts()
    legacy = any(options != "unified" for _, options in mounts)
    for mount, options in mounts:
        if legacy and options == "unified":
            continue
        group = mount / settings.name
        group.mkdir(exist_ok=True)
        if "cpuset" in options.split(","):
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((mount / file).read_text())
    node = _tracker(settings) / "node"
    node.mkdir(exist_ok=True)
    return node


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text("0")


def _remove_cgroups(settings: Settings) -> None:
    for group in _cgroups(settings):
        if group.exists():
            folders = [Path(folder) for folder, _, _ in os.walk(group, topdown=False)]
            for folder in folders:
                try:
                    folder.rmdir()
                except OSError:
                    break


def processes(settings: Settings) -> list[int]:
    group = _tracker(settings)
    found: list[int] = []
    for folder, _, _ in os.walk(group):
        try:
            found += [int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()]
        except OSError:
            continue  # It was removed while we were looking.
    return found


def first_process(settings: Settings) -> int | None:
    """The host's number of the node's first process, if that is alive."""
    pid = read_record(settings).get("pid")
    return pid if isinstance(pid, int) and pid in processes(settings) else None


def _check_network_is_free(settings: Settings) -> None:
    for route in json.loads(run(["ip", "-json", "route", "show"]).stdout or "[]"):
        destination = route.get("dst", "default")
        if destination == "default":
            continue
        if ipaddress.IPv4Network(destination, strict=False).overlaps(settings.network):
            raise ClusterError(
                f"{settings.network} is taken on this machine (route to {destination} by"
                f" {route.get('dev', '?')}); set SIGNALCANARY_CLUSTER_NETWORK to a free /30"
            )


def _chains() -> list[str]:
    """The host's own Kubernetes chains; the node's are in its namespace and not seen here."""
    if shutil.which("iptables-save") is None:
        return []
    lines = run(["iptables-save"], check=False).stdout.splitlines()
    return sorted(line.split()[0] for line in lines if line.startswith(FOREIGN_CHAINS))


def prepare(settings: Settings) -> None:
    """A fresh node: new certificates, empty database, no volumes; images are kept."""
    for folder in settings.ephemeral:
        shutil.rmtree(folder, ignore_errors=True)
    settings.logs.mkdir(parents=True)
    settings.volumes.mkdir()
    for file, text in build_files(settings).items():
        path = settings.configuration / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    certificates.create(settings)
    (settings.state / "host-chains.json").write_text(json.dumps(_chains()))
    missing = [str(folder) for folder in FIXED_FOLDERS if not folder.exists()]
    _made_folders(settings).write_text(json.dumps(missing))
    for name in missing:
        Path(name).mkdir()


def start(settings: Settings, kubernetes: Path, coredns: Path) -> None:
    """Starts the node's first process and plugs the cable in; does not wait for more."""
    _check_network_is_free(settings)
    settings.record.unlink(missing_ok=True)
    group = _create_cgroups(settings)
    init = [sys.executable, str(HERE / "node_init.py"), str(kubernetes), str(coredns)]
    with (settings.logs / "node.log").open("ab") as log:
        subprocess.Popen(
            [*UNSHARE, *UNSHARE_PROPAGATION, *init],
            cwd="/",
            env={**os.environ, "SIGNALCANARY_CLUSTER_DIR": str(settings.state)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # In its cgroup from its first instruction: nothing of the node is ever elsewhere.
            preexec_fn=lambda: _enter(group),
        )
    wait_for(
        "the node's first process runs",
        lambda: first_process(settings) is not None,
        timeout_seconds=10,
        interval_seconds=0.02,
        hint=lambda: f"See {settings.logs / 'node.log'}",
    )
    pid = str(first_process(settings))
    cable = settings.host_interface
    run(["ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", pid])
    address = f"{settings.host_address}/{settings.network.prefixlen}"
    run(["ip", "address", "add", address, "dev", cable])
    run(["ip", "link", "set", cable, "up"])


def node_failure(settings: Settings) -> str:
    """Why the node cannot become ready any more; empty while it still can."""
    record = read_record(settings)
    if record.get("phase") == "failed":
        return str(record.get("error"))
    for name, state in record.get("components", {}).items():
        if not state["running"]:
            return f"{name} ended with {state['exit_code']}; see {settings.logs / name}.log"
    if first_process(settings) is None:
        return f"the node's first process is gone; see {settings.logs / 'node.log'}"
    return ""


def inside(settings: Settings) -> list[str]:
    """The words that make a command run in the node's namespaces."""
    pid = first_process(settings)
    if pid is None:
        raise ClusterError("the node is not running; start it with: cluster.py up")
    return ["nsenter", "--target", str(pid), "--mount", "--pid", "--net", "--uts", "--ipc"]


def stop(settings: Settings) -> bool:
    """Ends every process of the node and removes what is left; False if none was there."""
    alive = processes(settings)
    was_there = bool(alive) or any(group.exists() for group in _cgroups(settings))
    first = first_process(settings)
    if first is not None:
        _signal(first, signal.SIGTERM)
        _wait_until_empty(settings, STOP_SECONDS)
    deadline = time.monotonic() + STOP_SECONDS
    while processes(settings) and time.monotonic() < deadline:
        for pid in processes(settings):
            _signal(pid, signal.SIGKILL)
        _wait_until_empty(settings, 0.5)
    # The kernel takes the network namespace away, and the cable with it, a moment later.
    deadline = time.monotonic() + STOP_SECONDS
    while leftovers(settings) and time.monotonic() < deadline:
        _remove_cgroups(settings)
        time.sleep(0.1)
    if _interface(settings).exists():
        run(["ip", "link", "delete", settings.host_interface], check=False)
    _remove_made_folders(settings)
    return was_there


def _made_folders(settings: Settings) -> Path:
    """Lists the mount points that were not on the machine before the node."""
    return settings.state / "made-folders.json"


def _remove_made_folders(settings: Settings) -> None:
    try:
        made = json.loads(_made_folders(settings).read_text())
    except (OSError, ValueError):
        return
    for folder in made:
        with contextlib.suppress(FileNotFoundError):
            Path(folder).rmdir()
    _made_folders(settings).unlink()


def _interface(settings: Settings) -> Path:
    return Path("/sys/class/net") / settings.host_interface


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait_until_empty(settings: Settings, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while processes(settings) and time.monotonic() < deadline:
        time.sleep(0.05)


def leftovers(settings: Settings) -> list[str]:
    """Everything of the node that is still on the machine, in words."""
    found = [f"process {pid}" for pid in processes(settings)]
    found += [f"cgroup {group}" for group in _cgroups(settings) if group.exists()]
    if _interface(settings).exists():
        found.append(f"interface {settings.host_interface}")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if Path(target).is_relative_to(settings.state):
            found.append(f"mount {target}")
    namespaces = set(read_record(settings).get("namespaces", {}).values())
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and namespaces & _namespaces(process):
            found.append(f"process {process.name} in a namespace of the node")
    try:
        before = set(json.loads((settings.state / "host-chains.json").read_text()))
    except (OSError, ValueError):
        return found
    found += [f"iptables chain {chain}" for chain in _chains() if chain not in before]
    return found


def _namespaces(process: Path) -> set[str]:
    found = set()
    for kind in ("net", "pid", "mnt"):
        try:
            found.add(os.readlink(process / "ns" / kind))
        except OSError:
            continue
    return found


def forget(settings: Settings) -> None:
    """Removes what one run wrote, logs excepted: they are for reading afterwards."""
    settings.record.unlink(missing_ok=True)
    (settings.state / "host-chains.json").unlink(missing_ok=True)
    settings.kubeconfig.unlink(missing_ok=True)
    for folder in settings.ephemeral:
        if folder != settings.logs:
            shutil.rmtree(folder, ignore_errors=True)


def purge(settings: Settings) -> None:
    shutil.rmtree(settings.state)
    with contextlib.suppress(OSError):
        Path("/var/lib/containers").rmdir()  # The mount point of images.py, if no one else's.
