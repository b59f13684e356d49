from __future__ import annotations

from signalcanary.contract import DataSource
from signalcanary_workloads.harvest.feed import Group, full_jitter, plan_subscriptions


def test_no_connection_carries_more_than_200_streams_and_all_are_carried() -> None:
    symbols = tuple(f"COIN{n}USDT" for n in range(450))
    plan = plan_subscriptions(DataSource(), symbols)
    for group, base, stream in (
        (Group.BOOK, "wss://fstream.binance.com/public", "bookTicker"),
        (Group.TRADES, "wss://fstream.binance.com/market", "aggTrade"),
    ):
        mine = [one for one in plan if one.group is group]
        assert [len(one.symbols) for one in mine] == [200, 200, 50]
        assert tuple(symbol for one in mine for symbol in one.symbols) == symbols
        for one in mine:
            address, _, names = one.url.partition("/stream?streams=")
            assert address == base
            assert names.split("/") == [f"{s.lower()}@{stream}" for s in one.symbols]
            assert len(one.url) < 8_000, "longer request lines are refused on the way"


def test_pauses_grow_to_a_bound_and_are_fully_jittered() -> None:
    longest = [full_jitter(n, 1.0, 60.0, lambda: 1.0) for n in range(8)]
    assert longest == [1, 2, 4, 8, 16, 32, 60, 60]
    assert full_jitter(10_000, 1.0, 60.0, lambda: 0.5) == 30
