"""Binance USD-M's wire forms: stream names, payloads, requests, replies. Pure.

Wire samples (combined connections wrap each in ``{"stream":"btcusdt@trade","data":…}``):

    {"e":"aggTrade","E":1,"s":"BTCUSDT","a":5,"p":"61800.30","q":"0.006","nq":"0.006",
     "f":7,"l":8,"T":1,"m":false}
    {"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":7,"p":"61800.30","q":"0.006","X":"MARKET","m":false}
    {"e":"bookTicker","u":3,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510",
     "T":1,"E":1}
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from signalcanary_workloads.exchange.model import AggTrade, Quote, SymbolSpec


class Kind(StrEnum):
    """The stream types that are served."""

    BOOK_TICKER = "bookTicker"
    DEPTH = "depth"
    AGG_TRADE = "aggTrade"
    TRADE = "trade"


class Endpoint(StrEnum):
    """Websocket paths since the split of 2026-04-23, and the path that it left behind."""

    PUBLIC = "public"
    MARKET = "market"
    LEGACY = "legacy"


BOOK_KINDS: Final = frozenset({Kind.BOOK_TICKER, Kind.DEPTH})
TRADE_KINDS: Final = frozenset({Kind.AGG_TRADE, Kind.TRADE})
SERVED: Final = {
    Endpoint.PUBLIC: BOOK_KINDS,
    Endpoint.MARKET: TRADE_KINDS,
    # The legacy path acknowledges every subscription but sends no trades.
    Endpoint.LEGACY: BOOK_KINDS,
}
LARGEST_STREAM_COUNT: Final = 200
_STREAM: Final = re.compile(r"[a-z0-9_!]+@([A-Za-z]+)[A-Za-z0-9@_.]*")


class Frame(NamedTuple):
    """One payload on its way to the subscribers of `stream`."""

    symbol: str
    kind: Kind
    stream: str
    data: bytes
    combined: bytes


def build_frame(symbol: str, kind: Kind, data: bytes) -> Frame:
    stream = f"{symbol.lower()}@{kind}"
    return Frame(symbol, kind, stream, data, wrap(stream, data))


def wrap(stream: str, data: bytes) -> bytes:
    return b'{"stream":"%b","data":%b}' % (stream.encode(), data)


def is_stream_name(stream: str) -> bool:
    return _STREAM.fullmatch(stream) is not None


def kind_of(stream: str) -> Kind | None:
    """The served type of a stream name; None for one that is valid but never speaks."""
    match = _STREAM.fullmatch(stream)
    try:
        return None if match is None else Kind(match[1])
    except ValueError:
        return None


def is_delivered(endpoint: Endpoint, stream: str) -> bool:
    """Does this endpoint send the stream? All others are acknowledged and silent."""
    return kind_of(stream) in SERVED[endpoint]


def fixed(value: int, decimals: int) -> str:
    """An integer of the last decimal as the exchange's decimal string."""
    if decimals == 0:
        return str(value)
    whole, part = divmod(value, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"


# --------------------------------------------------------------------------- payloads

BOOK_PUSH_MS: Final = 1
TRADE_PUSH_MS: Final = 10
"""How long after the match (T) the event leaves (E)."""


def encode_quote(spec: SymbolSpec, quote: Quote) -> bytes:
    price, qty = spec.price_decimals, spec.qty_decimals
    return (
        f'{{"e":"bookTicker","u":{quote.update_id},"s":"{spec.symbol}",'
        f'"b":"{fixed(quote.bid, price)}","B":"{fixed(quote.bid_qty, qty)}",'
        f'"a":"{fixed(quote.ask, price)}","A":"{fixed(quote.ask_qty, qty)}",'
        f'"T":{quote.time_ms},"E":{quote.time_ms + BOOK_PUSH_MS}}}'
    ).encode()


def encode_agg_trade(spec: SymbolSpec, trade: AggTrade) -> bytes:
    qty = spec.qty_decimals
    return (
        f'{{"e":"aggTrade","E":{trade.time_ms + TRADE_PUSH_MS},"s":"{spec.symbol}",'
        f'"a":{trade.agg_id},"p":"{fixed(trade.price, spec.price_decimals)}",'
        f'"q":"{fixed(trade.qty, qty)}","nq":"{fixed(trade.normal_qty, qty)}",'
        f'"f":{trade.first_id},"l":{trade.last_id},"T":{trade.time_ms},'
        f'"m":{"true" if trade.is_buyer_maker else "false"}}}'
    ).encode()


def encode_trades(spec: SymbolSpec, trade: AggTrade) -> list[bytes]:
    """One payload for each fill."""
    maker = "true" if trade.is_buyer_maker else "false"
    price = fixed(trade.price, spec.price_decimals)
    return [
        (
            f'{{"e":"trade","E":{trade.time_ms + TRADE_PUSH_MS},"T":{trade.time_ms},'
            f'"s":"{spec.symbol}","t":{trade_id},"p":"{price}",'
            f'"q":"{fixed(qty, spec.qty_decimals)}","X":"MARKET","m":{maker}}}'
        ).encode()
        for trade_id, qty in enumerate(trade.fills, trade.first_id)
    ]


# --------------------------------------------------------------------------- requests


class RequestError(Exception):
    """A request that the exchange refuses; `reply` is what it answers."""

    def __init__(self, code: int, message: str, request_id: int | str | None = None) -> None:
        super().__init__(message)
        error = {"error": {"code": code, "msg": message}}
        self.reply = json.dumps(
            error if request_id is None else {**error, "id": request_id}, separators=(",", ":")
        )


@dataclass(frozen=True)
class Request:
    method: str
    params: tuple[Any, ...]
    request_id: int


_METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


def parse_request(text: str) -> Request:
    """Read a live-subscription request.

    Raises:
        RequestError: with the exchange's own code and wording.
    """
    try:
        message = json.loads(text)
    except ValueError as error:
        position = getattr(error, "colno", 1)
        raise RequestError(
            3, f"Invalid JSON: expected value at line 1 column {position}"
        ) from error
    if not isinstance(message, dict):
        raise RequestError(2, "Invalid request: invalid type, expected struct WsRequest")
    if "method" not in message:
        raise RequestError(
            2, f"Invalid request: missing field `method` at line 1 column {len(text)}"
        )
    method = message["method"]
    if method not in _METHODS:
        raise RequestError(
            2,
            f"Invalid request: unknown variant `{method}`, expected one of "
            + ", ".join(f"`{known}`" for known in _METHODS),
        )
    request_id = message.get("id")
    if not isinstance(request_id, int) or isinstance(request_id, bool) or request_id < 0:
        raise RequestError(2, "Invalid request: request ID must be an unsigned integer")
    params = message.get("params", [])
    if not isinstance(params, list):
        raise RequestError(2, "Invalid request: invalid type, expected a sequence", request_id)
    request = Request(method, tuple(params), request_id)
    _check_params(request)
    return request


def _check_params(request: Request) -> None:
    params, request_id = request.params, request.request_id
    match request.method:
        case "SUBSCRIBE" | "UNSUBSCRIBE":
            for stream in params:
                if not isinstance(stream, str) or not is_stream_name(stream.lower()):
                    raise RequestError(2, "Invalid request: invalid stream", request_id)
        case "SET_PROPERTY" | "GET_PROPERTY":
            if not params or not isinstance(params[0], str):
                message = "Invalid request: property name must be a string"
                raise RequestError(2, message, request_id)
            if len(params) > (2 if request.method == "SET_PROPERTY" else 1):
                raise RequestError(2, "Invalid request: too many parameters", request_id)
            if params[0] != "combined":
                raise RequestError(0, "Unknown property", request_id)
            if request.method == "SET_PROPERTY" and not (
                len(params) == 2 and isinstance(params[1], bool)
            ):
                raise RequestError(1, "Invalid value type: expected Boolean", request_id)


def render_result(request_id: int, result: object = None) -> str:
    return json.dumps({"result": result, "id": request_id}, separators=(",", ":"))
