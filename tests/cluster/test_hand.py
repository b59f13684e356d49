"""A person's hand on the real cluster: by annotation and by the command line, as kubectl has it.

Nothing sends market data here, so the guard that must hold is that of silence.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from cluster_kit import Kubectl, Rollout, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

NOWHERE = "127.0.0.1:9"
SPEC: dict[str, Any] = {
    "version": "v1",
    "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]},
    "source": {
        "publicUrl": f"ws://{NOWHERE}/public",
        "marketUrl": f"ws://{NOWHERE}/market",
        "restUrl": f"http://{NOWHERE}",
    },
    "storage": {"size": "100Mi"},
    "stages": [{"name": "canary", "duration": "1h", "approval": "Required"}],
    "evaluation": {"interval": "2s", "staleAfter": "5s", "noDataAfter": "10s"},
}


def annotate(rollout: Rollout, value: str) -> None:
    rollout.kubectl("annotate", "--overwrite", "signalcanary", rollout.name, value)


def answer_to(rollout: Rollout, verb: str, outcome: str) -> Any:
    """Wait for the newest answer to a verb."""

    def look() -> Any:
        answers = rollout.status().get("hand", {}).get("answers", ())
        found = next((a for a in answers if a["verb"] == verb), None)
        return found if found and found["outcome"] == outcome else None

    return eventually(f"{verb} {outcome}", look, timeout=15, explain=rollout.describe)


def signalcanary(rollout: Rollout, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What `kubectl signalcanary` runs."""
    namespace = str(rollout.kubectl.namespace)
    return subprocess.run(
        [sys.executable, "-m", "signalcanary", verb, rollout.name, "-n", namespace, *options],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "KUBECONFIG": str(rollout.kubectl.kubeconfig)},
    )


def test_paused_it_is_still_guarded_and_then_it_is_approved_tried_again_and_aborted(
    namespace: Kubectl, operator: Kubectl
) -> None:
    rollout = Rollout(namespace, "by-hand")
    rollout.apply(SPEC)
    annotate(rollout, "signalcanary.dev/pause=maintenance")
    namespace("wait", "--for=condition=Paused", "signalcanary/by-hand", "--timeout=20s")
    first = rollout.status()["subject"]
    annotate(rollout, f"signalcanary.dev/approve={first}/canary reviewed")
    answer_to(rollout, "approve", "Done")
    namespace("wait", "--for=condition=RolledBack", "signalcanary/by-hand", "--timeout=60s")
    assert rollout.status()["reason"] in ("CanarySilent", "CanaryNotRunning")

    annotate(rollout, "signalcanary.dev/pause-")
    answer_to(rollout, "resume", "Done")
    annotate(rollout, f"signalcanary.dev/retry={first} the feed was ill")
    answer_to(rollout, "retry", "Done")
    assert rollout.status()["subject"] != first
    refused = signalcanary(rollout, "promote")
    assert refused.returncode == 1, refused.stdout
    assert "(NotRunning)" in refused.stderr or "(CannotBeSeen)" in refused.stderr
    done = signalcanary(rollout, "abort", "--reason", "enough")
    assert done.returncode == 0, done.stderr
    namespace("wait", "--for=condition=RolledBack", "signalcanary/by-hand", "--timeout=30s")
    status = rollout.status()
    assert status["reason"] == "Aborted"
    by = {a["by"] for a in status["hand"]["answers"] if a["verb"] == "abort"}
    assert all(by), "the API server has said who asks"
    events = namespace.json("get", "events")["items"]
    assert {"CommandDone", "CommandRefused"} <= {e["reason"] for e in events}
    namespace("delete", "signalcanary", "by-hand", "--wait=false")
