"""The REST side: trades that a client missed, and the few calls around them.

Refusals carry Binance's codes. The used weight of the current minute is in every answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from signalcanary_workloads.exchange.engine import Engine
from signalcanary_workloads.exchange.protocol import fixed
from signalcanary_workloads.exchange.sources import SymbolHistory

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_WEIGHTS: Final = {"/fapi/v1/aggTrades": 20, "/fapi/v1/historicalTrades": 20}
_LONGEST_SPAN_MS: Final = 3_600_000
_TRADE_LIMITS: Final = {"/fapi/v1/aggTrades": 1000, "/fapi/v1/historicalTrades": 500}


class _Refusal(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class RestApi:
    """Handlers below /fapi/v1 of one exchange."""

    def __init__(self, engine: Engine, weight_limit: int) -> None:
        self._engine = engine
        self._weight_limit = weight_limit
        self._minute = 0
        self._used = 0

    def add_routes(self, app: web.Application) -> None:
        for name, handler in (
            ("ping", self._ping),
            ("time", self._time),
            ("exchangeInfo", self._exchange_info),
            ("aggTrades", self._agg_trades),
            ("historicalTrades", self._historical_trades),
        ):
            app.router.add_get(f"/fapi/v1/{name}", self._limited(handler))

    def _limited(self, handler: Callable[[web.Request], object]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            minute = int(time.time() // 60)
            if minute != self._minute:
                self._minute, self._used = minute, 0
            self._used += _WEIGHTS.get(request.path, 1)
            headers = {"X-MBX-USED-WEIGHT-1M": str(self._used)}
            if self._used > self._weight_limit:
                message = (
                    f"Too many requests; current limit is {self._weight_limit} requests per "
                    "minute. Please use the websocket for live updates to avoid polling the API."
                )
                headers["Retry-After"] = str(60 - int(time.time()) % 60)
                return web.json_response(
                    {"code": -1003, "msg": message}, status=429, headers=headers
                )
            await self._delay()
            try:
                return web.json_response(handler(request), headers=headers)
            except _Refusal as refusal:
                body = {"code": refusal.code, "msg": str(refusal)}
                return web.json_response(body, status=400, headers=headers)

        return handle

    async def _delay(self) -> None:
        delay_ms = self._engine.faults.rest_delay_ms(self._engine.position_ms)
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000 / self._engine.clock.speed)

    def _ping(self, request: web.Request) -> object:
        return {}

    def _time(self, request: web.Request) -> object:
        return {"serverTime": self._now_ms()}

    def _now_ms(self) -> int:
        """Event time, as the exchange's own clock shows it."""
        symbol = next(iter(self._engine.source.histories))
        effects = self._engine.faults.effects(symbol, self._engine.position_ms)
        return int(self._engine.position_ms) + effects.clock_offset_ms

    def _exchange_info(self, request: web.Request) -> object:
        histories = self._engine.source.histories.values()
        return {
            "timezone": "UTC",
            "serverTime": self._now_ms(),
            "rateLimits": [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": self._weight_limit,
                }
            ],
            "exchangeFilters": [],
            "symbols": [_symbol_info(history) for history in histories],
        }

    def _agg_trades(self, request: web.Request) -> object:
        history = self._history(request)
        spec = history.spec
        start_ms = _integer(request, "startTime")
        end_ms = _integer(request, "endTime")
        if start_ms is not None and end_ms is not None and end_ms - start_ms > _LONGEST_SPAN_MS:
            raise _Refusal(-4139, "The time range must be less than 1 hour.")
        rows = history.agg_trades.select(
            _limit(request), _integer(request, "fromId"), start_ms, end_ms
        )
        return [
            {
                "a": agg_id,
                "p": fixed(price, spec.price_decimals),
                "q": fixed(qty, spec.qty_decimals),
                "nq": fixed(normal, spec.qty_decimals),
                "f": first,
                "l": last,
                "T": time_ms,
                "m": bool(maker),
            }
            for agg_id, time_ms, price, qty, maker, normal, first, last in rows
        ]

    def _historical_trades(self, request: web.Request) -> object:
        history = self._history(request)
        spec = history.spec
        decimals = spec.price_decimals + spec.qty_decimals
        rows = history.trades.select(_limit(request), _integer(request, "fromId"))
        return [
            {
                "id": trade_id,
                "price": fixed(price, spec.price_decimals),
                "qty": fixed(qty, spec.qty_decimals),
                "quoteQty": fixed(price * qty, decimals),
                "time": time_ms,
                "isBuyerMaker": bool(maker),
            }
            for trade_id, time_ms, price, qty, maker in rows
        ]

    def _history(self, request: web.Request) -> SymbolHistory:
        symbol = request.query.get("symbol")
        if not symbol:
            raise _Refusal(
                -1102,
                "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
            )
        history = self._engine.source.histories.get(symbol)
        if history is None:
            raise _Refusal(-1121, "Invalid symbol.")
        return history


def _integer(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise _Refusal(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
        )
    return value


def _limit(request: web.Request) -> int:
    limit = _integer(request, "limit")
    largest = _TRADE_LIMITS[request.path]
    if limit is None:
        return min(500, largest)
    if not 1 <= limit <= largest:
        raise _Refusal(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def _symbol_info(history: SymbolHistory) -> dict[str, Any]:
    spec = history.spec
    base = spec.symbol.removesuffix("USDT")
    return {
        "symbol": spec.symbol,
        "pair": spec.symbol,
        "contractType": "PERPETUAL",
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": spec.price_decimals,
        "quantityPrecision": spec.qty_decimals,
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": fixed(spec.tick, spec.price_decimals)},
            {
                "filterType": "LOT_SIZE",
                "minQty": fixed(1, spec.qty_decimals),
                "stepSize": fixed(1, spec.qty_decimals),
            },
        ],
    }
