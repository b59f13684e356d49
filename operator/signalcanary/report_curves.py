"""The curves of a report, out of what a metrics source had at the time of the decision. Pure.

Analysis exports them as points (`contract.RELIABILITY_PREDICTED` and its neighbours), so that a
report of long ago can be drawn as long as the source remembers. What is not there is said, with
the reason that analysis itself gave for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from signalcanary import contract
from signalcanary.contract import ALL_ROWS, CORE_METRICS, CurveLabel, MetricLabel, Track
from signalcanary.metrics_source import Series
from signalcanary.promql import escape
from signalcanary.report import CurvesOf, ReliabilityBin, Report, RocCurve, RocPoint, shown_time

MOST_SYMBOLS: Final = 8
"""Of one report; those whose conditions were not Ok come first. A ConfigMap holds 1 MiB."""
DIGITS: Final = 5
"""Of the ratios in a report: their intervals are a hundred times as wide, and wider."""

_NAMES: Final = (
    contract.RELIABILITY_PREDICTED,
    contract.RELIABILITY_OBSERVED,
    contract.RELIABILITY_LOWER,
    contract.RELIABILITY_UPPER,
    contract.RELIABILITY_SAMPLES,
    contract.RELIABILITY_EFFECTIVE_SAMPLES,
    contract.ROC_TRUE_POSITIVES,
    contract.CALIBRATION_ERROR,
    contract.CALIBRATION_ERROR_LOWER,
    contract.CALIBRATION_ERROR_UPPER,
    contract.CALIBRATION_SAMPLES,
    contract.CALIBRATION_EFFECTIVE_SAMPLES,
    contract.AUC,
    contract.AUC_LOWER,
    contract.AUC_UPPER,
    contract.AUC_SAMPLES,
    contract.AUC_EFFECTIVE_SAMPLES,
    contract.VALUE_VALID,
)
_OF_SLICE: Final = "slice_auc_"
_SLICES: Final = (
    ALL_ROWS,
    *(m.name.removeprefix(_OF_SLICE) for m in CORE_METRICS if m.name.startswith(_OF_SLICE)),
)
_REASONS: Final = {
    "warming": "the calibration windows were not filled yet",
    "too_few_rows": "fewer than 100 labelled rows lay in the test window",
    "one_class": "all rows in the test window rose, or all fell",
    "no_calibration": "no calibration could be fitted",
    "read_error": "the harvested data could not be read",
    "catching_up": "analysis had not caught up with the data",
}
_UNREPORTED: Final = (
    "analysis exported none beside its values: it is of an earlier version, or had just started"
)


def curve_query(namespace: str, name: str) -> str:
    """The instant query that gives all that `with_curves` reads, in PromQL."""
    return (
        f'{{__name__=~"{"|".join(_NAMES)}",{MetricLabel.NAMESPACE}="{escape(namespace)}",'
        f'{MetricLabel.NAME}="{escape(name)}"}}'
    )


def with_curves(report: Report, series: Iterable[Series], at: datetime) -> Report:
    """A report with its curves.

    Args:
        series: the answer to `curve_query` as of `at`; others are passed over.
    """
    found = _collect(report, series)
    symbols = choose_symbols(report)
    curves = []
    for symbol in symbols:
        own = [one for one in found if one.symbol == symbol]
        canary = _best(own, lambda one: one.revision == report.canary.name)
        stable = _best(
            own, lambda one: one.revision != report.canary.name and one.track == Track.STABLE
        )
        if canary is None:
            missing = (_nothing("the canary", at),)
            curves.append(CurvesOf(symbol=symbol, track="canary", missing=missing))
        else:
            curves.append(_build(canary, "canary"))
        if stable is not None:
            curves.append(_build(stable, "stable"))
    left_out = len(report.symbols) - len(symbols)
    said = f"Of {left_out} more symbols no curves are kept." if left_out else ""
    return report.model_copy(
        update={"curves": tuple(curves), "curves_time": at, "curves_missing": said}
    )


def without_curves(report: Report, why: str) -> Report:
    """A report that has no curves, and says why; one that has some keeps them."""
    return report if report.curves else report.model_copy(update={"curves_missing": why})


def choose_symbols(report: Report) -> tuple[str, ...]:
    """The symbols whose curves are shown, in the order of the spec."""
    bad = {row.symbol for row in report.conditions if row.verdict != "Ok"}
    by_urgency = sorted(report.symbols, key=lambda symbol: symbol not in bad)
    chosen = set(by_urgency[:MOST_SYMBOLS])
    return tuple(symbol for symbol in report.symbols if symbol in chosen)


def _nothing(who: str, at: datetime) -> str:
    return (
        f"The metrics source has nothing of {who}'s analysis at {shown_time(at)}: it was not "
        "scraped then, or the source has forgotten it."
    )


# --------------------------------------------------------------------------- the series


@dataclass
class _Seen:
    """What one analysis process exported of one symbol.

    Attributes:
        whole: values of all rows, by the name of their series.
        bins, slices: the same by bin and by slice.
        roc: by slice, the true-positive ratio by the false-positive ratio.
        reasons: by metric, why it has no value; empty where it has one.
    """

    symbol: str
    revision: str
    track: str
    horizon: str
    whole: dict[str, float] = field(default_factory=dict)
    bins: dict[str, dict[str, float]] = field(default_factory=dict)
    slices: dict[str, dict[str, float]] = field(default_factory=dict)
    roc: dict[str, dict[float, float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> float:
        return sum(one.get(contract.RELIABILITY_SAMPLES, 0.0) for one in self.bins.values())


_JUDGED: Final = (CurveLabel.BINNING, "equal_width")
_TESTED: Final = (CurveLabel.SPLIT, "test")
_Origin = frozenset[tuple[str, str]]
_OF_A_POINT: Final = frozenset((*CurveLabel, MetricLabel.METRIC, "reason", "__name__"))


def _collect(report: Report, series: Iterable[Series]) -> list[_Seen]:
    """The series by the process that they came from: curves of two are never mixed."""
    found: dict[_Origin, _Seen] = {}
    judged = set()
    for item in series:
        labels = item.labels
        whose = (labels.get(MetricLabel.NAMESPACE), labels.get(MetricLabel.NAME))
        if whose != (report.namespace, report.name) or not math.isfinite(item.value):
            continue
        origin = frozenset((k, v) for k, v in labels.items() if k not in _OF_A_POINT)
        seen = found.setdefault(
            origin,
            _Seen(
                labels.get(MetricLabel.SYMBOL, ""),
                labels.get(MetricLabel.REVISION, ""),
                labels.get(MetricLabel.TRACK, ""),
                labels.get(MetricLabel.HORIZON, ""),
            ),
        )
        _take(seen, item)
        if item.metric == contract.VALUE_VALID:
            judged.add(origin)
    # Other horizons have an AUC of their own, and no validity: they are not what was judged.
    return [seen for origin, seen in found.items() if origin in judged]


def _take(seen: _Seen, item: Series) -> None:
    labels, name = item.labels, item.metric
    if name == contract.VALUE_VALID:
        metric = labels.get(MetricLabel.METRIC, "")
        seen.reasons[metric] = "" if item.value else labels.get("reason", "")
    elif name == contract.ROC_TRUE_POSITIVES:
        place = _number(labels.get(CurveLabel.FALSE_POSITIVES, ""))
        if place is not None:
            seen.roc.setdefault(labels.get(CurveLabel.SLICE, ""), {})[place] = item.value
    elif CurveLabel.BIN in labels:
        seen.bins.setdefault(labels[CurveLabel.BIN], {})[name] = item.value
    elif CurveLabel.SLICE in labels:
        seen.slices.setdefault(labels[CurveLabel.SLICE], {})[name] = item.value
    elif _JUDGED in labels.items() or _TESTED in labels.items():
        seen.whole[name] = item.value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def _best(found: Sequence[_Seen], is_wanted: Callable[[_Seen], bool]) -> _Seen | None:
    """Of several processes the one with most rows; while promoting, that is the canary's own."""
    return max((one for one in found if is_wanted(one)), key=lambda one: one.rows, default=None)


