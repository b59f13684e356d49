"""The curves of a report out of a real Prometheus, which has what the analysis itself exported."""

from __future__ import annotations

import json
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

from signalcanary.cli import main
from signalcanary.contract import SignalConfig, Track
from signalcanary.report import CurvesOf, Report

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
