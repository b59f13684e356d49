"""`signalcanary watch` against a real API server, on a real terminal and without one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from api_server import ADMIN, ApiServer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "console"))

from console_kit import BAD, Story

from signalcanary.evaluate import MetricsSeen


class Live:
    """An object on the API server whose rollout goes on, by the clock on the wall."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        self.api, self.story = api, Story(now=datetime.now(UTC) - timedelta(minutes=9))
        self.story.generation = 1
        item = self.story.item()
        self.path = f"/apis/{item['apiVersion']}/namespaces/{namespace}/signalcanaries/demo"
        spec = {key: item[key] for key in ("apiVersion", "kind", "spec")}
        api.apply({**spec, "metadata": {"name": "demo", "namespace": namespace}})
        self.story.look(MetricsSeen())
        self.story.looks(5)
        self.write()

    def write(self) -> None:
        item = self.api.must("GET", self.path)
        self.api.must("PUT", f"{self.path}/status", {**item, "status": self.story.status})

    def breach(self) -> None:
        self.story.looks(1, ece=0.2, bound=BAD)
        self.write()

    def roll_back(self) -> None:
        self.story.looks(3, ece=0.2, bound=BAD)
        self.story.tracks = {}
        self.story.look(MetricsSeen(), timedelta(0))
        self.write()


def command(api: ApiServer, namespace: str, *more: str) -> list[str]:
    where = (f"--kubeconfig={api.kubeconfig(ADMIN)}", f"--namespace={namespace}")
    return [sys.executable, "-m", "signalcanary", "watch", "demo", *where, *more]


@contextmanager
def on_terminal(argv: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process on a terminal of 150 by 45; gives the other end of it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 45, 150, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    env["TERM"] = "xterm-256color"
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    try:
        yield child, ours
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def read_until(terminal: int, wanted: str, within: float = 60) -> str:
    """What the terminal was sent until it holds this."""
    ends_at, told = time.monotonic() + within, b""
    while wanted not in told.decode(errors="replace"):
        assert time.monotonic() < ends_at, told.decode(errors="replace")[-3000:]
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                told += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
    return told.decode(errors="replace")


def test_the_screen_follows_the_object_and_gives_the_terminal_back(
    api: ApiServer, namespace: str
) -> None:
    live = Live(api, namespace)
    with on_terminal(command(api, namespace)) as (child, terminal):
        shown = read_until(terminal, "StageStarted")
        assert "\x1b[?1049h" in shown, "the terminal's other screen"
        for part in ("stage", "of 1h", "0.035 to 0.065", "platt_ece", "how the canary is judged"):
            assert part in shown
        live.breach()
        assert "rolls back in" in read_until(terminal, "0.15 to 0.3")
        assert "▁" in read_until(terminal, "▁"), "the values of late"
        child.send_signal(signal.SIGINT)
        assert "\x1b[?1049l" in read_until(terminal, "\x1b[?1049l")
        assert child.wait(20) == 130


def test_without_a_terminal_it_says_what_is_new_line_by_line_until_it_is_settled(
    api: ApiServer, namespace: str
) -> None:
    live = Live(api, namespace)
    argv = command(api, namespace, "--until=settled")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        lines: list[str] = []
        for line in child.stdout:
            lines.append(line)
            if "StageStarted" in line:
                live.breach()
            if "Breached: platt_ece on ETHUSDT" in line:
                live.roll_back()
        assert child.wait(20) == 3, child.stderr.read()
    told = "".join(lines)
    assert "ConditionBreached: rolling back v2: platt_ece > 0.1 for 2m on BTCUSDT" in told
    assert "\x1b" not in told


@pytest.mark.parametrize("is_there", [True, False])
def test_an_object_that_is_gone_ends_it_in_a_sentence(
    api: ApiServer, namespace: str, is_there: bool
) -> None:
    if is_there:
        Live(api, namespace)
    argv = command(api, namespace)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        if is_there:
            child.stdout.readline()
            path = f"/apis/signalcanary.dev/v1alpha1/namespaces/{namespace}/signalcanaries/demo"
            api.must("DELETE", path)
        child.stdout.read()
        wanted = "demo was deleted\n" if is_there else "there is no SignalCanary demo in namespace"
        assert wanted in (told := child.stderr.read())
        assert told.count("\n") == 1
        assert child.wait(20) == 1
