"""How a rollout's state changes: the moves that a decision is made of. Pure.

They say nothing of when; that is for `lifecycle.py`, and for `hand.py` where a person asks.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from signalcanary import explain
from signalcanary.api import SignalCanarySpec
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import (
    DUE,
    MAX_FORMER,
    MAX_HISTORY,
    Clock,
    Phase,
    RolloutState,
    Transition,
    call_of,
)


def enter(
    state: RolloutState,
    now: datetime,
    phase: Phase,
    reason: str,
    message: str,
    *,
    is_warning: bool = False,
) -> RolloutState:
    """Enter a phase, or a stage, and note it in the history."""
    state = replace(
        state,
        phase=phase,
        phase_since=now,
        phase_clock=Clock(now) if phase in DUE else None,
        queued_at=None,
        calls=(),
    )
    return note(state, now, reason, message, is_warning=is_warning)


def note(
    state: RolloutState, now: datetime, reason: str, message: str, *, is_warning: bool = True
) -> RolloutState:
    """Note in the history why the rollout is where it is."""
    about = state.canary or state.rejected or state.stable
    version = about.version if about else ""
    transition = Transition(now, state.phase, reason, message, version, is_warning)
    history = (transition, *state.history)[:MAX_HISTORY]
    return replace(state, reason=reason, message=message, history=history)


def call(state: RolloutState, now: datetime, reason: str, message: str) -> RolloutState:
    """Call a person, once in a phase or stage: what comes and goes is not told again and again."""
    if any(call.reason == reason for call in state.calls):
        return state
    return replace(state, calls=(*state.calls, call_of(now, reason, message)))


def begin_rollback(
    state: RolloutState, now: datetime, reason: str, cause: str, consequence: str = ""
) -> RolloutState:
    """Enter RollingBack; the cause and the consequence are those of `Transition`."""
    message = explain.rolling_back(cause, consequence)
    state = enter(state, now, Phase.ROLLING_BACK, reason, message, is_warning=True)
    return _keep_apart(state, cause, consequence)


def begin_verification(
    state: RolloutState, now: datetime, cause: str, consequence: str
) -> RolloutState:
    """Enter VerifyingRollback, for the reason of the rollback."""
    message = f"{cause}; {consequence}"
    phase, reason = Phase.VERIFYING_ROLLBACK, state.reason
    state = enter(state, now, phase, reason, message, is_warning=True)
    return _keep_apart(state, cause, consequence)


def _keep_apart(state: RolloutState, cause: str, consequence: str) -> RolloutState:
    entered = replace(state.history[0], cause=cause, consequence=consequence)
    return replace(state, history=(entered, *state.history[1:]))


def roll_back(state: RolloutState, now: datetime, reason: str, why: str) -> RolloutState:
    """Take the canary back."""
    rejected = canary_of(state)
    serves = (
        f"stable {state.stable.version} keeps running"
        if state.stable
        else "there is no stable revision yet, so nothing serves"
    )
    state = begin_rollback(state, now, reason, f"{rejected.version}: {why}", serves)
    return replace(without_canary(state), rejected=rejected)


def canary_of(state: RolloutState) -> RevisionRef:
    assert state.canary is not None  # a guarded phase has one
    return state.canary


def is_revision(revision: RevisionRef | None, other: RevisionRef | str) -> bool:
    """Whether it is that one, whatever the attempt."""
    name = other if isinstance(other, str) else other.name
    return revision is not None and revision.name == name


def without_canary(state: RolloutState) -> RolloutState:
    return replace(
        state,
        canary=None,
        rules=None,
        stage=None,
        stage_clock=None,
        checks=None,
        climbed=(),
        timers={},
        streaks={},
        standings={},
        held={},
        hand=state.hand.without_canary(),
    )


def new_attempt(state: RolloutState, revision: RevisionRef) -> tuple[RolloutState, RevisionRef]:
    """A revision under a number that no attempt before it had.

    The number names the folder of its data: evidence of another attempt is none of this one.
    """
    refs = (state.canary, state.stable, state.rejected, state.restoring, *state.former)
    last = max(state.last_attempt, *(ref.attempt for ref in refs if ref is not None), 0)
    attempt = max(revision.attempt, last + 1)
    return replace(state, last_attempt=attempt), replace(revision, attempt=attempt)


def make_stable(state: RolloutState, revision: RevisionRef) -> RolloutState:
    """Let a revision serve, and remember the one before it, if it served every symbol."""
    before = (state.stable,) if state.stable and not state.kept else ()
    others = [ref for ref in (*before, *state.former) if ref.name != revision.name]
    return replace(state, stable=revision, former=tuple(others)[:MAX_FORMER])


def stage_index(spec: SignalCanarySpec, state: RolloutState) -> int | None:
    """Place of the state's stage in the spec; None if it is not there (any more)."""
    return next((i for i, s in enumerate(spec.stages) if s.name == state.stage), None)
