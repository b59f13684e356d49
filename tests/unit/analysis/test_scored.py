"""What the engine hands out as scored: each row once, and the same in whatever batches."""

from __future__ import annotations

import numpy as np
import pytest

from signalcanary_workloads.analysis.engine import Count, Engine


def collect(engine: Engine, data, cuts: list[int]) -> list[tuple[object, ...]]:
    """Every scored row with its direction and the time of its calibration."""
    out: list[tuple[object, ...]] = []
    after = -1
    for cut in [*cuts, data.last_ingest]:
        engine.take_in(*data.until(cut, after))
        after = cut
        for run in engine.scored:
            fitted = run.fit.fitted_ms if run.fit else None
            columns = (run.rows.ts_ms, run.rows.f, run.rows.p)
            for ts, f, p in zip(*(column.tolist() for column in columns), strict=True):
                out.append((ts, f, p, run.direction, fitted))
    return out


@pytest.mark.parametrize("pieces", [2, 50, 997])
def test_each_row_is_handed_out_once_and_alike_in_whatever_batches(market, config, pieces) -> None:
    data = market(seed=5, seconds=4000)
    whole_engine, engine = Engine(config()), Engine(config())
    whole = collect(whole_engine, data, [])
    step = max(1, data.last_ingest // pieces)
    parts = collect(engine, data, list(range(step, data.last_ingest, step)))
    assert repr(parts) == repr(whole)  # NaN is not equal to itself
    assert [row[0] for row in whole] == data.features.ts_ms.tolist()
    assert engine.evaluate().counts[Count.REFITS] >= 3
    fits = {row[4] for row in whole}
    assert len(fits) == engine.evaluate().counts[Count.REFITS] + 1


def test_a_calibration_serves_only_rows_after_it(market, config) -> None:
    data = market(seed=5, seconds=4000)
    rows = collect(Engine(config()), data, [])
    calibrated = [row for row in rows if row[4] is not None]
    assert calibrated
    assert all(row[0] > row[4] for row in calibrated)
    assert all(np.isnan(row[2]) for row in rows if row[4] is None)


def test_nothing_is_handed_out_twice(market, config) -> None:
    data = market(seed=5, seconds=200)
    engine = Engine(config())
    collect(engine, data, [])
    assert engine.take_in(*data.until(data.last_ingest)) == 0
    assert engine.scored == ()
