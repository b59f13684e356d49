"""The metrics of a rollout over time: what to ask for a report's picture, and the picture. Pure.

For the operator, whose image has no plotting library: what is asked is the query that each
condition of the report has, and its bounds. `signalcanary report -o html` judges every look anew
and draws more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any, Final

from signalcanary import contract
from signalcanary.contract import BoundLabel, MetricLabel
from signalcanary.report import Judged, Report, shown_number

MOST_ROWS: Final = 12
"""Conditions on symbols in one picture; those that were not Ok come first."""
MOST_POINTS: Final = 300
"""Of one curve; it is drawn some hundred pixels wide."""
LEAST_GAP_SECONDS: Final = 60.0
"""Between two points that are not joined; what is scraped is scraped more often."""

Samples = tuple[tuple[float, float], ...]
"""Unix time (s) and value, by rising time; values are finite."""


@dataclass(frozen=True)
class Curve:
    """One condition on one symbol over time; unit of the values: the metric's own.

    Attributes:
        late: the bound of late that a rollback goes by.
        low, high: where the value surely was by all rows.
    """

    row: Judged
    value: Samples
    late: Samples = ()
    low: Samples = ()
    high: Samples = ()


def choose_rows(report: Report) -> tuple[Judged, ...]:
    """What is drawn, in the order of the report."""
    known = [row for row in report.conditions if row.query]
    chosen = sorted(known, key=lambda row: row.verdict == "Ok")[:MOST_ROWS]
    return tuple(row for row in known if row in chosen)


def choose_step(report: Report) -> timedelta:
    """The time between two points, in whole seconds."""
    whole = (report.ended or report.started) - report.started
    return timedelta(seconds=max(1, math.ceil(whole.total_seconds() / MOST_POINTS)))


def bound_query(row: Judged) -> str | None:
    """The query of the bounds that stand beside a row's value; None if it was judged without."""
    name, brace, labels = row.query.partition("{")
    if row.evidence is None or not brace:
        return None
    if name == contract.DIFFERENCE:
        return f"{contract.DIFFERENCE_BOUND}{{{labels}"
    return f'{contract.EVIDENCE_BOUND}{{{MetricLabel.METRIC.value}="{name}",{labels}'


def read_curve(row: Judged, values: Iterable[Any], bounds: Iterable[Any]) -> Curve:
    """A curve from the `result` of two range queries.

    Raises:
        KeyError, TypeError, ValueError: they are none.
    """
    level = row.evidence.level if row.evidence else math.nan
    is_above = ">" in row.key
    wanted = {
        ("lower" if is_above else "upper", "now"): "late",
        ("lower", "whole"): "low",
        ("upper", "whole"): "high",
    }
    found: dict[str, list[Any]] = {"late": [], "low": [], "high": []}
    for one in bounds:
        labels = one["metric"]
        end = wanted.get((labels.get(BoundLabel.SIDE), labels.get(BoundLabel.WINDOW)))
        if end is not None and math.isclose(float(labels.get(BoundLabel.LEVEL, "nan")), level):
            found[end].append(one)
    return Curve(
        row,
        _merge(values, is_highest=is_above),
        # Of two that claim to be the same bound, the more cautious.
        late=_merge(found["late"], is_highest=not is_above),
        low=_merge(found["low"], is_highest=False),
        high=_merge(found["high"], is_highest=True),
    )


def _merge(series: Iterable[Any], *, is_highest: bool) -> Samples:
    """One curve of several series, as those of a pod and of the one after it."""
    merged: dict[float, float] = {}
    for one in series:
        for at, text in one["values"]:
            value, at = float(text), float(at)
            if math.isfinite(value):
                known = merged.get(at, value)
                merged[at] = max(known, value) if is_highest else min(known, value)
    return tuple(sorted(merged.items()))


# --------------------------------------------------------------------------- the picture

# M. Okabe and K. Ito, Color Universal Design (2008): told apart by all eyes.
_BLUE, _RED, _GREEN, _ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
_WIDTH, _LEFT, _RIGHT = 1060, 64, 10
_ROW, _TITLE, _AXIS, _LEGEND = 128, 22, 24, 22
_TICKS: Final = 6
_LEGENDS: Final = (
    (_BLUE, "value"),
    (_RED, "threshold, dashed; beyond it is tinted"),
    (_ORANGE, "bound of late: a rollback needs it beyond"),
    (_GREEN, "where it surely is by all rows: Ok needs it within"),
)


