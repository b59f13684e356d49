"""The generated CRD: structural as Kubernetes wants it, explained, bounded, and in step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from signalcanary.api import MAX_NAME_LENGTH, SignalCanarySpec
from signalcanary.contract import JUDGED_METRICS, Component, Track
from signalcanary.crd import build_crd, build_spec_schema, render_crd
from signalcanary.promql import MAX_QUERY_LENGTH
from signalcanary.resources import stateful_set_name
from signalcanary.status.schema import build_status_schema

ROOT = Path(__file__).parents[3]
SPEC = build_spec_schema()
STATUS = build_status_schema()
UNSTRUCTURAL = {
    *("$ref", "$defs", "definitions", "anyOf", "oneOf", "allOf", "not", "const", "title"),
    *("additionalProperties", "uniqueItems", "prefixItems", "patternProperties", "if", "then"),
}


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


ALL = [*nodes(SPEC, "spec"), *nodes(STATUS, "status")]


def test_the_schema_is_structural() -> None:
    for path, node in ALL:
        assert not UNSTRUCTURAL & node.keys(), path
        assert isinstance(node.get("type"), str), path
        if "exclusiveMinimum" in node:
            assert node["exclusiveMinimum"] is True, path
            assert "minimum" in node, path


def test_every_field_is_explained() -> None:
    fields = [(path, node) for path, node in ALL if not path.endswith("[]")]
    assert len(fields) > 80
    for path, node in fields:
        assert node.get("description", "").endswith("."), path


def test_all_that_a_rule_may_walk_is_bounded() -> None:
    """The API server refuses a CRD whose rules could cost too much."""
    for path, node in nodes(SPEC, "spec"):
        if node["type"] == "array":
            assert node.get("maxItems", 1000) <= 256, path
        if node["type"] == "string" and "enum" not in node:
            # A query is read by one rule alone, at a cost that the API server accepts.
            longest = MAX_QUERY_LENGTH if path.endswith(".query") else 256
            assert node.get("maxLength", longest + 1) <= longest, path


def test_every_refusal_of_the_server_says_what_to_write() -> None:
    for path, node in ALL:
        for rule in node.get("x-kubernetes-validations", ()):
            assert rule["rule"], path
            assert len(rule["message"]) > 20, path
        assert "pattern" not in node, f"{path}: a bare pattern explains nothing"


def test_defaults_are_as_the_models_have_them() -> None:
    """What the server fills in must read back as what the model would have filled in."""

    def defaults(schema: dict[str, Any]) -> dict[str, Any]:
        return {k: v["default"] for k, v in schema["properties"].items() if "default" in v}

    least = {"version": "v1", "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]}}
    filled = SignalCanarySpec.model_validate(defaults(SPEC) | least)
    assert filled == SignalCanarySpec.model_validate(least)


def test_only_what_has_no_default_is_required() -> None:
    for path, node in nodes(SPEC, "spec"):
        for name in node.get("required", ()):
            assert "default" not in node["properties"][name], f"{path}.{name}"
    assert sorted(SPEC["required"]) == ["symbols", "version"]


def test_the_metrics_that_may_be_named_are_those_that_are_judged() -> None:
    metric = SPEC["properties"]["rollback"]["properties"]["conditions"]["items"]["properties"]
    (rule,) = metric["metric"]["x-kubernetes-validations"]
    for name in JUDGED_METRICS:
        assert repr(name) in rule["rule"]
        assert name in rule["message"]


@pytest.mark.parametrize("track", Track)
@pytest.mark.parametrize("component", Component)
def test_the_longest_name_fits_into_the_labels_of_its_pods(
    track: Track, component: Component
) -> None:
    """Pods carry controller-revision-hash: <StatefulSet>-<10 digits>, at most 63."""
    name = stateful_set_name("a" * MAX_NAME_LENGTH, track, "01234567", component)
    assert len(name) <= 63 - 11


def test_a_name_with_dots_is_refused_as_host_names_have_none() -> None:
    schema = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rule = schema["x-kubernetes-validations"][0]
    assert rule["rule"] == "self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')"
    assert "without dots" in rule["message"]


def test_the_text_holds_no_anchors() -> None:
    assert "&id" not in render_crd()
    assert yaml.safe_load(render_crd()) == build_crd()


@pytest.mark.parametrize("folder", ["crds", "charts/signalcanary/crds", "charts/kustomize/base"])
def test_the_committed_crd_is_in_step_with_the_models(folder: str) -> None:
    path = ROOT / folder / "signalcanary.dev_signalcanaries.yaml"
    assert path.read_text() == render_crd(), "run `make generate`"
