"""The control side: faults at run time, the state behind the stream, health and metrics.

Only tests and demos speak to it; production has nothing like it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from signalcanary_workloads.exchange.engine import Engine
from signalcanary_workloads.exchange.faults import FaultError, parse_faults
from signalcanary_workloads.exchange.protocol import Endpoint


class ControlApi:
    """Handlers of /control, /healthz and /metrics."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._registry = CollectorRegistry()
        self._registry.register(_ExchangeCollector(engine))

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/control/faults", self._list)
        app.router.add_post("/control/faults", self._impose)
        app.router.add_delete("/control/faults", self._clear)
        app.router.add_delete(r"/control/faults/{fault_id:\d+}", self._clear)
        app.router.add_get("/control/state", self._state)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)

    async def _list(self, request: web.Request) -> web.Response:
        now_ms = self._engine.position_ms
        imposed = self._engine.faults.imposed(now_ms)
        return web.json_response({"faults": [one.to_wire(now_ms) for one in imposed]})

    async def _impose(self, request: web.Request) -> web.Response:
        try:
            document = json.loads(await request.text())
        except ValueError as error:
            return web.json_response({"error": f"not JSON: {error}"}, status=400)
        try:
            imposed = self._engine.impose(parse_faults(document))
        except FaultError as error:
            return web.json_response({"error": str(error)}, status=400)
        now_ms = self._engine.position_ms
        return web.json_response({"faults": [one.to_wire(now_ms) for one in imposed]}, status=201)

    async def _clear(self, request: web.Request) -> web.Response:
        text = request.match_info.get("fault_id")
        cleared = self._engine.faults.clear(None if text is None else int(text))
        if text is not None and not cleared:
            return web.json_response({"error": f"there is no fault {text}"}, status=404)
        return web.json_response({"cleared": cleared})

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self._engine.state())

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})


class _ExchangeCollector(Collector):
    """Reads the engine when asked: counting in the hot path costs more than all else there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        hub = self._engine.hub
        frames = CounterMetricFamily(
            "exchange_frames_sent", "Frames queued to clients.", labels=["stream"]
        )
        for stream, number in hub.frames_sent.items():
            frames.add_metric([stream], number)
        yield frames
        ended = CounterMetricFamily(
            "exchange_disconnects", "Connections that ended.", labels=["reason"]
        )
        for reason, number in hub.disconnects.items():
            ended.add_metric([reason.value], number)
        yield ended
        connections = GaugeMetricFamily(
            "exchange_connections", "Open connections.", labels=["endpoint"]
        )
        open_now = Counter(connection.endpoint for connection in hub.connections)
        for endpoint in Endpoint:
            connections.add_metric([endpoint.value], open_now[endpoint])
        yield connections
        now_ms = self._engine.position_ms
        faults = GaugeMetricFamily("exchange_faults_active", "Faults in force.", labels=["type"])
        active = Counter(
            one.fault.type
            for one in self._engine.faults.imposed(now_ms)
            if one.covers(None, now_ms)
        )
        for name, number in active.items():
            faults.add_metric([name], number)
        yield faults
        yield GaugeMetricFamily(
            "exchange_event_time_seconds", "Event time delivered so far.", value=now_ms / 1000
        )
        yield CounterMetricFamily(
            "exchange_clock_slips",
            "Times event time waited for delivery.",
            value=self._engine.slips,
        )
