"""The whole way from frames to figures, against numpy, scipy, scikit-learn and polars.

On the synthetic exchange's frames and, where they are on the machine, on recorded ones of
Binance USD-M: parsed and harvested by the product, and computed anew from the raw frames by
short code that looks at everything at once.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import root
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from signalcanary.contract import Cvd, SignalConfig
from signalcanary_workloads.analysis.calibrate import Platt, fit_platt, smoothed_targets
from signalcanary_workloads.analysis.engine import Engine, EngineConfig, Unusable
from signalcanary_workloads.analysis.join import AsOfJoin
from signalcanary_workloads.analysis.rescore import Rescore
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows
from signalcanary_workloads.analysis.score import (
    area_under_curve,
    brier_score,
    expected_calibration_error,
)
from signalcanary_workloads.exchange.faults import Effects
from signalcanary_workloads.exchange.model import MarketParams
from signalcanary_workloads.exchange.sources import SyntheticSource
from signalcanary_workloads.harvest.cvd import CvdScore
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.sequence import Arrival
from signalcanary_workloads.harvest.wire import BookTicker, Message, parse_frame
from signalcanary_workloads.store import Kind

DATA = Path(__file__).parents[4] / "shared" / "data" / "binance-usdm-20240808"
SECONDS = 900
SIGNAL = SignalConfig.model_validate(
    {"calibration": {"train": "100s", "test": "100s", "refit": "100s"}, "cvd": {"autoFlip": False}}
)


@dataclass(frozen=True)
class Harvested:
    """The frames of one symbol and what harvest made of them."""

    messages: tuple[Message, ...]
    tables: dict[Kind, pa.Table]

    @property
    def features(self) -> FeatureRows:
        return FeatureRows.from_table(self.tables[Kind.FEATURE])

    @property
    def scores(self) -> CvdRows:
        return CvdRows.from_table(self.tables[Kind.CVD])

    @property
    def quotes(self) -> list[BookTicker]:
        return [m for m in self.messages if isinstance(m, BookTicker)]

    @property
    def trades(self):
        return [m for m in self.messages if not isinstance(m, BookTicker)]


def harvest(messages, stream: str) -> dict[Kind, pa.Table]:
    pipeline = SymbolPipeline("BTCUSDT", SIGNAL, stream)
    for message in messages:
        if isinstance(message, BookTicker):
            pipeline.on_quote(message, 0, 1)
        else:
            pipeline.on_trade(Arrival(message, 0, "ws", 1))
    cut = pipeline.cut()
    assert cut is not None
    return {kind: columns.table() for kind, columns in cut.columns.items()}


def undisturbed(symbol: str, now_ms: float) -> Effects:
    return Effects()


@cache
def synthetic(seed: int = 1, seconds: int = SECONDS) -> Harvested:
    source = SyntheticSource(("BTCUSDT",), MarketParams(), seed, 0, 1_000)
    due = source.emit(seconds * 1_000, undisturbed)
    # Of the two streams of trades, the aggregated one is harvested.
    frames = [parse_frame(b'{"data":' + frame.data + b"}") for _, frame in due]
    messages = tuple(m for m in frames if type(m).__name__ != "RawTrade")
    return Harvested(messages, harvest(messages, "aggTrade"))


@cache
def recorded(symbol: str) -> Harvested:
    messages = []
    with gzip.open(DATA / f"{symbol.lower()}_20240808.gz") as lines:
        for line in lines:
            frame = line.partition(b" ")[2]
            if b"@bookTicker" in frame or b"@trade" in frame:
                messages.append(parse_frame(frame))
    return Harvested(tuple(messages), harvest(messages, "trade"))


SOURCES = {"synthetic": synthetic}
if DATA.is_dir():
    SOURCES |= {name: (lambda name=name: recorded(name)) for name in ("BTCUSDT", "ETHUSDT")}


@pytest.fixture(params=SOURCES)
def data(request) -> Harvested:
    return SOURCES[request.param]()


# ------------------------------------------------------------------ features


def naive_ofi(quotes: list[BookTicker]) -> pl.DataFrame:
    """Cont, Kukanov, Stoikov 2014, over all quotes at once; summed by second."""
    names = ("bid_price", "bid_qty", "ask_price", "ask_qty")
    pb, qb, pa_, qa = (np.array([getattr(q, name) for q in quotes]) for name in names)
    flow = (
        qb[1:] * (pb[1:] >= pb[:-1])
        - qb[:-1] * (pb[1:] <= pb[:-1])
        - qa[1:] * (pa_[1:] <= pa_[:-1])
        + qa[:-1] * (pa_[1:] >= pa_[:-1])
    )
    second = [math.ceil(q.ts / 1_000) * 1_000 for q in quotes[1:]]
    frame = pl.DataFrame({"ts": second, "ofi": flow})
    return frame.group_by("ts").agg(pl.col("ofi").sum()).sort("ts")


def in_order_of_id(quotes: list[BookTicker]) -> list[BookTicker]:
    """Those that came with a newer id than all before."""
    kept: list[BookTicker] = []
    for quote in quotes:
        if not kept or quote.update_id > kept[-1].update_id:
            kept.append(quote)
    return kept


def test_ofi_and_its_score_are_the_naive_ones(data):
    quotes = in_order_of_id(data.quotes)
    rows = pl.from_arrow(data.tables[Kind.FEATURE])
    naive = rows.select("ts").join(naive_ofi(quotes), on="ts", how="left")["ofi"].fill_null(0.0)
    ofi = rows["ofi"].to_numpy()
    np.testing.assert_allclose(ofi[1:], naive.to_numpy()[1:], rtol=1e-9, atol=1e-6)
    z = rows["z_ofi"].to_numpy()
    for i in range(1, len(rows), 7):
        past = ofi[max(1, i - 300) : i]  # the first second is incomplete and joins none
        if past.size < 60:
            assert np.isnan(z[i])
        else:
            assert z[i] == pytest.approx(
                np.clip((ofi[i] - past.mean()) / past.std(), -8, 8), abs=1e-9
            )


def test_the_mid_is_that_of_the_last_quote_by_then(data):
    quotes = in_order_of_id(data.quotes)
    right = pl.DataFrame(
        {
            "ts": [q.ts for q in quotes],
            "at": [q.ts for q in quotes],
            "want": [(q.bid_price + q.ask_price) / 2 for q in quotes],
        }
    ).sort("ts", maintain_order=True)
    rows = pl.from_arrow(data.tables[Kind.FEATURE]).select("ts", "mid")
    both = rows.join_asof(right, on="ts", strategy="backward")
    fresh = both.filter(pl.col("ts") - pl.col("at") <= 1_500)
    np.testing.assert_allclose(fresh["mid"].to_numpy(), fresh["want"].to_numpy(), rtol=1e-12)
    assert both.filter(pl.col("ts") - pl.col("at") > 1_500)["mid"].null_count() == len(both) - len(
        fresh
    )


def test_cvd_its_scale_and_its_score_are_the_naive_ones(data):
    cvd = Cvd()
    trades = data.trades
    rows = pl.from_arrow(data.tables[Kind.CVD])
    assert rows["trade_id"].to_list() == [t.id for t in trades]
    qty = np.array([t.qty if t.nq is None else t.nq for t in trades])
    signed = np.where([t.is_buyer_maker for t in trades], -qty, qty)
    delta = signed * np.array([t.price for t in trades])
    np.testing.assert_allclose(rows["delta"].to_numpy(), delta, rtol=1e-12)
    np.testing.assert_allclose(rows["cvd"].to_numpy(), np.cumsum(signed), atol=1e-6)
    size = pl.Series(np.abs(delta))
    fast, slow = (
        size.ewm_mean(half_life=half_life, adjust=False).to_numpy()
        for half_life in (80, cvd.half_life_trades)
    )
    mix = cvd.scale_fast_weight * fast + (1 - cvd.scale_fast_weight) * slow
    scale, z = rows["scale"].to_numpy(), rows["z_cvd"].to_numpy()
    ts = np.array([t.ts for t in trades])
    scored = np.flatnonzero(~np.isnan(z))
    assert scored.size > 0.9 * (len(trades) - 80)
    for i in scored[:: max(1, scored.size // 400)].tolist():
        past = delta[max(0, i - 300) : i]
        floor = cvd.mad_multiplier * 1.4826 * np.median(np.abs(past - np.median(past)))
        assert scale[i] == pytest.approx(max(mix[i - 1], floor, 1e-9), rel=1e-9)
        assert z[i] == pytest.approx(np.clip(delta[i] / scale[i], -8, 8), abs=1e-9)
    silent = np.flatnonzero(np.diff(ts) > 4_000) + 1
    assert np.isnan(z[silent]).all()


@pytest.mark.parametrize(
    "cvd",
    [Cvd(), Cvd(mad_multiplier=0.5, half_life_trades=50, winsor_limit=3, scale_fast_weight=0.7)],
    ids=["as harvested", "other parameters"],
)
def test_scores_made_anew_from_rows_are_those_that_harvest_would_have_made(data, cvd):
    """To the last bit, in any pieces, repeated ones included."""
    score = CvdScore(cvd)
    want = [score.add(trade).z_cvd for trade in data.trades]
    rescore, got = Rescore(cvd), []
    rows = data.scores
    for start in range(0, len(rows), 997):
        got.append(rescore.take_in(rows.take(slice(start, start + 997))).z)
        again = rescore.take_in(rows.take(slice(max(0, start - 10), start + 997)))
        assert len(again) == 0
    np.testing.assert_array_equal(np.concatenate(got), want)


# ------------------------------------------------------------------ join, fit, figures


def test_the_join_is_polars_where_all_had_arrived_and_a_loop_where_not(data):
    features, scores = data.features, data.scores
    known = replace(features, ingest=np.full(len(features), 10**12))
    got = AsOfJoin().join(known, scores)
    order = np.lexsort((scores.ingest, scores.ts_ms))
    right = pl.DataFrame(
        {"ts": scores.ts_ms[order], "at": scores.ts_ms[order], "z": scores.z[order]}
    )
    left = pl.DataFrame({"ts": features.ts_ms})
    want = left.join_asof(right, on="ts", strategy="backward")
    np.testing.assert_array_equal(got.z, want["z"].to_numpy())
    delta = (want["ts"] - want["at"]).cast(pl.Float64).to_numpy()
    np.testing.assert_array_equal(got.delta_ms, delta)
    live = AsOfJoin().join(features, scores)
    for i in range(0, len(features), 13):
        seen = (scores.ts_ms <= features.ts_ms[i]) & (scores.ingest < features.ingest[i])
        if seen.any():
            assert live.delta_ms[i] == features.ts_ms[i] - scores.ts_ms[seen].max()


def labelled_rows(data: Harvested):
    """f and y of every row that the engine could score and label."""
    rows = scored_engine(data).recent
    chosen = (rows.unusable == Unusable.USABLE) & (rows.outcome <= 1)
    assert np.count_nonzero(chosen) > 150
    return rows.f[chosen], rows.outcome[chosen] == 1


def test_platt_is_the_optimum_that_scikit_learn_and_scipy_find(data):
    f, up = labelled_rows(data)
    got = fit_platt(f, up)
    assert isinstance(got, Platt)
    targets = smoothed_targets(up)
    reference = LogisticRegression(C=1e15, solver="newton-cholesky", tol=1e-14, max_iter=1_000)
    weights = np.concatenate((targets, 1 - targets))
    both = np.concatenate((f, f))[:, None]
    reference.fit(both, np.repeat([1, 0], f.size), sample_weight=weights)
    p = got.predict(f)
    np.testing.assert_allclose(reference.predict_proba(f[:, None])[:, 1], p, atol=1e-9)

    def slope(ab):
        residual = 1 / (1 + np.exp(-(ab[0] * f + ab[1]))) - targets
        return np.array([residual @ f, residual.sum()])

    def curvature(ab):
        q = 1 / (1 + np.exp(-(ab[0] * f + ab[1])))
        w = q * (1 - q)
        return np.array([[w @ f**2, w @ f], [w @ f, w.sum()]])

    found = root(slope, [0, 0], jac=curvature, tol=1e-14)
    assert (got.slope, got.intercept) == pytest.approx(tuple(found.x), abs=1e-9)


def test_figures_are_those_of_scikit_learn(data):
    f, up = labelled_rows(data)
    fit = fit_platt(f, up)
    assert isinstance(fit, Platt)
    p = fit.predict(f)
    assert area_under_curve(f, up) == pytest.approx(roc_auc_score(up, f), abs=1e-9)
    rounded = np.round(f, 1)
    assert area_under_curve(rounded, up) == pytest.approx(roc_auc_score(up, rounded), abs=1e-9)
    assert brier_score(p, up) == pytest.approx(brier_score_loss(up, p), abs=1e-9)
    frame = pl.DataFrame({"p": p, "y": up.astype(float)})
    binned = frame.group_by((pl.col("p") * 10).floor().clip(0, 9)).agg(
        (pl.col("y") - pl.col("p")).sum().abs().alias("gap")
    )
    want = binned["gap"].sum() / p.size
    assert expected_calibration_error(p, up) == pytest.approx(want, abs=1e-9)


# ------------------------------------------------------------------ nothing looks ahead


def disturbed(messages, after_ms: int, seed: int):
    """The same messages, each later than a time with other prices and quantities."""
    rng = np.random.default_rng(seed)
    for message in messages:
        if message.ts <= after_ms:
            yield message
            continue
        factor = float(rng.uniform(0.5, 2.0))
        wire = {name: getattr(message, name) for name in message.__struct_fields__}
        for name in ("bid_price", "ask_price", "price", "qty", "bid_qty", "ask_qty"):
            if name in wire:
                wire[name] *= factor
        if "is_buyer_maker" in wire:
            wire["is_buyer_maker"] = bool(rng.integers(2))
            wire["nq"] = None
        yield type(message)(**wire)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(at=st.integers(100, SECONDS - 20), seed=st.integers(0, 2**32))
def test_no_feature_and_no_prediction_knows_what_comes_later(at, seed):
    """Frames, features, scores, calibrations: all that bears a time up to t is the same when
    every frame after t is another."""
    data = synthetic()
    now_ms = data.quotes[0].ts // 1_000 * 1_000 + 1_000 * at
    other = Harvested(data.messages, harvest(disturbed(data.messages, now_ms, seed), "aggTrade"))
    for kind in (Kind.FEATURE, Kind.CVD):
        before, after = (
            table.filter(pa.compute.less_equal(table.column("ts"), now_ms)).drop_columns(["ingest"])
            for table in (data.tables[kind], other.tables[kind])
        )
        assert before.num_rows > 0
        assert before.equals(after), kind
    one, two = (scored_engine(d) for d in (data, other))
    past = one.recent.ts_ms <= now_ms
    for name in ("f", "p_at", "z_cvd"):
        np.testing.assert_array_equal(
            getattr(one.recent, name)[past], getattr(two.recent, name)[past]
        )
    known = one.recent.ts_ms <= now_ms - 10_000
    np.testing.assert_array_equal(one.recent.outcome[known], two.recent.outcome[known])
    fits = [
        {run.fit for run in engine.scored if run.fit and run.fit.fitted_ms <= now_ms}
        for engine in (one, two)
    ]
    assert fits[0] == fits[1]


def scored_engine(data: Harvested) -> Engine:
    engine = Engine(EngineConfig.from_signal(SIGNAL, SIGNAL))
    engine.take_in(data.features, data.scores)
    return engine


def test_the_order_of_the_symbols_of_a_shard_changes_nothing():
    one = {seed: scored_engine(synthetic(seed)).evaluate() for seed in (1, 2)}
    two = {seed: scored_engine(synthetic(seed)).evaluate() for seed in (2, 1)}
    assert one == two
    assert one[1] != one[2]
