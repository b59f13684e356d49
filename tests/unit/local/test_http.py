"""Asking real little servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from signalcanary.local.probe import HttpProbe, parse_exposition

PAGE = """\
# HELP platt_ece Expected calibration error.
# TYPE platt_ece gauge
platt_ece{symbol="BTCUSDT",track="canary"} 0.05
# TYPE cvd_direction_flipped_total counter
cvd_direction_flipped_total{symbol="BTCUSDT"} 2
"""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        pages = {"/metrics": (200, PAGE), "/readyz": (200, "ready"), "/odd/metrics": (200, "{{")}
        status, text = pages.get(request.path, (503, "not yet"))
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def test_a_page_is_read_with_the_names_that_prometheus_would_give() -> None:
    series = parse_exposition(PAGE)
    assert [(s.metric, s.value) for s in series] == [
        ("platt_ece", 0.05),
        ("cvd_direction_flipped_total", 2.0),
    ]
    assert series[0].labels == {"symbol": "BTCUSDT", "track": "canary"}


async def test_a_workload_is_asked_for_readiness_and_metrics(url: str) -> None:
    async with HttpProbe() as probe:
        assert await probe.find_unready(url) is None
        assert await probe.find_unready(f"{url}/else")
        assert len(await probe.scrape(url)) == 2


async def test_no_answer_and_nonsense_are_no_series(url: str) -> None:
    async with HttpProbe() as probe:
        assert await probe.scrape("http://127.0.0.1:1") == []
        assert await probe.scrape(f"{url}/odd") == []
        assert await probe.find_unready("http://127.0.0.1:1") == "it does not answer yet"
