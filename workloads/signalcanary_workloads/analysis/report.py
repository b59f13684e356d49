"""What is exported beside the judged values: how sure they are, other horizons, and the control.

Kept apart from the engine's evaluation because it is dear (several sorts and a thousand draws a
horizon) and nobody judges by it at once: it is made at a pace of its own. Pure: columns in,
figures out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from signalcanary.contract import ALL_ROWS as ALL_ROWS

from . import score
from .calibration_error import Binning, CalibrationError, error_influence, measure_calibration
from .curves import Curves, measure_reliability, measure_roc
from .evidence import (
    Estimate,
    Influence,
    auc_influence,
    brier_influence,
    brier_skill_influence,
    estimate,
)
from .labels import Outcome
from .rows import Bools, Codes, Floats, Ints
from .score import Slice, slice_members
from .window import Columns

REPORTED_HORIZONS_MS: Final = (10_000, 60_000, 180_000, 300_000, 900_000)
"""Horizons that are reported whatever is judged (domain notes, §1, "Label")."""
_RATIO: Final = (0.0, 1.0)
_DIFFERENCE: Final = (-1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Forward:
    """Labelled rows of a test window that were scored forward, at one horizon.

    Attributes:
        horizon_ms: of the labels.
        up: whether the mid rose.
        ties: scored rows left out, as the mid did not move.
    """

    horizon_ms: int
    ts_ms: Ints
    regime: Codes
    f: Floats
    p: Floats
    up: Bools
    ties: int

    @classmethod
    def of(cls, test: Columns, column: int, horizon_ms: int) -> Forward:
        """Those of a test window at the horizon in `column`."""
        return cls.where(test, column, horizon_ms, is_forward(test, column))

    @classmethod
    def where(cls, test: Columns, column: int, horizon_ms: int, chosen: Bools) -> Forward:
        """The chosen rows of a test window."""
        scored = ~np.isnan(test.p_at[:, column])
        outcome = test.outcome_at[:, column]
        return cls(
            horizon_ms,
            test.ts_ms[chosen],
            test.regime[chosen],
            test.f[chosen],
            test.p_at[chosen, column],
            outcome[chosen] == Outcome.UP,
            int(np.count_nonzero(scored & (outcome == Outcome.TIE))),
        )

    @property
    def samples(self) -> int:
        return int(self.up.size)

    @property
    def tie_ratio(self) -> float | None:
        """Ties among the scored rows whose mid is known at both ends."""
        rows = self.samples + self.ties
        return self.ties / rows if rows else None


def is_forward(test: Columns, column: int) -> Bools:
    """Which rows were scored before their label was known, and have one that is no tie."""
    return np.asarray(
        ~np.isnan(test.p_at[:, column]) & (test.outcome_at[:, column] <= Outcome.UP), np.bool_
    )


@dataclass(frozen=True)
class HorizonReport:
    """The figures of one horizon. A figure that its rows cannot support is left out.

    Attributes:
        train_samples: labelled rows that the calibration in use was fitted on.
        test_samples: labelled rows that were scored forward.
        auc: by slice, `ALL_ROWS` among them.
        calibration: by binning.
    """

    horizon_ms: int
    train_samples: int | None
    test_samples: int
    tie_ratio: float | None
    auc: Mapping[str, Estimate]
    calibration: Mapping[Binning, CalibrationError]
    brier: Estimate | None
    brier_skill: Estimate | None

    @property
    def evidence(self) -> dict[str, Estimate]:
        """How sure the core metrics are, by their names, as of this horizon."""
        found = {f"slice_auc_{which}": self.auc[which] for which in Slice if which in self.auc}
        if self.brier is not None:
            found["platt_brier"] = self.brier
        error = self.calibration.get(Binning.EQUAL_WIDTH)
        if error is not None:
            found["platt_ece"] = Estimate(
                error.value,
                error.samples,
                error.effective_samples,
                None,
                error.lower,
                error.upper,
            )
        return found


@dataclass(frozen=True)
class Report:
    """Everything beside the judged values.

    Attributes:
        horizons: the judged one first.
        differences: judged configuration − control on the same rows, by core metric.
        curves: of the judged horizon.
    """

    horizons: tuple[HorizonReport, ...] = ()
    differences: Mapping[str, Estimate] | None = None
    curves: Curves = field(default_factory=Curves)


def report_horizon(rows: Forward, train_samples: int | None, is_warm: bool) -> HorizonReport:
    """The figures of one horizon.

    Args:
        is_warm: whether the test window is filled; if not, there are no figures yet.
    """
    auc: dict[str, Estimate] = {}
    calibration: dict[Binning, CalibrationError] = {}
    brier = skill = None
    if is_warm:
        for name, member in _slices(rows).items():
            found = _auc(rows, member)
            if found is not None:
                auc[name] = estimate(found, rows.horizon_ms, _RATIO)
    if is_warm and rows.samples >= score.MIN_ROWS:
        for binning in Binning:
            calibration[binning] = measure_calibration(
                rows.p, rows.up, rows.ts_ms, rows.horizon_ms, binning
            )
        brier = estimate(brier_influence(rows.p, rows.up, rows.ts_ms), rows.horizon_ms, _RATIO)
        of_skill = brier_skill_influence(rows.p, rows.up, rows.ts_ms)
        skill = estimate(of_skill, rows.horizon_ms) if of_skill is not None else None
    return HorizonReport(
        rows.horizon_ms,
        train_samples,
        rows.samples,
        rows.tie_ratio,
        auc,
        calibration,
        brier,
        skill,
    )


def trace_curves(rows: Forward, is_warm: bool) -> Curves:
    """The curves of one horizon, by the rules of the figures that they explain.

    Args:
        is_warm: whether the test window is filled; if not, there are none yet.
    """
    if not is_warm:
        return Curves()
    roc = {name: measure_roc(rows.f[m], rows.up[m]) for name, m in _slices(rows).items()}
    is_enough = rows.samples >= score.MIN_ROWS
    return Curves(
        measure_reliability(rows.p, rows.up, rows.ts_ms, rows.horizon_ms) if is_enough else (),
        {name: points for name, points in roc.items() if points is not None},
    )


def compare(one: Forward, other: Forward) -> dict[str, Estimate]:
    """Differences, one − other, of two configurations that scored the very same rows.

    What the rows have in common, the market's luck above all, cancels row by row: the standard
    error of such a difference is several times smaller than that of either (domain notes, §5).
    """
    pairs: dict[str, tuple[Influence | None, Influence | None]] = {}
    for which in Slice:
        member = slice_members(which, one.ts_ms, one.regime)
        pairs[f"slice_auc_{which}"] = (_auc(one, member), _auc(other, member))
    if one.samples >= score.MIN_ROWS:
        pairs["platt_ece"] = (_ece(one), _ece(other))
        pairs["platt_brier"] = (_brier(one), _brier(other))
    return {
        name: estimate(
            Influence(first.value - second.value, first.of_row - second.of_row, first.ts_ms),
            one.horizon_ms,
            _DIFFERENCE,
        )
        for name, (first, second) in pairs.items()
        if first is not None and second is not None
    }


def _slices(rows: Forward) -> dict[str, Bools]:
    named = {str(which): slice_members(which, rows.ts_ms, rows.regime) for which in Slice}
    return {ALL_ROWS: np.ones(rows.samples, np.bool_), **named}


def _auc(rows: Forward, member: Bools) -> Influence | None:
    if np.count_nonzero(member) < score.MIN_ROWS:
        return None
    return auc_influence(rows.f[member], rows.up[member], rows.ts_ms[member])


def _ece(rows: Forward) -> Influence:
    return error_influence(rows.p, rows.up, rows.ts_ms, Binning.EQUAL_WIDTH)


def _brier(rows: Forward) -> Influence:
    return brier_influence(rows.p, rows.up, rows.ts_ms)
