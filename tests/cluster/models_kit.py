"""A claim of the user's own, and the files of `examples/models` on it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import yaml
from cluster_kit import Kubectl
from scene import Spec, example

from examples_kit import EXAMPLES

FOLDER = "/data/files"
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "models"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
UPLOAD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "upload"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
        "containers": [
            {
                "name": "upload",
                "image": "docker.io/signalcanary/workloads:dev",
                "imagePullPolicy": "Never",
                "command": ["python", "-c"],
                "args": [
                    "import pathlib, signal, time\n"
                    "signal.signal(signal.SIGTERM, lambda *_: exit())\n"
                    f"pathlib.Path({FOLDER!r}).mkdir(parents=True, exist_ok=True)\n"
                    "time.sleep(3600)"
                ],
                "readinessProbe": {"exec": {"command": ["test", "-d", FOLDER]}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "models"}}],
    },
}


def make_files() -> dict[str, bytes]:
    """The example's models, their metadata and the manifest, made by its own script."""
    script = EXAMPLES / "models/make_models.py"
    spec = importlib.util.spec_from_file_location("make_models", script)
    assert spec is not None
    assert spec.loader is not None
    maker: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    files: dict[str, bytes] = maker.build_files()
    return files | {"manifest.json": maker.build_manifest(files)}


def upload(namespace: Kubectl, files: dict[str, bytes], scratch: Path) -> None:
    """Lay files into the example's folder on the claim `models`, which is made if it is not there.

    Args:
        scratch: a folder of the test's own.
    """
    namespace("apply", "-f", "-", stdin=yaml.safe_dump_all([CLAIM, UPLOAD]))
    namespace("wait", "--for=condition=Ready", "pod/upload", "--timeout=60s")
    for name, data in files.items():
        (scratch / name).write_bytes(data)
        namespace.send_file(scratch / name, "upload", f"{FOLDER}/{name}")


def stacked(namespace: Kubectl, version: str | None = None) -> Spec:
    """The example with models, which lie on the claim `models`."""
    return example(namespace, "models/rollout", version) | {
        "storage": {"claimName": "models", "commitInterval": "500ms"}
    }
