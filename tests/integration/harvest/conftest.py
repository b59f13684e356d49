"""A minimal exchange of its own, a harvest beside it, and waiting on conditions.

The exchange here shares no code with the project's: it says what a test tells it to, and
keeps every trade for REST.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pyarrow as pa
import pytest
from aiohttp import web
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from yarl import URL

from signalcanary.contract import DataSource, SignalConfig, Track, WorkloadConfig
from signalcanary_workloads.exchange.protocol import Endpoint
from signalcanary_workloads.exchange.server import RunningExchange
from signalcanary_workloads.harvest.app import Harvest
from signalcanary_workloads.harvest.feed import FeedSettings
from signalcanary_workloads.harvest.rest import RestSettings
from signalcanary_workloads.harvest.settings import Settings
from signalcanary_workloads.harvest.sink import SymbolSink
from signalcanary_workloads.serving import Health
from signalcanary_workloads.store import (
    SCHEMAS,
    Entry,
    Kind,
    ManifestReader,
    open_storage,
    read_part,
)

ROOT = Path(__file__).parents[3]
START_MS = 1_777_600_000_000
DEADLINE_SECONDS = 20.0


async def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds; fail with what was waited for."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 another process may make it true
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within {DEADLINE_SECONDS} s: {what}")


@dataclass
class MiniExchange:
    url: str = ""
    history: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    rest_requests: list[int] = field(default_factory=list)
    rest_fails: bool = False
    rest_wants_key: bool = False
    refuses: bool = False
    deaf_to_new: bool = False
    """New connections are accepted, and nothing is sent to them."""
    late: dict[ServerConnection, list[str]] = field(default_factory=dict)
    """Connections that the exchange lags on, and what it has still to send to them."""
    sockets: dict[ServerConnection, set[str]] = field(default_factory=dict)
    update_id: int = 0

    def respond(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        if not parts.path.startswith("/fapi/"):
            if self.refuses:
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "no more\n")
            return None
        query = parse_qs(parts.query)
        first, limit = int(query["fromId"][0]), int(query["limit"][0])
        self.rest_requests.append(first)
        if self.rest_fails:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "down\n")
        if self.rest_wants_key:
            body = '{"code":-2014,"msg":"API-key format invalid."}'
            return connection.respond(HTTPStatus.UNAUTHORIZED, body)
        known = self.history.get(query["symbol"][0], {})
        ids = sorted(n for n in known if n >= first)[:limit]
        body = json.dumps(
            [{k: v for k, v in known[n].items() if k in {"a", "p", "q", "f", "l", "T", "m", "nq"}}
             for n in ids]
        ).encode()  # fmt: skip
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
        headers["Connection"] = "close"
        return Response(200, "OK", headers, body)

    async def handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        streams = parse_qs(urlsplit(socket.request.path).query)["streams"][0]
        self.sockets[socket] = set() if self.deaf_to_new else set(streams.split("/"))
        try:
            await socket.wait_closed()
        finally:
            del self.sockets[socket]

    def listeners(self, stream: str) -> list[ServerConnection]:
        return [socket for socket, streams in self.sockets.items() if stream in streams]

    def send(self, stream: str, data: dict[str, Any]) -> None:
        self.send_raw(stream, json.dumps({"stream": stream, "data": data}))

    def send_raw(self, stream: str, text: str) -> None:
        listeners = self.listeners(stream)
        for socket in listeners:
            if socket in self.late:
                self.late[socket].append(text)
        broadcast([socket for socket in listeners if socket not in self.late], text)

    def catch_up(self, socket: ServerConnection) -> None:
        """Send what it has lagged behind with."""
        for text in self.late.pop(socket):
            broadcast([socket], text)

    def trade(
        self, trade_id: int, ts: int = START_MS, symbol: str = "BTCUSDT", silent: bool = False
    ) -> None:
        """A trade in the history, and on the stream unless `silent`."""
        data = {
            "e": "aggTrade", "E": ts + 1, "s": symbol, "a": trade_id, "p": "100.5",
            "q": f"0.{trade_id % 900 + 100}", "f": trade_id * 2, "l": trade_id * 2 + 1,
            "T": ts, "m": trade_id % 3 == 0,
        }  # fmt: skip
        self.history.setdefault(symbol, {})[trade_id] = data
        if not silent:
            self.send(f"{symbol.lower()}@aggTrade", data)

    def quote(self, ts: int = START_MS, symbol: str = "BTCUSDT") -> None:
        self.update_id += 1
        data = {
            "e": "bookTicker", "u": self.update_id, "s": symbol, "b": "100.4", "B": "1.5",
            "a": "100.5", "A": "2.5", "T": ts, "E": ts,
        }  # fmt: skip
        self.send(f"{symbol.lower()}@bookTicker", data)

    async def connected(self, symbol: str = "BTCUSDT") -> None:
        name = symbol.lower()
        await wait_until(
            lambda: (
                bool(self.listeners(f"{name}@aggTrade"))
                and bool(self.listeners(f"{name}@bookTicker"))
            ),
            "both streams are subscribed to",
        )

    async def drop(self, stream: str) -> None:
        """Cut the connections of a stream, as a network does."""
        cut = self.listeners(stream)
        for socket in cut:
            socket.transport.abort()
        await wait_until(lambda: not self.sockets.keys() & cut, f"{stream} is cut")


@pytest.fixture
async def exchange() -> AsyncIterator[MiniExchange]:
    mini = MiniExchange()
    async with serve(mini.handle, "127.0.0.1", 0, process_request=mini.respond) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        mini.url = f"127.0.0.1:{port}"
        yield mini


def make_config(
    data_path: str | Path, source: DataSource, symbols: tuple[str, ...] = ("BTCUSDT",)
) -> WorkloadConfig:
    return WorkloadConfig(
        namespace="default",
        name="demo",
        track=Track.CANARY,
        revision="demo-1",
        fingerprint="f",
        version="v1",
        shards=(symbols,),
        signal=SignalConfig(),
        source=source,
        data_path=str(data_path),
        commit_interval=timedelta(milliseconds=50),
    )


def mini_source(mini: MiniExchange) -> DataSource:
    return DataSource(
        public_url=f"ws://{mini.url}/public",
        market_url=f"ws://{mini.url}/market",
        rest_url=f"http://{mini.url}",
    )


QUICK = Settings(
    feed=FeedSettings(first_delay_seconds=0.01),
    rest=RestSettings(attempts=3, first_delay_seconds=0.01, pages_per_second=1000),
    commit_retry_seconds=0.05,
)


def open_sinks(config: WorkloadConfig, settings: Settings = QUICK) -> dict[str, SymbolSink]:
    """Of the first shard."""
    storage = open_storage(config.data_path)
    return {symbol: SymbolSink(storage, symbol, settings.wall_ns) for symbol in config.shards[0]}


@asynccontextmanager
async def running_harvest(
    config: WorkloadConfig, settings: Settings = QUICK
) -> AsyncIterator[Harvest]:
    """Stops it cleanly, and commits, when the block ends."""
    sinks = open_sinks(config, settings)
    worker = Harvest(config, sinks, settings, Health())
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
        stop.set()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for sink in sinks.values():
            sink.close()


@asynccontextmanager
async def harvesting(
    data_path: str | Path, mini: MiniExchange, settings: Settings = QUICK
) -> AsyncIterator[Harvest]:
    """A harvest of one symbol of the minimal exchange, which has connected to it."""
    config = make_config(data_path, mini_source(mini))
    async with running_harvest(config, settings) as harvest:
        await mini.connected()
        yield harvest


def read_entries(data_path: str | Path, symbol: str = "BTCUSDT") -> list[Entry]:
    return ManifestReader(open_storage(str(data_path)), symbol).poll(limit=1_000_000)


def find_unnamed(data_path: str | Path, symbol: str = "BTCUSDT") -> set[str]:
    """Parts that are there and that no manifest document names, or named and not there.

    Compaction may be under way: what it merged is still there, named by its own entries, and
    what a kill cut short has made a merged part that the next pass will name.
    """
    storage = open_storage(str(data_path))

    def paths(document: Any) -> Iterator[str]:
        if isinstance(document, dict):
            if {"path", "sha256"} <= document.keys():
                yield document["path"]
            document = list(document.values())
        if isinstance(document, list):
            for value in document:
                yield from paths(value)

    keys = [item.key for item in storage.find("")]
    documents = [key for key in keys if key.startswith(f"manifest/symbol={symbol}/")]
    named = {
        path
        for key in documents
        if key.endswith(".json")
        for path in paths(json.loads(storage.read(key)))
    }
    there = {key for key in keys if key.endswith(".parquet") and f"/symbol={symbol}/" in key}
    merging = {key for key in there if "/compact-" in key}
    return (there ^ named) - (merging - named)


def read_rows(data_path: str | Path, kind: Kind, symbol: str = "BTCUSDT") -> pa.Table:
    """All committed rows of a kind, in order of commit."""
    storage = open_storage(str(data_path))
    tables = [
        read_part(storage, part)
        for entry in read_entries(data_path, symbol)
        for part in entry.parts
        if part.kind is kind
    ]
    return pa.concat_tables([SCHEMAS[kind].empty_table(), *tables])


@asynccontextmanager
async def harvest_process(
    config_file: Path, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "signalcanary_workloads",
        "harvest",
        "--config",
        str(config_file),
        "--listen",
        "127.0.0.1:0",
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            **environment,
            "SIGNALCANARY_SHARD": "0",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "operator"), str(ROOT / "workloads")]),
        },
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class Witness:
    """Receives what an exchange of the project sends, as one more client that is never cut."""

    def __init__(self) -> None:
        self.broken = 0
        self._frames: list[tuple[str, dict[str, Any] | None]] = []

    async def send(self, text: bytes) -> None:
        try:
            frame = json.loads(text)
        except json.JSONDecodeError:
            self.broken += 1
            stream = text.removeprefix(b'{"stream":"').partition(b'"')[0].decode()
            self._frames.append((stream, None))
        else:
            self._frames.append((frame["stream"], frame["data"]))

    def abort(self) -> None:
        raise AssertionError("the witness was cut")

    def of(self, kind: str, symbol: str = "BTCUSDT") -> list[dict[str, Any] | None]:
        """The payloads of one stream, in the order in which they were sent; None: broken."""
        wanted = f"{symbol.lower()}@{kind}"
        return [data for stream, data in self._frames if stream == wanted]


@asynccontextmanager
async def witnessing(exchange: RunningExchange, symbols: tuple[str, ...]) -> AsyncIterator[Witness]:
    """Watch an exchange's book tickers and trades from the inside of its hub."""
    witness, hub = Witness(), exchange.engine.hub
    writers = []
    for endpoint, kind in ((Endpoint.PUBLIC, "bookTicker"), (Endpoint.MARKET, "aggTrade")):
        connection = hub.attach(witness, endpoint, combined=True)
        hub.subscribe(connection, [f"{symbol.lower()}@{kind}" for symbol in symbols])
        writers.append((connection, asyncio.create_task(connection.write_forever())))
    try:
        yield witness
    finally:
        for connection, writer in writers:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            hub.detach(connection)


