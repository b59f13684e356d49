"""An analysis engine's state as bytes, and back.

msgpack (by msgspec, which also reads the manifest), compressed, with a digest of its own. It
holds numbers exactly, NaN and 64-bit integers among them, and reading it makes values and nothing
else; an array is its dtype, one of three, its shape and its bytes. npz would do as well for the
arrays, but the state is a tree of some fifty, with small values between them; Arrow's columns
would have to be of one length; pickle runs what it reads.

Pure.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from signalcanary import __version__

from .engine import EngineConfig

FORMAT: Final = 2
"""To be raised when what the engine exports changes, or the meaning of it."""
_CODEC: Final = pa.Codec("zstd", compression_level=1)
_ARRAY: Final = 1
_DTYPES: Final = frozenset({"<i8", "<f8", "|i1"})
_LARGEST_BYTES: Final = 1 << 30
_CONFIG: Final = TypeAdapter(EngineConfig)


class Ignored(StrEnum):
    """Why a snapshot is not gone on from."""

    UNREADABLE = "unreadable"
    """The volume or the bucket does not give it."""
    CORRUPT = "corrupt"
    VERSION = "version"
    """Of another format, or written by another version of SignalCanary."""
    CONFIGURATION = "configuration"
    OTHER_HISTORY = "other_history"
    """The manifest does not have, or has another, entry where it was taken."""
    UNRECORDED = "unrecorded"
    """It is ahead of the record of signals, which would get a hole."""


class UnusableSnapshot(Exception):
    """A snapshot that is not gone on from; `reason` is a metric label."""

    def __init__(self, reason: Ignored, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A state between two entries of the manifest."""

    next_seq: int
    """The first entry that is not in it."""
    committed_ns: int
    """When the entry before that was committed, which tells its history from another."""
    newest_row_ns: int | None
    """When the newest entry with a feature row was committed."""
    engine: dict[str, Any]
    """As `Engine.export_state` gives it."""


class _Format(msgspec.Struct):
    format: int


class _File(msgspec.Struct):
    format: int
    version: str
    digest: bytes
    """SHA-256 of the body as it is here."""
    size: int
    """Of the body uncompressed."""
    body: bytes


class _Body(msgspec.Struct):
    config: bytes
    next_seq: int
    committed_ns: int
    newest_row_ns: int | None
    engine: dict[str, Any]


def digest_config(config: EngineConfig) -> bytes:
    """SHA-256 of all that the engine is told."""
    return hashlib.sha256(_CONFIG.dump_json(config)).digest()


def encode(snapshot: Snapshot, config: EngineConfig) -> bytes:
    """A snapshot as bytes."""
    whole = _Body(
        digest_config(config),
        snapshot.next_seq,
        snapshot.committed_ns,
        snapshot.newest_row_ns,
        snapshot.engine,
    )
    plain = msgspec.msgpack.encode(whole, enc_hook=_encode_array)
    body = _CODEC.compress(plain, asbytes=True)
    digest = hashlib.sha256(body).digest()
    return msgspec.msgpack.encode(_File(FORMAT, __version__, digest, len(plain), body))


def decode(data: bytes, config: EngineConfig) -> Snapshot:
    """The snapshot in the bytes.

    Raises:
        UnusableSnapshot: they are damaged, or it is of another version or configuration.
    """
    try:
        if (found := msgspec.msgpack.decode(data, type=_Format).format) != FORMAT:
            raise UnusableSnapshot(Ignored.VERSION, f"format {found}, not {FORMAT}")
        file = msgspec.msgpack.decode(data, type=_File)
        if file.version != __version__:
            raise UnusableSnapshot(Ignored.VERSION, f"by {file.version}, not {__version__}")
        if hashlib.sha256(file.body).digest() != file.digest:
            raise UnusableSnapshot(Ignored.CORRUPT, "its bytes are not those that were written")
        if not 0 <= file.size <= _LARGEST_BYTES:
            raise UnusableSnapshot(Ignored.CORRUPT, f"{file.size} bytes cannot be right")
        plain = _CODEC.decompress(file.body, file.size, asbytes=True)
        body = msgspec.msgpack.decode(plain, type=_Body, ext_hook=_decode_array)
    except (msgspec.DecodeError, OSError, ValueError) as exc:
        raise UnusableSnapshot(Ignored.CORRUPT, str(exc)) from exc
    if body.config != digest_config(config):
        raise UnusableSnapshot(Ignored.CONFIGURATION, "of another configuration")
    return Snapshot(body.next_seq, body.committed_ns, body.newest_row_ns, body.engine)


def _encode_array(value: Any) -> msgspec.msgpack.Ext:
    if not isinstance(value, np.ndarray) or value.dtype.str not in _DTYPES:
        raise NotImplementedError(f"a {type(value).__name__} cannot be in a snapshot")
    wire = (value.dtype.str, value.shape, value.tobytes())
    return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(wire))


def _decode_array(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        raise ValueError(f"extension {code} is unknown")
    dtype, shape, raw = msgspec.msgpack.decode(data, type=tuple[str, list[int], bytes])
    if dtype not in _DTYPES:
        raise ValueError(f"arrays of {dtype} are not read")
    return np.frombuffer(raw, dtype).reshape(shape).copy()
