"""A model that answers: one row in, one probability out.

Rows go in one at a time. In one call onnxruntime may sum a batch in another order than a single
row, and what a signal is must not depend on how many rows came at once.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from signalcanary.artifacts import ArtifactModel

Floats32 = npt.NDArray[np.float32]
_FLOATS: Final = ("tensor(float)", "tensor(double)")


class BadModel(Exception):
    """The model cannot be loaded or does not take or give what was declared."""


class Model:
    """A loaded model, on one thread of the CPU.

    Args:
        data: the ONNX file.
        declared: what it is given and gives.

    Raises:
        BadModel: it cannot be used as declared.
        ModuleNotFoundError: onnxruntime is not there.
    """

    def __init__(self, data: bytes, declared: ArtifactModel) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # what goes wrong is raised as well
        # A thread that spins takes the CPU from the other symbols of the pod.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(data, options, ["CPUExecutionProvider"])
        except Exception as error:
            raise BadModel(f"it cannot be loaded: {error}") from error
        self._declared = declared
        rows = (1,) if declared.window == 1 else (1, declared.window)
        self._shape = (*rows, len(declared.inputs))
        self._input = self._find_input()
        self._output = self._find_output()

    def _find_input(self) -> str:
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise BadModel(f"it takes {len(inputs)} inputs, and one tensor is given")
        (only,) = inputs
        if only.type != "tensor(float)":
            raise BadModel(f"its input {only.name} is a {only.type}; float32 is given")
        if not _takes(only.shape, self._shape):
            raise BadModel(
                f"its input {only.name} has the shape {only.shape}; {list(self._shape)} is given"
            )
        return str(only.name)

    def _find_output(self) -> str:
        outputs = {output.name: output for output in self._session.get_outputs()}
        name = self._declared.output or next(iter(outputs))
        if name not in outputs:
            raise BadModel(f"it has no output {name}, but {', '.join(outputs)}")
        if outputs[name].type not in _FLOATS:
            raise BadModel(f"its output {name} is a {outputs[name].type}, not floats")
        return str(name)

    def answer(self, row: Floats32) -> float:
        """The probability that the mid price rises; NaN and others that are none included.

        Args:
            row: `inputs` values, or `window` × `inputs`, the newest last.

        Raises:
            BadModel: the model fails on this row.
        """
        given: Any = {self._input: row.reshape(self._shape)}
        try:
            (values,) = self._session.run([self._output], given)
        except Exception as error:
            raise BadModel(f"it fails on a row: {error}") from error
        flat = np.asarray(values).reshape(-1)
        if self._declared.index >= flat.size:
            raise BadModel(
                f"its output {self._output} has {flat.size} elements; index is "
                f"{self._declared.index}"
            )
        return float(flat[self._declared.index])


def _takes(shape: list[Any], given: tuple[int, ...]) -> bool:
    """Whether an input of a shape, whose free lengths are names or None, takes what is given."""
    return len(shape) == len(given) and all(
        not isinstance(length, int) or length == due
        for length, due in zip(shape, given, strict=True)
    )


def is_probability(value: float) -> bool:
    """Whether it can be one; NaN cannot."""
    return 0.0 <= value <= 1.0
