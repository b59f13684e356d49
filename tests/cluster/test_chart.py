"""The chart on a real cluster: its own test runs as a pod, and all it can render is taken."""

from __future__ import annotations

import json
import os
import subprocess

from cluster_kit import REPO, Kubectl, find_helm

CHART = str(REPO / "charts/signalcanary")
SYSTEM = "signalcanary-system"
EVERYTHING = [
    "--set=prometheus.url=http://prometheus.monitoring.svc:9090",
    "--set=replicas=2,podAntiAffinity=Required,networkPolicy.enabled=true",
    "--set=metricsSources.mimir.url=https://mimir,metricsSources.mimir.secretName=mimir",
    "--set=priorityClassName=system-cluster-critical,nodeSelector.disk=ssd",
]


def run_helm(kubectl: Kubectl, *args: str) -> str:
    done = subprocess.run(
        [find_helm(), *args, f"--namespace={SYSTEM}"],
        env={**os.environ, "KUBECONFIG": str(kubectl.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_helms_test_passes(operator: Kubectl) -> None:
    said = run_helm(operator, "test", "signalcanary", "--logs", "--timeout=60s")
    # The log comes once for each object that the test is made of.
    assert len({line for line in said.splitlines() if line.startswith("ok: ")}) == 3, said


def test_all_that_it_renders_is_accepted(operator: Kubectl) -> None:
    version = json.loads(operator("get", "--raw", "/version"))["gitVersion"]
    text = run_helm(
        operator, "template", "dry", CHART, f"--kube-version={version}", "--skip-tests", *EVERYTHING
    )
    operator("apply", "--dry-run=server", "--server-side", "-f", "-", stdin=text)
