"""What a report's picture asks for and shows, without a server."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from signalcanary.contract import DIFFERENCE, DIFFERENCE_BOUND, EVIDENCE_BOUND
from signalcanary.report import Interval, Judged, Outcome, Report, Revision
from signalcanary.report_history import (
    MOST_POINTS,
    MOST_ROWS,
    bound_query,
    choose_rows,
    choose_step,
    draw_history,
    read_curve,
)

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)


def judged(symbol: str = "BTCUSDT", verdict: str = "Ok", **changes: Any) -> Judged:
    fields: dict[str, Any] = {
        "symbol": symbol,
        "condition": "platt_ece > 0.1",
        "key": "platt_ece>0.1",
        "verdict": verdict,
        "reason": "WithinBound",
        "message": "-",
        "threshold": 0.1,
        "evidence": Interval(level=0.005),
        "test": "-",
        "query": f'platt_ece{{symbol="{symbol}",horizon=~"10s|"}}',
        "would_change": "-",
    }
    return Judged(**(fields | changes))


def report(*rows: Judged, took: timedelta = timedelta(hours=2)) -> Report:
    return Report(
        namespace="default",
        name="demo",
        outcome=Outcome.PROMOTED,
        canary=Revision(version="v2", name="abc", attempt=2),
        symbols=("BTCUSDT",),
        stages=(),
        started=BEGAN,
        ended=BEGAN + took,
        reason="Promoted",
        message="-",
        next="-",
        timeline=(),
        conditions=rows,
    )


def series(value: float, *offsets: float, **labels: str) -> dict[str, Any]:
    at = BEGAN.timestamp()
    return {"metric": labels, "values": [[at + o, str(value)] for o in offsets]}


def test_those_that_were_not_ok_are_drawn_where_there_are_many() -> None:
    rows = [judged(f"S{n}USDT", "Breached" if n > 20 else "Ok") for n in range(24)]
    chosen = choose_rows(report(*rows, judged("XUSDT", query="")))
    assert len(chosen) == MOST_ROWS
    assert [row.symbol for row in chosen[-3:]] == ["S21USDT", "S22USDT", "S23USDT"]


@pytest.mark.parametrize("took", [timedelta(0), timedelta(seconds=5), timedelta(hours=48)])
def test_a_curve_has_no_more_points_than_are_drawn(took: timedelta) -> None:
    step = choose_step(report(took=took))
    assert step >= timedelta(seconds=1)
    assert took / step <= MOST_POINTS


def test_the_bounds_are_asked_for_by_the_labels_of_the_value() -> None:
    inside = 'symbol="BTCUSDT",horizon=~"10s|"}'
    assert bound_query(judged()) == f'{EVIDENCE_BOUND}{{metric="platt_ece",{inside}'
    paired = judged(query=f'{DIFFERENCE}{{metric="platt_brier",{inside}')
    assert bound_query(paired) == f'{DIFFERENCE_BOUND}{{metric="platt_brier",{inside}'
    assert bound_query(judged(evidence=None)) is None
    assert bound_query(judged(query="vector(1)")) is None


def test_only_the_bound_that_was_judged_by_is_read_and_pods_follow_each_other() -> None:
    bounds = [
        series(0.2, 0, side="lower", window="now", level="0.005"),
        series(0.3, 0, side="lower", window="now", level="0.02"),
        series(0.9, 0, side="upper", window="now", level="0.005"),
        series(0.1, 0, side="lower", window="whole", level="0.005"),
        series(0.4, 0, side="upper", window="whole", level="0.005"),
        series(float("inf"), 30, side="upper", window="whole", level="0.005"),
    ]
    values = [series(0.5, 0, 30, pod="a"), series(0.6, 30, 60, pod="b")]
    curve = read_curve(judged(), values, bounds)
    at = BEGAN.timestamp()
    assert curve.value == ((at, 0.5), (at + 30, 0.6), (at + 60, 0.6))
    assert curve.late == ((at, 0.2),)
    assert (curve.low, curve.high) == (((at, 0.1),), ((at, 0.4),))
    below = judged(key="slice_auc_active_period<0.55")
    assert read_curve(below, values, bounds).late == ((at, 0.9),)


def test_the_picture_is_xml_and_shows_a_gap() -> None:
    one = report(judged(condition="a < b & c"))
    values = [series(0.05, *range(0, 1200, 24), *range(6000, 7200, 24))]
    picture = draw_history(one, [read_curve(one.conditions[0], values, [])])
    assert picture is not None
    root = ElementTree.fromstring(picture)
    assert "a < b & c" in "".join(root.itertext())
    (line,) = (p for p in root.iter("path") if p.get("stroke") == "#0072B2")
    assert len(re.findall("M", line.get("d", ""))) == 2
    places = [float(x) for x, _ in re.findall(r"([\d.]+) ([\d.]+)", line.get("d", ""))]
    assert places == sorted(places)


def test_nothing_is_drawn_of_nothing() -> None:
    one = report(judged())
    assert draw_history(one, []) is None
    assert draw_history(one, [read_curve(one.conditions[0], [], [])]) is None
