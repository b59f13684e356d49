"""The demo itself: real workloads, both stories, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "hack"))

from scrape_kit import Scraped, find_prometheus, operating, scraping

import dashboards

REPO = Path(__file__).parents[2]

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


DEMO = "whole-demo"
"""Name of its folder, by which its processes are known."""


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped | None]:
    """A Prometheus that scrapes the demo's workloads, with the chart's rules; None without one."""
    program = find_prometheus()
    if program is None:
        yield None
        return
    folder = tmp_path_factory.mktemp("prometheus")
    with operating("demo-signal") as operator, scraping(folder, program, DEMO, operator) as found:
        yield found


@dataclass(frozen=True)
class Demo:
    """A demo that has been run to its end."""

    done: subprocess.CompletedProcess[str]
    data: Path


@pytest.fixture(scope="module")
def demo(scraped: Scraped | None, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    data = tmp_path_factory.getbasetemp() / DEMO
    done = subprocess.run(
        [sys.executable, "-m", "signalcanary", "demo", "--plain", f"--data={data}"],
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    return Demo(done, data)


def test_the_good_version_is_promoted_and_the_bad_one_rolled_back(demo: Demo) -> None:
    data, output, errors = demo.data, demo.done.stdout, demo.done.stderr
    assert demo.done.returncode == 0, f"{output}\n{errors}"
    assert errors == ""
    assert re.search(r"^v1\.0 promoted after \d+ s$", output, re.MULTILINE)
    assert re.search(
        r"^v2\.0 rolled back after \d+ s: slice_auc_active_period < 0\.6 for 4s on [A-Z]+: "
        r"it is 0\.[0-9]+, (at most 0\.[0-9]+ with [0-9.]+ % confidence|judged literally), "
        r"\d+ rows, breached for \d+s; .* would have kept it; "
        r"v2\.0 has no pod any more, and v1\.0 \(revision [0-9a-f]{8}\) serves$",
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
    # How long is for the reader: a machine that others use too proves nothing by it.
    assert re.search(r"^the demo took \d+ s$", output, re.MULTILINE)
    assert output.count("$ kubectl describe signalcanary demo-signal") == 2
    assert_nothing_is_left(output, data)


NEVER_PROMOTED = ("SignalCanary: a rollout", "Promoted")


def test_every_query_of_the_dashboards_gives_data(demo: Demo, scraped: Scraped | None) -> None:
    """And every recording rule; where all is well some panels are empty, but asked all the same."""
    if scraped is None:
        problem = "no prometheus: run `python3 hack/cluster/cluster.py tools` first"
        pytest.fail(problem) if os.environ.get("SIGNALCANARY_REQUIRE_CLUSTER") else pytest.skip(
            problem
        )
    (horizon,) = scraped.values("platt_test_samples", "horizon")
    values = {"namespace": "default", "signalcanary": "demo-signal", "horizon": horizon}
    values |= {"symbol": ".*", "condition": ".*", "__rate_interval": "1m", "__interval": "2s"}
    empty = []
    for dashboard in dashboards.DASHBOARDS.values():
        asked = [(p.title, q, p.may_be_empty) for p in dashboard.shown for q in p.queries.values()]
        # The rollout that is looked at is taken back; that promotions are found, the fleet shows.
        asked += [
            (one.name, one.query, (dashboard.title, one.name) == NEVER_PROMOTED)
            for one in dashboard.annotations
        ]
        for title, query, may_be_empty in asked:
            found = scraped.has(Template(query).substitute(values))
            if not found and not may_be_empty:
                empty.append((title, query))
    rules = yaml.safe_load((REPO / "charts/signalcanary/files/rules/recording.yaml").read_text())
    recorded = [rule["record"] for group in rules["groups"] for rule in group["rules"]]
    empty += [("recording rule", name) for name in recorded if not scraped.has(name)]
    assert not empty, "\n".join(f"{where}: {query}" for where, query in empty)


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
