"""What keeps a rollout from beginning or from moving on that is no matter of the canary. Pure.

One rule: outside its windows, and before others that it goes with, nothing moves forward. No
rollout begins, no stage begins, nothing is promoted. All else goes on: the canary is judged and
guarded, the stage's clock runs, and what takes a canary back waits for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from signalcanary import explain, groups, windows
from signalcanary.api import Manual, SignalCanarySpec, Stage, Windows
from signalcanary.look import Look
from signalcanary.moves import canary_of, enter, stage_index
from signalcanary.rollout import STARTING, Phase, RolloutState
from signalcanary.windows import Wait, shown


def to_start(look: Look, state: RolloutState) -> Wait | None:
    """What keeps the canary from starting; None if nothing does."""
    return _before_its_turn(look, state) or groups.turn(look, state)


def _before_its_turn(look: Look, state: RolloutState) -> Wait | None:
    schedule = look.spec.schedule
    if schedule is not None and schedule.start_at is not None and look.now < schedule.start_at:
        text = f"nothing of it starts before {shown(schedule.start_at)} (schedule.startAt)"
        return Wait("BeforeStartAt", text, (schedule,), schedule.start_at)
    return _closed(look, _windows_of(look.spec, None)) or groups.to_start(look, state)


def to_move(look: Look, state: RolloutState) -> Wait | None:
    """What keeps a canary that has started from the next stage, or from the promotion."""
    shut = None
    if not _is_on_a_word(look, state):
        shut = to_pass(look, stage_of(look.spec, state))
    return shut or groups.to_move(look, state)


def to_pass(look: Look, stage: Stage | None) -> Wait | None:
    """What windows keep it from that, whatever a person has said.

    Args:
        stage: the one that is to end; None where none has begun.
    """
    return _closed(look, _windows_of(look.spec, stage))


def stage_of(spec: SignalCanarySpec, state: RolloutState) -> Stage | None:
    """The stage by whose windows the state's phase ends."""
    if state.phase is Phase.PROMOTING:
        return spec.stages[-1]
    index = stage_index(spec, state) if state.phase is Phase.PROGRESSING else None
    return spec.stages[index] if index is not None else None


def is_manual(spec: SignalCanarySpec) -> bool:
    """Whether a person's word moves the rollout on outside its windows."""
    return spec.schedule is not None and spec.schedule.manual is Manual.ALLOW


def opens_at(spec: SignalCanarySpec, stage: Stage | None, at: datetime) -> datetime | None:
    """The first time from `at` on at which a stage may end; None if there is none."""
    return windows.opening(_windows_of(spec, stage), at)


def _is_on_a_word(look: Look, state: RolloutState) -> bool:
    is_said = {Phase.PROGRESSING: state.hand.skip, Phase.PROMOTING: state.hand.promote}
    return is_said.get(state.phase) is not None and is_manual(look.spec)


def _windows_of(spec: SignalCanarySpec, stage: Stage | None) -> list[Windows]:
    of_stage = stage.schedule if stage is not None else None
    return [one for one in (spec.schedule, of_stage) if one is not None]


def _closed(look: Look, of: Sequence[Windows]) -> Wait | None:
    # What a look into the past decides is done now.
    for at in (look.now, look.seen.present or look.now):
        if (shut := windows.closed(of, at)) is not None:
            return Wait(shut.why.value, _WHY[shut.why], tuple(of), at)
    return None


_WHY = {
    windows.Shut.BLACKOUT: "it is a blackout",
    windows.Shut.OUTSIDE: "it is outside the allowed hours",
}


# --------------------------------------------------------------------------- beginning


def begin(look: Look, state: RolloutState, reason: str, why: str) -> RolloutState:
    """Start the state's canary, or let it wait until it may."""
    wait = to_start(look, state)
    if wait is not None:
        return enter(state, look.now, Phase.WAITING, "WaitingToStart", f"{why}; {wait.message}")
    return _start(look, state, reason, why)


def end(look: Look, state: RolloutState) -> RolloutState:
    """Start the canary once nothing keeps it any more; until its turn it stands in the queue."""
    is_queued = groups.takes_turns(look) and _before_its_turn(look, state) is None
    state = replace(state, queued_at=(state.queued_at or look.now) if is_queued else None)
    if to_start(look, state) is not None:
        return state
    why = explain.rolling_out(canary_of(state), look.spec)
    return _start(look, state, "RolloutStarted", why)


def go_back(look: Look, state: RolloutState) -> RolloutState:
    """Let a canary whose pods do not run yet wait again, where another began before it."""
    wait = groups.yields(look, state) if state.phase in STARTING else None
    if wait is None:
        return state
    why = f"{canary_of(state).version} goes back to wait: {wait.message}"
    return enter(replace(state, timers={}), look.now, Phase.WAITING, "WaitingToStart", why)


def _start(look: Look, state: RolloutState, reason: str, why: str) -> RolloutState:
    phase = Phase.VERIFYING if look.spec.signal.artifacts else Phase.PENDING
    return enter(state, look.now, phase, reason, why)
