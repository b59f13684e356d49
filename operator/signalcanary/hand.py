"""A person's hand on a rollout: what is done of what was asked for, and what is refused. Pure.

Nothing that is asked for disarms a guard: a breach, a silence or pods that do not start roll back
whether somebody has paused, approved or promoted. What moves a rollout on needs a look at which
nothing is breached and everything could be seen; what takes it back is always allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from signalcanary import waiting
from signalcanary.api import Approval, SignalCanarySpec, Stage
from signalcanary.commands import Asked, Command, Verb
from signalcanary.evaluate import Judgement, Verdict
from signalcanary.look import Look
from signalcanary.moves import (
    begin_rollback,
    canary_of,
    enter,
    new_attempt,
    roll_back,
    stage_index,
    without_canary,
)
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import (
    MAX_ANSWERS,
    STARTING,
    WITH_CANARY,
    Answer,
    Phase,
    RolloutState,
    Word,
)


class _Refused(Exception):
    """What was asked for is not done.

    Attributes:
        reason: why, in one CamelCase word.
        message: what to do instead.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def obey(look: Look, state: RolloutState) -> RolloutState:
    """Do what people ask for, each thing once, and keep the answers."""
    asked = look.seen.asked
    if asked is None:
        return state
    state = _pause_or_resume(state, asked, look.now)
    for command in asked.commands:
        if not _is_answered(state, command):
            state = _answer(look, state, command)
    return _forget(state, asked)


def obstacle(judgements: Sequence[Judgement]) -> Judgement | None:
    """What no word of a person can stand in for: a breach, a value in the critical tier, or what
    could not be seen. Evidence that is not enough yet (Unproven, Inconclusive) is no obstacle."""
    hard = (Verdict.BREACHED, Verdict.ERROR, Verdict.NO_DATA)
    found = [j for j in judgements if j.verdict in hard or j.is_critical]
    order = [*hard, *Verdict]
    return min(found, key=lambda j: order.index(j.verdict), default=None)


def needs_approval(spec: SignalCanarySpec, state: RolloutState) -> bool:
    """Whether the present stage must not end without a person's word, and has none."""
    index = stage_index(spec, state)
    if index is None or spec.stages[index].approval is not Approval.REQUIRED:
        return False
    return state.hand.skip is None and spec.stages[index].name not in state.hand.approvals


# --------------------------------------------------------------------------- pause and resume


def _pause_or_resume(state: RolloutState, asked: Asked, now: datetime) -> RolloutState:
    hand, pause = state.hand, asked.pause
    if pause is not None and hand.pause is None:
        word = Word(pause.by, pause.why, now)
        state = replace(state, hand=replace(hand, pause=word))
        message = "no stage begins or ends and nothing is promoted; every guard stays armed"
        return _note(state, pause, word, "", message)
    if pause is None and hand.pause is not None:
        state = replace(state, hand=replace(hand, pause=None))
        command = next((c for c in asked.commands if c.verb == Verb.RESUME), None)
        if command is None or _is_answered(state, command):
            command = Command(Verb.RESUME, "", why="the annotation was taken out")
        word = Word(command.by, command.why, now)
        return _note(state, command, word, "", "goes on where it was")
    return state


# --------------------------------------------------------------------------- the other verbs


def _answer(look: Look, state: RolloutState, command: Command) -> RolloutState:
    word = Word(command.by, command.why, look.now)
    try:
        if command.problem:
            reason = "Unreadable" if command.verb in list(Verb) else "UnknownVerb"
            raise _Refused(reason, command.problem)
        after, message = _DO[Verb(command.verb)](look, state, command, word)
    except _Refused as refused:
        return _note(state, command, word, refused.reason, refused.message)
    return _note(after, command, word, "", message)


def _resume(
    look: Look, state: RolloutState, command: Command, word: Word
) -> tuple[RolloutState, str]:
    # Had it been paused until now, it would be answered by this time.
    if state.hand.pause is not None:
        raise _Refused("StillPaused", "take the annotation signalcanary.dev/pause out to resume")
    raise _Refused("NotPaused", "it is not paused")


