"""Rollouts of configurations with model files: looked at first, and only then started."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from signalcanary.artifacts import Reason, Refusal, Verification
from signalcanary.contract import Component, Track
from signalcanary.lifecycle import decide
from signalcanary.rollout import Phase, TrackSeen, plan

SIGNAL = {
    "artifacts": {
        "path": "models/v1",
        "files": [{"path": "lstm.onnx", "size": 5, "sha256": "0" * 64, "format": "onnx"}],
    }
}
CORRUPT = Refusal(
    reason=Reason.CHECKSUM_MISMATCH, file="lstm.onnx", message="it has 4 bytes, and 5 are declared"
)


def test_good_artifacts_come_before_the_pods(start: Callable[..., Any]) -> None:
    sim = start(signal=SIGNAL)
    sim.run_until(Phase.SUCCEEDED)
    assert sim.reasons[:3] == ["RolloutStarted", "ArtifactsVerified", "CanaryRunning"]
    assert sim.story[0][1] == Phase.VERIFYING


def test_no_pod_of_a_canary_with_a_corrupt_model_ever_starts(start: Callable[..., Any]) -> None:
    sim = start()
    sim.run_until(Phase.SUCCEEDED)
    stable = sim.state.stable
    sim.world.refusals = (CORRUPT,)
    sim.edit(version="v2", signal=SIGNAL)
    ran = set()
    for _ in range(20):
        sim.run(sim.spec.evaluation.interval)
        ran |= {(p.track, component) for p in plan(sim.state) for component in p.components}
    assert {component for track, component in ran if track is Track.CANARY} == {Component.VERIFY}
    assert sim.phase is Phase.ROLLED_BACK
    assert sim.state.reason == "VerificationFailed"
    assert sim.state.stable == stable
    assert sim.status["message"] == (
        "rolled back v2: its artifacts are refused, and no pod of it was started: lstm.onnx: "
        "ChecksumMismatch: it has 4 bytes, and 5 are declared; v2 has no pod any more, and v1 "
        f"(revision {stable.name}) serves"
    )
    sim.world.refusals = ()
    sim.run(timedelta(hours=1))
    assert sim.phase is Phase.ROLLED_BACK, "the same spec is not tried twice"
    sim.edit(version="v3")
    sim.run_until(Phase.SUCCEEDED)


VERIFIED = {"conditions": [{"metric": "platt_ece", "above": 0.1}], "verify": {"for": "5m"}}
"""Stable breaches this, which nobody asks of it while it is at rest."""


def test_a_refusal_puts_a_stable_revision_that_is_ill_on_no_ladder(
    start: Callable[..., Any],
) -> None:
    sim = start()
    sim.run_until(Phase.SUCCEEDED)
    sim.edit(version="v1.1")
    sim.run_until(Phase.PROGRESSING)
    sim.run_until(Phase.SUCCEEDED)
    stable = sim.state.stable
    assert sim.state.former, "there is a revision to fall back to"
    sim.world.of_version[stable.version] = {"platt_ece": 0.3}
    sim.world.refusals = (CORRUPT,)
    sim.edit(version="v2", signal=SIGNAL, rollback=VERIFIED)
    sim.story.clear()
    sim.run(timedelta(hours=1))
    assert sim.reasons == ["RolloutStarted", "VerificationFailed", "VerificationFailed"]
    assert sim.phase is Phase.ROLLED_BACK
    assert sim.state.stable == stable
    assert sim.state.climbed == ()


def test_what_is_given_up_before_it_starts_is_not_verified_either(
    start: Callable[..., Any],
) -> None:
    sim = start()
    sim.run_until(Phase.SUCCEEDED)
    sim.world.pods_start = False
    sim.edit(version="v2", signal=SIGNAL, rollback=VERIFIED)
    sim.look()
    assert sim.phase is Phase.VERIFYING
    sim.ask("abort")
    sim.story.clear()
    sim.run_until(Phase.ROLLED_BACK, within=timedelta(minutes=1))
    assert [phase for _, phase, _ in sim.story] == [Phase.ROLLED_BACK]


def test_a_canary_that_ran_is_verified(start: Callable[..., Any]) -> None:
    sim = start()
    sim.run_until(Phase.SUCCEEDED)
    sim.edit(version="v2", signal=SIGNAL, rollback=VERIFIED)
    sim.run_until(Phase.PROGRESSING, within=timedelta(minutes=5))
    sim.ask("abort")
    sim.run_until(Phase.VERIFYING_ROLLBACK, within=timedelta(minutes=1))


def test_a_revision_gone_back_to_is_verified_whatever_was_given_up_for_it(
    start: Callable[..., Any],
) -> None:
    sim = start()
    sim.run_until(Phase.SUCCEEDED)
    sim.edit(version="v2")
    sim.run_until(Phase.PROGRESSING, within=timedelta(minutes=5))
    sim.run_until(Phase.SUCCEEDED)
    sim.world.pods_start = False
    sim.edit(version="v3", signal=SIGNAL, rollback=VERIFIED)
    sim.look()
    assert sim.phase is Phase.VERIFYING
    (former,), stable = sim.state.former, sim.state.stable
    sim.ask("rollback", f"{stable.name}-{stable.attempt}/{former.name}")
    sim.world.pods_start = True
    sim.run_until(Phase.VERIFYING_ROLLBACK, within=timedelta(minutes=1))
    assert sim.state.stable.name == former.name


def test_an_ill_metrics_source_keeps_no_corrupt_model(start: Callable[..., Any]) -> None:
    """What is wrong with a file is seen without it."""
    sim = start(signal=SIGNAL)
    sim.world.source_answers = False
    sim.world.refusals = (CORRUPT,)
    sim.run_until(Phase.ROLLED_BACK, within=timedelta(minutes=5))
    assert "VerificationFailed" in sim.reasons


def test_what_was_found_of_another_attempt_is_not_taken_for_this_one(
    start: Callable[..., Any],
) -> None:
    sim = start(signal=SIGNAL)
    sim.look()
    canary = sim.state.canary
    assert canary is not None
    seen = sim.observe()
    for attempt in (canary.attempt - 1, canary.attempt + 1):
        found = Verification(revision=canary.name, attempt=attempt, files=1, total_bytes=5)
        tracks = {(Track.CANARY, canary.name): TrackSeen(1, True, None, found)}
        stale: Any = type(seen)(seen.generation, seen.target, seen.metrics, tracks)
        assert decide(sim.spec, sim.state, stale, sim.now).state.phase is Phase.VERIFYING


def test_artifacts_that_nobody_can_look_at_are_given_up(start: Callable[..., Any]) -> None:
    sim = start(signal=SIGNAL)
    sim.world.pods_start = False
    took = sim.run_until(Phase.ROLLED_BACK)
    assert took >= sim.spec.evaluation.no_data_after
    assert "CanaryNotRunning" in sim.reasons
    assert "ImagePullBackOff" in sim.status["message"]


def test_rules_that_change_meanwhile_change_nothing_of_the_look(
    start: Callable[..., Any],
) -> None:
    sim = start(signal=SIGNAL)
    sim.world.pods_start = False
    sim.look()
    sim.edit(rollback={"conditions": [{"metric": "platt_ece", "above": 0.2}]})
    sim.run(sim.spec.evaluation.interval)
    assert (sim.phase, sim.state.reason) == (Phase.VERIFYING, "RulesChanged")
