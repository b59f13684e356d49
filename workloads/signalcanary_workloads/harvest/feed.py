"""The websocket connections: frames in order of arrival, into a bounded queue.

A connection never ends for good: it is made anew after a full-jitter pause. When the queue is
full the socket is not read, so the pressure goes back to the exchange; nothing is dropped
here. What was missed while a connection was away is for the pipeline to find out, which is
why each (re)opening is put into the queue as well, in its place among the frames.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

log = logging.getLogger(__name__)

MAX_STREAMS: Final = 200
"""A connection; the exchange's pages say 200 or 1024, by version."""


class Group(StrEnum):
    """The exchange serves books and trades by different endpoints."""

    BOOK = "book"
    TRADES = "trades"


class Frame(NamedTuple):
    """A frame as received, or (`raw` is `None`) the news that the connection has opened."""

    group: Group
    conn_id: int
    recv_ns: int
    raw: bytes | None
    symbols: tuple[str, ...]
    """What the connection carries."""


@dataclass(frozen=True)
class FeedSettings:
    """How connections are made and made anew."""

    first_delay_seconds: float = 1.0
    max_delay_seconds: float = 60.0
    open_timeout_seconds: float = 10.0
    ping_interval_seconds: float = 20.0
    ping_timeout_seconds: float = 60.0
    # Frames that the library holds before it stops reading the socket.
    read_ahead_frames: int = 1024
    max_frame_bytes: int = 1 << 20


def full_jitter(attempt: int, first: float, most: float, random: Callable[[], float]) -> float:
    """Seconds to wait before try `attempt` (0, 1, …): uniform up to a doubling, capped bound."""
    return random() * min(most, first * 2.0 ** min(attempt, 30))


def stream_url(base_url: str, symbols: Sequence[str], stream: str) -> str:
    """The combined stream of several symbols."""
    names = "/".join(f"{symbol.lower()}@{stream}" for symbol in symbols)
    return f"{base_url.rstrip('/')}/stream?streams={names}"


@dataclass(frozen=True)
class Subscription:
    """What one connection is for."""

    group: Group
    url: str
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class Surroundings:
    """Chance, clock and ids, injected."""

    random: Callable[[], float]
    wall_ns: Callable[[], int]
    next_conn_id: Callable[[], int]


class Feed:
    """One connection, kept up until it is cancelled."""

    def __init__(
        self,
        subscription: Subscription,
        queue: asyncio.Queue[Frame | None],
        settings: FeedSettings,
        surroundings: Surroundings,
    ) -> None:
        self.subscription = subscription
        self._queue = queue
        self._settings = settings
        self._surroundings = surroundings
        self.connects = 0

    async def run(self) -> None:
        """Connect, read, and begin again."""
        attempt = 0
        while True:
            received = 0
            try:
                received = await self._read_one_connection()
                reason = "the exchange closed the connection"
            except (OSError, WebSocketException, TimeoutError) as exc:
                reason = f"{type(exc).__name__}: {exc}"
            # A connection that brought nothing is as good as none: the pause goes on growing.
            attempt = 0 if received else attempt + 1
            delay = full_jitter(
                attempt,
                self._settings.first_delay_seconds,
                self._settings.max_delay_seconds,
                self._surroundings.random,
            )
            log.warning(
                "connection lost",
                extra={
                    "fields": {"group": self.subscription.group, "reason": reason, "retry_s": delay}
                },
            )
            await asyncio.sleep(delay)

    async def _read_one_connection(self) -> int:
        settings = self._settings
        received = 0
        async with connect(
            self.subscription.url,
            open_timeout=settings.open_timeout_seconds,
            ping_interval=settings.ping_interval_seconds,
            ping_timeout=settings.ping_timeout_seconds,
            close_timeout=1.0,
            compression=None,
            max_queue=settings.read_ahead_frames,
            max_size=settings.max_frame_bytes,
        ) as socket:
            conn_id = self._surroundings.next_conn_id()
            self.connects += 1
            group, symbols = self.subscription.group, self.subscription.symbols
            queue, wall_ns = self._queue, self._surroundings.wall_ns
            await queue.put(Frame(group, conn_id, wall_ns(), None, symbols))
            try:
                while True:
                    raw = await socket.recv(decode=False)
                    frame = Frame(group, conn_id, wall_ns(), raw, symbols)
                    if queue.full():
                        await queue.put(frame)
                    else:
                        queue.put_nowait(frame)
                    received += 1
            except WebSocketException as exc:
                if not received:
                    raise
                log.info("stream ended", extra={"fields": {"group": group, "reason": str(exc)}})
                return received
