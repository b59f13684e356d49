"""The administrator's file of notifications: who is told what, and what is kept quiet.

Addresses and credentials are of this file and of mounted Secrets alone, as those of the metrics
sources are. The file is read anew while the operator runs; one that cannot be used changes
nothing, for people are told by what was good before rather than not at all.
"""

from __future__ import annotations

import base64
import binascii
import re
import string
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from signalcanary.api import DNS_LABEL
from signalcanary.contract import Duration, Model, PositiveDuration, format_duration
from signalcanary.notify.notification import Notification, Severity
from signalcanary.sources import (
    BasicAuth,
    SourceConfig,
    SourcesError,
    Tls,
    UnreadableCredentials,
    Url,
    check_url,
    read_secret,
)

MAX_DEADLINE: Final = timedelta(seconds=60)
MIN_GIVE_UP: Final = timedelta(hours=1)
MAX_DIGEST: Final = timedelta(hours=24)
DIGESTED: Final = frozenset({Severity.P2, Severity.P3})
"""P0 and P1 never wait for a digest."""

PLACEHOLDERS: Final = (
    *("severity", "namespace", "name", "phase", "reason", "message"),
    *("version", "stable", "time", "cluster", "id"),
)

DEFAULT_TITLE: Final = "[$severity] $namespace/$name $phase: $version ($reason)"
DEFAULT_TEXT: Final = (
    "$message\nat $time; stable: $stable; more: kubectl -n $namespace describe sigc $name"
)


class NotificationsError(Exception):
    """The file cannot be used as it is written; the message says what to write."""


def _check_template(text: str) -> str:
    template = string.Template(text)
    wrong = [name for name in template.get_identifiers() if name not in PLACEHOLDERS]
    if wrong or not template.is_valid():
        what = f"there is no ${wrong[0]}" if wrong else "a $ stands alone, which is written $$"
        raise ValueError(f"{what}: write one of {', '.join('$' + p for p in PLACEHOLDERS)}")
    return text


Template = Annotated[
    str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_check_template)
]


# --------------------------------------------------------------------------- whom a thing is of


class Requirement(Model):
    """One line of a label selector, as Kubernetes writes it."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            raise ValueError("write values with In and NotIn, and none with the others")
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class Selector(Model):
    """A label selector, as Kubernetes writes it."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self.match_labels.items() <= labels.items() and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )


class Matcher(Model):
    """Which notifications something is for; what is not written matches all.

    Attributes:
        namespaces, names: with ``*`` and ``?``.
    """

    severities: tuple[Severity, ...] = ()
    namespaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    selector: Selector = Selector()

    def matches(self, notification: Notification) -> bool:
        return (
            (not self.severities or notification.severity in self.severities)
            and _matches(notification.namespace, self.namespaces)
            and _matches(notification.name, self.names)
            and self.selector.matches(notification.labels)
        )


