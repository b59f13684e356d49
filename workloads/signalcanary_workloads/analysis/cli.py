"""The analysis process: ``python -m signalcanary_workloads analysis``.

It only wires: configuration → one runner a symbol of its shard → /metrics and the stream.
Reading, evaluating and recording happen in one worker thread, so that a scrape is answered, and
a heartbeat sent, while history is replayed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import zmq
from prometheus_client import CollectorRegistry

from signalcanary.contract import WorkloadConfig, parse_duration
from signalcanary.stream import HEARTBEAT_SECONDS, SIGNALS_PORT, Heartbeat

from ..artifacts.errors import ArtifactRefused
from ..artifacts.formats import NO_RUNTIME
from ..artifacts.inference import BadModel
from ..housekeeping import Housekeeping, UpkeepCounts
from ..options import CONFIGURATION_ERRORS, add_common_arguments, read_config
from ..serving import Health, serve, split_listen
from ..store import BUCKET_SCHEME, open_storage
from ..store.errors import StorageError
from .engine import EngineConfig, Models
from .exporter import AnalysisCollector
from .gate import GateReader
from .models import ModelMetrics, load_models
from .publish import Publisher, SignalMetrics, publishing
from .runner import REPORT_SHARE, Clocks, SymbolRunner
from .signals import FOLDER, SignalLog
from .snapshot_keeper import SNAPSHOT_SECONDS, SnapshotKeeper, SnapshotMetrics

logger = logging.getLogger(__name__)

LAST_SNAPSHOT_SECONDS: Final = 10.0
"""Longest that the process stays for them once it is told to end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``analysis`` to its parser."""
    add_common_arguments(parser)
    parser.add_argument(
        "--publish",
        default=f"0.0.0.0:{SIGNALS_PORT}",
        metavar="HOST:PORT",
        help="where to publish signals, once the gate is open (default: %(default)s)",
    )
    parser.add_argument(
        "--gate",
        type=Path,
        metavar="FILE",
        help="says who may publish; while it is not there, nobody (default: nobody ever)",
    )
    parser.add_argument(
        "--poll",
        type=_read_seconds,
        metavar="DURATION",
        help="how often to look for new entries, wall clock (default: 250ms, in a bucket 1s)",
    )
    parser.add_argument(
        "--snapshot",
        type=_read_seconds,
        default=SNAPSHOT_SECONDS,
        metavar="DURATION",
        help="how often to keep what a restart goes on from, wall clock (default: 5m)",
    )


def _read_seconds(text: str) -> float:
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
        config = read_config(args)
        split_listen(args.publish)
    except CONFIGURATION_ERRORS as exc:
        print(f"analysis: {args.config}: {exc}", file=sys.stderr)
        return 2
    poll_seconds = args.poll or default_poll_seconds(config.data_path)
    registry = CollectorRegistry()
    try:
        models = _load_models(config, registry)
    except (ArtifactRefused, BadModel, StorageError, ValueError) as exc:
        print(f"analysis: cannot load the models: {exc}", file=sys.stderr)
        return 2
    except ModuleNotFoundError:
        print(f"analysis: cannot load the models: {NO_RUNTIME}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_run(config, config.shards[args.shard], args, poll_seconds, (registry, models)))
    except zmq.ZMQError as exc:
        print(f"analysis: cannot publish at {args.publish}: {exc}", file=sys.stderr)
        return 2
    return 0


def _load_models(config: WorkloadConfig, registry: CollectorRegistry) -> Models:
    """The models of both configurations; none where they have none."""
    judged, control = config.signal, config.control.signal if config.control else None
    metrics = ModelMetrics(registry, config)
    root, logins = config.artifacts_root or "", config.logins
    ours = load_models(root, judged.artifacts, metrics, logins) if judged.artifacts else {}
    if control is None or control.artifacts is None:
        return Models(ours, {})
    return Models(ours, load_models(root, control.artifacts, None, logins))


def default_poll_seconds(data_path: str) -> float:
    """How often to look for a new entry: a look is a failed open, or a request that is paid for."""
    return 1.0 if data_path.startswith(BUCKET_SCHEME) else 0.25


async def _run(
    config: WorkloadConfig,
    symbols: Sequence[str],
    args: argparse.Namespace,
    poll_seconds: float,
    loaded: tuple[CollectorRegistry, Models],
) -> None:
    registry, models = loaded
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    control = config.control.signal if config.control else None
    engine_config = EngineConfig.from_signal(config.signal, control)
    clocks = Clocks(time.time, time.monotonic)
    storage = open_storage(config.data_path)
    gate = GateReader.of(config, args.gate)
    logs = {symbol: SignalLog(symbol, config, gate, time.time_ns) for symbol in symbols}
    metrics = SnapshotMetrics(registry, config, symbols)
    keepers = {
        symbol: SnapshotKeeper(
            storage, symbol, engine_config, metrics, clocks.monotonic, args.snapshot, models
        )
        for symbol in symbols
    }
    share = REPORT_SHARE / len(logs)
    runners = [
        SymbolRunner(symbol, storage, engine_config, clocks, log, share, keepers[symbol], models)
        for symbol, log in logs.items()
    ]
    upkeep = {symbol: UpkeepCounts() for symbol in symbols}
    registry.register(AnalysisCollector(config, lambda: [r.state for r in runners], upkeep))
    record = open_storage(f"{config.data_path}/{FOLDER}")
    housekeeping = Housekeeping(record, config, upkeep)
    health = Health()
    with publishing(args.publish) as publisher:
        outlet = _Outlet(config, publisher, gate, logs, SignalMetrics(registry, config, symbols))
        async with serve(args.listen, registry, health) as url:
            logger.info("signals of %s at %s", ", ".join(symbols), publisher.address)
            logger.info("analysis of %s at %s/metrics", ", ".join(symbols), url)
            beating = asyncio.create_task(outlet.beat())
            keeping = asyncio.create_task(housekeeping.run())
            try:
                await _analyse(runners, outlet, health, stop, poll_seconds, (beating, keeping))
                housekeeping.end()
                await asyncio.to_thread(_end, runners, keepers.values())
            finally:
                beating.cancel()
                housekeeping.end()
                await keeping  # a pass that is under way stops where it may
    for log in logs.values():
        log.close()


def _end(runners: Iterable[SymbolRunner], keepers: Iterable[SnapshotKeeper]) -> None:
    """Write last snapshots, all at once; what is not written by then a restart replays."""
    until = time.monotonic() + LAST_SNAPSHOT_SECONDS
    for runner in runners:
        runner.end()
    for keeper in keepers:
        keeper.wait(max(0.0, until - time.monotonic()))


async def _analyse(
    runners: Sequence[SymbolRunner],
    outlet: _Outlet,
    health: Health,
    stop: asyncio.Event,
    poll_seconds: float,
    beside: Sequence[asyncio.Task[None]],
) -> None:
    while not stop.is_set():
        more = False
        for runner in runners:
            if stop.is_set():
                return
            more = await asyncio.to_thread(runner.step) or more
            outlet.send(runner)
            health.heartbeat()
        for task in beside:
            if task.done():
                task.result()  # raises what ended it
        behind = [r.state.symbol for r in runners if not r.caught_up]
        health.set_ready(not behind, f"catching up: {', '.join(behind)}" if behind else "")
        if not more:
            await _wait(stop, poll_seconds)


class _Outlet:
    """Sends what is on record, and a heartbeat a symbol and second. Of the event loop alone."""

    def __init__(
        self,
        config: WorkloadConfig,
        publisher: Publisher,
        gate: GateReader,
        logs: Mapping[str, SignalLog],
        metrics: SignalMetrics,
    ) -> None:
        self._config = config
        self._publisher = publisher
        self._gate = gate
        self._logs = logs
        self._metrics = metrics
        self._sent: dict[str, int] = {}

    def send(self, runner: SymbolRunner) -> None:
        symbol = runner.state.symbol
        for flushed in runner.take_flushed():
            for one in flushed.sendable:
                self._publisher.send(one.signal)
                self._sent[symbol] = one.signal.seq
            self._metrics.count(symbol, flushed)

    async def beat(self) -> None:
        while True:
            for symbol, log in self._logs.items():
                closed = self._gate.read(symbol)
                self._metrics.look(symbol, closed is None)
                self._publisher.send(
                    Heartbeat(
                        track=self._config.track,
                        symbol=symbol,
                        revision=self._config.revision,
                        attempt=self._config.attempt,
                        # What is on record but not sent yet is no hole.
                        seq=self._sent.get(symbol, log.resumed_seq),
                        open=closed is None,
                        reason=closed,
                        emitted_ns=time.time_ns(),
                    )
                )
            self._metrics.set_subscribers(self._publisher.count_subscribers())
            await asyncio.sleep(HEARTBEAT_SECONDS)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