# --------------------------------------------------------------------------- the curves


def _build(seen: _Seen, track: str) -> CurvesOf:
    bins = [b for text, values in seen.bins.items() if (b := _bin(text, values)) is not None]
    roc = [_roc(which, seen.slices.get(which, {}), seen.roc[which]) for which in seen.roc]
    missing = []
    if not bins:
        missing.append(f"There is no calibration curve: {_why(seen, 'platt_ece')}.")
    by_reason: dict[str, list[str]] = {}
    for which in _SLICES[1:]:
        if which not in seen.roc and (metric := f"{_OF_SLICE}{which}") in seen.reasons:
            by_reason.setdefault(_why(seen, metric), []).append(which)
    missing += [f"There is no ROC curve of {', '.join(w)}: {r}." for r, w in by_reason.items()]
    return CurvesOf.model_validate(
        {
            "symbol": seen.symbol,
            "track": track,
            "revision": seen.revision,
            "horizon": seen.horizon,
            "calibration_error": _ratio_of(seen.whole, contract.CALIBRATION_ERROR),
            "at_least": _ratio_of(seen.whole, contract.CALIBRATION_ERROR_LOWER),
            "at_most": _ratio_of(seen.whole, contract.CALIBRATION_ERROR_UPPER),
            "samples": _count_of(seen.whole, contract.CALIBRATION_SAMPLES),
            "effective_samples": _count_of(seen.whole, contract.CALIBRATION_EFFECTIVE_SAMPLES),
            "calibration": sorted(bins, key=lambda b: b.low),
            "roc": sorted(roc, key=lambda r: _place(r.slice)),
            "missing": missing,
        }
    )


