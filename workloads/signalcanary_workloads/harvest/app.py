"""One harvest process: sockets → queue → pipelines → volume, and how it starts and stops.

Everything that may wait is here; everything that decides is elsewhere. All frames pass through
one loop, so a symbol's state has one writer and a cut is consistent without a lock; only the
encoding and writing of a cut runs in a thread beside it.

HarvestError    the process cannot go on; nothing received is dropped silently, so it ends
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry

from signalcanary.contract import WorkloadConfig
from signalcanary_workloads.harvest.admission import Admission
from signalcanary_workloads.harvest.backfill import Backfills
from signalcanary_workloads.harvest.clock import NS_PER_MS
from signalcanary_workloads.harvest.commits import Commits
from signalcanary_workloads.harvest.cvd_metrics import SAMPLE_EVERY
from signalcanary_workloads.harvest.feed import (
    Feed,
    Frame,
    Group,
    News,
    Received,
    Surroundings,
    Unusable,
    plan_subscriptions,
)
from signalcanary_workloads.harvest.handover import Released
from signalcanary_workloads.harvest.metrics import (
    HarvestCollector,
    OpeningCollector,
    RuntimeCounts,
    SymbolCounts,
)
from signalcanary_workloads.harvest.opening import Opening
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.rest import TradeHistory
from signalcanary_workloads.harvest.sequence import Arrival
from signalcanary_workloads.harvest.settings import Settings
from signalcanary_workloads.harvest.sink import ResumeFailed, SymbolSink
from signalcanary_workloads.harvest.watch import Watch
from signalcanary_workloads.harvest.wire import (
    BOOK_STREAM,
    BookTicker,
    Message,
    WireError,
    WireReason,
    parse_frame,
    read_symbol,
)
from signalcanary_workloads.housekeeping import Housekeeping
from signalcanary_workloads.serving import Health, serve
from signalcanary_workloads.store import open_storage

log = logging.getLogger(__name__)


class HarvestError(Exception):
    """The process cannot go on."""


class Harvest:
    """One shard's symbols, from where their sinks were left."""

    def __init__(
        self,
        config: WorkloadConfig,
        sinks: Mapping[str, SymbolSink],
        settings: Settings,
        health: Health,
    ) -> None:
        """
        Raises:
            ResumeFailed: what was written of a symbol cannot be continued.
        """
        self._config = config
        self._settings = settings
        self.health = health
        symbols = tuple(sinks)
        self.pipelines = {symbol: self._resume(symbol, sink) for symbol, sink in sinks.items()}
        self.counts = RuntimeCounts(symbols={symbol: SymbolCounts() for symbol in symbols})
        self._queue: asyncio.Queue[Frame | None] = asyncio.Queue(settings.queue_frames)
        self.feeds = self._make_feeds(symbols)
        self._undelivered = {(symbol, group) for symbol in symbols for group in Group}
        self._opened: set[Feed] = set()
        self._history = TradeHistory(
            config.source.rest_url, config.source.trade_stream, settings.rest
        )
        self.watch = Watch(self.feeds, self.pipelines, settings)
        self.admissions: dict[str, Admission[Received]] = {
            symbol: Admission(offset) for symbol, offset in self.watch.offsets.items()
        }
        self._backfills = Backfills(
            self._history,
            self.pipelines,
            self.admissions,
            self.counts.symbols,
            settings,
            self._fail,
        )
        self._commits = Commits(
            sinks,
            self.pipelines,
            self.counts,
            config.commit_interval.total_seconds(),
            settings,
        )
        self._housekeeping = Housekeeping(
            open_storage(config.data_path),
            config,
            {symbol: counts.upkeep for symbol, counts in self.counts.symbols.items()},
            settings.upkeep_seconds,
            settings.upkeep_grace_seconds,
            settings.monotonic,
        )
        self._failure: asyncio.Future[None] | None = None

    def _resume(self, symbol: str, sink: SymbolSink) -> SymbolPipeline:
        resume = None if sink.last is None else sink.last.state
        try:
            pipeline = SymbolPipeline(
                symbol, self._config.signal, self._config.source.trade_stream, resume
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise ResumeFailed(f"{symbol}: the last manifest entry's state: {exc!r}") from exc
        log.info(
            "symbol opened",
            extra={
                "fields": {
                    "symbol": symbol,
                    "last_seq": None if sink.last is None else sink.last.seq,
                    "removed_parts": len(sink.removed),
                }
            },
        )
        return pipeline

    def collector(self) -> HarvestCollector:
        """The process's metrics."""
        return HarvestCollector(
            self._config, self.pipelines, self.counts, self.feeds, self.watch, self._queue.qsize
        )

    def _make_feeds(self, symbols: tuple[str, ...]) -> list[Feed]:
        settings = self._settings
        # Connection ids grow over restarts too, so a row says which connection it came by.
        ids = itertools.count(settings.wall_ns() // 1_000_000)
        around = Surroundings(settings.random, settings.wall_ns, lambda: next(ids))
        return [
            Feed(subscription, self._queue, settings.feed, around)
            for subscription in plan_subscriptions(self._config.source, symbols)
        ]

    # ------------------------------------------------------------------ running

    async def run(self, stop: asyncio.Event) -> None:
        """Harvest until `stop` is set, then commit what is there.

        Raises:
            HarvestError: at the end the volume or bucket refuses to take the rows.
            SinkError: another process writes a symbol.
        """
        self._failure = asyncio.get_running_loop().create_future()
        async with self._history:
            readers = [asyncio.create_task(feed.run()) for feed in self.feeds]
            readers.append(asyncio.create_task(self._tick()))
            processing = asyncio.create_task(self._process())
            committing = asyncio.create_task(self._commits.run())
            keeping = asyncio.create_task(self._housekeeping.run())
            stopped = asyncio.create_task(stop.wait())
            try:
                watched: list[asyncio.Future[Any]] = [
                    *readers,
                    processing,
                    committing,
                    keeping,
                    stopped,
                ]
                watched.append(self._failure)
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                self._housekeeping.end()
                # After a failure nothing is committed: rows and state might disagree. A
                # restart goes on from the last entry, and REST gives the trades again.
                for finished in done:
                    finished.result()
                await _cancel(*readers, processing, *self._backfills.tasks)
                self._drain()
                if (problem := await self._commits.finish(committing)) is not None:
                    raise HarvestError(
                        f"{problem}; the rows since the last manifest entry are not committed"
                    )
            finally:
                self._housekeeping.end()
                await asyncio.gather(keeping, return_exceptions=True)
                await _cancel(*readers, processing, committing, stopped, *self._backfills.tasks)
                self._failure.cancel()

    async def _tick(self) -> None:
        """Sends a beat through the processing loop: an idle market is not a hung process."""
        while True:
            await self._queue.put(None)
            await asyncio.sleep(self._settings.tick_seconds)

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    # ------------------------------------------------------------------ frames

    async def _process(self) -> None:
        handled = 0
        while True:
            frame = await self._queue.get()
            if frame is None:
                self.health.heartbeat()
                self.watch.look()
                continue
            self._handle(frame)
            handled += 1
            if handled % self._settings.batch_frames == 0:
                self.health.heartbeat()
                await self._commits.mind_memory(self.health.heartbeat)
                await asyncio.sleep(0)

    def _drain(self) -> None:
        with suppress(asyncio.QueueEmpty):
            while True:
                frame = self._queue.get_nowait()
                if frame is not None:
                    self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        feed, conn_id, recv_ns, raw = frame
        if isinstance(raw, News):
            self._on_news(feed, conn_id, raw)
            return
        try:
            message = parse_frame(raw)
        except WireError as exc:
            self._count_parse_error(exc.reason, exc.field, exc.detail)
            if feed.subscription.group is Group.BOOK:  # missing trades show by their ids
                self._lose_quote(frame, exc.reason)
            return
        symbol = message.symbol
        if symbol not in self.pipelines:
            self._count_parse_error("unknown_symbol", "", symbol)
            return
        received = Received(message, recv_ns, conn_id)
        if feed.handover.waiting:
            self._release(feed, feed.handover.offer(conn_id, symbol, message.id, received))
        else:
            self._take(received)
        if self._undelivered:
            self._note_delivery(symbol, feed.subscription.group)

    def _lose_quote(self, frame: Frame, reason: WireReason) -> None:
        """Nothing numbers quotes without holes, so a lost one must be noted where it was."""
        feed, conn_id, recv_ns, raw = frame
        named = None if isinstance(raw, News) else read_symbol(raw)
        if reason is WireReason.UNKNOWN_EVENT:
            return
        if named is not None and named in self.pipelines:
            concerned: tuple[str, ...] = (named,)
        elif reason is WireReason.MALFORMED:
            concerned = feed.subscription.symbols  # it may have been anybody's
        else:
            return  # an answer, no event
        for symbol in concerned:
            marker = Received(Unusable(symbol), recv_ns, conn_id)
            self._release(feed, feed.handover.lost(conn_id, symbol, marker))

    def _take(self, received: Received) -> None:
        message, recv_ns, _ = received
        symbol = message.symbol
        if isinstance(message, Unusable):
            self._on_book_gap(symbol, "unusable")
            return
        newest_ms, event_ms = message.ts, message.event_ms
        if event_ms is not None and event_ms > newest_ms:
            newest_ms = event_ms
        age_ns = recv_ns - newest_ms * NS_PER_MS
        admission = self.admissions[symbol]
        # Most are no younger than the youngest of late, and nothing is in doubt.
        if age_ns < self.watch.offsets[symbol].least_ns or admission.holding:
            verdict = admission.offer(self._stream_of(message), message.id, age_ns, received)
            for refused in verdict.refused:
                self._refuse(refused)
            for admitted in verdict.admitted:
                self._admit(admitted)
            return
        self._admit(received)

    def _stream_of(self, message: Message) -> str:
        is_quote = isinstance(message, BookTicker)
        return BOOK_STREAM if is_quote else self._config.source.trade_stream

    def _refuse(self, received: Received) -> None:
        message = received.message
        assert not isinstance(message, Unusable)
        detail = f"T {message.ts}, E {message.event_ms}, received {received.recv_ns // NS_PER_MS}"
        self._count_parse_error(WireReason.FUTURE, f"{self._stream_of(message)}.T", detail)
        if isinstance(message, BookTicker):  # a missing trade shows by its id
            self.pipelines[message.symbol].on_book_gap("unusable")

    def _on_book_gap(self, symbol: str, reason: str | None = None) -> None:
        for received in self.admissions[symbol].refuse(BOOK_STREAM):
            self._refuse(received)
        self.pipelines[symbol].on_book_gap(reason)

    def _admit(self, received: Received) -> None:
        message, recv_ns, conn_id = received
        assert not isinstance(message, Unusable)
        pipeline = self.pipelines[message.symbol]
        if isinstance(message, BookTicker):
            pipeline.on_quote(message, recv_ns, conn_id)
            return
        arrival = Arrival(message, recv_ns, "ws", conn_id)
        if pipeline.counts.trades % SAMPLE_EVERY == 0:
            self._take_timed(pipeline, arrival)
        else:
            pipeline.on_trade(arrival)
        if pipeline.hole is not None:
            self._backfills.start(message.symbol)

    def _take_timed(self, pipeline: SymbolPipeline, arrival: Arrival) -> None:
        settings, before = self._settings, pipeline.counts.ordered
        begun = settings.monotonic()
        pipeline.on_trade(arrival)
        taken = settings.monotonic() - begun
        if pipeline.counts.ordered > before:  # neither known nor waiting for another
            times = self.counts.symbols[pipeline.symbol].cvd_times
            times.processing.observe(taken)
            times.latency.observe(settings.wall_ns() / 1e9 - arrival.trade.ts / 1e3)

    def _on_news(self, feed: Feed, conn_id: int, news: News) -> None:
        if news is News.OVERLAPPED:
            feed.handover.overlapped(conn_id)
            return
        if news is not News.OPENED:
            self._release(feed, feed.handover.closed(conn_id, news is News.RETIRED))
            return
        self.watch.opened(feed)
        uncovered = feed.handover.opened(conn_id)
        if uncovered and feed in self._opened:
            again, group = self.counts.reconnects, feed.subscription.group
            again[group] = again.get(group, 0) + 1
        self._opened.add(feed)
        self._release(feed, Released(uncovered, []))

    def _release(self, feed: Feed, released: Released[Received]) -> None:
        if feed.subscription.group is Group.BOOK:  # missing trades show by their ids
            for symbol in released.uncovered:
                self._on_book_gap(symbol)
        for received in released.messages:
            self._take(received)

    def _count_parse_error(self, reason: str, field: str, detail: str) -> None:
        errors, key = self.counts.parse_errors, (reason, field)
        if key not in errors:  # the rest is in the counter
            fields = {"reason": reason, "field": field, "detail": detail}
            log.warning("a frame cannot be used", extra={"fields": fields})
        errors[key] = errors.get(key, 0) + 1

    def _note_delivery(self, symbol: str, group: Group) -> None:
        self._undelivered.discard((symbol, group))
        waiting = ", ".join(f"{name} {group}" for name, group in sorted(self._undelivered))
        self.health.set_ready(not self._undelivered, f"waiting for {waiting}" if waiting else "")


async def _cancel(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def harvest(
    config: WorkloadConfig,
    shard: int,
    listen: str,
    stop: asyncio.Event,
    settings: Settings | None = None,
) -> None:
    """Harvest the symbols of a shard and serve metrics and health, until `stop` is set.

    Raises:
        HarvestError: it cannot go on.
        SinkError: a symbol's folder is in use, or cannot be continued.
    """
    if not 0 <= shard < len(config.shards):
        raise HarvestError(f"shard {shard}: the configuration has {len(config.shards)}")
    settings, health, symbols = settings or Settings(), Health(), config.shards[shard]
    opening = Opening(open_storage(config.data_path), symbols, settings, health)
    try:
        registry = CollectorRegistry()
        registry.register(OpeningCollector(config, opening.refusals))
        async with serve(listen, registry, health) as url:
            fields = {"symbols": ",".join(symbols), "url": url}
            log.info("starting", extra={"fields": fields})
            if not await opening.run(stop):
                return
            worker = Harvest(config, opening.sinks, settings, health)
            registry.register(worker.collector())
            log.info("harvesting", extra={"fields": fields})
            await worker.run(stop)
    finally:
        opening.close()
