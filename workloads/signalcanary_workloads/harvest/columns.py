"""Rows between two commits, column by column.

Plain arrays of machine numbers: a row costs its bytes and no Python objects, and a table is
made of them without copying. NaN and the smallest integer stand for null.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

import numpy as np
import pyarrow as pa

from signalcanary_workloads.store import SCHEMAS, Kind, Regime

NULL_INT: Final = -(2**63)
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "src": ("ws", "rest"),
    "regime": tuple(Regime),
}
"""The values of each text column, which a row holds the position of."""
CODES: Final = {
    name: {word: code for code, word in enumerate(words)} for name, words in _WORDS.items()
}


_DTYPES: Final[dict[str, Any]] = {"d": np.float64, "q": np.int64, "b": np.bool_}


def _typecode(field: pa.Field[pa.DataType]) -> str:
    if pa.types.is_floating(field.type):
        return "d"
    return "q" if pa.types.is_integer(field.type) else "b"


class Columns:
    """The uncommitted rows of one kind."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._schema = SCHEMAS[kind]
        self._arrays: tuple[array[Any], ...] = tuple(
            array(_typecode(field)) for field in self._schema
        )
        self._appends = tuple(a.append for a in self._arrays)
        self._row_bytes = sum(a.itemsize for a in self._arrays)

    def append(self, row: tuple[float, ...]) -> None:
        """Add a row, in the order of the schema; text as its code."""
        for append, value in zip(self._appends, row, strict=True):
            append(value)

    def __len__(self) -> int:
        return len(self._arrays[0])

    @property
    def nbytes(self) -> int:
        """Memory that the rows take."""
        return len(self) * self._row_bytes

    def table(self) -> pa.Table:
        """The rows as a table. Nothing may be appended afterwards: it shares the memory."""
        arrays = [
            _to_arrow(field, values)
            for field, values in zip(self._schema, self._arrays, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)


def _to_arrow(field: pa.Field[pa.DataType], values: array[Any]) -> pa.Array[Any]:
    if field.name in _WORDS:
        codes = np.frombuffer(values, dtype=np.int8) if len(values) else np.empty(0, np.int8)
        words = pa.array([str(word) for word in _WORDS[field.name]], pa.string())
        return words.take(pa.array(codes, pa.int8()))
    dtype = _DTYPES[values.typecode]
    numbers: np.ndarray[Any, Any] = (
        np.frombuffer(values, dtype=dtype) if len(values) else np.empty(0, dtype)
    )
    mask = None
    if field.nullable:
        mask = np.isnan(numbers) if values.typecode == "d" else numbers == NULL_INT
    array_of: pa.Array[Any] = pa.array(numbers, mask=mask)
    return array_of