def _place(which: str) -> tuple[int, str]:
    """Where a slice stands: all rows first, regimes, sessions, and those of a later version."""
    return (_SLICES.index(which) if which in _SLICES else len(_SLICES), which)


def _why(seen: _Seen, metric: str) -> str:
    reason = seen.reasons.get(metric, "")
    return _REASONS.get(reason, reason) or _UNREPORTED


def _bin(text: str, values: Mapping[str, float]) -> ReliabilityBin | None:
    """A bin whose series are all there; while a scrape is taken in, some may not be."""
    low, high = map(_number, (*text.split("-", 1), "")[:2])
    try:
        predicted, observed, lower, upper, samples, effective = (values[n] for n in _NAMES[:6])
    except KeyError:
        return None
    if low is None or high is None:
        return None
    return ReliabilityBin(
        low=low,
        high=high,
        predicted=_ratio(predicted),
        observed=_ratio(observed),
        at_least=_ratio(lower),
        at_most=_ratio(upper),
        samples=int(samples),
        effective_samples=int(effective),
    )


def _roc(which: str, values: Mapping[str, float], points: Mapping[float, float]) -> RocCurve:
    return RocCurve(
        slice=which,
        auc=_ratio_of(values, contract.AUC),
        at_least=_ratio_of(values, contract.AUC_LOWER),
        at_most=_ratio_of(values, contract.AUC_UPPER),
        samples=_count_of(values, contract.AUC_SAMPLES),
        effective_samples=_count_of(values, contract.AUC_EFFECTIVE_SAMPLES),
        points=tuple(
            RocPoint(false_positives=x, true_positives=_ratio(y))
            for x, y in sorted({0.0: 0.0, 1.0: 1.0, **points}.items())
        ),
    )


def _ratio_of(values: Mapping[str, float], name: str) -> float | None:
    return _ratio(values[name]) if name in values else None


def _count_of(values: Mapping[str, float], name: str) -> int | None:
    return int(values[name]) if name in values else None


def _ratio(value: float) -> float:
    return round(value, DIGITS)
