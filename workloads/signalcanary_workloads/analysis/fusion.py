"""The signal itself: f = w_o·z_ofi + w_c·d·z_cvd + w_m·z_ml, gated, weighed by market regime.

Where the models have no score, the other two weigh w_o/(1 − w_m) and w_c/(1 − w_m).

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
        self._ml = np.array([w.ml or 0.0 for w in weights])
        self._gate = np.array([w.gate for w in weights])

    def fuse(
        self,
        z_ofi: Floats,
        z_cvd: Floats,
        regime: Codes,
        direction: int,
        z_ml: Floats | None = None,
    ) -> Floats:
        """The fused score of each row; 0 where |f| is below the regime's gate.

        Args:
            direction: +1, or −1 while the sign of the volume delta is turned around.
            z_ml: the models' score, NaN where they have none.
        """
        f = self._ofi[regime] * z_ofi + self._cvd[regime] * (direction * z_cvd)
        if z_ml is not None:
            weight = self._ml[regime]
            f = np.where(np.isnan(z_ml), f / (1.0 - weight), f + weight * np.nan_to_num(z_ml))
        return np.where(np.abs(f) < self._gate[regime], 0.0, f)