def draw_history(report: Report, curves: Sequence[Curve]) -> str | None:
    """The curves as one SVG; None if there is nothing in them."""
    shown = [one for one in curves if one.value]
    if not shown or report.ended is None:
        return None
    begin, end = report.started.timestamp(), report.ended.timestamp()
    step = choose_step(report).total_seconds()
    frame = _Frame(begin, max(end, begin + 1), max(2.5 * step, LEAST_GAP_SECONDS))
    height = len(shown) * _ROW + _AXIS + _LEGEND
    parts = [_draw_row(one, n * _ROW, frame) for n, one in enumerate(shown)]
    parts += [_draw_axis(frame, len(shown) * _ROW), _draw_legend(shown, height - 6)]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="The metrics over time" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="#555">{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Frame:
    """The time axis. Unit: Unix time, s.

    Attributes:
        gap: longest time between two points that are joined.
    """

    begin: float
    end: float
    gap: float

    def x(self, at: float) -> float:
        share = (at - self.begin) / (self.end - self.begin)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def _limits(curve: Curve) -> tuple[float, float]:
    """The ends of the value axis. The first bounds are as wide as can be, and are cut off."""
    wide = sorted(value for _, value in (*curve.low, *curve.high))
    cut = max(1, len(wide) // 20)
    ends = [curve.row.threshold, *(v for _, v in (*curve.value, *curve.late)), *wide[cut:-cut]]
    low, high = min(ends), max(ends)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _draw_row(curve: Curve, top: int, frame: _Frame) -> str:
    row, (low, high) = curve.row, _limits(curve)
    upper, lower = top + _TITLE, top + _ROW - 8

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(lower - share * (lower - upper), 1)

    limit = y(row.threshold)
    tinted = (upper, limit) if ">" in row.key else (limit, lower)
    title = f"{row.symbol}   rolls back if {row.condition}   ({row.verdict} at the decision)"
    parts = [
        f'<text x="{_LEFT}" y="{top + 14}" font-size="12" fill="#222">{escape(title)}</text>',
        f'<rect x="{_LEFT}" y="{tinted[0]}" width="{_WIDTH - _LEFT - _RIGHT}" '
        f'height="{tinted[1] - tinted[0]:.1f}" fill="{_RED}" fill-opacity="0.08"/>',
        _draw_band(curve, frame, y),
    ]
    if curve.late:
        parts.append(_draw_line(curve.late, frame, y, f'stroke="{_ORANGE}" stroke-width="1.5"'))
    parts.append(_draw_line(curve.value, frame, y, f'stroke="{_BLUE}" stroke-width="1.5"'))
    right = _WIDTH - _RIGHT
    parts.append(
        f'<path d="M{_LEFT} {limit}H{right}" stroke="{_RED}" stroke-width="1.2" '
        f'stroke-dasharray="5 3"/><path d="M{_LEFT} {upper}V{lower}H{right}" fill="none" '
        f'stroke="#bbb"/><path d="M{frame.x(frame.end)} {upper}V{lower}" stroke="#222" '
        'stroke-width="2"/>'
    )
    for value in (low, row.threshold, high):
        # Two labels never overlap: the threshold's is the one that matters.
        if value == row.threshold or abs(y(value) - limit) > 12:
            parts.append(
                f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">'
                f"{shown_number(value)}</text>"
            )
    return "".join(parts)


def _pieces(samples: Samples, frame: _Frame) -> list[list[tuple[float, float]]]:
    """Stretches without a gap."""
    pieces: list[list[tuple[float, float]]] = []
    for at, value in samples:
        if not pieces or at - pieces[-1][-1][0] > frame.gap:
            pieces.append([])
        pieces[-1].append((at, value))
    return pieces


def _draw_line(samples: Samples, frame: _Frame, y: Any, style: str) -> str:
    drawn = []
    for piece in _pieces(samples, frame):
        points = [f"{frame.x(at)} {y(value)}" for at, value in piece]
        # A point alone is a line too, with round ends.
        drawn.append("M" + "L".join(points if len(points) > 1 else points * 2))
    return f'<path d="{"".join(drawn)}" fill="none" stroke-linecap="round" {style}/>'


def _draw_band(curve: Curve, frame: _Frame, y: Any) -> str:
    tops: Mapping[float, float] = dict(curve.high)
    both = tuple((at, value) for at, value in curve.low if at in tops)
    drawn = []
    for piece in _pieces(both, frame):
        there = [f"{frame.x(at)} {y(value)}" for at, value in piece]
        back = [f"{frame.x(at)} {y(tops[at])}" for at, _ in reversed(piece)]
        drawn.append("M" + "L".join([*there, *back]) + "Z")
    if not drawn:
        return ""
    return f'<path d="{"".join(drawn)}" fill="{_GREEN}" fill-opacity="0.16"/>'


def _draw_axis(frame: _Frame, top: int) -> str:
    is_long = frame.end - frame.begin > 24 * 3600
    parts = []
    for n in range(_TICKS + 1):
        at = frame.begin + (frame.end - frame.begin) * n / _TICKS
        time = datetime.fromtimestamp(at, UTC)
        anchor = "start" if n == 0 else "end" if n == _TICKS else "middle"
        text = f"{time:%m-%d %H:%M}" if is_long else f"{time:%H:%M:%S}"
        parts.append(f'<text x="{frame.x(at)}" y="{top + 12}" text-anchor="{anchor}">{text}</text>')
    return "".join(parts)


def _draw_legend(curves: Sequence[Curve], y: int) -> str:
    has_bounds = any(one.late or one.low for one in curves)
    parts, x = [], _LEFT
    for colour, text in _LEGENDS if has_bounds else _LEGENDS[:2]:
        parts.append(
            f'<rect x="{x}" y="{y - 8}" width="14" height="8" fill="{colour}"/>'
            f'<text x="{x + 20}" y="{y}">{text}</text>'
        )
        x += 44 + 6 * len(text)
    return "".join(parts)
