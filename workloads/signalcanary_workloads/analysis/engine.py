"""One symbol's analysis as a state machine: rows in, an evaluation out, no clock and no I/O.

Whatever the batches rows come in, the state after the same rows is the same; a restart that
replays all rows therefore ends where an uninterrupted run stands. Every step looks back only:

    join → fuse → score with the calibration in use → settle labels h later → fit → next rows

A fit at event time T uses rows with t ∈ (T − h − train, T − h], whose labels are known at T
(the embargo), and serves rows after T. The test window is t ∈ (T − h − test, T − h] and holds
forward predictions only (prequential: Dawid, JRSS A 147, 1984).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Final, Self

import numpy as np

from signalcanary.contract import Fusion, SignalConfig

from ..store import Quality
from . import score
from .calibrate import FitFailure, Platt, fit_platt
from .flip import BLOCKS_PER_HORIZON, Direction, bound_auc, decide_direction
from .fusion import FusionTable
from .join import (
    MERGE_WINDOW_MS,
    AsOfJoin,
    Joined,
    MergeWindow,
    evaluate_merge,
    within_tolerance,
)
from .labels import GRID_MS, Outcome, PendingLabels, round_to_grid
from .rows import Codes, CvdRows, FeatureRows
from .score import Reason, Slice, Value
from .window import Columns, RowWindow

WARMED_SHARE: Final = 0.9
"""The test window counts as filled when forward predictions span this share of it."""
FIT_RETRY_MS: Final = 60_000
"""Event time after which a fit that failed is tried again (or `refit`, if shorter)."""


class Unusable(IntEnum):
    """Why a row cannot be scored at all."""

    USABLE = 0
    NO_CVD = 1
    STALE_CVD = 2
    CVD_WARMUP = 3
    OFI_WARMUP = 4
    SIDE_DISPUTED = 5


class Count(IntEnum):
    """What happened to rows and fits, counted since the first row."""

    ROWS = 0
    SCORED = 1
    LABELLED = 2
    TIES = 3
    OUT_OF_ORDER = 4
    REFITS = 5


@dataclass(frozen=True)
class EngineConfig:
    """What of the signal configuration the analysis uses, times in ms of event time."""

    fusion: Fusion
    horizon_ms: int
    train_ms: int
    test_ms: int
    refit_ms: int
    tolerance_ms: int
    auto_flip: bool

    @classmethod
    def from_signal(cls, signal: SignalConfig) -> Self:
        """Read it from the configuration; the horizon is rounded up to the 1 Hz grid."""
        return cls(
            fusion=signal.fusion,
            horizon_ms=round_to_grid(_milliseconds(signal.label.horizon)),
            train_ms=_milliseconds(signal.calibration.train),
            test_ms=_milliseconds(signal.calibration.test),
            refit_ms=_milliseconds(signal.calibration.refit),
            tolerance_ms=_milliseconds(signal.merge.tolerance),
            auto_flip=signal.cvd.auto_flip,
        )


def _milliseconds(value: timedelta) -> int:
    return max(1, round(value.total_seconds() * 1_000))


@dataclass(frozen=True)
class Fit:
    """A calibration in use: fitted at an event time on so many labelled rows."""

    platt: Platt
    fitted_ms: int
    rows: int


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows of one `take_in` that were scored alike: by one calibration, in one direction."""

    rows: Columns
    """Views, good until the next `take_in`."""
    direction: int
    fit: Fit | None


@dataclass(frozen=True)
class Evaluation:
    """What is known about the symbol now; `values` has every core metric by name."""

    last_ts_ms: int | None
    values: dict[str, Value]
    warmup_ratio: float
    match_ratio: float | None
    direction: int
    counts: dict[Count, int]
    masked: dict[str, int]
    fit_failures: dict[FitFailure, int]


