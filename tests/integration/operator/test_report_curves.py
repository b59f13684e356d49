"""The curves of a report out of a real Prometheus, which has what the analysis itself exported."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from api_server import ADMIN, ApiServer
from report_kit import Analysis, Market, open_metrics, recorded_prometheus
from scenes import Stage

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "console"))

from console_kit import STABLE, START, rolled_back

from signalcanary.api import SignalCanarySpec
from signalcanary.cli import main
from signalcanary.console import report_command
from signalcanary.console.access import AccessError
from signalcanary.contract import EVIDENCE_BOUND, SignalConfig, Track
from signalcanary.metrics_source import Series, SourceUnreachable, build_target
from signalcanary.prometheus import Prometheus
from signalcanary.report import CurvesOf, Report, build_report
from signalcanary.report_history import (
    bound_query,
    choose_rows,
    choose_step,
    draw_history,
    read_curve,
)
from signalcanary.sources import SourceConfig, Sources

DECIDED = START + timedelta(minutes=24)
SIGNAL = {"calibration": {"train": "20m", "test": "1h", "refit": "10m"}}
CONFIGURATIONS = {
    Track.CANARY: {"ofi": 1.0, "cvd": 0.0},
    Track.STABLE: {"ofi": 0.0, "cvd": 1.0},
}


def signal_of(track: Track) -> SignalConfig:
    weights = CONFIGURATIONS[track]
    fusion = dict.fromkeys(("baseline", "active", "quiet"), weights)
    return SignalConfig.model_validate({**SIGNAL, "fusion": fusion})


Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prometheus(
    tmp_path: Path, api: ApiServer, namespace: str, promtool: str, prometheus_program: str
) -> Iterator[str]:
    """What was exported at the decision: BTCUSDT by both tracks; ETHUSDT by the canary's alone,
    whose windows are not filled yet."""
    story = rolled_back()
    Stage(api, namespace).put("demo", story)
    series = []
    for symbol, hours, tracks in (("BTCUSDT", 2.0, Track), ("ETHUSDT", 0.5, [Track.CANARY])):
        span = timedelta(hours=hours)
        market = Market(3, DECIDED - span, span)
        for track in tracks:
            revision = story.target.name if track is Track.CANARY else STABLE.name
            whose = (namespace, "demo", track, revision)
            series += Analysis(market, symbol, signal_of(track), whose).scrape(DECIDED)
    text = open_metrics([(DECIDED - timedelta(seconds=7), series)])
    with recorded_prometheus(tmp_path, (promtool, prometheus_program), text) as url:
        yield url


@pytest.fixture
def say(api: ApiServer, namespace: str, capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*arguments: str) -> tuple[int, str, str]:
        where = (f"--kubeconfig={api.kubeconfig(ADMIN)}", f"--namespace={namespace}")
        code = main(["report", "demo", *arguments, *where])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_a_source_that_has_nothing_of_that_time_is_told_with_the_time(prometheus: str) -> None:
    item = rolled_back().item()
    report = build_report(item)
    later = {name: getattr(report, name) + timedelta(days=1) for name in ("started", "ended")}
    with pytest.raises(AccessError) as refusal:
        report_command.draw_history(
            report.model_copy(update=later), item, SourceConfig(url=prometheus), None
        )
    told = str(refusal.value)
    assert (
        "has no series of trading/demo between 2026-05-02 12:01:00 UTC and 2026-05-02 12:" in told
    )
    assert "--data FILE" in told


def test_the_curves_are_those_of_the_decision_in_each_form(
    say: Say, prometheus: str, tmp_path: Path
) -> None:
    sources = tmp_path / "sources.yaml"
    sources.write_text(json.dumps({"sources": {"default": {"url": prometheus}}}))
    code, out, _ = say(f"--prometheus={prometheus}", "-o=json")
    assert code == 0
    report = Report.model_validate_json(out)
    assert report.curves_time == DECIDED == report.ended
    curves = {(one.symbol, one.track): one for one in report.curves}
    assert set(curves) == {("BTCUSDT", "canary"), ("BTCUSDT", "stable"), ("ETHUSDT", "canary")}
    check_good(curves["BTCUSDT", "canary"])
    check_good(curves["BTCUSDT", "stable"])
    areas = [curves["BTCUSDT", track].roc[0].auc for track in ("canary", "stable")]
    assert areas[0] is not None
    assert areas[1] is not None
    assert areas[0] > areas[1] + 0.005, "the canary sees the flow itself"
    eth = curves["ETHUSDT", "canary"]
    assert (eth.calibration, eth.roc) == ((), ())
    assert eth.missing[0] == (
        "There is no calibration curve: the calibration windows were not filled yet."
    )

    # The operator's file of sources gives the very same.
    assert say(f"--sources={sources}", "-o=json")[1] == out
    code, out, _ = say(f"--sources={sources}")
    assert code == 0
    assert "## Calibration" in out
    assert "## ROC by slice" in out
    assert "- ETHUSDT, canary: There is no calibration curve" in out


def check_good(one: CurvesOf) -> None:
    assert one.horizon == "10s"
    assert sum(b.samples for b in one.calibration) == one.roc[0].samples
    assert [roc.slice for roc in one.roc][:2] == ["all", "active_period"]
    # The market's own law: the probabilities are right, the score better than a coin.
    held = [b.at_least <= b.predicted <= b.at_most for b in one.calibration]
    assert sum(held) >= len(held) - 1
    for roc in one.roc:
        points = [(p.false_positives, p.true_positives) for p in roc.points]
        assert (points[0], points[-1], len(points)) == ((0, 0), (1, 1), 21)
        assert points == sorted(points)
        area = sum((a[1] + b[1]) / 2 * (b[0] - a[0]) for a, b in pairwise(points))
        assert area == pytest.approx(roc.auc, abs=0.01)


def test_a_source_that_cannot_be_used_is_a_sentence(
    say: Say, tmp_path: Path, api: ApiServer, namespace: str
) -> None:
    Stage(api, namespace).put("demo", rolled_back())
    for options, complaint in (
        (["--prometheus=http://127.0.0.1:1"], "SourceUnreachable: http://127.0.0.1:1"),
        (["--prometheus=nowhere"], "write http://HOST:PORT"),
        (["--source=mimir"], "give --sources FILE too"),
        ([f"--sources={tmp_path / 'none.yaml'}"], "cannot be read"),
    ):
        code, out, err = say(*options)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert complaint in err


async def test_the_operators_picture_shows_what_a_real_prometheus_has(
    tmp_path: Path, promtool: str, prometheus_program: str
) -> None:
    story = rolled_back()
    report = build_report(story.item())
    assert report.ended is not None
    rows = {row: row.evidence.level for row in choose_rows(report) if row.evidence is not None}
    scrapes, at = [], report.started
    while at <= report.ended:
        series = []
        for row, level in rows.items():
            name, labels = (
                row.query.partition("{")[0],
                dict(re.findall(r'(\w+)="([^"]*)"', row.query)),
            )
            series.append(Series(name, labels | {"horizon": "10s"}, 0.2))
            # Of another revision: it is not to be shown.
            series.append(Series(name, labels | {"horizon": "10s", "revision": "other"}, 0.9))
            for side, value in (("lower", 0.15), ("upper", 0.25)):
                for window in ("now", "whole"):
                    bound = {"metric": name, "side": side, "window": window}
                    series += [
                        Series(EVIDENCE_BOUND, {**labels, **bound, "level": text}, value + shift)
                        for text, shift in (("0.05", 1.0), (f"{level:g}", 0.0))
                    ]
        scrapes.append((at, series))
        at += timedelta(seconds=30)
    spec = SignalCanarySpec.model_validate(story.item()["spec"])
    target = build_target(spec, report.namespace, report.name, report.canary.name)
    span = (report.started, report.ended, choose_step(report))
    text = open_metrics(scrapes)
    with recorded_prometheus(tmp_path, (promtool, prometheus_program), text) as url:
        client = Prometheus(SourceConfig(url=url))
        sources = Sources({"default": client}, {})
        curves = []
        for row in rows:
            beside = bound_query(row)
            assert beside is not None
            values = await sources.fetch_history(target, row.query, *span)
            curves.append(
                read_curve(row, values, await sources.fetch_history(target, beside, *span))
            )
        client.close()
    assert curves
    for curve in curves:
        assert {value for _, value in curve.value} == {0.2}
        assert len(curve.value) == (report.ended - report.started) // span[2] + 1
        assert {value for _, value in curve.late} == {0.15 if ">" in curve.row.key else 0.25}
        assert {value for _, value in curve.low} == {0.15}
        assert {value for _, value in curve.high} == {0.25}
    picture = draw_history(report, curves)
    assert picture is not None
    assert "bound of late" in picture
    unreachable = Sources({"default": Prometheus(SourceConfig(url="http://127.0.0.1:1"))}, {})
    with pytest.raises(SourceUnreachable):
        await unreachable.fetch_history(target, "up", *span)
