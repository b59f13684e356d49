"""The report in the Prometheus text format: evidence, horizons and differences.

Two kinds of series. The evidence and the differences stand beside the core values, with their
labels and `metric`. All figures of all horizons, the judged one included, stand under names that
follow Prometheus' conventions: base units, ratios of 0–1, and what is counted apart in a label.
As with the core values, what is not known has no series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from signalcanary.contract import (
    AUC,
    AUC_EFFECTIVE_SAMPLES,
    AUC_LOWER,
    AUC_SAMPLES,
    AUC_UPPER,
    CALIBRATION_EFFECTIVE_SAMPLES,
    CALIBRATION_ERROR,
    CALIBRATION_ERROR_LOWER,
    CALIBRATION_ERROR_UPPER,
    CALIBRATION_SAMPLES,
    CONTROL_LABEL,
    DIFFERENCE,
    DIFFERENCE_EFFECTIVE_SAMPLES,
    DIFFERENCE_LOWER,
    DIFFERENCE_SAMPLES,
    DIFFERENCE_UPPER,
    EVIDENCE_EFFECTIVE_SAMPLES,
    EVIDENCE_LOWER,
    EVIDENCE_UPPER,
    RELIABILITY_EFFECTIVE_SAMPLES,
    RELIABILITY_LOWER,
    RELIABILITY_OBSERVED,
    RELIABILITY_PREDICTED,
    RELIABILITY_SAMPLES,
    RELIABILITY_UPPER,
    ROC_TRUE_POSITIVES,
    CurveLabel,
    MetricLabel,
    format_duration,
)

from .calibration_error import Binning
from .curves import FALSE_POSITIVES, Curves
from .engine import MERGE_BUCKETS_MS, Evaluation
from .evidence import Estimate
from .report import HorizonReport, Report

_EVIDENCE: Final = (
    (EVIDENCE_EFFECTIVE_SAMPLES, "Independent rows that would leave the value as unsure."),
    (EVIDENCE_LOWER, "Lower end of the 95 % interval of the true value, for one look."),
    (EVIDENCE_UPPER, "Upper end of the 95 % interval of the true value, for one look."),
)
_DIFFERENCES: Final = (
    (DIFFERENCE, "This configuration − the control's, on the same rows."),
    (DIFFERENCE_LOWER, "Lower end of the 95 % interval of the difference, for one look."),
    (DIFFERENCE_UPPER, "Upper end of the 95 % interval of the difference, for one look."),
    (DIFFERENCE_SAMPLES, "Labelled rows that both configurations scored."),
    (DIFFERENCE_EFFECTIVE_SAMPLES, "Independent rows that would leave it as unsure."),
)
_HORIZON: Final = (
    (AUC, "Area under the ROC curve of the score.", (CurveLabel.SLICE,)),
    (AUC_LOWER, "Lower end of its 95 % interval.", (CurveLabel.SLICE,)),
    (AUC_UPPER, "Upper end of its 95 % interval.", (CurveLabel.SLICE,)),
    (AUC_SAMPLES, "Labelled rows in the slice.", (CurveLabel.SLICE,)),
    (AUC_EFFECTIVE_SAMPLES, "Independent rows in the slice.", (CurveLabel.SLICE,)),
    (CALIBRATION_ERROR, "Binned calibration error (ECE).", (CurveLabel.BINNING,)),
    ("signal_calibration_error_debiased_ratio", "The true error, estimated.", ("binning",)),
    (CALIBRATION_ERROR_LOWER, "Lower end of its 95 % interval.", (CurveLabel.BINNING,)),
    (CALIBRATION_ERROR_UPPER, "Upper end of its 95 % interval.", (CurveLabel.BINNING,)),
    (
        "signal_calibration_error_null_ratio",
        "What perfect probabilities would show by chance: mean and 95 % quantile.",
        ("binning", "statistic"),
    ),
    ("signal_brier_score", "Mean of (p − y)².", ()),
    ("signal_brier_lower_score", "Lower end of its 95 % interval.", ()),
    ("signal_brier_upper_score", "Upper end of its 95 % interval.", ()),
    ("signal_brier_skill_ratio", "1 − Brier score over that of the base rate.", ()),
    ("signal_brier_skill_lower_ratio", "Lower end of its 95 % interval.", ()),
    ("signal_brier_skill_upper_ratio", "Upper end of its 95 % interval.", ()),
    (CALIBRATION_SAMPLES, "Labelled rows by split: train, test.", (CurveLabel.SPLIT,)),
    (CALIBRATION_EFFECTIVE_SAMPLES, "Independent rows of them.", (CurveLabel.SPLIT,)),
    ("signal_label_tie_ratio", "Scored rows whose mid did not move.", ()),
)

_CURVES: Final = (
    (RELIABILITY_PREDICTED, "Mean probability of the rows in a bin.", (CurveLabel.BIN,)),
    (RELIABILITY_OBSERVED, "Share of these rows whose mid rose.", (CurveLabel.BIN,)),
    (RELIABILITY_LOWER, "Lower end of its 95 % interval.", (CurveLabel.BIN,)),
    (RELIABILITY_UPPER, "Upper end of its 95 % interval.", (CurveLabel.BIN,)),
    (RELIABILITY_SAMPLES, "Labelled rows in a bin of p.", (CurveLabel.BIN,)),
    (RELIABILITY_EFFECTIVE_SAMPLES, "Independent rows in the bin.", (CurveLabel.BIN,)),
    (
        ROC_TRUE_POSITIVES,
        "ROC curve: share of the rises that are found, at a share of others taken for rises.",
        (CurveLabel.SLICE, CurveLabel.FALSE_POSITIVES),
    ),
)

Row = tuple[str, tuple[str, ...], float | None]


class Place:
    """The labels that a symbol's series have in common."""

    def __init__(self, constant: Sequence[str], symbol: str, judged_horizon: str) -> None:
        self._constant = (*constant, symbol)
        self.judged_horizon = judged_horizon

    def at(self, horizon: str, *extra: str) -> list[str]:
        """Label values at a horizon."""
        return [*self._constant, horizon, *extra]


