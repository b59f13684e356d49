"""What the operator remembers in a status: the state, written and read back.

``parse(remember(state)) == state``, and so of the whole status, where `render` adds what is told.
Of each thing the one way stands beside the other. What is None or empty may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from signalcanary import explain
from signalcanary.api import Tier
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import (
    SYMBOLS_HELD,
    TAKEN_BACK,
    Answer,
    Checks,
    Clock,
    Hand,
    Held,
    Notice,
    Phase,
    RolloutState,
    Transition,
    Word,
    call_of,
)
from signalcanary.tiers import Standing, Streak
from signalcanary.wire import format_instant, parse_instant

T = TypeVar("T")
R = TypeVar("R")

SOAK = "soak"
"""What stands for the stage's name while a promoted revision soaks; no stage of the spec."""


def remember(state: RolloutState) -> dict[str, Any]:
    """The fields of status that hold the state."""
    return {
        "observedGeneration": state.observed_generation,
        "phase": state.phase.value,
        "phaseSince": maybe(format_instant, state.phase_since),
        "reason": state.reason,
        "message": state.message,
        "phaseClock": maybe(_write_clock, state.phase_clock),
        "stage": _write_stage(state),
        "canary": maybe(_write_revision, state.canary),
        "stable": maybe(_write_revision, state.stable),
        "rejected": maybe(_write_revision, state.rejected),
        "publisher": maybe(_write_revision, state.publisher),
        "restoring": maybe(_write_revision, state.restoring),
        "former": [_write_revision(ref) for ref in state.former],
        "checks": maybe(_write_checks, state.checks),
        "climbed": list(state.climbed),
        "lastAttempt": state.last_attempt or None,
        "queuedAt": maybe(format_instant, state.queued_at),
        "hand": _write_hand(state.hand),
        "rules": state.rules,
        "timers": [
            {"key": key, "symbol": symbol, "clock": _write_clock(clock)}
            | (maybe(_write_streak, state.streaks.get((key, symbol))) or {})
            for (key, symbol), clock in sorted(state.timers.items())
        ],
        "held": [
            {"symbol": symbol, **_write_held(held)} for symbol, held in sorted(state.held.items())
        ],
        "kept": [
            present(symbol=symbol, revision=maybe(_write_revision, ref))
            for symbol, ref in sorted(state.kept.items())
        ],
        "tiers": [
            {"condition": key, **_write_standing(standing)}
            for key, standing in sorted(state.standings.items())
        ],
        "calls": [_write_call(call) for call in state.calls],
        "history": [_write_transition(transition) for transition in state.history],
    }


def parse(status: Mapping[str, Any]) -> RolloutState:
    """The state that a status holds; of an empty status, that of a new object.

    Raises:
        KeyError, ValueError: the status was not written by this module.
    """
    if not status.get("phase"):
        return RolloutState()
    history = tuple(_read_transition(transition) for transition in status.get("history", ()))
    stage, stage_clock = _read_stage(status)
    timers = {(timer["key"], timer["symbol"]): timer for timer in status.get("timers", ())}
    return RolloutState(
        phase=Phase(status["phase"]),
        phase_since=parse_instant(status["phaseSince"]),
        reason=status["reason"],
        # The message on show may tell what holds the rollout up; the state's own is in history.
        message=history[0].message if history else status["message"],
        observed_generation=status["observedGeneration"],
        phase_clock=maybe(_read_clock, status.get("phaseClock")),
        stage=stage,
        stage_clock=stage_clock,
        canary=maybe(_read_revision, status.get("canary")),
        stable=maybe(_read_revision, status.get("stable")),
        rejected=maybe(_read_revision, status.get("rejected")),
        publisher=maybe(_read_revision, status.get("publisher")),
        restoring=maybe(_read_revision, status.get("restoring")),
        former=tuple(_read_revision(ref) for ref in status.get("former", ())),
        checks=maybe(_read_checks, status.get("checks")),
        climbed=tuple(status.get("climbed", ())),
        last_attempt=status.get("lastAttempt", 0),
        queued_at=maybe(parse_instant, status.get("queuedAt")),
        hand=_read_hand(status.get("hand") or {}),
        rules=status.get("rules"),
        timers={key: _read_clock(timer["clock"]) for key, timer in timers.items()},
        streaks={
            key: _read_streak(timer) for key, timer in timers.items() if "evaluations" in timer
        },
        held={held["symbol"]: _read_held(held) for held in status.get("held", ())},
        kept={
            kept["symbol"]: maybe(_read_revision, kept.get("revision"))
            for kept in status.get("kept", ())
        },
        standings={tier["condition"]: _read_standing(tier) for tier in status.get("tiers", ())},
        calls=tuple(_read_call(call) for call in status.get("calls", ())),
        history=history,
    )


