"""Where receivers are, and how they are reached. Addresses and credentials are of the administrator
alone: his file names files of mounted Secrets, which are read when they are needed."""

from __future__ import annotations

import base64
import binascii
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from signalcanary.contract import Model, PositiveDuration
from signalcanary.sources import (
    BasicAuth,
    HttpServer,
    SourceConfig,
    Tls,
    UnreadableCredentials,
    check_url,
    read_secret,
)
from signalcanary.wire import at_most

MAX_DEADLINE: Final = timedelta(seconds=60)


class HttpEndpoint(HttpServer):
    """Where to and how over HTTP. An address that is a secret itself comes from a file."""

    url_file: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("write one of url and urlFile")
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
    deadline: Annotated[PositiveDuration, at_most(MAX_DEADLINE)] = timedelta(seconds=10)
    folder: Path | None = None

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
