"""The whole logic of a rollout: ``decide(spec, state, seen, now) → Decision``.

Pure: no clock, no network, no Kubernetes. `now` is read once a look and passed in; everything
that was observed is in `seen`; everything that must be remembered is in `state`.

    Waiting → Verifying → Pending → Warming → Progressing → Promoting → Soaking → Succeeded
        └─────────┴──────────┴─────────┴───────────┴────────────┴──────────┴→ RollingBack
                                                                              → RolledBack

After RollingBack comes VerifyingRollback, where that is asked for, and from there the next rung of
the ladder.

Waiting is of rollouts that may not begin yet, Verifying of configurations with artifacts alone.

Three rules hold throughout. A rollback needs a breach that was *seen* to hold for its time,
artifacts that were seen not to be as declared, or a silence or a delay that was seen while the
metrics source answered; it waits for no window, no approval and nobody. A promotion needs every
condition judged Ok at that very look, after a stage clock that ran only while everything could
be judged. And a metrics source that cannot be read changes nothing but the message.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from signalcanary import (
    aftermath,
    calls,
    clocks,
    explain,
    groups,
    guards,
    moves,
    publication,
    tiers,
    waiting,
)
from signalcanary.api import MAX_STAGES, OnDeadline, SignalCanarySpec
from signalcanary.commands import Verb
from signalcanary.contract import Track, format_duration
from signalcanary.hand import needs_approval, obey, obstacle
from signalcanary.look import Look
from signalcanary.moves import canary_of as _canary
from signalcanary.moves import is_revision as _is
from signalcanary.moves import make_stable, new_attempt, stage_index
from signalcanary.moves import without_canary as _without_canary
from signalcanary.revisions import canonical_hash
from signalcanary.rollout import (
    APPROVAL_NEEDED,
    ARMED,
    DEADLINE_HELD,
    DUE,
    GUARDED,
    JUDGED,
    STARTING,
    SYMBOLS_HELD,
    WITH_CANARY,
    Clock,
    Decision,
    Observations,
    Phase,
    RolloutState,
    newest,
    notices,
    plan,
)
from signalcanary.windows import Wait


def decide(
    spec: SignalCanarySpec, state: RolloutState, seen: Observations, now: datetime
) -> Decision:
    """Take one look and say what the rollout becomes.

    Goes on until nothing follows any more: deciding again on the same look changes nothing.
    """
    look = Look(spec, seen, now)
    before = state
    ahead = clocks.newest(look, state) - now
    if ahead > timedelta(0):
        # How much time has passed nobody can say: none is counted, and nothing else follows.
        state = clocks.set_back(state, ahead, now)
        judged = guards.judge(look, state) if state.phase in JUDGED else look
        return Decision(state, judged.judgements, ())
    state, timers = clocks.stop_over_gap(look, state), state.timers
    for _ in range(_MAX_STEPS):
        settled = state
        state = _adopt(look, state)
        if state.phase in JUDGED:
            look = guards.judge(look, state)
        if state.phase in ARMED:
            state = _run_phase_clock(look, state)
            state = guards.run_timers(look, state)
            timers = state.timers
            state = replace(
                state, standings=tiers.follow(state.standings, look.judgements, look.now)
            )
            state = _act_on_what_is_due(look, state)
        state = _go_with_the_group(look, state)
        # Guards come first: nobody promotes what is being taken back.
        state = obey(look, state)
        state = _STEPS[state.phase](look, state)
        state = _call_people(look, state)
        state = publication.pass_on(look, state)
        if state == settled:
            break
    fresh = tuple(t for t in state.history if t not in before.history)
    told = notices(before)
    return Decision(
        state,
        look.judgements,
        tuple(reversed(fresh)),
        timers,
        tuple(notice for notice in notices(state) if notice not in told),
    )


_MAX_STEPS = MAX_STAGES + len(Phase)
"""Every phase and stage can follow at one look, where stages last 0s; nothing goes in a ring."""


# --------------------------------------------------------------------------- a changed spec


def _adopt(look: Look, state: RolloutState) -> RolloutState:
    """Take up a changed spec: a new revision starts a rollout, the same one goes on."""
    if look.seen.generation == state.observed_generation or state.phase is Phase.ROLLING_BACK:
        return state
    state = replace(state, observed_generation=look.seen.generation)
    target, rules = look.seen.target, rules_of(look.spec)
    if _is(state.stable, target):
        if state.phase in (Phase.SUCCEEDED, Phase.SOAKING):
            return state
        why = f"{target.version} is the stable revision already; nothing to roll out"
        state = replace(_without_canary(state), rejected=None)
        return _enter(look, state, Phase.SUCCEEDED, "AlreadyStable", why)
    if _is(state.canary, target) and state.phase in WITH_CANARY:
        if rules == state.rules:
            return state
        if state.phase is Phase.WAITING:
            return replace(state, rules=rules, hand=state.hand.without_canary())
        # A breach that goes on under the new rules keeps its beginning.
        # What was held back is judged again, by rules that may be others for it.
        hand = state.hand.without_canary()
        state = replace(state, rules=rules, stage=None, stage_clock=None, held={}, hand=hand)
        why = "the canary's symbols or conditions have changed; the stages are observed anew"
        # A canary whose pods do not run yet is no further for that.
        phase = state.phase if state.phase in STARTING else Phase.WARMING
        return _enter(look, state, phase, "RulesChanged", why)
    unfinished = state.canary.version if state.canary and state.phase in GUARDED else None
    state, target = new_attempt(_without_canary(state), target)
    state = replace(state, canary=target, rejected=None, rules=rules)
    why = explain.rolling_out(target, look.spec)
    why += f", in place of {unfinished}, which had not ended" if unfinished else ""
    if any(_is(former, target) for former in state.former):
        why += "; it was stable before: a rollback to it by hand needs no stages"
    return waiting.begin(look, state, "RolloutStarted", why)


def rules_of(spec: SignalCanarySpec) -> str:
    """Hash of what the canary is judged on: time observed under other rules proves nothing."""
    conditions = [
        # What is only told, or asked of a rollback alone, changes nothing that was proved.
        {k: v for k, v in condition.to_wire().items() if k not in ("warning", "consecutive")}
        for condition in spec.rollback.conditions
    ]
    return canonical_hash([sorted(spec.symbols.canary), conditions, spec.metrics_source])[:8]


# --------------------------------------------------------------------------- guards


def _act_on_what_is_due(look: Look, state: RolloutState) -> RolloutState:
    """Hold back the symbols whose breach or silence has held for its time; with as many as the
    scope allows, take the whole canary back."""
    if look.seen.metrics.failure is not None:
        return state
    due = guards.find_due(look, state)
    held = {**state.held, **due}
    symbols = len(look.spec.symbols.canary)
    # Pods that never ran are the whole canary's, and what soaks has nothing left beside it that a
    # symbol could be held back on.
    is_whole = state.phase in STARTING or state.phase is Phase.SOAKING
    most = 1 if is_whole else look.spec.rollback.most_held(symbols)
    if held and len(held) >= most:
        # Nothing need be due: the scope may have been edited.
        first = next(iter(due.values()), None) or next(iter(held.values()))
        why = first.message + (explain.others_held(len(held), symbols) if most > 1 else "")
        return _roll_back(look, state, first.reason, why)
    if not due:
        return state
    why = explain.hold(due, guards.servers(look, state, due))
    return _note(look, replace(state, held=held), SYMBOLS_HELD, why)


def _go_with_the_group(look: Look, state: RolloutState) -> RolloutState:
    """Take the rollout back with another of its group, or let one that began before go first."""
    if state.phase not in WITH_CANARY | {Phase.SOAKING}:
        return state
    why = groups.verdict(look, state)
    if why is not None:
        return _roll_back(look, state, "GroupRolledBack", why)
    return waiting.go_back(look, state)


# --------------------------------------------------------------------------- the deadline


def _run_phase_clock(look: Look, state: RolloutState) -> RolloutState:
    """Let the clock of the deadline run while it is the canary that is late, and no person is
    waited for."""
    if state.phase not in DUE:
        return state
    # A status may have been written before there was this clock.
    clock = state.phase_clock or Clock(look.now)
    counts = not look.is_excused and not _is_held(look, state)
    return replace(state, phase_clock=clock.run(look.now) if counts else clock.stop(look.now))


def until_deadline(spec: SignalCanarySpec, state: RolloutState, now: datetime) -> timedelta | None:
    """Observed time until the phase, or its stage, is overdue; None if nothing follows then.

    A phase may take `deadline` longer than it must: than the windows take to fill, or than the
    stage's duration.
    """
    is_held = spec.evaluation.on_deadline is OnDeadline.HOLD
    return None if is_held else _until_late(spec, state, now)


def _until_late(spec: SignalCanarySpec, state: RolloutState, now: datetime) -> timedelta | None:
    if state.phase_clock is None:
        return None
    due = timedelta(0)
    if state.phase is Phase.WARMING:
        due = length_of_windows(spec)
    elif state.phase is Phase.PROGRESSING:
        index = stage_index(spec, state)
        if index is None:
            return None
        due = spec.stages[index].duration
    return due + spec.evaluation.deadline - state.phase_clock.elapsed(now)


def length_of_windows(spec: SignalCanarySpec) -> timedelta:
    """Market time until a new canary's calibration windows are full."""
    calibration = spec.signal.calibration
    return calibration.train + spec.signal.label.horizon + calibration.test


