"""Harvest under a load: a real process, real loopback websockets, real Parquet.

Two kinds of run. *As fast as it goes*: the sender keeps the sockets full, and what counts is
the CPU time that harvest takes for all messages, last commit included. *Paced*: the sender
keeps to a rate, and what counts is latency, loss and memory.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import cpu_seconds, cpu_wait_seconds, module, peak_rss_mib
from benchmarks.workloads.frames import Load, first_quote_id, first_trade_id
from benchmarks.workloads.setup import (
    BenchmarkError,
    free_port,
    get,
    running,
    series_sum,
    wait_for_answer,
    write_config,
)
from signalcanary_workloads.store import Kind, ManifestReader, open_storage, read_part

SCRAPE_SECONDS = 15.0
"""As Prometheus does by default; a scrape takes its time from the messages."""
STALL_SECONDS = 10.0
_KINDS = {Kind.BBO: ("update_id", first_quote_id), Kind.TRADE: ("trade_id", first_trade_id)}


@dataclass(frozen=True)
class Run:
    """What one load did to one harvest process."""

    messages: int
    wall_seconds: float
    """From the first message sent until the last one was taken in."""
    cpu_seconds: float
    """From the first message sent to the end of the process, last commit included."""
    cpu_wait_seconds: float
    """Of the wall seconds, those that harvest could have worked in and had no core."""
    peak_rss_mib: float
    sender_late_ms: float
    lost: int
    repeated: int
    gaps: tuple[str, ...]
    """The gap log, as `symbol stream reason`, with its count."""
    feature_rows: int
    parquet_bytes: int
    latency: Latency | None


@dataclass(frozen=True)
class Latency:
    """In ms, over all messages; None if there is none.

    `received` is when harvest took the frame from the websocket library, `sent` when the
    sender handed it to the kernel, `taken in` when it had entered the features of its symbol
    and the feature rows that it closes had been added to the rows to commit.
    """

    received_to_taken_in: dict[str, float]
    sent_to_taken_in: dict[str, float]


def run_load(load: Load, folder: Path, *, paced: bool, timed: bool) -> Run:
    """Run one load through a harvest process of its own, with its data in `folder`.

    Raises:
        BenchmarkError: a process ended, or harvest stopped reading.
    """
    folder.mkdir(parents=True)
    times, stamps, log = folder / "sent.npz", folder / "stamps", folder / "harvest.log"
    options = ["--symbols", str(load.symbols), "--rate", str(load.rate)]
    options += ["--seconds", str(load.seconds), "--times", str(times)]
    sending = module("benchmarks.workloads.sender", *options, *(["--paced"] if paced else []))
    with running(sending, folder / "sender.log", stdin=-1, stdout=-1) as sender:
        url = _answer(sender.stdout, folder / "sender.log")["url"]
        config = write_config(folder, load.names, url)
        port = free_port()
        listen = f"127.0.0.1:{port}"
        wrapper = ("benchmarks.workloads.timed_harvest", str(stamps))
        name = wrapper if timed else ("signalcanary_workloads", "harvest")
        command = module(*name, "--config", str(config), "--shard", "0", "--listen", listen)
        with running(command, log) as harvest:
            page_url = f"http://{listen}/metrics"
            wait_for_answer(page_url, harvest, log, 0.05)
            before, waited = cpu_seconds(harvest.pid), cpu_wait_seconds(harvest.pid)
            told = _scrape_until_sent(sender, page_url, folder)
            taken_ns = _wait_until_taken(load, page_url)
            waited = cpu_wait_seconds(harvest.pid) - waited
            peak = peak_rss_mib(harvest.pid)
            after = _end(harvest.pid)
        assert sender.stdin is not None
        sender.stdin.close()
    kept = _read_back(load, folder / "data")
    return Run(
        messages=load.messages,
        wall_seconds=(taken_ns - told["begun_ns"]) / 1e9,
        cpu_seconds=after - before,
        cpu_wait_seconds=waited,
        peak_rss_mib=peak,
        sender_late_ms=told["late_ms"],
        latency=_latency(load, times, stamps) if timed else None,
        **kept,
    )


def _answer(pipe: Any, log: Path) -> dict[str, Any]:
    line = pipe.readline()
    if not line:
        raise BenchmarkError(f"the sender ended:\n{log.read_text()[-2000:]}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _scrape_until_sent(sender: Any, page_url: str, folder: Path) -> dict[str, Any]:
    """Scrape at Prometheus's pace until the sender says that it is done."""
    due = time.monotonic() + SCRAPE_SECONDS
    while True:
        ready, _, _ = select.select([sender.stdout], [], [], max(0.0, due - time.monotonic()))
        if ready:
            return _answer(sender.stdout, folder / "sender.log")
        get(page_url)
        due += SCRAPE_SECONDS


