"""The demo itself: real workloads, both stories, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(280)

_PID = re.compile(r"(?:harvest|analysis) (\d+) \(|\(pid (\d+)\)")


Start = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts demos; one that a failed test left running is told to end."""
    started: list[subprocess.Popen[str]] = []

    def begin(data: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "signalcanary", "demo", "--plain", f"--data={data}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.terminate()
        with process:
            process.communicate(timeout=60)


def pids_in(output: str) -> set[int]:
    return {int(one or other) for one, other in _PID.findall(output)}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def started_for(data: Path) -> list[int]:
    """Processes whose command line names the folder: the workloads of this run alone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it ended meanwhile, or is not ours to read
            if str(data).encode() in command:
                found.append(int(entry.name))
    return found


def assert_nothing_is_left(output: str, data: Path) -> None:
    pids = pids_in(output)
    assert len(pids) >= 3, output
    assert [pid for pid in pids if is_alive(pid)] == []
    assert started_for(data) == []


def lines_until(stream: Iterator[str], wanted: str) -> list[str]:
    lines = []
    for line in stream:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError(f"{wanted!r} never came: {''.join(lines)}")


def test_the_good_version_is_promoted_and_the_bad_one_rolled_back(
    tmp_path: Path, start: Start
) -> None:
    data = tmp_path / "demo"
    process = start(data)
    output, errors = process.communicate(timeout=270)
    assert process.returncode == 0, f"{output}\n{errors}"
    assert errors == ""
    assert re.search(r"^v1\.0 promoted after \d+ s$", output, re.MULTILINE)
    assert re.search(
        r"^v2\.0 rolled back after \d+ s: slice_auc_active_period < 0\.6 for 4s on [A-Z]+: "
        r"it is 0\.[0-9]+, (at most 0\.[0-9]+ with [0-9.]+ % confidence|judged literally), "
        r"\d+ rows, breached for \d+s; .* would have kept it; stable v1\.0 keeps running$",
        output,
        re.MULTILINE,
    )
    stable = {
        match.group(1, 2)
        for match in re.finditer(r"stable v1\.0 (harvest|analysis) (\d+) \(ready\)", output)
    }
    assert len(stable) == 2, "the stable version ran as one harvest and one analysis throughout"
    (untouched,) = re.findall(r"^v1\.0 was not touched by v2\.0: .*\((.*)\)$", output, re.MULTILINE)
    assert {tuple(one.split()) for one in untouched.split(", ")} == stable
    (took,) = re.findall(r"^the demo took (\d+) s$", output, re.MULTILINE)
    assert int(took) < 120
    assert output.count("$ kubectl describe signalcanary demo-signal") == 2
    assert_nothing_is_left(output, data)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_ends_its_processes(
    tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    data = tmp_path / "demo"
    process = start(data)
    assert process.stdout is not None
    seen = lines_until(process.stdout, "(ready)")
    seen += lines_until(process.stdout, "(ready)")
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted; every process was ended\n"
    assert_nothing_is_left("".join(seen) + rest, data)


def test_an_exchange_that_dies_ends_the_demo_in_words(tmp_path: Path, start: Start) -> None:
    data = tmp_path / "demo"
    process = start(data)
    assert process.stdout is not None
    seen = "".join(lines_until(process.stdout, "(ready)"))
    seen += "".join(lines_until(process.stdout, "(ready)"))
    (exchange,) = set(re.findall(r"\(pid (\d+)\)", seen))
    os.kill(int(exchange), signal.SIGKILL)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("the local exchange stopped: process exchange was ended by SIGKILL")
    assert "Traceback" not in errors
    assert_nothing_is_left(seen + rest, data)


def test_a_workload_that_dies_is_started_again_and_told(tmp_path: Path, start: Start) -> None:
    data = tmp_path / "demo"
    process = start(data)
    assert process.stdout is not None
    seen = "".join(lines_until(process.stdout, "(ready)"))
    seen += "".join(lines_until(process.stdout, "(ready)"))
    harvest = re.findall(r"canary v1\.0 harvest (\d+) \(ready\)", seen)[-1]
    os.kill(int(harvest), signal.SIGKILL)
    seen += "".join(lines_until(process.stdout, "ProcessEnded"))
    seen += "".join(lines_until(process.stdout, "(ready, restarted 1×)"))
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted; every process was ended\n"
    assert_nothing_is_left(seen + rest, data)
