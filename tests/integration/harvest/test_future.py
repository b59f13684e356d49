"""A time from the future costs its own frame; a market that is ahead of the clock costs nothing."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from signalcanary.contract import DataSource
from signalcanary_workloads.exchange.server import ExchangeConfig, Synthetic, running_exchange
from signalcanary_workloads.store import Kind

DAY_MS = 86_400_000
SYMBOLS = ("BTCUSDT",)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_one_quote_from_the_future_is_a_gap_and_blinds_nobody(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    async with kit.harvesting(tmp_path, exchange) as harvest:
        pipeline = harvest.pipelines["BTCUSDT"]
        begun = now_ms()
        exchange.quote(begun)
        exchange.quote(begun + DAY_MS)
        for second in range(6):
            exchange.quote(begun + 1000 * second + 1)
        await kit.wait_until(lambda: pipeline.counts.quotes == 7, "all but one quote")
        assert harvest.counts.parse_errors == {("future", "bookTicker.T"): 1}
        assert begun <= pipeline.grid.watermark_ms < begun + 6000
        assert pipeline.grid.late_quotes == 0
        assert pipeline.grid.gap_epoch == 1
        offset = harvest.watch.offsets["BTCUSDT"].seconds
        assert offset is not None
        assert abs(offset) < 60, "nor does it count as the clocks' difference"
    rows = kit.read_rows(tmp_path, Kind.BBO)
    assert rows.column("update_id").to_pylist() == [1, *range(3, 9)]
    gaps = [gap for entry in kit.read_entries(tmp_path) for gap in entry.gaps]
    assert [(gap.stream, gap.reason, gap.start, gap.end) for gap in gaps] == [
        ("bookTicker", "unusable", begun, begun + 1)
    ]


async def test_a_trade_from_the_future_is_fetched_with_its_true_time(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    async with kit.harvesting(tmp_path, exchange) as harvest:
        begun = now_ms()
        exchange.trade(1, begun)
        exchange.trade(2, begun, silent=True)
        told = exchange.history["BTCUSDT"][2] | {"T": begun + DAY_MS}
        exchange.send_raw(
            "btcusdt@aggTrade", json.dumps({"stream": "btcusdt@aggTrade", "data": told})
        )
        exchange.trade(3, begun + 1)
        counts = harvest.pipelines["BTCUSDT"].counts
        await kit.wait_until(lambda: counts.ordered == 3, "three trades")
        assert harvest.counts.parse_errors == {("future", "aggTrade.T"): 1}
    rows = kit.read_rows(tmp_path, Kind.TRADE).to_pylist()
    assert [(row["trade_id"], row["ts"], row["src"]) for row in rows] == [
        (1, begun, "ws"), (2, begun, "rest"), (3, begun + 1, "ws")
    ]  # fmt: skip


async def test_a_trade_that_history_has_from_the_future_too_is_given_up_alone(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    async with kit.harvesting(tmp_path, exchange) as harvest:
        begun = now_ms()
        exchange.trade(1, begun)
        exchange.trade(2, begun, silent=True)
        exchange.trade(3, begun + DAY_MS)
        exchange.trade(4, begun + 1)
        pipeline = harvest.pipelines["BTCUSDT"]
        await kit.wait_until(lambda: pipeline.counts.ordered == 3, "the other trades")
        assert pipeline.sequencer.lost == 1
        assert set(harvest.counts.symbols["BTCUSDT"].backfill_errors) == {"future"}
    rows = kit.read_rows(tmp_path, Kind.TRADE)
    assert rows.column("trade_id").to_pylist() == [1, 2, 4]


async def test_a_market_that_runs_away_from_the_clock_is_taken_whole(
    tmp_path: Path, kit: Any
) -> None:
    config = ExchangeConfig(
        mode=Synthetic(SYMBOLS, seed=5, start_ms=now_ms() + DAY_MS), speed=120.0
    )
    async with running_exchange(config) as exchange:
        source = DataSource(
            public_url=exchange.public_url,
            market_url=exchange.market_url,
            rest_url=exchange.rest_url,
        )
        async with kit.running_harvest(kit.make_config(tmp_path, source, SYMBOLS)) as harvest:
            pipeline = harvest.pipelines["BTCUSDT"]
            for minutes in (1, 3):
                await kit.wait_until(
                    lambda least=minutes * 60_000: (
                        pipeline.grid.watermark_ms > config.mode.start_ms + least
                    ),
                    "minutes of the market",
                )
                # A minute of the market in which nobody reads, as on a busy machine.
                time.sleep(0.5)  # noqa: ASYNC251
                await asyncio.sleep(0)
            assert harvest.counts.parse_errors == {}
            assert pipeline.counts.backfilled == 0
            assert pipeline.grid.gap_epoch == 0
