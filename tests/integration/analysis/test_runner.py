"""From committed parts to published states: catching up, freezing, failing, recovering."""

from __future__ import annotations

import itertools
import logging

import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry

from signalcanary.contract import (
    CORE_METRICS,
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HEARTBEAT,
    WARMUP,
)
from signalcanary_workloads.analysis.engine import EngineConfig
from signalcanary_workloads.analysis.exporter import AnalysisCollector
from signalcanary_workloads.analysis.gate import GateReader
from signalcanary_workloads.analysis.runner import RETRY_SECONDS, Clocks, SymbolRunner
from signalcanary_workloads.analysis.signals import SignalLog
from signalcanary_workloads.store import SCHEMAS, Kind, Storage, open_storage

REPORTED = ("signal_auc_", "signal_calibration_", "signal_brier_", "signal_label_tie_ratio")
NOW = 1_800_000_000.0


class Time:
    """One clock that stands still unless it is moved, or moves by `tick` at each look."""

    def __init__(self) -> None:
        self.now = NOW
        self.tick = 0.0

    def read(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def start(volume, workload, tmp_path, clock):
    """Runners that record their signals each in a folder of its own."""
    folders = itertools.count()
    logs = []

    def build(
        symbol: str = "BTCUSDT", storage: Storage | None = None, report_share: float = 0.1
    ) -> SymbolRunner:
        clocks = Clocks(clock.read, clock.read)
        place = storage or open_storage(str(volume.data_path))
        record = workload.model_copy(update={"data_path": str(tmp_path / f"{next(folders)}")})
        gate = GateReader.of(workload, None)
        log = SignalLog(symbol, record, gate, lambda: int(clock.now * 1e9))
        logs.append(log)
        config = EngineConfig.from_signal(workload.signal)
        return SymbolRunner(symbol, place, config, clocks, log, report_share)

    yield build
    for log in logs:
        log.close()


def drain(runner: SymbolRunner) -> None:
    while runner.step():
        pass


def scrape(workload, *runners) -> dict[tuple[str, str, str], float]:
    """Samples by (name, symbol, metric or reason)."""
    registry = CollectorRegistry()
    registry.register(AnalysisCollector(workload, lambda: [r.state for r in runners]))
    out = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = sample.labels
            assert labels["namespace"] == "default"
            assert labels["signalcanary"] == "demo"
            assert (labels["track"], labels["revision"]) == ("canary", "r1")
            if labels["horizon"] != "10s":
                assert sample.name.startswith(REPORTED), "only the judged horizon has core series"
                continue
            out[sample.name, labels["symbol"], labels.get("metric", "")] = sample.value
    return out


def test_a_symbol_without_data_shows_zero_evidence_and_no_heartbeat(start, workload):
    runner = start()
    before = scrape(workload, runner)
    drain(runner)
    for shown in (before, scrape(workload, runner)):
        assert shown[WARMUP, "BTCUSDT", ""] == 0.0
        assert (HEARTBEAT, "BTCUSDT", "") not in shown
        for metric in CORE_METRICS:
            assert shown[EVIDENCE_SAMPLES, "BTCUSDT", metric.name] == 0.0
            assert (EVIDENCE_TIMESTAMP, "BTCUSDT", metric.name) not in shown
            if metric.kind == "gauge":
                assert (metric.name, "BTCUSDT", "") not in shown


def test_the_heartbeat_follows_new_rows_and_freezes_without_them(volume, start, clock, workload):
    runner = start()
    for _ in range(3):
        clock.now += 1
        volume.commit(20, clock.now)
        drain(runner)
        assert scrape(workload, runner)[HEARTBEAT, "BTCUSDT", ""] == clock.now
    last = clock.now
    clock.now += 500
    drain(runner)
    shown = scrape(workload, runner)
    assert shown[HEARTBEAT, "BTCUSDT", ""] == last
    assert shown[EVIDENCE_TIMESTAMP, "BTCUSDT", "platt_ece"] == last


def test_evaluations_are_at_least_half_a_second_apart(volume, start, clock):
    runner = start()
    volume.commit(20, clock.now)
    drain(runner)
    volume.commit(20, clock.now)
    clock.now += 0.4
    drain(runner)
    assert runner.state.entries_read == 1
    clock.now += 0.2
    drain(runner)
    assert runner.state.entries_read == 2


def test_reports_keep_to_their_share_while_values_stay_fresh(volume, start, clock):
    """By this clock a report takes a tick of 10 ms, so the next is due 4 s later."""
    runner = start(report_share=0.0025)
    reports, evaluations = [], []
    for _ in range(12):
        volume.commit(20, clock.now)
        clock.tick = 0.01
        drain(runner)
        clock.tick = 0.0
        clock.now += 0.6
        reports.append(runner.state.report)
        evaluations.append(runner.state.evaluation)
    assert all(report is not None for report in reports)
    assert len({id(evaluation) for evaluation in evaluations}) == 12
    fresh = 1 + sum(one is not other for one, other in itertools.pairwise(reports))
    assert 2 <= fresh <= 4


def test_a_restart_beside_a_dead_harvest_does_not_make_old_rows_look_new(
    volume, start, clock, workload
):
    committed = clock.now
    volume.commit(50, committed)
    clock.now += 3_600
    runner = start()
    drain(runner)
    shown = scrape(workload, runner)
    assert shown[HEARTBEAT, "BTCUSDT", ""] == committed
    assert shown[EVIDENCE_TIMESTAMP, "BTCUSDT", "platt_brier"] == committed


def test_nothing_is_shown_before_the_newest_entry_is_reached(volume, start, clock, workload):
    for _ in range(5):
        volume.commit(20, clock.now)
    clock.tick = 1.0  # every look at the clock takes longer than a step may
    slow = start()
    assert slow.step()
    assert not slow.caught_up
    assert scrape(workload, slow)[WARMUP, "BTCUSDT", ""] == 0.0
    assert (HEARTBEAT, "BTCUSDT", "") not in scrape(workload, slow)
    drain(slow)
    assert slow.caught_up
    assert slow.state.entries_read == 5


def test_a_killed_and_resumed_run_ends_where_an_uninterrupted_one_stands(volume, start, clock):
    uninterrupted, killed = start(), start()
    for step in range(40):
        volume.commit(50, clock.now)
        clock.now += 1
        drain(uninterrupted)
        if step in (7, 23):
            killed = start()
        if step % 3 == 0:
            drain(killed)
    clock.now += 1
    drain(killed)
    fresh = start()
    drain(fresh)
    assert uninterrupted.state.evaluation is not None
    assert uninterrupted.state.evaluation.values["platt_ece"].value is not None
    assert killed.state.evaluation == uninterrupted.state.evaluation
    assert fresh.state.evaluation == uninterrupted.state.evaluation


def test_the_order_of_symbols_changes_nothing(volume, start, clock):
    other = type(volume)(volume.data_path, "ETHUSDT", seed=2)
    for _ in range(5):
        volume.commit(50, clock.now)
        other.commit(50, clock.now)
    one = [start("BTCUSDT"), start("ETHUSDT")]
    two = [start("BTCUSDT"), start("ETHUSDT")]
    for runner in (*one, *reversed(two)):
        drain(runner)
    assert [r.state.evaluation for r in one] == [r.state.evaluation for r in two]
    assert one[0].state.evaluation != one[1].state.evaluation


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        pytest.param(lambda path: path.unlink(), "MissingPart", id="missing"),
        pytest.param(lambda path: path.write_bytes(b"PAR1"), "CorruptPart", id="corrupt"),
    ],
)
def test_an_unreadable_part_withdraws_the_symbol_until_it_can_be_read(
    volume, start, clock, workload, caplog, damage, kind
):
    runner = start()
    volume.commit(60, clock.now)
    drain(runner)
    assert ("merge_time_diff_ms_p99", "BTCUSDT", "") in scrape(workload, runner)
    entry = volume.commit(20, clock.now)
    path = volume.data_path / entry.parts[0].path
    good = path.read_bytes()
    damage(path)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.now += RETRY_SECONDS
            drain(runner)
    assert len(caplog.records) == 1
    shown = scrape(workload, runner)
    names = {metric.name for metric in CORE_METRICS}
    assert not any(name in names for name, _, _ in shown)
    assert not any(name in (EVIDENCE_SAMPLES, WARMUP) for name, _, _ in shown)
    assert dict(runner.state.errors) == {kind: 3}
    path.write_bytes(good)
    clock.now += RETRY_SECONDS
    drain(runner)
    shown = scrape(workload, runner)
    assert ("merge_time_diff_ms_p99", "BTCUSDT", "") in shown
    assert shown[HEARTBEAT, "BTCUSDT", ""] == clock.now


