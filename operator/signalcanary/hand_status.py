"""What status says of a person's hand on the rollout, in words and to be read back. Pure.

``parse_hand(render_hand(hand)) == hand``: status is the operator's only memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from signalcanary.commands import Verb, annotation
from signalcanary.rollout import Answer, Hand, Phase, RolloutState, Word
from signalcanary.wire import format_instant, parse_instant


def render_hand(hand: Hand) -> dict[str, Any]:
    """What people have said that still holds, and what they were answered."""
    fields = {
        "pause": _word(hand.pause) if hand.pause else None,
        "approvals": [
            {"stage": stage, **_word(word)} for stage, word in sorted(hand.approvals.items())
        ],
        "skip": _word(hand.skip) if hand.skip else None,
        "promote": _word(hand.promote) if hand.promote else None,
        "answers": [_answer(answer) for answer in hand.answers],
    }
    return {name: value for name, value in fields.items() if value}


def _word(word: Word) -> dict[str, str]:
    return {"by": word.by, "reason": word.why, "time": format_instant(word.at)}


def _answer(answer: Answer) -> dict[str, str]:
    return {
        "verb": answer.verb,
        "id": answer.id,
        "about": answer.about,
        **_word(answer.word),
        "phase": answer.phase.value,
        "outcome": "Refused" if answer.refusal else "Done",
        "refusal": answer.refusal,
        "message": answer.message,
    }


def parse_hand(status: Mapping[str, Any]) -> Hand:
    """The hand of a status; of one that has none, nobody's.

    Raises:
        KeyError, ValueError: it was not written by this module.
    """
    return Hand(
        pause=_parse_word(status.get("pause")),
        approvals={one["stage"]: _read_word(one) for one in status.get("approvals", ())},
        skip=_parse_word(status.get("skip")),
        promote=_parse_word(status.get("promote")),
        answers=tuple(
            Answer(
                one["verb"],
                one["id"],
                one["about"],
                _read_word(one),
                Phase(one["phase"]),
                one["refusal"],
                one["message"],
            )
            for one in status.get("answers", ())
        ),
    )


def _parse_word(word: Mapping[str, str] | None) -> Word | None:
    return _read_word(word) if word else None


def _read_word(word: Mapping[str, str]) -> Word:
    return Word(word["by"], word["reason"], parse_instant(word["time"]))


# --------------------------------------------------------------------------- words


def subject_of(state: RolloutState) -> str | None:
    """What a command is about at present, ready to be copied into an annotation."""
    ref = state.restoring or state.canary or state.rejected or state.stable
    if ref is None:
        return None
    stage = f"/{state.stage}" if state.phase is Phase.PROGRESSING else ""
    return f"{ref.name}-{ref.attempt}{stage}"


def paused(pause: Word) -> str:
    return (
        f"paused by {pause} since {pause.at:%Y-%m-%d %H:%M:%S} UTC: no stage begins or ends and "
        "nothing is promoted; every guard stays armed"
    )


def until_resumed() -> str:
    return (
        f"goes on where it is once it is resumed (the annotation {annotation(Verb.PAUSE)} is gone)"
    )


def approval_needed(state: RolloutState) -> str:
    version = state.canary.version if state.canary else ""
    return f"stage {state.stage} of {version} has passed and waits for a person's approval"


def how_to_approve(state: RolloutState, then: str) -> str:
    subject = subject_of(state)
    told = f"{then} once approved: {annotation(Verb.APPROVE)}: {subject}"
    was_approved = any(
        answer.verb == Verb.APPROVE and answer.about == subject and not answer.refusal
        for answer in state.hand.answers
    )
    # The same words once more would be the same command, which has been answered.
    return told + (", with other words than before, as it was edited since" if was_approved else "")
