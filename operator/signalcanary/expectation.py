"""What the evidence will be able to say of a canary, before there is any: plain arithmetic.

A guarded condition is Ok only when it is surely kept, and a promotion waits for that. How sure
the evidence can be after some time follows from the number of rows, one a second, and from how far
the labels overlap. What is said here is about right for a score whose autocorrelation a second is
0.8 to 0.97; docs/error-rates.md has what was simulated. Pure, and without numpy, for `lint`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from signalcanary.api import Condition, Of, SignalCanarySpec
from signalcanary.contract import (
    CORE_METRICS,
    EVIDENCE_LEVELS,
    DataSource,
    format_duration,
    shown,
)
from signalcanary.evaluate import percent
from signalcanary_workloads.analysis.critical import (
    AUC_ROW_VARIANCE,
    BRIER_ROW_VARIANCE,
    RESIDUAL_ROW_VARIANCE,
    SIGNED_SHARES,
    SMALLEST_WINDOW,
    block_length_ms,
    critical_values,
    rows_worth_one,
    span_blocks,
)

WARMED_SHARE: Final = 0.9
"""Of the test window, before the first stage begins (analysis/engine.py)."""
_SHARES: Final = {"active_period": 0.4, "quiet_period": 0.6}
"""Of the rows that are in a slice, about; of a session a third."""
_GOOD_AUC: Final = 0.58
_GOOD_MARGIN: Final = 0.03
_BINS_IN_USE: Final = 4
"""Probabilities of a 10 s horizon stray little from one half: so many bins of a tenth."""
_BINNED_BIAS: Final = math.sqrt(2.0 * _BINS_IN_USE / math.pi)
"""What binning adds to the calibration error of a calibrated signal, in standard errors of a mean:
Σ over bins of E|N(0, 1)|·√(1/bins)."""


@dataclass(frozen=True)
class Expectation:
    """What the stages can prove of one condition.

    Attributes:
        samples: rows by the end of the last stage, if nothing is amiss.
        effective_samples: independent rows that would tell as much.
        provable: the value at which the condition is just proven kept then; None if no value is.
        good: the value that a good canary is taken to have.
        needed: market time of stages that a good canary takes to be proven; None if it never is.
    """

    condition: Condition
    samples: int
    effective_samples: int
    provable: float | None
    good: float
    needed: timedelta | None


def expect(spec: SignalCanarySpec, speed: float = 1.0) -> Iterator[Expectation]:
    """Of every guarded condition that bounds a value.

    Args:
        speed: market time over wall-clock time, which stages are of.
    """
    for condition in spec.rollback.conditions:
        if condition.is_guarded and condition.of is Of.VALUE:
            yield _expect(spec, condition, speed)


def _expect(spec: SignalCanarySpec, condition: Condition, speed: float) -> Expectation:
    horizon_ms = round(spec.signal.label.horizon / timedelta(milliseconds=1))
    warm = WARMED_SHARE * spec.signal.calibration.test.total_seconds()
    stages = _stages(spec).total_seconds() * speed
    share = _share_of(condition)
    rows = (warm + stages) * share
    errors, bias = _standard_errors(condition, level_of(spec), horizon_ms)
    block_s = block_length_ms(horizon_ms) / 1_000
    fewest = SMALLEST_WINDOW * block_s
    row = _row_variance(condition) * rows_worth_one(horizon_ms)
    reach = (errors + bias) * math.sqrt(row / max(rows, 1.0))
    is_floor = condition.sign == "<"
    provable = condition.threshold + (reach if is_floor else -reach)
    good = _good_value(condition)
    margin = good - condition.threshold if is_floor else condition.threshold - good
    enough = max(fewest, row * ((errors + bias) / margin) ** 2) if margin > 0 else math.inf
    needed = enough / share - warm
    is_possible = rows >= fewest and (provable <= 1.0 if is_floor else provable >= 0.0)
    return Expectation(
        condition,
        int(rows),
        int(rows / rows_worth_one(horizon_ms)),
        provable if is_possible else None,
        good,
        timedelta(seconds=max(0.0, needed)) if enough < _SPAN_SECONDS * share else None,
    )


_SPAN_SECONDS: Final = 48 * 3_600


def level_of(spec: SignalCanarySpec) -> float:
    """The exported level that a guarded condition is judged at."""
    guarded = sum(c.is_guarded for c in spec.rollback.conditions)
    share = spec.rollback.error_rate / max(1, guarded * len(spec.symbols.canary))
    return max((level for level in EVIDENCE_LEVELS if level <= share), default=EVIDENCE_LEVELS[-1])


def _standard_errors(condition: Condition, level: float, horizon_ms: int) -> tuple[float, float]:
    """How many standard errors from its mean the bound of the whole is, and the figure."""
    is_error = condition.metric == "platt_ece"
    span = span_blocks(block_length_ms(horizon_ms))
    z = critical_values(span, 0, level / (SIGNED_SHARES if is_error else 1.0))[-1]
    return z, _BINNED_BIAS if is_error else 0.0


def _row_variance(condition: Condition) -> float:
    if condition.metric.startswith("slice_auc_"):
        return AUC_ROW_VARIANCE
    return RESIDUAL_ROW_VARIANCE if condition.metric == "platt_ece" else BRIER_ROW_VARIANCE


def _share_of(condition: Condition) -> float:
    if not condition.metric.startswith("slice_auc_"):
        return 1.0
    return _SHARES.get(condition.metric.removeprefix("slice_auc_"), 1 / 3)


def _good_value(condition: Condition) -> float:
    """What a good canary may be expected to show."""
    if condition.metric.startswith("slice_auc_"):
        least = condition.threshold + _GOOD_MARGIN
        return max(_GOOD_AUC, least) if condition.sign == "<" else _GOOD_AUC
    # The Brier score of a signal of little skill is just below that of a coin.
    return 0.0 if condition.metric == "platt_ece" else 0.245


def _stages(spec: SignalCanarySpec) -> timedelta:
    return sum((stage.duration for stage in spec.stages), timedelta(0))


def describe(spec: SignalCanarySpec, speed: float = 1.0) -> list[str]:
    """What is to be expected that a manifest does not show, and what to write instead.

    Args:
        speed: market time over wall-clock time: more than 1 of a replay.
    """
    lines = list(_out_of_reach(spec))
    stages = _stages(spec)
    market = " of market time" if speed != 1.0 else ""
    for found in expect(spec, speed):
        if found.needed is not None and found.needed <= stages * speed:
            continue
        condition = found.condition
        text = f"{condition.bound()}: the test window and {format_duration(stages)} of stages"
        if market:
            text += f", {format_duration(_whole_minutes(stages * speed))}{market},"
        text += f" give about {found.samples:,} rows on a symbol, one a second, worth "
        text += f"{found.effective_samples:,} independent ones, which "
        side = "above" if condition.sign == "<" else "below"
        if found.provable is None:
            text += "prove it kept of no canary"
        else:
            text += f"prove it kept only at {found.provable:.3f} and {side}"
        sure = percent(level_of(spec))
        text += f" (with {sure} confidence); at {shown(found.good)} "
        if found.needed is None:
            text += "expect more than the 48h that the evidence looks back, so perhaps never: set "
            text += "the bound further off, or shorten the horizon"
        else:
            hours = timedelta(hours=math.ceil(found.needed / timedelta(hours=1)))
            much = format_duration(_whole_minutes(hours / speed)) if market else "that much"
            text += f"expect about {format_duration(hours)}{market}: write stages of {much} in "
            text += "all, or the promotion waits"
        if not market and spec.source.public_url != DataSource().public_url:
            text += "; if the exchange replays faster than the clock, give lint its --speed"
        lines.append(text)
    share = spec.rollback.error_rate / max(
        1, sum(c.is_guarded for c in spec.rollback.conditions) * len(spec.symbols.canary)
    )
    if share < EVIDENCE_LEVELS[-1]:
        lines.append(
            f"rollback.errorRate is shared by so many guarded conditions and symbols that each "
            f"has {share:.2g}, less than the strictest level of the evidence "
            f"({EVIDENCE_LEVELS[-1]:g}): it is not kept; write fewer, or a higher errorRate"
        )
    return lines


def _whole_minutes(time: timedelta) -> timedelta:
    return timedelta(minutes=math.ceil(time / timedelta(minutes=1)))


_CORE: Final = frozenset(metric.name for metric in CORE_METRICS)


def _out_of_reach(spec: SignalCanarySpec) -> Iterator[str]:
    """Conditions that ask for more samples than there ever are."""
    calibration = spec.signal.calibration
    for condition in spec.rollback.conditions:
        if condition.metric not in _CORE or not condition.min_samples:
            continue
        window = (
            calibration.train if condition.metric == "platt_train_samples" else calibration.test
        )
        most = int(window.total_seconds())
        if condition.min_samples > most:
            yield (
                f"{condition.bound()}: minSamples {condition.min_samples:,} are never there: a "
                f"window of {format_duration(window)} has one row a second, {most:,} in all; "
                f"write at most that, or a longer window"
            )
