"""What a local run has to say at a moment, whatever shows it; and the plain way to show it.

Two readers: a person before a terminal, for whom `screen.py` draws, and a log. Both get the
same `Scene`. This module holds the words and the line-by-line reporter, and needs nothing but
the standard library, so that a run works without rich.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TextIO

from signalcanary.api import Condition
from signalcanary.contract import METRICS_BY_NAME, Component, Track, Unit, format_duration
from signalcanary.evaluate import Judgement, Verdict, shown_end
from signalcanary.local.world import LocalProcess, Look
from signalcanary.rollout import (
    GUARDED,
    Phase,
    plan,
)

PROGRESS_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class Scene:
    """A moment of a run.

    Attributes:
        title: which story this is.
        about: what is tried and what should come of it, for someone who knows nothing yet.
        elapsed_seconds: since the run began.
        facts: lines about the surroundings, such as the exchange.
        trends: the last values of each condition, by its key and the symbol.
        is_on_cluster: whether pods run, which status tells of, and no processes.
    """

    title: str
    about: tuple[str, ...]
    elapsed_seconds: float
    look: Look
    facts: tuple[str, ...] = ()
    trends: Mapping[tuple[str, str], Sequence[float]] = field(default_factory=dict)
    is_on_cluster: bool = False


class Reporter(Protocol):
    """Shows scenes as they come."""

    def show(self, scene: Scene) -> None: ...

    def close(self) -> None: ...


def clock(seconds: float) -> str:
    """Elapsed time as m:ss, from an hour on as h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


# --------------------------------------------------------------------------- the words


def warmup_ratio(look: Look, symbol: str) -> float:
    """How far a symbol's windows are filled (0–1); 0 while nothing is known."""
    return min(1.0, look.seen.metrics.warmup_ratio.get(symbol, 0.0))


_MEANING = {
    "platt_ece": "how far its probabilities are off (calibration error)",
    "platt_brier": "how far its probabilities are from what happened (Brier score)",
    "merge_time_diff_ms": "how far its two market feeds drift apart, in market time",
    "slice_auc": "how well it ranks rises above falls; 0.5 is a coin toss",
}


def describe_metrics(look: Look) -> tuple[str, ...]:
    """What the metrics of the conditions mean, one line each, for a newcomer."""
    names = dict.fromkeys(condition.metric for condition in look.spec.rollback.conditions)
    return tuple(
        f"{name}: {meaning}"
        for name in names
        for prefix, meaning in _MEANING.items()
        if name.startswith(prefix)
    )


def describe_value(judgement: Judgement) -> str:
    """The value with its unit; a dash while there is none."""
    if judgement.value is None:
        return "–"
    if _is_ms(judgement.condition):
        return f"{judgement.value:,.0f} ms"
    return f"{judgement.value:.3f}"


def _is_ms(condition: Condition) -> bool:
    metric = METRICS_BY_NAME.get(condition.metric)  # a query of one's own is none of ours
    return metric is not None and metric.unit is Unit.MILLISECONDS


_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """Values as blocks between the least and the greatest of them."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    step = (high - low) / (len(_BLOCKS) - 1)
    return "".join(_BLOCKS[round((v - low) / step) if step else 0] for v in finite)


def describe_evidence(judgement: Judgement) -> str:
    """What the value surely is, by the rows that its verdict goes by."""
    bound = judgement.bound
    if bound is None:
        return "–"
    is_late = judgement.verdict is Verdict.BREACHED
    low = bound.lower if is_late else bound.whole_lower
    high = bound.upper if is_late else bound.whole_upper
    return f"{shown_end(low)} to {shown_end(high)}"


def describe_bound(judgement: Judgement) -> str:
    """When it would be a breach, for example ``< 0.55``."""
    condition = judgement.condition
    bound = f"{condition.threshold:,.0f} ms" if _is_ms(condition) else f"{condition.threshold:g}"
    return f"{condition.sign} {bound}"


def breach_elapsed(look: Look, judgement: Judgement) -> timedelta | None:
    """How long a breach has held; None without one."""
    timer = look.state.timers.get((judgement.condition.key, judgement.symbol))
    return timer.elapsed(look.now) if timer else None


def describe_held(look: Look, judgement: Judgement) -> str:
    """How long a breach has held of what it may, for example ``2s of 4s``."""
    elapsed = breach_elapsed(look, judgement)
    if elapsed is None:
        return ""
    held = format_duration(timedelta(seconds=max(0, int(elapsed.total_seconds()))))
    return f"{held} of {format_duration(judgement.debounce.for_)}"


def version_of(look: Look, revision: str) -> str:
    """The user's name of a revision."""
    state = look.state
    refs = (state.rejected, state.canary, state.stable, *state.kept.values())
    known = {ref.name: ref.version for ref in refs if ref}
    return known.get(revision, revision)


def describe_process(process: LocalProcess) -> str:
    """A process in a few characters: what, which, and how it is."""
    pid = process.seen.pid
    if process.is_ending:
        how = "ending"
    elif process.seen.problem:
        how = "down"
    else:
        how = "ready" if process.is_ready else f"starting: {process.unready}".removesuffix(": ")
    again = f", restarted {process.seen.restarts}×" if process.seen.restarts else ""
    return f"{process.slot.component} {pid or '…'} ({how}{again})"


