"""The guards of a rollout: what is judged, how long each breach and silence has held, what is due.

They say what is due; what is done about it is for `lifecycle.py`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from signalcanary import explain, tiers
from signalcanary.api import Debounce, OnNoData, SignalCanarySpec
from signalcanary.contract import Track
from signalcanary.evaluate import Judgement, MetricsSeen, Silence, Verdict, evaluate, silence_of
from signalcanary.look import Look
from signalcanary.moves import is_revision as _is
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import (
    SERVED,
    SILENCE,
    STARTING,
    Clock,
    Held,
    RolloutState,
    judged_revision,
    judged_spec,
)
from signalcanary.tiers import Streak


def judge(look: Look, state: RolloutState) -> Look:
    """Judge the canary, or what serves, by what is certain to be its own."""
    seen, judged = look.seen, judged_revision(state)
    track, revision = judged or (None, None)
    of = (seen.metrics.track, seen.metrics.revision)
    if of[1] is not None and (of[0] is not track or not _is(revision, of[1])):
        # What was read is of what was judged before; of this one nothing can be known yet.
        seen = replace(seen, metrics=MetricsSeen(failure=seen.metrics.failure))
    # Until its own pods run, whatever is exported is not this canary's.
    is_running = state.phase not in STARTING
    has_control = track is Track.CANARY and state.stable is not None
    judgements = (
        tuple(
            evaluate(
                judged_spec(look.spec, state),
                seen.metrics,
                look.now,
                has_stable=has_control,
                held=state.held,
            )
        )
        if is_running
        else ()
    )
    return replace(look, seen=seen, judgements=judgements)


def run_timers(look: Look, state: RolloutState) -> RolloutState:
    """Start, run, stop or drop the timer of each breach and of each silence."""
    timers: dict[tuple[str, str], Clock] = {}
    streaks: dict[tuple[str, str], Streak] = {}
    for judgement in look.judgements:
        key = (judgement.condition.key, judgement.symbol)
        timer, streak = state.timers.get(key), state.streaks.get(key)
        if judgement.verdict is Verdict.BREACHED:
            timers[key] = timer.run(look.now) if timer else Clock(look.now)
            if judgement.debounce.consecutive > 1:
                streaks[key] = tiers.count(streak, judgement, look.spec.evaluation.interval)
        elif not judgement.verdict.is_judged and timer:
            timers[key] = timer.stop(look.now)
            # What could not be judged is no breach, and no sign that there is none.
            streaks |= {key: streak} if streak else {}
    for symbol in _active(look, state):
        key = (SILENCE, symbol)
        timer = state.timers.get(key)
        silence = silence_of(symbol, look.spec, look.seen.metrics, look.now)
        if state.phase in SERVED and silence is Silence.CANARY and not _is_ill(look, state):
            # Nothing beside it tells whether it is the feed that is silent.
            silence = Silence.UNKNOWN
        if silence is Silence.CANARY:
            timers[key] = timer.run(look.now) if timer else Clock(look.now)
        elif silence is not Silence.NONE and timer:
            timers[key] = timer.stop(look.now)
    return replace(state, timers=timers, streaks=streaks)


def _is_ill(look: Look, state: RolloutState) -> bool:
    """Whether something keeps the pods of what serves from running."""
    return look.seen.track(Track.STABLE, state.stable).problem is not None


def find_due(look: Look, state: RolloutState) -> dict[str, Held]:
    """By symbol, the first breach or silence that has held for its time."""
    due: dict[str, Held] = {}
    for judgement in look.judgements:
        if (held_for := _breach_due(look, state, judgement)) is not None:
            why = explain.breach(judgement, held_for)
            due.setdefault(judgement.symbol, Held(look.now, "ConditionBreached", why))
    if look.spec.evaluation.on_no_data is OnNoData.HOLD:
        return due
    metrics = look.seen.metrics
    for symbol in _active(look, state):
        timer = state.timers.get((SILENCE, symbol))
        # A timer that stands still was not seen to be silent at this look.
        if timer is None or timer.blind_since is not None or symbol in due:
            continue
        held_for = timer.elapsed(look.now)
        if held_for < look.spec.evaluation.no_data_after:
            continue
        track, revision = judged_revision(state) or (Track.CANARY, None)
        problem = look.seen.track(track, revision).problem
        if state.phase in STARTING:
            due[symbol] = Held(look.now, "CanaryNotRunning", explain.pods(held_for, problem))
        else:
            beat, control = metrics.heartbeats.get(symbol), symbol in metrics.stable_heartbeats
            why = explain.silence(symbol, held_for, beat, control, problem)
            due[symbol] = Held(look.now, "CanarySilent", why)
    return due


def _breach_due(look: Look, state: RolloutState, judgement: Judgement) -> timedelta | None:
    """How long a breach has held, if that is for long enough."""
    key = (judgement.condition.key, judgement.symbol)
    timer, streak = state.timers.get(key), state.streaks.get(key)
    if judgement.verdict is not Verdict.BREACHED or timer is None:
        return None
    is_due = until_due(look.spec, judgement.debounce, timer, streak, look.now) <= timedelta(0)
    return timer.elapsed(look.now) if is_due else None


def until_due(
    spec: SignalCanarySpec,
    debounce: Debounce,
    timer: Clock,
    streak: Streak | None,
    now: datetime,
) -> timedelta:
    """Time until a breach that goes on is due; at best each look has an evaluation to count.

    The delay begins when the breach has held for its `for` and has been counted often enough, so
    that there is always a time in which a recovery cancels the rollback.
    """
    left = debounce.for_ + spec.rollback.delay - timer.elapsed(now)
    if streak is None or debounce.consecutive == 1:
        return left
    missing = debounce.consecutive - streak.evaluations
    waits = missing * spec.evaluation.interval if missing > 0 else streak.last - now
    return max(left, waits + spec.rollback.delay)


def _active(look: Look, state: RolloutState) -> list[str]:
    """The symbols that the canary, or what serves, is judged on."""
    symbols = judged_spec(look.spec, state).symbols.canary
    return [symbol for symbol in symbols if symbol not in state.held]


def servers(
    look: Look, state: RolloutState, symbols: Iterable[str]
) -> dict[str, RevisionRef | None]:
    """By symbol, the revision that serves it beside the canary; None where none does."""
    known = look.seen.stable_symbols

    def server_of(symbol: str) -> RevisionRef | None:
        if symbol in state.kept:
            kept = state.kept[symbol]
            # Pods of the revision that is tried again take the place of those that it had.
            return None if kept and _is(state.canary, kept) else kept
        return state.stable if known is None or symbol in known else None

    return {symbol: server_of(symbol) for symbol in symbols}
