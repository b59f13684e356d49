"""What the other SignalCanaries of a namespace keep a rollout from, or do to it. Pure.

There is no lock and no object of the group: each member goes by what it sees of the others' status.
What it sees may be old. So a rollout that must take turns first stands in the queue, for others to
see, and begins at a later look if it is first; and where two have begun all the same, the later one
goes back before its pods have run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from signalcanary import explain
from signalcanary.api import OnVerdict, Pace
from signalcanary.look import Look
from signalcanary.moves import stage_index
from signalcanary.rollout import (
    BEGINNINGS,
    GUARDED,
    STARTING,
    TAKEN_BACK,
    Member,
    Phase,
    RolloutState,
)
from signalcanary.windows import Wait

_UNDER_WAY = GUARDED | {Phase.SOAKING, Phase.ROLLING_BACK, Phase.VERIFYING_ROLLBACK}
READY = "GroupNotReady"
"""Reason of a wait for nothing but the others of the group: this one is ready."""


def to_start(look: Look, state: RolloutState) -> Wait | None:
    """What of the others keeps a rollout from beginning, but for its turn."""
    return _order(look) or _held(look, state)


def to_move(look: Look, state: RolloutState) -> Wait | None:
    """What of the others keeps a rollout from the next stage, or from the promotion."""
    if state.phase is Phase.PROMOTING and state.hand.promote is not None:
        return None  # a person's word is for this one alone
    return _held(look, state) or _together(look, state)


def turn(look: Look, state: RolloutState) -> Wait | None:
    """Whether a rollout that may begin must wait for its turn."""
    if not takes_turns(look):
        return None
    busy = next((m for m in _members(look) if m.phase in _UNDER_WAY), None)
    if busy is not None:
        return Wait("GroupTurn", f"{busy.name} of group {_name(look)} is under way ({busy.phase})")
    queued_at = state.queued_at
    if queued_at is None or queued_at >= look.now:
        return Wait("GroupTurn", f"it stands in the queue of group {_name(look)}")
    mine = (queued_at, look.seen.name)
    ahead = [m for m in _members(look) if m.queued_at and (m.queued_at, m.name) < mine]
    if not ahead:
        return None
    first = min(ahead, key=lambda m: (m.queued_at or look.now, m.name))
    return Wait("GroupTurn", f"{first.name} of group {_name(look)} has waited longer")


def yields(look: Look, state: RolloutState) -> Wait | None:
    """Whether a rollout whose pods do not run yet must let another one go first."""
    if not takes_turns(look):
        return None
    mine = (began(state), look.seen.name)
    for other in _members(look):
        if other.phase not in _UNDER_WAY:
            continue
        is_begun_before = other.began is None or (other.began, other.name) < mine
        if other.phase not in STARTING or is_begun_before:
            return Wait("GroupTurn", f"{other.name} of group {_name(look)} began before it")
    return None


def takes_turns(look: Look) -> bool:
    """Whether the group has one rollout at a time."""
    group = look.spec.group
    if group is None:
        return False
    return group.pace is Pace.IN_TURN or any(m.is_in_turn for m in _members(look))


def verdict(look: Look, state: RolloutState) -> str | None:
    """Why the rollout is to be taken back with another of its group; None if it is not."""
    group = look.spec.group
    if group is None or group.on_verdict is not OnVerdict.ROLLBACK:
        return None
    other = _taken_back(look, state)
    return f"{other.name} of group {group.name} was rolled back" if other is not None else None


def began(state: RolloutState) -> datetime:
    """When the rollout began, or began to wait; of a long one, the oldest that is remembered."""
    times = (t.time for t in state.history if t.reason in BEGINNINGS)
    return next(times, state.history[-1].time)


# --------------------------------------------------------------------------- order


def _order(look: Look) -> Wait | None:
    if look.spec.after is None:
        return None
    others = {member.name: member for member in look.seen.others}
    ring = find_ring(look.seen.name, {look.seen.name: look.spec.after or ()} | _afters(look))
    if ring is not None:
        text = f"the order goes in a ring: {' after '.join(ring)}: take one of them out"
        return Wait("OrderCycle", text)
    for name in look.spec.after or ():
        other = others.get(name)
        if other is None:
            return Wait("AfterMissing", f"it comes after {name}, and there is no {name} here")
        if not (other.phase is Phase.SUCCEEDED and other.is_current):
            stands = other.phase if other.is_current else "not looked at since it was edited"
            return Wait("AfterOthers", f"it comes after {name}, which is {stands}, not Succeeded")
    return None


def _afters(look: Look) -> dict[str, tuple[str, ...]]:
    return {member.name: member.after for member in look.seen.others}


def find_ring(start: str, after: Mapping[str, Sequence[str]]) -> list[str] | None:
    """The way from a name back to itself; None if there is none."""
    ways, known = [[start]], {start}
    while ways:
        way = ways.pop()
        for name in after.get(way[-1], ()):
            if name == start:
                return [*way, start]
            if name not in known:
                known.add(name)
                ways.append([*way, name])
    return None


def _comes_after(look: Look, other: Member) -> bool:
    """Whether another waits, by way of others too, for this one."""
    after, known, ahead = _afters(look), set[str](), [other.name]
    while ahead:
        for name in after.get(ahead.pop(), ()):
            if name == look.seen.name:
                return True
            if name not in known:
                known.add(name)
                ahead.append(name)
    return False


# --------------------------------------------------------------------------- groups


def _name(look: Look) -> str:
    return look.spec.group.name if look.spec.group else ""


def _members(look: Look) -> Iterable[Member]:
    group = look.spec.group
    return [m for m in look.seen.others if group is not None and m.group == group.name]


def _taken_back(look: Look, state: RolloutState) -> Member | None:
    """A member that was rolled back since this rollout began."""
    since = began(state) if state.history else look.now
    for other in _members(look):
        at = other.taken_back_at
        if other.phase in TAKEN_BACK and at is not None and at >= since:
            return other
    return None


def _held(look: Look, state: RolloutState) -> Wait | None:
    group = look.spec.group
    if group is None or group.on_verdict is not OnVerdict.HOLD:
        return None
    other = _taken_back(look, state)
    if other is None:
        return None
    text = f"{other.name} of group {group.name} was rolled back: retry it, edit it or delete it"
    return Wait("GroupHeld", text)


def _together(look: Look, state: RolloutState) -> Wait | None:
    """Whether others of the group are not as far as this one, which is ready to move on."""
    index = stage_index(look.spec, state) if state.phase is Phase.PROGRESSING else None
    is_last = index is not None and index + 1 == len(look.spec.stages)
    if takes_turns(look) or not (is_last or state.phase is Phase.PROMOTING):
        return None
    late = [m.name for m in _members(look) if not _is_as_far(look, state, m)]
    if not late:
        return None
    text = f"it is ready, and waits for {explain.names(late)} of group {_name(look)}"
    return Wait(READY, text)


def _is_as_far(look: Look, state: RolloutState, other: Member) -> bool:
    if other.phase is Phase.WAITING and _comes_after(look, other):
        return True  # it waits for this one
    if other.phase not in GUARDED | {Phase.WAITING}:
        return other.is_current
    if state.phase is Phase.PROMOTING and other.phase is not Phase.PROMOTING:
        return False
    return other.is_ready or (state.phase is Phase.PROGRESSING and other.phase is Phase.PROMOTING)
