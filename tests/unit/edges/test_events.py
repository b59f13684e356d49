"""Every phase × every event, played through the operator's own loop, and what came of it.

One rollout is driven through all of its phases, and another through a rollback; in each phase the
cluster is copied. Each event then happens to each copy, under an operator that was started anew:
status is all that it knows. What follows, and where it ends, is asserted by laws, and written down
in docs/phases-and-events.md (`make docs`). Which tests play an event on real servers stands there.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from events_kit import EVENTS, MOST_LOOKS, SAID, Event, Scene, Way, visit

from signalcanary.commands import Verb
from signalcanary.rollout import GUARDED, TAKEN_BACK, WITH_CANARY, Phase, RolloutState
from signalcanary.store import Kind

pytestmark = pytest.mark.timeout(1800)

# --------------------------------------------------------------------------- what comes of it


@dataclass(frozen=True)
class Cell:
    """What came of an event in a phase.

    Attributes:
        ways: transitions until it was at rest, each with the number of its look.
        served: what the stable track ran after each look.
        told: reasons of the Events that were posted.
        answer: to a command: Done, or why it was refused.
        left: objects that nobody would collect if the SignalCanary were deleted.
        calls: to the API server, after a deletion.
        state: at the end; None if there is no object any more.
    """

    phase: Phase
    event: Event
    ways: tuple[tuple[int, Phase, str], ...]
    served: tuple[str, ...]
    told: tuple[str, ...]
    answer: str
    left: tuple[str, ...]
    calls: tuple[str, ...]
    before: RolloutState
    state: RolloutState | None

    @property
    def story(self) -> list[Way]:
        return [(phase, reason) for _, phase, reason in self.ways]

    @property
    def end(self) -> RolloutState:
        assert self.state is not None
        return self.state

    def reasons(self, looks: int = MOST_LOOKS) -> set[str]:
        """Of the transitions at the first so many looks."""
        return {reason for n, _, reason in self.ways if n < looks}


async def play(start: Scene, phase: Phase, event: Event) -> Cell:
    """Let an event happen, and look until nothing follows any more."""
    scene = await start.copy()
    before, known = scene.state, set(scene.cluster.events)
    event.happens(scene)
    ways: list[tuple[int, Phase, str]] = []
    served: list[str] = []
    quiet = 0
    for n in range(MOST_LOOKS):
        if n == event.looks:
            event.ends(scene)
        scene.story.clear()
        await scene.look()
        if not scene.is_there:
            break
        check(scene)
        ways += [(n, *way) for way in scene.story]
        served.append(scene.serving())
        quiet = quiet + 1 if not scene.story and n >= event.looks else 0
        is_at_rest = scene.phase() in (Phase.SUCCEEDED, Phase.ROLLED_BACK)
        if quiet >= (2 if is_at_rest else 8):
            break
    events = scene.cluster.events
    answers = scene.state.hand.answers if scene.is_there else ()
    said = [answer.refusal or "Done" for answer in answers if answer.word.why == SAID]
    return Cell(
        phase,
        event,
        tuple(ways),
        tuple(served),
        # Transitions are kept by when and what, warnings by why and what.
        tuple(
            dict.fromkeys(
                events[k] if k[1][:1].isdigit() else k[1] for k in events if k not in known
            )
        ),
        said[0] if said else "",
        tuple(
            f"{kind} {key.name}"
            for (kind, key), item in scene.cluster.objects.items()
            if kind not in (Kind.SIGNAL_CANARY, Kind.POD)
            and not item["metadata"].get("ownerReferences")
        ),
        () if scene.is_there else tuple(scene.cluster.calls),
        before,
        scene.state if scene.is_there else None,
    )


def check(scene: Scene) -> None:
    """What holds after every look, whatever happens."""
    status, state = scene.status(), scene.state
    generations = {c["observedGeneration"] for c in status["conditions"]}
    assert generations == {status["observedGeneration"]}
    if state.phase is Phase.ROLLING_BACK:
        # An edit waits until the canary's pods are gone, and status says so.
        assert status["observedGeneration"] <= scene.generation
    elif not scene.is_failing:
        assert status["observedGeneration"] == scene.generation
    assert state.stable is not None
    assert scene.serving() != "nothing"
    assert (state.canary is not None) == (state.phase in WITH_CANARY)
    if not scene.is_failing:
        active = scene.cluster.get(Kind.CONFIG_MAP, "demo-active")["data"]
        assert active["version"] == state.stable.version
        sets = (
            scene.cluster.get(Kind.STATEFUL_SET, n) for n in scene.cluster.names(Kind.STATEFUL_SET)
        )
        images = {sts["spec"]["template"]["spec"]["containers"][0]["image"] for sts in sets}
        assert images == {"workloads:1"}


@dataclass(frozen=True)
class Played:
    """Every cell, and what followed in each phase where nothing happened."""

    cells: dict[tuple[str, Phase], Cell]
    followed: dict[Phase, list[Way]]

    def of(self, *names: str) -> Iterator[Cell]:
        return (cell for (name, _), cell in self.cells.items() if name in names)

    def goes_on(self, cell: Cell) -> bool:
        """Whether all of it was as if nothing had happened."""
        if cell.state is None:
            return False
        version = "v1" if cell.phase in TAKEN_BACK else "v2"
        return cell.story == self.followed[cell.phase] and cell.served[-1] == version


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    async def play_all() -> Played:
        scenes, followed = await visit()
        cells = {
            (event.name, phase): await play(scene, phase, event)
            for event in EVENTS
            for phase, scene in scenes.items()
        }
        return Played(cells, followed)

    logging.disable(logging.CRITICAL)
    try:
        yield asyncio.run(play_all())
    finally:
        logging.disable(logging.NOTSET)


# --------------------------------------------------------------------------- the laws


def test_every_event_meets_every_phase(played: Played) -> None:
    assert set(played.followed) == set(Phase)
    assert len(played.cells) == len(EVENTS) * len(Phase)


def test_what_is_no_business_of_the_rollout_changes_nothing_of_it(played: Played) -> None:
    """They may take longer; what follows is the same."""
    names = ("restart", "operator away", "conflict", "resume", "pod lost", "volume full")
    for cell in played.of(*names, "metrics source away", "objects edited"):
        assert played.goes_on(cell), (cell.event.name, cell.phase, cell.story)


def test_what_is_refused_does_nothing_and_is_answered(played: Played) -> None:
    for cell in played.of(*Verb):
        assert cell.answer, (cell.event.name, cell.phase)
        assert ("CommandDone" if cell.answer == "Done" else "CommandRefused") in cell.told
        if cell.answer != "Done":
            assert played.goes_on(cell)


def test_an_abort_is_never_lost(played: Played) -> None:
    for cell in played.of(Verb.ABORT):
        if cell.phase in WITH_CANARY:
            assert cell.ways[0] == (0, Phase.ROLLING_BACK, "Aborted")
            assert (cell.end.phase, cell.end.reason) == (Phase.ROLLED_BACK, "Aborted")
            assert cell.end.stable == cell.before.stable
            assert cell.end.rejected == cell.before.canary
        else:
            assert cell.answer == "NothingRunning"


def test_a_rollback_by_hand_ends_with_what_was_stable_before(played: Played) -> None:
    for cell in played.of(Verb.ROLLBACK):
        if cell.phase is Phase.ROLLING_BACK:
            assert cell.answer == "RollingBack"
            continue
        assert cell.end.phase is Phase.ROLLED_BACK
        assert cell.end.stable is not None
        assert cell.end.stable.name == cell.before.former[0].name


def test_only_what_was_rolled_back_is_tried_again(played: Played) -> None:
    for cell in played.of(Verb.RETRY):
        assert (cell.answer == "Done") == (cell.phase is Phase.ROLLED_BACK)


def test_paused_nothing_moves_on_and_a_rollback_ends_all_the_same(played: Played) -> None:
    for cell in played.of(Verb.PAUSE):
        assert not cell.reasons() & {"StageStarted", "StagesPassed", "Promoted", "Soaked"}
        if cell.phase in TAKEN_BACK:
            assert played.goes_on(cell)


def test_an_edit_ends_in_exactly_one_subject(played: Played) -> None:
    names = ("edit: new version", "edit: while away", "edit: symbols added", "edit: back to stable")
    for cell in played.of(*names):
        version = {"n": "v3", "w": "v3", "s": "v2", "b": "v1"}[
            cell.event.name.removeprefix("edit: ")[0]
        ]
        assert (cell.end.phase, cell.end.canary) == (Phase.SUCCEEDED, None)
        assert cell.served[-1] == version
        assert cell.end.stable is not None
        assert cell.end.stable.version == version
        if cell.event.name == "edit: symbols added" and cell.before.canary:
            assert cell.end.stable.name != cell.before.canary.name
    for cell in played.of("edit: symbols removed"):
        if cell.phase is Phase.WAITING:
            assert played.goes_on(cell)
            continue
        is_begun_anew = cell.phase in {*GUARDED, *TAKEN_BACK}
        assert ({"RulesChanged", "RolloutStarted"} & cell.reasons() != set()) == is_begun_anew
        assert cell.served[-1] == "v2"
    for cell in played.of("edit: the pace", "edit: unknown field"):
        assert played.goes_on(cell) == (cell.phase not in TAKEN_BACK)
        assert (cell.end.phase, cell.served[-1]) == (Phase.SUCCEEDED, "v2")


def test_what_this_operator_cannot_read_is_told_and_left_alone(played: Played) -> None:
    for cell in played.of("edit: unknown field"):
        assert "InvalidObject" in cell.told
        assert not cell.reasons(cell.event.looks)


def test_nothing_is_decided_on_what_cannot_be_seen(played: Played) -> None:
    forward = {"StageStarted", "StagesPassed", "Promoted", "Soaked"}
    for cell in played.of("metrics source away"):
        assert not cell.reasons(cell.event.looks) & (forward | {"CanarySilent"})
    for cell in played.of("pod lost"):
        assert not cell.reasons(cell.event.looks) & {"StagesPassed", "Promoted", "CanaryRunning"}
    for cell in played.of("volume full"):
        assert not cell.reasons() & {"CanarySilent", "CanaryNotRunning"}


def test_what_cannot_run_is_never_promoted(played: Played) -> None:
    for cell in played.of("image missing"):
        assert "Promoted" not in cell.reasons()
        is_taken_back = cell.phase in {*WITH_CANARY, Phase.SOAKING}
        assert bool(cell.reasons() & {"CanaryNotRunning", "CanarySilent"}) == is_taken_back
        assert cell.served[-1] == ("v2" if cell.phase is Phase.SUCCEEDED else "v1")


def test_what_is_refused_by_the_server_is_told_and_tried_again(played: Played) -> None:
    for cell in played.of("quota denied"):
        if cell.phase in (Phase.PENDING, Phase.WARMING, Phase.PROGRESSING):
            assert "Refused" in cell.told
            assert played.goes_on(cell), "it took longer"
        if cell.phase is Phase.VERIFYING:
            assert cell.end.reason == "CanaryNotRunning"


def test_a_breach_is_taken_back_wherever_anybody_judges(played: Played) -> None:
    for cell in played.of("breach"):
        is_judged = cell.phase in {*WITH_CANARY, Phase.SOAKING}
        assert ("ConditionBreached" in cell.reasons()) == (
            is_judged or cell.phase is Phase.ROLLING_BACK
        )
        assert "Promoted" not in cell.reasons()


def test_what_was_edited_by_hand_is_told(played: Played) -> None:
    for cell in played.of("objects edited"):
        assert "DriftCorrected" in cell.told


def test_deleted_it_leaves_nothing_that_nobody_collects_and_is_not_touched(played: Played) -> None:
    for cell in played.of("delete"):
        assert cell.left == ()
        assert cell.calls == ()


# --------------------------------------------------------------------------- the page

PAGE = Path(__file__).parents[3] / "docs" / "phases-and-events.md"
INTRO = """# Every phase and every event

