"""The websocket side: paths, live subscriptions, pings, and the limits of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from signalcanary_workloads.exchange.hub import Connection, Ended, Hub
from signalcanary_workloads.exchange.protocol import (
    LARGEST_STREAM_COUNT,
    Endpoint,
    Request,
    RequestError,
    is_stream_name,
    parse_request,
    render_result,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CLOSE_CODES: Final = {
    Ended.NO_PONG: WSCloseCode.POLICY_VIOLATION,
    Ended.MAX_AGE: WSCloseCode.GOING_AWAY,
    Ended.TOO_MANY_REQUESTS: WSCloseCode.POLICY_VIOLATION,
    Ended.TOO_MANY_STREAMS: WSCloseCode.POLICY_VIOLATION,
    Ended.SHUTDOWN: WSCloseCode.GOING_AWAY,
}


@dataclass(frozen=True)
class ConnectionLimits:
    """Production's limits; all times in seconds of wall time."""

    ping_interval_seconds: float = 180.0
    pong_timeout_seconds: float = 600.0
    max_age_seconds: float = 86_400.0
    inbound_per_second: int = 10
    queue_frames: int = 50_000


class _AiohttpWire:
    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self._request = request

    async def send(self, text: bytes) -> None:
        await self._socket.send_frame(text, WSMsgType.TEXT)

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


class WebsocketApi:
    """Handlers of all websocket paths of one exchange."""

    def __init__(self, hub: Hub, limits: ConnectionLimits) -> None:
        self._hub = hub
        self._limits = limits
        self._sockets: dict[Connection, web.WebSocketResponse] = {}

    def add_routes(self, app: web.Application) -> None:
        prefixes = {
            Endpoint.PUBLIC: "/public",
            Endpoint.MARKET: "/market",
            Endpoint.LEGACY: "",
        }
        for endpoint, prefix in prefixes.items():
            app.router.add_get(f"{prefix}/stream", self._handler(endpoint, combined=True))
            app.router.add_get(f"{prefix}/ws", self._handler(endpoint, combined=False))
            raw = self._handler(endpoint, combined=False)
            app.router.add_get(f"{prefix}/ws/{{streams:.+}}", raw)

    async def close_all(self) -> None:
        for connection, socket in list(self._sockets.items()):
            await _close(connection, socket, Ended.SHUTDOWN)

    def _handler(self, endpoint: Endpoint, combined: bool) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            names = request.query.get("streams", "") if combined else ""
            names = request.match_info.get("streams", names)
            streams = [name for name in names.split("/") if name]
            if len(streams) > LARGEST_STREAM_COUNT:
                return web.Response(status=400, text="too many streams")
            # Production compresses nothing, whatever the client offers.
            socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 16)
            await socket.prepare(request)
            wire = _AiohttpWire(socket, request)
            connection = self._hub.attach(wire, endpoint, combined)
            self._sockets[connection] = socket
            self._hub.subscribe(connection, filter(is_stream_name, streams))
            await self._serve(connection, socket)
            return socket

        return handle

    async def _serve(self, connection: Connection, socket: web.WebSocketResponse) -> None:
        session = _Session(self._hub, connection, socket, self._limits)
        tasks = [
            asyncio.create_task(connection.write_forever()),
            asyncio.create_task(session.keep_alive()),
        ]
        try:
            async for message in socket:
                if not await session.receive(message):
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._hub.detach(connection)
            del self._sockets[connection]


class _Session:
    """What one connection has said and when."""

    def __init__(
        self,
        hub: Hub,
        connection: Connection,
        socket: web.WebSocketResponse,
        limits: ConnectionLimits,
    ) -> None:
        self._hub = hub
        self._connection = connection
        self._socket = socket
        self._limits = limits
        self._opened = self._last_pong = time.monotonic()
        self._inbound: deque[float] = deque(maxlen=limits.inbound_per_second)

    async def receive(self, message: WSMessage) -> bool:
        """Handle one message; False ends the connection."""
        now = time.monotonic()
        if len(self._inbound) == self._inbound.maxlen and now - self._inbound[0] < 1:
            await _close(self._connection, self._socket, Ended.TOO_MANY_REQUESTS)
            return False
        self._inbound.append(now)
        if message.type is WSMsgType.PONG:
            self._last_pong = now
        elif message.type is WSMsgType.PING:
            await self._socket.pong(message.data)
        elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            text = message.data
            return await self._answer(text if isinstance(text, str) else text.decode("latin-1"))
        return True

    async def _answer(self, text: str) -> bool:
        try:
            request = parse_request(text)
        except RequestError as error:
            self._connection.put(error.reply.encode())
            return True
        reply = self._execute(request)
        if len(self._connection.streams) > LARGEST_STREAM_COUNT:
            await _close(self._connection, self._socket, Ended.TOO_MANY_STREAMS)
            return False
        self._connection.put(reply.encode())
        return True

    def _execute(self, request: Request) -> str:
        result: object = None
        match request.method:
            case "SUBSCRIBE":
                self._hub.subscribe(self._connection, request.params)
            case "UNSUBSCRIBE":
                self._hub.unsubscribe(self._connection, request.params)
            case "LIST_SUBSCRIPTIONS":
                result = list(self._connection.streams)
            case "SET_PROPERTY":
                self._connection.combined = bool(request.params[1])
            case "GET_PROPERTY":
                result = self._connection.combined
        return render_result(request.request_id, result)

    async def keep_alive(self) -> None:
        """Ping; end the connection when it is silent too long or simply too old."""
        limits = self._limits
        next_ping = self._opened + limits.ping_interval_seconds
        with contextlib.suppress(ConnectionError):
            while True:
                deadlines = {
                    self._opened + limits.max_age_seconds: Ended.MAX_AGE,
                    self._last_pong + limits.pong_timeout_seconds: Ended.NO_PONG,
                }
                deadline = min(deadlines)
                await asyncio.sleep(max(0.0, min(next_ping, deadline) - time.monotonic()))
                now = time.monotonic()
                if now >= self._opened + limits.max_age_seconds:
                    return await _close(self._connection, self._socket, Ended.MAX_AGE)
                if now >= self._last_pong + limits.pong_timeout_seconds:
                    return self._connection.cut(Ended.NO_PONG)
                if now >= next_ping:
                    await self._socket.ping(str(int(time.time() * 1000)).encode())
                    next_ping = now + limits.ping_interval_seconds


async def _close(connection: Connection, socket: web.WebSocketResponse, reason: Ended) -> None:
    connection.ended = connection.ended or reason
    connection.wake.set()
    await socket.close(code=_CLOSE_CODES[reason], message=reason.value.encode(), drain=False)
