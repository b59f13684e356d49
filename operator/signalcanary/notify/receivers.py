"""One attempt at one receiver, with a deadline.

Success is a whole and timely answer that says so; all else is tried again, for a message told
twice does less harm than one not told. Addresses and credentials are read when they are needed,
and are in no error's words.

    DeliveryFailed                it is tried again
    ├── Unreachable               no connection, or it broke
    ├── TimedOut                  no whole answer within the deadline
    ├── Throttled                 the server asks for a pause (429, 503 with Retry-After)
    ├── ServerFailed              it answered, and not with a success
    ├── NotAccepted               it does not know us: address, credentials, certificate
    └── MessageRefused            it will not have this message; others it may
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import ssl
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import aiosmtplib

from signalcanary.contract import format_duration
from signalcanary.notify.alerts import Alert, alerts_payload
from signalcanary.notify.endpoints import Receiver
from signalcanary.notify.render import (
    Message,
    email_message,
    slack_payload,
    webhook_headers,
    webhook_payload,
)
from signalcanary.sources import Tls, UnreadableCredentials

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 64 * 1024
"""Of an answer that is read."""

QUIT_SECONDS: Final = 1.0

_JSON: Final = {"Content-Type": "application/json"}


class DeliveryFailed(Exception):
    """See the module.

    Attributes:
        retry_after_seconds: the pause that the server asks for.
    """

    retry_after_seconds: float = 0.0


class Unreachable(DeliveryFailed):
    pass


class TimedOut(DeliveryFailed):
    pass


class Throttled(DeliveryFailed):
    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ServerFailed(DeliveryFailed):
    pass


class NotAccepted(DeliveryFailed):
    pass


class MessageRefused(DeliveryFailed):
    pass


async def send(receiver: Receiver, message: Message) -> str:
    """Send a message; returns what the server said.

    Raises:
        DeliveryFailed: it was not taken, or nobody knows.
    """
    if receiver.email is not None:
        return await _send_mail(receiver, email_message(message, receiver.email))
    if receiver.alertmanager is not None:
        return await send_alerts(receiver, message.batch.alerts(), message.at)
    if receiver.slack is not None:
        return await _post(receiver, json.dumps(slack_payload(message)).encode(), _JSON)
    webhook = receiver.webhook
    assert webhook is not None
    body = webhook_payload(message)
    try:
        key = receiver.signing_key() if webhook.secret_file is not None else None
    except UnreadableCredentials as error:
        raise NotAccepted(str(error)) from None
    return await _post(receiver, body, webhook_headers(message, body, key))


async def send_alerts(receiver: Receiver, alerts: list[Alert], now: datetime) -> str:
    """Tell an Alertmanager what fires and what is resolved.

    Raises:
        DeliveryFailed: it was not taken, or nobody knows.
    """
    body = json.dumps(alerts_payload(alerts, now)).encode()
    return await _post(receiver, body, _JSON, path="/api/v2/alerts")


# --------------------------------------------------------------------------- HTTP


async def _post(receiver: Receiver, body: bytes, headers: Mapping[str, str], path: str = "") -> str:
    seconds = receiver.deadline.total_seconds()
    endpoint = receiver.endpoint
    assert endpoint is not None
    try:
        url = receiver.url().rstrip("/") + path if path else receiver.url()
        authorization, secrets = _authorization(receiver)
        secrets |= {url, urlsplit(url).path} if endpoint.url_file is not None else set()
        sent = {"User-Agent": "signalcanary", **headers, **authorization}
        context = _tls(receiver, endpoint.tls) if url.startswith("https:") else True
    except (UnreadableCredentials, OSError) as error:
        raise NotAccepted(str(error)) from None
    proxy = str(endpoint.proxy_url) if endpoint.proxy_url else None
    server_name = endpoint.tls.server_name if endpoint.tls else None
    try:
        # No proxy of the environment, and no redirect, which would take credentials along.
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(trust_env=False) as session,
            session.post(
                url,
                data=body,
                headers=sent,
                ssl=context,
                proxy=proxy,
                server_hostname=server_name,
                allow_redirects=False,
            ) as response,
        ):
            answer = await _read(response)
            return _judge(response, _hide(answer, secrets))
    except TimeoutError:
        raise TimedOut(f"no answer within {format_duration(receiver.deadline)}") from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise NotAccepted(f"certificate: {error.certificate_error}") from None
    except aiohttp.ClientSSLError as error:
        raise NotAccepted(f"TLS: {type(error).__name__}") from None
    except aiohttp.ClientConnectorError as error:
        reason = error.os_error.strerror or type(error.os_error).__name__
        raise Unreachable(f"no connection: {reason}") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # In whatever words: those of the library may hold the address, which may be a secret.
        raise Unreachable(f"the connection broke: {type(error).__name__}") from None


async def _read(response: aiohttp.ClientResponse) -> str:
    """The whole of an answer, which is none before its end has come."""
    read = bytearray()
    async for piece in response.content.iter_any():
        read += piece
        if len(read) > MOST_BYTES:
            raise ServerFailed(f"HTTP {response.status} with more than {MOST_BYTES} bytes")
    return read.decode(errors="replace")


def _judge(response: aiohttp.ClientResponse, answer: str) -> str:
    """What an answer means."""
    status = response.status
    said = f"HTTP {status}" + (f": {_one_line(answer)}" if answer.strip() else "")
    if 200 <= status < 300:
        return said
    pause = _retry_after(response.headers.get("Retry-After"))
    if status == 429 or (status == 503 and pause):
        raise Throttled(said, pause)
    if status in (400, 413, 415, 422):
        raise MessageRefused(said)
    if 300 <= status < 400:
        raise NotAccepted(f"HTTP {status}, a redirect: write the final address")
    if 400 <= status < 500 and status not in (408, 425):
        raise NotAccepted(said)
    raise ServerFailed(said)


def _one_line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text[:1000])
    return " ".join(printable.split())[:200]


def _retry_after(value: str | None) -> float:
    """Seconds, of a number or a date; 0 if there is neither."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _hide(text: str, secrets: Iterable[str]) -> str:
    """A server's words without what it should have kept to itself."""
    for secret in secrets:
        if secret.strip("/"):
            text = text.replace(secret, "…")
    return text


