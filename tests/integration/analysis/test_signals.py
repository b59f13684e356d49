"""Signals out of the real process: over real sockets, beside the record of them in Parquet."""

from __future__ import annotations

import json
import re
import signal as signals
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq

from signalcanary.contract import Track, WorkloadConfig
from signalcanary.stream import Continuity, Gate, Heartbeat, Holder, Message, Signal, read_message
from signalcanary_workloads.store import Kind, ManifestReader, open_storage, read_part

COMMAND = [sys.executable, "-m", "signalcanary_workloads", "analysis"]
DEADLINE_SECONDS = 60


@dataclass
class Analysis:
    """A running process, and the addresses that it said."""

    process: subprocess.Popen[str]
    stream: str
    url: str

    def kill(self) -> None:
        self.process.send_signal(signals.SIGKILL)
        self.process.wait()


@contextmanager
def analysis(config: WorkloadConfig, folder: Path, gate: Path | None) -> Iterator[Analysis]:
    file = folder / "config.json"
    file.write_text(config.model_dump_json(by_alias=True))
    command = [*COMMAND, f"--config={file}", "--shard=0", "--listen=127.0.0.1:0", "--poll=20ms"]
    command += ["--publish=127.0.0.1:0", *([f"--gate={gate}"] if gate else [])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said: dict[str, str] = {}
        for line in process.stderr:
            for kind, pattern in (("stream", r"tcp://\S+"), ("url", r"http://[^/\s]+")):
                if found := re.search(pattern, line):
                    said[kind] = found[0]
            if len(said) == 2:
                break
        yield Analysis(process, said["stream"], said["url"])
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)
        process.stderr.close()


class Subscriber:
    """A plain SUB socket."""

    def __init__(self, context: zmq.Context[Any], address: str, topic: str = "") -> None:
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.subscribe(topic.encode())
        self._socket.connect(address)
        self.messages: list[Message] = []

    @property
    def signals(self) -> list[Signal]:
        return [m for m in self.messages if isinstance(m, Signal)]

    @property
    def heartbeats(self) -> list[Heartbeat]:
        return [m for m in self.messages if isinstance(m, Heartbeat)]

    def receive_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not done():
            assert time.monotonic() < deadline, self.messages[-3:]
            if self._socket.poll(10):
                topic, body = self._socket.recv_multipart()
                message = read_message(body)
                assert message.topic == topic.decode()
                self.messages.append(message)

    def receive_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self.receive_until(lambda: time.monotonic() >= until)

    def join(self) -> None:
        """Return once the connection stands: what is sent from then on arrives."""
        seen = len(self.heartbeats)
        self.receive_until(lambda: len(self.heartbeats) > seen)

    def beat(self, want: Callable[[Heartbeat], bool], times: int = 1) -> None:
        """Receive until so many more heartbeats say what is wanted."""
        start = len(self.messages)
        self.receive_until(
            lambda: (
                sum(isinstance(m, Heartbeat) and want(m) for m in self.messages[start:]) >= times
            )
        )

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as made:
        yield made


@pytest.fixture
def subscribe(context) -> Iterator[Callable[..., Subscriber]]:
    made: list[Subscriber] = []

    def build(running: Analysis, topic: str = "canary.BTCUSDT.") -> Subscriber:
        made.append(Subscriber(context, running.stream, topic))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def gate_file(tmp_path) -> Path:
    return tmp_path / "gate" / "gate.json"


def set_gate(file: Path, **holders: Holder) -> None:
    file.parent.mkdir(exist_ok=True)
    fresh = file.with_suffix(".tmp")
    fresh.write_text(json.dumps(Gate(**holders).to_wire()))
    fresh.replace(file)


OWN = Holder(revision="r1", attempt=3)


