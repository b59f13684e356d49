"""Alerts, as Alertmanager knows them: by their labels, from when they fire until they are resolved.

Alertmanager keeps them in memory, and wants to hear of them again while they last. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ConfigDict, Field

from signalcanary.contract import Model
from signalcanary.notify.config import Config
from signalcanary.notify.notification import Notification
from signalcanary.rollout import Phase

FIRING_FOR: Final = timedelta(hours=1)
"""How long an alert fires without being said again, which it is much more often."""

MAX_DESCRIPTION_CHARS: Final = 500
"""Of each alert that fires, as all of them are in the record; the rest is in the status."""


class Alert(Model):
    """An alert as Alertmanager knows it: by its labels.

    Attributes:
        ends_at: when it was resolved; None while it fires.
    """

    model_config = ConfigDict(extra="ignore")

    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: datetime
    ends_at: datetime | None = None


def is_alertmanager(config: Config, receiver: str) -> bool:
    found = config.receivers.get(receiver)
    return found is not None and found.alertmanager is not None


def build_alert(notification: Notification, receiver: str, config: Config) -> Alert:
    alertmanager = config.receivers[receiver].alertmanager
    assert alertmanager is not None
    labels = {
        **alertmanager.labels,
        "alertname": "SignalCanaryTakenBack",
        "namespace": notification.namespace,
        "signalcanary": notification.name,
        "severity": notification.severity.value,
    }
    if config.cluster:
        labels["cluster"] = config.cluster
    annotations = {
        "summary": f"{notification.namespace}/{notification.name}: {notification.version} "
        f"{'is rolled back' if notification.phase == Phase.ROLLED_BACK else 'is rolling back'} "
        f"({notification.reason})",
        "description": notification.message[:MAX_DESCRIPTION_CHARS],
        "version": notification.version,
        "stable": notification.stable or "none",
        "notification_id": notification.id,
    }
    return Alert(labels=labels, annotations=annotations, starts_at=notification.time)


def resolved(alert: Alert, at: datetime) -> Alert:
    return alert.model_copy(update={"ends_at": max(at, alert.starts_at)})


def alerts_payload(alerts: Sequence[Alert], now: datetime) -> list[dict[str, Any]]:
    """For POST /api/v2/alerts. What fires has an end, so that it goes if nobody says it again."""
    return [
        {
            "labels": alert.labels,
            "annotations": alert.annotations,
            "startsAt": _instant(alert.starts_at),
            "endsAt": _instant(alert.ends_at or now + FIRING_FOR),
        }
        for alert in alerts
    ]


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
