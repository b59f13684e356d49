"""Where files come from: one interface, with storage or an OCI image behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from signalcanary.artifacts import Reason

from ..store import open_storage
from ..store.errors import NotFound
from .errors import ArtifactRefused


@dataclass(frozen=True, slots=True)
class Listed:
    """What is known of a file before a byte of it is read."""

    bytes: int
    sha256: str | None = None
    """Its SHA-256 in hexadecimal digits, where whoever keeps it says it."""


class Source(Protocol):
    """A place with files. Every method may raise `StorageError`, and `ArtifactRefused`."""

    @property
    def name(self) -> str:
        """What people call it."""

    def list(self) -> Mapping[str, Listed]:
        """All files, by path."""

    def explain_missing(self) -> str:
        """What to say beside that a file is not there."""

    def read(self, path: str) -> bytes:
        """The bytes of a listed file, and never more of them than were listed."""


class StoredFiles:
    """Files in a folder on a volume, or below a prefix of a bucket.

    Raises:
        ValueError: the root is a URL without a bucket.
    """

    def __init__(self, root: str, folder: str) -> None:
        self.name = folder
        self._storage = open_storage(f"{root}/{folder}")

    def list(self) -> Mapping[str, Listed]:
        """See `Source`."""
        return {stored.key: Listed(stored.bytes) for stored in self._storage.find("")}

    def explain_missing(self) -> str:
        """See `Source`."""
        return ""

    def read(self, path: str) -> bytes:
        """See `Source`."""
        try:
            return self._storage.read(path)
        except NotFound as error:
            raise ArtifactRefused(Reason.ARTIFACT_MISSING, path, "it has just gone") from error
