"""Labels look exactly one horizon ahead, settle once, and say why they are missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary_workloads.analysis.labels import Outcome, PendingLabels, round_to_grid
from signalcanary_workloads.analysis.rows import FeatureRows


def rows(mid, ts=None, epoch=None) -> FeatureRows:
    n = len(mid)
    ts = np.arange(n) * 1_000 if ts is None else np.array(ts)
    epoch = np.zeros(n) if epoch is None else np.array(epoch)
    return FeatureRows(
        ts.astype(np.int64),
        np.arange(n),
        np.array(mid, float),
        np.zeros(n),
        np.zeros(n, np.int8),
        epoch.astype(np.int64),
        np.zeros(n, np.int64),
    )


@pytest.mark.parametrize(
    ("given_rows", "want"),
    [
        pytest.param(rows([1, 9, 2]), Outcome.UP, id="up"),
        pytest.param(rows([2, 9, 1]), Outcome.DOWN, id="down"),
        pytest.param(rows([2, 9, 2]), Outcome.TIE, id="tie"),
        pytest.param(rows([np.nan, 9, 2]), Outcome.NO_MID, id="no mid now"),
        pytest.param(rows([2, 9, np.nan]), Outcome.NO_MID, id="no mid then"),
        pytest.param(rows([1, 9, 2], epoch=[0, 1, 1]), Outcome.GAP, id="gap on the way"),
        pytest.param(rows([1, 9], ts=[0, 3_000]), Outcome.MISSING_ROW, id="no row at t + h"),
    ],
)
def test_each_row_gets_one_outcome(given_rows, want):
    assert PendingLabels(2_000).take_in(given_rows).tolist()[0] == want


def test_a_row_stays_pending_until_the_grid_has_reached_its_horizon():
    labels = PendingLabels(3_000)
    assert labels.take_in(rows([1, 2, 3])).size == 0
    assert len(labels) == 3
    assert labels.take_in(rows([9], ts=[3_000])).tolist() == [Outcome.UP]
    assert len(labels) == 3


def test_labels_predict_the_future_and_not_the_past():
    mid = np.cumsum(np.random.default_rng(4).integers(-3, 4, 500)).astype(float)
    got = PendingLabels(10_000).take_in(rows(mid))
    future = np.sign(mid[10:] - mid[:-10])
    np.testing.assert_array_equal(got == Outcome.UP, future > 0)
    np.testing.assert_array_equal(got == Outcome.TIE, future == 0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_chunking_gives_the_same_labels(market, seed, cuts):
    data = market(seed=seed, seconds=200).features
    whole = PendingLabels(10_000).take_in(data)
    labels, parts, start = PendingLabels(10_000), [], 0
    for cut in [*sorted(cuts), len(data)]:
        parts.append(labels.take_in(data.take(slice(start, max(start, cut)))))
        start = max(start, cut)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_horizon_between_grid_points_is_rounded_up():
    assert [round_to_grid(ms) for ms in (1, 1_000, 1_500, 10_000)] == [1_000, 1_000, 2_000, 10_000]
