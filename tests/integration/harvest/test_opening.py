"""Harvest starts before its storage lets it: it waits, says why, and goes on by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import aiohttp
import pytest

from signalcanary_workloads.harvest.app import harvest
from signalcanary_workloads.store import Kind


class Hindrance(Protocol):
    """A place for data that refuses at first."""

    data_path: str
    reasons: frozenset[str]
    remedy: str

    def mend(self) -> None: ...


class AbsentServer:
    reasons = frozenset({"unreachable", "timeout"})
    remedy = ""  # it passes by itself

    def __init__(self, server: Any) -> None:
        self._server = server
        self.data_path = f"s3://{server.make_bucket()}/data"
        server.stop()

    def mend(self) -> None:
        self._server.start()


class NoBucket:
    reasons = frozenset({"NoSuchBucket"})
    remedy = "make the bucket"

    def __init__(self, server: Any) -> None:
        self._server, self._name = server, f"later-{uuid4().hex[:12]}"
        self.data_path = f"s3://{self._name}/data"

    def mend(self) -> None:
        self._server.make_bucket(self._name)


class NoPermission:
    reasons = frozenset({"AccessDenied"})
    remedy = "let this account write there"

    def __init__(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server, self._bucket = server, server.make_bucket()
        self._account = f"account-{uuid4().hex[:12]}"
        self.data_path = f"s3://{self._bucket}/data"
        keys = ("--access", self._account, "--secret", "only-here")
        server.administer("create-user", *keys, "--role", "user")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", self._account)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "only-here")

    def mend(self) -> None:
        owner = ("--bucket", self._bucket, "--owner", self._account)
        self._server.administer("change-bucket-owner", *owner)


class FileInTheWay:
    reasons = frozenset({"ENOTDIR", "EEXIST"})
    remedy = ""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "data"
        self._file.write_text("no folder")
        self.data_path = str(self._file)

    def mend(self) -> None:
        self._file.unlink()


@pytest.fixture(params=["absent server", "no bucket", "no permission", "file in the way"])
def hindrance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hindrance]:
    if request.param == "file in the way":
        yield FileInTheWay(tmp_path)
        return
    server = request.getfixturevalue("s3")
    match request.param:
        case "absent server":
            yield AbsentServer(server)
        case "no bucket":
            yield NoBucket(server)
        case _:
            yield NoPermission(server, monkeypatch)


class Asking:
    """One process's pages."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self._client, self._url = client, url

    async def get(self, path: str) -> tuple[int, str]:
        async with self._client.get(self._url + path) as answer:
            return answer.status, await answer.text()

    async def errors(self) -> dict[str, float]:
        """Refused tries, by reason."""
        _, page = await self.get("/metrics")
        return {
            line.partition('reason="')[2].partition('"')[0]: float(line.rpartition(" ")[2])
            for line in page.splitlines()
            if line.startswith("harvest_open_errors_total{")
        }


@asynccontextmanager
async def starting(
    config: Any, settings: Any, caplog: pytest.LogCaptureFixture, stop: asyncio.Event, kit: Any
) -> AsyncIterator[Asking]:
    """The whole process but for its signals; must end well once `stop` is set."""
    caplog.set_level(logging.INFO)
    task = asyncio.create_task(harvest(config, 0, "127.0.0.1:0", stop, settings))

    def told() -> list[logging.LogRecord]:
        return [one for one in caplog.records if one.getMessage() == "starting"]

    try:
        await kit.wait_until(lambda: task.done() or bool(told()), "it serves")
        async with aiohttp.ClientSession() as client:
            yield Asking(client, told()[0].fields["url"])  # type: ignore[attr-defined]
        stop.set()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def patient(kit: Any) -> Any:
    return dataclasses.replace(kit.quick, open_first_delay_seconds=0.01, open_max_delay_seconds=0.1)


async def refused_twice(asking: Asking) -> dict[str, float]:
    async with asyncio.timeout(20):
        while sum((errors := await asking.errors()).values()) < 2:  # noqa: ASYNC110 of a page
            await asyncio.sleep(0.01)
    return errors


async def test_it_waits_says_what_to_do_and_goes_on_when_it_is_let(
    hindrance: Hindrance, exchange: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = kit.make_config(hindrance.data_path, kit.mini_source(exchange))
    async with starting(config, patient(kit), caplog, asyncio.Event(), kit) as asking:
        errors = await refused_twice(asking)
        assert set(errors) <= hindrance.reasons
        status, why = await asking.get("/readyz")
        assert status == 503
        assert "BTCUSDT cannot be opened" in why
        assert hindrance.remedy in why
        assert (await asking.get("/healthz"))[0] == 200, "waiting is no hanging"
        assert not exchange.sockets, "nothing is received that could not be placed"
        hindrance.mend()
        await exchange.connected()
        exchange.trade(1)
        exchange.quote()
        async with asyncio.timeout(20):
            while (await asking.get("/readyz"))[0] != 200:  # noqa: ASYNC110 of a page
                await asyncio.sleep(0.01)
        assert set(await asking.errors()) <= hindrance.reasons, "and are still told afterwards"
    told = [one for one in caplog.records if "the storage refuses" in one.getMessage()]
    assert {one.fields["reason"] for one in told} <= hindrance.reasons  # type: ignore[attr-defined]
    assert all((one.levelno == logging.ERROR) == bool(hindrance.remedy) for one in told)
    assert kit.read_rows(hindrance.data_path, Kind.TRADE).column("trade_id").to_pylist() == [1]


async def test_it_can_be_stopped_while_it_waits(
    tmp_path: Path, exchange: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = kit.make_config(FileInTheWay(tmp_path).data_path, kit.mini_source(exchange))
    slow = dataclasses.replace(kit.quick, open_first_delay_seconds=1e6, open_max_delay_seconds=1e6)
    stop = asyncio.Event()
    async with starting(config, slow, caplog, stop, kit) as asking:
        async with asyncio.timeout(20):
            while not await asking.errors():  # noqa: ASYNC110 of a page
                await asyncio.sleep(0.01)
        stop.set()
