"""Tables and data frames as recordings: one row a time, metric and symbol.

=================================  ================================================================
column                             meaning
=================================  ================================================================
``time``                           when it was evaluated: a timestamp (UTC if it has no zone), ISO
                                   8601 text, or Unix time in seconds
``metric``                         a judged metric's name
``symbol``                         the symbol
``value``                          the value, in the metric's own unit; null if there was none
``samples`` (optional)             rows behind the value
``level`` (optional)               chance that the bounds of this row fail
``lower``, ``upper``,              the bounds at that level, see `evaluate.Bound`; null where open.
``whole_lower``, ``whole_upper``   Several levels are several rows of one time, metric and symbol
=================================  ================================================================

A value holds until the next row of its metric and symbol; one that is older than
``evaluation.staleAfter`` is not judged, as everywhere. Any frame with the Arrow PyCapsule
interface (polars, pandas, pyarrow, …) is read through it; a mapping of columns needs nothing.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from signalcanary.backtest.recording import Recording, RecordingError, Trace
from signalcanary.contract import (
    EVIDENCE_BOUND,
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HEARTBEAT,
    JUDGED_METRICS,
    BoundLabel,
    MetricLabel,
    Track,
)
from signalcanary.metrics_source import Target

NEEDED: Final = ("time", "metric", "symbol", "value")
ENDS: Final = {
    "lower": ("lower", "now"),
    "upper": ("upper", "now"),
    "whole_lower": ("lower", "whole"),
    "whole_upper": ("upper", "whole"),
}
OPTIONAL: Final = ("samples", "level", *ENDS)

Columns = Mapping[str, Sequence[Any]]


def read_table(path: Path) -> Columns:
    """Read a ``.parquet`` or ``.csv`` file.

    Raises:
        RecordingError: it cannot be read.
        ModuleNotFoundError: Parquet needs pyarrow.
    """
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = rows[0].keys() if rows else ()
        # A field that is empty or cut off is a null.
        return {name: [row[name] or None for row in rows] for name in names if name}
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise RecordingError(f"{path}: no Parquet file: {error}") from error
    return read_frame(table)


def read_frame(frame: Any) -> Columns:
    """The columns of a data frame.

    Raises:
        RecordingError: it is nothing that is known.
    """
    if isinstance(frame, Mapping):
        return frame
    if hasattr(frame, "__arrow_c_stream__"):
        import pyarrow

        table = pyarrow.table(frame)
        wanted = [name for name in table.column_names if name in (*NEEDED, *OPTIONAL)]
        return {name: table.column(name).to_pylist() for name in wanted}
    raise RecordingError(
        f"a {type(frame).__name__} is no frame that can be read: give one with the Arrow "
        "PyCapsule interface (polars, pandas, pyarrow), or a mapping of columns"
    )


def build_recording(columns: Columns, target: Target) -> Recording:
    """A table as the series of a target's canary.

    Raises:
        RecordingError: a column is missing, or a row cannot be read.
    """
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise RecordingError(
            f"the table lacks the column {', '.join(missing)}: it needs {', '.join(NEEDED)}, "
            f"and may have {', '.join(OPTIONAL)}"
        )
    base = {
        MetricLabel.NAMESPACE.value: target.namespace,
        MetricLabel.NAME.value: target.name,
        MetricLabel.REVISION.value: target.revision,
        MetricLabel.TRACK.value: Track.CANARY.value,
    }
    samples_of: dict[_Key, dict[float, float | None]] = defaultdict(dict)
    absent = [None] * len(columns["time"])
    rows = zip(*(columns.get(name, absent) for name in (*NEEDED, *OPTIONAL)), strict=True)
    for number, row in enumerate(rows, 1):
        try:
            _take_row(samples_of, dict(zip((*NEEDED, *OPTIONAL), row, strict=True)))
        except (TypeError, ValueError) as error:
            raise RecordingError(f"row {number}: {error}") from error
    if not samples_of:
        raise RecordingError("the table has no rows")
    return Recording(tuple(_traces(samples_of, base)))


_Key = tuple[str, tuple[tuple[str, str], ...]]


def _take_row(series: dict[_Key, dict[float, float | None]], row: Mapping[str, Any]) -> None:
    metric, symbol, at = str(row["metric"]), str(row["symbol"]), _unix_seconds(row["time"])
    if metric not in JUDGED_METRICS:
        raise ValueError(f"unknown metric {metric!r}: write one of {', '.join(JUDGED_METRICS)}")

    def put(name: str, value: float | None, **labels: str) -> None:
        own = {MetricLabel.SYMBOL.value: symbol} | labels
        known = series[name, tuple(own.items())]
        if at in known and known[at] != value:
            raise ValueError(f"another value of {metric} on {symbol} at the same time")
        known[at] = value

    value = _number(row["value"], "value")
    put(metric, value)
    put(EVIDENCE_TIMESTAMP, at, metric=metric)
    put(HEARTBEAT, at)
    put(EVIDENCE_SAMPLES, _number(row["samples"], "samples"), metric=metric)
    level = _number(row["level"], "level")
    for name, (side, window) in ENDS.items():
        end = _number(row[name], name)
        if level is None and end is not None:
            raise ValueError(f"{name} is given without a level: add the column level, e.g. 0.05")
        if level is not None:
            labels = {BoundLabel.SIDE: side, BoundLabel.WINDOW: window}
            put(EVIDENCE_BOUND, end, metric=metric, level=f"{level:g}", **labels)


def _traces(
    series: Mapping[_Key, Mapping[float, float | None]], base: Mapping[str, str]
) -> Iterable[Trace]:
    for (metric, labels), samples in series.items():
        times = sorted(samples)
        yield Trace(metric, {**base, **dict(labels)}, times, [samples[t] for t in times])


def _number(value: Any, name: str) -> float | None:
    """A cell as a number; an empty one, and NaN, which frames put for null, are none."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}, which is no number") from None
    return None if math.isnan(number) else number


_LATEST_SECONDS: Final = 32_503_680_000  # year 3000


def _unix_seconds(value: Any) -> float:
    if isinstance(value, datetime):
        at = value
    elif isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            at = datetime.fromisoformat(value)
        else:
            return _unix_seconds(number)
    elif isinstance(value, int | float) and 0 < value < _LATEST_SECONDS:
        return float(value)
    else:
        raise ValueError(f"time is {value!r}: write a timestamp, ISO 8601, or Unix seconds")
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
