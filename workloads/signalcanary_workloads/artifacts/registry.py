"""Reads one repository of an OCI registry, by digest: what comes is what was named, or nothing.

The pull half of the OCI distribution specification 1.1, with logins as Distribution documents them
(https://distribution.github.io/distribution/spec/auth/token/), over urllib3. It never reads
more than was promised, never sends a login to a host that did not ask for it through the registry,
and never goes on without TLS where that was not asked for.

What a registry says clearly is final: `NotFound` (it knows no such thing) and `WrongContent`. All
else is a `StorageError` like a bucket's: unreachable, slow, ill, or it lets nobody in. That says
nothing of the files, and is tried again; passing troubles here at once, the rest by whoever calls.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError, TimeoutError

from signalcanary.artifacts import Image

from ..store.errors import NotFound, StorageError
from .logins import DOCKER_HUB, Credentials

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
"""Longest silence."""
REQUEST_SECONDS: Final = 30.0
SLOWEST_BYTES_PER_SECOND: Final = 2**20
"""An answer may take `REQUEST_SECONDS`, and as much longer as its size takes at this pace."""
PAUSES_SECONDS: Final = (0.3, 1.5)
"""Between tries, against single lost packets; whoever calls has patience of its own."""
MAX_MANIFEST_BYTES: Final = 4 * 2**20
"""What the specification asks registries to take."""
MAX_ANSWER_BYTES: Final = 2**16
MAX_REDIRECTS: Final = 5
_LONGEST_SAID: Final = 160
"""Characters of a registry's own words."""
_CHUNK: Final = 2**18
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_BUSY: Final = (408, 425, 429)
_UNKNOWN: Final = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "NOT_FOUND"})
_ACCEPT: Final = ", ".join(
    f"application/vnd.{kind}"
    for kind in (
        "oci.image.manifest.v1+json",
        # Taken so that what is wrong with it can be said.
        "oci.image.index.v1+json",
        "oci.artifact.manifest.v1+json",
        "docker.distribution.manifest.v2+json",
        "docker.distribution.manifest.list.v2+json",
    )
)
_FIELD: Final = re.compile(r'(\w+)="([^"]*)"')
_API_OF_DOCKER_HUB: Final = "registry-1.docker.io"


class WrongContent(Exception):
    """The registry gives other bytes than the digest names, in words without the digest."""


class _Passing(StorageError):
    """Worth another try at once."""


class _Error(msgspec.Struct):
    code: str = ""
    message: str | None = None


class _Errors(msgspec.Struct):
    errors: list[_Error] = []


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