def _is_overdue(look: Look, state: RolloutState) -> bool:
    """Whether the canary is neither good nor bad long after it should have been judged."""
    # What an ill metrics source or market does not say, or a person keeps back, is held against
    # nobody.
    counts = not look.is_excused and not _is_held(look, state)
    return _is_late(look, state) and counts


def _is_late(look: Look, state: RolloutState) -> bool:
    left = _until_late(look.spec, state, look.now)
    return left is not None and left <= timedelta(0)


def _end_overdue(look: Look, state: RolloutState, late: explain.Late) -> RolloutState:
    """Do what is to be done with an undecided canary at the deadline."""
    if look.spec.evaluation.on_deadline is OnDeadline.ROLLBACK:
        return _roll_back(look, state, "DeadlineExceeded", late.taken_back())
    why = f"{late.held()}; to take it back: {calls.command(Verb.ABORT, state, look.seen)}"
    return moves.call(state, look.now, DEADLINE_HELD, why)


def _roll_back(look: Look, state: RolloutState, reason: str, why: str) -> RolloutState:
    """Take the canary back; or, where nothing serves beside it, replace what serves."""
    if state.phase is Phase.SOAKING:
        return aftermath.climb(look.seen, state, look.now, reason, why)
    return moves.roll_back(state, look.now, reason, why)


