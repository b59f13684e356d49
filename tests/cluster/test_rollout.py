"""The main job on the real cluster, from `kubectl apply` to promoted or rolled back.

One SignalCanary lives through all of it, in this order, on a market at 120 times real time. The
faults are put into the market, not into the measurements.
"""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
from cluster_kit import (
    Exchange,
    Kubectl,
    Rollout,
    eventually,
    instant,
    kill_containers_of,
    query_prometheus,
    restarts_of,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

Spec = dict[str, Any]
INTERVAL = timedelta(seconds=3)
CORE_METRICS = (
    "cvd_direction_flipped_total",
    "merge_time_diff_ms_p50",
    "merge_time_diff_ms_p90",
    "merge_time_diff_ms_p99",
    "platt_train_samples",
    "platt_test_samples",
    "platt_ece",
    "platt_brier",
    "slice_auc_active_period",
    "slice_auc_quiet_period",
    "slice_auc_tokyo_session",
    "slice_auc_london_session",
    "slice_auc_ny_session",
)


def spec(kubectl: Kubectl, version: str, *, ofi: float = 0.7) -> Spec:
    host = f"exchange.{kubectl.namespace}.svc:9600"
    weights = {"ofi": ofi, "cvd": round(1 - ofi, 3)}
    return {
        "version": version,
        "symbols": {"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT", "ADAUSDT"]},
        "signal": {
            "fusion": dict.fromkeys(("baseline", "active", "quiet"), weights),
            "calibration": {"train": "20m", "test": "40m", "refit": "10m"},
            # 100 ms in which this machine does something else are 12 s of this market.
            "merge": {"tolerance": "15s"},
        },
        "source": {
            "publicUrl": f"ws://{host}/public",
            "marketUrl": f"ws://{host}/market",
            "restUrl": f"http://{host}",
        },
        "storage": {"size": "1Gi", "commitInterval": "500ms"},
        "stages": [{"name": "shadow", "duration": "3s"}, {"name": "canary", "duration": "6s"}],
        "evaluation": {"interval": "3s", "staleAfter": "15s", "noDataAfter": "60s"},
        "rollback": {
            "conditions": [
                # Literal, as the report has them: within `for` and two looks of the first breach.
                {
                    "metric": "platt_ece",
                    "above": 0.1,
                    "for": "6s",
                    "minSamples": 1000,
                    "mode": "literal",
                },
                {"metric": "merge_time_diff_ms_p99", "above": 60000, "for": "6s"},
                {
                    "metric": "slice_auc_active_period",
                    "below": 0.55,
                    "for": "6s",
                    "minSamples": 200,
                    "mode": "literal",
                },
            ]
        },
    }


@pytest.fixture(scope="module")
def rollout(namespace: Kubectl, operator: Kubectl) -> Rollout:
    return Rollout(namespace, "ofi-cvd-fusion")


@pytest.fixture(scope="module")
def exchange(namespace: Kubectl) -> Exchange:
    exchange = Exchange(namespace)
    # Begun in Tokyo's session early enough to be warm in it; London's begins after 105 s, New
    # York's after 345 s.
    exchange.start("--start-time=2026-05-04T04:30:00")
    return exchange


def wait_for_rollback(rollout: Rollout, key: str, hold: timedelta) -> Any:
    """Wait for the rollback by a condition; it must come within `hold` and two intervals.

    Measured from the look that first saw the breach which the rollback names, to the look that
    decided: both are in status.
    """
    began: dict[str, str] = {}

    def look() -> Any:
        status = rollout.status()
        timers = [t for t in status.get("timers", ()) if t["key"] == key]
        began.update({t["symbol"]: t["clock"]["startedAt"] for t in timers})
        return status if status["phase"] == "RolledBack" else None

    status = eventually(f"rolled back by {key}", look, timeout=180, explain=rollout.describe)
    rolling = next(t for t in status["history"] if t["phase"] == "RollingBack")
    assert rolling["reason"] == "ConditionBreached"
    symbol = next(s for s in began if f" on {s}: it is " in rolling["message"])
    took = instant(rolling["time"]) - instant(began[symbol])
    print(f"{key}: rolled back {took.total_seconds():.1f} s after the breach was first seen")
    assert hold <= took <= hold + 2 * INTERVAL
    return status


def breach_began(rollout: Rollout, key: str) -> str:
    """Wait for the timer of a breach and return when the first of its symbols was breached."""

    def look() -> str | None:
        timers = rollout.status().get("timers", ())
        return min((t["clock"]["startedAt"] for t in timers if t["key"] == key), default=None)

    return eventually(f"a breach of {key}", look, timeout=120, explain=rollout.describe)


def roll_back_by(rollout: Rollout, key: str, words: str, hold: timedelta) -> Any:
    """Expect a rollback by one condition that leaves the stable pods untouched."""
    stable = rollout.pod_lives(track="stable")
    assert stable
    status = wait_for_rollback(rollout, key, hold)
    rolling = next(t for t in status["history"] if t["phase"] == "RollingBack")
    assert words in rolling["message"]
    assert rollout.pods(track="canary") == []
    assert rollout.pod_lives(track="stable") == stable
    return status


