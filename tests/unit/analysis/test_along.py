"""Many looks at once say what one look after another says."""

from __future__ import annotations

import numpy as np
import pytest

from signalcanary_workloads.analysis.along import (
    Windows,
    auc_along,
    bounds_along,
    brier_along,
    calibration_error_along,
)
from signalcanary_workloads.analysis.anytime import AnytimeEvidence, Reference, judge_rows
from signalcanary_workloads.analysis.rows import Bools, Floats, Ints
from signalcanary_workloads.analysis.score import (
    area_under_curve,
    brier_score,
    expected_calibration_error,
)

TRAIN = 500


def rows(seed: int, count: int) -> tuple[Floats, Bools, Floats]:
    rng = np.random.default_rng(seed)
    f = np.repeat(rng.standard_normal(count // 3 + 1), 3)[:count] + 0.5 * rng.standard_normal(count)
    p = 1 / (1 + np.exp(-0.6 * f))
    return f, rng.random(count) < p, p


@pytest.mark.parametrize("digits", [15, 1], ids=["all different", "with ties"])
def test_figures_of_windows_are_those_of_their_rows(digits: int) -> None:
    score, up, p = rows(1, 3_000)
    score = np.round(score, digits)
    up[1_000:1_050] = True
    looks = [(0, 0), (0, 200), (100, 900), (100, 901), (1_000, 1_050), (2_200, 3_000)]
    windows = Windows(*(np.array(ends, np.int64) for ends in zip(*looks, strict=True)))
    aucs, errors, briers = (
        auc_along(score, up, windows),
        calibration_error_along(p, up, windows),
        brier_along(p, up, windows),
    )
    for (start, end), auc, error, brier in zip(looks, aucs, errors, briers, strict=True):
        if start == end:
            continue
        part = slice(start, end)
        wanted = area_under_curve(score[part], up[part])
        assert auc == pytest.approx(np.nan if wanted is None else wanted, abs=1e-12, nan_ok=True)
        assert error == pytest.approx(expected_calibration_error(p[part], up[part]), abs=1e-12)
        assert brier == pytest.approx(brier_score(p[part], up[part]), abs=1e-12)


def looked_at(horizon_s: int, seconds: int, step: int) -> tuple[Ints, Floats, Ints]:
    score, up, p = rows(2, TRAIN + seconds)
    regime = np.ones(TRAIN, np.int8)
    reference = Reference.of(score[:TRAIN], regime)
    ts = np.arange(seconds, dtype=np.int64) * 1_000
    active = np.ones(seconds, np.int8)
    rank = reference.rank(score[TRAIN:], active)
    values = judge_rows(ts, rank, p[TRAIN:], up[TRAIN:], active)
    return ts, values, np.arange(1, seconds, step, dtype=np.int64)


@pytest.mark.parametrize(
    ("horizon_s", "seconds", "step"),
    [(10, 3_000, 37), (60, 9_000, 211), (10, 60 * 3_600, 17_001)],
    ids=["10 s", "60 s", "beyond the span"],
)
def test_bounds_along_a_history_are_those_of_each_look(
    horizon_s: int, seconds: int, step: int
) -> None:
    ts, values, known = looked_at(horizon_s, seconds, step)
    found = bounds_along(ts, values, known, horizon_s * 1_000, auc_column=0)
    evidence, taken, told = AnytimeEvidence(horizon_s * 1_000), 0, 0
    for look, count in enumerate(known):
        evidence.add(ts[taken:count], values[taken:count])
        taken = int(count)
        bounds = evidence.bounds()
        for name, of_class in (
            ("auc", "slice_auc_active_period"),
            ("platt_ece", "platt_ece"),
            ("platt_brier", "platt_brier"),
        ):
            along = found[name]
            if of_class not in bounds:
                assert np.isinf(along.whole_lower[:, look]).all()
                continue
            told += 1
            for i, level in enumerate(bounds[of_class]):
                for end in ("lower", "upper", "whole_lower", "whole_upper"):
                    wanted = getattr(level, end)
                    assert getattr(along, end)[i, look] == pytest.approx(wanted, abs=1e-9)
    assert told > 20
