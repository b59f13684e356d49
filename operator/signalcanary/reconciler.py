"""One look at one SignalCanary: observe → decide → persist → act.

The state is persisted first, under the object's resourceVersion; only then is the cluster made
to look as the persisted state implies. A crash between the two is healed by the next look,
which finds the same state and implies the same objects. On a conflict everything is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from signalcanary import status as statuses
from signalcanary.aftermath import look_up_ladder
from signalcanary.cluster import Cluster, ClusterError, Conflict, Gone, Problem, Refused
from signalcanary.commands import Verb
from signalcanary.contract import Track
from signalcanary.corrections import Corrections
from signalcanary.evaluate import MetricsSeen
from signalcanary.gate_note import GateNotes
from signalcanary.ladder import Step
from signalcanary.lifecycle import decide
from signalcanary.observe import observe_others, observe_tracks, observe_workloads
from signalcanary.overlap import describe_overlap, find_overlaps
from signalcanary.reports import Reports
from signalcanary.resources import (
    APPLIED_HASH,
    LABEL_COMPONENT,
    LABEL_REVISION,
    REVISION_RECORD,
    Manifest,
    build_controller_revision,
    build_resources,
)
from signalcanary.revisions import Revision, RevisionRef, refer_to
from signalcanary.rollout import (
    JUDGED,
    Answer,
    Notice,
    Observations,
    Phase,
    RolloutState,
    TrackSeen,
    Transition,
    keepers,
    notices,
    plan,
)
from signalcanary.rollout_metrics import Look
from signalcanary.store import Kind, Live, Store
from signalcanary.subject import InvalidObject, Settings, Subject
from signalcanary.telemetry import OperatorMetrics

logger = logging.getLogger(__name__)

REVISION_HISTORY_LIMIT = 10
EVENT_LIFETIME = timedelta(hours=1)
"""The API server's own default; older transitions are not posted again after a restart."""


