"""Fetches the trades that the stream did not bring, or gives them up.

One task a symbol, while it has a hole. What is fetched goes the way of every other trade.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from signalcanary_workloads.harvest.admission import Admission
from signalcanary_workloads.harvest.clock import NS_PER_MS
from signalcanary_workloads.harvest.feed import full_jitter
from signalcanary_workloads.harvest.metrics import SymbolCounts
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.rest import RestError, RestReason, TradeHistory
from signalcanary_workloads.harvest.sequence import REST_CONNECTION, Arrival
from signalcanary_workloads.harvest.settings import Settings

log = logging.getLogger(__name__)


class Backfills:
    """The missing trades of all symbols."""

    def __init__(
        self,
        history: TradeHistory,
        pipelines: Mapping[str, SymbolPipeline],
        admissions: Mapping[str, Admission[Any]],
        counts: Mapping[str, SymbolCounts],
        settings: Settings,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._history = history
        self._pipelines = pipelines
        self._admissions = admissions
        self._counts = counts
        self._settings = settings
        self._on_failure = on_failure
        self._running: dict[str, asyncio.Task[None]] = {}
        self._said_unauthorized = False

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """To be cancelled when the process stops."""
        return list(self._running.values())

    def start(self, symbol: str) -> None:
        """See to the hole of a symbol, if nobody does."""
        running = self._running.get(symbol)
        if running is not None and not running.done():
            return
        task = self._running[symbol] = asyncio.create_task(self._fill(symbol))
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    async def _fill(self, symbol: str) -> None:
        """Fetch what is missing, page by page, until nothing is, or give it up."""
        pipeline, settings = self._pipelines[symbol], self._settings.rest
        failures = 0
        while (hole := pipeline.hole) is not None:
            pause = 0.0
            problem = "the exchange does not return the trades"
            if hole.last - hole.first >= settings.max_hole_trades:
                failures, problem = settings.attempts, "too many to fetch"
            else:
                try:
                    page = await self._history.page(symbol, hole.first)
                except RestError as exc:
                    page, problem, pause = [], str(exc), exc.retry_after_seconds
                    self._note_error(symbol, exc)
                now_ns = self._settings.wall_ns()
                # A page may fill more holes than the first; what is newer than all that
                # waits is left to the stream, which brings it with its event time.
                newest = pipeline.sequencer.newest_waiting or hole.last
                for trade in page:
                    if trade.trade_id >= newest:
                        break
                    if self._admissions[symbol].is_ahead(now_ns - trade.ts * NS_PER_MS):
                        problem = (
                            f"trade {trade.trade_id} has the time {trade.ts} ms, in the future"
                        )
                        self._count_error(symbol, RestReason.FUTURE)
                        continue
                    pipeline.on_trade(Arrival(trade, now_ns, "rest", REST_CONNECTION))
                left = pipeline.hole
                if left is None or left.first > hole.first:
                    failures = 0
                    continue
                failures += 1
            if failures >= settings.attempts:
                fields = {
                    "symbol": symbol,
                    "first_id": hole.first,
                    "last_id": hole.last,
                    "reason": problem,
                }
                log.error("trades given up", extra={"fields": fields})
                pipeline.give_up_hole()
                failures = 0
                continue
            delay = full_jitter(
                failures - 1,
                settings.first_delay_seconds,
                settings.max_delay_seconds,
                self._settings.random,
            )
            await asyncio.sleep(max(delay, pause))

    def _count_error(self, symbol: str, reason: RestReason) -> None:
        errors = self._counts[symbol].backfill_errors
        errors[reason] = errors.get(reason, 0) + 1

    def _note_error(self, symbol: str, error: RestError) -> None:
        self._count_error(symbol, error.reason)
        if error.reason is RestReason.UNAUTHORIZED and not self._said_unauthorized:
            self._said_unauthorized = True
            log.error(
                "the exchange gives this trade history to holders of an API key only, and "
                "harvest has none: trades that the stream misses are lost. The history of "
                "tradeStream aggTrade needs no key",
                extra={"fields": {"detail": str(error)}},
            )
