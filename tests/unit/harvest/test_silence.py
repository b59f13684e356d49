from __future__ import annotations

import asyncio

from signalcanary.contract import DataSource
from signalcanary_workloads.harvest.feed import (
    Feed,
    FeedSettings,
    Group,
    Surroundings,
    plan_subscriptions,
)
from signalcanary_workloads.harvest.silence import SilenceWatch

SYMBOLS = ("A", "B")


class Streams:
    """The trades of two symbols on one connection, silent after 300 s."""

    def __init__(self) -> None:
        (subscription,) = (
            one for one in plan_subscriptions(DataSource(), SYMBOLS) if one.group is Group.TRADES
        )
        around = Surroundings(lambda: 0.0, lambda: 0, lambda: 1)
        self.feed = Feed(subscription, asyncio.Queue(), FeedSettings(), around)
        self.counts = dict.fromkeys(SYMBOLS, 0)
        self.watch = SilenceWatch(
            [self.feed], lambda _, symbol: self.counts[symbol], {Group.TRADES: 300.0}
        )
        self.feed.handover.opened(1)
        self.watch.opened(self.feed, 0.0)

    def look(self, until: int, since: int = 0) -> tuple[list[tuple[int, str]], list[int]]:
        """Look each second; gives what was reported and when, and when it was given up."""
        reported: list[tuple[int, str]] = []
        given_up: list[int] = []
        for now in range(since + 1, until + 1):
            silent, useless = self.watch.look(float(now))
            reported += [(now, one.symbol) for one in silent]
            given_up += [now for _ in useless]
        return reported, given_up


def test_all_streams_silent_is_reported_once_and_given_up_again_and_again() -> None:
    streams = Streams()
    reported, given_up = streams.look(900)
    assert reported == [(300, "A"), (300, "B")]
    assert given_up == [300, 600, 900]
    assert streams.watch.seconds(Group.TRADES, "A", 950.0) == 950.0


def test_one_silent_stream_of_two_is_reported_and_nothing_is_given_up() -> None:
    streams = Streams()
    for since in range(0, 900, 100):
        streams.counts["A"] += 1
        reported, given_up = streams.look(since + 100, since)
        assert reported == ([(300, "B")] if since == 200 else [])
        assert given_up == []
    streams.counts["B"] += 1
    assert streams.watch.seconds(Group.TRADES, "B", 901.0) == 0.0


def test_time_in_which_nobody_read_is_no_silence() -> None:
    streams = Streams()
    assert streams.look(200) == ([], [])
    reported, given_up = streams.look(1_300, since=1_000)  # 800 s went to a full volume
    assert (reported, given_up) == ([], [])
    assert streams.look(1_301, since=1_300)[1] == [1_301]


def test_a_stream_that_was_never_subscribed_to_has_no_silence() -> None:
    assert Streams().watch.seconds(Group.BOOK, "A", 5.0) is None
