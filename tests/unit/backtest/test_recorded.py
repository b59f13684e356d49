"""Replays of what was recorded: from frames, files and answers to range queries."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest import (
    Outcome,
    RecordingError,
    Replay,
    export,
    replay_recording,
    run,
    tables,
    target_of,
)
from signalcanary.backtest.replay import Kind
from signalcanary.backtest.report import FORMAT, MOST_TOLD, render_json, render_text
from signalcanary.contract import (
    EVIDENCE_BOUND,
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HEARTBEAT,
    WARMUP,
)
from signalcanary.evaluate import Verdict

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
STEP = timedelta(seconds=10)
ECE, AUC = "platt_ece", "slice_auc_active_period"

SPEC: dict[str, Any] = {
    "version": "v2",
    "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]},
    "stages": [{"name": "shadow", "duration": "5m"}, {"name": "canary", "duration": "15m"}],
    "rollback": {"conditions": [{"metric": ECE, "above": 0.1, "for": "2m", "mode": "literal"}]},
}
TARGET = target_of(SignalCanarySpec.model_validate(SPEC), "default", "demo")


def columns(values: dict[int, float | None], looks: int = 140) -> dict[str, list[Any]]:
    """One value of ECE every 10 s, 0.05 but for those given."""
    return {
        "time": [START + STEP * n for n in range(looks)],
        "metric": [ECE] * looks,
        "symbol": ["BTCUSDT"] * looks,
        "value": [values.get(n, 0.05) for n in range(looks)],
        "samples": [1_800] * looks,
    }


BAD = columns(dict.fromkeys(range(60, 140), 0.2))


# ------------------------------------------------------------------ the replay


def test_a_good_canary_is_promoted_when_its_stages_are_over() -> None:
    replay = run(SPEC, columns({}))
    assert replay.outcome is Outcome.PROMOTED
    assert replay.decided is not None
    assert replay.decided.time == START + timedelta(minutes=20) + STEP  # and a look to be ready
    assert replay.looks == 122


def test_a_breach_is_told_when_it_begins_and_when_it_decides() -> None:
    replay = run(SPEC, BAD)
    (breach,) = [e for e in replay.story if e.kind is Kind.BREACH]
    assert breach.time == START + 60 * STEP
    assert breach.message == "platt_ece on BTCUSDT is 0.2 (> 0.1)"
    assert breach.next == ("rolls back in 2m, at about 08:12:00 UTC, unless platt_ece > 0.1 ends")
    assert replay.decided is not None
    assert replay.decided.time == breach.time + timedelta(minutes=2)
    assert replay.breached[f"{ECE}>0.1", "BTCUSDT"] == timedelta(minutes=2)


def test_a_breach_that_ends_in_time_rolls_nothing_back() -> None:
    replay = run(SPEC, columns(dict.fromkeys(range(60, 72), 0.2)))
    assert replay.outcome is Outcome.PROMOTED
    assert [e.kind for e in replay.story if e.kind is not Kind.PHASE] == [
        Kind.BREACH,
        Kind.RECOVERY,
    ]


def test_data_that_ends_before_the_rollout_decides_nothing() -> None:
    replay = run(SPEC, columns({}, looks=50))
    assert replay.outcome is Outcome.GOING_ON
    assert replay.decided is None
    assert replay.next.startswith("the promotion in ")


def test_a_value_that_is_missing_holds_the_clock() -> None:
    replay = run(SPEC, columns(dict.fromkeys(range(20, 50)), looks=200))
    (hold,) = [e for e in replay.story if e.kind is Kind.HOLD]
    assert hold.message == "analysis gives no value of platt_ece on BTCUSDT"
    assert replay.decided is not None
    assert replay.decided.time == START + timedelta(minutes=25) + STEP


def test_a_hole_in_the_rows_is_a_silence() -> None:
    table = columns({})
    keep = [n for n in range(140) if not 20 <= n < 100]
    replay = run(SPEC, {name: [column[n] for n in keep] for name, column in table.items()})
    assert replay.outcome is Outcome.ROLLED_BACK
    assert replay.decided is not None
    assert replay.decided.reason == "CanarySilent"


def test_evidence_in_a_table_is_judged_at_the_level_of_the_spec() -> None:
    spec = SPEC | {"rollback": {"conditions": [{"metric": AUC, "below": 0.55}]}}
    rows = [
        (START + STEP * n, AUC, "BTCUSDT", 0.52, 1_800, level, upper)
        for n in range(20)
        for level, upper in ((0.05, 0.549), (0.5, 0.53))
    ]
    names = ("time", "metric", "symbol", "value", "samples", "level", "upper")
    replay = run(spec, dict(zip(names, zip(*rows, strict=True), strict=True)))
    assert replay.outcome is Outcome.ROLLED_BACK
    point = replay.curves[f"{AUC}<0.55", "BTCUSDT"][0]
    assert (point.upper, point.verdict) == (0.549, Verdict.BREACHED)


# ------------------------------------------------------------------ frames and tables


def as_csv(table: dict[str, list[Any]], folder: Path) -> Any:
    polars.DataFrame(table).write_csv(folder / "t.csv")
    return tables.read_table(folder / "t.csv")


def as_parquet(table: dict[str, list[Any]], folder: Path) -> Any:
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "t.parquet")
    return tables.read_table(folder / "t.parquet")


@pytest.mark.parametrize("values", [{}, dict.fromkeys(range(20, 50))], ids=["full", "with nulls"])
@pytest.mark.parametrize(
    "shape",
    [
        lambda table, _: polars.DataFrame(table),
        lambda table, _: pandas.DataFrame(table),
        lambda table, _: pyarrow.table(table),
        as_csv,
        as_parquet,
    ],
    ids=["polars", "pandas", "pyarrow", "csv", "parquet"],
)
def test_a_table_is_the_same_in_every_shape(
    shape: Any, values: dict[int, float | None], tmp_path: Path
) -> None:
    table = columns(values)
    assert render_json(run(SPEC, shape(table, tmp_path))) == render_json(run(SPEC, table))


@pytest.mark.parametrize("time", [START.timestamp(), str(START.timestamp()), START.isoformat()])
def test_times_may_be_numbers_or_text(time: Any) -> None:
    table = columns({}, looks=1) | {"time": [time]}
    assert run(SPEC, table).started == START - STEP


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"metric": ["nonsense"]}, "row 1: unknown metric 'nonsense': write one of"),
        ({"time": ["yesterday"]}, "row 1: "),
        ({"time": [True and -5]}, "row 1: time is -5: write a timestamp"),
        ({"value": ["much"]}, "row 1: value is 'much', which is no number"),
        ({"lower": [0.1]}, "row 1: lower is given without a level"),
    ],
)
def test_a_wrong_row_is_named(change: dict[str, list[Any]], complaint: str) -> None:
    with pytest.raises(RecordingError) as caught:
        run(SPEC, columns({}, looks=1) | change)
    assert str(caught.value).startswith(complaint)


def test_two_values_at_one_time_are_refused() -> None:
    table = columns({}, looks=2)
    table["time"][1] = table["time"][0]
    table["value"][1] = 0.9
    with pytest.raises(RecordingError, match="row 2: another value of platt_ece"):
        run(SPEC, table)


def test_a_table_without_a_column_or_rows_is_refused() -> None:
    with pytest.raises(RecordingError, match="lacks the column value"):
        run(SPEC, {"time": [], "metric": [], "symbol": []})
    with pytest.raises(RecordingError, match="no rows"):
        run(SPEC, columns({}, looks=0))
    with pytest.raises(RecordingError, match="int is no frame"):
        run(SPEC, 5)


# ------------------------------------------------------------------ answers of Prometheus


def answers(
    looks: int = 140,
    ece: Any = lambda n: 0.05,
    step: timedelta = STEP,
    gone: range = range(0),
    **labels: str,
) -> list[Any]:
    """What query_range says of the series that the demo's canary exports."""
    base = {
        "namespace": "default",
        "signalcanary": "demo",
        "track": "canary",
        "revision": TARGET.revision,
        "symbol": "BTCUSDT",
    } | labels
    times = [(START + step * n).timestamp() for n in range(looks)]

    def series(name: str, value: Any, **more: str) -> Any:
        values = [[t, repr(float(value(n)))] for n, t in enumerate(times) if n not in gone]
        result = [{"metric": {"__name__": name} | base | more, "values": values}]
        return {"status": "success", "data": {"resultType": "matrix", "result": result}}

    return [
        series(ECE, ece),
        series(EVIDENCE_TIMESTAMP, lambda n: times[n] - 1, metric=ECE),
        series(EVIDENCE_SAMPLES, lambda n: 1_800, metric=ECE),
        series(HEARTBEAT, lambda n: times[n] - 1),
        series(WARMUP, lambda n: 1),
    ]


