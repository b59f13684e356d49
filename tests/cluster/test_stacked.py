"""The example with models on the real cluster, its times scaled down: the whole of its life.

Models are verified, shadowed, approved, promoted and watched. The next ones are too, but then the
feed breaks off again and again: the LSTM has no window, stacking no LSTM. Stacking is switched
off, which does not help the LSTM; nor do the models before, which have one as well; without models
the signal goes on.
"""

from __future__ import annotations

from typing import Any

import pytest
from cluster_kit import Exchange, Kubectl, Rollout, eventually
from models_kit import make_files, stacked, upload
from scene import MARKET_OPENS

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(420)]

EVERY = 60.0
"""Event time between two breaks, half a second of the wall's."""


@pytest.fixture(scope="module")
def rollout(
    namespace: Kubectl, operator: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Rollout:
    upload(namespace, make_files(), tmp_path_factory.mktemp("models"))
    return Rollout(namespace, "stacked")


@pytest.fixture(scope="module")
def exchange(namespace: Kubectl) -> Exchange:
    exchange = Exchange(namespace)
    exchange.start(MARKET_OPENS)
    return exchange


def test_stacked_models_are_verified_shadowed_approved_and_watched(
    rollout: Rollout, exchange: Exchange
) -> None:
    rollout.apply(stacked(rollout.kubectl))
    rollout.approve("shadow")
    status = rollout.wait_for_phase("Succeeded")
    assert [t["reason"] for t in reversed(status["history"])][-7:] == [
        "RolloutStarted",
        "ArtifactsVerified",
        "CanaryRunning",
        "StageStarted",
        "StagesPassed",
        "Promoted",
        "Soaked",
    ]
    shown = {c["type"]: c for c in status["conditions"]}
    assert shown["ApprovalNeeded"]["status"] == "False"
    print(rollout.describe())


def test_a_feed_that_breaks_off_walks_the_whole_ladder(
    rollout: Rollout, exchange: Exchange
) -> None:
    again = stacked(rollout.kubectl, "v3.1-stacking")
    again["soak"] = "10m"  # for as long as the test needs it
    rollout.apply(again)
    rollout.approve("shadow")
    rollout.wait_for_phase("Soaking")
    breaks: list[dict[str, Any]] = [
        {"type": "disconnect", "after_event_seconds": EVERY * n} for n in range(500)
    ]
    exchange.impose_all(breaks)
    try:
        status = eventually(
            "rolled back",
            lambda: s if (s := rollout.status())["phase"] == "RolledBack" else None,
            timeout=240,
            explain=rollout.describe,
        )
    finally:
        exchange.clear()
    print(rollout.describe())
    climbed = [t for t in reversed(status["history"]) if t["phase"] == "RollingBack"]
    assert [t["reason"] for t in climbed] == [
        *("ConditionBreached", "RollbackNotVerified", "RollbackNotVerified")
    ]
    told = [t["message"] for t in climbed]
    assert "signal_ml_stacking_active_ratio < 0.9 for 6s on " in told[0]
    assert "rung stacking-off of the ladder: v3.1-stacking" in told[0]
    assert "rung old-models of the ladder: v3.0-stacking" in told[1]
    assert "rung ml-off of the ladder: v3.0-stacking" in told[2]
    assert status["climbed"] == ["stacking-off", "old-models", "ml-off"]
    assert "v3.0-stacking is verified" in status["message"]
    active = rollout.kubectl.json("get", "configmap", f"{rollout.name}-active")["data"]
    assert active["revision"] == status["stable"]["name"]
    assert active["version"] == "v3.0-stacking"
    print(active)
