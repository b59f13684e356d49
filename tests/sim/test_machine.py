"""The machine explored: every state that `decide` can get into, and the laws on every edge.

Breadth first from a new object. What the world may do at a look is a product: what each symbol
says of each condition and of itself, whether the source answers, whether the pods are as wanted,
whether the spec was edited and how, how long ago the last look was. Every state meets a seeded
sample of a list of plain inputs and of the product; with SIGNALCANARY_MACHINE_SAMPLE all of the
list and as many of the product as it says (`make machine`), with breaches that must be seen twice
and samples that are read twice. With SIGNALCANARY_MACHINE_SCOPE=Symbol one bad symbol is held back
alone.

Time is kept relative: `NOW` stands still and what a state remembers is moved into the past, so
that two states that differ only in when they are reached are one, and there are few of them.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest

from signalcanary.api import Schedule, SignalCanarySpec, Tier
from signalcanary.artifacts import Artifacts, Reason, Refusal, Verification
from signalcanary.commands import Asked, Command, Verb
from signalcanary.contract import Component, Track
from signalcanary.evaluate import (
    Bound,
    Judgement,
    Measurement,
    MetricsSeen,
    Silence,
    SourceFailure,
    Verdict,
    evaluate,
    silence_of,
)
from signalcanary.lifecycle import decide, rules_of
from signalcanary.publication import build_gate
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import (
    GUARDED,
    SERVED,
    SILENCE,
    STARTING,
    SYMBOLS_HELD,
    WITH_CANARY,
    Clock,
    Decision,
    Hand,
    Held,
    Observations,
    Phase,
    RolloutState,
    TrackSeen,
    Word,
    plan,
)
from signalcanary.status import parse, render
from signalcanary.tiers import Streak

pytestmark = pytest.mark.timeout(1800)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND, ZERO = timedelta(seconds=1), timedelta(0)
LOOK, GAP = 300 * SECOND, 2100 * SECOND
SAMPLE = int(os.environ.get("SIGNALCANARY_MACHINE_SAMPLE", "4"))
IS_THOROUGH = SAMPLE > 4
SCOPE = os.environ.get("SIGNALCANARY_MACHINE_SCOPE", "All")
LITERAL, PROVEN = "platt_ece", "slice_auc_active_period"
SPEC = SignalCanarySpec.model_validate(
    {
        "version": "v1",
        "symbols": {"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
        "stages": [
            {"name": "shadow", "duration": "300s"},
            {"name": "canary", "duration": "300s"}
            # Where no person's hand is explored, none is waited for.
            | ({"approval": "Required"} if SCOPE == "All" else {}),
        ],
        "signal": {
            "label": {"horizon": "100s"},
            "calibration": {"train": "100s", "test": "100s"},
        },
        "rollback": {
            "scope": SCOPE,
            "conditions": [
                {
                    "metric": LITERAL,
                    "critical": 0.08,
                    "above": 0.1,
                    "for": "300s",
                    "consecutive": 2 if IS_THOROUGH else 1,
                    "mode": "literal",
                },
                {"metric": PROVEN, "below": 0.55},
            ],
        },
        "evaluation": {
            "interval": "300s",
            "staleAfter": "300s",
            "noDataAfter": "300s",
            "deadline": "300s",
            "onDeadline": "Rollback",
        },
    }
)
RULES = rules_of(SPEC)
ARTIFACTS = {
    "path": "models",
    "files": [{"path": "a.json", "size": 2, "sha256": "0" * 64, "format": "json"}],
}
WITH_ARTIFACTS = SPEC.model_copy(
    update={
        "signal": SPEC.signal.model_copy(update={"artifacts": Artifacts.model_validate(ARTIFACTS)})
    }
)
"""That there are some matters at the start of a rollout alone."""
SHUT = {"blackouts": [{"start": "2026-05-01T00:00:00Z", "end": "2026-05-02T00:00:00Z"}]}
LIMITS = {
    Phase.WARMING: 600 * SECOND,
    Phase.PROGRESSING: 600 * SECOND,
    Phase.PROMOTING: 300 * SECOND,
}
"""How long a phase, or its stage, may go on while the metrics source answers."""
STABLE = RevisionRef("5" * 8, "stable", "5" * 16, 1)
CANARY = RevisionRef("c" * 8, "canary", "c" * 16, 1)
KEPT = RevisionRef("6" * 8, "kept", "6" * 16, 1)
REJECTED = RevisionRef("d" * 8, "rejected", "d" * 16, 1)
NEW = RevisionRef("e" * 8, "new", "e" * 16, 1)
FORMER = RevisionRef("f" * 8, "former", "f" * 16, 1)

# --------------------------------------------------------------------------- what may happen

OF_LITERAL = {"ok": (0.05,), "critical": (0.09,), "breached": (0.3,), "unknown": ()}
if IS_THOROUGH:
    # What a look before may have read already: twice as many states.
    OF_LITERAL |= {"breached of late": (0.3,)}
OF_PROVEN = {
    "ok": Bound(0.0005, 0.56, 0.62, 0.56, 0.62),
    "unproven": Bound(0.0005, 0.5, 0.62, 0.5, 0.62),
    "breached": Bound(0.0005, 0.4, 0.5, 0.4, 0.5),
    "unknown": None,
}
OF_BEATS = ("fresh", "silent", "silent as stable is")
OF_SYMBOL = tuple(product(OF_LITERAL, OF_PROVEN, OF_BEATS))
OF_METRICS = ("failed", *product(OF_SYMBOL, OF_SYMBOL))
OF_EDIT = (
    "none",
    "new version",
    "new models",
    "back to stable",
    "touched",
    "other rules",
    "other stages",
)
HEALTHY = ("ok", "ok", "fresh")
UNKNOWN = ("unknown", "unknown", "fresh")
BAD = ("breached", "breached", "fresh")


@dataclass(frozen=True)
class Input:
    """What the world does at one look.

    Attributes:
        ask: the verb that a person asks for; of pause and resume, that the annotation comes or
            goes.
    """

    metrics: Any = (HEALTHY, HEALTHY)
    step: timedelta = LOOK
    pods_follow: bool = True
    edit: str = "none"
    is_refused: bool = False
    """What the artifacts are found to be, where the pods follow."""
    ask: Verb | None = None
    is_shut: bool = False
    """Whether it is outside the windows of the rollout."""


def plain_inputs() -> Iterator[Input]:
    """All that one symbol alone can do, and the rest one at a time."""
    for verdicts in product(("ok", "breached", "unknown"), OF_PROVEN):
        yield Input(((*verdicts, "fresh"), HEALTHY))
    for literal in OF_LITERAL:
        yield Input(((literal, "ok", "fresh"), HEALTHY))
    for beat in OF_BEATS[1:]:
        yield Input((("ok", "ok", beat), HEALTHY))
        yield Input((("unknown", "unknown", beat), HEALTHY))
    for one in (("breached", "ok", "fresh"), ("unknown", "unknown", "silent")):
        yield Input((HEALTHY, one))
        yield Input((one, one))
    for pods, step in product((True, False), (LOOK, GAP)):
        yield Input("failed", step, pods)
        yield Input(step=step, pods_follow=pods)
    yield Input((("breached", "breached", "fresh"), HEALTHY), GAP)
    yield Input((("unknown", "unknown", "silent"), HEALTHY), pods_follow=False)
    yield Input(is_refused=True)
    yield Input("failed", is_refused=True)
    for edit in OF_EDIT[1:]:
        yield Input(edit=edit)
        yield Input("failed", edit=edit, pods_follow=False)


def shut_inputs() -> Iterator[Input]:
    """What the world may do outside the windows."""
    for metrics in ((HEALTHY, HEALTHY), (BAD, HEALTHY), (UNKNOWN, HEALTHY), "failed"):
        yield Input(metrics, is_shut=True)
    for edit in ("new version", "new models", "back to stable", "other stages"):
        yield Input(edit=edit, is_shut=True)


def hand_inputs() -> Iterator[Input]:
    """What a person may ask for, in good times and in bad."""
    for verb in Verb:
        for metrics in ((HEALTHY, HEALTHY), (BAD, HEALTHY), (UNKNOWN, HEALTHY), "failed"):
            yield Input(metrics, ask=verb)
        yield Input(ask=verb, pods_follow=False)
        yield Input(ask=verb, edit="new version")
        yield Input(ask=verb, is_refused=True)
        yield Input(ask=verb, is_shut=True)


def held_inputs() -> Iterator[Input]:
    """What the world may do to what a person has a hand on."""
    yield Input()
    yield Input(step=GAP)
    yield Input(pods_follow=False)
    yield Input("failed")
    yield Input(is_shut=True)
    for one in (BAD, UNKNOWN, ("ok", "unproven", "fresh"), ("unknown", "unknown", "silent")):
        yield Input((one, one))
    for edit in OF_EDIT[1:]:
        yield Input(edit=edit)


PLAIN, OUTSIDE = tuple(plain_inputs()), tuple(shut_inputs())
BY_HAND, HELD = tuple(hand_inputs()), tuple(held_inputs())
WHOLE = tuple(Input(*choice) for choice in product(OF_METRICS, (LOOK, GAP), (True, False), OF_EDIT))


@cache
def metrics_of(choice: Any) -> MetricsSeen:
    if choice == "failed":
        return MetricsSeen(failure=SourceFailure("SourceTimeout", "no answer within 8s"))
    measurements, beats, control = {}, {}, {}
    for symbol, (literal, proven, beat) in zip(SPEC.symbols.canary, choice, strict=True):
        bound = OF_PROVEN[proven]
        at = NOW - LOOK if literal == "breached of late" else NOW
        measurements[LITERAL, symbol] = Measurement(OF_LITERAL[literal], 5000, at)
        measurements[PROVEN, symbol] = (
            Measurement((0.58,), 5000, NOW, (bound,)) if bound else Measurement((), 0, NOW)
        )
        if beat == "fresh":
            beats[symbol] = NOW
        control[symbol] = NOW - timedelta(hours=1) if beat == "silent as stable is" else NOW
    return MetricsSeen(measurements, beats, {}, control, revision=CANARY.name)


@cache
def observations(look: Input, target: RevisionRef) -> Observations:
    refusal = Refusal(reason=Reason.GATE_FAILED, file="a.json", message="no")
    refusals = (refusal,) if look.is_refused else ()
    found = Verification(revision=CANARY.name, attempt=1, files=1, total_bytes=2, refusals=refusals)
    verification = found if look.pods_follow else None
    tracks = {
        (Track.CANARY, CANARY.name): TrackSeen(2, look.pods_follow, None, verification),
        (Track.STABLE, CANARY.name): TrackSeen(2, look.pods_follow),
        (Track.STABLE, STABLE.name): TrackSeen(2, True),
        (Track.STABLE, KEPT.name): TrackSeen(2, True, strays=0 if look.pods_follow else 2),
        (Track.STABLE, FORMER.name): TrackSeen(2, look.pods_follow),
    }
    if not look.pods_follow:
        tracks[Track.CANARY, REJECTED.name] = TrackSeen(2, True)
    on_record = frozenset(ref.name for ref in (STABLE, CANARY, REJECTED, NEW, FORMER))
    return Observations(
        1, target, metrics_of(look.metrics), tracks, NOW - look.step, recorded=on_record
    )


def asked(state: RolloutState, verb: Verb | None) -> Asked:
    """The annotations: a pause stays until it is taken out, a command is about what there is."""
    is_paused = state.hand.pause is not None or verb is Verb.PAUSE
    pause = Command(Verb.PAUSE, "p") if is_paused and verb is not Verb.RESUME else None
    if verb is None or verb is Verb.PAUSE:
        return Asked(pause)
    stable_or_canary = state.stable if verb is Verb.ROLLBACK else state.canary
    ref = state.restoring or stable_or_canary or state.rejected or CANARY
    detail = {
        Verb.APPROVE: "canary",
        Verb.SKIP: state.stage or "shadow",
        Verb.ROLLBACK: state.former[0].name if state.former else FORMER.name,
    }
    command = Command(verb, "c", f"{ref.name}-{ref.attempt}", detail.get(verb, ""), "alice")
    return Asked(pause, (command,))


# --------------------------------------------------------------------------- states


@dataclass(frozen=True)
class Node:
    """A state as of `NOW`, and the revision that the spec declares."""

    state: RolloutState
    target: RevisionRef

    @property
    def key(self) -> Any:
        s = self.state
        timers = tuple(sorted((k, shape(c)) for k, c in s.timers.items()))
        streaks = tuple(sorted((k, s.evaluations, NOW - s.last) for k, s in s.streaks.items()))
        clocks = (timers, streaks, shape(s.stage_clock), shape(s.phase_clock))
        who = (s.canary, s.stable, s.rejected, s.restoring, s.former, self.target)
        who = (*who, *s.held, *s.kept.items())
        hand = s.hand
        held = (hand.pause, tuple(hand.approvals), hand.skip, hand.promote)
        return held, (s.phase, s.reason, s.observed_generation, who, s.rules, s.stage, clocks)


def shape(clock: Clock | None) -> Any:
    """Observed time and whether it runs: all that can matter of a clock."""
    return (clock.elapsed(NOW), clock.blind_since is None) if clock else ()


def passed(clock: Clock | None, step: timedelta) -> Clock | None:
    """The clock as it is when `step` more has passed."""
    if clock is None:
        return None
    since = clock.blind_since
    return replace(
        clock, started_at=clock.started_at - step, blind_since=since - step if since else None
    )


def after_a_while(state: RolloutState, step: timedelta) -> RolloutState:
    assert state.phase_since is not None or not state.history
    return replace(
        state,
        phase_since=state.phase_since - step if state.phase_since else None,
        history=tuple(replace(t, time=t.time - step) for t in state.history),
        timers={key: passed(clock, step) for key, clock in state.timers.items()},
        streaks={key: streak.set_back(step) for key, streak in state.streaks.items()},
        stage_clock=passed(state.stage_clock, step),
        phase_clock=passed(state.phase_clock, step),
    )


def edited(node: Node, edit: str) -> Node:
    """The spec is edited. That rules or stages change is the same as that they were others."""
    state, target = node.state, node.target
    match edit:
        case "none":
            return node
        case "new version" | "new models":
            target = NEW
        case "back to stable":
            target = state.stable or NEW
        case "other rules" if state.rules:
            state = replace(state, rules="f" * 8)
        case "other stages" if state.stage:
            state = replace(state, stage="edited-away")
    return Node(replace(state, observed_generation=0), target)


SYMBOLS = SPEC.symbols.canary
LONGEST = {
    **{(c.key, s): c.for_ for c in SPEC.rollback.conditions for s in SYMBOLS},
    **{(SILENCE, s): SPEC.evaluation.no_data_after for s in SYMBOLS},
}


CONSECUTIVE = {(c.key, s): c.consecutive for c in SPEC.rollback.conditions for s in SYMBOLS}


def recent(streak: Streak) -> Streak:
    """What matters of a streak: whether the next look can read its newest sample once more."""
    is_enough = streak.evaluations >= 2
    return replace(streak, last=NOW - LOOK if is_enough else max(streak.last, NOW - LOOK))


def normal(state: RolloutState, target: RevisionRef) -> Node:
    """What matters of a state: names by role, times no longer than anything waits for."""
    roles = {
        ref.name: role
        for ref, role in (
            (state.rejected, REJECTED),
            (state.canary, CANARY),
            (state.stable, STABLE),
            (state.restoring, FORMER),
        )
        if ref is not None
    } | {ref.name: KEPT for ref in state.kept.values() if ref is not None}

    def role_of(ref: RevisionRef | None) -> RevisionRef | None:
        return roles.get(ref.name, NEW) if ref else None

    def short(clock: Clock, longest: timedelta) -> Clock:
        elapsed, runs = shape(clock)
        return Clock(NOW - min(elapsed, longest), ZERO, None if runs else NOW)

    durations = {stage.name: stage.duration for stage in SPEC.stages}
    clock, phase_clock = state.stage_clock, state.phase_clock
    if clock:
        is_observed = state.phase is Phase.PROGRESSING
        clock = short(clock, durations.get(state.stage or "", ZERO) if is_observed else ZERO)
    if phase_clock:
        phase_clock = short(phase_clock, LIMITS[state.phase])
    word, hand = Word("alice", "", NOW), state.hand
    hand = Hand(
        word if hand.pause else None,
        dict.fromkeys(hand.approvals, word),
        word if hand.skip else None,
        word if hand.promote else None,
    )
    # There is always one to go back to, and one is enough; it may be what was rolled back.
    one = state.former[0].name if state.former else ""
    is_rejected = state.rejected is not None and one == state.rejected.name
    former = (REJECTED if is_rejected else FORMER,) if state.stable else ()
    # Why a phase was entered matters only to the one that follows RollingBack.
    reason = "Any" if state.phase in WITH_CANARY else state.reason
    told = f"rolling back {state.reason}"
    is_warning = state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    last = replace(state.history[0], reason=reason, message=told, is_warning=is_warning)
    history = (last,)
    timers = {key: short(clock, LONGEST[key]) for key, clock in state.timers.items()}
    # Which of the two symbols it is does not matter: the one with more running comes first.
    first, second = SPEC.symbols.canary
    swap = {first: second, second: first}
    streaks = {key: recent(streak) for key, streak in state.streaks.items()}
    swapped = {(key, swap[symbol]): clock for (key, symbol), clock in timers.items()}
    swapped_streaks = {(key, swap[symbol]): streak for (key, symbol), streak in streaks.items()}
    held = {symbol: Held(NOW, "ConditionBreached", "") for symbol in state.held}
    kept = {symbol: role_of(ref) for symbol, ref in state.kept.items()}
    swapped_held = {swap[symbol]: one for symbol, one in held.items()}
    swapped_kept = {swap[symbol]: ref for symbol, ref in kept.items()}
    timers, streaks, held, kept = max(
        (timers, streaks, held, kept),
        (swapped, swapped_streaks, swapped_held, swapped_kept),
        key=lambda one: (
            sorted(one[2]),
            sorted(one[3]),
            sorted((s, k, shape(c)) for (k, s), c in one[0].items()),
            sorted((s, streak.evaluations, streak.last) for (_, s), streak in one[1].items()),
        ),
    )
    return Node(
        replace(
            state,
            canary=role_of(state.canary),
            stable=role_of(state.stable),
            rejected=role_of(state.rejected),
            restoring=role_of(state.restoring),
            former=former,
            last_attempt=0,
            hand=hand,
            timers=timers,
            streaks=streaks,
            held=held,
            kept=kept,
            standings={},  # they decide nothing, or the laws on clocks would not hold
            calls=(),
            stage_clock=clock,
            phase_clock=phase_clock,
            phase_since=history[0].time,
            reason=reason,
            message=history[0].message,
            history=history,
        ),
        role_of(target) or NEW,
    )


# --------------------------------------------------------------------------- the laws

Sight = Literal["hit", "blind", "clear"]

ROLLED_BACK_FOR = {
    "ConditionBreached",
    "CanarySilent",
    "CanaryNotRunning",
    "DeadlineExceeded",
    "VerificationFailed",
    "Aborted",
    "RollbackRequested",
}
FORWARD = {"StageStarted", "StagesPassed", "Promoted", "PromoteRequested"}
STARTED, PODS, BY_EDIT = "RolloutStarted", "CanaryRunning", {"AlreadyStable", "RulesChanged"}
WAITING = "WaitingToStart"
RUNNING = GUARDED - STARTING
DIAGRAM = {
    (Phase.VERIFYING, Phase.PENDING, "ArtifactsVerified"),
    (Phase.VERIFYING, Phase.ROLLING_BACK, "VerificationFailed"),
    (Phase.PENDING, Phase.WARMING, PODS),
    (Phase.WARMING, Phase.PROGRESSING, "StageStarted"),
    (Phase.PROGRESSING, Phase.PROGRESSING, "StageStarted"),
    (Phase.PROGRESSING, Phase.PROMOTING, "StagesPassed"),
    (Phase.PROMOTING, Phase.SUCCEEDED, "Promoted"),
    *((p, Phase.ROLLING_BACK, "ConditionBreached") for p in RUNNING),
    *((p, Phase.ROLLING_BACK, "CanarySilent") for p in RUNNING),
    *((p, Phase.ROLLING_BACK, "CanaryNotRunning") for p in STARTING),
    *((p, Phase.ROLLING_BACK, "DeadlineExceeded") for p in RUNNING),
    *((Phase.ROLLING_BACK, Phase.ROLLED_BACK, reason) for reason in ROLLED_BACK_FOR),
    *(
        (p, start, STARTED)
        for p in set(Phase) - SERVED - {Phase.ROLLING_BACK}
        for start in STARTING
    ),
    *((p, Phase.WAITING, WAITING) for p in set(Phase) - SERVED - {Phase.ROLLING_BACK}),
    *((p, Phase.SUCCEEDED, "AlreadyStable") for p in (*WITH_CANARY, Phase.ROLLED_BACK)),
    *((p, Phase.WARMING, "RulesChanged") for p in RUNNING),
    *((p, p, "RulesChanged") for p in STARTING),
    *((p, Phase.PROMOTING, "PromoteRequested") for p in (Phase.WARMING, Phase.PROGRESSING)),
    *((Phase.ROLLED_BACK, start, "RetryRequested") for start in STARTING),
    *((p, Phase.ROLLING_BACK, "Aborted") for p in (*WITH_CANARY, Phase.ROLLING_BACK)),
    *(
        (p, Phase.ROLLING_BACK, "RollbackRequested")
        for p in (*WITH_CANARY, Phase.SUCCEEDED, Phase.ROLLED_BACK)
    ),
    *((Phase.ROLLING_BACK, Phase.SUCCEEDED, r) for r in ("Aborted", "RollbackRequested")),
}
if SCOPE != "All":
    DIAGRAM |= {(p, p, SYMBOLS_HELD) for p in RUNNING}
"""What the designs allow; there is no other way from a phase to a phase."""


def sight_of(judgement: Judgement) -> Sight:
    if judgement.verdict is Verdict.BREACHED:
        return "hit"
    return "clear" if judgement.verdict in (Verdict.OK, Verdict.UNPROVEN) else "blind"


def silence_sight(symbol: str, seen: MetricsSeen) -> Sight:
    match silence_of(symbol, SPEC, seen, NOW):
        case Silence.NONE:
            return "clear"
        case Silence.CANARY:
            return "hit"
        case _:
            return "blind"


def expected(before: Clock | None, sight: Sight, step: timedelta) -> tuple[timedelta, bool] | None:
    """Observed time after a look, and whether it runs on. Counted is the time from a look that
    saw it to the next look, unless nobody looked for too long; `before` is as of the last look,
    moved to now."""
    if before is None:
        return (ZERO, True) if sight == "hit" else None
    so_far = before.elapsed(NOW)
    if before.blind_since is None and step == GAP:
        so_far -= step
    return None if sight == "clear" else (so_far, sight == "hit")


def expected_streak(
    key: tuple[str, str], before: Streak | None, sight: Sight, at: datetime | None
) -> Streak | None:
    """One more for each newer sample that shows the breach, up to what is asked for."""
    if CONSECUTIVE.get(key, 1) == 1 or sight == "clear":
        return None
    if sight == "blind":
        return before
    assert at is not None
    if before is None:
        return Streak(1, at)
    is_new = at > before.last and before.evaluations < CONSECUTIVE[key]
    return Streak(before.evaluations + 1, at) if is_new else before


def check(before: RolloutState, look: Input, seen: Observations, decision: Decision) -> None:
    after, transitions = decision.state, decision.transitions
    verdicts = {j.verdict for j in decision.judgements}
    reasons = [t.reason for t in transitions]

    # Phases: only along the diagram, no transition twice, nothing at rest unless edited or asked.
    phase = before.phase
    for transition in transitions:
        assert (phase, transition.phase, transition.reason) in DIAGRAM
        phase = transition.phase
    assert phase is after.phase
    assert len({(t.phase, t.reason) for t in transitions}) == len(transitions)
    is_edited = before.observed_generation != seen.generation
    is_asked = bool(done_by_hand(decision) & {"retry", "rollback"})
    if before.phase in (Phase.SUCCEEDED, Phase.ROLLED_BACK) and not (is_edited or is_asked):
        assert replace(after, hand=before.hand) == before

    # Promotion: with every condition Ok at this look, or on a person's word with nothing
    # breached, critical or unseen; every stage before it observed in full.
    is_critical = any(j.tier is Tier.CRITICAL for j in decision.judgements)
    if {"StagesPassed", "Promoted"} & set(reasons):
        assert not is_critical
        said = before.hand.promote is not None or "promote" in done_by_hand(decision)
        if "StagesPassed" in reasons or not said:
            assert verdicts == {Verdict.OK}
        assert verdicts <= {Verdict.OK, Verdict.UNPROVEN, Verdict.INCONCLUSIVE}
        assert verdicts
    if "Promoted" in reasons:
        assert seen.track(Track.STABLE, before.canary).is_ready
        assert after.stable == before.canary
    names = [stage.name for stage in SPEC.stages]
    if (
        before.stage in names
        and before.stage_clock
        and {"StageStarted", "StagesPassed"} & set(reasons)
    ):
        observed = expected(before.stage_clock, "hit", look.step)
        assert observed is not None
        is_skipped = before.hand.skip is not None or "skip" in done_by_hand(decision)
        if not {"RulesChanged", STARTED, WAITING} & set(reasons):
            duration = SPEC.stages[names.index(before.stage)].duration
            assert observed[0] >= duration or is_skipped
            passed_all = "StagesPassed" in reasons
            assert passed_all == (before.stage == names[-1])
            assert passed_all or after.stage == names[names.index(before.stage) + 1]
            assert Verdict.BREACHED not in verdicts
            assert not is_critical
            if passed_all and not is_skipped and SCOPE == "All":
                is_approved = before.stage in before.hand.approvals
                assert is_approved or "approve" in done_by_hand(decision), "nobody has approved"
    else:
        assert "StagesPassed" not in reasons or before.stage in names

    # The metrics source being ill: no promotion, no rollback but by hand, no time counted.
    if seen.metrics.failure is not None:
        allowed = {WAITING, STARTED, PODS, *BY_EDIT, "ArtifactsVerified", "VerificationFailed"}
        allowed |= {"Aborted", "RetryRequested", "RollbackRequested"}
        is_held = after.hand.pause is not None
        allowed |= {"StageStarted"} if before.stage == "edited-away" and not is_held else set()
        allowed |= {before.reason} if before.phase is Phase.ROLLING_BACK else set()
        assert set(reasons) <= allowed
        assert all(clock.blind_since is not None for clock in after.timers.values())
        assert after.phase_clock is None or after.phase_clock.blind_since is not None

    # Artifacts: no pod of the canary before they are found to be as declared.
    verification = seen.track(Track.CANARY, before.canary).verification
    for reason, is_refused in (("ArtifactsVerified", False), ("VerificationFailed", True)):
        if reason in reasons and before.phase is Phase.VERIFYING:
            assert verification is not None
            assert bool(verification.refusals) == is_refused
    for one in plan(after):
        is_verifying = one.track is Track.CANARY and after.phase is Phase.VERIFYING
        assert (one.components == (Component.VERIFY,)) == is_verifying

    # Revisions: what is stable changes only by a promotion, or once a former one is ready that
    # somebody wants back; and it is always planned.
    if "Promoted" not in reasons and after.stable != before.stable:
        assert before.restoring is not None or "rollback" in done_by_hand(decision)
        assert after.stable is not None
        assert after.stable.name in {ref.name for ref in (before.restoring, *before.former) if ref}
        assert seen.track(Track.STABLE, after.stable).is_ready
    assert (
        after.rejected is None
        or after.stable is None
        or after.phase is Phase.ROLLING_BACK
        or (after.rejected.name != after.stable.name)
    )
    assert (after.canary is not None) == (after.phase in WITH_CANARY)
    assert (after.phase_clock is not None) == (after.phase in RUNNING)
    assert after.restoring is None or after.phase is Phase.ROLLING_BACK
    planned = plan(after)
    stable_of = {p.revision for p in planned if p.track is Track.STABLE}
    check_symbols(before, decision)
    if after.stable is not None:
        assert after.stable in stable_of
        assert after.stable not in after.former
    if after.phase in GUARDED:
        assert after.canary != after.stable
        assert after.canary in {p.revision for p in planned if p.track is Track.CANARY}
    else:
        served_by = {after.stable, after.restoring, *after.kept.values()} - {None}
        assert {p.revision for p in planned} == served_by
        assert not after.timers
    # `before` is as of NOW: had it gone on by itself, no clock may have less than nothing.
    for clock in clocks_of(after):
        assert ZERO <= clock.elapsed(NOW) <= NOW - clock.started_at

    check_windows(before, look, seen, decision)
    check_clocks(before, look, seen, decision)
    check_hand(before, look, seen, decision)


def done_by_hand(decision: Decision) -> set[str]:
    return {a.verb for a in decision.state.hand.answers if not a.refusal}


def check_hand(before: RolloutState, look: Input, seen: Observations, decision: Decision) -> None:
    """Everything asked for is answered once; what is refused does nothing; nothing moves on while
    it is paused; what holds goes with its canary."""
    after, reasons = decision.state, {t.reason for t in decision.transitions}
    answers = after.hand.answers
    assert len(answers) == (look.ask is not None and not is_paused_twice(before, look.ask))
    if answers and answers[0].refusal:
        without = replace(seen, asked=asked(before, None))
        same = decide(spec_at(look), before, without, NOW).state
        assert replace(after, hand=replace(after.hand, answers=())) == same
    is_paused = seen.asked is not None and seen.asked.pause is not None
    assert (after.hand.pause is not None) == is_paused
    if is_paused:
        assert not FORWARD & reasons
    if after.phase not in WITH_CANARY:
        assert after.hand.without_canary() == after.hand
    is_new = {STARTED, WAITING} & reasons and before.phase is not Phase.WAITING
    if look.ask is Verb.ABORT and before.phase in WITH_CANARY and not is_new:
        assert after.phase not in WITH_CANARY, "a person could not take it back"


def moves_on(decision: Decision) -> bool:
    return bool({STARTED, "RetryRequested", *FORWARD} & {t.reason for t in decision.transitions})


def check_windows(
    before: RolloutState, look: Input, seen: Observations, decision: Decision
) -> None:
    """Outside its windows nothing moves forward; all else is as it would be within them."""
    if not look.is_shut:
        assert before.phase is not Phase.WAITING or decision.state.phase is not Phase.WAITING
        return
    assert not moves_on(decision)
    same = within(before, look, seen)
    # At the look at which somebody pauses, the deadline's clock may have stood still already.
    if not moves_on(same) and look.ask not in (Verb.SKIP, Verb.PROMOTE, Verb.PAUSE):
        assert decision == same


def within(before: RolloutState, look: Input, seen: Observations) -> Decision:
    """The same look within the windows, with nothing asked that is refused outside."""
    if look.ask in (Verb.SKIP, Verb.PROMOTE):
        seen = replace(seen, asked=asked(before, None))
    return decide(spec_at(replace(look, is_shut=False)), before, seen, NOW)


def is_paused_twice(state: RolloutState, verb: Verb) -> bool:
    return verb is Verb.PAUSE and state.hand.pause is not None


def check_symbols(before: RolloutState, decision: Decision) -> None:
    """No symbol is served by what it was held back on, nor by two."""
    after, reasons = decision.state, [t.reason for t in decision.transitions]
    if SCOPE == "All":
        assert after.held == after.kept == {}
        return
    assert not after.held or after.phase in RUNNING
    assert len(after.held) < len(SYMBOLS), "then the whole canary is taken back"
    if "Promoted" in reasons:
        assert set(after.kept) == set(before.held)
    else:
        assert after.kept == before.kept
    assert not set(after.held) & {j.symbol for j in decision.judgements}
    stables = [p for p in plan(after) if p.track is Track.STABLE]
    gate = build_gate(SPEC, after)
    for symbol in SYMBOLS:
        runs = [p.revision for p in stables if p.choose([symbol])]
        assert len(runs) <= (2 if after.phase is Phase.PROMOTING else 1)
        assert symbol not in after.held or after.canary not in runs
        assert symbol not in after.kept or after.stable not in runs
        for track in Track:
            assert sum(h.may_publish(symbol) for h in gate.holders(track)) <= 1
        assert symbol not in after.held or not any(
            holder.may_publish(symbol) for holder in gate.holders(Track.CANARY)
        )


def judged_at_first(
    before: RolloutState, seen: Observations, decision: Decision, held: Collection[str]
) -> Sequence[Judgement]:
    """The judgements by which symbols may then be held back."""
    if SCOPE == "All" or not decision.judgements:
        return decision.judgements
    has_stable = before.stable is not None
    return evaluate(SPEC, seen.metrics, NOW, has_stable=has_stable, held=held)


def check_clocks(before: RolloutState, look: Input, seen: Observations, decision: Decision) -> None:
    """Each clock has exactly the time that was observed, and what is due is done."""
    after, reasons = decision.state, [t.reason for t in decision.transitions]
    if before.phase not in GUARDED or {STARTED, WAITING, "AlreadyStable"} & set(reasons):
        return
    is_paused = after.hand.pause is not None
    if before.phase in STARTING and PODS not in reasons:
        assert not decision.judgements, "judged by what cannot be its own"
    held = set() if "RulesChanged" in reasons else set(before.held)
    judgements = judged_at_first(before, seen, decision, held)
    sights: dict[tuple[str, str], Sight] = {
        (SILENCE, s): silence_sight(s, seen.metrics) for s in SYMBOLS if s not in held
    }
    sights |= {(j.condition.key, j.symbol): sight_of(j) for j in judgements}
    stamps = {(j.condition.key, j.symbol): j.evaluated_at for j in judgements}
    due = []
    for key, sight in sights.items():
        time = expected(before.timers.get(key), sight, look.step)
        streak = expected_streak(key, before.streaks.get(key), sight, stamps.get(key))
        is_seen = CONSECUTIVE.get(key, 1) <= (streak.evaluations if streak else 1)
        if time is not None and sight == "hit" and time[0] >= LONGEST[key] and is_seen:
            due.append(key)
        if key[1] in after.held:
            time, streak = None, None
        if after.phase in GUARDED:
            assert after.streaks.get(key) == streak
            clock = after.timers.get(key)
            assert (clock and (clock.elapsed(NOW), clock.blind_since is None)) == time, key
    to_hold = held | {symbol for _, symbol in due}
    never_ran = before.phase in STARTING and PODS not in reasons
    most = 1 if never_ran else SPEC.rollback.most_held(len(SYMBOLS))
    assert (SYMBOLS_HELD in reasons) == (bool(due) and len(to_hold) < most)
    if due and len(to_hold) >= most:
        assert after.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK), "due, and not done"
    elif after.phase in GUARDED:
        assert set(after.held) == to_hold
    began = [t.reason for t in decision.transitions if t.phase is Phase.ROLLING_BACK]
    if set(began) & {"DeadlineExceeded", "VerificationFailed", "Aborted", "RollbackRequested"}:
        assert not due or SYMBOLS_HELD in reasons
    elif began == ["ConditionBreached"]:
        assert any(key != SILENCE for key, _ in due)
    elif began:
        assert {key for key, _ in due} == {SILENCE}
    check_deadline(before, look, seen, decision)
    # The clock of a stage that was edited away, and is only not left yet, matters nothing.
    names = {stage.name for stage in SPEC.stages}
    is_same = before.stage == after.stage in names and "StageStarted" not in reasons
    if is_same and after.stage_clock and after.phase is Phase.PROGRESSING:
        assert before.stage_clock is not None
        judged = all(j.verdict.is_judged for j in decision.judgements)
        runs = judged and not is_paused
        time = expected(before.stage_clock, "hit" if runs else "blind", look.step)
        clock = after.stage_clock
        assert (clock.elapsed(NOW), clock.blind_since is None) == time


def check_deadline(
    before: RolloutState, look: Input, seen: Observations, decision: Decision
) -> None:
    """The deadline's clock has exactly the time in which the source was read since the phase or
    stage began, and what was in doubt was not of symbols that stable does not hear either; and it
    is when that is over, no sooner and no later, that the canary goes."""
    # A symbol that is held back is no phase of its own.
    after, told = decision.state, [t.reason for t in decision.transitions]
    reasons = [reason for reason in told if reason != SYMBOLS_HELD]
    doubtful = {j.symbol for j in decision.judgements if not j.is_good}
    unheard = {
        j.symbol
        for j in decision.judgements
        if silence_of(j.symbol, SPEC, seen.metrics, NOW) is Silence.MARKET
    }
    is_excused = bool(unheard) and not doubtful - unheard
    is_read = seen.metrics.failure is None and after.hand.pause is None and not is_excused
    if look.is_shut:
        # Only the window is missing: that is no fault of the canary either.
        is_read &= not moves_on(within(before, look, seen))
    if after.phase_clock and reasons:
        assert shape(after.phase_clock) == (ZERO, is_read), "it begins anew with each phase"
    if before.phase in STARTING:
        assert "DeadlineExceeded" not in reasons
        return
    if before.phase is Phase.PROGRESSING and before.stage == "canary" and before.stage_clock:
        # Only an approval is missing: that is no fault of the canary.
        time = expected(before.stage_clock, "hit", look.step)
        all_ok = bool(decision.judgements) and all(
            j.verdict is Verdict.OK and j.tier is not Tier.CRITICAL for j in decision.judgements
        )
        may_end = after.hand.skip or "canary" in after.hand.approvals
        is_over = time is not None and time[0] >= SPEC.stages[1].duration
        is_read &= not (is_over and all_ok and not may_end)
    observed = expected(before.phase_clock, "hit" if is_read else "blind", look.step)
    assert observed is not None
    is_late = is_read and observed[0] >= LIMITS[before.phase]
    if not reasons:
        assert shape(after.phase_clock) == observed
        assert not is_late, "late, and not rolled back"
    elif "DeadlineExceeded" in reasons:
        assert is_late
        assert reasons[0] == "DeadlineExceeded", "what began at this look is not late"


# --------------------------------------------------------------------------- the exploration


@dataclass
class Explored:
    """What was found."""

    nodes: dict[Any, Node] = field(default_factory=dict)
    edges: int = 0
    ways: set[tuple[Phase, Phase, str]] = field(default_factory=set)


def inputs_at(node: Node, number: int) -> Iterator[Input]:
    """What is tried at a state: hands where no breach and no silence is timed, as guards come
    before them however many are; and the whole product only where no hand is on it."""
    state = node.state
    if state.hand != Hand() or state.restoring:
        # There are four times as many states as without a hand: in the everyday run some of it at
        # each, which is all of it over those that differ in little.
        some = random.Random(number)
        yield from HELD if IS_THOROUGH else some.sample(HELD, 6)
        if not state.timers:
            verbs = [Input(ask=verb) for verb in Verb]
            yield from verbs if IS_THOROUGH else some.sample(verbs, 3)
        return
    yield from PLAIN if IS_THOROUGH else random.Random(number).sample(PLAIN, 18)
    if IS_THOROUGH or number % 8 == 0 or state.phase is Phase.WAITING:
        yield from OUTSIDE
    if not state.timers and SCOPE == "All" and (IS_THOROUGH or number % 12 == 0):
        yield from BY_HAND
    if len(WHOLE) <= SAMPLE:
        yield from WHOLE
    else:
        yield from random.Random(number).sample(WHOLE, SAMPLE)


def look_at(node: Node, look: Input) -> tuple[RolloutState, Observations, Decision]:
    """One look: the state that it begins with, what is seen, what becomes of it."""
    begins = edited(node, look.edit)
    state = after_a_while(begins.state, look.step)
    seen = replace(observations(look, begins.target), asked=asked(state, look.ask))
    if SCOPE != "All":
        seen = replace(seen, planned=plan(state))
    return state, seen, decide(spec_at(look), state, seen, NOW)


def spec_at(look: Input) -> SignalCanarySpec:
    is_new = look.edit == "new models" or (look.ask is Verb.RETRY and look.is_refused)
    return _SPECS[is_new, look.is_shut]


_SPECS = {
    (is_new, is_shut): spec.model_copy(
        update={"schedule": Schedule.model_validate(SHUT) if is_shut else None}
    )
    for is_new, spec in ((False, SPEC), (True, WITH_ARTIFACTS))
    for is_shut in (False, True)
}


@pytest.fixture(scope="module")
def explored() -> Explored:
    found = Explored()
    first = Node(RolloutState(), CANARY)
    queue = deque([first])
    found.nodes[first.key] = first
    while queue:
        node = queue.popleft()
        for look in inputs_at(node, len(found.nodes)):
            before, seen, decision = look_at(node, look)
            check(before, look, seen, decision)
            found.edges += 1
            phase = before.phase
            for transition in decision.transitions:
                found.ways.add((phase, transition.phase, transition.reason))
                phase = transition.phase
            # The look repeated: nothing more follows. In the everyday run at one edge of six.
            if IS_THOROUGH or found.edges % 6 == 0:
                again = decide(spec_at(look), decision.state, replace(seen, previous_look=NOW), NOW)
                assert again.state == decision.state
                assert again.transitions == ()
            following = normal(decision.state, seen.target)
            if following.key not in found.nodes:
                found.nodes[following.key] = following
                queue.append(following)
                status = render(SPEC, decision, seen, (), {}, NOW)
                assert parse(status) == decision.state, "a restart would change the rollout"
    return found


def test_the_laws_hold_on_every_edge(explored: Explored, capsys: Any) -> None:
    """They are asserted while exploring; here is how far that got."""
    with capsys.disabled():
        print(f"\n{len(explored.nodes)} states, {explored.edges} edges, {SAMPLE} sampled a state")
    phases = {node.state.phase for node in explored.nodes.values()}
    # Soaking and the ladder come after a promotion and have walks of their own.
    assert phases == set(Phase) - SERVED


@pytest.mark.parametrize("by", [5 * SECOND, timedelta(hours=1)], ids=["a little", "an hour"])
def test_a_clock_that_is_set_back_does_nothing_and_loses_nothing(
    explored: Explored, by: timedelta
) -> None:
    choices = (Input(), Input("failed"), Input((("breached", "breached", "silent"), HEALTHY)))
    for node in list(explored.nodes.values())[:: 1 if IS_THOROUGH else 3]:
        before = node.state
        for look, edit in product(choices, ("none", "new version")):
            begins = edited(node, edit)
            seen = replace(observations(look, begins.target), previous_look=NOW)
            back = decide(SPEC, begins.state, seen, NOW - by)
            after = back.state
            assert back.transitions == ()
            same = replace(
                after,
                phase_since=before.phase_since,
                timers=before.timers,
                streaks=before.streaks,
                stage_clock=before.stage_clock,
                phase_clock=before.phase_clock,
            )
            assert same == begins.state, "more than the clocks has changed"
            for old, new in zip(clocks_of(before), clocks_of(after), strict=True):
                assert new.elapsed(NOW - by) == old.elapsed(NOW)
                assert (new.blind_since is None) == (old.blind_since is None)
                assert ZERO <= new.elapsed(NOW - by) <= NOW - by - new.started_at
            assert after.phase_since is None or after.phase_since <= NOW - by
            if before.history:
                status = render(SPEC, back, seen, (), {}, NOW - by)
                assert parse(status) == after
        # The next look goes on from there as if nothing had been.
        healthy = observations(Input(), node.target)
        straight = decide(SPEC, after_a_while(before, LOOK), healthy, NOW)
        moved = replace(healthy, previous_look=NOW)
        back = decide(SPEC, before, moved, NOW - by)
        resumed = after_a_while(back.state, LOOK - by)
        assert normal(decide(SPEC, resumed, healthy, NOW).state, node.target).key == (
            normal(straight.state, node.target).key
        )


def clocks_of(state: RolloutState) -> list[Clock]:
    timers = [state.timers[key] for key in sorted(state.timers)]
    return [*timers, *filter(None, [state.stage_clock, state.phase_clock])]


# --------------------------------------------------------------------------- the document

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"
WHEN = {
    "WaitingToStart": "the spec was edited, to a configuration that is not the stable one, or a "
    "retry was asked for, and it is before `schedule.startAt` or outside the windows",
    "RolloutStarted": "the spec was edited, to a configuration that is not the stable one; or what "
    "Waiting waited for has come",
    "AlreadyStable": "the spec was edited back to the stable configuration",
    "RulesChanged": "symbols or conditions were edited under the canary, which goes on",
    "ArtifactsVerified": "every model file is as declared, and every model works",
    "VerificationFailed": "a model file is not as declared, or a model or a gate fails; no pod of "
    "the canary has started",
    "CanaryRunning": "every pod of the canary is ready",
    "StageStarted": "first stage: every condition can be judged on every canary symbol; next "
    "stage: the one before was observed in full, or skipped by a person, and nothing is breached; "
    "and it was approved, where `approval: Required`",
    "StagesPassed": "the last stage was observed in full, or skipped by a person, and every "
    "condition is Ok; and it was approved, where `approval: Required`",
    "Promoted": "the pods on the full symbol set are ready and every condition is Ok; of a "
    "promotion that a person asked for, none Breached, NoData or Error",
    "ConditionBreached": "a condition was breached for its `for`",
    "CanarySilent": "a canary symbol sent no fresh data for `noDataAfter`, while the metrics "
    "source answered and the stable track, if there is one, heard it (`onNoData: Rollback`)",
    "CanaryNotRunning": "the canary's pods were not ready for `noDataAfter`",
    "PromoteRequested": "a person asked to promote now, and nothing was breached or unseen",
    "Aborted": "a person took the canary back, or gave a rollback up that had not begun to serve",
    "RollbackRequested": "a person asked for a revision that was stable before",
    "RetryRequested": "a person asked to try the revision again that was rolled back",
    "DeadlineExceeded": "while the metrics source could be read and the market was heard, the "
    "phase took `deadline` longer than it must: Warming than `train` + `horizon` + `test`, a stage "
    "than its duration, Promoting than no time (`onDeadline: Rollback`)",
}


def page(ways: set[tuple[Phase, Phase, str]]) -> str:
    """The document: what was explored, for people."""
    order = list(Phase)
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for begin, end, reason in sorted(
        ways, key=lambda w: (order.index(w[0]), order.index(w[1]), list(WHEN).index(w[2]))
    ):
        arrows.setdefault((begin, end), []).append(reason)
    lines = [
        "# The phases of a rollout",
        "",
        "Written by `make docs` from the transitions that `tests/sim/test_machine.py` found when",
        "it explored every state that `decide` can get into; a test keeps it in step.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> Pending",
        *(
            f"    {begin.value} --> {end.value}: {', '.join(reasons)}"
            for (begin, end), reasons in arrows.items()
        ),
        "```",
        "",
        "| reason | when | from → to |",
        "|---|---|---|",
    ]
    for reason, when in WHEN.items():
        moves: dict[Phase, list[str]] = {}
        for (begin, end), reasons in arrows.items():
            if reason in reasons and end is not Phase.ROLLED_BACK:
                moves.setdefault(end, []).append(begin.value)
        told = "; ".join(f"{', '.join(begins)} → {end.value}" for end, begins in moves.items())
        lines.append(f"| {reason} | {when} | {told} |")
    lines += [
        "",
        "From RollingBack a rollout gets to RolledBack, with the reason that it was rolled back",
        "for, once the canary's pods are gone. An edit waits until then.",
        "",
        "With `rollback.scope` Symbol or Quorum (`tests/sim/test_scope.py`) a breach or a silence",
        "that is due holds back its symbol alone, and the phase stays as it is: `SymbolsHeld`.",
        "With as many as the scope allows, the canary is taken back as above.",
    ]
    lines += [
        "",
        "With `soak` (`tests/sim/test_ladder.py`) Promoting → Soaking → Succeeded: `Promoted`,",
        "then `Soaked`. A breach or a silence that is due while soaking takes what serves back:",
        "Soaking → RollingBack, and the first rung of `rollback.ladder` that can be had serves.",
        "With `rollback.verify` RollingBack → VerifyingRollback → RolledBack; if too few checks",
        "were good, `RollbackNotVerified`, back to RollingBack with the next rung",
        "([why](designs/008-soak-and-ladder.md)).",
        "",
        "With `group` (`tests/sim/test_groups.py`) a verdict against another member may take every",
        "phase that has a canary, and Soaking, to RollingBack: `GroupRolledBack`. Verifying and",
        "Pending may go back to Waiting, where another member began before",
        "([why](designs/010-schedules-and-groups.md)).",
    ]
    return "\n".join(lines) + "\n"


def test_the_document_shows_what_was_explored(explored: Explored) -> None:
    if SCOPE != "All":
        return  # without hands, and but for what is said of it in words
    assert explored.ways <= DIAGRAM, "what is not allowed happens"
    if IS_THOROUGH:
        assert explored.ways == DIAGRAM, "what is allowed never happens"
    text = page(DIAGRAM)
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "run make docs"
