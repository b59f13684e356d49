"""The exchange over real sockets, spoken to as harvest does: websockets and aiohttp."""

import asyncio
import gzip
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from signalcanary_workloads.exchange.server import (
    ExchangeConfig,
    Replay,
    RunningExchange,
    Synthetic,
    running_exchange,
)
from signalcanary_workloads.exchange.sources import Recording
from signalcanary_workloads.exchange.websocket import ConnectionLimits

ROOT = Path(__file__).resolve().parents[3]
RECORDED = ROOT.parent / "shared" / "data" / "binance-usdm-20240808"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
START_MS = 1_750_000_000_000
AGG_TRADE_FIELDS = ["e", "E", "s", "a", "p", "q", "nq", "f", "l", "T", "m"]


def config(**changes: Any) -> ExchangeConfig:
    return ExchangeConfig(mode=Synthetic(SYMBOLS, seed=1, start_ms=START_MS), **changes)


@pytest.fixture
async def exchange() -> AsyncIterator[RunningExchange]:
    async with running_exchange(config()) as running:
        yield running


@pytest.fixture
async def http(exchange: RunningExchange) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(exchange.http_url) as session:
        yield session


async def receive(socket: ClientConnection) -> Any:
    async with asyncio.timeout(10):
        return json.loads(await socket.recv())


async def ask(socket: ClientConnection, method: str, *params: Any, request_id: int = 1) -> Any:
    """Send a request and return its reply, skipping market data."""
    await socket.send(json.dumps({"method": method, "params": params, "id": request_id}))
    while True:
        message = await receive(socket)
        if "id" in message or "error" in message:
            return message


async def until_closed(socket: ClientConnection) -> ConnectionClosed:
    try:
        while True:
            await receive(socket)
    except ConnectionClosed as closed:
        return closed


# ----------------------------------------------------------------------- websocket


async def test_combined_streams_wrap_production_payloads(exchange: RunningExchange) -> None:
    url = f"{exchange.market_url}/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade"
    async with connect(url) as socket:
        messages = [await receive(socket) for _ in range(50)]
    assert {message["stream"] for message in messages} == {
        "btcusdt@aggTrade",
        "ethusdt@aggTrade",
    }
    assert all(list(message["data"]) == AGG_TRADE_FIELDS for message in messages)


async def test_raw_streams_come_bare(exchange: RunningExchange) -> None:
    async with connect(f"{exchange.public_url}/ws/btcusdt@bookTicker") as socket:
        quote = await receive(socket)
    assert list(quote) == ["e", "u", "s", "b", "B", "a", "A", "T", "E"]


async def test_subscriptions_change_live(exchange: RunningExchange) -> None:
    async with connect(f"{exchange.public_url}/stream") as socket:
        assert await ask(socket, "SUBSCRIBE", "btcusdt@bookTicker", request_id=7) == {
            "result": None,
            "id": 7,
        }
        assert (await receive(socket))["stream"] == "btcusdt@bookTicker"
        assert (await ask(socket, "LIST_SUBSCRIPTIONS"))["result"] == ["btcusdt@bookTicker"]
        assert (await ask(socket, "GET_PROPERTY", "combined"))["result"] is True
        await ask(socket, "SET_PROPERTY", "combined", False)
        assert (await receive(socket))["e"] == "bookTicker"
        await ask(socket, "UNSUBSCRIBE", "btcusdt@bookTicker")
        assert (await ask(socket, "LIST_SUBSCRIPTIONS"))["result"] == []
        assert exchange.engine.hub.subscriber_count("btcusdt@bookTicker") == 0


async def test_a_request_that_makes_no_sense_is_answered_and_the_stream_goes_on(
    exchange: RunningExchange,
) -> None:
    async with connect(f"{exchange.public_url}/stream?streams=btcusdt@bookTicker") as socket:
        await socket.send("{oops")
        messages = [await receive(socket) for _ in range(30)]
    assert [message["error"]["code"] for message in messages if "error" in message] == [3]


