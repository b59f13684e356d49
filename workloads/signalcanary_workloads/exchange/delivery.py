"""Frames in the order and at the event time they are due, faults applied. Pure.

A connection is a TCP stream: a delay never reorders. Frames that a delay holds back when it
ends are therefore not overtaken by later ones. Only the fault `reorder` breaks the order.
"""

from __future__ import annotations

import heapq
from random import Random

from signalcanary_workloads.exchange.faults import Effects, Target
from signalcanary_workloads.exchange.protocol import BOOK_KINDS, Frame


class Delivery:
    """A queue by due event time; the random source decides whom the faults hit."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._heap: list[tuple[float, int, Frame]] = []
        self._counter = 0
        self._last_due: dict[tuple[str, Target], float] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def offer(self, frame: Frame, due_ms: float, effects: Effects) -> None:
        """Queue a frame that leaves at `due_ms` if nothing is wrong."""
        kind = frame.kind
        if kind in effects.silent or self._hits(effects.drop, frame):
            return
        if self._hits(effects.malformed, frame):
            frame = frame._replace(data=frame.data[:-7], combined=frame.combined[:-7])
        target = Target.PUBLIC if kind in BOOK_KINDS else Target.MARKET
        key = (frame.symbol, target)
        due_ms += effects.delay_ms.get(target, 0.0)
        due_ms = max(due_ms, self._last_due.get(key, due_ms))
        self._last_due[key] = due_ms
        if effects.reorder is not None and self._hits(effects.reorder, frame):
            due_ms += self._random.uniform(0, effects.reorder.window_ms)
        self._push(due_ms, frame)
        if self._hits(effects.duplicate, frame):
            self._push(due_ms, frame)

    def take(self, until_ms: float) -> list[Frame]:
        """All frames that are due, in order."""
        due = []
        while self._heap and self._heap[0][0] <= until_ms:
            due.append(heapq.heappop(self._heap)[2])
        return due

    def _push(self, due_ms: float, frame: Frame) -> None:
        self._counter += 1
        heapq.heappush(self._heap, (due_ms, self._counter, frame))

    def _hits(self, fault: object, frame: Frame) -> bool:
        if fault is None:
            return False
        streams = getattr(fault, "streams", ())
        probability: float = getattr(fault, "probability", 0.0)
        return frame.kind in streams and self._random.random() < probability
