"""How many frames a second one exchange process sustains to one websockets client, and what
the default demo load (3 symbols, speed 120, 4 clients) costs it in CPU.

Run: python benchmarks/exchange_throughput.py [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.asyncio.client import connect

ROOT = Path(__file__).resolve().parents[1]
SYMBOLS = ("btcusdt", "ethusdt", "solusdt")
RUN = (
    "import argparse, sys; from signalcanary_workloads.exchange import cli; "
    "p = argparse.ArgumentParser(); cli.add_arguments(p); sys.exit(cli.run(p.parse_args()))"
)


@asynccontextmanager
async def exchange(*options: str) -> AsyncIterator[tuple[str, int]]:
    """A process of its own: its websocket base URL and process id."""
    path = os.pathsep.join((str(ROOT / "workloads"), str(ROOT / "operator")))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RUN,
        "--listen",
        "127.0.0.1:0",
        *options,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        yield "ws" + line.split("http", 1)[1].strip(), process.pid
    finally:
        process.terminate()
        await process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (Linux)."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


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
