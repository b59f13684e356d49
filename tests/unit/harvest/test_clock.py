from __future__ import annotations

import pytest

from signalcanary_workloads.harvest.clock import ClockWatch, OffsetEstimate

SECOND = 1_000_000_000


def test_a_jump_of_the_wall_clock_is_noticed_both_ways_and_slewing_is_not() -> None:
    watch = ClockWatch()
    assert watch.look(1_000 * SECOND, 5.0) is None
    assert watch.look(1_001 * SECOND + SECOND // 2, 6.0) is None, "half a second of drift"
    assert watch.look(1_005 * SECOND, 7.0) == pytest.approx(2.5)
    assert watch.look(1_006 * SECOND, 8.0) is None
    assert watch.look(1_000 * SECOND, 9.0) == pytest.approx(-7.0)
    assert watch.steps == 2


def test_the_offset_is_the_minimum_of_its_window_and_may_be_negative() -> None:
    offset = OffsetEstimate()
    offset.look(0.0)
    assert offset.seconds is None
    offset.least_ns = min(offset.least_ns, -1_200_000_000)
    assert offset.seconds == -1.2
    offset.look(151.0)
    offset.least_ns = min(offset.least_ns, 30_000_000)
    assert offset.seconds == -1.2, "the window holds it still"
    offset.look(302.0)
    assert offset.seconds == 0.03
    offset.forget()
    assert offset.seconds is None
