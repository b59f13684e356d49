"""A real API server for tests: etcd and kube-apiserver on loopback, no node.

Nothing is simulated: the server validates, defaults, merges applies and checks rights as any
cluster's does. What a node and the controllers do (pods, garbage collection) does not happen.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("SIGNALCANARY_CACHE", Path.home() / ".cache/signalcanary"))
TOOLS = REPO / "build/cluster/bin"

ADMIN = "admin"
OPERATOR = "operator"
"""Is the chart's service account, by name: its rights are exactly those of the chart's roles."""

NAMESPACED = "namespaced"
"""The same of a release that watches one namespace alone."""

NOBODY = "nobody"
"""Is known, and has no rights."""

SYSTEM = "signalcanary-system"
SERVICE_ACCOUNT = f"system:serviceaccount:{SYSTEM}:signalcanary"


class Missing(Exception):
    """A program is not on this machine; the message says how to get it."""


def eventually(what: str, look: Callable[[], Any], within: float = 30, pause: float = 0.05) -> Any:
    """Wait until a look finds something, and return it."""
    ends_at = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < ends_at, f"not within {within:.0f} s: {what}"
        time.sleep(pause)
    return found


def find_tool(name: str) -> str:
    """helm or kubernetes, as `cluster.py tools` builds them."""
    link = TOOLS / {"kubernetes": "kubectl"}.get(name, name)
    built = [link.resolve()] if link.exists() else sorted(CACHE.glob(f"bin/*/{name}"))
    if not built:
        raise Missing(f"no {name}: run `python3 hack/cluster/cluster.py tools` first")
    return str(built[-1])


def find_installed(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"no {name} on the PATH: install Debian's package of it")
    return found


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended, whatever happens."""
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **options)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@dataclass(frozen=True)
class ApiServer:
    """A running API server.

    Attributes:
        token: of each user.
    """

    url: str
    folder: Path
    token: dict[str, str]
    helm: str

    def request(
        self, method: str, path: str, body: Any = None, user: str = ADMIN, kind: str = "json"
    ) -> tuple[int, Any]:
        """One call; the status and the answer."""
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token[user]}", "Content-Type": f"application/{kind}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=20, context=_UNVERIFIED) as answer:
                return answer.status, _parse(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parse(error.read())

    def must(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        status, answer = self.request(method, path, body, **options)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def apply(self, item: dict[str, Any], manager: str = "kubectl", **options: Any) -> Any:
        """Server-side apply of a manifest."""
        path = f"{path_of(item)}?fieldManager={manager}&force=true"
        if options.pop("dry_run", False):
            path += "&dryRun=All"
        return self.must("PATCH", path, item, kind="apply-patch+yaml", **options)

    def kubeconfig(self, user: str) -> Path:
        path = self.folder / f"{user}.kubeconfig"
        cluster = {"server": self.url, "insecure-skip-tls-verify": True}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.token[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def namespace(self, name: str) -> str:
        item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.request("POST", "/api/v1/namespaces", item)
        return name

    def template(self, *options: str, release: str = "signalcanary") -> list[dict[str, Any]]:
        """The chart's manifests."""
        done = self.run_helm("template", release, f"--namespace={SYSTEM}", *options)
        assert done.returncode == 0, done.stderr
        return [item for item in yaml.safe_load_all(done.stdout) if item]

    def run_helm(self, *args: str) -> subprocess.CompletedProcess[str]:
        """helm on the chart; it is told the version, for as built from its module it knows none."""
        chart = str(REPO / "charts/signalcanary")
        environment = {**os.environ, "HELM_CACHE_HOME": str(self.folder / "helm")}
        return subprocess.run(
            [self.helm, *args, "--kube-version=v1.34.0", chart],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )


_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE  # the server signs its own certificate, on loopback


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


PLURALS = {"SignalCanary": "signalcanaries", "NetworkPolicy": "networkpolicies"}
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"}


def path_of(item: dict[str, Any]) -> str:
    """The API path of an object."""
    version, kind, metadata = item["apiVersion"], item["kind"], item["metadata"]
    plural = PLURALS.get(kind, f"{kind.lower()}s")
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    scope = "" if kind in CLUSTER_WIDE else f"/namespaces/{metadata['namespace']}"
    return f"{root}{scope}/{plural}/{metadata['name']}"


@contextmanager
def running_api_server(folder: Path, *, has_crd: bool = True) -> Iterator[ApiServer]:
    """etcd and the API server until the block ends, with the CRD installed or not.

    Raises:
        Missing: a program that this takes is not here.
    """
    kubernetes, helm = find_tool("kubernetes"), find_tool("helm")
    etcd, openssl = find_installed("etcd"), find_installed("openssl")
    client, peer, secure = free_ports(3)
    key = folder / "service-account.key"
    subprocess.run([openssl, "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    token = {user: f"{user}-token" for user in (ADMIN, OPERATOR, NAMESPACED, NOBODY)}
    (folder / "tokens.csv").write_text(
        f"{token[ADMIN]},admin,1,system:masters\n"
        f"{token[OPERATOR]},{SERVICE_ACCOUNT},2\n"
        f"{token[NAMESPACED]},{SERVICE_ACCOUNT}-{NAMESPACED},3\n"
        f"{token[NOBODY]},nobody,4\n"
    )
    store = [
        etcd,
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    server = [
        kubernetes,
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={secure}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=ServiceAccount",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--shutdown-delay-duration=0s",
    ]
    api = ApiServer(f"https://127.0.0.1:{secure}", folder, token, helm)
    with process(store, folder / "etcd.log"), process(server, folder / "apiserver.log") as child:

        def is_ready() -> bool:
            log = (folder / "apiserver.log").read_text(errors="replace")[-3000:]
            assert child.poll() is None, f"the API server ended: {log}"
            try:
                return api.request("GET", "/readyz")[0] == 200
            except OSError:
                return False

        eventually("the API server is ready", is_ready, within=60, pause=0.2)
        if has_crd:
            install_crd(api, chart_crd())
        for namespace in (SYSTEM, "default"):
            api.namespace(namespace)
        yield api


def chart_crd() -> dict[str, Any]:
    """The CRD of the chart."""
    (file,) = (REPO / "charts/signalcanary/crds").glob("*.yaml")
    crd: dict[str, Any] = yaml.safe_load(file.read_text())
    return crd


def install_crd(api: ApiServer, crd: dict[str, Any]) -> None:
    """Have a CRD served, and its schema told."""
    api.apply(crd)
    paths = ("/apis/signalcanary.dev/v1alpha1/signalcanaries",)
    paths += ("/openapi/v3/apis/signalcanary.dev/v1alpha1",)
    eventually("the CRD is served", lambda: all(api.request("GET", p)[0] == 200 for p in paths))
