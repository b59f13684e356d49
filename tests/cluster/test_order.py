"""The examples of schedules and groups on the real cluster, their times scaled down.

A rollout waits for its window, and starts when it opens; the second waits for the first; a basket
is promoted together, and taken back together.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cluster_kit import Exchange, Kubectl, Rollout, eventually, instant
from scene import INTERVAL, example

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(420)]

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def session(namespace: Kubectl, operator: Kubectl) -> Rollout:
    return Rollout(namespace, "in-session")


@pytest.fixture(scope="module")
def basket(namespace: Kubectl, operator: Kubectl) -> tuple[Rollout, Rollout]:
    return Rollout(namespace, "together-btc"), Rollout(namespace, "together-alts")


@pytest.fixture(scope="module")
def turns(namespace: Kubectl, operator: Kubectl) -> tuple[Rollout, Rollout]:
    return Rollout(namespace, "in-turn-majors"), Rollout(namespace, "in-turn-alts")


def apply_both(
    rollouts: tuple[Rollout, Rollout], names: tuple[str, str], version: str | None = None
) -> None:
    for rollout, name in zip(rollouts, names, strict=True):
        rollout.apply(example(rollout.kubectl, name, version))


def waits(status: Any) -> tuple[str, str]:
    found = next(c for c in status["conditions"] if c["type"] == "Waiting")
    return found["reason"], found["message"]


def time_of(status: Any, reason: str) -> datetime:
    return next(instant(t["time"]) for t in status["history"] if t["reason"] == reason)


def abort(rollout: Rollout) -> None:
    value = f"signalcanary.dev/abort={rollout.status()['subject']} wrong weights"
    rollout.kubectl("annotate", "--overwrite", f"signalcanary/{rollout.name}", value)


# --------------------------------------------------------------------------- a schedule


def test_a_rollout_waits_for_its_window_and_then_starts(
    session: Rollout, exchange: Exchange
) -> None:
    wanted = example(session.kubectl, "in-session")
    now = datetime.now(UTC).replace(microsecond=0)
    start, opens = now + 5 * SECOND, now + 20 * SECOND
    window = {"start": opens.isoformat(), "end": (now + timedelta(hours=1)).isoformat()}
    # The hours of the example would be those of another day.
    wanted["schedule"] |= {"startAt": start.isoformat(), "allowed": [window], "blackouts": []}
    del wanted["stages"][-1]["schedule"]
    session.apply(wanted)
    waiting = session.wait_for_phase("Waiting")
    assert waits(waiting)[0] == "BeforeStartAt"
    told = eventually(
        "it is past startAt, and outside the window",
        lambda: (
            (s := session.status())["phase"] == "Waiting"
            and waits(s)[0] == "OutsideAllowedHours"
            and s
        ),
        timeout=15,
        explain=session.describe,
    )
    assert f"at {opens:%a %Y-%m-%d %H:%M}" in told["next"]
    assert session.pods() == []
    status = session.wait_for_phase("Succeeded")
    late = time_of(status, "RolloutStarted") - opens
    print(f"begun {late.total_seconds():.1f} s after its window opened")
    assert timedelta(0) <= late <= 2 * INTERVAL
    assert status["stable"]["version"] == "v2.1"
    session.delete()


# --------------------------------------------------------------------------- groups


BASKET = ("together/btc", "together/alts")


def test_a_basket_is_promoted_together(basket: tuple[Rollout, Rollout], exchange: Exchange) -> None:
    apply_both(basket, BASKET)
    ends = [one.wait_for_phase("Succeeded", timeout=200) for one in basket]
    promoted = [time_of(status, "Promoted") for status in ends]
    print(f"promoted {(max(promoted) - min(promoted)).total_seconds():.1f} s apart")
    # How far apart is the second one's matter: what it was ready by may have changed by then.
    assert min(promoted) >= max(time_of(status, "StagesPassed") for status in ends)


def test_a_basket_is_taken_back_together(
    basket: tuple[Rollout, Rollout], exchange: Exchange
) -> None:
    apply_both(basket, BASKET, "v3.1")
    btc, alts = basket
    for one in basket:
        one.wait_for_phase("Warming", "Progressing", "Promoting")
    abort(alts)
    assert alts.wait_for_phase("RolledBack")["reason"] == "Aborted"
    status = btc.wait_for_phase("RolledBack")
    assert status["reason"] == "GroupRolledBack"
    assert "together-alts of group basket was rolled back" in status["message"]
    assert [one.status()["stable"]["version"] for one in basket] == ["v3.0", "v3.0"]
    for one in basket:
        one.delete()


TURNS = ("in-turn/majors", "in-turn/alts")


def test_the_second_begins_when_the_first_has_succeeded(
    turns: tuple[Rollout, Rollout], exchange: Exchange
) -> None:
    majors, alts = turns
    apply_both(turns, TURNS)
    reason, message = waits(alts.wait_for_phase("Waiting"))
    assert reason == "AfterOthers"
    assert message.startswith("it comes after in-turn-majors, which is ")
    majors.wait_for_phase("Warming", "Progressing")
    assert alts.pods() == []
    done = time_of(majors.wait_for_phase("Succeeded"), "Promoted")
    status = alts.wait_for_phase("Succeeded")
    began = time_of(status, "RolloutStarted") - done
    print(f"begun {began.total_seconds():.1f} s after the other was promoted")
    assert timedelta(0) <= began <= 3 * INTERVAL


def test_the_second_waits_on_where_the_first_is_taken_back(
    turns: tuple[Rollout, Rollout], exchange: Exchange
) -> None:
    majors, alts = turns
    apply_both(turns, TURNS, "v1.5")
    alts.wait_for_phase("Waiting")
    majors.wait_for_phase("Warming", "Progressing", "Promoting")
    abort(majors)
    majors.wait_for_phase("RolledBack")

    def is_told() -> bool:
        told = "it comes after in-turn-majors, which is RolledBack, not Succeeded"
        return waits(alts.status()) == ("AfterOthers", told)

    eventually("it waits on", is_told, timeout=10, explain=alts.describe)
    status = alts.status()
    assert (status["phase"], status["stable"]["version"]) == ("Waiting", "v1.4")
    assert alts.pods(track="canary") == []
