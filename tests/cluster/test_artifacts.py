"""A corrupt model file is refused before any pod of the canary starts, on the real cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_kit import Kubectl, Rollout, eventually
from scene import spec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

META = b'{"n_oof": 24492}'
WORKLOADS = "docker.io/signalcanary/workloads:dev"
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
                "image": WORKLOADS,
                "imagePullPolicy": "Never",
                "command": ["python", "-c"],
                "args": [
                    "import pathlib, signal, time\n"
                    "signal.signal(signal.SIGTERM, lambda *_: exit())\n"
                    "pathlib.Path('/data/models/v2').mkdir(parents=True, exist_ok=True)\n"
                    "time.sleep(3600)"
                ],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "models"}}],
    },
}


@pytest.fixture(scope="module")
def uploaded(namespace: Kubectl, operator: Kubectl, tmp_path_factory: Any) -> Iterator[Kubectl]:
    """A claim of the user's own, with a model folder in which one bit has turned."""
    namespace("apply", "-f", "-", stdin=yaml.safe_dump_all([CLAIM, UPLOAD]))
    namespace("wait", "--for=condition=Ready", "pod/upload", "--timeout=60s")
    file: Path = tmp_path_factory.mktemp("models") / "meta.json"
    file.write_bytes(META.replace(b"4492", b"4493"))
    namespace.send_file(file, "upload", "/data/models/v2/meta.json")
    yield namespace
    namespace("delete", "signalcanary", "models", "--ignore-not-found")


def declared(namespace: Kubectl, version: str, data: bytes) -> dict[str, Any]:
    document = spec(namespace, version)
    document["storage"] = {"claimName": "models"}
    file = {"path": "meta.json", "size": len(data), "format": "json"}
    document["signal"]["artifacts"] = {
        "path": "models/v2",
        "files": [{**file, "sha256": hashlib.sha256(data).hexdigest()}],
        "gates": [{"file": "meta.json", "key": "n_oof", "min": 10000}],
    }
    return document


def created(namespace: Kubectl) -> set[str]:
    """Components of which a pod was ever created, as the StatefulSets' Events have it."""
    events = namespace.json("get", "events", "--field-selector=reason=SuccessfulCreate")["items"]
    said = " ".join(event["message"] for event in events)
    return {part for part in ("verify", "harvest", "analysis") if f"-canary-{part}-0" in said}


def test_a_corrupt_model_is_refused_before_any_pod_of_the_canary_starts(
    uploaded: Kubectl,
) -> None:
    rollout = Rollout(uploaded, "models")
    rollout.apply(declared(uploaded, "corrupt", META))
    status = rollout.wait_for_phase("RolledBack")
    assert status["reason"] == "VerificationFailed"
    assert "meta.json: ChecksumMismatch: its SHA-256 is" in status["message"]
    assert created(uploaded) == {"verify"}
    eventually("the verifying pod is gone", lambda: rollout.pods() == [])


def test_files_as_declared_start_the_canary(uploaded: Kubectl) -> None:
    rollout = Rollout(uploaded, "models")
    rollout.apply(declared(uploaded, "as-it-lies", META.replace(b"4492", b"4493")))
    eventually(
        "the canary's pods", lambda: {"harvest", "analysis"} <= created(uploaded), timeout=90
    )
    reasons = [transition["reason"] for transition in rollout.status()["history"]]
    assert reasons[:2] == ["ArtifactsVerified", "RolloutStarted"]
