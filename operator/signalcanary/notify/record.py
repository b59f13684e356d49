"""What of the outbox is kept over a restart, as JSON. Pure."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field, ValidationError

from signalcanary.contract import Model
from signalcanary.notify.alerts import Alert
from signalcanary.notify.notification import Notification


class UnreadableRecord(Exception):
    """A record was not written by this module."""


class Pending(Model):
    """A notification that has not reached everybody yet.

    Attributes:
        taken: when it was taken in.
        to: by receiver that it has not reached, the route.
        alerts: by receiver that is an Alertmanager, what it is told.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    notification: Notification
    taken: datetime
    to: dict[str, str]
    alerts: dict[str, tuple[Alert, ...]] = Field(default_factory=dict)


class Record(Model):
    """What is kept over a restart.

    Attributes:
        since: when notifications were first on: what happened before is not told.
        known: by the beginning of the uid, the newest transition that was taken in.
        noticed: by the beginning of the uid, the notices that stand and were taken in.
        missed: by receiver, how many notifications it was not told of, nor of that fact.
        firing: by uid and receiver, the alert that fires.
    """

    model_config = ConfigDict(extra="ignore")

    since: datetime
    known: dict[str, str] = Field(default_factory=dict)
    noticed: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    pending: tuple[Pending, ...] = ()
    missed: dict[str, int] = Field(default_factory=dict)
    firing: dict[str, dict[str, Alert]] = Field(default_factory=dict)


def parse_record(text: str) -> Record:
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise UnreadableRecord(
            f"{error.error_count()} errors, the first: {_first(error)}"
        ) from None


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
