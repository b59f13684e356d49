"""Whatever happens to connections, frames, processes and storage, the data is what was sent.

A real harvest process beside a real exchange, killed and restarted at random instants, while
connections are cut, frames are reordered, repeated, dropped and broken, the book freezes and the
exchange's clock steps; in a third of the schedules onto a real S3 server that is throttled. Then
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
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from itertools import islice, pairwise
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
from signalcanary_workloads.store import Kind, ManifestReader, Quality, open_storage

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
            {"type": "malformed", "probability": 0.2},
            {"type": "frozen_book"},
            {"type": "clock_step", "offset_ms": rng.choice([-1, 1]) * rng.randint(100, 20_000)},
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


async def throttle_now_and_then(throttle: Any, rng: random.Random) -> None:
    """The bucket refuses some or all requests for a while, again and again, until cancelled."""
    try:
        while True:
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            throttle.share = rng.choice([0.2, 0.6, 1.0])
            await asyncio.sleep(rng.uniform(0.1, 1.0))
            throttle.share = 0.0
    finally:
        throttle.share = 0.0


async def caught_up(exchange: RunningExchange, data: str) -> None:
    """Everything that was traded until now is committed, and a quote of each symbol after it."""
    exchange.engine.faults.clear()
    histories = exchange.engine.source.histories
    goal = {symbol: histories[symbol].agg_trades.last_id for symbol in SYMBOLS}
    async with asyncio.timeout(40):
        for symbol in SYMBOLS:
            reader, last = ManifestReader(open_storage(data), symbol), -1
            while last < goal[symbol]:
                # A few at a time, in a thread: the exchange is in this loop.
                entries = await asyncio.to_thread(reader.poll, 20)
                parts = [part for entry in entries for part in entry.parts]
                last = max([last, *(part.last_id for part in parts if part.kind is Kind.TRADE)])
                await asyncio.sleep(0.0 if entries else 0.01)


def source_of(exchange: RunningExchange) -> DataSource:
    return DataSource(
        public_url=exchange.public_url,
        market_url=exchange.market_url,
        rest_url=exchange.rest_url,
    )


# ----------------------------------------------------------------------- verification


def check_trades(exchange: RunningExchange, kit: Any, data: str, symbol: str) -> None:
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


def check_quotes(witness: Any, kit: Any, data: str, symbol: str) -> set[int]:
    """Each quote as it was sent, once; before one that a loss precedes, a gap of the log ends.

    Returns:
        Ids of the quotes that a gap ends with.
    """
    rows = kit.read_rows(data, Kind.BBO, symbol).to_pylist()
    names = {
        "u": "update_id", "b": "bid_price", "B": "bid_qty", "a": "ask_price", "A": "ask_qty",
        "T": "ts", "E": "event_ms",
    }  # fmt: skip
    sent = witness.of("bookTicker", symbol)
    by_id = {frame["u"]: frame for frame in sent if frame is not None}
    for row in rows:
        frame = by_id[row["update_id"]]
        assert all(float(frame[key]) == row[name] for key, name in names.items())
    ids = [row["update_id"] for row in rows]
    assert ids == sorted(set(ids))
    preceded = find_preceded_by_loss(sent, ids)
    ends = find_gap_ends(rows, kit.read_entries(data, symbol), preceded)
    assert preceded <= ends, "a loss that is in no gap"
    return ends


def find_preceded_by_loss(sent: list[dict[str, Any] | None], ids: list[int]) -> set[int]:
    """Which rows have before them a frame that is in no row: broken, or newer than the last row."""
    found: set[int] = set()
    where = defaultdict(list)
    for n, frame in enumerate(sent):
        where[-1 if frame is None else frame["u"]].append(n)
    at = where[ids[0]][-1]
    for before, update_id in pairwise(ids):
        behind = at
        at = next(n for n in where[update_id] if n > behind)
        between = sent[behind + 1 : at]
        # One that is older than the last row is a repetition, or was overtaken by a newer one.
        if any(frame is None or frame["u"] > before for frame in between):
            found.add(update_id)
    return found


def find_gap_ends(rows: list[dict[str, Any]], entries: list[Any], preceded: set[int]) -> set[int]:
    """The row that each gap of the book ends with: of its commit, and with its two times."""
    ends: set[int] = set()
    rest, newest = iter(rows), -1
    for entry in entries:
        count = sum(part.rows - part.skip for part in entry.parts if part.kind is Kind.BBO)
        committed = []
        for row in islice(rest, count):
            committed.append((newest, row["ts"], row["update_id"]))
            newest = max(newest, row["ts"])
        behind = -1
        for gap in entry.gaps:
            if gap.stream != "bookTicker":
                continue
            fits = [
                update_id
                for start, end, update_id in committed
                if (start, end) == (gap.start, gap.end) and update_id > behind
            ]
            assert fits, f"no quote ends {gap}"
            # Several of one millisecond: the one that has a reason to.
            behind = next((one for one in fits if one in preceded), fits[0])
            ends.add(behind)
    return ends


def check_features(kit: Any, data: str, symbol: str, gap_ends: set[int]) -> None:
    """Every derived row equals that of one undisturbed pass over the stored messages.

    Args:
        gap_ends: ids of the quotes before which the book was away.
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
    for _, row in messages:
        if "trade_id" in row:
            fields = {name: row[name] for name in AggTrade.__struct_fields__ if name in row}
            arrival = Arrival(AggTrade(symbol=symbol, **fields), 0, row["src"], row["conn_id"])
            pipeline.on_trade(arrival)
            continue
        if row["update_id"] in gap_ends:
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


