"""A report as one HTML file that needs nothing else: no script, no font, no network. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from html import escape
from typing import Final

from signalcanary.contract import format_duration
from signalcanary.report import (
    SAID,
    Judged,
    Moment,
    Outcome,
    Report,
    shown_interval,
    shown_number,
    shown_time,
)
from signalcanary.report_plots import STYLE as CURVES_STYLE
from signalcanary.report_plots import render_curves

# M. Okabe and K. Ito, Color Universal Design (2008): told apart by all eyes.
_COLOURS: Final = {
    Outcome.PROMOTED: "#009E73",
    Outcome.ROLLED_BACK: "#D55E00",
    Outcome.GOING_ON: "#0072B2",
}
_VERDICTS: Final = {"Ok": "#009E73", "Breached": "#D55E00", "Unproven": "#0072B2"}
_PHASES: Final = {
    "Waiting": "#f4f4f4",
    "Verifying": "#ececec",
    "Pending": "#e4e4e4",
    "Warming": "#f6e8c3",
    "Progressing": "#b0cbe8",
    "Promoting": "#c7e9c0",
    "RollingBack": "#fbb4a0",
}

STYLE: Final = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 1120px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 34px 0 8px; border-bottom: 1px solid #ddd; padding-bottom: 4px; }
.badge { color: #fff; border-radius: 4px; padding: 2px 10px; font-size: 18px;
  vertical-align: 3px; margin-left: 8px; white-space: nowrap; }
.sub, figcaption, .note { color: #666; font-size: 13px; }
.why { border-left: 4px solid; padding: 6px 14px; margin: 16px 0; background: #f8f8f8; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 0; }
dt { color: #666; } dd { margin: 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; font-size: 13px; color: #555; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid #eee; vertical-align: top; }
td.t { white-space: nowrap; }
td.n, th.n { text-align: right; }
code { font: 12px/1.4 ui-monospace, monospace; background: #f4f4f4; padding: 1px 4px;
  overflow-wrap: anywhere; }
details { margin: 6px 0; } summary { cursor: pointer; }
.bands { display: flex; height: 34px; border-radius: 4px; overflow: hidden; margin: 10px 0 2px; }
.bands span { overflow: hidden; white-space: nowrap; text-align: center; line-height: 34px;
  font-size: 12px; min-width: 3px; border-right: 2px solid #fff; text-overflow: ellipsis; }
figure { margin: 0; } figure svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
@media (max-width: 900px) {
  .wide td { font-size: 13px; padding-right: 7px; } .wide th { padding-right: 7px; }
  .wide svg { width: 124px; } .wide td.t { white-space: normal; }
  .wide td.c { overflow-wrap: anywhere; min-width: 96px; }
}
@media print { body { max-width: none; padding: 0; } }
"""


