"""A SignalCanary built in Python: checked as the API server would, and written as YAML.

The parts are the models of `api` and `contract`, which the CRD is generated from; the object as a
whole goes through `lint`, so there is one set of rules and one set of words. What is in `__all__`
is public: `from signalcanary import …` (docs/python.md). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from signalcanary.api import (
    API_VERSION,
    KIND,
    Approval,
    Bucket,
    Condition,
    Day,
    Evaluation,
    Feature,
    Group,
    Manual,
    Mode,
    Of,
    OnDeadline,
    OnNoData,
    OnVerdict,
    Pace,
    ReclaimPolicy,
    Rollback,
    Rung,
    Schedule,
    Scope,
    SignalCanarySpec,
    Stage,
    Storage,
    Symbols,
    Verify,
    Window,
    Windows,
    Workloads,
)
from signalcanary.artifacts import Artifacts
from signalcanary.contract import (
    Calibration,
    Cvd,
    DataSource,
    Fusion,
    Label,
    Merge,
    RegimeWeights,
    SignalConfig,
)
from signalcanary.lint import Problem, check

__all__ = [
    "Approval",
    "Artifacts",
    "Bucket",
    "Calibration",
    "Condition",
    "Cvd",
    "DataSource",
    "Day",
    "Evaluation",
    "Feature",
    "Fusion",
    "Group",
    "Label",
    "ManifestError",
    "Manual",
    "Merge",
    "Mode",
    "Of",
    "OnDeadline",
    "OnNoData",
    "OnVerdict",
    "Pace",
    "Problem",
    "ReclaimPolicy",
    "RegimeWeights",
    "Rollback",
    "Rung",
    "Schedule",
    "Scope",
    "SignalCanary",
    "SignalCanarySpec",
    "SignalConfig",
    "Stage",
    "Storage",
    "Symbols",
    "Verify",
    "Window",
    "Windows",
    "Workloads",
]


class ManifestError(ValueError):
    """A manifest that the API server would refuse.

    Attributes:
        problems: each with its line in the YAML and what to write instead.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(p.describe("line") for p in problems))
        self.problems = problems


@dataclass(frozen=True)
class SignalCanary:
    """One SignalCanary, as it stands in a manifest.

    Only what was written is written again: what was left to its default stays out, so that the
    YAML is as short as a person's, and Git shows no difference when a default changes.

    Raises:
        ManifestError: name, labels or annotations are not what Kubernetes takes. Of the spec
            pydantic's ValidationError says it where it is built.
    """

    name: str
    spec: SignalCanarySpec
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse_problems(self.to_yaml())

    @classmethod
    def from_yaml(cls, text: str, name: str | None = None) -> SignalCanary:
        """Read the SignalCanary of a YAML text; of several the one of that name.

        Raises:
            ManifestError: the text has problems.
            LookupError: it holds none of that name, or several.
        """
        _refuse_problems(text)
        documents = [d for d in yaml.safe_load_all(text) if d and d["kind"] == KIND]
        chosen = [d for d in documents if name in (None, d["metadata"]["name"])]
        if len(chosen) != 1:
            there = ", ".join(d["metadata"]["name"] for d in documents) or "none"
            raise LookupError(f"one {KIND} is needed; the text holds {there}: choose by its name")
        metadata = chosen[0]["metadata"]
        return cls(
            metadata["name"],
            SignalCanarySpec.model_validate(chosen[0]["spec"]),
            metadata.get("namespace"),
            metadata.get("labels") or {},
            metadata.get("annotations") or {},
        )

    def to_dict(self) -> dict[str, Any]:
        """As `kubectl apply` takes it, JSON-ready."""
        metadata = {
            "name": self.name,
            "namespace": self.namespace,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }
        spec = self.spec.model_dump(
            mode="json", by_alias=True, exclude_unset=True, exclude_none=True
        )
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {key: value for key, value in metadata.items() if value},
            "spec": spec,
        }

    def to_yaml(self) -> str:
        """The manifest, its fields in the order in which they were declared."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)


def _refuse_problems(text: str) -> None:
    if problems := check(text).problems:
        raise ManifestError(problems)
