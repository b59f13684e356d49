"""From files where they lie to a `Verification`: what is there, what it is, and whether it works.

In this order, and each step only on what the one before found good: size and SHA-256, format,
metadata gates, smoke inference. So nothing is parsed that is not what was declared, and no model
runs beside a file that was refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from signalcanary.artifacts import (
    MAX_TOLD,
    Artifacts,
    Figures,
    Format,
    Gate,
    Reason,
    Refusal,
    Verification,
)
from signalcanary.wire import shown

from ..artifacts.errors import ArtifactRefused
from ..artifacts.files import ArtifactFiles
from ..artifacts.formats import NO_RUNTIME, BadFormat, check_format, read_json
from ..artifacts.inference import BadModel
from ..artifacts.smoke import run_smoke


@dataclass
class _Found:
    files: int = 0
    total_bytes: int = 0
    models: list[Figures] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, reason: Reason, file: str, message: str) -> None:
        self.refusals.append(ArtifactRefused(reason, file, message).refusal)


def verify(
    artifacts: Artifacts, root: str, revision: str, attempt: int, logins: str | None = None
) -> Verification:
    """Look at every file of a configuration.

    Args:
        root: what the artifacts' path is relative to.
        revision, attempt: what is verified, as the result says it.
        logins: how registries are logged in to, see `WorkloadConfig.logins`.

    Raises:
        StorageError: the volume, the bucket or the registry does not answer as it should.
        ValueError: the root is a URL without a bucket.
    """
    found = _Found()
    files = ArtifactFiles(root, artifacts, logins)
    try:
        listing = files.listing
    except ArtifactRefused as refused:
        found.refusals.append(refused.refusal)
    else:
        documents: dict[str, Any] = {}
        for file in listing.files:
            found.files += 1
            found.total_bytes += file.size
            try:
                data = files.read(file)
                check_format(file.format, data)
                if file.format is Format.JSON:
                    documents[file.path] = read_json(data)
            except ArtifactRefused as refused:
                found.refusals.append(refused.refusal)
            except BadFormat as error:
                found.refuse(Reason.FORMAT_INVALID, file.path, str(error))
            except ModuleNotFoundError:
                found.refuse(Reason.SMOKE_INFERENCE_FAILED, file.path, NO_RUNTIME)
        if not found.refusals:
            _check_gates(artifacts, documents, found)
        if not found.refusals:
            _check_models(artifacts, files, found)
    return Verification(
        revision=revision,
        attempt=attempt,
        files=found.files,
        total_bytes=found.total_bytes,
        models=tuple(found.models),
        refusals=tuple(found.refusals[:MAX_TOLD]),
        more=max(0, len(found.refusals) - MAX_TOLD),
    )


def _check_gates(artifacts: Artifacts, documents: Mapping[str, Any], found: _Found) -> None:
    for gate in artifacts.gates:
        if (told := judge_gate(gate, documents[gate.file])) is not None:
            found.refuse(Reason.GATE_FAILED, gate.file, told)


def judge_gate(gate: Gate, document: Any) -> str | None:
    """Why a document does not meet a gate, in words; None if it does."""
    value = document
    for part in gate.key.split("."):
        if not isinstance(value, dict) or part not in value:
            return f"it has no {gate.key}"
        value = value[part]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"{gate.key} is {value!r:.60}, which is no number"
    if gate.min is not None and value < gate.min:
        return f"{gate.key} is {shown(value)}; it must be at least {shown(gate.min)}"
    if gate.max is not None and value > gate.max:
        return f"{gate.key} is {shown(value)}; it must be at most {shown(gate.max)}"
    return None


def _check_models(artifacts: Artifacts, files: ArtifactFiles, found: _Found) -> None:
    for model in artifacts.models:
        try:
            found.models.append(run_smoke(files.read_at(model.file), model, artifacts.smoke))
        except ArtifactRefused as refused:
            found.refusals.append(refused.refusal)
        except BadModel as error:
            told = f"model {model.name}: {error}"
            found.refuse(Reason.SMOKE_INFERENCE_FAILED, model.file, told)
        except ModuleNotFoundError:
            found.refuse(Reason.SMOKE_INFERENCE_FAILED, model.file, NO_RUNTIME)
