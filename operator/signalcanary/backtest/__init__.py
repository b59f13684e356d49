"""A policy replayed on recorded data: what would it have decided, when, and why?

    recording   what a metrics source said, instant by instant      pure
    replay      the looks, through the very `decide`                pure
    tables      data frames, Parquet and CSV → recording
    export      answers to Prometheus' range queries → recording
    fetch       a Prometheus server → such answers                  the network
    report      a replay in words and as JSON                       pure
    picture     a replay as a picture
    simulation  a signal whose skill is known, as analysis sees it
    synthetic   that as a table                                 pure
    bootstrap   new histories from a recorded one
    null        how often, and how soon, a policy takes them back   pure
    error_report    that in words and as JSON                       pure
    notebook    a replay and error rates that a notebook shows
    command     `signalcanary backtest`

From Python, see docs/python.md::

    from signalcanary import backtest
    story = backtest.run(spec, frame)
    story.outcome, story.decided, story.figure()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest.notebook import Backtest, ErrorRates
from signalcanary.backtest.recording import (
    Recorded,
    Recording,
    RecordingError,
    find_canary,
    instants,
)
from signalcanary.backtest.replay import GENERATION, Outcome, Replay, debounce_of, replay
from signalcanary.backtest.tables import build_recording, read_frame
from signalcanary.contract import EVIDENCE_BOUND, format_duration
from signalcanary.evaluate import MetricsSeen
from signalcanary.manifest import SignalCanary
from signalcanary.metrics_source import Target, build_target
from signalcanary.revisions import RevisionRef, build_revision, refer_to

if TYPE_CHECKING:
    from signalcanary.backtest.simulation import Decay, Market

__all__ = [
    "Backtest",
    "ErrorRates",
    "Outcome",
    "RecordingError",
    "Replay",
    "error_rates",
    "recorded_looks",
    "replay_recording",
    "run",
    "simulate",
    "target_of",
]


Policy = SignalCanary | SignalCanarySpec | Mapping[str, Any]
"""A SignalCanary, its spec, or either as it stands in a manifest."""


def run(policy: Policy, frame: Any) -> Backtest:
    """Replay a policy on a data frame.

    Args:
        frame: polars, pandas, pyarrow or a mapping of columns; see `tables` for the columns.

    Raises:
        RecordingError: the frame cannot be used; the message says why.
        pydantic.ValidationError: the spec is not one.
    """
    spec = spec_of(policy)
    target = target_of(spec, "default", "backtest")
    recording = build_recording(read_frame(frame), target)
    return Backtest.of(replay_recording(spec, recording, target))


def error_rates(
    policies: Mapping[str, Policy],
    market: Market | None = None,
    decays: Sequence[Decay] = (),
    runs: int = 100,
    seed: int = 1,
) -> ErrorRates:
    """Pass simulated histories through several policies, the same through each.

    Args:
        policies: by a name of your choice, with the same symbols and calibration windows; their
            metrics must be among those of the first.
        market: the healthy signal; None for an AUC of 0.58 over 48 h.
        decays: what else is simulated: the same signal, going bad.
        runs: histories of each world. About 0.15 s of CPU each, for 48 h and a policy.

    Raises:
        ValueError: no signal is as the market asks.
        pydantic.ValidationError: a spec is not one.
    """
    from signalcanary.backtest.null import estimate
    from signalcanary.backtest.simulation import Market

    specs = {name: spec_of(policy) for name, policy in policies.items()}
    market = market or Market()
    return ErrorRates(
        healthy=estimate(specs, market, runs, seed),
        decays={d.name: estimate(specs, replace(market, decay=d), runs, seed) for d in decays},
    )


def simulate(policy: Policy, market: Market | None = None, seed: int = 1) -> dict[str, list[Any]]:
    """What a signal of known skill would have shown of the metrics that a policy asks for.

    Args:
        market: the signal, good or with a decay; None for an AUC of 0.58 over 48 h.

    Returns:
        columns as in `tables`, for `run` or a data frame; a row a look of the market's, a minute
        by default: set `evaluation.interval` to as much.

    Raises:
        ValueError: no signal is as the market asks.
        pydantic.ValidationError: the spec is not one.
    """
    from signalcanary.backtest.simulation import Market
    from signalcanary.backtest.synthetic import draw_table

    return draw_table(spec_of(policy), market or Market(), seed)


def spec_of(policy: Policy) -> SignalCanarySpec:
    """The spec of whatever a policy is given as.

    Raises:
        pydantic.ValidationError: it is not one.
    """
    if isinstance(policy, SignalCanary):
        return policy.spec
    if isinstance(policy, SignalCanarySpec):
        return policy
    return SignalCanarySpec.model_validate(policy.get("spec", policy))


def target_of(spec: SignalCanarySpec, namespace: str, name: str) -> Target:
    """What a metrics source is asked for this canary.

    Raises:
        RecordingError: a condition asks a query of its own.
    """
    own = [c.metric for c in spec.rollback.conditions if c.query is not None]
    if own:
        raise RecordingError(
            f"{', '.join(own)}: what a query would have said is not recorded: take the condition "
            "out to replay the others"
        )
    return build_target(spec, namespace, name, _refer(spec).name)


@dataclass(frozen=True)
class Looks:
    """What an operator would have seen of a recorded canary, look by look."""

    recorded: Recorded
    interval: timedelta
    seen: Iterator[tuple[datetime, MetricsSeen]]


def recorded_looks(
    spec: SignalCanarySpec, recording: Recording, target: Target, revision: str | None = None
) -> Looks:
    """The looks at a recording, from the first to the last that is known of the canary.

    Args:
        target: the canary as the manifest names it.
        revision: which recorded revision to judge; None for the manifest's, or the only one.

    Raises:
        RecordingError: the recording does not hold it, or too coarsely.
    """
    recorded = find_canary(recording, target, revision)
    own = recording.of(recorded.target)
    interval = spec.evaluation.interval
    if own.step is not None and own.step > interval:
        longest = max(spec.evaluation.stale_after, 3 * interval)
        if own.step > longest:
            raise RecordingError(
                f"a sample every {format_duration(own.step)} is too few: with this manifest's "
                f"evaluation more than {format_duration(longest)} between two looks is not "
                f"observed time; record with a step of {format_duration(interval)}, or raise "
                "evaluation.interval"
            )
        interval = own.step
    seen = (
        (at, own.metrics_of(recorded.target, at))
        for at in instants(recorded.first, recorded.last, interval)
    )
    return Looks(recorded, interval, seen)


def replay_recording(
    spec: SignalCanarySpec, recording: Recording, target: Target, revision: str | None = None
) -> Replay:
    """Replay a policy on a recording; arguments and errors are those of `recorded_looks`."""
    looks = recorded_looks(spec, recording, target, revision)
    recorded, interval = looks.recorded, looks.interval
    target_ref = replace(_refer(spec), name=recorded.target.revision)
    story = replay(spec, target_ref, looks.seen, _stable(recorded))
    if interval != spec.evaluation.interval:
        story.notes.append(
            f"looked every {format_duration(interval)}, as often as there are samples, where the "
            f"operator looks every {format_duration(spec.evaluation.interval)}"
        )
    end = max(trace.times[-1] for trace in recording.traces)
    if end - recorded.last.timestamp() > spec.evaluation.stale_after.total_seconds():
        story.notes.append(
            f"the canary's series end at {recorded.last:%Y-%m-%d %H:%M:%S} UTC, before the data "
            "does, and so does the replay: whether it was taken down or fell silent is not recorded"
        )
    if recorded.target.revision != target.revision:
        story.notes.append(
            f"the data is of revision {recorded.target.revision}; this manifest declares "
            f"{target.revision}, so its policy is replayed, not its signal"
        )
    story.notes += _without_bounds(story)
    return story


def _without_bounds(story: Replay) -> Iterator[str]:
    """That guarded conditions were judged by their values, as no bounds are recorded."""
    for condition in story.spec.rollback.conditions:
        curves = [points for (key, _), points in story.curves.items() if key == condition.key]
        judged = [point for points in curves for point in points if point.verdict.is_judged]
        if condition.is_guarded and judged and all(point.upper is None for point in judged):
            text = f"{condition.bound()}: no bounds are recorded beside it, so its value was judged"
            text += ", as the operator judges a metric that comes without"
            if held := debounce_of(condition, judged).describe():
                text += f" (a breach must be seen {held})"
            yield f"{text}; with bounds ({EVIDENCE_BOUND}) it may have been decided otherwise"


def _stable(recorded: Recorded) -> RevisionRef | None:
    """The revision that served meanwhile; of its version only the name is recorded."""
    name = recorded.stable
    return RevisionRef(name, f"revision {name}", "", 0) if name else None


def _refer(spec: SignalCanarySpec) -> RevisionRef:
    # The image does not enter the name.
    return refer_to(build_revision(spec, "-"), GENERATION)
