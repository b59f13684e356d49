"""A reversed taker flag is found out, and nothing else is taken for one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from signalcanary_workloads.harvest.sides import SideAgreement
from signalcanary_workloads.harvest.wire import AggTrade, BookTicker, parse_frame
from signalcanary_workloads.store import Quality

START = 1_777_600_000_000
DATA = Path(__file__).parents[4] / "shared" / "data" / "binance-usdm-20240808"


def quote(ts: int, bid: float = 100.0, ask: float = 101.0) -> BookTicker:
    return BookTicker("X", ts, bid, 1.0, ask, 1.0, ts, ts)


def trade(ts: int, price: float, sell: bool, number: int = 1) -> AggTrade:
    return AggTrade("X", number, price, 1.0, number, number, ts, sell, ts)


def judge(flags: list[bool], step_ms: int = 1_000) -> SideAgreement:
    """One trade a step, all at the ask; `flags`: is it said to be a sale?"""
    sides = SideAgreement()
    for n, sell in enumerate(flags):
        sides.on_quote(quote(START + n * step_ms))
        sides.on_trade(trade(START + n * step_ms + 1, 101.0, sell))
    return sides


def test_trades_at_the_ask_that_are_called_sales_are_disputed() -> None:
    now = START + 120_000
    right, wrong = judge([False] * 120), judge([True] * 120)
    assert right.agreement(now) == (1.0, 1.0)
    assert not right.is_disputed(now)
    assert wrong.agreement(now) == (0.0, 0.0)
    assert wrong.is_disputed(now)


def test_too_little_evidence_disputes_nothing() -> None:
    assert judge([True] * 49).agreement(START + 49_000) is None
    burst = judge([True] * 200, step_ms=10)
    assert burst.agreement(START + 2_000) is None, "two seconds are one or two orders"


def test_evidence_is_forgotten_after_300_s_of_event_time() -> None:
    wrong = judge([True] * 120)
    assert wrong.is_disputed(START + 300_000)
    assert not wrong.is_disputed(START + 430_000)


def test_half_of_the_flags_wrong_by_chance_is_no_reversal() -> None:
    rng = np.random.default_rng(1)
    disputed = [
        judge((rng.random(290) < 0.5).tolist()).is_disputed(START + 290_000) for _ in range(100)
    ]
    assert not any(disputed)


def test_the_quote_that_prevails_is_the_last_one_before_the_trade() -> None:
    sides = SideAgreement()
    for n in range(60):
        at = START + n * 1_000
        sides.on_quote(quote(at, 100.0, 101.0))
        sides.on_quote(quote(at + 5, 101.0, 102.0))  # the trade moved the book, and came later
        sides.on_trade(trade(at + 5, 101.0, sell=False))
    agreement = sides.agreement(START + 60_000)
    assert agreement is not None
    assert agreement.ratio == 1.0


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda s, t: s.on_quote(quote(t - 2_000)), id="the quote is old"),
        pytest.param(lambda s, t: s.on_quote(quote(t, 100, 102)), id="the quote is not earlier"),
        pytest.param(lambda s, t: s.on_quote(quote(t - 1, 100, 102)), id="at the mid"),
        pytest.param(
            lambda s, t: (s.on_quote(quote(t - 1)), s.forget_quotes()), id="the book was away"
        ),
        pytest.param(lambda s, t: None, id="no quote"),
    ],
)
def test_what_cannot_be_compared_is_not(prepare) -> None:  # type: ignore[no-untyped-def]
    sides = SideAgreement()
    for n in range(100):
        at = START + n * 3_000
        prepare(sides, at)
        sides.on_trade(trade(at, 101.0, sell=True))
    assert sides.agreement(START + 290_000) is None


@pytest.mark.skipif(not DATA.is_dir(), reason="the recorded frames are not on this machine")
@pytest.mark.parametrize(("symbol", "least"), [("btcusdt", 0.98), ("ethusdt", 0.99)])
def test_a_real_market_agrees_with_its_flags(symbol: str, least: float) -> None:
    sides, newest = SideAgreement(), 0
    with gzip.open(DATA / f"{symbol}_20240808.gz") as lines:
        for line in lines:
            frame = line.partition(b" ")[2]
            if b"@bookTicker" not in frame[:50] and b"@trade" not in frame[:50]:
                continue
            message = parse_frame(frame)
            if isinstance(message, BookTicker):
                sides.on_quote(message)
                newest = message.ts
            else:
                sides.on_trade(message)
    agreement = sides.agreement(newest)
    assert agreement is not None
    assert agreement.ratio > least


def test_the_state_goes_out_and_in() -> None:
    one, other = judge([True] * 120), SideAgreement()
    other.import_state(json.loads(json.dumps(one.export_state())))
    assert other.export_state() == one.export_state()
    assert other.is_disputed(START + 120_000)
    assert Quality.SIDE_DISPUTED == 32
