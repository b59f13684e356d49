"""The calibration curve and the ROC curves of a report, as SVG in HTML. Pure.

Drawn by hand as `report_page.draw_interval` is: no script, no font and no library, and text that
can be searched. The canary is blue, what was stable beside it grey.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from signalcanary.report import (
    CurvesOf,
    ReliabilityBin,
    Report,
    RocCurve,
    shown_time,
)

LEAST_EFFECTIVE: Final = 10
"""Independent rows of a bin that is drawn; the interval of fewer is nearly all there is."""
STYLE: Final = """
h3 { font-size: 15px; margin: 18px 0 4px; }
.curves { display: flex; flex-wrap: wrap; gap: 18px 28px; align-items: flex-start; }
.curves figure { flex: none; }
.curves figure svg { width: auto; display: block; }
.curves text { font: 11px system-ui, sans-serif; fill: #555; }
.rocs { display: flex; flex-wrap: wrap; gap: 14px 10px; flex: 1 1 360px; }
.rocs figure { width: 176px; } .rocs figcaption { font-size: 12px; }
.curves b { font-weight: 600; font-size: 13px; }
.key { color: #555; font-size: 13px; } .key i { display: inline-block; width: 22px; height: 0;
  border-top: 3px solid; margin: 0 6px 4px 14px; }
.canary { color: #0072B2; } .stable { color: #767676; }
"""
_COLOURS: Final = {"canary": "#0072B2", "stable": "#767676"}
_WIDTHS: Final = {"canary": 2, "stable": 1.5}
_DIAGONAL: Final = 'stroke="#D55E00" stroke-width="1.2" stroke-dasharray="4 3"'


def render_curves(report: Report) -> str:
    """The section of the page: what is drawn of each symbol, and what is not and why."""
    by_symbol: dict[str, dict[str, CurvesOf]] = {}
    for one in report.curves:
        by_symbol.setdefault(one.symbol, {})[one.track] = one
    parts = ["<h2>Calibration and ROC curves</h2>"]
    if any(one.calibration or one.roc for one in report.curves):
        parts.append(_explain(report))
    for symbol, tracks in by_symbol.items():
        parts.append(f"<h3>{escape(symbol)}</h3>")
        drawn = draw_calibration(symbol, tracks) + draw_rocs(symbol, tracks)
        if drawn:
            parts.append(f'<div class="curves">{drawn}</div>')
        parts += [f'<p class="note">{escape(note)}</p>' for note in _notes(tracks)]
        if any(one.calibration for one in tracks.values()):
            parts.append(_table(tracks))
    if report.curves_missing:
        parts.append(f'<p class="note">{escape(report.curves_missing)}</p>')
    return "\n".join(parts)


def _notes(tracks: Mapping[str, CurvesOf]) -> list[str]:
    """What is not drawn of a symbol, and why; what is so of both tracks once."""
    whose: dict[str, list[str]] = {}
    for who, one in sorted(tracks.items()):
        for text in (*one.missing, *_thin(one)):
            whose.setdefault(text, []).append(who)
    notes = [f"{' and '.join(who).capitalize()}: {text}" for text, who in whose.items()]
    if "stable" not in tracks and tracks["canary"].revision:
        notes.append("Stable: nothing stable was measured beside it then.")
    return notes


def _explain(report: Report) -> str:
    stable = next((one for one in report.curves if one.track == "stable"), None)
    canary = f'<i class="canary"></i>canary, {escape(report.canary.version)}'
    beside = ""
    if stable is not None:
        is_named = report.stable is not None and report.stable.name == stable.revision
        name = report.stable.version if report.stable and is_named else stable.revision
        beside = f'<i class="stable"></i>stable, {escape(name)}'
    when = f" as of {shown_time(report.curves_time)}" if report.curves_time else ""
    return (
        f'<p class="note">Of the rows in the test window{when}, each scored before its label was '
        "known. A positive is a rise: p is the predicted probability of one. "
        "<b>Calibration curve</b>: of the rows with such a p, the fraction that rose; on the "
        "dashed line p is right, below it too high, and above it too low. Bars are 95 % "
        "intervals, for one look; beneath, how many rows each bin has. Worth: independent rows "
        "that would leave the figure as unsure. "
        "<b>ROC curves</b>: where a score above a threshold is taken for a rise, the true positive "
        "rate is the share of the rises that it finds, and the false positive rate the share of "
        "the falls that it takes for rises; a curve is all thresholds. The dashed line is a coin "
        "toss, and the area under the curve (AUC) comes with its 95 % interval.</p>"
        f'<p class="key">{canary}{beside}</p>'
    )


def _thin(one: CurvesOf) -> list[str]:
    bins = [b for b in one.calibration if b.effective_samples < LEAST_EFFECTIVE]
    if not bins:
        return []
    said = ", ".join(f"{b.low:g}–{b.high:g} ({b.samples:,} rows)" for b in bins)
    return [f"Not drawn, as worth fewer than {LEAST_EFFECTIVE} independent rows: p of {said}."]


# --------------------------------------------------------------------------- calibration

_LEFT, _TOP, _SIDE, _GAP, _STRIP = 44, 8, 250, 20, 40


def draw_calibration(symbol: str, tracks: Mapping[str, CurvesOf]) -> str:
    """The calibration curves of one symbol; empty if no bin is worth it."""
    drawn = {
        who: [b for b in one.calibration if b.effective_samples >= LEAST_EFFECTIVE]
        for who, one in sorted(tracks.items(), reverse=True)  # the canary in front
    }
    bins = [b for of in drawn.values() for b in of]
    if not bins:
        return ""
    low, high = _range(bins)

    def x(value: float) -> float:
        return _LEFT + _SIDE * (min(max(value, low), high) - low) / (high - low)

    def y(value: float) -> float:
        return _TOP + _LEFT + _SIDE - x(value)

    parts = [_frame(_LEFT, _TOP, _SIDE, _SIDE)]
    for tick in _ticks(low, high):
        at, over = round(x(tick), 1), round(y(tick), 1)
        bottom = _TOP + _SIDE + _GAP + _STRIP
        parts.append(
            f'<line x1="{at}" x2="{at}" y1="{_TOP}" y2="{_TOP + _SIDE}" stroke="#eee"/>'
            f'<line x1="{_LEFT}" x2="{_LEFT + _SIDE}" y1="{over}" y2="{over}" stroke="#eee"/>'
            f'<text x="{at}" y="{bottom + 14}" text-anchor="middle">{tick:g}</text>'
            f'<text x="{_LEFT - 5}" y="{over + 4}" text-anchor="end">{tick:g}</text>'
        )
    parts.append(
        f'<line x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}" '
        f"{_DIAGONAL}/>"
    )
    most = max(b.samples for b in bins)
    floor = _TOP + _SIDE + _GAP + _STRIP
    for who, of in drawn.items():
        colour = _COLOURS[who]
        for b in of:
            # Half of the bin's width each, side by side.
            left, right = x(b.low), x(b.high)
            half = (right - left) / 2 - 1
            begin = left + 1 if who == "canary" else right - 1 - half
            tall = (_STRIP - 2) * b.samples / most
            parts.append(
                f'<rect x="{begin:.1f}" y="{floor - tall:.1f}" width="{max(half, 1):.1f}" '
                f'height="{tall:.1f}" fill="{colour}" fill-opacity="0.55"/>'
            )
        if of:
            parts.append(_curve([(x(b.predicted), y(b.observed)) for b in of], who))
        for b in of:
            parts.append(
                _point(who, b, (x(b.predicted), y(b.observed), y(b.at_most), y(b.at_least)))
            )
    middle = _LEFT + _SIDE / 2
    parts.append(
        f'<text x="{middle}" y="{floor + 30}" text-anchor="middle">Mean predicted '
        "probability</text>"
        f'<text transform="translate(11 {_TOP + _SIDE / 2}) rotate(-90)" text-anchor="middle">'
        "Fraction of positives</text>"
        f'<text x="{_LEFT}" y="{floor - _STRIP - 4}">rows in each bin, up to {most:,}</text>'
    )
    told = [
        f"{who}: p {b.predicted:.3f}, rose {b.observed:.3f} ({b.at_least:.3f} to {b.at_most:.3f})"
        for who, of in drawn.items()
        for b in of
    ]
    caption = ["<b>Calibration curve</b>, error (ECE)"]
    for who in sorted(drawn):
        one = tracks[who]
        if one.calibration:
            sure = f"{_three(one.at_least)}–{_three(one.at_most)}"
            caption.append(
                f'<span class="{who}">{who} {_three(one.calibration_error)}, truly {sure}<br>'
                f"{_rows(one)}</span>"
            )
    return _figure(
        f"calibration curve of {symbol}", told, (_LEFT + _SIDE + 14, floor + 38), parts, caption
    )


def _point(who: str, b: ReliabilityBin, place: tuple[float, float, float, float]) -> str:
    """A bin: its interval, and its value with what there is to say of it."""
    x, y, top, bottom = place
    width, opacity = (1.6, 1) if who == "canary" else (5, 0.35)
    told = (
        f"{who}, p of {b.low:g} to {b.high:g}: {b.observed:.3f} of {b.samples:,} rows rose, "
        f"surely {b.at_least:.3f} to {b.at_most:.3f} (worth {b.effective_samples:,}); "
        f"p said {b.predicted:.3f}"
    )
    fill = _COLOURS[who] if who == "canary" else "#fff"
    return (
        f"<g><title>{escape(told)}</title>"
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" '
        f'stroke="{_COLOURS[who]}" stroke-width="{width}" stroke-opacity="{opacity}"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}" stroke="{_COLOURS[who]}" '
        'stroke-width="1.5"/></g>'
    )


def _three(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _rows(of: CurvesOf | RocCurve) -> str:
    rows = "" if of.samples is None else f"{of.samples:,} rows"
    return rows + ("" if of.effective_samples is None else f", worth {of.effective_samples:,}")


def _range(bins: Iterable[ReliabilityBin]) -> tuple[float, float]:
    """Both axes' ends: the same, so that the diagonal is one, and with all intervals inside."""
    ends = [end for b in bins for end in (b.predicted, b.observed, b.at_least, b.at_most)]
    room = max(0.02, 0.05 * (max(ends) - min(ends)))
    return max(0.0, min(ends) - room), min(1.0, max(ends) + room)


def _ticks(low: float, high: float) -> list[float]:
    step = next(s for s in (0.02, 0.05, 0.1, 0.2) if (high - low) / s <= 8 or s == 0.2)
    first = int(low / step) + (low > 0)
    return [round(n * step, 2) for n in range(first, int(high / step + 1e-9) + 1)]


# --------------------------------------------------------------------------- ROC

_ROC_LEFT, _ROC_TOP, _ROC_SIDE = 38, 6, 128


def draw_rocs(symbol: str, tracks: Mapping[str, CurvesOf]) -> str:
    """The ROC curves of one symbol, a drawing a slice; empty if there are none."""
    slices: dict[str, dict[str, RocCurve]] = {}
    for who in sorted(tracks):
        for roc in tracks[who].roc:
            slices.setdefault(roc.slice, {})[who] = roc
    drawn = "".join(_draw_roc(symbol, which, by_track) for which, by_track in slices.items())
    return f'<div class="rocs">{drawn}</div>' if drawn else ""


def _draw_roc(symbol: str, which: str, by_track: Mapping[str, RocCurve]) -> str:
    def place(x: float, y: float) -> tuple[float, float]:
        return _ROC_LEFT + _ROC_SIDE * x, _ROC_TOP + _ROC_SIDE * (1 - y)

    parts = [_frame(_ROC_LEFT, _ROC_TOP, _ROC_SIDE, _ROC_SIDE)]
    for tick in (0, 0.5, 1):
        at, over = place(tick, tick)
        parts.append(
            f'<text x="{at}" y="{_ROC_TOP + _ROC_SIDE + 13}" text-anchor="middle">{tick:g}</text>'
            f'<text x="{_ROC_LEFT - 4}" y="{over + 4}" text-anchor="end">{tick:g}</text>'
        )
    (x1, y1), (x2, y2) = place(0, 0), place(1, 1)
    parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {_DIAGONAL}/>')
    for who, roc in sorted(by_track.items(), reverse=True):  # the canary in front
        points = [place(p.false_positives, p.true_positives) for p in roc.points]
        parts.append(_curve(points, who))
    foot = _ROC_TOP + _ROC_SIDE + 26
    parts.append(
        f'<text x="{_ROC_LEFT + _ROC_SIDE / 2}" y="{foot}" text-anchor="middle">False positive '
        "rate</text>"
        f'<text transform="translate(10 {_ROC_TOP + _ROC_SIDE / 2}) rotate(-90)" '
        'text-anchor="middle">True positive rate</text>'
    )
    caption, told = [f"<b>{escape(which)}</b>, AUC"], []
    for who in sorted(by_track):
        roc = by_track[who]
        area, sure = _three(roc.auc), f"{_three(roc.at_least)}–{_three(roc.at_most)}"
        caption.append(f'<span class="{who}">{who} {area} ({sure})<br>{_rows(roc)}</span>')
        told.append(f"{who}: AUC {area} ({sure})")
    name = f"ROC curve of {symbol}, {which}"
    return _figure(name, told, (_ROC_LEFT + _ROC_SIDE + 8, foot + 6), parts, caption)


# --------------------------------------------------------------------------- parts


def _frame(left: float, top: float, width: float, height: float) -> str:
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#bbb"/>'
    )


def _curve(points: Sequence[tuple[float, float]], who: str) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{places}" fill="none" stroke="{_COLOURS[who]}" '
        f'stroke-width="{_WIDTHS[who]}"/>'
    )


