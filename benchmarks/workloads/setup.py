"""Configurations and processes of the two workloads, as a pod would be started."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT, environment
from signalcanary.contract import DataSource, SignalConfig, Track, WorkloadConfig

COMMIT_SECONDS = 60
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 30.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class BenchmarkError(Exception):
    """Something did not run, so there is no figure."""


def write_config(folder: Path, symbols: Sequence[str], exchange: str = "127.0.0.1:9") -> Path:
    """A workload configuration with the default signal; the data lies in `folder/data`.

    Args:
        exchange: HOST:PORT of the websockets.
    """
    config = WorkloadConfig(
        namespace="default",
        name="bench",
        track=Track.CANARY,
        revision="bench-1",
        fingerprint="f",
        version="v1",
        shards=(tuple(symbols),),
        signal=SignalConfig(),
        source=DataSource(
            public_url=f"ws://{exchange}/public",
            market_url=f"ws://{exchange}/market",
            rest_url=f"http://{exchange}",
        ),
        data_path=str(folder / "data"),
        commit_interval=timedelta(seconds=COMMIT_SECONDS),
    )
    path = folder / "config.yaml"
    path.write_text(json.dumps(config.to_wire()))  # JSON is YAML
    return path


def read_config(path: Path) -> WorkloadConfig:
    """What `write_config` has written."""
    return WorkloadConfig.model_validate_json(path.read_bytes())


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is stopped when the context is left; its stderr goes to `log`."""
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, stderr=stderr, cwd=ROOT, env=environment(), text=True, **options
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def get(url: str) -> str | None:
    """The body, if the answer is 200."""
    try:
        with _OPENER.open(url, timeout=5.0) as answer:
            body: bytes = answer.read()
            return body.decode()
    except (urllib.error.URLError, OSError):
        return None


def wait_for_answer(url: str, process: subprocess.Popen[str], log: Path, pause: float) -> None:
    """Ask until the answer is 200.

    Raises:
        BenchmarkError: the process has ended, or does not answer in time.
    """
    ends_at = time.monotonic() + START_TIMEOUT_SECONDS * 4
    while get(url) is None:
        if process.poll() is not None or time.monotonic() > ends_at:
            raise BenchmarkError(f"{url} does not answer; it said:\n{log.read_text()[-2000:]}")
        time.sleep(pause)


def series_sum(page: str, name: str) -> float:
    """The sum over all series of one name on a /metrics page."""
    return sum(
        float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name}{{")
    )
