"""What harvest and analysis bear: one JSON object on stdout, a table on stderr, no judgement.

Run: make bench-workloads, or python -m benchmarks.workloads [--seconds 60]. docs/performance.md
says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.process import Spread
from benchmarks.workloads.analysing import Step, measure_catch_up, measure_steps
from benchmarks.workloads.frames import Load
from benchmarks.workloads.parsing import measure as measure_parsing
from benchmarks.workloads.receiving import Run, run_load

BURST_RATE, BURST_SYMBOLS = 20_000, 4
SUSTAINED_RATE = 5_000
REPEATS = 3
MEMORY_FOLDER = Path("/dev/shm")


def say(text: str) -> None:
    """To people."""
    print(text, file=sys.stderr, flush=True)


def measure_receiving(burst_seconds: int, folder: Path) -> dict[str, Any]:
    """Harvest as fast as it goes, at the sustained rate, and in the burst."""
    full = Load(BURST_SYMBOLS, BURST_RATE, max(1, min(10, burst_seconds)))
    fast = []
    for n in range(REPEATS):
        say(f"harvest as fast as it goes, {full.messages:,} messages, {n + 1} of {REPEATS} …")
        fast.append(run_load(full, folder / f"fast-{n}", paced=False, timed=False))
    per_core = Spread.of([run.messages / run.cpu_seconds for run in fast])
    steady = Load(1, SUSTAINED_RATE, max(1, burst_seconds // 2))
    say(f"harvest at {steady.rate:,}/s, 1 symbol, {steady.seconds} s …")
    sustained = run_load(steady, folder / "sustained", paced=True, timed=True)
    load = Load(BURST_SYMBOLS, BURST_RATE, burst_seconds)
    say(f"harvest at {load.rate:,}/s, {load.symbols} symbols, {load.seconds} s …")
    burst = run_load(load, folder / "burst", paced=True, timed=True)
    shown = _show(burst, load)
    return {
        "messages_per_second_per_core": round(per_core.median),
        "messages_per_second_per_core_spread": per_core.to_json(0),
        "latency_ms": shown["latency_ms"],
        "lost": shown["lost"],
        "rss_mib_per_symbol": shown["rss_mib_per_symbol"],
        "burst": shown,
        "sustained": _show(sustained, steady),
        "parquet_bytes_per_message": round(fast[0].parquet_bytes / fast[0].messages, 1),
    }


def _show(run: Run, load: Load) -> dict[str, Any]:
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


def measure_analysing(hours: tuple[int, ...], folder: Path) -> tuple[dict[str, Any], list[Step]]:
    """A step after so many hours, beside a full recomputation, and catching up with the last."""
    say(f"analysis catches up with {hours[-1]} h × 2 symbols …")
    caught, restarted = measure_catch_up(folder / "catch-up", hours[-1])
    say("analysis step by step …")
    steps = measure_steps(folder / "steps", hours)
    return {
        "analysis_tick_ms": {f"{s.hours}h": round(s.median_ms, 2) for s in steps},
        "analysis_tick_ms_p10_p90": {
            f"{s.hours}h": [round(s.p10_ms, 2), round(s.p90_ms, 2)] for s in steps
        },
        "analysis_tick_mean_ms": {f"{s.hours}h": round(s.mean_ms, 2) for s in steps},
        "catch_up_s": round(caught.seconds, 2),
        "catch_up_cpu_s": round(caught.cpu_seconds, 2),
        "restart_s": round(restarted.seconds, 2),
        "restart_cpu_s": round(restarted.cpu_seconds, 2),
        "analysis_rss_mib": round(caught.peak_rss_mib, 1),
    }, steps


def measure_peers(steps: list[Step]) -> dict[str, Any]:
    """The same work by others."""
    peers: dict[str, Any] = {
        "recompute_ms": {f"{s.hours}h": round(s.recompute_ms, 1) for s in steps},
        "recompute_ratio": {f"{s.hours}h": round(s.recompute_ms / s.median_ms, 1) for s in steps},
        "recompute_largest_difference": {
            f"{s.hours}h": s.disagreement if s.disagreement == s.disagreement else None
            for s in steps
        },
        "parse_us": None,
        "features_us": None,
        "cryptofeed_us": None,
        "cryptofeed_ratio": None,
        "cryptofeed_to_features_ratio": None,
    }
    say("parsing the recorded frames …")
    try:
        parsing = measure_parsing(say)
    except FileNotFoundError as exc:
        say(f"no parser is measured: {exc}")
        return peers
    ours, features, peer = parsing.parse_us, parsing.features_us, parsing.cryptofeed_us
    peers |= {
        "parse_us": round(ours.median, 2),
        "parse_us_spread": ours.to_json(2),
        "features_us": round(features.median, 2),
        "features_us_spread": features.to_json(2),
    }
    if peer is not None:
        peers |= {
            "cryptofeed_version": parsing.cryptofeed_version,
            "cryptofeed_us": round(peer.median, 2),
            "cryptofeed_us_spread": peer.to_json(2),
            "cryptofeed_ratio": round(peer.median / ours.median, 1),
            "cryptofeed_to_features_ratio": round(peer.median / features.median, 2),
        }
    return peers


def describe_machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "nice": os.nice(0),
        "realtime": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
    }


def print_table(found: dict[str, Any]) -> None:
    """The figures that matter, on stderr."""
    low, high = found["messages_per_second_per_core_spread"]
    rows = [
        (
            "socket to feature, per core",
            f"{found['messages_per_second_per_core']:,} messages/s ({low:,.0f} to {high:,.0f})",
        )
    ]
    for name in ("sustained", "burst"):
        one = found[name]
        latency = one["latency_ms"]
        what = f"{name}: {one['symbols']} symbol(s), {one['seconds']} s"
        rows += [
            (
                what,
                f"{one['messages_per_second']:,} messages/s, {one['cpu_cores']} cores, "
                f"waited for a core {one['cpu_wait_share']:.1%} of the time",
            ),
            ("  receive → feature", f"p50 {latency['p50']} ms, p99 {latency['p99']} ms"),
            (
                "  lost, repeated",
                f"{one['lost']}, {one['repeated']}; gaps: {one['gaps'] or 'none'}",
            ),
            ("  peak memory", f"{one['rss_mib_per_symbol']} MiB a symbol"),
        ]
    peers = found["peers"]
    for hours, tick in found["analysis_tick_ms"].items():
        again, ratio = peers["recompute_ms"][hours], peers["recompute_ratio"][hours]
        rows.append((f"analysis step after {hours}", f"{tick} ms; all anew {again} ms, ×{ratio}"))
    rows.append(("catch up, 2 symbols", f"{found['catch_up_s']} s"))
    rows.append(("restart from snapshots", f"{found['restart_s']} s"))
    if peers["parse_us"] is not None:
        rows.append(("parse a recorded frame", f"{peers['parse_us']} µs"))
        rows.append(("parse, and all features", f"{peers['features_us']} µs"))
    if peers["cryptofeed_us"] is not None:
        text = f"{peers['cryptofeed_us']} µs, ×{peers['cryptofeed_ratio']}"
        rows.append((f"cryptofeed {peers['cryptofeed_version']} parses it", text))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:{width}}  {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="length of the burst")
    parser.add_argument(
        "--hours", type=int, nargs="+", default=[1, 12, 48], help="of history behind a step"
    )
    chosen = parser.parse_args()
    begun = time.monotonic()
    found: dict[str, Any] = {"machine": describe_machine()}
    # On a disk: harvest's commits wait for it. The history is only read, from memory at that.
    with tempfile.TemporaryDirectory() as folder:
        found |= measure_receiving(chosen.seconds, Path(folder))
    memory = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        analysed, steps = measure_analysing(tuple(sorted(chosen.hours)), Path(folder))
    found |= analysed
    found["peers"] = measure_peers(steps)
    found["machine"]["load_1m_after"] = round(os.getloadavg()[0], 2)
    found["took_s"] = round(time.monotonic() - begun)
    print_table(found)
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