def last_evaluation(status: Mapping[str, Any]) -> datetime | None:
    """When the look was taken that a status is the result of."""
    return maybe(parse_instant, status.get("lastEvaluationTime"))


def present(**fields: Any) -> dict[str, Any]:
    """Those that are known: the API server's schema knows no null."""
    return {key: value for key, value in fields.items() if value is not None}


def maybe(convert: Callable[[T], R], thing: T | None) -> R | None:
    """The thing the other way; None where there is none."""
    return convert(thing) if thing else None


# --------------------------------------------------------------------------- a thing, both ways


def _write_clock(clock: Clock) -> dict[str, Any]:
    return present(
        startedAt=format_instant(clock.started_at),
        blindSeconds=clock.blind.total_seconds() or None,
        blindSince=maybe(format_instant, clock.blind_since),
    )


def _read_clock(clock: Mapping[str, Any]) -> Clock:
    return Clock(
        started_at=parse_instant(clock["startedAt"]),
        blind=timedelta(seconds=clock.get("blindSeconds", 0)),
        blind_since=maybe(parse_instant, clock.get("blindSince")),
    )


def _write_stage(state: RolloutState) -> dict[str, Any] | None:
    name = SOAK if state.phase is Phase.SOAKING else state.stage
    if name is None or state.stage_clock is None:
        return None
    return {"name": name, "clock": _write_clock(state.stage_clock)}


def _read_stage(status: Mapping[str, Any]) -> tuple[str | None, Clock | None]:
    stage = status.get("stage")
    if not stage:
        return None, None
    is_soak = Phase(status["phase"]) is Phase.SOAKING
    return None if is_soak else stage.get("name"), _read_clock(stage["clock"])


def _write_revision(ref: RevisionRef) -> dict[str, Any]:
    return {
        "name": ref.name,
        "version": ref.version,
        "fingerprint": ref.fingerprint,
        "attempt": ref.attempt,
    }


def _read_revision(ref: Mapping[str, Any]) -> RevisionRef:
    return RevisionRef(ref["name"], ref["version"], ref["fingerprint"], ref["attempt"])


def _write_checks(checks: Checks) -> dict[str, Any]:
    return present(
        good=checks.good,
        made=checks.made,
        last=maybe(format_instant, checks.last),
        clock=_write_clock(checks.clock),
    )


def _read_checks(checks: Mapping[str, Any]) -> Checks:
    return Checks(
        good=checks["good"],
        made=checks["made"],
        last=maybe(parse_instant, checks.get("last")),
        clock=_read_clock(checks["clock"]),
    )


def _write_streak(streak: Streak) -> dict[str, Any]:
    return {"evaluations": streak.evaluations, "lastEvaluation": format_instant(streak.last)}


def _read_streak(timer: Mapping[str, Any]) -> Streak:
    return Streak(timer["evaluations"], parse_instant(timer["lastEvaluation"]))


def _write_held(held: Held) -> dict[str, str]:
    return {"since": format_instant(held.since), "reason": held.reason, "message": held.message}


def _read_held(held: Mapping[str, str]) -> Held:
    return Held(parse_instant(held["since"]), held["reason"], held["message"])


def _write_standing(standing: Standing) -> dict[str, Any]:
    return present(
        tier=standing.tier.value,
        since=format_instant(standing.since),
        easingSince=maybe(format_instant, standing.easing_since),
        message=standing.message,
    )


