"""`signalcanary dashboard` as a process, and what it answers to whoever asks."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from api_server import OPERATOR, SYSTEM, ApiServer, eventually, process

from signalcanary.api import PLURAL

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """A page's server.

    Attributes:
        url: as it was printed.
    """

    url: str
    child: subprocess.Popen[str]

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def root(self) -> str:
        """The path of the page."""
        return urlsplit(self.url).path

    def ask(
        self,
        method: str = "GET",
        path: str | None = None,
        body: Any = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], str]:
        """One request; the status, the headers and the text. `Host` may be another's."""
        connection = HTTPConnection(self.host, timeout=PATIENCE_SECONDS)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body)
        if data is not None:
            given.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, self.root if path is None else path, data, given)
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read().decode()
        finally:
            connection.close()

    def verb(self, namespace: str, name: str, verb: str, **more: str) -> dict[str, Any]:
        """Ask for a verb as the page does."""
        body = {"namespace": namespace, "name": name, "verb": verb, **more}
        path = f"{self.root}verbs"
        status, _, text = self.ask("POST", path, body, Origin=f"http://{self.host}")
        assert status == 200, text
        answer: dict[str, Any] = json.loads(text)
        return answer

    @contextmanager
    def stream(self, rollout: str = "") -> Iterator[Stream]:
        """What is sent to a page, as it comes."""
        connection = HTTPConnection(self.host, timeout=PATIENCE_SECONDS)
        connection.request("GET", f"{self.root}stream?rollout={rollout}")
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        stream = Stream(response)
        try:
            yield stream
        finally:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()


class Stream:
    """Server-sent events."""

    def __init__(self, response: Any) -> None:
        self._sent: queue.Queue[tuple[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, args=(response,), daemon=True).start()

    def _read(self, response: Any) -> None:
        kind = ""
        with suppress(OSError, ValueError, AttributeError):
            for line in response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    self._sent.put((kind, json.loads(value)))

    def until(self, what: str, kind: str, is_it: Callable[[Any], Any]) -> Any:
        """The first document of a kind that is as wished; those before it are passed over."""
        last, ends_at = None, time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                sent, document = self._sent.get(timeout=max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"never came: {what}; the last was {last}") from None
            if sent == kind:
                if is_it(document):
                    return document
                last = document


@contextmanager
def served(kubeconfig: Path, *args: str) -> Iterator[Served]:
    """The process, until the block ends."""
    command = [sys.executable, "-m", "signalcanary", "dashboard", f"--kubeconfig={kubeconfig}"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, *args], text=True, env=os.environ, **pipes) as child:
        try:
            assert child.stdout is not None
            assert child.stderr is not None
            url = child.stdout.readline().strip()
            assert url, child.stderr.read()
            yield Served(url, child)
        finally:
            child.terminate()


@contextmanager
def running_operator(api: ApiServer, folder: Path) -> Iterator[None]:
    """A real operator, with the chart's rights; its metrics source answers nothing."""
    command = [sys.executable, "-m", "signalcanary", "operator", "--listen=127.0.0.1:0"]
    command += ["--prometheus-url=http://127.0.0.1:9", "--workloads-image=workloads:1"]
    command += ["--identity=dashboard", f"--lease-namespace={SYSTEM}"]
    env = {**os.environ, "KUBECONFIG": str(api.kubeconfig(OPERATOR))}
    log = folder / "operator.log"
    with process(command, log, env=env):
        eventually("it leads", lambda: "dashboard leads" in log.read_text(), within=60)
        yield


def let_look(api: ApiServer, namespace: str) -> None:
    """Let NOBODY read the rollouts of a namespace, and do nothing else."""
    rbac = "rbac.authorization.k8s.io"
    rule = {"apiGroups": ["signalcanary.dev"], "resources": [PLURAL]}
    about = {"apiVersion": f"{rbac}/v1", "metadata": {"name": "look", "namespace": namespace}}
    api.apply({**about, "kind": "Role", "rules": [{**rule, "verbs": ["get", "list", "watch"]}]})
    api.apply(
        {
            **about,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "look"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "nobody"}],
        }
    )


class Cable:
    """A way to a server that can be cut and mended."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._to = (parts.hostname, parts.port)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_cut = False
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                if self._is_cut:
                    one.close()
                    continue
                other = socket.create_connection(self._to)
                self._sockets += [one, other]
                for ends in ((one, other), (other, one)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self._is_cut = True
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def kubeconfig(self, other: Path, folder: Path) -> Path:
        """Another kubeconfig, whose server is reached by this way."""
        content = yaml.safe_load(other.read_text())
        content["clusters"][0]["cluster"]["server"] = self.url
        file = folder / "cable.kubeconfig"
        file.write_text(yaml.safe_dump(content))
        return file
