"""A real registry on loopback (CNCF Distribution), what is pushed to it, and a bad way to it."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3
import yaml

from built_kit import start_server, stop_server

USER, PASSWORD = "robot", "only-on-loopback"
HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuubPfSXoO5k19Fb3/crmPNk5aTsEheqN6\n"
TITLE = "org.opencontainers.image.title"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2}


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True)
    return done.stdout


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate of its own for 127.0.0.1."""
    key, certificate = folder / "tls.key", folder / "tls.crt"
    names = ("-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1")
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names)
    openssl(*new, "-keyout", key, "-out", certificate)
    return key, certificate


@dataclass
class RegistryServer:
    """A registry that can be stopped and started again on its port, as its data stays.

    Attributes:
        auth, tls: as in its configuration, `auth` and `http.tls`.
    """

    program: str
    folder: Path
    auth: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        config = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}},
            "http": {"addr": self.host, "secret": "x", "tls": dict(self.tls)},
            "auth": dict(self.auth),
        }
        path = self.folder / "config.yml"
        path.write_text(yaml.safe_dump({k: v for k, v in config.items() if v}))
        command = [self.program, "serve", path]
        quiet = {"OTEL_TRACES_EXPORTER": "none"}
        self.process = start_server(command, self.port, self.folder / "log", quiet)

    def stop(self) -> None:
        stop_server(self.process)
        self.process = None

    def file_of(self, digest: str) -> Path:
        """Where it keeps a blob's bytes."""
        _, _, hexadecimal = digest.partition(":")
        folder = self.folder / "data/docker/registry/v2/blobs/sha256"
        return folder / hexadecimal[:2] / hexadecimal / "data"

    def push_blob(self, repository: str, data: bytes, headers: Mapping[str, str]) -> str:
        digest = digest_of(data)
        pool = self._pool()
        begun = pool.request("POST", f"{self._base(repository)}/blobs/uploads/", headers=headers)
        assert begun.status == 202, begun.data
        url = f"{begun.headers['Location']}&digest={digest}"
        done = pool.request("PUT", url, body=data, headers=headers)
        assert done.status == 201, done.data
        return digest

    def _pool(self) -> urllib3.PoolManager:
        return urllib3.PoolManager(ca_certs=self.tls.get("certificate"))

    def _base(self, repository: str) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}/v2/{repository}"

    def push_manifest(
        self, repository: str, manifest: Mapping[str, Any], headers: Mapping[str, str]
    ) -> str:
        """Give its digest."""
        text = json.dumps(manifest).encode()
        digest = digest_of(text)
        answer = self._pool().request(
            "PUT",
            f"{self._base(repository)}/manifests/{digest}",
            body=text,
            headers={**headers, "Content-Type": manifest["mediaType"]},
        )
        assert answer.status == 201, answer.data
        return digest

    def push(
        self,
        files: Mapping[str, bytes],
        repository: str = "team/models",
        headers: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> str:
        """Push files as `oras push` does; gives the artifact's URL.

        Args:
            headers: what the registry wants to be asked with.
            changes: fields of the manifest that are otherwise.
        """
        headers = headers or {}
        config = EMPTY | {"digest": self.push_blob(repository, b"{}", headers)}
        layers = [
            {
                "mediaType": LAYER,
                "digest": self.push_blob(repository, data, headers),
                "size": len(data),
                "annotations": {TITLE: title},
            }
            for title, data in files.items()
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.unknown.artifact.v1",
            "config": config,
            "layers": layers,
        }
        digest = self.push_manifest(repository, manifest | changes, headers)
        return f"oci://{self.host}/{repository}@{digest}"


def basic(user: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


def write_login(folder: Path, host: str, user: str = USER, password: str = PASSWORD) -> None:
    """A login as `kubectl create secret docker-registry` has it, as a pod sees it."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    entry = {"username": user, "password": password, "auth": auth}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".dockerconfigjson").write_text(json.dumps({"auths": {host: entry}}))


class TokenServer:
    """Gives tokens that the registry trusts to whoever has the password, and keeps what was asked.

    Signed as https://distribution.github.io/distribution/spec/auth/jwt/ says.
    """

    def __init__(self, folder: Path) -> None:
        self._key, self.certificate = make_certificate(folder)
        self.asked: list[dict[str, list[str]]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                owner.asked.append(asked)
                known = self.headers["Authorization"] == basic(USER, PASSWORD)["Authorization"]
                status = 200 if known else 401
                code = {"errors": [{"code": "UNAUTHORIZED", "message": "incorrect password"}]}
                body = {"token": owner.sign(asked["scope"][0])} if known else code
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def sign(self, scope: str) -> str:
        kind, name, actions = scope.split(":")
        now = int(time.time())
        der = openssl("x509", "-in", self.certificate, "-outform", "DER")
        parts: list[Any] = [
            {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]},
            {
                **{"iss": "tests", "sub": USER, "aud": "registry", "jti": str(now)},
                **{"iat": now, "nbf": now - 10, "exp": now + 60},
                "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
            },
        ]
        text = b".".join(base64url(json.dumps(part).encode()) for part in parts)
        signature = openssl("dgst", "-sha256", "-sign", self._key, stdin=text)
        return (text + b"." + base64url(signature)).decode()

    def auth(self) -> dict[str, Any]:
        return {
            "token": {
                "realm": self.url,
                "service": "registry",
                "issuer": "tests",
                "rootcertbundle": str(self.certificate),
            }
        }

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class BadWay:
    """A way to a server that lets the first bytes of an answer through, then breaks off.

    Attributes:
        lets_through: bytes of each connection's answers; one number a connection, the last for all
            further ones; None is all.
        connections: how many there were.
    """

    def __init__(self, port: int, *lets_through: int | None) -> None:
        self._to = port
        self.lets_through = list(lets_through)
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            limits = self.lets_through
            limit = limits.pop(0) if len(limits) > 1 else limits[0]
            self.connections += 1
            far = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._carry, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, limit), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data if limit is None else data[:limit])
                if limit is not None and (limit := limit - len(data)) <= 0:
                    break
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def stop(self) -> None:
        self._listener.close()
