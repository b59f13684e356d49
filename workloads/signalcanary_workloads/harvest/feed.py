"""The websocket connections: frames in order of arrival, into a bounded queue.

A connection never ends for good: it is made anew after a full-jitter pause. When the queue is
full the socket is not read, so the pressure goes back to the exchange; nothing is dropped
here. What was missed while a connection was away is for the pipeline to find out, which is
why each opening and each end is put into the queue as well, in its place among the frames.

The exchange closes a connection after 24 h. Before that a second one is opened beside it, and
the first is closed when the second has shown that it serves (`handover` puts the two in order).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK, WebSocketException

from signalcanary.contract import DataSource
from signalcanary_workloads.harvest.handover import Handover
from signalcanary_workloads.harvest.wire import BOOK_STREAM, Message

log = logging.getLogger(__name__)

MAX_STREAMS: Final = 200
"""A connection; the exchange's pages say 200 or 1024, by version."""


class Group(StrEnum):
    """The exchange serves books and trades by different endpoints."""

    BOOK = "book"
    TRADES = "trades"


class News(Enum):
    """What happened to a connection."""

    OPENED = "opened"
    OVERLAPPED = "overlapped"  # it has been open beside the one before it for long enough
    LOST = "lost"
    RETIRED = "retired"  # closed by us and read to its end, as its successor serves


class Frame(NamedTuple):
    """A frame as received, or news of its connection."""

    feed: Feed
    conn_id: int
    recv_ns: int
    raw: bytes | News


class Unusable(NamedTuple):
    """Stands for a frame that could not be read."""

    symbol: str


class Received(NamedTuple):
    """A frame's message, and how it came."""

    message: Message | Unusable
    recv_ns: int
    conn_id: int


@dataclass(frozen=True)
class FeedSettings:
    """How connections are made and made anew."""

    first_delay_seconds: float = 1.0
    max_delay_seconds: float = 60.0
    open_timeout_seconds: float = 10.0
    # The exchange pings every 3 min and drops who does not answer for 10; the library answers.
    # Our own pings find a connection that is dead without having been closed.
    ping_interval_seconds: float = 20.0
    ping_timeout_seconds: float = 60.0
    # Frames that the library holds before it stops reading the socket.
    read_ahead_frames: int = 1024
    max_frame_bytes: int = 1 << 20
    # The exchange's limit is 24 h. The jitter makes it sooner by up to this share, so that the
    # connections of many pods that started together do not all come anew together.
    rotate_after_seconds: float = 23 * 3600.0
    rotate_jitter_ratio: float = 0.1
    rotate_retry_seconds: float = 60.0
    overlap_seconds: float = 30.0


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
    stream: str
    url: str
    symbols: tuple[str, ...]


def plan_subscriptions(source: DataSource, symbols: Sequence[str]) -> list[Subscription]:
    """The connections that carry the book and the trades of all symbols, within the limit."""
    parts = [tuple(symbols[i : i + MAX_STREAMS]) for i in range(0, len(symbols), MAX_STREAMS)]
    return [
        Subscription(group, stream, stream_url(base_url, part, stream), part)
        for group, base_url, stream in (
            (Group.BOOK, source.public_url, BOOK_STREAM),
            (Group.TRADES, source.market_url, source.trade_stream),
        )
        for part in parts
    ]


@dataclass(frozen=True)
class Surroundings:
    """Chance, clock and ids, injected."""

    random: Callable[[], float]
    wall_ns: Callable[[], int]
    next_conn_id: Callable[[], int]


class _Reader:
    """One connection, from its opening to its end."""

    def __init__(self, feed: Feed, conn_id: int) -> None:
        self.conn_id = conn_id
        self.opened = asyncio.Event()
        self.received = 0
        self._feed = feed
        self._socket: ClientConnection | None = None
        self.task = asyncio.create_task(self._run())

    @property
    def reason(self) -> str:
        """Why it ended."""
        if self.task.cancelled():
            return "given up, as nothing came"
        error = self.task.exception()
        return "closed" if error is None else f"{type(error).__name__}: {error}"

    async def drain(self) -> bool:
        """Close it and read on; gives whether all was read that the exchange had sent.

        Cutting it off instead would lose what has arrived and was not read yet.
        """
        assert self._socket is not None, "it has opened"
        closing = asyncio.create_task(self._socket.close())
        try:
            await asyncio.wait({self.task})
        finally:
            closing.cancel()
        return isinstance(self.task.exception(), ConnectionClosedOK)

    async def stop(self) -> None:
        """Close it, if it has not ended.

        Raises:
            Exception: what ended it was no failure of a connection.
        """
        self.task.cancel()
        await asyncio.wait({self.task})
        error = None if self.task.cancelled() else self.task.exception()
        if not isinstance(error, OSError | WebSocketException | TimeoutError | None):
            raise error

    async def _run(self) -> None:
        feed, conn_id = self._feed, self.conn_id
        settings, queue, wall_ns = feed.settings, feed.queue, feed.surroundings.wall_ns
        async with connect(
            feed.subscription.url,
            open_timeout=settings.open_timeout_seconds,
            ping_interval=settings.ping_interval_seconds,
            ping_timeout=settings.ping_timeout_seconds,
            close_timeout=1.0,
            compression=None,
            max_queue=settings.read_ahead_frames,
            max_size=settings.max_frame_bytes,
        ) as socket:
            self._socket = socket
            await queue.put(Frame(feed, conn_id, wall_ns(), News.OPENED))
            self.opened.set()
            while True:
                raw = await socket.recv(decode=False)
                frame = Frame(feed, conn_id, wall_ns(), raw)
                if queue.full():
                    await queue.put(frame)
                else:
                    queue.put_nowait(frame)
                self.received += 1


