"""Reading a stretch of time from a metrics source, as range queries.

The only part of a backtest that talks to a network. The queries are of the very series, by the
very selector, that `metrics_source` asks for look by look, sent by the very client.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any, Final

from signalcanary.backtest.recording import RecordingError
from signalcanary.metrics_source import MetricsSourceError, Target, build_selector, series_names
from signalcanary.prometheus import Prometheus
from signalcanary.sources import SourceConfig

MOST_POINTS: Final = 10_000
"""Of one series in one answer; Prometheus gives at most 11,000."""


def fetch_answers(
    source: SourceConfig, target: Target, first: datetime, last: datetime, step: timedelta
) -> Iterator[Any]:
    """Ask for every series that judging a target takes, piece by piece; each answer as the
    server's `query_range` gives it.

    Raises:
        RecordingError: the source cannot be read.
    """
    with closing(Prometheus(source)) as client:
        for query, start, end in range_queries(target, first, last, step):
            try:
                result = client.fetch_range(query, start, end, step)
            except MetricsSourceError as error:
                raise RecordingError(f"{type(error).__name__}: {error}") from error
            yield {"status": "success", "data": {"resultType": "matrix", "result": result}}


def range_queries(
    target: Target, first: datetime, last: datetime, step: timedelta
) -> Iterator[tuple[str, datetime, datetime]]:
    """Each range query that judging a target takes: what is asked, from when, and until when."""
    selector = build_selector([target])
    for name in series_names([target]):
        for start, end in pieces(first, last, step):
            yield f"{name}{{{selector}}}", start, end


def pieces(first: datetime, last: datetime, step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Stretches short enough for one answer each, on one grid of steps."""
    while first <= last:
        end = min(last, first + step * (MOST_POINTS - 1))
        yield first, end
        first += step * MOST_POINTS
