"""Reading the metrics of what is judged, from Prometheus or from the workloads themselves.

`MetricsSource` is the port; `prometheus.Prometheus` is what a cluster uses. One look fetches
every due canary at once: one instant query a metric, whatever the number of canaries. `assemble`
sorts the series that came back to the canary, revision and symbol they belong to, and drops the
rest.

    MetricsSourceError
    ├── SourceUnreachable   no connection, or the connection broke
    ├── SourceTimeout       no whole answer before the deadline
    ├── BadResponse         an answer that is not a Prometheus instant vector
    └── in `sources`: UnknownSource, UnreadableCredentials
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from signalcanary.api import DEFAULT_SOURCE, SignalCanarySpec
from signalcanary.contract import (
    DIFFERENCE,
    DIFFERENCE_BOUND,
    DIFFERENCE_EFFECTIVE_SAMPLES,
    DIFFERENCE_SAMPLES,
    EVIDENCE_BOUND,
    EVIDENCE_EFFECTIVE_SAMPLES,
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HEARTBEAT,
    WARMUP,
    BoundLabel,
    MetricLabel,
    Track,
    format_duration,
)
from signalcanary.evaluate import NO_EVIDENCE, Bound, Measurement, MetricsSeen, SourceFailure
from signalcanary.promql import escape, fill


class MetricsSourceError(Exception):
    """The metrics source could not be read; says nothing about any canary."""


class SourceUnreachable(MetricsSourceError):
    pass


class SourceTimeout(MetricsSourceError):
    pass


class BadResponse(MetricsSourceError):
    pass


@dataclass(frozen=True)
class Query:
    """A condition's own query on one symbol; `text` is PromQL without placeholders."""

    metric: str
    symbol: str
    text: str


@dataclass(frozen=True)
class Target:
    """One track of one SignalCanary at one revision, and the metrics asked of it.

    Attributes:
        horizon: of the label that it is judged at, as the series' label has it; figures of
            other horizons are for people.
        source: name of the metrics source to ask.
        queries: what its conditions ask themselves, filled in.
        track: the canary's, with stable beside it as the control; or stable itself, alone.
    """

    namespace: str
    name: str
    revision: str
    horizon: str
    metrics: frozenset[str]
    source: str = DEFAULT_SOURCE
    queries: tuple[Query, ...] = ()
    track: Track = Track.CANARY


def build_target(
    spec: SignalCanarySpec,
    namespace: str,
    name: str,
    revision: str,
    track: Track = Track.CANARY,
) -> Target:
    """What to ask of a revision that is judged by a spec."""
    conditions = spec.rollback.conditions
    given = {"namespace": namespace, "name": name, "revision": revision, "track": track}
    symbols = spec.symbols.canary if track is Track.CANARY else spec.symbols.full
    return Target(
        namespace,
        name,
        revision,
        # If the canary is still one of an earlier spec, what is read of it is not judged.
        format_duration(spec.signal.label.horizon),
        frozenset(c.metric for c in conditions if c.query is None),
        spec.metrics_source,
        tuple(
            Query(c.metric, symbol, fill(c.query, given | {"symbol": symbol}))
            for c in conditions
            if c.query is not None
            for symbol in symbols
        ),
        track,
    )


@dataclass(frozen=True)
class Series:
    """One series of an instant vector."""

    metric: str
    labels: Mapping[str, str]
    value: float


class MetricsSource(Protocol):
    async def fetch(
        self, targets: Sequence[Target], at: datetime | None = None
    ) -> Mapping[Target, MetricsSeen]:
        """Read every target's metrics, as of now or of an instant in the past.

        Never raises `MetricsSourceError`: what could not be read is in `MetricsSeen.failure`.
        """
        ...


class SeriesSource(Protocol):
    async def fetch_series(self, target: Target, query: str, at: datetime) -> list[Series]:
        """The series of an instant query, at the source that a target names.

        Raises:
            MetricsSourceError: the source could not be read, or there is none.
        """
        ...


class HistorySource(Protocol):
    async def fetch_history(
        self, target: Target, query: str, first: datetime, last: datetime, step: timedelta
    ) -> list[Any]:
        """What a query gave at each step of a stretch of time, as Prometheus' API has it, at the
        source that a target names. It takes no place of a look's queries.

        Raises:
            MetricsSourceError: the source could not be read, or there is none.
        """
        ...


class Source(MetricsSource, SeriesSource, HistorySource, Protocol):
    """A source of what is judged, and of all that is shown beside it."""


_BESIDE = (
    EVIDENCE_TIMESTAMP,
    EVIDENCE_SAMPLES,
    EVIDENCE_EFFECTIVE_SAMPLES,
    EVIDENCE_BOUND,
    DIFFERENCE,
    DIFFERENCE_SAMPLES,
    DIFFERENCE_EFFECTIVE_SAMPLES,
    DIFFERENCE_BOUND,
    HEARTBEAT,
    WARMUP,
)


