"""Harvest against an exchange that loses, repeats and breaks things."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from signalcanary_workloads.harvest.app import Harvest, HarvestError
from signalcanary_workloads.harvest.sink import SymbolLocked
from signalcanary_workloads.serving import Health, serve
from signalcanary_workloads.store import Gap, Kind


def ids_of(kit: Any, data_path: str | Path) -> list[int]:
    ids: list[int] = kit.read_rows(data_path, Kind.TRADE).column("trade_id").to_pylist()
    assert ids == kit.read_rows(data_path, Kind.CVD).column("trade_id").to_pylist()
    return ids


def gaps_of(kit: Any, data_path: str | Path) -> list[tuple[str, str, bool]]:
    entries = kit.read_entries(data_path)
    return [(gap.stream, gap.reason, gap.recovered) for entry in entries for gap in entry.gaps]


async def test_a_hole_in_the_trades_is_filled_over_rest_before_later_trades(
    data_path: str, exchange: Any, kit: Any
) -> None:
    config = kit.make_config(data_path, kit.mini_source(exchange))
    async with kit.running_harvest(config) as harvest:
        await exchange.connected()
        for trade_id in range(1, 3001):
            exchange.trade(trade_id, silent=10 < trade_id <= 2500)
        await kit.wait_until(
            lambda: harvest.pipelines["BTCUSDT"].counts.ordered == 3000, "all trades are there"
        )
    assert ids_of(kit, data_path) == list(range(1, 3001))
    rows = kit.read_rows(data_path, Kind.TRADE).to_pylist()
    assert [row["trade_id"] for row in rows if row["src"] == "rest"] == list(range(11, 2501))
    assert [row["ingest"] for row in rows] == list(range(1, 3001))
    assert {row["event_ms"] for row in rows if row["src"] == "rest"} == {None}
    assert gaps_of(kit, data_path) == [("aggTrade", "missed", True)]


async def test_a_page_fills_all_holes_that_it_covers(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    async with kit.harvesting(tmp_path, exchange) as harvest:
        for trade_id in range(1, 402):
            exchange.trade(trade_id, silent=trade_id % 2 == 0)
        await kit.wait_until(
            lambda: harvest.pipelines["BTCUSDT"].counts.ordered == 401, "all trades are there"
        )
    assert ids_of(kit, tmp_path) == list(range(1, 402))
    rows = kit.read_rows(tmp_path, Kind.TRADE).to_pylist()
    assert [row["trade_id"] for row in rows if row["src"] == "rest"] == list(range(2, 401, 2))
    assert len(exchange.rest_requests) < 20, "not one request for each of 200 holes"
    assert gaps_of(kit, tmp_path) == [("aggTrade", "missed", True)] * 200


async def test_a_hole_that_rest_cannot_fill_is_a_gap_and_the_rest_is_kept(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    async with kit.harvesting(tmp_path, exchange) as harvest:
        exchange.rest_fails = True
        for trade_id in (1, 2, 5, 6):
            exchange.trade(trade_id)
        await kit.wait_until(
            lambda: harvest.pipelines["BTCUSDT"].counts.ordered == 4, "the hole is given up"
        )
        assert harvest.pipelines["BTCUSDT"].sequencer.lost == 2
        assert harvest.counts.symbols["BTCUSDT"].backfill_errors == {"status": 3}
    assert ids_of(kit, tmp_path) == [1, 2, 5, 6]
    assert gaps_of(kit, tmp_path) == [("aggTrade", "missed", False)]


async def test_what_a_cut_connection_missed_is_fetched_and_the_book_starts_a_new_epoch(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    config = kit.make_config(tmp_path, kit.mini_source(exchange))
    async with kit.running_harvest(config) as harvest:
        pipeline = harvest.pipelines["BTCUSDT"]
        await exchange.connected()
        exchange.trade(1)
        exchange.quote(kit.start_ms)
        await kit.wait_until(lambda: pipeline.counts.quotes == 1, "the first quote")
        await exchange.drop("btcusdt@aggTrade")
        await exchange.drop("btcusdt@bookTicker")
        exchange.trade(2, silent=True)
        await exchange.connected()
        exchange.trade(3)
        exchange.trade(3)
        exchange.quote(kit.start_ms + 900)
        await kit.wait_until(lambda: pipeline.counts.ordered == 3, "the missed trade")
        await kit.wait_until(lambda: pipeline.counts.quotes == 2, "the second quote")
        await kit.wait_until(lambda: pipeline.sequencer.duplicates == 1, "the duplicate")
        assert pipeline.grid.gap_epoch == 1
        assert harvest.counts.reconnects == {"book": 1, "trades": 1}
    assert ids_of(kit, tmp_path) == [1, 2, 3]
    assert sorted(gaps_of(kit, tmp_path)) == [
        ("aggTrade", "missed", True),
        ("bookTicker", "reconnect", False),
    ]


async def test_after_a_restart_the_trades_in_between_are_fetched(
    data_path: str, exchange: Any, kit: Any
) -> None:
    config = kit.make_config(data_path, kit.mini_source(exchange))
    async with kit.running_harvest(config) as harvest:
        await exchange.connected()
        for trade_id in range(1, 6):
            exchange.trade(trade_id)
        exchange.quote(kit.start_ms)
        await kit.wait_until(
            lambda: harvest.pipelines["BTCUSDT"].counts.ordered == 5, "the first trades"
        )
        await kit.wait_until(lambda: harvest.pipelines["BTCUSDT"].counts.quotes == 1, "a quote")
    for trade_id in range(6, 11):
        exchange.trade(trade_id, silent=True)
    await kit.wait_until(lambda: not exchange.sockets, "the first process is gone")
    async with kit.running_harvest(config) as harvest:
        await exchange.connected()
        exchange.trade(11)
        exchange.quote(kit.start_ms + 5_000)
        await kit.wait_until(
            lambda: harvest.pipelines["BTCUSDT"].counts.ordered == 6, "the trades in between"
        )
        await kit.wait_until(lambda: harvest.pipelines["BTCUSDT"].counts.quotes == 1, "a quote")
    assert ids_of(kit, data_path) == list(range(1, 12))
    assert sorted(gaps_of(kit, data_path)) == [
        ("aggTrade", "restart", True),
        ("bookTicker", "restart", False),
    ]
    ingest = kit.read_rows(data_path, Kind.BBO).column("ingest").to_pylist()
    ingest += kit.read_rows(data_path, Kind.TRADE).column("ingest").to_pylist()
    assert sorted(ingest) == list(range(1, 14))


async def test_broken_frames_are_counted_and_a_broken_trade_is_fetched_again(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    config = kit.make_config(tmp_path, kit.mini_source(exchange))
    stream = "btcusdt@aggTrade"
    async with kit.running_harvest(config) as harvest:
        await exchange.connected()
        exchange.trade(1)
        exchange.send_raw(stream, "{nonsense")
        exchange.send_raw(stream, '{"result":null,"id":1}')
        exchange.send(stream, {"e": "depthUpdate", "s": "BTCUSDT"})
        exchange.trade(2, silent=True)
        exchange.send(stream, {"e": "aggTrade", "s": "BTCUSDT", "a": 2})
        exchange.trade(3)
        await kit.wait_until(
            lambda: harvest.pipelines["BTCUSDT"].counts.ordered == 3, "three trades"
        )
        assert harvest.counts.parse_errors == {
            ("malformed", ""): 1,
            ("field", "data"): 1,
            ("field", "aggTrade.p"): 1,
            ("unknown_event", ""): 1,
        }
    assert ids_of(kit, tmp_path) == [1, 2, 3]


async def test_a_broken_quote_is_counted_and_its_place_is_in_the_gap_log(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    config = kit.make_config(tmp_path, kit.mini_source(exchange), symbols)
    stream = "btcusdt@bookTicker"
    async with kit.running_harvest(config) as harvest:
        await exchange.connected("ETHUSDT")

        def quote(second: int) -> None:
            for symbol in symbols:
                exchange.quote(kit.start_ms + 1000 * second, symbol)

        quote(0)
        for broken in (
            '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":7,',
            '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","s":"BTCUSDT","u":7}}',
            '{"stream":"dogeusdt@bookTicker","data":{"e":"bookTicker"}}',  # nobody's
            '{"result":null,"id":1}',
        ):
            exchange.send_raw(stream, broken)
        quote(1)
        exchange.send_raw(stream, "{nonsense")  # anybody's
        quote(2)
        quote(3)
        counts = harvest.pipelines["ETHUSDT"].counts
        await kit.wait_until(lambda: counts.quotes == 4, "all quotes")
        assert sum(harvest.counts.parse_errors.values()) == 5
        assert harvest.pipelines["BTCUSDT"].grid.gap_epoch == 2
        assert harvest.pipelines["ETHUSDT"].grid.gap_epoch == 1
    at = kit.start_ms
    found = {
        symbol: [gap for entry in kit.read_entries(tmp_path, symbol) for gap in entry.gaps]
        for symbol in symbols
    }
    second = Gap("bookTicker", at + 1000, at + 2000, "unusable", False)
    assert found["BTCUSDT"] == [Gap("bookTicker", at, at + 1000, "unusable", False), second]
    assert found["ETHUSDT"] == [second]


async def test_it_is_ready_when_every_stream_has_delivered_and_shows_its_metrics(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    config = kit.make_config(tmp_path, kit.mini_source(exchange), symbols)
    async with kit.running_harvest(config) as harvest:
        registry = CollectorRegistry()
        registry.register(harvest.collector())
        async with (
            serve("127.0.0.1:0", registry, harvest.health) as url,
            aiohttp.ClientSession(url) as client,
        ):
            await exchange.connected("ETHUSDT")
            for symbol in symbols:
                exchange.quote(symbol=symbol)
            exchange.trade(1, symbol="BTCUSDT")
            await kit.wait_until(
                lambda: harvest.health.readiness()[1][12:] == "ETHUSDT trades", "three of four"
            )
            async with client.get("/readyz") as answer:
                assert answer.status == 503
            exchange.trade(7, symbol="ETHUSDT")
            await kit.wait_until(lambda: harvest.health.readiness()[0], "ready")
            async with client.get("/readyz") as answer:
                assert answer.status == 200
            async with client.get("/healthz") as answer:
                assert answer.status == 200
            await kit.wait_until(lambda: harvest.counts.symbols["ETHUSDT"].commits > 0, "a commit")
            async with client.get("/metrics") as answer:
                text = await answer.text()
    base = 'namespace="default",revision="demo-1",signalcanary="demo",'
    assert (
        f'harvest_frames_received_total{{{base}stream="aggTrade",symbol="ETHUSDT",track="canary"}}'
        " 1.0" in text
    )
    assert f'cvd_messages_total{{{base}symbol="BTCUSDT",track="canary"}} 1.0' in text
    assert "harvest_last_commit_timestamp_seconds{" in text
    assert "cvd_scale_median{" not in text, "a value that is not known is left out"
    assert f'cvd_build_info{{config_hash="f",{base}track="canary",version="v1"}} 1.0' in text
    assert f'cvd_parameter_value{{name="half_life_trades",{base}track="canary"}} 600.0' in text
    for name in ("cvd_latency", "cvd_latency_seconds", "cvd_processing_duration_seconds"):
        assert f'{name}_bucket{{le="+Inf",{base}symbol="BTCUSDT",track="canary"}} 1.0' in text
    assert generate_latest(registry)


async def test_a_second_writer_of_a_symbol_is_told_so(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    config = kit.make_config(tmp_path, kit.mini_source(exchange))
    async with kit.running_harvest(config):
        with pytest.raises(SymbolLocked, match="another process writes"):
            kit.open_sinks(config)
    kit.open_sinks(config)["BTCUSDT"].close()


async def test_rows_are_kept_while_the_volume_refuses_and_committed_afterwards(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    config = kit.make_config(tmp_path, kit.mini_source(exchange))
    obstacle = tmp_path / "date=2026-05-01"
    async with kit.running_harvest(config) as harvest:
        await exchange.connected()
        obstacle.write_text("a file where the folder must be")
        for trade_id in range(1, 4):
            exchange.trade(trade_id)
        counts = harvest.counts.symbols["BTCUSDT"]
        await kit.wait_until(lambda: bool(counts.commit_errors), "a refused commit")
        assert set(counts.commit_errors) <= {"EEXIST", "ENOTDIR"}
        assert kit.read_entries(tmp_path) == []
        obstacle.unlink()
        await kit.wait_until(lambda: counts.commits == 1, "a commit")
    assert ids_of(kit, tmp_path) == [1, 2, 3]


async def test_what_cannot_be_committed_at_the_end_is_a_clear_error(
    tmp_path: Path, exchange: Any, kit: Any
) -> None:
    config = kit.make_config(tmp_path, kit.mini_source(exchange))
    hasty = dataclasses.replace(kit.quick, last_commit_seconds=0.2)
    sinks, stop = kit.open_sinks(config), asyncio.Event()
    worker = Harvest(config, sinks, hasty, Health())
    (tmp_path / "date=2026-05-01").write_text("a file where the folder must be")
    run = asyncio.create_task(worker.run(stop))
    counts = worker.counts.symbols["BTCUSDT"]
    try:
        await exchange.connected()
        exchange.trade(1)
        await kit.wait_until(lambda: sum(counts.commit_errors.values()) > 8, "many refusals")
        assert not run.done(), "it holds the rows as long as it lives"
        stop.set()
        with pytest.raises(HarvestError, match="not committed"):
            async with asyncio.timeout(10):
                await run
    finally:
        sinks["BTCUSDT"].close()
    assert kit.read_entries(tmp_path) == []


async def test_finished_stretches_are_compacted_beside_the_commits_and_kept_as_long_as_asked(
    data_path: str, exchange: Any, kit: Any
) -> None:
    config = kit.make_config(data_path, kit.mini_source(exchange)).model_copy(
        update={"compaction_interval": timedelta(seconds=10), "retention": timedelta(minutes=1)}
    )
    quick = dataclasses.replace(kit.quick, upkeep_seconds=0.02, upkeep_grace_seconds=0.05)
    async with kit.running_harvest(config, quick) as harvest:
        counts = harvest.counts.symbols["BTCUSDT"]
        await exchange.connected()
        for second in range(120):
            at = kit.start_ms + 1000 * second
            exchange.trade(second + 1, at)
            exchange.quote(at)
            if second % 3 == 0:
                before = counts.commits
                await kit.wait_until(lambda n=before: counts.commits > n, "a commit")
        await kit.wait_until(lambda: counts.upkeep.expired >= 10, "old entries are deleted")
        assert counts.upkeep.errors == {}
    ids = ids_of(kit, data_path)
    assert ids == list(range(ids[0], 121)), "what is left is whole"
    assert 1 < ids[0] <= 60, "and is as long as was asked for"
