"""Makes the model files that `rollout.yaml` beside it rolls out: three small ONNX models, their
metadata and a manifest.

    python examples/models/make_models.py

Needs the packages `onnx` and `numpy` (the extra `models`). The models are not trained: they are
there to show the shapes that a rollout takes, a model of one row, one of a window of rows and one
that stacks the two, and they lean as order flow does. The files are the same wherever they are
made, so their SHA-256 can stand in `rollout.yaml`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, TensorProto, helper, numpy_helper

WINDOW = 20
HIDDEN = 4


def _model(
    nodes: Sequence[object], weights: dict[str, np.ndarray], input_shape: Sequence[int | str]
) -> bytes:
    """An ONNX file from `rows` to `probability`."""
    graph = helper.make_graph(
        list(nodes),
        "signal",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    # The versions are written down, so that another release of the library makes the same bytes.
    opset = [helper.make_opsetid("", 17)]
    model: ModelProto = helper.make_model(graph, ir_version=8, opset_imports=opset)
    return model.SerializeToString(deterministic=True)


def _floats(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, np.float32)


def logistic(weights: Sequence[float], bias: float = 0.0) -> bytes:
    """σ(w·x + b) of one row."""
    return _model(
        [
            helper.make_node("Gemm", ["rows", "w", "b"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["probability"]),
        ],
        {"w": _floats([[w] for w in weights]), "b": _floats([bias])},
        ["batch", len(weights)],
    )


def recurrent(inputs: int, window: int = WINDOW) -> bytes:
    """An LSTM over a window of rows, and σ of what it ends with."""
    random = np.random.default_rng(4)
    return _model(
        [
            helper.make_node("Transpose", ["rows"], ["steps"], perm=[1, 0, 2]),
            helper.make_node("LSTM", ["steps", "w", "r"], ["", "last"], hidden_size=HIDDEN),
            helper.make_node("Squeeze", ["last", "direction"], ["state"]),
            helper.make_node("Gemm", ["state", "v", "b"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["probability"]),
        ],
        {
            "w": _floats(random.normal(scale=0.3, size=(1, 4 * HIDDEN, inputs))),
            "r": _floats(random.normal(scale=0.3, size=(1, 4 * HIDDEN, HIDDEN))),
            "direction": np.array([0]),
            "v": _floats(random.normal(size=(HIDDEN, 1))),
            "b": _floats([0.0]),
        },
        ["batch", window, inputs],
    )


METADATA = {"n_oof": 24492, "oof": {"auc": 0.5879}, "test_auc": 0.5480, "horizon": "10s"}


def build_files() -> dict[str, bytes]:
    """Every file but the manifest, by name."""
    return {
        "lgb.onnx": logistic([0.25, 0.1, 0.05]),
        "lstm.onnx": recurrent(2),
        "stacking.onnx": logistic([2.0, 1.0], -1.5),
        "stacking_meta.json": json.dumps(METADATA, indent=2).encode() + b"\n",
    }


def build_manifest(files: dict[str, bytes]) -> bytes:
    """The list of files that a rollout names by the SHA-256 of it alone."""
    listed = [
        {
            "path": path,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "format": path.rsplit(".", 1)[1],
        }
        for path, data in files.items()
    ]
    return json.dumps({"files": listed}, indent=2).encode() + b"\n"


def main(folder: Path) -> None:
    files = build_files()
    files["manifest.json"] = build_manifest(files)
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (folder / path).write_bytes(data)
        print(f"{hashlib.sha256(data).hexdigest()}  {folder / path}  {len(data)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "files"))
