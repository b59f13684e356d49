"""The status of a SignalCanary: what people read, and what the operator remembers.

``parse(render(…)) == state``: status is the operator's only memory. The words are made for the
person at 3 a.m. with `kubectl describe`: what runs, why it was decided, what happens next and
when. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from signalcanary import explain, hand_status, waiting
from signalcanary.aftermath import time_left
from signalcanary.api import OnNoData, SignalCanarySpec, Tier
from signalcanary.contract import Track, format_duration
from signalcanary.evaluate import (
    Bound,
    Judgement,
    MetricsSeen,
    Silence,
    Verdict,
    measure,
    shown_end,
    silence_of,
    worst,
)
from signalcanary.guards import until_due
from signalcanary.hand import needs_approval
from signalcanary.lifecycle import awaits_approval, find_wait, until_deadline
from signalcanary.moves import stage_index
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import (
    ARMED,
    JUDGED,
    SILENCE,
    STARTING,
    SYMBOLS_HELD,
    TAKEN_BACK,
    Checks,
    Clock,
    Decision,
    Held,
    Observations,
    Phase,
    RolloutState,
    Transition,
    judged_spec,
)
from signalcanary.tiers import Standing, Streak
from signalcanary.windows import Wait, shown
from signalcanary.wire import format_instant as _time
from signalcanary.wire import parse_instant as _instant

MAX_SYMBOLS_SHOWN = 32
MAX_BREACHES_TOLD = 5
"""An object has room for about 1.5 MB. A status too large could not be written, and a rollback
that cannot be written does not happen."""

# --------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class WorkloadSeen:
    """One StatefulSet, for the list of workloads in status."""

    name: str
    track: str
    component: str
    revision: str
    ready: int
    wanted: int
    restarts: int
    message: str | None = None


def render(
    spec: SignalCanarySpec,
    decision: Decision,
    seen: Observations,
    workloads: Iterable[WorkloadSeen],
    previous: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """The whole status after a look. `previous` is the status before, for the times at which
    conditions last changed."""
    state, judgements = decision.state, decision.judgements
    judged = judged_spec(spec, state)
    status: dict[str, Any] = {
        "observedGeneration": state.observed_generation,
        "phase": state.phase.value,
        "phaseSince": _time(state.phase_since or now),
        "reason": state.reason,
        "message": _message(spec, state, judgements, seen, now),
        "next": describe_next(spec, state, judgements, seen, now),
        "phaseClock": _clock(state.phase_clock) if state.phase_clock else None,
        "stage": _stage(spec, state, now),
        "canary": _revision(state.canary),
        "stable": _revision(state.stable),
        "rejected": _revision(state.rejected),
        "candidate": ref.version if (ref := state.canary or state.rejected) else None,
        "publisher": _revision(state.publisher),
        "restoring": _revision(state.restoring),
        "former": [_revision(ref) for ref in state.former],
        "checks": _checks(state.checks) if state.checks else None,
        "climbed": list(state.climbed),
        "lastAttempt": state.last_attempt or None,
        "queuedAt": _time(state.queued_at) if state.queued_at else None,
        "subject": hand_status.subject_of(state),
        "hand": hand_status.render_hand(state.hand),
        "rules": state.rules,
        "warmup": _warmup(judged, state, seen.metrics),
        "health": _health(judgements),
        "summary": _summary(judgements, state, now) or _last_summary(state, previous),
        "symbols": _symbols(judged, state, judgements, seen.metrics, now),
        "decision": render_decision(decision, seen.metrics, now) or previous.get("decision"),
        "workloads": [_workload(w) for w in workloads],
        "timers": [
            {"key": key, "symbol": symbol, "clock": _clock(clock)}
            | _streak(state.streaks.get((key, symbol)))
            for (key, symbol), clock in sorted(state.timers.items())
        ],
        "held": [_held(symbol, held) for symbol, held in sorted(state.held.items())],
        "kept": [
            _present(symbol=symbol, revision=_revision(ref))
            for symbol, ref in sorted(state.kept.items())
        ],
        "tiers": [_standing(key, standing) for key, standing in sorted(state.standings.items())],
        "history": [
            {
                "time": _time(t.time),
                "phase": t.phase.value,
                "reason": t.reason,
                "message": t.message,
                "version": t.version,
            }
            for t in state.history
        ],
        "conditions": _conditions(spec, state, judgements, seen, previous, now),
        "lastEvaluationTime": _time(now),
    }
    return {key: value for key, value in status.items() if value not in (None, [], {})}


def _clock(clock: Clock) -> dict[str, Any]:
    return _present(
        startedAt=_time(clock.started_at),
        blindSeconds=clock.blind.total_seconds() or None,
        blindSince=_time(clock.blind_since) if clock.blind_since else None,
    )


def _checks(checks: Checks) -> dict[str, Any]:
    return _present(
        good=checks.good,
        made=checks.made,
        last=_time(checks.last) if checks.last else None,
        clock=_clock(checks.clock),
    )


def _streak(streak: Streak | None) -> dict[str, Any]:
    if streak is None:
        return {}
    return {"evaluations": streak.evaluations, "lastEvaluation": _time(streak.last)}


def _held(symbol: str, held: Held) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "since": _time(held.since),
        "reason": held.reason,
        "message": held.message,
    }


def _standing(key: str, standing: Standing) -> dict[str, Any]:
    return _present(
        condition=key,
        tier=standing.tier.value,
        since=_time(standing.since),
        easingSince=_time(standing.easing_since) if standing.easing_since else None,
        message=standing.message,
    )


def _present(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _revision(ref: RevisionRef | None) -> dict[str, Any] | None:
    if ref is None:
        return None
    return {
        "name": ref.name,
        "version": ref.version,
        "fingerprint": ref.fingerprint,
        "attempt": ref.attempt,
    }


_SOAK = "soak"
"""What stands for the stage's name while a promoted revision soaks; no stage of the spec."""