class Registry:
    """The repository of an image.

    Args:
        logins: see `WorkloadConfig.logins`.
        monotonic, sleep: seconds.

    Raises:
        StorageError: there is a login or a certificate, and it is of no use.
    """

    def __init__(
        self,
        image: Image,
        logins: str | None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        name, _, self.digest = image.url.removeprefix("oci://").partition("@")
        self.host, _, self.repository = name.partition("/")
        self.name = f"{name}@{self.digest[:19]}…"
        self._scheme = "http" if image.plain_http else "https"
        self._credentials = Credentials.find(image, self.host, self.repository, logins)
        self._authorization: str | None = None
        self._monotonic, self._sleep = monotonic, sleep
        self._pool = urllib3.PoolManager(
            ssl_context=self._trust(),
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=False,
        )

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if (authority := self._credentials.authority) is not None:
            try:
                context.load_verify_locations(authority)
            except OSError as error:
                told = f"the key {authority.name} of {self._credentials.told}: {error}"
                raise StorageError("bad_login", told) from error
        return context

    def read_manifest(self) -> bytes:
        """The manifest that the digest of the image names.

        Raises:
            NotFound: the registry does not know it.
            WrongContent: what it gives is not that.
            StorageError: it cannot be told now.
        """
        return self._read("manifests", self.digest, None)

    def read_blob(self, digest: str, size: int) -> bytes:
        """A layer. The errors are those of `read_manifest`."""
        return self._read("blobs", digest, size)

    def _read(self, kind: str, digest: str, size: int | None) -> bytes:
        host = _API_OF_DOCKER_HUB if self.host == DOCKER_HUB else self.host
        url = f"{self._scheme}://{host}/v2/{self.repository}/{kind}/{digest}"
        for pause_seconds in PAUSES_SECONDS:
            try:
                return self._try(url, digest, size)
            except _Passing:
                self._sleep(pause_seconds)
        return self._try(url, digest, size)

    def _try(self, url: str, digest: str, size: int | None) -> bytes:
        most = MAX_MANIFEST_BYTES if size is None else size
        answer = self._ask(url, self._authorization)
        if answer.status == 401:
            answer.close()
            self._authorization = self._log_in(answer.headers.get("WWW-Authenticate", ""))
            answer = self._ask(url, self._authorization)
        try:
            if answer.status != 200:
                raise self._refusal(answer, is_of_content=True)
            data = self._take(answer, most)
        finally:
            answer.close()
        if len(data) > most or (size is not None and len(data) < size):
            more = "more than " if len(data) > most else ""
            told = f"the registry gives {more}{min(len(data), most)} bytes"
            raise WrongContent(told if size is None else f"{told}, and its manifest names {size}")
        found = hashlib.sha256(data).hexdigest()
        if f"sha256:{found}" != digest:
            raise WrongContent(f"the registry gives other bytes, whose SHA-256 is {found}")
        return data

    def _ask(self, url: str, authorization: str | None) -> urllib3.BaseHTTPResponse:
        """The beginning of an answer, wherever it is given.

        Registries often send on to storage that signs its URLs. It gets no login, not if it asks
        for one either, and what it refuses says nothing of what the registry holds.
        """
        host = urlsplit(url).netloc
        headers = {"User-Agent": "signalcanary", "Accept": _ACCEPT, "Accept-Encoding": "identity"}
        for _ in range(MAX_REDIRECTS + 1):
            own = headers | ({"Authorization": authorization} if authorization else {})
            answer = self._request(url, own)
            place = answer.headers.get("Location")
            there = urlsplit(url).netloc
            if answer.status not in _REDIRECTS or place is None:
                if there == host or answer.status == 200:
                    return answer
                answer.close()
                told = f"{there}, where it sends its readers on to, answers {answer.status}"
                raise self._trouble(f"http_{answer.status}", told, passing=True)
            answer.close()
            url = urljoin(url, place)
            self._require_tls(url)
            if urlsplit(url).netloc != there:
                authorization = None
        raise self._trouble("bad_answer", f"it sends on more than {MAX_REDIRECTS} times")

    def _request(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                "GET", url, headers=headers, preload_content=False, redirect=False
            )
        except HTTPError as error:
            raise self._unanswered(error) from error

    def _take(self, answer: urllib3.BaseHTTPResponse, most: int) -> bytes:
        """The body, but no more of it than one byte beyond `most`."""
        due_seconds = self._monotonic() + REQUEST_SECONDS + most / SLOWEST_BYTES_PER_SECOND
        taken = BytesIO()
        try:
            while room := most + 1 - taken.tell():
                chunk = answer.read1(min(room, _CHUNK), decode_content=False)
                if not chunk:
                    break
                taken.write(chunk)
                if self._monotonic() > due_seconds:
                    raise self._trouble("timeout", "it answers too slowly", passing=True)
        except HTTPError as error:
            raise self._unanswered(error) from error
        return taken.getvalue()

    def _require_tls(self, url: str) -> None:
        if urlsplit(url).scheme != "https" and self._scheme == "https":
            told = f"it sends on to {urlsplit(url).netloc} without TLS: that is not followed"
            raise self._trouble("bad_answer", told)

    # ------------------------------------------------------------------ logging in

    def _log_in(self, challenge: str) -> str:
        """What to send as `Authorization`, as a challenge of RFC 9110 asks for."""
        login = self._credentials.login
        scheme, _, rest = challenge.partition(" ")
        fields = dict(reversed(_FIELD.findall(rest)))  # the first of several challenges
        match scheme.lower():
            case "basic" if login is not None:
                return login.header()
            case "basic":
                raise self._unauthorized("")
            case "bearer" if "realm" in fields:
                return f"Bearer {self._fetch_token(fields)}"
        raise self._trouble("bad_answer", f"it asks for a login of an unknown kind: {scheme!r:.40}")

    def _fetch_token(self, fields: Mapping[str, str]) -> str:
        asked = {"service": fields["service"]} if "service" in fields else {}
        asked["scope"] = fields.get("scope") or f"repository:{self.repository}:pull"
        realm = fields["realm"]
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"
        self._require_tls(url)
        login = self._credentials.login
        answer = self._ask(url, login.header() if login else None)
        try:
            if answer.status != 200:
                raise self._refusal(answer)
            text = self._take(answer, MAX_ANSWER_BYTES)
        finally:
            answer.close()
        try:
            found = msgspec.json.decode(text, type=_Token)
        except msgspec.DecodeError as error:
            raise self._trouble("bad_answer", f"it gives no token: {error}") from error
        return found.token or found.access_token

    # ------------------------------------------------------------------ what went wrong

    def _refusal(
        self, answer: urllib3.BaseHTTPResponse, *, is_of_content: bool = False
    ) -> StorageError:
        """What an answer other than 200 means."""
        status = answer.status
        text = self._take(answer, MAX_ANSWER_BYTES)
        try:
            first = (msgspec.json.decode(text, type=_Errors).errors or [_Error()])[0]
        except msgspec.DecodeError:
            first = _Error()
        said = " ".join((first.message or "").split())
        if (login := self._credentials.login) is not None:
            said = said.replace(login.password, "…")
        said = said[:_LONGEST_SAID]
        if is_of_content and status == 404 and first.code in _UNKNOWN:
            return NotFound(self.name)
        if status in (401, 403):
            return self._unauthorized(said)
        detail = f"it answers {status}" + (f" ({said})" if said else "")
        if status == 404:
            detail += ", but not as a registry does: is this its address?"
        return self._trouble(f"http_{status}", detail, passing=status >= 500 or status in _BUSY)

    def _unauthorized(self, said: str) -> StorageError:
        own = f" ({said})" if said else ""
        if self._credentials.login is not None:
            told = f"it refuses the login of {self._credentials.told}{own}: put that right, or let "
            told += f"that user pull from {self.repository}"
        else:
            told = f"it asks for a login{own}, and {self._credentials.told}: name a Secret with "
            told += "one in image.secretName (kubectl create secret docker-registry)"
        return self._trouble("unauthorized", told)

    def _unanswered(self, error: HTTPError) -> StorageError:
        words = str(error).rpartition(": ")[2]
        if isinstance(error, SSLError):
            told = f"no TLS with it ({words}): the certificate of an authority of your own goes "
            told += "into the key ca.crt of the Secret; without TLS it needs plainHttp: true"
            return self._trouble("tls", told)
        # A refused connection is one of its time-outs to urllib3.
        if isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError):
            return self._trouble("timeout", f"it does not answer ({words})", passing=True)
        return self._trouble("unreachable", f"it cannot be reached ({words})", passing=True)

    def _trouble(self, reason: str, told: str, *, passing: bool = False) -> StorageError:
        kind: Any = _Passing if passing else StorageError
        error: StorageError = kind(reason, f"the registry {self.host}: {told}")
        return error