def series_names(targets: Iterable[Target]) -> list[str]:
    """Names of the series that judging these targets takes."""
    asked = sorted({metric for target in targets for metric in target.metrics})
    return [*asked, *_BESIDE]


def build_selector(targets: Sequence[Target]) -> str:
    """The inside of the braces that select these targets' series, and the control's."""
    selector = f'{MetricLabel.TRACK}=~"{"|".join(Track)}"'
    names = sorted({target.name for target in targets})
    if len(names) <= _MOST_NAMES_IN_A_QUERY:
        # Names are DNS labels, which hold nothing that a regular expression minds.
        selector += f',{MetricLabel.NAME}=~"{escape("|".join(names))}"'
    return selector


def failed(targets: Iterable[Target], error: MetricsSourceError) -> dict[Target, MetricsSeen]:
    """What a source that could not be read has to say of each target."""
    failure = SourceFailure(type(error).__name__, str(error))
    return {target: MetricsSeen(failure=failure) for target in targets}


_Key = tuple[str, str, str]
"""Of a series: its name, the metric that it is about, and the symbol."""
_OWN = ""
"""In place of its name, for the core metrics themselves."""


def assemble(targets: Sequence[Target], series: Iterable[Series]) -> dict[Target, MetricsSeen]:
    """Give each target the series of its own track, revision and horizon."""
    by_owner = {(t.namespace, t.name, t.revision): t for t in targets}
    values: dict[Target, dict[_Key, list[float]]] = {t: {} for t in targets}
    evidence: dict[Target, dict[_Key, float]] = {t: {} for t in targets}
    bounds: dict[Target, dict[_Key, dict[float, Bound]]] = {t: {} for t in targets}
    control: dict[tuple[str, str], dict[str, float]] = {}
    for item in series:
        labels = item.labels
        if labels.get(MetricLabel.TRACK) == Track.STABLE and item.metric == HEARTBEAT:
            owner = (labels.get(MetricLabel.NAMESPACE, ""), labels.get(MetricLabel.NAME, ""))
            beats = control.setdefault(owner, {})
            of_symbol = labels.get(MetricLabel.SYMBOL, "")
            # While promoting, two revisions serve: the market is alive if either hears it.
            if math.isfinite(item.value):
                beats[of_symbol] = max(item.value, beats.get(of_symbol, item.value))
        target = by_owner.get(
            (
                labels.get(MetricLabel.NAMESPACE, ""),
                labels.get(MetricLabel.NAME, ""),
                labels.get(MetricLabel.REVISION, ""),
            )
        )
        symbol = labels.get(MetricLabel.SYMBOL)
        if target is None or symbol is None or labels.get(MetricLabel.TRACK) != target.track:
            continue
        # What has no horizon, as all of harvest's, does not depend on it.
        if labels.get(MetricLabel.HORIZON, target.horizon) != target.horizon:
            continue
        key = (item.metric, labels.get(MetricLabel.METRIC, ""), symbol)
        if item.metric in target.metrics:
            values[target].setdefault((_OWN, item.metric, symbol), []).append(item.value)
        elif item.metric == DIFFERENCE:
            values[target].setdefault(key, []).append(item.value)
        elif item.metric in (EVIDENCE_BOUND, DIFFERENCE_BOUND):
            _take_bound(bounds[target].setdefault(key, {}), labels, item.value)
        else:
            known = evidence[target]
            # Two pods of one shard: believe the older evidence, the smaller progress, and none
            # of what is no number.
            value = item.value if math.isfinite(item.value) else -math.inf
            known[key] = min(value, known.get(key, value))
    return {
        t: _metrics_seen(
            t,
            values[t],
            evidence[t],
            bounds[t],
            control.get((t.namespace, t.name), {}) if t.track is Track.CANARY else {},
        )
        for t in targets
    }


_ENDS = {
    ("lower", "now"): "lower",
    ("upper", "now"): "upper",
    ("lower", "whole"): "whole_lower",
    ("upper", "whole"): "whole_upper",
}


def _take_bound(by_level: dict[float, Bound], labels: Mapping[str, str], value: float) -> None:
    """Note one end of one bound; of two series that claim to be the same, the more cautious."""
    end = _ENDS.get((labels.get(BoundLabel.SIDE, ""), labels.get(BoundLabel.WINDOW, "")))
    try:
        level = float(labels.get(BoundLabel.LEVEL, ""))
    except ValueError:
        level = math.nan
    if end is None or not 0 < level < 1:
        # Evidence that cannot be read must not hide: it stands for nothing known.
        by_level.setdefault(NO_EVIDENCE.level, NO_EVIDENCE)
        return
    known = by_level.get(level)
    cautious = min if end.endswith("lower") else max
    if not math.isfinite(value):
        value = cautious(-math.inf, math.inf)
    if known is not None and math.isfinite(getattr(known, end)):
        value = cautious(value, getattr(known, end))
    by_level[level] = replace(known or Bound(level), **{end: value})