def test_v1_is_promoted(rollout: Rollout, exchange: Exchange, kubectl: Kubectl) -> None:
    rollout.apply(spec(rollout.kubectl, "v1.0"))
    rollout.wait_for_phase("Warming", "Progressing")
    assert rollout.pods(track="stable") == []
    rollout.kubectl(
        "wait",
        "--for=condition=Promoted",
        "--timeout=150s",
        "signalcanary/ofi-cvd-fusion",
        timeout=160,
    )
    status = rollout.status()
    print(rollout.describe())
    assert [t["phase"] for t in reversed(status["history"])] == [
        "Pending",
        "Warming",
        "Progressing",
        "Progressing",
        "Promoting",
        "Succeeded",
    ]
    assert status["stable"]["version"] == "v1.0"

    def told() -> list[str]:
        lines = rollout.describe().partition("Events:")[2].splitlines()[3:]
        return [line.split()[1] for line in lines]

    # State first, then the Event: at the moment of the promotion it may be still to come.
    eventually("an Event of the promotion", lambda: "Promoted" in told(), timeout=10)
    assert told() == [
        "RolloutStarted",
        "CanaryRunning",
        "StageStarted",
        "StageStarted",
        "StagesPassed",
        "Promoted",
    ]
    active = rollout.kubectl.json("get", "configmap", "ofi-cvd-fusion-active")["data"]
    assert active["version"] == "v1.0"
    assert active["symbols"] == "BTCUSDT,ETHUSDT,ADAUSDT"
    eventually("the canary's pods gone", lambda: not rollout.pods(track="canary"))
    assert len(rollout.pods(track="stable")) == 2


def test_a_calibration_shift_rolls_v2_back_and_leaves_v1_alone(
    rollout: Rollout, exchange: Exchange
) -> None:
    long = spec(rollout.kubectl, "v2.0", ofi=0.8)
    long["stages"][-1]["duration"] = "10m"
    # A fit in the middle of the shift would learn it, and the error would pass again within
    # minutes of the market: whether it then lasts for the whole `for` is a matter of luck.
    long["signal"]["calibration"]["refit"] = "10h"
    rollout.apply(long)
    rollout.wait_for_phase("Progressing")
    exchange.impose(type="calibration_shift", delta_logit=1.5)
    try:
        status = roll_back_by(
            rollout, "platt_ece>0.1", "platt_ece > 0.1 for 6s", timedelta(seconds=6)
        )
    finally:
        exchange.clear()
    assert status["stable"]["version"] == "v1.0"
    assert status["rejected"]["version"] == "v2.0"
    rollout.kubectl(
        "wait", "--for=condition=RolledBack", "--timeout=5s", "signalcanary/ofi-cvd-fusion"
    )


def test_merge_lag_rolls_v3_back(rollout: Rollout, exchange: Exchange) -> None:
    long = spec(rollout.kubectl, "v3.0", ofi=0.65)
    long["stages"][-1]["duration"] = "10m"
    rollout.apply(long)
    rollout.wait_for_phase("Progressing")
    exchange.impose(type="delay", endpoint="market", delay_ms=120_000)
    try:
        roll_back_by(
            rollout,
            "merge_time_diff_ms_p99>60000",
            "merge_time_diff_ms_p99 > 60000 ms for 6s",
            timedelta(seconds=6),
        )
    finally:
        exchange.clear()


def test_a_signal_that_has_lost_its_skill_rolls_v4_back(
    rollout: Rollout, exchange: Exchange
) -> None:
    long = spec(rollout.kubectl, "v4.0", ofi=0.75)
    long["stages"][-1]["duration"] = "10m"
    # Without skill the old calibration is off as well; only the AUC is asked here.
    long["rollback"]["conditions"] = long["rollback"]["conditions"][1:]
    rollout.apply(long)
    rollout.wait_for_phase("Progressing")
    exchange.impose(type="skill", factor=0)
    try:
        roll_back_by(
            rollout,
            "slice_auc_active_period<0.55",
            "slice_auc_active_period < 0.55 for 6s",
            timedelta(seconds=6),
        )
    finally:
        exchange.clear()


def test_the_rollout_survives_its_analysis_pod_being_killed(
    rollout: Rollout, exchange: Exchange
) -> None:
    long = spec(rollout.kubectl, "v5.0", ofi=0.72)
    long["stages"][-1]["duration"] = "12s"
    rollout.apply(long)
    rollout.wait_for_phase("Progressing")
    (pod,) = (
        pod
        for pod in rollout.pods(track="canary")
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "analysis"
    )
    kill_containers_of(pod)
    eventually(
        "the analysis pod noticed to be missing or restarted",
        lambda: any(
            w["component"] == "analysis"
            and w["track"] == "canary"
            and (w["restarts"] > 0 or w["ready"] == "0/1")
            for w in rollout.status()["workloads"]
        ),
        explain=rollout.describe,
    )
    status = rollout.wait_for_phase("Succeeded")
    assert status["stable"]["version"] == "v5.0"


