"""Notices streams that are subscribed to and say nothing.

The exchange's old websocket address acknowledges every subscription and sends no trades
(domain notes §0.2): open, answered pings, no error. Only the absence of frames shows it. A
single quiet symbol is no reason to cut the others off, so a connection is given up only when
all its streams are silent. Pure: frames are counted elsewhere, the time (monotonic, s) is
handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from signalcanary_workloads.harvest.feed import Feed, Group

STALL_SECONDS: Final = 10.0
"""Looks this far apart: nothing was read in between, and no silence can be told from that."""


class SilentStream(NamedTuple):
    """A stream that has just become silent."""

    symbol: str
    stream: str
    seconds: float


@dataclass
class _Stream:
    heard_at: float
    count: int
    warned: bool = False


class SilenceWatch:
    """The streams of all feeds."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        count_frames: Callable[[Group, str], int],
        silent_after_seconds: Mapping[Group, float],
    ) -> None:
        self._feeds = feeds
        self._count = count_frames
        self._limits = silent_after_seconds
        self._streams: dict[tuple[Group, str], _Stream] = {}
        self._opened_at: dict[Feed, float] = {}
        self._looked_at: float | None = None
        self._stalled_until = float("-inf")

    def opened(self, feed: Feed, now: float) -> None:
        """A connection of the feed has opened."""
        self._opened_at[feed] = now
        group = feed.subscription.group
        for symbol in feed.subscription.symbols:
            key = (group, symbol)
            if key not in self._streams:
                self._streams[key] = _Stream(now, self._count(group, symbol))

    def seconds(self, group: Group, symbol: str, now: float) -> float | None:
        """Since the last frame, or else since first subscribed; `None`: never subscribed.
        A connection made anew does not begin it anew: the stream is as silent as before."""
        stream = self._refreshed(group, symbol, now)
        return None if stream is None else now - stream.heard_at

    def look(self, now: float) -> tuple[list[SilentStream], list[Feed]]:
        """Streams that have become silent since the last look, and feeds to connect anew."""
        if self._looked_at is not None and now - self._looked_at > STALL_SECONDS:
            self._stalled_until = now
        self._looked_at = now
        news: list[SilentStream] = []
        useless: list[Feed] = []
        for feed, opened_at in self._opened_at.items():
            subscription = feed.subscription
            limit = self._limits[subscription.group]
            latest = max(opened_at, self._stalled_until)
            for symbol in subscription.symbols:
                stream = self._refreshed(subscription.group, symbol, now)
                assert stream is not None
                latest = max(latest, stream.heard_at)
                seconds = now - max(stream.heard_at, self._stalled_until)
                if seconds >= limit and not stream.warned:
                    stream.warned = True
                    news.append(SilentStream(symbol, subscription.stream, seconds))
            if now - latest >= limit and feed.handover.is_open:
                self._opened_at[feed] = now  # the next try has as long
                useless.append(feed)
        return news, useless

    def _refreshed(self, group: Group, symbol: str, now: float) -> _Stream | None:
        stream = self._streams.get((group, symbol))
        if stream is not None and (count := self._count(group, symbol)) != stream.count:
            stream.heard_at, stream.count, stream.warned = now, count, False
        return stream
