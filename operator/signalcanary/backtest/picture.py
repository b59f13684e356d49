"""A replay as a picture: each condition against its threshold and evidence, and the decision.

One row a condition and symbol, one time axis, the stages as bands above. matplotlib draws it: of
the plotting libraries it is the one that writes SVG, PNG and PDF by itself, without a browser
(plotly's and altair's static files need one), and that has been kept up for twenty years. It is
an extra, imported only here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from signalcanary.api import Condition, Of
from signalcanary.backtest.recording import RecordingError
from signalcanary.backtest.replay import Kind, Outcome, Point, Replay, debounce_of
from signalcanary.contract import METRICS_BY_NAME, format_duration, shown
from signalcanary.evaluate import Verdict
from signalcanary.rollout import Phase

FORMATS: Final = (".svg", ".png", ".pdf")
MOST_ROWS: Final = 12
"""More would not be read; those that matter most are drawn."""

# M. Okabe and K. Ito, Color Universal Design (2008): told apart by all eyes.
_BLUE, _RED, _GREEN, _ORANGE, _GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#888888"
_PHASES: Final = {
    Phase.VERIFYING: "#eeeeee",
    Phase.PENDING: "#eeeeee",
    Phase.WARMING: "#f6e8c3",
    Phase.PROMOTING: "#c7e9c0",
    Phase.SOAKING: "#e5f5e0",
    Phase.ROLLING_BACK: "#fbb4a0",
    Phase.VERIFYING_ROLLBACK: "#fdd0b5",
}
_STAGES: Final = ("#d0e1f2", "#b0cbe8", "#94b8de", "#7aa6d4")
_ROW_INCHES: Final = 2.0
_TITLE_LETTERS: Final = 105
"""In a line of the title."""


def check_name(path: Path) -> None:
    """Whether a picture can have this name.

    Raises:
        RecordingError: it does not end in .svg, .png or .pdf.
    """
    if path.suffix not in FORMATS:
        raise RecordingError(f"{path}: a picture is {', '.join(FORMATS)}: choose such a name")


def draw(replay: Replay, path: Path) -> None:
    """Draw a replay into a file.

    Raises:
        RecordingError: the name does not end in .svg, .png or .pdf, or nothing was judged.
        OSError: it cannot be written.
    """
    check_name(path)
    path.write_bytes(render(replay, path.suffix))


def render(replay: Replay, suffix: str) -> bytes:
    """A picture in one of `FORMATS`.

    Raises:
        RecordingError: nothing was judged.
    """
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    file = BytesIO()
    figure = build_figure(replay)
    with mpl.rc_context(_STYLE):
        figure.savefig(file, format=suffix.removeprefix("."), dpi=130, metadata=metadata)
    return file.getvalue()


# The same replay makes the same file; text stays text, which can be searched.
_STYLE: Final[Any] = {"svg.hashsalt": "signalcanary", "svg.fonttype": "none", "font.size": 9.0}


def _choose(replay: Replay) -> list[tuple[Condition, str]]:
    """What to draw, in the order of the manifest; if it is too much, what was breached longest."""
    conditions = {c.key: c for c in replay.spec.rollback.conditions}
    keys = [key for key, points in replay.curves.items() if points]
    if len(keys) > MOST_ROWS:
        none = timedelta(0)
        worst = sorted(keys, key=lambda k: replay.breached.get(k, none), reverse=True)
        keep = set(worst[:MOST_ROWS])
        keys = [key for key in keys if key in keep]
    order = [c.key for c in replay.spec.rollback.conditions]
    keys.sort(key=lambda k: (order.index(k[0]), replay.spec.symbols.canary.index(k[1])))
    return [(conditions[name], symbol) for name, symbol in keys]


def build_figure(replay: Replay) -> Figure:
    """The picture as matplotlib has it.

    Raises:
        RecordingError: nothing was judged.
    """
    chosen = _choose(replay)
    if not chosen:
        raise RecordingError("no condition was ever judged, so there is nothing to draw")
    with mpl.rc_context(_STYLE):
        return _build_figure(replay, chosen)


def _build_figure(replay: Replay, chosen: Sequence[tuple[Condition, str]]) -> Figure:
    rows = len(chosen)
    height = 1.9 + _ROW_INCHES * rows
    figure = Figure(figsize=(11, height), layout="constrained")
    axes = figure.subplots(
        rows + 1, 1, sharex=True, squeeze=False, height_ratios=[0.22, *[1.0] * rows]
    )[:, 0]
    figure.suptitle(_title(replay), x=0.01, ha="left", fontsize=11, fontweight="bold")
    _draw_phases(axes[0], replay)
    for ax, (condition, symbol) in zip(axes[1:], chosen, strict=True):
        _draw_condition(ax, replay, condition, symbol)
        _mark_decision(ax, replay)
    _mark_decision(axes[0], replay)
    _name_decision(axes[0], replay)
    locator = AutoDateLocator(minticks=4, maxticks=10)
    last = axes[-1]
    last.xaxis.set_major_locator(locator)
    last.xaxis.set_major_formatter(_iso_dates(locator))
    last.set_xlabel("time (UTC)")
    left, right = _x(replay.started), _x(replay.ended)
    last.set_xlim(left, right + 0.01 * (right - left))
    figure.legend(
        handles=_legend(replay, chosen), loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def _iso_dates(locator: AutoDateLocator) -> ConciseDateFormatter:
    """Times as all else writes them: 2026-05-01, not 2026-May-01."""
    day = "%Y-%m-%d"
    return ConciseDateFormatter(
        locator,
        zero_formats=["", "%Y", "%m", "%m-%d", "%H:%M", "%H:%M"],
        offset_formats=["", "%Y", "%Y-%m", day, day, f"{day} %H:%M"],
    )


def _title(replay: Replay) -> str:
    version, decided = replay.target.version, replay.decided
    if decided is None:
        return f"{version}: neither promoted nor rolled back by the end of the data"
    after = format_duration(timedelta(seconds=round(_after(replay, decided.time))))
    if replay.outcome is Outcome.PROMOTED:
        left_out = ", ".join(replay.state.kept)
        but = fill(f" but on {left_out}", _TITLE_LETTERS) if left_out else ""
        return f"{version}: promoted after {after}, every condition having held{but}"
    why = decided.message.partition(": ")[2].partition("; ")[0]
    return f"{version}: rolled back after {after}\n" + fill(why, _TITLE_LETTERS)


def _after(replay: Replay, at: datetime) -> float:
    return (at - replay.started).total_seconds()


def _x(at: datetime) -> float:
    return float(date2num(at))


def _draw_phases(ax: Axes, replay: Replay) -> None:
    """The phases and stages as labelled bands."""
    marks = [e for e in replay.story if e.kind is Kind.PHASE]
    ends = [*(e.time for e in marks[1:]), replay.ended]
    whole = _after(replay, replay.ended) or 1.0
    stage = -1
    for entry, end in zip(marks, ends, strict=True):
        name, colour = entry.phase.value, _PHASES.get(entry.phase, "#ffffff")
        if entry.phase is Phase.PROGRESSING:
            stage = stage + 1 if entry.reason == "StageStarted" else stage
            name = entry.message.removeprefix("stage ").partition(" (")[0]
            colour = _STAGES[max(stage, 0) % len(_STAGES)]
        left, right = _x(entry.time), _x(end)
        ax.axvspan(left, right, color=colour, lw=0)
        # About eleven inches hold 150 letters.
        if (end - entry.time).total_seconds() / whole > len(name) / 130:
            ax.text((left + right) / 2, 0.5, name, ha="center", va="center", clip_on=True)
    ax.set_ylim(0, 1)
    ax.set_yticks([])
    ax.set_ylabel("stage", rotation=0, ha="right", va="center")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _draw_condition(ax: Axes, replay: Replay, condition: Condition, symbol: str) -> None:
    points = replay.curves[condition.key, symbol]
    x = [_x(p.time) for p in points]
    value = [math.nan if p.value is None else p.value for p in points]
    ax.plot(x, value, color=_BLUE, lw=1.1, marker="o" if len(x) < 40 else None, ms=3)
    ends = [condition.threshold, *condition.tiers.values(), *(v for v in value if math.isfinite(v))]
    if any(p.upper is not None for p in points):
        ends += _draw_evidence(ax, x, points, condition)
    low, high = _limits(ends, condition)
    ax.set_ylim(low, high)
    ax.axhline(condition.threshold, color=_RED, lw=1.2, ls=(0, (5, 3)))
    is_above = condition.sign == ">"
    edge = high if is_above else low
    ax.axhspan(condition.threshold, edge, color=_RED, alpha=0.07, lw=0)
    _shade(ax, points, Verdict.BREACHED, _RED, 0.28)
    for verdict in (Verdict.NO_DATA, Verdict.ERROR, Verdict.INCONCLUSIVE):
        _shade(ax, points, verdict, _GREY, 0.25)
    unit = METRICS_BY_NAME[condition.metric].unit.value
    judged = "orange bound" if any(p.upper is not None for p in points) else "value"
    text = f"{symbol}   {condition.subject} ({unit})   rolls back if the {judged} is"
    text += f" {'above' if is_above else 'below'} {shown(condition.threshold)}"
    text += f" {debounce_of(condition, points).describe()}".rstrip()
    for tier, limit in condition.tiers.items():
        ax.axhline(limit, color=_ORANGE, lw=0.9, ls=(0, (1, 3)))
        ax.annotate(
            f" {tier.value.lower()}",
            (1, limit),
            xycoords=("axes fraction", "data"),
            va="center",
            color=_ORANGE,
            fontsize=7,
        )
    ax.set_title(text, loc="left", fontsize=9)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(axis="y", color="#dddddd", lw=0.5)
    ax.set_axisbelow(True)


def _draw_evidence(
    ax: Axes, x: Sequence[float], points: Sequence[Point], condition: Condition
) -> list[float]:
    """The bounds; returns their ends that the axis should hold."""

    def finite(values: Sequence[float | None]) -> list[float]:
        return [math.nan if v is None or not math.isfinite(v) else v for v in values]

    low, high = finite([p.whole_lower for p in points]), finite([p.whole_upper for p in points])
    ax.fill_between(x, low, high, color=_GREEN, alpha=0.16, lw=0)
    of_late = [p.upper if condition.sign == "<" else p.lower for p in points]
    now = finite(of_late)
    ax.plot(x, now, color=_ORANGE, lw=1.3)
    # The first hour's bounds are as wide as can be; they must not flatten all the rest.
    wide = sorted(v for v in (*low, *high) if math.isfinite(v))
    cut = max(1, len(wide) // 20)
    return [v for v in (*wide[cut:-cut], *now) if math.isfinite(v)]


def _limits(ends: Sequence[float], condition: Condition) -> tuple[float, float]:
    low, high = min(ends), max(ends)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    metric = METRICS_BY_NAME[condition.metric]
    low, high = low - room, high + room
    # Some of the side beyond the threshold always shows.
    if condition.sign == ">":
        high = max(high, condition.threshold + 3 * room)
    else:
        low = min(low, condition.threshold - 3 * room)
    return (max(low, metric.minimum - room / 4) if condition.of is Of.VALUE else low), high


def _shade(ax: Axes, points: Sequence[Point], verdict: Verdict, colour: str, alpha: float) -> None:
    """Shade the times of a verdict."""
    start: datetime | None = None
    for point, following in zip(points, [*points[1:], None], strict=True):
        if point.verdict is verdict and start is None:
            start = point.time
        if start is not None and (following is None or following.verdict is not verdict):
            end = following.time if following else point.time
            ax.axvspan(_x(start), _x(end), ymin=0, ymax=0.06, color=colour, lw=0, alpha=0.9)
            ax.axvspan(_x(start), _x(end), color=colour, lw=0, alpha=alpha * 0.5)
            start = None


def _mark_decision(ax: Axes, replay: Replay) -> None:
    decided = replay.decided
    if decided is not None:
        colour = _GREEN if replay.outcome is Outcome.PROMOTED else _RED
        ax.axvline(_x(decided.time), color=colour, lw=2.2)


def _name_decision(ax: Axes, replay: Replay) -> None:
    decided = replay.decided
    if decided is not None:
        is_promoted = replay.outcome is Outcome.PROMOTED
        is_same_day = decided.time.date() == replay.started.date()
        when = f"{decided.time:%H:%M:%S}" if is_same_day else f"{decided.time:%m-%d %H:%M:%S}"
        text = f"{'promoted' if is_promoted else 'rolled back'} {when}"
        is_late = _after(replay, decided.time) > 0.5 * _after(replay, replay.ended)
        ax.annotate(
            text,
            (_x(decided.time), 1.0),
            xytext=(-4 if is_late else 4, 3),
            textcoords="offset points",
            ha="right" if is_late else "left",
            color=_GREEN if is_promoted else _RED,
            fontweight="bold",
            annotation_clip=False,
        )


def _legend(replay: Replay, chosen: Sequence[tuple[Condition, str]]) -> list[Line2D | Patch]:
    shown_points = [p for c, symbol in chosen for p in replay.curves[c.key, symbol]]
    verdicts = {p.verdict for p in shown_points}
    entries: list[Line2D | Patch] = [
        Line2D([], [], color=_BLUE, lw=1.1, label="value"),
        Line2D([], [], color=_RED, lw=1.2, ls="--", label="threshold; beyond it is tinted"),
    ]
    if any(p.upper is not None for p in shown_points):
        late = "surely no better than this of late: a rollback needs it beyond"
        whole = "surely in here over all: a promotion needs it within"
        entries += [
            Line2D([], [], color=_ORANGE, lw=1.3, label=late),
            Patch(color=_GREEN, alpha=0.16, label=whole),
        ]
    if Verdict.BREACHED in verdicts:
        entries.append(Patch(color=_RED, alpha=0.6, label="breached"))
    if any(not verdict.is_judged for verdict in verdicts):
        entries.append(Patch(color=_GREY, alpha=0.6, label="not judged"))
    return entries
