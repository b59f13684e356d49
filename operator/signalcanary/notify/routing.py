"""Who is told what, and what is kept quiet: routes, silences, severities of one's own. Pure."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from signalcanary.contract import Duration, Model, format_duration
from signalcanary.notify.notification import Notification, Severity

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
