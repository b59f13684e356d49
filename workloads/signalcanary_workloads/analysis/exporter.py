"""The analysis in the Prometheus text format: the contract's series and a few of our own.

A value that is not valid has no series: neither NaN nor a neutral number may stand in for it,
because a rollback rule would compare with it. What remains visible is the evidence
(`signal_evidence_samples`, 0 included), so that warming up differs from being absent, and the
reason (`signal_value_valid`). A symbol that cannot be read shows no evidence either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from signalcanary.contract import (
    CONTROL_LABEL,
    CORE_METRICS,
    DIFFERENCE_BOUND,
    EVIDENCE_BOUND,
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HEARTBEAT,
    ML_METRICS,
    VALUE_VALID,
    WARMUP,
    BoundLabel,
    MetricLabel,
    WorkloadConfig,
    format_duration,
)

from ..housekeeping import UpkeepCounts
from ..labels import common_values
from .anytime import UNKNOWN, Anytime
from .engine import Count
from .report_series import Place, ReportSeries
from .runner import SymbolState
from .score import Reason, Value

_ERROR_KINDS: Final = ("CorruptEntry", "CorruptPart", "MissingPart", "OSError")

_OWN_COUNTERS: Final = (
    (Count.ROWS, "analysis_feature_rows", "Feature rows read."),
    (Count.SCORED, "analysis_rows_joined", "Feature rows joined and fused into a score."),
    (Count.LABELLED, "analysis_rows_labelled", "Scored rows whose label is up or down."),
    (Count.TIES, "analysis_label_ties", "Scored rows left out: the mid did not move."),
    (Count.OUT_OF_ORDER, "analysis_rows_out_of_order", "Feature rows dropped: not later."),
    (Count.REFITS, "analysis_refits", "Calibrations fitted."),
)


class AnalysisCollector(Collector):
    """Renders the published states of this shard's symbols on each scrape."""

    def __init__(
        self,
        config: WorkloadConfig,
        states: Callable[[], Sequence[SymbolState]],
        upkeep: Mapping[str, UpkeepCounts] | None = None,
    ) -> None:
        self._states = states
        self._upkeep = upkeep or {}
        self._labels = [label.value for label in MetricLabel if label is not MetricLabel.METRIC]
        self._constant = common_values(config)
        self._horizon = format_duration(config.signal.label.horizon)
        self._control = config.control.revision if config.control else None
        artifacts = config.signal.artifacts
        exported = (*CORE_METRICS, *ML_METRICS) if artifacts and artifacts.models else CORE_METRICS
        self._names = tuple(metric.name for metric in exported)

    def describe(self) -> Iterable[Family]:
        """Nothing: the families are known only when they are collected."""
        return ()

    def collect(self) -> Iterator[Family]:
        """All series of this moment."""
        states = tuple(self._states())
        yield from self._core(states)
        yield from self._evidence(states)
        yield from self._bounds(states)
        yield from self._report(states)
        yield from self._own(states)
        yield from self._of_upkeep()

    def _values_of(self, symbol: str) -> list[str]:
        return [*self._constant, symbol, self._horizon]

    def _gauge(self, name: str, text: str, *extra: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, text, labels=[*self._labels, *extra])

    def _counter(self, name: str, text: str, *extra: str) -> CounterMetricFamily:
        return CounterMetricFamily(name, text, labels=[*self._labels, *extra])

    def _core(self, states: Sequence[SymbolState]) -> Iterator[Family]:
        for metric in (*CORE_METRICS, *ML_METRICS):
            build = self._counter if metric.kind == "counter" else self._gauge
            family = build(metric.name, metric.help)
            for state in states if metric.name in self._names else ():
                value = value_of(state, metric.name).value
                if value is not None:
                    family.add_metric(self._values_of(state.symbol), value)
            yield family

    def _evidence(self, states: Sequence[SymbolState]) -> Iterator[Family]:
        metric = MetricLabel.METRIC.value
        samples = self._gauge(EVIDENCE_SAMPLES, "Rows that the value was computed on.", metric)
        stamp = self._gauge(
            EVIDENCE_TIMESTAMP, "Last evaluation that took in a new row (Unix time, s).", metric
        )
        valid = self._gauge(VALUE_VALID, "1: exported; 0: not, for a reason.", metric, "reason")
        heartbeat = self._gauge(HEARTBEAT, "Last evaluation with new rows (Unix time, s).")
        warmup = self._gauge(WARMUP, "How far the calibration windows are filled (0–1).")
        for state in states:
            labels = self._values_of(state.symbol)
            if state.evidence_seconds is not None:
                heartbeat.add_metric(labels, state.evidence_seconds)
            if state.error is None:
                ratio = state.evaluation.warmup_ratio if state.evaluation else 0.0
                warmup.add_metric(labels, ratio)
            for name in self._names:
                value = value_of(state, name)
                valid.add_metric(
                    [*labels, name, value.reason or ""], 0.0 if value.value is None else 1.0
                )
                if state.error is not None:
                    continue
                samples.add_metric([*labels, name], float(value.samples))
                if state.evidence_seconds is not None:
                    stamp.add_metric([*labels, name], state.evidence_seconds)
        yield from (samples, stamp, valid, heartbeat, warmup)

    def _bounds(self, states: Sequence[SymbolState]) -> Iterator[Family]:
        """What the values surely are; infinite while that is not known, and only beside a value."""
        family = self._gauge(
            EVIDENCE_BOUND,
            "What the value is at least and at most, at every look of 48 h but for the level.",
            MetricLabel.METRIC.value,
            *(label.value for label in BoundLabel),
        )
        differences = self._gauge(
            DIFFERENCE_BOUND,
            "The same of this configuration − the control's, on the same rows.",
            MetricLabel.METRIC.value,
            CONTROL_LABEL,
            *(label.value for label in BoundLabel),
        )
        for state in states:
            if state.evaluation is None:
                continue
            labels = self._values_of(state.symbol)
            for metric in CORE_METRICS:
                name = metric.name
                if metric.has_bounds and value_of(state, name).value is not None:
                    # From the first value on: one without any bounds would be judged as it is.
                    for found in state.evaluation.bounds.get(name, UNKNOWN):
                        _add_bound(family, [*labels, name], found)
            for name, levels in state.evaluation.difference_bounds.items():
                if value_of(state, name).value is not None:
                    for found in levels:
                        _add_bound(differences, [*labels, name, self._control or ""], found)
        yield from (family, differences)

    def _report(self, states: Sequence[SymbolState]) -> Iterator[Family]:
        series = ReportSeries(self._labels, self._control)
        for state in states:
            place = Place(self._constant, state.symbol, self._horizon)
            if state.evaluation is not None:
                series.add_merge(place, state.evaluation)
            if state.report is not None and state.error is None:
                series.add(place, state.report)
        yield from series.collect()

    def _own(self, states: Sequence[SymbolState]) -> Iterator[Family]:
        entries = self._counter("analysis_entries_read", "Manifest entries read.")
        errors = self._counter("analysis_read_errors", "Failed reads of the store.", "error")
        masked = self._counter("analysis_rows_masked", "Rows left out.", "reason")
        failures = self._counter("analysis_fit_failures", "Fits that gave none.", "reason")
        lag = self._gauge(
            "analysis_evaluation_lag_seconds", "Last evaluation minus commit of its newest row."
        )
        ratio = self._gauge(
            "signal_merge_match_ratio",
            "Rows with a CVD score within the tolerance, over 5 min (0–1).",
        )
        sign = self._gauge("cvd_direction_sign", "Sign of the CVD score in use (+1 or −1).")
        answers = self._gauge(
            "signal_model_output_ok_ratio",
            "Share of rows for which a model gave a probability, over 5 min (0–1).",
            "model",
        )
        counters = {key: self._counter(name, text) for key, name, text in _OWN_COUNTERS}
        for state in states:
            labels = self._values_of(state.symbol)
            entries.add_metric(labels, state.entries_read)
            counted = dict.fromkeys(_ERROR_KINDS, 0) | dict(state.errors)
            for kind, count in counted.items():
                errors.add_metric([*labels, kind], count)
            evaluation = state.evaluation
            if evaluation is None:
                continue
            for key, family in counters.items():
                family.add_metric(labels, evaluation.counts[key])
            for reason, count in evaluation.masked.items():
                masked.add_metric([*labels, reason], count)
            for failure, count in evaluation.fit_failures.items():
                failures.add_metric([*labels, failure], count)
            if state.lag_seconds is not None:
                lag.add_metric(labels, state.lag_seconds)
            if state.error is None:
                sign.add_metric(labels, evaluation.direction)
                for model, share in evaluation.answers_ok.items():
                    answers.add_metric([*labels, model], share)
                if evaluation.match_ratio is not None:
                    ratio.add_metric(labels, evaluation.match_ratio)
        yield from (
            entries,
            errors,
            masked,
            failures,
            lag,
            ratio,
            sign,
            answers,
            *counters.values(),
        )

    def _of_upkeep(self) -> Iterator[Family]:
        compacted = self._counter(
            "analysis_entries_compacted", "Entries of the signals' record made one with others."
        )
        expired = self._counter(
            "analysis_entries_expired", "Entries of the signals' record deleted as too old."
        )
        errors = self._counter(
            "analysis_upkeep_errors", "Passes over the signals' record that failed.", "reason"
        )
        for symbol, counts in self._upkeep.items():
            labels = self._values_of(symbol)
            compacted.add_metric(labels, counts.compacted)
            expired.add_metric(labels, counts.expired)
            for reason, count in counts.errors.items():
                errors.add_metric([*labels, reason], count)
        yield from (compacted, expired, errors)


def _add_bound(family: GaugeMetricFamily, labels: Sequence[str], found: Anytime) -> None:
    ends = (
        ("lower", "now", found.lower),
        ("upper", "now", found.upper),
        ("lower", "whole", found.whole_lower),
        ("upper", "whole", found.whole_upper),
    )
    for side, window, value in ends:
        family.add_metric([*labels, f"{found.level:g}", side, window], value)


def value_of(state: SymbolState, name: str) -> Value:
    """A core value as it may be shown: withdrawn while the symbol cannot be read."""
    if state.error is not None:
        return Value(None, 0, Reason.READ_ERROR)
    if state.evaluation is None:
        return Value(None, 0, Reason.CATCHING_UP)
    return state.evaluation.values[name]
