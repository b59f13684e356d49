"""The model files that a signal is rolled out with: what they must be, and what came of the look.

Part of the signal configuration, and so of its fingerprint: each file is named by its SHA-256,
so that two pods of one fingerprint cannot compute with different models. Both sides import this
module: the operator and lint refuse what cannot be right, the workloads check the files
themselves (`signalcanary_workloads.verify`) and say in a `Verification` what they found.

Only formats that are data may be named. What runs code when it is loaded (pickle, joblib, a
torch checkpoint) cannot be written down here at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from signalcanary.wire import Model, PositiveDuration, string_schema

MAX_FILES: Final = 64
MAX_MODELS: Final = 8
MAX_GATES: Final = 32
MAX_INPUTS: Final = 32
MAX_WINDOW: Final = 512
MAX_FILE_BYTES: Final = 256 * 2**20
"""A file is held in memory while it is checked, and pods have a memory limit."""
MAX_MANIFEST_BYTES: Final = 2**20

_PATH: Final = r"^[A-Za-z0-9_][A-Za-z0-9._=-]*(/[A-Za-z0-9_][A-Za-z0-9._=-]*)*$"
_PATH_HELP: Final = (
    "write a path of letters, digits, '.', '_', '=' and '-', with '/' between its parts and no "
    "part that begins with '.', for example models/lstm_1h.onnx"
)
_RUNS_CODE: Final = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt")
_CODE_HELP: Final = (
    "pickle, joblib and torch files run code when they are loaded: export the model as ONNX"
)
_NAME: Final = r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"
_NAME_HELP: Final = "write a name in lower-case letters, digits, '_' and '-', for example lstm"
_SHA256: Final = r"^[0-9a-f]{64}$"
_SHA256_HELP: Final = "write the SHA-256 as sha256sum does, 64 digits of 0-9 and a-f"
_HOST: Final = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?"
_PART: Final = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_IMAGE_URL: Final = rf"^oci://{_HOST}(/{_PART})+@sha256:[0-9a-f]{{64}}$"
"""Names and digests as the OCI distribution specification 1.1 has them, and always a host."""
_IMAGE_URL_HELP: Final = (
    "write oci://REGISTRY/REPOSITORY@sha256:DIGEST, without a tag: a tag can be moved, and a pod "
    "that starts later would not find its files; `oras resolve REGISTRY/REPOSITORY:TAG` prints "
    "the digest"
)
_SECRET: Final = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
_SECRET_HELP: Final = (
    "write the name of a Secret of this namespace: lower-case letters, digits, '-' and '.'"
)
_KEY: Final = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
_KEY_HELP: Final = "write a key of the JSON document, with '.' between levels, for example oof.n"


def _runs_no_code(path: str) -> str:
    if path.lower().endswith(_RUNS_CODE):
        raise ValueError(_CODE_HELP)
    return path


def _path_schema(*, of_data: bool) -> dict[str, Any]:
    schema = string_schema(_PATH, 128, _PATH_HELP)
    if of_data:
        endings = "|".join(ending.removeprefix(".") for ending in _RUNS_CODE)
        rule = f"!self.matches('(?i)\\\\.({endings})$')"
        schema["x-kubernetes-validations"].append({"rule": rule, "message": _CODE_HELP})
    return schema


Folder = Annotated[
    str,
    StringConstraints(pattern=_PATH, max_length=128),
    WithJsonSchema(_path_schema(of_data=False)),
]
FilePath = Annotated[
    str,
    StringConstraints(pattern=_PATH, max_length=128),
    AfterValidator(_runs_no_code),
    WithJsonSchema(_path_schema(of_data=True)),
]
Sha256 = Annotated[
    str,
    StringConstraints(pattern=_SHA256),
    WithJsonSchema(string_schema(_SHA256, 64, _SHA256_HELP)),
]
ImageUrl = Annotated[
    str,
    StringConstraints(pattern=_IMAGE_URL, max_length=256),
    WithJsonSchema(string_schema(_IMAGE_URL, 256, _IMAGE_URL_HELP)),
]
SecretName = Annotated[
    str,
    StringConstraints(pattern=_SECRET, max_length=253),
    WithJsonSchema(string_schema(_SECRET, 253, _SECRET_HELP)),
]
ModelName = Annotated[
    str,
    StringConstraints(pattern=_NAME, max_length=32),
    WithJsonSchema(string_schema(_NAME, 32, _NAME_HELP)),
]
Key = Annotated[
    str,
    StringConstraints(pattern=_KEY, max_length=128),
    WithJsonSchema(string_schema(_KEY, 128, _KEY_HELP)),
]


class Format(StrEnum):
    """What a file may be. None of them runs code when it is read."""

    ONNX = "onnx"
    JSON = "json"
    PARQUET = "parquet"
    NPY = "npy"
    SAFETENSORS = "safetensors"
    TEXT = "text"


class File(Model):
    """One file, by its content."""

    path: FilePath = Field(description="Where it lies, below the artifacts' path.")
    size: int = Field(ge=1, le=MAX_FILE_BYTES, description="Its size. Unit: bytes.")
    sha256: Sha256 = Field(description="Its SHA-256 in hexadecimal digits.")
    format: Format = Field(
        description="onnx, json, parquet, npy, safetensors, or text (UTF-8). Formats that run "
        "code when they are loaded, as pickle does, are not known here."
    )


class Manifest(Model):
    """A JSON document `{"files": [{path, size, sha256, format}, …]}` in place of a list."""

    path: FilePath = Field(description="Where it lies, below the artifacts' path.")
    sha256: Sha256 = Field(description="Its SHA-256 in hexadecimal digits.")


class Image(Model):
    """Files in an OCI registry, each a layer with its name, as `oras push` lays them there."""

    url: ImageUrl = Field(
        description="Which artifact: oci://REGISTRY/REPOSITORY@sha256:DIGEST, by the digest of its "
        "manifest."
    )
    secret_name: SecretName | None = Field(
        default=None,
        description="A Secret in this namespace with a login in the key .dockerconfigjson, as "
        "`kubectl create secret docker-registry` makes it, or with the registry's certificate "
        "authority in the key ca.crt, or both. Without it nobody logs in.",
    )
    plain_http: bool = Field(
        default=False,
        description="Ask the registry without TLS. Anyone on the way can then read the files and "
        "the login: only for a registry of one's own network.",
    )


def _first_twice(names: Sequence[str]) -> str | None:
    return next((name for i, name in enumerate(names) if name in names[:i]), None)


class Listing(Model):
    """What the manifest says."""

    files: tuple[File, ...] = Field(min_length=1, max_length=MAX_FILES)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (twice := _first_twice([file.path for file in self.files])) is not None:
            raise ValueError(f"the file {twice} is listed twice: list it once")
        return self


class Feature(StrEnum):
    """What a model can be given: columns of the 1 Hz grid, each as it was known at its second."""

    Z_OFI = "z_ofi"
    Z_CVD = "z_cvd"
    ACTIVE = "active"
    QUIET = "quiet"


class Role(StrEnum):
    BASE = "base"
    STACKING = "stacking"


_FEATURES: Final = ", ".join(Feature)
_INPUTS_HELP: Final = f"inputs of a base model are features: {_FEATURES}"
_STACKED_HELP: Final = (
    f"inputs of the stacking model are names of base models, and features: {_FEATURES}"
)
_STACKED_WINDOW_HELP: Final = "the stacking model takes one row at a time: take its window out"
_ONE_STACKING_HELP: Final = "there is one stacking model at most: give the others the role base"
_CEL_FEATURES: Final = f"[{', '.join(repr(str(feature)) for feature in Feature)}]"


class ArtifactModel(Model):
    """A model of the ensemble: an ONNX file, what it is given, and what it gives."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": f"self.role == 'stacking' || self.inputs.all(i, i in {_CEL_FEATURES})",
                    "message": _INPUTS_HELP,
                },
                {
                    "rule": "self.role != 'stacking' || self.window == 1",
                    "message": _STACKED_WINDOW_HELP,
                },
            ]
        }
    )

    name: ModelName = Field(description="Its name, the metric label `model`.")
    file: FilePath = Field(description="Path of its ONNX file, one of those listed.")
    role: Role = Field(
        default=Role.BASE,
        description="base: gives a probability of its own. stacking: makes one of the base "
        "models' probabilities.",
    )
    inputs: tuple[ModelName, ...] = Field(
        min_length=1,
        max_length=MAX_INPUTS,
        description=f"What it is given, in the order of its input's last axis. A base model: "
        f"{_FEATURES}. The stacking model: names of base models, and features.",
    )
    window: int = Field(
        default=1,
        ge=1,
        le=MAX_WINDOW,
        description="Seconds of history that it is given, the newest last. Its input has the "
        "shape [1, inputs] where this is 1, else [1, window, inputs], of float32.",
    )
    output: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Name of the output that holds the probability; the first if not given.",
    )
    index: int = Field(
        default=0,
        ge=0,
        le=1023,
        description="Which element of that output is the probability that the mid price rises, "
        "for example the head of a horizon.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.role is Role.BASE and not set(self.inputs) <= set(Feature):
            raise ValueError(_INPUTS_HELP)
        if self.role is Role.STACKING and self.window != 1:
            raise ValueError(_STACKED_WINDOW_HELP)
        return self


class Gate(Model):
    """A bound on a number in a metadata file, for example of out-of-fold samples."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "has(self.min) || has(self.max)",
                    "message": "a gate needs min, max or both, for example {min: 10000}",
                }
            ]
        }
    )

    file: FilePath = Field(description="Path of a JSON file, one of those listed.")
    key: Key = Field(description="Which number of it, with '.' between levels, for example n_oof.")
    min: float | None = Field(default=None, description="The least that it may be.")
    max: float | None = Field(default=None, description="The most that it may be.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a gate needs min, max or both, for example {min: 10000}")
        return self


class Smoke(Model):
    """How fast each model must be, alone on one thread of a CPU, before the rollout begins."""

    max_load: PositiveDuration = Field(
        default=timedelta(seconds=30), description="Longest time to load a model. Unit: CPU time."
    )
    max_inference: PositiveDuration = Field(
        default=timedelta(milliseconds=100),
        description="Longest time for one row, of which 99 in 100 must be quicker. Unit: CPU "
        "time, so that a busy node refuses no good model.",
    )


_WHERE_HELP: Final = (
    "write path, the folder that the files lie in, or image, the OCI artifact that holds them"
)


class Artifacts(Model):
    """Model files, checked before any pod of the canary starts."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "has(self.path) || has(self.image)", "message": _WHERE_HELP},
                {
                    "rule": "has(self.files) != has(self.manifest)",
                    "message": "write either files or manifest, where the files are listed",
                },
                {
                    "rule": "!has(self.files) || "
                    "self.files.all(x, self.files.exists_one(y, y.path == x.path))",
                    "message": "a file is listed twice: list it once",
                },
                {
                    "rule": "!has(self.models) || "
                    "self.models.all(x, self.models.exists_one(y, y.name == x.name))",
                    "message": "two models have the same name: give each a name of its own",
                },
                {
                    "rule": "!has(self.models) || "
                    "self.models.filter(x, x.role == 'stacking').size() <= 1",
                    "message": _ONE_STACKING_HELP,
                },
                {
                    "rule": "!has(self.models) || self.models.all(x, x.role != 'stacking' || "
                    f"x.inputs.all(i, i in {_CEL_FEATURES} || "
                    "self.models.exists(y, y.name == i && y.role == 'base')))",
                    "message": _STACKED_HELP,
                },
                {
                    "rule": "!has(self.files) || !has(self.models) || self.models.all(x, "
                    "self.files.exists(y, y.path == x.file && y.format == 'onnx'))",
                    "message": "a model's file is not among the files of the format onnx: list it",
                },
                {
                    "rule": "!has(self.files) || !has(self.gates) || self.gates.all(x, "
                    "self.files.exists(y, y.path == x.file && y.format == 'json'))",
                    "message": "a gate's file is not among the files of the format json: list it",
                },
            ]
        }
    )

    path: Folder | None = Field(
        default=None,
        description="The folder they lie in, on the volume of `storage` or below the URL of its "
        "bucket; without a cluster, beside the manifest that is run. With `image`, what the names "
        "in it begin with, if anything.",
    )
    image: Image | None = Field(
        default=None, description="An OCI artifact that they lie in, in place of `storage`."
    )
    files: tuple[File, ...] | None = Field(
        default=None, min_length=1, max_length=MAX_FILES, description="Every file."
    )
    manifest: Manifest | None = Field(
        default=None, description="A document that lists every file, in place of `files`."
    )
    models: tuple[ArtifactModel, ...] = Field(
        default=(), max_length=MAX_MODELS, description="The models that the signal is made with."
    )
    stacking: bool = Field(
        default=True,
        description="Let the stacking model, where there is one, say what is otherwise the mean of "
        "the base models' probabilities.",
    )
    log_odds_per_z: float = Field(
        default=0.3,
        gt=0,
        le=10,
        description="The log-odds ln(p/(1−p)) that weigh as much as a z-score of 1.",
    )
    gates: tuple[Gate, ...] = Field(
        default=(),
        max_length=MAX_GATES,
        description="Bounds on numbers in the metadata; a gate that is not met refuses all.",
    )
    smoke: Smoke = Field(
        default=Smoke(), description="How fast each model must be before the rollout begins."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.path is None and self.image is None:
            raise ValueError(_WHERE_HELP)
        if (self.files is None) == (self.manifest is None):
            raise ValueError("write either files or manifest, where the files are listed")
        names = [model.name for model in self.models]
        if (twice := _first_twice(names)) is not None:
            raise ValueError(f"two models are called {twice}: give each a name of its own")
        stacking = [model for model in self.models if model.role is Role.STACKING]
        if len(stacking) > 1:
            raise ValueError(_ONE_STACKING_HELP)
        base = {model.name for model in self.models if model.role is Role.BASE}
        if any(not set(model.inputs) <= base | set(Feature) for model in stacking):
            raise ValueError(_STACKED_HELP)
        if self.files is not None:
            listing = Listing(files=self.files)
            if (missing := find_unlisted(self, listing)) is not None:
                raise ValueError(missing)
        return self


def find_unlisted(artifacts: Artifacts, listing: Listing) -> str | None:
    """What a model or a gate names that is not listed as it must be, in words."""
    formats = {file.path: file.format for file in listing.files}
    for model in artifacts.models:
        if formats.get(model.file) is not Format.ONNX:
            return (
                f"{model.file} of the model {model.name} is not among the files of the format "
                "onnx: list it"
            )
    for gate in artifacts.gates:
        if formats.get(gate.file) is not Format.JSON:
            return (
                f"{gate.file} of the gate on {gate.key} is not among the files of the format "
                "json: list it"
            )
    return None


# --------------------------------------------------------------------------- what was found


class Reason(StrEnum):
    """Why artifacts are refused."""

    ARTIFACT_MISSING = "ArtifactMissing"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    FORMAT_INVALID = "FormatInvalid"
    SMOKE_INFERENCE_FAILED = "SmokeInferenceFailed"
    GATE_FAILED = "GateFailed"


class Refusal(Model):
    """One thing that is wrong with one file."""

    reason: Reason
    file: str
    message: str = Field(max_length=400, description="What is wrong, in words, without the file.")


class Figures(Model):
    """What a model took in its smoke inference on one thread: CPU time."""

    name: str
    load_ms: float
    p50_ms: float
    p99_ms: float


MAX_TOLD: Final = 4
"""Refusals in a `Verification`; with all else it must fit into the 4,096 bytes that Kubernetes
keeps of what a container says at its end."""


class Verification(Model):
    """What came of the look at the files of one attempt of a revision."""

    revision: str
    attempt: int
    files: int = Field(description="How many were looked at.")
    total_bytes: int
    models: tuple[Figures, ...] = ()
    refusals: tuple[Refusal, ...] = Field(
        default=(), max_length=MAX_TOLD, description="What is wrong; empty if all is well."
    )
    more: int = Field(default=0, description="How many refusals were left out.")