def _stage(spec: SignalCanarySpec, state: RolloutState, now: datetime) -> dict[str, Any] | None:
    if state.phase is Phase.SOAKING and state.stage_clock is not None:
        observed = _seconds(min(state.stage_clock.elapsed(now), spec.soak))
        progress = f"{observed} of {format_duration(spec.soak)}"
        return {"name": _SOAK, "clock": _clock(state.stage_clock), "progress": progress}
    if state.stage is None or state.stage_clock is None:
        return None
    memory = {"name": state.stage, "clock": _clock(state.stage_clock)}
    index = stage_index(spec, state)
    if index is None:
        return memory  # edited away while promoting
    stage = spec.stages[index]
    return memory | {
        "index": index,
        "of": len(spec.stages),
        "progress": f"{_seconds(min(state.stage_clock.elapsed(now), stage.duration))} of "
        f"{format_duration(stage.duration)}",
    }


def _seconds(value: timedelta) -> str:
    return format_duration(timedelta(seconds=max(0, int(value.total_seconds()))))


def _warmup(spec: SignalCanarySpec, state: RolloutState, seen: MetricsSeen) -> str | None:
    if state.phase not in JUDGED or seen.failure is not None:
        return None
    active = [symbol for symbol in spec.symbols.canary if symbol not in state.held]
    slowest = min((seen.warmup_ratio.get(symbol, 0.0) for symbol in active), default=0.0)
    return f"{int(slowest * 100)}%"


def _health(judgements: tuple[Judgement, ...]) -> str | None:
    verdict = worst([j.verdict for j in judgements])
    tier = max((j.tier for j in judgements), key=lambda t: t.level, default=Tier.NORMAL)
    if verdict in (Verdict.OK, Verdict.UNPROVEN) and tier is not Tier.NORMAL:
        return tier.value
    return verdict.value if verdict else None


def _symbols(
    spec: SignalCanarySpec,
    state: RolloutState,
    judgements: tuple[Judgement, ...],
    seen: MetricsSeen,
    now: datetime,
) -> list[dict[str, Any]]:
    by_symbol: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_symbol.setdefault(judgement.symbol, []).append(judgement)
    order = list(Verdict)
    worst_first = sorted(
        by_symbol, key=lambda s: max(order.index(j.verdict) for j in by_symbol[s]), reverse=True
    )
    shown = set(worst_first[:MAX_SYMBOLS_SHOWN])
    out = []
    for symbol in spec.symbols.canary:
        if symbol not in shown:
            continue  # or held back
        of_symbol = by_symbol[symbol]
        verdict = worst([j.verdict for j in of_symbol])
        warmup = seen.warmup_ratio.get(symbol)
        beat = seen.heartbeats.get(symbol)
        out.append(
            _present(
                symbol=symbol,
                verdict=verdict.value if verdict else None,
                warmup=f"{int(warmup * 100)}%" if warmup is not None else None,
                lastData=_time(beat) if beat else None,
                conditions=[_judgement(j, state.timers, seen, now) for j in of_symbol],
            )
        )
    return out


