"""The main job on the real cluster, from `kubectl apply` to promoted or rolled back.

One SignalCanary lives through all of it, in this order, on a market at 120 times real time. The
faults are put into the market, not into the measurements.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from cluster_kit import (
    Exchange,
    Kubectl,
    Rollout,
    eventually,
    instant,
    metric_of_every_symbol,
    query_prometheus,
    restarts_of,
)
from scene import LAG_MS, spec, wait_for_rollback

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

# But for New York's session, which this market does not live to see: test_outages.py has it.
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
)


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
    active = rollout.kubectl.json("get", "configmap", f"{rollout.name}-active")["data"]
    assert active["version"] == "v1.0"
    assert active["symbols"] == "BTCUSDT,ETHUSDT,ADAUSDT"
    eventually("the canary's pods gone", lambda: not rollout.pods(track="canary"))
    assert len(rollout.pods(track="stable")) == 2


def test_after_the_rollout_what_was_applied_is_in_sync(rollout: Rollout) -> None:
    """What a GitOps tool compares: nothing that the operator has written is a difference."""
    text = yaml.safe_dump(rollout.document(spec(rollout.kubectl, "v1.0")))
    rollout.kubectl("diff", "-f", "-", stdin=text)
    # By server-side apply kubectl itself writes its annotation of client-side apply anew.
    options = ("--server-side", "--force-conflicts", "--dry-run=server", "-o", "json")
    merged = json.loads(rollout.kubectl("apply", *options, "-f", "-", stdin=text))
    live = rollout.read()
    assert merged["spec"] == live["spec"]
    assert merged["metadata"]["generation"] == live["metadata"]["generation"] == 1


def test_the_stable_pods_are_told_of_the_gate_and_publish(
    rollout: Rollout, exchange: Exchange, kubectl: Kubectl
) -> None:
    def gate() -> Any:
        name = f"{rollout.name}-signals-gate"
        return rollout.kubectl.json("get", "configmap", name, "--show-managed-fields")

    def analysis() -> list[Any]:
        pods = rollout.pods(track="stable")
        return [p for p in pods if p["metadata"]["name"].endswith("-analysis-0")]

    def told() -> bool:
        (pod,) = analysis()
        now = gate()
        told_of = now["metadata"]["annotations"]["signalcanary.dev/applied-hash"]
        notes = pod["metadata"].get("annotations", {})
        names_stable = bool(json.loads(now["data"]["gate.json"])["stable"])
        return names_stable and notes.get("signalcanary.dev/gate") == told_of

    def open_for() -> list[str]:
        found = query_prometheus(
            kubectl,
            f'signal_gate_open{{namespace="{rollout.kubectl.namespace}",track="stable"}} == 1',
        )
        return sorted(series["metric"]["symbol"] for series in found)

    eventually("the stable analysis pod told of the gate", told, timeout=15)
    eventually(
        "the gate open for every symbol",
        lambda: open_for() == ["ADAUSDT", "BTCUSDT", "ETHUSDT"],
        timeout=90,
    )
    waited = datetime.now(UTC) - instant(gate()["metadata"]["managedFields"][0]["time"])
    print(f"Prometheus saw the gate open {waited.total_seconds():.0f} s after it was written")
    assert [restarts_of(pod) for pod in analysis()] == [0], "it went on as it was"


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
    exchange.impose(type="delay", endpoint="market", delay_ms=LAG_MS)
    try:
        roll_back_by(
            rollout,
            "merge_time_diff_ms_p99>300000",
            "merge_time_diff_ms_p99 > 300000 ms for 6s",
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


def test_the_metrics_of_the_report_reach_prometheus(rollout: Rollout, kubectl: Kubectl) -> None:
    for metric in CORE_METRICS:
        metric_of_every_symbol(kubectl, metric, rollout.kubectl.namespace, timeout=240)


def test_deleting_it_leaves_nothing_behind(rollout: Rollout) -> None:
    rollout.delete()

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
