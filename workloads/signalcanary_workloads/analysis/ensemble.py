"""What the models say of each second: one score beside those of order-flow imbalance and volume.

A row's score is a function of the rows up to it alone, and models get one row at a time, so that
batches, single rows and a restart give the same numbers. A model that has no answer, for want of
history or because it fails, is left out of the row; what is fused without any says `fusion`.

Pure: the models are given, and what they need of time or files is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from signalcanary.artifacts import ArtifactModel, Artifacts, Feature, Role

from ..artifacts.inference import BadModel, Floats32, is_probability
from .labels import GRID_MS
from .rows import Bools, Codes, Floats, Ints, Regime
from .score import Reason, Value

COVERED, STACKED, CENTRAL = 1, 2, 4
"""Bits of a row: it has a score; the stacking model gave it; its probability is 0.3–0.7."""
_FIRST_MODEL_BIT: Final = 3
CENTRAL_FROM, CENTRAL_TO = 0.3, 0.7
"""Where predictions of the next seconds belong (seed 004)."""
MOST_Z: Final = 8.0
"""The score is clipped to ± this, as the others are."""
_COLUMNS: Final = {feature: column for column, feature in enumerate(Feature)}


class Answers(Protocol):
    """A loaded model."""

    def answer(self, row: Floats32) -> float:
        """The probability that the mid price rises.

        Raises:
            BadModel: it fails on this row.
        """


@dataclass(frozen=True)
class _Member:
    """A base model and the columns that it is given."""

    declared: ArtifactModel
    model: Answers
    columns: tuple[int, ...]


class Ensemble:
    """The incremental score of one symbol by a configuration's models.

    Args:
        models: by name, every model that the artifacts declare.
    """

    def __init__(self, artifacts: Artifacts, models: Mapping[str, Answers]) -> None:
        self._artifacts = artifacts
        self._base = tuple(
            _Member(one, models[one.name], tuple(_COLUMNS[Feature(name)] for name in one.inputs))
            for one in artifacts.models
            if one.role is Role.BASE
        )
        stacking = [one for one in artifacts.models if one.role is Role.STACKING]
        self._stacking = (
            (stacking[0], models[stacking[0].name]) if stacking and artifacts.stacking else None
        )
        self._names = [one.name for one in artifacts.models]
        self._past_rows = max((m.declared.window for m in self._base), default=1) - 1
        self._ts_ms = np.empty(0, np.int64)
        self._epoch = np.empty(0, np.int64)
        self._features = np.empty((0, len(Feature)))

    def score(
        self,
        ts_ms: Ints,
        gap_epoch: Ints,
        usable: Bools,
        inputs: tuple[Floats, Floats, Codes],
    ) -> tuple[Floats, Ints]:
        """The score (z-score; NaN if there is none) and the bits of each new row.

        Args:
            usable: rows that are not are history for later ones, and have no score.
            inputs: z_ofi, z_cvd and regime.
        """
        z_ofi, z_cvd, regime = inputs
        active, quiet = regime == Regime.ACTIVE, regime == Regime.QUIET
        new = np.column_stack((z_ofi, z_cvd, active, quiet)).astype(np.float64)
        ts = np.concatenate((self._ts_ms, ts_ms))
        epoch = np.concatenate((self._epoch, gap_epoch))
        features = np.concatenate((self._features, new))
        before = self._ts_ms.size
        z, bits = np.full(ts_ms.size, np.nan), np.zeros(ts_ms.size, np.int64)
        for row in np.flatnonzero(usable).tolist():
            z[row], bits[row] = self._score_row(before + row, ts, epoch, features)
        keep = slice(max(0, ts.size - self._past_rows), None)
        self._ts_ms, self._epoch = ts[keep].copy(), epoch[keep].copy()
        self._features = features[keep].copy()
        return z, bits

    def _score_row(self, at: int, ts: Ints, epoch: Ints, features: Floats) -> tuple[float, int]:
        bits, said = 0, {}
        for member in self._base:
            begin = at - member.declared.window + 1
            if begin < 0 or ts[at] - ts[begin] != (at - begin) * GRID_MS:
                continue  # not so many seconds in a row
            if epoch[at] != epoch[begin]:
                continue
            given = features[begin : at + 1, member.columns]
            answer = _ask(member.model, given)
            if answer is not None:
                said[member.declared.name] = answer
                bits |= self._bit_of(member.declared.name)
        if not said:
            return np.nan, 0
        p = sum(said.values()) / len(said)
        if self._stacking is not None:
            declared, model = self._stacking
            given = np.array(
                [
                    features[at, _COLUMNS[Feature(name)]]
                    if name in _COLUMNS
                    else said.get(name, np.nan)
                    for name in declared.inputs
                ]
            )
            if (stacked := _ask(model, given)) is not None:
                p, bits = stacked, bits | STACKED | self._bit_of(declared.name)
        bits |= COVERED | (CENTRAL if CENTRAL_FROM <= p <= CENTRAL_TO else 0)
        odds = min(max(p, 1e-9), 1 - 1e-9)
        z = float(np.log(odds / (1 - odds))) / self._artifacts.log_odds_per_z
        return max(-MOST_Z, min(MOST_Z, z)), bits

    def _bit_of(self, name: str) -> int:
        return 1 << (_FIRST_MODEL_BIT + self._names.index(name))

    def evaluate(self, bits: Ints) -> tuple[dict[str, Value], dict[str, float]]:
        """Shares of the given usable rows, by metric, and of good answers by model."""
        asked = [name for name in self._names if self._is_asked(name)]
        if not bits.size:
            return dict.fromkeys(_METRICS, Value(None, 0, Reason.TOO_FEW_ROWS)), {}
        rows = int(bits.size)
        ok = {name: _share(bits, self._bit_of(name)) for name in asked}
        covered = bits[(bits & COVERED) != 0]
        values = {
            "signal_ml_coverage_ratio": Value(_share(bits, COVERED), rows),
            "signal_ml_output_ok_ratio": Value(min(ok.values()), rows),
        }
        none = Value(None, int(covered.size), Reason.TOO_FEW_ROWS)
        for name, bit in (
            ("signal_ml_stacking_active_ratio", STACKED),
            ("signal_ml_central_ratio", CENTRAL),
        ):
            is_known = covered.size and (bit == CENTRAL or self._stacking is not None)
            values[name] = Value(_share(covered, bit), int(covered.size)) if is_known else none
        return values, ok

    def _is_asked(self, name: str) -> bool:
        is_base = any(member.declared.name == name for member in self._base)
        return is_base or (self._stacking is not None and self._stacking[0].name == name)

    def export_state(self) -> dict[str, Any]:
        """The rows that later ones have as history."""
        return {"ts_ms": self._ts_ms, "epoch": self._epoch, "features": self._features}

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state of the same models."""
        self._ts_ms, self._epoch = state["ts_ms"], state["epoch"]
        self._features = state["features"]


_METRICS: Final = (
    "signal_ml_coverage_ratio",
    "signal_ml_output_ok_ratio",
    "signal_ml_stacking_active_ratio",
    "signal_ml_central_ratio",
)


def _share(bits: Ints, bit: int) -> float:
    return float(np.count_nonzero(bits & bit)) / bits.size


def _ask(model: Answers, given: Floats) -> float | None:
    """A model's answer, if it can be given what it needs and gives what it should."""
    if np.isnan(given).any():
        return None
    try:
        answer = model.answer(given.astype(np.float32))
    except BadModel:
        return None  # counted: its bit is not set
    return answer if is_probability(answer) else None
