"""The parts of `make bench-workloads`, each a process of its own that prints its figures as JSON.

Of its own, so that one which fails, or is ended at its limit of time, takes no other's figures
with it, and so that none measures the memory that another has left behind.

Run one: python -m benchmarks.workloads --stage burst.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import Spread
from benchmarks.workloads.analysing import measure_catch_up, measure_steps
from benchmarks.workloads.frames import Load
from benchmarks.workloads.parsing import measure as measure_parsing
from benchmarks.workloads.receiving import Run, run_load

BURST_RATE, BURST_SYMBOLS = 20_000, 4
SUSTAINED_RATE = 5_000
REPEATS = 3
MEMORY_FOLDER = Path("/dev/shm")

Figures = dict[str, Any]
"""A part of the JSON object. What is under `peers` is merged with the other stages'."""


def say(text: str) -> None:
    """To people."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    seconds: int
    """Length of the burst."""
    hours: tuple[int, ...]
    """Of history behind a step, growing."""

    def to_options(self) -> list[str]:
        """As `add_size_arguments` reads it."""
        return ["--seconds", str(self.seconds), "--hours", *map(str, self.hours)]


def add_size_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `read_size` reads."""
    parser.add_argument("--seconds", type=int, default=60, help="length of the burst")
    parser.add_argument(
        "--hours", type=int, nargs="+", default=[1, 12, 48], help="of history behind a step"
    )


def read_size(chosen: argparse.Namespace) -> Size:
    """From the options."""
    return Size(chosen.seconds, tuple(sorted(chosen.hours)))


def measure_throughput(size: Size, folder: Path) -> Figures:
    """Harvest as fast as it goes."""
    load = Load(BURST_SYMBOLS, BURST_RATE, max(1, min(10, size.seconds)))
    runs: list[Run] = []
    for n in range(REPEATS):
        say(f"  harvest as fast as it goes, {load.messages:,} messages, {n + 1} of {REPEATS}")
        runs.append(run_load(load, folder / f"fast-{n}", paced=False, timed=False))
    per_core = Spread.of([run.messages / run.cpu_seconds for run in runs])
    return {
        "messages_per_second_per_core": round(per_core.median),
        "messages_per_second_per_core_spread": per_core.to_json(0),
        "parquet_bytes_per_message": round(runs[0].parquet_bytes / runs[0].messages, 1),
    }


