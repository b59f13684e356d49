"""The node's certificates and kubeconfig files, made with openssl.

Why it exists: every component proves who it is with a certificate of one
authority that lives as long as the node. Keys are elliptic, which makes all of
them in under a second. Nothing here outlives `down`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from settings import KUBERNETES_SERVICE, NODE_NAME, Settings
from shell import run

VALID_DAYS = "30"


@dataclass(frozen=True)
class Identity:
    """A client of the API server: the user and group that its certificate names."""

    file: str
    user: str
    group: str = ""

    @property
    def subject(self) -> str:
        return (f"/O={self.group}" if self.group else "") + f"/CN={self.user}"


CLIENTS = (
    Identity("admin", "signalcanary-admin", "system:masters"),
    Identity("apiserver-kubelet-client", "kube-apiserver", "system:masters"),
    Identity("kube-controller-manager", "system:kube-controller-manager"),
    Identity("kube-scheduler", "system:kube-scheduler"),
    Identity("kube-proxy", "system:kube-proxy"),
    Identity("kubelet", f"system:node:{NODE_NAME}", "system:nodes"),
    Identity("coredns", "system:coredns"),
    Identity("provisioner", "signalcanary-provisioner"),
)


def _key(path: Path) -> None:
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])
    path.chmod(0o600)


def _signed(folder: Path, file: str, subject: str, extensions: Sequence[str]) -> None:
    key, request, certificate = (folder / f"{file}.{end}" for end in ("key", "csr", "crt"))
    extension_file = folder / f"{file}.ext"
    _key(key)
    extension_file.write_text("\n".join(extensions) + "\n")
    run(["openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request])
    run(
        [
            "openssl",
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            folder / "ca.crt",
            "-CAkey",
            folder / "ca.key",
            "-CAcreateserial",
            "-days",
            VALID_DAYS,
            "-extfile",
            extension_file,
            "-out",
            certificate,
        ]
    )
    request.unlink()
    extension_file.unlink()


def _kubeconfig(settings: Settings, path: Path, file: str) -> None:
    """Writes a kubeconfig (as JSON, which is YAML) that can be moved: nothing is by path."""
    folder = settings.certificates

    def embedded(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    name = settings.name
    cluster = {"server": settings.api_url, "certificate-authority-data": embedded("ca.crt")}
    user = {
        "client-certificate-data": embedded(f"{file}.crt"),
        "client-key-data": embedded(f"{file}.key"),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": file, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": file}}],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(config, indent=1) + "\n")


def create(settings: Settings) -> None:
    folder = settings.certificates
    folder.mkdir(parents=True, mode=0o700)
    _key(folder / "ca.key")
    run(
        [
            "openssl",
            "req",
            "-x509",
            "-new",
            "-key",
            folder / "ca.key",
            "-days",
            VALID_DAYS,
            "-subj",
            "/CN=signalcanary-node-ca",
            "-out",
            folder / "ca.crt",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ]
    )
    service = "kubernetes.default.svc.cluster.local"
    names = [service.rsplit(".", count)[0] for count in range(5)]
    addresses = (settings.node_address, "127.0.0.1", KUBERNETES_SERVICE)
    alternatives = [f"DNS:{name}" for name in (*names, NODE_NAME, "localhost")]
    alternatives += [f"IP:{address}" for address in addresses]
    usage = ["keyUsage=critical,digitalSignature", "basicConstraints=critical,CA:FALSE"]
    serving = [*usage, "extendedKeyUsage=serverAuth", "subjectAltName=" + ",".join(alternatives)]
    _signed(folder, "apiserver", "/CN=kube-apiserver", serving)
    _signed(folder, "kubelet-serving", f"/CN={NODE_NAME}", serving)
    _key(folder / "service-account.key")
    run(
        [
            "openssl",
            "ec",
            "-in",
            folder / "service-account.key",
            "-pubout",
            "-out",
            folder / "service-account.pub",
        ]
    )
    for client in CLIENTS:
        _signed(folder, client.file, client.subject, [*usage, "extendedKeyUsage=clientAuth"])
        if client.file != "apiserver-kubelet-client":
            _kubeconfig(settings, folder / f"{client.file}.kubeconfig", client.file)
    _kubeconfig(settings, settings.kubeconfig, "admin")
