"""Keeps messages from the future out of what event time decides.

The watermark follows the newest event time and never goes back: one frame whose time is a day ahead
would make a day of quotes late. So a message that is further ahead of the receive clock than the
clocks have been apart is held back until `QUORUM` in a row of its stream agree: then it is the
clocks that have moved (ours was set, or the market is a simulated one that runs faster), and all
are taken, in order. If an ordinary message comes first, what was held is refused. Pure.

A market whose time lies behind the receive clock, a replay, is never in doubt.
"""

from __future__ import annotations

from typing import Final, Generic, NamedTuple, TypeVar

from signalcanary_workloads.harvest.clock import OffsetEstimate

T = TypeVar("T")

LIMIT_NS: Final = 30_000_000_000
"""More than clocks drift apart or a way shortens between two messages, and little enough that a
frame just below it costs half a minute of features."""
QUORUM: Final = 3


class _Held(NamedTuple, Generic[T]):
    age_ns: int
    message_id: int
    message: T


class Verdict(NamedTuple, Generic[T]):
    """What to do now: first the refused, each a loss in its place, then the admitted."""

    refused: list[T]
    admitted: list[T]


class Admission(Generic[T]):
    """The streams of one symbol, beside the offset of its clocks.

    A message's age is its receive time less its event time: negative, it comes from the future.
    """

    def __init__(self, offset: OffsetEstimate) -> None:
        self.holding: dict[str, list[_Held[T]]] = {}
        """By stream; a stream that nothing is held of is not there."""
        self._offset = offset

    def is_ahead(self, age_ns: int) -> bool:
        """Is it further ahead than the clocks are known to be apart?"""
        return age_ns < min(self._offset.total_ns, 0) - LIMIT_NS

    def offer(self, stream: str, message_id: int, age_ns: int, message: T) -> Verdict[T]:
        """The next message of a stream. One that two connections brought has one voice."""
        held = self.holding.pop(stream, [])
        refused = [one.message for one in held if one.age_ns < age_ns - LIMIT_NS]
        agreed = [one for one in held if one.age_ns >= age_ns - LIMIT_NS]
        agreed.append(_Held(age_ns, message_id, message))
        if self.is_ahead(age_ns) and len({one.message_id for one in agreed}) < QUORUM:
            self.holding[stream] = agreed
            return Verdict(refused, [])
        least_ns = min(one.age_ns for one in agreed)
        self._offset.least_ns = min(self._offset.least_ns, least_ns)
        return Verdict(refused, [one.message for one in agreed])

    def refuse(self, stream: str) -> list[T]:
        """The stream begins anew: nothing can agree any more with what is held."""
        return [one.message for one in self.holding.pop(stream, [])]
