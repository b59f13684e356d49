"""What the exchange sends, as typed values (Binance USD-M futures).

Pure, and the first thing every frame meets: nothing behind it has to doubt a field. Unknown
fields are tolerated (the exchange adds some without notice); a missing field, a wrong type, a
NaN or an infinity is a `WireError` with a reason that can be counted, never a crash.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

# The exchange writes decimals as strings. The upper bound also refuses infinity, and either
# bound refuses NaN.
Decimal = Annotated[float, Meta(ge=0, le=1e15)]
Id = Annotated[int, Meta(ge=0)]
# Milliseconds up to the year 2286: a value beyond it is not a time in milliseconds.
Millis = Annotated[int, Meta(ge=0, le=10**13)]

MARKET: Final = "MARKET"
BOOK_STREAM: Final = "bookTicker"


class WireReason(StrEnum):
    """Why a frame could not be used; a metric label."""

    MALFORMED = "malformed"  # not JSON
    FIELD = "field"  # a field is missing or of the wrong type
    UNKNOWN_EVENT = "unknown_event"  # an event that nobody subscribed to
    FUTURE = "future"  # its time is further ahead than the clocks are apart


class WireError(Exception):
    """A frame or an answer that cannot be used."""

    def __init__(self, reason: WireReason, detail: str, field: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.field = field
        """The exchange's name of what is missing or wrong, as `event.field`, if known."""


# {"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT",
#  "b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}}
class BookTicker(
    msgspec.Struct,
    tag_field="e",
    tag="bookTicker",
    frozen=True,
    gc=False,
    rename={
        "symbol": "s",
        "update_id": "u",
        "bid_price": "b",
        "bid_qty": "B",
        "ask_price": "a",
        "ask_qty": "A",
        "ts": "T",
        "event_ms": "E",
    },
):
    """The best bid and ask after a change of either."""

    symbol: str
    update_id: Id
    bid_price: Decimal
    bid_qty: Decimal
    ask_price: Decimal
    ask_qty: Decimal
    ts: Millis
    event_ms: Millis

    @property
    def id(self) -> int:
        """Grows with each message of the stream."""
        return self.update_id


# {"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1723161256322,"s":"BTCUSDT",
#  "a":2254631234,"p":"61800.30","q":"0.006","nq":"0.006","f":5266583935,"l":5266583935,
#  "T":1723161256322,"m":false}}
class AggTrade(
    msgspec.Struct,
    tag_field="e",
    tag="aggTrade",
    frozen=True,
    gc=False,
    rename={
        "symbol": "s",
        "trade_id": "a",
        "price": "p",
        "qty": "q",
        "first_id": "f",
        "last_id": "l",
        "ts": "T",
        "is_buyer_maker": "m",
        "event_ms": "E",
    },
):
    """Trades of one taker order at one price. `nq` is the quantity without RPI orders."""

    symbol: str
    trade_id: Id
    price: Decimal
    qty: Decimal
    first_id: Id
    last_id: Id
    ts: Millis
    is_buyer_maker: bool
    event_ms: Millis | None = None  # always there on the stream, never over REST
    nq: Decimal | None = None

    @property
    def id(self) -> int:
        """Grows by one with each message of the stream."""
        return self.trade_id

    @property
    def is_market(self) -> bool:
        """Aggregates hold market trades only."""
        return True


# {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256322,
#  "s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006","X":"MARKET","m":false}}
class RawTrade(
    msgspec.Struct,
    tag_field="e",
    tag="trade",
    frozen=True,
    gc=False,
    rename={
        "symbol": "s",
        "trade_id": "t",
        "price": "p",
        "qty": "q",
        "ts": "T",
        "is_buyer_maker": "m",
        "execution": "X",
        "event_ms": "E",
    },
):
    """One trade. `execution` other than MARKET (ADL, INSURANCE_FUND) is no order flow."""

    symbol: str
    trade_id: Id
    price: Decimal
    qty: Decimal
    ts: Millis
    is_buyer_maker: bool
    execution: str = MARKET
    event_ms: Millis | None = None
    nq: Decimal | None = None

    @property
    def id(self) -> int:
        """Grows by one with each message of the stream."""
        return self.trade_id

    @property
    def first_id(self) -> int:
        """A raw trade is a range of one."""
        return self.trade_id

    @property
    def last_id(self) -> int:
        """A raw trade is a range of one."""
        return self.trade_id

    @property
    def is_market(self) -> bool:
        """Did a taker cause it?"""
        return self.execution == MARKET


