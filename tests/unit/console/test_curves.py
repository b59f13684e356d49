"""The curves of a report: read out of series, told, and drawn."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from console_kit import SPEC, STABLE, START, Story, rolled_back
from test_report import check_page

from signalcanary import contract
from signalcanary.api import SignalCanarySpec
from signalcanary.evaluate import MetricsSeen
from signalcanary.metrics_source import Series
from signalcanary.report import CurvesOf, Report, build_config_map, build_report, render_markdown
from signalcanary.report_curves import (
    MOST_SYMBOLS,
    choose_symbols,
    curve_query,
    with_curves,
    without_curves,
)
from signalcanary.report_page import render_page
from signalcanary.report_plots import draw_calibration, draw_rocs
from signalcanary.resources import Owner

AT = START + timedelta(minutes=24)
BINS = {"0.3-0.4": (0.37, 0.41, 900, 210), "0.5-0.6": (0.53, 0.52, 4_000, 800)}
THIN = {"0.9-1": (0.93, 1.0, 3, 1)}
SLICES = ("all", "active_period")


def exported(
    symbol: str,
    revision: str,
    track: str = "canary",
    bins: dict[str, tuple[float, float, int, int]] = BINS | THIN,
    **labels: str,
) -> list[Series]:
    """What analysis exports of a symbol."""
    common = {
        "namespace": "trading",
        "signalcanary": "demo",
        "track": track,
        "revision": revision,
        "symbol": symbol,
        "horizon": "10s",
        **labels,
    }
    found = []

    def add(name: str, value: float, /, **more: str) -> None:
        found.append(Series(name, {**common, **more}, value))

    for name, (predicted, observed, rows, worth) in bins.items():
        half = 0.9 / worth**0.5
        add(contract.RELIABILITY_PREDICTED, predicted, bin=name)
        add(contract.RELIABILITY_OBSERVED, observed, bin=name)
        add(contract.RELIABILITY_LOWER, max(0, observed - half), bin=name)
        add(contract.RELIABILITY_UPPER, min(1, observed + half), bin=name)
        add(contract.RELIABILITY_SAMPLES, rows, bin=name)
        add(contract.RELIABILITY_EFFECTIVE_SAMPLES, worth, bin=name)
    for metric, value in (
        (contract.CALIBRATION_ERROR, 0.05),
        (contract.CALIBRATION_ERROR_LOWER, 0.02),
        (contract.CALIBRATION_ERROR_UPPER, 0.08),
    ):
        add(metric, value, binning="equal_width")
        add(metric, value / 2, binning="equal_mass")
    for split, rows in (("train", 7_200), ("test", 4_903)):
        add(contract.CALIBRATION_SAMPLES, rows, split=split)
    add(contract.CALIBRATION_EFFECTIVE_SAMPLES, 900.9, split="test")
    for which in SLICES if bins else ():
        for step in range(1, 20):
            x = step / 20
            add(contract.ROC_TRUE_POSITIVES, x**0.7, slice=which, false_positive_ratio=f"{x:g}")
        for metric, value in (
            (contract.AUC, 0.58),
            (contract.AUC_LOWER, 0.55),
            (contract.AUC_UPPER, 0.61),
            (contract.AUC_SAMPLES, 4_903),
            (contract.AUC_EFFECTIVE_SAMPLES, 1_010.4),
        ):
            add(metric, value, slice=which)
    add(
        contract.VALUE_VALID,
        float(bool(bins)),
        metric="platt_ece",
        reason="" if bins else "warming",
    )
    add(contract.VALUE_VALID, 0.0, metric="slice_auc_tokyo_session", reason="too_few_rows")
    add(contract.VALUE_VALID, 0.0, metric="slice_auc_ny_session", reason="too_few_rows")
    # Other horizons have an AUC, and no curve.
    found.append(Series(contract.AUC, {**common, "horizon": "1m", "slice": "all"}, 0.51))
    return found


@pytest.fixture(scope="module")
def report() -> Report:
    return build_report(rolled_back().item())


def both(report: Report) -> list[Series]:
    canary = report.canary.name
    return [
        *exported("BTCUSDT", canary),
        *exported("BTCUSDT", STABLE.name, "stable"),
        *exported("ETHUSDT", canary, bins={}),
    ]


def test_the_query_names_this_canary_alone() -> None:
    query = curve_query("trading", 'de"mo')
    assert 'namespace="trading",signalcanary="de\\"mo"}' in query
    assert contract.ROC_TRUE_POSITIVES in query


def test_each_track_has_its_points_and_what_is_not_there_its_reason(report: Report) -> None:
    got = with_curves(report, both(report), AT)
    btc, stable, eth = got.curves
    assert [(c.symbol, c.track) for c in got.curves] == [
        ("BTCUSDT", "canary"),
        ("BTCUSDT", "stable"),
        ("ETHUSDT", "canary"),
    ]
    assert stable.revision == STABLE.name
    assert [(b.low, b.high, b.samples) for b in btc.calibration] == [
        (0.3, 0.4, 900),
        (0.5, 0.6, 4_000),
        (0.9, 1.0, 3),
    ]
    assert [roc.slice for roc in btc.roc] == ["all", "active_period"]
    assert (btc.roc[0].auc, btc.roc[0].samples, btc.roc[0].effective_samples) == (0.58, 4903, 1010)
    assert [(p.false_positives, p.true_positives) for p in btc.roc[0].points][::20] == [
        (0.0, 0.0),
        (1.0, 1.0),
    ]
    too_few = "fewer than 100 labelled rows lay in the test window."
    assert btc.missing == (f"There is no ROC curve of tokyo_session, ny_session: {too_few}",)
    assert eth.missing[0] == (
        "There is no calibration curve: the calibration windows were not filled yet."
    )
    assert (got.curves_time, got.curves_missing) == (AT, "")


def test_what_the_source_has_forgotten_is_said(report: Report) -> None:
    got = with_curves(report, [], AT)
    assert [c.missing for c in got.curves] == [
        (
            "The metrics source has nothing of the canary's analysis at 2026-05-01 12:24:00 UTC: "
            "it was not scraped then, or the source has forgotten it.",
        )
    ] * 2
    older = [s for s in exported("BTCUSDT", report.canary.name) if "valid" in s.metric]
    (btc, _) = with_curves(report, older, AT).curves
    assert "analysis exported none beside its values" in btc.missing[0]


def test_series_of_others_and_of_two_processes_are_never_mixed(report: Report) -> None:
    canary = report.canary.name
    few = {"0.3-0.4": (0.2, 0.9, 10, 10)}
    series = [
        *exported("BTCUSDT", canary, bins=few, pod="old"),
        *exported("BTCUSDT", canary, pod="new"),
        # Promoting, the new revision starts as stable, too: that is no comparison.
        *exported("BTCUSDT", canary, "stable", bins=few),
        *exported("BTCUSDT", canary, bins=few, signalcanary="other"),
        *exported("BTCUSDT", canary, bins=few, namespace="other"),
    ]
    (btc, _) = with_curves(report, series, AT).curves
    assert (btc.track, [b.samples for b in btc.calibration]) == ("canary", [900, 4000, 3])


def test_after_the_promotion_the_revision_is_found_on_the_stable_track(report: Report) -> None:
    series = exported("BTCUSDT", report.canary.name, "stable")
    (btc, _) = with_curves(report, series, AT).curves
    assert (btc.track, len(btc.calibration)) == ("canary", 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_point(report: Report, value: float) -> None:
    series = [
        replace(s, value=value) if s.labels.get("bin") == "0.3-0.4" else s for s in both(report)
    ]
    series += [
        replace(s, labels={**s.labels, "bin": "high"}) for s in both(report) if "bin" in s.labels
    ]
    (btc, *_) = with_curves(report, series, AT).curves
    assert [b.low for b in btc.calibration] == [0.5, 0.9]


def many() -> Report:
    symbols = [f"S{n:03d}USDT" for n in range(40)]
    spec = SPEC.to_wire() | {"symbols": {"canary": symbols, "full": symbols}}
    story = Story(SignalCanarySpec.model_validate(spec))
    story.look(MetricsSeen())
    story.looks(20)
    return build_report(story.item())


def test_of_very_many_symbols_a_few_are_kept_and_they_fit_into_a_config_map() -> None:
    report = many()
    bad = build_report(rolled_back().item()).conditions[0].model_copy(update={"symbol": "S033USDT"})
    report = report.model_copy(update={"conditions": (bad,)})
    assert choose_symbols(report)[-1] == "S033USDT"
    bins = {f"{n / 10:g}-{(n + 1) / 10:g}": (n / 10 + 0.05, n / 10, 9_999, 999) for n in range(10)}
    series = [
        one
        for symbol in report.symbols
        for track, revision in (("canary", report.canary.name), ("stable", STABLE.name))
        for one in exported(symbol, revision, track, bins=bins)
    ]
    got = with_curves(report, series, AT)
    assert len({c.symbol for c in got.curves}) == MOST_SYMBOLS
    assert got.curves_missing == "Of 32 more symbols no curves are kept."
    assert len(json.dumps(build_config_map(Owner("trading", "demo", "u-1"), got))) < 200_000


# ------------------------------------------------------------------ its forms


def test_markdown_has_a_row_a_bin_and_a_row_a_slice(report: Report) -> None:
    text = render_markdown(with_curves(report, both(report), AT))
    assert "| BTCUSDT | canary | 0.3–0.4 | 0.370 | 0.410 | 0.348 to 0.472 | 900 | 210 |" in text
    row = "| BTCUSDT | stable | active_period | 0.58 | 0.55 to 0.61 | 4,903 | 1,010 | 0.1995 |"
    assert row in text
    assert "- ETHUSDT, canary: There is no calibration curve" in text
    none = render_markdown(without_curves(report, "because"))
    assert "## Calibration" not in none
    assert "- because" in none


def test_a_report_with_curves_reads_back(report: Report) -> None:
    got = with_curves(report, both(report), AT)
    wire = got.model_dump_json(by_alias=True, exclude_none=True)
    assert Report.model_validate_json(wire) == got
    assert without_curves(got, "because") == got


def test_the_page_draws_them_and_says_what_it_does_not_draw(report: Report) -> None:
    text = render_page(with_curves(report, both(report), AT), None, [])
    check_page(text)
    assert text.count('aria-label="calibration curve of BTCUSDT;') == 1
    assert text.count('aria-label="ROC curve of BTCUSDT, ') == 2
    assert "ROC curve of ETHUSDT" not in text
    assert "There is no calibration curve: the calibration windows were not filled yet." in text
    few = "Not drawn, as worth fewer than 10 independent rows: p of 0.9–1 (3 rows)."
    assert f"Canary and stable: {few}" in text
    assert "canary 0.050, truly 0.020–0.080<br>4,903 rows, worth 900" in text
    # The axes have the usual names, and the text says what they are here.
    assert text.count(">False positive rate<") == text.count(">True positive rate<") == 2
    assert text.count(">Mean predicted probability<") == text.count(">Fraction of positives<") == 1
    assert "A positive is a rise" in text
    assert "the false positive rate the share of the falls that it takes for rises" in text
    check_page(render_page(without_curves(report, "left <out>"), None, []))
    assert "left &lt;out&gt;" in render_page(without_curves(report, "left <out>"), None, [])


def curves_of(**bins: Any) -> CurvesOf:
    report = build_report(rolled_back().item())
    series = exported("BTCUSDT", report.canary.name, bins=bins)
    return with_curves(report, series, AT).curves[0]


@pytest.mark.parametrize(
    "bins",
    [
        pytest.param(BINS, id="two"),
        pytest.param({"0.5-0.6": (0.55, 0.55, 100, 9_000)}, id="one"),
        pytest.param({"0-0.1": (0.0, 0.0, 100, 50), "0.9-1": (1.0, 1.0, 90, 10)}, id="corners"),
    ],
)
def test_every_point_and_interval_lies_inside_the_frame(bins: dict[str, Any]) -> None:
    drawn = draw_calibration("BTCUSDT", {"canary": curves_of(**bins)})
    circles = re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', drawn)
    assert len(circles) == len(bins)
    ends = re.findall(r'<line x1="([^"]+)" x2="\1" y1="([^"]+)" y2="([^"]+)" stroke="#00', drawn)
    assert len(ends) == len(bins)
    for x, y in circles:
        assert 44 <= float(x) <= 294
        assert 8 <= float(y) <= 258
    for _, top, bottom in ends:
        assert 8 <= float(top) <= float(bottom) <= 258


def test_a_point_above_the_diagonal_is_drawn_above_it() -> None:
    drawn = draw_calibration("BTCUSDT", {"canary": curves_of(**BINS)})
    (x1, y1), (x2, y2) = (
        (float(x), float(y)) for x, y in re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', drawn)
    )
    # The diagonal of the square: where x − left + y − top is its side.
    assert (x1 - 44) + (y1 - 8) < 250 < (x2 - 44) + (y2 - 8)
    assert x1 < x2


def test_a_roc_curve_runs_from_corner_to_corner() -> None:
    drawn = draw_rocs("BTCUSDT", {"canary": curves_of(**BINS)})
    for points in re.findall(r'<polyline points="([^"]+)"', drawn):
        places = [tuple(map(float, pair.split(","))) for pair in points.split()]
        assert (places[0], places[-1]) == ((38.0, 134.0), (166.0, 6.0))
        assert all(b[0] > a[0] and b[1] <= a[1] for a, b in pairwise(places))


def test_without_any_bin_or_slice_nothing_is_drawn() -> None:
    thin = {"canary": curves_of(**THIN)}
    assert draw_calibration("BTCUSDT", thin) == ""
    assert draw_rocs("BTCUSDT", {"canary": CurvesOf(symbol="BTCUSDT", track="canary")}) == ""
