"""The signal itself: f = w_o·z_ofi + w_c·d·z_cvd, gated, with weights by market regime.

Kept apart from the engine because this is the one formula that the rolled-out configuration
describes; it must give the same value live, on replay and in a notebook.
"""

from __future__ import annotations

import numpy as np

from signalcanary.contract import Fusion

from .rows import Codes, Floats, Regime


class FusionTable:
    """The configured weights, looked up by regime code; unknown regimes use the baseline."""

    def __init__(self, fusion: Fusion) -> None:
        by_code = {
            Regime.UNKNOWN: fusion.baseline,
            Regime.ACTIVE: fusion.active,
            Regime.QUIET: fusion.quiet,
        }
        weights = [by_code[regime] for regime in sorted(by_code)]
        self._ofi = np.array([w.ofi for w in weights])
        self._cvd = np.array([w.cvd for w in weights])
        self._gate = np.array([w.gate for w in weights])

    def fuse(self, z_ofi: Floats, z_cvd: Floats, regime: Codes, direction: int) -> Floats:
        """The fused score of each row; 0 where |f| is below the regime's gate.

        Args:
            direction: +1, or −1 while the sign of the volume delta is turned around.
        """
        f = self._ofi[regime] * z_ofi + self._cvd[regime] * (direction * z_cvd)
        return np.where(np.abs(f) < self._gate[regime], 0.0, f)
