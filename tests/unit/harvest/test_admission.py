"""A frame from the future moves no watermark, and no clock that is wrong costs a message."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary_workloads.harvest.admission import LIMIT_NS, QUORUM, Admission
from signalcanary_workloads.harvest.clock import OffsetEstimate

STREAM = "bookTicker"
SECOND = 1_000_000_000
DAY = 86_400 * SECOND


class Receiver:
    """Offers messages by number, and keeps what comes of them in order."""

    def __init__(self) -> None:
        self.offset = OffsetEstimate()
        self.admission: Admission[int] = Admission(self.offset)
        self.admitted: list[int] = []
        self.refused: list[int] = []

    def receive(self, number: int, event_ns: int, recv_ns: int) -> None:
        verdict = self.admission.offer(STREAM, number, recv_ns - event_ns, number)
        self.refused += verdict.refused
        self.admitted += verdict.admitted

    @property
    def held(self) -> list[int]:
        return [one.message for one in self.admission.holding.get(STREAM, [])]


def seconds(least: float, most: float) -> st.SearchStrategy[int]:
    return st.integers(round(least * SECOND), round(most * SECOND))


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            seconds(0, 100),  # until the next message is sent
            seconds(0, 10),  # on its way
            st.lists(seconds(120, 1e7), max_size=QUORUM - 1),  # bad frames before it, so far ahead
        ),
        min_size=1,
        max_size=30,
    ),
    behind=seconds(-20, 20),
)
def test_what_is_refused_is_what_comes_from_the_future_and_nothing_else(
    steps: Sequence[tuple[int, int, list[int]]], behind: int
) -> None:
    """With a clock that is up to 20 s wrong, either way."""
    receiver, sent_ns, recv_ns = Receiver(), DAY, DAY
    good, bad = [], []
    for between, way, ahead in steps:
        sent_ns += between
        recv_ns = max(recv_ns, sent_ns + way - behind)
        for more in ahead:
            bad.append(len(good) + len(bad))
            receiver.receive(bad[-1], recv_ns + more, recv_ns)
            assert receiver.offset.seconds is None or receiver.offset.seconds > -60
        good.append(len(good) + len(bad))
        receiver.receive(good[-1], sent_ns, recv_ns)
    assert receiver.admitted == good
    assert receiver.refused == bad


@settings(deadline=None)
@given(
    speed=st.sampled_from([1, 60, 120, 1000]),
    begins=seconds(-1e8, 1e8),
    stretches=st.lists(
        st.tuples(
            seconds(-1e6, 1e6),  # the clock is set by so much, and then left for
            st.lists(seconds(0, 20), min_size=QUORUM, max_size=8),  # messages so far apart
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_no_clock_costs_a_message(
    speed: int, begins: int, stretches: Sequence[tuple[int, Sequence[int]]]
) -> None:
    """Neither one that is set again and again, nor a market that runs faster than it."""
    receiver, event_ns, recv_ns, number = Receiver(), 10**18, 10**18 + begins, 0
    for step, gaps in stretches:
        recv_ns += step
        for gap in gaps:
            event_ns, recv_ns = event_ns + gap * speed, recv_ns + gap
            receiver.receive(number, event_ns, recv_ns)
            number += 1
    assert receiver.refused == []
    assert receiver.admitted + receiver.held == list(range(number))
    assert len(receiver.held) < QUORUM


def test_a_clock_that_is_a_second_behind_holds_nothing_up() -> None:
    receiver = Receiver()
    receiver.receive(1, DAY + 1_200_000_000, DAY)
    assert receiver.admitted == [1]
    assert receiver.offset.seconds == -1.2


def test_messages_that_agree_are_taken_in_order_once_there_are_enough() -> None:
    receiver = Receiver()
    for number in range(1, QUORUM):
        receiver.receive(number, DAY + 3_600 * SECOND + number, number)
        assert receiver.admitted == []
    receiver.receive(QUORUM, DAY + 3_600 * SECOND + QUORUM, QUORUM)
    assert receiver.admitted == list(range(1, QUORUM + 1))
    receiver.receive(9, DAY + 3_600 * SECOND + 9, 9)
    assert receiver.admitted[-1] == 9, "the clocks are known to be so far apart now"


def test_what_two_connections_bring_has_one_voice() -> None:
    receiver = Receiver()
    for _ in range(QUORUM):
        receiver.receive(1, 2 * DAY, DAY)
    assert receiver.admitted == []
    receiver.receive(2, DAY, DAY)
    assert receiver.admitted == [2]
    assert receiver.refused == [1] * QUORUM


def test_streams_are_judged_by_themselves_and_a_new_beginning_refuses_what_is_held() -> None:
    admission: Admission[str] = Admission(OffsetEstimate())
    assert admission.offer("bookTicker", 1, -DAY, "quote").admitted == []
    assert admission.offer("aggTrade", 1, 0, "trade").admitted == ["trade"]
    assert admission.refuse("aggTrade") == []
    assert admission.refuse("bookTicker") == ["quote"]
    assert admission.holding == {}


def test_the_limit_is_beyond_what_the_clocks_are_known_to_be_apart() -> None:
    admission: Admission[str] = Admission(OffsetEstimate())
    assert not admission.is_ahead(-LIMIT_NS)
    assert admission.is_ahead(-LIMIT_NS - 1)
    admission.offer(STREAM, 1, -SECOND, "a second from the future")
    assert not admission.is_ahead(-LIMIT_NS - SECOND)
    admission.offer(STREAM, 2, DAY, "a replay")
    assert not admission.is_ahead(-LIMIT_NS - SECOND)
