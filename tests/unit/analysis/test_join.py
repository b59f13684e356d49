"""The as-of join against polars (event time alone) and against a loop (time and arrival)."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary_workloads.analysis.join import AsOfJoin, evaluate_merge, within_tolerance
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows


def scored_trades(ts: np.ndarray, ingest: np.ndarray, z: np.ndarray) -> CvdRows:
    return CvdRows(ts, ingest, z, np.ones(ts.size), np.ones(ts.size))


def features(ts: np.ndarray, ingest: np.ndarray) -> FeatureRows:
    ones, zeros = np.ones(ts.size), np.zeros(ts.size, np.int64)
    return FeatureRows(ts, ingest, ones, ones, zeros.astype(np.int8), zeros, zeros)


def test_it_equals_polars_when_everything_had_arrived():
    rng = np.random.default_rng(1)
    ts = np.sort(rng.integers(0, 500_000, 2_000)).astype(np.int64)
    scores = scored_trades(ts, np.arange(ts.size), rng.standard_normal(ts.size))
    grid = np.arange(0, 500_000, 1_000, dtype=np.int64)
    got = AsOfJoin().join(features(grid, np.full(grid.size, 10**9)), scores)
    left = pl.DataFrame({"ts": grid})
    right = pl.DataFrame({"ts": ts, "at": ts, "z": scores.z})
    want = left.join_asof(right, on="ts", strategy="backward")
    np.testing.assert_array_equal(got.z, want["z"].to_numpy())
    np.testing.assert_array_equal(got.delta_ms, (want["ts"] - want["at"]).to_numpy())


def test_it_equals_a_loop_over_what_had_arrived(market):
    data = market(seed=2, seconds=600)
    got = AsOfJoin().join(data.features, data.scores)
    for i in range(len(data.features)):
        seen = [
            (int(t), int(n), float(z))
            for t, n, z in zip(data.scores.ts_ms, data.scores.ingest, data.scores.z, strict=True)
            if t <= data.features.ts_ms[i] and n < data.features.ingest[i]
        ]
        if not seen:
            assert np.isnan(got.delta_ms[i])
            continue
        ts, _, z = max(seen)
        assert got.delta_ms[i] == data.features.ts_ms[i] - ts
        np.testing.assert_equal(got.z[i], z)


def test_a_score_that_came_after_the_row_was_closed_is_not_used():
    scores = scored_trades(np.array([100, 900]), np.array([1, 7]), np.array([0.5, 9.0]))
    got = AsOfJoin().join(features(np.array([1_000]), np.array([5])), scores)
    assert got.z.tolist() == [0.5]
    assert got.delta_ms.tolist() == [900.0]


def test_a_late_score_serves_the_rows_that_are_closed_after_it():
    join = AsOfJoin()
    join.join(
        features(np.array([1_000]), np.array([5])),
        scored_trades(np.array([100, 900]), np.array([1, 7]), np.array([0.5, 9.0])),
    )
    got = join.join(features(np.array([2_000]), np.array([9])), CvdRows.empty())
    assert got.z.tolist() == [9.0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.floats(0, 1), max_size=12), lag=st.booleans())
def test_any_chunking_gives_the_same_join(market, seed, cuts, lag):
    data = market(seed=seed, seconds=120, rough=lag)
    whole = AsOfJoin().join(data.features, data.scores)
    join, z, delta, after = AsOfJoin(), [], [], -1
    for cut in [*sorted(int(c * data.last_ingest) for c in cuts), data.last_ingest]:
        part = join.join(*data.until(cut, after))
        z.append(part.z)
        delta.append(part.delta_ms)
        after = max(after, cut)
    np.testing.assert_array_equal(np.concatenate(z), whole.z)
    np.testing.assert_array_equal(np.concatenate(delta), whole.delta_ms)


def test_delta_is_recorded_before_the_tolerance():
    got = AsOfJoin().join(
        features(np.array([30_000]), np.array([5])),
        scored_trades(np.array([1_000]), np.array([1]), np.array([0.5])),
    )
    assert got.delta_ms.tolist() == [29_000.0]
    assert not within_tolerance(got, 1_500).any()


def test_quantiles_and_match_ratio_equal_numpy():
    delta = np.concatenate((np.random.default_rng(3).exponential(700, 250), [np.nan] * 10))
    window = evaluate_merge(delta, 1_500)
    assert window.figures is not None
    assert window.figures.p99_ms == pytest.approx(np.nanpercentile(delta, 99), abs=1e-9)
    assert window.match_ratio == (delta <= 1_500).sum() / 260
    assert (window.rows, window.joined) == (260, 250)


def test_fewer_than_thirty_rows_have_no_quantiles_but_are_counted():
    window = evaluate_merge(np.full(29, 10.0), 1_500)
    assert window.figures is None
    assert window.joined == 29


def test_rows_closed_by_one_frame_see_the_same_past_even_in_two_batches():
    join = AsOfJoin()
    early, late = np.array([100, 900]), np.array([0.5, 9.0])
    join.join(
        features(np.array([1_000]), np.array([5])), scored_trades(early, np.array([1, 7]), late)
    )
    got = join.join(features(np.array([2_000]), np.array([5])), CvdRows.empty())
    assert got.z.tolist() == [0.5]
