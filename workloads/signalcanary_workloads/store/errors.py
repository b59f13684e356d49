"""What can go wrong between a process and its data.

StoreError
├── StorageError    the volume or the bucket refused; `reason` is a metric label
│   ├── NotFound        there is no such object
│   ├── AlreadyThere    there is one, where none was expected
│   └── Taken           another process writes here
├── MissingPart     an entry names it, and it is not there
├── CorruptPart     size or SHA-256 differ from the entry's, or it is no Parquet file
└── CorruptEntry    a manifest entry cannot be read
"""

from __future__ import annotations


class StoreError(Exception):
    """Harvested data cannot be read or written."""


class StorageError(StoreError):
    """The volume or the bucket refused; or the registry that model files come from.

    `reason` is short and from a small set, as it becomes a metric label: the name of an errno
    (`ENOSPC`), an S3 error code (`SlowDown`), `timeout` or `unreachable`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class NotFound(StorageError):
    """There is no such object."""

    def __init__(self, key: str) -> None:
        super().__init__("not_found", f"{key}: not there")


class AlreadyThere(StorageError):
    """An object that was to be made anew exists."""

    def __init__(self, key: str) -> None:
        super().__init__("already_there", f"{key}: is there already")


class Taken(StorageError):
    """Another process holds the lease."""

    def __init__(self, detail: str) -> None:
        super().__init__("taken", detail)


class MissingPart(StoreError):
    """A part that a manifest entry names is not there."""


class CorruptPart(StoreError):
    """A part is there, but it is not what the manifest entry says."""


class CorruptEntry(StoreError):
    """A manifest entry cannot be understood."""
