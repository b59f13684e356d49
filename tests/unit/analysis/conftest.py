"""A simulated market for the analysis: trades that lag and overtake, gaps, ties, missing rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from signalcanary.contract import SignalConfig
from signalcanary_workloads.analysis.engine import EngineConfig
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows

START_MS = 1_777_618_800_000  # 2026-05-01T07:00:00Z: an hour before Tokyo becomes London


@dataclass(frozen=True)
class Market:
    features: FeatureRows
    scores: CvdRows

    def until(self, ingest: int, after: int = -1) -> tuple[FeatureRows, CvdRows]:
        """What arrived as frames after < n ≤ ingest."""
        f, s = self.features.ingest, self.scores.ingest
        return (
            self.features.take((f > after) & (f <= ingest)),
            self.scores.take((s > after) & (s <= ingest)),
        )

    @property
    def last_ingest(self) -> int:
        return int(max(self.features.ingest[-1], self.scores.ingest.max(initial=0)))


def simulate(
    seed: int, seconds: int, trades_per_second: float = 3.0, skill: float = 0.3, rough: bool = True
) -> Market:
    """One symbol. `skill` is the correlation of the scores with the next ten seconds."""
    rng = np.random.default_rng(seed)
    flow = rng.standard_normal(seconds)
    drift = np.convolve(flow, np.ones(10) / np.sqrt(10))[:seconds]
    step = np.rint(2 * (skill * drift + rng.standard_normal(seconds)))
    mid = 50_000 + 0.1 * np.concatenate(([0.0], np.cumsum(step)[:-1]))
    z_ofi = flow.copy()
    z_ofi[:20] = np.nan
    regime = rng.integers(0, 3, seconds // 50 + 1).repeat(50)[:seconds].astype(np.int8)
    epoch = np.zeros(seconds, np.int64)
    keep = np.ones(seconds, bool)
    if rough:
        mid[rng.random(seconds) < 0.01] = np.nan
        epoch = np.cumsum(rng.random(seconds) < 0.003).astype(np.int64)
        keep = rng.random(seconds) > 0.01
    second = START_MS + 1_000 * np.arange(seconds, dtype=np.int64)

    count = rng.poisson(trades_per_second, seconds)
    at = second.repeat(count) + rng.integers(0, 1_000, int(count.sum()))
    at = np.sort(at)
    lag = rng.integers(0, 400, at.size)
    if rough:
        lag += np.where(rng.random(at.size) < 0.02, rng.integers(0, 6_000, at.size), 0)
    score = flow[np.clip((at - START_MS) // 1_000 + 1, 0, seconds - 1)]
    score = score + rng.standard_normal(at.size)
    score[:30] = np.nan

    arrival = np.concatenate((at + lag, second[keep] + 2_100))
    ingest = np.empty(arrival.size, np.int64)
    ingest[np.argsort(arrival, kind="stable")] = np.arange(arrival.size)
    features = FeatureRows(
        second[keep],
        ingest[at.size :],
        mid[keep],
        z_ofi[keep],
        regime[keep],
        epoch[keep],
        np.zeros(int(keep.sum()), np.int64),
    )
    arrived = np.argsort(ingest[: at.size])
    sizes = rng.lognormal(0, 1, at.size) * np.where(rng.random(at.size) < 0.5, -1, 1)
    scale = np.full(at.size, 1.5)
    scores = CvdRows(at[arrived], ingest[: at.size][arrived], score[arrived], sizes[arrived], scale)
    return Market(features, scores)


@pytest.fixture(scope="session")
def market() -> Callable[..., Market]:
    return simulate


def build_config(
    horizon: str = "10s",
    train: str = "600s",
    test: str = "900s",
    refit: str = "300s",
    auto_flip: bool = True,
) -> EngineConfig:
    return EngineConfig.from_signal(
        SignalConfig.model_validate(
            {
                "fusion": {"active": {"ofi": 0.7, "cvd": 0.3, "gate": 0.2}},
                "label": {"horizon": horizon},
                "calibration": {"train": train, "test": test, "refit": refit},
                "cvd": {"autoFlip": auto_flip},
            }
        )
    )


@pytest.fixture(scope="session")
def config() -> Callable[..., EngineConfig]:
    return build_config
