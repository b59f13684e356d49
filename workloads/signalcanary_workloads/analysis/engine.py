"""One symbol's analysis as a state machine: rows in, an evaluation out, no clock and no I/O.

Whatever the batches rows come in, the state after the same rows is the same; a restart that
replays all rows therefore ends where an uninterrupted run stands. Every step looks back only:

    join → fuse → score with the calibration in use → settle labels h later → fit → next rows

A fit at event time T uses rows with t ∈ (T − h − train, T − h], whose labels are known at T
(the embargo), and serves rows after T. The test window is t ∈ (T − h − test, T − h] and holds
forward predictions only (prequential: Dawid, JRSS A 147, 1984).

One horizon is judged. Others are labelled, calibrated and scored on the same fused rows, to be
reported. The control, another configuration on the same rows, is an engine of its own within.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from enum import IntEnum
from typing import Any, Final, Self

import numpy as np

from signalcanary.artifacts import Artifacts
from signalcanary.contract import Cvd, Fusion, SignalConfig

from ..store import Quality
from . import score
from .anytime import Anytime, AnytimeEvidence, Reference, judge_rows
from .calibrate import FitFailure, fit_platt
from .ensemble import Answers, Ensemble
from .evidence import Estimate
from .flip import Direction, bound_auc, decide_direction
from .fusion import FusionTable
from .join import (
    MERGE_WINDOW_MS,
    AsOfJoin,
    Joined,
    MergeWindow,
    evaluate_merge,
    within_tolerance,
)
from .labels import GRID_MS, Outcome, round_to_grid
from .lane import Fit, Lane
from .report import (
    REPORTED_HORIZONS_MS,
    Forward,
    HorizonReport,
    Report,
    compare,
    is_forward,
    report_horizon,
    trace_curves,
)
from .rescore import Rescore, scores_alike
from .rows import Codes, CvdRows, FeatureRows, Floats, Ints
from .score import Reason, Slice, Value
from .window import Columns, RowWindow, blank_predictions

WARMED_SHARE: Final = 0.9
"""The test window counts as filled when forward predictions span this share of it."""
MERGE_BUCKETS_MS: Final = (50, 100, 250, 500, 1_000, 1_500, 2_000, 5_000, 10_000, 30_000, 60_000)
"""Upper ends of the histogram of δ; the tolerance of the seeds, 1500 ms, is one."""


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
    cvd: Cvd
    """Parameters of the score: for the judged configuration those it was harvested with."""
    reported_ms: tuple[int, ...] = ()
    """Horizons that are reported beside the judged one."""
    artifacts: Artifacts | None = None
    """Where the signal is made with models."""
    control: EngineConfig | None = None
    """What the judged configuration is compared with, at its horizon."""

    @classmethod
    def from_signal(cls, signal: SignalConfig, control: SignalConfig | None = None) -> Self:
        """Read it from the configuration; the horizon is rounded up to the 1 Hz grid.

        Args:
            control: the configuration to compare with; its own horizon does not count, as the
                two are compared on the same labels.
        """
        horizon_ms = round_to_grid(_milliseconds(signal.label.horizon))
        config = cls._of(signal, horizon_ms)
        return replace(
            config,
            reported_ms=tuple(h for h in REPORTED_HORIZONS_MS if h != horizon_ms),
            control=cls._of(control, horizon_ms) if control is not None else None,
        )

    @classmethod
    def _of(cls, signal: SignalConfig, horizon_ms: int) -> Self:
        return cls(
            fusion=signal.fusion,
            horizon_ms=horizon_ms,
            train_ms=_milliseconds(signal.calibration.train),
            test_ms=_milliseconds(signal.calibration.test),
            refit_ms=_milliseconds(signal.calibration.refit),
            tolerance_ms=_milliseconds(signal.merge.tolerance),
            auto_flip=signal.cvd.auto_flip,
            cvd=signal.cvd,
            artifacts=signal.artifacts if signal.artifacts and signal.artifacts.models else None,
        )


def _milliseconds(value: timedelta) -> int:
    return max(1, round(value.total_seconds() * 1_000))


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
    merge_counts: tuple[int, ...]
    """Rows with a score by its age δ, one a bucket of `MERGE_BUCKETS_MS` and one beyond them."""
    merge_sum_ms: int
    """Sum of all δ."""
    direction: int
    counts: dict[Count, int]
    masked: dict[str, int]
    fit_failures: dict[FitFailure, int]
    bounds: dict[str, tuple[Anytime, ...]]
    """By core metric: what it surely is, at however many looks."""
    difference_bounds: dict[str, tuple[Anytime, ...]]
    """The same of the differences to the control; empty without one."""
    answers_ok: dict[str, float] = field(default_factory=dict)
    """By model, the share of rows of 5 min for which it gave a probability."""


@dataclass(frozen=True)
class Models:
    """What is needed of models, by name: of the judged configuration, and of the control."""

    judged: Mapping[str, Answers] = field(default_factory=dict)
    control: Mapping[str, Answers] = field(default_factory=dict)


class Engine:
    """The incremental analysis of one symbol.

    Args:
        keep_ms: event time for which rows are kept at least.
    """

    def __init__(
        self, config: EngineConfig, keep_ms: int = 0, models: Models | None = None
    ) -> None:
        models = models or Models()
        self._config = config
        self._fusion = FusionTable(config.fusion)
        self._ensemble = Ensemble(config.artifacts, models.judged) if config.artifacts else None
        self._join = AsOfJoin()
        horizons = (config.horizon_ms, *config.reported_ms)
        self._lanes = tuple(
            Lane(column, horizon_ms, config.train_ms, config.refit_ms)
            for column, horizon_ms in enumerate(horizons)
        )
        self._judged = self._lanes[0]
        self._window = RowWindow(len(horizons))
        self._direction = Direction()
        self._reference: Reference | None = None
        self._anytime = AnytimeEvidence(config.horizon_ms)
        self._differences = AnytimeEvidence(config.horizon_ms)
        self._judged_rows: tuple[Ints, Floats] = (np.empty(0, np.int64), np.empty((0, 0)))
        """Times and values of the rows whose labels the last `take_in` brought."""
        self._scored: list[Scored] = []
        self._first_usable_ms: int | None = None
        self._last_ts_ms: int | None = None
        longest = max(config.train_ms, config.test_ms, MERGE_WINDOW_MS) + max(horizons)
        self._keep_ms = max(keep_ms, longest + GRID_MS)
        self._counts: Counter[Count] = Counter()
        self._masked: Counter[str] = Counter()
        self._merge_counts = np.zeros(len(MERGE_BUCKETS_MS) + 1, np.int64)
        self._merge_sum_ms = 0
        self._control: Engine | None = None
        self._rescore: Rescore | None = None
        if config.control is not None:
            compared_ms = config.test_ms + config.horizon_ms + GRID_MS
            self._control = Engine(config.control, compared_ms, Models(models.control))
            if not scores_alike(config.cvd, config.control.cvd):
                self._rescore = Rescore(config.control.cvd)

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
        if self._control is not None:
            rescored = self._rescore.take_in(scores) if self._rescore else scores
            self._control.take_in(features, rescored)
        features = self._drop_out_of_order(features)
        joined = self._join.join(features, scores)
        self._judged_rows = (np.empty(0, np.int64), np.empty((0, 0)))
        if not len(features):
            return 0
        unusable = self._find_unusable(features, joined)
        rows = len(features)
        z_ml, ml = np.full(rows, np.nan), np.zeros(rows, np.int64)
        if self._ensemble is not None:
            inputs = (features.z_ofi, joined.z, features.regime)
            usable = unusable == Unusable.USABLE
            z_ml, ml = self._ensemble.score(features.ts_ms, features.gap_epoch, usable, inputs)
        self._window.append(
            Columns(
                features.ts_ms,
                features.z_ofi,
                joined.z,
                joined.delta_ms,
                features.regime,
                z_ml,
                ml,
                unusable,
                *blank_predictions(rows, len(self._lanes)),
            )
        )
        self._count_merge(joined.delta_ms)
        self._counts[Count.ROWS] += rows
        self._counts[Count.SCORED] += int(np.count_nonzero(unusable == Unusable.USABLE))
        settled = [
            self._window.settle(lane.column, lane.labels.take_in(features)) for lane in self._lanes
        ]
        self._count_outcomes(settled[0])
        self._start_schedule(features, unusable)
        self._score_and_fit(self._last_ts_ms, int(features.ts_ms[-1]))
        self._judge_settled(settled[0])
        self._last_ts_ms = int(features.ts_ms[-1])
        self._window.forget(self._last_ts_ms - self._keep_ms)
        return rows

    def export_state(self) -> dict[str, Any]:
        """All that depends on the rows so far, between two `take_in`: plain values and arrays
        that nobody else writes to."""
        return {
            "join": self._join.export_state(),
            "lanes": [lane.export_state() for lane in self._lanes],
            "window": self._window.export_state(),
            "direction": asdict(self._direction),
            "reference": self._reference.export_state() if self._reference else None,
            "anytime": self._anytime.export_state(),
            "differences": self._differences.export_state(),
            "first_usable_ms": self._first_usable_ms,
            "last_ts_ms": self._last_ts_ms,
            "counts": {key.value: count for key, count in self._counts.items()},
            "masked": dict(self._masked),
            "merge_counts": self._merge_counts.copy(),
            "merge_sum_ms": self._merge_sum_ms,
            "control": self._control.export_state() if self._control else None,
            "rescore": self._rescore.export_state() if self._rescore else None,
            "ensemble": self._ensemble.export_state() if self._ensemble else None,
        }

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from the state of an engine of the same configuration.

        The engine is of no use if this raises.
        """
        self._join.import_state(state["join"])
        for lane, of_lane in zip(self._lanes, state["lanes"], strict=True):
            lane.import_state(of_lane)
        self._window.import_state(state["window"])
        self._direction = Direction(**state["direction"])
        reference = state["reference"]
        self._reference = Reference.from_state(reference) if reference else None
        self._anytime.import_state(state["anytime"])
        self._differences.import_state(state["differences"])
        self._first_usable_ms = state["first_usable_ms"]
        self._last_ts_ms = state["last_ts_ms"]
        self._counts = Counter({Count(key): count for key, count in state["counts"].items()})
        self._masked = Counter(state["masked"])
        self._merge_counts = state["merge_counts"]
        self._merge_sum_ms = state["merge_sum_ms"]
        if self._control is not None:
            self._control.import_state(state["control"])
        if self._rescore is not None:
            self._rescore.import_state(state["rescore"])
        if self._ensemble is not None:
            self._ensemble.import_state(state["ensemble"])

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

    def _count_merge(self, delta_ms: Floats) -> None:
        known = delta_ms[~np.isnan(delta_ms)]
        bucket = np.searchsorted(MERGE_BUCKETS_MS, known, side="left")
        self._merge_counts += np.bincount(bucket, minlength=self._merge_counts.size)
        self._merge_sum_ms += int(known.sum())

    def _start_schedule(self, features: FeatureRows, unusable: Codes) -> None:
        """The train window begins with the first row that can be scored."""
        usable = unusable == Unusable.USABLE
        if self._first_usable_ms is None and usable.any():
            self._first_usable_ms = int(features.ts_ms[usable.argmax()])
            for lane in self._lanes:
                lane.start(self._first_usable_ms)

    def _score_and_fit(self, after_ms: int | None, until_ms: int) -> None:
        """Score the new rows, stopping at each due fit, so that it serves only later rows."""
        position = np.iinfo(np.int64).min if after_ms is None else after_ms
        while True:
            rows = self._window.between(position, until_ms)
            end, fit_ms = int(rows.ts_ms.size), None
            due_ms = [lane.next_fit_ms for lane in self._lanes if lane.next_fit_ms is not None]
            if due_ms:
                due = int(np.searchsorted(rows.ts_ms, min(due_ms), side="left"))
                if due < end:
                    end, fit_ms = due + 1, int(rows.ts_ms[due])
            self._score(rows.slice(0, end))
            if fit_ms is None:
                return
            for lane in self._lanes:  # the judged one first: it may turn the direction
                if lane.is_due(fit_ms):
                    self._refit(lane, fit_ms)
            position = fit_ms

    def _score(self, rows: Columns) -> None:
        f = self._fuse(rows, self._direction.sign)
        f[rows.unusable != Unusable.USABLE] = np.nan
        rows.f[:] = f
        if self._reference is not None:
            rows.rank[:] = self._reference.rank(f, rows.regime)
        for lane in self._lanes:
            if lane.fit is not None:
                rows.p_at[:, lane.column] = lane.fit.platt.predict(f)
        self._scored.append(Scored(rows, self._direction.sign, self._judged.fit))

    def _fuse(self, rows: Columns, direction: int) -> Floats:
        z_ml = rows.z_ml if self._ensemble else None
        return self._fusion.fuse(rows.z_ofi, rows.z_cvd, rows.regime, direction, z_ml)

    def _judge_settled(self, settled: Columns) -> None:
        """Take rows into the evidence, once they are both scored and labelled."""
        chosen = is_forward(settled, 0)
        ts = settled.ts_ms[chosen]
        values = judge_rows(
            ts,
            settled.rank[chosen],
            settled.p[chosen],
            settled.outcome[chosen] == Outcome.UP,
            settled.regime[chosen],
        )
        self._judged_rows = ts, values
        self._anytime.add(ts, values)
        if self._control is not None:
            other_ts, other = self._control._judged_rows
            both, own_at, other_at = np.intersect1d(ts, other_ts, True, return_indices=True)
            if both.size:
                self._differences.add(both, values[own_at] - other[other_at])

    def _refit(self, lane: Lane, now_ms: int) -> None:
        """Fit a lane's calibration; the judged one decides on the direction for all."""
        config = self._config
        until = now_ms - lane.horizon_ms
        rows = self._window.between(until - config.train_ms, until)
        outcome = rows.outcome_at[:, lane.column]
        chosen = (rows.unusable == Unusable.USABLE) & (outcome <= Outcome.UP)
        up = outcome[chosen] == Outcome.UP
        ts, z_cvd = rows.ts_ms[chosen], rows.z_cvd[chosen]
        direction = self._direction
        if config.auto_flip and lane is self._judged:
            bound = bound_auc(direction.sign * z_cvd, up, ts, config.horizon_ms)
            apart = config.train_ms + config.horizon_ms
            direction = decide_direction(direction, bound, now_ms, apart)
        regime = rows.regime[chosen]
        f = self._fuse(rows, direction.sign)[chosen]
        platt = fit_platt(f, up)
        lane.take_fit(platt, now_ms, int(up.size))
        if isinstance(platt, FitFailure):
            return
        if direction.sign != self._direction.sign:
            for other in self._lanes[1:]:
                other.hasten(now_ms)
        self._direction = direction
        if lane is self._judged:
            self._reference = Reference.of(f, regime)

    def evaluate(self) -> Evaluation:
        """All figures as of the newest row. Cheap, but not free: a few sorts."""
        now = self._last_ts_ms
        test, span = self._test_window(self._judged)
        if now is None:
            merge = MergeWindow(0, 0, None, None)
        else:
            recent = self._window.between(now - MERGE_WINDOW_MS, now)
            merge = evaluate_merge(recent.delta_ms, self._config.tolerance_ms)
        fit = self._judged.fit
        values = {
            "cvd_direction_flipped_total": Value(
                float(self._direction.flips), fit.rows if fit else 0
            ),
            **_merge_values(merge),
            "platt_train_samples": self._train_value(),
            **self._test_values(test, span),
        }
        answers_ok: dict[str, float] = {}
        if self._ensemble is not None:
            recent = self._window.between((now or 0) - MERGE_WINDOW_MS, now or 0)
            bits = recent.ml[recent.unusable == Unusable.USABLE]
            of_models, answers_ok = self._ensemble.evaluate(bits)
            values |= of_models
        counts = {key: self._counts[key] for key in Count}
        counts[Count.REFITS] = self._judged.refits
        return Evaluation(
            now,
            values,
            self._warmup_ratio(span),
            merge.match_ratio,
            tuple(self._merge_counts.tolist()),
            self._merge_sum_ms,
            self._direction.sign,
            counts,
            dict(self._masked),
            dict(self._judged.failures),
            self._anytime.bounds(),
            self._differences.difference_bounds() if self._control else {},
            answers_ok,
        )

    def report(self) -> Report:
        """All that is shown beside the judged values. Dear: some ten sorts a horizon."""
        test, span = self._test_window(self._judged)
        judged = Forward.of(test, self._judged.column, self._judged.horizon_ms)
        return Report(
            tuple(self._report_lane(lane) for lane in self._lanes),
            self._compare_with_control(),
            trace_curves(judged, self._is_warm(span)),
        )

    def _report_lane(self, lane: Lane) -> HorizonReport:
        test, span = self._test_window(lane)
        return report_horizon(
            Forward.of(test, lane.column, lane.horizon_ms),
            lane.fit.rows if lane.fit else None,
            self._is_warm(span),
        )

    def _compare_with_control(self) -> dict[str, Estimate] | None:
        """Both configurations' forward predictions on the rows that both have scored."""
        if self._control is None:
            return None
        test, _ = self._test_window(self._judged)
        other = self._control._between_test(self._config.horizon_ms, self._config.test_ms)
        both = is_forward(test, 0) & is_forward(other, 0)
        if not self._is_warm(_span_ms(test.ts_ms[both])):
            return {}
        horizon_ms = self._config.horizon_ms
        return compare(
            Forward.where(test, 0, horizon_ms, both), Forward.where(other, 0, horizon_ms, both)
        )

    def _test_window(self, lane: Lane) -> tuple[Columns, int]:
        """The rows t ∈ (T − h − test, T − h], and the time that forward predictions span."""
        test = self._between_test(lane.horizon_ms, self._config.test_ms)
        return test, _span_ms(test.ts_ms[~np.isnan(test.p_at[:, lane.column])])

    def _between_test(self, horizon_ms: int, test_ms: int) -> Columns:
        if self._last_ts_ms is None:
            return self._window.rows
        until = self._last_ts_ms - horizon_ms
        return self._window.between(until - test_ms, until)

    def _is_warm(self, span_ms: int) -> bool:
        return span_ms >= WARMED_SHARE * self._config.test_ms

    def _train_value(self) -> Value:
        if self._judged.fit is not None:
            return Value(float(self._judged.fit.rows), self._judged.fit.rows)
        failed = self._judged.failures.total() > 0
        return Value(None, 0, Reason.NO_CALIBRATION if failed else Reason.WARMING)

    def _test_values(self, test: Columns, span_ms: int) -> dict[str, Value]:
        rows = Forward.of(test, 0, self._config.horizon_ms)
        p, up, samples = rows.p, rows.up, rows.samples
        warmed = self._is_warm(span_ms)
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
            member = score.slice_members(which, rows.ts_ms, rows.regime)
            count = int(np.count_nonzero(member))
            values[f"slice_auc_{which}"] = (
                score.evaluate_slice(rows.f[member], up[member])
                if warmed
                else Value(None, count, Reason.WARMING)
            )
        return values

    def _warmup_ratio(self, span_ms: int) -> float:
        """How much of train + h + test is filled; it falls again after a long gap."""
        config = self._config
        before = config.train_ms + config.horizon_ms
        if self._judged.fit is not None:
            filled = before + min(span_ms, config.test_ms)
        elif self._first_usable_ms is not None and self._last_ts_ms is not None:
            filled = min(self._last_ts_ms - self._first_usable_ms, before)
        else:
            filled = 0
        return filled / (before + config.test_ms)


def _span_ms(ts_ms: Ints) -> int:
    """The time that rows of the grid span, their own seconds included."""
    return int(ts_ms[-1] - ts_ms[0]) + GRID_MS if ts_ms.size else 0


def _merge_values(merge: MergeWindow) -> dict[str, Value]:
    names = ("merge_time_diff_ms_p50", "merge_time_diff_ms_p90", "merge_time_diff_ms_p99")
    if merge.figures is None:
        return dict.fromkeys(names, Value(None, merge.joined, Reason.TOO_FEW_ROWS))
    figures = (merge.figures.p50_ms, merge.figures.p90_ms, merge.figures.p99_ms)
    return {name: Value(figure, merge.joined) for name, figure in zip(names, figures, strict=True)}
