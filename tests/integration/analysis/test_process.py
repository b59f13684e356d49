"""The real process on real files: all 13 core metrics come out of /metrics."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from signalcanary.contract import (
    CORE_METRICS,
    DIFFERENCE,
    DIFFERENCE_SAMPLES,
    EVIDENCE_SAMPLES,
    HEARTBEAT,
    WARMUP,
    Control,
    WorkloadConfig,
)
from signalcanary_workloads.analysis.signals import FOLDER
from signalcanary_workloads.store import ManifestReader, open_storage, read_part

COMMAND = [sys.executable, "-m", "signalcanary_workloads", "analysis"]


Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch(tmp_path) -> Iterator[Launch]:
    """Starts processes, each on a configuration."""
    all_started: list[subprocess.Popen[str]] = []

    def start(workload: WorkloadConfig, *options: str) -> subprocess.Popen[str]:
        config = tmp_path / f"config-{len(all_started)}.json"
        config.write_text(workload.model_dump_json(by_alias=True))
        command = [*COMMAND, "--config", str(config), "--shard", "0", *options]
        command += ["--listen", "127.0.0.1:0", "--publish", "127.0.0.1:0", "--poll", "50ms"]
        all_started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return all_started[-1]

    try:
        yield start
    finally:
        for started in all_started:
            if started.poll() is None:
                started.kill()
            started.wait()
            assert started.stderr is not None
            started.stderr.close()


@pytest.fixture
def process(launch, workload) -> subprocess.Popen[str]:
    return launch(workload)


def find_url(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"(http://\S+)/metrics", line)
        if found:
            return found[1]
    raise AssertionError(f"no URL, exit code {process.wait()}")


def scrape(url: str) -> dict[tuple[str, str, str], float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert "NaN" not in text
    return {
        (s.name, s.labels.get("symbol", ""), s.labels.get("metric", "")): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def wait_for(url: str, key: tuple[str, str, str], value: float | None = None):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        shown = scrape(url)
        if key in shown and (value is None or shown[key] == value):
            return shown
        time.sleep(0.05)
    raise AssertionError(f"{key} did not come: {sorted(shown)}")


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


def test_values_appear_when_the_folder_does_and_sigterm_ends_it_at_once(process, volume):
    url = find_url(process)  # before the folder exists
    assert not Path(volume.data_path).exists()
    assert wait_for(url, (WARMUP, "ETHUSDT", ""))[EVIDENCE_SAMPLES, "BTCUSDT", "platt_ece"] == 0
    for _ in range(25):
        volume.commit(100)
    shown = wait_for(url, (WARMUP, "BTCUSDT", ""), 1.0)
    assert 0 < shown["platt_ece", "BTCUSDT", ""] < 0.1
    assert abs(shown[HEARTBEAT, "BTCUSDT", ""] - time.time()) < 60
    assert (HEARTBEAT, "ETHUSDT", "") not in shown
    assert is_ready(url)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


@pytest.fixture
def workload(workload, signal):
    """As a canary's, beside a stable revision with other parameters of the volume delta."""
    other = signal.cvd.model_copy(update={"mad_multiplier": 0.5, "half_life_trades": 50})
    control = Control(revision="s1", signal=signal.model_copy(update={"cvd": other}))
    return workload.model_copy(update={"control": control})


def test_a_canary_is_compared_with_the_control_in_its_file(process, volume):
    url = find_url(process)
    for _ in range(25):
        volume.commit(100)
    shown = wait_for(url, (DIFFERENCE, "BTCUSDT", "platt_brier"))
    assert abs(shown[DIFFERENCE, "BTCUSDT", "platt_brier"]) < 0.1
    assert shown[DIFFERENCE_SAMPLES, "BTCUSDT", "platt_brier"] > 500
    assert (DIFFERENCE, "ETHUSDT", "platt_brier") not in shown


@pytest.mark.parametrize("window", ["9h"], indirect=True)
def test_all_13_core_metrics_come_out_when_the_window_spans_all_sessions(window, process, volume):
    url = find_url(process)
    for _ in range(34):  # 07:00 to 16:26 UTC
        volume.commit(1_000)
    shown = wait_for(url, ("slice_auc_ny_session", "BTCUSDT", ""))
    assert len(CORE_METRICS) == 13
    for metric in CORE_METRICS:
        assert shown[EVIDENCE_SAMPLES, "BTCUSDT", metric.name] > 0
        value = shown[metric.name, "BTCUSDT", ""]
        if metric.name.startswith("slice_auc"):
            assert 0.55 < value < 0.85


