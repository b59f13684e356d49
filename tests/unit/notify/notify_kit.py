"""What the tests of notifications share: histories, a record in memory, and servers that fail."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from signalcanary.cluster import ClusterError, Conflict
from signalcanary.notify.alerts import Alert
from signalcanary.notify.config import Config, parse_config
from signalcanary.notify.endpoints import Receiver
from signalcanary.notify.notifier import Notifier, Pace, World
from signalcanary.notify.receivers import DeliveryFailed
from signalcanary.notify.render import Message
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import MAX_HISTORY, Phase, RolloutState, Transition
from signalcanary.telemetry import OperatorMetrics

START = datetime(2026, 5, 1, tzinfo=UTC)
STABLE = RevisionRef("abc", "v1", "f", 1)


def config_of(**changes: Any) -> Config:
    wire: dict[str, Any] = {
        "receivers": {"hook": {"webhook": {"url": "http://127.0.0.1:9/hook"}}},
        "routes": [{"receivers": ["hook"]}],
    }
    return parse_config(yaml.safe_dump({**wire, **changes}))


@dataclass
class Canary:
    """An object whose history goes on."""

    uid: str = "uid-1"
    name: str = "demo"
    namespace: str = "trading"
    labels: dict[str, str] = field(default_factory=dict)
    state: RolloutState = field(default_factory=lambda: RolloutState(stable=STABLE))

    @property
    def metadata(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "name": self.name,
            "namespace": self.namespace,
            "labels": self.labels,
        }

    def enter(self, phase: Phase, reason: str, at: datetime, message: str = "why") -> None:
        is_warning = phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
        fresh = Transition(at, phase, reason, message, "v2", is_warning)
        history = (fresh, *self.state.history)[:MAX_HISTORY]
        self.state = replace(self.state, phase=phase, history=history)


@dataclass
class Records:
    """The record, on a server that may fail in all ways."""

    text: str | None = None
    version: int = 0
    trouble: str | None = None
    writes: int = 0

    async def read(self) -> tuple[str, str] | None:
        await asyncio.sleep(0)
        if self.trouble is not None:
            raise ClusterError("away")
        return None if self.text is None else (self.text, str(self.version))

    async def write(self, text: str, version: str | None) -> str:
        await asyncio.sleep(0)
        if self.trouble == "away":
            raise ClusterError("away")
        if version is not None and version != str(self.version):
            raise Conflict("changed")
        self.text, self.version = text, self.version + 1
        self.writes += 1
        if self.trouble == "the answer is lost":
            raise ClusterError("no answer")
        return str(self.version)


@dataclass
class FakeSender:
    """Attributes:
    sent: what was taken, by receiver.
    before: may raise, or wait.
    """

    sent: dict[str, list[Message]] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    before: Callable[[Message], Any] = lambda message: None

    async def send(self, receiver: Receiver, message: Message) -> str:
        waited = self.before(message)
        if waited is not None:
            await waited
        self.sent.setdefault(message.batch.receiver, []).append(message)
        return "ok"

    async def send_alerts(self, receiver: Receiver, alerts: list[Alert], now: datetime) -> str:
        self.alerts += alerts
        return "ok"

    def ids(self, receiver: str = "hook") -> list[str]:
        return [n.id for message in self.sent.get(receiver, ()) for n in message.notifications]

    def told(self, receiver: str = "hook") -> list[str]:
        sent = self.sent.get(receiver, ())
        return [n.message for message in sent for n in message.notifications]


class Station:
    """A notifier on a clock of its own; a restart forgets all that is in memory."""

    def __init__(self, folder: Path, config: dict[str, Any], sender: Any = None) -> None:
        self.seconds = 0.0
        self.file = folder / "notifications.yaml"
        self.records = Records()
        self.sender = sender or FakeSender()
        self.write_config(**config)
        self.restart()

    def write_config(self, **config: Any) -> None:
        wire: dict[str, Any] = {
            "receivers": {"hook": {"webhook": {"url": "http://127.0.0.1:9/hook"}}},
            "routes": [{"receivers": ["hook"]}],
        }
        self.file.write_text(yaml.safe_dump({**wire, **config}))

    def restart(self) -> None:
        self.metrics = OperatorMetrics(CollectorRegistry())
        world = World(self.now, lambda: self.seconds, random.Random(1), self.sender)
        self.notifier = Notifier(self.file, self.records, self.metrics, world=world, pace=Pace())

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def note(self, canary: Canary) -> None:
        self.notifier.note(canary.metadata, canary.state)

    async def steps(self, count: int = 1, seconds: float = 0.0) -> None:
        for _ in range(count):
            self.seconds += seconds
            await self.notifier.step()
            await self.notifier.drain()

    def counted(self, name: str, **labels: str) -> float:
        found = self.metrics.registry.get_sample_value(f"signalcanary_{name}", labels)
        return found or 0.0


def failing(error: DeliveryFailed) -> Callable[[Message], Any]:
    def before(message: Message) -> None:
        raise error

    return before


# --------------------------------------------------------------------------- servers


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def answer(status: str = "200 OK", body: str = "ok", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "Connection: close"]
    return ("\r\n".join([*lines, "", ""]) + body).encode()


CUT_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of"
HANG = b""


@dataclass
class HttpServer:
    """A server on a real socket that answers what it is told to, in turn; then 200.

    Attributes:
        answers: bytes to send before the connection is closed; HANG never ends.
    """

    answers: list[bytes] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers.get("Content-Length", 0)))
            self.requests.append(Request(head[0].split()[1], headers, body))
            said = self.answers.pop(0) if self.answers else answer()
            if said == HANG:
                await reader.read()
            writer.write(said)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def http_server(*answers: bytes, port: int = 0, tls: Any = None) -> AsyncIterator[HttpServer]:
    server = HttpServer(list(answers))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", port, ssl=tls)
    scheme = "https" if tls else "http"
    server.url = f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