Trade = AggTrade | RawTrade
Message = BookTicker | AggTrade | RawTrade


class _Combined(msgspec.Struct, gc=False):
    data: Message


class _AnyEvent(msgspec.Struct):
    e: str


class _AnyCombined(msgspec.Struct):
    data: _AnyEvent


# strict=False: decimals come as strings.
_decode_combined: Final = msgspec.json.Decoder(_Combined, strict=False).decode
_decode_any: Final = msgspec.json.Decoder(_AnyCombined).decode
# "Object missing required field `p` - at `$.data`", "Expected `float`, got `array` - at
# `$.data.p`": only names that the structs above know can stand there.
_FIELD: Final = re.compile(r"missing required field `(\w+)`|- at `\$[^`]*\.(\w+)`")
_EVENTS: Final = frozenset({"bookTicker", "aggTrade", "trade"})
_STREAM: Final = re.compile(rb'\{"stream":"(\w{1,32})@')


def parse_frame(raw: bytes | str) -> Message:
    """One frame of a combined stream.

    Raises:
        WireError: it cannot be used.
    """
    try:
        return _decode_combined(raw).data
    except msgspec.ValidationError as exc:
        raise _explain(raw, str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise WireError(WireReason.MALFORMED, str(exc)) from exc


def read_symbol(raw: bytes) -> str | None:
    """Of a frame that cannot be used: whose it is, if its beginning still says so."""
    match = _STREAM.match(raw)
    return None if match is None else match[1].decode().upper()


def _explain(raw: bytes | str, problem: str) -> WireError:
    """The cold path: is it a broken event, or one that nobody asked for (an ACK, a depth)?"""
    match = _FIELD.search(problem)
    field = "" if match is None else match[1] or match[2]
    try:
        event = _decode_any(raw).data.e
    except msgspec.DecodeError:
        return WireError(WireReason.FIELD, problem, field)
    if event not in _EVENTS:
        return WireError(WireReason.UNKNOWN_EVENT, problem)
    return WireError(WireReason.FIELD, problem, f"{event}.{field}")


# GET /fapi/v1/aggTrades?symbol=BTCUSDT&fromId=26129&limit=1000
# [{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true}]
class _RestAggTrade(msgspec.Struct):
    a: Id
    p: Decimal
    q: Decimal
    f: Id
    l: Id  # noqa: E741 the exchange's name
    T: Millis
    m: bool
    nq: Decimal | None = None


# GET /fapi/v1/historicalTrades?symbol=BTCUSDT&fromId=28457&limit=1000
# [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.00",
#   "time":1499865549590,"isBuyerMaker":true}]
class _RestTrade(msgspec.Struct):
    id: Id
    price: Decimal
    qty: Decimal
    time: Millis
    isBuyerMaker: bool


_decode_agg_page: Final = msgspec.json.Decoder(list[_RestAggTrade], strict=False).decode
_decode_raw_page: Final = msgspec.json.Decoder(list[_RestTrade], strict=False).decode


def parse_agg_page(symbol: str, raw: bytes) -> list[Trade]:
    """An answer of /fapi/v1/aggTrades.

    Raises:
        WireError: it cannot be used.
    """
    try:
        page = _decode_agg_page(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise WireError(WireReason.FIELD, str(exc)) from exc
    return [
        AggTrade(
            symbol=symbol,
            trade_id=row.a,
            price=row.p,
            qty=row.q,
            first_id=row.f,
            last_id=row.l,
            ts=row.T,
            is_buyer_maker=row.m,
            nq=row.nq,
        )
        for row in page
    ]


def parse_raw_page(symbol: str, raw: bytes) -> list[Trade]:
    """An answer of /fapi/v1/historicalTrades.

    Raises:
        WireError: it cannot be used.
    """
    try:
        page = _decode_raw_page(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise WireError(WireReason.FIELD, str(exc)) from exc
    return [
        RawTrade(
            symbol=symbol,
            trade_id=row.id,
            price=row.price,
            qty=row.qty,
            ts=row.time,
            is_buyer_maker=row.isBuyerMaker,
        )
        for row in page
    ]
