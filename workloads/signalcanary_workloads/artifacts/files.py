"""The files where they lie, given out only if they are those that were declared.

A size is compared before a byte is read, so that no file can fill the memory; the SHA-256 is
taken of the very bytes that are given out, so that what was checked is what is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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

from .errors import ArtifactRefused
from .source import Listed, Source, StoredFiles


def open_source(root: str, artifacts: Artifacts, logins: str | None) -> Source:
    """Where the files of a configuration lie. The arguments and errors are `ArtifactFiles`'."""
    if artifacts.image is not None:
        from .image import ImageFiles  # its libraries are none of a volume's or a bucket's

        return ImageFiles(artifacts.image, artifacts.path, logins)
    return StoredFiles(root, artifacts.path or "")


class ArtifactFiles:
    """The files of one configuration. Every method may raise `StorageError`.

    Args:
        root: a folder, or an s3://bucket/prefix, that the artifacts' path is relative to; an
            image needs none.
        logins: how registries are logged in to, see `WorkloadConfig.logins`.

    Raises:
        StorageError: a login is of no use.
        ValueError: the root is a URL without a bucket.
    """

    def __init__(self, root: str, artifacts: Artifacts, logins: str | None = None) -> None:
        self._artifacts = artifacts
        self._source = open_source(root, artifacts, logins)

    @cached_property
    def _listed(self) -> Mapping[str, Listed]:
        return self._source.list()

    @cached_property
    def listing(self) -> Listing:
        """What is declared, by the configuration itself or by its manifest.

        Raises:
            ArtifactRefused: the manifest is not the one that was declared, or of no use; or all
                lie in an image that is.
        """
        manifest = self._artifacts.manifest
        _ = self._listed  # what is wrong with all of them is said once, and first
        if manifest is None:
            return Listing(files=self._artifacts.files or ())
        size = self._find(manifest.path).bytes
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
        size = self._find(file.path).bytes
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

    def _find(self, path: str) -> Listed:
        if path not in self._listed:
            told = f"there is no such file in {self._source.name}{self._source.explain_missing()}"
            raise ArtifactRefused(Reason.ARTIFACT_MISSING, path, told)
        return self._listed[path]

    def _read(self, path: str, sha256: str) -> bytes:
        self._compare(path, self._find(path).sha256 or sha256, sha256)
        data = self._source.read(path)
        self._compare(path, hashlib.sha256(data).hexdigest(), sha256)
        return data

    @staticmethod
    def _compare(path: str, found: str, declared: str) -> None:
        if found != declared:
            told = f"its SHA-256 is {found}, and {declared} is declared"
            raise ArtifactRefused(Reason.CHECKSUM_MISMATCH, path, told)
