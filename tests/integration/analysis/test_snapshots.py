"""Restarts from a snapshot: over compacted and deleted history, and when it is of no use."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from signalcanary_workloads.analysis.engine import EngineConfig
from signalcanary_workloads.analysis.gate import GateReader
from signalcanary_workloads.analysis.runner import Clocks, SymbolRunner
from signalcanary_workloads.analysis.signals import FOLDER, SignalLog
from signalcanary_workloads.analysis.snapshot import Ignored
from signalcanary_workloads.analysis.snapshot_keeper import SnapshotKeeper, SnapshotMetrics
from signalcanary_workloads.store import (
    ManifestReader,
    Storage,
    Upkeep,
    UpkeepSettings,
    open_storage,
    read_part,
)

SYMBOL = "BTCUSDT"
NOW = 1_800_000_000.0
EVERY_SECONDS = 60.0


class Life:
    """One process's view of a symbol: it may be killed (nothing more is written) or ended."""

    def __init__(
        self, workload, storage: Storage, now: Callable[[], float], data_path: str
    ) -> None:
        self.data_path = data_path
        self.registry = CollectorRegistry()
        self._labels = ("default", "demo", "canary", "r1", SYMBOL)
        config = EngineConfig.from_signal(workload.signal, workload.signal)
        # Over another half-life the control's scores are made anew.
        cvd = config.cvd.model_copy(update={"half_life_trades": 300})
        control = replace(config.control, refit_ms=400_000, cvd=cvd)
        self.config = replace(config, control=control)
        record = workload.model_copy(update={"data_path": data_path})
        gate = GateReader.of(workload, None)
        self.log = SignalLog(SYMBOL, record, gate, lambda: int(now() * 1e9))
        metrics = SnapshotMetrics(self.registry, workload, [SYMBOL])
        self.keeper = SnapshotKeeper(storage, SYMBOL, self.config, metrics, now, EVERY_SECONDS)
        clocks = Clocks(now, now)
        self.runner = SymbolRunner(
            SYMBOL, storage, self.config, clocks, self.log, snapshots=self.keeper
        )

    def drain(self) -> None:
        while self.runner.step():
            pass
        self.keeper.wait(60.0)

    def kill(self) -> None:
        self.keeper.wait(60.0)
        self.log.close()

    def end(self) -> None:
        self.runner.end()
        self.kill()

    def counted(self, name: str, **labels: str) -> float | None:
        names = ("namespace", "signalcanary", "track", "revision", "symbol")
        return self.registry.get_sample_value(
            name, dict(zip(names, self._labels, strict=True)) | labels
        )

    @property
    def ignored(self) -> dict[str, float]:
        counts = {
            reason.value: self.counted("analysis_snapshots_ignored_total", reason=reason.value)
            for reason in Ignored
        }
        return {reason: count for reason, count in counts.items() if count}


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(volume, workload, clock, tmp_path):
    """A process on the volume; `twin` gives one with a record of its own and no snapshot."""
    lives, count = [], iter(range(100))

    def build(storage: Storage | None = None, twin: bool = False, config=workload) -> Life:
        data_path = str(volume.data_path)
        if twin:
            data_path = str(tmp_path / f"twin-{next(count)}")
            mirror(volume, data_path)
        place = storage or open_storage(data_path)
        life = Life(config, place, clock, data_path)
        lives.append(life)
        return life

    yield build
    for life in lives:
        life.log.close()


def mirror(volume, data_path: str) -> None:
    """Copy what harvest has committed."""
    source, target = open_storage(str(volume.data_path)), open_storage(data_path)
    for item in source.find(""):
        if item.key.startswith(("date=", "manifest/")):
            target.put(item.key, source.read(item.key))


def snapshot_of(volume) -> Path:
    return volume.data_path / f"state/analysis/symbol={SYMBOL}/snapshot.msgpack"


def assert_same(one: Life, other: Life) -> None:
    assert one.runner.state.evaluation is not None
    assert one.runner.state.evaluation == other.runner.state.evaluation
    assert one.runner._engine.report() == other.runner._engine.report()