def _judgement(
    judgement: Judgement,
    timers: Mapping[tuple[str, str], Clock],
    seen: MetricsSeen,
    now: datetime,
) -> dict[str, Any]:
    condition = judgement.condition
    timer = timers.get((condition.key, judgement.symbol))
    return _present(
        condition=condition.describe(),
        key=condition.key,
        verdict=judgement.verdict.value,
        tier=judgement.tier.value if condition.tiers else None,
        reason=judgement.reason,
        value=judgement.value,
        threshold=condition.threshold,
        samples=judgement.samples,
        effectiveSamples=measure(condition, judgement.symbol, seen).effective_samples,
        evidence=_bound(judgement.bound) if judgement.bound else None,
        breachedFor=_seconds(timer.elapsed(now)) if timer else None,
        allowedFor=format_duration(judgement.debounce.for_),
        consecutive=_if_more_than_one(judgement.debounce.consecutive),
        message=judgement.message,
    )


def _if_more_than_one(count: int) -> int | None:
    return count if count > 1 else None


MAX_DECIDED_ON = 32
"""Judgements kept of a decision; where there are more, those that are not Ok come first."""

_DECISIONS = frozenset({Phase.PROMOTING, Phase.SUCCEEDED, Phase.ROLLING_BACK})
"""The phases that are entered on evidence, or for want of it."""


def render_decision(decision: Decision, seen: MetricsSeen, now: datetime) -> dict[str, Any] | None:
    """What was decided at this look, and all that it rests on; None if nothing was.

    The state has forgotten it by the next look, and the person who is woken comes later.
    """
    made = next((t for t in reversed(decision.transitions) if t.phase in _DECISIONS), None)
    # A spec that is set back to the stable configuration is nobody's judgement.
    if made is None or made.reason == "AlreadyStable":
        return None
    by_urgency = sorted(decision.judgements, key=lambda j: j.verdict is Verdict.OK)
    about = decision.state.rejected or decision.state.canary or decision.state.stable
    return {
        "time": _time(made.time),
        "phase": made.phase.value,
        "reason": made.reason,
        "message": made.message,
        "version": made.version,
        "revision": about.name if about else "",
        "attempt": about.attempt if about else 0,
        "conditions": [
            {"symbol": j.symbol, **_judgement(j, decision.timers, seen, now)}
            for j in by_urgency[:MAX_DECIDED_ON]
        ],
    }


def _bound(bound: Bound) -> dict[str, Any]:
    """The evidence; an end that is not known is left out, as JSON has no infinity."""
    return {"level": bound.level} | {
        name: value
        for name, value in (
            ("atLeast", bound.lower),
            ("atMost", bound.upper),
            ("wholeAtLeast", bound.whole_lower),
            ("wholeAtMost", bound.whole_upper),
        )
        if math.isfinite(value)
    }


MAX_SUMMARY = 24
"""Lines that a person reads; where there are more, what is not Ok comes first."""


def _summary(judgements: tuple[Judgement, ...], state: RolloutState, now: datetime) -> list[str]:
    held = [
        f"{symbol}: held back since {_clock_time(one.since)}: {one.message}"
        for symbol, one in sorted(state.held.items())[:MAX_SUMMARY]
    ]
    return held + _judged(judgements, state, now)


def _judged(judgements: tuple[Judgement, ...], state: RolloutState, now: datetime) -> list[str]:
    if len(judgements) <= MAX_SUMMARY:
        return [_summarise(j, state, now) for j in judgements]
    by_urgency = sorted(judgements, key=lambda j: j.verdict is Verdict.OK)
    lines = [_summarise(j, state, now) for j in by_urgency[:MAX_SUMMARY]]
    return [*lines, f"and {len(judgements) - MAX_SUMMARY} more, see symbols"]


def _last_summary(state: RolloutState, previous: Mapping[str, Any]) -> list[str]:
    """What led to a rollback is wanted most when nothing is judged any more."""
    taken_back = state.phase in TAKEN_BACK
    return list(previous.get("summary", ())) if taken_back else []


