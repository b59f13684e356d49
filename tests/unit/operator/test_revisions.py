"""What makes a revision another one, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from signalcanary.api import SignalCanarySpec
from signalcanary.revisions import RevisionRef, build_revision, canonical_hash, refer_to

WIRE: dict[str, Any] = {
    "version": "v1",
    "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
}


def ref(image: str = "img:1", generation: int = 1, **changes: Any) -> RevisionRef:
    spec = SignalCanarySpec.model_validate(WIRE | changes)
    return refer_to(build_revision(spec, image), generation)


SAME: dict[str, dict[str, Any]] = {
    "other canary symbols": {"symbols": {"canary": ["ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT"]}},
    "other stages": {"stages": [{"name": "x", "duration": "1h"}]},
    "other conditions": {"rollback": {"conditions": [{"metric": "platt_ece", "above": 0.2}]}},
    "another pace": {"evaluation": {"interval": "30s"}},
    "a default written out": {"signal": {"label": {"type": "mid", "horizon": "10000ms"}}},
}
OTHER: dict[str, dict[str, Any]] = {
    "another version": {"version": "v2"},
    "another full set": {"symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]}},
    "another weight": {"signal": {"fusion": {"active": {"ofi": 0.8, "cvd": 0.2}}}},
    "another exchange": {"source": {"tradeStream": "trade"}},
    "another sharding": {"workloads": {"symbolsPerShard": 1}},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_what_does_not_run_differently_is_the_same_revision(changes: dict[str, Any]) -> None:
    assert ref(**changes) == ref()


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
def test_what_runs_differently_is_another_revision(changes: dict[str, Any]) -> None:
    assert ref(**changes).name != ref().name


def test_the_image_changes_the_fingerprint_but_starts_no_rollout() -> None:
    new = ref(image="img:2")
    assert new.name == ref().name
    assert new.fingerprint != ref().fingerprint


def test_the_version_alone_does_not_change_the_signal() -> None:
    assert ref(version="v2").fingerprint == ref().fingerprint


def test_names_are_label_values_of_a_fixed_length() -> None:
    assert len(ref().name) == 8
    assert len(ref().fingerprint) == 16
    assert int(ref().name + ref().fingerprint, 16) >= 0


def test_the_order_of_keys_is_irrelevant() -> None:
    assert canonical_hash({"a": 1, "b": {"c": 2, "d": 3}}) == canonical_hash(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )


def test_a_number_is_the_same_with_and_without_its_point() -> None:
    """The API server stores 8.0 as 8."""
    one = {"cvd": {"winsorLimit": 8}, "fusion": {"active": {"ofi": 1, "cvd": 0}}}
    two = {"cvd": {"winsorLimit": 8.0}, "fusion": {"active": {"ofi": 1.0, "cvd": 0.0}}}
    assert ref(signal=one) == ref(signal=two)


def test_a_revision_reads_back_from_its_record() -> None:
    revision = build_revision(SignalCanarySpec.model_validate(WIRE), "img:1")
    again = type(revision).model_validate(revision.to_wire())
    assert refer_to(again, 1) == ref()


def test_a_number_that_json_does_not_know_has_no_hash() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_hash(float("nan"))