def comparable(url: str) -> dict[tuple[str, ...], float]:
    """What depends on the rows alone, with all labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found = ("platt_", "slice_", "merge_", "cvd_", "signal_evidence_bound", "signal_evidence_sam")
    found += ("signal_difference_bound", "analysis_feature", "analysis_rows", "analysis_refits")
    return {
        (sample.name, *map(str, sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(found)
    }


def wait_until(is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not is_there():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_is_killed_again_and_again_ends_where_an_uninterrupted_one_does(
    launch, workload, volume, tmp_path
):
    control = {"revision": "r0", "signal": {"calibration": {"train": "400s"}}}
    workload = WorkloadConfig.model_validate(
        workload.model_dump(by_alias=True) | {"control": control, "shards": [["BTCUSDT"]]}
    )
    twin = type(volume)(tmp_path / "twin")
    through = find_url(launch(workload.model_copy(update={"data_path": str(twin.data_path)})))
    rows = ("analysis_feature_rows_total", "BTCUSDT", "")
    resumed = ("analysis_snapshots_resumed_total", "BTCUSDT", "")
    snapshot = volume.data_path / "state/analysis/symbol=BTCUSDT/snapshot.msgpack"
    for life in range(4):
        process = launch(workload, "--snapshot", "100ms")
        url = find_url(process)
        for _ in range(8):
            both = volume.commit(75), twin.commit(75)
            assert both[0].seq == both[1].seq
        written = snapshot.stat().st_mtime_ns if life else 0
        shown = wait_for(url, rows, 600.0 * (life + 1))
        assert shown[resumed] == (life > 0)
        assert not life or shown["analysis_entries_read_total", "BTCUSDT", ""] < 8 * (life + 1)
        wait_until(lambda: snapshot.exists() and snapshot.stat().st_mtime_ns > written)  # noqa: B023
        process.kill() if life < 3 else process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == (-signal.SIGKILL if life < 3 else 0)
    last = find_url(launch(workload))
    shown = wait_for(last, rows, 2_400.0)
    assert shown["analysis_entries_read_total", "BTCUSDT", ""] == 0  # it was ended, not killed
    wait_for(through, rows, 2_400.0)
    assert comparable(last) == comparable(through)
    names = {key[0] for key in comparable(last)}
    assert {"platt_ece", "signal_evidence_bound", "signal_difference_bound"} <= names


def test_old_signals_are_compacted_and_the_record_goes_on(launch, workload, volume):
    update = {"compaction_interval": timedelta(minutes=30), "shards": (("BTCUSDT",),)}
    workload = workload.model_copy(update=update)
    compacted = ("analysis_entries_compacted_total", "BTCUSDT", "")
    for life in range(2):  # a pass is made at the start: the second finds what the first left
        process = launch(workload)
        url = find_url(process)
        for n in range(4):
            volume.commit(500)
            entries = 4 * life + n + 1
            wait_for(url, ("analysis_feature_rows_total", "BTCUSDT", ""), 500.0 * entries)
        wait_until(lambda: not life or scrape(url)[compacted] > 0)  # noqa: B023
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    record = open_storage(f"{volume.data_path}/{FOLDER}")
    entries = ManifestReader(record, "BTCUSDT").poll()
    assert len(entries) == 6  # three of the eight are one
    parts = [part for entry in entries for part in entry.parts]
    times = [ts for part in parts for ts in read_part(record, part, ("ts",))["ts"].to_pylist()]
    assert len(times) == 4_000
    assert times == sorted(set(times))


def test_a_configuration_that_is_of_no_use_ends_with_2(tmp_path, workload):
    config = tmp_path / "config.json"
    config.write_text(workload.model_dump_json(by_alias=True))
    for extra, want in (
        (["--shard", "7"], "shard 7"),
        (["--shard", "0", "--config", "/nowhere"], "nowhere"),
    ):
        ended = subprocess.run(
            [*COMMAND, "--config", str(config), *extra],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 2
        assert want in ended.stderr
        assert "Traceback" not in ended.stderr