def _summarise(judgement: Judgement, state: RolloutState, now: datetime) -> str:
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
        line += f" for {_seconds(timer.elapsed(now))}"
    if streak := state.streaks.get((condition.key, judgement.symbol)):
        line += f", evaluation {streak.evaluations} of {judgement.debounce.consecutive}"
    if judgement.samples is not None:
        line += f", {judgement.samples} samples"
    return line if judgement.verdict.is_judged else f"{line} ({judgement.message})"


def _workload(workload: WorkloadSeen) -> dict[str, Any]:
    return _present(
        name=workload.name,
        track=workload.track,
        component=workload.component,
        revision=workload.revision,
        ready=f"{workload.ready}/{workload.wanted}",
        restarts=workload.restarts,
        message=workload.message,
    )


# --------------------------------------------------------------------------- words


def _message(
    spec: SignalCanarySpec,
    state: RolloutState,
    judgements: tuple[Judgement, ...],
    seen: Observations,
    now: datetime,
) -> str:
    """Why the rollout is where it is; what holds it up comes first."""
    wait = find_wait(spec, state, seen, judgements, now)
    if state.phase is Phase.WAITING and wait is not None:
        return f"{_version_of(state)} waits to start: {wait.message}"
    if state.phase not in ARMED:
        problem = seen.track(Track.STABLE, state.restoring or state.stable).problem
        return state.message + (f"; now: {problem}" if problem else "")
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
        return hand_status.paused(state.hand.pause)
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
        and silence_of(symbol, spec, seen.metrics, now) is Silence.MARKET
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
    if awaits_approval(spec, state, seen, judgements, now):
        return hand_status.approval_needed(state)
    if wait is not None:
        return f"holding: {wait.message}: no stage begins and nothing is promoted"
    unproven = [j for j in judgements if j.verdict is Verdict.UNPROVEN]
    if unproven and _is_due(spec, state, now):
        return f"waiting for evidence before the promotion: {unproven[0].message}"
    return state.message


def _version_of(state: RolloutState) -> str:
    return state.canary.version if state.canary else ""


def _is_due(spec: SignalCanarySpec, state: RolloutState, now: datetime) -> bool:
    """Whether the last stage has been observed for long enough."""
    index = stage_index(spec, state)
    is_last = index is not None and index + 1 == len(spec.stages)
    clock = state.stage_clock
    return is_last and clock is not None and clock.elapsed(now) >= spec.stages[-1].duration


def describe_next(
    spec: SignalCanarySpec,
    state: RolloutState,
    judgements: tuple[Judgement, ...],
    seen: Observations,
    now: datetime,
) -> str:
    """What happens next, and when."""
    wait = find_wait(spec, state, seen, judgements, now)
    if state.phase is Phase.WAITING:
        return f"starts {_version_of(state)}{_once_open(wait)}"
    if state.phase not in ARMED:
        return _next_at_rest(spec, state, now)
    urgent = _next_rollback(spec, state, judgements, now)
    if urgent:
        return urgent
    if seen.metrics.failure is not None:
        return "goes on as soon as the metrics source answers again"
    if state.hand.pause is not None:
        return hand_status.until_resumed()
    match state.phase:
        case Phase.VERIFYING:
            return "starts the canary's pods once its artifacts are verified"
        case Phase.SOAKING:
            left = time_left(spec, state, now) or timedelta(0)
            if state.stage_clock is not None and state.stage_clock.blind_since is not None:
                return (
                    f"the soak ends after {_seconds(left)} more of observed time; its clock "
                    "stands still now"
                )
            when = f"in {_seconds(left)}, at about {_clock_time(now + left)}"
            return f"the soak ends {when}, if nothing is breached"
        case Phase.PENDING:
            return "warms up once the canary's pods are ready"
        case Phase.WARMING:
            first = spec.stages[0]
            return (
                f"stage {first.name} ({format_duration(first.duration)}) starts once every "
                f"condition can be judged on every canary symbol{_once_open(wait)}"
            ) + _otherwise(spec, state, now)
        case Phase.PROMOTING:
            assert state.canary is not None
            problem = seen.track(Track.STABLE, state.canary).problem
            text = (
                f"{state.canary.version} becomes stable once its pods on the full set are ready "
                f"and {'nothing is breached' if state.hand.promote else _all_good(spec)}"
                f"{_once_open(wait)}"
            ) + _otherwise(spec, state, now)
            return text + (f"; now: {problem}" if problem else "")
    index = stage_index(spec, state)
    if index is None or state.stage_clock is None:
        return "the stages have changed; observes the first of them next"
    left = spec.stages[index].duration - state.stage_clock.elapsed(now)
    then = (
        f"stage {spec.stages[index + 1].name}" if index + 1 < len(spec.stages) else "the promotion"
    )
    if needs_approval(spec, state):
        if awaits_approval(spec, state, seen, judgements, now):
            return hand_status.how_to_approve(state, then)
        then += " (once approved)"
    if wait is not None:
        return f"{then}{_once_open(wait)}, if all is well then"
    if left <= timedelta(0) or state.hand.skip is not None:
        return f"{then} as soon as {_all_good(spec)}" + _otherwise(spec, state, now)
    opens = waiting.opens_at(spec, spec.stages[index], now + left)
    if opens is None or opens > now + left:
        then += f" (not before {shown(opens)})" if opens else " (in no window to come)"
    if state.stage_clock.blind_since is not None:
        text = f"{then} after {_seconds(left)} more of observed time; the clock stands still now"
        return text + _otherwise(spec, state, now)
    when = f"in {_seconds(left)}, at about {_clock_time(now + left)}"
    if any(j.is_critical for j in judgements):
        return f"{then} {when} at the earliest, once nothing is critical"
    return f"{then} {when}, if all stays Ok"


