"""The sending end over real sockets: who is slow loses, and sees it; nobody else does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from prometheus_client import CollectorRegistry, generate_latest

from signalcanary.contract import Track
from signalcanary.stream import Continuity, Heartbeat, Signal, read_message
from signalcanary_workloads.analysis.publish import Publisher

QUEUE = 200


def signal_of(seq: int) -> Signal:
    return Signal(
        track=Track.STABLE,
        symbol="BTCUSDT",
        revision="r1",
        attempt=1,
        seq=seq,
        ts=1_000 * seq,
        f=0.5,
        p=0.5,
        regime="active",
        direction=1,
        reason=None,
        quality=0,
        mid=50_000.0,
        horizon_ms=10_000,
        gap_epoch=0,
        fitted_ms=1,
        fingerprint="abc",
        version="v1",
        emitted_ns=1,
    )


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as made:
        yield made


@pytest.fixture
def publisher(context: zmq.Context[Any]) -> Iterator[Publisher]:
    made = Publisher(context, "127.0.0.1:0", QUEUE)
    yield made
    made.close()


@pytest.fixture
def subscribe(context: zmq.Context[Any], publisher: Publisher) -> Iterator[Any]:
    made: list[Any] = []

    def build(**options: int) -> Any:
        """A socket that is known to be subscribed."""
        socket = context.socket(zmq.SUB)
        made.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        socket.subscribe(b"stable.BTCUSDT.")
        socket.connect(publisher.address)
        while not socket.poll(10):
            publisher.send(beat())
        while socket.poll(200):
            socket.recv_multipart()
        return socket

    yield build
    for socket in made:
        socket.close()


def beat() -> Heartbeat:
    return Heartbeat(
        track=Track.STABLE,
        symbol="BTCUSDT",
        revision="r1",
        attempt=1,
        seq=0,
        open=True,
        reason=None,
        emitted_ns=1,
    )


def receive(socket: Any) -> Any:
    """The next signal; heartbeats were sent until everyone had joined."""
    while True:
        assert socket.poll(30_000), "nothing came"
        message = read_message(socket.recv_multipart()[1])
        if isinstance(message, Signal):
            return message


def test_a_slow_subscriber_loses_alone_and_sees_what(publisher: Publisher, subscribe: Any) -> None:
    fast, slow = subscribe(), subscribe(RCVHWM=1, RCVBUF=4_096)
    count = 0
    # Far more than the slow one's queue and the kernel's buffers hold; it takes nothing.
    for _ in range(200):
        for _ in range(QUEUE // 2):
            count += 1
            publisher.send(signal_of(count))
        for expected in range(count - QUEUE // 2 + 1, count + 1):
            assert receive(fast).seq == expected  # all of it, in order
    watch, got, missed = Continuity(), 0, 0
    watch.missed(beat())
    while slow.poll(500):
        message = read_message(slow.recv_multipart()[1])
        missed += watch.missed(message)
        got += isinstance(message, Signal)
    assert 0 < got < count
    publisher.send(signal_of(count + 1))
    last = receive(slow)
    missed += watch.missed(last)
    assert last.seq == count + 1
    assert got + 1 + missed == count + 1
    assert missed > 0


def test_subscribers_are_counted_while_they_are_there(
    context: zmq.Context[Any], publisher: Publisher, subscribe: Any
) -> None:
    assert publisher.count_subscribers() == 0
    subscribe()
    other = subscribe()
    assert publisher.count_subscribers() == 2
    other.close()
    deadline = time.monotonic() + 30
    while publisher.count_subscribers() != 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(context: zmq.Context[Any], listen: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Publisher(context, listen)


def test_ipv6_is_bound_where_it_is_asked_for(context: zmq.Context[Any]) -> None:
    made = Publisher(context, "[::1]:0")
    assert made.address.startswith("tcp://[::1]:")
    made.close()


def test_the_registry_of_an_idle_process_shows_a_closed_gate_and_zeros() -> None:
    from signalcanary.contract import WorkloadConfig
    from signalcanary_workloads.analysis.publish import SignalMetrics

    config = WorkloadConfig.model_validate(
        {
            "namespace": "n",
            "name": "demo",
            "track": "canary",
            "revision": "r1",
            "fingerprint": "abc",
            "version": "v1",
            "shards": [["BTCUSDT"]],
            "signal": {},
            "source": {},
            "data_path": "/data",
            "commit_interval": "1s",
        }
    )
    registry = CollectorRegistry()
    SignalMetrics(registry, config, ["BTCUSDT"])
    text = generate_latest(registry).decode()
    labels = 'namespace="n",revision="r1",signalcanary="demo",symbol="BTCUSDT",track="canary"'
    assert f"signal_gate_open{{{labels}}} 0.0" in text
    assert f"signals_published_total{{{labels}}} 0.0" in text
    for reason in ("gate_missing", "gate_unreadable", "gate_closed", "gate_other_revision"):
        assert f'reason="{reason}"' in text