def _approve(
    look: Look, state: RolloutState, command: Command, word: Word
) -> tuple[RolloutState, str]:
    canary = _running(state, command)
    names = [stage.name for stage in look.spec.stages]
    if command.detail not in names:
        raise _Refused("NoSuchStage", f"write one of {', '.join(names)}")
    stage = look.spec.stages[names.index(command.detail)]
    if stage.approval is not Approval.REQUIRED:
        raise _Refused("NotNeeded", f"stage {stage.name} needs no approval")
    present = stage_index(look.spec, state)
    is_over = present is not None and names.index(stage.name) < present
    if state.phase is Phase.PROMOTING or is_over:
        raise _Refused("StageOver", f"stage {stage.name} is over")
    approvals = {**state.hand.approvals, stage.name: word}
    state = replace(state, hand=replace(state.hand, approvals=approvals))
    return state, f"stage {stage.name} of {canary.version} may end"


def _skip(
    look: Look, state: RolloutState, command: Command, word: Word
) -> tuple[RolloutState, str]:
    canary = _running(state, command)
    if state.phase is not Phase.PROGRESSING or state.stage != command.detail:
        where = state.stage if state.phase is Phase.PROGRESSING else f"none, but {state.phase}"
        raise _Refused("OtherStage", f"the present stage is {where}")
    _may_move_on(look, state, waiting.stage_of(look.spec, state))
    unjudged = next((j for j in look.judgements if not j.verdict.is_judged), None)
    if unjudged is not None:
        raise _Refused("NotJudged", f"a stage ends when all is judged: {unjudged.message}")
    state = replace(state, hand=replace(state.hand, skip=word))
    return state, f"stage {state.stage} of {canary.version} is over"


def _promote(
    look: Look, state: RolloutState, command: Command, word: Word
) -> tuple[RolloutState, str]:
    canary = _running(state, command)
    if state.phase not in WITH_CANARY - STARTING - {Phase.WAITING}:
        raise _Refused("NotRunning", "the canary's pods do not run yet")
    _may_move_on(look, state, look.spec.stages[-1])
    state = replace(state, hand=replace(state.hand, promote=word))
    message = f"{canary.version} is promoted without waiting for evidence"
    if state.phase is Phase.PROMOTING:
        return state, message
    why = f"promoting {canary.version} on the word of {word}: evidence is not waited for; "
    why += "starting it on the full symbol set"
    return enter(state, look.now, Phase.PROMOTING, "PromoteRequested", why), message


def _abort(
    look: Look, state: RolloutState, command: Command, word: Word
) -> tuple[RolloutState, str]:
    if state.restoring is not None:
        _check_attempt(state.restoring, command)
        version = state.restoring.version
        why = f"rolling back to {version} was given up by {word}"
        state = replace(state, restoring=None)
        state = enter(state, look.now, Phase.ROLLING_BACK, "Aborted", why, is_warning=True)
        return state, f"the rollback to {version} is given up"
    if state.phase not in WITH_CANARY:
        raise _Refused("NothingRunning", _nothing_to_abort(state))
    version = _running(state, command).version
    why = f"aborted by {word}"
    return roll_back(state, look.now, "Aborted", why), f"{version} is taken back"


def _nothing_to_abort(state: RolloutState) -> str:
    """What to do instead of an abort where no canary runs."""
    if state.phase is Phase.ROLLING_BACK:
        return "it is being rolled back already"
    told = f"no canary runs; it is {state.phase}"
    if state.stable is None or not state.former:
        return told
    former = state.former[0]
    return (
        f"{told}: to take {state.stable.version} back, which serves, ask for a rollback to "
        f"{former.version} ({former.name})"
    )


def _retry(
    look: Look, state: RolloutState, command: Command, word: Word
) -> tuple[RolloutState, str]:
    rejected, target = state.rejected, look.seen.target
    if state.phase is not Phase.ROLLED_BACK or rejected is None:
        raise _Refused(
            "NotRolledBack", f"only what is RolledBack is tried again; it is {state.phase}"
        )
    _check_attempt(rejected, command)
    if rejected.name != target.name:
        raise _Refused("OtherSpec", f"the spec declares {target.version}, another configuration")
    if rejected.name not in look.seen.recorded:
        raise _Refused("NotOnRecord", f"the ControllerRevision of {rejected.version} is gone")
    state, canary = new_attempt(state, rejected)
    state = replace(state, canary=canary, rejected=None)
    why = f"trying {canary.version} again (attempt {canary.attempt}), asked for by {word}"
    state = waiting.begin(look, state, "RetryRequested", why)
    return state, f"{canary.version} is tried again, as {canary.name}-{canary.attempt}"


