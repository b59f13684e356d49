"""The figures and bounds of many looks at one history at once, for simulations.

A simulated history is looked at thousands of times, and a thousand histories are needed to see
an error rate of one in a hundred. Here the looks share their work: windows are differences of
running sums, and an AUC is that of sorted ranks. What comes out is what `score` and `anytime`
give look by look, but for rounding (tests/unit/analysis/test_along.py). Rows are one a second,
and none is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anytime import BIN, BRIER, LARGE, SLOPE, prior_variance
from .confidence import FAR_BLOCKS, LEVELS, PRIOR_BLOCKS, Bounds, pair_terms
from .critical import (
    SIGNED_SHARES,
    SMALLEST_WINDOW,
    block_length_ms,
    critical_values,
    moving_windows,
    span_blocks,
)
from .rows import Bools, Floats, Ints
from .score import ECE_BINS

_SORTED_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Windows:
    """The rows that each look has: from `start` up to, not including, `end`; shape (looks,)."""

    start: Ints
    end: Ints


def auc_along(score: Floats, up: Bools, windows: Windows) -> Floats:
    """`score.area_under_curve` of each window; NaN with one class."""
    _, rank = np.unique(score, return_inverse=True)
    rank = rank.astype(np.int32)
    # Ties count half: once with the falls of a rank before its rises, once after.
    first = _auc_of_ranks(rank * 2 + up, windows)
    if int(rank.max()) + 1 == rank.size:
        return first
    return (first + _auc_of_ranks(rank * 2 + ~up, windows, is_up_even=True)) / 2.0


def _auc_of_ranks(key: Ints, windows: Windows, is_up_even: bool = False) -> Floats:
    """The AUC with the label as the last bit of each rank."""
    auc = np.full(windows.end.size, np.nan)
    sizes = windows.end - windows.start
    for size in np.unique(sizes):
        if size == 0:
            continue
        views = np.lib.stride_tricks.sliding_window_view(key, int(size))
        chosen = np.flatnonzero(sizes == size)
        places = np.arange(int(size), dtype=np.float64)
        for begin in range(0, chosen.size, _SORTED_AT_ONCE):
            looks = chosen[begin : begin + _SORTED_AT_ONCE]
            is_up = (np.sort(views[windows.start[looks]], axis=1) & 1) != is_up_even
            n_up = is_up.sum(axis=1).astype(np.float64)
            pairs = n_up * (size - n_up)
            below = is_up @ places - n_up * (n_up - 1.0) / 2.0
            with np.errstate(invalid="ignore", divide="ignore"):
                auc[looks] = np.where(pairs > 0, below / pairs, np.nan)
    return auc


def calibration_error_along(p: Floats, up: Bools, windows: Windows) -> Floats:
    """`score.expected_calibration_error` of each window."""
    bins = np.searchsorted(np.arange(1, ECE_BINS) / ECE_BINS, p, side="right")
    gaps = np.zeros((p.size + 1, ECE_BINS))
    gaps[np.arange(1, p.size + 1), bins] = up - p
    np.cumsum(gaps, axis=0, out=gaps)
    sums = np.abs(gaps[windows.end] - gaps[windows.start]).sum(axis=1)
    return np.asarray(sums / np.maximum(windows.end - windows.start, 1))


def brier_along(p: Floats, up: Bools, windows: Windows) -> Floats:
    """`score.brier_score` of each window."""
    loss = np.concatenate(([0.0], np.cumsum((p - up) ** 2)))
    size = np.maximum(windows.end - windows.start, 1)
    return np.asarray((loss[windows.end] - loss[windows.start]) / size)


def bounds_along(
    ts_ms: Ints, values: Floats, known: Ints, horizon_ms: int, auc_column: int
) -> dict[str, Bounds]:
    """`AnytimeEvidence.bounds` of the AUC of one slice, the calibration error and the Brier score
    at each look; arrays of shape (levels, looks), ∓inf where nothing can be said.

    Args:
        values: as `anytime.judge_rows` gives them, of rows that all belong to the slice.
        known: rows known at each look, at least one.
        auc_column: of `values`.
    """
    block_ms = block_length_ms(horizon_ms)
    ids = ts_ms // block_ms
    starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    counts = np.diff(starts, append=ids.size).astype(np.float64)
    sums = np.add.reduceat(values, starts, axis=0)
    # All but the newest block are whole, and what is older than the span is forgotten.
    whole = np.searchsorted(starts, known - 1, side="right") - 1
    oldest = np.searchsorted(ids[starts], ids[starts][whole] - span_blocks(block_ms))
    prior = prior_variance(horizon_ms)
    levels = np.array(LEVELS)

    def of(column: int, at: Floats) -> Bounds:
        return _bounds_of(
            _Blocks(counts, sums[:, column], oldest, whole, span_blocks(block_ms)),
            float(prior[column]),
            at,
        )

    large, slope = of(LARGE, levels / SIGNED_SHARES), of(SLOPE, levels / SIGNED_SHARES)
    running = np.concatenate((np.zeros((1, ECE_BINS)), np.cumsum(sums[:, BIN:], axis=0)))
    rows = np.concatenate(([0.0], np.cumsum(counts)))
    size = np.maximum(rows[whole] - rows[oldest], 1.0)
    binned = np.abs(running[whole] - running[oldest]).sum(axis=1) / size
    return {
        "auc": of(auc_column, levels),
        "platt_brier": of(BRIER, levels),
        "platt_ece": _error_bounds(large, slope, binned),
    }


def _error_bounds(large: Bounds, slope: Bounds, binned: Floats) -> Bounds:
    """Of the calibration error, from its two functionals and the binned estimate."""

    def least(lower: tuple[Floats, Floats], upper: tuple[Floats, Floats]) -> Floats:
        return np.maximum(0.0, np.maximum(np.maximum(*lower), -np.minimum(*upper)))

    now = least((large.lower, slope.lower), (large.upper, slope.upper))
    whole = least((large.whole_lower, slope.whole_lower), (large.whole_upper, slope.whole_upper))
    width = np.maximum(large.whole_upper - large.whole_lower, slope.whole_upper - slope.whole_lower)
    most = binned + width / 2.0
    is_known = np.isfinite(large.whole_lower)
    return Bounds(
        np.where(is_known, now, -np.inf),
        np.where(is_known, most, np.inf),
        np.where(is_known, whole, -np.inf),
        np.where(is_known, most, np.inf),
    )


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Block sums of one series, and which of them each look has."""

    n: Floats
    total: Floats
    start: Ints
    end: Ints
    span: int


