"""The example of the volume delta's tails on the real cluster, its times scaled down.

Warnings are told; what was promoted soaks; the trades grow fat tails; after three evaluations and a
delay the ladder is climbed: the revision before does no better, so nothing serves.
"""

from __future__ import annotations

from typing import Any

import pytest
from cluster_kit import Exchange, Kubectl, Rollout, eventually, instant
from scene import INTERVAL, MARKET_OPENS, example

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(420)]

# Of which some 3 % of the scores are beyond 2, and 1 % beyond 3, where it is told.
LEAN, FAT = 0.9, 1.7


@pytest.fixture(scope="module")
def rollout(namespace: Kubectl, operator: Kubectl) -> Rollout:
    return Rollout(namespace, "cvd-tails")


@pytest.fixture(scope="module")
def exchange(namespace: Kubectl) -> Exchange:
    exchange = Exchange(namespace)
    exchange.start(MARKET_OPENS, f"--trade-size-sigma={LEAN}")
    return exchange


def phases(status: Any) -> list[str]:
    return [t["phase"] for t in reversed(status["history"])]


def test_lean_tails_are_promoted_soak_and_are_told_of(rollout: Rollout, exchange: Exchange) -> None:
    before = example(rollout.kubectl, "cvd-tails", "v12.0")
    before["signal"]["cvd"]["madMultiplier"] = 2.0
    rollout.apply(before)
    rollout.kubectl(
        "wait", "--for=condition=Promoted", "--timeout=150s", "sigc/cvd-tails", timeout=160
    )
    status = rollout.wait_for_phase("Succeeded")
    assert phases(status) == [
        *("Pending", "Warming", "Progressing", "Promoting", "Soaking", "Succeeded")
    ]


def test_fat_tails_climb_the_ladder_to_nothing(rollout: Rollout, exchange: Exchange) -> None:
    wanted = example(rollout.kubectl, "cvd-tails")
    wanted["soak"] = "10m"  # for as long as the test needs it
    rollout.apply(wanted)
    soaking = rollout.wait_for_phase("Soaking")
    assert soaking["stable"]["version"] == "v13.0-a1-optimized"
    exchange.impose(type="trade_sizes", sigma=FAT)
    began: list[str] = []

    def look() -> Any:
        status = rollout.status()
        timers = [t for t in status.get("timers", ()) if t["key"].startswith("cvd_z_tail")]
        if status["phase"] == "Soaking":
            began[:] = [t["clock"]["startedAt"] for t in timers]
        return status if status["phase"] == "RolledBack" else None

    status = eventually("rolled back", look, timeout=150, explain=rollout.describe)
    rollout.kubectl("wait", "--for=condition=RolledBack", "--timeout=5s", "sigc/cvd-tails")
    print(rollout.describe())
    climbed = [t for t in reversed(status["history"]) if t["phase"] == "RollingBack"][-2:]
    assert [t["reason"] for t in climbed] == ["ConditionBreached", "RollbackNotVerified"]
    first, then = climbed
    assert "at 3 evaluations in a row on " in first["message"]
    assert "rung before of the ladder: v12.0" in first["message"]
    assert "rung nothing of the ladder: nothing serves" in then["message"]
    # Three evaluations, each half an interval after the last at least, and then the delay.
    took = instant(first["time"]) - min(map(instant, began))
    print(f"taken back {took.total_seconds():.1f} s after the breach was first seen")
    assert took >= 2 * INTERVAL
    assert "stable" not in status
    eventually("no pod serves", lambda: not rollout.pods())
    told = {
        e["reason"]
        for e in rollout.kubectl.json("get", "events")["items"]
        if e["involvedObject"]["kind"] == "SignalCanary"
    }
    assert {"TierWarning", "Promoted", "RollbackNotVerified"} <= told
