"""REST history is a bounded ring by id; virtual time is wall time, multiplied."""

import pytest

from signalcanary_workloads.exchange.clock import VirtualClock
from signalcanary_workloads.exchange.history import Ring


def ring_of(count: int, capacity: int = 100, first: int = 50) -> Ring:
    ring = Ring(capacity, 2)
    for number in range(count):
        ring.append(first + number, (number * 10, number))
    return ring


def ids(rows: list[tuple[int, ...]]) -> list[int]:
    return [row[0] for row in rows]


def test_an_empty_ring_serves_nothing() -> None:
    ring = Ring(5, 2)
    assert ring.select(10) == []
    assert ring.first_id is ring.last_id is None


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        pytest.param({}, [57, 58, 59], id="newest"),
        pytest.param({"from_id": 52}, [52, 53, 54], id="from an id"),
        pytest.param({"from_id": 0}, [50, 51, 52], id="from before the first"),
        pytest.param({"from_id": 58}, [58, 59], id="up to the last"),
        pytest.param({"from_id": 60}, [], id="after the last"),
        pytest.param({"start_ms": 35}, [54, 55, 56], id="from a time"),
        pytest.param({"start_ms": 20, "end_ms": 30}, [52, 53], id="between times"),
        pytest.param({"end_ms": 55}, [53, 54, 55], id="newest up to a time"),
        pytest.param({"from_id": 51, "end_ms": 20}, [51, 52], id="id and time"),
    ],
)
def test_rows_are_selected_as_the_exchange_selects_them(
    bounds: dict[str, int], expected: list[int]
) -> None:
    assert ids(ring_of(10).select(3, **bounds)) == expected


def test_the_oldest_rows_make_way() -> None:
    ring = ring_of(250)
    assert (ring.first_id, ring.last_id) == (200, 299)
    assert ring.select(1, from_id=0) == [(200, 1500, 150)]


def test_a_hole_in_the_ids_forgets_what_was_before() -> None:
    ring = ring_of(3)
    ring.append(90, (0, 0))
    assert ids(ring.select(10)) == [90]


class Wall:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_event_time_runs_faster_than_the_wall() -> None:
    wall = Wall()
    clock = VirtualClock(5_000, 120, wall)
    wall.now += 0.5
    assert clock.now_ms() == 65_000


def test_event_time_waits_for_a_delivery_that_is_far_behind() -> None:
    wall = Wall()
    clock = VirtualClock(0, 10, wall)
    wall.now += 0.75
    assert not clock.hold_back_to(0)
    wall.now += 0.75
    assert clock.hold_back_to(4_000)
    assert clock.now_ms() == 4_000
    wall.now += 0.125
    assert clock.now_ms() == 5_250