def test_a_bucket_gives_what_a_volume_gives(volume, start, clock, s3):
    for seconds in (60, 1, 200):
        volume.commit(seconds, clock.now)
    bucket = open_storage(f"s3://{s3.make_bucket()}/default/demo")
    source = open_storage(str(volume.data_path))
    there = start(storage=bucket)
    drain(there)
    for item in sorted(source.find(""), key=lambda item: item.key):
        bucket.put(item.key, source.read(item.key))
    here = start()
    clock.now += 1  # an evaluation is due again
    for runner in (here, there):
        drain(runner)
    assert here.state.evaluation == there.state.evaluation
    assert there.state.entries_read == 3


def test_an_unreadable_manifest_entry_withdraws_the_symbol_too(volume, start, clock):
    runner = start()
    volume.commit(60, clock.now)
    drain(runner)
    path = volume.data_path / "manifest" / "symbol=BTCUSDT" / "0000000001.json"
    path.write_bytes(b"{")
    clock.now += 1
    drain(runner)
    assert runner.state.error == "CorruptEntry"


ROW = {"trade_id": 1, "ts": 1_000, "ingest": 1, "z_cvd": 0.5}
CVD = {field.name: field for field in SCHEMAS[Kind.CVD]}


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        pytest.param([CVD["trade_id"], CVD["ts"], CVD["ingest"]], ROW, id="lacks z_cvd"),
        pytest.param(
            [CVD["trade_id"], CVD["ts"], CVD["ingest"], pa.field("z_cvd", pa.string())],
            {**ROW, "z_cvd": "high"},
            id="z_cvd is text",
        ),
        pytest.param(
            [CVD["trade_id"], CVD["ts"], pa.field("ingest", pa.int64()), CVD["z_cvd"]],
            {**ROW, "ingest": None},
            id="ingest is null",
        ),
    ],
)
def test_a_part_of_another_shape_is_an_error_and_not_a_crash(volume, start, fields, row):
    part = volume.write_part(Kind.CVD, [row], pa.schema(fields))
    volume.write_entry([part], 1_000)
    runner = start()
    drain(runner)
    assert runner.state.error == "CorruptPart"


def test_a_score_that_is_not_finite_counts_as_none(volume, start, clock):
    volume.commit(200, clock.now)
    scores = {**ROW, "ingest": volume.ingest + 1, "ts": 1_777_618_999_500, "z_cvd": float("inf")}
    feature = {
        "ts": 1_777_619_000_000,
        "ingest": volume.ingest + 2,
        "mid": float("-inf"),
        "ofi": 0.0,
        "z_ofi": 1.0,
        "tps": 1.0,
        "regime": "quiet",
        "gap_epoch": 0,
        "quality": 0,
    }
    scores |= {"delta": 1.0, "delta_qty": 1.0, "cvd": 1.0, "floor_hit": False}
    parts = [volume.write_part(Kind.FEATURE, [feature]), volume.write_part(Kind.CVD, [scores])]
    volume.write_entry(parts, feature["ts"], clock.now)
    runner = start()
    drain(runner)
    assert runner.state.evaluation is not None
    volume.second, volume.ingest = 201, volume.ingest + 2
    volume.commit(20, clock.now)
    before = runner.state.evaluation.masked["cvd_warmup"]
    clock.now += 1
    drain(runner)
    assert runner.state.evaluation.masked["cvd_warmup"] == before + 1
