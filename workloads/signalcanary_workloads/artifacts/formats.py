"""Is a file of the format that it is declared to be? Nothing here runs, or unpacks, what it reads.

ONNX is checked by the `onnx` library, and for three things beyond: weights in other files would
be of no declared content, operators of unknown domains would need foreign code, and a document
without a graph computes nothing.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from signalcanary.artifacts import Format

NO_RUNTIME: Final = (
    "this image cannot run ONNX models: build it with --build-arg REQUIREMENTS=models"
)
_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operators that onnxruntime itself brings."""
_MAGIC: Final = (
    (tuple(bytes((0x80, protocol)) for protocol in range(2, 6)), "a Python pickle"),
    ((b"PK\x03\x04",), "a ZIP archive, as torch.save and numpy.savez write"),
    ((b"\x1f\x8b",), "a gzip archive"),
    ((b"\x89HDF",), "an HDF5 file"),
)


class BadFormat(Exception):
    """The bytes are not of the format, in words that follow the file's name."""


def check_format(declared: Format, data: bytes) -> None:
    """See that the bytes are of the format that was declared.

    Raises:
        BadFormat: they are not.
        ModuleNotFoundError: the declared format is ONNX, and the library for it is not there.
    """
    try:
        _CHECKS[declared](data)
    except BadFormat as error:
        seems = [what for magics, what in _MAGIC if data.startswith(magics)]
        told = f"it is {seems[0]}, not {declared}" if seems else f"it is not {declared}: {error}"
        raise BadFormat(told) from error


def read_json(data: bytes) -> Any:
    """A JSON document.

    Raises:
        BadFormat: it is none.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadFormat(str(error)) from error


def _check_text(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadFormat(f"it is no UTF-8: {error.reason} at byte {error.start}") from error
    if "\0" in text:
        raise BadFormat("it has NUL bytes")


def _check_parquet(data: bytes) -> None:
    try:
        pq.ParquetFile(pa.BufferReader(data)).schema_arrow  # noqa: B018 - reads the footer
    except (pa.ArrowException, OSError) as error:
        raise BadFormat(str(error)) from error


def _check_npy(data: bytes) -> None:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise BadFormat(f"version {version} is unknown")
    except ValueError as error:
        raise BadFormat(str(error)) from error
    if dtype.hasobject:
        raise BadFormat("it holds Python objects, which run code when they are loaded")
    due = math.prod(shape) * dtype.itemsize
    if len(data) - file.tell() != due:
        raise BadFormat(f"{len(data) - file.tell()} bytes of values, and {due} are due")


def _check_safetensors(data: bytes) -> None:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise BadFormat("its header is cut off")
    header, room = read_json(data[8 : 8 + length]), len(data) - 8 - length
    if not isinstance(header, dict):
        raise BadFormat("its header is no object")
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        match tensor:
            case {"data_offsets": [int(begin), int(end)]} if 0 <= begin <= end <= room:
                continue
        raise BadFormat(f"the tensor {name!r:.60} has no place in it")


def _check_onnx(data: bytes) -> None:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise BadFormat(str(error)) from error
    if not model.graph.node:
        raise BadFormat("it has no graph")
    own = {function.domain for function in model.functions}
    used = {entry.domain for entry in model.opset_import}
    for node in _nodes(model):
        used.add(node.domain)
    if foreign := sorted(used - own - _DOMAINS):
        raise BadFormat(f"it uses operators of {', '.join(foreign)}, which need foreign code")
    if any(_is_elsewhere(tensor) for tensor in _tensors(model)):
        raise BadFormat("it keeps weights in another file: save them in the model itself")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise BadFormat(str(error)) from error


def _graphs(model: Any) -> Iterator[Any]:
    """Every graph, those within nodes included; a function counts as one."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            yield from _tensors_of(node.attribute)


def _tensors_of(attributes: Iterable[Any]) -> Iterator[Any]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for one in (*sparse, *attribute.sparse_tensors):
            yield from (one.values, one.indices)


def _is_elsewhere(tensor: Any) -> bool:
    return bool(tensor.external_data) or tensor.data_location == tensor.EXTERNAL


_CHECKS: Final[dict[Format, Callable[[bytes], Any]]] = {
    Format.ONNX: _check_onnx,
    Format.JSON: read_json,
    Format.PARQUET: _check_parquet,
    Format.NPY: _check_npy,
    Format.SAFETENSORS: _check_safetensors,
    Format.TEXT: _check_text,
}
