"""A rollout on a cluster, live: `signalcanary watch NAME`.

The screen is the one of a local run (`local.screen`), and so are the plain lines where there is no
terminal. What it shows is read from the object's status, which the API server sends whenever it
changes: nothing is polled. Between two changes only the time goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from pydantic import ValidationError

from signalcanary.api import SignalCanarySpec
from signalcanary.apiserver import Forbidden, Unauthorized, UnknownKind, path_of
from signalcanary.console.access import Access, AccessError, open_access
from signalcanary.console.follow import Followed
from signalcanary.console.health import Standing, stand
from signalcanary.console.judgements import judgements_of
from signalcanary.evaluate import MetricsSeen
from signalcanary.local.run import choose_reporter
from signalcanary.local.scene import Reporter, Scene
from signalcanary.local.world import Event, Look
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import Decision, Observations, Phase
from signalcanary.status import parse
from signalcanary.store import Kind, Live

FAILED: Final = 1
INTERRUPTED: Final = 130
REDRAW_SECONDS: Final = 1.0
TREND_LENGTH: Final = 24
"""Values of a sparkline; at the operator's pace of 30 s, twelve minutes."""
HOPELESS: Final = (Forbidden, Unauthorized, UnknownKind)
"""What no waiting mends."""


# --------------------------------------------------------------------------- from object to scene


def look_of(item: Live, events: tuple[Event, ...], now: datetime) -> Look:
    """The object as a look, for what draws looks.

    Raises:
        KeyError, ValueError: it was written by another version of the operator.
    """
    spec = SignalCanarySpec.model_validate(item["spec"])
    status = item["status"]
    state = parse(status)
    warmup = {
        one["symbol"]: float(one["warmup"].rstrip("%")) / 100
        for one in status.get("symbols", ())
        if "warmup" in one
    }
    target = state.canary or state.rejected or state.stable or RevisionRef("", "", "", 0)
    seen = Observations(state.observed_generation, target, MetricsSeen(warmup_ratio=warmup))
    told = tuple(Event(t.time, t.is_warning, t.reason, t.message) for t in reversed(state.history))
    # Of one second they stay in the order in which they came.
    both = dict.fromkeys((*told, *(e for e in events if not _is_told(e, told))))
    decision = Decision(state, judgements_of(item, spec), ())
    return Look(
        now, spec, item, state, decision, seen, (), tuple(sorted(both, key=lambda e: e.time))
    )


def _is_told(event: Event, told: tuple[Event, ...]) -> bool:
    # An Event has whole seconds.
    return any(
        t.reason == event.reason and abs(t.time - event.time) < timedelta(seconds=2) for t in told
    )


def event_of(item: Live) -> Event | None:
    """An Event of the API server; None if it has no time."""
    at = item.get("lastTimestamp") or item.get("firstTimestamp") or item.get("eventTime")
    if not at:
        return None
    is_warning = item.get("type") == "Warning"
    return Event(
        datetime.fromisoformat(at), is_warning, item.get("reason", ""), item.get("message", "")
    )


# --------------------------------------------------------------------------- what is known


