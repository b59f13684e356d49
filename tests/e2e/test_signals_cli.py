"""`signalcanary signals` as people call it, against the real sending end."""

from __future__ import annotations

import json
import select
import signal as signals
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import zmq

from signalcanary.consumer import split_address
from signalcanary.contract import Track
from signalcanary.stream import Heartbeat, Signal
from signalcanary_workloads.analysis.publish import Publisher

COMMAND = (sys.executable, "-m", "signalcanary", "signals")


def signal_of(seq: int, symbol: str = "BTCUSDT", track: Track = Track.STABLE) -> Signal:
    return Signal.model_validate(
        {
            "track": track,
            "symbol": symbol,
            "revision": "r1",
            "attempt": 1,
            "seq": seq,
            "ts": 1_777_618_800_000 + 1_000 * seq,
            "f": -0.25,
            "p": 0.4375,
            "regime": "active",
            "direction": 1,
            "reason": None,
            "quality": 0,
            "mid": 50_000.1,
            "horizon_ms": 10_000,
            "gap_epoch": 0,
            "fitted_ms": 1_777_618_000_000,
            "fingerprint": "abc",
            "version": "v2.0-prod",
            "emitted_ns": 1,
        }
    )


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with zmq.Context() as context:
        made = Publisher(context, "127.0.0.1:0")
        yield made
        made.close()


@contextmanager
def running(publisher: Publisher, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    address = publisher.address.removeprefix("tcp://")
    process = subprocess.Popen(
        [*COMMAND, address, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def send_until_said(publisher: Publisher, stream: Any, messages: Iterator[Any]) -> str:
    """Send one by one until a line comes."""
    for message in messages:
        publisher.send(message)
        if select.select([stream], [], [], 0.02)[0]:
            return str(stream.readline())
    raise AssertionError("nothing was said")


def test_the_messages_come_as_they_were_sent_and_only_what_was_asked_for(
    publisher: Publisher,
) -> None:
    with running(publisher, "-o", "json", "--symbol", "BTCUSDT", "--count", "3") as process:
        numbers = count(1)
        while process.poll() is None:
            seq = next(numbers)
            assert seq < 3_000
            publisher.send(signal_of(seq, "BTCUSDTX"))
            publisher.send(signal_of(seq, track=Track.CANARY))
            publisher.send(signal_of(seq))
            select.select([], [], [], 0.02)
        out, err = process.communicate()
    lines = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0
    first = lines[0]["seq"]
    assert lines == [json.loads(signal_of(first + n).to_json()) for n in range(3)]
    assert err == ""


def test_a_hole_is_said_and_people_read_lines(publisher: Publisher) -> None:
    with running(publisher) as process:
        assert process.stderr is not None
        numbers = count(1)
        line = send_until_said(publisher, process.stdout, (signal_of(n) for n in numbers))
        seq = next(numbers) + 3
        publisher.send(signal_of(seq))
        said = process.stderr.readline()
    assert "stable  BTCUSDT  v2.0-prod  f  -0.250  p 0.438  active" in line
    assert said == f"stable.BTCUSDT: 3 signals missed before seq {seq}\n"


def test_a_sender_that_falls_silent_is_named(publisher: Publisher) -> None:
    beat = Heartbeat(
        track=Track.STABLE,
        symbol="BTCUSDT",
        revision="r1",
        attempt=1,
        seq=None,
        open=True,
        reason=None,
        emitted_ns=1,
    )
    with running(publisher) as process:
        assert process.stderr is not None
        while not publisher.count_subscribers():
            select.select([], [], [], 0.02)
        for _ in range(20):
            publisher.send(beat)
            select.select([], [], [], 0.02)
        said = process.stderr.readline()
        assert said == "stable.BTCUSDT: no heartbeat for 5 s\n"
        process.send_signal(signals.SIGINT)
        assert process.wait(timeout=30) == 130


@pytest.mark.parametrize(
    "address", ["", ":9101", "host:port", "host:0", "http://host", "host:99999", "tcp://a/b"]
)
def test_an_address_that_is_none_is_refused_with_what_to_write(address: str) -> None:
    with pytest.raises(ValueError, match="write HOST or HOST:PORT, for example"):
        split_address(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ofi-signals.trading", ("ofi-signals.trading", 9101)),
        ("ofi-signals:9", ("ofi-signals", 9)),
        ("tcp://127.0.0.1:9101", ("127.0.0.1", 9101)),
        ("[::1]:7", ("::1", 7)),
        ("[::1]", ("::1", 9101)),
    ],
)
def test_an_address_is_read_as_people_write_it(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


def test_a_wrong_address_ends_with_2() -> None:
    done = subprocess.run(
        [*COMMAND, "http://host"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "write HOST or HOST:PORT" in done.stderr