def check_everything(exchange: RunningExchange, witness: Any, kit: Any, data: str) -> None:
    for symbol in SYMBOLS:
        check_trades(exchange, kit, data, symbol)
        gap_ends = check_quotes(witness, kit, data, symbol)
        check_features(kit, data, symbol, gap_ends)
        assert kit.find_unnamed(data, symbol) == set()


# ----------------------------------------------------------------------- the runs


def market(seed: int, start_ms: int) -> ExchangeConfig:
    return ExchangeConfig(
        mode=Synthetic(SYMBOLS, seed=seed, start_ms=start_ms), speed=SPEED, history_trades=50_000
    )


async def run_until(process: asyncio.subprocess.Process, seconds: float) -> None:
    """Let it run for so long, or until it ends by itself."""
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), seconds)


async def harvest_through(
    kit: Any, exchange: RunningExchange, data: str, start: Any, rng: random.Random, chaos: Any
) -> None:
    """Kill it, start it, and let it finish; `chaos` ends on the way."""
    for _ in range(rng.randint(1, 2)):
        async with start() as process:
            # Mostly at some time after it listens; sometimes before.
            while rng.random() < 0.98 and process.returncode is None and not is_heard(exchange):
                await run_until(process, 0.05)
            await run_until(process, rng.uniform(0.0, 2.0))
            if process.returncode is None:
                process.kill()
    while True:
        async with start() as process:
            # A bucket that refuses everything lets no process begin: as in a pod, another one.
            while process.returncode is None and not await asyncio.to_thread(has_begun, data):
                await run_until(process, 0.02)
            await run_until(process, rng.uniform(0.0, 2.0))
            if process.returncode is not None:
                continue
            await chaos()
            await caught_up(exchange, data)
            process.send_signal(signal.SIGTERM)
            _, log = await asyncio.wait_for(process.communicate(), 20)
            assert process.returncode == 0, log.decode()
            return


def is_heard(exchange: RunningExchange) -> bool:
    """Does a harvest process listen, beside the witness?"""
    return len(exchange.engine.hub.connections) > 2


def has_begun(data: str) -> bool:
    return any(ManifestReader(open_storage(data), symbol).poll(1) for symbol in SYMBOLS)


