"""Harvest's own metrics, read from the pipelines when they are scraped.

The hot path counts in plain integers; this collector turns them into series on demand, so a
message pays nothing for being counted. A value that is not known is left out, never 0 or NaN:
a rule must be able to tell silence from health.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from signalcanary.contract import MetricLabel, WorkloadConfig
from signalcanary_workloads.harvest.cvd_metrics import CvdSeries, CvdTimes
from signalcanary_workloads.harvest.feed import Feed, Group
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.watch import Watch
from signalcanary_workloads.harvest.wire import BOOK_STREAM
from signalcanary_workloads.housekeeping import UpkeepCounts
from signalcanary_workloads.labels import COMMON, OF_SYMBOL, common_values
from signalcanary_workloads.store import Kind


@dataclass
class SymbolCounts:
    """What the runtime, not the pipeline, knows of a symbol."""

    commits: int = 0
    last_commit_seconds: float | None = None
    commit_errors: dict[str, int] = field(default_factory=dict)
    commit_refused: bool = False
    """The last try to commit was refused."""
    held_bytes: int = 0
    """Memory of the rows that are being committed."""
    upkeep: UpkeepCounts = field(default_factory=UpkeepCounts)
    rows: dict[Kind, int] = field(default_factory=dict)
    backfill_errors: dict[str, int] = field(default_factory=dict)
    cvd_times: CvdTimes = field(default_factory=CvdTimes)


@dataclass
class RuntimeCounts:
    """What the runtime knows of all symbols together."""

    symbols: dict[str, SymbolCounts]
    parse_errors: dict[tuple[str, str], int] = field(default_factory=dict)
    """By reason and field."""
    reconnects: dict[str, int] = field(default_factory=dict)
    reading_stopped: bool = False
    """Too much waits to be committed."""


class OpeningCollector(Collector):
    """What there is to measure before the storage lets a process begin."""

    def __init__(self, config: WorkloadConfig, refusals: Mapping[str, Mapping[str, int]]) -> None:
        self._base = common_values(config)
        self._refusals = refusals

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: the names must not be computed at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every series as of now."""
        errors = CounterMetricFamily(
            "harvest_open_errors",
            "Tries to open a symbol's folder at the start that the volume or bucket refused.",
            labels=[*OF_SYMBOL, "reason"],
        )
        for symbol, reasons in self._refusals.items():
            for reason, n in reasons.items():
                errors.add_metric([*self._base, symbol, reason], n)
        yield errors


