"""Connections that are open and of no use: silent, dead, or about ids that begin anew."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from signalcanary.contract import EVIDENCE_SAMPLES, EVIDENCE_TIMESTAMP, DataSource
from signalcanary_workloads.exchange.server import ExchangeConfig, Synthetic, running_exchange
from signalcanary_workloads.exchange.websocket import ConnectionLimits
from signalcanary_workloads.harvest.feed import FeedSettings, Group

SYMBOLS = ("BTCUSDT", "ETHUSDT")
LABELS = {
    "namespace": "default",
    "signalcanary": "demo",
    "track": "canary",
    "revision": "demo-1",
}


def registry_of(harvest: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(harvest.collector())
    return registry


def fields_of(caplog: pytest.LogCaptureFixture, beginning: str) -> list[dict[str, Any]]:
    return [
        getattr(record, "fields", {})
        for record in caplog.records
        if record.getMessage().startswith(beginning)
    ]


async def test_an_address_that_sends_no_trades_is_reported_and_left_and_the_book_goes_on(
    tmp_path: Path, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = dataclasses.replace(
        kit.quick,
        tick_seconds=0.02,
        silent_after_seconds={Group.BOOK: 60.0, Group.TRADES: 0.3},
    )
    exchange_config = ExchangeConfig(mode=Synthetic(SYMBOLS, start_ms=kit.start_ms))
    async with running_exchange(exchange_config) as exchange:
        source = DataSource(
            public_url=exchange.public_url,
            market_url=exchange.ws_url,  # the address of before the split
            rest_url=exchange.rest_url,
        )
        config = kit.make_config(tmp_path, source, SYMBOLS)
        async with kit.running_harvest(config, settings) as harvest:
            registry = registry_of(harvest)
            forced = "harvest_forced_reconnects_total"
            await kit.wait_until(
                lambda: registry.get_sample_value(forced, {**LABELS, "endpoint": "trades"}) == 3,
                "reconnects",
            )
            assert registry.get_sample_value(forced, {**LABELS, "endpoint": "book"}) == 0
            await kit.wait_until(lambda: harvest.counts.reconnects.get("trades", 0) >= 2, "opening")
            for symbol in SYMBOLS:
                labels = {**LABELS, "symbol": symbol}
                name = "harvest_stream_silent_seconds"
                silent = registry.get_sample_value(name, {**labels, "stream": "aggTrade"})
                assert silent is not None
                assert silent > 0.9, "a new connection does not begin it anew"
                assert registry.get_sample_value(name, {**labels, "stream": "bookTicker"}) < 60
                assert harvest.pipelines[symbol].grid.gap_epoch == 0
            assert not harvest.health.readiness()[0]
    said = fields_of(caplog, "stream is silent")
    assert sorted(one["symbol"] for one in said) == list(SYMBOLS), "each once"


async def test_one_quiet_symbol_is_reported_and_costs_the_others_nothing(
    tmp_path: Path, exchange: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = dataclasses.replace(
        kit.quick,
        tick_seconds=0.01,
        silent_after_seconds={Group.BOOK: 1.0, Group.TRADES: 60.0},
    )
    config = kit.make_config(tmp_path, kit.mini_source(exchange), SYMBOLS)
    async with kit.running_harvest(config, settings) as harvest:
        await exchange.connected("ETHUSDT")
        for number in range(500):
            exchange.quote(kit.start_ms + number)
            await asyncio.sleep(0.01)
            if number > 20 and len(fields_of(caplog, "stream is silent")):
                break
        exchange.quote(kit.start_ms + 1_000, "ETHUSDT")
        await kit.wait_until(lambda: harvest.pipelines["ETHUSDT"].counts.quotes == 1, "a quote")
        assert harvest.watch.silent_seconds(Group.BOOK, "ETHUSDT") < 1.0
        assert harvest.watch.forced_reconnects == {Group.BOOK: 0, Group.TRADES: 0}
        assert harvest.counts.reconnects == {}
    said = fields_of(caplog, "stream is silent")
    assert [(one["symbol"], one["stream"]) for one in said] == [("ETHUSDT", "bookTicker")]


async def test_the_exchanges_pings_are_answered_for_longer_than_its_patience(
    tmp_path: Path, kit: Any
) -> None:
    limits = ConnectionLimits(ping_interval_seconds=0.1, pong_timeout_seconds=0.6)
    mode = Synthetic(("BTCUSDT",), start_ms=kit.start_ms)
    async with running_exchange(ExchangeConfig(mode=mode, limits=limits)) as exchange:
        source = DataSource(
            public_url=exchange.public_url,
            market_url=exchange.market_url,
            rest_url=exchange.rest_url,
        )
        async with kit.running_harvest(kit.make_config(tmp_path, source)) as harvest:
            await asyncio.sleep(1.5)
            assert exchange.engine.hub.disconnects == {}
            assert harvest.counts.reconnects == {}


class StuckProxy:
    """Passes bytes on until it stands still, as a path does that a firewall forgot."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.partition(":")
        self._port = int(port)
        self._moving = asyncio.Event()
        self._moving.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def get_stuck(self) -> None:
        """For all connections that there are; later ones move."""
        self._moving.clear()
        self._moving = asyncio.Event()
        self._moving.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._host, self._port)
        for source, sink in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._pass_on(self._moving, source, sink))
            self._tasks.add(task)

    async def _pass_on(
        self, moving: asyncio.Event, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await source.read(65536):
                await moving.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_a_dead_connection_that_was_never_closed_is_found_by_our_pings(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    proxy = StuckProxy(exchange.url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    source = kit.mini_source(exchange).model_copy(
        update={"public_url": f"ws://127.0.0.1:{port}/public"}
    )
    feed = FeedSettings(
        first_delay_seconds=0.01, ping_interval_seconds=0.1, ping_timeout_seconds=0.3
    )
    settings = dataclasses.replace(kit.quick, feed=feed)
    try:
        async with kit.running_harvest(kit.make_config(tmp_path, source), settings) as harvest:
            await exchange.connected()
            exchange.quote(kit.start_ms)
            pipeline = harvest.pipelines["BTCUSDT"]
            await kit.wait_until(lambda: pipeline.counts.quotes == 1, "a quote")
            proxy.get_stuck()
            await kit.wait_until(
                lambda: harvest.counts.reconnects.get("book", 0) >= 1, "the book is open again"
            )
            exchange.quote(kit.start_ms + 1)
            await kit.wait_until(lambda: pipeline.counts.quotes == 2, "a quote")
            assert pipeline.grid.gap_epoch == 1
    finally:
        server.close()
        await proxy.close()


async def test_an_exchange_whose_ids_began_anew_is_told_apart_from_repetition(
    tmp_path: Path, exchange: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = dataclasses.replace(kit.quick, tick_seconds=0.02)
    config = kit.make_config(tmp_path, kit.mini_source(exchange))
    exchange.update_id = 1_000
    async with kit.running_harvest(config, settings) as harvest:
        await exchange.connected()
        exchange.quote(kit.start_ms)
        exchange.trade(5_000, kit.start_ms)
        exchange.update_id = 0
        for number in range(1, 41):
            exchange.quote(kit.start_ms + number)
            exchange.trade(number, kit.start_ms + number)
        registry = registry_of(harvest)
        for stream in ("bookTicker", "aggTrade"):
            labels = {**LABELS, "symbol": "BTCUSDT", "stream": stream}
            await kit.wait_until(
                lambda labels=labels: (
                    registry.get_sample_value("harvest_regressed_frames_total", labels) == 40
                ),
                f"40 frames of {stream}",
            )
        said = "ids that were passed long ago"
        await kit.wait_until(lambda: len(fields_of(caplog, said)) == 2, "it is said")
    assert {one["group"] for one in fields_of(caplog, said)} == {"book", "trades"}


async def test_a_history_that_wants_a_key_is_said_so_once_and_the_hole_is_given_up(
    tmp_path: Path, exchange: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.rest_wants_key = True
    config = kit.make_config(tmp_path, kit.mini_source(exchange))
    with caplog.at_level(logging.ERROR):
        async with kit.running_harvest(config) as harvest:
            await exchange.connected()
            for trade_id in (1, 3, 4, 9):
                exchange.trade(trade_id)
            await kit.wait_until(
                lambda: harvest.pipelines["BTCUSDT"].counts.ordered == 4, "the holes are given up"
            )
            labels = {**LABELS, "symbol": "BTCUSDT", "reason": "unauthorized"}
            errors = registry_of(harvest).get_sample_value("harvest_backfill_errors_total", labels)
            assert errors == 2 * kit.quick.rest.attempts
            assert harvest.pipelines["BTCUSDT"].sequencer.lost == 5
    assert len(fields_of(caplog, "the exchange gives this trade history")) == 1


async def test_values_over_300_s_disappear_with_their_trades(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    clock = [0.0]
    settings = dataclasses.replace(kit.quick, monotonic=lambda: clock[0])
    names = (
        *("cvd_scale_median", "cvd_scale_usdt", "cvd_floor_hit_rate", "cvd_z_p95"),
        *("cvd_scale_floor_hit_ratio", "cvd_z_tail_p2", "cvd_z_tail_p3"),
    )
    config = kit.make_config(tmp_path, kit.mini_source(exchange))
    async with kit.running_harvest(config, settings) as harvest:
        await exchange.connected()
        for trade_id in range(1, 201):
            exchange.trade(trade_id, kit.start_ms + trade_id)
        await kit.wait_until(
            lambda: harvest.pipelines["BTCUSDT"].counts.ordered == 200, "all trades"
        )
        registry, labels = registry_of(harvest), {**LABELS, "symbol": "BTCUSDT"}
        for name in names:
            assert registry.get_sample_value(name, labels) is not None
        percent = registry.get_sample_value("cvd_z_tail_p2", labels)
        ratio = registry.get_sample_value("cvd_z_tail_ratio", {**labels, "threshold": "2"})
        assert percent == pytest.approx(100 * ratio)
        # With its evidence beside it, the value is one that a condition can judge.
        of_metric = {**labels, "metric": "cvd_z_tail_p2"}
        samples = registry.get_sample_value(EVIDENCE_SAMPLES, of_metric)
        assert samples == harvest.pipelines["BTCUSDT"].cvd_quality().samples > 0
        stamp = registry.get_sample_value(EVIDENCE_TIMESTAMP, of_metric)
        assert stamp == pytest.approx(settings.wall_ns() / 1e9, abs=60)
        clock[0] += 301
        for name in names:
            assert registry.get_sample_value(name, labels) is None
        assert registry.get_sample_value(EVIDENCE_TIMESTAMP, of_metric) is None
        assert registry.get_sample_value("cvd_messages_total", labels) == 200
