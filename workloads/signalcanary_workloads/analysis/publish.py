"""The stream's sending end: ZeroMQ PUB in the analysis process, no server beside it.

A subscriber that is slow, or stands still, has its own queue here; when that is full, what is
new is dropped for it alone, and it sees the hole in the sequence. Sending never waits. The
socket is used by one thread, the event loop's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import zmq
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from zmq.utils.monitor import recv_monitor_message

from signalcanary.contract import WorkloadConfig
from signalcanary.stream import Message

from ..labels import COMMON, OF_SYMBOL, common_values
from ..serving import split_listen
from .gate import Closed
from .signals import REPLAYED, Flushed, Sendable

QUEUE_MESSAGES: Final = 10_000
"""High-water mark a subscriber, beside what the kernel's buffers hold."""
DEAD_AFTER_MS: Final = 30_000
"""A peer that answers no ping for so long is gone."""
_LINGER_MS: Final = 500


class Publisher:
    """A bound PUB socket."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], listen: str, queue: int = QUEUE_MESSAGES
    ) -> None:
        """
        Raises:
            ValueError: `listen` is no HOST:PORT.
            zmq.ZMQError: the address cannot be bound.
        """
        host, port = split_listen(listen)
        self._socket = context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, queue)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, DEAD_AFTER_MS // 3)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, DEAD_AFTER_MS)
        self._socket.setsockopt(zmq.IPV6, 1 if ":" in host else 0)
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
        )
        self._peers: set[int] = set()
        shown = f"[{host}]" if ":" in host else host or "*"
        try:
            self._socket.bind(f"tcp://{shown}:{port or '*'}")
        except zmq.ZMQError:
            self.close()
            raise
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, message: Message) -> None:
        """Queue a message for everyone who subscribed to it; never waits."""
        self._socket.send_multipart([message.topic.encode(), message.to_json()], zmq.NOBLOCK)

    def count_subscribers(self) -> int:
        """Open connections now."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._peers.add(event["value"])
            else:
                self._peers.discard(event["value"])
        return len(self._peers)

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close()


@contextmanager
def publishing(listen: str) -> Iterator[Publisher]:
    """A publisher that is closed when the block ends; what is queued has half a second to go."""
    with zmq.Context() as context:
        publisher = Publisher(context, listen)
        try:
            yield publisher
        finally:
            publisher.close()


_LAG_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)


class SignalMetrics:
    """What has become of the signals, for Prometheus."""

    def __init__(
        self, registry: CollectorRegistry, config: WorkloadConfig, symbols: Iterable[str]
    ) -> None:
        self._base = common_values(config)
        self._published = Counter(
            "signals_published", "Signals sent.", OF_SYMBOL, registry=registry
        )
        self._withheld = Counter(
            "signals_withheld",
            "Signals kept on record and not sent.",
            [*OF_SYMBOL, "reason"],
            registry=registry,
        )
        self._lag = Histogram(
            "signal_publish_lag_seconds",
            "Of a signal that is sent. market: how far event time had gone on when its row was "
            "committed; wall: from the commit of its row to its emission.",
            [*OF_SYMBOL, "clock"],
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self._gate = Gauge(
            "signal_gate_open",
            "1 if this process may publish, else 0.",
            OF_SYMBOL,
            registry=registry,
        )
        self._subscribers = Gauge(
            "signals_subscribers", "Open connections to the stream.", COMMON, registry=registry
        )
        for symbol in symbols:
            self._published.labels(*self._base, symbol)
            self._gate.labels(*self._base, symbol).set(0)
            for reason in (*Closed, REPLAYED):
                self._withheld.labels(*self._base, symbol, reason)

    def count(self, symbol: str, flushed: Flushed) -> None:
        labels = (*self._base, symbol)
        for reason, rows in flushed.withheld:
            self._withheld.labels(*labels, reason).inc(rows)
        self._count_sent(labels, flushed.sendable)

    def _count_sent(self, labels: tuple[str, ...], sent: Sequence[Sendable]) -> None:
        self._published.labels(*labels).inc(len(sent))
        for one in sent:
            self._lag.labels(*labels, "market").observe(one.market_lag_seconds)
            self._lag.labels(*labels, "wall").observe(one.wall_lag_seconds)

    def look(self, symbol: str, is_open: bool) -> None:
        self._gate.labels(*self._base, symbol).set(is_open)

    def set_subscribers(self, count: int) -> None:
        self._subscribers.labels(*self._base).set(count)