class ReportSeries:
    """The families of one scrape; `add` each symbol, then `collect`.

    Args:
        labels: names of the labels in common, `horizon` the last.
        control: the revision that differences are against.
    """

    def __init__(self, labels: Sequence[str], control: str | None) -> None:
        self._control = control or ""
        self._families: dict[str, GaugeMetricFamily] = {}
        metric = MetricLabel.METRIC.value
        for name, text in _EVIDENCE:
            self._open(name, text, [*labels, metric])
        for name, text in _DIFFERENCES:
            self._open(name, text, [*labels, metric, CONTROL_LABEL])
        for name, text, extra in (*_HORIZON, *_CURVES):
            self._open(name, text, [*labels, *extra])
        self._merge = HistogramMetricFamily(
            "signal_merge_time_diff_seconds",
            "Age of the matched CVD score, before the tolerance is applied.",
            labels=labels,
        )

    def _open(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._families[name] = GaugeMetricFamily(name, text, labels=labels)

    def add(self, place: Place, report: Report) -> None:
        """Add one symbol's report."""
        judged = report.horizons[0]
        for metric, found in judged.evidence.items():
            labels = place.at(place.judged_horizon, metric)
            self._add(EVIDENCE_EFFECTIVE_SAMPLES, labels, found.effective_samples)
            self._add(EVIDENCE_LOWER, labels, found.lower)
            self._add(EVIDENCE_UPPER, labels, found.upper)
        for metric, found in (report.differences or {}).items():
            labels = place.at(place.judged_horizon, metric, self._control)
            self._add(DIFFERENCE, labels, found.value)
            self._add(DIFFERENCE_LOWER, labels, found.lower)
            self._add(DIFFERENCE_UPPER, labels, found.upper)
            self._add(DIFFERENCE_SAMPLES, labels, found.samples)
            self._add(DIFFERENCE_EFFECTIVE_SAMPLES, labels, found.effective_samples)
        for one in report.horizons:
            # A horizon between grid points was rounded up; its label is as it was written.
            shown = place.judged_horizon if one is judged else _text(one.horizon_ms)
            for name, extra, value in _rows(one):
                self._add(name, place.at(shown, *extra), value)
        for name, extra, value in _points(report.curves):
            self._add(name, place.at(place.judged_horizon, *extra), value)

    def add_merge(self, place: Place, evaluation: Evaluation) -> None:
        """Add one symbol's histogram of merge times, counted since the start."""
        buckets, total = [], 0
        ends = [f"{ms / 1_000:g}" for ms in MERGE_BUCKETS_MS]
        for end, count in zip([*ends, "+Inf"], evaluation.merge_counts, strict=True):
            total += count
            buckets.append((end, total))
        labels = place.at(place.judged_horizon)
        self._merge.add_metric(labels, buckets, evaluation.merge_sum_ms / 1_000)

    def collect(self) -> Iterator[Family]:
        """All families."""
        yield from self._families.values()
        yield self._merge

    def _add(self, name: str, labels: Sequence[str], value: float | None) -> None:
        if value is not None:
            self._families[name].add_metric(labels, value)


def _text(horizon_ms: int) -> str:
    return format_duration(timedelta(milliseconds=horizon_ms))


def _rows(report: HorizonReport) -> Iterable[Row]:
    for which, auc in report.auc.items():
        of = (str(which),)
        yield from _interval("signal_auc", "ratio", of, auc)
        yield AUC_SAMPLES, of, auc.samples
        yield AUC_EFFECTIVE_SAMPLES, of, auc.effective_samples
    for binning, error in report.calibration.items():
        of = (str(binning),)
        yield CALIBRATION_ERROR, of, error.value
        yield "signal_calibration_error_debiased_ratio", of, error.debiased
        yield CALIBRATION_ERROR_LOWER, of, error.lower
        yield CALIBRATION_ERROR_UPPER, of, error.upper
        yield "signal_calibration_error_null_ratio", (*of, "mean"), error.null_mean
        yield "signal_calibration_error_null_ratio", (*of, "q95"), error.null_q95
    if report.brier is not None:
        yield from _interval("signal_brier", "score", (), report.brier)
    if report.brier_skill is not None:
        yield from _interval("signal_brier_skill", "ratio", (), report.brier_skill)
    yield CALIBRATION_SAMPLES, ("train",), report.train_samples
    yield CALIBRATION_SAMPLES, ("test",), report.test_samples
    if Binning.EQUAL_WIDTH in report.calibration:
        effective = report.calibration[Binning.EQUAL_WIDTH].effective_samples
        yield CALIBRATION_EFFECTIVE_SAMPLES, ("test",), effective
    yield "signal_label_tie_ratio", (), report.tie_ratio


def _points(curves: Curves) -> Iterable[Row]:
    for one in curves.reliability:
        of = (f"{one.low:g}-{one.high:g}",)
        yield RELIABILITY_PREDICTED, of, one.predicted
        yield RELIABILITY_OBSERVED, of, one.observed
        yield RELIABILITY_LOWER, of, one.lower
        yield RELIABILITY_UPPER, of, one.upper
        yield RELIABILITY_SAMPLES, of, one.samples
        yield RELIABILITY_EFFECTIVE_SAMPLES, of, one.effective_samples
    for which, found in curves.roc.items():
        for false, true in zip(FALSE_POSITIVES, found, strict=True):
            yield ROC_TRUE_POSITIVES, (which, f"{false:g}"), true


def _interval(name: str, unit: str, extra: tuple[str, ...], found: Estimate) -> Iterable[Row]:
    yield f"{name}_{unit}", extra, found.value
    yield f"{name}_lower_{unit}", extra, found.lower
    yield f"{name}_upper_{unit}", extra, found.upper