def record(config: WorkloadConfig, symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    """The rows of ``kind=signal`` that are committed, in their order."""
    root = open_storage(f"{config.data_path}/signals")
    return [
        row
        for entry in ManifestReader(root, symbol).poll()
        for part in entry.parts
        for row in read_part(root, part).to_pylist()
    ]


def wait_for_rows(config: WorkloadConfig, rows: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(shown := record(config)) < rows:
        assert time.monotonic() < deadline, len(shown)
        time.sleep(0.02)
    return shown


def scrape(running: Analysis) -> str:
    import urllib.request

    with urllib.request.urlopen(f"{running.url}/metrics", timeout=10) as answer:
        return answer.read().decode()


def test_what_is_sent_is_what_is_on_record_row_for_row(
    workload, volume, tmp_path, gate_file, subscribe
) -> None:
    set_gate(gate_file, canary=OWN)
    volume.commit(700, time.time() - 60)  # before the process: history
    with analysis(workload, tmp_path, gate_file) as running:
        wait_for_rows(workload, 700)
        subscriber = subscribe(running)
        subscriber.join()
        for _ in range(30):
            volume.commit(5)
        subscriber.receive_until(lambda: len(subscriber.signals) >= 150)
        shown = scrape(running)
    rows = record(workload)
    assert [row["ts"] for row in rows] == sorted({row["ts"] for row in rows})
    assert len(rows) == 850
    sent = [row for row in rows if row["published"]]
    assert sent == rows[700:]
    assert {row["withheld"] for row in rows[:700]} == {"replayed"}
    received = [m.model_dump(exclude={"schema_", "type", "symbol"}) for m in subscriber.signals]
    only_on_record = ("published", "replayed", "withheld")
    assert received == [{k: v for k, v in r.items() if k not in only_on_record} for r in sent]
    assert [m.seq for m in subscriber.signals] == list(range(1, 151))
    assert {m.symbol for m in subscriber.signals} == {"BTCUSDT"}
    assert all(m.p is not None and m.fitted_ms is not None for m in subscriber.signals if m.f)
    labels = 'namespace="default",revision="r1",signalcanary="demo",symbol="BTCUSDT",track="canary"'
    assert f"signals_published_total{{{labels}}} 150.0" in shown
    assert f"signal_gate_open{{{labels}}} 1.0" in shown
    assert re.search(r'signals_withheld_total\{.*reason="replayed".*BTCUSDT.*\} 700.0', shown)
    assert re.search(r"signals_subscribers\{[^}]*\} 1.0", shown)
    assert re.search(r'signal_publish_lag_seconds_count\{clock="wall".*BTC.*\} 150.0', shown)


CLOSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (lambda file: None, "gate_missing"),
    "another revision": (
        lambda file: set_gate(file, canary=Holder(revision="r2", attempt=3)),
        "gate_other_revision",
    ),
}


@pytest.mark.parametrize(("write", "reason"), CLOSED.values(), ids=CLOSED)
def test_a_gate_that_is_not_open_sends_nothing_and_records_everything(
    workload, volume, tmp_path, gate_file, subscribe, write, reason
) -> None:
    write(gate_file)
    with analysis(workload, tmp_path, gate_file) as running:
        subscriber = subscribe(running, "")
        subscriber.join()
        for _ in range(4):
            volume.commit(5)
        rows = wait_for_rows(workload, 20)
        subscriber.beat(lambda beat: beat.symbol == "BTCUSDT", times=2)
        assert subscriber.signals == []
        assert {(beat.open, beat.reason) for beat in subscriber.heartbeats} == {(False, reason)}
        assert {row["withheld"] for row in rows} == {reason}
        assert not any(row["published"] or row["replayed"] for row in rows)


def test_the_gate_opens_and_closes_under_a_running_process(
    workload, volume, tmp_path, gate_file, subscribe
) -> None:
    with analysis(workload, tmp_path, gate_file) as running:
        subscriber = subscribe(running)
        subscriber.join()
        volume.commit(5)
        wait_for_rows(workload, 5)
        for turn in (1, 2):
            set_gate(gate_file, canary=OWN)
            volume.commit(5)
            wait_for_rows(workload, 10 * turn)
            set_gate(gate_file)
            volume.commit(5)
            wait_for_rows(workload, 10 * turn + 5)
        subscriber.beat(lambda beat: not beat.open and beat.seq == 10)
        assert [m.seq for m in subscriber.signals] == list(range(1, 11))
    rows = record(workload)
    assert [row["published"] for row in rows] == ([False] * 5 + ([True] * 5 + [False] * 5) * 2)
    assert [m.ts for m in subscriber.signals] == [r["ts"] for r in rows if r["published"]]


def test_a_killed_process_records_nothing_twice_and_sends_no_history(
    workload, volume, tmp_path, gate_file, subscribe
) -> None:
    set_gate(gate_file, canary=OWN)
    received: list[Signal] = []
    committed = 0
    # It dies wherever it is: reading, recording, between record and socket, or after.
    for delay_seconds in (0.0, 0.02, 0.05, None):
        with analysis(workload, tmp_path, gate_file) as running:
            subscriber = subscribe(running)
            subscriber.join()
            for _ in range(3):
                volume.commit(4)
                committed += 4
            if delay_seconds is None:
                subscriber.receive_until(lambda has=subscriber: bool(has.signals))
            else:
                subscriber.receive_for(delay_seconds)
            running.kill()
        volume.commit(6)  # while nobody looks
        committed += 6
        received += subscriber.signals
    assert received
    with analysis(workload, tmp_path, gate_file) as running:
        subscriber = subscribe(running)
        subscriber.join()
        volume.commit(5)
        rows = wait_for_rows(workload, committed + 5)
        subscriber.receive_until(lambda: len(subscriber.signals) >= 5)
        received += subscriber.signals
    start = rows[0]["ts"]
    assert [row["ts"] for row in rows] == [start + 1_000 * n for n in range(committed + 5)]
    on_record = {row["seq"]: row for row in rows if row["published"]}
    assert sorted(on_record) == list(range(1, len(on_record) + 1))
    assert all(on_record[m.seq]["ts"] == m.ts for m in received)
    assert len({m.seq for m in received}) == len(received)
    assert sum(row["replayed"] for row in rows) >= 4 * 6
    assert not any(row["replayed"] and row["published"] for row in rows)


def test_what_the_record_says_was_sent_and_nobody_got_is_a_hole(
    workload, volume, tmp_path, gate_file, subscribe
) -> None:
    set_gate(gate_file, canary=OWN)
    watch = Continuity()
    for seq in (5, 10):
        with analysis(workload, tmp_path, gate_file) as running:
            subscriber = subscribe(running)
            subscriber.join()
            missed = [watch.missed(m) for m in subscriber.messages]
            assert missed == [0] * len(missed)
            volume.commit(5)
            wait_for_rows(workload, seq)
            running.kill()
    with analysis(workload, tmp_path, gate_file) as running:
        subscriber = subscribe(running)
        subscriber.beat(lambda beat: beat.seq is not None)
        # This consumer saw the sequence at its beginning, and none of it since.
        behind = Continuity()
        first = subscriber.heartbeats[-1]
        assert behind.missed(first.model_copy(update={"seq": 0})) == 0
        assert behind.missed(first) == 10


def test_one_symbol_that_begins_another_is_told_apart(
    workload, volume, tmp_path, gate_file, subscribe
) -> None:
    both = workload.model_copy(update={"shards": (("BTCUSD", "BTCUSDT"),)})
    set_gate(gate_file, canary=OWN)
    with analysis(both, tmp_path, gate_file) as running:
        one, all_of_them = subscribe(running, "canary.BTCUSD."), subscribe(running, "canary.")
        one.beat(lambda beat: True, times=2)
        all_of_them.beat(lambda beat: beat.symbol == "BTCUSDT", times=2)
    assert {m.symbol for m in one.messages} == {"BTCUSD"}
    assert {m.symbol for m in all_of_them.messages} == {"BTCUSD", "BTCUSDT"}


def test_a_taken_address_is_said_and_ends_with_2(workload, tmp_path, context) -> None:
    file = tmp_path / "config.json"
    file.write_text(workload.model_dump_json(by_alias=True))
    taken = context.socket(zmq.PUB)
    port = taken.bind_to_random_port("tcp://127.0.0.1")
    command = [*COMMAND, f"--config={file}", "--shard=0", "--listen=127.0.0.1:0"]
    ended = subprocess.run(
        [*command, f"--publish=127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    taken.close()
    assert ended.returncode == 2
    assert f"cannot publish at 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_stable_track_has_topics_of_its_own(
    workload, volume, tmp_path, gate_file, subscribe
) -> None:
    stable = workload.model_copy(update={"track": Track.STABLE})
    set_gate(gate_file, stable=OWN)
    with analysis(stable, tmp_path, gate_file) as running:
        subscriber = subscribe(running, "stable.BTCUSDT.")
        subscriber.join()
        volume.commit(3)
        subscriber.receive_until(lambda: len(subscriber.signals) == 3)
    assert {(m.track, m.version, m.fingerprint) for m in subscriber.signals} == {
        (Track.STABLE, "0.1.0", "abc")
    }
    assert {
        Kind(p.kind)
        for e in ManifestReader(open_storage(f"{stable.data_path}/signals"), "BTCUSDT").poll()
        for p in e.parts
    } == {Kind.SIGNAL}
