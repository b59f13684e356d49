#!/usr/bin/env python3
"""A real one-node Kubernetes cluster for tests and demonstrations.

Why it exists: an operator is only known to work once it has worked on a real
API server with a real kubelet. Where Docker answers, the cluster is made by
kind; elsewhere, on a Debian machine as root, a bare node runs in namespaces of
its own, from Debian's packages and our Go builds. Either way the result is a
kubeconfig, a default StorageClass, cluster DNS, our images and Prometheus.

It runs before any virtual environment exists: the standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import host
import images
import kind
import toolchain
from api import Api
from settings import DNS_DOMAIN, HERE, NODE_NAME, Settings, from_environment
from shell import ClusterError, note, run, step, wait_for

OK, DEGRADED, DOWN = 0, 1, 3
READY_SECONDS = 120.0
DNS_SECONDS = 0.5


class Cluster:
    """What both kinds of cluster can do; `bare` says which kind it is."""

    def __init__(self, settings: Settings, *, bare: bool) -> None:
        self.settings = settings
        self.bare = bare

    def kubectl(self, *words: str, check: bool = True) -> str:
        program = None if self.bare else kind.kubectl(self.settings)
        path = program or toolchain.kubectl_path(self.settings)
        command: list[str | Path] = [path, "--kubeconfig", self.settings.kubeconfig, *words]
        env = {"KUBECACHEDIR": str(self.settings.cache / "kubectl")}
        return run(command, check=check, env=env).stdout

    def tools(self) -> None:
        if self.bare:
            toolchain.install_packages()
            for build in (toolchain.KUBERNETES, toolchain.COREDNS, toolchain.PROMETHEUS):
                toolchain.go_build(self.settings, build)
        program = None if self.bare else kind.kubectl(self.settings)
        folder = toolchain.link_commands(
            self.settings,
            kubectl=program or toolchain.kubectl_path(self.settings),
            helm=toolchain.go_build(self.settings, toolchain.HELM),
            promtool=toolchain.go_build(self.settings, toolchain.PROMTOOL),
            versitygw=toolchain.go_build(self.settings, toolchain.VERSITYGW),
            registry=toolchain.go_build(self.settings, toolchain.REGISTRY),
        )
        note(f"kubectl, helm, promtool, versitygw and registry are in {folder}")

    def up(self) -> None:
        begin = time.monotonic()
        self.tools()
        if self.bare:
            self._start_bare_node()
        else:
            kind.up(self.settings)
        self.images()
        with step("waiting for Prometheus"):
            self.kubectl("apply", "-f", str(HERE / "manifests" / "prometheus.yaml"))
            namespace = ("--namespace", "monitoring")
            self.kubectl("rollout", "status", "deployment/prometheus", *namespace, "--timeout=120s")
        note(f"the cluster is up after {time.monotonic() - begin:.1f} s")
        print(f"export KUBECONFIG={self.settings.kubeconfig}")
        print(f"export PATH={self.settings.kubeconfig.parent / 'bin'}:$PATH")

    def _start_bare_node(self) -> None:
        settings = self.settings
        if host.first_process(settings) is not None:
            failure = host.node_failure(settings)
            if failure:
                raise ClusterError(f"{failure}. Take the node away first: cluster.py down")
            note("the node runs already")
        else:
            if host.processes(settings) or host.leftovers(settings):
                with step("removing what a killed node left"):
                    host.stop(settings)
            kubernetes = toolchain.go_build(settings, toolchain.KUBERNETES)
            coredns = toolchain.go_build(settings, toolchain.COREDNS)
            with step("making certificates and configuration"):
                host.prepare(settings)
            with step("starting the node in its namespaces"):
                host.start(settings, kubernetes, coredns)
        with step("waiting for the API server"):
            self._wait("the API server is ready", lambda: Api(settings).ready())
        images.update(settings, [images.pause_image(settings)])
        self.kubectl("apply", "-f", str(HERE / "manifests" / "node.yaml"))
        with step("waiting for the node, DNS and the default service account"):
            self._wait("the node is Ready", self._node_is_ready)
            self._wait("DNS answers", lambda: dns_answers(settings.node_address))
            account = ("get", "serviceaccount", "default", "--ignore-not-found", "-o", "name")
            self._wait("the default service account exists", lambda: bool(self.kubectl(*account)))

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        def check() -> bool:
            failure = host.node_failure(self.settings)
            if failure:
                raise ClusterError(f"{failure}. Then take the node away: cluster.py down")
            return ready()

        logs = self.settings.logs
        hint = f"See {logs} and: cluster.py status"
        wait_for(what, check, timeout_seconds=READY_SECONDS, hint=lambda: hint)

    def _node_is_ready(self) -> bool:
        condition = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return self.kubectl("get", "node", NODE_NAME, "-o", condition, check=False) == "True"

    def images(self) -> None:
        if not self.bare:
            kind.update_images(self.settings)
            return
        prometheus = toolchain.go_build(self.settings, toolchain.PROMETHEUS)
        wanted = [images.prometheus_image(self.settings, prometheus), *images.application_images()]
        images.update(self.settings, wanted)

    def down(self, *, purge: bool) -> int:
        settings = self.settings
        if not self.bare:
            note("deleted" if kind.down(settings) else "there was no cluster")
            return OK
        with step("stopping the node"):
            was_there = host.stop(settings)
        left = host.leftovers(settings)
        if left:
            print("left on the machine, and not to be removed by this command:", file=sys.stderr)
            print("\n".join(f"  {thing}" for thing in left), file=sys.stderr)
            return DEGRADED
        host.forget(settings)
        if purge:
            with step(f"removing {settings.state}"):
                host.purge(settings)
        what = "nothing is left" if was_there else "there was no node, and nothing is left"
        note(f"{what}: no process, mount, interface, namespace, cgroup or iptables rule")
        return OK

    def status(self) -> int:
        lines = self._bare_status() if self.bare else [("kind", kind.exists(self.settings), "")]
        if lines[0][1]:
            available = 'jsonpath={.status.conditions[?(@.type=="Available")].status}'
            query = (
                "get",
                "deployment",
                "prometheus",
                "--namespace",
                "monitoring",
                "-o",
                available,
            )
            lines.append(("Prometheus", self.kubectl(*query, check=False) == "True", ""))
        for name, good, text in lines:
            print(f"{name:24} {'ok' if good else 'NOT OK'}  {text}".rstrip())
        if not lines[0][1]:
            return DOWN
        return OK if all(good for _, good, _ in lines) else DEGRADED

    def _bare_status(self) -> list[tuple[str, bool, str]]:
        settings = self.settings
        pid = host.first_process(settings)
        if pid is None:
            left = len(host.processes(settings))
            text = f"{left} processes are left of it: cluster.py down" if left else "not running"
            return [("node", False, text)]
        record = host.read_record(settings)
        lines = [("node", record.get("phase") == "running", f"pid {pid}, {record.get('phase')}")]
        for name, state in record.get("components", {}).items():
            end = f"ended with {state.get('exit_code')} at {state.get('ended')}"
            text = f"since {state['since']}" if state["running"] else end
            lines.append((name, bool(state["running"]), text))
        lines.append(("API server ready", Api(settings).ready(), settings.api_url))
        lines.append(("node Ready", self._node_is_ready(), settings.node_address))
        lines.append(("DNS", dns_answers(settings.node_address), f"{settings.node_address}:53"))
        return lines

    def logs(self, component: str | None, *, follow: bool) -> int:
        if not self.bare:
            raise ClusterError("the logs of a kind cluster are had with: kind export logs")
        files = sorted(self.settings.logs.glob(f"{component or '*'}.log"))
        if not files:
            raise ClusterError(f"no such log in {self.settings.logs}")
        words = ["tail", "-n", "100" if component else "15", *(["-f"] if follow else [])]
        os.execvp("tail", [*words, *(str(file) for file in files)])


def dns_answers(server: str) -> bool:
    """Whether the cluster's DNS knows the address of the API server's Service (RFC 1035)."""
    labels = f"kubernetes.default.svc.{DNS_DOMAIN}".split(".")
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    query = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(DNS_SECONDS)
        try:
            connection.sendto(query, (server, 53))
            answer = connection.recv(512)
        except OSError:
            return False
    return bool(struct.unpack(">H", answer[6:8])[0])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tools", help="install packages and build programs; start nothing")
    commands.add_parser("up", help="start the cluster, or make sure that it runs")
    down = commands.add_parser("down", help="stop it and check that nothing is left")
    down.add_argument("--purge", action="store_true", help="remove its images and logs as well")
    commands.add_parser("status", help="exit code 0: all is well, 1: something is not, 3: down")
    commands.add_parser("images", help="build our images and load them into the node")
    logs = commands.add_parser("logs", help="show the logs of the node's components")
    logs.add_argument("component", nargs="?", help="one of them, such as kubelet; default: all")
    logs.add_argument("-f", "--follow", action="store_true")
    commands.add_parser("kubeconfig-path", help="print where the kubeconfig is written")
    return parser.parse_args()


def carry_out(arguments: argparse.Namespace) -> int:
    settings = from_environment()
    if arguments.command == "kubeconfig-path":
        print(settings.kubeconfig)
        return OK
    bare = not kind.docker_works()
    cluster = Cluster(settings, bare=bare)
    if arguments.command == "status":
        return cluster.status()
    if arguments.command == "logs":
        return cluster.logs(arguments.component, follow=arguments.follow)
    if bare:
        toolchain.require_bare_machine()
    with one_at_a_time(settings):
        return change(cluster, arguments)


@contextlib.contextmanager
def one_at_a_time(settings: Settings) -> Iterator[None]:
    """Two commands that change the cluster must not meet: the second waits."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (settings.cache / f"{settings.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("waiting for another cluster.py to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def change(cluster: Cluster, arguments: argparse.Namespace) -> int:
    if cluster.bare:
        cluster.settings.state.mkdir(parents=True, exist_ok=True)
    match arguments.command:
        case "tools":
            cluster.tools()
        case "up":
            cluster.up()
        case "down":
            return cluster.down(purge=arguments.purge)
        case "images":
            cluster.images()
    return OK


def main() -> int:
    try:
        return carry_out(parse_arguments())
    except (ClusterError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return DEGRADED
    except KeyboardInterrupt:
        print("interrupted; what was started goes on: cluster.py down stops it", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
