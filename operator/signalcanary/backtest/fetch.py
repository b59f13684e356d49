"""Reading a stretch of time from a Prometheus server, as range queries.

The only part of a backtest that talks to a network. The queries are of the very series, by the
very selector, that `metrics_source` asks for look by look.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import requests

from signalcanary.backtest.recording import RecordingError
from signalcanary.metrics_source import Target, build_selector, series_names

MOST_POINTS: Final = 10_000
"""Of one series in one answer; Prometheus gives at most 11,000."""
TIMEOUT_SECONDS: Final = 60.0


def fetch_answers(
    url: str, target: Target, first: datetime, last: datetime, step: timedelta
) -> Iterator[Any]:
    """Ask for every series that judging a target takes, piece by piece.

    Raises:
        RecordingError: the server does not answer, or not with JSON.
    """
    selector = build_selector([target])
    with requests.Session() as session:
        for name in series_names([target]):
            for start, end in pieces(first, last, step):
                yield _ask(
                    session,
                    url,
                    {
                        "query": f"{name}{{{selector}}}",
                        "start": f"{start.timestamp():.3f}",
                        "end": f"{end.timestamp():.3f}",
                        "step": f"{step.total_seconds():g}",
                    },
                )


def pieces(first: datetime, last: datetime, step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Stretches short enough for one answer each, on one grid of steps."""
    while first <= last:
        end = min(last, first + step * (MOST_POINTS - 1))
        yield first, end
        first += step * MOST_POINTS


def _ask(session: requests.Session, url: str, parameters: dict[str, str]) -> Any:
    shown = _without_password(url)
    try:
        address = f"{url.rstrip('/')}/api/v1/query_range"
        response = session.get(address, params=parameters, timeout=TIMEOUT_SECONDS)
        answer = response.json()
    except requests.JSONDecodeError as error:
        raise RecordingError(
            f"{shown} answered {response.status_code} and no JSON: is it a Prometheus server?"
        ) from error
    except requests.RequestException as error:
        raise RecordingError(f"{shown}: {error}") from error
    if not isinstance(answer, dict) or answer.get("status") != "success":
        detail = answer.get("error") if isinstance(answer, dict) else None
        raise RecordingError(f"{shown}: {parameters['query']}: {str(detail)[:200]}")
    return answer


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