def test_a_restart_reads_only_what_came_after_the_snapshot(volume, live, clock):
    first = live()
    for _ in range(20):
        volume.commit(60, clock.now)
        clock.now += 10
        first.drain()
    assert first.counted("analysis_snapshot_write_seconds_count") == 3
    first.kill()  # up to 50 s of it are in no snapshot
    for _ in range(20):
        volume.commit(60, clock.now)
    clock.now += 100
    second, replayed = live(), live(twin=True)
    for life in (second, replayed):
        life.drain()
    assert second.runner.state.entries_read == 22
    assert replayed.runner.state.entries_read == 40
    assert second.runner.state.evaluation.values["platt_ece"].value is not None
    assert second.runner.state.evidence_seconds == replayed.runner.state.evidence_seconds
    assert second.counted("analysis_snapshots_resumed_total") == 1
    assert replayed.counted("analysis_snapshots_resumed_total") == 0
    assert second.ignored == replayed.ignored == {}
    assert_same(second, replayed)


def test_every_entry_of_a_history_is_one_to_be_restarted_at(volume, live, clock):
    life = live()
    for n in range(40):
        if n % 9 == 8:
            volume.second += 40  # a hole in the grid
        volume.commit(50, clock.now)
        clock.now += 1
        life.drain()
        life.end()
        life = live()
        clock.now += 1
        life.drain()
        assert life.runner.state.entries_read == 0
    replayed = live(twin=True)
    replayed.drain()
    assert replayed.runner.state.evaluation.masked["missing_row"] > 0
    assert replayed.runner.state.evaluation.difference_bounds
    assert_same(life, replayed)


@pytest.mark.parametrize("expires", [False, True], ids=["compacted", "deleted"])
def test_entries_before_and_around_it_may_be_compacted_or_deleted_since(
    volume, live, clock, expires
):
    through, ended = live(twin=True), live()

    def commit(count: int) -> None:
        for _ in range(count):
            volume.commit(60, clock.now)
        mirror(volume, through.data_path)

    commit(15)
    through.drain()
    ended.drain()
    ended.end()
    commit(27)
    through.drain()
    retention_ms = 1_000_000 if expires else None
    rules = UpkeepSettings(400_000, retention_ms, grace_seconds=0.0)
    upkeep = Upkeep(open_storage(str(volume.data_path)), SYMBOL, rules, time.monotonic)
    for _ in range(4):
        upkeep.run()
    assert upkeep.compacted > 30
    assert (upkeep.expired > 15) == expires
    clock.now += 1
    second = live()
    second.drain()
    through.drain()
    assert second.counted("analysis_snapshots_resumed_total") == 1
    assert second.ignored == {}
    if expires:  # what was deleted unread is a gap; the rest is as it was
        evaluations = (second.runner.state.evaluation, through.runner.state.evaluation)
        assert evaluations[0].last_ts_ms == evaluations[1].last_ts_ms
        assert second.runner._reader.expired == upkeep.expired - 15
        return
    assert second.runner._reader.expired == 0
    assert_same(second, through)


