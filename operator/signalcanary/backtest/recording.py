"""What a metrics source said over a stretch of time, to be asked again instant by instant.

A recording holds series as Prometheus does, so that what is read from it goes through the very
`metrics_source.assemble` that live answers go through. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from signalcanary.contract import MetricLabel, Track
from signalcanary.evaluate import MetricsSeen
from signalcanary.metrics_source import Series, Target, assemble, series_names


class RecordingError(Exception):
    """The recorded data cannot be used as it is; the message says what to do."""


@dataclass(frozen=True)
class Trace:
    """One series over time.

    Attributes:
        times: Unix time (s), rising.
        values: one a time; None where the series ends, until it goes on.
    """

    metric: str
    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float | None]

    def label(self, name: MetricLabel) -> str:
        return self.labels.get(name, "")


@dataclass(frozen=True)
class Recording:
    """Series over a stretch of time.

    Attributes:
        step: time between two samples of a range query, after which a sample is no longer what
            the series is; None if a sample holds until the next one of its series.
    """

    traces: tuple[Trace, ...]
    step: timedelta | None = None

    def at(self, instant: datetime) -> Iterator[Series]:
        """All series as of an instant."""
        now = instant.timestamp()
        oldest = now - self.step.total_seconds() if self.step else float("-inf")
        for trace in self.traces:
            place = bisect_right(trace.times, now + _ROUNDING_SECONDS) - 1
            if place < 0 or trace.times[place] <= oldest + _ROUNDING_SECONDS:
                continue
            value = trace.values[place]
            if value is not None:
                yield Series(trace.metric, trace.labels, value)

    def of(self, target: Target) -> Recording:
        """What of it judging this target takes; less to go through at each look."""
        names = set(series_names([target]))
        kept = (
            t
            for t in self.traces
            if t.metric in names
            and (t.label(MetricLabel.NAMESPACE), t.label(MetricLabel.NAME))
            == (target.namespace, target.name)
        )
        return Recording(tuple(kept), self.step)

    def metrics_of(self, target: Target, instant: datetime) -> MetricsSeen:
        """What a live source would have said of a target at an instant."""
        return assemble([target], self.at(instant))[target]


_ROUNDING_SECONDS = 0.0005
"""Times go through text with millisecond digits."""


@dataclass(frozen=True)
class Recorded:
    """Whose canary a recording is of, and from when to when anything is known of it."""

    target: Target
    stable: str | None
    first: datetime
    last: datetime


def find_canary(
    recording: Recording,
    target: Target,
    asked_revision: str | None = None,
) -> Recorded:
    """The canary in a recording that a manifest means.

    Args:
        target: namespace, name and revision as the manifest has them.
        asked_revision: the revision to judge; None for the manifest's own, or else the only one.

    Raises:
        RecordingError: there is none, or it is not clear which.
    """
    canaries = [t for t in recording.traces if t.label(MetricLabel.TRACK) == Track.CANARY]
    owners = {(t.label(MetricLabel.NAMESPACE), t.label(MetricLabel.NAME)) for t in canaries}
    if not owners:
        raise RecordingError("no canary in the recorded data: no series has track=canary")
    owner = (target.namespace, target.name)
    if owner not in owners:
        there = ", ".join(f"{namespace}/{name}" for namespace, name in sorted(owners))
        raise RecordingError(
            f"no series of {target.namespace}/{target.name} in the recorded data, only of {there}: "
            "write that name and namespace into the manifest's metadata"
        )
    own = [
        t
        for t in recording.traces
        if (t.label(MetricLabel.NAMESPACE), t.label(MetricLabel.NAME)) == owner
    ]
    revisions = _revisions(own, Track.CANARY)
    revision = asked_revision or (
        target.revision if target.revision in revisions or len(revisions) != 1 else revisions[0]
    )
    if revision not in revisions:
        raise RecordingError(
            f"no canary of revision {revision} in the recorded data, only {', '.join(revisions)}: "
            f"choose one, for example --revision {revisions[-1]}"
        )
    of_canary = [t for t in own if t.label(MetricLabel.REVISION) == revision]
    times = [t.times for t in of_canary if t.label(MetricLabel.TRACK) == Track.CANARY]
    others = [name for name in _revisions(own, Track.STABLE) if name != revision]
    return Recorded(
        target=replace(target, revision=revision),
        stable=others[0] if others else None,
        first=_time(min(t[0] for t in times)),
        last=_time(max(t[-1] for t in times)),
    )


def _revisions(traces: Iterable[Trace], track: Track) -> list[str]:
    """Names of the revisions of a track, the first seen first."""
    first: dict[str, float] = {}
    for trace in traces:
        if trace.label(MetricLabel.TRACK) == track and trace.times:
            name = trace.label(MetricLabel.REVISION)
            first[name] = min(trace.times[0], first.get(name, trace.times[0]))
    return sorted(first, key=lambda name: first[name])


def _time(unix_seconds: float) -> datetime:
    return datetime.fromtimestamp(round(unix_seconds, 3), UTC)


def instants(first: datetime, last: datetime, interval: timedelta) -> Iterator[datetime]:
    """When to look: from the first to the last."""
    count = (last - first) // interval
    return (first + interval * n for n in range(count + 1))