def test_the_operator_killed_in_a_breach_does_not_forget_its_beginning(
    rollout: Rollout, exchange: Exchange, operator: Kubectl
) -> None:
    long = spec(rollout.kubectl, "v6.0", ofi=0.68)
    long["stages"][-1]["duration"] = "10m"
    conditions = long["rollback"]["conditions"]
    conditions[1]["for"] = "40s"
    rollout.apply(long)
    rollout.wait_for_phase("Progressing")
    exchange.impose(type="delay", endpoint="market", delay_ms=120_000)
    try:
        key = "merge_time_diff_ms_p99>60000"
        began = breach_began(rollout, key)
        selector = "app.kubernetes.io/name=signalcanary-operator"
        (pod,) = operator.json("get", "pods", "-l", selector)["items"]
        kill_containers_of(pod)
        eventually(
            "the operator restarted",
            lambda: restarts_of(operator.json("get", "pods", "-l", selector)["items"][0]) > 0,
        )
        assert breach_began(rollout, key) == began
        wait_for_rollback(rollout, key, timedelta(seconds=40))
    finally:
        exchange.clear()


def test_all_thirteen_metrics_of_the_report_reach_prometheus(
    rollout: Rollout, kubectl: Kubectl
) -> None:
    for metric in CORE_METRICS:
        # A session of 8 h lasts 4 min here; each has its value only while it lasts.
        selector = f'{metric}{{namespace="{rollout.kubectl.namespace}",track="stable"}}'
        query = f"last_over_time({selector}[15m])"

        def symbols(query: str = query) -> Any:
            found = {s["metric"]["symbol"] for s in query_prometheus(kubectl, query)}
            return found if found >= {"BTCUSDT", "ETHUSDT", "ADAUSDT"} else None

        eventually(f"{metric} of every symbol", symbols, timeout=240)


def test_nothing_is_decided_while_prometheus_is_down(
    rollout: Rollout, exchange: Exchange, kubectl: Kubectl
) -> None:
    patient = copy.deepcopy(spec(rollout.kubectl, "v7.0", ofi=0.66))
    patient["stages"] = [{"name": "canary", "duration": "20s"}]
    rollout.apply(patient)
    rollout.wait_for_phase("Progressing")
    monitoring = kubectl.in_namespace("monitoring")
    monitoring("scale", "deployment/prometheus", "--replicas=0")
    try:
        eventually(
            "the source reported unreachable",
            lambda: any(
                c["type"] == "MetricsAvailable" and c["status"] == "False"
                for c in rollout.status()["conditions"]
            ),
            explain=rollout.describe,
        )
        # Longer than every `for` and than the stage itself.
        waited = rollout.kubectl.fails(
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            "--timeout=30s",
            "signalcanary/ofi-cvd-fusion",
        )
        assert "timed out" in waited, "kubectl failed for another reason, and waited for nothing"
        status = rollout.status()
        assert status["phase"] == "Progressing"
        assert "the metrics source is unreachable" in status["message"]
        assert "goes on as soon as the metrics source answers again" in status["next"]
        print(rollout.describe())
    finally:
        monitoring("scale", "deployment/prometheus", "--replicas=1")
        monitoring("rollout", "status", "deployment/prometheus", "--timeout=60s")
    status = rollout.wait_for_phase("Succeeded")
    assert status["stable"]["version"] == "v7.0"


def test_at_rest_the_operator_writes_nothing(rollout: Rollout) -> None:
    eventually("the canary's pods gone", lambda: not rollout.pods(track="canary"))
    settled = rollout.kubectl.fails(
        "wait", "--for=jsonpath={.status.phase}=Never", "--timeout=5s", f"sigc/{rollout.name}"
    )
    assert "timed out" in settled
    before = rollout.read()["metadata"]["resourceVersion"]
    # Longer than the pace of looks at rest, which is 30 s.
    waited = rollout.kubectl.fails(
        "wait", "--for=jsonpath={.status.phase}=Never", "--timeout=35s", f"sigc/{rollout.name}"
    )
    assert "timed out" in waited, "kubectl failed for another reason, and waited for nothing"
    assert rollout.read()["metadata"]["resourceVersion"] == before


def test_deleting_it_leaves_nothing_behind(rollout: Rollout) -> None:
    rollout.kubectl("delete", "signalcanary", rollout.name, "--timeout=30s")

    def left() -> str:
        return rollout.kubectl(
            "get",
            "statefulsets,pods,services,configmaps,controllerrevisions,persistentvolumeclaims",
            "-l",
            f"signalcanary.dev/name={rollout.name}",
            "-o",
            "name",
        )

    eventually("everything it owned gone", lambda: not left().strip(), explain=left)
