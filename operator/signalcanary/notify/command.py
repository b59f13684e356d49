"""`signalcanary notify-test`: one real message, and what came of it, for who sets this up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from signalcanary.contract import shown
from signalcanary.notify import receivers
from signalcanary.notify.alerts import Alert
from signalcanary.notify.config import Config, NotificationsError, read_config
from signalcanary.notify.notification import Notification, Severity
from signalcanary.notify.outbox import Batch
from signalcanary.notify.receivers import DeliveryFailed, Throttled
from signalcanary.notify.record import Pending
from signalcanary.notify.render import build_message, title_of
from signalcanary.notify.routing import Route

OK, FAILED, USAGE = 0, 1, 2


def run_test(file: Path, names: Sequence[str]) -> int:
    """Send a test message to receivers, or to all of them; returns the exit code."""
    logging.basicConfig(format="%(message)s")
    try:
        config = read_config(file)
        unknown = [name for name in names if name not in config.receivers]
        if unknown:
            raise NotificationsError(
                f"{file}: there is no receiver {unknown[0]}: write one of "
                + ", ".join(config.receivers)
            )
    except NotificationsError as error:
        print(error)
        return USAGE
    asked = names or list(config.receivers)
    problems = config.file_problems(asked)
    for problem in problems:
        print(problem)
    results = [asyncio.run(_test(config, name)) for name in asked]
    return OK if all(results) and not problems else FAILED


async def _test(config: Config, name: str) -> bool:
    receiver, now = config.receivers[name], datetime.now(UTC)
    routes = [route for route in config.routes if name in route.receivers]
    test = _notification(now)
    alerts: tuple[Alert, ...] = ()
    if receiver.alertmanager is not None:
        labels = {**receiver.alertmanager.labels, "alertname": "SignalCanaryNotifyTest"}
        annotations = {"summary": test.message}
        # It has ended by the time it is told: it shows that it is taken, and wakes nobody.
        alerts = (Alert(labels=labels, annotations=annotations, starts_at=now, ends_at=now),)
    route = routes[0] if routes else Route(name="none", receivers=(name,))
    item = Pending(notification=test, taken=now, to={name: route.name}, alerts={name: alerts})
    message = build_message(Batch(name, route, (item,), missed=0), config.cluster, now)
    print(f"{name} ({receiver.kind}): sending {title_of(message)!r}")
    if not routes:
        print("  no route leads here: it is told nothing but this test")
    for each in routes:
        print(f"  {_describe(each)}")
    began = time.monotonic()
    try:
        said = await receivers.send(receiver, message)
    except DeliveryFailed as error:
        print(f"  FAILED: {type(error).__name__}: {error}")
        if isinstance(error, Throttled) and error.retry_after_seconds:
            print(f"  it asks for a pause of {shown(round(error.retry_after_seconds))} s")
        print(f"  {_HINTS.get(type(error).__name__, 'the operator would try again')}")
        return False
    print(f"  delivered in {shown(round(time.monotonic() - began, 2))} s: {said}")
    return True


_HINTS = {
    "Unreachable": "is the address right, and does a NetworkPolicy let the operator out there?",
    "TimedOut": "is the address right? A firewall that drops looks like this, too",
    "NotAccepted": "check the address, the credentials and the authority of the certificate",
    "MessageRefused": "it is reached, but takes no such message: is it of the written kind?",
}


def _describe(route: Route) -> str:
    what = ", ".join(route.severities) or "every severity"
    where = ", ".join(route.namespaces) or "every namespace"
    return f"{route.name} sends here: {what}; of {where}" + ("; in digests" if route.digest else "")


def _notification(now: datetime) -> Notification:
    return Notification(
        id=f"test-{uuid4().hex[:11]}",
        uid="00000000-0000-0000-0000-000000000000",
        namespace="default",
        name="notify-test",
        time=now,
        phase="Test",
        reason="NotifyTest",
        message="This is a test of SignalCanary's notifications; nothing has happened.",
        version="v0",
        stable="v0",
        severity=Severity.P3,
    )
