"""A small HTTP server for /metrics, /healthz and /readyz, shared by harvest and analysis.

Kubernetes and Prometheus ask a workload three things: what do you measure, are you alive, are
you of use yet. The answers must come from the loop that does the work, not from the server
being able to answer: `Health` holds the age of that loop's last heartbeat. The module knows
nothing about what the workload does.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

LIVENESS_SECONDS: Final = 60.0


class Health:
    """Readiness, set by the workload, and liveness, the age of its last heartbeat."""

    def __init__(
        self,
        max_age_seconds: float = LIVENESS_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._last_beat = clock()
        self._ready = False
        self._reason = "starting"

    def set_ready(self, ready: bool, reason: str = "") -> None:
        """Say whether the workload is of use, and why not."""
        self._ready = ready
        self._reason = reason

    def heartbeat(self, now: float | None = None) -> None:
        """The working loop has made progress. `now` is a reading of this object's clock (s)."""
        self._last_beat = self._clock() if now is None else now

    def readiness(self) -> tuple[bool, str]:
        """Is it of use, and why or why not."""
        return self._ready, self._reason or ("ready" if self._ready else "not ready")

    def liveness(self) -> tuple[bool, str]:
        """Is the working loop alive, and how old is its last sign of life."""
        age_seconds = self._clock() - self._last_beat
        alive = age_seconds <= self._max_age_seconds
        return alive, f"last progress {age_seconds:.1f} s ago"


def split_listen(listen: str) -> tuple[str, int]:
    """Read ``HOST:PORT``; the host may be empty (all interfaces) or an IPv6 one in brackets.

    Raises:
        ValueError: the text has no port, or the port is not a number up to 65535.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{listen!r} is no HOST:PORT, for example 127.0.0.1:9100")
    return host.removeprefix("[").removesuffix("]"), int(port)


@asynccontextmanager
async def serve(listen: str, registry: CollectorRegistry, health: Health) -> AsyncIterator[str]:
    """Serve while the context is open; gives the bound URL (port 0 takes a free one)."""
    host, port = split_listen(listen)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    def answer(state: tuple[bool, str]) -> web.Response:
        good, reason = state
        return web.Response(status=200 if good else 503, text=f"{reason}\n")

    async def healthz(_: web.Request) -> web.Response:
        return answer(health.liveness())

    async def readyz(_: web.Request) -> web.Response:
        return answer(health.readiness())

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host or None, port)
        await site.start()
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"http://{shown}:{bound[1]}"
    finally:
        await runner.cleanup()
