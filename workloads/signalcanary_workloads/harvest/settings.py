"""Bounds and paces of a harvest process that are not part of the signal.

One place, so that tests can be quick and a reader can see every limit at once.
"""

from __future__ import annotations

import random as chance
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time_ns

from signalcanary_workloads.harvest.feed import FeedSettings
from signalcanary_workloads.harvest.rest import RestSettings


@dataclass(frozen=True)
class Settings:
    """All of them; the defaults are for production."""

    queue_frames: int = 20_000
    commit_bytes: int = 64 << 20
    """Uncommitted rows of a symbol that start a commit before its interval is over."""
    stop_reading_bytes: int = 256 << 20
    """Uncommitted rows of a symbol that stop the reading until a commit succeeds."""
    commit_attempts: int = 6
    commit_retry_seconds: float = 2.0
    batch_frames: int = 500
    """Frames processed before other tasks get their turn."""
    feed: FeedSettings = field(default_factory=FeedSettings)
    rest: RestSettings = field(default_factory=RestSettings)
    random: Callable[[], float] = chance.random
    wall_ns: Callable[[], int] = time_ns
