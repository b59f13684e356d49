"""Fetches trades that the stream did not bring, within the exchange's request limits.

RestError    the answer cannot be had or used; trying again later may help
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from types import TracebackType
from typing import Final, Literal, Self

import aiohttp

from signalcanary_workloads.harvest.wire import (
    Trade,
    WireError,
    parse_agg_page,
    parse_raw_page,
)

PAGE_ROWS: Final = 1000  # the exchange's limit
_TOO_MANY: Final = {418, 429}
_WANTS_KEY: Final = (b'"code":-2014', b'"code":-2015', b'"code": -2014', b'"code": -2015')
_PATHS: Final = {"aggTrade": "/fapi/v1/aggTrades", "trade": "/fapi/v1/historicalTrades"}


class RestReason(StrEnum):
    """Why a request failed; a metric label."""

    UNAUTHORIZED = "unauthorized"  # an API key is wanted
    OVER_LIMIT = "over_limit"
    STATUS = "status"
    NETWORK = "network"
    ANSWER = "answer"  # it cannot be read
    FUTURE = "future"  # a trade's time is further ahead than the clocks are apart


class RestError(Exception):
    """A request for trades failed. `retry_after_seconds`: how long the exchange wants quiet."""

    def __init__(self, reason: RestReason, detail: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class RestSettings:
    """How missing trades are fetched."""

    timeout_seconds: float = 10.0
    # A page weighs 20 of 2,400 a minute, for all pods behind one address: 1 a second is half.
    burst_pages: int = 40
    pages_per_second: float = 1.0
    # A full-jitter backoff over these gives REST about a minute before a hole is given up.
    attempts: int = 8
    first_delay_seconds: float = 0.5
    max_delay_seconds: float = 15.0
    # More than this is not fetched: at one page a second it would take hours.
    max_hole_trades: int = 1_000_000


class TradeHistory:
    """The exchange's REST history of one trade stream."""

    def __init__(
        self,
        base_url: str,
        stream: Literal["aggTrade", "trade"],
        settings: RestSettings,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._url = base_url.rstrip("/") + _PATHS[stream]
        self._parse = parse_agg_page if stream == "aggTrade" else parse_raw_page
        self._settings = settings
        self._clock = clock
        self._tokens = float(settings.burst_pages)
        self._refilled = clock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_seconds)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def page(self, symbol: str, from_id: int) -> list[Trade]:
        """Up to 1,000 trades from an id on, in order.

        Raises:
            RestError: see there.
        """
        assert self._session is not None
        await self._wait_for_token()
        query = {"symbol": symbol, "fromId": str(from_id), "limit": str(PAGE_ROWS)}
        try:
            async with self._session.get(self._url, params=query) as answer:
                body = await answer.read()
                if answer.status in _TOO_MANY:
                    wait = answer.headers.get("Retry-After", "")
                    seconds = float(wait) if wait.isdigit() else 30.0
                    detail = f"HTTP {answer.status}: over the request limit"
                    raise RestError(RestReason.OVER_LIMIT, detail, seconds)
                if answer.status != 200:
                    wants_key = answer.status == 401 or any(code in body for code in _WANTS_KEY)
                    reason = RestReason.UNAUTHORIZED if wants_key else RestReason.STATUS
                    raise RestError(reason, f"HTTP {answer.status}: {body[:200]!r}")
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise RestError(RestReason.NETWORK, f"{type(exc).__name__}: {exc}") from exc
        try:
            trades = self._parse(symbol, body)
        except WireError as exc:
            raise RestError(RestReason.ANSWER, str(exc)) from exc
        return sorted(trades, key=lambda trade: trade.trade_id)

    async def _wait_for_token(self) -> None:
        settings = self._settings
        while True:
            now = self._clock()
            earned = (now - self._refilled) * settings.pages_per_second
            self._tokens = min(settings.burst_pages, self._tokens + earned)
            self._refilled = now
            if self._tokens >= 1:
                self._tokens -= 1
                return
            await asyncio.sleep((1 - self._tokens) / settings.pages_per_second)