@pytest.mark.parametrize(
    "seed", [pytest.param(n, id=f"{n}-s3" if n % 3 == 2 else str(n)) for n in range(RUNS)]
)
async def test_killed_at_random_instants_in_a_bad_network(
    tmp_path: Path, kit: Any, seed: int, request: pytest.FixtureRequest
) -> None:
    rng, data, environment = random.Random(seed), str(tmp_path / "data"), {}
    async with AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(running_exchange(market(seed, kit.start_ms)))
        witness = await stack.enter_async_context(kit.witnessing(exchange, SYMBOLS))
        disturbing = [asyncio.create_task(disturb(exchange, witness, rng))]
        if seed % 3 == 2:
            s3 = request.getfixturevalue("s3")
            data = f"s3://{s3.make_bucket()}/default/demo"
            throttle = await stack.enter_async_context(kit.throttling(s3.url, rng.random))
            environment = {"AWS_ENDPOINT_URL": throttle.url}
            disturbing.append(asyncio.create_task(throttle_now_and_then(throttle, rng)))

        async def end_chaos() -> None:
            while environment and not throttle.refused:  # noqa: ASYNC110 the server's loop is here
                await asyncio.sleep(0.05)
            for task in disturbing:
                task.cancel()

        config = kit.make_config(data, source_of(exchange), SYMBOLS).to_wire()
        config["commitInterval"] = rng.choice(["5ms", "50ms", "300ms"])
        config_file = tmp_path / "config.json"
        config_file.write_text(json.dumps(config))

        def start() -> Any:
            return kit.harvest_process(config_file, **environment)

        try:
            await harvest_through(kit, exchange, data, start, rng, end_chaos)
        finally:
            for task in disturbing:
                task.cancel()
        check_everything(exchange, witness, kit, data)


@pytest.mark.parametrize("seed", range(RUNS // 4 + 1))
async def test_a_wall_clock_that_jumps_by_hours(tmp_path: Path, kit: Any, seed: int) -> None:
    rng, data = random.Random(1_000_000 + seed), str(tmp_path)
    wrong_ns = 0
    async with (
        running_exchange(market(seed, kit.start_ms)) as exchange,
        kit.witnessing(exchange, SYMBOLS) as witness,
    ):
        settings = dataclasses.replace(
            kit.quick, wall_ns=lambda: time_ns() + wrong_ns, tick_seconds=0.02
        )
        chaos = asyncio.create_task(disturb(exchange, witness, rng))
        config = kit.make_config(data, source_of(exchange), SYMBOLS)
        async with kit.running_harvest(config, settings) as harvest:
            await kit.wait_until(lambda: harvest.health.readiness()[0], "ready")
            for jump in range(1, 4):
                wrong_ns += rng.choice([-1, 1]) * rng.randint(2 * 10**9, 10**13)
                await kit.wait_until(
                    lambda jump=jump: harvest.watch.clock.steps == jump, "the jump is noticed"
                )
                await asyncio.sleep(rng.uniform(0.0, 0.5))
            chaos.cancel()
            await caught_up(exchange, data)
        check_everything(exchange, witness, kit, data)


@pytest.mark.parametrize("seed", range(RUNS // 4 + 1))
async def test_rotations_in_a_bad_network_leave_no_gap_of_their_own(
    tmp_path: Path, kit: Any, seed: int
) -> None:
    rng, data = random.Random(2_000_000 + seed), str(tmp_path)
    rotating = FeedSettings(
        first_delay_seconds=0.01,
        rotate_after_seconds=0.3,
        overlap_seconds=0.1,
        rotate_retry_seconds=0.1,
    )
    async with (
        running_exchange(market(seed, kit.start_ms)) as exchange,
        kit.witnessing(exchange, SYMBOLS) as witness,
    ):
        settings = dataclasses.replace(kit.quick, feed=rotating)
        chaos = asyncio.create_task(disturb(exchange, witness, rng, cuts=False))
        config = kit.make_config(data, source_of(exchange), SYMBOLS)
        async with kit.running_harvest(config, settings) as harvest:
            await kit.wait_until(lambda: harvest.health.readiness()[0], "ready")
            broken_before = witness.broken
            await kit.wait_until(
                lambda: all(feed.rotations >= 4 for feed in harvest.feeds), "rotations"
            )
            chaos.cancel()
            broken = witness.broken - broken_before
            await caught_up(exchange, data)
            errors = harvest.counts.parse_errors
            await kit.wait_until(lambda: sum(errors.values()) >= broken, "broken frames counted")
            assert set(errors) <= {("malformed", "")}
            assert harvest.counts.reconnects == {}
        gaps = {(gap.stream, gap.reason) for symbol in SYMBOLS
                for entry in kit.read_entries(data, symbol) for gap in entry.gaps}  # fmt: skip
        assert gaps <= {("aggTrade", "missed"), ("bookTicker", "unusable")}
        check_everything(exchange, witness, kit, data)