def render_page(report: Report, picture: str | None, notes: Sequence[str]) -> str:
    """The page.

    Args:
        picture: the metrics over time, as SVG; None if there is none.
        notes: what the reader should know of this report.
    """
    colour = _COLOURS[report.outcome]
    title = f"{report.canary.version}: {SAID[report.outcome]}"
    body = [
        f"<h1>{escape(report.canary.version)}"
        f'<span class="badge" style="background:{colour}">{SAID[report.outcome]}</span></h1>',
        f'<p class="sub">SignalCanary {escape(report.namespace)}/{escape(report.name)}, revision '
        f"{escape(report.canary.name)}, attempt {report.canary.attempt}, on "
        f"{escape(', '.join(report.symbols))}</p>",
        f'<p class="why" style="border-color:{colour}">{escape(report.message)}</p>',
        _facts(report),
        _bands(report),
    ]
    if report.conditions:
        body += ["<h2>What it rests on</h2>", _conditions(report.conditions)]
    if picture is not None:
        body += [
            "<h2>The metrics over time</h2>",
            f"<figure>{picture}<figcaption>Each condition on each symbol; the stages are the bands "
            "above, the thick line is the decision. The value is of the test window alone, and the "
            "bounds are of other stretches of rows: where the signal changes, it leaves them."
            "</figcaption></figure>",
        ]
    if report.curves or report.curves_missing:
        body.append(render_curves(report))
    body += ["<h2>What happened</h2>", _timeline(report.timeline)]
    if report.conditions:
        body += ["<h2>How it was judged, and what to ask</h2>", _details(report.conditions)]
    body += [f'<p class="note">{escape(note)}</p>' for note in notes]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}{CURVES_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _facts(report: Report) -> str:
    took = ""
    if report.ended is not None:
        seconds = round((report.ended - report.started).total_seconds())
        took = f", {format_duration(timedelta(seconds=seconds))} after it began"
    facts = {
        "began": shown_time(report.started),
        "decided": (shown_time(report.ended) + took) if report.ended else "not yet",
        "serves now": report.stable.version if report.stable else "nothing",
        "stages": ", ".join(f"{s.name} {s.duration}" for s in report.stages),
        "next": report.next,
    }
    rows = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<dl>{rows}</dl>"


def _bands(report: Report) -> str:
    """The phases and stages, as wide as they were long."""
    marks = report.timeline
    end = report.ended or marks[-1].time
    whole = (end - report.started).total_seconds()
    spans = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        until = min(following.time if following else end, end)
        seconds = (until - mark.time).total_seconds()
        if seconds <= 0 or mark.phase not in _PHASES:
            continue
        name = mark.phase
        if mark.phase == "Progressing":
            name = mark.message.partition(" (")[0]
        took = format_duration(timedelta(seconds=round(seconds)))
        # What has no room says its name when it is pointed at.
        shown = f"{escape(name)} · {took}" if seconds > 0.08 * whole else ""
        spans.append(
            f'<span style="flex:{seconds:.3f};background:{_PHASES[mark.phase]}" '
            f'title="{escape(name)}, {took}">{shown}</span>'
        )
    return f'<div class="bands">{"".join(spans)}</div>' if spans else ""


def _conditions(rows: Sequence[Judged]) -> str:
    head = (
        "<tr><th>symbol</th><th>rolls back if</th><th class=n>value</th>"
        "<th>threshold, evidence and value</th><th class=n>rows</th>"
        "<th class=n>effective rows</th><th>breached</th><th>verdict</th></tr>"
    )
    cells = []
    for row in rows:
        samples = "–" if row.samples is None else f"{row.samples:,}"
        worth = "–" if row.effective_samples is None else f"{row.effective_samples:,}"
        held = f"{row.breached_for} of {row.allowed_for}" if row.breached_for else "–"
        if row.breached_for and row.allowed_for == "0s":
            held = "at this look"  # which is enough for it
        colour = _VERDICTS.get(row.verdict, "#888")
        cells.append(
            f"<tr><td>{escape(row.symbol)}</td><td class=c>{escape(row.condition)}</td>"
            f"<td class=n>{shown_number(row.value)}</td><td>{draw_interval(row)}</td>"
            f"<td class=n>{samples}</td><td class=n>{worth}</td><td>{escape(held)}</td>"
            f'<td style="color:{colour};font-weight:600">{escape(row.verdict)}</td></tr>'
        )
    return (
        f'<div class="wide"><table>{head}{"".join(cells)}</table></div>'
        '<p class="note">In the drawing: the dashed line is the threshold, the tinted side is '
        "beyond it, the dot is the value. The narrow orange bar is where the value surely is by "
        "the rows of late: a rollback needs all of it beyond the threshold. The wide green bar is "
        "where it surely is by all rows: Ok needs all of it within. No bar: the value itself was "
        "judged. The dot is of the test window alone, and the bars are of other stretches of rows: "
        "where the signal has changed, it lies outside them. Effective rows: independent ones that "
        "would leave the value as unsure.</p>"
    )


_WIDTH, _HEIGHT = 260, 30


def draw_interval(row: Judged) -> str:
    """The value and its evidence against the threshold, as a small SVG."""
    e = row.evidence
    known = [row.threshold, row.value]
    if e:
        known += [e.at_least, e.at_most, e.whole_at_least, e.whole_at_most]
    finite = [v for v in known if v is not None and math.isfinite(v)]
    low, high = min(finite), max(finite)
    room = 0.18 * (high - low) or 0.2 * abs(high) or 1.0
    low, high = low - room, high + room

    def x(value: float | None, otherwise: float) -> float:
        at = otherwise if value is None else value
        return round((at - low) / (high - low) * _WIDTH, 1)

    limit, is_above = x(row.threshold, 0), ">" in row.key
    left, width = (limit, _WIDTH - limit) if is_above else (0, limit)
    parts = [
        f'<rect x="{left}" y="0" width="{width:.1f}" height="{_HEIGHT}" fill="#D55E00" '
        'fill-opacity="0.10"/>',
    ]

    def bar(ends: tuple[float | None, float | None], height: int, colour: str) -> None:
        if ends == (None, None):
            return
        begin, end = x(ends[0], low), x(ends[1], high)
        # The bound of late may come of two stretches, one a side: then the lower is the higher.
        begin, end = min(begin, end), max(begin, end)
        y = (_HEIGHT - height) / 2
        parts.append(
            f'<rect x="{begin}" y="{y}" width="{max(end - begin, 2):.1f}" height="{height}" '
            f'fill="{colour}"/>'
        )

    told = f"value {shown_number(row.value)}, threshold {shown_number(row.threshold)}"
    if e:
        bar((e.whole_at_least, e.whole_at_most), 16, "#a8dcc9")
        bar((e.at_least, e.at_most), 6, "#E69F00")
        told += f"; by the rows of late {shown_interval(e.at_least, e.at_most)}"
        told += f"; by all rows {shown_interval(e.whole_at_least, e.whole_at_most)}"
    parts.append(
        f'<line x1="{limit}" x2="{limit}" y1="0" y2="{_HEIGHT}" stroke="#D55E00" '
        'stroke-width="1.5" stroke-dasharray="4 3"/>'
    )
    if row.value is not None and math.isfinite(row.value):
        parts.append(f'<circle cx="{x(row.value, 0)}" cy="{_HEIGHT / 2}" r="4" fill="#0072B2"/>')
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(told)}"><title>{escape(told)}</title>{"".join(parts)}</svg>'
    )


def _timeline(moments: Sequence[Moment]) -> str:
    rows = "".join(
        f"<tr><td class=t>{shown_time(m.time)}</td><td>{escape(m.phase)}</td>"
        f"<td>{escape(m.reason)}</td><td>{escape(m.message)}</td></tr>"
        for m in moments
    )
    head = "<tr><th>time</th><th>phase</th><th>reason</th><th></th></tr>"
    return f'<div class="wide"><table>{head}{rows}</table></div>'


def _details(rows: Sequence[Judged]) -> str:
    return "".join(
        f"<details><summary>{escape(row.symbol)}: {escape(row.condition)}</summary><dl>"
        f"<dt>said</dt><dd>{escape(row.message)}</dd>"
        f"<dt>test</dt><dd>{escape(row.test)}</dd>"
        f"<dt>to change it</dt><dd>{escape(row.would_change)}</dd>"
        + (f"<dt>query</dt><dd><code>{escape(row.query)}</code></dd>" if row.query else "")
        + "</dl></details>"
        for row in rows
    )
