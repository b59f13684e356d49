"""Why a rollout is where it is, in the words of status: for the person at 3 a.m. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from signalcanary import calls, explain
from signalcanary.contract import Track, format_duration
from signalcanary.evaluate import Judgement, Silence, Verdict, shown_end, silence_of
from signalcanary.lifecycle import awaits_approval, find_wait
from signalcanary.look import Look
from signalcanary.moves import stage_index
from signalcanary.rollout import (
    ARMED,
    STARTING,
    Phase,
    RolloutState,
    newest,
)

MAX_BREACHES_TOLD = 5
MAX_SUMMARY = 24
"""Lines that a person reads; where there are more, what is not Ok comes first."""


def seconds(value: timedelta) -> str:
    return format_duration(timedelta(seconds=max(0, int(value.total_seconds()))))


def clock_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%H:%M:%S UTC")


def version_of(state: RolloutState) -> str:
    return state.canary.version if state.canary else ""


def why(state: RolloutState) -> str:
    """Why the phase was entered. Of a rollback that was carried out first why it was decided,
    which is in the history, and then what is true now."""
    begun = newest(state, Phase.ROLLING_BACK)
    is_done = state.phase in (Phase.VERIFYING_ROLLBACK, Phase.ROLLED_BACK)
    # An operator that had no cause by itself told it again at the end.
    if begun is None or not is_done or state.message.startswith(explain.rolled_back("")):
        return state.message
    decided = explain.rolled_back(begun.cause) if begun.cause else begun.message
    return f"{decided}; {state.message}"


def describe(look: Look, state: RolloutState) -> str:
    """Why the rollout is where it is; what holds it up comes first."""
    spec, seen, judgements = look.spec, look.seen, look.judgements
    wait = find_wait(look, state)
    if state.phase is Phase.WAITING and wait is not None:
        return f"{version_of(state)} waits to start: {wait.message}"
    if state.phase not in ARMED:
        problem = seen.track(Track.STABLE, state.restoring or state.stable).problem
        return why(state) + (f"; now: {problem}" if problem else "")
    if seen.metrics.failure is not None:
        return (
            f"holding: the metrics source is unreachable ({seen.metrics.failure.message}); "
            "nothing is promoted or rolled back on what cannot be seen"
        )
    breached = [j for j in judgements if j.verdict is Verdict.BREACHED]
    if breached:
        more = len(breached) - MAX_BREACHES_TOLD
        told = "; ".join(j.message for j in breached[:MAX_BREACHES_TOLD])
        return told + (f"; and {more} more" if more > 0 else "")
    if state.hand.pause is not None:
        return calls.paused(state.hand.pause)
    if state.phase is Phase.SOAKING:
        unknown = [j for j in judgements if not j.verdict.is_judged]
        problem = seen.track(Track.STABLE, state.stable).problem
        now_ill = f" ({problem})" if problem else ""
        return f"holding: {unknown[0].message}{now_ill}" if unknown else state.message
    problem = seen.track(Track.CANARY, state.canary).problem
    if problem and state.phase in (*STARTING, Phase.WARMING):
        return f"waiting for the canary's pods: {problem}"
    silent = [
        symbol
        for symbol in spec.symbols.canary
        if symbol not in state.held
        and silence_of(symbol, spec, seen.metrics, look.now) is Silence.MARKET
    ]
    if silent:
        return (
            f"holding: {explain.names(silent)} silent on the stable track too, so it is the "
            "feed, the market or the storage, not the canary"
        )
    unknown = [j for j in judgements if not j.verdict.is_judged]
    if unknown and state.phase in (Phase.PROGRESSING, Phase.PROMOTING):
        return f"holding: {unknown[0].message}" + (f" ({problem})" if problem else "")
    critical = [j for j in judgements if j.is_critical]
    if critical and state.phase in (Phase.PROGRESSING, Phase.PROMOTING):
        return f"holding: {critical[0].message}: no stage is passed and nothing promoted"
    if awaits_approval(look, state):
        return calls.approval_needed(state)
    if wait is not None:
        return f"holding: {wait.message}: no stage begins and nothing is promoted"
    unproven = [j for j in judgements if j.verdict is Verdict.UNPROVEN]
    if unproven and _is_due(look, state):
        return f"waiting for evidence before the promotion: {unproven[0].message}"
    return state.message


def _is_due(look: Look, state: RolloutState) -> bool:
    """Whether the last stage has been observed for long enough."""
    stages, clock = look.spec.stages, state.stage_clock
    index = stage_index(look.spec, state)
    is_last = index is not None and index + 1 == len(stages)
    return is_last and clock is not None and clock.elapsed(look.now) >= stages[-1].duration


# --------------------------------------------------------------------------- a line a judgement


def summarise(look: Look, state: RolloutState) -> list[str]:
    """Each rollback condition on each canary symbol in a line, what is held back first."""
    held = [
        f"{symbol}: held back since {clock_time(one.since)}: {one.message}"
        for symbol, one in sorted(state.held.items())[:MAX_SUMMARY]
    ]
    return held + _judged(look, state)


def _judged(look: Look, state: RolloutState) -> list[str]:
    judgements, now = look.judgements, look.now
    if len(judgements) <= MAX_SUMMARY:
        return [_line(j, state, now) for j in judgements]
    by_urgency = sorted(judgements, key=lambda j: j.verdict is Verdict.OK)
    lines = [_line(j, state, now) for j in by_urgency[:MAX_SUMMARY]]
    return [*lines, f"and {len(judgements) - MAX_SUMMARY} more, see symbols"]


def _line(judgement: Judgement, state: RolloutState, now: datetime) -> str:
    """A judgement in one line, for people."""
    condition = judgement.condition
    value = "no value" if judgement.value is None else f"{judgement.value:.4g}"
    surely = " surely" if judgement.bound else ""
    if judgement.bound:
        bound, is_now = judgement.bound, judgement.verdict is Verdict.BREACHED
        low = bound.lower if is_now else bound.whole_lower
        high = bound.upper if is_now else bound.whole_upper
        value += f" ({shown_end(low)} to {shown_end(high)})"
    told = condition.describe(judgement.debounce)
    line = (
        f"{judgement.symbol}: {condition.metric} {value}, rolls back if{surely} "
        f"{told.removeprefix(condition.metric + ' ')}: {judgement.verdict}"
    )
    if judgement.tier in condition.tiers:
        line += f", {judgement.tier.value.lower()} ({condition.limit(judgement.tier)})"
    timer = state.timers.get((condition.key, judgement.symbol))
    if timer:
        line += f" for {seconds(timer.elapsed(now))}"
    if streak := state.streaks.get((condition.key, judgement.symbol)):
        line += f", evaluation {streak.evaluations} of {judgement.debounce.consecutive}"
    if judgement.samples is not None:
        line += f", {judgement.samples} samples"
    return line if judgement.verdict.is_judged else f"{line} ({judgement.message})"
