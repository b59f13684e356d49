"""The values of late, of which a status has only the last. Pure.

Only what is drawn is kept, and when there is much of it every second point is dropped: the whole
time is shown, the older the page the coarser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

Point = tuple[float, float | None, float | None, float | None, float | None, float | None]
"""Unix time (s); the value; at least and at most by the rows of late; the same by all rows."""

Key = tuple[str, str]
"""A condition's key and a symbol."""

MOST_POINTS: Final = 240
"""Of one curve; it is drawn a few hundred pixels wide."""


class Curves:
    """The curves of one rollout, from what its status has said while somebody looked."""

    def __init__(self) -> None:
        self._points: dict[Key, list[Point]] = {}
        self._attempt = ""

    def take(self, status: Mapping[str, Any]) -> None:
        """Take in a status; another attempt begins anew."""
        attempt = str(status.get("subject", "")).partition("/")[0]
        if attempt != self._attempt:
            self._points, self._attempt = {}, attempt
        if not status.get("lastEvaluationTime"):
            return
        at = datetime.fromisoformat(status["lastEvaluationTime"]).timestamp()
        for one in status.get("symbols", ()):
            for row in one.get("conditions", ()):
                points = self._points.setdefault((row["key"], one["symbol"]), [])
                if not points or points[-1][0] < at:
                    points.append(_point(at, row))
                if len(points) > MOST_POINTS:
                    del points[-2::-2]

    def keys(self) -> Iterable[Key]:
        return self._points.keys()

    def of(self, key: Key) -> Sequence[Point]:
        """Oldest first."""
        return self._points.get(key, ())


def _point(at: float, row: Mapping[str, Any]) -> Point:
    evidence = row.get("evidence") or {}
    return (
        at,
        row.get("value"),
        evidence.get("atLeast"),
        evidence.get("atMost"),
        evidence.get("wholeAtLeast"),
        evidence.get("wholeAtMost"),
    )


def join(past: Iterable[Point], seen: Iterable[Point]) -> list[Point]:
    """What was before, and what was seen after it."""
    joined = list(past)
    last = joined[-1][0] if joined else float("-inf")
    return joined + [point for point in seen if point[0] > last]
