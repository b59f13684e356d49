"""The analysis process: ``python -m signalcanary_workloads analysis``.

It only wires: configuration → one runner a symbol of its shard → /metrics. Reading and
evaluating happen in one worker thread, so that a scrape is answered while history is replayed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from signalcanary.contract import METRICS_PORT, WorkloadConfig, parse_duration

from ..serving import Health, serve, split_listen
from ..store import BUCKET_SCHEME, open_storage
from .engine import EngineConfig
from .exporter import AnalysisCollector
from .runner import Clocks, SymbolRunner

logger = logging.getLogger(__name__)

SHARD_VARIABLE: Final = "SIGNALCANARY_SHARD"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``analysis`` to its parser."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the workload configuration"
    )
    shard = os.environ.get(SHARD_VARIABLE)
    parser.add_argument(
        "--shard",
        type=int,
        default=shard,
        required=shard is None,
        metavar="N",
        help=f"which part of the symbols, counted from 0 (default: ${SHARD_VARIABLE})",
    )
    parser.add_argument(
        "--listen",
        default=f"0.0.0.0:{METRICS_PORT}",
        metavar="HOST:PORT",
        help="where to serve /metrics, /healthz and /readyz (default: %(default)s)",
    )
    parser.add_argument(
        "--poll",
        type=_read_poll_seconds,
        metavar="DURATION",
        help="how often to look for new entries, wall clock (default: 250ms, in a bucket 1s)",
    )


def _read_poll_seconds(text: str) -> float:
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    if seconds <= 0:
        raise argparse.ArgumentTypeError("must be longer than 0s")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 0 then, 2 if the configuration is of no use."""
    logging.basicConfig(level=logging.INFO)  # does nothing where the caller has set it up
    try:
        config = WorkloadConfig.model_validate(yaml.safe_load(args.config.read_text("utf-8")))
        symbols = _symbols_of(config, args.shard)
        split_listen(args.listen)
    except (OSError, yaml.YAMLError, ValidationError, ValueError) as exc:
        print(f"analysis: {args.config}: {exc}", file=sys.stderr)
        return 2
    poll_seconds = args.poll or default_poll_seconds(config.data_path)
    asyncio.run(_run(config, symbols, args.listen, poll_seconds))
    return 0


def default_poll_seconds(data_path: str) -> float:
    """How often to look for a new entry: a look is a failed open, or a request that is paid for."""
    return 1.0 if data_path.startswith(BUCKET_SCHEME) else 0.25


def _symbols_of(config: WorkloadConfig, shard: int) -> tuple[str, ...]:
    if not 0 <= shard < len(config.shards):
        raise ValueError(f"shard {shard} does not exist: there are {len(config.shards)}")
    return config.shards[shard]


async def _run(
    config: WorkloadConfig, symbols: Sequence[str], listen: str, poll_seconds: float
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine_config = EngineConfig.from_signal(config.signal)
    clocks = Clocks(time.time, time.monotonic)
    storage = open_storage(config.data_path)
    runners = [SymbolRunner(symbol, storage, engine_config, clocks) for symbol in symbols]
    registry = CollectorRegistry()
    registry.register(AnalysisCollector(config, lambda: [r.state for r in runners]))
    health = Health()
    async with serve(listen, registry, health) as url:
        logger.info("analysis of %s at %s/metrics", ", ".join(symbols), url)
        while not stop.is_set():
            more = False
            for runner in runners:
                if stop.is_set():
                    return
                more = await asyncio.to_thread(runner.step) or more
                health.heartbeat()
            behind = [r.state.symbol for r in runners if not r.caught_up]
            health.set_ready(not behind, f"catching up: {', '.join(behind)}" if behind else "")
            if not more:
                await _wait(stop, poll_seconds)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