@dataclass
class Throttle:
    """An S3 server's front that refuses requests, as S3 does when there are too many."""

    url: str = ""
    share: float = 0.0
    """How many of the requests are refused."""
    refused: int = 0


@asynccontextmanager
async def throttling(server_url: str, random: Callable[[], float]) -> AsyncIterator[Throttle]:
    """Pass requests on to the server as they are (their signatures hold), or refuse them."""
    throttle = Throttle()

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        refuses = random() < throttle.share
        if refuses and random() < 0.8:  # of the others the server has done what was asked
            throttle.refused += 1
            return web.Response(
                status=503,
                headers={"Retry-After": "1"},
                content_type="application/xml",
                text="<?xml version='1.0' encoding='UTF-8'?><Error><Code>SlowDown</Code>"
                "<Message>Please reduce your request rate.</Message></Error>",
            )
        url = URL(server_url + request.raw_path, encoded=True)
        async with client.request(
            request.method, url, headers=request.headers, data=body, allow_redirects=False
        ) as passed:
            content, headers = await passed.read(), passed.headers.copy()
            headers.popall("Transfer-Encoding", None)
        if refuses:
            return web.Response(status=500)
        return web.Response(status=passed.status, headers=headers, body=content)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as client:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            throttle.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield throttle
    finally:
        await runner.cleanup()


def find_temporary(data_path: str) -> list[Path]:
    """What is half-written on a volume; a bucket never has such."""
    return list(Path(data_path).rglob("*.tmp"))


@pytest.fixture
def kit() -> SimpleNamespace:
    """What the tests of this folder share (importlib mode has no sibling imports)."""
    return SimpleNamespace(
        wait_until=wait_until,
        make_config=make_config,
        mini_source=mini_source,
        open_sinks=open_sinks,
        running_harvest=running_harvest,
        harvesting=harvesting,
        witnessing=witnessing,
        throttling=throttling,
        harvest_process=harvest_process,
        read_entries=read_entries,
        read_rows=read_rows,
        find_unnamed=find_unnamed,
        find_temporary=find_temporary,
        start_ms=START_MS,
        quick=QUICK,
    )
