"""The clocks of a rollout where time cannot be trusted: set back, or with nobody looking. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from signalcanary.look import Look
from signalcanary.rollout import Clock, RolloutState


def _clocks(state: RolloutState) -> list[Clock]:
    checks = state.checks.clock if state.checks else None
    return [*state.timers.values(), *filter(None, (state.stage_clock, state.phase_clock, checks))]


def newest(look: Look, state: RolloutState) -> datetime:
    """The latest time that is known to have been; later than now if the clock was set back."""
    known = [look.now, look.seen.previous_look]
    for clock in _clocks(state):
        known += [clock.started_at, clock.blind_since]
    return max(at for at in known if at is not None)


def set_back(state: RolloutState, by: timedelta, now: datetime) -> RolloutState:
    """Set every clock back with the wall's: each keeps the time that it has observed."""
    return replace(
        state,
        phase_since=min(state.phase_since, now) if state.phase_since else None,
        queued_at=min(state.queued_at, now) if state.queued_at else None,
        timers={key: clock.set_back(by) for key, clock in state.timers.items()},
        streaks={key: streak.set_back(by) for key, streak in state.streaks.items()},
        stage_clock=state.stage_clock.set_back(by) if state.stage_clock else None,
        phase_clock=state.phase_clock.set_back(by) if state.phase_clock else None,
        checks=state.checks.set_back(by) if state.checks else None,
    )


def stop_over_gap(look: Look, state: RolloutState) -> RolloutState:
    """Time in which nobody looked was not observed: not toward a stage, a breach, a silence or
    a deadline."""
    last, evaluation = look.seen.previous_look, look.spec.evaluation
    longest = max(evaluation.stale_after, 3 * evaluation.interval)
    if last is None or look.now - last <= longest:
        return state
    return replace(
        state,
        timers={key: timer.stop(last) for key, timer in state.timers.items()},
        stage_clock=state.stage_clock.stop(last) if state.stage_clock else None,
        phase_clock=state.phase_clock.stop(last) if state.phase_clock else None,
        checks=replace(state.checks, clock=state.checks.clock.stop(last)) if state.checks else None,
    )
