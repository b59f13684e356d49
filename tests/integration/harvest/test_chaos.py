"""Whatever happens to connections, frames and processes, the data is what the exchange sent.

A real harvest process beside a real exchange, killed and restarted at random instants, while
connections are cut and frames are reordered, repeated and dropped, and the book freezes. Then
every row is held against what was sent, and every feature against one that a single,
undisturbed pass over the same rows computes. `make chaos` runs a hundred schedules; here are a
few (SIGNALCANARY_CHAOS_RUNS).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import signal
from pathlib import Path
from time import time_ns
from typing import Any

import pyarrow as pa
import pytest

from signalcanary.contract import DataSource, SignalConfig
from signalcanary_workloads.exchange.faults import parse_faults
from signalcanary_workloads.exchange.hub import Ended
from signalcanary_workloads.exchange.protocol import Endpoint
from signalcanary_workloads.exchange.server import (
    ExchangeConfig,
    RunningExchange,
    Synthetic,
    running_exchange,
)
from signalcanary_workloads.harvest.feed import FeedSettings
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.sequence import Arrival
from signalcanary_workloads.harvest.wire import AggTrade, BookTicker
from signalcanary_workloads.store import Kind, Quality

RUNS = int(os.environ.get("SIGNALCANARY_CHAOS_RUNS", "3"))
SYMBOLS = ("BTCUSDT", "ETHUSDT")
SPEED = 60.0
REORDER_MS = 400


def random_fault(rng: random.Random) -> dict[str, Any]:
    fault: dict[str, Any] = rng.choice(
        [
            {"type": "reorder", "probability": 0.3, "window_ms": REORDER_MS},
            {"type": "duplicate", "probability": 0.3},
            {"type": "drop", "probability": 0.2},
            {"type": "frozen_book"},
            {"type": "delay", "endpoint": "market", "delay_ms": 3_000},
            {"type": "delay", "endpoint": "rest", "delay_ms": 10_000},
        ]
    )
    return {**fault, "duration_event_seconds": rng.uniform(5, 40)}


async def disturb(
    exchange: RunningExchange, witness: Any, rng: random.Random, cuts: bool = True
) -> None:
    """Faults, and cuts of connections, at random instants, until cancelled."""
    hub = exchange.engine.hub
    while True:
        await asyncio.sleep(rng.expovariate(4.0))
        if not cuts or rng.random() < 0.6:
            exchange.engine.impose(parse_faults(random_fault(rng)))
            continue
        which = rng.choice([{Endpoint.PUBLIC}, {Endpoint.MARKET}, set(Endpoint)])
        hub.cut(
            Ended.FAULT,
            lambda one, which=which: one.wire is not witness and one.endpoint in which,
        )


async def caught_up(exchange: RunningExchange, kit: Any, data: Path) -> None:
    """Everything that was traded until now is committed, and a quote of each symbol after it."""
    exchange.engine.faults.clear()
    histories = exchange.engine.source.histories
    goal = {symbol: histories[symbol].agg_trades.last_id for symbol in SYMBOLS}

    def reached(symbol: str) -> bool:
        parts = [part for entry in kit.read_entries(data, symbol)[-20:] for part in entry.parts]
        trades = [part.last_id for part in parts if part.kind is Kind.TRADE]
        return max(trades, default=-1) >= goal[symbol]

    await kit.wait_until(lambda: all(map(reached, SYMBOLS)), "all trades are committed")


def source_of(exchange: RunningExchange) -> DataSource:
    return DataSource(
        public_url=exchange.public_url,
        market_url=exchange.market_url,
        rest_url=exchange.rest_url,
    )


# ----------------------------------------------------------------------- verification


def check_trades(exchange: RunningExchange, kit: Any, data: Path, symbol: str) -> None:
    """Each trade of the exchange's history once, in order, field by field."""
    rows = kit.read_rows(data, Kind.TRADE, symbol).to_pylist()
    history = exchange.engine.source.histories[symbol]
    price, qty = 10**history.spec.price_decimals, 10**history.spec.qty_decimals
    first, last = rows[0]["trade_id"], rows[-1]["trade_id"]
    expected = [
        (n, first_id, last_id, ts, p / price, q / qty, normal / qty, bool(maker))
        for n, ts, p, q, maker, normal, first_id, last_id in history.agg_trades.select(
            last - first + 1, first
        )
    ]
    names = ("trade_id", "first_id", "last_id", "ts", "price", "qty", "nq", "is_buyer_maker")
    assert [tuple(row[name] for name in names) for row in rows] == expected


