"""Stored history of a simulated market, committed as harvest commits it.

Only what analysis reads, and only as clean as a comparison needs: one feature row a second
without a gap, a mid that follows the flow a little, and trades that arrived before the row of
their second was closed. Anything that joins by time alone gives the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from signalcanary_workloads.harvest.sink import Batch, SymbolSink
from signalcanary_workloads.store import SCHEMAS, Kind, Regime, Storage

START_MS = 1_777_593_600_000  # 2026-05-01T00:00:00Z
COMMIT_ROWS = 60
TRADES_A_SECOND = 5
_REGIMES = np.array([Regime.ACTIVE.value, Regime.QUIET.value])


@dataclass(frozen=True)
class History:
    """The two tables of one symbol; `first_trade[i]` is the first trade after feature row i-1."""

    features: pa.Table
    scores: pa.Table
    first_trade: np.ndarray

    def batch(self, number: int) -> Batch:
        """The rows of the n-th minute."""
        start, end = number * COMMIT_ROWS, (number + 1) * COMMIT_ROWS
        first, last = int(self.first_trade[start]), int(self.first_trade[end])
        features = self.features.slice(start, COMMIT_ROWS)
        tables = {Kind.FEATURE: features, Kind.CVD: self.scores.slice(first, last - first)}
        return Batch(tables, START_MS + 1000 * (end - 1), 0, {})


def simulate(seed: int, minutes: int) -> History:
    """So many minutes of one symbol."""
    rng = np.random.default_rng(seed)
    rows = minutes * COMMIT_ROWS
    ts = START_MS + 1000 * np.arange(rows, dtype=np.int64)
    flow = rng.standard_normal(rows)
    drift = np.convolve(flow, np.ones(10) / np.sqrt(10))[:rows]
    step = np.rint(2 * (0.3 * drift + rng.standard_normal(rows)))
    mid = 50_000 + 0.1 * np.concatenate(([0.0], np.cumsum(step)[:-1]))
    per_row = rng.poisson(TRADES_A_SECOND, rows)
    trades = int(per_row.sum())
    row_of = np.arange(rows).repeat(per_row)
    # No two at one instant, so that what a join matches does not hang on how it breaks ties.
    within = np.arange(trades) - (np.cumsum(per_row) - per_row)[row_of]
    at = ts[row_of] - 1000 + (within + 1) * 1000 // (per_row[row_of] + 1)
    first_trade = np.concatenate(([0], np.cumsum(per_row)))
    z_cvd = flow[row_of] + rng.standard_normal(trades)
    nothing = np.zeros(trades)
    features = {
        "ts": ts,
        "ingest": first_trade[1:] + np.arange(1, rows + 1),
        "mid": mid,
        "spread_bps": np.full(rows, 0.02),
        "ofi": flow,
        "z_ofi": flow,
        "tps": per_row.astype(np.float64),
        "regime": _REGIMES[rng.integers(0, 2, rows // 300 + 1).repeat(300)[:rows]],
        "gap_epoch": np.zeros(rows, np.int64),
        "quality": np.zeros(rows, np.int64),
    }
    ids = np.arange(1, trades + 1)
    scores = {
        "trade_id": ids,
        "ts": at,
        "ingest": ids + row_of,
        "delta": z_cvd,
        "delta_qty": z_cvd,
        "cvd": nothing,
        "z_raw": z_cvd,
        "z_cvd": z_cvd,
        "scale": nothing + 1.0,
        "floor": nothing,
        "floor_hit": np.zeros(trades, bool),
    }
    return History(
        pa.table(features, schema=SCHEMAS[Kind.FEATURE]),
        pa.table(scores, schema=SCHEMAS[Kind.CVD]),
        first_trade,
    )


def write(storage: Storage, symbol: str, history: History, minutes: int) -> None:
    """Commit the first so many minutes of a history."""
    sink = SymbolSink(storage, symbol)
    try:
        for number in range(minutes):
            sink.commit_batch(history.batch(number))
    finally:
        sink.close()
