"""Two more of the examples on the real cluster, their times scaled down.

The same signal in less time is promoted because nothing else has changed, another signal under its
name is not; and steps that a person signs wait for the person.
"""

from __future__ import annotations

import pytest
from cluster_kit import Exchange, Kubectl, Rollout
from scene import example

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def faster(namespace: Kubectl, operator: Kubectl) -> Rollout:
    return Rollout(namespace, "same-signal-faster")


@pytest.fixture(scope="module")
def steps(namespace: Kubectl, operator: Kubectl) -> Rollout:
    return Rollout(namespace, "step-by-step")


def test_the_same_signal_is_promoted_and_watched(faster: Rollout, exchange: Exchange) -> None:
    before = example(faster.kubectl, "same-signal-faster", "v2.0")
    before["soak"] = "0s"
    faster.apply(before)
    faster.wait_for_phase("Succeeded")
    faster.apply(example(faster.kubectl, "same-signal-faster"))
    status = faster.wait_for_phase("Succeeded", "RolledBack")
    assert status["phase"] == "Succeeded", status["message"]
    assert status["history"][0]["reason"] == "Soaked"
    assert status["stable"]["version"] == "v3.0"


def test_another_signal_is_taken_back(faster: Rollout, exchange: Exchange) -> None:
    other = example(faster.kubectl, "same-signal-faster", "v3.1")
    weights = {"ofi": 0.0, "cvd": 1.0}
    other["signal"]["fusion"] = dict.fromkeys(("baseline", "active", "quiet"), weights)
    faster.apply(other)
    status = faster.wait_for_phase("RolledBack")
    assert status["reason"] == "ConditionBreached"
    assert " − stable " in status["message"]
    assert status["stable"]["version"] == "v3.0"
    faster.delete()


def test_steps_wait_for_a_person(steps: Rollout, exchange: Exchange) -> None:
    before = example(steps.kubectl, "step-by-step", "v1.0")
    before |= {"stages": [{"name": "quick", "duration": "3s"}], "soak": "0s"}
    steps.apply(before)
    steps.wait_for_phase("Succeeded")
    steps.apply(example(steps.kubectl, "step-by-step"))
    for stage in ("sandbox", "small"):
        steps.approve(stage)
    status = steps.wait_for_phase("Succeeded")
    assert status["stable"]["version"] == "v1.1"
    approved = [a["by"] for a in status["hand"]["answers"] if a["verb"] == "approve"]
    assert len(approved) == 2
