"""A policy replayed: the looks that an operator would have taken, on a virtual clock.

Every look goes through the very `decide` that the operator calls. The workloads do at once what
is asked of them: pods are ready when the next look is taken, and gone likewise. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from signalcanary.api import Approval, Condition, Debounce, SignalCanarySpec, Tier
from signalcanary.contract import Track
from signalcanary.evaluate import Judgement, MetricsSeen, Verdict
from signalcanary.lifecycle import decide
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import (
    GUARDED,
    SYMBOLS_HELD,
    Decision,
    Observations,
    Phase,
    RolloutState,
    TrackSeen,
    plan,
)
from signalcanary.status import render

GENERATION = 1


class Rollout:
    """One rollout, look by look.

    Args:
        target: the revision that is rolled out.
        stable: the revision that serves already; None for the first rollout of all.
    """

    def __init__(
        self, spec: SignalCanarySpec, target: RevisionRef, stable: RevisionRef | None = None
    ) -> None:
        self.state = RolloutState(stable=stable)
        # Nobody is there to approve, and what was recorded may be of no time that is allowed: a
        # stage ends as soon as it may.
        at_once = {"approval": Approval.NOT_REQUIRED, "schedule": None}
        stages = tuple(s.model_copy(update=at_once) for s in spec.stages)
        # It ends with the promotion or the rollback of the canary: nothing is known of after.
        rollback = spec.rollback.model_copy(update={"verify": None})
        changes = {"stages": stages, "soak": timedelta(0), "rollback": rollback}
        alone = {"schedule": None, "group": None, "after": None}
        self._spec = spec.model_copy(update=changes | alone)
        self._target = target
        self._tracks: dict[tuple[Track, str], TrackSeen] = {}

    def look(
        self, metrics: MetricsSeen, now: datetime, previous: datetime | None
    ) -> tuple[Decision, Observations]:
        """Take one look.

        Args:
            metrics: what the metrics source says of the target's revision.
            previous: when the look before was taken.
        """
        seen = Observations(GENERATION, self._target, metrics, dict(self._tracks), previous)
        seen = replace(seen, planned=plan(self.state))
        decision = decide(self._spec, self.state, seen, now)
        self.state = decision.state
        self._tracks = {
            (p.track, p.revision.name): TrackSeen(pods=1, is_ready=True)
            for p in plan(decision.state)
        }
        return decision, seen


class Kind(StrEnum):
    """What an entry of the story tells."""

    PHASE = "phase"
    """The rollout has entered a phase or a stage."""
    BREACH = "breach"
    """A condition is breached on a symbol: the time to its rollback runs."""
    RECOVERY = "recovery"
    """It no longer is."""
    HOLD = "hold"
    """A condition that was judged cannot be judged any more: clocks stand still."""
    NOTICE = "notice"
    """What the operator would have posted an Event of within a phase, such as a tier."""


@dataclass(frozen=True)
class Entry:
    """One thing that happened.

    Attributes:
        reason: machine-readable, as in the status.
        message: what the status says of it.
        next: what the status announces next; empty but for a breach or a phase.
    """

    time: datetime
    kind: Kind
    phase: Phase
    reason: str
    message: str
    next: str = ""
    symbol: str | None = None
    condition: str | None = None


@dataclass(frozen=True)
class Point:
    """What one condition was judged by at one look."""

    time: datetime
    value: float | None
    verdict: Verdict
    tier: Tier = Tier.NORMAL
    lower: float | None = None
    upper: float | None = None
    """The bounds that a rollback is decided by."""
    whole_lower: float | None = None
    whole_upper: float | None = None
    """The bounds that a promotion is decided by."""


def debounce_of(condition: Condition, points: Sequence[Point]) -> Debounce:
    """How long a breach had to be seen; where evidence was there now and then, at the others."""
    is_bare = any(p.verdict.is_judged and p.upper is None for p in points)
    return condition.debounce(has_evidence=condition.is_guarded and not is_bare)


@dataclass
class Replay:
    """What a policy would have done.

    Attributes:
        curves: by (condition's key, symbol), one point a look.
        breached: by the same, time in which it was breached, look to look.
        summary: each condition in a line, as the status had it at the last look.
    """

    spec: SignalCanarySpec
    target: RevisionRef
    started: datetime
    ended: datetime
    looks: int = 0
    state: RolloutState = field(default_factory=RolloutState)
    story: list[Entry] = field(default_factory=list)
    curves: dict[tuple[str, str], list[Point]] = field(default_factory=dict)
    breached: dict[tuple[str, str], timedelta] = field(default_factory=dict)
    message: str = ""
    next: str = ""
    summary: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        return _OUTCOMES.get(self.state.phase, Outcome.GOING_ON)

    @property
    def decided(self) -> Entry | None:
        """The decision to promote or to roll back; None if neither was taken."""
        return next((e for e in self.story if e.reason in _ends(self.outcome)), None)


class Outcome(StrEnum):
    """How a replay ended."""

    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    GOING_ON = "GoingOn"
    """The data ended before the rollout did."""


_OUTCOMES = {
    Phase.SUCCEEDED: Outcome.PROMOTED,
    Phase.ROLLED_BACK: Outcome.ROLLED_BACK,
    Phase.ROLLING_BACK: Outcome.ROLLED_BACK,
}
_ROLLBACKS = frozenset(
    {"ConditionBreached", "CanarySilent", "CanaryNotRunning", "DeadlineExceeded"}
)


def _ends(outcome: Outcome) -> frozenset[str]:
    if outcome is Outcome.PROMOTED:
        return frozenset({"Promoted"})
    return _ROLLBACKS if outcome is Outcome.ROLLED_BACK else frozenset()


def replay(
    spec: SignalCanarySpec,
    target: RevisionRef,
    looks: Iterable[tuple[datetime, MetricsSeen]],
    stable: RevisionRef | None = None,
) -> Replay:
    """Take the looks one after another, until the rollout is at rest or there are no more.

    The rollout begins a look before the first of them, so that its pods run at the first.

    Raises:
        ValueError: there is no look.
    """
    rollout = Rollout(spec, target, stable)
    story: Replay | None = None
    previous: datetime | None = None
    before: tuple[Judgement, ...] = ()
    status: dict[str, Any] = {}
    for now, metrics in looks:
        if story is None:
            previous = now - spec.evaluation.interval
            story = Replay(spec, target, previous, previous)
            first, seen = rollout.look(MetricsSeen(), previous, None)
            _tell(story, (), first, render(spec, first, seen, (), {}, previous), previous)
        assert previous is not None
        decision, seen = rollout.look(metrics, now, previous)
        # A status takes longer to write than a decision to take: only where something is new.
        if (
            decision.transitions
            or decision.notices
            or _verdicts(decision.judgements) != _verdicts(before)
        ):
            status = render(spec, decision, seen, (), status, now)
            _tell(story, before, decision, status, now)
        measure(story, decision, now, now - previous)
        story.looks, story.ended, story.state = story.looks + 1, now, decision.state
        previous, before = now, decision.judgements
        if decision.state.phase in (Phase.SUCCEEDED, Phase.ROLLED_BACK):
            break
    if story is None:
        raise ValueError("no look to replay")
    status = render(spec, decision, seen, (), status, story.ended)
    story.message, story.next = status["message"], status["next"]
    story.summary = status.get("summary", [])
    return story


def _verdicts(judgements: tuple[Judgement, ...]) -> list[Verdict]:
    return [j.verdict for j in judgements]


def _tell(
    story: Replay,
    before: tuple[Judgement, ...],
    decision: Decision,
    status: Mapping[str, Any],
    now: datetime,
) -> None:
    """Note what is new at this look: breaches first, as they are why a phase changes."""
    phase = decision.state.phase
    then = {(j.condition.key, j.symbol): j.verdict for j in before}
    announced: str = status["next"]
    for j in decision.judgements:
        was = then.get((j.condition.key, j.symbol))
        if j.verdict is Verdict.BREACHED and was is not Verdict.BREACHED:
            kind, text = Kind.BREACH, announced if phase in GUARDED else ""
        elif was is Verdict.BREACHED and j.verdict is not Verdict.BREACHED:
            kind, text = Kind.RECOVERY, ""
        elif was is not None and was.is_judged and not j.verdict.is_judged:
            kind, text = Kind.HOLD, ""
        else:
            continue
        at = Entry(now, kind, phase, j.reason, j.message, text, j.symbol, j.condition.key)
        story.story.append(at)
    for n in decision.notices:
        story.story.append(Entry(now, Kind.NOTICE, phase, n.reason, n.message))
    last = decision.transitions[-1] if decision.transitions else None
    for t in decision.transitions:
        text = announced if t is last else ""
        kind = Kind.NOTICE if t.reason == SYMBOLS_HELD else Kind.PHASE
        story.story.append(Entry(now, kind, t.phase, t.reason, t.message, text))


def measure(story: Replay, decision: Decision, now: datetime, since: timedelta) -> None:
    """Note what each condition was judged by at one look."""
    for j in decision.judgements:
        key = (j.condition.key, j.symbol)
        curve = story.curves.setdefault(key, [])
        if j.verdict is Verdict.BREACHED and curve and curve[-1].verdict is Verdict.BREACHED:
            story.breached[key] = story.breached.get(key, timedelta(0)) + since
        b = j.bound
        ends = (b.lower, b.upper, b.whole_lower, b.whole_upper) if b else (None,) * 4
        curve.append(Point(now, j.value, j.verdict, j.tier, *ends))