def replayed(documents: list[Any], **changes: Any) -> Replay:
    spec = SignalCanarySpec.model_validate(SPEC | changes)
    target = target_of(spec, "default", "demo")
    return replay_recording(spec, export.build_recording(documents), target)


def test_an_export_says_what_the_table_says() -> None:
    recorded = replayed(answers(ece=lambda n: 0.2 if n >= 60 else 0.05))
    assert recorded.decided == run(SPEC, BAD).decided


@pytest.mark.parametrize("name", ["e.json", "e.json.gz"])
def test_an_export_file_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    export.write_export(tmp_path / name, answers())
    assert export.read_export(tmp_path / name) == export.build_recording(answers())


def test_an_export_may_have_any_layout(tmp_path: Path) -> None:
    text = "".join(json.dumps(a, indent=1) for a in answers())
    (tmp_path / "e.json").write_text(text)
    assert export.read_export(tmp_path / "e.json") == export.build_recording(answers())


def test_pieces_of_a_series_are_put_together() -> None:
    whole = export.build_recording(answers())
    cut = [json.loads(json.dumps(a)) for a in answers() for _ in range(2)]
    for first, second in zip(cut[::2], cut[1::2], strict=True):
        del first["data"]["result"][0]["values"][70:]
        del second["data"]["result"][0]["values"][:70]
    assert export.build_recording(cut) == whole


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "line 1: this is not JSON"),
        ("[]", "answer 1 is no success"),
        ('{"status": "error", "error": "bad query"}', "no success: bad query"),
        ('{"status": "success", "warnings": ["w"], "data": {}}', "partial"),
        ('{"status": "success", "data": {"resultType": "vector"}}', "ask /api/v1/query_range"),
        ('{"status": "success", "data": {"resultType": "matrix", "result": [{}]}}', "no answer"),
        ("", "holds no series"),
    ],
)
def test_what_is_no_export_is_refused_in_words(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(RecordingError) as caught:
        export.read_export(tmp_path / "e.json")
    assert complaint in str(caught.value)
    (tmp_path / "e.json.gz").write_bytes(gzip.compress(b"\xff"))
    with pytest.raises(RecordingError):
        export.read_export(tmp_path / "e.json.gz")


def test_a_series_that_ends_is_no_longer_there() -> None:
    replay = replayed(answers(gone=range(30, 95)))
    assert replay.decided is not None
    assert (replay.decided.reason, replay.outcome) == ("CanarySilent", Outcome.ROLLED_BACK)


def test_an_analysis_that_hangs_is_silent_though_its_series_go_on() -> None:
    documents = answers()
    for document in documents[1], documents[3]:
        for sample in document["data"]["result"][0]["values"][30:]:
            sample[1] = repr(START.timestamp() + 299)
    assert replayed(documents).story[-1].phase.value == "RolledBack"


def test_a_step_that_is_coarser_than_a_look_is_said() -> None:
    replay = replayed(answers(looks=60, step=timedelta(seconds=30)))
    assert "looked every 30s" in replay.notes[0]
    assert replay.outcome is Outcome.PROMOTED


def test_a_step_over_which_no_clock_runs_is_refused() -> None:
    with pytest.raises(RecordingError, match="a sample every 5m is too few"):
        replayed(answers(step=timedelta(minutes=5)))


def test_the_only_recorded_revision_is_judged_and_named() -> None:
    replay = replayed(answers(revision="0badcafe"))
    assert replay.outcome is Outcome.PROMOTED
    assert "the data is of revision 0badcafe" in replay.notes[0]


def test_of_several_revisions_one_must_be_chosen() -> None:
    both = answers(revision="0badcafe") + answers(revision="deadbeef")
    with pytest.raises(RecordingError, match="--revision deadbeef"):
        replayed(both)


def test_what_is_of_another_canary_is_not_judged() -> None:
    with pytest.raises(RecordingError, match="only of default/other"):
        replayed(answers(signalcanary="other"))
    with pytest.raises(RecordingError, match="no canary in the recorded data"):
        replayed(answers(track="stable"))


def test_the_stable_track_is_the_control_and_is_named() -> None:
    gone = range(30, 95)
    documents = answers(gone=gone) + answers(track="stable", revision="51ab1e00", gone=gone)
    # Both are silent: the last heartbeat of the stable track is still there, and old.
    beats = documents[8]["data"]["result"][0]["values"]
    first, second = (START + STEP * 29).timestamp(), (START + STEP * 95).timestamp()
    filled = [[first + 10 * n, repr(first)] for n in range(1, 66)]
    beats[:] = [b for b in beats if b[0] <= first] + filled + [b for b in beats if b[0] >= second]
    replay = replayed(documents)
    assert replay.outcome is Outcome.GOING_ON
    bad = replayed(answers(ece=lambda n: 0.2) + answers(track="stable", revision="51ab1e00"))
    assert bad.message.endswith("v2 has no pod any more, and revision 51ab1e00 serves")


def test_bounds_are_read_with_their_ends() -> None:
    documents = answers(ece=lambda n: 0.2)
    bounds = json.loads(json.dumps(documents[0]))
    for side, value in (("lower", 0.11), ("upper", math.inf)):
        series = json.loads(json.dumps(bounds["data"]["result"][0]))
        more = {"metric": ECE, "level": "0.05", "side": side, "window": "now"}
        series["metric"] |= {"__name__": EVIDENCE_BOUND} | more
        series["values"] = [
            [t, "+Inf" if value == math.inf else str(value)] for t, _ in series["values"]
        ]
        documents.append(
            {"status": "success", "data": {"resultType": "matrix", "result": [series]}}
        )
    guarded = {"rollback": {"conditions": [{"metric": ECE, "above": 0.1, "for": "2m"}]}}
    replay = replayed(documents, **guarded)
    assert replay.decided is not None
    assert replay.curves[f"{ECE}>0.1", "BTCUSDT"][0].lower == 0.11
    assert not any("no bounds" in note for note in replay.notes)


def test_values_without_bounds_are_judged_as_the_operator_would_and_that_is_said() -> None:
    guarded = {"rollback": {"conditions": [{"metric": ECE, "above": 0.1}]}}
    once = replayed(answers(ece=lambda n: 0.2 if n == 30 else 0.05), **guarded)
    assert once.outcome is Outcome.PROMOTED
    assert once.notes == [
        "platt_ece > 0.1: no bounds are recorded beside it, so its value was judged, as the "
        "operator judges a metric that comes without (a breach must be seen for 2m and at 3 "
        "evaluations in a row); with bounds (signal_evidence_bound) it may have been decided "
        "otherwise"
    ]
    assert replayed(answers(ece=lambda n: 0.2), **guarded).outcome is Outcome.ROLLED_BACK
    literal = {"rollback": {"conditions": [{"metric": ECE, "above": 0.1, "mode": "literal"}]}}
    assert replayed(answers(), **literal).notes == []


# ------------------------------------------------------------------ the report


def test_the_text_tells_the_story() -> None:
    text = render_text(run(SPEC, BAD))
    assert "ROLLED BACK after 12m10s, at 2026-05-01 08:12:00 UTC (ConditionBreached):" in text
    assert "+10m10s    breached     platt_ece on BTCUSDT is 0.2 (> 0.1)" in text
    assert "→ rolls back in 2m, at about 08:12:00 UTC" in text
    # Why is told once in full, and begun where it happened.
    assert text.count("RollingBack  rolling back v2: platt_ece > 0.1 for 2m on BTCUSDT: ") == 1
    assert text.count("would have kept it") == 1
    assert "stage canary (2 of 2) started, 15m to observe" in text
    assert "BTCUSDT: platt_ece>0.1: 0.05 to 0.2; breached 1 time, for 2m in all" in text


def test_what_a_promotion_rests_on_is_told_once() -> None:
    text = render_text(run(SPEC, columns({})))
    assert "Promoting    every stage passed (2, 20m observed) …" in text
    assert text.count("closest to its bound") == 1


def test_a_policy_that_flaps_is_told_in_few_lines() -> None:
    replay = run(SPEC, columns(dict.fromkeys(range(0, 140, 2), 0.2)))
    text = render_text(replay)
    told = text.count(" breached   ") + text.count(" recovered  ")
    assert told == MOST_TOLD + 1  # what happened at the last look is told in any case
    assert "more breaches, recoveries and holds" in text
    assert len(render_json(replay)["story"]) > 100


def test_the_json_keeps_its_shape() -> None:
    document = render_json(run(SPEC, BAD))
    assert json.loads(json.dumps(document)) == document
    assert document["format"] == FORMAT
    assert list(document) == [
        "format",
        "outcome",
        "decision",
        "canary",
        "from",
        "to",
        "looks",
        "status",
        "story",
        "conditions",
        "notes",
    ]
    assert document["decision"]["afterSeconds"] == 730.0
    (condition,) = document["conditions"]
    assert (condition["breachedSeconds"], condition["looks"]["Breached"]) == (120.0, 13)
    assert {e["kind"] for e in document["story"]} == {"phase", "breach"}
