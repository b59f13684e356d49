"""Notifications as each receiver takes them. Pure.

What comes from an object (a tenant wrote its name, labels and version) is text wherever it
stands: it forms no link or mention in Slack, no header in a mail.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from string import Template
from typing import Any, Final

from signalcanary.notify.endpoints import Email
from signalcanary.notify.notification import Notification, Severity
from signalcanary.notify.outbox import Batch
from signalcanary.revisions import canonical_hash

PAYLOAD_VERSION: Final = "1"

MAX_DIGESTED_CHARS: Final = 300
"""Of each message in a digest, so that Slack, which cuts at 40,000 characters, shows all of it."""

_MAX_SLACK_CHARS: Final = 39_000


@dataclass(frozen=True)
class Message:
    """What a receiver is sent: one notification, or a digest of several.

    Attributes:
        id: the same at each attempt with the same notifications.
    """

    id: str
    batch: Batch
    cluster: str
    at: datetime

    @property
    def notifications(self) -> Sequence[Notification]:
        return self.batch.notifications

    @property
    def severity(self) -> Severity:
        return min(notification.severity for notification in self.notifications)


def build_message(batch: Batch, cluster: str, now: datetime) -> Message:
    ids = [notification.id for notification in batch.notifications]
    key = ids[0] if len(ids) == 1 else canonical_hash(ids)[:16]
    return Message(key, batch, cluster, now)


def _plain(text: str) -> str:
    return text


def title_of(message: Message, escape: Callable[[str], str] = _plain) -> str:
    """One line."""
    if len(message.notifications) == 1:
        return _filled(message.batch.route.title, message, message.notifications[0], escape)
    counts = Counter(notification.severity.value for notification in message.notifications)
    told = ", ".join(f"{count} {severity}" for severity, count in sorted(counts.items()))
    where = f" in {escape(message.cluster)}" if message.cluster else ""
    return f"[digest] {len(message.notifications)} SignalCanary notifications{where}: {told}"


def text_of(message: Message, escape: Callable[[str], str] = _plain) -> str:
    """Everything, in as many lines as it takes."""
    route = message.batch.route
    parts = [missed_words(message.batch.missed)] if message.batch.missed else []
    if len(message.notifications) == 1:
        parts.append(_filled(route.text, message, message.notifications[0], escape))
    else:
        for each in map(_shortened, message.notifications):
            title = _filled(route.title, message, each, escape)
            parts.append(f"{title}\n{_filled(route.text, message, each, escape)}")
    return "\n\n".join(parts)


def _shortened(notification: Notification) -> Notification:
    text = notification.message
    if len(text) <= MAX_DIGESTED_CHARS:
        return notification
    return notification.model_copy(update={"message": text[: MAX_DIGESTED_CHARS - 1] + "…"})


def missed_words(count: int) -> str:
    return (
        f"At least {count} earlier notification{'s' if count > 1 else ''} did not reach this "
        "receiver; the history is in the status of each SignalCanary, and in the operator's log."
    )


def _filled(
    template: str, message: Message, notification: Notification, escape: Callable[[str], str]
) -> str:
    values = {
        "severity": notification.severity.value,
        "namespace": notification.namespace,
        "name": notification.name,
        "phase": notification.phase,
        "reason": notification.reason,
        "message": notification.message,
        "version": notification.version,
        "stable": notification.stable or "none",
        "time": _time(notification.time),
        "cluster": message.cluster,
        "id": notification.id,
    }
    return Template(template).substitute({name: escape(text) for name, text in values.items()})


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --------------------------------------------------------------------------- Slack


def slack_payload(message: Message) -> dict[str, Any]:
    """For an incoming webhook: mrkdwn, in which only templates write markup."""
    ids = " ".join(notification.id for notification in message.notifications[:5])
    text = f"*{title_of(message, _slack)}*\n{text_of(message, _slack)}"
    if len(text) > _MAX_SLACK_CHARS:
        text = text[:_MAX_SLACK_CHARS] + "…"
    return {"text": f"{text}\n_{ids}_", "unfurl_links": False, "unfurl_media": False}


def _slack(text: str) -> str:
    # By Slack's own rule these three; it makes mentions and links of < alone.
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\n", " ")


# --------------------------------------------------------------------------- webhook


def webhook_payload(message: Message) -> bytes:
    """The documented JSON."""
    body = {
        "version": PAYLOAD_VERSION,
        "id": message.id,
        "receiver": message.batch.receiver,
        "cluster": message.cluster,
        "sentAt": _time(message.at),
        "severity": message.severity.value,
        "title": title_of(message),
        "text": text_of(message),
        "missed": message.batch.missed,
        "notifications": [notification.to_wire() for notification in message.notifications],
    }
    return json.dumps(body, ensure_ascii=False).encode()


def webhook_headers(message: Message, body: bytes, key: bytes | None) -> Mapping[str, str]:
    """As the Standard Webhooks specification names and signs them."""
    at = str(int(message.at.timestamp()))
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": message.id,
        "Webhook-Id": message.id,
        "Webhook-Timestamp": at,
    }
    if key is not None:
        signed = b".".join((message.id.encode(), at.encode(), body))
        digest = hmac.new(key, signed, hashlib.sha256).digest()
        headers["Webhook-Signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


# --------------------------------------------------------------------------- e-mail


def email_message(message: Message, email: Email) -> EmailMessage:
    """A plain text mail; its Message-ID is the same at each attempt, so that mailboxes may drop
    duplicates, and those of one object stand in one thread."""
    domain = email.from_.rpartition("@")[2]
    first = message.notifications[0]
    mail = EmailMessage()
    mail["Subject"] = _one_line(title_of(message))[:250]
    mail["From"] = email.from_
    mail["To"] = ", ".join(email.to)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{message.id}.{message.batch.receiver}@{domain}>"
    if len(message.notifications) == 1:
        mail["References"] = f"<{canonical_hash(first.uid)[:16]}.signalcanary@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-SignalCanary-Severity"] = message.severity.value
    if message.severity <= Severity.P1:
        mail["Importance"] = "high"
    ids = " ".join(notification.id for notification in message.notifications)
    mail.set_content(f"{text_of(message)}\n\n-- \n{ids}\n")
    return mail


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text).strip()
