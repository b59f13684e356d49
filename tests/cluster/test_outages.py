"""A rollout while what it needs is killed or stopped, on the real cluster.

These tests stop what all others on the cluster need too, so they run alone, after them.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from cluster_kit import (
    Exchange,
    Kubectl,
    Rollout,
    eventually,
    kill_containers_of,
    metric_of_every_symbol,
    restarts_of,
)
from scene import LAG_MS, breach_began, spec, wait_for_rollback

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive, pytest.mark.timeout(420)]

OPENS = "--start-time=2026-05-04T16:30:00"
"""In New York's session, for the last test."""


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
    conditions[1]["for"] = "20s"
    rollout.apply(long)
    rollout.wait_for_phase("Progressing")
    exchange.impose(type="delay", endpoint="market", delay_ms=LAG_MS)
    try:
        key = "merge_time_diff_ms_p99>300000"
        began = breach_began(rollout, key)
        selector = "app.kubernetes.io/name=signalcanary-operator"
        (pod,) = operator.json("get", "pods", "-l", selector)["items"]
        kill_containers_of(pod)
        eventually(
            "the operator restarted",
            lambda: restarts_of(operator.json("get", "pods", "-l", selector)["items"][0]) > 0,
        )
        assert breach_began(rollout, key) == began
        wait_for_rollback(rollout, key, timedelta(seconds=20))
    finally:
        exchange.clear()


def test_nothing_is_decided_while_prometheus_is_down(
    rollout: Rollout, exchange: Exchange, kubectl: Kubectl
) -> None:
    patient = spec(rollout.kubectl, "v7.0", ofi=0.66)
    patient["stages"] = [{"name": "canary", "duration": "12s"}]
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
            "--timeout=18s",
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


def test_the_report_s_metric_of_new_york_reaches_prometheus(
    rollout: Rollout, kubectl: Kubectl
) -> None:
    metric_of_every_symbol(kubectl, "slice_auc_ny_session", rollout.kubectl.namespace, timeout=60)
