"""The window of scored trades against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from signalcanary_workloads.harvest.quality import QUALITY_WINDOW_MS, QualityWindow


def test_every_figure_is_of_the_last_300_s_whatever_was_forgotten() -> None:
    rng = np.random.default_rng(5)
    window, trades = QualityWindow(), []
    now = 1_777_600_000_000
    for n in range(9_000):
        # A dense hour, a pause longer than the window, and another: all but few are forgotten.
        now += 400_000 if n == 6_000 else int(rng.integers(0, 400))
        # A trade may come with an older time than the one before it.
        ts = now - int(rng.integers(0, 5_000))
        trade = (ts, rng.lognormal(), bool(rng.random() < 0.3), abs(rng.standard_normal()) * 2)
        trades.append(trade)
        window.add(*trade)
        if n % 500 == 499:
            recent = [t for t in trades if t[0] > now - QUALITY_WINDOW_MS]
            scale, hit, z = (np.array(column) for column in list(zip(*recent, strict=True))[1:])
            got = window.evaluate(now)
            assert got.samples == len(recent)
            assert got.scale_median == np.median(scale)
            assert got.floor_hit_ratio == pytest.approx(hit.mean())
            assert got.abs_z_p95 == np.quantile(z, 0.95)
            assert got.tail2_ratio == pytest.approx((z > 2).mean())
            assert got.tail3_ratio == pytest.approx((z > 3).mean())
    nothing = window.evaluate(now + QUALITY_WINDOW_MS)
    assert np.isnan(nothing[:-1]).all()
    assert nothing.samples == 0


def test_there_is_no_figure_before_the_first_trade() -> None:
    nothing = QualityWindow().evaluate(0)
    assert np.isnan(nothing[:-1]).all()
    assert nothing.samples == 0