# --------------------------------------------------------------------------- what is waited for


def _is_held(look: Look, state: RolloutState) -> bool:
    """Whether the rollout is kept from going on by a pause; or, where nothing else is missing, for
    want of an approval or of an open window."""
    if state.hand.pause is not None:
        return True
    return awaits_approval(look, state) or find_wait(look, state) is not None


def find_wait(look: Look, state: RolloutState) -> Wait | None:
    """What the rollout waits for where nothing of the canary keeps it from going on."""
    if state.phase is Phase.WAITING:
        return waiting.to_start(look, state)
    if state.hand.pause is not None or awaits_approval(look, state):
        return None  # it is not ready, whatever windows and others say
    return waiting.to_move(look, state) if _could_move(look, state) else None


def _could_move(look: Look, state: RolloutState) -> bool:
    """Whether the canary is as it must be for the next stage, or for the promotion."""
    match state.phase:
        case Phase.WARMING:
            return look.all_judged
        case Phase.PROGRESSING:
            # A stage that was edited away is over.
            is_gone = stage_index(look.spec, state) is None or state.stage_clock is None
            return is_gone or _has_passed(look, state)
        case Phase.PROMOTING:
            return _may_serve(look, state)
    return False


def awaits_approval(look: Look, state: RolloutState) -> bool:
    """Whether nothing but a person's approval keeps the stage from ending."""
    is_asked = state.phase is Phase.PROGRESSING and needs_approval(look.spec, state)
    return is_asked and _has_passed(look, state)


def _has_passed(look: Look, state: RolloutState) -> bool:
    """Whether the stage has been observed for its time, and its conditions let it end."""
    index, clock = stage_index(look.spec, state), state.stage_clock
    if index is None or clock is None:
        return False
    is_last = index + 1 == len(look.spec.stages)
    is_over = clock.elapsed(look.now) >= look.spec.stages[index].duration
    return (is_over or state.hand.skip is not None) and (look.all_ok if is_last else look.may_pass)


