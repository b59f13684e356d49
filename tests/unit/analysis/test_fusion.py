"""The fused score: weights by regime, gate, sign."""

from __future__ import annotations

import numpy as np
import pytest

from signalcanary.contract import Fusion, RegimeWeights
from signalcanary_workloads.analysis.fusion import FusionTable
from signalcanary_workloads.analysis.rows import Regime


@pytest.mark.parametrize(
    ("regime", "direction", "want"),
    [
        (Regime.ACTIVE, 1, 0.7 * 2.0 + 0.3 * -1.0),
        (Regime.QUIET, 1, 0.5 * 2.0 + 0.5 * -1.0),
        (Regime.UNKNOWN, 1, 0.6 * 2.0 + 0.4 * -1.0),
        (Regime.ACTIVE, -1, 0.7 * 2.0 + 0.3 * 1.0),
    ],
)
def test_each_regime_has_its_weights(regime, direction, want):
    table = FusionTable(Fusion())
    codes = np.array([regime], np.int8)
    got = table.fuse(np.array([2.0]), np.array([-1.0]), codes, direction)
    assert got[0] == pytest.approx(want, abs=1e-15)


def test_a_signal_below_the_gate_is_zero_and_one_at_the_gate_is_kept():
    gated = RegimeWeights(ofi=1.0, cvd=0.0, gate=0.5)
    table = FusionTable(Fusion(baseline=gated))
    z = np.array([0.49, -0.49, 0.5, -0.5])
    got = table.fuse(z, np.zeros(4), np.zeros(4, np.int8), 1)
    assert got.tolist() == [0.0, 0.0, 0.5, -0.5]
