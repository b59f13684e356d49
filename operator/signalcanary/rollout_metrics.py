"""What each rollout shows on /metrics: its phase and stage, and every condition on every symbol.

For alerts and dashboards: what status says for people, with a history. Only the replica that
decides shows any, so a series is there once. The label of a SignalCanary's namespace is
`object_namespace`, as `namespace` is, with most scrapers, that of the operator's own pod.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import Track
from signalcanary.evaluate import Judgement
from signalcanary.moves import stage_index
from signalcanary.rollout import RolloutState

ROLLOUT = ("object_namespace", "signalcanary")
CONDITION = (*ROLLOUT, "symbol", "metric", "condition")


@dataclass(frozen=True)
class Look:
    """One look at a rollout, and what came of it.

    Attributes:
        whose: the object's namespace and name.
        status: as it is written, for its conditions.
    """

    whose: tuple[str, str]
    spec: SignalCanarySpec
    state: RolloutState
    judgements: Sequence[Judgement]
    status: Mapping[str, Any]
    now: datetime


@dataclass(frozen=True)
class _Shown:
    """One rollout at its last look. Rows are labels and a value."""

    phase: tuple[str, ...]
    stage: tuple[str, int] | None
    true: tuple[str, ...]
    revisions: tuple[tuple[str, str, str], ...]
    conditions: tuple[tuple[tuple[str, str, str], Judgement, float], ...]
    held: tuple[str, ...]


class RolloutMetrics(Collector):
    """Renders the last look at each rollout on each scrape, in whatever thread that is."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[tuple[str, str], _Shown]] = {}

    def show(self, uid: str, look: Look) -> None:
        """Show one look in the place of the last."""
        state, judgements = look.state, look.judgements
        about = state.canary or state.rejected or state.stable
        index = stage_index(look.spec, state)
        named = ((Track.CANARY, state.canary), (Track.STABLE, state.stable))

        def breached_for(judgement: Judgement) -> float:
            timer = state.timers.get((judgement.condition.key, judgement.symbol))
            return timer.elapsed(look.now).total_seconds() if timer else 0.0

        shown = _Shown(
            phase=(state.phase.value, state.reason, about.version if about else ""),
            stage=(look.spec.stages[index].name, index + 1) if index is not None else None,
            true=tuple(c["type"] for c in look.status["conditions"] if c["status"] == "True"),
            revisions=tuple((t.value, r.name, r.version) for t, r in named if r is not None),
            conditions=tuple(
                ((j.symbol, j.condition.metric, j.condition.key), j, breached_for(j))
                for j in judgements
            ),
            held=tuple(sorted({*state.held, *state.kept})),
        )
        self._shown[uid] = (look.whose, shown)

    def forget(self, uid: str) -> None:
        self._shown.pop(uid, None)

    def collect(self) -> Iterable[Metric]:
        def gauge(name: str, text: str, labels: Sequence[str]) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"signalcanary_{name}", text, labels=labels)

        phase = gauge(
            "rollout_phase",
            "1 for the phase that a rollout is in; of which version, and why.",
            (*ROLLOUT, "phase", "reason", "version"),
        )
        stage = gauge(
            "rollout_stage", "Place of the stage that is observed, from 1.", (*ROLLOUT, "stage")
        )
        condition = gauge(
            "rollout_condition",
            "1 for each condition of the status that is True, for example Degraded.",
            (*ROLLOUT, "type"),
        )
        revision = gauge(
            "rollout_revision_info",
            "1; the revision of each track.",
            (*ROLLOUT, "track", "revision", "version"),
        )
        verdict = gauge(
            "condition_verdict",
            "1 for the verdict of a rollback condition on a symbol, while a canary is judged.",
            (*CONDITION, "verdict"),
        )
        value = gauge(
            "condition_value", "The value that was judged. Unit: the metric's own.", CONDITION
        )
        threshold = gauge("condition_threshold", "The bound. Unit: the metric's own.", CONDITION)
        bound = gauge(
            "condition_bound",
            "What the value surely is, by the rows of late. Unit: the metric's own.",
            (*CONDITION, "side"),
        )
        breach = gauge(
            "condition_breach_seconds",
            "How long the breach has held, without the time in which nothing was seen.",
            CONDITION,
        )
        tier = gauge(
            "condition_tier",
            "How far beyond the thresholds of a condition with warning or critical the value is: 0 "
            "normal, 1 warning, 2 critical, 3 rollback.",
            CONDITION,
        )
        held = gauge(
            "symbol_held",
            "1 for a symbol that the canary, or the stable revision, is held back on.",
            (*ROLLOUT, "symbol"),
        )
        for whose, shown in list(self._shown.values()):
            phase.add_metric((*whose, *shown.phase), 1)
            if shown.stage is not None:
                stage.add_metric((*whose, shown.stage[0]), shown.stage[1])
            for symbol in shown.held:
                held.add_metric((*whose, symbol), 1)
            for kind in shown.true:
                condition.add_metric((*whose, kind), 1)
            for of_track in shown.revisions:
                revision.add_metric((*whose, *of_track), 1)
            for key, judgement, breached_for in shown.conditions:
                labels = (*whose, *key)
                verdict.add_metric((*labels, judgement.verdict.value), 1)
                threshold.add_metric(labels, judgement.condition.threshold)
                breach.add_metric(labels, breached_for)
                if judgement.condition.tiers and judgement.verdict.is_judged:
                    tier.add_metric(labels, judgement.tier.level)
                if judgement.value is not None:
                    value.add_metric(labels, judgement.value)
                if judgement.bound is not None:
                    ends = (("lower", judgement.bound.lower), ("upper", judgement.bound.upper))
                    for side, end in ends:
                        if math.isfinite(end):
                            bound.add_metric((*labels, side), end)
        of_rollout = [phase, stage, condition, revision, held]
        return [*of_rollout, verdict, value, threshold, bound, breach, tier]