@dataclass
class Watched:
    """All that is known of the object now.

    Attributes:
        trends: the last values, by condition's key and symbol.
        events: of the object, by name; those that have expired too.
    """

    item: Live
    trends: dict[tuple[str, str], deque[float]] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.objects = Followed(self.changed.set, self.take, HOPELESS)

    @property
    def is_deleted(self) -> bool:
        return self.objects.is_listed and not self.objects.items

    def take(self, item: Live) -> None:
        """Take in the object as it is now."""
        before = (self.item.get("status") or {}).get("lastEvaluationTime")
        self.item = item
        status = item.get("status") or {}
        if status.get("lastEvaluationTime") != before or not self.trends:
            for one in status.get("symbols", ()):
                for row in one.get("conditions", ()):
                    if row.get("value") is not None:
                        key = (row["key"], one["symbol"])
                        trend = self.trends.setdefault(key, deque(maxlen=TREND_LENGTH))
                        trend.append(row["value"])

    def take_event(self, item: Live) -> None:
        event = event_of(item)
        if event is not None:
            self.events[item["metadata"]["name"]] = event

    def scene(self, now: datetime, where: str) -> Scene:
        """What is to be shown now.

        Raises:
            KeyError, ValueError: see `look_of`.
        """
        metadata = self.item["metadata"]
        look = look_of(self.item, tuple(self.events.values()), now)
        began = look.events[0].time if look.events else now
        standing = stand(self.item, now)
        about = [f"{look.spec.version}: {standing.health}"]
        about[0] += f": {standing.why}" if standing.why else ""
        if self.objects.trouble:
            about.append(f"not up to date, trying again: {self.objects.trouble}")
        return Scene(
            title=f"{metadata['namespace']}/{metadata['name']}",
            about=tuple(about),
            elapsed_seconds=(now - began).total_seconds(),
            look=look,
            facts=(where,),
            trends={key: tuple(values) for key, values in self.trends.items()},
            is_on_cluster=True,
        )


# --------------------------------------------------------------------------- the loop


async def _follow_object(access: Access, name: str, watched: Watched) -> None:
    path = path_of(Kind.SIGNAL_CANARY, quote(access.namespace, safe=""))
    await watched.objects.follow(access, path, name, fieldSelector=f"metadata.name={name}")


async def _follow_events(access: Access, uid: str, watched: Watched) -> None:
    path = f"/api/v1/namespaces/{quote(access.namespace, safe='')}/events"
    told = Followed(watched.changed.set, watched.take_event, HOPELESS)
    # Whoever may not read Events still has the transitions, which status tells.
    with suppress(AccessError):
        await told.follow(access, path, "Events", fieldSelector=f"involvedObject.uid={uid}")


async def watch_one(access: Access, args: argparse.Namespace, reporter: Reporter) -> int:
    """Show one object until it is deleted, or at rest if that was asked for; the exit code.

    Raises:
        AccessError: it is not there, or cannot be read (any more).
    """
    item = await access.get(args.name)
    watched = Watched(item)
    watched.take(item)
    objects = asyncio.create_task(_follow_object(access, args.name, watched))
    events = asyncio.create_task(_follow_events(access, item["metadata"]["uid"], watched))
    shown = asyncio.create_task(_show(watched, access, args.until, reporter))
    try:
        # A watch ends only by an error.
        await asyncio.wait((objects, shown), return_when=asyncio.FIRST_COMPLETED)
        if objects.done():
            objects.result()
        standing = shown.result()
    finally:
        for task in (objects, events, shown):
            task.cancel()
        await asyncio.gather(objects, events, shown, return_exceptions=True)
    if watched.is_deleted:
        raise AccessError(f"{args.name} was deleted")
    return standing.exit_code


async def _show(watched: Watched, access: Access, until: str, reporter: Reporter) -> Standing:
    while True:
        watched.changed.clear()
        now = datetime.now(UTC)
        try:
            standing = stand(watched.item, now)
            if (watched.item.get("status") or {}).get("phase"):
                reporter.show(watched.scene(now, access.where))
        except (LookupError, ValueError, TypeError, ValidationError) as error:
            raise AccessError(
                f"the status was written by another version of the operator ({error}): take this "
                "command of the operator's own version"
            ) from error
        phase = (watched.item.get("status") or {}).get("phase")
        is_at_rest = phase in (Phase.SUCCEEDED, Phase.ROLLED_BACK) and not standing.why
        if watched.is_deleted or (until == "settled" and is_at_rest):
            return standing
        with suppress(TimeoutError):
            async with asyncio.timeout(REDRAW_SECONDS):
                await watched.changed.wait()


def run_watch(args: argparse.Namespace) -> int:
    """The verb; gives its exit code."""

    async def follow() -> int:
        async with open_access(args) as access:
            reporter = choose_reporter(args.plain)
            try:
                return await watch_one(access, args, reporter)
            finally:
                reporter.close()

    try:
        return asyncio.run(follow())
    except AccessError as error:
        print(f"signalcanary watch: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