def _bounds_of(blocks: _Blocks, prior: float, levels: Floats) -> Bounds:
    """`MovingMeans.bounds` of one series at each look; shape (levels, looks)."""
    start, end = blocks.start, blocks.end
    n, total = (np.concatenate(([0.0], np.cumsum(x))) for x in (blocks.n, blocks.total))
    error = np.sqrt(_variance_along(blocks, prior))
    held = end - start
    shape = (levels.size, end.size)
    lower, upper = np.full(shape, -np.inf), np.full(shape, np.inf)
    whole_lower, whole_upper = lower.copy(), upper.copy()
    enough = held >= SMALLEST_WINDOW
    sizes = [s for s in moving_windows(blocks.span) if s < held.max(initial=0)]
    z = np.array([critical_values(blocks.span, len(sizes), float(level)) for level in levels])
    for i, size in enumerate([*sizes, None]):
        # A moving window is one of those shorter than all that is held.
        at = enough if size is None else enough & (held > size)
        first = start[at] if size is None else end[at] - size
        rows = n[end[at]] - n[first]
        mean, reach = (total[end[at]] - total[first]) / rows, error[at] / np.sqrt(rows)
        low, high = mean - z[:, i, None] * reach, mean + z[:, i, None] * reach
        lower[:, at] = np.maximum(lower[:, at], low)
        upper[:, at] = np.minimum(upper[:, at], high)
        if size is None:
            whole_lower[:, at], whole_upper[:, at] = low, high
    return Bounds(lower, upper, whole_lower, whole_upper)


def _variance_along(blocks: _Blocks, prior: float) -> Floats:
    """`confidence.long_run_variance` at each look."""
    start, end = blocks.start, blocks.end

    def squared_difference(lag: int) -> Floats:
        squares, rows = (
            np.concatenate((np.zeros(lag + 1), np.cumsum(terms)))
            for terms in pair_terms(blocks.n, blocks.total, lag)
        )
        first = np.minimum(start + lag, end)
        return np.asarray((squares[end] - squares[first]) / np.maximum(rows[end] - rows[first], 1))

    own, near = squared_difference(FAR_BLOCKS), squared_difference(1)
    pairs = np.maximum(end - start - FAR_BLOCKS, 0)
    seen = own + 2.0 * np.maximum(own - near, 0.0)
    return np.asarray((pairs * seen + PRIOR_BLOCKS * prior) / (pairs + PRIOR_BLOCKS))
