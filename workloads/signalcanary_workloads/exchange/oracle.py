"""The formulas that tie the market's parameters to the skill a signal can have on it.

They exist so that a configured AUC is a promise rather than a hope. Pure: the same
arguments, the same answer.

The latent flow x is a unit-variance AR(1) with coefficient φ on a 1 s step. The mid's return of
the next second is σ·(βx + √(1−β²)·η). So the return R over h seconds has
cov(R, x) = σβG with G = Σφⁱ (i < h), and var(R) = σ²(β²V + h(1−β²)) with V = ΣΣφ^|i−j|.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np

_NORMAL: Final = NormalDist()
_SAMPLES: Final = 100_000
_SAMPLE_SEED: Final = 20_240_808

OFI_WEIGHT: Final = 0.6
CVD_WEIGHT: Final = 0.4
"""The fusion weights that a configured AUC refers to (seed 002's baseline)."""

CVD_FLOOR_PER_MEDIAN: Final = 1.8 * 1.4826
"""The CVD scale's floor over the median trade size: 1.8 robust standard deviations."""


def auc_from_correlation(rho: float) -> float:
    """AUC of a Gaussian score against the sign of a return that it correlates with."""
    return 0.5 + 2 / math.pi * math.asin(rho / math.sqrt(2))


def correlation_from_auc(auc: float) -> float:
    """The inverse of `auc_from_correlation`."""
    return math.sqrt(2) * math.sin((auc - 0.5) * math.pi / 2)


def flow_gain(phi: float, horizon_seconds: int) -> float:
    """G: covariance of the flow now with its sum over the horizon."""
    return sum(phi**i for i in range(horizon_seconds))


def flow_sum_variance(phi: float, horizon_seconds: int) -> float:
    """V: variance of the flow's sum over the horizon."""
    h = horizon_seconds
    return h + 2 * sum((h - lag) * phi**lag for lag in range(1, h))


def largest_correlation(phi: float, horizon_seconds: int) -> float:
    """The correlation of flow and return when the flow alone moves the price (β = 1)."""
    return flow_gain(phi, horizon_seconds) / math.sqrt(flow_sum_variance(phi, horizon_seconds))


def solve_beta(rho: float, phi: float, horizon_seconds: int) -> float:
    """The β at which the flow correlates by `rho` with the return over the horizon.

    Raises:
        ValueError: the flow's own persistence does not allow so much correlation.
    """
    limit = largest_correlation(phi, horizon_seconds)
    if abs(rho) > limit:
        raise ValueError(
            f"a correlation of {rho:.3f} between flow and {horizon_seconds} s return is not "
            f"possible at flow persistence {phi}: the largest is {limit:.3f}"
        )
    gain = flow_gain(phi, horizon_seconds)
    variance = flow_sum_variance(phi, horizon_seconds)
    square = horizon_seconds * rho**2 / (gain**2 - rho**2 * (variance - horizon_seconds))
    return math.copysign(math.sqrt(square), rho)


def return_deviation(beta: float, phi: float, horizon_seconds: int) -> float:
    """Standard deviation of the return over the horizon, in units of the 1 s volatility."""
    variance = flow_sum_variance(phi, horizon_seconds)
    return math.sqrt(beta**2 * variance + horizon_seconds * (1 - beta**2))


@lru_cache(maxsize=64)
def flow_correlation_for_auc(
    auc: float, ofi_skill: float, cvd_skill: float, size_sigma: float
) -> float:
    """Correlation of flow and return at which the 0.6/0.4 fused score reaches the AUC.

    By Monte Carlo on a fixed sample, because a trade's z-score (a sign times a lognormal size)
    is far from Gaussian: the closed formula is 0.01 to 0.02 of AUC off.

    Raises:
        ValueError: the features see too little of the flow for this AUC.
    """
    if auc == 0.5:
        return 0.0
    sample = np.random.Generator(np.random.PCG64(_SAMPLE_SEED)).standard_normal((5, _SAMPLES))
    flow, ofi_noise, cvd_noise, sizes, return_noise = sample
    z_ofi = ofi_skill * flow + math.sqrt(1 - ofi_skill**2) * ofi_noise
    seen = cvd_skill * flow + math.sqrt(1 - cvd_skill**2) * cvd_noise
    # The scale over the median size: the larger of the mean size and the MAD floor.
    scale = max(CVD_FLOOR_PER_MEDIAN, math.exp(size_sigma**2 / 2))
    z_cvd = np.sign(seen) * np.minimum(np.exp(size_sigma * sizes) / scale, 8.0)
    order = np.argsort(OFI_WEIGHT * z_ofi + CVD_WEIGHT * z_cvd)
    flow, return_noise = flow[order], return_noise[order]
    ranks = np.arange(1, _SAMPLES + 1)

    def auc_at(rho: float) -> float:
        up = rho * flow + math.sqrt(1 - rho * rho) * return_noise > 0
        positives = int(up.sum())
        wins = float(ranks[up].sum()) - positives * (positives + 1) / 2
        return wins / (positives * (_SAMPLES - positives))

    low, high = -1.0, 1.0
    if auc_at(high) < auc_at(low):
        low, high = high, low
    if not auc_at(low) < auc < auc_at(high):
        raise ValueError(
            f"an AUC of {auc} is out of reach: at these skills the features see so little of "
            f"the flow that the fused score's AUC is {auc_at(high):.3f} at most"
        )
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if auc_at(middle) < auc else (low, middle)
    return (low + high) / 2


def drift_for_logit_shift(delta: float, rho: float, deviation: float) -> float:
    """The drift over the horizon that moves P(up | score 0) from ½ to σ(delta).

    P(up | s) = Φ((ρs + d) / √(1−ρ²)) for a return of unit deviation and drift d.
    """
    if delta == 0:
        return 0.0
    probit = _NORMAL.inv_cdf(1 / (1 + math.exp(-delta)))
    return probit * math.sqrt(1 - rho**2) * deviation
