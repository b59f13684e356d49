"""What a rollout that waits for a person says to them: what for, and what to type. Pure.

The command needs nothing but kubectl, as the plugin may not be on the PATH of who is woken.
"""

from __future__ import annotations

from signalcanary.commands import Verb, annotation
from signalcanary.rollout import Observations, Phase, RolloutState, Word


def subject_of(state: RolloutState) -> str | None:
    """What a command is about at present, ready to be copied into an annotation."""
    ref = state.restoring or state.canary or state.rejected or state.stable
    if ref is None:
        return None
    stage = f"/{state.stage}" if state.phase is Phase.PROGRESSING else ""
    return f"{ref.name}-{ref.attempt}{stage}"


def command(verb: Verb, state: RolloutState, seen: Observations) -> str:
    """What to type for a verb about the rollout as it stands; without a cluster, the annotation."""
    subject, name = subject_of(state), annotation(verb)
    if not seen.name:
        return f"{name}: {subject}"
    return f"{_annotate(seen)} {name}={subject}"


def _annotate(seen: Observations) -> str:
    return f"kubectl annotate --overwrite -n {seen.namespace} sigc {seen.name}"


# --------------------------------------------------------------------------- approvals


def approval_needed(state: RolloutState) -> str:
    version = state.canary.version if state.canary else ""
    return f"stage {state.stage} of {version} has passed and waits for a person's approval"


def to_approve(state: RolloutState, seen: Observations) -> str:
    """For who is called to it."""
    how = command(Verb.APPROVE, state, seen)
    return f"{approval_needed(state)}, every guard armed; to approve: {how}"


def once_approved(state: RolloutState, seen: Observations, then: str) -> str:
    """What comes next."""
    subject = subject_of(state)
    told = f"{then} once approved: {command(Verb.APPROVE, state, seen)}"
    was_approved = any(
        answer.verb == Verb.APPROVE and answer.about == subject and not answer.refusal
        for answer in state.hand.answers
    )
    # The same words once more would be the same command, which has been answered.
    return told + (", with other words than before, as it was edited since" if was_approved else "")


# --------------------------------------------------------------------------- pauses


def paused(pause: Word) -> str:
    return (
        f"paused by {pause} since {pause.at:%Y-%m-%d %H:%M:%S} UTC: no stage begins or ends and "
        "nothing is promoted; every guard stays armed"
    )


def until_resumed(seen: Observations) -> str:
    name = annotation(Verb.PAUSE)
    told = f"goes on where it is once it is resumed (the annotation {name} is gone)"
    return told + (f": {_annotate(seen)} {name}-" if seen.name else "")
