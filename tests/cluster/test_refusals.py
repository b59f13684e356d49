"""The API server itself refuses bad objects, and says what to write instead."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from cluster_kit import Kubectl

pytestmark = pytest.mark.cluster

Spec = dict[str, Any]

GOOD: Spec = {
    "version": "v2.0-prod",
    "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
    "signal": {
        "fusion": {"active": {"ofi": 0.7, "cvd": 0.3}},
        "calibration": {"train": "7200s", "test": "1800s"},
        "merge": {"tolerance": "1500ms"},
    },
    "stages": [{"name": "shadow", "duration": "1h"}, {"name": "canary", "duration": "48h"}],
    "rollback": {"conditions": [{"metric": "platt_ece", "above": 0.1, "for": "2m"}]},
}


def set_at(path: str, value: Any) -> Callable[[Spec], None]:
    def change(spec: Spec) -> None:
        *parents, last = path.split(".")
        node: Any = spec
        for part in parents:
            node = node[int(part)] if part.isdigit() else node[part]
        node[int(last) if last.isdigit() else last] = value

    return change


CONDITION = "rollback.conditions.0"
SUM_TO_ONE = "the weights ofi and cvd must sum to 1, for example {ofi: 0.6, cvd: 0.4}"
ONE_BOUND = "write exactly one of above and below"
DURATION = "write a duration such as 1500ms, 30s, 2m or 48h"

BAD = {
    "weights that sum to less than 1": (
        set_at("signal.fusion.active", {"ofi": 0.5, "cvd": 0.4}),
        SUM_TO_ONE,
    ),
    "weights that sum to more than 1": (
        set_at("signal.fusion.quiet", {"ofi": 0.7, "cvd": 0.7}),
        SUM_TO_ONE,
    ),
    "a negative weight": (
        set_at("signal.fusion.active", {"ofi": 1.2, "cvd": -0.2}),
        "spec.signal.fusion.active.cvd in body should be greater than or equal to 0",
    ),
    "an unknown metric": (
        set_at(f"{CONDITION}.metric", "plat_ece"),
        "unknown metric: write one of merge_time_diff_ms_p50",
    ),
    "a condition with both bounds": (set_at(f"{CONDITION}.below", 0.5), ONE_BOUND),
    "a condition with neither bound": (
        set_at(CONDITION, {"metric": "platt_ece", "for": "2m"}),
        ONE_BOUND,
    ),
    "a shadow that publishes": (
        set_at("stages.0", {"name": "shadow", "duration": "1h", "publish": True}),
        "a stage called shadow publishes to nobody",
    ),
    "an AUC that is bad when high": (
        set_at(CONDITION, {"metric": "slice_auc_active_period", "above": 0.6}),
        "a high AUC is good: write below",
    ),
    "a calibration error that is bad when low": (
        set_at(CONDITION, {"metric": "platt_ece", "below": 0.1}),
        "this metric is bad when it is high: write above",
    ),
    "a query with an unknown placeholder": (
        set_at(CONDITION, {"name": "depth", "query": 'up{a="{{pod}}"}', "below": 1}),
        "unknown placeholder: write {{symbol}}",
    ),
    "a query with a placeholder outside quotes": (
        set_at(CONDITION, {"name": "depth", "query": "depth_{{symbol}}", "below": 1}),
        "write {{…}} within a label matcher's quotes only",
    ),
    "a query without its name": (
        set_at(CONDITION, {"query": "vector(1)", "below": 1}),
        "write either metric, or name and query",
    ),
    "a difference of what is not compared": (
        set_at(CONDITION, {"metric": "merge_time_diff_ms_p99", "above": 9, "of": "difference"}),
        "are compared with stable: take of out",
    ),
    "an AUC that is worse when higher": (
        set_at(CONDITION, {"metric": "slice_auc_active_period", "above": 0.8, "of": "difference"}),
        "a lower AUC than stable's is worse: write below",
    ),
    "a warning beyond the bound": (
        set_at(CONDITION, {"metric": "platt_ece", "above": 0.1, "warning": 0.2}),
        "with above, write warning ≤ critical ≤ above",
    ),
    "a critical value milder than the warning": (
        set_at(
            CONDITION,
            {"metric": "slice_auc_ny_session", "below": 0.5, "warning": 0.52, "critical": 0.55},
        ),
        "with below, write warning ≥ critical ≥ below",
    ),
    "a quorum without its scope": (
        set_at("rollback.quorum", 1),
        "write quorum with scope: Quorum, and only there",
    ),
    "a quorum of one and a half": (
        set_at("rollback", {"scope": "Quorum", "quorum": 1.5}),
        "write a whole number of symbols such as 2",
    ),
    "a quorum that cannot be": (
        set_at("rollback", {"scope": "Quorum", "quorum": 9}),
        "rollback.quorum is more than there are canary symbols",
    ),
    "an error rate of one half": (
        set_at("rollback.errorRate", 0.5),
        "spec.rollback.errorRate",
    ),
    "two conditions of one direction": (
        set_at("rollback.conditions", [{"metric": "platt_ece", "above": x} for x in (0.1, 0.2)]),
        "a metric stands in two conditions with the same direction: keep one of them",
    ),
    "a for that is no duration": (set_at(f"{CONDITION}.for", "two minutes"), DURATION),
    "a stage's duration without a unit": (set_at("stages.0.duration", "3600"), DURATION),
    "an interval of nothing": (
        set_at("evaluation", {"interval": "0s"}),
        "it must be longer than 0s",
    ),
    "an interval below a second": (
        set_at("evaluation", {"interval": "200ms"}),
        "evaluation.interval must be at least 1s",
    ),
    "an empty symbol": (
        set_at("symbols.full", ["BTCUSDT", ""]),
        "write a symbol as the exchange does, 2 to 20 capital letters and digits",
    ),
    "a symbol in lower case": (
        set_at("symbols.full", ["BTCUSDT", "ethusdt"]),
        "write a symbol as the exchange does, 2 to 20 capital letters and digits",
    ),
    "no symbols": (
        set_at("symbols", {"canary": [], "full": ["BTCUSDT"]}),
        "spec.symbols.canary in body should have at least 1 items",
    ),
    "a repeated symbol": (
        set_at("symbols.full", ["BTCUSDT", "ETHUSDT", "ETHUSDT"]),
        "a symbol stands in full twice: write each symbol once",
    ),
    "a canary symbol that is not in full": (
        set_at("symbols.canary", ["SOLUSDT"]),
        "every symbol in canary must also be in full: add it to full, or take it out of canary",
    ),
    "a train window of nothing": (
        set_at("signal.calibration.train", "0s"),
        "it must be longer than 0s",
    ),
    "a train window too short to fit on": (
        set_at("signal.calibration.train", "1m"),
        "train and test must each be at least 100s",
    ),
    "a negative train window": (set_at("signal.calibration.train", "-2h"), DURATION),
    "a negative tolerance": (set_at("signal.merge.tolerance", "-1500ms"), DURATION),
    "an unknown field": (
        set_at("rollback.treshold", 1),
        'unknown field "spec.rollback.treshold"',
    ),
    "a version that is no label value": (
        set_at("version", "v2.0 (prod)"),
        "write a version that is a label value",
    ),
    "a version that is too long": (set_at("version", "v" * 64), "may not be more than 63"),
    "stages with the same name": (
        set_at("stages.1.name", "shadow"),
        "two stages have the same name: give each stage a name of its own",
    ),
    "a threshold in words": (
        set_at(f"{CONDITION}.above", "NaN"),
        "spec.rollback.conditions[0].above in body must be of type number",
    ),
    "a threshold beyond all bounds": (
        set_at(f"{CONDITION}.above", 1e300),
        "should be less than or equal to 1e+12",
    ),
    "a claim and a storage class": (
        set_at("storage", {"claimName": "mine", "storageClassName": "fast"}),
        "claimName names a claim that exists: take storageClassName out",
    ),
    "a claim and a bucket": (
        set_at("storage", {"claimName": "mine", "bucket": {"url": "s3://market-data"}}),
        "bucket takes the place of a claim: take claimName out, or bucket",
    ),
    "a bucket that is no s3 address": (
        set_at("storage", {"bucket": {"url": "https://market-data.example"}}),
        "write s3://bucket or s3://bucket/prefix",
    ),
    "model files in an image that a tag names": (
        set_at(
            "signal.artifacts",
            {
                "image": {"url": "oci://ghcr.io/team/models:v3"},
                "files": [{"path": "a.json", "size": 2, "sha256": "0" * 64, "format": "json"}],
            },
        ),
        "write oci://REGISTRY/REPOSITORY@sha256:DIGEST, without a tag: a tag can be moved",
    ),
    "model files that lie nowhere": (
        set_at(
            "signal.artifacts",
            {"files": [{"path": "a.json", "size": 2, "sha256": "0" * 64, "format": "json"}]},
        ),
        "write path, the folder that the files lie in, or image, the OCI artifact",
    ),
    "an exchange address that is no websocket": (
        set_at("source", {"publicUrl": "https://example.com"}),
        "write a websocket address, for example wss://fstream.binance.com/public",
    ),
}


def manifest(spec: Spec, name: str = "refused") -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "signalcanary.dev/v1alpha1",
            "kind": "SignalCanary",
            "metadata": {"name": name},
            "spec": spec,
        }
    )


def test_a_good_object_is_accepted(kubectl: Kubectl) -> None:
    kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest(GOOD))


@pytest.mark.parametrize("case", BAD)
def test_a_bad_object_is_refused_with_what_to_write(kubectl: Kubectl, case: str) -> None:
    change, message = BAD[case]
    spec = copy.deepcopy(GOOD)
    change(spec)
    refusal = kubectl.fails("apply", "--dry-run=server", "-f", "-", stdin=manifest(spec))
    assert message in refusal


@pytest.mark.parametrize("literal", [".nan", ".inf", "-.inf"])
def test_a_number_that_is_not_finite_is_refused(kubectl: Kubectl, literal: str) -> None:
    text = manifest(GOOD).replace("above: 0.1", f"above: {literal}")
    assert literal in text
    refusal = kubectl.fails("apply", "--dry-run=server", "-f", "-", stdin=text)
    assert "json: unsupported value" in refusal or "must be of type number" in refusal


def test_a_name_too_long_for_its_pods_is_refused(kubectl: Kubectl) -> None:
    refusal = kubectl.fails(
        "apply", "--dry-run=server", "-f", "-", stdin=manifest(GOOD, name="a" * 28)
    )
    assert "metadata.name" in refusal
    assert "may not be more than 27" in refusal


def test_storage_cannot_be_moved_under_the_data(kubectl: Kubectl) -> None:
    name = "moved-storage"
    text = manifest(GOOD | {"storage": {"claimName": "mine"}}, name)
    try:
        kubectl("apply", "-f", "-", stdin=text)
        refusal = kubectl.fails("apply", "-f", "-", stdin=text.replace("mine", "other"))
        assert "storage.claimName cannot be changed" in refusal
    finally:
        kubectl("delete", "signalcanary", name, "--ignore-not-found")


def test_every_field_of_the_spec_is_explained(kubectl: Kubectl) -> None:
    listed = kubectl("explain", "signalcanary.spec", "--recursive")
    for field in ("halfLifeTrades", "noDataAfter", "claimName", "tolerance", "tradeStream"):
        assert field in listed
    explained = kubectl("explain", "signalcanary.spec.signal.cvd.halfLifeTrades")
    assert "Unit: trades" in explained
