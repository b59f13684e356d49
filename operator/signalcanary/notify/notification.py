"""What there is to tell: a transition, with all that a receiver may want to know. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import ConfigDict, Field

from signalcanary.contract import Model
from signalcanary.revisions import canonical_hash
from signalcanary.rollout import Phase, RolloutState, Transition

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
    """One transition, to be told.

    Attributes:
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
    stable: str | None = None
    severity: Severity = Severity.P3


def is_success(notification: Notification) -> bool:
    """Whether a rollout has come to its good end, so that an earlier rollback is over."""
    return notification.phase == Phase.SUCCEEDED or notification.reason == "Promoted"


def id_of(uid: str, transition: Transition) -> str:
    """Names a transition. Two of one look differ in phase or message, all others in time."""
    at = transition.time.astimezone(UTC).isoformat(timespec="milliseconds")
    said = [uid, at, transition.phase.value, transition.reason, transition.message]
    return canonical_hash(said)[:16]


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


def build_notification(
    metadata: Mapping[str, Any], state: RolloutState, transition: Transition
) -> Notification:
    """A transition of an object, by its metadata and its state now."""
    message = transition.message
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[: MAX_MESSAGE_CHARS - 1] + "…"
    labels = metadata.get("labels") or {}
    return Notification(
        id=id_of(metadata["uid"], transition),
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels={str(k): str(v) for k, v in list(labels.items())[:MAX_LABELS]},
        generation=state.observed_generation,
        time=transition.time,
        phase=transition.phase.value,
        reason=transition.reason,
        message=message,
        version=transition.version,
        stable=state.stable.version if state.stable else None,
        severity=default_severity(
            transition.phase.value,
            transition.reason,
            has_stable=state.stable is not None,
            is_warning=transition.is_warning,
        ),
    )
