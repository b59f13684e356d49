"""What there is to tell: a transition, with all that a receiver may want to know. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import ConfigDict, Field

from signalcanary.contract import Model
from signalcanary.revisions import canonical_hash
from signalcanary.rollout import APPROVAL_NEEDED, Notice, Phase, RolloutState, Transition

MAX_MESSAGE_CHARS: Final = 2000
"""Of a transition's message; the whole of it is in the history of the status."""

MAX_LABELS: Final = 32

ROLLED_BACK: Final = frozenset(
    {Phase.ROLLING_BACK.value, "VerifyingRollback", Phase.ROLLED_BACK.value}
)
"""The phases in which something was taken back."""

DELETED: Final = "Deleted"
"""In place of a phase, where an alert is resolved because its object is gone."""


class Severity(StrEnum):
    """By the reports' table of incidents (seed 003): P0 within 15 min, P1 1 h, P2 4 h, P3 24 h."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class Notification(Model):
    """One transition, or a notice of something within a phase, to be told.

    Attributes:
        is_transition: else the phase is the one in which it was noticed.
        id: the same whenever and by whichever process it is told: a hash of the object's uid and
            the transition. Receivers drop duplicates by it.
        generation: of the spec, when the transition was taken in.
        stable: version that serves; None if nothing does.
    """

    # A record may have been written by a newer operator.
    model_config = ConfigDict(extra="ignore")

    id: str
    uid: str
    namespace: str
    name: str
    labels: dict[str, str] = Field(default_factory=dict)
    generation: int = 0
    time: datetime
    phase: str
    reason: str
    message: str
    version: str
    is_transition: bool = True
    stable: str | None = None
    severity: Severity = Severity.P3


def is_success(notification: Notification) -> bool:
    """Whether a rollout has come to its good end, so that an earlier rollback is over."""
    is_end = notification.phase == Phase.SUCCEEDED or notification.reason == "Promoted"
    return notification.is_transition and is_end


def is_rollback(notification: Notification) -> bool:
    """Whether something is taken back by it."""
    return notification.is_transition and notification.phase in ROLLED_BACK


def id_of(uid: str, what: Transition | Notice) -> str:
    """Names a transition. Two of one look differ in phase or message, all others in time. A notice
    is the same in whatever phase it still stands."""
    at = what.time.astimezone(UTC).isoformat(timespec="milliseconds")
    phase = what.phase.value if isinstance(what, Transition) else ""
    return canonical_hash([uid, at, phase, what.reason, what.message])[:16]


def default_severity(phase: str, reason: str, *, has_stable: bool, is_warning: bool) -> Severity:
    """How severe a transition is if the administrator does not say otherwise.

    P0: the canary is taken back and nothing serves. P1: it is taken back. P2: it was neither
    good nor bad by its deadline, or anything else to be warned of. P3: all that goes well.
    """
    if phase in ROLLED_BACK and not has_stable:
        return Severity.P0
    if reason == "DeadlineExceeded":
        return Severity.P2
    if phase in ROLLED_BACK:
        return Severity.P1
    return Severity.P2 if is_warning or reason in ("Held", "Paused") else Severity.P3


def severity_of_notice(notice: Notice) -> Severity:
    """P2 for what wants somebody's eyes, such as a condition that is critical, or a person's word;
    else P3."""
    is_mild = not notice.is_warning or notice.reason == "TierWarning"
    return Severity.P3 if is_mild and notice.reason != APPROVAL_NEEDED else Severity.P2


def build_notification(
    metadata: Mapping[str, Any], state: RolloutState, what: Transition | Notice
) -> Notification:
    """What happened to an object, by its metadata and its state now."""
    message = what.message
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[: MAX_MESSAGE_CHARS - 1] + "…"
    labels = metadata.get("labels") or {}
    about = state.canary or state.rejected or state.stable
    if isinstance(what, Transition):
        phase, version = what.phase.value, what.version
        severity = default_severity(
            phase,
            what.reason,
            has_stable=state.stable is not None,
            is_warning=what.is_warning,
        )
    else:
        phase, version = state.phase.value, about.version if about else ""
        severity = severity_of_notice(what)
    return Notification(
        id=id_of(metadata["uid"], what),
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels={str(k): str(v) for k, v in list(labels.items())[:MAX_LABELS]},
        generation=state.observed_generation,
        time=what.time,
        phase=phase,
        reason=what.reason,
        message=message,
        version=version,
        is_transition=isinstance(what, Transition),
        stable=state.stable.version if state.stable else None,
        severity=severity,
    )
