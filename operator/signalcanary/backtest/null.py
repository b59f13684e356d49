"""How often a policy takes back a canary that is fine, and how soon one that is not.

Histories are drawn (`simulation`) and passed through the very `decide`, with the policy's stages
replaced by one of 48 h, so that the rate is one for 48 h whatever the stages are. Looks at which
no comparison that a verdict rests on has changed, and no clock is due, cannot change anything
and are left out; `thorough` takes them all (tests/unit/backtest/test_null.py compares the two).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from signalcanary.api import Condition, OnDeadline, SignalCanarySpec, Stage
from signalcanary.backtest.replay import GENERATION, Rollout
from signalcanary.backtest.simulation import Market, Path, draw_path, onset_look
from signalcanary.contract import EVIDENCE_LEVELS
from signalcanary.evaluate import Bound, Measurement, MetricsSeen
from signalcanary.guards import until_due
from signalcanary.revisions import build_revision, refer_to
from signalcanary.rollout import Decision, Phase

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
CONFIDENCE: Final = 0.95
"""Of the upper limits: one-sided, exact (C. Clopper and E. Pearson, Biometrika 26, 1934)."""


@dataclass(frozen=True)
class Run:
    """How one history ended.

    Attributes:
        hours: from the decay, or the first stage's beginning, to the decision; None if there was
            none.
        cause: key of the condition that rolled it back, or another reason.
    """

    phase: Phase
    hours: float | None = None
    cause: str | None = None

    @property
    def is_rolled_back(self) -> bool:
        return self.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)


@dataclass
class Estimate:
    """What became of many histories.

    Attributes:
        hours: the time that each had.
        delays: hours to the rollback, of those that were rolled back, rising.
        by_cause: rollbacks by the condition that brought them.
    """

    runs: int
    hours: float
    delays: list[float] = field(default_factory=list)
    promoted: int = 0
    by_cause: Counter[str] = field(default_factory=Counter)

    @property
    def rolled_back(self) -> int:
        return len(self.delays)

    @property
    def rate(self) -> float:
        return self.rolled_back / self.runs

    @property
    def upper_limit(self) -> float:
        """The rate is lower than this, with `CONFIDENCE`."""
        return upper_limit(self.rolled_back, self.runs)

    def delay_hours(self, share: float) -> float:
        """So long it took for this share of all histories to be rolled back; inf if fewer were."""
        place = math.ceil(share * self.runs)
        return self.delays[place - 1] if place <= len(self.delays) else math.inf

    def take(self, run: Run) -> None:
        """Count a history."""
        self.promoted += run.phase is Phase.SUCCEEDED
        if run.is_rolled_back:
            assert run.hours is not None
            self.delays.append(run.hours)
            self.delays.sort()
            self.by_cause[run.cause or ""] += 1


def estimate(
    specs: Mapping[str, SignalCanarySpec], market: Market, runs: int, seed: int
) -> dict[str, Estimate]:
    """Pass the same simulated histories through several policies, by name.

    The policies must have the same symbols and calibration windows, and their metrics must be
    among those of the first.

    Raises:
        ValueError: no signal is as the market asks.
    """
    look = timedelta(seconds=market.look_seconds)
    policies = {n: stretched_spec(spec, market.hours, look) for n, spec in specs.items()}
    first = next(iter(policies.values()))

    def draw(rng: np.random.Generator) -> dict[str, Path]:
        return {symbol: draw_path(rng, market, first) for symbol in first.symbols.canary}

    return count(policies, draw, runs, seed, onset_look(first, market))


def count(
    policies: Mapping[str, SignalCanarySpec],
    draw: Callable[[np.random.Generator], Mapping[str, Path]],
    runs: int,
    seed: int,
    onset: int = 1,
) -> dict[str, Estimate]:
    """Draw histories, and count what becomes of them under each policy.

    Args:
        policies: as `stretched_spec` gives them.
        draw: one history, a path a symbol.
        onset: place of the look, from 1, that delays are counted from.
    """
    found = {
        name: Estimate(runs, spec.stages[0].duration / timedelta(hours=1))
        for name, spec in policies.items()
    }
    # One stream a history, so that a history does not depend on how many there are.
    for stream in np.random.SeedSequence(seed).spawn(runs):
        paths = draw(np.random.Generator(np.random.PCG64(stream)))
        for name, spec in policies.items():
            found[name].take(replay_paths(spec, paths, onset))
    return found


def stretched_spec(spec: SignalCanarySpec, hours: float, look: timedelta) -> SignalCanarySpec:
    """The policy with one stage of so many hours, looked at as often as this."""
    evaluation = spec.evaluation.model_copy(
        update={"interval": look, "stale_after": max(spec.evaluation.stale_after, look)}
    )
    stages = (Stage(name="canary", duration=timedelta(hours=hours)),)
    return spec.model_copy(update={"stages": stages, "evaluation": evaluation})


def replay_paths(
    spec: SignalCanarySpec, paths: Mapping[str, Path], onset: int = 1, *, thorough: bool = False
) -> Run:
    """Pass one history through `decide`.

    Args:
        spec: as `stretched_spec` gives it.
        onset: place of the look, from 1, that the delay is counted from.
        thorough: take every look.
    """
    target = refer_to(build_revision(spec, "-"), GENERATION)
    rollout = Rollout(spec, target)
    looks = min(path.looks for path in paths.values())
    step = spec.evaluation.interval
    changes = changing_looks(spec, paths)
    rollout.look(MetricsSeen(), START, None)
    place = 1
    while place <= looks:
        now = START + place * step
        seen = _metrics_at(spec, paths, place - 1, now, target.name)
        decision, _ = rollout.look(seen, now, now - step)
        state = decision.state
        hours = (place - onset) * step / timedelta(hours=1)
        if state.phase is Phase.SUCCEEDED:
            return Run(state.phase, hours)
        # A symbol that is held back is taken from a canary that is fine just as well.
        if state.phase is Phase.ROLLING_BACK or state.held:
            return Run(Phase.ROLLING_BACK, hours, _culprit(spec, decision) or state.reason)
        place = place + 1 if thorough else _next_look(spec, decision, place, step, changes)
    return Run(rollout.state.phase)


def _culprit(spec: SignalCanarySpec, decision: Decision) -> str | None:
    """Key of the condition that a rollback names."""
    message = decision.state.message
    return next(
        (c.key for c in spec.rollback.conditions if f": {c.describe()} on " in message), None
    )


def changing_looks(spec: SignalCanarySpec, paths: Mapping[str, Path]) -> npt.NDArray[np.int64]:
    """Places, from 1, of the looks at which any comparison that a verdict may rest on differs
    from that of the look before; rising."""
    looks = min(path.looks for path in paths.values())
    changed = np.zeros(looks, np.bool_)
    changed[0] = True
    for path in paths.values():
        for condition in spec.rollback.conditions:
            for column in _comparisons(condition, path):
                changed[1:] |= np.diff(column[:looks].astype(np.int8)) != 0
    return np.flatnonzero(changed) + 1


def _comparisons(condition: Condition, path: Path) -> list[npt.NDArray[np.bool_]]:
    """All that may be asked of a condition's values and bounds, at whatever level."""
    value, threshold = path.values[condition.metric], condition.threshold
    columns = [
        np.isnan(value),
        np.isinf(value),
        value > threshold,
        value < threshold,
        path.samples[condition.metric] >= condition.min_samples,
        *(value > limit for limit in condition.tiers.values()),
        *(value < limit for limit in condition.tiers.values()),
    ]
    bounds = path.bounds.get(condition.metric)
    if bounds is not None:
        for ends in (bounds.lower, bounds.upper, bounds.whole_lower, bounds.whole_upper):
            for of_level in ends:
                columns += [of_level > threshold, of_level < threshold, np.isfinite(of_level)]
    return columns