def check_quotes(witness: Any, kit: Any, data: Path, symbol: str) -> None:
    """Each quote as it was sent, once; what is missing lies in a gap of the log."""
    rows = kit.read_rows(data, Kind.BBO, symbol).to_pylist()
    names = {
        "u": "update_id", "b": "bid_price", "B": "bid_qty", "a": "ask_price", "A": "ask_qty",
        "T": "ts", "E": "event_ms",
    }  # fmt: skip
    sent = witness.of("bookTicker", symbol)
    by_id = {frame["u"]: frame for frame in sent}
    for row in rows:
        frame = by_id[row["update_id"]]
        assert all(float(frame[key]) == row[name] for key, name in names.items())
    ids = [row["update_id"] for row in rows]
    assert ids == sorted(set(ids))
    gaps = [
        (gap.start, gap.end)
        for entry in kit.read_entries(data, symbol)
        for gap in entry.gaps
        if gap.stream == "bookTicker"
    ]
    kept, newest = set(ids), ids[0]
    # Frames that were held back may be older than what had been sent before harvest listened.
    begun = max(n for n, frame in enumerate(sent) if frame["u"] == ids[0])
    for frame in sent[begun:]:
        if frame["u"] <= newest or frame["u"] > ids[-1]:
            continue  # a repetition, or overtaken by a newer one
        newest = frame["u"]
        if newest not in kept:
            # The end of a gap is its first quote after; held back, it may be an older one.
            assert any(
                start - REORDER_MS <= frame["T"] <= end + REORDER_MS for start, end in gaps
            ), f"{newest} is missing and in no gap"


def check_features(kit: Any, data: Path, symbol: str, has_gaps: bool) -> None:
    """Every derived row equals that of one undisturbed pass over the stored messages.

    Args:
        has_gaps: another connection means that the book was away in between.
    """
    stored = {kind: kit.read_rows(data, kind, symbol) for kind in (Kind.CVD, Kind.FEATURE)}
    messages = [
        (row["ingest"], row)
        for kind in (Kind.TRADE, Kind.BBO)
        for row in kit.read_rows(data, kind, symbol).to_pylist()
    ]
    messages.sort(key=lambda item: item[0])
    assert [ingest for ingest, _ in messages] == list(range(1, len(messages) + 1))
    pipeline = SymbolPipeline(symbol, SignalConfig(), "aggTrade")
    connection = None
    for _, row in messages:
        if "trade_id" in row:
            fields = {name: row[name] for name in AggTrade.__struct_fields__ if name in row}
            arrival = Arrival(AggTrade(symbol=symbol, **fields), 0, row["src"], row["conn_id"])
            pipeline.on_trade(arrival)
            continue
        if has_gaps and row["conn_id"] != connection:
            connection = row["conn_id"]
            pipeline.on_book_gap()
        fields = {name: row[name] for name in BookTicker.__struct_fields__ if name in row}
        pipeline.on_quote(BookTicker(symbol=symbol, **fields), 0, row["conn_id"])
    cut = pipeline.cut()
    assert cut is not None
    assert cut.columns[Kind.CVD].table().equals(stored[Kind.CVD].combine_chunks())
    again = cut.columns[Kind.FEATURE].table()
    # How often the book was opened in vain, and whether trades were missing at the time, is in
    # no message.
    for name in again.column_names:
        if name not in {"gap_epoch", "quality"}:
            assert again.column(name).equals(stored[Kind.FEATURE].column(name)), name
    assert without_trade_gaps(again) == without_trade_gaps(stored[Kind.FEATURE])
    epochs = stored[Kind.FEATURE].column("gap_epoch").to_pylist()
    assert epochs == sorted(epochs)


def without_trade_gaps(features: pa.Table) -> list[int]:
    return [bits & ~Quality.TRADE_GAP for bits in features.column("quality").to_pylist()]


def check_everything(
    exchange: RunningExchange, witness: Any, kit: Any, data: Path, has_gaps: bool = True
) -> None:
    for symbol in SYMBOLS:
        check_trades(exchange, kit, data, symbol)
        check_quotes(witness, kit, data, symbol)
        check_features(kit, data, symbol, has_gaps)
        assert kit.find_unnamed(data, symbol) == set()


# ----------------------------------------------------------------------- the runs


