"""The models of a configuration, loaded from the very files that were declared, and timed."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge, Histogram

from signalcanary.artifacts import Artifacts
from signalcanary.contract import WorkloadConfig

from ..artifacts.files import ArtifactFiles
from ..artifacts.inference import Floats32, Model
from ..labels import COMMON, common_values

_BUCKETS = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_LABELS = (*COMMON, "model")


class ModelMetrics:
    """How long models take, by model; of the judged configuration's alone."""

    def __init__(self, registry: CollectorRegistry, config: WorkloadConfig) -> None:
        self._constant = common_values(config)
        self._load = Gauge(
            "signal_model_load_seconds", "Time to load a model.", _LABELS, registry=registry
        )
        self._inference = Histogram(
            "signal_model_inference_seconds",
            "Time for a model's answer to one row.",
            _LABELS,
            buckets=_BUCKETS,
            registry=registry,
        )

    def loaded(self, name: str, seconds: float) -> None:
        self._load.labels(*self._constant, name).set(seconds)

    def of(self, name: str) -> Histogram:
        return self._inference.labels(*self._constant, name)


class _Timed:
    """A model whose answers are timed."""

    def __init__(self, model: Model, histogram: Histogram) -> None:
        self._model = model
        self._histogram = histogram

    def answer(self, row: Floats32) -> float:
        with self._histogram.time():
            return self._model.answer(row)


Loaded = Mapping[str, Model | _Timed]


def load_models(
    root: str, artifacts: Artifacts, metrics: ModelMetrics | None, logins: str | None = None
) -> Loaded:
    """Every model of a configuration, by name.

    Args:
        root: what the artifacts' path is relative to.
        metrics: where the times are to be seen; None if they are not.
        logins: how registries are logged in to, see `WorkloadConfig.logins`.

    Raises:
        ArtifactRefused: a file is not as declared.
        BadModel: a model cannot be used as declared.
        ModuleNotFoundError: onnxruntime is not there.
        StorageError: the volume, the bucket or the registry does not answer as it should.
    """
    if artifacts.models:
        import onnxruntime  # noqa: F401 - its own loading is not a model's

    files = ArtifactFiles(root, artifacts, logins)
    loaded: dict[str, Model | _Timed] = {}
    for declared in artifacts.models:
        data = files.read_at(declared.file)
        began = time.perf_counter()
        model = Model(data, declared)
        if metrics is None:
            loaded[declared.name] = model
            continue
        metrics.loaded(declared.name, time.perf_counter() - began)
        loaded[declared.name] = _Timed(model, metrics.of(declared.name))
    return loaded