class ActionsRefused(Refused):
    """The server will not have a part of what the state implies."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Outcome:
    """A look that was persisted, and what is to be carried out.

    Attributes:
        item: the object as it was written.
    """

    subject: Subject
    item: Live
    state: RolloutState
    desired: Sequence[Manifest]
    now: datetime


class Listener(Protocol):
    """Whoever tells people. It keeps nobody waiting and raises nothing."""

    def note(self, metadata: Mapping[str, Any], state: RolloutState) -> None:
        """A look was persisted, and carried out as far as it could be."""

    def forget(self, uid: str) -> None:
        """An object is gone."""


class Reconciler:
    """Carries decisions out.

    Args:
        reports: keeps those of rollouts that have ended; None for the ConfigMaps alone, without
            curves.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        settings: Settings,
        metrics: OperatorMetrics,
        listener: Listener | None = None,
        reports: Reports | None = None,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._listener = listener
        self._posted: dict[str, set[Transition | Notice]] = {}
        self._warned: dict[str, dict[tuple[int, str, str], datetime]] = {}
        self._refusals: dict[str, str] = {}
        self._gate_notes = GateNotes(cluster, store, metrics)
        self._corrections = Corrections(cluster, store, metrics)
        self._reports = reports or Reports(cluster, metrics)

    async def persist(
        self,
        subject: Subject,
        looks: Sequence[tuple[datetime, MetricsSeen]],
        previous_look: datetime | None,
    ) -> Outcome:
        """Take one look, or several that were missed, oldest first, and write the new state.

        Args:
            previous_look: when the look before these was taken, by whichever process.

        Raises:
            Conflict, Gone, ClusterError: nothing was persisted; the next look does it again.
            InvalidObject: a revision that should run is not on record.
        """
        revisions = self._revisions(subject)
        stateful_sets = self._store.owned(subject.key, Kind.STATEFUL_SET)
        pods = self._store.owned(subject.key, Kind.POD)
        desired = self._desired(subject, subject.state, revisions)
        tracks = self._observe_tracks(subject, desired, stateful_sets, pods)
        planned = plan(subject.state)
        # The image, and so the fingerprint, is of the time at which a revision was first made.
        on_record = refer_to(revisions[subject.target.name], subject.target.attempt)
        state, decided = subject.state, None
        recorded = frozenset(revisions)
        ladder = look_up_ladder(subject.spec, state, revisions, subject.target.attempt)
        present = looks[-1][0]
        others = observe_others(subject.item, self._store.canaries_of(subject.key.namespace))
        for now, seen in looks:
            observed = Observations(
                generation=subject.item["metadata"]["generation"],
                target=on_record,
                metrics=seen,
                tracks=tracks,
                previous_look=previous_look,
                stable_symbols=_symbols_of(state.stable, revisions),
                planned=planned,
                # When it was asked nobody knows; it is done now, and not in the past.
                asked=subject.asked if now == present else None,
                recorded=recorded,
                ladder=ladder,
                present=present,
                name=subject.key.name,
                namespace=subject.key.namespace,
                others=others,
            )
            decision = decide(subject.spec, state, observed, now)
            state, previous_look = decision.state, now
            decided = statuses.render_decision(decision, seen, now) or decided
            self._metrics.decisions.labels(state.phase.value).inc()
        before = subject.item.get("status") or {}
        # What was decided at a look that was made up for is not seen at the last one.
        previous = {**before, "decision": decided} if decided else before
        status = statuses.render(
            subject.spec,
            replace(decision, state=state),
            observed,
            observe_workloads(stateful_sets, pods),
            previous,
            now,
        )
        if (link := self._reports.links.of(subject.owner.uid, before)) is not None:
            status["report"] = dict(link)
        # A revision must be on record before any state refers to it.
        await self._record_revisions(subject, state, ladder)
        item = subject.item
        if self._is_worth_writing(subject, status, state, now):
            item = await self._cluster.write_status(item, status)
            self._store.put(Kind.SIGNAL_CANARY, item)
        self._count_transitions(subject, state)
        whose = (subject.key.namespace, subject.key.name)
        look = Look(whose, subject.spec, state, decision.judgements, status, now)
        self._metrics.rollouts.show(subject.owner.uid, look)
        if state != subject.state:
            desired = self._desired(subject, state, revisions)
        return Outcome(subject, item, state, desired, now)

    async def act(self, outcome: Outcome) -> None:
        """Make the cluster look as the persisted state implies, then tell of it.

        Raises:
            ActionsRefused: a part of it the server will not have; all the rest was done.
            ClusterError: the server cannot be reached, or fails.
        """
        uid = outcome.subject.owner.uid
        try:
            problems = await self._act(outcome.subject, outcome.state, outcome.desired)
            await self._gate_notes.tell(outcome.subject)
        finally:
            # After what was done, and also if it could not be done: it is decided.
            if self._listener is not None:
                self._listener.note(outcome.item["metadata"], outcome.state)
            for told in self._corrections.take_untold(uid):
                await self.warn(outcome.item, told, outcome.now)
        await self._post_events(outcome.item, outcome.state, outcome.now)
        await self._tell_of_overlaps(outcome)
        await self._reports.keep(outcome.item, outcome.subject.owner, outcome.now)
        self._refusals.pop(uid, None)
        if problems:
            # Seen at the next look, as what keeps the pods from running.
            self._refusals[uid] = problems[0].message
            raise ActionsRefused(problems)

    # ------------------------------------------------------------------ observing

    def _revisions(self, subject: Subject) -> dict[str, Revision]:
        """The revisions on record, and the one that the spec declares."""
        known = {subject.target.name: subject.target_revision}
        for item in self._records(subject):
            try:
                revision = Revision.model_validate(item.get("data"))
            except ValidationError as error:
                # Anyone may make a record in the namespace; only one that is needed matters.
                logger.debug("not a revision: %s: %s", item["metadata"]["name"], error)
                continue
            known[_label(item, LABEL_REVISION)] = revision
        for wanted in plan(subject.state):
            if wanted.revision.name not in known:
                raise InvalidObject(
                    f"revision {wanted.revision.name} should run, but the ControllerRevision "
                    f"{subject.key.name}-{wanted.revision.name} that records it is gone or was "
                    "changed; what runs is left alone: put it back, or delete the status"
                )
        return known

    def _records(self, subject: Subject) -> list[Live]:
        """The ControllerRevisions that record revisions of the signal, the newest last."""
        records = [
            item
            for item in self._store.owned(subject.key, Kind.CONTROLLER_REVISION)
            if _label(item, LABEL_COMPONENT) == REVISION_RECORD and _is_owned(item, subject)
        ]
        return sorted(records, key=lambda item: int(item.get("revision", 0)))

    def _observe_tracks(
        self,
        subject: Subject,
        desired: Sequence[Manifest],
        stateful_sets: Sequence[Live],
        pods: Sequence[Live],
    ) -> dict[tuple[Track, str], TrackSeen]:
        drifted = self._corrections.find_drifted(subject.key, subject.owner.uid, desired)
        tracks = observe_tracks(desired, stateful_sets, pods, drifted)
        refusal = self._refusals.get(subject.owner.uid)
        return {
            key: replace(seen, problem=seen.problem or (None if seen.is_ready else refusal))
            for key, seen in tracks.items()
        }

    def _desired(
        self, subject: Subject, state: RolloutState, revisions: Mapping[str, Revision]
    ) -> list[Manifest]:
        return build_resources(
            subject.owner, subject.spec, state, revisions, self._settings.workloads
        )

    # ------------------------------------------------------------------ persisting

    async def _record_revisions(
        self, subject: Subject, state: RolloutState, ladder: Sequence[Step]
    ) -> None:
        new = {subject.target.name: subject.target_revision}
        new |= {step.ref.name: step.revision for step in ladder if step.ref and step.revision}
        on_record = {_label(item, LABEL_REVISION) for item in self._records(subject)}
        for ref in (state.canary, state.stable):
            if ref is not None and ref.name in new and ref.name not in on_record:
                manifest = build_controller_revision(subject.owner, ref, new[ref.name])
                self._store.put(Kind.CONTROLLER_REVISION, await self._cluster.apply(manifest))

    def _is_worth_writing(
        self, subject: Subject, status: Mapping[str, Any], state: RolloutState, now: datetime
    ) -> bool:
        """A changed state is written at once, live values at a slow pace, nothing at rest."""
        before = subject.item.get("status") or {}
        if state != subject.state or not before:
            return True
        if _without_live_values(before) != _without_live_values(status):
            return True
        last = subject.evaluated_at
        # A clock that was set back must not keep the status from being written.
        is_due = last is None or abs(now - last) >= self._settings.status_interval
        # What is waited for changes with others, and may stay the same for days.
        is_told_anew = state.phase is Phase.WAITING and _words(before) != _words(status)
        return is_due and (state.phase in JUDGED or is_told_anew)

    def _count_transitions(self, subject: Subject, state: RolloutState) -> None:
        where = f"{subject.key.namespace}/{subject.key.name}"
        for key, symbol in state.timers.keys() - subject.state.timers.keys():
            logger.warning("%s: %s on %s began", where, key, symbol)
        if state.phase in JUDGED:
            for key, symbol in subject.state.timers.keys() - state.timers.keys():
                logger.info("%s: %s on %s ended", where, key, symbol)
        for answer in state.hand.answers:
            if answer not in subject.state.hand.answers:
                self._metrics.commands.labels(_verb(answer), answer.refusal or "Done").inc()
                logger.info("%s: %s by %s: %s", where, answer.verb, answer.word, answer.message)
        for transition in state.history:
            if transition not in subject.state.history:
                self._metrics.transitions.labels(transition.phase.value, transition.reason).inc()
                logger.info(
                    "%s/%s: %s (%s): %s",
                    subject.key.namespace,
                    subject.key.name,
                    transition.phase.value,
                    transition.reason,
                    transition.message,
                )

    # ------------------------------------------------------------------ acting

    async def _act(
        self, subject: Subject, state: RolloutState, desired: Sequence[Manifest]
    ) -> list[Problem]:
        """Make the cluster look as the state implies; what is refused keeps nothing else from
        being done, least of all the end of a canary."""
        key, uid = subject.key, subject.owner.uid
        kinds = (Kind.CLAIM, Kind.CONFIG_MAP, Kind.SERVICE, Kind.STATEFUL_SET)
        owned = {kind: self._store.owned(key, kind) for kind in kinds}
        live = {
            (kind.value, item["metadata"]["name"]): item
            for kind, items in owned.items()
            for item in items
        }
        problems: list[Problem] = []
        for manifest in desired:
            kind, name = Kind(manifest["kind"]), manifest["metadata"]["name"]
            existing = live.get((kind.value, name))
            try:
                if existing is None or _applied_hash(existing) != _applied_hash(manifest):
                    self._store.put(kind, await self._cluster.apply(manifest))
                else:
                    await self._corrections.put_back(uid, manifest, existing)
            except _REFUSALS as error:
                problems.append(Problem("Refused", f"{kind} {name}", f"{name}: {error}"))
        problems += await self._corrections.put_images_back(uid, key)
        wanted = {(m["kind"], m["metadata"]["name"]) for m in desired}
        for kind in (Kind.STATEFUL_SET, Kind.CONFIG_MAP):
            for item in owned[kind]:
                is_wanted = (kind.value, item["metadata"]["name"]) in wanted
                if not is_wanted and _is_owned(item, subject):
                    problems += await self._delete(kind, item)
        return problems + await self._prune_revisions(subject, state)

    async def _delete(self, kind: Kind, item: Live) -> list[Problem]:
        metadata = item["metadata"]
        if metadata.get("deletionTimestamp"):
            return []
        name = metadata["name"]
        try:
            await self._cluster.delete(kind, metadata["namespace"], name, metadata["uid"])
        except _REFUSALS as error:
            return [Problem("Refused", f"delete {kind} {name}", f"{name}: {error}")]
        return []

    async def _prune_revisions(self, subject: Subject, state: RolloutState) -> list[Problem]:
        now_and_then = (state.canary, state.stable, state.rejected, state.restoring)
        earlier = (*state.former, *keepers(state))
        refs = (*now_and_then, *earlier, subject.state.canary, subject.target)
        in_use = {ref.name for ref in refs if ref is not None}
        spare = [i for i in self._records(subject) if _label(i, LABEL_REVISION) not in in_use]
        spare.sort(key=lambda item: int(item.get("revision", 0)), reverse=True)
        problems = []
        for item in spare[REVISION_HISTORY_LIMIT:]:
            problems += await self._delete(Kind.CONTROLLER_REVISION, item)
        return problems

    async def _post_events(self, item: Live, state: RolloutState, now: datetime) -> None:
        """Post what happened; last, because telling must never hold up doing."""
        told: tuple[Transition | Notice, ...] = (*reversed(state.history), *notices(state))
        fresh = [what for what in told if now - what.time <= EVENT_LIFETIME]
        uid = item["metadata"]["uid"]
        posted = self._posted[uid] = self._posted.get(uid, set()).intersection(fresh)
        for what in fresh:
            if what in posted:
                continue
            try:
                await self._cluster.emit(item, what)
            except Refused as error:
                # It would be refused again; that it happened is in status.
                self._metrics.errors.labels(type(error).__name__).inc()
                logger.error("Event %s refused: %s", what.reason, error)
            except ClusterError as error:
                self._metrics.errors.labels(type(error).__name__).inc()
                logger.warning("Event %s not posted, tried again: %s", what.reason, error)
                return
            posted.add(what)

    async def _tell_of_overlaps(self, outcome: Outcome) -> None:
        """At the start of a rollout, as nothing of it changes before the next one."""
        subject = outcome.subject
        fresh = [t for t in outcome.state.history if t not in subject.state.history]
        if not any(t.reason == "RolloutStarted" for t in fresh):
            return
        canaries = self._store.canaries()
        overlaps = find_overlaps(subject.key, subject.spec.symbols.full, canaries)
        for other, shared in overlaps.items():
            told = Problem("SymbolsShared", other, describe_overlap(other, shared))
            await self.warn(outcome.item, told, outcome.now)

    async def warn(self, item: Live, problem: Problem, now: datetime) -> None:
        """Tell the object's user what keeps it from being carried out, once a generation and
        again when the Event has gone."""
        metadata = item["metadata"]
        warned = self._warned.setdefault(metadata["uid"], {})
        generation = metadata.get("generation", 0)
        for old in [mark for mark in warned if mark[0] != generation]:
            del warned[old]
        mark = (generation, problem.reason, problem.about)
        if mark in warned and abs(now - warned[mark]) <= EVENT_LIFETIME:
            return
        try:
            await self._cluster.warn(item, problem, now)
        except ClusterError as error:
            self._metrics.errors.labels(type(error).__name__).inc()
            logger.warning("Event %s not posted: %s", problem.reason, error)
        warned[mark] = now

    def forget(self, uid: str) -> None:
        """Drop what is remembered of an object that is gone."""
        for memory in (self._posted, self._warned, self._refusals):
            memory.pop(uid, None)
        self._gate_notes.forget(uid)
        self._corrections.forget(uid)
        self._reports.forget(uid)
        self._metrics.rollouts.forget(uid)
        if self._listener is not None:
            self._listener.forget(uid)


