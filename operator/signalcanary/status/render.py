"""The whole status after a look: the memory, and what is told of what was seen. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from signalcanary import calls
from signalcanary.api import SignalCanarySpec, Tier
from signalcanary.contract import format_duration
from signalcanary.evaluate import Bound, Judgement, MetricsSeen, Verdict, measure, worst
from signalcanary.look import Look
from signalcanary.moves import stage_index
from signalcanary.rollout import (
    JUDGED,
    SILENCE,
    TAKEN_BACK,
    Clock,
    Decision,
    Observations,
    Phase,
    RolloutState,
)
from signalcanary.status import words
from signalcanary.status.coming import describe_next
from signalcanary.status.conditions import render_conditions
from signalcanary.status.memory import present, remember
from signalcanary.wire import format_instant

MAX_SYMBOLS_SHOWN = 32
"""An object has room for about 1.5 MB. A status too large could not be written, and a rollback
that cannot be written does not happen."""
MAX_DECIDED_ON = 32
"""Judgements kept of a decision; where there are more, those that are not Ok come first."""

_DECISIONS = frozenset({Phase.PROMOTING, Phase.SUCCEEDED, Phase.ROLLING_BACK})
"""The phases that are entered on evidence, or for want of it."""


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
    state, look = decision.state, Look(spec, seen, now, decision.judgements)
    judged = look.by(state)
    memory = remember(state)
    status = memory | {
        "phaseSince": format_instant(state.phase_since or now),
        "message": words.describe(look, state),
        "next": describe_next(look, state),
        "stage": memory["stage"] and memory["stage"] | _progress(look, state),
        "candidate": ref.version if (ref := state.canary or state.rejected) else None,
        "subject": calls.subject_of(state),
        "warmup": _warmup(judged, state),
        "health": _health(look, state),
        "summary": words.summarise(look, state) or _last_summary(state, previous),
        "symbols": _symbols(judged, state),
        "decision": render_decision(decision, seen.metrics, now) or previous.get("decision"),
        "workloads": [_workload(w) for w in workloads],
        "conditions": render_conditions(look, state, previous),
        "lastEvaluationTime": format_instant(now),
    }
    return {key: value for key, value in status.items() if value not in (None, [], {})}


def _progress(look: Look, state: RolloutState) -> dict[str, Any]:
    """How far the stage is, or the soak."""
    spec, now, clock = look.spec, look.now, state.stage_clock
    if clock is None:
        return {}
    if state.phase is Phase.SOAKING:
        return {"progress": _share(clock, spec.soak, now)}
    index = stage_index(spec, state)
    if index is None:
        return {}  # edited away while promoting
    of = len(spec.stages)
    return {"index": index, "of": of, "progress": _share(clock, spec.stages[index].duration, now)}


def _share(clock: Clock, whole: timedelta, now: datetime) -> str:
    return f"{words.seconds(min(clock.elapsed(now), whole))} of {format_duration(whole)}"


def _last_summary(state: RolloutState, previous: Mapping[str, Any]) -> list[str]:
    """What led to a rollback is wanted most when nothing is judged any more."""
    taken_back = state.phase in TAKEN_BACK
    return list(previous.get("summary", ())) if taken_back else []


def _warmup(look: Look, state: RolloutState) -> str | None:
    seen = look.seen.metrics
    if state.phase not in JUDGED or seen.failure is not None:
        return None
    active = [symbol for symbol in look.spec.symbols.canary if symbol not in state.held]
    slowest = min((seen.warmup_ratio.get(symbol, 0.0) for symbol in active), default=0.0)
    return f"{int(slowest * 100)}%"


def _health(look: Look, state: RolloutState) -> str | None:
    """The worst verdict; of a canary that nothing can be known of yet, that it is young."""
    judgements = look.judgements
    verdict = worst([j.verdict for j in judgements])
    tier = max((j.tier for j in judgements), key=lambda t: t.level, default=Tier.NORMAL)
    if verdict in (Verdict.OK, Verdict.UNPROVEN) and tier is not Tier.NORMAL:
        return tier.value
    is_unknown = verdict in (Verdict.NO_DATA, Verdict.INCONCLUSIVE)
    if is_unknown and state.phase is Phase.WARMING and not _is_silent(look, state):
        return Phase.WARMING.value
    return verdict.value if verdict else None


def _is_silent(look: Look, state: RolloutState) -> bool:
    """Whether a symbol has been silent for longer than a value is good for."""
    return any(
        key == SILENCE and timer.elapsed(look.now) > look.spec.evaluation.stale_after
        for (key, _), timer in state.timers.items()
    )


def _symbols(look: Look, state: RolloutState) -> list[dict[str, Any]]:
    seen = look.seen.metrics
    by_symbol: dict[str, list[Judgement]] = {}
    for judgement in look.judgements:
        by_symbol.setdefault(judgement.symbol, []).append(judgement)
    order = list(Verdict)
    worst_first = sorted(
        by_symbol, key=lambda s: max(order.index(j.verdict) for j in by_symbol[s]), reverse=True
    )
    shown = set(worst_first[:MAX_SYMBOLS_SHOWN])
    out = []
    for symbol in look.spec.symbols.canary:
        if symbol not in shown:
            continue  # or held back
        of_symbol = by_symbol[symbol]
        verdict = worst([j.verdict for j in of_symbol])
        warmup = seen.warmup_ratio.get(symbol)
        beat = seen.heartbeats.get(symbol)
        out.append(
            present(
                symbol=symbol,
                verdict=verdict.value if verdict else None,
                warmup=f"{int(warmup * 100)}%" if warmup is not None else None,
                lastData=format_instant(beat) if beat else None,
                conditions=[_judgement(j, state.timers, seen, look.now) for j in of_symbol],
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
    return present(
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
        breachedFor=words.seconds(timer.elapsed(now)) if timer else None,
        allowedFor=format_duration(judgement.debounce.for_),
        consecutive=_if_more_than_one(judgement.debounce.consecutive),
        message=judgement.message,
    )


def _if_more_than_one(count: int) -> int | None:
    return count if count > 1 else None


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
        "time": format_instant(made.time),
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


def _workload(workload: WorkloadSeen) -> dict[str, Any]:
    return present(
        name=workload.name,
        track=workload.track,
        component=workload.component,
        revision=workload.revision,
        ready=f"{workload.ready}/{workload.wanted}",
        restarts=workload.restarts,
        message=workload.message,
    )
