"""Objects as an operator leaves them: made by the very `decide` and `render`, never by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from signalcanary.api import API_VERSION, KIND, SignalCanarySpec
from signalcanary.contract import Track
from signalcanary.evaluate import Bound, Measurement, MetricsSeen, SourceFailure
from signalcanary.lifecycle import decide
from signalcanary.revisions import RevisionRef, build_revision, refer_to
from signalcanary.rollout import Observations, RolloutState, TrackSeen, plan
from signalcanary.status import WorkloadSeen, parse, render

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STABLE = RevisionRef("11111111", "v1", "e" * 16, 1)
SPEC = SignalCanarySpec.model_validate(
    {
        "version": "v2",
        "symbols": {"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT", "ADAUSDT"]},
        "stages": [{"name": "shadow", "duration": "1h"}, {"name": "canary", "duration": "48h"}],
        "rollback": {
            "conditions": [
                {"metric": "platt_ece", "above": 0.1, "for": "2m"},
                {"metric": "merge_time_diff_ms_p99", "above": 2000, "for": "5m"},
            ]
        },
    }
)
DOWN = MetricsSeen(failure=SourceFailure("SourceTimeout", "no answer within 8s"))


GOOD = Bound(0.005, 0.03, 0.07, 0.035, 0.065)
BAD = Bound(0.005, 0.15, 0.30, 0.12, 0.25)


class Story:
    """A rollout, minute by minute."""

    def __init__(self, spec: SignalCanarySpec = SPEC, now: datetime = START) -> None:
        self.spec, self.now = spec, now
        self.status: dict[str, Any] = {}
        self.target = refer_to(build_revision(spec, "-"), 2)
        self.tracks: dict[tuple[Track, str], TrackSeen] = {}
        self.generation = 2

    def metrics(
        self,
        ece: float | None = 0.05,
        lag: float = 120.0,
        bound: Bound = GOOD,
        warmup: float = 1.0,
    ) -> MetricsSeen:
        at = self.now - timedelta(seconds=1)
        symbols = self.spec.symbols.canary
        values = () if ece is None else (ece,)
        measured: dict[tuple[str, str], Measurement] = {}
        for symbol in symbols:
            measured["platt_ece", symbol] = Measurement(
                values, 1800, at, () if ece is None else (bound,), effective_samples=430
            )
            measured["merge_time_diff_ms_p99", symbol] = Measurement((lag,), 5000, at)
        return MetricsSeen(
            measured,
            dict.fromkeys(symbols, at),
            dict.fromkeys(symbols, warmup),
            revision=self.target.name,
        )

    def look(self, seen: MetricsSeen | None = None, after: timedelta = MINUTE) -> dict[str, Any]:
        """Take a look; gives the object as the API server would."""
        previous, self.now = self.now, self.now + after
        state = parse(self.status) if self.status else RolloutState(stable=STABLE)
        seen = self.metrics() if seen is None else seen
        observed = Observations(self.generation, self.target, seen, dict(self.tracks), previous)
        decision = decide(self.spec, state, observed, self.now)
        workloads = [
            WorkloadSeen(
                f"demo-{p.track}-{p.revision.name}-{c}", p.track, c, p.revision.name, 1, 1, 0
            )
            for p in plan(decision.state)
            for c in ("analysis", "harvest")
        ]
        self.status = json.loads(
            json.dumps(render(self.spec, decision, observed, workloads, self.status, self.now))
        )
        self.tracks = {
            (p.track, p.revision.name): TrackSeen(pods=1, is_ready=True)
            for p in plan(decision.state)
        }
        return self.item()

    def looks(self, count: int, **metrics: Any) -> dict[str, Any]:
        for _ in range(count):
            self.now += MINUTE
            seen = self.metrics(**metrics)
            self.now -= MINUTE
            self.look(seen)
        return self.item()

    def item(self, **metadata: Any) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": "demo",
                "namespace": "trading",
                "uid": "u-1",
                "generation": self.generation,
                "creationTimestamp": START.strftime("%Y-%m-%dT%H:%M:%SZ"),
                **metadata,
            },
            "spec": self.spec.to_wire(),
            "status": self.status,
        }


def progressing() -> Story:
    """In its first stage, twenty minutes into it."""
    story = Story()
    story.look(MetricsSeen())
    story.looks(20)
    assert story.status["phase"] == "Progressing"
    return story


def rolled_back() -> Story:
    """Taken back on a breach."""
    story = progressing()
    story.looks(4, ece=0.2, bound=BAD)
    story.tracks = {}
    story.look(MetricsSeen())
    assert story.status["phase"] == "RolledBack"
    return story
