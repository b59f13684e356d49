"""Where reports are written as files: a folder on a volume, or a prefix of an S3 bucket.

Over the Rust object_store library (obstore), as harvested data is. What is there is never written
again, and nothing is read or deleted: in a bucket the right to put objects is enough.

    FilesError              a file was not written; `reason` is a metric label
    ├── FilesRefused        the storage will not have it: credentials, rights, no such bucket
    ├── FilesUnreachable    nobody answered, or not in time
    └── FilesFailed         anything else: a full volume, a server that is ill
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3Store

SCHEME: Final = "s3://"
REQUEST_TIMEOUT: Final = timedelta(seconds=30)
CONNECT_TIMEOUT: Final = timedelta(seconds=5)
MAX_RETRIES: Final = 1
"""Quick ones, against single lost packets; whoever calls has patience of its own."""
RETRY_TIMEOUT: Final = timedelta(seconds=20)

CREDENTIALS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
MORE_CREDENTIALS: Final = ("AWS_SESSION_TOKEN", "AWS_REGION")
"""Files that may be missing beside them; the keys of a Secret, as of `spec.storage.bucket`."""

_URL: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=/-]*)?")
_CODE: Final = re.compile(r"<Code>(\w{1,40})</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_MESSAGE: Final = re.compile(r"<Message>([^<]{1,300})</Message>")
_ERRNO: Final = re.compile(r"\(os error (\d+)\)|\bcode: (\d+),")
_REFUSALS: Final = frozenset(
    {"EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "NoSuchBucket", "credentials"}
)


class FilesError(Exception):
    """A file was not written.

    `reason` is short and from a small set, as it becomes a metric label: the name of an errno
    (`ENOSPC`), an S3 error code (`AccessDenied`), `http_503`, `credentials`, `timeout` or
    `unreachable`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class FilesRefused(FilesError):
    pass


class FilesUnreachable(FilesError):
    pass


class FilesFailed(FilesError):
    pass


@dataclass(frozen=True)
class FilesSettings:
    """What the administrator sets.

    Attributes:
        root: an absolute path, or s3://bucket/prefix; without a slash at its end.
        endpoint: address of the S3 service; None for Amazon's, or as the environment says.
        region: None for the credentials', the environment's, or us-east-1.
        credentials: a folder with the files `CREDENTIALS`, read at each attempt; None for what the
            pod has of its cloud, or in its environment.
    """

    root: str
    endpoint: str | None = None
    region: str | None = None
    credentials: Path | None = None


def check_root(text: str) -> str:
    """A root as `FilesSettings` has it.

    Raises:
        ValueError: it is neither an absolute path nor a bucket's URL.
    """
    if text.startswith(SCHEME):
        if _URL.fullmatch(text) is None:
            raise ValueError(f"{text!r}: write s3://bucket or s3://bucket/prefix")
    elif not text.startswith("/"):
        raise ValueError(f"{text!r}: write an absolute path, s3://bucket or s3://bucket/prefix")
    return text.rstrip("/") or "/"


class ReportFiles:
    """Writes files below a root, each once."""

    def __init__(self, settings: FilesSettings) -> None:
        self._settings = settings
        self._store: ObjectStore | None = None
        self._made_with: object = None
        self.root = settings.root

    def url(self, key: str) -> str:
        """The path or URL of a key."""
        return f"{self.root.rstrip('/')}/{key}"

    async def put_once(self, key: str, data: bytes, content_type: str) -> bool:
        """Write a file durably, unless there is one; whether it was written.

        Raises:
            FilesError: it was not written, or nobody knows.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            if not self.root.startswith(SCHEME):
                return await self._put_on_volume(key, data)
            # A browser shows what it is told is a page, and offers to save all else.
            await obstore.put_async(
                await self._bucket(),
                key,
                data,
                attributes={"Content-Type": content_type},
                mode="create",
                use_multipart=False,
            )
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise _explain(self.url(key), error) from error
        return True

    async def _put_on_volume(self, key: str, data: bytes) -> bool:
        """By looking first: some network file systems have no hard links, by which a file would be
        made only where there is none. The leader is the only writer."""
        import obstore
        from obstore.store import LocalStore

        # Opened each time: the folder may be mounted, or put there, later.
        store = LocalStore(self.root)
        try:
            if (await obstore.head_async(store, key))["size"] > 0:
                return False  # an empty one is what a power cut has left of it
        except FileNotFoundError:
            pass
        await obstore.put_async(store, key, data, use_multipart=False)
        await asyncio.to_thread(_flush, Path(self.root, key))
        return True

    async def _bucket(self) -> ObjectStore:
        keys = await asyncio.to_thread(_read_credentials, self._settings.credentials)
        if self._store is None or keys != self._made_with:
            self._store, self._made_with = _open_bucket(self._settings, keys), keys
        return self._store


def _open_bucket(settings: FilesSettings, keys: dict[str, str]) -> S3Store:
    from obstore.store import S3Store

    parts = urlsplit(settings.root)
    endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
    options: dict[str, Any] = {name.lower(): value for name, value in keys.items()}
    options |= {"aws_region": settings.region} if settings.region else {}
    options |= {"aws_endpoint": endpoint} if endpoint else {}
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "timeout": REQUEST_TIMEOUT,
            "connect_timeout": CONNECT_TIMEOUT,
        },
        retry_config={"max_retries": MAX_RETRIES, "retry_timeout": RETRY_TIMEOUT},
        # A bucket with object lock takes no object without one.
        aws_checksum_algorithm="SHA256",
        **options,
    )


def _read_credentials(folder: Path | None) -> dict[str, str]:
    """The keys in a folder, by the names of obstore and of the environment.

    Raises:
        FilesRefused: they cannot be read.
    """
    if folder is None:
        return {}
    found = {}
    for name in (*CREDENTIALS, *MORE_CREDENTIALS):
        try:
            found[name] = (folder / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            # Not its text: it may hold what it could not decode.
            problem = type(error).__name__
            raise FilesRefused(
                "credentials", f"{folder / name} cannot be read: {problem}"
            ) from None
    if missing := [name for name in CREDENTIALS if not found.get(name)]:
        raise FilesRefused(
            "credentials", f"{folder} lacks {' and '.join(missing)}: put them into the Secret"
        )
    return found


def _flush(path: Path) -> None:
    """Bring a file, and its name, to the disk."""
    for what in (path, path.parent):
        descriptor = os.open(what, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explain(where: str, error: Exception) -> FilesError:
    """The error in the words of the storage, which hold neither keys nor signatures."""
    text = str(error)
    said = text.partition("\n")[0][:300]
    number = error.errno if isinstance(error, OSError) else None
    if number is None and not where.startswith(SCHEME) and (found := _ERRNO.search(text)):
        number = int(found[1] or found[2])
    if number is not None:
        reason = errno.errorcode.get(number, "EIO")
    elif code := _CODE.search(text):
        reason = code[1]
        if message := _MESSAGE.search(text):
            said = message[1]
    elif status := _STATUS.search(text):
        reason = f"http_{status[1]}"
    elif "kind: Timeout" in text or "timed out" in text:
        reason = "timeout"
    else:
        reason = "unreachable"
    detail = f"{where}: {reason}: {said}"
    is_denied = type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError")
    if reason in _REFUSALS or is_denied:
        return FilesRefused(reason, detail)
    if reason in ("timeout", "unreachable"):
        return FilesUnreachable(reason, detail)
    return FilesFailed(reason, detail)
