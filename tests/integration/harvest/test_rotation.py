"""Connections are replaced before the exchange closes them, and nobody can tell from the data."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signalcanary.contract import DataSource
from signalcanary_workloads.exchange.hub import Ended
from signalcanary_workloads.exchange.server import (
    ExchangeConfig,
    RunningExchange,
    Synthetic,
    running_exchange,
)
from signalcanary_workloads.exchange.websocket import ConnectionLimits
from signalcanary_workloads.harvest.feed import (
    Feed,
    FeedSettings,
    Frame,
    Group,
    News,
    Surroundings,
    plan_subscriptions,
)
from signalcanary_workloads.store import Kind

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def source_of(exchange: RunningExchange) -> DataSource:
    return DataSource(
        public_url=exchange.public_url,
        market_url=exchange.market_url,
        rest_url=exchange.rest_url,
    )


def rotating(kit: Any, **changes: float) -> Any:
    """Seconds in place of hours."""
    feed = FeedSettings(
        first_delay_seconds=0.01,
        rotate_after_seconds=1.0,
        rotate_jitter_ratio=0.5,
        rotate_retry_seconds=0.1,
        overlap_seconds=0.2,
    )
    return dataclasses.replace(kit.quick, feed=dataclasses.replace(feed, **changes))


def book_of(harvest: Any) -> Feed:
    """The feed of the book's streams."""
    (book,) = (feed for feed in harvest.feeds if feed.subscription.group is Group.BOOK)
    return book


def has_opened_successor(harvest: Any) -> bool:
    """Whether harvest itself knows of a second connection for the book: the exchange does sooner,
    and what it sends in between is no part of the overlap."""
    return bool(book_of(harvest).handover.waiting)


async def quote_until(is_over: Callable[[], bool], exchange: Any, kit: Any, first: int = 0) -> int:
    """A quote each 10 ms until then, each a millisecond later than the one before; gives the
    number of the next."""
    number = first
    while not is_over():
        exchange.quote(kit.start_ms + number)
        number += 1
        await asyncio.sleep(0.01)
    return number


async def test_rotations_lose_repeat_and_reset_nothing(tmp_path: Path, kit: Any) -> None:
    # The day of this exchange has 5 s: whoever does not rotate is closed.
    config = ExchangeConfig(
        mode=Synthetic(SYMBOLS, seed=3, start_ms=kit.start_ms),
        speed=60.0,
        limits=ConnectionLimits(max_age_seconds=5.0),
    )
    now = asyncio.get_running_loop().time
    begun = now()
    async with (
        running_exchange(config) as exchange,
        kit.witnessing(exchange, SYMBOLS) as witness,
        kit.running_harvest(
            kit.make_config(tmp_path, source_of(exchange), SYMBOLS),
            rotating(kit, rotate_after_seconds=0.6),
        ) as harvest,
    ):
        await kit.wait_until(
            lambda: now() - begun > 5.2 and all(feed.rotations >= 3 for feed in harvest.feeds),
            "three rotations each, and a day",
        )
        # An accident of the machine may cost a connection; then nothing is proved here.
        ended = exchange.engine.hub.disconnects
        assert not ended.keys() & {Ended.MAX_AGE, Ended.SLOW_CONSUMER}
        for pipeline in harvest.pipelines.values():
            assert pipeline.grid.gap_epoch == 0
            assert pipeline.counts.backfilled == 0
            assert pipeline.counts.stale_quotes > 0, "both connections were read"
        assert harvest.counts.reconnects == {}
    for symbol in SYMBOLS:
        assert [gap for entry in kit.read_entries(tmp_path, symbol) for gap in entry.gaps] == []
        for kind, stream, key in (
            (Kind.BBO, "bookTicker", "u"),
            (Kind.TRADE, "aggTrade", "a"),
        ):
            rows = kit.read_rows(tmp_path, kind, symbol)
            ids = rows.column(0).to_pylist()
            sent = [frame[key] for frame in witness.of(stream, symbol)]
            first = sent.index(ids[0])
            assert ids == sent[first : first + len(ids)]
            assert len(set(rows.column("conn_id").to_pylist())) >= 3


