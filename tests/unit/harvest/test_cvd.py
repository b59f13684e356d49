"""The volume delta against a reference that computes everything anew for each trade."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary.contract import Cvd
from signalcanary_workloads.harvest.cvd import CvdRow, CvdScore, RollingMad
from signalcanary_workloads.harvest.wire import AggTrade, RawTrade, Trade

CONFIG = Cvd()


def trade(n: int, qty: float, sell: bool, ts: int, price: float = 100.0) -> AggTrade:
    return AggTrade("X", n, price, qty, n, n, ts, sell, ts)


def market(count: int, seed: int = 3) -> list[Trade]:
    rng = np.random.default_rng(seed)
    ts = 1_000_000 + np.cumsum(
        rng.choice([1, 40, 300, 4_500, 6_000], count, p=[0.3, 0.4, 0.26, 0.02, 0.02])
    )
    return [
        trade(n, round(float(q), 3), bool(m), int(t), round(float(p), 1))
        for n, (q, m, t, p) in enumerate(
            zip(
                rng.lognormal(-2, 2, count),
                rng.random(count) < 0.5,
                ts,
                60_000 + rng.normal(0, 5, count),
                strict=True,
            )
        )
    ]  # fmt: skip


def naive(trades: list[Trade], config: Cvd) -> list[tuple[float, float, float, bool]]:
    """(z_raw, scale, floor, floor_hit) by the definition, O(n) a trade."""
    deltas = np.array([t.price * t.qty * (-1 if t.is_buyer_maker else 1) for t in trades])
    rows, skip = [], 0
    for n in range(len(trades)):
        if n:
            silence = trades[n].ts - trades[n - 1].ts
            skip = 2 if silence > 5000 else max(skip, 1) if silence > 4000 else skip
        past = deltas[:n]
        if not n:
            rows.append((math.nan, math.nan, math.nan, False))
            continue
        means = []
        for half_life in (80, config.half_life_trades):
            decay = 2 ** (-1 / half_life)
            weights = (1 - decay) * decay ** np.arange(n - 1, -1, -1)
            weights[0] = decay ** (n - 1)  # the first value starts the average
            means.append(float(weights @ np.abs(past)))
        mix = config.scale_fast_weight * means[0] + (1 - config.scale_fast_weight) * means[1]
        window = past[-300:]
        mad = np.median(np.abs(window - np.median(window)))
        floor = config.mad_multiplier * 1.4826 * mad
        scale = max(mix, floor, 1e-9)
        z = deltas[n] / scale
        if skip:
            skip, z = skip - 1, math.nan
        elif n < 80:
            z = math.nan
        rows.append((z, scale, floor, bool(floor >= mix)))
    return rows


def run(trades: list[Trade], config: Cvd = CONFIG) -> list[CvdRow]:
    score = CvdScore(config)
    return [score.add(t) for t in trades]


@pytest.mark.parametrize(
    "config",
    [CONFIG, Cvd(mad_multiplier=12, scale_fast_weight=0.7, half_life_trades=150, winsor_limit=3)],
    ids=["defaults", "others"],
)
def test_it_equals_the_naive_definition(config: Cvd) -> None:
    trades = market(1200)
    rows = run(trades, config)
    for row, (z, scale, floor, hit) in zip(rows, naive(trades, config), strict=True):
        assert (row.z_raw, row.scale, row.floor) == pytest.approx((z, scale, floor), nan_ok=True)
        assert row.floor_hit == hit or math.isclose(row.floor, row.scale)
        limit = config.winsor_limit
        assert row.z_cvd == pytest.approx(min(max(z, -limit), limit) if z == z else z, nan_ok=True)
    assert any(row.floor_hit for row in rows)
    assert sum(math.isnan(row.z_raw) for row in rows[80:]) > 20, "gaps were skipped"


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e9, 1e9) | st.integers(-3, 3).map(float), max_size=60), st.integers(1, 12)
)
def test_the_rolling_mad_is_numpys(values: list[float], size: int) -> None:
    rolling = RollingMad(size)
    for n, value in enumerate(values, 1):
        rolling.add(value)
        window = np.array(values[max(0, n - size) : n])
        expected = np.median(np.abs(window - np.median(window)))
        assert rolling.mad() == pytest.approx(expected, rel=1e-12, abs=1e-6)


def test_a_silence_over_4_s_skips_one_trade_and_over_5_s_two() -> None:
    steps = [100] * 90 + [4000, 4001, 100, 5000, 100, 5001, 100, 100]
    trades, ts = [], 0
    for n, step in enumerate(steps):
        ts += step
        trades.append(trade(n, 1.0 + n % 3, n % 2 == 0, ts))
    skipped = [n for n, row in enumerate(run(trades)) if n >= 80 and math.isnan(row.z_cvd)]
    assert skipped == [91, 93, 95, 96]


def test_the_quantity_without_rpi_orders_counts_where_it_is_known() -> None:
    row = CvdScore(CONFIG).add(AggTrade("X", 1, 10.0, 5.0, 1, 1, 0, True, 0, nq=2.0))
    assert (row.delta, row.delta_qty, row.cvd) == (-20.0, -2.0, -2.0)


def test_a_trade_that_nobody_decided_on_changes_nothing() -> None:
    trades = market(200)
    transfer = RawTrade("X", 0, 100.0, 50.0, trades[100].ts, False, "INSURANCE_FUND")
    with_transfer = run([*trades[:100], transfer, *trades[100:]])
    assert with_transfer.pop(100).delta_qty == 0.0
    np.testing.assert_equal(with_transfer, run(trades))


# The exchange trades large quantities in whole units, small ones with up to 8 decimals.
quantities = (
    st.integers(1, 10**9).map(lambda n: n / 1000)
    | st.integers(1, 10**8).map(float)
    | st.integers(1, 10**9).map(lambda n: n / 10**8)
)


@settings(deadline=None)
@given(st.lists(st.tuples(quantities, st.booleans()), min_size=1, max_size=300))
def test_the_running_sum_is_exact_in_decimals(trades: list[tuple[float, bool]]) -> None:
    rows = run([trade(n, q, sell, n) for n, (q, sell) in enumerate(trades)])
    total = sum((Decimal(repr(q)) * (-1 if sell else 1) for q, sell in trades), Decimal(0))
    assert rows[-1].cvd == float(total)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_buying_and_selling_exchanged_turns_every_sign(seed: int) -> None:
    trades = market(150, seed)
    mirrored = [trade(t.trade_id, t.qty, not t.is_buyer_maker, t.ts, t.price) for t in trades]
    for row, other in zip(run(trades), run(mirrored), strict=True):
        assert (row.delta, row.cvd) == (-other.delta, -other.cvd)
        assert row.scale == pytest.approx(other.scale, nan_ok=True)
        assert row.z_cvd == pytest.approx(-other.z_cvd, nan_ok=True)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 400))
def test_a_resume_at_any_cut_gives_the_same_rows(cut: int) -> None:
    trades = market(400)
    first = CvdScore(CONFIG)
    rows = [first.add(t) for t in trades[:cut]]
    second = CvdScore(CONFIG)
    second.import_state(json.loads(json.dumps(first.export_state())))
    rows += [second.add(t) for t in trades[cut:]]
    np.testing.assert_equal(rows, run(trades))
