"""The administrator's file of notifications.

It is read anew while the operator runs; one that cannot be used changes nothing, for people are
told by what was good before rather than not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from signalcanary.api import DNS_LABEL
from signalcanary.contract import Model, PositiveDuration, format_duration
from signalcanary.notify.endpoints import Receiver
from signalcanary.notify.notification import Notification
from signalcanary.notify.routing import Route, SeverityRule, Silence
from signalcanary.sources import SourcesError, UnreadableCredentials

MIN_GIVE_UP: Final = timedelta(hours=1)


class NotificationsError(Exception):
    """The file cannot be used as it is written; the message says what to write."""


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

    def file_problems(self, names: Iterable[str]) -> list[str]:
        """What is wrong with the files of receivers; one that is absent now may come."""
        problems = []
        for name in names:
            try:
                self.receivers[name].check_files()
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