def _wait_until_taken(load: Load, page_url: str) -> int:
    """Wall clock (ns) at which all frames were first seen to have been taken in."""
    most, since = -1.0, time.monotonic()
    while True:
        page = get(page_url) or ""
        count = series_sum(page, "harvest_frames_received_total")
        if count >= load.messages:
            return time.time_ns()
        if count > most:
            most, since = count, time.monotonic()
        elif time.monotonic() - since > STALL_SECONDS:
            return time.time_ns()  # what is missing shows as lost
        time.sleep(0.1)


def _end(pid: int) -> float:
    """Stop a child as Kubernetes does; gives all the CPU seconds it has taken."""
    os.kill(pid, signal.SIGTERM)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise BenchmarkError(f"harvest ended with status {status}")
    return usage.ru_utime + usage.ru_stime


def _read_back(load: Load, data: Path) -> dict[str, Any]:
    storage = open_storage(str(data))
    sent = dict(zip((Kind.BBO, Kind.TRADE), load.quotes_and_trades(), strict=True))
    lost = repeated = features = 0
    gaps: Counter[str] = Counter()
    for number, symbol in enumerate(load.names):
        entries = ManifestReader(storage, symbol).poll(limit=1_000_000)
        gaps.update(f"{symbol} {gap.stream} {gap.reason}" for e in entries for gap in e.gaps)
        parts = [part for entry in entries for part in entry.parts]
        features += sum(part.rows for part in parts if part.kind is Kind.FEATURE)
        for kind, (column, first_id) in _KINDS.items():
            ids = [
                read_part(storage, part, (column,)).column(column).to_numpy()
                for part in parts
                if part.kind is kind
            ]
            found = np.concatenate(ids) if ids else np.empty(0, np.int64)
            wanted = first_id(number) + np.arange(sent[kind])
            present = np.unique(found)
            lost += int(np.setdiff1d(wanted, present, assume_unique=True).size)
            repeated += int(found.size - present.size)
    return {
        "lost": lost,
        "repeated": repeated,
        "gaps": tuple(f"{text} x{n}" for text, n in sorted(gaps.items())),
        "feature_rows": features,
        "parquet_bytes": sum(path.stat().st_size for path in data.rglob("*.parquet")),
    }


def _latency(load: Load, times: Path, stamps: Path) -> Latency:
    records = np.fromfile(stamps, np.int64).reshape(-1, 3)
    ids, received, taken = records.T
    sent = np.zeros(ids.size, np.int64)
    with np.load(times) as sent_at:
        for number in range(load.symbols):
            for first, column in (
                (first_quote_id(number), sent_at["quotes"]),
                (first_trade_id(number), sent_at["trades"]),
            ):
                mine = (ids >= first) & (ids < first + column.size)
                sent[mine] = column[ids[mine] - first]
    return Latency(_quantiles(taken - received), _quantiles(taken - sent))


def _quantiles(ns: Any) -> dict[str, float]:
    at = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
    found = np.quantile(ns, list(at.values())) / 1e6
    return {name: round(float(value), 2) for name, value in zip(at, found, strict=True)}