def _read_standing(tier: Mapping[str, Any]) -> Standing:
    return Standing(
        tier=Tier(tier["tier"]),
        since=parse_instant(tier["since"]),
        easing_since=maybe(parse_instant, tier.get("easingSince")),
        message=tier["message"],
    )


def _write_call(call: Notice) -> dict[str, str]:
    return {"reason": call.reason, "since": format_instant(call.time), "message": call.message}


def _read_call(call: Mapping[str, str]) -> Notice:
    return call_of(parse_instant(call["since"]), call["reason"], call["message"])


def _write_transition(transition: Transition) -> dict[str, str]:
    return present(
        time=format_instant(transition.time),
        phase=transition.phase.value,
        reason=transition.reason,
        message=transition.message,
        version=transition.version,
        cause=transition.cause or None,
        consequence=transition.consequence or None,
    )


def _read_transition(told: Mapping[str, str]) -> Transition:
    phase, reason = Phase(told["phase"]), told["reason"]
    cause, consequence = told.get("cause", ""), told.get("consequence", "")
    if not cause:
        cause, consequence = _split_former(phase, told["message"])
    return Transition(
        time=parse_instant(told["time"]),
        phase=phase,
        reason=reason,
        message=told["message"],
        version=told["version"],
        is_warning=phase in TAKEN_BACK or reason == SYMBOLS_HELD,
        cause=cause,
        consequence=consequence,
    )


_FORMER_CONSEQUENCE = re.compile(
    "; (stable [^;]* keeps running( until its pods are ready)?"
    "|there is no stable revision yet, so nothing serves)$"
)


def _split_former(phase: Phase, message: str) -> tuple[str, str]:
    """Cause and consequence as operators wrote them before they were fields: in the message."""
    if phase is Phase.VERIFYING_ROLLBACK:
        cause, _, consequence = message.rpartition("; ")
        return cause, consequence
    begun = message.removeprefix(explain.rolling_back(""))
    if phase is not Phase.ROLLING_BACK or begun == message or " was given up by " in begun:
        return "", ""
    found = _FORMER_CONSEQUENCE.search(begun)
    return (begun[: found.start()], found[1]) if found else (begun, "")


# --------------------------------------------------------------------------- a person's hand


def _write_hand(hand: Hand) -> dict[str, Any]:
    fields = {
        "pause": maybe(_write_word, hand.pause),
        "approvals": [
            {"stage": stage, **_write_word(word)} for stage, word in sorted(hand.approvals.items())
        ],
        "skip": maybe(_write_word, hand.skip),
        "promote": maybe(_write_word, hand.promote),
        "answers": [_write_answer(answer) for answer in hand.answers],
    }
    return {name: value for name, value in fields.items() if value}


def _read_hand(hand: Mapping[str, Any]) -> Hand:
    return Hand(
        pause=maybe(_read_word, hand.get("pause")),
        approvals={one["stage"]: _read_word(one) for one in hand.get("approvals", ())},
        skip=maybe(_read_word, hand.get("skip")),
        promote=maybe(_read_word, hand.get("promote")),
        answers=tuple(_read_answer(answer) for answer in hand.get("answers", ())),
    )


def _write_word(word: Word) -> dict[str, str]:
    return {"by": word.by, "reason": word.why, "time": format_instant(word.at)}


def _read_word(word: Mapping[str, str]) -> Word:
    return Word(word["by"], word["reason"], parse_instant(word["time"]))


def _write_answer(answer: Answer) -> dict[str, str]:
    return {
        "verb": answer.verb,
        "id": answer.id,
        "about": answer.about,
        **_write_word(answer.word),
        "phase": answer.phase.value,
        "outcome": "Refused" if answer.refusal else "Done",
        "refusal": answer.refusal,
        "message": answer.message,
    }


def _read_answer(answer: Mapping[str, str]) -> Answer:
    return Answer(
        verb=answer["verb"],
        id=answer["id"],
        about=answer["about"],
        word=_read_word(answer),
        phase=Phase(answer["phase"]),
        refusal=answer["refusal"],
        message=answer["message"],
    )
