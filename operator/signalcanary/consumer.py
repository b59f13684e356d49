"""The stream's receiving end, as a consumer would write it: `signalcanary signals ADDRESS`.

The address is that of a headless Service, which names every pod of a track; each has symbols of
its own, so all are connected to, and the name is looked up again and again, as pods come and go.
What is wrong with the stream is said on stderr, signals alone go to stdout.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import zmq

from signalcanary.contract import Track
from signalcanary.stream import (
    SIGNALS_PORT,
    Continuity,
    Message,
    Signal,
    UnknownMessage,
    read_message,
    topic_prefixes,
)

LOOK_UP_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 5.0
"""Several heartbeats' time."""
_POLL_MS: Final = 200
_RECONNECT_MOST_MS: Final = 5_000


@dataclass(frozen=True)
class Options:
    """What `signalcanary signals` is told. No symbol means all; `count` 0 means for ever."""

    address: str
    tracks: Sequence[Track]
    symbols: Sequence[str]
    is_json: bool
    count: int = 0


def split_address(address: str) -> tuple[str, int]:
    """Read ``HOST``, ``HOST:PORT`` or ``tcp://HOST:PORT``; an IPv6 host stands in brackets.

    Raises:
        ValueError: it is none of these; the message says what to write.
    """
    text = address.removeprefix("tcp://")
    host, _, port = text.rpartition(":") if ":" in text.rpartition("]")[2] else (text, "", "")
    host = host.removeprefix("[").removesuffix("]")
    is_port = port.isascii() and port.isdigit() and 0 < int(port) <= 65_535
    if not host or "/" in text or (port and not is_port):
        raise ValueError(
            f"{address!r} is no address: write HOST or HOST:PORT, for example "
            f"ofi-cvd-fusion-signals.trading:{SIGNALS_PORT}"
        )
    return host, int(port) if port else SIGNALS_PORT


class Subscription:
    """A SUB socket that follows a name to all its addresses."""

    def __init__(
        self, context: zmq.Context[Any], host: str, port: int, prefixes: Sequence[str]
    ) -> None:
        self._host, self._port = host, port
        self._connected: set[str] = set()
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MOST_MS)
        for prefix in prefixes:
            self._socket.subscribe(prefix.encode())

    def look_up(self) -> None:
        """Connect to what the name names now, and let go what it does not name any more.

        Raises:
            OSError: the name cannot be looked up; what is connected stays so.
        """
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        named = {
            f"tcp://[{at[0]}]:{self._port}"
            if kind == socket.AF_INET6
            else f"tcp://{at[0]}:{self._port}"
            for kind, _, _, _, at in found
        }
        for endpoint in named - self._connected:
            self._socket.connect(endpoint)
        for endpoint in self._connected - named:
            self._socket.disconnect(endpoint)
        self._connected = named

    def receive(self) -> bytes | None:
        """The next message, waiting a moment for it."""
        if not self._socket.poll(_POLL_MS):
            return None
        _topic, body = self._socket.recv_multipart()
        return bytes(body)

    def close(self) -> None:
        self._socket.close()


def follow(options: Options, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Print signals until `count` of them have come.

    Raises:
        ValueError: the address is none.
    """
    host, port = split_address(options.address)
    report = _Report(options.address)
    prefixes = topic_prefixes(options.tracks, options.symbols)
    with zmq.Context() as context:
        subscription = Subscription(context, host, port, prefixes)
        try:
            left, due = options.count, monotonic()
            while True:
                if monotonic() >= due:
                    due = monotonic() + LOOK_UP_SECONDS
                    try:
                        subscription.look_up()
                        report.resolved()
                    except OSError as error:
                        report.unresolved(error)
                data = subscription.receive()
                report.tick(monotonic())
                message = report.read(data, monotonic()) if data is not None else None
                if not isinstance(message, Signal):
                    continue
                text = data.decode() if options.is_json and data else describe(message)
                print(text, flush=True)
                left -= 1
                if left == 0:
                    return
        finally:
            subscription.close()


def describe(signal: Signal) -> str:
    """A signal in one line."""
    at = datetime.fromtimestamp(signal.ts / 1e3, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    f = "f       -" if signal.f is None else f"f {signal.f:+7.3f}"
    p = "p     -" if signal.p is None else f"p {signal.p:.3f}"
    more = f"  ({signal.reason})" if signal.reason else ""
    return (
        f"{at}  {signal.track}  {signal.symbol}  {signal.version}  {f}  {p}  {signal.regime}{more}"
    )


class _Report:
    """Says on stderr what is wrong with the stream, each thing once."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._continuity = Continuity()
        self._heard: dict[tuple[Track, str], float] = {}
        self._began: float | None = None
        self._said: set[str] = set()

    def read(self, data: bytes, now: float) -> Message | None:
        try:
            message = read_message(data)
        except UnknownMessage:
            self._say("schema", "a message of another schema is left out: update signalcanary")
            return None
        key = (message.track, message.symbol)
        name = f"{message.track}.{message.symbol}"
        self._heard[key] = now
        self._unsay(name)
        if missed := self._continuity.missed(message):
            print(f"{name}: {missed} signals missed before seq {message.seq}", file=sys.stderr)
        return message

    def tick(self, now: float) -> None:
        """Time passes; who is silent?"""
        self._began = now if self._began is None else self._began
        if not self._heard and now - self._began > SILENT_SECONDS:
            self._say("nobody", f"nothing heard at {self._address} for {SILENT_SECONDS:g} s")
        for (track, symbol), at in self._heard.items():
            if now - at > SILENT_SECONDS:
                name = f"{track}.{symbol}"
                self._say(name, f"{name}: no heartbeat for {SILENT_SECONDS:g} s")

    def unresolved(self, error: OSError) -> None:
        self._say("name", f"{self._address} cannot be looked up: {error.strerror or error}")

    def resolved(self) -> None:
        self._unsay("name")

    def _say(self, what: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            print(text, file=sys.stderr, flush=True)

    def _unsay(self, what: str) -> None:
        self._said.discard(what)
