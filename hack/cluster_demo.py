"""The two stories of the demo on the real cluster, with `kubectl apply` (`make cluster-demo`).

A good configuration is applied and promoted; a bad one is applied and rolled back, while the
good one goes on serving. The script only applies and reads; all that happens in between is the
operator's doing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
NAMESPACE = "signalcanary-demo"
NAME = "demo-signal"
DEADLINE_SECONDS = 240


def tool(name: str) -> str:
    """A tool that came with the cluster, else the one on the PATH."""
    own = REPO / "build/cluster/bin" / name
    found = str(own) if own.exists() else shutil.which(name)
    if not found:
        sys.exit(f"{name} is missing: run `make cluster-up` first")
    return found


def run(name: str, *args: str, show: bool = False) -> str:
    """Run kubectl or helm against the cluster; ends the demo if it fails."""
    if show:
        print(f"\n$ {name} {' '.join(args)}", flush=True)
    config = REPO / "build/cluster/kubeconfig"
    env = {**os.environ, "KUBECONFIG": str(config)} if config.exists() else dict(os.environ)
    done = subprocess.run(
        [tool(name), *args], capture_output=True, text=True, env=env, check=False, cwd=REPO
    )
    if done.returncode != 0:
        sys.exit(f"{name} {' '.join(args)} failed:\n{done.stderr}")
    if show:
        print(done.stdout.rstrip(), flush=True)
    return done.stdout


def read() -> dict[str, Any]:
    live: dict[str, Any] = json.loads(
        run("kubectl", "get", "signalcanary", NAME, "-n", NAMESPACE, "-o", "json")
    )
    return live


def line_of(status: dict[str, Any]) -> str:
    """One line that says where the rollout is."""
    stage = status.get("stage", {})
    parts = [f"{status.get('phase', 'New'):12}"]
    if stage and status["phase"] == "Progressing":
        parts.append(f"stage {stage['name']} {stage['progress']}")
    elif status.get("phase") == "Warming":
        parts.append(f"warm-up {status.get('warmup', '0%')}")
    worst = [line for line in status.get("summary", ()) if ": Breached" in line]
    return "  ".join(parts + worst[:1])


def follow(version: str) -> dict[str, Any]:
    """Print how a rollout goes on until it has ended; returns its last status."""
    started = time.monotonic()
    told: set[str] = set()
    shown, printed = "", 0.0
    while time.monotonic() - started < DEADLINE_SECONDS:
        live = read()
        status = live.get("status", {})
        if status.get("observedGeneration") == live["metadata"]["generation"]:
            at = f"{time.monotonic() - started:5.0f} s"
            for entry in reversed(status.get("history", ())):
                if entry["time"] not in told and entry["version"] == version:
                    told.add(entry["time"])
                    print(f"{at}  » {entry['reason']}: {entry['message']}", flush=True)
            if (line := line_of(status)) != shown and time.monotonic() - printed >= 3:
                shown, printed = line, time.monotonic()
                print(f"{at}    {line}", flush=True)
            if status["phase"] in ("Succeeded", "RolledBack"):
                return status
        time.sleep(1)
    sys.exit(
        f"{version} has not ended within {DEADLINE_SECONDS} s:\n{json.dumps(read(), indent=1)}"
    )


def pods_of_stable() -> dict[str, str]:
    listed = json.loads(
        run(
            "kubectl",
            "get",
            "pods",
            "-n",
            NAMESPACE,
            "-o",
            "json",
            "-l",
            f"signalcanary.dev/name={NAME},signalcanary.dev/track=stable",
        )
    )
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in listed["items"]}


def main() -> int:
    """Play both stories; returns 0 if both ended as they should."""
    print("== the operator, from its Helm chart")
    run(
        "helm",
        "upgrade",
        "--install",
        "signalcanary",
        "charts/signalcanary",
        "--namespace=signalcanary-system",
        "--create-namespace",
        "--set=image.tag=dev,workloads.image.tag=dev",
        "--set=prometheus.url=http://prometheus.monitoring.svc:9090",
        "--set=statusInterval=2s",
        "--wait",
        "--timeout=120s",
        show=True,
    )
    # Images by tag are replaced in place: a pod that runs already would go on with the old one.
    operator = ("deployment/signalcanary", "--namespace=signalcanary-system")
    run("kubectl", "rollout", "restart", *operator)
    run("kubectl", "rollout", "status", *operator, "--timeout=60s")
    print("\n== an exchange with a synthetic market at 120 times real time")
    run("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
    run("kubectl", "create", "namespace", NAMESPACE)
    run("kubectl", "apply", "-n", NAMESPACE, "-f", "examples/demo/exchange.yaml", show=True)
    run("kubectl", "rollout", "status", "-n", NAMESPACE, "deployment/exchange", "--timeout=90s")

    print("\n== story 1: a good configuration")
    run("kubectl", "apply", "-n", NAMESPACE, "-f", "examples/demo/v1.yaml", show=True)
    first = follow("v1.0")
    stable = pods_of_stable()
    run("kubectl", "get", "signalcanary,pods", "-n", NAMESPACE, show=True)

    print("\n== story 2: a bad configuration, all weight on the volume delta")
    run("kubectl", "apply", "-n", NAMESPACE, "-f", "examples/demo/v2.yaml", show=True)
    second = follow("v2.0")
    run("kubectl", "get", "signalcanary,pods", "-n", NAMESPACE, show=True)
    run("kubectl", "describe", "signalcanary", NAME, "-n", NAMESPACE, show=True)

    untouched = pods_of_stable() == stable
    print(f"\nstory 1: {first['message']}")
    print(f"story 2: {second['message']}")
    print(f"v1.0's pods {'were not touched' if untouched else 'WERE TOUCHED'} by the rollback")
    print("\nLook around:")
    print("  export KUBECONFIG=$PWD/build/cluster/kubeconfig PATH=$PWD/build/cluster/bin:$PATH")
    print(f"  kubectl describe signalcanary {NAME} -n {NAMESPACE}")
    good = first["phase"] == "Succeeded" and second["phase"] == "RolledBack" and untouched
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
