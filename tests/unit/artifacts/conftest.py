"""Model files in a folder, and the look at them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from signalcanary.artifacts import Artifacts, Verification
from signalcanary_workloads.verify.check import verify

MAKER = Path(__file__).parents[3] / "examples" / "models" / "make_models.py"
MODELS: list[dict[str, Any]] = [
    {"name": "lgb", "file": "lgb.onnx", "inputs": ["z_ofi", "z_cvd", "active"]},
    {"name": "lstm", "file": "lstm.onnx", "inputs": ["z_ofi", "z_cvd"], "window": 20},
    {"name": "stacking", "file": "stacking.onnx", "role": "stacking", "inputs": ["lgb", "lstm"]},
]


@pytest.fixture(scope="session")
def maker() -> ModuleType:
    """The script that makes the example's models."""
    spec = importlib.util.spec_from_file_location("make_models", MAKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Bench:
    """A folder of files and a configuration that declares them; either may be changed."""

    root: Path
    files: dict[str, bytes]
    declared: dict[str, Any] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)

    def declare(self, path: str, data: bytes, format: str | None = None) -> None:
        """Add a file as it should be."""
        self.files[path] = data
        if format is not None:
            self.formats[path] = format

    def listed(self) -> list[dict[str, Any]]:
        return [
            {
                "path": path,
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "format": self.formats.get(path, path.rsplit(".", 1)[-1]),
            }
            for path, data in self.files.items()
        ]

    def artifacts(self) -> Artifacts:
        given: dict[str, Any] = {"path": "models/v1", "models": MODELS, **self.declared}
        if "manifest" not in given:
            given.setdefault("files", self.listed())
        return Artifacts.model_validate(given)

    def write(self, **instead: bytes | None) -> None:
        """Write what is declared, but for files that are otherwise, or not there."""
        folder = self.root / "models/v1"
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in (self.files | instead).items():
            if data is not None:
                (folder / path).write_bytes(data)

    def verify(self) -> Verification:
        return verify(self.artifacts(), str(self.root), "cafe0123", 2)

    def refusal(self) -> str:
        """The only thing that is wrong."""
        found = self.verify()
        (only,) = found.refusals
        assert found.more == 0
        return f"{only.file}: {only.reason}: {only.message}"


@pytest.fixture
def bench(tmp_path: Path, maker: ModuleType) -> Bench:
    return Bench(tmp_path, maker.build_files())


@pytest.fixture
def use_manifest() -> Callable[..., None]:
    """Declare the files by a manifest."""

    def write(bench: Bench, **changes: Any) -> None:
        data = json.dumps({"files": bench.listed()} | changes).encode()
        bench.write(**{"manifest.json": data})
        sha256 = hashlib.sha256(data).hexdigest()
        bench.declared["manifest"] = {"path": "manifest.json", "sha256": sha256}

    return write
