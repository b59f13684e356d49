"""One attempt at each kind of receiver, against real servers that do all that servers do."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default as email_policy
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from notify_kit import CUT_OFF, HANG, START, Canary, HttpServer, answer, http_server
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from signalcanary.notify.config import Config, parse_config
from signalcanary.notify.outbox import Outbox
from signalcanary.notify.receivers import (
    DeliveryFailed,
    MessageRefused,
    NotAccepted,
    ServerFailed,
    Throttled,
    TimedOut,
    Unreachable,
    send,
)
from signalcanary.notify.render import Message, build_message, slack_payload
from signalcanary.rollout import Phase

KEY = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the example of the specification


def config_of(folder: Path, receiver: dict[str, Any], **route: Any) -> Config:
    wire = {
        "cluster": "prod",
        "receivers": {"it": {"folder": str(folder), "deadline": "20s", **receiver}},
        "routes": [{"receivers": ["it"], **route}],
    }
    return parse_config(yaml.safe_dump(wire))


def message_of(config: Config, canary: Canary | None = None, missed: int = 0) -> Message:
    """What the outbox would send of a canary, here one that is rolling back."""
    if canary is None:
        canary = Canary()
        canary.enter(Phase.ROLLING_BACK, "ConditionBreached", START, "ECE <0.12> & more")
    outbox = Outbox(since=START - timedelta(hours=1))
    outbox.take(canary.metadata, canary.state, config, START)
    outbox.missed["it"] = missed
    batch = outbox.next_batch("it", config, START + timedelta(hours=2))
    assert batch is not None
    return build_message(batch, config.cluster, datetime.now(UTC))


async def attempt(config: Config, message: Message | None = None) -> str:
    return await send(config.receivers["it"], message or message_of(config))


# --------------------------------------------------------------------------- webhook


async def test_a_webhook_gets_the_documented_payload_that_its_key_signs(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    async with http_server() as server:
        config = config_of(tmp_path, {"webhook": {"url": server.url + "/in", "secretFile": "key"}})
        message = message_of(config, missed=2)
        assert await attempt(config, message) == "HTTP 200: ok"
    (request,) = server.requests
    assert request.path == "/in"
    read = Webhook(KEY).verify(request.body, request.headers)  # the specification's own library
    assert read == request.json
    with pytest.raises(WebhookVerificationError):
        Webhook(KEY).verify(request.body + b" ", request.headers)
    assert request.headers["Idempotency-Key"] == request.headers["Webhook-Id"] == message.id
    (told,) = read.pop("notifications")
    assert read.pop("sentAt")
    text = read.pop("text")
    assert text.startswith("At least 2 earlier notifications did not reach this receiver")
    assert "\n\nECE <0.12> & more\nat 2026-05-01T00:00:00Z; stable: v1;" in text
    assert read == {
        "version": "1",
        "id": told["id"],
        "receiver": "it",
        "cluster": "prod",
        "severity": "P1",
        "title": "[P1] trading/demo RollingBack: v2 (ConditionBreached)",
        "missed": 2,
    }
    assert told == {
        "id": message.id,
        "uid": "uid-1",
        "namespace": "trading",
        "name": "demo",
        "labels": {},
        "generation": 0,
        "time": "2026-05-01T00:00:00Z",
        "phase": "RollingBack",
        "reason": "ConditionBreached",
        "message": "ECE <0.12> & more",
        "version": "v2",
        "isTransition": True,
        "stable": "v1",
        "severity": "P1",
    }


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "no base64 at all!"])
async def test_a_key_that_is_none_is_not_signed_with(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    async with http_server() as server:
        config = config_of(tmp_path, {"webhook": {"url": server.url, "secretFile": "key"}})
        with pytest.raises(NotAccepted) as failure:
            await attempt(config)
    assert server.requests == []
    secret = text.removeprefix("whsec_")
    assert not secret or secret not in str(failure.value)


async def test_credentials_are_read_for_each_attempt(tmp_path: Path) -> None:
    async with http_server() as server:
        config = config_of(tmp_path, {"webhook": {"url": server.url, "bearerTokenFile": "token"}})
        for token in ("one", "two"):
            (tmp_path / "token").write_text(token)
            await attempt(config)
        (tmp_path / "user").write_text("u")
        (tmp_path / "password").write_text("p")
        basic = {"usernameFile": "user", "passwordFile": "password"}
        await attempt(config_of(tmp_path, {"webhook": {"url": server.url, "basicAuth": basic}}))
    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer one", "Bearer two", "Basic dTpw"]


# --------------------------------------------------------------------------- how servers fail

FAILURES: dict[str, tuple[bytes, type[DeliveryFailed], str]] = {
    "500": (answer("500 Oh", "no"), ServerFailed, "HTTP 500: no"),
    "429": (answer("429 Slow", "", "Retry-After: 7"), Throttled, "HTTP 429"),
    "503 with a pause": (answer("503 Busy", "", "Retry-After: 9"), Throttled, "HTTP 503"),
    "503": (answer("503 Busy"), ServerFailed, "HTTP 503"),
    "400": (answer("400 Bad", "invalid_payload"), MessageRefused, "invalid_payload"),
    "404": (answer("404 Gone", "no_service"), NotAccepted, "no_service"),
    "a redirect": (answer("302 Go", "", "Location: http://evil"), NotAccepted, "redirect"),
    "half an answer": (CUT_OFF, Unreachable, "the connection broke"),
    "no HTTP": (b"220 mail here\r\n", Unreachable, "the connection broke"),
    "nothing": (b"\r\n", Unreachable, "the connection broke"),
    "an endless answer": (answer("200 OK", "x" * 100_000), ServerFailed, "more than 65536 bytes"),
}


@pytest.mark.parametrize(("said", "error", "words"), FAILURES.values(), ids=FAILURES)
async def test_what_is_no_whole_success_is_a_failure_of_its_type(
    tmp_path: Path, said: bytes, error: type[DeliveryFailed], words: str
) -> None:
    async with http_server(said) as server:
        with pytest.raises(DeliveryFailed) as failure:
            await attempt(config_of(tmp_path, {"webhook": {"url": server.url}}))
    assert type(failure.value) is error
    assert words in str(failure.value)


@pytest.mark.parametrize("date", [True, False])
async def test_the_pause_that_a_server_asks_for_is_understood(tmp_path: Path, date: bool) -> None:
    at = datetime.now(UTC) + timedelta(seconds=90)
    value = at.strftime("%a, %d %b %Y %H:%M:%S GMT") if date else "90"
    async with http_server(answer("429 Slow", "", f"Retry-After: {value}")) as server:
        with pytest.raises(Throttled) as failure:
            await attempt(config_of(tmp_path, {"webhook": {"url": server.url}}))
    assert failure.value.retry_after_seconds == pytest.approx(90, abs=2)


async def test_one_that_hangs_is_let_go_at_the_deadline(tmp_path: Path) -> None:
    async with http_server(HANG) as server:
        config = config_of(tmp_path, {"webhook": {"url": server.url}, "deadline": "100ms"})
        with pytest.raises(TimedOut, match="no answer within 100ms"):
            await attempt(config)


async def test_where_nobody_listens_the_address_shows_nowhere(tmp_path: Path) -> None:
    async with http_server() as server:
        pass
    (tmp_path / "url").write_text(f"{server.url}/T0/secret")
    with pytest.raises(Unreachable) as failure:
        await attempt(config_of(tmp_path, {"slack": {"urlFile": "url"}}))
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("kind", ["token", "password", "address"])
async def test_a_secret_that_a_server_repeats_shows_nowhere(tmp_path: Path, kind: str) -> None:
    both = base64.b64encode(b"user:s3cr3t").decode()
    said = f"no: s3cr3t Basic {both} /in/s3cr3t"
    async with http_server(answer("500 No", said)) as server:
        (tmp_path / "user").write_text("user")
        (tmp_path / "secret").write_text("s3cr3t")
        (tmp_path / "url").write_text(server.url + "/in/s3cr3t")
        basic = {"usernameFile": "user", "passwordFile": "secret"}
        webhook: dict[str, Any] = {
            "token": {"url": server.url, "bearerTokenFile": "secret"},
            "password": {"url": server.url, "basicAuth": basic},
            "address": {"urlFile": "url"},
        }[kind]
        with pytest.raises(ServerFailed, match="HTTP 500: no: ") as failure:
            await attempt(config_of(tmp_path, {"webhook": webhook}))
    assert "/in/s3cr3t" not in str(failure.value)
    assert kind == "address" or "s3cr3t" not in str(failure.value)
    assert kind != "password" or both not in str(failure.value)


async def test_an_address_that_is_none_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("hooks.slack/T0/secret")
    with pytest.raises(NotAccepted, match="holds no http:// or https:// address") as failure:
        await attempt(config_of(tmp_path, {"slack": {"urlFile": "url"}}))
    assert "secret" not in str(failure.value)


# --------------------------------------------------------------------------- Slack


async def test_slack_gets_text_in_which_a_tenant_can_mention_nobody(tmp_path: Path) -> None:
    canary = Canary(name="demo")
    why = "<!channel> & <http://evil|click>"
    canary.enter(Phase.ROLLED_BACK, "ConditionBreached", START, why)
    async with http_server() as server:
        (tmp_path / "url").write_text(server.url + "/services/T0/B0/x")
        config = config_of(tmp_path, {"slack": {"urlFile": "url"}}, text="<!here> $message")
        await attempt(config, message_of(config, canary))
    (request,) = server.requests
    assert request.path == "/services/T0/B0/x"
    text = request.json["text"]
    assert text.startswith("*[P1] trading/demo RolledBack: v2 (ConditionBreached)*\n<!here> ")
    assert "&lt;!channel&gt; &amp; &lt;http://evil|click&gt;" in text


def test_a_digest_of_the_longest_messages_is_shown_whole_by_slack(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"slack": {"urlFile": "url"}}, digest="1h")
    outbox = Outbox(since=START)
    for n in range(60):
        canary = Canary(uid=f"uid-{n}", name=f"demo-{n:02}")
        canary.enter(Phase.PROGRESSING, "StageStarted", START, "a < b " * 500)
        outbox.take(canary.metadata, canary.state, config, START)
    batch = outbox.next_batch("it", config, START + timedelta(hours=1))
    assert batch is not None
    text = slack_payload(build_message(batch, "prod", START))["text"]
    assert text.startswith("*[digest] 50 SignalCanary notifications in prod: 50 P3*\n")
    assert all(f"demo-{n:02}" in text for n in range(50))
    assert len(text) <= 40_000


# --------------------------------------------------------------------------- Alertmanager


def check_alerts(alerts: Any) -> None:
    """Against `postableAlerts` of Alertmanager's api/v2/openapi.yaml: labels are required, maps
    of strings, times in RFC 3339; and its own validation: no empty label value, an alertname."""
    assert isinstance(alerts, list)
    for alert in alerts:
        assert set(alert) <= {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}
        for each in (alert["labels"], alert.get("annotations", {})):
            assert all(isinstance(k, str) and isinstance(v, str) for k, v in each.items())
            assert all(k.isidentifier() for k in each)
        assert all(alert["labels"].values())
        assert alert["labels"]["alertname"]
        starts, ends = (datetime.fromisoformat(alert[k]) for k in ("startsAt", "endsAt"))
        assert starts.tzinfo is not None
        assert ends >= starts


async def test_an_alert_fires_and_is_resolved_by_the_next_success(tmp_path: Path) -> None:
    canary = Canary()
    async with http_server() as server:
        config = config_of(
            tmp_path,
            {"alertmanager": {"url": server.url + "/am/", "labels": {"team": "quant"}}},
            severities=["P1"],  # a success is routed nowhere, and resolves all the same
        )
        outbox = Outbox(since=START)
        for phase, reason in (
            (Phase.ROLLING_BACK, "ConditionBreached"),
            (Phase.ROLLED_BACK, "ConditionBreached"),
            (Phase.PENDING, "RolloutStarted"),
            (Phase.SUCCEEDED, "Promoted"),
        ):
            canary.enter(phase, reason, START + timedelta(minutes=len(canary.state.history)))
        outbox.take(canary.metadata, canary.state, config, START)
        now = datetime.now(UTC)
        while batch := outbox.next_batch("it", config, now):
            await attempt(config, build_message(batch, "prod", now))
            outbox.delivered(batch)
    assert {request.path for request in server.requests} == {"/am/api/v2/alerts"}
    sent = [request.json for request in server.requests]
    for each in sent:
        check_alerts(each)
    (rolling,), (rolled,), (resolved,) = sent
    labels = {
        "alertname": "SignalCanaryTakenBack",
        "namespace": "trading",
        "signalcanary": "demo",
        "severity": "P1",
        "cluster": "prod",
        "team": "quant",
    }
    assert rolling["labels"] == rolled["labels"] == resolved["labels"] == labels
    assert rolling["startsAt"] == rolled["startsAt"] == resolved["startsAt"]
    assert datetime.fromisoformat(rolled["endsAt"]) > now
    assert resolved["endsAt"] == "2026-05-01T00:03:00.000Z"


# --------------------------------------------------------------------------- e-mail


class Inbox:
    """A mail server's mind: what it takes, and what it refuses."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.refused: dict[str, str] = {}
        self.data = "250 taken"
        self.hangs_at_the_end = False
        self.users: list[tuple[bytes, bytes]] = []

    async def handle_RCPT(
        self, server: SMTP, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        if self.hangs_at_the_end:
            await asyncio.sleep(60)
        return "221 bye"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        if self.data == "hang":
            await asyncio.sleep(60)
        if self.data == "cut off":
            server.transport.abort()
        if self.data.startswith("250"):
            self.mails.append(envelope)
        return self.data

    def authenticate(
        self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        self.users.append((data.login, data.password))
        return AuthResult(success=data.password == b"right", handled=False)


@asynccontextmanager
async def mail_server(
    inbox: Inbox, tls: ssl.SSLContext | None = None, *, is_implicit: bool = False
) -> AsyncIterator[int]:
    sessions: list[SMTP] = []

    def make() -> SMTP:
        sessions.append(
            SMTP(
                inbox,
                hostname="localhost",
                tls_context=None if is_implicit else tls,
                require_starttls=tls is not None and not is_implicit,
                authenticator=inbox.authenticate,
                auth_required=tls is not None,
                auth_require_tls=not is_implicit,
            )
        )
        return sessions[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(make, "127.0.0.1", 0, ssl=tls if is_implicit else None)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for session in sessions:
            if session.transport is not None:
                session.transport.abort()
            if session._handler_coroutine is not None:
                session._handler_coroutine.cancel()
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, which is its own authority."""
    folder = tmp_path_factory.mktemp("certificate")
    subject = ["-subj", "/CN=mail", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-keyout", "key.pem", "-out", "cert.pem", *subject]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


def mail_config(folder: Path, port: int, **email: Any) -> Config:
    wire = {"host": "127.0.0.1", "port": port, "security": "none", "from": "canary@example.com"}
    return config_of(folder, {"email": {**wire, "to": ["a@example.com", "b@example.com"], **email}})


async def test_a_mail_is_plain_and_known_again(tmp_path: Path) -> None:
    inbox = Inbox()
    async with mail_server(inbox) as port:
        config = mail_config(tmp_path, port)
        canary = Canary()
        why = "rolling back v2: ECE 0.12 ≥ 0.1\nBcc: evil@example.com"
        canary.enter(Phase.ROLLING_BACK, "ConditionBreached", START, why)
        message = message_of(config, canary)
        for _ in range(2):
            await attempt(config, message)
    first, second = (
        message_from_bytes(bytes(mail.original_content or b""), policy=email_policy)
        for mail in inbox.mails
    )
    assert inbox.mails[0].rcpt_tos == ["a@example.com", "b@example.com"]
    assert first["Message-ID"] == second["Message-ID"] == f"<{message.id}.it@example.com>"
    assert first["Subject"] == "[P1] trading/demo RollingBack: v2 (ConditionBreached)"
    assert first["Importance"] == "high"
    assert first["Bcc"] is None
    assert "rolling back v2: ECE 0.12 ≥ 0.1" in first.get_content()


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # it is TLS already
@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_goes_encrypted_with_a_password_from_a_file(
    tmp_path: Path, certificate: Path, security: str
) -> None:
    inbox = Inbox()
    (tmp_path / "user").write_text("canary")
    (tmp_path / "password").write_text("right\n")
    auth = {"usernameFile": "user", "passwordFile": "password"}
    ca = {"caFile": str(certificate / "cert.pem")}
    tls = server_tls(certificate)
    async with mail_server(inbox, tls, is_implicit=security == "tls") as port:
        await attempt(mail_config(tmp_path, port, security=security, auth=auth, tls=ca))
        (tmp_path / "password").write_text("wrong")
        with pytest.raises(NotAccepted) as failure:
            await attempt(mail_config(tmp_path, port, security=security, auth=auth, tls=ca))
        assert "wrong" not in str(failure.value)
        with pytest.raises(NotAccepted):  # of an authority that we do not know
            await attempt(mail_config(tmp_path, port, security=security, auth=auth))
    assert len(inbox.mails) == 1
    assert inbox.users[0] == (b"canary", b"right")


async def test_where_starttls_is_not_offered_nothing_goes_in_the_clear(tmp_path: Path) -> None:
    inbox = Inbox()
    async with mail_server(inbox) as port:
        with pytest.raises(NotAccepted):
            await attempt(mail_config(tmp_path, port, security="starttls"))
    assert inbox.mails == []


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("451 later", ServerFailed),
        ("554 spam", MessageRefused),
        ("hang", TimedOut),
        ("cut off", Unreachable),
    ],
)
async def test_a_mail_that_is_not_taken_is_a_failure(
    tmp_path: Path, data: str, error: type[DeliveryFailed]
) -> None:
    inbox = Inbox()
    inbox.data = data
    async with mail_server(inbox) as port:
        config = mail_config(tmp_path, port)
        receiver = config.receivers["it"].model_copy(
            update={"deadline": timedelta(milliseconds=200 if data == "hang" else 20_000)}
        )
        with pytest.raises(DeliveryFailed) as failure:
            await send(receiver, message_of(config))
    assert type(failure.value) is error


async def test_who_is_refused_for_now_is_tried_again_and_for_good_is_told(tmp_path: Path) -> None:
    inbox = Inbox()
    async with mail_server(inbox) as port:
        config = mail_config(tmp_path, port)
        inbox.refused = {"b@example.com": "450 greylisted"}
        with pytest.raises(ServerFailed, match=r"not taken for .*: 450 greylisted"):
            await attempt(config)
        inbox.refused = {"b@example.com": "550 no such user"}
        assert "but not for b@example.com: 550 no such user" in await attempt(config)
        inbox.refused = dict.fromkeys(["a@example.com", "b@example.com"], "550 no such user")
        with pytest.raises(ServerFailed, match="550 no such user"):
            await attempt(config)


async def test_a_mail_that_was_taken_is_told_however_the_server_says_goodbye(
    tmp_path: Path,
) -> None:
    inbox = Inbox()
    inbox.hangs_at_the_end = True
    async with mail_server(inbox) as port:
        assert await attempt(mail_config(tmp_path, port)) == "taken"
    assert len(inbox.mails) == 1


async def test_no_mail_server_is_unreachable(tmp_path: Path) -> None:
    async with mail_server(Inbox()) as port:
        pass
    with pytest.raises(Unreachable):
        await attempt(mail_config(tmp_path, port))


async def test_https_servers_are_known_by_their_certificate(
    tmp_path: Path, certificate: Path
) -> None:
    async with http_server(tls=server_tls(certificate)) as server:
        with pytest.raises(NotAccepted, match="certificate"):
            await attempt(config_of(tmp_path, {"webhook": {"url": server.url}}))
        tls = {"caFile": str(certificate / "cert.pem")}
        said = await attempt(config_of(tmp_path, {"webhook": {"url": server.url, "tls": tls}}))
    assert said == "HTTP 200: ok"
    assert isinstance(server, HttpServer)
    assert json.loads(server.requests[-1].body)["id"]