@dataclass(frozen=True)
class TrackLine:
    """One track and what runs it."""

    track: Track
    version: str
    symbols: tuple[str, ...]
    processes: tuple[LocalProcess, ...]


def track_lines(look: Look) -> tuple[TrackLine, ...]:
    """Stable first, then the canary; each revision on a line of its own."""
    keys = sorted(
        {(p.slot.track, p.slot.revision) for p in look.processes},
        key=lambda key: (key[0] is Track.CANARY, version_of(look, key[1])),
    )
    order = list(Component)
    return tuple(
        TrackLine(
            track,
            version_of(look, revision),
            _symbols_of(look, track, revision),
            tuple(
                sorted(
                    (p for p in look.processes if (p.slot.track, p.slot.revision) == key),
                    key=lambda p: (order.index(p.slot.component), p.slot.shard),
                )
            ),
        )
        for key in keys
        for track, revision in [key]
    )


def _symbols_of(look: Look, track: Track, revision: str) -> tuple[str, ...]:
    """What a track runs, or ran until it was no longer wanted."""
    symbols = look.spec.symbols.canary if track is Track.CANARY else look.spec.symbols.full
    wanted = (p for p in plan(look.state) if (p.track, p.revision.name) == (track, revision))
    return next((planned.choose(symbols) for planned in wanted), symbols)


def describe_progress(look: Look) -> str:
    """One line that says how far things are."""
    state = look.state
    if state.phase is Phase.VERIFYING:
        return "verifying the artifacts"
    if state.phase is Phase.WARMING or state.phase is Phase.PENDING:
        parts = [f"{s} {warmup_ratio(look, s):.0%}" for s in look.spec.symbols.canary]
        return f"filling the calibration windows: {', '.join(parts)}"
    status = look.document["status"]
    parts = []
    if state.phase is Phase.PROGRESSING and "stage" in status:
        stage = status["stage"]
        parts.append(f"stage {stage['name']}: {stage['progress']}")
    parts += [
        f"{j.symbol} {j.condition.metric} {describe_value(j)}"
        + (f" {describe_bound(j)} held {describe_held(look, j)}" if held else "")
        for j in look.decision.judgements
        if (held := breach_elapsed(look, j)) is not None
        or j.condition.metric == "slice_auc_active_period"
    ]
    return "; ".join(parts)


# --------------------------------------------------------------------------- plain lines


@dataclass
class PlainReporter:
    """Timestamped lines: what is new, and every few seconds how far things are."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    _title: str = ""
    _events: int = 0
    _last_event: object = None
    _processes: dict[str, str] = field(default_factory=dict)
    _verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    _next_progress_seconds: float = 0.0

    def show(self, scene: Scene) -> None:
        """Write what has changed since the scene before."""
        look = scene.look
        if scene.title != self._title:
            self._title = scene.title
            self._verdicts.clear()
            self._say(scene, f"── {scene.title}")
            for line in (*scene.about, *scene.facts):
                self._say(scene, f"   {line}")
        events = look.events
        known = self._last_event
        fresh = events[events.index(known) + 1 :] if known in events else events
        for event in fresh:
            self._say(scene, f"{'!' if event.is_warning else '•'} {event.reason}: {event.message}")
            self._last_event = event
        self._show_processes(scene)
        is_new = self._show_verdicts(scene)
        if look.state.phase not in GUARDED:
            return
        if is_new or fresh or scene.elapsed_seconds >= self._next_progress_seconds:
            self._next_progress_seconds = scene.elapsed_seconds + PROGRESS_EVERY_SECONDS
            if text := describe_progress(look):
                self._say(scene, f"  {look.state.phase}: {text}")

    def close(self) -> None:
        """Nothing is held open."""

    def _show_processes(self, scene: Scene) -> None:
        now = {
            process.seen.name: f"{line.track} {line.version} {describe_process(process)}"
            for line in track_lines(scene.look)
            for process in line.processes
        }
        for name, text in self._processes.items():
            if name not in now:
                self._say(scene, f"  {text.rpartition(' (')[0]} (gone)")
        for name, text in now.items():
            if text != self._processes.get(name):
                self._say(scene, f"  {text}")
        self._processes = now

    def _show_verdicts(self, scene: Scene) -> bool:
        changed = False
        for judgement in scene.look.decision.judgements:
            key = (judgement.condition.key, judgement.symbol)
            before = self._verdicts.get(key)
            self._verdicts[key] = judgement.verdict
            if before is judgement.verdict or not (
                judgement.verdict.is_judged or (before and before.is_judged)
            ):
                continue
            changed = True
            self._say(scene, f"  {judgement.verdict}: {judgement.message}")
        return changed

    def _say(self, scene: Scene, text: str) -> None:
        print(f"[{clock(scene.elapsed_seconds):>5}] {text}", file=self.out, flush=True)