def _metrics_seen(
    target: Target,
    values: Mapping[_Key, list[float]],
    evidence: Mapping[_Key, float],
    bounds: Mapping[_Key, Mapping[float, Bound]],
    control: Mapping[str, float],
) -> MetricsSeen:
    symbols = {symbol for _, _, symbol in (*evidence, *values)}

    def measure(
        value: str, samples: str, effective: str, bound: str
    ) -> dict[tuple[str, str], Measurement]:
        return {
            (metric, symbol): Measurement(
                values=tuple(values.get((value, metric, symbol), ())),
                samples=_count(evidence.get((samples, metric, symbol))),
                effective_samples=_count(evidence.get((effective, metric, symbol))),
                evaluated_at=_instant(evidence.get((EVIDENCE_TIMESTAMP, metric, symbol))),
                bounds=tuple(bounds.get((bound, metric, symbol), {}).values()),
            )
            for metric in target.metrics
            for symbol in symbols
        }

    beats = {s: _instant(evidence.get((HEARTBEAT, "", s))) for s in symbols}
    return MetricsSeen(
        measurements=measure(_OWN, EVIDENCE_SAMPLES, EVIDENCE_EFFECTIVE_SAMPLES, EVIDENCE_BOUND),
        differences=measure(
            DIFFERENCE, DIFFERENCE_SAMPLES, DIFFERENCE_EFFECTIVE_SAMPLES, DIFFERENCE_BOUND
        ),
        heartbeats={symbol: beat for symbol, beat in beats.items() if beat is not None},
        warmup_ratio={
            symbol: min(ratio, 1.0)
            for symbol in symbols
            if (ratio := evidence.get((WARMUP, "", symbol))) is not None and ratio >= 0
        },
        stable_heartbeats={
            symbol: beat
            for symbol, seconds in control.items()
            if (beat := _instant(seconds)) is not None
        },
        revision=target.revision,
        track=target.track,
    )


def _count(value: float | None) -> int | None:
    return int(value) if value is not None and 0 <= value < 2**53 else None


def _instant(unix_seconds: float | None) -> datetime | None:
    """An exported time; None if it is absent, zero or no time at all."""
    if unix_seconds is None or not 0 < unix_seconds < 32_503_680_000:  # year 3000; NaN fails too
        return None
    return datetime.fromtimestamp(unix_seconds, UTC)


_MOST_NAMES_IN_A_QUERY = 50
SAMPLE_TIME_TOLERANCE = timedelta(seconds=60)
"""How far the time of a sample may be from the instant that was asked for. An answer from some
cache, or from a server whose clock is wrong, is not an answer of now."""


def parse_vector(metric: str, result: Any, at: datetime) -> list[Series]:
    """Read the `result` of an instant query.

    Raises:
        BadResponse: it is not an instant vector, or not of the instant that was asked for.
    """
    if not isinstance(result, list):
        raise BadResponse(f"{metric}: the result is no vector but {type(result).__name__}")
    try:
        series = [_parse_series(metric, item, at) for item in result]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadResponse(f"{metric}: the result is no instant vector") from error
    return series


def parse_numbers(result: Any) -> Measurement:
    """Read the `result` of a condition's own query: a scalar, or an instant vector.

    Raises:
        BadResponse: it is neither.
    """
    try:
        is_scalar = len(result) == 2 and not isinstance(result[0], Mapping)
        samples = [result] if is_scalar else [item["value"] for item in result]
        values = tuple(_number(value) for _, value in samples)
        times = [float(sampled_at) for sampled_at, _ in samples]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadResponse("the result is neither a scalar nor an instant vector") from error
    return Measurement(values, evaluated_at=_instant(min(times, default=None)))


def _number(value: Any) -> float:
    """A value as Prometheus writes it, as text; float() alone would also read true and 1_000."""
    if not isinstance(value, str) or "_" in value:
        raise ValueError(f"a value is no text but {type(value).__name__}")
    return float(value)


def _parse_series(metric: str, item: Any, at: datetime) -> Series:
    sampled_at, value = item["value"]
    labels = dict(item["metric"].items())
    number = _number(value)
    if not all(isinstance(part, str) for label in labels.items() for part in label):
        raise ValueError("a label is no text")
    ahead = float(sampled_at) - at.timestamp()
    if not abs(ahead) <= SAMPLE_TIME_TOLERANCE.total_seconds():
        raise BadResponse(
            f"{metric}: a sample is {'ahead of' if ahead > 0 else 'behind'} the instant asked for "
            f"by more than {format_duration(SAMPLE_TIME_TOLERANCE)}"
        )
    return Series(metric, labels, number)
