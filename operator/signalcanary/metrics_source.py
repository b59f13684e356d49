"""Reading the canaries' metrics, from Prometheus or from the workloads themselves.

`MetricsSource` is the port; `Prometheus` is what a cluster uses. One look fetches every due
canary at once: one instant query a metric, whatever the number of canaries. `assemble` sorts
the series that came back to the canary, revision and symbol they belong to, and drops the rest.

    MetricsSourceError
    ├── SourceUnreachable   no connection, or the connection broke
    ├── SourceTimeout       no whole answer before the deadline
    └── BadResponse         an answer that is not a Prometheus instant vector
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from signalcanary.contract import (
    DIFFERENCE,
    DIFFERENCE_BOUND,
    DIFFERENCE_SAMPLES,
    EVIDENCE_BOUND,
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


class MetricsSourceError(Exception):
    """The metrics source could not be read; says nothing about any canary."""


class SourceUnreachable(MetricsSourceError):
    pass


class SourceTimeout(MetricsSourceError):
    pass


class BadResponse(MetricsSourceError):
    pass


@dataclass(frozen=True)
class Target:
    """The canary track of one SignalCanary at one revision, and the metrics asked of it.

    Attributes:
        horizon: of the label that it is judged at, as the series' label has it; figures of
            other horizons are for people.
    """

    namespace: str
    name: str
    revision: str
    horizon: str
    metrics: frozenset[str]


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


_BESIDE = (
    EVIDENCE_TIMESTAMP,
    EVIDENCE_SAMPLES,
    EVIDENCE_BOUND,
    DIFFERENCE,
    DIFFERENCE_SAMPLES,
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
    """Give each target the series of its own canary track, revision and horizon."""
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
            continue
        target = by_owner.get(
            (
                labels.get(MetricLabel.NAMESPACE, ""),
                labels.get(MetricLabel.NAME, ""),
                labels.get(MetricLabel.REVISION, ""),
            )
        )
        symbol = labels.get(MetricLabel.SYMBOL)
        if target is None or symbol is None or labels.get(MetricLabel.TRACK) != Track.CANARY:
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
            t, values[t], evidence[t], bounds[t], control.get((t.namespace, t.name), {})
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

    def measure(value: str, samples: str, bound: str) -> dict[tuple[str, str], Measurement]:
        return {
            (metric, symbol): Measurement(
                values=tuple(values.get((value, metric, symbol), ())),
                samples=_count(evidence.get((samples, metric, symbol))),
                evaluated_at=_instant(evidence.get((EVIDENCE_TIMESTAMP, metric, symbol))),
                bounds=tuple(bounds.get((bound, metric, symbol), {}).values()),
            )
            for metric in target.metrics
            for symbol in symbols
        }

    beats = {s: _instant(evidence.get((HEARTBEAT, "", s))) for s in symbols}
    return MetricsSeen(
        measurements=measure(_OWN, EVIDENCE_SAMPLES, EVIDENCE_BOUND),
        differences=measure(DIFFERENCE, DIFFERENCE_SAMPLES, DIFFERENCE_BOUND),
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
    )


def _count(value: float | None) -> int | None:
    return int(value) if value is not None and 0 <= value < 2**53 else None


def _instant(unix_seconds: float | None) -> datetime | None:
    """An exported time; None if it is absent, zero or no time at all."""
    if unix_seconds is None or not 0 < unix_seconds < 32_503_680_000:  # year 3000; NaN fails too
        return None
    return datetime.fromtimestamp(unix_seconds, UTC)


def escape(label_value: str) -> str:
    """A string as the inside of a PromQL double-quoted string."""
    return label_value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_MOST_NAMES_IN_A_QUERY = 50
MOST_BYTES = 256 * 1024 * 1024
"""Of one answer: some hundred times what ten thousand canaries take."""

SAMPLE_TIME_TOLERANCE = timedelta(seconds=60)
"""How far the time of a sample may be from the instant that was asked for. An answer from some
cache, or from a server whose clock is wrong, is not an answer of now."""


class _Session(requests.Session):
    """Holds an answer to its deadline as a whole, where `requests` limits the wait for each
    piece of it, and lets only a complete success pass."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        ends_at = time.monotonic() + kwargs["timeout"]
        response = super().request(method, url, *args, **(kwargs | {"stream": True}))
        with response:
            body = bytearray()
            while piece := response.raw.read1(65536, decode_content=True):
                body += piece
                if time.monotonic() > ends_at:
                    raise requests.ReadTimeout("the answer came too slowly")
                if len(body) > self._most_bytes:
                    raise BadResponse(f"an answer of more than {self._most_bytes} bytes")
        response._content = bytes(body)
        if response.status_code == 200:
            answer = response.json(object_pairs_hook=_without_repeats)
            _check_complete(answer)
            response.json = lambda **_: answer  # type: ignore[method-assign]
        return response


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a label that stands twice nobody can say which is meant."""
    read = dict(pairs)
    if len(read) < len(pairs):
        raise BadResponse("a name stands twice in one object")
    return read


def _check_complete(answer: Any) -> None:
    if not isinstance(answer, dict) or answer.get("status") != "success":
        detail = answer.get("error") if isinstance(answer, dict) else None
        raise BadResponse(f"the query did not succeed: {str(detail)[:200]}")
    if answer.get("warnings"):
        # What a federation cannot reach it leaves out: absent is then not the same as silent.
        raise BadResponse(f"the answer is partial: {str(answer['warnings'])[:200]}")
    data = answer.get("data")
    if not isinstance(data, dict) or data.get("resultType") != "vector":
        raise BadResponse("the result is no instant vector")


class Prometheus:
    """A Prometheus server, or anything that speaks its query API."""

    def __init__(
        self,
        url: str,
        deadline: timedelta = timedelta(seconds=8),
        *,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        url = url.rstrip("/")
        self._deadline = deadline
        # A failed look is a verdict of its own; the next look is the retry. With read=False a
        # timeout comes as itself, not as a connection that could not be made.
        self._session = _Session(most_bytes)
        self._client = PrometheusConnect(url=url, retry=Retry(0, read=False), session=self._session)
        # Threads of its own: a server that hangs must not hold up anything else.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="prometheus")
        self._shown_url = without_password(url)

    def close(self) -> None:
        """Let go of the connections; reads that are under way end by their deadline."""
        self._session.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(
        self, targets: Sequence[Target], at: datetime | None = None
    ) -> Mapping[Target, MetricsSeen]:
        if not targets:
            return {}
        loop = asyncio.get_running_loop()
        try:
            # The thread keeps the deadline but for headers that trickle in.
            async with asyncio.timeout(self._deadline.total_seconds() + 1):
                series = await loop.run_in_executor(self._threads, self._query_all, targets, at)
        except MetricsSourceError as error:
            return failed(targets, error)
        except TimeoutError:
            return failed(targets, self._timeout())
        return assemble(targets, series)

    def _timeout(self) -> SourceTimeout:
        return SourceTimeout(
            f"{self._shown_url} did not answer within {format_duration(self._deadline)}"
        )

    def _query_all(self, targets: Sequence[Target], at: datetime | None) -> list[Series]:
        # One instant for all, so that no value is newer than the evidence beside it.
        at = at or datetime.now(UTC)
        selector = build_selector(targets)
        ends_at = time.monotonic() + self._deadline.total_seconds()
        return [
            series
            for metric in series_names(targets)
            for series in self._query(metric, f"{metric}{{{selector}}}", at, ends_at)
        ]

    def _query(self, metric: str, query: str, at: datetime, ends_at: float) -> list[Series]:
        left = ends_at - time.monotonic()
        if left <= 0:
            raise self._timeout()
        # In seconds without a unit: with one, Prometheus takes only whole numbers.
        params = {"timeout": f"{left:.3f}", "time": f"{at.timestamp():.3f}"}
        url = self._shown_url
        try:
            result = self._client.custom_query(query, params=params, timeout=left)
            return parse_vector(metric, result, at)
        except BadResponse as error:
            raise BadResponse(f"{url}: {error}") from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise self._timeout() from error
        except (requests.JSONDecodeError, urllib3.exceptions.DecodeError) as error:
            raise BadResponse(f"{url} answered something that is not JSON") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise SourceUnreachable(f"{url}: {_root_cause(error)}") from error
        except PrometheusApiClientException as error:
            raise BadResponse(f"{url}: {str(error)[:200]}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BadResponse(f"{url} answered no Prometheus result") from error


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


def _parse_series(metric: str, item: Any, at: datetime) -> Series:
    sampled_at, value = item["value"]
    labels = dict(item["metric"].items())
    # Prometheus writes values as text; float() alone would also read true and 1_000.
    if not isinstance(value, str) or "_" in value:
        raise ValueError(f"a value is no text but {type(value).__name__}")
    if not all(isinstance(part, str) for label in labels.items() for part in label):
        raise ValueError("a label is no text")
    ahead = float(sampled_at) - at.timestamp()
    if not abs(ahead) <= SAMPLE_TIME_TOLERANCE.total_seconds():
        raise BadResponse(
            f"{metric}: a sample is {'ahead of' if ahead > 0 else 'behind'} the instant asked for "
            f"by more than {format_duration(SAMPLE_TIME_TOLERANCE)}"
        )
    return Series(metric, labels, float(value))


def without_password(url: str) -> str:
    """An address as status may show it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _root_cause(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error) or type(error).__name__
