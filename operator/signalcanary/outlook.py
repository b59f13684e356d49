"""When a rollout would begin, pass its stages and be promoted at the earliest, for `lint`. Pure.

A window that is never open, or not when it is needed, breaks no rule of the schema and holds a
rollout up for ever: here it is said beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from signalcanary import waiting
from signalcanary.api import SignalCanarySpec, Stage
from signalcanary.contract import format_duration
from signalcanary.lifecycle import length_of_windows
from signalcanary.windows import shown


def describe(spec: SignalCanarySpec, now: datetime) -> list[str]:
    """The days to come, in lines; nothing where there is no schedule."""
    schedule = spec.schedule
    if schedule is None and not any(stage.schedule for stage in spec.stages):
        return []
    at = max(now, schedule.start_at) if schedule and schedule.start_at else now
    told = []
    for what, takes, stage in _steps(spec):
        at += takes
        opens = waiting.opens_at(spec, stage, at)
        if opens is None:
            windows = "its windows" if stage is None else f"its windows and stage {stage.name}'s"
            told.append(
                f"{what}: NEVER, as {windows} do not open at any one time after "
                f"{shown(at)}: widen them"
            )
            break
        waits = format_duration(timedelta(minutes=(opens - at) // timedelta(minutes=1)))
        told.append(
            f"{what}: {shown(opens)}"
            + (f", {waits} after it could" if opens > at and takes else "")
        )
        at = opens
    return [f"at the earliest, by the schedule: {line}" for line in told]


def _steps(spec: SignalCanarySpec) -> Iterator[tuple[str, timedelta, Stage | None]]:
    """What waits for a window: in words, how long it takes until then, and the stage it ends."""
    yield "starts", timedelta(0), None
    before, takes = None, length_of_windows(spec)
    for stage in spec.stages:
        yield f"begins stage {stage.name}", takes, before
        before, takes = stage, stage.duration
    yield "is promoted", takes, before
