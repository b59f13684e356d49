"""Frames to send: synthetic ones at any rate, and the recorded ones.

Synthetic ids are dense and no two streams share one, so each message is known by its id alone:
`first_id(stream) + n` is the n-th of its stream.
"""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import ROOT

RECORDED = ROOT.parent / "shared" / "data" / "binance-usdm-20240808"
QUOTES_A_TRADE = 3
"""As in the recorded frames of BTCUSDT."""
STREAM_IDS = 1_000_000_000
_TEXT_FRAME = 0x81


def symbol_name(number: int) -> str:
    """Symbols of any count."""
    return f"S{number:02}USDT"


def first_quote_id(symbol: int) -> int:
    """The id of a symbol's first quote."""
    return (2 * symbol + 1) * STREAM_IDS


def first_trade_id(symbol: int) -> int:
    """The id of a symbol's first trade."""
    return (2 * symbol + 2) * STREAM_IDS


@dataclass(frozen=True)
class Load:
    """So many messages a second of event time, evenly over symbols, for so long."""

    symbols: int
    rate: int
    seconds: int

    @property
    def messages(self) -> int:
        """Of all symbols together."""
        return self.rate * self.seconds

    @property
    def names(self) -> tuple[str, ...]:
        """The symbols."""
        return tuple(symbol_name(n) for n in range(self.symbols))

    def quotes_and_trades(self) -> tuple[int, int]:
        """How many of each one symbol has."""
        share = self.messages // self.symbols
        trades = share // (QUOTES_A_TRADE + 1)
        return share - trades, trades


@dataclass(frozen=True)
class Tick:
    """What is written to the two connections at once, as websocket frames."""

    books: bytes
    trades: bytes
    quote_ids: range
    """Numbers of the quotes within their stream, the same of every symbol."""
    trade_ids: range


def encode(payload: bytes) -> bytes:
    """An unmasked websocket text frame (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT_FRAME, size)) + payload
    return struct.pack(">BBH", _TEXT_FRAME, 126, size) + payload


def build_ticks(load: Load, tick_ms: int, start_ms: int) -> Iterator[Tick]:
    """All frames of a load, in the order of time."""
    rng = random.Random(1)
    prices = [61_800.0] * load.symbols
    quotes, trades = load.quotes_and_trades()
    ticks = load.seconds * 1000 // tick_ms
    for n in range(ticks):
        ts = start_ms + n * tick_ms
        quote_ids = range(quotes * n // ticks, quotes * (n + 1) // ticks)
        trade_ids = range(trades * n // ticks, trades * (n + 1) // ticks)
        books, deals = [], []
        for symbol in range(load.symbols):
            name = symbol_name(symbol)
            for i in quote_ids:
                prices[symbol] += rng.choice((-0.1, 0.0, 0.0, 0.1))
                books.append(_quote(name, first_quote_id(symbol) + i, ts, prices[symbol], rng))
            for i in trade_ids:
                deals.append(_trade(name, first_trade_id(symbol) + i, ts, prices[symbol], rng))
        yield Tick(b"".join(books), b"".join(deals), quote_ids, trade_ids)


def _quote(symbol: str, update_id: int, ts: int, price: float, rng: random.Random) -> bytes:
    return encode(
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"e":"bookTicker","u":{update_id},'
        f'"s":"{symbol}","b":"{price:.2f}","B":"{rng.random() * 5:.3f}","a":"{price + 0.1:.2f}",'
        f'"A":"{rng.random() * 5:.3f}","T":{ts},"E":{ts}}}}}'.encode()
    )


def _trade(symbol: str, trade_id: int, ts: int, price: float, rng: random.Random) -> bytes:
    size, maker = rng.lognormvariate(-3, 2), rng.random() < 0.5
    qty = f"{size:.3f}"
    return encode(
        f'{{"stream":"{symbol.lower()}@aggTrade","data":{{"e":"aggTrade","E":{ts},"s":"{symbol}",'
        f'"a":{trade_id},"p":"{price + (0.0 if maker else 0.1):.2f}","q":"{qty}","nq":"{qty}",'
        f'"f":{trade_id},"l":{trade_id},"T":{ts},"m":{str(maker).lower()}}}}}'.encode()
    )


def read_recorded(folder: Path = RECORDED) -> list[bytes]:
    """The recorded bookTicker and trade frames of all symbols, each symbol in its order.

    Recorded are raw trades. They are given as aggTrades of one trade each, since that is the
    stream which both harvest and cryptofeed subscribe to.

    Raises:
        FileNotFoundError: the recordings are not there.
    """
    if not (paths := sorted(folder.glob("*.gz"))):
        raise FileNotFoundError(f"no recorded frames in {folder}")
    return [frame for path in paths for frame in _read_one(path)]


def _read_one(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as lines:
        for line in lines:
            raw = line.partition(b" ")[2].rstrip()
            if b'@bookTicker"' in raw:
                yield raw
            elif b'@trade"' in raw:
                frame = json.loads(raw)
                data = frame["data"]
                data |= {"e": "aggTrade", "a": data["t"], "f": data["t"], "l": data["t"]}
                del data["t"], data["X"]
                frame["stream"] = frame["stream"].replace("@trade", "@aggTrade")
                yield json.dumps(frame, separators=(",", ":")).encode()