@pytest.mark.parametrize(
    ("path", "silent", "heard"),
    [
        pytest.param("/public", "btcusdt@aggTrade", "btcusdt@bookTicker", id="public"),
        pytest.param("/market", "btcusdt@bookTicker", "btcusdt@aggTrade", id="market"),
        pytest.param("", "btcusdt@aggTrade", "btcusdt@bookTicker", id="legacy"),
    ],
)
async def test_a_stream_on_the_wrong_path_is_acknowledged_and_silent(
    exchange: RunningExchange, path: str, silent: str, heard: str
) -> None:
    async with connect(f"{exchange.ws_url}{path}/stream") as socket:
        reply = await ask(socket, "SUBSCRIBE", silent, heard)
        assert reply["result"] is None
        streams = {(await receive(socket))["stream"] for _ in range(60)}
    assert streams == {heard}


async def test_pings_are_answered_and_silence_ends_the_connection() -> None:
    limits = ConnectionLimits(ping_interval_seconds=0.2, pong_timeout_seconds=1.0)
    async with running_exchange(config(limits=limits)) as running:
        async with connect(f"{running.public_url}/ws/btcusdt@bookTicker") as socket:
            for _ in range(700):  # longer than the timeout
                await receive(socket)
        async with aiohttp.ClientSession() as session:
            url = f"{running.public_url}/ws"
            async with session.ws_connect(url, autoping=False) as mute:
                async with asyncio.timeout(10):
                    while (await mute.receive()).type is aiohttp.WSMsgType.PING:
                        pass
        assert running.engine.hub.disconnects["no-pong"] == 1  # type: ignore[index]


async def test_an_old_connection_is_closed_properly() -> None:
    limits = ConnectionLimits(max_age_seconds=0.1)
    async with (
        running_exchange(config(limits=limits)) as running,
        connect(f"{running.public_url}/ws/btcusdt@bookTicker") as socket,
    ):
        error = await until_closed(socket)
    assert error.rcvd is not None
    assert error.rcvd.code == 1001


async def test_more_than_ten_messages_a_second_end_the_connection(
    exchange: RunningExchange,
) -> None:
    async with connect(f"{exchange.public_url}/ws") as socket:
        for _ in range(11):
            await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        error = await until_closed(socket)
    assert error.rcvd is not None
    assert (error.rcvd.code, error.rcvd.reason) == (1008, "too-many-requests")


async def test_more_than_two_hundred_streams_end_the_connection(
    exchange: RunningExchange,
) -> None:
    async with connect(f"{exchange.public_url}/ws") as socket:
        streams = [f"s{number}@bookTicker" for number in range(201)]
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1}))
        error = await until_closed(socket)
    assert error.rcvd is not None
    assert error.rcvd.reason == "too-many-streams"


async def test_a_consumer_that_does_not_read_is_cut_and_counted() -> None:
    limits = ConnectionLimits(queue_frames=5)
    async with running_exchange(config(limits=limits, speed=2000)) as running:
        url = f"{running.public_url}/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker"
        async with connect(url) as socket:
            error = await until_closed(socket)
        assert error.rcvd is None
        async with aiohttp.ClientSession(running.http_url) as session:
            state = await (await session.get("/control/state")).json()
    assert state["disconnects"] == {"slow-consumer": 1}


# ----------------------------------------------------------------------- REST


async def test_rest_serves_the_very_trades_of_the_stream(
    exchange: RunningExchange, http: aiohttp.ClientSession
) -> None:
    async with connect(f"{exchange.market_url}/stream?streams=btcusdt@aggTrade") as socket:
        wire = [(await receive(socket))["data"] for _ in range(40)]
    query = {"symbol": "BTCUSDT", "fromId": wire[0]["a"], "limit": 40}
    async with http.get("/fapi/v1/aggTrades", params=query) as response:
        rows = await response.json()
        assert response.headers["X-MBX-USED-WEIGHT-1M"] == "20"
    assert rows == [{key: row[key] for key in rows[0]} for row in wire]
    query = {"symbol": "BTCUSDT", "fromId": wire[0]["f"], "limit": 1}
    async with http.get("/fapi/v1/historicalTrades", params=query) as response:
        raw = (await response.json())[0]
    assert (raw["id"], raw["price"], raw["time"], raw["isBuyerMaker"]) == (
        wire[0]["f"],
        wire[0]["p"],
        wire[0]["T"],
        wire[0]["m"],
    )


