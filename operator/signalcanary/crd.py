"""The CustomResourceDefinition: spec generated from the models in `api`, status as it is written.

Kubernetes wants a structural schema: no references, no ``anyOf`` with null, booleans for
exclusive bounds, nothing that only JSON Schema knows. The rewrites here are all that lies
between pydantic's schema and that. `crds/` holds the result; a test keeps it in step.
"""

from __future__ import annotations

from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema

from signalcanary.api import (
    DNS_LABEL,
    GROUP,
    KIND,
    MAX_NAME_LENGTH,
    NAME_HELP,
    PLURAL,
    VERSION,
    SignalCanarySpec,
)
from signalcanary.status.schema import build_status_schema

_DROPPED = {"title", "uniqueItems", "additionalProperties"}
_EXCLUSIVE = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


def _structural(node: Any, defs: dict[str, Any]) -> Any:
    """Rewrite one JSON-schema node as a structural Kubernetes schema."""
    if isinstance(node, list):
        return [_structural(item, defs) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[1]]
        # Siblings of the reference (description, default) are of the field and win.
        return _structural({**target, **{k: v for k, v in node.items() if k != "$ref"}}, defs)
    if "anyOf" in node:
        (only,) = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
        rest = {k: v for k, v in node.items() if k not in ("anyOf", "default")}
        return _structural({**only, **rest}, defs)
    if "prefixItems" in node:
        raise ValueError("tuples of fixed length have no structural schema")
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: _structural(child, defs) for name, child in value.items()}
        elif key == "const":
            out["enum"] = [value]
        elif key in _EXCLUSIVE:
            out[_EXCLUSIVE[key]] = value
            out[key] = True
        elif key == "default":
            out[key] = _without_nulls(value)
        elif key in ("enum", "x-kubernetes-validations"):
            out[key] = value
        elif key not in _DROPPED:
            out[key] = _structural(value, defs)
    return out


def _without_nulls(value: Any) -> Any:
    """A default as the API server takes it: what is not set is left out."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


def build_spec_schema() -> dict[str, Any]:
    """The structural schema of ``spec``."""
    schema = SignalCanarySpec.model_json_schema(
        by_alias=True, mode="serialization", schema_generator=_InputDefaults
    )
    defs = schema.pop("$defs", {})
    result: dict[str, Any] = _structural(schema, defs)
    _require_only_what_has_no_default(result)
    return result


class _InputDefaults(GenerateJsonSchema):
    """Fields with a default stay optional though the schema is of the serialised form."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return bool(field["type"] == "model-field" and field["schema"]["type"] != "default")


def _require_only_what_has_no_default(node: Any) -> None:
    if not isinstance(node, dict):
        return
    if node.get("required") == []:
        del node["required"]
    for child in node.get("properties", {}).values():
        _require_only_what_has_no_default(child)
    _require_only_what_has_no_default(node.get("items"))


def find_missing(wanted: Any, served: Any, path: str = "status") -> list[str]:
    """Fields of one schema that another does not have, by path: the API server drops them."""
    if not isinstance(served, dict):
        return [path]
    missing = []
    if "items" in wanted:
        missing += find_missing(wanted["items"], served.get("items"), path)
    known = served.get("properties") or {}
    for name, field in wanted.get("properties", {}).items():
        missing += find_missing(field, known.get(name), f"{path}.{name}")
    return missing


def _column(
    name: str, path: str, description: str, kind: str = "string", priority: int = 0
) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "jsonPath": path,
        "description": description,
        "priority": priority,
    }


def build_crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition, ready for ``kubectl apply``."""
    schema = {
        "type": "object",
        "description": "A SignalCanary rolls out a trading-signal configuration: it runs it "
        "beside the stable one on a few symbols, judges it on live evidence, and promotes it to "
        "the full symbol set or rolls it back.",
        "required": ["spec"],
        "x-kubernetes-validations": [
            {
                "rule": f"self.metadata.name.matches('{DNS_LABEL}')",
                "message": NAME_HELP,
            },
            {
                "rule": "!has(self.spec.after) || !(self.metadata.name in self.spec.after)",
                "message": "spec.after names the object itself: take it out",
            },
        ],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": MAX_NAME_LENGTH}},
            },
            "spec": build_spec_schema(),
            # An object that nobody has looked at yet must not seem to be done (kstatus).
            "status": {**build_status_schema(), "default": {"observedGeneration": -1}},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": "signalcanary",
                "shortNames": ["sigc"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        _column("Phase", ".status.phase", "Phase of the rollout."),
                        _column("Stage", ".status.stage.name", "Stage of the rollout."),
                        _column(
                            "Paused",
                            '.status.conditions[?(@.type=="Paused")].status',
                            "Whether a person has paused it.",
                        ),
                        _column("Worst", ".status.health", "The worst verdict now."),
                        _column("Canary", ".status.candidate", "Version under test, or rejected."),
                        _column("Stable", ".status.stable.version", "Version that serves."),
                        _column("Age", ".metadata.creationTimestamp", "Age.", "date"),
                        _column("Progress", ".status.stage.progress", "Of the stage.", priority=1),
                        _column("Warmup", ".status.warmup", "Windows filled.", priority=1),
                        _column("Message", ".status.message", "What and why.", priority=1),
                    ],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


class _NoAliases(yaml.SafeDumper):
    """Writes what is used twice out twice: not every reader of CRDs knows anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render_crd() -> str:
    """The CRD as the YAML text that `crds/` holds."""
    body = yaml.dump(build_crd(), Dumper=_NoAliases, sort_keys=False, width=100, allow_unicode=True)
    return f"# Generated from operator/signalcanary/api by `make generate`. Do not edit.\n{body}"