def _figure(
    name: str,
    told: Sequence[str],
    size: tuple[float, float],
    parts: Sequence[str],
    caption: Sequence[str],
) -> str:
    """A drawing with its words, for those who see it and those who do not."""
    width, height = size
    label = escape(f"{name}; {'; '.join(told)}")
    return (
        f'<figure><svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
        f"<figcaption>{'<br>'.join(caption)}</figcaption></figure>"
    )


def _table(tracks: Mapping[str, CurvesOf]) -> str:
    """The calibration curve in figures, folded away."""
    rows = "".join(
        f"<tr><td>{who}</td><td>{b.low:g}–{b.high:g}</td><td class=n>{b.predicted:.3f}</td>"
        f"<td class=n>{b.observed:.3f}</td><td class=n>{b.at_least:.3f} to {b.at_most:.3f}</td>"
        f"<td class=n>{b.samples:,}</td><td class=n>{b.effective_samples:,}</td></tr>"
        for who in sorted(tracks)
        for b in tracks[who].calibration
    )
    return (
        "<details><summary>The calibration curve in figures</summary><table><tr><th>track</th>"
        "<th>p</th><th class=n>mean p</th><th class=n>rose</th><th class=n>95 % interval</th>"
        f"<th class=n>rows</th><th class=n>effective rows</th></tr>{rows}</table></details>"
    )
