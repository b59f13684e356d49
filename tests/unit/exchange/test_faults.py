"""Faults are validated, scheduled in event time, and hit what they name only."""

from random import Random
from typing import Any

import pytest

from signalcanary_workloads.exchange.delivery import Delivery
from signalcanary_workloads.exchange.faults import (
    NO_EFFECTS,
    FaultBook,
    FaultError,
    Target,
    parse_faults,
)
from signalcanary_workloads.exchange.model import Regime
from signalcanary_workloads.exchange.protocol import Frame, Kind, build_frame

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def book_with(*documents: dict[str, Any], now_ms: float = 0) -> FaultBook:
    book = FaultBook(SYMBOLS, can_disturb_market=True)
    book.impose(parse_faults(list(documents)), now_ms)
    return book


def frame(number: int, kind: Kind = Kind.AGG_TRADE, symbol: str = "BTCUSDT") -> Frame:
    return build_frame(symbol, kind, b'{"a":%d,"more":true}' % number)


def numbers(frames: list[Frame]) -> list[int]:
    return [int(one.data[5 : one.data.index(b",")]) for one in frames]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param({"type": "plague"}, "plague", id="unknown type"),
        pytest.param({}, "type", id="no type"),
        pytest.param("drop", "dictionary", id="no object"),
        pytest.param([], "no fault given", id="empty list"),
        pytest.param({"type": "drop", "probability": 2}, "drop.probability", id="range"),
        pytest.param({"type": "delay", "endpoint": "market"}, "delay.delay_ms", id="missing"),
        pytest.param({"type": "delay", "endpoint": "x", "delay_ms": 1}, "'public'", id="choice"),
        pytest.param({"type": "skill", "factor": 0, "oops": 1}, "skill.oops", id="unknown field"),
        pytest.param({"type": "silent", "symbols": []}, "silent.symbols", id="no symbol"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_the_reason(document: Any, words: str) -> None:
    with pytest.raises(FaultError, match=words):
        parse_faults(document)


def test_a_fault_of_a_symbol_that_is_not_traded_is_refused() -> None:
    with pytest.raises(FaultError, match="DOGEUSDT not traded here, only BTCUSDT"):
        book_with({"type": "silent", "symbols": ["DOGEUSDT"]})


def test_recorded_frames_cannot_be_given_another_truth() -> None:
    book = FaultBook(SYMBOLS, can_disturb_market=False)
    with pytest.raises(FaultError, match="not possible on recorded frames"):
        book.impose(parse_faults({"type": "skill", "factor": 0}), 0)
    book.impose(parse_faults({"type": "silent"}), 0)


def test_a_fault_begins_and_ends_at_its_event_time() -> None:
    book = book_with(
        {
            "type": "regime",
            "regime": "quiet",
            "after_event_seconds": 2,
            "duration_event_seconds": 3,
        },
        now_ms=1_000,
    )
    regimes = [
        book.effects("BTCUSDT", now_ms).conditions.regime for now_ms in (1_000, 2_999, 3_000, 5_999)
    ]
    assert regimes == [None, None, Regime.QUIET, Regime.QUIET]
    assert book.effects("BTCUSDT", 6_000).conditions.regime is None
    assert book.imposed(6_000) == []


def test_a_fault_of_one_symbol_spares_the_others() -> None:
    book = book_with({"type": "inverted_maker", "symbols": ["BTCUSDT"]})
    assert book.effects("BTCUSDT", 0).inverted_maker
    assert not book.effects("ETHUSDT", 0).inverted_maker


def test_of_two_faults_of_a_kind_the_later_counts_until_it_is_cleared() -> None:
    book = book_with({"type": "skill", "factor": 0.5}, {"type": "skill", "factor": 0})
    assert book.effects("BTCUSDT", 0).conditions.skill_factor == 0
    assert book.clear(2) == 1
    assert book.effects("BTCUSDT", 0).conditions.skill_factor == 0.5
    assert book.clear() == 1
    assert book.effects("BTCUSDT", 0) is NO_EFFECTS


def test_all_market_faults_reach_the_model() -> None:
    effects = book_with(
        {"type": "frozen_book"},
        {"type": "frozen_mid"},
        {"type": "clock_step", "offset_ms": -1500},
        {"type": "calibration_shift", "delta_logit": 1.2},
        {"type": "trade_sizes", "sigma": 1.7},
        {"type": "delay", "endpoint": "public", "delay_ms": 5},
    ).effects("BTCUSDT", 0)
    assert effects.conditions.frozen_book
    assert effects.conditions.frozen_mid
    assert effects.conditions.logit_shift == 1.2
    assert effects.conditions.trade_size_sigma == 1.7
    assert effects.clock_offset_ms == -1500
    assert effects.delay_ms == {Target.PUBLIC: 5}


def test_a_disconnect_happens_once() -> None:
    book = book_with({"type": "disconnect", "after_event_seconds": 1})
    assert book.take_disconnects(999) == []
    assert len(book.take_disconnects(1_000)) == 1
    assert book.take_disconnects(1_001) == []


def test_a_delay_holds_its_endpoint_back_in_order_even_when_it_ends() -> None:
    effects = book_with({"type": "delay", "endpoint": "market", "delay_ms": 500}).effects(
        "BTCUSDT", 0
    )
    delivery = Delivery(Random(1))
    delivery.offer(frame(1), 100, effects)
    delivery.offer(frame(2, Kind.BOOK_TICKER), 100, effects)
    delivery.offer(frame(3), 200, NO_EFFECTS)
    assert numbers(delivery.take(599)) == [2]
    assert numbers(delivery.take(600)) == [1, 3]


def deliver(document: dict[str, Any], count: int = 200, kind: Kind = Kind.AGG_TRADE) -> list[Frame]:
    effects = book_with(document).effects("BTCUSDT", 0)
    delivery = Delivery(Random(1))
    for number in range(count):
        delivery.offer(frame(number, kind), number * 10, effects)
    return delivery.take(1e9)


def test_dropped_frames_never_leave() -> None:
    left = numbers(deliver({"type": "drop", "probability": 0.2}))
    assert 120 < len(left) < 190
    assert left == sorted(left)


def test_drops_spare_the_book_unless_told_otherwise() -> None:
    assert len(deliver({"type": "drop", "probability": 1}, kind=Kind.BOOK_TICKER)) == 200


def test_duplicates_follow_their_original() -> None:
    left = numbers(deliver({"type": "duplicate", "probability": 0.2}))
    assert 210 < len(left) < 280
    assert sorted(set(left)) == list(range(200))


def test_reordered_frames_all_arrive_but_not_in_order() -> None:
    left = numbers(deliver({"type": "reorder", "probability": 0.3}))
    assert left != sorted(left)
    assert sorted(left) == list(range(200))


def test_malformed_frames_are_cut_short() -> None:
    left = deliver({"type": "malformed", "probability": 0.5})
    broken = [one for one in left if not one.combined.endswith(b"}")]
    assert 60 < len(broken) < 140


def test_a_silent_stream_says_nothing_and_others_go_on() -> None:
    document = {"type": "silent", "streams": ["aggTrade"]}
    assert deliver(document) == []
    assert len(deliver(document, kind=Kind.BOOK_TICKER)) == 200