def _once_open(wait: Wait | None) -> str:
    if wait is None:
        return ""
    return f" at {shown(wait.until)}" if wait.until else f" once it may: {wait.message}"


def _all_good(spec: SignalCanarySpec) -> str:
    has_critical = any(Tier.CRITICAL in c.tiers for c in spec.rollback.conditions)
    return "every condition is Ok" + (", and none critical" if has_critical else "")


def _otherwise(spec: SignalCanarySpec, state: RolloutState, now: datetime) -> str:
    """What the deadline does, while its clock runs."""
    left = _deadline_in(spec, state, now)
    if left is None:
        return ""
    left = max(left, timedelta(0))
    return f"; otherwise rolls back in {_seconds(left)}, at about {_clock_time(now + left)}"


def _deadline_in(spec: SignalCanarySpec, state: RolloutState, now: datetime) -> timedelta | None:
    """Time until the deadline rolls back; None while its clock stands still."""
    clock = state.phase_clock
    is_running = clock is not None and clock.blind_since is None
    return until_deadline(spec, state, now) if is_running else None


def _next_at_rest(spec: SignalCanarySpec, state: RolloutState, now: datetime) -> str:
    match state.phase:
        case Phase.VERIFYING_ROLLBACK:
            rules, checks, left = spec.rollback.verify, state.checks, time_left(spec, state, now)
            if rules is None or checks is None or left is None:
                return "the rollback is confirmed"
            if checks.clock.blind_since is not None:
                return "the rollback is verified once what serves can be seen, with fresh data"
            return (
                f"in {_seconds(left)}, at about {_clock_time(now + left)}, the rollback is "
                f"confirmed if more than {rules.success_rate:.0%} of the checks are good "
                f"({checks.good} of {checks.made} until now); otherwise the next rung of the "
                "ladder is taken"
            )
        case Phase.SUCCEEDED if state.publisher is not None and state.publisher != state.stable:
            return f"publishes signals once the pods of {state.publisher.version} are gone"
        case Phase.SUCCEEDED:
            return "nothing: change the spec to roll out the next configuration"
        case Phase.ROLLING_BACK if state.restoring is not None:
            return f"{state.restoring.version} becomes stable once its pods are ready"
        case Phase.ROLLING_BACK:
            return "waits until the canary's pods are gone"
        case _:
            return (
                "nothing: this spec is not tried again; change it to try again, "
                "spec.version is enough, or ask for a retry"
            ) + (f", or set it back to {state.stable.version}" if state.stable else "")


