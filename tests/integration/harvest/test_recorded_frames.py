"""Real market data through a real exchange server, harvest, and back out of Parquet."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from signalcanary.contract import DataSource
from signalcanary_workloads.exchange.server import ExchangeConfig, Replay, running_exchange
from signalcanary_workloads.exchange.sources import Recording
from signalcanary_workloads.store import Kind

DATA = Path(__file__).parents[4] / "shared" / "data" / "binance-usdm-20240808"
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def path_of(symbol: str) -> Path:
    return DATA / f"{symbol.lower()}_20240808.gz"


def recorded(symbol: str, stream: str) -> list[dict[str, Any]]:
    marker = f'"stream":"{symbol.lower()}@{stream}"'.encode()
    with gzip.open(path_of(symbol)) as lines:
        return [json.loads(line.partition(b" ")[2])["data"] for line in lines if marker in line]


@pytest.mark.skipif(not DATA.is_dir(), reason="the recorded frames are not on this machine")
async def test_every_recorded_trade_is_in_parquet_once_and_cvd_is_the_sum_over_the_file(
    tmp_path: Path, kit: Any
) -> None:
    replay = Replay(tuple(Recording(symbol, path_of(symbol)) for symbol in SYMBOLS))
    trades = {symbol: recorded(symbol, "trade") for symbol in SYMBOLS}
    quotes = {symbol: recorded(symbol, "bookTicker") for symbol in SYMBOLS}
    async with running_exchange(ExchangeConfig(mode=replay, speed=200.0)) as exchange:
        source = DataSource(
            public_url=exchange.public_url,
            market_url=exchange.market_url,
            rest_url=exchange.rest_url,
            trade_stream="trade",
        )
        config = kit.make_config(tmp_path, source, SYMBOLS)
        async with kit.running_harvest(config) as harvest:
            await kit.wait_until(
                lambda: all(
                    harvest.pipelines[s].counts.ordered >= len(trades[s])
                    and harvest.pipelines[s].counts.quotes >= len(quotes[s])
                    for s in SYMBOLS
                ),
                "all recorded frames are processed",
            )
            assert harvest.counts.parse_errors == {}

    for symbol in SYMBOLS:
        rows = kit.read_rows(tmp_path, Kind.TRADE, symbol)
        assert rows.column("trade_id").to_pylist() == [trade["t"] for trade in trades[symbol]]
        assert rows.column("ts").to_pylist() == [trade["T"] for trade in trades[symbol]]
        assert rows.column("qty").to_pylist() == [float(t["q"]) for t in trades[symbol]]
        total = sum(Decimal(t["q"]) * (-1 if t["m"] else 1) for t in trades[symbol])
        cvd = kit.read_rows(tmp_path, Kind.CVD, symbol)
        assert cvd.column("trade_id").to_pylist() == rows.column("trade_id").to_pylist()
        assert Decimal(repr(cvd.column("cvd")[-1].as_py())) == total

        book = kit.read_rows(tmp_path, Kind.BBO, symbol)
        assert book.column("update_id").to_pylist() == [quote["u"] for quote in quotes[symbol]]
        features = kit.read_rows(tmp_path, Kind.FEATURE, symbol)
        seconds = features.column("ts").to_pylist()
        last = (max(quote["T"] for quote in quotes[symbol]) - 2_000) // 1000 * 1000
        assert seconds == list(range(-(-quotes[symbol][0]["T"] // 1000) * 1000, last + 1, 1000))
        assert features.column("mid").null_count < len(seconds) / 10
