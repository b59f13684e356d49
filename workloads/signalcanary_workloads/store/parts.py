"""Parts: tables as Parquet bytes, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import CorruptPart, MissingPart, NotFound
from .manifest import Part
from .storage import Storage

ZSTD_LEVEL: Final = 3


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """How columns are encoded: ids and times grow by small steps, prices and words repeat."""
    whole = {f.name: "DELTA_BINARY_PACKED" for f in schema if pa.types.is_integer(f.type)}
    repeating = [
        f.name for f in schema if pa.types.is_floating(f.type) or pa.types.is_string(f.type)
    ]
    return {
        "compression": "zstd",
        "compression_level": ZSTD_LEVEL,
        "use_dictionary": repeating,
        "column_encoding": whole,
    }


def to_parquet(rows: pa.Table) -> bytes:
    """A table as the bytes of a part."""
    buffer = pa.BufferOutputStream()
    pq.write_table(rows, buffer, **writer_options(rows.schema))
    return buffer.getvalue().to_pybytes()


def read_part(storage: Storage, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part that an entry names, checked against the entry's size and SHA-256.

    Raises:
        MissingPart: it is not there.
        CorruptPart: it is not what the entry says.
        StorageError: the volume or the bucket does not let it be read.
    """
    relative = PurePosixPath(part.path)
    if relative.is_absolute() or ".." in relative.parts:
        raise CorruptPart(f"{part.path}: leaves the data path")
    try:
        data = storage.read(part.path)
    except NotFound as exc:
        raise MissingPart(f"{part.path}: a manifest entry names it, but it is not there") from exc
    if len(data) != part.bytes or hashlib.sha256(data).hexdigest() != part.sha256:
        raise CorruptPart(f"{part.path}: not the bytes that its manifest entry names")
    try:
        # From memory: given a path, pyarrow would add the folder names as columns.
        table = pq.ParquetFile(pa.BufferReader(data)).read(
            columns=None if columns is None else list(columns),
            use_threads=False,  # handing a small part to a pool costs more than reading it
        )
    except (pa.ArrowException, OSError) as exc:
        raise CorruptPart(f"{part.path}: {exc}") from exc
    if table.num_rows != part.rows:
        raise CorruptPart(f"{part.path}: {table.num_rows} rows, its entry says {part.rows}")
    return table.slice(part.skip) if part.skip else table
