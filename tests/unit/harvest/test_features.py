"""The grid against references that look at all quotes and trades at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary_workloads.harvest.features import FeatureRow, Grid
from signalcanary_workloads.harvest.regime import RegimeDetector, TradeRate
from signalcanary_workloads.harvest.wire import BookTicker
from signalcanary_workloads.store import Quality, Regime

START = 1_777_600_000_000


def quote(n: int, ts: int, bid: float, bid_qty: float, ask: float, ask_qty: float) -> BookTicker:
    return BookTicker("X", n, bid, bid_qty, ask, ask_qty, ts, ts)


def walk(count: int, seed: int = 5, step_ms: float = 150.0) -> list[BookTicker]:
    rng = np.random.default_rng(seed)
    ts = START + 137 + np.cumsum(rng.exponential(step_ms, count)).astype(int)
    bids = 1000 + np.cumsum(rng.choice([-1, 0, 0, 1], count))
    asks = bids + rng.choice([1, 1, 2], count)
    # Eighths, so that sums are exact in whatever order they are made.
    sizes = rng.integers(1, 80, (count, 2)) / 8
    return [
        quote(n, int(ts[n]), float(bids[n]), float(sizes[n, 0]), float(asks[n]), float(sizes[n, 1]))
        for n in range(count)
    ]


def run(quotes: list[BookTicker]) -> list[FeatureRow]:
    grid = Grid()
    return [row for q in quotes for row in grid.on_quote(q)]


def naive_ofi(quotes: list[BookTicker]) -> dict[int, float]:
    """Cont, Kukanov, Stoikov 2014, eq. for e_n, with numpy over all quotes."""
    pb = np.array([q.bid_price for q in quotes])
    qb = np.array([q.bid_qty for q in quotes])
    pa = np.array([q.ask_price for q in quotes])
    qa = np.array([q.ask_qty for q in quotes])
    e = (
        qb[1:] * (pb[1:] >= pb[:-1])
        - qb[:-1] * (pb[1:] <= pb[:-1])
        - qa[1:] * (pa[1:] <= pa[:-1])
        + qa[:-1] * (pa[1:] >= pa[:-1])
    )
    bins: dict[int, float] = {}
    for q, value in zip(quotes[1:], e, strict=True):
        end = math.ceil(q.ts / 1000) * 1000
        bins[end] = bins.get(end, 0.0) + float(value)
    return bins


def test_ofi_and_its_score_equal_the_naive_definition() -> None:
    quotes = walk(4000)
    rows = run(quotes)
    bins = naive_ofi(quotes)
    assert len(rows) > 500
    for n, row in enumerate(rows):
        assert row.ofi == bins.get(row.ts, 0.0)
        past = np.array([other.ofi for other in rows[max(1, n - 300) : n]])  # the first is partial
        if len(past) < 60:
            assert math.isnan(row.z_ofi)
            assert row.quality & Quality.OFI_WARMING
        else:
            z = np.clip((row.ofi - past.mean()) / past.std(), -8, 8)
            assert row.z_ofi == pytest.approx(z)


def test_rows_are_every_second_up_to_the_watermark_and_mid_is_the_last_quote_by_then() -> None:
    quotes = walk(1500, step_ms=600.0)
    rows = run(quotes)
    newest = max(q.ts for q in quotes)
    first = math.ceil(quotes[0].ts / 1000)
    assert [row.ts for row in rows] == [s * 1000 for s in range(first, (newest - 2000) // 1000 + 1)]
    stale = 0
    for row in rows:
        last = [q for q in quotes if q.ts <= row.ts][-1]
        if row.ts - last.ts > 1500:
            stale += 1
            assert math.isnan(row.mid)
            assert row.quality & Quality.STALE_QUOTE
        else:
            assert row.mid == (last.bid_price + last.ask_price) / 2
            assert row.spread_bps == pytest.approx(
                (last.ask_price - last.bid_price) / row.mid * 1e4
            )
    assert stale > 0


def test_a_size_only_change_counts() -> None:
    rows = run(
        [
            quote(1, START + 100, 10.0, 5.0, 11.0, 5.0),
            quote(2, START + 200, 10.0, 7.0, 11.0, 4.0),
            quote(3, START + 3000, 10.0, 7.0, 11.0, 4.0),
        ]
    )
    assert rows[0].ofi == (7.0 - 5.0) - (4.0 - 5.0)


def test_a_row_is_closed_by_the_book_alone_and_not_before_2_s() -> None:
    grid = Grid()
    assert grid.on_quote(quote(1, START + 1, 10.0, 1.0, 11.0, 1.0)) == []
    assert grid.on_quote(quote(2, START + 2999, 10.0, 1.0, 11.0, 1.0)) == []
    (row,) = grid.on_quote(quote(3, START + 3000, 10.0, 1.0, 11.0, 1.0))
    assert (row.ts, grid.watermark_ms) == (START + 1000, START + 1000)


def test_a_late_quote_changes_no_row_that_is_closed() -> None:
    quotes = walk(200)
    late = quote(10_000, quotes[0].ts, 1.0, 1e6, 2.0, 1e6)
    grid = Grid()
    rows = [row for q in quotes for row in grid.on_quote(q)]
    assert grid.on_quote(late) == []
    assert grid.late_quotes == 1
    (marked, *_) = grid.on_quote(quote(10_001, quotes[-1].ts + 3000, 1000.0, 1.0, 1001.0, 1.0))
    assert marked.quality & Quality.LATE_QUOTES
    assert not any(row.quality & Quality.LATE_QUOTES for row in rows)


def test_after_a_gap_the_first_quote_is_compared_with_nothing() -> None:
    before, after = walk(3000), walk(3000, seed=6)
    shift = before[-1].ts + 10_000 - START
    moved = [
        quote(q.update_id, q.ts + shift, q.bid_price * 2, q.bid_qty, q.ask_price * 2, q.ask_qty)
        for q in after
    ]
    grid = Grid()
    rows = [row for q in before for row in grid.on_quote(q)]
    grid.reset_book()
    rows += [row for q in moved for row in grid.on_quote(q)]
    bins = {**naive_ofi(before), **naive_ofi(moved)}
    gap_from = math.ceil(before[-1].ts / 1000) * 1000
    gap_to = math.ceil(moved[0].ts / 1000) * 1000
    for row in rows[1:]:
        assert row.ofi == bins.get(row.ts, 0.0)
        in_gap = gap_from <= row.ts <= gap_to
        assert bool(row.quality & Quality.BOOK_GAP) == in_gap
        if row.ts > gap_to:
            past = [
                o.ofi
                for o in rows[1:]
                if row.ts - 300_000 <= o.ts < row.ts and not o.quality & Quality.BOOK_GAP
            ]
            z = np.clip((row.ofi - np.mean(past)) / np.std(past), -8, 8)
            assert row.z_ofi == pytest.approx(z)
    assert (rows[0].gap_epoch, rows[-1].gap_epoch) == (0, 1)


def test_a_long_silence_leaves_a_bounded_number_of_rows() -> None:
    day = 86_400_000
    quotes = [quote(n, START + n * day, 10.0, 1.0, 11.0, 1.0) for n in range(1, 4)]
    rows = run([*quotes, quote(9, quotes[-1].ts + 5000, 10.0, 1.0, 11.0, 1.0)])
    assert len(rows) < 3 * 310
    assert rows[-1].ts == quotes[-1].ts + 3000


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_bids_and_asks_exchanged_turn_the_sign_of_the_ofi(seed: int) -> None:
    quotes = walk(700, seed)
    mirrored = [
        quote(q.update_id, q.ts, 5000 - q.ask_price, q.ask_qty, 5000 - q.bid_price, q.bid_qty)
        for q in quotes
    ]
    for row, other in zip(run(quotes), run(mirrored), strict=True):
        assert row.ofi == -other.ofi
        assert row.z_ofi == pytest.approx(-other.z_ofi, nan_ok=True)


# --------------------------------------------------------------------------- rate and regime


def test_the_trade_rate_counts_the_last_300_seconds() -> None:
    rng = np.random.default_rng(1)
    seconds = np.sort(rng.integers(1000, 2000, 5000))
    rate = TradeRate()
    position = 0
    for now in range(1000, 2000):
        while position < len(seconds) and seconds[position] <= now + 2:  # ahead of the book
            rate.add(int(seconds[position]))
            position += 1
        span = min(300, now - 999)
        expected = ((seconds > now - 300) & (seconds <= now)).sum() / span
        assert rate.close(now) == pytest.approx(expected)


def naive_regimes(rates: list[float]) -> list[Regime]:
    regime, since, out, samples = Regime.UNKNOWN, 0, [], []
    for now, rate in enumerate(rates):
        history = sorted(r for s, r in samples if s > now - 86_400)
        if now >= 600 and history:
            p60 = np.percentile(history, 60, method="inverted_cdf")
            p50 = np.percentile(history, 50, method="inverted_cdf")
            before = regime
            if regime is Regime.UNKNOWN:
                regime = Regime.ACTIVE if rate > p60 else Regime.QUIET
            elif now - since >= 60:
                if regime is Regime.QUIET and rate > p60:
                    regime = Regime.ACTIVE
                elif regime is Regime.ACTIVE and rate < p50:
                    regime = Regime.QUIET
            if regime is not before:
                since = now
        if now >= 300 and (now - 300) % 60 == 0:
            samples.append((now, rate))
        out.append(regime)
    return out


def test_the_regime_equals_the_naive_definition_and_is_unknown_at_first() -> None:
    rng = np.random.default_rng(2)
    wave = 3000 + 2000 * np.sin(np.arange(8000) / 700) + rng.normal(0, 300, 8000)
    rates = [round(value) / 300 for value in wave]
    detector = RegimeDetector()
    regimes = [detector.update(1_000_000 + n, rate) for n, rate in enumerate(rates)]
    assert regimes == naive_regimes(rates)
    assert regimes[:600] == [Regime.UNKNOWN] * 600
    assert {Regime.ACTIVE, Regime.QUIET} <= set(regimes)


def test_the_regime_forgets_what_is_older_than_a_day() -> None:
    detector = RegimeDetector()
    for second in range(0, 90_000):
        detector.update(second, 10.0 if second < 3_000 else 1.0)
    assert detector.update(90_000, 1.5) is Regime.ACTIVE
    assert len(detector.export_state()["sample_trades"]) == 86_400 // 60