def _next_rollback(
    spec: SignalCanarySpec,
    state: RolloutState,
    judgements: tuple[Judgement, ...],
    now: datetime,
) -> str | None:
    """The rollback that comes first if nothing changes."""
    due = [
        (
            until_due(spec, judgement.debounce, timer, state.streaks.get(key), now),
            f"{judgement.condition.bound()} ends",
            judgement.symbol,
        )
        for judgement in judgements
        if judgement.verdict is Verdict.BREACHED
        and (timer := state.timers.get(key := (judgement.condition.key, judgement.symbol)))
    ]
    due += [
        (spec.evaluation.no_data_after - timer.elapsed(now), f"{symbol} sends fresh data", symbol)
        for symbol in judged_spec(spec, state).symbols.canary
        if spec.evaluation.on_no_data is OnNoData.ROLLBACK
        and (timer := state.timers.get((SILENCE, symbol)))
        and timer.blind_since is None
        # A canary that has only just started is not yet worth an alarm.
        and timer.elapsed(now) > spec.evaluation.stale_after
    ]
    if not due:
        return None
    overdue = _deadline_in(spec, state, now)
    if overdue is not None:
        what = f"stage {state.stage}" if state.phase is Phase.PROGRESSING else state.phase.value
        due.append((overdue, f"{what} ends", ""))
    left, why, symbol = min(due)
    left = max(left, timedelta(0))
    most = spec.rollback.most_held(len(spec.symbols.canary))
    is_alone = symbol and state.phase not in STARTING and len(state.held) + 1 < most
    what = f"holds {symbol} back" if is_alone else "rolls back"
    return f"{what} in {_seconds(left)}, at about {_clock_time(now + left)}, unless {why}"


def _clock_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%H:%M:%S UTC")


# --------------------------------------------------------------------------- conditions


def _conditions(
    spec: SignalCanarySpec,
    state: RolloutState,
    judgements: tuple[Judgement, ...],
    seen: Observations,
    previous: Mapping[str, Any],
    now: datetime,
) -> list[dict[str, Any]]:
    """Conditions by the Kubernetes API conventions."""
    moving = state.phase in JUDGED | {Phase.WAITING, Phase.ROLLING_BACK}
    taken_back = state.phase in TAKEN_BACK
    failure = seen.metrics.failure
    breached = any(j.verdict is Verdict.BREACHED for j in judgements)
    left_out = sorted({*state.held, *state.kept})
    needed = awaits_approval(spec, state, seen, judgements, now)
    wait = find_wait(spec, state, seen, judgements, now)
    is_done, is_rolled_back = state.phase is Phase.SUCCEEDED, state.phase is Phase.ROLLED_BACK
    # What soaks serves everywhere, but is not done.
    is_promoted = is_done or state.phase is Phase.SOAKING
    wanted = {
        "Promoted": (is_promoted, *_why(is_promoted, state)),
        "RolledBack": (is_rolled_back, *_why(is_rolled_back, state)),
        "Progressing": (moving, *_why(moving, state)),
        # The same three in the words of kstatus, which Flux and others go by (docs/gitops.md).
        "Ready": (is_done, *_why(is_done, state)),
        "Reconciling": (moving, *_why(moving, state)),
        "Stalled": (is_rolled_back, *_why(is_rolled_back, state)),
        "Degraded": (
            taken_back or breached or bool(left_out),
            state.reason
            if taken_back
            else "ConditionBreached"
            if breached
            else SYMBOLS_HELD
            if left_out
            else "AsExpected",
            _message(spec, state, judgements, seen, now)
            if breached and not taken_back
            else f"held back: {explain.names(left_out)}"
            if left_out and not taken_back
            else "",
        ),
        "Paused": (
            state.hand.pause is not None,
            "PausedByPerson" if state.hand.pause else "NotPaused",
            hand_status.paused(state.hand.pause) if state.hand.pause else "",
        ),
        "ApprovalNeeded": (
            needed,
            "StagePassed" if needed else "NoneNeeded",
            hand_status.approval_needed(state) if needed else "",
        ),
        "Waiting": (
            wait is not None,
            wait.reason if wait else "NotWaiting",
            wait.message if wait else "",
        ),
        "MetricsAvailable": (
            failure is None,
            failure.reason if failure else "SourceAnswers",
            failure.message if failure else "",
        ),
    }
    before = {c["type"]: c for c in previous.get("conditions", ()) if "lastTransitionTime" in c}
    return [
        {
            "type": kind,
            "status": str(is_true),
            "reason": reason,
            "message": message,
            "lastTransitionTime": before[kind]["lastTransitionTime"]
            if kind in before and before[kind]["status"] == str(is_true)
            else _time(now),
            "observedGeneration": state.observed_generation,
        }
        for kind, (is_true, reason, message) in wanted.items()
    ]


