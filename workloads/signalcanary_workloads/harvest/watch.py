"""What is looked at once a second, beside the frames: silence, the clock, ids begun anew.

None of it changes a row. It says in logs and metrics what the frames alone cannot say, and
gives up connections that are open and of no use.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from signalcanary_workloads.harvest.clock import ClockWatch, OffsetEstimate
from signalcanary_workloads.harvest.feed import Feed, Group
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.quality import QUALITY_WINDOW_MS
from signalcanary_workloads.harvest.settings import Settings
from signalcanary_workloads.harvest.silence import SilenceWatch

log = logging.getLogger(__name__)

REGRESSED_FRAMES: Final = 20
"""So many in a row, with old ids and new times, are no accident."""


class Watch:
    """One process's streams and clocks."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        pipelines: Mapping[str, SymbolPipeline],
        settings: Settings,
    ) -> None:
        self._pipelines = pipelines
        self._settings = settings
        self._silence = SilenceWatch(feeds, self._count_frames, settings.silent_after_seconds)
        self._said_regressed: set[tuple[str, Group]] = set()
        self.clock = ClockWatch()
        self.offsets = {symbol: OffsetEstimate() for symbol in pipelines}
        self.forced_reconnects = dict.fromkeys(Group, 0)

    def _count_frames(self, group: Group, symbol: str) -> int:
        counts = self._pipelines[symbol].counts
        return counts.quotes if group is Group.BOOK else counts.trades

    def opened(self, feed: Feed) -> None:
        """A connection has opened."""
        self._silence.opened(feed, self._settings.monotonic())

    def silent_seconds(self, group: Group, symbol: str) -> float | None:
        """Wall time since the stream's last frame, or since it was first subscribed to."""
        return self._silence.seconds(group, symbol, self._settings.monotonic())

    def has_recent_trades(self, symbol: str) -> bool:
        """Is what was computed over the last 300 s of trades of the last 300 s?"""
        seconds = self.silent_seconds(Group.TRADES, symbol)
        return seconds is not None and seconds * 1_000 <= QUALITY_WINDOW_MS

    def last_trade_seconds(self, symbol: str) -> float | None:
        """Unix time of the last trade, or of when trades were first subscribed to."""
        silent = self.silent_seconds(Group.TRADES, symbol)
        return None if silent is None else self._settings.wall_ns() / 1e9 - silent

    def look(self) -> None:
        """Look at everything."""
        now = self._settings.monotonic()
        self._look_at_clock(now)
        silent, useless = self._silence.look(now)
        for stream in silent:
            _warn(
                "stream is silent though subscribed; is it served at this address?",
                **stream._asdict(),
            )
        for feed in useless:
            self.forced_reconnects[feed.subscription.group] += 1
            feed.reconnect()
        for symbol, pipeline in self._pipelines.items():
            self._look_at_ids(symbol, Group.BOOK, pipeline.counts.regressed_quotes_run)
            self._look_at_ids(symbol, Group.TRADES, pipeline.sequencer.regressed_run)

    def _look_at_clock(self, now: float) -> None:
        step = self.clock.look(self._settings.wall_ns(), now)
        if step is not None:
            _warn("the wall clock was set; features do not depend on it", seconds=step)
        for offset in self.offsets.values():
            if step is not None:
                offset.forget()
            offset.look(now)

    def _look_at_ids(self, symbol: str, group: Group, run: int) -> None:
        key = (symbol, group)
        if run == 0:
            self._said_regressed.discard(key)
        elif run >= REGRESSED_FRAMES and key not in self._said_regressed:
            self._said_regressed.add(key)
            _warn(
                "ids that were passed long ago come with newer times: the exchange has begun "
                "them anew, and nothing of this stream is kept; harvest into another folder",
                symbol=symbol,
                group=group,
            )


def _warn(event: str, **fields: object) -> None:
    log.warning(event, extra={"fields": fields})
