"""The node's first process: it starts the components and watches them.

Why it exists: the node lives in namespaces of its own, like a container. What
this process mounts, listens on or starts is inside, and the kernel takes all of
it away when this process ends. That is what makes `down` complete.

It reaps every orphan, as a first process must. It must never restart a
component: one that ends is written down in the record, and `status` says so.

Started by host.py with the paths of the two binaries as arguments.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import settings as settings_module
from api import Api
from components import CONTAINERD_SOCKET, KERNEL_TUNABLES, Component, build_components
from settings import FIXED_FOLDERS, HERE, NODE_NAME, SERVICE_NETWORK, Settings
from shell import ClusterError, run, wait_for

START_SECONDS = 90.0
CONTAINERD_STOP_SECONDS = 3.0
# Inside a network namespace nothing is forwarded until it is asked for.
NETWORK_SYSCTLS = ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables")


class Node:
    def __init__(self, settings: Settings, components: tuple[Component, ...], pid: int) -> None:
        self.settings = settings
        self.components = components
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        namespaces = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "pid", "mnt")}
        self.record: dict[str, object] = {"pid": pid, "phase": "starting", "namespaces": namespaces}
        self.states: dict[str, dict[str, object]] = {}

    def write_record(self) -> None:
        """Replaces the record in one step, so that a reader never sees half of it."""
        text = json.dumps({**self.record, "components": self.states}, indent=1) + "\n"
        new = self.settings.record.with_suffix(".new")
        new.write_text(text)
        new.replace(self.settings.record)

    def start(self, component: Component) -> None:
        with (self.settings.logs / f"{component.name}.log").open("ab") as log:
            process = subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[component.name] = process
        self.states[component.name] = {"running": True, "since": _now()}

    def all_started(self) -> bool:
        """True, or an error at once: waiting on for a dead component helps no one."""
        for name, process in self.processes.items():
            code = process.poll()
            if code is not None:
                self.note_end(name, code)
                raise ClusterError(f"{name} ended with {code} while the node was starting")
        return True

    def note_end(self, name: str, code: int) -> None:
        self.states[name] = {"running": False, "exit_code": code, "ended": _now()}
        self.write_record()
        print(f"{_now()} {name} ended with {code}", flush=True)

    def bring_up(self) -> None:
        first, second = ([c for c in self.components if c.stage == stage] for stage in (0, 1))
        for component in first:
            self.start(component)
        self.write_record()
        wait_for(
            "containerd answers",
            lambda: self.all_started() and _accepts(CONTAINERD_SOCKET),
            timeout_seconds=START_SECONDS,
        )
        _remove_stale_containers()
        api = Api(self.settings, host="127.0.0.1")
        wait_for(
            "the API server is ready",
            lambda: self.all_started() and api.ready(),
            timeout_seconds=START_SECONDS,
        )
        for component in second:
            self.start(component)
        self.record["phase"] = "running"
        self.write_record()

    def watch(self) -> None:
        """Reaps until told to stop; helpers are no longer run, so no status is stolen."""
        names = {process.pid: name for name, process in self.processes.items()}
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                time.sleep(1)
                continue
            name = names.pop(pid, None)
            if name is not None:
                self.note_end(name, os.waitstatus_to_exitcode(status))

    def stop_containerd(self) -> None:
        """Lets the image store close its files; all the rest is thrown away."""
        process = self.processes.get("containerd")
        if process is None:
            return
        process.terminate()
        try:
            process.wait(CONTAINERD_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print("containerd did not stop in time", flush=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError:
            return False
    return True


def _remove_stale_containers() -> None:
    """What a killed node left in the image store's books; no process belongs to it."""
    ctr = ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"]
    stale = run([*ctr, "containers", "list", "--quiet"]).stdout.split()
    if stale:
        run([*ctr, "containers", "delete", *stale], check=False)


def _bind(source: Path, target: str) -> None:
    run(["mount", "--bind", source, target])


def mount_private_tree(settings: Settings) -> None:
    # First /run: mount itself keeps notes there, which must not be the machine's.
    for folder in (Path("/run"), *FIXED_FOLDERS):
        run(["mount", "-n", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])
    run(["mount", "-t", "proc", "proc", "/proc"])
    # sysfs shows the network of the namespace that mounts it; the cgroups stay.
    kept = settings.state / "cgroup-mounts"
    kept.mkdir(exist_ok=True)
    run(["mount", "--rbind", "/sys/fs/cgroup", kept])
    run(["mount", "-t", "sysfs", "sysfs", "/sys"])
    run(["mount", "--move", kept, "/sys/fs/cgroup"])
    run(["mount", "--make-rshared", "/"])
    (settings.state / "var-log").mkdir(exist_ok=True)
    _bind(settings.state / "var-log", "/var/log")
    for tunable in KERNEL_TUNABLES:
        _bind(settings.configuration / "tunables" / tunable, f"/proc/sys/{tunable}")


def configure_network(settings: Settings) -> None:
    socket.sethostname(NODE_NAME)
    wait_for(
        "the host has plugged its end of the cable in",
        lambda: Path("/sys/class/net/eth0").exists(),
        timeout_seconds=15,
        interval_seconds=0.02,
    )
    run(["ip", "link", "set", "lo", "up"])
    address = f"{settings.node_address}/{settings.network.prefixlen}"
    run(["ip", "address", "add", address, "dev", "eth0"])
    run(["ip", "link", "set", "eth0", "up"])
    # A Service's address is rewritten after routing, so some route has to match it.
    # There is no default route: the node has no business outside.
    run(["ip", "route", "add", SERVICE_NETWORK, "dev", "eth0", "src", settings.node_address])
    for sysctl in NETWORK_SYSCTLS:
        path = Path("/proc/sys") / sysctl
        if path.exists():
            path.write_text("1\n")


def _on_terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def main() -> int:
    kubernetes, coredns = (Path(argument) for argument in sys.argv[1:3])
    settings = settings_module.from_environment()
    signal.signal(signal.SIGTERM, _on_terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The old /proc still counts as the host does; the host needs that number.
    pid = int(os.readlink("/proc/self"))
    provisioner = Component("provisioner", (sys.executable, str(HERE / "provisioner.py")), stage=1)
    components = (*build_components(settings, kubernetes, coredns), provisioner)
    node = Node(settings, components, pid)
    try:
        mount_private_tree(settings)
        node.write_record()
        configure_network(settings)
        node.bring_up()
        node.watch()
    except ClusterError as error:
        node.record.update(phase="failed", error=str(error))
        node.write_record()
        print(error, flush=True)
        return 1
    finally:
        node.stop_containerd()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