class Engine:
    """The incremental analysis of one symbol."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._fusion = FusionTable(config.fusion)
        self._join = AsOfJoin()
        self._labels = PendingLabels(config.horizon_ms)
        self._window = RowWindow()
        self._fit: Fit | None = None
        self._direction = Direction()
        self._scored: list[Scored] = []
        self._first_usable_ms: int | None = None
        self._next_fit_ms: int | None = None
        self._last_ts_ms: int | None = None
        self._keep_ms = (
            max(config.train_ms, config.test_ms, MERGE_WINDOW_MS) + config.horizon_ms + GRID_MS
        )
        self._counts: Counter[Count] = Counter()
        self._masked: Counter[str] = Counter()
        self._fit_failures: Counter[FitFailure] = Counter()

    @property
    def last_ts_ms(self) -> int | None:
        """Event time of the newest feature row taken in."""
        return self._last_ts_ms

    @property
    def recent(self) -> Columns:
        """The rows still held, for tests and diagnosis; not to be written to."""
        return self._window.rows

    @property
    def scored(self) -> tuple[Scored, ...]:
        """What the last `take_in` scored, in order; a row comes once, and never changes."""
        return tuple(self._scored)

    def take_in(self, features: FeatureRows, scores: CvdRows) -> int:
        """Take in new rows; return how many feature rows were new.

        Args:
            features: in the order of `ts`; rows not later than all before are dropped.
            scores: in the order of arrival, with all that arrived before the features closed.
        """
        self._scored.clear()
        features = self._drop_out_of_order(features)
        joined = self._join.join(features, scores)
        if not len(features):
            return 0
        unusable = self._find_unusable(features, joined)
        rows = len(features)
        nothing = np.full(rows, np.nan)
        pending = np.full(rows, Outcome.PENDING, np.int8)
        self._window.append(
            Columns(
                features.ts_ms,
                features.z_ofi,
                joined.z,
                joined.delta_ms,
                features.regime,
                unusable,
                nothing,
                nothing,
                pending,
            )
        )
        self._counts[Count.ROWS] += rows
        self._counts[Count.SCORED] += int(np.count_nonzero(unusable == Unusable.USABLE))
        self._count_outcomes(self._window.settle(self._labels.take_in(features)))
        self._start_schedule(features, unusable)
        self._score_and_fit(self._last_ts_ms, int(features.ts_ms[-1]))
        self._last_ts_ms = int(features.ts_ms[-1])
        self._window.forget(self._last_ts_ms - self._keep_ms)
        return rows

    def _drop_out_of_order(self, features: FeatureRows) -> FeatureRows:
        if not len(features):
            return features
        before = np.iinfo(np.int64).min if self._last_ts_ms is None else self._last_ts_ms
        reached = np.maximum.accumulate(np.concatenate(([before], features.ts_ms)))[:-1]
        later = features.ts_ms > reached
        dropped = len(features) - int(np.count_nonzero(later))
        if not dropped:
            return features
        self._counts[Count.OUT_OF_ORDER] += dropped
        return features.take(later)

    def _find_unusable(self, features: FeatureRows, joined: Joined) -> Codes:
        unusable = np.full(len(features), Unusable.USABLE, np.int8)
        unusable[np.isnan(features.z_ofi)] = Unusable.OFI_WARMUP
        unusable[np.isnan(joined.z)] = Unusable.CVD_WARMUP
        unusable[~within_tolerance(joined, self._config.tolerance_ms)] = Unusable.STALE_CVD
        unusable[np.isnan(joined.delta_ms)] = Unusable.NO_CVD
        # Not for the flip to repair: a reversed side is broken data, not a market's habit.
        unusable[(features.quality & Quality.SIDE_DISPUTED) != 0] = Unusable.SIDE_DISPUTED
        return unusable

    def _count_outcomes(self, settled: Columns) -> None:
        for code in Unusable:
            if code is not Unusable.USABLE:
                count = int(np.count_nonzero(settled.unusable == code))
                self._masked[code.name.lower()] += count
        outcome = settled.outcome[settled.unusable == Unusable.USABLE]
        for masked in (Outcome.GAP, Outcome.NO_MID, Outcome.MISSING_ROW):
            self._masked[masked.name.lower()] += int(np.count_nonzero(outcome == masked))
        self._counts[Count.TIES] += int(np.count_nonzero(outcome == Outcome.TIE))
        self._counts[Count.LABELLED] += int(np.count_nonzero(outcome <= Outcome.UP))

    def _start_schedule(self, features: FeatureRows, unusable: Codes) -> None:
        """The train window begins with the first row that can be scored."""
        usable = unusable == Unusable.USABLE
        if self._first_usable_ms is None and usable.any():
            self._first_usable_ms = int(features.ts_ms[usable.argmax()])
            self._next_fit_ms = (
                self._first_usable_ms + self._config.train_ms + self._config.horizon_ms
            )

    def _score_and_fit(self, after_ms: int | None, until_ms: int) -> None:
        """Score the new rows, stopping at each due fit, so that it serves only later rows."""
        position = np.iinfo(np.int64).min if after_ms is None else after_ms
        while True:
            rows = self._window.between(position, until_ms)
            end, fit_ms = int(rows.ts_ms.size), None
            if self._next_fit_ms is not None:
                due = int(np.searchsorted(rows.ts_ms, self._next_fit_ms, side="left"))
                if due < end:
                    end, fit_ms = due + 1, int(rows.ts_ms[due])
            self._score(rows.slice(0, end))
            if fit_ms is None:
                return
            self._refit(fit_ms)
            position = fit_ms

    def _score(self, rows: Columns) -> None:
        f = self._fusion.fuse(rows.z_ofi, rows.z_cvd, rows.regime, self._direction.sign)
        f[rows.unusable != Unusable.USABLE] = np.nan
        rows.f[:] = f
        if self._fit is not None:
            rows.p[:] = self._fit.platt.predict(f)
        self._scored.append(Scored(rows, self._direction.sign, self._fit))

    def _refit(self, now_ms: int) -> None:
        config = self._config
        until = now_ms - config.horizon_ms
        rows = self._window.between(until - config.train_ms, until)
        chosen = (rows.unusable == Unusable.USABLE) & (rows.outcome <= Outcome.UP)
        up = rows.outcome[chosen] == Outcome.UP
        ts, z_ofi, z_cvd = rows.ts_ms[chosen], rows.z_ofi[chosen], rows.z_cvd[chosen]
        direction = self._direction
        if config.auto_flip:
            bound = bound_auc(
                direction.sign * z_cvd, up, ts, BLOCKS_PER_HORIZON * config.horizon_ms
            )
            apart = config.train_ms + config.horizon_ms
            direction = decide_direction(direction, bound, now_ms, apart)
        f = self._fusion.fuse(z_ofi, z_cvd, rows.regime[chosen], direction.sign)
        platt = fit_platt(f, up)
        if isinstance(platt, FitFailure):
            self._fit_failures[platt] += 1
            self._next_fit_ms = now_ms + min(config.refit_ms, FIT_RETRY_MS)
            return
        self._counts[Count.REFITS] += 1
        self._direction = direction
        self._fit = Fit(platt, now_ms, int(up.size))
        self._next_fit_ms = now_ms + config.refit_ms

    def evaluate(self) -> Evaluation:
        """All figures as of the newest row. Cheap, but not free: a few sorts."""
        now = self._last_ts_ms
        if now is None:
            test, merge = self._window.rows, MergeWindow(0, 0, None, None)
        else:
            until = now - self._config.horizon_ms
            test = self._window.between(until - self._config.test_ms, until)
            recent = self._window.between(now - MERGE_WINDOW_MS, now)
            merge = evaluate_merge(recent.delta_ms, self._config.tolerance_ms)
        scored = np.flatnonzero(~np.isnan(test.p))
        span = int(test.ts_ms[scored[-1]] - test.ts_ms[scored[0]]) + GRID_MS if scored.size else 0
        values = {
            "cvd_direction_flipped_total": Value(
                float(self._direction.flips), self._fit.rows if self._fit else 0
            ),
            **_merge_values(merge),
            "platt_train_samples": self._train_value(),
            **self._test_values(test, span),
        }
        return Evaluation(
            now,
            values,
            self._warmup_ratio(span),
            merge.match_ratio,
            self._direction.sign,
            {key: self._counts[key] for key in Count},
            dict(self._masked),
            dict(self._fit_failures),
        )

    def _train_value(self) -> Value:
        if self._fit is not None:
            return Value(float(self._fit.rows), self._fit.rows)
        failed = self._fit_failures.total() > 0
        return Value(None, 0, Reason.NO_CALIBRATION if failed else Reason.WARMING)

    def _test_values(self, test: Columns, span_ms: int) -> dict[str, Value]:
        chosen = ~np.isnan(test.p) & (test.outcome <= Outcome.UP)
        p, f, regime, ts = test.p[chosen], test.f[chosen], test.regime[chosen], test.ts_ms[chosen]
        up = test.outcome[chosen] == Outcome.UP
        samples = int(up.size)
        warmed = span_ms >= WARMED_SHARE * self._config.test_ms
        absent = Reason.WARMING if not warmed else None
        if absent is None and samples < score.MIN_ROWS:
            absent = Reason.TOO_FEW_ROWS
        values = {}
        if absent is not None:
            for name in ("platt_test_samples", "platt_ece", "platt_brier"):
                values[name] = Value(None, samples, absent)
        else:
            ece, brier = score.expected_calibration_error(p, up), score.brier_score(p, up)
            values["platt_test_samples"] = Value(float(samples), samples)
            values["platt_ece"] = Value(ece, samples)
            values["platt_brier"] = Value(brier, samples)
        for which in Slice:
            member = score.slice_members(which, ts, regime)
            count = int(np.count_nonzero(member))
            values[f"slice_auc_{which}"] = (
                score.evaluate_slice(f[member], up[member])
                if warmed
                else Value(None, count, Reason.WARMING)
            )
        return values

    def _warmup_ratio(self, span_ms: int) -> float:
        """How much of train + h + test is filled; it falls again after a long gap."""
        config = self._config
        before = config.train_ms + config.horizon_ms
        if self._fit is not None:
            filled = before + min(span_ms, config.test_ms)
        elif self._first_usable_ms is not None and self._last_ts_ms is not None:
            filled = min(self._last_ts_ms - self._first_usable_ms, before)
        else:
            filled = 0
        return filled / (before + config.test_ms)


def _merge_values(merge: MergeWindow) -> dict[str, Value]:
    names = ("merge_time_diff_ms_p50", "merge_time_diff_ms_p90", "merge_time_diff_ms_p99")
    if merge.figures is None:
        return dict.fromkeys(names, Value(None, merge.joined, Reason.TOO_FEW_ROWS))
    figures = (merge.figures.p50_ms, merge.figures.p90_ms, merge.figures.p99_ms)
    return {name: Value(figure, merge.joined) for name, figure in zip(names, figures, strict=True)}
