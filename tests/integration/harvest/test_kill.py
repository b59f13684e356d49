"""A real process, killed at any instant, and stopped as Kubernetes stops it."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from signalcanary_workloads.store import Kind, ManifestReader, open_storage, read_part


async def stream_market(exchange: Any, start_ms: int) -> None:
    """Trades and quotes without a pause, whether anyone listens or not."""
    number = 0
    while True:
        for _ in range(20):
            number += 1
            exchange.trade(number, start_ms + number)
            exchange.quote(start_ms + number)
        await asyncio.sleep(0.002)


@pytest.fixture
def config_file(tmp_path: Path, data_path: str, exchange: Any, kit: Any) -> Path:
    config = kit.make_config(data_path, kit.mini_source(exchange)).to_wire()
    config["commitInterval"] = "5ms"
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return path


async def test_kill_9_during_commits_loses_and_repeats_no_row(
    data_path: str, exchange: Any, kit: Any, config_file: Path
) -> None:
    storage, rng = open_storage(data_path), random.Random(7)
    market = asyncio.create_task(stream_market(exchange, kit.start_ms))
    committed: list[int] = []

    def watched() -> int:
        """What a reader sees at this instant must be whole and only ever grow."""
        reader = ManifestReader(storage, "BTCUSDT", len(committed))
        for entry in reader.poll():
            for part in entry.parts:
                read_part(storage, part)
            committed.append(entry.seq)
        return len(committed)

    try:
        for _ in range(4):
            async with kit.harvest_process(config_file) as process:
                goal = watched() + rng.randint(3, 25)
                await kit.wait_until(lambda goal=goal: watched() >= goal, "commits")
                await asyncio.sleep(rng.random() * 0.02)  # where in a commit it dies is chance
                process.kill()
        async with kit.harvest_process(config_file) as process:
            goal = watched() + 3
            await kit.wait_until(lambda: watched() >= goal, "commits")
            # Parts that were cut off before their entry are gone since this start.
            process.send_signal(signal.SIGTERM)
            _, log = await asyncio.wait_for(process.communicate(), 10)
            assert process.returncode == 0, log.decode()
    finally:
        market.cancel()

    ids = kit.read_rows(data_path, Kind.TRADE).column("trade_id").to_pylist()
    assert ids == list(range(ids[0], ids[0] + len(ids))), "each trade once, in order, no hole"
    assert kit.read_rows(data_path, Kind.CVD).column("trade_id").to_pylist() == ids
    updates = kit.read_rows(data_path, Kind.BBO).column("update_id").to_pylist()
    assert updates == sorted(set(updates))
    assert kit.read_entries(data_path)[-1].gap_epoch == 4
    assert kit.find_unnamed(data_path) == set()
    assert not kit.find_temporary(data_path)


async def test_sigterm_commits_what_is_there_and_exits_0_at_once(
    tmp_path: Path, data_path: str, exchange: Any, kit: Any
) -> None:
    config = kit.make_config(data_path, kit.mini_source(exchange)).to_wire()
    config["commitInterval"] = "1h"
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config))
    async with kit.harvest_process(path) as process:
        await exchange.connected()
        for trade_id in range(1, 101):
            exchange.trade(trade_id)
        # Its pong comes after the frames before it have been received.
        for socket in exchange.listeners("btcusdt@aggTrade"):
            await (await socket.ping())
        process.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 0, log.decode()
    lines = [json.loads(line) for line in log.splitlines()]
    assert lines[-1]["event"] == "stopped, everything is committed"
    ids = kit.read_rows(data_path, Kind.TRADE).column("trade_id").to_pylist()
    assert ids == list(range(1, 101))
    assert len(kit.read_entries(data_path)) == 1


async def test_a_wrong_configuration_is_exit_code_2_with_the_field(
    tmp_path: Path, kit: Any
) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"namespace": "default"}')
    async with kit.harvest_process(path) as process:
        _, log = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 2
    assert "dataPath" in json.loads(log.splitlines()[-1])["detail"]
