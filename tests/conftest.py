"""A real S3 server on loopback, and the places that data can lie in."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

# Modules that tests of several folders share.
sys.path.insert(0, str(Path(__file__).parent))

from built_kit import find_built, start_server, stop_server

ACCESS_KEY, SECRET_KEY = "signalcanary", "only-on-loopback"


@dataclass
class S3Server:
    """A server that can be stopped and started again on its port, as its data stays."""

    program: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            self.program,
            *("--port", f"127.0.0.1:{self.port}", "--iam-dir", self.folder / "iam"),
            *("posix", self.folder / "data"),
        ]
        keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        self.process = start_server(command, self.port, self.folder / "log", os.environ | keys)

    def stop(self) -> None:
        stop_server(self.process)
        self.process = None

    def administer(self, *command: str) -> None:
        """Give the server an order."""
        keys = ("--access", ACCESS_KEY, "--secret", SECRET_KEY)
        there = ("--endpoint-url", self.url)
        subprocess.run([self.program, "admin", *keys, *there, *command], check=True)

    def make_bucket(self, name: str | None = None) -> str:
        """A new bucket; gives its name. The server's root folders are its buckets."""
        name = name or f"test-{uuid4().hex[:12]}"
        (self.folder / "data" / name).mkdir()
        return name


@pytest.fixture(scope="session")
def s3_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    program = find_built("versitygw")
    folder = tmp_path_factory.mktemp("s3")
    (folder / "data").mkdir()
    (folder / "iam").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = S3Server(program, folder, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def s3(s3_session: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server, and an environment that leads to it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_session.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    yield s3_session
    if s3_session.process is None:
        s3_session.start()


@pytest.fixture(params=["volume", "s3"])
def data_path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for data: a folder, then a bucket's prefix."""
    if request.param == "volume":
        return str(tmp_path / "data")
    server: S3Server = request.getfixturevalue("s3")
    return f"s3://{server.make_bucket()}/default/demo"
