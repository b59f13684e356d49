"""Times cryptofeed's parser of Binance futures. Runs in a virtualenv of its own: no import of ours.

Standard input is the frames, a line each; standard output one line of JSON. Each pass hands
every frame to the feed's `message_handler`, as its connection does, with callbacks that only
count.
"""

import asyncio
import json
import sys
import time
from importlib.metadata import version

from cryptofeed.defines import PERPETUAL, TICKER, TRADES
from cryptofeed.exchanges import BinanceFutures
from cryptofeed.symbols import Symbol, Symbols

counted = {TICKER: 0, TRADES: 0}


async def on_ticker(ticker: object, received: float) -> None:
    counted[TICKER] += 1


async def on_trade(trade: object, received: float) -> None:
    counted[TRADES] += 1


def main() -> None:
    repeats = int(sys.argv[1])
    frames = sys.stdin.read().splitlines()
    # What it would ask the exchange for when it starts.
    names = {symbol: Symbol(symbol[:-4], "USDT", type=PERPETUAL) for symbol in sys.argv[2:]}
    normalised = {symbol.normalized: name for name, symbol in names.items()}
    Symbols.set(BinanceFutures.id, normalised, {"tick_size": {}, "instrument_type": {}})
    feed = BinanceFutures(
        symbols=list(normalised),
        channels=[TRADES, TICKER],
        callbacks={TRADES: on_trade, TICKER: on_ticker},
    )

    async def run() -> None:
        handle = feed.message_handler
        for frame in frames:
            await handle(frame, None, 1.0)

    took = []
    for _ in range(repeats):
        begun = time.process_time()
        asyncio.run(run())
        took.append(time.process_time() - begun)
    print(
        json.dumps(
            {
                "version": version("cryptofeed"),
                "frames": len(frames),
                "cpu_seconds": took,
                "handed_out": sum(counted.values()) // repeats,
            }
        )
    )


if __name__ == "__main__":
    main()
