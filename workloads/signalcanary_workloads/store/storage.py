"""Where bytes are kept: one interface, a volume or an S3 bucket behind it.

Keys are relative to the data path, with forward slashes. Whatever the back end, an object is
there whole or not at all, and one that was put is still there after a crash. Nothing here
knows what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

BUCKET_SCHEME: Final = "s3://"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in a listing."""

    key: str
    bytes: int
    modified_seconds: float
    """Unix time, by the clock of whoever keeps it."""


class Lease(Protocol):
    """The right to be the only writer of a folder."""

    def renew(self) -> None:
        """Say that the holder is alive; to be called at every commit, cheap if called often.

        Raises:
            Taken: it was given to another.
        """

    def release(self) -> None:
        """Let another have it."""


class Storage(Protocol):
    """A folder of objects. Every method may raise `StorageError`."""

    def read(self, key: str) -> bytes:
        """An object's bytes.

        Raises:
            NotFound: there is no such object.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write an object durably; what was under its key is replaced at once."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Write an object durably, unless there is one.

        Raises:
            AlreadyThere: there is one. After a try whose answer was lost it may be one's own.
        """

    def find(self, folder: str) -> Iterator[Stored]:
        """All objects below a folder, in any order; none if there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder ("" is the root)."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is as good as deleted."""

    def sweep(self, folder: str) -> None:
        """Remove what a killed writer left half-written below a folder. Only for its holder."""

    def lease(self, folder: str) -> Lease:
        """Become the only writer of a folder.

        Raises:
            Taken: another process is.
        """


def open_storage(data_path: str) -> Storage:
    """The storage that a path or an `s3://bucket/prefix` names. Makes and checks nothing yet.

    Raises:
        ValueError: the URL has no bucket.
    """
    if data_path.startswith(BUCKET_SCHEME):
        from .bucket import Bucket  # its library is 15 MB that a volume does not need

        return Bucket.from_url(data_path)
    from .volume import Volume

    return Volume(data_path)