def _call_people(look: Look, state: RolloutState) -> RolloutState:
    """Call a person where an approval is all that is missing; drop the calls that are over.

    One that sways between good and in doubt is still the one that a person was called to.
    """
    wants_approval = state.phase is Phase.PROGRESSING and needs_approval(look.spec, state)
    is_held = look.spec.evaluation.on_deadline is OnDeadline.HOLD and _is_late(look, state)
    stands = {APPROVAL_NEEDED: wants_approval, DEADLINE_HELD: is_held}
    standing = tuple(call for call in state.calls if stands.get(call.reason))
    state = replace(state, calls=standing)
    if not awaits_approval(look, state):
        return state
    why = calls.to_approve(state, look.seen)
    return moves.call(state, look.now, APPROVAL_NEEDED, why)


def _is_overridden(look: Look, state: RolloutState) -> bool:
    """Whether a person has said to promote, and nothing is there that no word stands in for."""
    is_seen = look.seen.metrics.failure is None and bool(look.judgements)
    return state.hand.promote is not None and is_seen and obstacle(look.judgements) is None


# --------------------------------------------------------------------------- the phases


def _waiting(look: Look, state: RolloutState) -> RolloutState:
    return waiting.end(look, state)


def _verifying(look: Look, state: RolloutState) -> RolloutState:
    canary = _canary(state)
    found = look.seen.track(Track.CANARY, canary).verification
    if found is None or (found.revision, found.attempt) != (canary.name, canary.attempt):
        return state
    if found.refusals:
        return _roll_back(look, state, "VerificationFailed", explain.refused(found))
    return _enter(look, state, Phase.PENDING, "ArtifactsVerified", explain.verified(found))


def _pending(look: Look, state: RolloutState) -> RolloutState:
    # What was ready may be the pod that looked at its artifacts.
    if not (_is_as_planned(look, state) and look.seen.track(Track.CANARY, state.canary).is_ready):
        return state
    why = "the canary's pods run; waiting until every condition can be judged"
    return _enter(look, state, Phase.WARMING, "CanaryRunning", why)


def _warming(look: Look, state: RolloutState) -> RolloutState:
    if look.all_judged and not _is_held(look, state):
        return _start_stage(look, state, 0)
    if not _is_overdue(look, state):
        return state
    unjudged = [j for j in look.judgements if not j.verdict.is_judged]
    late = explain.late_warming(look.spec.evaluation.deadline, unjudged, look.spec.stages[0].name)
    return _end_overdue(look, state, late)


def _start_stage(look: Look, state: RolloutState, index: int) -> RolloutState:
    stages = look.spec.stages
    stage = stages[index]
    left = explain.word_of_passing(state.hand, state.stage) if index else ""
    hand = replace(state.hand, skip=None)
    state = replace(state, stage=stage.name, stage_clock=Clock(look.now), hand=hand)
    why = left + (
        f"stage {stage.name} ({index + 1} of {len(stages)}) started, "
        f"{format_duration(stage.duration)} to observe"
    )
    return _enter(look, state, Phase.PROGRESSING, "StageStarted", why)


def _progressing(look: Look, state: RolloutState) -> RolloutState:
    index = stage_index(look.spec, state)
    if index is None or state.stage_clock is None:
        # The stage was edited away under the canary: observe the new stages from the first.
        return state if _is_held(look, state) else _start_stage(look, state, 0)
    now, clock = look.now, state.stage_clock
    runs = look.all_judged and state.hand.pause is None
    clock = clock.run(now) if runs else clock.stop(now)
    state = replace(state, stage_clock=clock)
    stages = look.spec.stages
    is_last = index + 1 == len(stages)
    if _is_held(look, state):
        return state
    if not _has_passed(look, state):
        if not _is_overdue(look, state):
            return state
        then = "the promotion" if is_last else "the next stage"
        is_over = clock.elapsed(now) >= stages[index].duration
        whole = None if is_over else stages[index].duration
        late = explain.late_stage(look.spec.evaluation.deadline, look.doubts, then, whole)
        return _end_overdue(look, state, late)
    if not is_last:
        return _start_stage(look, state, index + 1)
    together = format_duration(sum((stage.duration for stage in stages), timedelta(0)))
    why = explain.word_of_passing(state.hand, state.stage) + (
        f"every stage passed ({len(stages)}, {together} observed); starting "
        f"{_canary(state).version} on the full symbol set; {explain.evidence(look.judgements)}"
    )
    return _enter(look, state, Phase.PROMOTING, "StagesPassed", why)