def _rollback(
    look: Look, state: RolloutState, command: Command, word: Word
) -> tuple[RolloutState, str]:
    if state.phase is Phase.ROLLING_BACK:
        raise _Refused("RollingBack", "wait until the rollback that goes on is done")
    if state.stable is None:
        raise _Refused("NothingStable", "no revision is stable; abort takes a canary back")
    _check_attempt(state.stable, command)
    if state.stable.name == command.detail:
        raise _Refused("AlreadyStable", f"{state.stable.version} is stable; abort ends a canary")
    former = next((ref for ref in state.former if ref.name == command.detail), None)
    if former is None:
        known = ", ".join(f"{ref.name} ({ref.version})" for ref in state.former) or "none"
        raise _Refused("NeverStable", f"it was not stable before; those that were: {known}")
    if former.name not in look.seen.recorded:
        raise _Refused("NotOnRecord", f"the ControllerRevision of {former.version} is gone")
    rejected, serving = state.canary or state.rejected, state.stable.version
    state, restoring = new_attempt(without_canary(state), former)
    state = replace(state, rejected=rejected, restoring=restoring)
    cause = f"to {former.version}, asked for by {word}"
    until = f"stable {serving} keeps running until its pods are ready"
    state = begin_rollback(state, look.now, "RollbackRequested", cause, until)
    return state, f"{former.version} becomes stable again"


_DO: Final[
    Mapping[Verb, Callable[[Look, RolloutState, Command, Word], tuple[RolloutState, str]]]
] = {
    Verb.RESUME: _resume,
    Verb.APPROVE: _approve,
    Verb.SKIP: _skip,
    Verb.PROMOTE: _promote,
    Verb.ABORT: _abort,
    Verb.RETRY: _retry,
    Verb.ROLLBACK: _rollback,
}


def _running(state: RolloutState, command: Command) -> RevisionRef:
    """The canary, if it is the attempt that is asked about."""
    if state.phase not in WITH_CANARY:
        raise _Refused("NothingRunning", f"no canary runs; it is {state.phase}")
    _check_attempt(canary_of(state), command)
    return canary_of(state)


def _check_attempt(ref: RevisionRef, command: Command) -> None:
    if f"{ref.name}-{ref.attempt}" != command.about:
        raise _Refused(
            "OtherAttempt", f"it is {ref.name}-{ref.attempt} ({ref.version}), not {command.about}"
        )


def _may_move_on(look: Look, state: RolloutState, stage: Stage | None) -> None:
    if state.hand.pause is not None:
        raise _Refused("Paused", f"resume it first; it was paused by {state.hand.pause}")
    wait = waiting.to_pass(look, stage)
    if wait is not None and not waiting.is_manual(look.spec):
        help_ = "ask again then, or write schedule.manual: Allow"
        raise _Refused(wait.reason, f"{wait.message}: {help_}")
    failure = look.seen.metrics.failure
    if failure is not None:
        raise _Refused("CannotBeSeen", f"the metrics source is unreachable: {failure.message}")
    worst = obstacle(look.judgements)
    if worst is not None:
        is_bad = worst.verdict is Verdict.BREACHED or worst.is_critical
        reason = "ConditionBreached" if is_bad else "CannotBeSeen"
        raise _Refused(reason, worst.message)


# --------------------------------------------------------------------------- answers


def _is_answered(state: RolloutState, command: Command) -> bool:
    return any((a.verb, a.id) == (command.verb, command.id) for a in state.hand.answers)


def _note(
    state: RolloutState, command: Command, word: Word, refusal: str, message: str
) -> RolloutState:
    about = command.about + (f"/{command.detail}" if command.detail else "")
    answer = Answer(command.verb, command.id, about, word, state.phase, refusal, message)
    hand = state.hand
    return replace(state, hand=replace(hand, answers=(answer, *hand.answers)))


def _forget(state: RolloutState, asked: Asked) -> RolloutState:
    """Drop old answers, but none to what is still asked for: it would be done again."""
    present = {(c.verb, c.id) for c in asked.commands}
    kept = tuple(
        answer
        for place, answer in enumerate(state.hand.answers)
        if place < MAX_ANSWERS or (answer.verb, answer.id) in present
    )
    if kept == state.hand.answers:
        return state
    return replace(state, hand=replace(state.hand, answers=kept))
