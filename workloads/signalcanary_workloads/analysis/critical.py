"""How many standard errors a bound is away from the mean, and how much a row tells.

The arithmetic of `confidence`, which says what it means, without the rows: what can be known of a
policy before any row came. Standard library alone, so that a linter may ask.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

SPAN_MS: Final = 48 * 3_600_000
"""The time over which a level is kept; older blocks are forgotten."""
SMALLEST_WINDOW: Final = 16
"""Fewer blocks could prove no change that a market is capable of, and would cost level."""
WINDOW_RATIO: Final = math.sqrt(2.0)
"""Of the length of a moving window to that of the next shorter one. What has changed is proven by
the window that holds all of the change and little else, so a coarser grid finds it later."""
LONG_WINDOW: Final = 128
"""Blocks beyond which a window has the less of the level the longer it is. A signal that turns
around takes about so many to prove; to what takes hours, a little more does not matter."""
OVERLAP: Final = 0.5
OVERLAPPING_LEVEL: Final = 0.01
"""Windows share rows, so they fail together, and the sum of their chances is more than the chance
of any: at levels from `OVERLAPPING_LEVEL` on by half and more, at smaller ones by ever less.
Measured on independent blocks with their variance estimated as rows' is, for spans of 96 to 8,640
blocks; test_confidence.py measures it again."""
SIGNED_SHARES: Final = 2.0
"""The functionals of the calibration error share the level. Their sides need not: what is as much
as x too high is no less than x too low but by chance far smaller than the level."""
AUC_ROW_VARIANCE: Final = 1.0 / 3.0
"""Of what a row says of an AUC: twice something that is uniform."""
RESIDUAL_ROW_VARIANCE: Final = 1.0 / 4.0
BRIER_ROW_VARIANCE: Final = 1.0 / 180.0
_BLOCKS_OF_HORIZON: Final = 2
_SHORTEST_BLOCK_MS: Final = 10_000
_NORMAL: Final = NormalDist()


def block_length_ms(horizon_ms: int) -> int:
    """The length of the blocks that rows with such labels are summed over."""
    return max(_SHORTEST_BLOCK_MS, _BLOCKS_OF_HORIZON * horizon_ms)


def rows_worth_one(horizon_ms: int) -> float:
    """Rows that are worth one independent row: labels of one horizon overlap. 0.4·h + 1 was seen
    for scores of an autocorrelation of 0.8 to 0.97 a second."""
    return 0.4 * horizon_ms / 1_000 + 1.0


@lru_cache(maxsize=1_024)
def critical_value(lengths: float, level: float) -> float:
    """z that a standardised process exceeds with chance `level`: the root of
    lengths·z·φ(z) + Φ(−z) = level.

    Args:
        lengths: how many window lengths the process runs for.
    """
    low, high = 1.0, 40.0  # below 1 the rate falls with z
    for _ in range(60):
        z = (low + high) / 2
        chance = lengths * z * _NORMAL.pdf(z) + _NORMAL.cdf(-z)
        low, high = (z, high) if chance > level else (low, z)
    return high


def span_blocks(block_ms: int) -> int:
    """Blocks that are remembered."""
    return max(SMALLEST_WINDOW + 1, SPAN_MS // block_ms)


def moving_windows(blocks: int) -> list[int]:
    """16, 23, 32, 45, 64, … blocks, short of all that there are."""
    sizes: list[int] = []
    while (window := round(SMALLEST_WINDOW * WINDOW_RATIO ** len(sizes))) < blocks:
        sizes.append(window)
    return sizes


def union_level(level: float) -> float:
    """What the windows' own chances may add up to, so that any of them fails with `level`."""
    return level * (1.0 + OVERLAP * min(1.0, level / OVERLAPPING_LEVEL))


@lru_cache(maxsize=256)
def critical_values(span: int, moving: int, level: float) -> tuple[float, ...]:
    """z of the first so many moving windows, and of the whole, over a span of blocks."""
    every = moving_windows(span)
    weights = [min(1.0, math.sqrt(LONG_WINDOW / size)) for size in every]
    half = union_level(level) / 2
    z = [
        critical_value(span / size, half * weight / sum(weights))
        for size, weight in zip(every[:moving], weights, strict=False)
    ]
    return (*z, critical_value(math.log(span / SMALLEST_WINDOW) / 2, half))
