"""Dear work takes no more than its share of the time."""

from __future__ import annotations

import pytest

from signalcanary_workloads.analysis.pace import Pace


@pytest.mark.parametrize("share", [0.1, 0.025])
def test_the_share_is_kept_however_long_the_work_takes(share):
    now = spent = 0.0
    pace = Pace(lambda: now, share)

    def work():
        nonlocal now, spent
        now += 0.3 + now / 1_000  # it grows
        spent += 0.3 + now / 1_000
        return now

    for _ in range(20_000):
        now += 0.05
        pace.run_if_due(work)
    assert 0.8 * share < spent / now <= share * 1.1


def test_it_is_done_at_once_and_then_not_until_it_is_due():
    now = 0.0
    pace = Pace(lambda: now, 0.1)

    def work():
        nonlocal now
        now += 1.0
        return "done"

    assert pace.run_if_due(work) == "done"
    now = 9.9
    assert pace.run_if_due(work) is None
    now = 10.0
    assert pace.run_if_due(work) == "done"