class Feed:
    """One subscription, kept up until it is cancelled."""

    def __init__(
        self,
        subscription: Subscription,
        queue: asyncio.Queue[Frame | None],
        settings: FeedSettings,
        surroundings: Surroundings,
    ) -> None:
        self.subscription = subscription
        self.queue = queue
        self.settings = settings
        self.surroundings = surroundings
        self.handover: Handover[Received] = Handover(subscription.symbols)
        """Kept by whoever takes the frames out of the queue."""
        self.rotations = 0
        self.failed_rotations = 0
        self._readers: set[_Reader] = set()
        self._reconnect = asyncio.Event()

    def reconnect(self) -> None:
        """Give the connection up and make it anew: it is open and of no use."""
        self._reconnect.set()

    async def run(self) -> None:
        """Connect, read, and begin again."""
        attempt = 0
        try:
            while True:
                reader = await self._keep_up(self._open())
                # A connection that brought nothing is as good as none: the pause grows on.
                attempt = 0 if reader.received else attempt + 1
                delay = full_jitter(
                    attempt,
                    self.settings.first_delay_seconds,
                    self.settings.max_delay_seconds,
                    self.surroundings.random,
                )
                self._log("connection lost", reason=reader.reason, retry_s=delay)
                await asyncio.sleep(delay)
        finally:
            for reader in list(self._readers):
                await reader.stop()

    def _open(self) -> _Reader:
        reader = _Reader(self, self.surroundings.next_conn_id())
        self._readers.add(reader)
        return reader

    async def _ended(self, reader: _Reader, news: News) -> None:
        """Put the end of a connection into its place behind its last frame."""
        await reader.stop()
        self._readers.discard(reader)
        if reader.opened.is_set():
            frame = Frame(self, reader.conn_id, self.surroundings.wall_ns(), news)
            await self.queue.put(frame)

    async def _keep_up(self, reader: _Reader) -> _Reader:
        """Rotate as often as it is due, until there is no connection; gives the last one."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        due = loop.time() + self._lifetime()
        self._reconnect.clear()
        while True:
            asked = asyncio.create_task(self._reconnect.wait())
            try:
                await asyncio.wait(
                    {reader.task, asked},
                    timeout=max(0.0, due - loop.time()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                asked.cancel()
            if reader.task.done() or self._reconnect.is_set():
                await self._ended(reader, News.LOST)
                return reader
            successor = await self._rotate(reader)
            if successor is reader:
                self.failed_rotations += 1
                due = loop.time() + settings.rotate_retry_seconds
            else:
                due = loop.time() + self._lifetime()
                # What was asked for of the old connection has been done.
                self._reconnect.clear()
            reader = successor

    def _lifetime(self) -> float:
        settings = self.settings
        sooner = settings.rotate_jitter_ratio * self.surroundings.random()
        return settings.rotate_after_seconds * (1 - sooner)

    async def _rotate(self, old: _Reader) -> _Reader:
        """Open a successor beside the old connection; gives the one to go on with."""
        new = self._open()
        opening = asyncio.create_task(new.opened.wait())
        both = {old.task, new.task}
        try:
            await asyncio.wait({*both, opening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            opening.cancel()
        is_serving = False
        if not new.task.done():
            overlap = self.settings.overlap_seconds
            await asyncio.wait(both, timeout=overlap, return_when=asyncio.FIRST_COMPLETED)
            now = self.surroundings.wall_ns()
            await self.queue.put(Frame(self, new.conn_id, now, News.OVERLAPPED))
            is_serving = await self._becomes_serving(new, old, overlap)
        if old.task.done():  # whatever the new one is, there is no other
            self._log("connection lost while its successor took over", reason=old.reason)
            await self._ended(old, News.LOST)
            return new
        if is_serving:
            await self._ended(old, News.RETIRED if await old.drain() else News.LOST)
            self.rotations += 1
            return new
        reason = new.reason if new.task.done() else "the two do not deliver the same yet"
        await self._ended(new, News.LOST)
        self._log("rotation failed, the old connection stays", reason=reason)
        return old

    async def _becomes_serving(self, new: _Reader, old: _Reader, patience: float) -> bool:
        """Wait until the new one holds all that follows what the old one has brought."""
        handover, conn_id = self.handover, new.conn_id
        forgone = handover.brought_by_newer_only
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not handover.is_served_by(conn_id):
                    if new.task.done() or old.task.done():
                        return False
                    await asyncio.sleep(min(0.1, patience / 10))
        # What the old one has not begun to bring in all this time it will not bring: better a
        # gap now than a silence until the exchange closes it.
        forgone &= handover.brought_by_newer_only
        return not new.task.done() and handover.is_served_by(conn_id, forgone)

    def _log(self, event: str, **fields: object) -> None:
        log.warning(event, extra={"fields": {"group": self.subscription.group, **fields}})
