"""The way of a rollout, step by step, and where on it the rollout is. Pure.

Time is told as clocks, by the instants that status has: whoever shows them lets them run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from signalcanary.api import Approval, SignalCanarySpec
from signalcanary.moves import stage_index
from signalcanary.rollout import TAKEN_BACK, Clock, Phase, RolloutState
from signalcanary.wire import format_instant


class Pace(StrEnum):
    """How a step stands."""

    DONE = "done"
    NOW = "now"
    FAILED = "failed"
    """The rollout was taken back here."""
    TO_COME = "to-come"


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        phases: those that belong to it.
        takes: at least, as observed; None where that is not declared.
        notes: what is special about it, in a few words each.
    """

    name: str
    phases: frozenset[Phase]
    takes: timedelta | None = None
    notes: tuple[str, ...] = ()


_START: Final = Step("start", frozenset({Phase.WAITING, Phase.VERIFYING, Phase.PENDING}))
_WARM_UP: Final = Step("warm-up", frozenset({Phase.WARMING}))
_PROMOTION: Final = Step("promotion", frozenset({Phase.PROMOTING}))


def steps_of(spec: SignalCanarySpec, state: RolloutState, warmup: str = "") -> list[dict[str, Any]]:
    """The steps from the start to the promotion, and to the end of the soak if there is one.

    Args:
        warmup: how far the windows are filled, as status has it.

    Gives nothing while an earlier revision is made stable again: that takes no steps.
    """
    if state.restoring is not None:
        return []
    steps = list(_way(spec))
    at = _place(spec, state, steps)
    is_taken_back = state.phase in TAKEN_BACK
    shown = []
    for number, step in enumerate(steps):
        pace = Pace.DONE if number < at else Pace.TO_COME
        if number == at:
            pace = Pace.FAILED if is_taken_back else Pace.NOW
        one: dict[str, Any] = {"name": step.name, "pace": pace.value, "notes": list(step.notes)}
        if step.takes is not None:
            one["takesSeconds"] = step.takes.total_seconds()
        if pace is Pace.NOW:
            if step.takes is not None and state.stage_clock is not None:
                one["clock"] = clock_of(state.stage_clock)
            if step is _WARM_UP:
                one["done"] = warmup
        shown.append(one)
    return shown


def clock_of(clock: Clock) -> dict[str, Any]:
    """A clock as the page lets it run.

    Gives: when it was started, how long it stood still (s), and since when it stands, if it does.
    """
    since = clock.blind_since
    return {
        "startedAt": format_instant(clock.started_at),
        "stoodSeconds": clock.blind.total_seconds(),
        **({"standsSince": format_instant(since)} if since else {}),
    }


def _way(spec: SignalCanarySpec) -> Iterator[Step]:
    yield _START
    yield _WARM_UP
    for stage in spec.stages:
        notes = ["publishes signals"] if stage.publish else []
        if stage.approval is Approval.REQUIRED:
            notes.append("ends with a person's approval")
        yield Step(stage.name, frozenset({Phase.PROGRESSING}), stage.duration, tuple(notes))
    yield _PROMOTION
    if spec.soak:
        yield Step("soak", frozenset({Phase.SOAKING}), spec.soak, ("guards stay armed",))


def _place(spec: SignalCanarySpec, state: RolloutState, steps: list[Step]) -> int:
    """Which step it is in, or was taken back in; the number of steps if all are done."""
    phase, index = state.phase, stage_index(spec, state)
    if phase is Phase.SUCCEEDED:
        return len(steps)
    if phase in TAKEN_BACK:
        last = next((t for t in state.history if t.phase not in TAKEN_BACK), None)
        if last is None:
            return 0
        phase = last.phase
        # Status forgets the stage with the canary; what began it is told by its name.
        index = next(
            (
                number
                for t in state.history
                if t.phase is Phase.PROGRESSING
                for number, stage in enumerate(spec.stages)
                if t.message.startswith(f"stage {stage.name} ")
            ),
            None,
        )
    if phase is Phase.PROGRESSING:
        return steps.index(_WARM_UP) + 1 + (index or 0)
    return next((number for number, step in enumerate(steps) if phase in step.phases), 0)