def _may_serve(look: Look, state: RolloutState) -> bool:
    """Whether the pods on the full symbol set are ready, and the canary is good."""
    # Pods that still run a symbol held back only now are not those that will serve.
    is_as_planned = not state.held or set(plan(state)) <= set(look.seen.planned)
    is_ready = look.seen.track(Track.STABLE, state.canary).is_ready and is_as_planned
    return is_ready and (look.all_ok or _is_overridden(look, state))


def _promoting(look: Look, state: RolloutState) -> RolloutState:
    if not _may_serve(look, state) or _is_held(look, state):
        if not _is_overdue(look, state):
            return state
        full = look.seen.track(Track.STABLE, state.canary)
        late = explain.late_promotion(
            look.spec.evaluation.deadline, look.doubts, full.is_ready, full.problem
        )
        return _end_overdue(look, state, late)
    promoted = _canary(state)
    kept = guards.servers(look, state, sorted(state.held))
    why = f"{promoted.version} is promoted and serves the full symbol set"
    why += explain.left_out(kept)
    if state.hand.promote is not None:
        why += f"; {explain.override(state.hand.promote, look.doubts)}"
    if look.all_ok:
        why += f"; {explain.evidence(look.judgements)}"
    state = replace(make_stable(_without_canary(state), promoted), kept=kept)
    if look.spec.soak:
        return aftermath.begin_soak(look.spec, state, look.now, why)
    return _enter(look, state, Phase.SUCCEEDED, "Promoted", why)


def _soaking(look: Look, state: RolloutState) -> RolloutState:
    return aftermath.soak(look.by(state), state)


def _rolling_back(look: Look, state: RolloutState) -> RolloutState:
    if state.restoring is not None:
        # Pods that were ready as what they were before are not those that will serve.
        if not (
            _is_as_planned(look, state) and look.seen.track(Track.STABLE, state.restoring).is_ready
        ):
            return state
        rejected = state.rejected or state.stable
        state = replace(make_stable(state, state.restoring), restoring=None, kept={})
        state = replace(state, rejected=rejected)
    is_adopted = look.seen.generation == state.observed_generation
    if is_adopted and _is(state.stable, look.seen.target):
        # A person went back to what the spec declares, or gave up leaving it.
        state = replace(state, rejected=None)
    # Where it goes on serving single symbols, as an attempt before, pods of it stay.
    stay = {(p.track, p.revision.name) for p in plan(state)}
    name = state.rejected.name if state.rejected else ""
    ending = [track for track in Track if (track, name) not in stay]
    if any(look.seen.track(track, state.rejected).pods for track in ending):
        return state
    if state.rejected is None:
        begun = newest(state, Phase.ROLLING_BACK)
        why = explain.rolled_back(begun.cause) if begun and begun.cause else state.message
        return _enter(look, state, Phase.SUCCEEDED, state.reason, why)
    is_kept = any(kept == name for _, kept in stay)
    told = explain.gone(state.rejected, state.stable, is_kept)
    return aftermath.end_rollback(look.by(state), state, told)


def _verifying_rollback(look: Look, state: RolloutState) -> RolloutState:
    return aftermath.verify(look.by(state), state)


def _resting(look: Look, state: RolloutState) -> RolloutState:
    return state


_STEPS = {
    Phase.WAITING: _waiting,
    Phase.VERIFYING: _verifying,
    Phase.PENDING: _pending,
    Phase.WARMING: _warming,
    Phase.PROGRESSING: _progressing,
    Phase.PROMOTING: _promoting,
    Phase.SOAKING: _soaking,
    Phase.SUCCEEDED: _resting,
    Phase.ROLLING_BACK: _rolling_back,
    Phase.VERIFYING_ROLLBACK: _verifying_rollback,
    Phase.ROLLED_BACK: _resting,
}


# --------------------------------------------------------------------------- small change


def _is_as_planned(look: Look, state: RolloutState) -> bool:
    """Whether the workloads were looked at as those that the state implies."""
    return not look.seen.planned or set(plan(state)) <= set(look.seen.planned)


def _enter(
    look: Look,
    state: RolloutState,
    phase: Phase,
    reason: str,
    message: str,
    *,
    is_warning: bool = False,
) -> RolloutState:
    return moves.enter(state, look.now, phase, reason, message, is_warning=is_warning)


def _note(
    look: Look, state: RolloutState, reason: str, message: str, *, is_warning: bool = True
) -> RolloutState:
    return moves.note(state, look.now, reason, message, is_warning=is_warning)
