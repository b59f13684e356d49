"""Connections, their subscriptions and their queues; who gets which frame.

Each connection has a bounded queue and one writer. What does not fit is never dropped in
silence: the connection is cut and counted, as the exchange does with a slow consumer.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from signalcanary_workloads.exchange.protocol import Endpoint, Frame, is_delivered


class Ended(StrEnum):
    """Why a connection ended."""

    CLIENT = "client"
    SLOW_CONSUMER = "slow-consumer"
    NO_PONG = "no-pong"
    MAX_AGE = "max-age"
    TOO_MANY_REQUESTS = "too-many-requests"
    TOO_MANY_STREAMS = "too-many-streams"
    FAULT = "fault"
    SHUTDOWN = "shutdown"


class Wire(Protocol):
    """What the hub needs of a websocket."""

    async def send(self, text: bytes) -> None: ...

    def abort(self) -> None:
        """Cut the connection without a closing handshake."""


@dataclass(eq=False)
class Connection:
    """One client; `streams` holds all it subscribed to, silent ones included."""

    wire: Wire
    endpoint: Endpoint
    combined: bool
    queue_limit: int
    streams: dict[str, None] = field(default_factory=dict)
    queue: deque[bytes] = field(default_factory=deque)
    ended: Ended | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    relieved: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, text: bytes) -> None:
        if self.ended is not None:
            return
        if len(self.queue) >= self.queue_limit:
            self.cut(Ended.SLOW_CONSUMER)
            return
        self.queue.append(text)
        self.wake.set()

    def cut(self, reason: Ended) -> None:
        if self.ended is None:
            self.ended = reason
            self.queue.clear()
            self.relieved.set()
            self.wire.abort()

    @property
    def is_crowded(self) -> bool:
        return self.ended is None and len(self.queue) > self.queue_limit // 2

    async def write_forever(self) -> None:
        """Send what is queued; ends with the connection."""
        try:
            while self.ended is None:
                while self.queue:
                    await self.wire.send(self.queue.popleft())
                self.relieved.set()
                self.wake.clear()
                await self.wake.wait()
        except ConnectionError:
            # The reader sees the end too, and accounts for it.
            self.queue.clear()
            self.relieved.set()


class Hub:
    """All connections of one exchange."""

    def __init__(self, queue_limit: int) -> None:
        self._queue_limit = queue_limit
        self._subscribers: dict[str, dict[Connection, None]] = {}
        self.connections: dict[Connection, None] = {}
        self.frames_sent: Counter[str] = Counter()
        self.disconnects: Counter[Ended] = Counter()

    def attach(self, wire: Wire, endpoint: Endpoint, combined: bool) -> Connection:
        connection = Connection(wire, endpoint, combined, self._queue_limit)
        self.connections[connection] = None
        return connection

    def detach(self, connection: Connection) -> None:
        if connection not in self.connections:
            return
        self.unsubscribe(connection, tuple(connection.streams))
        del self.connections[connection]
        connection.ended = connection.ended or Ended.CLIENT
        connection.relieved.set()
        self.disconnects[connection.ended] += 1

    def subscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        for stream in streams:
            connection.streams[stream] = None
            if is_delivered(connection.endpoint, stream):
                self._subscribers.setdefault(stream, {})[connection] = None

    def unsubscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        for stream in streams:
            connection.streams.pop(stream, None)
            self._subscribers.get(stream, {}).pop(connection, None)

    def subscriber_count(self, stream: str) -> int:
        return len(self._subscribers.get(stream, ()))

    def publish(self, frame: Frame) -> None:
        subscribers = self._subscribers.get(frame.stream)
        if not subscribers:
            return
        for connection in subscribers:
            connection.put(frame.combined if connection.combined else frame.data)
        self.frames_sent[frame.stream] += len(subscribers)

    def cut(self, reason: Ended, concerns: Callable[[Connection], bool]) -> int:
        """Cut the connections that `concerns` is true of; returns how many."""
        chosen = [connection for connection in self.connections if concerns(connection)]
        for connection in chosen:
            connection.cut(reason)
        return len(chosen)

    async def relieve(self, patience_seconds: float) -> None:
        """Wait until no queue is crowded; a client that makes no progress is cut."""
        for connection in list(self.connections):
            while connection.is_crowded:
                before = len(connection.queue)
                connection.relieved.clear()
                try:
                    async with asyncio.timeout(patience_seconds):
                        await connection.relieved.wait()
                except TimeoutError:
                    if len(connection.queue) >= before:
                        connection.cut(Ended.SLOW_CONSUMER)
