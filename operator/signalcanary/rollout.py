"""What a rollout remembers, what is seen of it, and what should run. Data, no decisions.

Everything is frozen. `RolloutState` is all that one look leaves to the next; `status` writes
it to the object and reads it back. What should run follows from the state alone (`plan`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from signalcanary.api import SignalCanarySpec, Tier
from signalcanary.artifacts import Verification
from signalcanary.commands import Asked
from signalcanary.contract import Component, Track
from signalcanary.evaluate import Judgement, MetricsSeen
from signalcanary.ladder import Step
from signalcanary.revisions import RevisionRef
from signalcanary.tiers import Standing, Streak

SILENCE = "silence"
"""Key of the timer that runs while a symbol sends no fresh data."""

SYMBOLS_HELD = "SymbolsHeld"
"""Reason of a transition that leaves the phase as it is: symbols are held back."""

APPROVAL_NEEDED = "ApprovalNeeded"
"""Why a person is called: a stage has passed, and wants an approval."""

DEADLINE_HELD = "DeadlineHeld"
"""Why a person is called: the deadline has passed, and the spec says to hold."""

BEGINNINGS = frozenset({"WaitingToStart", "RolloutStarted", "RetryRequested"})
"""Reasons of the transitions that a rollout begins with."""

MAX_HISTORY = 10
MAX_FORMER = 10
MAX_ANSWERS = 16


class Phase(StrEnum):
    WAITING = "Waiting"
    VERIFYING = "Verifying"
    PENDING = "Pending"
    WARMING = "Warming"
    PROGRESSING = "Progressing"
    PROMOTING = "Promoting"
    SOAKING = "Soaking"
    SUCCEEDED = "Succeeded"
    ROLLING_BACK = "RollingBack"
    VERIFYING_ROLLBACK = "VerifyingRollback"
    ROLLED_BACK = "RolledBack"


STARTING = frozenset({Phase.VERIFYING, Phase.PENDING})
"""The phases in which the canary's pods do not run yet."""

UNSTARTED = frozenset({Phase.WAITING, Phase.VERIFYING})
"""The phases before any pod of the canary, but for one that looks at its artifacts."""

GUARDED = STARTING | {Phase.WARMING, Phase.PROGRESSING, Phase.PROMOTING}
"""The phases in which there is a canary, which so can be rolled back."""

WITH_CANARY = GUARDED | {Phase.WAITING}
"""The phases in which there is a canary; while it waits to start nothing of it is there."""

SERVED = frozenset({Phase.SOAKING, Phase.VERIFYING_ROLLBACK})
"""The phases in which what serves is judged, on the full symbol set and with nothing beside it."""

JUDGED = GUARDED | SERVED

ARMED = GUARDED | {Phase.SOAKING}
"""The phases in which a breach or a silence that is due rolls back."""

TAKEN_BACK = frozenset({Phase.ROLLING_BACK, Phase.VERIFYING_ROLLBACK, Phase.ROLLED_BACK})
"""The phases of a rollback."""

DUE = GUARDED - STARTING
"""The phases that must end by a deadline; that of the others is `noDataAfter`."""


# --------------------------------------------------------------------------- what is remembered


@dataclass(frozen=True)
class Clock:
    """Measures time that was observed; stands still while nothing can be seen.

    Kept as instants, not as a running sum, so that a clock that goes on running needs no
    writing down.
    """

    started_at: datetime
    blind: timedelta = timedelta(0)
    blind_since: datetime | None = None

    def elapsed(self, now: datetime) -> timedelta:
        return (self.blind_since or now) - self.started_at - self.blind

    def run(self, now: datetime) -> Clock:
        if self.blind_since is None:
            return self
        return replace(self, blind=self.blind + (now - self.blind_since), blind_since=None)

    def stop(self, now: datetime) -> Clock:
        return self if self.blind_since is not None else replace(self, blind_since=now)

    def set_back(self, by: timedelta) -> Clock:
        """The same clock where the wall clock by which it was kept has been set back."""
        since = self.blind_since
        return Clock(self.started_at - by, self.blind, since - by if since else None)


