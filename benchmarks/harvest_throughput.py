"""Prints how many messages a second one process takes from JSON to committed Parquet.

No socket: parse, order, features and sink, as one core does them. Run:
    python benchmarks/harvest_throughput.py [messages]
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from signalcanary.contract import SignalConfig
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.sequence import Arrival
from signalcanary_workloads.harvest.sink import SymbolSink
from signalcanary_workloads.harvest.wire import BookTicker, parse_frame
from signalcanary_workloads.store import open_storage

SYMBOL = "BTCUSDT"
START_MS = 1_723_161_256_000
MESSAGES_A_SECOND = 250
COMMIT_EVERY = 100_000


def build_frames(count: int) -> Iterator[bytes]:
    """Three quotes a trade, as in the recorded BTCUSDT frames."""
    rng = random.Random(1)
    price, trade_id = 61_800.0, 1
    for n in range(count):
        ts = START_MS + n * 1000 // MESSAGES_A_SECOND
        if n % 4:
            price += rng.choice((-0.1, 0.0, 0.0, 0.1))
            data = {
                "e": "bookTicker", "u": n, "s": SYMBOL, "b": f"{price:.2f}",
                "B": f"{rng.random() * 5:.3f}", "a": f"{price + 0.1:.2f}",
                "A": f"{rng.random() * 5:.3f}", "T": ts, "E": ts,
            }  # fmt: skip
            stream = "btcusdt@bookTicker"
        else:
            qty = f"{rng.lognormvariate(-3, 2):.3f}"
            data = {
                "e": "aggTrade", "E": ts, "s": SYMBOL, "a": trade_id, "p": f"{price:.2f}",
                "q": qty, "nq": qty, "f": trade_id, "l": trade_id, "T": ts,
                "m": rng.random() < 0.5,
            }  # fmt: skip
            trade_id += 1
            stream = "btcusdt@aggTrade"
        yield json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    frames = list(build_frames(count))
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        pipeline = SymbolPipeline(SYMBOL, SignalConfig(), "aggTrade")
        sink = SymbolSink(open_storage(folder), SYMBOL)
        committing = 0.0
        begun = perf_counter()
        for n, raw in enumerate(frames, 1):
            message = parse_frame(raw)
            if isinstance(message, BookTicker):
                pipeline.on_quote(message, n, 1)
            else:
                pipeline.on_trade(Arrival(message, n, "ws", 1))
            if n % COMMIT_EVERY == 0 or n == count:
                at = perf_counter()
                cut = pipeline.cut()
                if cut is not None:
                    sink.commit(cut)
                committing += perf_counter() - at
        total = perf_counter() - begun
        sink.close()
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    working = total - committing
    print(f"messages                 {count:>12,}")
    print(f"whole path               {count / total:>12,.0f} messages/s")
    print(f"without commits          {count / working:>12,.0f} messages/s")
    print(f"commits                  {committing / total:>12.1%} of the time")
    print(f"Parquet                  {size / count:>12.1f} bytes/message")
    print(f"peak memory              {peak_mib:>12.0f} MiB ({before_mib:.0f} with the input)")


if __name__ == "__main__":
    main()
