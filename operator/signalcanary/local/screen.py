"""The screen of a local run, drawn with rich.

For a newcomer: from top to bottom it says what is being tried, where the rollout is, why, what
comes next, how the canary is judged, which process runs what, and what has happened. Drawing is
a pure function of a `Scene`; only `LiveReporter` touches the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from signalcanary.evaluate import Judgement, Verdict
from signalcanary.local.scene import (
    Scene,
    TrackLine,
    breach_elapsed,
    clock,
    describe_bound,
    describe_evidence,
    describe_held,
    describe_metrics,
    describe_process,
    describe_value,
    sparkline,
    track_lines,
    version_of,
    warmup_ratio,
)
from signalcanary.local.world import LocalProcess, Look
from signalcanary.rollout import (
    ARMED,
    GUARDED,
    STARTING,
    Phase,
)

_PATH = (Phase.PENDING, Phase.WARMING, Phase.PROGRESSING, Phase.PROMOTING)
_WAY_BACK = (Phase.ROLLING_BACK, Phase.VERIFYING_ROLLBACK, Phase.ROLLED_BACK)
_STYLE: Mapping[Verdict, str] = {
    Verdict.OK: "green",
    Verdict.UNPROVEN: "cyan",
    Verdict.INCONCLUSIVE: "dim",
    Verdict.NO_DATA: "yellow",
    Verdict.ERROR: "yellow",
    Verdict.BREACHED: "bold red",
}
_EVENTS_SHOWN = 6
_EVENTS_KEPT = 2
"""So many of the newest are shown even where symbols must be left out."""


def draw(
    scene: Scene, most_rows: int | None = None, most_events: int = _EVENTS_SHOWN
) -> RenderableType:
    """The whole screen.

    Args:
        most_rows: of judgements that there is room for; of more, those of the worst symbols are
            shown, of one at least. None for all.
        most_events: the newest.
    """
    look = scene.look
    return Group(
        Panel(
            Text("\n").join(Text(line) for line in (*scene.about, *scene.facts)),
            title=Text(scene.title, style="bold"),
            title_align="left",
            subtitle=Text(f"time elapsed {clock(scene.elapsed_seconds)}"),
            subtitle_align="right",
            border_style="cyan",
        ),
        _phases(look),
        Text(),
        _words(look),
        Text(),
        Rule("how the canary is judged", style="dim", align="left"),
        _judged(scene, most_rows) if look.state.phase in GUARDED else _at_rest(look),
        Text(),
        Rule(
            "what runs" if scene.is_on_cluster else "what runs: processes in the place of pods",
            style="dim",
            align="left",
        ),
        _workloads(look) if scene.is_on_cluster else _tracks(look),
        Text(),
        Rule("events", style="dim", align="left"),
        _events(scene, most_events),
    )


def _phases(look: Look) -> Text:
    """The way of a rollout, with a light where it is now."""
    phase = look.state.phase
    ahead = (
        *([Phase.WAITING] if phase is Phase.WAITING else []),
        *([Phase.VERIFYING] if look.spec.signal.artifacts or phase is Phase.VERIFYING else []),
        *_PATH,
        *([Phase.SOAKING] if look.spec.soak or phase is Phase.SOAKING else []),
        Phase.SUCCEEDED,
    )
    is_verified = look.spec.rollback.verify or phase is Phase.VERIFYING_ROLLBACK
    back = [step for step in _WAY_BACK if is_verified or step is not Phase.VERIFYING_ROLLBACK]
    path = ahead if phase not in _WAY_BACK else (*_came_through(look), *back)
    at = path.index(phase)
    line = Text(" ")
    for index, step in enumerate(path):
        if index:
            line.append(" ─── ", style="dim")
        is_back = step in _WAY_BACK
        if index == at:
            style = "bold red" if is_back else "bold green" if step is path[-1] else "bold cyan"
            line.append(f"◉ {step}", style=style)
        elif index < at:
            line.append(f"● {step}", style="green")
        else:
            line.append(f"○ {step}", style="dim")
    return line


def _came_through(look: Look) -> tuple[Phase, ...]:
    """The phases that a rollout went through before it was taken back."""
    came: list[Phase] = []
    for transition in look.state.history:
        if transition.phase in ARMED and transition.phase not in came:
            came.append(transition.phase)
        if transition.reason == "RolloutStarted":
            break
    return tuple(reversed(came))


def _words(look: Look) -> Table:
    status = look.document["status"]
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(style="dim", width=8, justify="right")
    grid.add_column(ratio=1)
    is_bad = look.state.phase in _WAY_BACK or status.get("health") == Verdict.BREACHED
    grid.add_row("now", Text(status["message"], style="red" if is_bad else ""))
    grid.add_row("next", Text(status["next"]))
    if look.state.phase is Phase.WARMING or look.state.phase in STARTING:
        for symbol in look.spec.symbols.canary:
            grid.add_row("warm-up", _bar(symbol, warmup_ratio(look, symbol)))
    elif look.state.phase is Phase.PROGRESSING and "stage" in status:
        stage = status["stage"]
        index = stage["index"]
        clock_ = look.state.stage_clock
        total = look.spec.stages[index].duration
        ratio = clock_.elapsed(look.now) / total if clock_ and total else 1.0
        name = f"{stage['name']} ({index + 1} of {stage['of']})"
        grid.add_row("stage", _bar(name, min(1.0, ratio), stage["progress"]))
    return grid


def _bar(name: str, ratio: float, text: str = "") -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=16)
    row.add_column(width=36)
    row.add_column()
    bar = ProgressBar(total=1.0, completed=ratio, width=36, complete_style="cyan")
    row.add_row(name, bar, text or f"{ratio:.0%} of its windows filled")
    return row


def _judged(scene: Scene, most_rows: int | None) -> Group:
    shown, hidden = _that_fit(scene.look.decision.judgements, most_rows)
    parts: list[RenderableType] = [_judgements(scene, shown)]
    if hidden:
        more = "1 more symbol" if hidden == 1 else f"{hidden} more symbols"
        parts.append(Text(f" {more}, none worse", style="dim"))
    parts += [Text(f"   {line}", style="dim") for line in describe_metrics(scene.look)]
    return Group(*parts)


def _that_fit(
    judgements: Sequence[Judgement], most_rows: int | None
) -> tuple[list[Judgement], int]:
    """What there is room for, and how many symbols are left out; if any are, the worst come first.

    Args:
        most_rows: see `draw`.
    """
    if most_rows is None or len(judgements) <= most_rows:
        return list(judgements), 0
    by_symbol: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_symbol.setdefault(judgement.symbol, []).append(judgement)
    order = list(Verdict)

    def badness(symbol: str) -> tuple[int, int]:
        own = by_symbol[symbol]
        return max(order.index(j.verdict) for j in own), max(j.tier.level for j in own)

    shown: list[Judgement] = []
    worst_first = sorted(by_symbol, key=badness, reverse=True)
    for count, symbol in enumerate(worst_first):
        # One more row is for saying what was left out.
        if count and len(shown) + len(by_symbol[symbol]) + 1 > most_rows:
            return shown, len(by_symbol) - count
        shown += by_symbol[symbol]
    return shown, 0


def _judgements(scene: Scene, judgements: Sequence[Judgement]) -> Table:
    look = scene.look
    has_evidence = any(judgement.bound for judgement in judgements)
    table = Table(box=None, padding=(0, 1), expand=False, header_style="dim")
    # On a narrow terminal the columns with a least width are the last to be cut.
    table.add_column("symbol", no_wrap=True, min_width=8)
    table.add_column("condition", no_wrap=True, min_width=23)
    table.add_column("value now", no_wrap=True, min_width=9, justify="right")
    table.add_column("rolls back if", no_wrap=True, min_width=11)
    table.add_column("samples", no_wrap=True, justify="right")
    table.add_column("breach held", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=9)
    # Last, as a narrow terminal cuts what is last.
    if has_evidence:
        table.add_column("it surely is", no_wrap=True)
    if scene.trends:
        table.add_column("lately", no_wrap=True)
    symbol = ""
    for judgement in judgements:
        trend = scene.trends.get((judgement.condition.key, judgement.symbol), ())
        table.add_row(
            judgement.symbol if judgement.symbol != symbol else "",
            judgement.condition.metric,
            Text(describe_value(judgement), style=_STYLE[judgement.verdict]),
            describe_bound(judgement),
            f"{judgement.samples:,}" if judgement.samples is not None else "–",
            _held(look, judgement),
            Text(_verdict(judgement), style=_STYLE[judgement.verdict]),
            *([describe_evidence(judgement)] if has_evidence else []),
            *([Text(sparkline(trend), style="dim")] if scene.trends else []),
        )
        symbol = judgement.symbol
    return table


def _verdict(judgement: Judgement) -> str:
    if judgement.verdict.is_judged:
        return judgement.verdict.value
    return f"{judgement.verdict} ({judgement.reason})"


def _held(look: Look, judgement: Judgement) -> Text:
    elapsed = breach_elapsed(look, judgement)
    if elapsed is None:
        return Text("–", style="dim")
    allowed = judgement.debounce.for_
    ratio = min(1.0, elapsed / allowed) if allowed else 1.0
    full = round(ratio * 8)
    return Text(f"{'█' * full}{'░' * (8 - full)} {describe_held(look, judgement)}", style="red")


def _at_rest(look: Look) -> Text:
    if look.state.phase is Phase.SUCCEEDED:
        return Text(" no canary runs; the stable version serves the full symbol set", style="dim")
    return Text(" the canary is not judged any more: it has been taken back", style="dim")


def _tracks(look: Look) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 1), show_header=False)
    for line in track_lines(look):
        is_stable = line.track == "stable"
        table.add_row(
            Text(line.track, style="green" if is_stable else "cyan"),
            Text(line.version, style="bold"),
            " ".join(line.symbols),
            _processes(line),
        )
    if not table.row_count:
        table.add_row(Text("nothing", style="dim"))
    return table


def _workloads(look: Look) -> Table:
    """The StatefulSets, as status tells of them."""
    table = Table(box=None, padding=(0, 2, 0, 1), show_header=False)
    for one in look.document["status"].get("workloads", ()):
        is_ready = len(set(one["ready"].split("/"))) == 1
        restarts = one.get("restarts")
        table.add_row(
            Text(one["track"], style="green" if one["track"] == "stable" else "cyan"),
            Text(version_of(look, one["revision"]), style="bold"),
            one["component"],
            Text(f"{one['ready']} ready", style="green" if is_ready else "yellow"),
            Text(f"{restarts} restarts" if restarts else "", style="yellow"),
            one.get("message", ""),
        )
    if not table.row_count:
        table.add_row(Text("nothing", style="dim"))
    return table


def _processes(line: TrackLine) -> Text:
    text = Text()
    for process in line.processes:
        if text:
            text.append("  ")
        text.append(describe_process(process), style=_process_style(process))
    return text


def _process_style(process: LocalProcess) -> str:
    if process.is_ending:
        return "dim"
    if process.seen.pid is None:
        return "red"
    return "green" if process.is_ready else "yellow"


def _events(scene: Scene, most: int) -> Table:
    look = scene.look
    table = Table(box=None, padding=(0, 1), show_header=False, expand=True)
    table.add_column(min_width=6, no_wrap=True, justify="right", style="dim")
    table.add_column(width=17, no_wrap=True)
    table.add_column(ratio=1)
    for event in look.events[-most:]:
        at = scene.elapsed_seconds - (look.now - event.time).total_seconds()
        style = "red" if event.is_warning else ""
        table.add_row(clock(max(0.0, at)), Text(event.reason, style=style), event.message)
    return table


class LiveReporter:
    """Draws on the terminal's other screen, which is given back when it closes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._live.start()

    def show(self, scene: Scene) -> None:
        """Draw this scene, as much of it as the terminal has room for."""
        for most_events in range(_EVENTS_SHOWN, _EVENTS_KEPT - 1, -1):
            room = self._room(scene, most_events)
            if len(scene.look.decision.judgements) <= room:
                break
        self._live.update(draw(scene, room, most_events), refresh=True)

    def _room(self, scene: Scene, most_events: int) -> int:
        """How many rows of judgements there is room for beside all the rest."""
        least, hidden = _that_fit(scene.look.decision.judgements, 0)
        lines = self._console.render_lines(draw(scene, 0, most_events), pad=False)
        return self._console.size.height - len(lines) + len(least) + bool(hidden)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()