def _authorization(receiver: Receiver) -> tuple[dict[str, str], set[str]]:
    """The header, and what of it is secret."""
    endpoint = receiver.endpoint
    assert endpoint is not None
    if endpoint.bearer_token_file is not None:
        token = receiver.secret(endpoint.bearer_token_file)
        return {"Authorization": f"Bearer {token}"}, {token}
    if (basic := endpoint.basic_auth) is not None:
        user, password = receiver.secret(basic.username_file), receiver.secret(basic.password_file)
        both = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {both}"}, {password, both}
    return {}, set()


def _tls(receiver: Receiver, tls: Tls | None) -> ssl.SSLContext:
    """Made for each attempt, so that certificates that rotate are never old ones."""
    tls = tls or Tls()
    ca = receiver.path(tls.ca_file) if tls.ca_file else None
    context = ssl.create_default_context(cafile=ca)
    if tls.cert_file is not None and tls.key_file is not None:
        # Without a password of its own it would ask for one at the terminal.
        cert, key = receiver.path(tls.cert_file), receiver.path(tls.key_file)
        context.load_cert_chain(cert, key, password="")
    return context


# --------------------------------------------------------------------------- e-mail


async def _send_mail(receiver: Receiver, mail: EmailMessage) -> str:
    email, seconds = receiver.email, receiver.deadline.total_seconds()
    assert email is not None
    try:
        user = receiver.secret(email.auth.username_file) if email.auth else None
        password = receiver.secret(email.auth.password_file) if email.auth else None
        context = _tls(receiver, email.tls) if email.security != "none" else None
    except (UnreadableCredentials, OSError) as error:
        raise NotAccepted(str(error)) from None
    client = aiosmtplib.SMTP(
        hostname=email.host,
        port=email.effective_port,
        username=user,
        password=password,
        timeout=seconds,
        use_tls=email.security == "tls",
        start_tls=email.security == "starttls",
        tls_context=context,
    )
    try:
        async with asyncio.timeout(seconds):
            await client.connect()
            refused, said = await client.send_message(mail)
        # It has the message, whatever it says to this.
        with contextlib.suppress(aiosmtplib.SMTPException):
            await client.quit(timeout=QUIT_SECONDS)
    except (TimeoutError, aiosmtplib.SMTPTimeoutError):
        raise TimedOut(f"not done within {format_duration(receiver.deadline)}") from None
    except (aiosmtplib.SMTPAuthenticationError, aiosmtplib.SMTPNotSupported) as error:
        raise NotAccepted(_smtp_words(error)) from None
    except aiosmtplib.SMTPRecipientsRefused as error:
        raise ServerFailed("; ".join(map(_smtp_words, error.recipients))) from None
    except aiosmtplib.SMTPDataError as error:
        # 5xx is for good, says RFC 5321; but of this message alone.
        raise (MessageRefused if error.code >= 500 else ServerFailed)(_smtp_words(error)) from None
    except aiosmtplib.SMTPResponseException as error:
        raise ServerFailed(_smtp_words(error)) from None
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        cause = error if isinstance(error, ssl.SSLError) else error.__cause__
        if isinstance(cause, ssl.SSLError):
            raise NotAccepted(f"TLS: {_one_line(str(cause))}") from None
        # Of no type of its own: an extension that we need is not offered.
        kind = NotAccepted if type(error) is aiosmtplib.SMTPException else Unreachable
        raise kind(_one_line(str(error)) or type(error).__name__) from None
    finally:
        client.close()
    return _check_recipients(refused, said)


def _check_recipients(refused: Mapping[str, aiosmtplib.SMTPResponse], said: str) -> str:
    """Who is refused for now is tried again, with all others: mailboxes know a Message-ID."""
    words = "; ".join(f"{who}: {code} {_one_line(why)}" for who, (code, why) in refused.items())
    if any(code < 500 for code, _ in refused.values()):
        raise ServerFailed(f"not taken for {words}")
    if refused:
        logger.error("a notification was taken by the mail server, but not for %s", words)
        return f"{said}; but not for {words}"
    return said


def _smtp_words(error: aiosmtplib.SMTPException) -> str:
    code = f"{error.code} " if isinstance(error, aiosmtplib.SMTPResponseException) else ""
    return code + _one_line(error.message)
