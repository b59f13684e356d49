"""Two connections that bring the same messages become one stream without a loss or a repeat."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary_workloads.harvest.handover import Handover

OLD, NEW = 1, 2
SYMBOL = "BTCUSDT"
BROKEN = -1


class Receiver:
    """Takes what is released, and drops by id what it knows, as the pipeline does."""

    def __init__(self, symbols: tuple[str, ...] = (SYMBOL,), held_limit: int = 100) -> None:
        self.handover: Handover[int] = Handover(symbols, held_limit)
        self.taken: list[int] = []
        self.uncovered_before: list[int | None] = []

    def open(self, conn_id: int) -> None:
        self._uncover(self.handover.opened(conn_id))

    def bring(self, conn_id: int, message_id: int, symbol: str = SYMBOL) -> None:
        if self.handover.waiting:
            released = self.handover.offer(conn_id, symbol, message_id, message_id)
            self._uncover(released.uncovered)
            self._take(released.messages)
        else:
            self._take([message_id])

    def bring_broken(self, conn_id: int) -> None:
        released = self.handover.lost(conn_id, SYMBOL, BROKEN)
        self._uncover(released.uncovered)
        self._take(released.messages)

    def close(self, conn_id: int, retired: bool = False) -> tuple[str, ...]:
        released = self.handover.closed(conn_id, retired)
        self._uncover(released.uncovered)
        self._take(released.messages)
        return released.uncovered

    def _uncover(self, symbols: tuple[str, ...]) -> None:
        if symbols:
            self.uncovered_before.append(self.taken[-1] if self.taken else None)

    def _take(self, messages: list[int]) -> None:
        for message in messages:
            if message == BROKEN:
                self._uncover((SYMBOL,))
            elif not self.taken or message > self.taken[-1]:
                self.taken.append(message)


@settings(deadline=None)
@given(
    begins=st.integers(0, 20),
    turns=st.lists(st.booleans(), max_size=80),
    broken=st.sets(st.integers(0, 39), max_size=5),
)
def test_whatever_the_interleaving_nothing_is_lost_that_is_not_said_to_be(
    begins: int, turns: list[bool], broken: set[int]
) -> None:
    receiver = Receiver()
    receiver.open(OLD)
    sent = range(40)
    behind = {OLD: 0, NEW: begins}  # the next message of each connection

    def bring(conn_id: int, message: int) -> None:
        if message in broken:
            receiver.bring_broken(conn_id)
        else:
            receiver.bring(conn_id, message)

    receiver.open(NEW)
    for is_old in turns:
        conn_id = OLD if is_old else NEW
        if behind[conn_id] < len(sent):
            bring(conn_id, sent[behind[conn_id]])
            behind[conn_id] += 1
    handed_over = not receiver.handover.waiting
    uncovered = receiver.close(OLD)
    for message in sent[behind[NEW] :]:
        bring(NEW, message)
    assert receiver.taken == sorted(set(receiver.taken))
    missing = sorted(set(sent) - set(receiver.taken))
    if handed_over:
        assert (set(missing), uncovered) == (broken, ())
    elif set(missing) - broken:
        assert uncovered == (SYMBOL,)
    for message in missing:
        before = max((one for one in receiver.taken if one < message), default=None)
        assert before in receiver.uncovered_before, "announced in its place"


def test_the_successor_waits_until_the_old_one_has_reached_it() -> None:
    receiver = Receiver()
    receiver.open(OLD)
    receiver.bring(OLD, 1)
    receiver.open(NEW)
    receiver.bring(NEW, 4)
    receiver.bring(NEW, 5)
    receiver.bring(OLD, 2)
    receiver.bring(OLD, 3)
    assert receiver.taken == [1, 2, 3]
    receiver.bring(OLD, 4)
    assert receiver.taken == [1, 2, 3, 4, 5]
    assert receiver.close(OLD, retired=True) == ()


def test_one_that_brings_nothing_of_a_symbol_does_not_serve() -> None:
    receiver = Receiver(("A", "B", "C"))
    receiver.open(OLD)
    receiver.open(NEW)
    for conn_id, symbol in ((OLD, "A"), (NEW, "A"), (OLD, "B")):
        receiver.bring(conn_id, 7, symbol)
    receiver.handover.overlapped(NEW)
    assert not receiver.handover.is_served_by(NEW), "B is missing"
    receiver.bring(NEW, 7, "B")
    assert receiver.handover.is_served_by(NEW), "C is quiet on both"
    assert receiver.close(OLD, retired=True) == ()


def test_one_that_is_ahead_of_the_old_one_does_not_serve_yet() -> None:
    receiver = Receiver()
    receiver.open(OLD)
    receiver.open(NEW)
    receiver.bring(OLD, 4)
    receiver.bring(NEW, 6)
    receiver.handover.overlapped(NEW)
    assert not receiver.handover.is_served_by(NEW), "5 is missing"
    receiver.bring(OLD, 5)
    assert not receiver.handover.is_served_by(NEW)
    receiver.bring(OLD, 6)
    assert receiver.handover.is_served_by(NEW)
    assert receiver.close(OLD, retired=True) == ()
    assert receiver.taken == [4, 5, 6]


def test_of_what_the_old_one_does_not_bring_at_all_it_may_be_given_up() -> None:
    receiver = Receiver(("A", "B"))
    receiver.open(OLD)
    receiver.open(NEW)
    receiver.handover.overlapped(NEW)
    receiver.bring(NEW, 6, "A")
    receiver.bring(OLD, 7, "B")
    forgone = receiver.handover.brought_by_newer_only
    assert forgone == {"A"}
    assert not receiver.handover.is_served_by(NEW, forgone), "B is missing"
    receiver.bring(NEW, 7, "B")
    assert receiver.handover.is_served_by(NEW, forgone)
    assert receiver.close(OLD, retired=True) == ("A",)


def test_a_silence_says_nothing_before_all_of_the_overlap_was_offered() -> None:
    receiver = Receiver()
    receiver.open(OLD)
    receiver.open(NEW)
    assert not receiver.handover.is_served_by(NEW)
    receiver.handover.overlapped(NEW)
    assert receiver.handover.is_served_by(NEW)


def test_what_a_cut_connection_had_not_handed_over_is_in_doubt() -> None:
    receiver = Receiver(("A", "B"))
    receiver.open(OLD)
    receiver.open(NEW)
    receiver.bring(OLD, 7, "A")
    receiver.bring(NEW, 7, "A")
    receiver.bring(NEW, 9, "B")
    assert receiver.close(OLD) == ("B",)
    assert receiver.taken == [7, 9]


def test_a_successor_that_ends_first_leaves_the_old_one_as_it_was() -> None:
    receiver = Receiver()
    receiver.open(OLD)
    receiver.open(NEW)
    receiver.bring(NEW, 5)
    assert receiver.close(NEW) == ()
    for message_id in (4, 5, 6):
        receiver.bring(OLD, message_id)
    assert receiver.taken == [4, 5, 6]
    assert receiver.uncovered_before == [None]


def test_an_old_connection_that_stands_still_is_not_waited_for_without_end() -> None:
    receiver = Receiver(held_limit=3)
    receiver.open(OLD)
    receiver.bring(OLD, 1)
    receiver.open(NEW)
    for message_id in range(5, 10):
        receiver.bring(NEW, message_id)
    assert receiver.taken == [1, 5, 6, 7, 8, 9]
    assert receiver.uncovered_before == [None, 1]