_REFUSALS = (Refused, Conflict, Gone)


def _symbols_of(
    stable: RevisionRef | None, revisions: Mapping[str, Revision]
) -> frozenset[str] | None:
    known = revisions.get(stable.name) if stable else None
    return frozenset(known.symbols) if known else None


def _verb(answer: Answer) -> str:
    """The verb as a label: of what is none, anybody may write as many as they like."""
    return answer.verb if answer.verb in list(Verb) else "unknown"


def _label(item: Live, name: str) -> str:
    labels = item["metadata"].get("labels") or {}
    return str(labels.get(name, ""))


def _is_owned(item: Live, subject: Subject) -> bool:
    """Whether it is ours: anyone may give an object our labels, or a copy of them."""
    owners = item["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == subject.owner.uid for owner in owners)


def _applied_hash(item: Mapping[str, Any]) -> str | None:
    annotations = item["metadata"].get("annotations") or {}
    value: str | None = annotations.get(APPLIED_HASH)
    return value


def _words(status: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a person reads first of a status."""
    return status.get("message"), status.get("next")


def _without_live_values(status: Mapping[str, Any]) -> dict[str, Any]:
    """What of a status is worth a write of its own: words and numbers that only go with time
    are left out."""
    live = {
        "lastEvaluationTime",
        "symbols",
        "summary",
        "warmup",
        "next",
        "message",
        "stage",
        "conditions",
    }
    slow = {key: value for key, value in status.items() if key not in live}
    conditions = status.get("conditions") or ()
    slow["conditions"] = [(c["type"], c["status"], c.get("reason")) for c in conditions]
    return slow
