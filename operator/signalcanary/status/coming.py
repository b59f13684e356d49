"""What happens next to a rollout, and when, in the words of status. Pure."""

from __future__ import annotations

from datetime import timedelta

from signalcanary import calls, waiting
from signalcanary.aftermath import time_left
from signalcanary.api import OnNoData, SignalCanarySpec, Tier
from signalcanary.commands import Verb
from signalcanary.contract import Track, format_duration
from signalcanary.evaluate import Verdict
from signalcanary.guards import until_due
from signalcanary.hand import needs_approval
from signalcanary.lifecycle import awaits_approval, find_wait, until_deadline
from signalcanary.look import Look
from signalcanary.moves import stage_index
from signalcanary.rollout import (
    ARMED,
    DEADLINE_HELD,
    SILENCE,
    STARTING,
    Phase,
    RolloutState,
    judged_spec,
)
from signalcanary.status.words import clock_time, seconds, version_of
from signalcanary.windows import Wait, shown


def describe_next(look: Look, state: RolloutState) -> str:
    """What happens next, and when."""
    spec, seen, now = look.spec, look.seen, look.now
    wait = find_wait(look, state)
    if state.phase is Phase.WAITING:
        return f"starts {version_of(state)}{_once_open(wait)}"
    if state.phase not in ARMED:
        return _at_rest(look, state)
    urgent = _rollback(look, state)
    if urgent:
        return urgent
    if seen.metrics.failure is not None:
        return "goes on as soon as the metrics source answers again"
    if state.hand.pause is not None:
        return calls.until_resumed(seen)
    match state.phase:
        case Phase.VERIFYING:
            return "starts the canary's pods once its artifacts are verified"
        case Phase.SOAKING:
            left = time_left(spec, state, now) or timedelta(0)
            if state.stage_clock is not None and state.stage_clock.blind_since is not None:
                return (
                    f"the soak ends after {seconds(left)} more of observed time; its clock "
                    "stands still now"
                )
            when = f"in {seconds(left)}, at about {clock_time(now + left)}"
            return f"the soak ends {when}, if nothing is breached"
        case Phase.PENDING:
            return "warms up once the canary's pods are ready"
        case Phase.WARMING:
            first = spec.stages[0]
            return (
                f"stage {first.name} ({format_duration(first.duration)}) starts once every "
                f"condition can be judged on every canary symbol{_once_open(wait)}"
            ) + _otherwise(look, state)
        case Phase.PROMOTING:
            assert state.canary is not None
            problem = seen.track(Track.STABLE, state.canary).problem
            text = (
                f"{state.canary.version} becomes stable once its pods on the full set are ready "
                f"and {'nothing is breached' if state.hand.promote else _all_good(spec)}"
                f"{_once_open(wait)}"
            ) + _otherwise(look, state)
            return text + (f"; now: {problem}" if problem else "")
    index = stage_index(spec, state)
    if index is None or state.stage_clock is None:
        return "the stages have changed; observes the first of them next"
    left = spec.stages[index].duration - state.stage_clock.elapsed(now)
    then = (
        f"stage {spec.stages[index + 1].name}" if index + 1 < len(spec.stages) else "the promotion"
    )
    if needs_approval(spec, state):
        if awaits_approval(look, state):
            return calls.once_approved(state, seen, then)
        then += " (once approved)"
    if wait is not None:
        return f"{then}{_once_open(wait)}, if all is well then"
    if left <= timedelta(0) or state.hand.skip is not None:
        return f"{then} as soon as {_all_good(spec)}" + _otherwise(look, state)
    opens = waiting.opens_at(spec, spec.stages[index], now + left)
    if opens is None or opens > now + left:
        then += f" (not before {shown(opens)})" if opens else " (in no window to come)"
    if state.stage_clock.blind_since is not None:
        text = f"{then} after {seconds(left)} more of observed time; the clock stands still now"
        return text + _otherwise(look, state)
    when = f"in {seconds(left)}, at about {clock_time(now + left)}"
    if any(j.is_critical for j in look.judgements):
        return f"{then} {when} at the earliest, once nothing is critical"
    return f"{then} {when}, if all stays Ok"


def _at_rest(look: Look, state: RolloutState) -> str:
    spec, now = look.spec, look.now
    match state.phase:
        case Phase.VERIFYING_ROLLBACK:
            rules, checks, left = spec.rollback.verify, state.checks, time_left(spec, state, now)
            if rules is None or checks is None or left is None:
                return "the rollback is confirmed"
            if checks.clock.blind_since is not None:
                return "the rollback is verified once what serves can be seen, with fresh data"
            return (
                f"in {seconds(left)}, at about {clock_time(now + left)}, the rollback is "
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


def _rollback(look: Look, state: RolloutState) -> str | None:
    """The rollback that comes first if nothing changes."""
    spec, now = look.spec, look.now
    due = [
        (
            until_due(spec, judgement.debounce, timer, state.streaks.get(key), now),
            f"{judgement.condition.bound()} ends",
            judgement.symbol,
        )
        for judgement in look.judgements
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
    overdue = _deadline_in(look, state)
    if overdue is not None:
        what = f"stage {state.stage}" if state.phase is Phase.PROGRESSING else state.phase.value
        due.append((overdue, f"{what} ends", ""))
    left, why, symbol = min(due)
    left = max(left, timedelta(0))
    most = spec.rollback.most_held(len(spec.symbols.canary))
    is_alone = symbol and state.phase not in STARTING and len(state.held) + 1 < most
    what = f"holds {symbol} back" if is_alone else "rolls back"
    return f"{what} in {seconds(left)}, at about {clock_time(now + left)}, unless {why}"


def _otherwise(look: Look, state: RolloutState) -> str:
    """What the deadline does, while its clock runs; or what a person may do about one that only
    holds."""
    if any(call.reason == DEADLINE_HELD for call in state.calls):
        how = calls.command(Verb.ABORT, state, look.seen)
        return f"; held beyond its deadline until then, or until a person takes it back: {how}"
    left = _deadline_in(look, state)
    if left is None:
        return ""
    left = max(left, timedelta(0))
    return f"; otherwise rolls back in {seconds(left)}, at about {clock_time(look.now + left)}"


def _deadline_in(look: Look, state: RolloutState) -> timedelta | None:
    """Time until the deadline rolls back; None while its clock stands still."""
    clock = state.phase_clock
    is_running = clock is not None and clock.blind_since is None
    return until_deadline(look.spec, state, look.now) if is_running else None


def _once_open(wait: Wait | None) -> str:
    if wait is None:
        return ""
    return f" at {shown(wait.until)}" if wait.until else f" once it may: {wait.message}"


def _all_good(spec: SignalCanarySpec) -> str:
    has_critical = any(Tier.CRITICAL in c.tiers for c in spec.rollback.conditions)
    return "every condition is Ok" + (", and none critical" if has_critical else "")
