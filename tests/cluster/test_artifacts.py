"""Model files on the real cluster: the example's own, in the real onnxruntime.

One bit of a model has turned: it is refused before any pod of the canary starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import Kubectl, Rollout, eventually
from models_kit import make_files, stacked, upload

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return make_files()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def rollout(namespace: Kubectl, operator: Kubectl) -> Iterator[Rollout]:
    yield Rollout(namespace, "stacked")
    namespace("delete", "signalcanary", "stacked", "--ignore-not-found")


def created(namespace: Kubectl) -> set[str]:
    """Components of which a pod was ever created, as the StatefulSets' Events have it."""
    events = namespace.json("get", "events", "--field-selector=reason=SuccessfulCreate")["items"]
    said = " ".join(event["message"] for event in events)
    return {part for part in ("verify", "harvest", "analysis") if f"-canary-{part}-0" in said}


def test_a_corrupt_model_is_refused_before_any_pod_of_the_canary_starts(
    rollout: Rollout, files: dict[str, bytes], scratch: Path
) -> None:
    lstm = bytearray(files["lstm.onnx"])
    lstm[400] ^= 1
    upload(rollout.kubectl, files | {"lstm.onnx": bytes(lstm)}, scratch)
    rollout.apply(stacked(rollout.kubectl, "corrupt"))
    status = rollout.wait_for_phase("RolledBack")
    assert status["reason"] == "VerificationFailed"
    assert "lstm.onnx: ChecksumMismatch: its SHA-256 is" in status["message"]
    assert created(rollout.kubectl) == {"verify"}
    eventually("the verifying pod is gone", lambda: rollout.pods() == [])


def test_models_as_declared_answer_and_the_canary_starts(
    rollout: Rollout, files: dict[str, bytes], scratch: Path
) -> None:
    upload(rollout.kubectl, {"lstm.onnx": files["lstm.onnx"]}, scratch)
    rollout.apply(stacked(rollout.kubectl))
    eventually(
        "the canary's pods",
        lambda: {"harvest", "analysis"} <= created(rollout.kubectl),
        timeout=90,
        explain=rollout.describe,
    )
    history = rollout.status()["history"]
    assert [t["reason"] for t in history[:2]] == ["ArtifactsVerified", "RolloutStarted"]
    assert "are as declared (lgb " in history[0]["message"]
    assert "lstm " in history[0]["message"], "each has been asked, and timed"
    print(history[0]["message"])
