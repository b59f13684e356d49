"""How a SignalCanary stands, in one word and as an exit code for scripts. Pure.

The words are Argo CD's for any resource, but for `Held`: a rollout that does not go on until
somebody, or something, does what it waits for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from signalcanary.api import SignalCanarySpec
from signalcanary.moves import stage_index
from signalcanary.rollout import JUDGED, TAKEN_BACK, Phase, RolloutState
from signalcanary.status import last_evaluation, parse


class Health(StrEnum):
    """Ordered by how much it matters when several are shown as one: the last is the worst."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    HELD = "Held"
    DEGRADED = "Degraded"


EXIT_CODES: Final = {
    Health.HEALTHY: 0,
    Health.PROGRESSING: 0,
    Health.HELD: 4,
    Health.DEGRADED: 3,
}

SILENT_AFTER: Final = timedelta(minutes=5)
"""While a canary is guarded the operator writes live values every 30 s; it is not worth an alarm
when that is late."""


@dataclass(frozen=True)
class Standing:
    """How an object stands, and why it is not healthy; the reason is empty where status says it."""

    health: Health
    why: str = ""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.health]


NO_OPERATOR: Final = (
    "no operator has looked at it yet: see that one runs, and that it watches this namespace "
    "(kubectl get deployments -A -l app.kubernetes.io/name=signalcanary-operator)"
)


def stand(item: Mapping[str, Any], now: datetime) -> Standing:
    """How an object stands.

    Raises:
        KeyError, ValueError, TypeError: its status was written by no operator of this version.
    """
    status = item.get("status") or {}
    if not status.get("phase"):
        return Standing(Health.HELD, NO_OPERATOR)
    state = parse(status)
    problem = _unseen(item, state) or _unwatched(status, state, now)
    conditions = {c["type"]: c for c in status.get("conditions", ())}

    def holds(kind: str) -> bool:
        return bool(conditions.get(kind, {}).get("status") == "True")

    if holds("Degraded") or state.phase in TAKEN_BACK:
        return Standing(Health.DEGRADED, problem)
    if problem:
        return Standing(Health.HELD, problem)
    if state.phase not in JUDGED | {Phase.WAITING}:
        return Standing(Health.HEALTHY)
    is_blind = conditions.get("MetricsAvailable", {}).get("status") == "False"
    asks = any(holds(kind) for kind in ("Paused", "ApprovalNeeded", "Overdue", "Waiting"))
    if is_blind or asks or _stands_still(item, state, now):
        return Standing(Health.HELD)
    return Standing(Health.PROGRESSING)


def explain_unreadable(item: Mapping[str, Any], error: Exception) -> str:
    """What is to be done about a status that cannot be read."""
    return (
        f"the status of {item['metadata']['name']} was written by another version of the operator "
        f"({type(error).__name__}: {error}): take this command of the operator's own version"
    )


def worst(standings: list[Standing]) -> Standing:
    """The one that stands for several; of none, that nothing is wrong."""
    order = list(Health)
    none = Standing(Health.HEALTHY)
    return max(standings, key=lambda s: order.index(s.health), default=none)


def _unseen(item: Mapping[str, Any], state: RolloutState) -> str:
    """Whether the spec is newer than what status is about."""
    generation = item["metadata"].get("generation", 0)
    # A rollback is carried out to its end before another spec is taken up.
    if generation <= state.observed_generation or state.phase is Phase.ROLLING_BACK:
        return ""
    return (
        f"the spec has changed (generation {generation}) since the operator last looked "
        f"(generation {state.observed_generation})"
    )


def _unwatched(status: Mapping[str, Any], state: RolloutState, now: datetime) -> str:
    """Whether the operator should have written something, and has not."""
    last = last_evaluation(status)
    if last is None or state.phase not in JUDGED or now - last <= SILENT_AFTER:
        return ""
    return (
        f"the operator last wrote at {last:%Y-%m-%d %H:%M:%S} UTC, though it does every 30 s while "
        "a canary runs: nobody guards the canary; see the operator's logs"
    )


def _stands_still(item: Mapping[str, Any], state: RolloutState, now: datetime) -> bool:
    """Whether the stage's clock stands still, or is over and nothing follows."""
    clock = state.stage_clock
    if clock is None:
        return False
    if clock.blind_since is not None:
        return True
    spec = SignalCanarySpec.model_validate(item["spec"])
    index = stage_index(spec, state)
    if state.phase is not Phase.PROGRESSING or index is None:
        return False
    # Where it may pass, it does so at the next look.
    grace = 3 * spec.evaluation.interval + timedelta(seconds=30)
    return clock.elapsed(now) >= spec.stages[index].duration + grace
