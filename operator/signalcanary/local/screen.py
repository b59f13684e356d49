"""The screen of a local run, drawn with rich.

For a newcomer: from top to bottom it says what is being tried, where the rollout is, why, what
comes next, how the canary is judged, which process runs what, and what has happened. Drawing is
a pure function of a `Scene`; only `LiveReporter` touches the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
    SERVED,
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


@dataclass(frozen=True)
class Fill:
    """How much of a scene is drawn, where a terminal has no room for all.

    Attributes:
        rows: of judgements; of more, the worst symbols are shown, and one row at least. None for
            all.
        events: the newest.
        has_words: what the metrics are.
        has_space: empty lines between the parts.
        is_terse: no track that runs, and of each Event the first line.
        hidden: lines that all this leaves out.
    """

    rows: int | None = None
    events: int = _EVENTS_SHOWN
    has_words: bool = True
    has_space: bool = True
    is_terse: bool = False
    hidden: int = 0


_SMALLER = (
    *(Fill(events=events) for events in range(_EVENTS_SHOWN, 1, -1)),
    Fill(events=2, has_words=False),
    Fill(events=2, has_words=False, has_space=False),
)
"""What is left out before any symbol is."""
_LEAST = Fill(events=1, has_words=False, has_space=False, is_terse=True)
"""What goes on, what comes next, the worst symbol and the newest Event stay to the last."""


def draw(scene: Scene, fill: Fill = Fill()) -> RenderableType:
    """The whole screen, or as much of it as is asked for."""
    look = scene.look
    lost = f"{fill.hidden} line{'s' * (fill.hidden != 1)}"
    hidden = f"{lost} hidden, there is no room · " if fill.hidden else ""
    runs = "what runs" if scene.is_on_cluster else "what runs: processes in the place of pods"
    parts: list[list[RenderableType]] = [
        [
            Panel(
                Text("\n").join(Text(line) for line in (*scene.about, *scene.facts)),
                title=Text(scene.title, style="bold"),
                title_align="left",
                subtitle=Text(f"{hidden}time elapsed {clock(scene.elapsed_seconds)}"),
                subtitle_align="right",
                border_style="cyan",
            ),
            _phases(look),
        ],
        [_words(look)],
        [
            Rule(f"how {_judged_is(look)} is judged", style="dim", align="left"),
            _judged(scene, fill) if _is_judged(look) else _at_rest(look),
        ],
        [
            Rule(runs, style="dim", align="left"),
            _workloads(look) if scene.is_on_cluster else _tracks(look),
        ],
        [Rule("events", style="dim", align="left"), _events(scene, fill)],
    ]
    if fill.is_terse:
        del parts[3]
    lines: list[RenderableType] = []
    for part in parts:
        lines += [Text()] if lines and fill.has_space else []
        lines += part
    return Group(*lines)


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


def _judged(scene: Scene, fill: Fill) -> Group:
    shown, hidden = _that_fit(scene.look.decision.judgements, fill.rows)
    parts: list[RenderableType] = [_judgements(scene, shown)]
    if hidden:
        more = "1 more symbol" if hidden == 1 else f"{hidden} more symbols"
        parts.append(Text(f" {more}, none worse", style="dim"))
    if fill.has_words:
        parts += [Text(f"   {line}", style="dim") for line in describe_metrics(scene.look)]
    return Group(*parts)


def _that_fit(
    judgements: Sequence[Judgement], most_rows: int | None
) -> tuple[list[Judgement], int]:
    """What there is room for, and how many symbols are left out; if any are, the worst come first.

    Args:
        most_rows: see `Fill.rows`.
    """
    if most_rows is None or len(judgements) <= most_rows:
        return list(judgements), 0
    worst_first = _worst_first(judgements)
    # One more row is for saying what was left out.
    room = most_rows - (len(worst_first) > 1)
    shown = sorted(worst_first[0], key=_badness, reverse=True)[: max(1, room)]
    if len(worst_first[0]) <= room:
        shown = worst_first[0]
    for count, of_symbol in enumerate(worst_first[1:], 1):
        if len(shown) + len(of_symbol) > room:
            return shown, len(worst_first) - count
        shown = shown + of_symbol
    return shown, 0


def _worst_first(judgements: Sequence[Judgement]) -> list[list[Judgement]]:
    """The judgements by symbol."""
    by_symbol: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_symbol.setdefault(judgement.symbol, []).append(judgement)
    return sorted(by_symbol.values(), key=lambda own: max(map(_badness, own)), reverse=True)


def _badness(judgement: Judgement) -> tuple[int, int]:
    return list(Verdict).index(judgement.verdict), judgement.tier.level


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


def _judged_is(look: Look) -> str:
    return "what serves" if look.state.phase in SERVED else "the canary"


def _is_judged(look: Look) -> bool:
    # While a rollback is verified there may be nothing to show yet.
    has_any = bool(look.decision.judgements)
    return look.state.phase in GUARDED or (look.state.phase in SERVED and has_any)


def _at_rest(look: Look) -> Text:
    match look.state.phase:
        case Phase.SUCCEEDED:
            told = "no canary runs; the stable version serves the full symbol set"
        case Phase.WAITING:
            told = "nothing of the canary runs yet"
        case Phase.SOAKING | Phase.VERIFYING_ROLLBACK:
            told = "nothing can be judged yet"
        case _:
            told = "the canary is not judged any more: it has been taken back"
    return Text(f" {told}", style="dim")


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


def _events(scene: Scene, fill: Fill) -> Table:
    look = scene.look
    table = Table(box=None, padding=(0, 1), show_header=False, expand=True)
    table.add_column(min_width=6, no_wrap=True, justify="right", style="dim")
    table.add_column(width=17, no_wrap=True)
    table.add_column(ratio=1, no_wrap=fill.is_terse, overflow="ellipsis")
    for event in look.events[-fill.events :]:
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
        self._live.update(draw(scene, self._fill(scene)), refresh=True)

    def _fill(self, scene: Scene) -> Fill:
        height, judgements = self._console.size.height, scene.look.decision.judgements
        least, left_out = _that_fit(judgements, 0)
        # How many rows of judgements there is room for beside all the rest.
        room = {
            fill: height - self._lines(scene, replace(fill, rows=0)) + len(least) + bool(left_out)
            for fill in (*_SMALLER, _LEAST)
        }
        fill = next((one for one in _SMALLER if len(judgements) <= room[one]), None)
        if fill is None:
            worst = len(_worst_first(judgements)[0]) + bool(left_out) if judgements else 0
            fill = next((one for one in _SMALLER[-3:] if worst <= room[one]), _LEAST)
            fill = replace(fill, rows=room[fill])
        hidden = self._lines(scene, Fill()) - self._lines(scene, fill)
        return replace(fill, hidden=max(0, hidden))

    def _lines(self, scene: Scene, fill: Fill) -> int:
        return len(self._console.render_lines(draw(scene, fill), pad=False))

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()