@dataclass(frozen=True)
class Transition:
    """A change of phase or stage, for the history and the Events.

    Attributes:
        cause: of one that begins a rollback, or its verification: what has been decided and why,
            or what has been done. It is true for good; that of a rollback stands without its verb,
            which is another one once it is carried out (`explain.rolling_back`, `rolled_back`).
        consequence: what that means, until the next transition.
    """

    time: datetime
    phase: Phase
    reason: str
    message: str
    version: str
    is_warning: bool = False
    cause: str = ""
    consequence: str = ""


@dataclass(frozen=True)
class Notice:
    """Something that happened within a phase and is worth an Event."""

    time: datetime
    reason: str
    message: str
    is_warning: bool


def call_of(time: datetime, reason: str, message: str) -> Notice:
    """A call for a person; one that somebody has asked for in the spec is no warning."""
    return Notice(time, reason, message, is_warning=reason != APPROVAL_NEEDED)


@dataclass(frozen=True)
class Held:
    """A canary symbol that is held back: not judged, not published, not promoted.

    Attributes:
        reason: ConditionBreached or CanarySilent.
    """

    since: datetime
    reason: str
    message: str


@dataclass(frozen=True)
class Word:
    """What a person has said: who, as the client says, why and when."""

    by: str
    why: str
    at: datetime

    def __str__(self) -> str:
        return (self.by or "somebody") + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True)
class Answer:
    """What became of a command.

    Attributes:
        verb, id: of the command, which is not done again.
        about: what it was about, as it was written.
        phase: in which it was done or refused.
        refusal: why not, in one CamelCase word; empty if it was done.
        message: what was done, or what to do instead.
    """

    verb: str
    id: str
    about: str
    word: Word
    phase: Phase
    refusal: str
    message: str

    def as_notice(self) -> Notice:
        """For the Event: what was done or not, and on whose word."""
        reason = "CommandRefused" if self.refusal else "CommandDone"
        said = f"{self.verb} by {self.word}: {self.message}"
        said += f" ({self.refusal})" if self.refusal else ""
        return Notice(self.word.at, reason, said, bool(self.refusal))


@dataclass(frozen=True)
class Hand:
    """What people have said that still holds.

    Attributes:
        pause: while it is paused.
        approvals: stages of this canary that may end, by name.
        skip: the present stage is over on somebody's word.
        promote: the promotion needs no evidence, on somebody's word.
        answers: newest first.
    """

    pause: Word | None = None
    approvals: Mapping[str, Word] = field(default_factory=dict)
    skip: Word | None = None
    promote: Word | None = None
    answers: tuple[Answer, ...] = ()

    def without_canary(self) -> Hand:
        """What holds beyond this canary."""
        return Hand(self.pause, answers=self.answers)


@dataclass(frozen=True)
class Checks:
    """How a rollback has been verified until now.

    Attributes:
        clock: runs while the metrics source can be read.
        last: when the newest check was made; one look makes one.
    """

    clock: Clock
    good: int = 0
    made: int = 0
    last: datetime | None = None

    def set_back(self, by: timedelta) -> Checks:
        """The same checks where the wall clock has been set back."""
        last = self.last - by if self.last else None
        return replace(self, clock=self.clock.set_back(by), last=last)


@dataclass(frozen=True)
class RolloutState:
    """All that one look leaves to the next."""

    phase: Phase = Phase.PENDING
    phase_since: datetime | None = None
    reason: str = "New"
    message: str = ""
    observed_generation: int = 0
    canary: RevisionRef | None = None
    stable: RevisionRef | None = None
    rejected: RevisionRef | None = None
    restoring: RevisionRef | None = None
    """A former revision that becomes stable again once its pods are ready."""
    former: tuple[RevisionRef, ...] = ()
    """What was stable before, newest first."""
    last_attempt: int = 0
    """The highest that there was."""
    publisher: RevisionRef | None = None
    """Who was last allowed to publish signals as stable. Where it is not the stable revision,
    pods of it are still there, and nobody may."""
    rules: str | None = None
    stage: str | None = None
    stage_clock: Clock | None = None
    phase_clock: Clock | None = None
    """How long the phase, or its stage, has gone on while the metrics source could be read and
    the market was heard; in the phases that must end by a deadline."""
    checks: Checks | None = None
    """While a rollback is verified."""
    climbed: tuple[str, ...] = ()
    """Rungs of the ladder that were taken or passed over, since the last promotion."""
    timers: Mapping[tuple[str, str], Clock] = field(default_factory=dict)
    streaks: Mapping[tuple[str, str], Streak] = field(default_factory=dict)
    """Of the breaches whose condition asks for several evaluations in a row; each has a timer."""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """Where the conditions with tiers stand, by their keys; decides nothing."""
    held: Mapping[str, Held] = field(default_factory=dict)
    """The symbols that the canary is held back on."""
    kept: Mapping[str, RevisionRef | None] = field(default_factory=dict)
    """The symbols that the stable revision was held back on, and the earlier one that goes on
    serving each; None where there is none, so that nothing does."""
    history: tuple[Transition, ...] = ()
    hand: Hand = field(default_factory=Hand)
    queued_at: datetime | None = None
    """Since when it has stood in the queue of a group that has one rollout at a time."""
    calls: tuple[Notice, ...] = ()
    """What a person is called for in this phase, or stage of it, each once; decides nothing."""


