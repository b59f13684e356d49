"""Bounds and paces of a harvest process that are not part of the signal.

One place, so that tests can be quick and a reader can see every limit at once.
"""

from __future__ import annotations

import random as chance
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic, time_ns
from typing import Final

from signalcanary_workloads.harvest.feed import FeedSettings, Group
from signalcanary_workloads.harvest.rest import RestSettings
from signalcanary_workloads.housekeeping import UPKEEP_SECONDS
from signalcanary_workloads.store import GRACE_SECONDS

SILENT_AFTER_SECONDS: Final = {Group.BOOK: 60.0, Group.TRADES: 300.0}


@dataclass(frozen=True)
class Settings:
    """All of them; the defaults are for production."""

    queue_frames: int = 20_000
    commit_bytes: int = 64 << 20
    """Uncommitted rows of a symbol that start a commit before its interval is over."""
    stop_reading_bytes: int = 256 << 20
    """Uncommitted rows of all symbols together that stop the reading until a commit succeeds.
    With what Parquet takes to be written it fits a pod of 1 GiB."""
    open_first_delay_seconds: float = 1.0
    open_max_delay_seconds: float = 60.0
    """Bounds of the pause between tries to open the storage at the start."""
    commit_retry_seconds: float = 2.0
    last_commit_seconds: float = 20.0
    """How long the last commit is tried after a signal to stop; Kubernetes kills after 30 s."""
    upkeep_seconds: float = UPKEEP_SECONDS
    upkeep_grace_seconds: float = GRACE_SECONDS
    batch_frames: int = 500
    """Frames processed before other tasks get their turn."""
    feed: FeedSettings = field(default_factory=FeedSettings)
    rest: RestSettings = field(default_factory=RestSettings)
    random: Callable[[], float] = chance.random
    wall_ns: Callable[[], int] = time_ns
    monotonic: Callable[[], float] = monotonic
    """Seconds; durations are measured with it, as the wall clock may be set."""
    tick_seconds: float = 1.0
    """How often silence, clocks and liveness are looked at."""
    silent_after_seconds: Mapping[Group, float] = field(
        default_factory=lambda: dict(SILENT_AFTER_SECONDS)
    )
    """Without a frame for this long a stream is reported, and a connection of which all are
    silent made anew. A small perpetual's best quote moves many times a minute; minutes without
    a trade are common there."""
