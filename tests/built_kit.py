"""The servers that tests run on loopback: where they are, and their start and end."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("SIGNALCANARY_CACHE", Path.home() / ".cache/signalcanary"))


def find_built(name: str) -> str:
    """A server that tests talk to, as `cluster.py tools` builds it."""
    link = REPO / "build/cluster/bin" / name
    built = [link.resolve()] if link.exists() else sorted(CACHE.glob(f"bin/*/{name}"))
    if built:
        return str(built[-1])
    problem = f"no {name}: run `python3 hack/cluster/cluster.py tools` first"
    if os.environ.get("SIGNALCANARY_REQUIRE_CLUSTER"):
        pytest.fail(problem)
    pytest.skip(problem)


def start_server(
    command: Sequence[str | Path], port: int, log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a server and wait until it listens; what it says is added to `log`."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    ends_at = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < ends_at, f"{command[0]} does not listen"
            time.sleep(0.02)


def stop_server(process: subprocess.Popen[bytes] | None) -> None:
    """End a server that runs, and wait until it has."""
    if process is not None:
        process.terminate()
        process.wait(20)
