"""Whole rollouts on a simulated clock: a world in, a story out.

Every look passes the state through ``parse(render(…))``, which is a restart of the operator.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from signalcanary.aftermath import look_up_ladder
from signalcanary.api import SignalCanarySpec
from signalcanary.artifacts import Refusal, Verification
from signalcanary.commands import read_annotations
from signalcanary.contract import Component, Track
from signalcanary.evaluate import Bound, Measurement, MetricsSeen, SourceFailure
from signalcanary.lifecycle import decide
from signalcanary.revisions import Revision, build_revision, refer_to
from signalcanary.rollout import (
    NOTHING,
    Answer,
    Decision,
    Observations,
    Phase,
    RolloutState,
    TrackPlan,
    TrackSeen,
    judged_revision,
    judged_spec,
    plan,
)
from signalcanary.status import last_evaluation, parse, render

# Modules that tests of this folder share.
sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("sim", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("sim")

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
HEALTHY = {
    "platt_ece": 0.05,
    "merge_time_diff_ms_p99": 400.0,
    "slice_auc_active_period": 0.61,
    "cvd_z_tail_p2": 4.0,
}
SEED_CONDITIONS = [
    {"metric": "platt_ece", "above": 0.1, "for": "2m"},
    {"metric": "merge_time_diff_ms_p99", "above": 2000, "for": "5m"},
    {"metric": "slice_auc_active_period", "below": 0.55, "for": "10m"},
]
QUICK = {"name": "quick", "duration": "0s"}


def spec_of(**changes: Any) -> SignalCanarySpec:
    """A spec of one symbol, two short stages and the three conditions of the seed."""
    wire: dict[str, Any] = {
        "version": "v1",
        "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
        "stages": [
            {"name": "shadow", "duration": "10m"},
            {"name": "canary", "duration": "30m"},
        ],
        "rollback": {"conditions": SEED_CONDITIONS},
    }
    return SignalCanarySpec.model_validate(wire | changes)


def surely(value: float | None) -> tuple[Bound, ...]:
    """The evidence of a value after very many rows."""
    return () if value is None else (Bound(0.0005, value, value, value, value),)


def _file_of(planned: TrackPlan) -> Any:
    """What pods are started with; with another they are others."""
    return planned.revision, planned.only, planned.without


@dataclass
class World:
    """What is out there. Everything may be changed between two looks.

    Attributes:
        source_answers: whether the metrics source can be read.
        silent: symbols whose analysis exports nothing new since the time given.
        stable_silent: the same of the stable track.
        values: by metric, for all symbols; a missing metric has evidence but no value.
        of_symbol: values that differ for one symbol.
        bounds: by metric, the evidence beside the value, for all symbols; where there is none
            the value is as good as certain.
        pods_start: whether the workloads that are wanted become ready.
        pods_stop: whether the workloads that are not wanted go.
        refusals: what is found wrong with artifacts, where pods that look at them start.
        of_version: values that differ for one version, whichever revision of it is judged.
        of_revision: values that differ for one revision, by its name.
        differences: canary − stable, by metric, where stable serves.
    """

    source_answers: bool = True
    silent: dict[str, datetime] = field(default_factory=dict)
    stable_silent: dict[str, datetime] = field(default_factory=dict)
    values: dict[str, float | None] = field(default_factory=lambda: dict(HEALTHY))
    of_symbol: dict[tuple[str, str], float] = field(default_factory=dict)
    bounds: dict[str, tuple[Bound, ...]] = field(default_factory=dict)
    pods_start: bool = True
    pods_stop: bool = True
    refusals: tuple[Refusal, ...] = ()
    of_version: dict[str, dict[str, float | None]] = field(default_factory=dict)
    of_revision: dict[str, dict[str, float | None]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    samples: int = 5000
    tracks: dict[tuple[Track, str], TrackSeen] = field(default_factory=dict)
    running: dict[tuple[Track, str], TrackPlan] = field(default_factory=dict)

    def metrics(self, spec: SignalCanarySpec, state: RolloutState, now: datetime) -> MetricsSeen:
        if not self.source_answers:
            return MetricsSeen(failure=SourceFailure("SourceTimeout", "no answer within 8 s"))
        judged = judged_revision(state)
        if judged is None:
            return MetricsSeen()
        track, revision = judged
        if not self.tracks.get((track, revision.name), NOTHING).is_ready:
            return MetricsSeen()
        spec = judged_spec(spec, state)
        values = self.values | self.of_version.get(revision.version, {})
        values |= self.of_revision.get(revision.name, {})
        serves = any(side is Track.STABLE and t.is_ready for (side, _), t in self.tracks.items())
        has_control = serves and track is Track.CANARY
        measurements, differences, beats = {}, {}, {}
        for symbol in spec.symbols.canary:
            at = self.silent.get(symbol, now)
            beats[symbol] = at
            for condition in spec.rollback.conditions:
                metric = condition.metric
                value = self.of_symbol.get((metric, symbol), values.get(metric))
                measurements[metric, symbol] = Measurement(
                    values=() if value is None else (value,),
                    samples=self.samples,
                    evaluated_at=at,
                    bounds=self.bounds.get(metric, surely(value)),
                )
                if has_control and (apart := self.differences.get(metric)) is not None:
                    differences[metric, symbol] = Measurement(
                        (apart,), self.samples, at, bounds=surely(apart)
                    )
        warmup = dict.fromkeys(spec.symbols.canary, 1.0)
        control = {s: self.stable_silent.get(s, now) for s in beats} if has_control else {}
        return MetricsSeen(
            measurements,
            beats,
            warmup,
            control,
            differences=differences,
            revision=revision.name,
            track=track,
        )


class Sim:
    """Drives `decide` look by look; the world is the caller's to change."""

    def __init__(self, spec: SignalCanarySpec) -> None:
        self.spec = spec
        self.generation = 1
        self.name = self.namespace = ""
        self.world = World()
        self.now = START
        # To be replaced, not changed in place: what was parsed of it is kept.
        self.status: dict[str, Any] = {}
        self._parsed = self.status, parse(self.status)
        self.story: list[tuple[timedelta, str, str]] = []
        self.last: Decision | None = None
        self.seen: Observations | None = None
        self.full_sets: dict[str, frozenset[str]] = {}
        self.annotations: dict[str, str] = {}
        self.records: dict[str, Revision] = {}

    @property
    def state(self) -> RolloutState:
        if self._parsed[0] is not self.status:
            self._parsed = self.status, parse(self.status)
        return self._parsed[1]

    @property
    def phase(self) -> Phase:
        return self.state.phase

    @property
    def age(self) -> timedelta:
        return self.now - START

    @property
    def reasons(self) -> list[str]:
        return [reason for _, _, reason in self.story]

    def edit(self, **changes: Any) -> None:
        """What `kubectl apply` does: a new spec, a new generation."""
        self.spec = SignalCanarySpec.model_validate(self.spec.to_wire() | changes)
        self.generation += 1

    def ask(self, verb: str, about: str = "", why: str = "", **wire: str) -> Answer:
        """What `kubectl signalcanary` writes, a look, and what the operator answers; of what the
        command is about at present, unless it is said."""
        subject = about or self.status["subject"]
        value = {"about": subject, "by": "alice", "reason": why, "id": f"{verb}-{self.now}", **wire}
        self.annotations[f"signalcanary.dev/{verb}"] = json.dumps(value)
        self.look()
        return self.state.hand.answers[0]

    def observe(self) -> Observations:
        revision = build_revision(self.spec, "img:1")
        target = refer_to(revision, self.generation)
        state = self.state
        self.full_sets[target.name] = frozenset(revision.symbols)
        self.records.setdefault(target.name, revision)
        return Observations(
            generation=self.generation,
            target=target,
            metrics=self.world.metrics(self.spec, state, self.now),
            tracks=dict(self.world.tracks),
            previous_look=last_evaluation(self.status),
            stable_symbols=self.full_sets.get(self.state.stable.name)
            if self.state.stable
            else None,
            planned=plan(self.state),
            asked=read_annotations(self.annotations),
            recorded=frozenset(self.records),
            ladder=look_up_ladder(self.spec, state, self.records, self.generation),
            name=self.name,
            namespace=self.namespace,
        )

    def look(self) -> Decision:
        """One look, with a restart before and after it; then the workloads follow the plan."""
        before = self.state
        self.seen = self.observe()
        decision = decide(self.spec, before, self.seen, self.now)
        self.status = render(self.spec, decision, self.seen, (), self.status, self.now)
        assert self.state == decision.state, "a restart would change the rollout"
        self.story += [(self.age, t.phase.value, t.reason) for t in decision.transitions]
        self.last = decision
        self._move_workloads()
        return decision

    def _move_workloads(self) -> None:
        tracks, running = self.world.tracks, self.world.running
        wanted = {(p.track, p.revision.name): p for p in plan(self.state)}
        assert len(wanted) == len(plan(self.state)), "two plans for one StatefulSet"
        for key, planned in wanted.items():
            is_same = key not in running or _file_of(running[key]) == _file_of(planned)
            if not is_same and not self.world.pods_stop:
                tracks[key] = TrackSeen(pods=2, strays=2)
                continue
            was_ready = is_same and tracks.get(key, NOTHING).is_ready
            is_ready = self.world.pods_start or was_ready
            problem = None if is_ready else "pod x-0 is waiting: ImagePullBackOff"
            verification = None
            if planned.components == (Component.VERIFY,) and is_ready:
                revision = planned.revision
                verification = Verification(
                    revision=revision.name,
                    attempt=revision.attempt,
                    files=3,
                    total_bytes=26_000_000,
                    refusals=self.world.refusals,
                )
            tracks[key] = TrackSeen(2, is_ready, problem, verification)
            running[key] = planned
        if self.world.pods_stop:
            for key in tracks.keys() - wanted.keys():
                del tracks[key], running[key]

    def run(self, duration: timedelta, step: timedelta | None = None) -> None:
        """Look at the pace of the spec for some time."""
        end = self.now + duration
        while self.now < end:
            self.now += step or self.spec.evaluation.interval
            self.look()

    def run_until(
        self,
        phase: Phase,
        within: timedelta = timedelta(hours=72),
        step: timedelta | None = None,
    ) -> timedelta:
        """Look until a phase is reached, at the pace of the spec; how long that took."""
        start = self.now
        while self.phase is not phase:
            assert self.now - start <= within, f"{self.phase} after {within}, not {phase}"
            self.now += step or self.spec.evaluation.interval
            self.look()
        return self.now - start

    def idle(self, duration: timedelta) -> None:
        """Nobody looks for some time."""
        self.now += duration


@pytest.fixture(scope="session")
def start() -> Callable[..., Sim]:
    """A new SignalCanary; its spec with the changes given."""

    def build(**changes: Any) -> Sim:
        return Sim(spec_of(**changes))

    return build


@pytest.fixture(scope="session")
def progressing(start: Callable[..., Sim]) -> Callable[..., Sim]:
    """A canary in its first stage; `stable=True`: beside a promoted v0."""

    def build(stable: bool = True, **changes: Any) -> Sim:
        sim = start(**changes)
        if stable:
            wanted, sim.spec = sim.spec, spec_of(version="v0", stages=[QUICK])
            sim.run_until(Phase.SUCCEEDED)
            sim.edit(**wanted.to_wire())
        sim.run_until(Phase.PROGRESSING)
        sim.story.clear()
        return sim

    return build
