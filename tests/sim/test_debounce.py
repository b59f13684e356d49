"""A value without evidence beside it, where the spec asks for neither `for` nor `consecutive`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcanary.evaluate import Bound, Verdict
from signalcanary.rollout import Phase

Start = Callable[..., Any]

ECE = "platt_ece"
FINE, BEYOND = 0.05, 0.3
NO_BOUNDS: dict[str, tuple[Bound, ...]] = {ECE: ()}
SURE = (Bound(0.0005, 0.2, 0.4, 0.2, 0.4),)
OPEN = (Bound(0.0005, 0.02, 0.4, 0.02, 0.4),)
MINUTE = timedelta(minutes=1)


def bare(progressing: Start, every: timedelta = 10 * timedelta(seconds=1), **written: Any) -> Any:
    """A canary in its first stage, judged by an exporter that gives no bounds."""
    condition = {"metric": ECE, "above": 0.1} | written
    seconds = int(every.total_seconds())
    sim = progressing(
        rollback={"conditions": [condition]},
        evaluation={"interval": f"{seconds}s", "staleAfter": f"{3 * seconds}s"},
        stages=[{"name": "s", "duration": "9h"}],
    )
    sim.world.bounds = dict(NO_BOUNDS)
    return sim


def look(sim: Any, value: float | None) -> Any:
    sim.world.values = {} if value is None else {ECE: value}
    sim.now += sim.spec.evaluation.interval
    return sim.look()


def looks_until_taken_back(sim: Any) -> int:
    looks = 0
    while sim.phase is Phase.PROGRESSING:
        look(sim, BEYOND)
        looks += 1
    return looks


def test_one_noisy_value_takes_nothing_back(progressing: Start) -> None:
    sim = bare(progressing)
    for _ in range(20):
        look(sim, BEYOND)
        look(sim, FINE)
    assert (sim.phase, sim.story) == (Phase.PROGRESSING, [])


@pytest.mark.parametrize(
    ("every", "looks"),
    [(10, 13), (60, 3), (300, 3)],
    ids=["2 min of looks", "three checks of 60 s", "three looks, where they are far apart"],
)
def test_a_breach_must_hold_for_two_minutes_and_be_seen_three_times(
    progressing: Start, every: int, looks: int
) -> None:
    sim = bare(progressing, timedelta(seconds=every))
    assert looks_until_taken_back(sim) == looks


@pytest.mark.parametrize(
    ("written", "looks"),
    [
        ({"mode": "literal"}, 1),
        ({"for": "30s"}, 4),
        ({"consecutive": 2}, 2),
        ({"mode": "literal", "consecutive": 2}, 2),
    ],
    ids=lambda case: str(case),
)
def test_what_is_written_is_done(progressing: Start, written: Any, looks: int) -> None:
    assert looks_until_taken_back(bare(progressing, **written)) == looks


def test_with_evidence_one_look_is_enough(progressing: Start) -> None:
    sim = bare(progressing)
    sim.world.bounds = {ECE: SURE}
    assert looks_until_taken_back(sim) == 1


def test_evidence_that_comes_late_decides_at_once_either_way(progressing: Start) -> None:
    sim = bare(progressing)
    look(sim, BEYOND)
    assert len(sim.state.timers) == len(sim.state.streaks) == 1
    sim.world.bounds = {ECE: OPEN}
    look(sim, BEYOND)
    assert (sim.state.timers, sim.state.streaks) == ({}, {})
    sim.world.bounds = dict(NO_BOUNDS)
    look(sim, BEYOND)
    sim.world.bounds = {ECE: SURE}
    look(sim, BEYOND)
    assert sim.phase is Phase.ROLLING_BACK


def test_a_rollbacks_delay_comes_on_top(progressing: Start) -> None:
    condition = {"metric": ECE, "above": 0.1}
    sim = bare(progressing)
    sim.edit(rollback={"conditions": [condition], "delay": "30s"})
    assert looks_until_taken_back(sim) == 13 + 3


def test_it_is_said_while_it_waits_and_when_it_is_over(progressing: Start) -> None:
    sim = bare(progressing, MINUTE)
    look(sim, BEYOND)
    (shown,) = sim.status["symbols"][0]["conditions"]
    assert (shown["condition"], shown["allowedFor"], shown["consecutive"]) == (
        "platt_ece > 0.1",
        "2m",
        3,
    )
    assert shown["message"] == (
        "platt_ece on BTCUSDT is 0.3 (> 0.1); judged literally, as no bounds come with it, it must "
        "hold for 2m and at 3 evaluations in a row"
    )
    assert sim.status["summary"] == [
        "BTCUSDT: platt_ece 0.3, rolls back if > 0.1 for 2m and at 3 evaluations in a row: "
        "Breached for 0s, evaluation 1 of 3, 5000 samples"
    ]
    assert sim.status["next"] == (
        f"rolls back in 2m, at about {sim.now + 2 * MINUTE:%H:%M:%S} UTC, unless platt_ece > 0.1 "
        "ends"
    )
    looks_until_taken_back(sim)
    assert sim.state.message == (
        "rolling back v1: platt_ece > 0.1 on BTCUSDT: it is 0.3, judged literally, as no bounds "
        "come with it, 5000 rows, breached for 2m and at 3 evaluations in a row; a value of at "
        "most 0.1 at one look of these 2m would have kept it; stable v0 keeps running"
    )


def test_what_cannot_be_judged_is_not_said_to_lack_evidence(progressing: Start) -> None:
    sim = bare(progressing)
    decision = look(sim, None)
    assert decision.judgements[0].verdict is Verdict.INCONCLUSIVE
    (shown,) = sim.status["symbols"][0]["conditions"]
    assert (shown["allowedFor"], shown.get("consecutive")) == ("0s", None)


def test_no_value_that_can_have_no_bounds_is_judged_by_one_look(progressing: Start) -> None:
    """A share of trades, whose bounds are not made: the spec says nothing of how long."""
    sim = bare(progressing, MINUTE, metric="cvd_z_tail_p2", above=10)
    for looks in range(3):
        assert sim.phase is Phase.PROGRESSING, looks
        sim.world.values = {"cvd_z_tail_p2": 38.63}
        sim.now += MINUTE
        sim.look()
    assert sim.phase is Phase.ROLLING_BACK


@given(st.lists(st.sampled_from([BEYOND, BEYOND, BEYOND, FINE, None]), max_size=10))
def test_only_three_breaches_with_nothing_good_between_take_it_back(
    progressing: Start, values: list[float | None]
) -> None:
    sim = bare(progressing, 2 * MINUTE)
    seen = 0
    for value in values:
        look(sim, value)
        if value is not None:
            seen = seen + 1 if value == BEYOND else 0
        assert (sim.phase is Phase.ROLLING_BACK) == (seen == 3)
        if seen == 3:
            return
