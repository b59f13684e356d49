"""Do the intervals hold the truth on the exchange's own market, ticks, trades and all?

`test_coverage` draws scores and mids from the law that the market is made of. Here they are what
harvest computes from the market's quotes and trades, one by one (`exchange/model.py`): the mid is
of whole ticks, some labels tie, the order-flow imbalance is scored against 300 s, the volume
delta by its trades, and what is fused is joined as of the second. The truth is the market's own
law again: given the latent flow, the return over the horizon is Gaussian, so the chance of a
higher mid among those that move is known for each second, the tick and the regimes that follow
included. What a figure would be if labels were those chances is the figure's truth; that of the
AUC is a mean over all markets, for its interval speaks of no window in particular.

The suite takes few markets, and asks that no figure strays from its truth by more than chance
ever makes it. `make intervals` takes 200 of three hours, and prints the table.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import starmap
from multiprocessing import Pool

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from signalcanary.contract import SignalConfig
from signalcanary_workloads.analysis.calibration_error import (
    Binning,
    bin_rows,
    residuals_by_bin,
)
from signalcanary_workloads.analysis.engine import Engine, EngineConfig
from signalcanary_workloads.analysis.evidence import Estimate
from signalcanary_workloads.analysis.report import ALL_ROWS
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows
from signalcanary_workloads.exchange.model import (
    STEP_MS,
    MarketParams,
    Quote,
    Regime,
    SymbolModel,
    spec_of,
)
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.sequence import Arrival
from signalcanary_workloads.harvest.wire import AggTrade, BookTicker
from signalcanary_workloads.store import Kind

Floats = npt.NDArray[np.float64]

SEEDS = int(os.environ.get("SIGNALCANARY_INTERVAL_SEEDS", "2"))
HOURS = float(os.environ.get("SIGNALCANARY_INTERVAL_HOURS", "1"))
MANY = 20
CASES = [(10, 0.8), (10, 0.97)] if SEEDS >= MANY else [(10, 0.8)]
AUC = 0.58
START_MS = 1_777_618_800_000
SURELY = 1e-6
ALLOWED = 0.93
FARTHEST = 5.0
"""Standard errors that a figure strays by once in some ten thousand, with 15 and more blocks."""
FIGURES = ("auc", "error", "equal_mass", "brier")


@dataclass(frozen=True)
class Latent:
    """What the market knows of itself at the end of each second."""

    ts_ms: npt.NDArray[np.int64]
    flow: Floats
    log_ticks: Floats
    """Logarithm of the mid before it is rounded, in ticks."""
    is_active: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trial:
    """The estimates of one market and what they estimate."""

    estimates: Mapping[str, Estimate]
    truths: Mapping[str, float]
    tie_ratio: float


def observe(
    model: SymbolModel, signal: SignalConfig, seconds: int
) -> tuple[Latent, SymbolPipeline]:
    """Let the market run, and harvest what it sends."""
    spec = model.spec
    price, lot = 10.0**spec.price_decimals, 10.0**spec.qty_decimals
    pipeline = SymbolPipeline(spec.symbol, signal, "aggTrade")
    known = []
    for _ in range(seconds):
        for event in model.step():
            at = event.time_ms
            if isinstance(event, Quote):
                pipeline.on_quote(
                    BookTicker(
                        spec.symbol, event.update_id, event.bid / price, event.bid_qty / lot,
                        event.ask / price, event.ask_qty / lot, at, at,
                    ),
                    0,
                    1,
                )  # fmt: skip
                continue
            trade = AggTrade(
                spec.symbol, event.agg_id, event.price / price, event.qty / lot, event.first_id,
                event.last_id, at, event.is_buyer_maker, at, event.normal_qty / lot,
            )  # fmt: skip
            pipeline.on_trade(Arrival(trade, 0, "ws", 1))
        log_ticks = model._log_start + model._log_move
        known.append((model.next_ms, model._flow, log_ticks, model.regime is Regime.ACTIVE))
    ts_ms, flow, log_ticks, active = zip(*known, strict=True)
    return (
        Latent(np.array(ts_ms), np.array(flow), np.array(log_ticks), np.array(active)),
        pipeline,
    )


def chance_of_rise(latent: Latent, params: MarketParams) -> Floats:
    """P(the mid is higher after the horizon, given that it is another), for each second but the
    last ones: given the flow x, the log-return is Σ σᵢ(βᵢxᵢ + √(1−βᵢ²)ηᵢ)."""
    horizon, phi = params.horizon_seconds, params.flow_persistence
    beta = np.where(
        latent.is_active, params.impact(Regime.ACTIVE).beta, params.impact(Regime.QUIET).beta
    )
    volatility = params.volatility_bps * 1e-4
    volatility = volatility * np.where(latent.is_active, params.active_volatility_factor, 1.0)
    # Row i holds what is drawn in the second i + 1 … i + horizon.
    ahead = np.lib.stride_tricks.sliding_window_view
    impact = ahead((volatility * beta)[1:], horizon)
    surprise = ahead((volatility**2 * (1 - beta**2))[1:], horizon)
    rows = impact.shape[0]
    drift = impact @ phi ** np.arange(horizon) * latent.flow[:rows]
    variance = surprise.sum(axis=1)
    for k in range(1, horizon):  # the flow's own noise in second k moves all that follow
        weight = impact[:, k:] @ phi ** np.arange(horizon - k)
        variance = variance + weight**2 * (1 - phi**2)
    deviation = np.sqrt(variance)
    ticks = np.round(np.exp(latent.log_ticks[:rows]))
    up = np.log(ticks + 0.5) - latent.log_ticks[:rows] - drift
    down = np.log(ticks - 0.5) - latent.log_ticks[:rows] - drift
    rises, falls = ndtr(-up / deviation), ndtr(down / deviation)
    return np.asarray(rises / (rises + falls))


def true_auc(score: Floats, chance: Floats) -> float:
    """The AUC if each row were a rise by its chance, and a fall by the rest."""
    order = np.argsort(score)
    up, down = chance[order], 1 - chance[order]
    below = np.cumsum(down) - down
    return float(up @ (below + down / 2) / (up.sum() * down.sum()))


def true_error(p: Floats, chance: Floats, binning: Binning) -> float:
    """The binned calibration error of p if y were its true probability."""
    return float(np.abs(residuals_by_bin(p, chance, bin_rows(p, binning)).mean(axis=0)).sum())


def analyse(seed: int, horizon: int, phi: float) -> Trial:
    train, test = int(1_800 * HOURS / 2), int(3_600 * HOURS)
    params = MarketParams(
        horizon_seconds=horizon, auc_active=AUC, auc_quiet=AUC, flow_persistence=phi
    )
    weights = {"ofi": 0.6, "cvd": 0.4}  # those that the market's AUC is of
    signal = SignalConfig.model_validate(
        {
            "label": {"horizon": f"{horizon}s"},
            "calibration": {"train": f"{train}s", "test": f"{test}s", "refit": "1800s"},
            "cvd": {"autoFlip": False},
            "fusion": dict.fromkeys(("active", "quiet", "baseline"), weights),
        }
    )
    model = SymbolModel(spec_of("BTCUSDT"), params, seed, START_MS)
    latent, pipeline = observe(model, signal, train + test + 2 * horizon + 400)
    chance_at = dict(
        zip(latent.ts_ms.tolist(), chance_of_rise(latent, params).tolist(), strict=False)
    )
    cut = pipeline.cut()
    assert cut is not None
    engine = Engine(replace(EngineConfig.from_signal(signal), reported_ms=()))
    engine.take_in(
        FeatureRows.from_table(cut.columns[Kind.FEATURE].table()),
        CvdRows.from_table(cut.columns[Kind.CVD].table()),
    )
    (report,) = engine.report().horizons
    kept = engine.recent
    assert engine.last_ts_ms is not None
    until = engine.last_ts_ms - STEP_MS * horizon
    chosen = (kept.ts_ms > until - STEP_MS * test) & ~np.isnan(kept.p) & (kept.outcome <= 1)
    p, f = kept.p[chosen], kept.f[chosen]
    chance = np.array([chance_at[ts] for ts in kept.ts_ms[chosen].tolist()])
    assert report.test_samples == p.size
    assert report.brier is not None
    assert report.tie_ratio is not None
    by_width, by_mass = (
        report.calibration[one] for one in (Binning.EQUAL_WIDTH, Binning.EQUAL_MASS)
    )
    return Trial(
        {
            "auc": report.auc[ALL_ROWS],
            "brier": report.brier,
            **{
                name: Estimate(found.value, found.samples, None, None, found.lower, found.upper)
                for name, found in (("error", by_width), ("equal_mass", by_mass))
            },
        },
        {
            "auc": true_auc(f, chance),
            "brier": float(np.mean(chance * (1 - chance) + (chance - p) ** 2)),
            "error": true_error(p, chance, Binning.EQUAL_WIDTH),
            "equal_mass": true_error(p, chance, Binning.EQUAL_MASS),
        },
        report.tie_ratio,
    )


@cache
def trials(horizon: int, phi: float) -> tuple[Trial, ...]:
    cells = [(seed, horizon, phi) for seed in range(SEEDS)]
    if SEEDS < MANY:
        return tuple(starmap(analyse, cells))
    with Pool(len(os.sched_getaffinity(0))) as pool:
        return tuple(pool.starmap(analyse, cells, chunksize=1))


def typical_auc(results: tuple[Trial, ...]) -> float:
    """Of the score on this market, whatever the window."""
    return float(np.mean([trial.truths["auc"] for trial in results]))


def share(results: tuple[Trial, ...], figure: str) -> float:
    """How many of the intervals held the truth."""
    held = []
    for trial in results:
        found = trial.estimates[figure]
        truth = typical_auc(results) if figure == "auc" else trial.truths[figure]
        assert found.lower is not None
        assert found.upper is not None
        held.append(found.lower <= truth <= found.upper)
    return float(np.mean(held))


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(("horizon", "phi"), CASES)
def test_the_intervals_hold_the_truth_of_the_market(horizon: int, phi: float) -> None:
    results = trials(horizon, phi)
    for figure in FIGURES:
        # The least that a right interval has, but for a chance of 1e-6.
        least = float(binom.ppf(SURELY, len(results), ALLOWED)) / len(results)
        assert share(results, figure) >= least, figure
    for trial in results:
        for figure in ("auc", "brier"):
            found = trial.estimates[figure]
            assert found.error is not None
            strays = abs(found.value - trial.truths[figure]) / found.error
            assert strays < FARTHEST, figure


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(("horizon", "phi"), CASES)
def test_the_score_has_the_auc_that_the_oracle_promised(horizon: int, phi: float) -> None:
    results = trials(horizon, phi)
    assert typical_auc(results) == pytest.approx(AUC, abs=0.015)
    assert all(trial.tie_ratio < 0.05 for trial in results)


def build_table() -> str:
    """What was measured, for people."""
    lines = [
        f"{SEEDS} markets of SymbolModel a row, test window {HOURS:g} h, AUC {AUC} promised: share",
        "of 95 % intervals that held the truth; z: (value - truth) / standard error of the AUC",
        "   h    φ    AUC    ECE by mass  Brier  true AUC  AUC(promised)  mean z  sd z  ties",
    ]
    for horizon, phi in CASES:
        results = trials(horizon, phi)
        shares = "  ".join(f"{share(results, figure):5.3f}" for figure in FIGURES)
        aucs = [trial.estimates["auc"] for trial in results]
        z = [(one.value - typical_auc(results)) / (one.error or math.nan) for one in aucs]
        promised = np.mean([(one.lower or 0) <= AUC <= (one.upper or 0) for one in aucs])
        ties = np.mean([trial.tie_ratio for trial in results])
        lines.append(
            f"{horizon:4} {phi:4.2f}  {shares}  {typical_auc(results):8.4f}  {promised:13.3f}  "
            f"{np.mean(z):6.2f}  {np.std(z):4.2f}  {ties:.3f}"
        )
    return "\n".join(lines)


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    if SEEDS >= MANY:
        print(f"\n{build_table()}")
