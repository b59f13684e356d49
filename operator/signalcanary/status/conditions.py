"""The conditions of status by the Kubernetes API conventions: what programs wait for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from signalcanary import calls, explain
from signalcanary.evaluate import Verdict
from signalcanary.lifecycle import awaits_approval, find_wait
from signalcanary.look import Look
from signalcanary.rollout import (
    DEADLINE_HELD,
    JUDGED,
    SYMBOLS_HELD,
    TAKEN_BACK,
    Phase,
    RolloutState,
)
from signalcanary.status import words
from signalcanary.wire import format_instant


def render_conditions(
    look: Look, state: RolloutState, previous: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """All of them, each with the time at which it last changed."""
    moving = state.phase in JUDGED | {Phase.WAITING, Phase.ROLLING_BACK}
    failure = look.seen.metrics.failure
    needed = awaits_approval(look, state)
    wait = find_wait(look, state)
    held = next((call for call in state.calls if call.reason == DEADLINE_HELD), None)
    is_done, is_rolled_back = state.phase is Phase.SUCCEEDED, state.phase is Phase.ROLLED_BACK
    # What soaks serves everywhere, but is not done.
    is_promoted = is_done or state.phase is Phase.SOAKING
    wanted = {
        "Promoted": (is_promoted, *_why(is_promoted, state)),
        "RolledBack": (is_rolled_back, *_why(is_rolled_back, state)),
        "Progressing": (moving, *_why(moving, state)),
        # The same three in the words of kstatus, which Flux and others go by (docs/gitops.md).
        "Ready": (is_done, *_why(is_done, state)),
        "Reconciling": (moving, *_why(moving, state)),
        "Stalled": (is_rolled_back, *_why(is_rolled_back, state)),
        "Degraded": _degraded(look, state),
        "Paused": (
            state.hand.pause is not None,
            "PausedByPerson" if state.hand.pause else "NotPaused",
            calls.paused(state.hand.pause) if state.hand.pause else "",
        ),
        "ApprovalNeeded": (
            needed,
            "StagePassed" if needed else "NoneNeeded",
            calls.approval_needed(state) if needed else "",
        ),
        "Overdue": (
            held is not None,
            held.reason if held else "NotOverdue",
            held.message if held else "",
        ),
        "Waiting": (
            wait is not None,
            wait.reason if wait else "NotWaiting",
            wait.message if wait else "",
        ),
        "MetricsAvailable": (
            failure is None,
            failure.reason if failure else "SourceAnswers",
            failure.message if failure else "",
        ),
    }
    before = {c["type"]: c for c in previous.get("conditions", ()) if "lastTransitionTime" in c}
    return [
        {
            "type": kind,
            "status": str(is_true),
            "reason": reason,
            "message": message,
            "lastTransitionTime": before[kind]["lastTransitionTime"]
            if kind in before and before[kind]["status"] == str(is_true)
            else format_instant(look.now),
            "observedGeneration": state.observed_generation,
        }
        for kind, (is_true, reason, message) in wanted.items()
    ]


def _degraded(look: Look, state: RolloutState) -> tuple[bool, str, str]:
    """Whether it is, the reason and the message."""
    if state.phase in TAKEN_BACK:
        return True, state.reason, words.why(state)
    if any(j.verdict is Verdict.BREACHED for j in look.judgements):
        return True, "ConditionBreached", words.describe(look, state)
    if left_out := sorted({*state.held, *state.kept}):
        return True, SYMBOLS_HELD, f"held back: {explain.names(left_out)}"
    return False, "AsExpected", ""


def _why(is_true: bool, state: RolloutState) -> tuple[str, str]:
    """Reason and message of a condition; one that is not true has only the phase to tell."""
    return (state.reason, words.why(state)) if is_true else (state.phase.value, "")
