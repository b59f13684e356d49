"""Wire forms are Binance's, to the field and its order."""

import json

import pytest

from signalcanary_workloads.exchange import protocol
from signalcanary_workloads.exchange.model import AggTrade, Quote, spec_of
from signalcanary_workloads.exchange.protocol import Endpoint, Kind, RequestError

BTC = spec_of("BTCUSDT")
TRADE = AggTrade(1_000, 5, 70, 6_180_030, 205, 199, False, (6, 199))


def test_a_quote_is_written_as_production_writes_it() -> None:
    data = protocol.encode_quote(BTC, Quote(1_000, 9, 6_180_020, 2_507, 6_180_030, 10))
    assert data == (
        b'{"e":"bookTicker","u":9,"s":"BTCUSDT","b":"61800.20","B":"2.507",'
        b'"a":"61800.30","A":"0.010","T":1000,"E":1001}'
    )


def test_an_aggregate_trade_is_written_as_production_writes_it() -> None:
    assert protocol.encode_agg_trade(BTC, TRADE) == (
        b'{"e":"aggTrade","E":1010,"s":"BTCUSDT","a":5,"p":"61800.30","q":"0.205",'
        b'"nq":"0.199","f":70,"l":71,"T":1000,"m":false}'
    )


def test_each_fill_is_a_raw_trade_as_production_writes_it() -> None:
    first, second = protocol.encode_trades(BTC, TRADE)
    assert first == (
        b'{"e":"trade","E":1010,"T":1000,"s":"BTCUSDT","t":70,"p":"61800.30",'
        b'"q":"0.006","X":"MARKET","m":false}'
    )
    assert json.loads(second)["t"] == 71


def test_a_combined_frame_names_its_stream() -> None:
    frame = protocol.build_frame("BTCUSDT", Kind.TRADE, b"{}")
    assert frame.combined == b'{"stream":"btcusdt@trade","data":{}}'


@pytest.mark.parametrize(
    ("endpoint", "stream", "delivered"),
    [
        (Endpoint.PUBLIC, "btcusdt@bookTicker", True),
        (Endpoint.PUBLIC, "btcusdt@depth@0ms", True),
        (Endpoint.PUBLIC, "btcusdt@aggTrade", False),
        (Endpoint.MARKET, "btcusdt@aggTrade", True),
        (Endpoint.MARKET, "btcusdt@trade", True),
        (Endpoint.MARKET, "btcusdt@bookTicker", False),
        (Endpoint.MARKET, "btcusdt@kline_1m", False),
        (Endpoint.LEGACY, "btcusdt@bookTicker", True),
        (Endpoint.LEGACY, "btcusdt@aggTrade", False),
        (Endpoint.PUBLIC, "BTCUSDT@bookTicker", False),
    ],
)
def test_an_endpoint_sends_its_own_streams_only(
    endpoint: Endpoint, stream: str, delivered: bool
) -> None:
    assert protocol.is_delivered(endpoint, stream) is delivered


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [(5, 3, "0.005"), (12_340, 2, "123.40"), (7, 0, "7")]
)
def test_integers_become_decimal_strings(value: int, decimals: int, text: str) -> None:
    assert protocol.fixed(value, decimals) == text


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{not json", 3, "Invalid JSON"),
        ("[]", 2, "invalid type"),
        ("{}", 2, "missing field `method`"),
        ('{"method":"BUY","id":1}', 2, "unknown variant `BUY`, expected one of `SUBSCRIBE`"),
        ('{"method":"SUBSCRIBE","params":["a@trade"]}', 2, "request ID must be an unsigned"),
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":"x"}', 2, "unsigned integer"),
        ('{"method":"SUBSCRIBE","params":"a@trade","id":1}', 2, "expected a sequence"),
        ('{"method":"SUBSCRIBE","params":["not asked"],"id":1}', 2, "invalid stream"),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "invalid stream"),
        ('{"method":"GET_PROPERTY","params":[],"id":1}', 2, "property name must be a string"),
        ('{"method":"GET_PROPERTY","params":["a","b"],"id":1}', 2, "too many parameters"),
        ('{"method":"GET_PROPERTY","params":["a"],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "expected Boolean"),
    ],
)
def test_malformed_requests_get_the_code_and_words_of_production(
    text: str, code: int, words: str
) -> None:
    with pytest.raises(RequestError) as caught:
        protocol.parse_request(text)
    error = json.loads(caught.value.reply)["error"]
    assert error["code"] == code
    assert words in error["msg"]


def test_a_result_is_acknowledged_with_null() -> None:
    assert protocol.render_result(7) == '{"result":null,"id":7}'
