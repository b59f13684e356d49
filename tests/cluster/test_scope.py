"""One bad symbol on the real cluster: it alone is held back, and stays on what served it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cluster_kit import Exchange, Rollout, eventually
from scene import LAG_MS, spec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]


def test_a_bad_symbol_is_held_back_alone_and_stays_on_what_served_it(
    rollout: Rollout, exchange: Exchange
) -> None:
    rollout.apply(spec(rollout.kubectl, "v1.0"))
    before = rollout.wait_for_phase("Succeeded")["stable"]
    alone = spec(rollout.kubectl, "v2.0", ofi=0.64)
    alone["stages"] = [{"name": "canary", "duration": "20s"}]
    alone["rollback"]["scope"] = "Symbol"
    rollout.apply(alone)
    rollout.wait_for_phase("Progressing")
    exchange.impose(type="delay", endpoint="market", symbols=["ETHUSDT"], delay_ms=LAG_MS)
    try:
        held = eventually(
            "ETHUSDT held back",
            lambda: rollout.status().get("held"),
            timeout=60,
            explain=rollout.describe,
        )
        assert [one["symbol"] for one in held] == ["ETHUSDT"]
        assert " for 6s on ETHUSDT: it is " in held[0]["message"]
        status = rollout.wait_for_phase("Succeeded")
    finally:
        exchange.clear()
    assert status["stable"]["version"] == "v2.0"
    assert status["kept"] == [{"symbol": "ETHUSDT", "revision": before}]

    def live() -> Any:
        data = rollout.kubectl.json("get", "configmap", f"{rollout.name}-active")["data"]
        return data if data["version"] == "v2.0" else None

    # State first, then what it implies: at the moment of the promotion it may be still to come.
    active = eventually("v2.0 told to be live", live, timeout=10)
    assert active["symbols"] == "BTCUSDT,ADAUSDT"
    (kept,) = json.loads(active["kept.json"])
    assert (kept["version"], kept["symbols"]) == (before["version"], ["ETHUSDT"])

    def passed_on() -> Any:
        name = f"{rollout.name}-signals-gate"
        gate = rollout.kubectl.json("get", "configmap", name)["data"]
        return json.loads(gate["gate.json"]).get("kept")

    # The kept revision's pods are replaced by those with the smaller file first.
    assert eventually("the stream passed on", passed_on, timeout=90, explain=rollout.describe) == [
        {"revision": before["name"], "attempt": before["attempt"], "only": ["ETHUSDT"]}
    ]
    label = "signalcanary.dev/revision"
    revisions = {pod["metadata"]["labels"][label] for pod in rollout.pods(track="stable")}
    assert revisions == {before["name"], status["stable"]["name"]}


def test_at_rest_the_operator_writes_nothing(rollout: Rollout) -> None:
    eventually("the canary's pods gone", lambda: not rollout.pods(track="canary"))

    def is_told() -> bool:
        return {w["ready"] for w in rollout.status()["workloads"]} == {"1/1"}

    # Of pods that become ready at rest it learns at its next look, and writes it: here the smaller
    # ones of the revision that keeps a symbol may still be on their way.
    eventually("both revisions' pods told to be ready", is_told, explain=rollout.describe)
    settled = rollout.kubectl.fails(
        "wait", "--for=jsonpath={.status.phase}=Never", "--timeout=5s", f"sigc/{rollout.name}"
    )
    assert "timed out" in settled
    before = rollout.read()
    # Longer than the pause between looks at rest, which the chart's values make 10 s here.
    waited = rollout.kubectl.fails(
        "wait", "--for=jsonpath={.status.phase}=Never", "--timeout=13s", f"sigc/{rollout.name}"
    )
    assert "timed out" in waited, "kubectl failed for another reason, and waited for nothing"
    assert rollout.read() == before
