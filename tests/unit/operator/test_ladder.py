"""Which revision each rung of the ladder stands for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from signalcanary.api import Feature, SignalCanarySpec
from signalcanary.contract import SignalConfig
from signalcanary.ladder import Step, disable, resolve
from signalcanary.revisions import Revision, RevisionRef, build_revision, refer_to

WEIGHTS = {
    "baseline": {"ofi": 0.6, "cvd": 0.4},
    "active": {"ofi": 0.8, "cvd": 0.2},
    "quiet": {"ofi": 0.3, "cvd": 0.7},
}


def spec(version: str = "v2", ladder: list[dict[str, Any]] | None = None) -> SignalCanarySpec:
    wire: dict[str, Any] = {
        "version": version,
        "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
        "signal": {"fusion": WEIGHTS},
    }
    if ladder is not None:
        wire["rollback"] = {"ladder": ladder}
    return SignalCanarySpec.model_validate(wire)


def on_record(*versions: str) -> tuple[dict[str, Revision], dict[str, RevisionRef]]:
    """Revisions by name, and references to them by version."""
    revisions = [build_revision(spec(version), "img:1") for version in versions]
    refs = {r.version: refer_to(r, n) for n, r in enumerate(revisions, 1)}
    return {refs[r.version].name: r for r in revisions}, refs


def steps(ladder: list[dict[str, Any]] | None, previous: str | None = "v1") -> tuple[Step, ...]:
    known, refs = on_record("v0", "v1", "v2")
    before = refs[previous] if previous else None
    return resolve(spec(ladder=ladder), refs["v2"], before, known, attempt=9)


def test_without_a_ladder_it_is_the_revision_before_and_then_nothing() -> None:
    first, last = steps(None)
    assert first.ref is not None
    assert first.ref.version == "v1"
    assert first.problem is None
    assert first.ref.attempt == 2, "it goes on with the evidence and the pods that it had"
    assert (last.ref, last.problem) == (None, None)


def test_without_a_revision_before_that_rung_cannot_be_had() -> None:
    first, last = steps(None, previous=None)
    assert first.problem == "there is no stable revision before it"
    assert last.problem is None


def test_features_are_switched_off_in_what_serves() -> None:
    (step,) = steps([{"name": "plain", "disable": ["Regimes", "AutoFlip"]}])
    assert step.revision is not None
    assert step.ref is not None
    fusion = step.revision.signal.fusion
    assert fusion.active == fusion.quiet == fusion.baseline
    assert fusion.baseline.ofi == 0.6
    assert step.revision.signal.cvd.auto_flip is False
    assert step.ref.name not in {ref.name for ref in on_record("v0", "v1", "v2")[1].values()}
    assert step.ref.version == "v2"


MODELS: dict[str, Any] = {
    "path": "models",
    "files": [{"path": "lstm.onnx", "size": 9, "sha256": "0" * 64, "format": "onnx"}],
    "models": [{"name": "lstm", "file": "lstm.onnx", "inputs": ["z_ofi"]}],
}


def with_models(ofi: float, cvd: float, ml: float) -> SignalConfig:
    weights = {"ofi": ofi, "cvd": cvd, "ml": ml}
    fusion = dict.fromkeys(("baseline", "active", "quiet"), weights)
    return SignalConfig.model_validate({"fusion": fusion, "artifacts": MODELS})


def test_stacking_is_switched_off_beneath_the_same_models() -> None:
    signal = disable(with_models(0.3, 0.2, 0.5), (Feature.STACKING,))
    assert signal.artifacts is not None
    assert signal.artifacts.stacking is False
    assert signal.fusion.active.ml == 0.5


def test_without_models_the_others_take_their_weight() -> None:
    signal = disable(with_models(0.3, 0.2, 0.5), (Feature.ML,))
    assert signal.artifacts is None
    weights = signal.fusion.quiet
    assert (weights.ofi, weights.cvd, weights.ml) == (pytest.approx(0.6), pytest.approx(0.4), None)
    assert SignalConfig.model_validate(signal.to_wire()) == signal, "it may be written so"


@pytest.mark.parametrize("feature", [Feature.STACKING, Feature.ML])
def test_where_there_are_no_models_there_is_nothing_to_switch_off(feature: Feature) -> None:
    assert disable(spec().signal, (feature,)) == spec().signal


def test_a_feature_that_is_off_already_is_no_step() -> None:
    served = disable(spec().signal, (Feature.AUTO_FLIP,))
    revision = build_revision(spec(), "img:1").model_copy(update={"signal": served})
    ref = refer_to(revision, 1)
    ladder = spec(ladder=[{"name": "no-flip", "disable": ["AutoFlip"]}])
    (step,) = resolve(ladder, ref, None, {ref.name: revision}, attempt=2)
    assert step.problem == "it is what serves already"


def test_a_version_is_found_on_record() -> None:
    found, missing = steps([{"name": "a", "version": "v0"}, {"name": "b", "version": "v7"}])
    assert found.ref is not None
    assert found.ref.version == "v0"
    assert missing.problem == "no revision of version v7 is on record"


BAD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "two kinds in a rung": (
        [{"name": "a", "revision": "Previous", "stop": True}],
        "exactly one of disable, revision, version and stop",
    ),
    "no kind": ([{"name": "a"}], "exactly one of disable, revision, version and stop"),
    "two of one name": (
        [{"name": "a", "revision": "Previous"}, {"name": "a", "stop": True}],
        "two rungs are called a",
    ),
    "a rung after the end": (
        [{"name": "a", "stop": True}, {"name": "b", "revision": "Previous"}],
        "make it the last rung",
    ),
    "an unknown feature": ([{"name": "a", "disable": ["Leverage"]}], "AutoFlip"),
    "no rung": ([], "at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_ladder_is_refused_with_what_to_write(case: str) -> None:
    ladder, words = BAD[case]
    with pytest.raises(ValidationError, match=words):
        spec(ladder=ladder)
