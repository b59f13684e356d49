"""The metrics sources that the administrator has named, and who is asked for which canary.

A SignalCanary names a source and nothing more: address and credentials are of the
administrator's file alone, so that nobody can send them anywhere by writing a spec.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from signalcanary.api import DEFAULT_SOURCE, DNS_LABEL
from signalcanary.contract import Model, PositiveDuration
from signalcanary.evaluate import MetricsSeen
from signalcanary.metrics_source import MetricsSourceError, Series, Source, Target, failed
from signalcanary.wire import at_most

MAX_DEADLINE: Final = timedelta(seconds=30)
"""Of a source: half of what liveness allows a round."""

_TENANT: Final = re.compile(r"[A-Za-z0-9!._*'()|-]{1,300}")


class SourcesError(Exception):
    """The sources cannot be used as they are written; the message says what to write."""


class UnknownSource(MetricsSourceError):
    """A SignalCanary names a source that there is none of, or that is not for its namespace."""


class UnreadableCredentials(MetricsSourceError):
    """A file of credentials is absent, empty or no text."""


def check_url(url: str) -> str:
    """An address that may be shown to anybody.

    Raises:
        ValueError: it is none, or it holds a password, which would show in `ps` and in status.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_url = is_url and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    # The address is not repeated: it may hold what must not be shown.
    if "@" in url:
        raise ValueError("write it without user and password, and these in files, in basicAuth")
    if not is_url or re.search(r"[\s\x00-\x1f]", url):
        raise ValueError("write http://HOST:PORT or https://HOST:PORT, with a path if need be")
    if parts.query or parts.fragment:
        raise ValueError("write the address without ? and #")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(check_url)]


class BasicAuth(Model):
    """A user and a password, each in a file."""

    username_file: Path
    password_file: Path


