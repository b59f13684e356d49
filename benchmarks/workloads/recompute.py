"""The peer of a step of the analysis: everything anew, with polars and scikit-learn.

The same definitions by the plainest means that people use: an as-of join of all rows, and for
each horizon labels by a self-join, scikit-learn's logistic regression and its metrics. It is
spared what it can be: the rows are in memory already, only the fits that serve the test window
are made, not all since the beginning, and there are no bounds of confidence.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from signalcanary_workloads.analysis.engine import EngineConfig

SESSIONS = ("tokyo_session", "london_session", "ny_session")
ECE_BINS = 10


Figures = dict[str, float]
"""Of one horizon, by name. A slice with one class has NaN."""


def recompute(
    features: pl.DataFrame, scores: pl.DataFrame, config: EngineConfig
) -> dict[int, Figures]:
    """The figures of the test window as of the last row, by horizon (ms).

    None of a horizon without a prediction yet.

    Args:
        features: ts, mid, z_ofi, regime; sorted by ts.
        scores: ts, z_cvd; sorted by ts.
    """
    fused = _fuse(_join(features, scores, config), config)
    horizons = (config.horizon_ms, *config.reported_ms)
    return {horizon: _figures(_label(fused, horizon), config, horizon) for horizon in horizons}


def _figures(rows: pl.DataFrame, config: EngineConfig, horizon_ms: int) -> Figures:
    test = _predict(rows, config, horizon_ms)
    if test is None:
        return {}
    y, p, f = (test[name].to_numpy() for name in ("y", "p", "f"))
    figures = {"platt_ece": _ece(y, p), "platt_brier": float(brier_score_loss(y, p))}
    session = (test["ts"] // 3_600_000 % 24 // 8).to_numpy()
    slices = {
        "active_period": (test["regime"] == "active").to_numpy(),
        "quiet_period": (test["regime"] == "quiet").to_numpy(),
        **{name: session == number for number, name in enumerate(SESSIONS)},
    }
    for name, member in slices.items():
        has_both = np.unique(y[member]).size == 2
        auc = roc_auc_score(y[member], f[member]) if has_both else np.nan
        figures[f"slice_auc_{name}"] = float(auc)
    return figures


def _join(features: pl.DataFrame, scores: pl.DataFrame, config: EngineConfig) -> pl.DataFrame:
    right = scores.with_columns(score_ts=pl.col("ts"))
    joined = features.join_asof(right, on="ts", strategy="backward")
    fresh = (pl.col("ts") - pl.col("score_ts") <= config.tolerance_ms).fill_null(False)
    return joined.with_columns(z_cvd=pl.when(fresh).then(pl.col("z_cvd")))


def _fuse(rows: pl.DataFrame, config: EngineConfig) -> pl.DataFrame:
    fusion = config.fusion

    def weigh(name: str) -> pl.Expr:
        return (
            pl.when(pl.col("regime") == "active")
            .then(getattr(fusion.active, name))
            .when(pl.col("regime") == "quiet")
            .then(getattr(fusion.quiet, name))
            .otherwise(getattr(fusion.baseline, name))
        )

    f = weigh("ofi") * pl.col("z_ofi") + weigh("cvd") * pl.col("z_cvd")
    return rows.with_columns(f=f).with_columns(
        f=pl.when(pl.col("f").abs() < weigh("gate")).then(0.0).otherwise(pl.col("f"))
    )


def _label(rows: pl.DataFrame, horizon_ms: int) -> pl.DataFrame:
    later = rows.select(ts=pl.col("ts") - horizon_ms, future=pl.col("mid"))
    labelled = rows.join(later, on="ts", how="left")
    move = pl.col("future") - pl.col("mid")
    return labelled.with_columns(y=pl.when(move != 0).then((move > 0).cast(pl.Int8)))


def _predict(rows: pl.DataFrame, config: EngineConfig, horizon_ms: int) -> pl.DataFrame | None:
    """The labelled rows of the test window, each with p by the fit that served it."""
    usable = rows.filter(pl.col("f").is_not_null())
    first = int(usable["ts"][0]) + config.train_ms + horizon_ms
    now = int(rows["ts"][-1])
    end = now - horizon_ms
    begin = end - config.test_ms
    labelled = usable.filter(pl.col("y").is_not_null())
    number = max(0, (begin - first) // config.refit_ms)
    parts = []
    while (fitted := first + number * config.refit_ms) < end:
        until = fitted - horizon_ms
        train = labelled.filter((pl.col("ts") > until - config.train_ms) & (pl.col("ts") <= until))
        model = LogisticRegression(C=np.inf).fit(train["f"].to_numpy()[:, None], train["y"])
        served = labelled.filter(
            (pl.col("ts") > max(fitted, begin))
            & (pl.col("ts") <= min(fitted + config.refit_ms, end))
        )
        if served.height:
            p = model.predict_proba(served["f"].to_numpy()[:, None])[:, 1]
            parts.append(served.with_columns(p=p))
        number += 1
    return pl.concat(parts) if parts else None


def _ece(y: np.ndarray, p: np.ndarray) -> float:
    bins = np.minimum((p * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [abs(float(np.sum(y[bins == b] - p[bins == b]))) for b in range(ECE_BINS)]
    return sum(gaps) / y.size
