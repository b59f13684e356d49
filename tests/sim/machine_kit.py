"""The machine explored: every state that `decide` can get into, and every edge between them.

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
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any

from signalcanary.api import Schedule, SignalCanarySpec
from signalcanary.artifacts import Artifacts, Reason, Refusal, Verification
from signalcanary.commands import Asked, Command, Verb
from signalcanary.contract import Track
from signalcanary.evaluate import (
    Bound,
    Measurement,
    MetricsSeen,
    SourceFailure,
)
from signalcanary.lifecycle import decide, rules_of
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
from signalcanary.tiers import Streak

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
    # What a rollback was decided for is told at its end.
    cause = state.reason if state.phase is Phase.ROLLING_BACK else ""
    last = replace(
        state.history[0],
        reason=reason,
        message=told,
        is_warning=is_warning,
        cause=cause,
        consequence="",
    )
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


# --------------------------------------------------------------------------- the diagram

ROLLED_BACK_FOR = {
    "ConditionBreached",
    "CanarySilent",
    "CanaryNotRunning",
    "DeadlineExceeded",
    "VerificationFailed",
    "Aborted",
    "RollbackRequested",
}
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
"""What the designs allow; there is no other way from a phase to a phase."""
ALLOWED = DIAGRAM if SCOPE == "All" else DIAGRAM | {(p, p, SYMBOLS_HELD) for p in RUNNING}


# --------------------------------------------------------------------------- the exploration


@dataclass(frozen=True)
class Edge:
    """A look at a state, and what became of it.

    Attributes:
        is_discovery: whether the state that it leads to was not known.
    """

    before: RolloutState
    look: Input
    seen: Observations
    decision: Decision
    is_discovery: bool


@dataclass
class Explored:
    """What was found."""

    nodes: dict[Any, Node] = field(default_factory=dict)
    edges: int = 0
    ways: set[tuple[Phase, Phase, str]] = field(default_factory=set)

    def explore(self) -> Iterator[Edge]:
        """Every edge of every state, breadth first from a new object."""
        first = Node(RolloutState(), CANARY)
        queue = deque([first])
        self.nodes[first.key] = first
        while queue:
            node = queue.popleft()
            for look in inputs_at(node, len(self.nodes)):
                before, seen, decision = look_at(node, look)
                self.edges += 1
                phase = before.phase
                for transition in decision.transitions:
                    self.ways.add((phase, transition.phase, transition.reason))
                    phase = transition.phase
                following = normal(decision.state, seen.target)
                is_discovery = following.key not in self.nodes
                if is_discovery:
                    self.nodes[following.key] = following
                    queue.append(following)
                yield Edge(before, look, seen, decision, is_discovery)


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
