"""A real Prometheus beside the demo, which scrapes the workloads and the operator's own loop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from prometheus_client import start_http_server

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/edges"))

from edges_kit import World

REPO = Path(__file__).parents[2]

CONFIG = """\
global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}}
rule_files: [{rules}/*.yaml]
scrape_configs:
- job_name: demo
  file_sd_configs: [{{files: [targets.json], refresh_interval: 1s}}]
- job_name: operator
  static_configs: [{{targets: ["{operator}"]}}]
"""


def listening_ports(text: str) -> set[int]:
    """Ports that harvest and analysis listen on, of those whose command has the text."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            words = command.split(b"\0")
            if text.encode() in command and {b"harvest", b"analysis"} & set(words):
                links = [link.readlink().name for link in (process / "fd").iterdir()]
                inodes |= {name[8:-1] for name in links if name.startswith("socket:[")}
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes}


@dataclass(frozen=True)
class Scraped:
    """What Prometheus knows since it was started."""

    url: str
    since: float

    def has(self, query: str) -> bool:
        """Whether a query gave anything at any time.

        Raises:
            AssertionError: it is no query.
        """
        span = {"start": self.since, "end": time.time(), "step": 2}
        return bool(self._ask("query_range", query=query, **span))

    def values(self, query: str, label: str) -> set[str]:
        """The values of a label, at any time; as `label_values` of Grafana gives them."""
        match = {"match[]": query, "start": self.since, "end": time.time()}
        return set(self._ask(f"label/{label}/values", **match))

    def _ask(self, what: str, **fields: Any) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(fields)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                data = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{fields}: {error.read().decode()}") from None
        return data["result"] if what == "query_range" else data


def find_prometheus() -> str | None:
    """As `cluster.py tools` builds it."""
    cache = Path(os.environ.get("SIGNALCANARY_CACHE", Path.home() / ".cache/signalcanary"))
    built = sorted(cache.glob("bin/*/prometheus"))
    return str(built[-1]) if built else None


@contextmanager
def scraping(folder: Path, program: str, text: str, operator: str) -> Iterator[Scraped]:
    """Scrape the workloads whose command has the text, and the operator."""
    targets = folder / "targets.json"
    targets.write_text("[]")
    rules = REPO / "charts/signalcanary/files/rules"
    (folder / "prometheus.yml").write_text(CONFIG.format(rules=rules, operator=operator))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    is_over = Event()

    def discover() -> None:
        known: set[int] = set()
        while not is_over.wait(0.5):
            if (ports := listening_ports(text)) != known:
                known = ports
                found = [{"targets": [f"127.0.0.1:{port}" for port in sorted(ports)]}]
                new = targets.with_suffix(".new")
                new.write_text(json.dumps(found))
                new.replace(targets)

    log = (folder / "prometheus.log").open("wb")
    command = [program, "--config.file=prometheus.yml", f"--web.listen-address={address}"]
    since = time.time()
    with (
        log,
        subprocess.Popen(
            [*command, "--storage.tsdb.path=data"], cwd=folder, stdout=log, stderr=log
        ) as process,
    ):
        thread = Thread(target=discover)
        thread.start()
        try:
            yield Scraped(f"http://{address}", since)
        finally:
            is_over.set()
            thread.join()
            process.terminate()


@contextmanager
def operating(name: str) -> Iterator[str]:
    """The operator's own loop on a cluster in memory, four times as fast; the address of its
    metrics. One rollout is promoted; the named one is breached and taken back."""
    world = World()
    is_over = Event()

    async def operate() -> None:
        world.create("other", stages=[{"name": "canary", "duration": "30s"}])
        loop = asyncio.create_task(world.poller.run())
        is_named_there = False
        while not is_over.is_set():
            assert not loop.done(), loop.exception()
            world.seconds += 2
            world.cluster.start_pods()
            if world.phase("other") == "Succeeded" and not is_named_there:
                is_named_there = True
                world.create(name)
            if is_named_there and world.phase(name) == "Progressing":
                world.source.values["platt_ece"] = 0.3
            await asyncio.sleep(0.5)
        loop.cancel()

    server, serving = start_http_server(0, "127.0.0.1", world.metrics.registry)
    thread = Thread(target=lambda: asyncio.run(operate()))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        is_over.set()
        thread.join()
        server.shutdown()
        server.server_close()
        serving.join()