class Tls(Model):
    """How the server is known, and how we make ourselves known to it. Files are PEM."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*)$")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("write certFile and keyFile, or neither")
        return self


class HttpServer(Model):
    """A server, and who we are to it.

    Attributes:
        bearer_token_file: read anew for every request, as such tokens rotate.
        proxy_url: of the proxy that all requests go through; the environment's are not used.
    """

    url: Url | None = None
    bearer_token_file: Path | None = None
    basic_auth: BasicAuth | None = None
    tls: Tls | None = None
    proxy_url: Url | None = None

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if self.bearer_token_file is not None and self.basic_auth is not None:
            raise ValueError("write one of bearerTokenFile and basicAuth")
        if self.tls is not None and self.url is not None and not self.url.startswith("https:"):
            raise ValueError("tls is for https: write url: https://…, or take tls out")
        return self


class SourceConfig(HttpServer):
    """One source: Prometheus, or what speaks its query API.

    Attributes:
        url: with the path before ``/api/v1/query``, if there is one.
        tenant: sent as ``X-Scope-OrgID``.
        deadline: longest time for all queries of a look.
        max_concurrent_queries: of all canaries together.
        namespaces: whose SignalCanaries may use it; empty for all.
        folder: where the files are whose names have no leading /.
    """

    url: Url
    tenant: str | None = None
    deadline: Annotated[PositiveDuration, at_most(MAX_DEADLINE)] = timedelta(seconds=8)
    max_concurrent_queries: int = Field(default=4, ge=1, le=64)
    namespaces: tuple[str, ...] = ()
    folder: Path | None = None

    @field_validator("tenant")
    @classmethod
    def _check_tenant(cls, value: str | None) -> str | None:
        if value is not None and not _TENANT.fullmatch(value):
            raise ValueError("write letters, digits and !._*'()-, several tenants with | between")
        return value

    def file(self, path: Path | None) -> Path | None:
        """Where a file of this source is."""
        return path if path is None or self.folder is None else self.folder / path

    def check_files(self) -> None:
        """See that every file is there and is what it should be.

        Raises:
            SourcesError: one is not.
        """
        basic, tls = self.basic_auth, self.tls or Tls()
        names = [self.bearer_token_file]
        names += [basic.username_file, basic.password_file] if basic is not None else []
        for name in names:
            if (path := self.file(name)) is not None:
                try:
                    read_secret(path)
                except UnreadableCredentials as error:
                    raise SourcesError(str(error)) from None
        ca, cert, key = self.file(tls.ca_file), self.file(tls.cert_file), self.file(tls.key_file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if ca is not None:
                context.load_verify_locations(ca)
        except OSError as error:
            raise SourcesError(
                f"{ca} holds no certificate of an authority: {_why(error)}"
            ) from None
        try:
            if cert is not None:
                # Without a password of its own it would ask for one at the terminal.
                context.load_cert_chain(cert, key, password="")
        except OSError as error:
            raise SourcesError(f"{cert} and {key} are no pair: {_why(error)}") from None


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


def read_secret(path: Path) -> str:
    """The one line of a file of a mounted Secret.

    Raises:
        UnreadableCredentials: it cannot be used; the message holds nothing of it.
    """
    try:
        text = path.read_text(encoding="utf-8").strip("\r\n")
    except OSError as error:
        raise UnreadableCredentials(f"{path} cannot be read: {_why(error)}") from None
    except UnicodeDecodeError:
        raise UnreadableCredentials(f"{path} is no text") from None
    if not text or not text.isprintable():
        raise UnreadableCredentials(f"{path} must hold one line of text, and not an empty one")
    return text


def read_sources(file: Path) -> dict[str, SourceConfig]:
    """The sources of the administrator's file, by name.

    Raises:
        SourcesError: it cannot be read or used; the message says what to write.
    """
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SourcesError(f"{file} cannot be read: {type(error).__name__}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise SourcesError(f"{file}: this is not YAML{line}") from None
    try:
        return parse_sources(document)
    except SourcesError as error:
        raise SourcesError(f"{file}: {error}") from None


_FIELD: Final = "spec.metricsSource"


def find_source(
    sources: Mapping[str, SourceConfig], target: Target, written_in: str = _FIELD
) -> SourceConfig:
    """The source that a target names.

    Args:
        written_in: where the name stands, to begin a message with.

    Raises:
        UnknownSource: there is none, or it is not for the target's namespace.
    """
    source = sources.get(target.source)
    if source is None or not _admits(source.namespaces, target.namespace):
        namespaces = {name: one.namespaces for name, one in sources.items()}
        raise _unknown(target, namespaces, written_in)
    return source


def choose_source(
    target: Target, prometheus: str | None, sources: Path | None, source: str | None = None
) -> SourceConfig | None:
    """The source that a person's options name; None if they name none.

    Args:
        prometheus: --prometheus, an address.
        sources: --sources, the administrator's file.
        source: --source, one of the file's in place of the target's.

    Raises:
        SourcesError, UnknownSource: it cannot be used; the message says what to write.
    """
    if source is not None and sources is None:
        raise SourcesError("--source names one of a file's sources: give --sources FILE too")
    if prometheus is not None:
        try:
            return SourceConfig(url=check_url(prometheus))
        except ValueError as error:
            raise SourcesError(
                f"--prometheus: {error}; or name it in a file, see --sources"
            ) from None
    if sources is None:
        return None
    named = read_sources(sources)
    if source is None:
        return find_source(named, target)
    return find_source(named, replace(target, source=source), "--source")


def _admits(namespaces: Sequence[str], namespace: str) -> bool:
    """Whether a source of these namespaces, or of all if they are none, is for one of them."""
    return not namespaces or namespace in namespaces


def _unknown(
    target: Target, namespaces: Mapping[str, Sequence[str]], written_in: str = _FIELD
) -> UnknownSource:
    usable = [n for n, some in sorted(namespaces.items()) if _admits(some, target.namespace)]
    known = f"write one of {', '.join(usable)}" if usable else "there is none"
    written = "" if target.source != DEFAULT_SOURCE else ", which is meant where none is named"
    return UnknownSource(
        f"{written_in}: no source {target.source}{written} is for the namespace "
        f"{target.namespace}: {known}, or ask the administrator of the operator"
    )


def parse_sources(document: Any) -> dict[str, SourceConfig]:
    """Read ``sources: {NAME: {url: …}}``.

    Raises:
        SourcesError: it is not that.
    """
    named = document.get("sources") if isinstance(document, dict) else None
    if not isinstance(named, dict) or not named or set(document) != {"sources"}:
        raise SourcesError("write sources: {default: {url: http://HOST:PORT}}, and nothing beside")
    read = {}
    for name, fields in named.items():
        if not isinstance(name, str) or len(name) > 63 or not re.fullmatch(DNS_LABEL, name):
            raise SourcesError(
                f"sources.{name}: write a name of lower-case letters, digits and '-'"
            )
        try:
            read[name] = SourceConfig.model_validate(fields)
            read[name].check_files()
        except ValidationError as error:
            raise SourcesError("; ".join(_words(name, error))) from None
        except SourcesError as error:
            raise SourcesError(f"sources.{name}: {error}") from None
    return read


def _words(name: str, error: ValidationError) -> list[str]:
    """What is wrong and where, without what was written: it may be a secret in a wrong place."""
    words = []
    for detail in error.errors(include_url=False, include_input=False):
        where = ".".join(str(step) for step in ("sources", name, *detail["loc"]))
        message = {
            "extra_forbidden": "unknown field: write one of "
            + ", ".join(str(f.alias) for f in SourceConfig.model_fields.values()),
            "missing": "is missing",
        }.get(detail["type"], detail["msg"].removeprefix("Value error, "))
        words.append(f"{where}: {message}")
    return words


@dataclass(frozen=True)
class Sources:
    """Asks for every target the source that its SignalCanary names. Is itself a `Source`.

    Attributes:
        namespaces: by name, whose SignalCanaries may use it; all, if none are named.
    """

    sources: Mapping[str, Source]
    namespaces: Mapping[str, Sequence[str]]

    async def fetch(
        self, targets: Sequence[Target], at: datetime | None = None
    ) -> Mapping[Target, MetricsSeen]:
        by_source: dict[str, list[Target]] = {}
        seen: dict[Target, MetricsSeen] = {}
        for target in targets:
            if self._is_for(target.source, target.namespace):
                by_source.setdefault(target.source, []).append(target)
            else:
                seen |= failed([target], _unknown(target, self._namespaces()))
        answers = await asyncio.gather(
            *(self.sources[name].fetch(some, at) for name, some in by_source.items())
        )
        for answer in answers:
            seen |= answer
        return seen

    async def fetch_series(self, target: Target, query: str, at: datetime) -> list[Series]:
        """Raises `MetricsSourceError`: the source could not be read, or there is none."""
        if not self._is_for(target.source, target.namespace):
            raise _unknown(target, self._namespaces())
        return await self.sources[target.source].fetch_series(target, query, at)

    async def fetch_history(
        self, target: Target, query: str, first: datetime, last: datetime, step: timedelta
    ) -> list[Any]:
        """Raises `MetricsSourceError`: the source could not be read, or there is none."""
        if not self._is_for(target.source, target.namespace):
            raise _unknown(target, self._namespaces())
        source = self.sources[target.source]
        return await source.fetch_history(target, query, first, last, step)

    def _is_for(self, name: str, namespace: str) -> bool:
        return name in self.sources and _admits(self.namespaces.get(name, ()), namespace)

    def _namespaces(self) -> dict[str, Sequence[str]]:
        return {name: self.namespaces.get(name, ()) for name in self.sources}
