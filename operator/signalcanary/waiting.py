"""What keeps a rollout from beginning or from moving on that is no matter of the canary. Pure.

One rule: outside its windows nothing moves forward. No rollout begins, no stage begins, nothing is
promoted. All else goes on: the canary is judged and guarded, the stage's clock runs, and what takes
a canary back waits for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from signalcanary import explain, windows
from signalcanary.api import Manual, SignalCanarySpec, Stage, Windows
from signalcanary.look import Look
from signalcanary.moves import canary_of, enter, stage_index
from signalcanary.rollout import Phase, RolloutState


@dataclass(frozen=True)
class Wait:
    """Something that is waited for.

    Attributes:
        reason: in one CamelCase word.
        what: in words.
        windows: that must be open; when they are is reckoned only where it is asked.
        after: when they may open at the earliest.
    """

    reason: str
    what: str
    windows: tuple[Windows, ...]
    after: datetime

    @property
    def until(self) -> datetime | None:
        """When it is over; None if nobody knows."""
        return windows.opening(self.windows, self.after)

    @property
    def message(self) -> str:
        """What is waited for, and until when."""
        until = self.until
        when = f"until {shown(until)}" if until else "and no window opens in the weeks to come"
        return f"{self.what}, {when}"


def to_start(look: Look) -> Wait | None:
    """What keeps the canary from starting; None if nothing does."""
    schedule = look.spec.schedule
    if schedule is not None and schedule.start_at is not None and look.now < schedule.start_at:
        text = f"nothing of it starts before {shown(schedule.start_at)} (schedule.startAt)"
        return Wait("BeforeStartAt", text, (schedule,), schedule.start_at)
    return _closed(look, _windows_of(look.spec, None))


def to_move(look: Look, state: RolloutState) -> Wait | None:
    """What keeps a canary that has started from the next stage, or from the promotion."""
    if _is_on_a_word(look, state):
        return None
    return to_pass(look, stage_of(look.spec, state))


def to_pass(look: Look, stage: Stage | None) -> Wait | None:
    """The same, whatever a person has said.

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


def shown(at: datetime) -> str:
    """An instant with its day, as people write it."""
    at = at.astimezone(UTC)
    return f"{at:%a %Y-%m-%d %H:%M}" + (f":{at:%S}" if at.second else "") + " UTC"


# --------------------------------------------------------------------------- beginning


def begin(look: Look, state: RolloutState, reason: str, why: str) -> RolloutState:
    """Start the state's canary, or let it wait until it may."""
    wait = to_start(look)
    if wait is not None:
        return enter(state, look.now, Phase.WAITING, "WaitingToStart", f"{why}; {wait.message}")
    phase = Phase.VERIFYING if look.spec.signal.artifacts else Phase.PENDING
    return enter(state, look.now, phase, reason, why)


def end(look: Look, state: RolloutState) -> RolloutState:
    """Start the canary once nothing keeps it any more."""
    if to_start(look) is not None:
        return state
    return begin(look, state, "RolloutStarted", explain.rolling_out(canary_of(state), look.spec))
