from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary_workloads.harvest.wire import (
    AggTrade,
    BookTicker,
    RawTrade,
    WireError,
    parse_agg_page,
    parse_frame,
    parse_raw_page,
)

BOOK: dict[str, Any] = {
    "e": "bookTicker", "u": 5123107839020, "s": "BTCUSDT", "b": "61800.20", "B": "2.507",
    "a": "61800.30", "A": "2.510", "T": 1723161256313, "E": 1723161256314,
}  # fmt: skip
AGG: dict[str, Any] = {
    "e": "aggTrade", "E": 1723161256322, "s": "BTCUSDT", "a": 7, "p": "61800.30", "q": "0.006",
    "nq": "0.004", "f": 9, "l": 10, "T": 1723161256321, "m": False,
}  # fmt: skip
RAW: dict[str, Any] = {
    "e": "trade", "E": 1723161256322, "T": 1723161256321, "s": "BTCUSDT", "t": 5266583935,
    "p": "61800.30", "q": "0.006", "X": "MARKET", "m": True,
}  # fmt: skip


def frame(data: dict[str, Any]) -> bytes:
    return json.dumps({"stream": "btcusdt@x", "data": data}).encode()


def test_a_book_ticker_is_read() -> None:
    assert parse_frame(frame(BOOK)) == BookTicker(
        "BTCUSDT", 5123107839020, 61800.20, 2.507, 61800.30, 2.510, 1723161256313, 1723161256314
    )


def test_an_aggregate_trade_is_read_with_and_without_nq() -> None:
    expected = AggTrade(
        "BTCUSDT", 7, 61800.30, 0.006, 9, 10, 1723161256321, False, 1723161256322, 0.004
    )
    assert parse_frame(frame(AGG)) == expected
    plain = parse_frame(frame({k: v for k, v in AGG.items() if k != "nq"}))
    assert isinstance(plain, AggTrade)
    assert plain.nq is None


def test_a_raw_trade_is_a_range_of_one_and_says_if_it_was_order_flow() -> None:
    trade = parse_frame(frame(RAW))
    assert isinstance(trade, RawTrade)
    assert (trade.first_id, trade.last_id, trade.is_market) == (5266583935, 5266583935, True)
    other = parse_frame(frame({**RAW, "X": "INSURANCE_FUND"}))
    assert isinstance(other, RawTrade)
    assert not other.is_market


@pytest.mark.parametrize("data", [BOOK, AGG, RAW], ids=lambda data: str(data["e"]))
def test_new_fields_are_tolerated(data: dict[str, Any]) -> None:
    assert parse_frame(frame({**data, "st": 2, "ps": "x"})) == parse_frame(frame(data))


@pytest.mark.parametrize(
    ("data", "field"),
    [(d, f) for d in (BOOK, AGG, RAW) for f in d if f not in {"e", "E", "nq", "X"}],
    ids=lambda value: value if isinstance(value, str) else value["e"],
)
def test_a_missing_field_is_a_counted_error(data: dict[str, Any], field: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_frame(frame({k: v for k, v in data.items() if k != field}))
    assert caught.value.reason == "field"
    assert caught.value.field == f"{data['e']}.{field}", "the field has its name"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{nonsense", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"", "malformed"),
        (b'{"result":null,"id":1}', "field"),
        (frame({"e": "depthUpdate"}), "unknown_event"),
        (frame({**BOOK, "b": "NaN"}), "field"),
        (frame({**BOOK, "b": "inf"}), "field"),
        (frame({**BOOK, "b": "-1"}), "field"),
        (frame({**AGG, "m": "yes?"}), "field"),
        (frame({**AGG, "T": 1723161256321000000}), "field"),
    ],
)
def test_what_cannot_be_used_has_a_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_frame(raw)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({**BOOK, "b": "NaN"}, "bookTicker.b"),
        ({**BOOK, "T": None}, "bookTicker.T"),
        ({**AGG, "m": [True]}, "aggTrade.m"),
        ({"e": "depthUpdate"}, ""),
    ],
)
def test_a_wrong_field_has_its_name_too(data: dict[str, Any], field: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_frame(frame(data))
    assert caught.value.field == field


@settings(deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=80))
def test_no_input_does_more_than_raise_a_wire_error(raw: bytes | str) -> None:
    with pytest.raises(WireError):
        parse_frame(raw)


def test_pages_of_both_rest_endpoints_are_read() -> None:
    (agg,) = parse_agg_page(
        "BTCUSDT",
        b'[{"a":26129,"p":"0.016","q":"4.7","f":27781,"l":27782,"T":1498793709153,"m":true}]',
    )
    assert (agg.trade_id, agg.qty, agg.last_id, agg.event_ms) == (26129, 4.7, 27782, None)
    (raw,) = parse_raw_page(
        "BTCUSDT",
        b'[{"id":28457,"price":"4.00000100","qty":"12.0","quoteQty":"48.0",'
        b'"time":1499865549590,"isBuyerMaker":true}]',
    )
    assert (raw.trade_id, raw.price, raw.ts) == (28457, 4.000001, 1499865549590)
    for parse in (parse_agg_page, parse_raw_page):
        with pytest.raises(WireError):
            parse("BTCUSDT", b'{"code":-1003,"msg":"Too many requests"}')