async def test_a_successor_that_cannot_be_had_is_tried_again_and_the_old_one_stays(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    settings = rotating(kit)
    async with kit.harvesting(tmp_path, exchange, settings) as harvest:
        exchange.refuses = True
        first = set(exchange.sockets)
        exchange.quote(kit.start_ms)
        await kit.wait_until(
            lambda: all(feed.failed_rotations >= 2 for feed in harvest.feeds), "failures"
        )
        assert set(exchange.sockets) == first
        exchange.quote(kit.start_ms + 1)
        exchange.refuses = False
        await kit.wait_until(lambda: all(feed.rotations for feed in harvest.feeds), "rotations")
        exchange.quote(kit.start_ms + 2)
        pipeline = harvest.pipelines["BTCUSDT"]
        await kit.wait_until(lambda: pipeline.counts.quotes >= 3, "three quotes")
        assert pipeline.grid.gap_epoch == 0
        assert harvest.counts.reconnects == {}
    assert kit.read_rows(tmp_path, Kind.BBO).column("update_id").to_pylist() == [1, 2, 3]


async def test_a_successor_that_is_open_and_silent_does_not_take_over(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    settings = rotating(kit, rotate_jitter_ratio=0.0)
    async with kit.harvesting(tmp_path, exchange, settings) as harvest:
        book = book_of(harvest)
        exchange.deaf_to_new = True
        number = await quote_until(lambda: book.failed_rotations >= 2, exchange, kit)
        assert book.rotations == 0
        pipeline = harvest.pipelines["BTCUSDT"]
        await kit.wait_until(lambda: pipeline.counts.quotes == number, "the quotes")
        assert pipeline.grid.gap_epoch == 0
    ids = kit.read_rows(tmp_path, Kind.BBO).column("update_id").to_pylist()
    assert ids == list(range(1, number + 1))


async def test_a_new_connection_asked_for_during_a_rotation_that_fails_is_made(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    settings = rotating(kit, rotate_jitter_ratio=0.0)
    async with kit.harvesting(tmp_path, exchange, settings) as harvest:
        book = book_of(harvest)
        exchange.deaf_to_new = True
        async with asyncio.timeout(10):
            number = await quote_until(lambda: has_opened_successor(harvest), exchange, kit)
            book.reconnect()
            await quote_until(lambda: bool(harvest.counts.reconnects), exchange, kit, number)
        assert (book.rotations, book.failed_rotations) == (0, 1)


async def test_a_successor_that_is_ahead_waits_for_the_old_one_to_reach_it(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    stream = "btcusdt@bookTicker"
    settings = rotating(kit, rotate_jitter_ratio=0.0)
    async with kit.harvesting(tmp_path, exchange, settings) as harvest:
        (old,) = exchange.listeners(stream)
        book = book_of(harvest)
        exchange.quote(kit.start_ms)
        exchange.late[old] = []
        number = 1
        while book.failed_rotations < 2:  # the successors bring all at once, the old one late
            exchange.quote(kit.start_ms + number)
            number += 1
            await asyncio.sleep(0.01)
            if number % 5 == 0:
                await old.send(exchange.late[old].pop(0))
        assert book.rotations == 0
        exchange.catch_up(old)
        number = await quote_until(lambda: book.rotations > 0, exchange, kit, number)
        pipeline = harvest.pipelines["BTCUSDT"]
        await kit.wait_until(
            lambda: pipeline.counts.quotes - pipeline.counts.stale_quotes == number, "the quotes"
        )
        assert pipeline.grid.gap_epoch == 0
    ids = kit.read_rows(tmp_path, Kind.BBO).column("update_id").to_pylist()
    assert ids == list(range(1, number + 1))


async def test_an_old_connection_that_stands_still_is_replaced_and_the_gap_is_told(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    settings = rotating(kit, rotate_jitter_ratio=0.0)
    async with kit.harvesting(tmp_path, exchange, settings) as harvest:
        (old,) = exchange.listeners("btcusdt@bookTicker")
        book = book_of(harvest)
        pipeline = harvest.pipelines["BTCUSDT"]
        exchange.quote(kit.start_ms)
        await kit.wait_until(lambda: pipeline.counts.quotes == 1, "a quote")
        exchange.late[old] = []
        await quote_until(lambda: book.rotations > 0, exchange, kit, 1)
        await kit.wait_until(lambda: pipeline.grid.gap_epoch == 1, "the gap")
    assert book.failed_rotations == 0
    gaps = [gap for entry in kit.read_entries(tmp_path) for gap in entry.gaps]
    assert [gap.stream for gap in gaps] == ["bookTicker"]


async def test_what_the_replaced_connection_had_brought_and_nobody_had_read_is_read(
    exchange: Any, kit: Any
) -> None:
    """As when commits are refused and reading stands still for a while."""
    (plan, _) = plan_subscriptions(kit.mini_source(exchange), ("BTCUSDT",))
    settings = rotating(kit, overlap_seconds=0.05).feed
    queue: asyncio.Queue[Frame | None] = asyncio.Queue(maxsize=4)
    numbers = iter(range(100))
    feed = Feed(plan, queue, settings, Surroundings(lambda: 0.0, lambda: 0, numbers.__next__))
    running = asyncio.create_task(feed.run())
    try:
        seen: list[Any] = []

        async def take() -> Any:
            _, conn_id, _, raw = (await queue.get()) or (None, 0, 0, None)
            seen.append(raw)
            if raw is News.OPENED:
                feed.handover.opened(conn_id)
            elif raw is News.OVERLAPPED:
                feed.handover.overlapped(conn_id)
            return raw

        assert await take() is News.OPENED
        await kit.wait_until(lambda: bool(exchange.listeners("btcusdt@bookTicker")), "a listener")
        for _ in range(40):
            exchange.quote()
        await kit.wait_until(lambda: len(exchange.sockets) == 2, "the successor")
        while await take() is not News.OPENED:
            pass
        await asyncio.sleep(0.3)  # longer than all that a rotation waits for
        async with asyncio.timeout(10):
            while await take() is not News.RETIRED:  # noqa: ASYNC110 slow, so that much is left
                await asyncio.sleep(0.01)
        quotes = [raw for raw in seen if isinstance(raw, bytes)]
        assert len(quotes) == 40
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_surprise_end_before_the_hand_over_is_a_gap_of_the_book(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    stream = "btcusdt@bookTicker"
    settings = rotating(kit, overlap_seconds=30.0)
    async with kit.harvesting(tmp_path, exchange, settings) as harvest:
        (first,) = exchange.listeners(stream)
        exchange.quote(kit.start_ms)
        await kit.wait_until(lambda: has_opened_successor(harvest), "the successor")
        pipeline = harvest.pipelines["BTCUSDT"]
        await kit.wait_until(lambda: pipeline.counts.quotes == 1, "a quote")
        first.transport.abort()
        await kit.wait_until(lambda: pipeline.grid.gap_epoch == 1, "the gap")
        exchange.quote(kit.start_ms + 700)
        await kit.wait_until(lambda: pipeline.counts.quotes == 2, "a quote")
        assert harvest.counts.reconnects == {}, "the successor was there already"
    gaps = [gap for entry in kit.read_entries(tmp_path) for gap in entry.gaps]
    assert [(gap.stream, gap.end - gap.start, gap.recovered) for gap in gaps] == [
        ("bookTicker", 700, False)
    ]


async def test_a_surprise_end_after_the_hand_over_costs_nothing(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    stream = "btcusdt@bookTicker"
    settings = rotating(kit, overlap_seconds=30.0)
    async with kit.harvesting(tmp_path, exchange, settings) as harvest:
        (first,) = exchange.listeners(stream)
        await kit.wait_until(lambda: has_opened_successor(harvest), "the successor")
        exchange.quote(kit.start_ms)
        pipeline = harvest.pipelines["BTCUSDT"]
        await kit.wait_until(lambda: pipeline.counts.stale_quotes == 1, "a quote, by both")
        first.transport.abort()
        await kit.wait_until(lambda: len(exchange.listeners(stream)) == 1, "the end")
        exchange.quote(kit.start_ms + 700)
        await kit.wait_until(lambda: pipeline.counts.quotes == 3, "a quote")
        assert pipeline.grid.gap_epoch == 0
    assert [gap for entry in kit.read_entries(tmp_path) for gap in entry.gaps] == []
