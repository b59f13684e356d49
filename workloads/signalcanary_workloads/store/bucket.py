"""Objects in an S3 bucket, over the Rust object_store library (obstore).

Credentials, region and endpoint come from the standard environment variables
(`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …), never from
a configuration file. Each object is one PUT: it is there whole or not at all, and nothing is
left behind that must be aborted. What makes a writer the only one is the conditional PUT
(`If-None-Match: *`) of the next manifest entry; the lease here only refuses a second writer
earlier and in clear words, so its clock need not be exact.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

from .errors import AlreadyThere, NotFound, StorageError, Taken
from .storage import Lease, Stored

REQUEST_TIMEOUT: Final = timedelta(seconds=30)
CONNECT_TIMEOUT: Final = timedelta(seconds=5)
MAX_RETRIES: Final = 2
"""Quick ones, against single lost packets; whoever calls has patience of its own."""
RETRY_TIMEOUT: Final = timedelta(seconds=20)
LEASE_SECONDS: Final = 30.0
_OWNER: Final = "owner"
_CODE: Final = re.compile(r"<Code>(\w{1,40})</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")


class Bucket:
    """A `Storage` under a prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str, wall: Callable[[], float] = time.time) -> None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
        self._wall = wall
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "timeout": REQUEST_TIMEOUT,
                "connect_timeout": CONNECT_TIMEOUT,
            },
            retry_config={"max_retries": MAX_RETRIES, "retry_timeout": RETRY_TIMEOUT},
            **options,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read `s3://bucket/prefix`.

        Raises:
            ValueError: it has no bucket.
        """
        parts = urlsplit(url)
        if not parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"{url!r}: write s3://bucket or s3://bucket/prefix")
        return cls(parts.netloc, parts.path.strip("/"))

    def read(self, key: str) -> bytes:
        """See `Storage`."""
        with _refusals(key):
            return obstore.get(self._store, key).bytes().to_bytes()

    def put(self, key: str, data: bytes) -> None:
        """See `Storage`."""
        with _refusals(key):
            obstore.put(self._store, key, data, use_multipart=False)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """See `Storage`."""
        with _refusals(key):
            obstore.put(self._store, key, data, mode="create")

    def find(self, folder: str) -> Iterator[Stored]:
        """See `Storage`."""
        with _refusals(folder):
            for page in obstore.list(self._store, folder or None):
                for item in page:
                    yield Stored(item["path"], item["size"], item["last_modified"].timestamp())

    def folders(self, folder: str) -> list[str]:
        """See `Storage`."""
        with _refusals(folder):
            found = obstore.list_with_delimiter(self._store, folder or None)
        return sorted(path.rsplit("/", 1)[-1] for path in found["common_prefixes"])

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage`."""
        doomed = list(keys)
        with _refusals(doomed[0] if doomed else ""), suppress(FileNotFoundError):
            obstore.delete(self._store, doomed)

    def sweep(self, folder: str) -> None:
        """A single PUT leaves nothing half-written."""

    def lease(self, folder: str) -> Lease:
        """See `Storage`."""
        key = f"{folder.rstrip('/')}/{_OWNER}"
        with _refusals(key):
            return _OwnerObject(self._store, key, self._wall)


class _Owner(msgspec.Struct):
    """Who writes to a folder, as its owner object says."""

    token: str
    host: str
    pid: int
    renewed_seconds: float


class _OwnerObject:
    """A lease that a dead holder's successor need not wait for, where death can be seen."""

    _held: Final[set[str]] = set()
    """Tokens of this process's leases: another one under its process id is a dead one's."""

    def __init__(self, store: S3Store, key: str, wall: Callable[[], float]) -> None:
        self._store, self._key, self._wall = store, key, wall
        self._token = uuid4().hex
        self._renewed_seconds = -LEASE_SECONDS
        try:
            self._version = self._write("create")
        except AlreadyExistsError:
            self._take_over()
        self._held.add(self._token)

    def _take_over(self) -> None:
        found = obstore.get(self._store, self._key)
        version, content = found.meta["e_tag"], found.bytes().to_bytes()
        try:
            owner = msgspec.json.decode(content, type=_Owner)
        except msgspec.DecodeError as exc:
            raise StorageError("corrupt_owner", f"{self._key}: {exc}; delete it") from exc
        if self._may_live(owner):
            raise Taken(
                f"{self._key}: process {owner.pid} on {owner.host} writes here; only one may. If "
                f"it is dead, its lease ends {LEASE_SECONDS:.0f} s after its last commit"
            )
        try:
            self._version = self._write({"e_tag": version})
        except PreconditionError as exc:
            raise Taken(f"{self._key}: another process was quicker") from exc

    def _may_live(self, owner: _Owner) -> bool:
        if owner.host == socket.gethostname():
            if owner.pid == os.getpid():
                return owner.token in self._held
            try:
                os.kill(owner.pid, 0)
            except ProcessLookupError:
                return False
            except PermissionError:
                pass
        return abs(self._wall() - owner.renewed_seconds) < LEASE_SECONDS

    def _write(self, mode: Any) -> str | None:
        now = self._wall()
        owner = _Owner(self._token, socket.gethostname(), os.getpid(), now)
        done = obstore.put(self._store, self._key, msgspec.json.encode(owner), mode=mode)
        self._renewed_seconds = now
        return done["e_tag"]

    def renew(self) -> None:
        """See `Lease`."""
        if abs(self._wall() - self._renewed_seconds) < LEASE_SECONDS / 3:
            return
        with _refusals(self._key):
            try:
                self._version = self._write({"e_tag": self._version})
            except (PreconditionError, FileNotFoundError) as exc:
                raise self._not_mine(exc) from exc

    def _not_mine(self, exc: Exception) -> StorageError:
        """A renewal whose answer was lost looks like a lost lease until one reads it."""
        try:
            found = obstore.get(self._store, self._key)
            owner = msgspec.json.decode(found.bytes().to_bytes(), type=_Owner)
        except FileNotFoundError:
            return Taken(f"{self._key}: the lease was taken away")
        if owner.token == self._token:
            self._version = found.meta["e_tag"]
            return StorageError("retry", f"{self._key}: {exc}")
        return Taken(f"{self._key}: process {owner.pid} on {owner.host} has taken over")

    def release(self) -> None:
        """See `Lease`. If the bucket does not answer, it ends by itself."""
        self._held.discard(self._token)
        with suppress(BaseError, OSError):
            found = obstore.get(self._store, self._key)
            if msgspec.json.decode(found.bytes().to_bytes(), type=_Owner).token == self._token:
                obstore.delete(self._store, self._key)


@contextmanager
def _refusals(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        if "<Code>NoSuchBucket</Code>" in str(exc):
            raise _refused(key, exc) from exc
        raise NotFound(key) from exc
    except AlreadyExistsError as exc:
        raise AlreadyThere(key) from exc
    except (BaseError, OSError) as exc:
        raise _refused(key, exc) from exc


def _refused(key: str, exc: Exception) -> StorageError:
    text = str(exc)
    first_line = text.partition("\n")[0]
    if found := _CODE.search(text):
        reason = found[1]
    elif found := _STATUS.search(text):
        reason = f"http_{found[1]}"
    elif "kind: Timeout" in text or "timed out" in text:
        reason = "timeout"
    else:
        reason = "unreachable"
    return StorageError(reason, f"{key}: the bucket refused ({reason}): {first_line}")