async def test_rest_describes_itself(http: aiohttp.ClientSession) -> None:
    assert await (await http.get("/fapi/v1/ping")).json() == {}
    assert (await (await http.get("/fapi/v1/time")).json())["serverTime"] >= START_MS
    info = await (await http.get("/fapi/v1/exchangeInfo")).json()
    assert [one["symbol"] for one in info["symbols"]] == list(SYMBOLS)
    assert info["symbols"][0]["filters"][0] == {
        "filterType": "PRICE_FILTER",
        "tickSize": "0.10",
    }
    assert await (await http.get("/healthz")).text() == "ok\n"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", -1102),
        ("symbol=DOGEUSDT", -1121),
        ("symbol=BTCUSDT&limit=1001", -1130),
        ("symbol=BTCUSDT&fromId=x", -1100),
        ("symbol=BTCUSDT&startTime=1&endTime=9999999", -4139),
    ],
)
async def test_rest_refuses_with_the_codes_of_production(
    http: aiohttp.ClientSession, query: str, code: int
) -> None:
    async with http.get(f"/fapi/v1/aggTrades?{query}") as response:
        assert response.status == 400
        assert (await response.json())["code"] == code


async def test_rest_past_its_weight_limit_answers_429() -> None:
    statuses = []
    async with (
        running_exchange(config(rest_weight_per_minute=39)) as running,
        aiohttp.ClientSession(running.http_url) as session,
    ):
        # Three, because a minute may turn between two of them.
        for _ in range(3):
            async with session.get("/fapi/v1/aggTrades?symbol=BTCUSDT") as response:
                statuses.append(response.status)
                if response.status == 429:
                    assert (await response.json())["code"] == -1003
                    assert int(response.headers["Retry-After"]) <= 60
    assert 429 in statuses


# ----------------------------------------------------------------------- faults


async def test_faults_are_imposed_listed_and_cleared(http: aiohttp.ClientSession) -> None:
    async with http.post("/control/faults", json={"type": "skill", "factor": 0}) as response:
        assert response.status == 201
        imposed = (await response.json())["faults"]
    assert imposed[0]["id"] == 1
    assert (await (await http.get("/control/faults")).json())["faults"][0]["active"] is True
    text = await (await http.get("/metrics")).text()
    assert 'exchange_faults_active{type="skill"} 1.0' in text
    assert (await http.delete("/control/faults/9")).status == 404
    assert await (await http.delete("/control/faults")).json() == {"cleared": 1}
    assert await (await http.get("/control/faults")).json() == {"faults": []}


@pytest.mark.parametrize("body", ["{", '{"type":"plague"}', '{"type":"drop","probability":9}'])
async def test_a_fault_that_makes_no_sense_is_refused(
    http: aiohttp.ClientSession, body: str
) -> None:
    async with http.post("/control/faults", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]


async def test_dropped_trades_are_missing_from_the_stream_and_present_in_rest(
    exchange: RunningExchange, http: aiohttp.ClientSession
) -> None:
    await http.post("/control/faults", json={"type": "drop", "probability": 0.5})
    async with connect(f"{exchange.market_url}/ws/btcusdt@aggTrade") as socket:
        seen = [(await receive(socket))["a"] for _ in range(40)]
    missing = set(range(seen[0], seen[-1])) - set(seen)
    assert missing
    query = {"symbol": "BTCUSDT", "fromId": seen[0], "limit": 1000}
    rows = await (await http.get("/fapi/v1/aggTrades", params=query)).json()
    assert missing <= {row["a"] for row in rows}


async def test_a_disconnect_cuts_the_endpoint_it_names(
    exchange: RunningExchange, http: aiohttp.ClientSession
) -> None:
    async with (
        connect(f"{exchange.market_url}/ws/btcusdt@aggTrade") as market,
        connect(f"{exchange.public_url}/ws/btcusdt@bookTicker") as public,
    ):
        await receive(market)
        fault = {"type": "disconnect", "endpoint": "market"}
        assert (await http.post("/control/faults", json=fault)).status == 201
        await until_closed(market)
        await receive(public)


