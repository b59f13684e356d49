"""Objects as files of a file system.

A library for both back ends would be less code, but the ones there are do not flush a file
and its folder to the disk, so a power cut could leave an entry that names an empty part.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .errors import AlreadyThere, NotFound, StorageError, Taken
from .storage import Lease, Stored

_TEMPORARY: Final = ".tmp"
_LOCK: Final = ".lock"


class Volume:
    """A `Storage` in a folder, which need not exist before the first write."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)

    def read(self, key: str) -> bytes:
        """See `Storage`."""
        with _refusals(key):
            return (self._root / key).read_bytes()

    def put(self, key: str, data: bytes) -> None:
        """See `Storage`."""
        with _refusals(key):
            _write_durably(self._root / key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """See `Storage`. Exclusive only among those who hold the folder's lease in turn."""
        path = self._root / key
        with _refusals(key):
            if path.exists():
                raise AlreadyThere(key)
            _write_durably(path, data)

    def find(self, folder: str) -> Iterator[Stored]:
        """See `Storage`."""
        with _refusals(folder):
            for path in _walk(self._root / folder):
                if path.name.startswith("."):
                    continue
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # deleted since
                key = path.relative_to(self._root).as_posix()
                yield Stored(key, status.st_size, status.st_mtime)

    def folders(self, folder: str) -> list[str]:
        """See `Storage`."""
        with _refusals(folder):
            path = self._root / folder
            if not path.is_dir():
                return []
            return sorted(child.name for child in path.iterdir() if child.is_dir())

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage`. Folders that become empty go too."""
        touched: set[Path] = set()
        for key in keys:
            with _refusals(key):
                path = self._root / key
                path.unlink(missing_ok=True)
                touched.add(path.parent)
        for folder in touched:
            self._remove_empty(folder)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._root and folder.is_relative_to(self._root):
            try:
                folder.rmdir()
            except OSError:
                return  # not empty, or gone
            folder = folder.parent

    def sweep(self, folder: str) -> None:
        """See `Storage`."""
        with _refusals(folder):
            for path in _walk(self._root / folder):
                if path.suffix == _TEMPORARY:
                    path.unlink(missing_ok=True)

    def lease(self, folder: str) -> Lease:
        """See `Storage`. The kernel ends it with the process."""
        path = self._root / folder
        with _refusals(folder):
            _make_folder(path)
            descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise Taken(f"another process writes to {path}; only one may") from exc
        return _Lock(descriptor)


class _Lock:
    """An exclusive flock."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def renew(self) -> None:
        """It holds as long as the process lives."""

    def release(self) -> None:
        """See `Lease`."""
        os.close(self._descriptor)


@contextmanager
def _refusals(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFound(key) from exc
    except OSError as exc:
        reason = errno.errorcode.get(exc.errno or 0, "unknown")
        raise StorageError(reason, f"{key}: the volume refused ({reason}): {exc}") from exc


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, onerror=_raise_unless_missing):
        for name in names:
            yield Path(parent, name)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _write_durably(path: Path, data: bytes) -> None:
    """Make a file that is there whole or not at all, and still there after a power cut."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durably."""
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync_folder(new.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
