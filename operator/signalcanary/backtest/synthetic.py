"""A simulated canary as a table: what `tables` reads, from a signal whose skill is known. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest.simulation import Market, Path, draw_path
from signalcanary.contract import EVIDENCE_LEVELS

START: Final = datetime(2026, 1, 1, tzinfo=UTC)


def draw_table(spec: SignalCanarySpec, market: Market, seed: int) -> dict[str, list[Any]]:
    """The metrics that a policy asks for, on each canary symbol: columns as in `tables`.

    Raises:
        ValueError: no signal is as the market asks.
    """
    generators = np.random.default_rng(seed).spawn(len(spec.symbols.canary))
    columns: dict[str, list[Any]] = defaultdict(list)
    for symbol, rng in zip(spec.symbols.canary, generators, strict=True):
        path = draw_path(rng, market, spec)
        for metric in path.values:
            for row in _rows(path, metric, timedelta(seconds=market.look_seconds)):
                for name, value in (row | {"metric": metric, "symbol": symbol}).items():
                    columns[name].append(value)
    return dict(columns)


def _rows(path: Path, metric: str, step: timedelta) -> Iterator[dict[str, Any]]:
    """One metric's rows: one a look, and one a look and level where there is evidence."""
    bounds = path.bounds.get(metric)
    for look, (value, samples) in enumerate(
        zip(path.values[metric], path.samples[metric], strict=True)
    ):
        row = {
            "time": START + (look + 1) * step,
            "value": _finite(value),
            "samples": int(samples),
        }
        for place, level in enumerate(EVIDENCE_LEVELS):
            row["level"] = level if bounds is not None else None
            for name in ("lower", "upper", "whole_lower", "whole_upper"):
                row[name] = None if bounds is None else _finite(getattr(bounds, name)[place, look])
            yield dict(row)
            if bounds is None:
                break


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