async def test_a_delayed_market_endpoint_lags_in_event_time(
    exchange: RunningExchange, http: aiohttp.ClientSession
) -> None:
    fault = {"type": "delay", "endpoint": "market", "delay_ms": 60_000}
    await http.post("/control/faults", json=fault)
    async with connect(f"{exchange.market_url}/ws/btcusdt@aggTrade") as socket:
        # The first may have left before the fault.
        trades = [await receive(socket) for _ in range(200)]
        lag_ms = exchange.engine.position_ms - trades[-1]["E"]
    assert lag_ms >= 59_000


async def test_state_counts_what_was_sent(
    exchange: RunningExchange, http: aiohttp.ClientSession
) -> None:
    async with connect(f"{exchange.public_url}/ws/btcusdt@bookTicker") as socket:
        for _ in range(20):
            await receive(socket)
        state = await (await http.get("/control/state")).json()
    symbol = state["symbols"]["BTCUSDT"]
    assert symbol["subscribers"]["bookTicker"] == 1
    assert symbol["frames_sent"]["bookTicker"] >= 20
    assert symbol["last_agg_trade_id"] > 0
    assert symbol["regime"] in ("active", "quiet")
    assert state["event_time_ms"] > START_MS


# ----------------------------------------------------------------------- replay


def recorded(symbol: str, limit: int, folder: Path) -> tuple[Recording, list[str]]:
    """A recording of the first lines, and its messages."""
    source = RECORDED / f"{symbol.lower()}_20240808.gz"
    if not source.exists():
        pytest.skip("the recorded frames are not beside this checkout (../shared/data)")
    path = folder / source.name
    messages = []
    with gzip.open(source, "rt") as lines, gzip.open(path, "wt") as out:
        for line, _ in zip(lines, range(limit), strict=False):
            out.write(line)
            messages.append(line.rstrip("\n").partition(" ")[2])
    return Recording(symbol, path), messages


async def test_a_replay_reaches_its_subscribers_whole_and_byte_for_byte(tmp_path: Path) -> None:
    recording, messages = recorded("BTCUSDT", 4_000, tmp_path)
    mode = Replay((recording,))
    async with (
        running_exchange(ExchangeConfig(mode=mode, speed=50)) as running,
        aiohttp.ClientSession(running.http_url) as session,
        connect(f"{running.public_url}/stream?streams=btcusdt@bookTicker") as public,
    ):
        state = await (await session.get("/control/state")).json()
        assert state["waiting"] is True
        async with connect(f"{running.market_url}/ws/btcusdt@trade") as market:
            quotes = [text for text in messages if '@bookTicker"' in text[:40]]
            trades = [text for text in messages if '@trade"' in text[:40]]
            async with asyncio.timeout(20):
                assert [await public.recv() for _ in quotes] == quotes
                raw = [await market.recv() for _ in trades]
            assert raw == [text.partition('"data":')[2][:-1] for text in trades]
            async with asyncio.timeout(10):
                while not (await (await session.get("/control/state")).json())["finished"]:
                    pass
            await market.ping()
        first = json.loads(raw[0])
        query = {"symbol": "BTCUSDT", "fromId": first["t"], "limit": 1}
        rows = await (await session.get("/fapi/v1/historicalTrades", params=query)).json()
        assert (rows[0]["price"], rows[0]["qty"]) == (first["p"], first["q"])
        async with session.post("/control/faults", json={"type": "frozen_mid"}) as response:
            assert response.status == 400


# ----------------------------------------------------------------------- the process

RUN = """
import argparse, sys
from signalcanary_workloads.exchange import cli
parser = argparse.ArgumentParser()
cli.add_arguments(parser)
sys.exit(cli.run(parser.parse_args()))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_says_where_it_listens_and_ends_cleanly(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RUN,
        "--listen",
        "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'workloads'}:{ROOT / 'operator'}"},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
            found = re.fullmatch(r"exchange listening on (http://127\.0\.0\.1:\d+)\n", line)
            assert found is not None
            base = found[1].replace("http", "ws")
            async with connect(f"{base}/public/ws/btcusdt@bookTicker") as socket:
                await receive(socket)
                process.send_signal(number)
                await until_closed(socket)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
