"""New histories from a recorded one, by drawing blocks of its looks.

What was exported is drawn anew in blocks that wrap around (D. Politis and J. Romano, "A circular
block-resampling procedure", 1992); within a block the values keep the dependence that overlapping
test windows give them, so a block should be much longer than the test window. All symbols and
metrics are drawn together. Bounds cannot be drawn so: they rest on all rows since the start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest.recording import RecordingError
from signalcanary.backtest.simulation import Path
from signalcanary.contract import format_duration
from signalcanary.evaluate import CLOCK_TOLERANCE, MetricsSeen


def path_of_looks(
    spec: SignalCanarySpec, looks: Sequence[tuple[datetime, MetricsSeen]]
) -> dict[str, Path]:
    """What was exported of each symbol, look by look; what was stale or missing is no value.

    Raises:
        RecordingError: a condition was judged by bounds, or never had a value.
    """
    paths = {}
    for symbol in spec.symbols.canary:
        values = {c.metric: np.full(len(looks), np.nan) for c in spec.rollback.conditions}
        samples = {metric: np.zeros(len(looks), np.int64) for metric in values}
        for place, (now, seen) in enumerate(looks):
            for condition in spec.rollback.conditions:
                metric = condition.metric
                found = seen.measurements.get((metric, symbol))
                if found is None or found.evaluated_at is None:
                    continue
                if condition.is_guarded and found.bounds:
                    raise RecordingError(
                        f"{metric} is judged by its bounds, which rest on all rows since the "
                        "start and cannot be drawn anew: leave the data out to simulate it, or "
                        "write mode: literal"
                    )
                age = now - found.evaluated_at
                if (
                    len(found.values) == 1
                    and -CLOCK_TOLERANCE <= age <= spec.evaluation.stale_after
                ):
                    values[metric][place] = found.values[0]
                    samples[metric][place] = found.samples or 0
        empty = [metric for metric, column in values.items() if np.isnan(column).all()]
        if empty:
            raise RecordingError(f"the recorded data has no value of {empty[0]} on {symbol}")
        paths[symbol] = Path(values, samples, {})
    return paths


def resampler(
    paths: Mapping[str, Path], step: timedelta, hours: float, block: timedelta
) -> Callable[[np.random.Generator], dict[str, Path]]:
    """Draws histories of so many hours.

    Raises:
        RecordingError: what was recorded is shorter than two blocks.
    """
    recorded = min(path.looks for path in paths.values())
    length = max(1, block // step)
    if recorded < 2 * length:
        raise RecordingError(
            f"{format_duration(recorded * step)} of data are less than two blocks of "
            f"{format_duration(block)}: record more, or choose a shorter --block"
        )
    wanted = 3 + math.ceil(timedelta(hours=hours) / step)

    def draw(rng: np.random.Generator) -> dict[str, Path]:
        starts = rng.integers(0, recorded, -(-wanted // length))
        places = (starts[:, None] + np.arange(length)).ravel()[:wanted] % recorded
        return {
            symbol: Path(
                {metric: column[places] for metric, column in path.values.items()},
                {metric: column[places] for metric, column in path.samples.items()},
                {},
            )
            for symbol, path in paths.items()
        }

    return draw