def _why(is_true: bool, state: RolloutState) -> tuple[str, str]:
    """Reason and message of a condition; one that is not true has only the phase to tell."""
    return (state.reason, state.message) if is_true else (state.phase.value, "")


# --------------------------------------------------------------------------- reading


def parse(status: Mapping[str, Any]) -> RolloutState:
    """The state that a status holds; of an empty status, that of a new object.

    Raises:
        KeyError, ValueError: the status was not written by this module.
    """
    if not status.get("phase"):
        return RolloutState()
    stage = status.get("stage") or {}
    return RolloutState(
        phase=Phase(status["phase"]),
        phase_since=_instant(status["phaseSince"]),
        reason=status["reason"],
        # The message on show may tell what holds the rollout up; the state's own is in history.
        message=status["history"][0]["message"] if status.get("history") else status["message"],
        observed_generation=status["observedGeneration"],
        canary=_parse_revision(status.get("canary")),
        stable=_parse_revision(status.get("stable")),
        rejected=_parse_revision(status.get("rejected")),
        publisher=_parse_revision(status.get("publisher")),
        restoring=_parse_revision(status.get("restoring")),
        former=tuple(_read_revision(ref) for ref in status.get("former", ())),
        checks=_parse_checks(status["checks"]) if status.get("checks") else None,
        climbed=tuple(status.get("climbed", ())),
        last_attempt=status.get("lastAttempt", 0),
        queued_at=_instant(status["queuedAt"]) if status.get("queuedAt") else None,
        hand=hand_status.parse_hand(status.get("hand") or {}),
        rules=status.get("rules"),
        stage=stage.get("name") if Phase(status["phase"]) is not Phase.SOAKING else None,
        stage_clock=_parse_clock(stage["clock"]) if stage else None,
        phase_clock=_parse_clock(status["phaseClock"]) if status.get("phaseClock") else None,
        timers={
            (timer["key"], timer["symbol"]): _parse_clock(timer["clock"])
            for timer in status.get("timers", ())
        },
        streaks={
            (timer["key"], timer["symbol"]): Streak(
                timer["evaluations"], _instant(timer["lastEvaluation"])
            )
            for timer in status.get("timers", ())
            if "evaluations" in timer
        },
        held={
            held["symbol"]: Held(_instant(held["since"]), held["reason"], held["message"])
            for held in status.get("held", ())
        },
        kept={
            kept["symbol"]: _parse_revision(kept.get("revision")) for kept in status.get("kept", ())
        },
        standings={
            tier["condition"]: Standing(
                tier=Tier(tier["tier"]),
                since=_instant(tier["since"]),
                message=tier["message"],
                easing_since=_instant(tier["easingSince"]) if "easingSince" in tier else None,
            )
            for tier in status.get("tiers", ())
        },
        history=tuple(
            Transition(
                time=_instant(t["time"]),
                phase=Phase(t["phase"]),
                reason=t["reason"],
                message=t["message"],
                version=t["version"],
                is_warning=Phase(t["phase"]) in TAKEN_BACK or t["reason"] == SYMBOLS_HELD,
            )
            for t in status.get("history", ())
        ),
    )


def last_evaluation(status: Mapping[str, Any]) -> datetime | None:
    """When the look was taken that a status is the result of."""
    text = status.get("lastEvaluationTime")
    return _instant(text) if text else None


def _parse_clock(clock: Mapping[str, Any]) -> Clock:
    blind_since = clock.get("blindSince")
    return Clock(
        started_at=_instant(clock["startedAt"]),
        blind=timedelta(seconds=clock.get("blindSeconds", 0)),
        blind_since=_instant(blind_since) if blind_since else None,
    )


def _parse_checks(checks: Mapping[str, Any]) -> Checks:
    return Checks(
        clock=_parse_clock(checks["clock"]),
        good=checks["good"],
        made=checks["made"],
        last=_instant(checks["last"]) if "last" in checks else None,
    )


def _parse_revision(ref: Mapping[str, Any] | None) -> RevisionRef | None:
    return _read_revision(ref) if ref else None


def _read_revision(ref: Mapping[str, Any]) -> RevisionRef:
    return RevisionRef(ref["name"], ref["version"], ref["fingerprint"], ref["attempt"])