def _next_look(
    spec: SignalCanarySpec,
    decision: Decision,
    place: int,
    step: timedelta,
    changes: npt.NDArray[np.int64],
) -> int:
    """The next look at which something can change."""
    state = decision.state
    if state.phase is not Phase.PROGRESSING or state.stage_clock is None:
        return place + 1
    at = int(np.searchsorted(changes, place, side="right"))
    next_places = [int(changes[at])] if at < changes.size else []
    clock = state.stage_clock
    duration = spec.stages[0].duration
    due = []
    if clock.blind_since is None:
        due.append(clock.started_at + clock.blind + duration)
    if spec.evaluation.on_deadline is OnDeadline.ROLLBACK:
        due.append(clock.started_at + duration + spec.evaluation.deadline)
    debounces = {(j.condition.key, j.symbol): j.debounce for j in decision.judgements}
    streaks = state.streaks
    if any(streaks[key].evaluations < debounces[key].consecutive for key in streaks):
        return place + 1
    now = START + place * step
    for key, timer in state.timers.items():
        if key in debounces:
            due.append(now + until_due(spec, debounces[key], timer, streaks.get(key), now))
        else:
            due.append(now + spec.evaluation.no_data_after - timer.elapsed(now))
    for instant in due:
        # What is overdue waits for a condition to be Ok, which is a change.
        if instant > now:
            next_places.append(-((START - instant) // step))
    return max(place + 1, min(next_places, default=2**62))


def _metrics_at(
    spec: SignalCanarySpec, paths: Mapping[str, Path], look: int, now: datetime, revision: str
) -> MetricsSeen:
    """What the metrics source would say of a look."""
    measurements = {}
    for symbol, path in paths.items():
        for condition in spec.rollback.conditions:
            metric = condition.metric
            value = float(path.values[metric][look])
            bounds = path.bounds.get(metric)
            measurements[metric, symbol] = Measurement(
                values=() if math.isnan(value) else (value,),
                samples=int(path.samples[metric][look]),
                evaluated_at=now,
                bounds=()
                if bounds is None
                else tuple(
                    Bound(
                        level,
                        float(bounds.lower[i, look]),
                        float(bounds.upper[i, look]),
                        float(bounds.whole_lower[i, look]),
                        float(bounds.whole_upper[i, look]),
                    )
                    for i, level in enumerate(EVIDENCE_LEVELS)
                ),
            )
    beats = dict.fromkeys(paths, now)
    return MetricsSeen(measurements, beats, dict.fromkeys(paths, 1.0), revision=revision)


def upper_limit(events: int, runs: int) -> float:
    """The greatest rate at which so few events have a chance of 1 − `CONFIDENCE`."""
    if events >= runs:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        rate = (low + high) / 2.0
        low, high = (rate, high) if _at_most(events, runs, rate) > 1 - CONFIDENCE else (low, rate)
    return high


def _at_most(events: int, runs: int, rate: float) -> float:
    """Chance of so many events or fewer."""
    if rate in (0.0, 1.0):
        return 1.0 - rate
    logs = (
        math.lgamma(runs + 1)
        - math.lgamma(k + 1)
        - math.lgamma(runs - k + 1)
        + k * math.log(rate)
        + (runs - k) * math.log1p(-rate)
        for k in range(events + 1)
    )
    return min(1.0, math.fsum(math.exp(x) for x in logs))