def measure_sustained(size: Size, folder: Path) -> Figures:
    """One symbol at the sustained rate."""
    load = Load(1, SUSTAINED_RATE, max(1, size.seconds // 2))
    return {"sustained": _measure_paced(load, folder)}


def measure_burst(size: Size, folder: Path) -> Figures:
    """A pod's symbols at the pod's rate."""
    burst = _measure_paced(Load(BURST_SYMBOLS, BURST_RATE, size.seconds), folder)
    head = {name: burst[name] for name in ("latency_ms", "lost", "rss_mib_per_symbol")}
    return {**head, "burst": burst}


def _measure_paced(load: Load, folder: Path) -> Figures:
    say(f"  harvest at {load.rate:,}/s, {load.symbols} symbol(s), {load.seconds} s")
    run = run_load(load, folder / "data", paced=True, timed=True)
    assert run.latency is not None
    return {
        "symbols": load.symbols,
        "messages_per_second": round(run.messages / run.wall_seconds),
        "seconds": load.seconds,
        "latency_ms": run.latency.received_to_taken_in,
        "sent_latency_ms": run.latency.sent_to_taken_in,
        "lost": run.lost,
        "repeated": run.repeated,
        "gaps": list(run.gaps),
        "feature_rows": run.feature_rows,
        "cpu_cores": round(run.cpu_seconds / run.wall_seconds, 2),
        "cpu_wait_share": round(run.cpu_wait_seconds / run.wall_seconds, 3),
        "rss_mib_per_symbol": round(run.peak_rss_mib / load.symbols, 1),
        "sender_late_ms": round(run.sender_late_ms, 1),
    }


def measure_catching_up(size: Size, folder: Path) -> Figures:
    """An analysis process from its start to its readiness, with the longest history."""
    caught, restarted = measure_catch_up(folder, size.hours[-1], say)
    return {
        "catch_up_s": round(caught.seconds, 2),
        "catch_up_cpu_s": round(caught.cpu_seconds, 2),
        "restart_s": round(restarted.seconds, 2),
        "restart_cpu_s": round(restarted.cpu_seconds, 2),
        "analysis_rss_mib": round(caught.peak_rss_mib, 1),
    }


def measure_stepping(size: Size, folder: Path) -> Figures:
    """A step of the analysis after so many hours, beside a full recomputation."""
    steps = measure_steps(folder, size.hours, say)
    return {
        "analysis_tick_ms": {f"{s.hours}h": round(s.median_ms, 2) for s in steps},
        "analysis_tick_ms_p10_p90": {
            f"{s.hours}h": [round(s.p10_ms, 2), round(s.p90_ms, 2)] for s in steps
        },
        "analysis_tick_mean_ms": {f"{s.hours}h": round(s.mean_ms, 2) for s in steps},
        "peers": {
            "recompute_ms": {f"{s.hours}h": round(s.recompute_ms, 1) for s in steps},
            "recompute_ratio": {
                f"{s.hours}h": round(s.recompute_ms / s.median_ms, 1) for s in steps
            },
            "recompute_largest_difference": {
                f"{s.hours}h": s.disagreement if s.disagreement == s.disagreement else None
                for s in steps
            },
        },
    }


def measure_peers(size: Size, folder: Path) -> Figures:
    """The recorded frames: our parser, all our features, cryptofeed's parser."""
    say("  parsing the recorded frames")
    try:
        parsing = measure_parsing()
    except FileNotFoundError as exc:
        say(f"  nothing is measured: {exc}")
        return {"peers": {"parsing_missing": str(exc)}}
    ours, features, peer = parsing.parse_us, parsing.features_us, parsing.cryptofeed_us
    peers: Figures = {
        "parse_us": round(ours.median, 2),
        "parse_us_spread": ours.to_json(2),
        "features_us": round(features.median, 2),
        "features_us_spread": features.to_json(2),
        "cryptofeed_missing": parsing.cryptofeed_missing,
    }
    if peer is None:
        say(f"  cryptofeed is not measured: {parsing.cryptofeed_missing}")
    else:
        peers |= {
            "cryptofeed_version": parsing.cryptofeed_version,
            "cryptofeed_us": round(peer.median, 2),
            "cryptofeed_us_spread": peer.to_json(2),
            "cryptofeed_ratio": round(peer.median / ours.median, 1),
            "cryptofeed_to_features_ratio": round(peer.median / features.median, 2),
        }
    return {"peers": peers}


@dataclass(frozen=True)
class Stage:
    """What is measured by itself, and how long it may take."""

    name: str
    measure: Callable[[Size, Path], Figures]
    limit_seconds: int
    """Several times what it takes on two idle cores."""
    in_memory: bool = False
    """Its store lies in memory; harvest's lies on a disk, since its commits wait for it."""


STAGES = (
    Stage("throughput", measure_throughput, 180),
    Stage("sustained", measure_sustained, 120),
    Stage("burst", measure_burst, 180),
    Stage("steps", measure_stepping, 180, in_memory=True),
    Stage("catch-up", measure_catching_up, 180, in_memory=True),
    Stage("parsing", measure_peers, 120),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[stage.name for stage in STAGES])
    add_size_arguments(parser)
    chosen = parser.parse_args()
    stage = next(stage for stage in STAGES if stage.name == chosen.name)
    memory = MEMORY_FOLDER if stage.in_memory and os.access(MEMORY_FOLDER, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        print(json.dumps(stage.measure(read_size(chosen), Path(folder)), ensure_ascii=False))


if __name__ == "__main__":
    main()
