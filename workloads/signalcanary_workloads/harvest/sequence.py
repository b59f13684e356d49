"""Puts a symbol's trades in the order of their ids, each exactly once.

Ids are contiguous per symbol, so the expected one is last + 1: a lower one is a duplicate, a
higher one leaves a hole. While a hole is open later trades wait here; whoever owns the
sequencer fetches the missing ones and offers them like any other, or gives the hole up. Pure.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from signalcanary_workloads.harvest.wire import Trade
from signalcanary_workloads.store import Gap

WAITING_LIMIT: Final = 50_000
REST_CONNECTION: Final = 0
"""`conn_id` of rows that came over REST."""

Source = Literal["ws", "rest"]


class Arrival(NamedTuple):
    """A trade and how it came."""

    trade: Trade
    recv_ns: int
    src: Source
    conn_id: int


class Hole(NamedTuple):
    """Missing ids, both inclusive."""

    first: int
    last: int


class TradeSequencer:
    """Orders the trades of one symbol."""

    def __init__(
        self,
        stream: str,
        next_id: int | None = None,
        last_ts: int | None = None,
        waiting_limit: int = WAITING_LIMIT,
    ) -> None:
        self.next_id = next_id
        """The id that is expected; `None`: whichever comes first."""
        self.duplicates = 0
        self.regressed = 0
        """Of these, those with a newer time: no repetition, but ids that began anew."""
        self.regressed_run = 0
        """Of these, those since the last trade that was kept."""
        self.deferred = 0
        """Trades turned away as too many waited. Not lost: they are the next hole."""
        self.lost = 0
        """Ids given up."""
        self._stream = stream
        self._limit = waiting_limit
        self._waiting: dict[int, Arrival] = {}
        self._hole_end = -1
        self._hole_lost = False
        self._hole_reason = ""
        self._hole_start_ts: int | None = None
        self._reason = "missed" if next_id is None else "restart"
        self._last_ts = last_ts
        self._gaps: list[Gap] = []

    @property
    def hole(self) -> Hole | None:
        """The ids to fetch before anything else can be released."""
        if not self._waiting or self.next_id is None:
            return None
        return Hole(self.next_id, self._hole_end)

    @property
    def newest_waiting(self) -> int | None:
        """The highest id that waits; whatever is missing is below it."""
        return max(self._waiting, default=None)

    def offer(self, arrival: Arrival) -> list[Arrival]:
        """Take a trade in; gives those whose turn it is now, in order."""
        trade_id = arrival.trade.trade_id
        if self.next_id is None or (trade_id == self.next_id and not self._waiting):
            self._reason = "missed"
            self._last_ts = arrival.trade.ts
            self.regressed_run = 0
            self.next_id = trade_id + 1
            return [arrival]
        if trade_id < self.next_id or trade_id in self._waiting:
            self.duplicates += 1
            if trade_id < self.next_id and arrival.trade.ts > (self._last_ts or arrival.trade.ts):
                self.regressed += 1
                self.regressed_run += 1
            return []
        self.regressed_run = 0
        if trade_id != self.next_id and len(self._waiting) >= self._limit:
            self.deferred += 1
            return []
        if not self._waiting:
            self._open_hole(self._reason, trade_id - 1)
        elif self.next_id < trade_id <= self._hole_end:
            self._hole_end = trade_id - 1
        self._waiting[trade_id] = arrival
        return self._release() if trade_id == self.next_id else []

    def give_up(self) -> list[Arrival]:
        """The hole cannot be filled: go on behind it."""
        if not self._waiting or self.next_id is None:
            return []
        self.lost += self._hole_end + 1 - self.next_id
        self._hole_lost = True
        self.next_id = self._hole_end + 1
        return self._release()

    def _release(self) -> list[Arrival]:
        released: list[Arrival] = []
        assert self.next_id is not None
        while (arrival := self._waiting.pop(self.next_id, None)) is not None:
            released.append(arrival)
            self.next_id += 1
        self._last_ts = released[-1].trade.ts
        if self.next_id > self._hole_end:
            first_after = next(a.trade.ts for a in released if a.trade.trade_id > self._hole_end)
            start = self._hole_start_ts if self._hole_start_ts is not None else first_after
            self._gaps.append(
                Gap(self._stream, start, first_after, self._hole_reason, not self._hole_lost)
            )
            self._reason = "missed"
            if self._waiting:  # another hole behind this one
                self._open_hole(self._reason, min(self._waiting) - 1)
        return released

    def _open_hole(self, reason: str, last_id: int) -> None:
        self._hole_lost = False
        self._hole_reason = reason
        self._hole_start_ts = self._last_ts
        self._hole_end = last_id

    def take_gaps(self) -> list[Gap]:
        """Holes closed since the last call, filled or given up."""
        gaps, self._gaps = self._gaps, []
        return gaps
