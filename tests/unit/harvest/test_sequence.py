from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary_workloads.harvest.sequence import Arrival, Hole, TradeSequencer
from signalcanary_workloads.harvest.wire import AggTrade
from signalcanary_workloads.store import Gap


def arrival(trade_id: int) -> Arrival:
    ts = trade_id * 10
    return Arrival(AggTrade("X", trade_id, 1.0, 1.0, 0, 0, ts, False, ts), 0, "ws", 1)


def ids(arrivals: list[Arrival]) -> list[int]:
    return [a.trade.trade_id for a in arrivals]


def test_later_trades_wait_until_the_hole_is_filled() -> None:
    sequencer = TradeSequencer("aggTrade")
    assert ids(sequencer.offer(arrival(5))) == [5]
    assert sequencer.offer(arrival(8)) == []
    assert sequencer.hole == Hole(6, 7)
    assert ids(sequencer.offer(arrival(6))) == [6]
    assert sequencer.hole == Hole(7, 7)
    assert ids(sequencer.offer(arrival(7))) == [7, 8]
    assert sequencer.hole is None
    assert sequencer.take_gaps() == [Gap("aggTrade", 50, 80, "missed", True)]


def test_a_hole_given_up_is_counted_and_marked_as_not_recovered() -> None:
    sequencer = TradeSequencer("aggTrade", next_id=5, last_ts=40)
    for trade_id in (9, 8, 12):
        sequencer.offer(arrival(trade_id))
    assert sequencer.hole == Hole(5, 7)
    sequencer.offer(arrival(5))
    assert ids(sequencer.give_up()) == [8, 9]
    assert (sequencer.lost, sequencer.hole) == (2, Hole(10, 11))
    assert ids(sequencer.give_up()) == [12]
    assert sequencer.lost == 4
    assert [(g.start, g.end, g.reason, g.recovered) for g in sequencer.take_gaps()] == [
        (40, 80, "restart", False),
        (90, 120, "missed", False),
    ]


def test_trades_beyond_the_limit_become_the_next_hole() -> None:
    sequencer = TradeSequencer("aggTrade", waiting_limit=2)
    for trade_id in (1, 3, 4, 5, 6):
        sequencer.offer(arrival(trade_id))
    assert sequencer.deferred == 2
    assert ids(sequencer.offer(arrival(2))) == [2, 3, 4]
    assert sequencer.offer(arrival(7)) == []
    assert sequencer.hole == Hole(5, 6)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30), max_size=80),
    st.integers(1, 8),
)
def test_any_order_with_repeats_gives_each_trade_once_in_order(
    arrivals: list[int], limit: int
) -> None:
    sequencer = TradeSequencer("aggTrade", next_id=0, waiting_limit=limit)
    released: list[int] = []
    for trade_id in [*arrivals, 31]:
        released += ids(sequencer.offer(arrival(trade_id)))
    while (hole := sequencer.hole) is not None:  # as the backfill does
        for trade_id in range(hole.first, hole.last + 1):
            released += ids(sequencer.offer(arrival(trade_id)))
    released += ids(sequencer.offer(arrival(32)))
    while (hole := sequencer.hole) is not None:
        for trade_id in range(hole.first, hole.last + 1):
            released += ids(sequencer.offer(arrival(trade_id)))
    assert released == list(range(33))
    assert sequencer.lost == 0
    assert all(gap.recovered for gap in sequencer.take_gaps())


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60), st.data())
def test_giving_up_at_any_time_keeps_the_order_and_counts_the_lost(
    arrivals: list[int], data: st.DataObject
) -> None:
    sequencer = TradeSequencer("aggTrade", next_id=0)
    released: list[int] = []
    for trade_id in arrivals:
        released += ids(sequencer.offer(arrival(trade_id)))
        if data.draw(st.booleans()):
            released += ids(sequencer.give_up())
    while sequencer.hole is not None:
        released += ids(sequencer.give_up())
    assert released == sorted(set(released))
    assert sequencer.next_id == len(released) + sequencer.lost


def test_old_ids_with_newer_times_are_no_repetition() -> None:
    sequencer = TradeSequencer("aggTrade", next_id=100, last_ts=50)
    sequencer.offer(arrival(4))  # of time 40: a repetition
    for trade_id in (6, 7, 8):
        sequencer.offer(arrival(trade_id))
    assert (sequencer.duplicates, sequencer.regressed, sequencer.regressed_run) == (4, 3, 3)
    sequencer.offer(arrival(100))
    assert (sequencer.regressed, sequencer.regressed_run) == (3, 0)
