"""Servers that tests bring into the cluster: one program, in the workloads' image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from cluster_kit import WAIT_FOR_FILES, Kubectl, eventually, find_tool

FOLDER = "/server"
"""Where the program is, and may write."""


def build_server(
    program: str, port: int, start: str, env: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """A Service and a Deployment of the program's name; it is sent in once the pod runs.

    Args:
        start: a shell's command that becomes the program.
    """
    labels = {"app.kubernetes.io/name": program}
    container = {
        "name": program,
        "image": "signalcanary/workloads:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", WAIT_FOR_FILES, f"{FOLDER}/{program}"],
        "args": ["sh", "-c", start],
        "env": env or [],
        "ports": [{"name": "server", "containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": "server"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "server", "mountPath": FOLDER}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 2,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "server", "emptyDir": {}}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": program},
            "spec": {"selector": labels, "ports": [{"name": "server", "port": port}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": program},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


def start_server(namespace: Kubectl, program: str, manifests: list[dict[str, Any]]) -> None:
    """Bring it up, with what else it needs."""
    namespace("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))
    selector = ("-l", f"app.kubernetes.io/name={program}")
    eventually(f"{program}'s pod running", lambda: "Running" in namespace("get", "pods", *selector))
    namespace.send_file(Path(find_tool(program)), f"deployment/{program}", f"{FOLDER}/{program}")
    namespace("rollout", "status", f"deployment/{program}", "--timeout=60s")
