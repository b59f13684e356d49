"""The files as they lie in storage, given out only if they are those that were declared.

A size is compared before a byte is read, so that no file can fill the memory; the SHA-256 is
taken of the very bytes that are given out, so that what was checked is what is used.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

from pydantic import ValidationError

from signalcanary.artifacts import (
    MAX_MANIFEST_BYTES,
    Artifacts,
    File,
    Listing,
    Reason,
    find_unlisted,
)

from ..store import open_storage
from ..store.errors import NotFound
from .errors import ArtifactRefused


class ArtifactFiles:
    """The files of one configuration. Every method may raise `StorageError`.

    Args:
        root: a folder, or an s3://bucket/prefix, that the artifacts' path is relative to.

    Raises:
        ValueError: the root is a URL without a bucket.
    """

    def __init__(self, root: str, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._storage = open_storage(f"{root}/{artifacts.path}")

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {stored.key: stored.bytes for stored in self._storage.find("")}

    @cached_property
    def listing(self) -> Listing:
        """What is declared, by the configuration itself or by its manifest.

        Raises:
            ArtifactRefused: the manifest is not the one that was declared, or of no use.
        """
        manifest = self._artifacts.manifest
        if manifest is None:
            return Listing(files=self._artifacts.files or ())
        size = self._size_of(manifest.path)
        if size > MAX_MANIFEST_BYTES:
            told = f"it has {size} bytes; a manifest may have {MAX_MANIFEST_BYTES}"
            raise ArtifactRefused(Reason.FORMAT_INVALID, manifest.path, told)
        data = self._read(manifest.path, manifest.sha256)
        try:
            listing = Listing.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            told = f"it is no manifest: {where}: {first['msg']}"
            raise ArtifactRefused(Reason.FORMAT_INVALID, manifest.path, told) from error
        if (missing := find_unlisted(self._artifacts, listing)) is not None:
            raise ArtifactRefused(Reason.ARTIFACT_MISSING, manifest.path, missing)
        return listing

    def read(self, file: File) -> bytes:
        """The bytes of a file that is as declared.

        Raises:
            ArtifactRefused: it is not.
        """
        size = self._size_of(file.path)
        if size != file.size:
            told = f"it has {size} bytes, and {file.size} are declared"
            raise ArtifactRefused(Reason.CHECKSUM_MISMATCH, file.path, told)
        return self._read(file.path, file.sha256)

    def read_at(self, path: str) -> bytes:
        """The bytes of the listed file with this path.

        Raises:
            ArtifactRefused: it is not as declared.
        """
        (file,) = [file for file in self.listing.files if file.path == path]
        return self.read(file)

    def _size_of(self, path: str) -> int:
        if path not in self._sizes:
            told = f"there is no such file in {self._artifacts.path}"
            raise ArtifactRefused(Reason.ARTIFACT_MISSING, path, told)
        return self._sizes[path]

    def _read(self, path: str, sha256: str) -> bytes:
        try:
            data = self._storage.read(path)
        except NotFound as error:
            raise ArtifactRefused(Reason.ARTIFACT_MISSING, path, "it has just gone") from error
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            told = f"its SHA-256 is {found}, and {sha256} is declared"
            raise ArtifactRefused(Reason.CHECKSUM_MISMATCH, path, told)
        return data
