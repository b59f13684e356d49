"""A process that sends pre-encoded frames over loopback websockets, and notes when.

It must never be the bottleneck, so the frames are encoded before the first one is sent, and
written straight to the transports, some at a time. Prints one line of JSON when it listens
(`url`) and one when all is sent; it ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from http import HTTPStatus
from pathlib import Path

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from benchmarks.workloads.frames import Load, Tick, build_ticks

TICK_MS = 2
SETTLE_SECONDS = 0.5


class Sender:
    """Waits for harvest's two connections, then sends."""

    def __init__(self, load: Load, paced: bool) -> None:
        self._load = load
        self._paced = paced
        start_ms = time.time_ns() // 1_000_000
        self._ticks = list(build_ticks(load, TICK_MS, start_ms))
        quotes, trades = load.quotes_and_trades()
        self.quotes_sent_ns = np.zeros(quotes, np.int64)
        self.trades_sent_ns = np.zeros(trades, np.int64)
        self._connections: dict[str, asyncio.Future[ServerConnection]] = {}

    def open(self) -> None:
        """To be called in the loop that serves."""
        loop = asyncio.get_running_loop()
        self._connections = {path: loop.create_future() for path in ("/public", "/market")}

    def respond(self, connection: ServerConnection, request: Request) -> Response | None:
        """There is no REST here: a hole in the trades stays one."""
        if request.path.startswith("/fapi/"):
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "websockets only\n")
        return None

    async def handle(self, connection: ServerConnection) -> None:
        """A connection; a second one to the same path gets nothing."""
        assert connection.request is not None
        path = connection.request.path.partition("/stream")[0]
        if (waiting := self._connections.get(path)) and not waiting.done():
            waiting.set_result(connection)
        await connection.wait_closed()

    async def send(self) -> dict[str, float]:
        """Send everything; gives how long it took and how late the latest tick was."""
        books = await self._connections["/public"]
        trades = await self._connections["/market"]
        await asyncio.sleep(SETTLE_SECONDS)
        begun, worst = time.monotonic(), 0.0
        begun_ns = time.time_ns()
        for n, tick in enumerate(self._ticks):
            if self._paced:
                behind = time.monotonic() - begun - n * TICK_MS / 1000
                if behind < 0:
                    await asyncio.sleep(-behind)
                worst = max(worst, behind)
            self._write(books, trades, tick)
            if not self._paced and n % 8 == 0:
                await asyncio.gather(_drain(books), _drain(trades))
        await asyncio.gather(_drain(books), _drain(trades))
        return {
            "begun_ns": begun_ns,
            "seconds": time.monotonic() - begun,
            "late_ms": worst * 1000,
        }

    def _write(self, books: ServerConnection, trades: ServerConnection, tick: Tick) -> None:
        now = time.time_ns()
        books.transport.write(tick.books)
        trades.transport.write(tick.trades)
        self.quotes_sent_ns[tick.quote_ids.start : tick.quote_ids.stop] = now
        self.trades_sent_ns[tick.trade_ids.start : tick.trade_ids.stop] = now


async def _drain(connection: ServerConnection) -> None:
    """Wait until the peer has taken nearly everything."""
    while connection.transport.get_write_buffer_size() > 1 << 16:  # noqa: ASYNC110 not ours to be told
        await asyncio.sleep(0.0005)


async def main(load: Load, paced: bool, times: Path) -> None:
    sender = Sender(load, paced)
    sender.open()
    async with serve(
        sender.handle,
        "127.0.0.1",
        0,
        process_request=sender.respond,
        compression=None,
        ping_interval=None,
    ) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        print(json.dumps({"url": f"{host}:{port}"}), flush=True)
        told = await sender.send()
        np.savez(times, quotes=sender.quotes_sent_ns, trades=sender.trades_sent_ns)
        told["cpu_seconds"] = time.process_time()
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True, help="messages/s of event time")
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--paced", action="store_true", help="else as fast as they are read")
    parser.add_argument("--times", type=Path, required=True, help="file for the sending times")
    chosen = parser.parse_args()
    load = Load(chosen.symbols, chosen.rate, chosen.seconds)
    asyncio.run(main(load, chosen.paced, chosen.times))