def damage(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def forget_signals(path: Path) -> None:
    shutil.rmtree(path.parents[3] / FOLDER)


def commit_again(path: Path) -> None:
    """The last entry that the snapshot knows was committed at another time."""
    entry = sorted((path.parents[3] / "manifest" / f"symbol={SYMBOL}").glob("*.json"))[9]
    entry.write_bytes(entry.read_bytes().replace(b'"committed_ns":1', b'"committed_ns":2'))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        pytest.param(damage(lambda data: data[: len(data) // 2]), "corrupt", id="truncated"),
        pytest.param(damage(lambda data: b""), "corrupt", id="empty"),
        pytest.param(damage(lambda data: data[:-9] + bytes(9)), "corrupt", id="overwritten"),
        pytest.param(
            damage(lambda data: data.replace(b"\xa6format\x02", b"\xa6format\x03")),
            "version",
            id="another format",
        ),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), "unreadable", id="a folder"),
        pytest.param(forget_signals, "unrecorded", id="signals gone"),
        pytest.param(commit_again, "other_history", id="another history"),
    ],
)
def test_a_snapshot_of_no_use_is_counted_and_history_replayed(
    volume, live, clock, caplog, harm, reason
):
    first = live()
    for _ in range(10):
        volume.commit(100, clock.now)
    first.drain()
    first.end()
    harm(snapshot_of(volume))
    clock.now += 1
    second, replayed = live(), live(twin=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            second.drain()
    replayed.drain()
    assert second.ignored == {reason: 1}
    assert len(caplog.records) == 1
    assert second.runner.state.entries_read == 10
    assert_same(second, replayed)


def test_another_configuration_does_not_go_on_from_it(volume, live, clock, workload):
    first = live()
    volume.commit(100, clock.now)
    first.drain()
    first.end()
    calibration = workload.signal.calibration
    calibration = calibration.model_copy(update={"refit": calibration.test})
    signal = workload.signal.model_copy(update={"calibration": calibration})
    second = live(config=workload.model_copy(update={"signal": signal}))
    second.drain()
    assert second.ignored == {"configuration": 1}
    assert second.runner.state.entries_read == 1


def test_what_cannot_be_written_is_counted_logged_once_and_stops_nothing(
    volume, live, clock, caplog
):
    life = live()
    volume.commit(60, clock.now)
    (volume.data_path / "state").write_bytes(b"in the way")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.now += EVERY_SECONDS
            life.drain()
            volume.commit(60, clock.now)
            life.drain()
    assert life.runner.caught_up
    assert life.counted("analysis_snapshot_write_errors_total", reason="EEXIST") == 3
    assert len(caplog.records) == 1
    (volume.data_path / "state").unlink()
    clock.now += EVERY_SECONDS
    life.drain()
    life.end()
    assert life.counted("analysis_snapshot_bytes") == snapshot_of(volume).stat().st_size


def test_rows_in_the_snapshot_keep_their_commit_time_as_evidence(volume, live, clock):
    first = live()
    committed = clock.now
    volume.commit(60, committed)
    clock.now += 5
    first.drain()
    assert first.runner.state.evidence_seconds == committed + 5
    first.end()
    clock.now += 3_600
    second = live()
    second.drain()
    assert second.runner.caught_up
    assert second.runner.state.evidence_seconds == committed
    assert second.runner.state.lag_seconds == 3_605
    clock.now += 10
    volume.commit(60, clock.now)
    second.drain()
    assert second.runner.state.evidence_seconds == clock.now


def test_nothing_new_writes_nothing(volume, live, clock):
    life = live()
    life.drain()
    life.end()
    assert not snapshot_of(volume).exists()
    life = live()
    volume.commit(60, clock.now)
    clock.now += EVERY_SECONDS
    life.drain()
    written = snapshot_of(volume).stat().st_mtime_ns
    clock.now += EVERY_SECONDS
    life.drain()
    life.end()
    assert snapshot_of(volume).stat().st_mtime_ns == written


def test_signals_on_record_are_written_once_over_restarts(volume, live, clock):
    life = live()
    for n in range(12):
        volume.commit(20, clock.now)
        clock.now += 7
        life.drain()
        if n % 4 == 3:
            life.kill()  # what came after the last snapshot is scored again
            life = live()
    life.kill()
    place = open_storage(f"{volume.data_path}/{FOLDER}")
    parts = [part for entry in ManifestReader(place, SYMBOL).poll() for part in entry.parts]
    times = [ts for part in parts for ts in read_part(place, part, ("ts",))["ts"].to_pylist()]
    assert len(times) == 240
    assert times == sorted(set(times))


def test_a_bucket_keeps_it_too(volume, live, clock, s3, workload):
    for _ in range(10):
        volume.commit(100, clock.now)
    bucket = open_storage(f"s3://{s3.make_bucket()}/default/demo")
    source = open_storage(str(volume.data_path))
    for item in source.find(""):
        bucket.put(item.key, source.read(item.key))
    first = live(storage=bucket)
    first.drain()
    first.end()
    clock.now += 1
    second = live(storage=bucket)
    second.drain()
    assert second.runner.state.entries_read == 0
    assert second.runner.state.evaluation == first.runner.state.evaluation