def _matches(text: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


class SeverityRule(Model):
    """Another severity for some transitions; the first rule that matches holds."""

    severity: Severity
    phase: str | None = None
    reason: str | None = None
    namespaces: tuple[str, ...] = ()

    def matches(self, notification: Notification) -> bool:
        return (
            self.phase in (None, notification.phase)
            and self.reason in (None, notification.reason)
            and _matches(notification.namespace, self.namespaces)
        )


class Route(Matcher):
    """Sends what it matches to its receivers.

    Attributes:
        name: by which messages that wait remember how they are written.
        digest: P2 and P3 are collected for this long into one message; 0s for none.
    """

    name: str = ""
    receivers: tuple[str, ...] = Field(min_length=1)
    title: Template = DEFAULT_TITLE
    text: Template = DEFAULT_TEXT
    digest: Duration = timedelta(0)

    @field_validator("digest")
    @classmethod
    def _check_digest(cls, value: timedelta) -> timedelta:
        if value > MAX_DIGEST:
            raise ValueError(f"write at most {format_duration(MAX_DIGEST)}")
        return value


class Silence(Matcher):
    """Keeps quiet what it matches from one time to another. P0 only where it is named."""

    from_: AwareDatetime = Field(alias="from")
    to: AwareDatetime
    comment: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.to <= self.from_:
            raise ValueError("to must be later than from")
        return self

    def covers(self, notification: Notification, now: datetime) -> bool:
        is_named = notification.severity is not Severity.P0 or Severity.P0 in self.severities
        return self.from_ <= now < self.to and is_named and self.matches(notification)


# --------------------------------------------------------------------------- receivers


class HttpEndpoint(Model):
    """Where to and how over HTTP. An address that is a secret itself comes from a file."""

    url: Url | None = None
    url_file: Path | None = None
    bearer_token_file: Path | None = None
    basic_auth: BasicAuth | None = None
    tls: Tls | None = None
    proxy_url: Url | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("write one of url and urlFile")
        if self.bearer_token_file is not None and self.basic_auth is not None:
            raise ValueError("write one of bearerTokenFile and basicAuth")
        return self


class Slack(HttpEndpoint):
    """An incoming webhook. Who knows its address may write to the channel."""

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        if self.url is not None:
            raise ValueError("the address is a secret: write it to a file, and its name in urlFile")
        return self


class Webhook(HttpEndpoint):
    """Any server that takes JSON.

    Attributes:
        secret_file: of the key that signs, as Standard Webhooks writes it: whsec_ and base64.
    """

    secret_file: Path | None = None


class Alertmanager(HttpEndpoint):
    """An Alertmanager's v2 API. Of a cluster of them each is a receiver of its own."""

    labels: dict[str, str] = Field(default_factory=dict)


Address = Annotated[str, StringConstraints(pattern=r"^[^\s@<>,;\x00-\x1f]+@[^\s@<>,;\x00-\x1f]+$")]


class Email(Model):
    """A mail server that takes our mail."""

    host: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]*)$")
    port: int | None = Field(default=None, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    from_: Address = Field(alias="from")
    to: tuple[Address, ...] = Field(min_length=1, max_length=50)
    auth: BasicAuth | None = None
    tls: Tls | None = None

    @property
    def effective_port(self) -> int:
        return self.port or {"starttls": 587, "tls": 465, "none": 25}[self.security]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.security == "none" and (self.auth is not None or self.tls is not None):
            raise ValueError("without TLS the password would be readable: write security: starttls")
        return self


class Receiver(Model):
    """One receiver: exactly one of its kinds is written.

    Attributes:
        deadline: longest time for one attempt.
        folder: where the files are whose names have no leading /.
    """

    slack: Slack | None = None
    email: Email | None = None
    webhook: Webhook | None = None
    alertmanager: Alertmanager | None = None
    deadline: PositiveDuration = timedelta(seconds=10)
    folder: Path | None = None

    @field_validator("deadline")
    @classmethod
    def _check_deadline(cls, value: timedelta) -> timedelta:
        if value > MAX_DEADLINE:
            raise ValueError(f"write at most {format_duration(MAX_DEADLINE)}")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = [self.slack, self.email, self.webhook, self.alertmanager]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("write exactly one of slack, email, webhook and alertmanager")
        return self

    @property
    def endpoint(self) -> HttpEndpoint | None:
        return self.slack or self.webhook or self.alertmanager

    @property
    def kind(self) -> str:
        return next(k for k in ("slack", "email", "webhook", "alertmanager") if getattr(self, k))

    def secret(self, path: Path) -> str:
        """The line of a file of this receiver's.

        Raises:
            UnreadableCredentials: it cannot be used; the message holds nothing of it.
        """
        return read_secret(self.path(path))

    def path(self, path: Path) -> Path:
        return path if self.folder is None else self.folder / path

    def check_files(self) -> None:
        """See that every file is there and is what it should be.

        Raises:
            UnreadableCredentials, SourcesError: one is not.
        """
        endpoint, email = self.endpoint, self.email
        auth = endpoint.basic_auth if endpoint else email.auth if email else None
        names = [auth.username_file, auth.password_file] if auth else []
        if endpoint is not None:
            names += [p for p in (endpoint.bearer_token_file,) if p is not None]
            self.url()
        for name in names:
            self.secret(name)
        if self.webhook is not None and self.webhook.secret_file is not None:
            self.signing_key()
        tls = endpoint.tls if endpoint else email.tls if email else None
        # A source knows how to check certificates.
        SourceConfig(url="https://any", tls=tls, folder=self.folder).check_files()

    def url(self) -> str:
        """The address to send to.

        Raises:
            UnreadableCredentials: its file holds none; nothing of the file is in the message.
        """
        endpoint = self.endpoint
        assert endpoint is not None
        if endpoint.url is not None:
            return endpoint.url
        assert endpoint.url_file is not None
        text = self.secret(endpoint.url_file)
        try:
            check_url(text.partition("?")[0])
        except ValueError:
            file = self.path(endpoint.url_file)
            raise UnreadableCredentials(f"{file} holds no http:// or https:// address") from None
        return text

    def signing_key(self) -> bytes:
        """The webhook's key.

        Raises:
            UnreadableCredentials: its file holds none.
        """
        assert self.webhook is not None
        assert self.webhook.secret_file is not None
        file = self.path(self.webhook.secret_file)
        try:
            key = base64.b64decode(read_secret(file).removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
        if not 24 <= len(key) <= 64:  # the bounds of Standard Webhooks
            raise UnreadableCredentials(
                f"{file} must hold whsec_ and 24 to 64 bytes in base64, as of "
                '`echo "whsec_$(openssl rand -base64 32)"`'
            )
        return key


# --------------------------------------------------------------------------- the whole file


class Config(Model):
    """All of it.

    Attributes:
        cluster: name of this cluster, told in every message.
        give_up_after: a receiver that failed for this long is not tried again for that message.
    """

    cluster: str = ""
    receivers: dict[str, Receiver] = Field(min_length=1)
    routes: tuple[Route, ...] = Field(min_length=1)
    severities: tuple[SeverityRule, ...] = ()
    silences: tuple[Silence, ...] = ()
    give_up_after: PositiveDuration = timedelta(hours=24)

    @model_validator(mode="before")
    @classmethod
    def _name_routes(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("routes"), list):
            return data
        routes = [
            {"name": f"route-{n}", **route} if isinstance(route, dict) else route
            for n, route in enumerate(data["routes"])
        ]
        return {**data, "routes": routes}

    @field_validator("give_up_after")
    @classmethod
    def _check_give_up_after(cls, value: timedelta) -> timedelta:
        if value < MIN_GIVE_UP:
            raise ValueError(f"write at least {format_duration(MIN_GIVE_UP)}")
        return value

    @field_validator("receivers")
    @classmethod
    def _check_receivers(cls, value: dict[str, Receiver]) -> dict[str, Receiver]:
        for name in value:
            if len(name) > 63 or not re.fullmatch(DNS_LABEL, name):
                raise ValueError(f"{name!r}: write a name of lower-case letters, digits and '-'")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [route.name for route in self.routes]
        if len(set(names)) < len(names):
            raise ValueError("two routes have one name")
        for route in self.routes:
            for receiver in route.receivers:
                if receiver not in self.receivers:
                    known = ", ".join(self.receivers)
                    raise ValueError(
                        f"route {route.name}: there is no receiver {receiver}: write one of {known}"
                    )
        return self

    def route(self, name: str) -> Route:
        """By name; one that has gone since is as one with nothing written."""
        found = next((route for route in self.routes if route.name == name), None)
        return found or Route(name=name, receivers=("none",))

    def judge(self, notification: Notification) -> Notification:
        """The notification, as severe as the administrator says."""
        for rule in self.severities:
            if rule.matches(notification):
                return notification.model_copy(update={"severity": rule.severity})
        return notification

    def receivers_of(self, notification: Notification) -> dict[str, str]:
        """By receiver, the route that leads there: of several the first."""
        found: dict[str, str] = {}
        for route in self.routes:
            if route.matches(notification):
                for receiver in route.receivers:
                    found.setdefault(receiver, route.name)
        return found

    def is_silenced(self, notification: Notification, now: datetime) -> bool:
        return any(silence.covers(notification, now) for silence in self.silences)

    def file_problems(self) -> list[str]:
        """What is wrong with the files of the receivers; one that is absent now may come."""
        problems = []
        for name, receiver in self.receivers.items():
            try:
                receiver.check_files()
            except (UnreadableCredentials, SourcesError) as error:
                problems.append(f"receivers.{name}: {error}")
        return problems


def read_config(file: Path) -> Config:
    """The administrator's file.

    Raises:
        NotificationsError: it cannot be read or used; the message says what to write.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotificationsError(f"{file} cannot be read: {type(error).__name__}") from None
    try:
        return parse_config(text)
    except NotificationsError as error:
        raise NotificationsError(f"{file}: {error}") from None


def parse_config(text: str) -> Config:
    """Read the text of such a file; what it refers to is not looked at.

    Raises:
        NotificationsError: it is none.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise NotificationsError(f"this is not YAML{line}") from None
    if not isinstance(document, dict):
        raise NotificationsError("write receivers: {NAME: …} and routes: [{receivers: [NAME]}]")
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise NotificationsError("; ".join(_words(error))) from None


def _words(error: ValidationError) -> list[str]:
    """What is wrong and where, without what was written: it may be a secret in a wrong place."""
    words = []
    for detail in error.errors(include_url=False, include_input=False):
        where = ".".join(str(step) for step in detail["loc"]) or "the file"
        message = {
            "extra_forbidden": f"unknown field: write one of {', '.join(_fields(detail['loc']))}",
            "missing": "is missing",
            "timezone_aware": "write a time with its zone, such as 2026-05-01T08:00:00Z",
        }.get(detail["type"], detail["msg"].removeprefix("Value error, "))
        words.append(f"{where}: {message}")
    return words


def _fields(loc: tuple[int | str, ...]) -> list[str]:
    """The names that can be written where an unknown one was."""
    model: type[BaseModel] = Config
    for step in loc[:-1]:
        for name, field in model.model_fields.items():
            if step in (name, field.alias) and (inner := _model_of(field.annotation)):
                model = inner
                break
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as ``dict[str, Receiver]`` or ``Slack | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_of(arg))), None)