Written by `make docs` from `tests/unit/edges/test_events.py`, which lets every event happen in
every phase, under an operator that has just been started, and looks until it is at rest; a test
keeps it in step. v1 serves, v0 did before, and v2 is rolled out: it may start only after a while,
has model files, two stages, of which the second wants an approval (the desk is called by
`ApprovalNeeded`, and gives it), a soak, and rollbacks are verified. From RollingBack on, v2 has
been taken back by a breach.
What the phases are: [lifecycle.md](lifecycle.md).

After every look, whatever happens: something serves, and `NAME-active` says what;
`observedGeneration` is the spec's, but while a rollback goes on, for which an edit waits; and every
object is as declared.

*goes on* is: as if nothing had happened, if later. Else the table says where it ends, and what
serves then.
"""


OUTRO = """
## What is no event of one rollout

- **Two SignalCanaries of one namespace with one symbol** share nothing: pods, data, gates and
  streams carry the name of theirs, and neither is judged on what the other does. Both go on; as
  consumers get two signals that are called stable, the one that begins a rollout is told:
  `SymbolsShared` (`tests/unit/edges/test_overlap.py`).
- **The operator is upgraded with rollouts running**: it goes on from what the earlier one wrote,
  and no rollout begins anew (`tests/sim/test_upgrade.py`). A new default image is of new revisions
  alone.
