"""The volume delta's own series: the names of seed 001, and beside them those that follow
Prometheus conventions (base units, ratios; domain notes §2).

A value over 300 s that is no longer of the last 300 s is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf, isnan
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from signalcanary.contract import (
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HARVEST_METRICS,
    MetricLabel,
    WorkloadConfig,
)
from signalcanary_workloads.harvest.cvd import (
    FAST_HALF_LIFE_TRADES,
    MAD_WINDOW_TRADES,
    WARMUP_TRADES,
)
from signalcanary_workloads.harvest.histogram import Histogram
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.watch import Watch

SAMPLE_EVERY: Final = 8
"""Latency and processing time are taken of one live trade in so many: reading two clocks for
each would cost a tenth of what it measures."""
# The exchange's clock may be ahead of ours: such latencies are negative, and shown as such.
LATENCY_BOUNDS_SECONDS: Final = (
    *(-1.0, -0.1, 0.0, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)
PROCESSING_BOUNDS_SECONDS: Final = (
    *(5e-6, 1e-5, 2e-5, 5e-5, 1e-4),
    *(2e-4, 5e-4, 1e-3, 1e-2, 1e-1, 1.0),
)


class CvdTimes:
    """How long a symbol's sampled trades took."""

    def __init__(self) -> None:
        self.latency = Histogram(LATENCY_BOUNDS_SECONDS)
        """From the trade (`T`) to its feature."""
        self.processing = Histogram(PROCESSING_BOUNDS_SECONDS)


class CvdSeries:
    """The series of all symbols of one process."""

    def __init__(
        self,
        config: WorkloadConfig,
        labels: Mapping[str, str],
        pipelines: Mapping[str, SymbolPipeline],
        times: Mapping[str, CvdTimes],
        watch: Watch,
    ) -> None:
        """
        Args:
            labels: what every series carries, by name.
        """
        self._config = config
        self._names: list[str] = list(labels)
        self._values = list(labels.values())
        self._pipelines = pipelines
        self._times = times
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """Every series as of now."""
        yield from self._of_configuration()
        yield from self._of_trades()
        yield from self._of_quality()

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, text, labels=[*self._names, *labels])

    def _histogram(self, name: str, text: str) -> HistogramMetricFamily:
        return HistogramMetricFamily(name, text, labels=[*self._names, MetricLabel.SYMBOL])

    def _of_configuration(self) -> Iterator[Metric]:
        config = self._config
        for name, text in (
            ("cvd_config_version", "1; the configuration is in the labels."),
            ("cvd_build_info", "1; the configuration is in the labels."),
        ):
            info = self._gauge(name, text, "version", "config_hash")
            info.add_metric([*self._values, config.version, config.fingerprint], 1)
            yield info
        parameters = self._gauge("cvd_parameter_value", "A parameter of the score.", "name")
        numbers = {
            name: float(value)
            for name, value in config.signal.cvd.model_dump().items()
            if isinstance(value, int | float)
        }
        numbers |= {
            "fast_half_life_trades": FAST_HALF_LIFE_TRADES,
            "mad_window_trades": MAD_WINDOW_TRADES,
            "warmup_trades": WARMUP_TRADES,
        }
        for name, number in numbers.items():
            parameters.add_metric([*self._values, name], number)
        yield parameters

    def _of_trades(self) -> Iterator[Metric]:
        names = [*self._names, MetricLabel.SYMBOL]
        messages = CounterMetricFamily("cvd_messages", "Trades taken into the CVD.", labels=names)
        errors = CounterMetricFamily(
            "cvd_errors", "Trades missing from the CVD.", labels=[*names, "reason"]
        )
        text = f"From a trade to its feature; of one live trade in {SAMPLE_EVERY} (s)."
        latencies = [self._histogram(name, text) for name in ("cvd_latency", "cvd_latency_seconds")]
        processing = self._histogram(
            "cvd_processing_duration_seconds",
            f"What a trade costs this process; of one live trade in {SAMPLE_EVERY}.",
        )
        sizes = self._histogram("cvd_abs_z", "Absolute z-scores of all trades.")
        for symbol, pipeline in self._pipelines.items():
            labels = [*self._values, symbol]
            messages.add_metric(labels, pipeline.counts.ordered)
            errors.add_metric([*labels, "lost"], pipeline.sequencer.lost)
            times = self._times[symbol]
            for family, histogram in (
                *((family, times.latency) for family in latencies),
                (processing, times.processing),
                (sizes, pipeline.abs_z),
            ):
                buckets = [
                    ("+Inf" if bound == inf else repr(bound), float(count))
                    for bound, count in histogram.cumulative()
                ]
                family.add_metric(labels, buckets, histogram.sum)
        yield from (messages, errors, *latencies, processing, sizes)

    def _of_quality(self) -> Iterator[Metric]:
        symbol = MetricLabel.SYMBOL
        scale = "Median scale over 300 s (quote currency)."
        floor = "Share of trades whose scale is the floor, over 300 s (0–1)."
        gauges = {
            "cvd_scale_median": self._gauge("cvd_scale_median", scale, symbol),
            "cvd_scale_usdt": self._gauge("cvd_scale_usdt", scale, symbol),
            "cvd_scale_floor_hit_ratio": self._gauge("cvd_scale_floor_hit_ratio", floor, symbol),
            "cvd_z_p95": self._gauge("cvd_z_p95", "95 % quantile of |z| over 300 s.", symbol),
            **{m.name: self._gauge(m.name, m.help, symbol) for m in HARVEST_METRICS},
        }
        tails = self._gauge(
            "cvd_z_tail_ratio",
            "Share of |z| beyond a threshold, over 300 s (0–1).",
            symbol,
            "threshold",
        )
        # What a rollback condition may name is judged only with the evidence beside it.
        of = MetricLabel.METRIC
        samples = self._gauge(EVIDENCE_SAMPLES, "Trades behind the value.", symbol, of)
        stamp = self._gauge(EVIDENCE_TIMESTAMP, "Last trade (Unix time, s).", symbol, of)
        for name, pipeline in self._pipelines.items():
            if not self._watch.has_recent_trades(name):
                continue
            quality = pipeline.cvd_quality()
            if isnan(quality.scale_median):
                continue
            labels = [*self._values, name]
            for gauge, value in (
                ("cvd_scale_median", quality.scale_median),
                ("cvd_scale_usdt", quality.scale_median),
                ("cvd_floor_hit_rate", quality.floor_hit_ratio),
                ("cvd_scale_floor_hit_ratio", quality.floor_hit_ratio),
                ("cvd_z_p95", quality.abs_z_p95),
                ("cvd_z_tail_p2", quality.tail2_ratio * 100),
                ("cvd_z_tail_p3", quality.tail3_ratio * 100),
            ):
                gauges[gauge].add_metric(labels, value)
            last_trade = self._watch.last_trade_seconds(name)
            for metric in HARVEST_METRICS:
                samples.add_metric([*labels, metric.name], quality.samples)
                if last_trade is not None:
                    stamp.add_metric([*labels, metric.name], last_trade)
            tails.add_metric([*labels, "2"], quality.tail2_ratio)
            tails.add_metric([*labels, "3"], quality.tail3_ratio)
        yield from (*gauges.values(), tails, samples, stamp)
