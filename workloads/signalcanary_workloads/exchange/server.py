"""One exchange on one port: assembled from a configuration, and run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web

from signalcanary_workloads.exchange.clock import VirtualClock
from signalcanary_workloads.exchange.control import ControlApi
from signalcanary_workloads.exchange.engine import Engine
from signalcanary_workloads.exchange.faults import FaultBook
from signalcanary_workloads.exchange.hub import Hub
from signalcanary_workloads.exchange.model import STEP_MS, MarketParams
from signalcanary_workloads.exchange.protocol import Kind
from signalcanary_workloads.exchange.rest import RestApi
from signalcanary_workloads.exchange.sources import (
    Recording,
    ReplaySource,
    Source,
    SyntheticSource,
)
from signalcanary_workloads.exchange.websocket import ConnectionLimits, WebsocketApi


@dataclass(frozen=True)
class Synthetic:
    """The synthetic market; event time begins at `start_ms`, by default now."""

    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    seed: int = 1
    start_ms: int | None = None
    market: MarketParams = field(default_factory=MarketParams)


@dataclass(frozen=True)
class Replay:
    """Recorded frames; a symbol begins when its bookTicker and trade streams each have
    `min_subscribers` (0: at once)."""

    recordings: tuple[Recording, ...]
    min_subscribers: int = 1


@dataclass(frozen=True)
class ExchangeConfig:
    """All that an exchange is started with."""

    mode: Synthetic | Replay = field(default_factory=Synthetic)
    speed: float = 120.0
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    rest_weight_per_minute: int = 2400
    history_trades: int = 500_000


@dataclass(frozen=True)
class RunningExchange:
    """Where a running exchange is reached; `engine` is for tests that look behind it."""

    host: str
    port: int
    engine: Engine

    @property
    def http_url(self) -> str:
        """Base of REST, control and metrics."""
        return f"http://{self.host}:{self.port}"

    @property
    def rest_url(self) -> str:
        return self.http_url

    @property
    def ws_url(self) -> str:
        """The legacy base; `/stream` and `/ws` below it."""
        return f"ws://{self.host}:{self.port}"

    @property
    def public_url(self) -> str:
        return f"{self.ws_url}/public"

    @property
    def market_url(self) -> str:
        return f"{self.ws_url}/market"


def build_engine(config: ExchangeConfig) -> Engine:
    """Raises RecordingError, OSError or ValueError if the configuration cannot work."""
    hub = Hub(config.limits.queue_frames)
    source: Source
    if isinstance(config.mode, Synthetic):
        synthetic = config.mode
        if len(set(synthetic.symbols)) != len(synthetic.symbols) or not synthetic.symbols:
            raise ValueError("symbols must be given, each once")
        start_ms = synthetic.start_ms
        if start_ms is None:
            start_ms = int(time.time()) * 1000
        start_ms -= start_ms % STEP_MS
        source = SyntheticSource(
            synthetic.symbols, synthetic.market, synthetic.seed, start_ms, config.history_trades
        )
        seed = synthetic.seed
    else:
        enough = config.mode.min_subscribers

        def is_ready(symbol: str) -> bool:
            needed = (Kind.TRADE, Kind.BOOK_TICKER)
            return all(hub.subscriber_count(f"{symbol.lower()}@{k}") >= enough for k in needed)

        replay = ReplaySource(config.mode.recordings, is_ready, config.history_trades)
        source, start_ms, seed = replay, replay.start_ms, 0
    faults = FaultBook(tuple(source.histories), isinstance(config.mode, Synthetic))
    clock = VirtualClock(start_ms, config.speed, time.monotonic)
    return Engine(source, clock, hub, faults, seed, is_lossless=isinstance(config.mode, Replay))


@contextlib.asynccontextmanager
async def running_exchange(
    config: ExchangeConfig | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[RunningExchange]:
    """Serve in the current event loop until the block ends; port 0 picks a free one."""
    config = config or ExchangeConfig()
    engine = build_engine(config)
    websockets = WebsocketApi(engine.hub, config.limits)
    app = web.Application()
    websockets.add_routes(app)
    RestApi(engine, config.rest_weight_per_minute).add_routes(app)
    ControlApi(engine).add_routes(app)

    async def close_websockets(_: web.Application) -> None:
        await websockets.close_all()

    app.on_shutdown.append(close_websockets)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    pump: asyncio.Task[None] | None = None
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0]
        pump = asyncio.create_task(engine.run())
        pump.add_done_callback(_report_failure)
        yield RunningExchange(host, bound[1], engine)
    finally:
        if pump is not None:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        engine.source.close()
        await runner.cleanup()


def _report_failure(pump: asyncio.Task[None]) -> None:
    """A pump that died would leave a server that answers and never speaks."""
    if pump.cancelled() or (error := pump.exception()) is None:
        return
    pump.get_loop().call_exception_handler(
        {"message": "the exchange's pump failed", "exception": error}
    )
