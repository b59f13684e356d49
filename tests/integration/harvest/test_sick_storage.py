"""Full disks, read-only mounts and absent servers: real ones, and nothing is lost."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from prometheus_client import CollectorRegistry

from signalcanary_workloads.store import Kind


class Sickness(Protocol):
    """A place for data, what befalls it, and the reasons that are counted then."""

    data_path: str
    reasons: frozenset[str]

    def strike(self) -> None: ...

    def heal(self) -> None: ...


def mount(*options: str | Path) -> None:
    subprocess.run(["mount", *options], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "--recursive", folder], check=True)


class FullDisk:
    reasons = frozenset({"ENOSPC"})

    def __init__(self, disk: Path) -> None:
        self.data_path, self._filler = str(disk / "data"), disk / "filler"

    def strike(self) -> None:
        with open(self._filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def heal(self) -> None:
        self._filler.unlink()


class ReadOnlyMount:
    reasons = frozenset({"EROFS"})

    def __init__(self, disk: Path) -> None:
        self._folder = disk / "data"
        self.data_path = str(self._folder)

    def strike(self) -> None:
        mount("--bind", self._folder, self._folder)
        mount("-o", "remount,ro,bind", self._folder)

    def heal(self) -> None:
        subprocess.run(["umount", self._folder], check=True)


class AbsentServer:
    reasons = frozenset({"unreachable", "timeout"})

    def __init__(self, server: Any) -> None:
        self._server = server
        self.data_path = f"s3://{server.make_bucket()}/data"

    def strike(self) -> None:
        self._server.stop()

    def heal(self) -> None:
        self._server.start()


@pytest.fixture(params=["full disk", "read-only mount", "absent S3 server"])
def sickness(request: pytest.FixtureRequest) -> Sickness:
    if request.param == "absent S3 server":
        return AbsentServer(request.getfixturevalue("s3"))
    disk = request.getfixturevalue("small_disk")
    return FullDisk(disk) if request.param == "full disk" else ReadOnlyMount(disk)


async def test_rows_wait_in_memory_then_reading_stops_then_everything_is_committed(
    exchange: Any, kit: Any, sickness: Sickness
) -> None:
    config = kit.make_config(sickness.data_path, kit.mini_source(exchange))
    settings = dataclasses.replace(
        kit.quick, stop_reading_bytes=1 << 20, batch_frames=100, queue_frames=1000
    )
    async with kit.running_harvest(config, settings) as harvest:
        registry = CollectorRegistry()
        registry.register(harvest.collector())
        base = {"namespace": "default", "signalcanary": "demo"} | {
            "track": "canary", "revision": "demo-1"
        }  # fmt: skip

        def value(name: str, **labels: str) -> float:
            return registry.get_sample_value(name, base | labels) or 0.0

        counts = harvest.counts.symbols["BTCUSDT"]
        await exchange.connected()
        exchange.trade(1)
        exchange.quote()
        await kit.wait_until(lambda: counts.commits > 0, "a commit in health")
        before = counts.commits
        sickness.strike()
        sent = 1

        def stopped_after_more() -> bool:
            nonlocal sent
            for sent in range(sent + 1, sent + 101):  # noqa: B020
                exchange.trade(sent)
                exchange.quote()
            return value("harvest_reading_stopped") == 1.0

        await kit.wait_until(stopped_after_more, "reading stops")
        waiting = value("harvest_uncommitted_bytes", symbol="BTCUSDT")
        assert 1 << 20 <= waiting < 2 << 20, "the bound holds"
        await kit.wait_until(lambda: bool(counts.commit_errors), "a refusal")
        assert set(counts.commit_errors) <= sickness.reasons
        assert counts.commits == before
        (reason,) = counts.commit_errors
        refusals = value("harvest_commit_errors_total", symbol="BTCUSDT", reason=reason)
        assert refusals == counts.commit_errors[reason]
        alive, _ = harvest.health.liveness()
        assert alive
        sickness.heal()
        await kit.wait_until(lambda: counts.commits > before, "a commit after it")
        pipeline = harvest.pipelines["BTCUSDT"]
        # Trades that the exchange could not deliver are fetched once a later one shows the hole.
        await exchange.connected()
        exchange.trade(sent + 1)
        await kit.wait_until(lambda: pipeline.counts.ordered == sent + 1, "every trade")
        assert value("harvest_reading_stopped") == 0.0
    ids = kit.read_rows(sickness.data_path, Kind.TRADE).column("trade_id").to_pylist()
    assert ids == list(range(1, sent + 2))
    updates = kit.read_rows(sickness.data_path, Kind.BBO).column("update_id").to_pylist()
    assert updates == sorted(set(updates))
    gaps = [gap for entry in kit.read_entries(sickness.data_path) for gap in entry.gaps]
    missed = set(range(1, exchange.update_id + 1)) - set(updates)
    assert not missed or any(gap.stream == "bookTicker" for gap in gaps), "no silent loss"
