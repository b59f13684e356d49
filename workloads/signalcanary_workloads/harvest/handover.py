"""From one connection to its successor without losing, repeating or misplacing a message.

Two connections of one subscription deliver the same messages, each in order, one of them
ahead. To take from both as they come would be wrong: what the newer one brings early makes the
rest of the older one look stale. So a symbol's messages from the newer connection wait until
the older one has reached the first of them; from there on each holds all that follows, and
whichever comes first is taken, for the receiver drops by id what it knows. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

HELD_LIMIT: Final = 20_000
"""Messages of a symbol that may wait: the older connection has stopped, or lags too far."""


class Released(NamedTuple, Generic[T]):
    """What to do now: first the symbols that were not covered, then the messages."""

    uncovered: tuple[str, ...]
    """Something may be missing before these messages."""
    messages: list[T]


@dataclass
class _Waiting(Generic[T]):
    """One symbol, whose older connection has not reached the newer one's beginning yet."""

    older_id: int | None = None
    """The last id that the older connection brought since the newer one opened."""
    first_id: int | None = None
    """The first id that the newer connection brought."""
    held: list[T] = field(default_factory=list)


class Handover(Generic[T]):
    """The connections of one subscription: one, or two while one takes over."""

    def __init__(self, symbols: Sequence[str], held_limit: int = HELD_LIMIT) -> None:
        self._symbols = tuple(symbols)
        self._held_limit = held_limit
        self._live: list[int] = []  # the newer one last
        self._overlapped: int | None = None
        self.waiting: dict[str, _Waiting[T]] = {}
        """Symbols not handed over yet. Empty, messages may be taken as they come."""

    @property
    def is_open(self) -> bool:
        """Is there a connection?"""
        return bool(self._live)

    def overlapped(self, conn_id: int) -> None:
        """All that came until the end of the overlap with this connection has been offered."""
        self._overlapped = conn_id

    def is_served_by(self, conn_id: int, forgone: frozenset[str] = frozenset()) -> bool:
        """May the older connection go, and only this newer one stay?

        Not before every symbol is handed over or was quiet on both: an older connection that
        lags has still to bring what the newer one was too late for.

        Args:
            forgone: symbols that the older one is not waited for any longer.
        """
        return conn_id in self._live and conn_id == self._overlapped and forgone >= self._pending

    @property
    def brought_by_newer_only(self) -> frozenset[str]:
        """Symbols that the newer connection has brought something of, and the older nothing."""
        return frozenset(
            symbol for symbol in self._pending if self.waiting[symbol].older_id is None
        )

    @property
    def _pending(self) -> frozenset[str]:
        """Symbols that were not quiet and are not handed over."""
        return frozenset(
            symbol
            for symbol, one in self.waiting.items()
            if one.older_id is not None or one.first_id is not None
        )

    def opened(self, conn_id: int) -> tuple[str, ...]:
        """A connection has opened; gives the symbols that nothing covered until now."""
        self._live.append(conn_id)
        if len(self._live) == 1:
            return self._symbols
        self.waiting = {symbol: _Waiting() for symbol in self._symbols}
        return ()

    def offer(self, conn_id: int, symbol: str, message_id: int, message: T) -> Released[T]:
        """A message while symbols are waiting; gives what may be taken now, in order."""
        one = self.waiting.get(symbol)
        if one is None:
            return Released((), [message])
        if conn_id == self._live[-1]:
            if one.first_id is None:
                one.first_id = message_id
            one.held.append(message)
            if one.older_id is not None and one.older_id >= one.first_id:
                return Released((), self._hand_over(symbol))
            if len(one.held) > self._held_limit:
                return Released((symbol,), self._hand_over(symbol))
            return Released((), [])
        one.older_id = message_id
        if one.first_id is not None and message_id >= one.first_id:
            return Released((), [message, *self._hand_over(symbol)])
        return Released((), [message])

    def lost(self, conn_id: int, symbol: str, marker: T) -> Released[T]:
        """A message that cannot be read, so has no id; `marker` stands for it in its place."""
        one = self.waiting.get(symbol)
        if one is None or conn_id != self._live[-1]:
            return Released((), [marker])
        if one.first_id is not None:  # before that, it is the older connection's to bring
            one.held.append(marker)
        return Released((), [])

    def closed(self, conn_id: int, retired: bool) -> Released[T]:
        """A connection has ended.

        Args:
            retired: its successor was found to serve and to have overlapped long enough, and
                it was read to its end; so a symbol that was quiet on both is not in doubt.
        """
        was_newer = conn_id == self._live[-1]
        self._live.remove(conn_id)
        if was_newer or not self._live:  # the older one, if any, brings all that was held
            self.waiting = {}
            return Released((), [])
        uncovered = tuple(
            symbol
            for symbol, one in self.waiting.items()
            if not (retired and one.older_id is None and one.first_id is None)
        )
        messages = [message for symbol in self._symbols for message in self._hand_over(symbol)]
        return Released(uncovered, messages)

    def _hand_over(self, symbol: str) -> list[T]:
        one = self.waiting.pop(symbol, None)
        return [] if one is None else one.held
