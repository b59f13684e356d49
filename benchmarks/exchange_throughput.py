"""How many frames a second one exchange process sustains to one websockets client, and what
the default demo load (3 symbols, speed 120, 4 clients) costs it in CPU.

Run: python -m benchmarks.exchange_throughput [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect

from benchmarks.process import cpu_seconds, environment, module

SYMBOLS = ("btcusdt", "ethusdt", "solusdt")


@asynccontextmanager
async def exchange(*options: str) -> AsyncIterator[tuple[str, int]]:
    """A process of its own: its websocket base URL and process id."""
    process = await asyncio.create_subprocess_exec(
        *module("signalcanary_workloads", "exchange", "--listen", "127.0.0.1:0", *options),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        yield "ws" + line.split("http", 1)[1].strip(), process.pid
    finally:
        process.terminate()
        await process.wait()


async def count(url: str, seconds: float) -> float:
    """Frames a second that arrive."""
    async with connect(url, compression=None, max_queue=None) as socket:
        await socket.recv()
        number, start = 0, time.monotonic()
        while (elapsed := time.monotonic() - start) < seconds:
            await socket.recv()
            number += 1
    return number / elapsed


async def main(seconds: float) -> None:
    books = "/".join(f"{symbol}@bookTicker" for symbol in SYMBOLS)
    trades = "/".join(f"{symbol}@aggTrade" for symbol in SYMBOLS)
    # Many book updates a second, so that the wire is measured more than the market model.
    busy = ("--active-flow-updates", "60", "--quiet-flow-updates", "60", "--speed", "100000")
    async with exchange(*busy, "--queue-frames", "10000000") as (base, pid):
        before = cpu_seconds(pid)
        rate = await count(f"{base}/public/stream?streams={books}", seconds)
        used = (cpu_seconds(pid) - before) / seconds
    print(f"one client, as fast as it goes: {rate:,.0f} frames/s, {used:.0%} of a core")
    async with exchange() as (base, pid):
        urls = [f"{base}/public/stream?streams={books}", f"{base}/market/stream?streams={trades}"]
        before = cpu_seconds(pid)
        rates = await asyncio.gather(*(count(url, seconds) for url in urls * 2))
        used = (cpu_seconds(pid) - before) / seconds
    print(f"demo load, 4 clients: {sum(rates):,.0f} frames/s in all, {used:.0%} of a core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    asyncio.run(main(parser.parse_args().seconds))
