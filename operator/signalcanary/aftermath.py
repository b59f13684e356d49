"""After the promotion: soaking, the ladder, and whether a rollback has helped. Pure.

Design 008. The guards of `lifecycle.py` stay armed while a promoted revision soaks. There is no
untouched stable beside it any more, so what they take back is replaced: by the first rung of the
ladder that can be had. Whether that is any better is looked at too, and if not, the next rung is
taken.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import Track, format_duration
from signalcanary.evaluate import Silence, Verdict, silence_of
from signalcanary.ladder import Step, resolve
from signalcanary.look import Look
from signalcanary.moves import begin_rollback, begin_verification, enter, new_attempt
from signalcanary.revisions import Revision, RevisionRef
from signalcanary.rollout import (
    SERVED,
    UNSTARTED,
    Checks,
    Clock,
    Observations,
    Phase,
    RolloutState,
    newest,
)


def look_up_ladder(
    spec: SignalCanarySpec, state: RolloutState, known: dict[str, Revision], attempt: int
) -> tuple[Step, ...]:
    """What the ladder's rungs stand for, where the state's phase may end on it.

    Args:
        known: the revisions on record, by name; those that rungs bring are added.
        attempt: generation of the spec.
    """
    if state.phase not in SERVED:
        return ()
    before = state.former[0] if state.former else None
    ladder = resolve(spec, state.stable, before, known, attempt)
    for step in ladder:
        if step.ref is not None and step.revision is not None:
            known.setdefault(step.ref.name, step.revision)
    return ladder


def begin_soak(
    spec: SignalCanarySpec, state: RolloutState, now: datetime, why: str
) -> RolloutState:
    """Go on watching what has just been made stable."""
    state = replace(state, stage_clock=Clock(now))
    why += f"; it soaks for {format_duration(spec.soak)}, every guard armed"
    return enter(state, now, Phase.SOAKING, "Promoted", why)


def soak(look: Look, state: RolloutState) -> RolloutState:
    """Let the clock of the soak run while everything can be judged; at its end it is over."""
    # A status may have been tampered with: then the soak begins anew.
    clock = state.stage_clock or Clock(look.now)
    is_held = state.hand.pause is not None
    clock = clock.run(look.now) if look.all_judged and not is_held else clock.stop(look.now)
    state = replace(state, stage_clock=clock)
    if is_held or not (look.may_pass and clock.elapsed(look.now) >= look.spec.soak):
        return state
    version = state.stable.version if state.stable else ""
    why = f"{version} has soaked for {format_duration(look.spec.soak)} and serves the full set"
    state = replace(state, stage_clock=None, timers={}, streaks={}, climbed=())
    return enter(state, look.now, Phase.SUCCEEDED, "Soaked", why)


def climb(
    seen: Observations, state: RolloutState, now: datetime, reason: str, why: str
) -> RolloutState:
    """Put the next rung of the ladder in the place of what serves."""
    if not seen.ladder:
        return state  # What the rungs stand for is known from the next look on.
    bad = state.stable
    passed_over = ""
    chosen: RevisionRef | None = None
    words = "nothing is left on the ladder, so nothing serves"
    climbed = state.climbed
    for step in seen.ladder:
        if step.name in climbed:
            continue
        climbed = (*climbed, step.name)
        if step.problem is not None:
            passed_over += f"rung {step.name} is passed over, as {step.problem}; "
            continue
        chosen = step.ref
        serves = f"{chosen.version} (revision {chosen.name}) serves" if chosen else "nothing serves"
        words = f"rung {step.name} of the ladder: {serves}"
        break
    version = bad.version if bad else "what served"
    # The rung is part of what is decided: that it was taken is true for good.
    cause = f"{version}: {why}; {passed_over}{words}"
    # The transition is about what is taken back, so it is noted before the rung is put in place.
    state = begin_rollback(replace(state, rejected=bad), now, reason, cause)
    # A symbol that an earlier revision goes on serving stays there, unless the rung is that one.
    kept = {
        symbol: ref
        for symbol, ref in state.kept.items()
        if chosen is not None and not (ref is not None and ref.name == chosen.name)
    }
    former = state.former
    if chosen is not None:
        known = next((ref for ref in former if ref.name == chosen.name), None)
        former = tuple(ref for ref in former if ref.name != chosen.name)
        if known is None:
            state, chosen = new_attempt(state, chosen)
    return replace(
        state,
        stable=chosen,
        kept=kept,
        former=former,
        climbed=climbed,
        stage_clock=None,
        checks=None,
        timers={},
        streaks={},
        standings={},
    )


def end_rollback(look: Look, state: RolloutState, told: str) -> RolloutState:
    """The bad revision is gone: verify what serves now, where that is asked for."""
    stable = state.stable
    if look.spec.rollback.verify is None or stable is None or _has_changed_nothing(state):
        return enter(state, look.now, Phase.ROLLED_BACK, state.reason, told, is_warning=True)
    # The first check is the next look's: at this one nothing has been read of it yet.
    state = replace(state, checks=Checks(Clock(look.now), last=look.now))
    length = format_duration(look.spec.rollback.verify.for_)
    return begin_verification(state, look.now, told, f"{stable.version} is verified for {length}")


def _has_changed_nothing(state: RolloutState) -> bool:
    """Whether what was taken back never started, and nothing was put in the place of what serves.

    There is nothing to verify then: that a file was refused says nothing of what serves, and if
    that is ill, no rung of a ladder that is for bad revisions helps it.
    """
    if state.reason == "RollbackRequested":
        return False  # another revision serves now
    before = [transition.phase for transition in state.history[1:2]]
    return not UNSTARTED.isdisjoint(before)


def verify(look: Look, state: RolloutState) -> RolloutState:
    """Make a check an interval; when there have been enough, say whether the rollback has helped.

    Looks come sooner where something has changed, and each check changes something.
    """
    rules, stable, now = look.spec.rollback.verify, state.stable, look.now
    if rules is None or stable is None:
        # The spec was edited meanwhile: nothing is to be verified any more.
        return _verified(state, now, "serves, and is not to be verified any more")
    checks = state.checks or Checks(Clock(now))
    if checks.last is None or now - checks.last >= look.spec.evaluation.interval / 2:
        is_good = _check(look, state)
        if is_good is None:
            return replace(state, checks=replace(checks, clock=checks.clock.stop(now)))
        good = checks.good + is_good
        checks = Checks(checks.clock.run(now), good, checks.made + 1, now)
        state = replace(state, checks=checks)
    if checks.clock.elapsed(now) < rules.for_:
        return state
    told = f"{checks.good} of {checks.made} checks were good"
    if checks.good > rules.success_rate * checks.made:
        return _verified(state, now, f"is verified: {told}")
    problem = look.seen.track(Track.STABLE, stable).problem
    told = f"{stable.version} was verified, and {told}, not more than {rules.success_rate:.0%}" + (
        f" ({problem})" if problem else ""
    )
    return climb(look.seen, state, now, "RollbackNotVerified", told)


def _verified(state: RolloutState, now: datetime, told: str) -> RolloutState:
    begun = newest(state, Phase.VERIFYING_ROLLBACK)
    done = f"{begun.cause}; " if begun is not None and begun.cause else ""
    message = f"{done}{state.stable.version if state.stable else 'nothing'} {told}"
    state = replace(state, checks=None)
    return enter(state, now, Phase.ROLLED_BACK, state.reason, message, is_warning=True)


def _check(look: Look, state: RolloutState) -> bool | None:
    """One check of what serves: bad if a pod cannot run or something is breached, good if the pods
    are ready and every symbol sends fresh data; None if neither can be seen.

    What cannot be judged yet, as its windows are still filling, is no fault of it. Nor is silence
    by itself: nothing beside it tells whether it is the feed's, and to take rung after rung for
    an outage of the exchange would end with nothing that serves.
    """
    if look.seen.metrics.failure is not None:
        return None
    track = look.seen.track(Track.STABLE, state.stable)
    if track.problem is not None or any(j.verdict is Verdict.BREACHED for j in look.judgements):
        return False
    symbols = look.spec.symbols.canary
    silences = (silence_of(s, look.spec, look.seen.metrics, look.now) for s in symbols)
    return True if track.is_ready and all(s is Silence.NONE for s in silences) else None


def time_left(spec: SignalCanarySpec, state: RolloutState, now: datetime) -> timedelta | None:
    """Of the soak or of the verification; None in every other phase."""
    if state.phase is Phase.SOAKING and state.stage_clock is not None:
        return max(timedelta(0), spec.soak - state.stage_clock.elapsed(now))
    rules = spec.rollback.verify
    if state.phase is Phase.VERIFYING_ROLLBACK and state.checks is not None and rules is not None:
        return max(timedelta(0), rules.for_ - state.checks.clock.elapsed(now))
    return None