def market(seed: int, start_ms: int) -> ExchangeConfig:
    return ExchangeConfig(
        mode=Synthetic(SYMBOLS, seed=seed, start_ms=start_ms), speed=SPEED, history_trades=50_000
    )


@pytest.mark.parametrize("seed", range(RUNS))
async def test_killed_at_random_instants_in_a_bad_network(
    tmp_path: Path, kit: Any, seed: int
) -> None:
    rng, data = random.Random(seed), tmp_path / "data"
    async with (
        running_exchange(market(seed, kit.start_ms)) as exchange,
        kit.witnessing(exchange, SYMBOLS) as witness,
    ):
        config = kit.make_config(data, source_of(exchange), SYMBOLS).to_wire()
        config["commitInterval"] = rng.choice(["5ms", "50ms", "300ms"])
        config_file = tmp_path / "config.json"
        config_file.write_text(json.dumps(config))
        chaos = asyncio.create_task(disturb(exchange, witness, rng))
        try:
            for _ in range(rng.randint(1, 2)):
                async with kit.harvest_process(config_file) as process:
                    await asyncio.sleep(rng.uniform(0.3, 2.5))
                    process.kill()
            async with kit.harvest_process(config_file) as process:
                await kit.wait_until(lambda: bool(kit.read_entries(data)), "a first commit")
                await asyncio.sleep(rng.uniform(0.0, 1.0))
                chaos.cancel()
                await caught_up(exchange, kit, data)
                process.send_signal(signal.SIGTERM)
                _, log = await asyncio.wait_for(process.communicate(), 20)
                assert process.returncode == 0, log.decode()
        finally:
            chaos.cancel()
        check_everything(exchange, witness, kit, data)


@pytest.mark.parametrize("seed", range(RUNS // 4 + 1))
async def test_a_wall_clock_that_jumps_by_hours(tmp_path: Path, kit: Any, seed: int) -> None:
    rng = random.Random(1_000_000 + seed)
    wrong_ns = 0
    async with (
        running_exchange(market(seed, kit.start_ms)) as exchange,
        kit.witnessing(exchange, SYMBOLS) as witness,
    ):
        settings = dataclasses.replace(
            kit.quick, wall_ns=lambda: time_ns() + wrong_ns, tick_seconds=0.02
        )
        chaos = asyncio.create_task(disturb(exchange, witness, rng))
        config = kit.make_config(tmp_path, source_of(exchange), SYMBOLS)
        async with kit.running_harvest(config, settings) as harvest:
            await kit.wait_until(lambda: harvest.health.readiness()[0], "ready")
            for jump in range(1, 4):
                wrong_ns += rng.choice([-1, 1]) * rng.randint(2 * 10**9, 10**13)
                await kit.wait_until(
                    lambda jump=jump: harvest.watch.clock.steps == jump, "the jump is noticed"
                )
                await asyncio.sleep(rng.uniform(0.0, 0.5))
            chaos.cancel()
            await caught_up(exchange, kit, tmp_path)
        check_everything(exchange, witness, kit, tmp_path)


@pytest.mark.parametrize("seed", range(RUNS // 4 + 1))
async def test_rotations_in_a_bad_network_leave_no_gap(tmp_path: Path, kit: Any, seed: int) -> None:
    rng = random.Random(2_000_000 + seed)
    rotating = FeedSettings(first_delay_seconds=0.01, rotate_after_seconds=0.3, overlap_seconds=0.1)
    async with (
        running_exchange(market(seed, kit.start_ms)) as exchange,
        kit.witnessing(exchange, SYMBOLS) as witness,
    ):
        settings = dataclasses.replace(kit.quick, feed=rotating)
        chaos = asyncio.create_task(disturb(exchange, witness, rng, cuts=False))
        config = kit.make_config(tmp_path, source_of(exchange), SYMBOLS)
        async with kit.running_harvest(config, settings) as harvest:
            await kit.wait_until(
                lambda: all(feed.rotations >= 4 for feed in harvest.feeds), "rotations"
            )
            chaos.cancel()
            await caught_up(exchange, kit, tmp_path)
            assert harvest.counts.reconnects == {}
        gaps = {gap.stream for symbol in SYMBOLS for entry in kit.read_entries(tmp_path, symbol)
                for gap in entry.gaps}  # fmt: skip
        assert gaps <= {"aggTrade"}, "trades that were dropped"
        check_everything(exchange, witness, kit, tmp_path, has_gaps=False)