- **The CRD is older than the operator**: it says what the CRD lacks, and ends, before it touches
  anything (`tests/integration/operator/test_process.py`). That it is newer is an event above.
"""


def in_words(cell: Cell, played: Played) -> str:
    if cell.state is None:
        return "gone"
    if played.goes_on(cell):
        return "goes on"
    paused = ", paused" if cell.end.hand.pause else ""
    reason = f" ({cell.end.reason})" if not paused else ""
    return f"{cell.end.phase}{paused}{reason}, {cell.served[-1]}"


def story_of(cell: Cell, played: Played) -> str:
    if cell.state is None:
        return "nothing"
    if played.goes_on(cell):
        return "as without it"
    told = []
    for phase, reason in cell.story:
        step = f"{phase} ({reason})"
        if step not in told:
            told.append(step)
    return " → ".join(told) or "it stays"


def page(played: Played) -> str:
    """The document: a table of all, and each event by itself."""
    phases = list(Phase)
    lines = [INTRO, f"| | {' | '.join(phases)} |", "|---" * (len(phases) + 1) + "|"]
    for event in EVENTS:
        cells = (played.cells[event.name, phase] for phase in phases)
        link = event.name.replace(" ", "-").replace(":", "")
        line = " | ".join(in_words(cell, played) for cell in cells)
        lines.append(f"| [{event.name}](#{link}) | {line} |")
    for event in EVENTS:
        is_asked = event.name in list(Verb)
        lines += ["", f"## {event.name}", "", f"{event.what} {event.outcome}", ""]
        lines.append(f"| in |{' answer |' if is_asked else ''} what follows | at rest | told |")
        lines.append("|---" * (5 if is_asked else 4) + "|")
        rows: dict[tuple[str, ...], list[Phase]] = {}
        for phase in phases:
            cell = played.cells[event.name, phase]
            # The desk's approvals are no part of it, nor what it is called to them by.
            desk = {"ApprovalNeeded"} if is_asked else {"ApprovalNeeded", "CommandDone"}
            usual = {r for _, r in cell.story} | desk
            told = [reason for reason in cell.told if reason not in usual]
            row = (story_of(cell, played), in_words(cell, played), ", ".join(told) or "–")
            rows.setdefault((cell.answer, *row) if is_asked else row, []).append(phase)
        lines += [f"| {', '.join(where)} | {' | '.join(row)} |" for row, where in rows.items()]
        if event.real:
            lines += ["", "With real servers:", ""]
            lines += [f"- `{name}` in `{file}`" for file, name in event.real]
    return "\n".join(lines) + "\n" + OUTRO


def test_the_page_says_what_was_played(played: Played) -> None:
    text = page(played)
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "run make docs"


@pytest.mark.parametrize("event", [e for e in EVENTS if e.real], ids=lambda event: event.name)
def test_the_tests_with_real_servers_are_there(event: Event) -> None:
    for file, name in event.real:
        assert f"def {name}(" in (PAGE.parents[1] / file).read_text()
