"""Tiers and streaks: what is remembered of values short of a rollback, and of breaches that count.

A condition may have thresholds short of its bound (`Condition.tiers`). Beyond `warning` people are
told, beyond `critical` the rollout is held up as well; both go by the value at each look. What is
kept here is for telling alone: where each condition stands, over all canary symbols, so that it
is said once when a tier is entered and once when it is left, whatever restarts in between. It
must never decide anything. A streak is how many evaluations in a row have shown a breach. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from signalcanary.api import Tier
from signalcanary.contract import format_duration
from signalcanary.evaluate import Judgement

KEEP: Final = timedelta(minutes=5)
"""A tier is left when every symbol has been below it for this long, as Prometheus' alerts keep
firing for a while: a value that sways about a threshold makes one Event, not one a look."""


@dataclass(frozen=True)
class Streak:
    """Evaluations in a row that showed a breach.

    Attributes:
        evaluations: so many, up to what the condition asks for; none is counted beyond.
        last: when the newest of them was computed, by the workload's clock.
    """

    evaluations: int
    last: datetime

    def set_back(self, by: timedelta) -> Streak:
        """The same streak where the wall clock has been set back."""
        return replace(self, last=self.last - by)


def count(streak: Streak | None, judgement: Judgement, interval: timedelta) -> Streak:
    """The streak after one more look at a breach; a sample read before counts no second time.

    Nor does one that came sooner than half an interval after the last: whatever changes in the
    cluster brings a look at once, and three within a second are not three checks of a minute.
    """
    at = judgement.evaluated_at
    assert at is not None  # else it would not be breached
    if streak is None:
        return Streak(1, at)
    is_new = at - streak.last >= interval / 2
    if not is_new or streak.evaluations >= judgement.debounce.consecutive:
        return streak
    return Streak(streak.evaluations + 1, at)


@dataclass(frozen=True)
class Standing:
    """Where a condition stands: the worst tier over the canary's symbols.

    Attributes:
        since: when the tier was entered.
        message: what was seen then, and what comes of it.
        easing_since: since when every symbol has been below it; None while one is in it.
    """

    tier: Tier
    since: datetime
    message: str
    easing_since: datetime | None = None


def follow(
    standings: Mapping[str, Standing], judgements: Sequence[Judgement], now: datetime
) -> Mapping[str, Standing]:
    """Where the conditions with tiers stand after a look, by the condition's key.

    A worse tier is entered at once, on one symbol. What could not be judged on every symbol is
    not said to be better.
    """
    by_condition: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        if judgement.condition.tiers:
            by_condition.setdefault(judgement.condition.key, []).append(judgement)
    after = {
        key: standing
        for key, of_condition in by_condition.items()
        if (standing := _follow(standings.get(key), of_condition, now)) is not None
    }
    return after if judgements else standings


def _follow(
    before: Standing | None, judgements: Sequence[Judgement], now: datetime
) -> Standing | None:
    judged = [j for j in judgements if j.verdict.is_judged]
    if not judged:
        return before
    worst = max(judged, key=lambda j: j.tier.level)
    stood = before.tier if before else Tier.NORMAL
    if worst.tier.level > stood.level:
        return Standing(worst.tier, now, _entered(worst))
    if before is None:
        return None
    if worst.tier is stood:
        return replace(before, easing_since=None)
    if len(judged) < len(judgements):
        return before
    easing_since = before.easing_since or now
    # A clock that was set back must not keep it for ever.
    if abs(now - easing_since) < KEEP:
        return replace(before, easing_since=easing_since)
    return Standing(worst.tier, now, _left(worst, stood))


def _entered(judgement: Judgement) -> str:
    message, debounce = judgement.message, judgement.debounce
    match judgement.tier:
        case Tier.WARNING:
            return f"{message}: nothing is held up by it"
        case Tier.CRITICAL:
            return f"{message}: no stage is passed and nothing promoted meanwhile"
        case _:
            return f"{message}: rolls back if {judgement.condition.describe(debounce)}"


def _left(worst: Judgement, tier: Tier) -> str:
    condition = worst.condition
    return (
        f"{condition.subject} has not been {condition.limit(tier)} ({tier.value.lower()}) on any "
        f"canary symbol for {format_duration(KEEP)}; now {worst.message}"
    )