def newest(state: RolloutState, phase: Phase) -> Transition | None:
    """The last transition to that phase, as far as the history goes back."""
    return next((t for t in state.history if t.phase is phase), None)


def notices(state: RolloutState) -> tuple[Notice, ...]:
    """What the state holds that is worth an Event. It follows from the state alone, as the
    workloads do, so that a crash before the Event was posted loses nothing."""
    said = (answer.as_notice() for answer in reversed(state.hand.answers))
    stand = (
        Notice(
            standing.since,
            f"Tier{standing.tier}",
            standing.message,
            is_warning=standing.tier is not Tier.NORMAL,
        )
        for standing in state.standings.values()
    )
    return (*said, *stand, *state.calls)


# --------------------------------------------------------------------------- what is seen


@dataclass(frozen=True)
class TrackSeen:
    """The workloads of one track and revision, as the cluster has them.

    Attributes:
        pods: pods that exist, terminating ones included.
        is_ready: every wanted pod runs what is wanted and is ready.
        problem: what keeps a pod from running, in words.
        verification: what came of the look at the artifacts, of any attempt.
        strays: pods of them that do not run what is wanted of this track and revision, or are
            on their way out.
    """

    pods: int = 0
    is_ready: bool = False
    problem: str | None = None
    verification: Verification | None = None
    strays: int = 0


@dataclass(frozen=True)
class Member:
    """Another SignalCanary of the namespace, as its spec and status have it.

    Attributes:
        group: that it is of.
        is_in_turn: whether it asks for one rollout of the group at a time.
        after: those that it comes after.
        phase: None before the first look at it.
        is_current: whether its status is about its present spec.
        is_ready: whether it waits for nothing but the others of its group.
        began: when its rollout began, or began to wait.
        queued_at: since when it has stood in the queue.
        taken_back_at: when its last rollback began.
    """

    name: str
    group: str | None = None
    is_in_turn: bool = False
    after: tuple[str, ...] = ()
    phase: Phase | None = None
    is_current: bool = False
    is_ready: bool = False
    began: datetime | None = None
    queued_at: datetime | None = None
    taken_back_at: datetime | None = None


@dataclass(frozen=True)
class Observations:
    """One look at the world.

    Attributes:
        generation: of the spec.
        target: the revision that the spec declares.
        metrics: what the metrics source said of the canary.
        tracks: the workloads, by track and revision.
        previous_look: when the look before this one was taken, by this process or another; of
            a look that is repeated, its own time. None if it is not known: then all the time
            since is taken to have been observed.
        stable_symbols: the full set of the stable revision; None if it is not known.
        planned: what was to run when the workloads were looked at, by which they are ready or
            stray.
        asked: what people ask for; None of a look into the past, at which nothing is done.
        recorded: names of the revisions on record.
        ladder: what the rungs of the ladder stand for now.
        present: of a look into the past the time now, at which what it decides is done.
        name, namespace: of the object, by which others and people know it; empty where there is
            no cluster.
        others: that it goes with, or after.
    """

    generation: int
    target: RevisionRef
    metrics: MetricsSeen = field(default_factory=MetricsSeen)
    tracks: Mapping[tuple[Track, str], TrackSeen] = field(default_factory=dict)
    previous_look: datetime | None = None
    stable_symbols: frozenset[str] | None = None
    planned: tuple[TrackPlan, ...] = ()
    asked: Asked | None = None
    recorded: frozenset[str] = frozenset()
    ladder: tuple[Step, ...] = ()
    present: datetime | None = None
    name: str = ""
    namespace: str = ""
    others: tuple[Member, ...] = ()

    def track(self, track: Track, revision: RevisionRef | None) -> TrackSeen:
        return self.tracks.get((track, revision.name), NOTHING) if revision else NOTHING


