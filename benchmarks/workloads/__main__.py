"""What harvest and analysis bear: one JSON object on stdout, a table on stderr, no judgement.

Run: make bench-workloads, or python -m benchmarks.workloads [--stage burst …] [--seconds 60].
docs/performance.md says what each figure means. What has been measured so far is in `--out`
after each stage; a stage that fails or takes too long leaves null for its figures and says why.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT, environment, module
from benchmarks.workloads.setup import BenchmarkError
from benchmarks.workloads.stages import STAGES, Size, Stage, add_size_arguments, read_size, say

TOTAL_SECONDS = 14 * 60
STOP_SECONDS = 10.0
OUT = ROOT / "build" / "bench" / "workloads.json"
FIGURES = (
    "messages_per_second_per_core",
    "latency_ms",
    "lost",
    "rss_mib_per_symbol",
    "analysis_tick_ms",
    "catch_up_s",
)
"""Always there; null if not measured."""


def run_stage(stage: Stage, size: Size, limit_seconds: float) -> dict[str, Any]:
    """Run one in a process group of its own.

    Raises:
        BenchmarkError: it failed or was ended, so there are no figures.
    """
    process = subprocess.Popen(
        module("benchmarks.workloads.stages", stage.name, *size.to_options()),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired as exc:
        raise BenchmarkError(f"not done after {limit_seconds:.0f} s") from exc
    finally:
        _end_group(process)
    if process.returncode:
        raise BenchmarkError(f"it ended with {process.returncode}; what it said is above")
    figures: dict[str, Any] = json.loads(printed)
    return figures


def _end_group(process: subprocess.Popen[str]) -> None:
    """End it, and what it has started, unless it has ended by itself."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=STOP_SECONDS)


def measure(stages: Sequence[Stage], size: Size, out: Path) -> dict[str, Any]:
    """All stages, one after the other, within the total time."""
    begun = time.monotonic()
    found: dict[str, Any] = dict.fromkeys(FIGURES)
    found |= {"peers": {}, "stages": {}, "machine": describe_machine()}
    out.parent.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(stages, 1):
        since = time.monotonic()
        limit = min(stage.limit_seconds, TOTAL_SECONDS - (since - begun))
        say(f"[{number}/{len(stages)}] {stage.name}, at most {limit:.0f} s")
        error = None
        try:
            figures = run_stage(stage, size, limit)
        except BenchmarkError as exc:
            error = str(exc)
            say(f"  {stage.name} failed: {error}")
        else:
            found["peers"] |= figures.pop("peers", {})
            found |= figures
        took = round(time.monotonic() - since, 1)
        found["stages"][stage.name] = {"took_s": took, "error": error}
        found["machine"]["load_1m_after"] = round(os.getloadavg()[0], 2)
        found["took_s"] = round(time.monotonic() - begun)
        _keep(out, found)
        say(f"  {took} s")
    return found


def _keep(out: Path, found: dict[str, Any]) -> None:
    half = out.with_suffix(".tmp")
    half.write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    half.replace(out)


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
    """The figures that matter, on stderr; what was not measured has no line."""
    rows: list[tuple[str, str]] = []
    peers = found["peers"]
    if found["messages_per_second_per_core"] is not None:
        low, high = found["messages_per_second_per_core_spread"]
        text = f"{found['messages_per_second_per_core']:,} messages/s ({low:,.0f} to {high:,.0f})"
        rows.append(("socket to feature, per core", text))
    for name in ("sustained", "burst"):
        if name in found:
            rows += _describe_paced(name, found[name])
    for hours, tick in (found["analysis_tick_ms"] or {}).items():
        again, ratio = peers["recompute_ms"][hours], peers["recompute_ratio"][hours]
        rows.append((f"analysis step after {hours}", f"{tick} ms; all anew {again} ms, ×{ratio}"))
    if found["catch_up_s"] is not None:
        rows.append(("catch up, 2 symbols", f"{found['catch_up_s']} s"))
        rows.append(("restart from snapshots", f"{found['restart_s']} s"))
    if "parse_us" in peers:
        rows.append(("parse a recorded frame", f"{peers['parse_us']} µs"))
        rows.append(("parse, and all features", f"{peers['features_us']} µs"))
    if "cryptofeed_us" in peers:
        text = f"{peers['cryptofeed_us']} µs, ×{peers['cryptofeed_ratio']}"
        rows.append((f"cryptofeed {peers['cryptofeed_version']} parses it", text))
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        say(f"{name:{width}}  {value}")


def _describe_paced(name: str, one: dict[str, Any]) -> list[tuple[str, str]]:
    latency = one["latency_ms"]
    return [
        (
            f"{name}: {one['symbols']} symbol(s), {one['seconds']} s",
            f"{one['messages_per_second']:,} messages/s, {one['cpu_cores']} cores, "
            f"waited for a core {one['cpu_wait_share']:.1%} of the time",
        ),
        ("  receive → feature", f"p50 {latency['p50']} ms, p99 {latency['p99']} ms"),
        ("  lost, repeated", f"{one['lost']}, {one['repeated']}; gaps: {one['gaps'] or 'none'}"),
        ("  peak memory", f"{one['rss_mib_per_symbol']} MiB a symbol"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [stage.name for stage in STAGES]
    parser.add_argument(
        "--stage", choices=names, nargs="+", default=names, help="only these (default: all)"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="where the figures so far are kept")
    add_size_arguments(parser)
    chosen = parser.parse_args()
    stages = [stage for stage in STAGES if stage.name in chosen.stage]
    found = measure(stages, read_size(chosen), chosen.out)
    print_table(found)
    print(json.dumps(found, ensure_ascii=False))
    return 1 if any(one["error"] for one in found["stages"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
