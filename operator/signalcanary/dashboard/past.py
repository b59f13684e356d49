"""The values of a rollout from before anybody looked, read from a Prometheus in its own time.

The page does not wait for it, and is as true without: what cannot be read is said in a note.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest.export import build_recording
from signalcanary.backtest.fetch import fetch_answers, range_queries
from signalcanary.backtest.recording import RecordingError, find_canary, instants
from signalcanary.console.access import Access, AccessError
from signalcanary.dashboard.curves import MOST_POINTS, Key, Point
from signalcanary.evaluate import Judgement, evaluate
from signalcanary.metrics_source import Target, build_target
from signalcanary.report import NoReport, Report, build_report
from signalcanary.sources import SourceConfig, check_url
from signalcanary.store import Key as Name
from signalcanary.store import Live

REFRESH_SECONDS: Final = 60.0
_SERVICE: Final = re.compile(r"(?P<namespace>[a-z0-9-]+)/(?P<service>[a-z0-9-]+(:[a-z0-9-]+)?)")

SEEN: Final = (
    "Values over time are those since signalcanary dashboard was started: with --prometheus it "
    "draws those before, too."
)

Read = Callable[[Target, datetime, datetime, timedelta], Awaitable[list[Any]]]
"""Asks for the series of a target, from one time to another, step by step; gives the answers.

Raises:
    RecordingError: there are none.
"""


def read_url(url: str) -> Read:
    """A Prometheus at an address.

    Raises:
        ValueError: it is none.
    """
    source = SourceConfig(url=check_url(url))

    async def read(target: Target, first: datetime, last: datetime, step: timedelta) -> list[Any]:
        return await asyncio.to_thread(lambda: [*fetch_answers(source, target, first, last, step)])

    return read


def read_service(access: Access, named: str) -> Read:
    """A Prometheus behind the API server, as NAMESPACE/SERVICE or NAMESPACE/SERVICE:PORT.

    Raises:
        ValueError: it is not written so.
    """
    match = _SERVICE.fullmatch(named)
    if match is None:
        raise ValueError(f"{named!r} is neither an URL nor NAMESPACE/SERVICE:PORT")
    path = f"/api/v1/namespaces/{match['namespace']}/services/{match['service']}/proxy"

    async def read(target: Target, first: datetime, last: datetime, step: timedelta) -> list[Any]:
        answers = []
        for query, start, end in range_queries(target, first, last, step):
            asked = {"query": query, "start": start.timestamp(), "end": end.timestamp()}
            asked["step"] = step.total_seconds()
            text = f"{path}/api/v1/query_range?{urlencode(asked)}"
            try:
                answers.append(await access.request("GET", text, f"Prometheus at {named}"))
            except AccessError as error:
                raise RecordingError(str(error)) from error
        return answers

    return read


@dataclass
class _Known:
    """What is known of one rollout.

    Attributes:
        about: which attempt, and whether it is over.
        at_seconds: when it was last asked for, by the event loop's time.
    """

    curves: Mapping[Key, Sequence[Point]] = field(default_factory=dict)
    note: str = ""
    about: str = ""
    at_seconds: float = float("-inf")
    task: asyncio.Task[None] | None = None


class Past:
    """The curves of the rollouts that are looked at.

    Args:
        read: from a Prometheus; None if there is none to ask.
    """

    def __init__(self, read: Read | None) -> None:
        self._source = read
        self._known: dict[Name, _Known] = {}

    @property
    def source(self) -> str:
        """What the reader should know of where the curves come from."""
        return "" if self._source else SEEN

    def note(self, name: Name) -> str:
        """Why there is nothing of the time before; empty if there is."""
        known = self._known.get(name)
        return known.note if known else ""

    def of(
        self, name: Name, item: Live, on_change: Callable[[], None]
    ) -> Mapping[Key, Sequence[Point]]:
        """What is known; what is old is asked for anew, and `on_change` called then."""
        if self._source is None:
            return {}
        known = self._known.setdefault(name, _Known())
        try:
            report = build_report(item)
        except (NoReport, LookupError, ValueError, TypeError):
            return {}
        about = json.dumps([item["metadata"]["uid"], report.canary.attempt, report.outcome])
        now_seconds = asyncio.get_running_loop().time()
        # What is over is read once, if it could be.
        is_open = report.ended is None or bool(known.note)
        is_old = is_open and now_seconds - known.at_seconds > REFRESH_SECONDS
        is_asked = known.task is not None and not known.task.done()
        if known.task is not None and not is_asked:
            known.task.result()  # what nobody foresaw is not to be hidden
        if not is_asked and (about != known.about or is_old):
            if about != known.about and known.curves and report.ended is None:
                known.curves = {}
            known.about, known.at_seconds = about, now_seconds
            known.task = asyncio.create_task(self._read(known, report, item, on_change))
        return known.curves

    async def close(self) -> None:
        tasks = [known.task for known in self._known.values() if known.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(
        self, known: _Known, report: Report, item: Live, on_change: Callable[[], None]
    ) -> None:
        assert self._source is not None  # by the caller
        spec = _without_queries(SignalCanarySpec.model_validate(item["spec"]))
        target = build_target(spec, report.namespace, report.name, report.canary.name)
        ended = report.ended or datetime.now(UTC)
        step = choose_step(spec, ended - report.started)
        try:
            answers = await self._source(target, report.started, ended, step)
            # It takes a while, and the page goes on.
            known.curves = await asyncio.to_thread(build_curves, spec, answers, report, step)
            known.note = ""
        except RecordingError as error:
            known.note = f"Values from before cannot be read from Prometheus: {error}"
        on_change()


def choose_step(spec: SignalCanarySpec, whole: timedelta) -> timedelta:
    """The time between two points; whole seconds, so that the grid is Prometheus' own."""
    seconds = max(spec.evaluation.interval.total_seconds(), whole.total_seconds() / MOST_POINTS)
    return timedelta(seconds=int(seconds) + 1)


def build_curves(
    spec: SignalCanarySpec, answers: Sequence[Any], report: Report, step: timedelta
) -> dict[Key, list[Point]]:
    """The curves of a canary from Prometheus' answers.

    Raises:
        RecordingError: they hold nothing of it.
    """
    revision = report.canary.name
    recording = build_recording(answers)
    target = build_target(spec, report.namespace, report.name, revision)
    recorded = find_canary(recording, target, revision)
    curves: dict[Key, list[Point]] = {}
    own = recording.of(recorded.target)
    for at in instants(recorded.first, recorded.last, step):
        seen = own.metrics_of(recorded.target, at)
        for j in evaluate(spec, seen, at, has_stable=bool(seen.stable_heartbeats)):
            curves.setdefault((j.condition.key, j.symbol), []).append(_point(at, j))
    return curves


def _point(at: datetime, judgement: Judgement) -> Point:
    bound = judgement.bound
    if bound is None:
        return (at.timestamp(), judgement.value, None, None, None, None)
    return (
        at.timestamp(),
        judgement.value,
        _finite(bound.lower),
        _finite(bound.upper),
        _finite(bound.whole_lower),
        _finite(bound.whole_upper),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) != float("inf") else None


def _without_queries(spec: SignalCanarySpec) -> SignalCanarySpec:
    """What a condition's own query said cannot be asked for as a range."""
    conditions = tuple(c for c in spec.rollback.conditions if c.query is None)
    rollback = spec.rollback.model_copy(update={"conditions": conditions})
    return spec.model_copy(update={"rollback": rollback})