NOTHING = TrackSeen()


@dataclass(frozen=True)
class Decision:
    """The state to persist and what it rests on. The workloads to run follow from the state
    alone (`plan`), so a crash after persisting loses nothing.

    Attributes:
        timers: those that the judgements were held against; a state that ends the canary has
            dropped them.
    """

    state: RolloutState
    judgements: tuple[Judgement, ...]
    transitions: tuple[Transition, ...]
    timers: Mapping[tuple[str, str], Clock] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()


# --------------------------------------------------------------------------- what should run


@dataclass(frozen=True)
class TrackPlan:
    """One track to run: a revision on its full symbol set, or on the canary's symbols.

    Attributes:
        only: of those symbols, these alone; None is all.
        without: none of these.
    """

    track: Track
    revision: RevisionRef
    components: tuple[Component, ...] = (Component.HARVEST, Component.ANALYSIS)
    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()

    def choose(self, symbols: Iterable[str]) -> tuple[str, ...]:
        """Those that are to run, of all that the track could."""
        return tuple(
            s for s in symbols if s not in self.without and (self.only is None or s in self.only)
        )


def plan(state: RolloutState) -> tuple[TrackPlan, ...]:
    """The tracks that the state implies.

    While promoting or restoring, the old stable workloads go on until the new ones are ready. The
    canary's pods go on with the symbols that it is held back on too: another file would restart
    them, and take the others' data from under them; the gate and the judgement leave those out.
    """
    plans = []
    if state.stable is not None:
        plans.append(TrackPlan(Track.STABLE, state.stable, without=frozenset(state.kept)))
        plans += [
            TrackPlan(Track.STABLE, revision, only=symbols)
            for revision, symbols in keepers(state).items()
        ]
    if state.canary is not None and state.phase is Phase.VERIFYING:
        plans.append(TrackPlan(Track.CANARY, state.canary, (Component.VERIFY,)))
    elif state.canary is not None and state.phase in GUARDED:
        if state.phase is Phase.PROMOTING:
            # A revision that is tried again shares its StatefulSets with the attempt before.
            plans = [p for p in plans if p.revision.name != state.canary.name]
            without = frozenset(state.held)
            plans.append(TrackPlan(Track.STABLE, state.canary, without=without))
        plans.append(TrackPlan(Track.CANARY, state.canary))
    if state.restoring is not None:
        plans = [p for p in plans if p.revision.name != state.restoring.name]
        plans.append(TrackPlan(Track.STABLE, state.restoring))
    return tuple(plans)


def keepers(state: RolloutState) -> Mapping[RevisionRef, frozenset[str]]:
    """The earlier revisions that still serve some symbols, and which."""
    by_revision: dict[RevisionRef, set[str]] = {}
    for symbol, revision in state.kept.items():
        if revision is not None:
            by_revision.setdefault(revision, set()).add(symbol)
    return {revision: frozenset(symbols) for revision, symbols in by_revision.items()}


def judged_spec(spec: SignalCanarySpec, state: RolloutState) -> SignalCanarySpec:
    """The spec by which the state's phase is judged: what serves, on all that it serves."""
    if state.phase not in SERVED:
        return spec
    served = tuple(symbol for symbol in spec.symbols.full if symbol not in state.kept)
    symbols = spec.symbols.model_copy(update={"canary": served})
    return spec.model_copy(update={"symbols": symbols})


def judged_revision(state: RolloutState) -> tuple[Track, RevisionRef] | None:
    """What is judged in the state's phase, and on which track it runs; None for nothing."""
    if state.phase in GUARDED and state.canary is not None:
        return Track.CANARY, state.canary
    if state.phase in SERVED and state.stable is not None:
        return Track.STABLE, state.stable
    return None