class HarvestCollector(Collector):
    """All series of one harvest process that has begun."""

    def __init__(
        self,
        config: WorkloadConfig,
        pipelines: Mapping[str, SymbolPipeline],
        counts: RuntimeCounts,
        feeds: Sequence[Feed],
        watch: Watch,
        queue_depth: Callable[[], int],
    ) -> None:
        self._base = common_values(config)
        times = {symbol: one.cvd_times for symbol, one in counts.symbols.items()}
        labels = dict(zip(COMMON, self._base, strict=True))
        self._cvd = CvdSeries(config, labels, pipelines, times, watch)
        self._trade_stream = config.source.trade_stream
        self._pipelines = pipelines
        self._counts = counts
        self._feeds = feeds
        self._watch = watch
        self._queue_depth = queue_depth

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: the names must not be computed at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every series as of now."""
        yield from self._of_process()
        yield from self._of_streams()
        yield from self._of_quotes()
        yield from self._of_trades()
        yield from self._of_commits()
        yield from self._of_upkeep()
        yield from self._cvd.collect()

    def _counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(name, text, labels=[*COMMON, *labels])

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, text, labels=[*COMMON, *labels])

    def _of_process(self) -> Iterator[Metric]:
        errors = self._counter(
            "harvest_parse_errors", "Frames that could not be used.", "reason", "field"
        )
        for (reason, wire_field), n in self._counts.parse_errors.items():
            errors.add_metric([*self._base, reason, wire_field], n)
        yield errors
        again = self._counter(
            "harvest_reconnects", "Connections made after there was none.", "endpoint"
        )
        for group, n in self._counts.reconnects.items():
            again.add_metric([*self._base, group], n)
        yield again
        rotations = self._counter(
            "harvest_rotations",
            "Connections replaced before the exchange closes them, by what came of it.",
            "endpoint",
            "result",
        )
        for endpoint in Group:
            feeds = [feed for feed in self._feeds if feed.subscription.group is endpoint]
            done = sum(feed.rotations for feed in feeds)
            failed = sum(feed.failed_rotations for feed in feeds)
            rotations.add_metric([*self._base, endpoint, "done"], done)
            rotations.add_metric([*self._base, endpoint, "failed"], failed)
        yield rotations
        forced = self._counter(
            "harvest_forced_reconnects", "Connections given up as all was silent.", "endpoint"
        )
        for endpoint, n in self._watch.forced_reconnects.items():
            forced.add_metric([*self._base, endpoint], n)
        yield forced
        steps = self._counter(
            "harvest_clock_steps", "Jumps of the wall clock by more than 1 s, either way."
        )
        steps.add_metric(self._base, self._watch.clock.steps)
        yield steps
        depth = self._gauge("harvest_queue_frames", "Frames received and not yet processed.")
        depth.add_metric(self._base, self._queue_depth())
        yield depth

    def _of_streams(self) -> Iterator[Metric]:
        by_stream = (MetricLabel.SYMBOL, "stream")
        frames = self._counter(
            "harvest_frames_received", "Frames by stream, duplicates included.", *by_stream
        )
        regressed = self._counter(
            "harvest_regressed_frames",
            "Frames with old ids and newer times, dropped: the exchange began its ids anew.",
            *by_stream,
        )
        gaps = self._counter("harvest_gaps", "Gaps by stream.", *by_stream, "recovered")
        silent = self._gauge(
            "harvest_stream_silent_seconds",
            "Wall time since the last frame, or else since first subscribed.",
            *by_stream,
        )
        offset = self._gauge(
            "harvest_clock_offset_seconds",
            "Least receive − event time over 300 s: the clocks' difference and the way.",
            MetricLabel.SYMBOL,
        )
        for name, pipeline in self._pipelines.items():
            labels = [*self._base, name]
            counts, sequencer = pipeline.counts, pipeline.sequencer
            for group, stream, received, again in (
                (Group.BOOK, BOOK_STREAM, counts.quotes, counts.regressed_quotes),
                (Group.TRADES, self._trade_stream, counts.trades, sequencer.regressed),
            ):
                frames.add_metric([*labels, stream], received)
                regressed.add_metric([*labels, stream], again)
                if (seconds := self._watch.silent_seconds(group, name)) is not None:
                    silent.add_metric([*labels, stream], seconds)
            for (stream, recovered), n in counts.gaps.items():
                gaps.add_metric([*labels, stream, str(recovered).lower()], n)
            if (ahead := self._watch.offsets[name].seconds) is not None:
                offset.add_metric(labels, ahead)
        yield from (frames, regressed, gaps, silent, offset)

    def _of_quotes(self) -> Iterator[Metric]:
        symbol = MetricLabel.SYMBOL
        stale = self._counter(
            "harvest_quotes_stale", "Quotes not newer than the last, dropped.", symbol
        )
        late = self._counter(
            "harvest_quotes_late", "Quotes after their second was closed; kept in bbo.", symbol
        )
        watermark = self._gauge(
            "harvest_watermark_seconds", "Event time up to which features are final.", symbol
        )
        for name, pipeline in self._pipelines.items():
            labels = [*self._base, name]
            stale.add_metric(labels, pipeline.counts.stale_quotes)
            late.add_metric(labels, pipeline.grid.late_quotes)
            if pipeline.grid.watermark_ms:
                watermark.add_metric(labels, pipeline.grid.watermark_ms / 1000)
        yield from (stale, late, watermark)

    def _of_trades(self) -> Iterator[Metric]:
        symbol = MetricLabel.SYMBOL
        late = self._counter(
            "harvest_trades_late", "Trades after their second was closed; kept.", symbol
        )
        duplicates = self._counter("harvest_trades_duplicate", "Trades dropped as known.", symbol)
        fetched = self._counter("harvest_trades_backfilled", "Trades fetched over REST.", symbol)
        lost = self._counter("harvest_trades_lost", "Trade ids given up.", symbol)
        deferred = self._counter(
            "harvest_trades_deferred", "Trades left to a later backfill: too many waited.", symbol
        )
        failed = self._counter(
            "harvest_backfill_errors", "REST requests that failed.", symbol, "reason"
        )
        sides = self._gauge(
            "harvest_trade_side_agreement_ratio",
            "Trades on the side of the quote that their taker flag says, over 300 s.",
            symbol,
        )
        for name, pipeline in self._pipelines.items():
            labels = [*self._base, name]
            counts, sequencer = pipeline.counts, pipeline.sequencer
            late.add_metric(labels, counts.late_trades)
            duplicates.add_metric(labels, sequencer.duplicates)
            fetched.add_metric(labels, counts.backfilled)
            lost.add_metric(labels, sequencer.lost)
            deferred.add_metric(labels, sequencer.deferred)
            for reason, n in self._counts.symbols[name].backfill_errors.items():
                failed.add_metric([*labels, reason], n)
            if (
                self._watch.has_recent_trades(name)
                and (agreement := pipeline.side_agreement()) is not None
            ):
                sides.add_metric(labels, agreement)
        yield from (late, duplicates, fetched, lost, deferred, failed, sides)

    def _of_commits(self) -> Iterator[Metric]:
        symbol = MetricLabel.SYMBOL
        commits = self._counter("harvest_commits", "Manifest entries written.", symbol)
        errors = self._counter(
            "harvest_commit_errors", "Commits that were refused.", symbol, "reason"
        )
        rows = self._counter("harvest_rows_committed", "Rows by kind.", symbol, "kind")
        last = self._gauge(
            "harvest_last_commit_timestamp_seconds", "Unix time of the last commit.", symbol
        )
        waiting = self._gauge("harvest_uncommitted_bytes", "Memory of rows to commit.", symbol)
        for name, counts in self._counts.symbols.items():
            labels = [*self._base, name]
            commits.add_metric(labels, counts.commits)
            for reason, n in counts.commit_errors.items():
                errors.add_metric([*labels, reason], n)
            for kind, n in counts.rows.items():
                rows.add_metric([*labels, kind], n)
            if counts.last_commit_seconds is not None:
                last.add_metric(labels, counts.last_commit_seconds)
            waiting.add_metric(labels, self._pipelines[name].nbytes + counts.held_bytes)
        stopped = self._gauge(
            "harvest_reading_stopped", "1 while too much waits to be committed, else 0."
        )
        stopped.add_metric(self._base, int(self._counts.reading_stopped))
        yield from (commits, errors, rows, last, waiting, stopped)

    def _of_upkeep(self) -> Iterator[Metric]:
        symbol = MetricLabel.SYMBOL
        compacted = self._counter(
            "harvest_entries_compacted", "Manifest entries made one with others.", symbol
        )
        expired = self._counter(
            "harvest_entries_expired", "Manifest entries deleted after their retention.", symbol
        )
        errors = self._counter(
            "harvest_upkeep_errors", "Passes over old data that failed.", symbol, "reason"
        )
        for name, counts in self._counts.symbols.items():
            labels = [*self._base, name]
            compacted.add_metric(labels, counts.upkeep.compacted)
            expired.add_metric(labels, counts.upkeep.expired)
            for reason, n in counts.upkeep.errors.items():
                errors.add_metric([*labels, reason], n)
        yield from (compacted, expired, errors)
