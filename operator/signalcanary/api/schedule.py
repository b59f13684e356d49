"""When a rollout may begin and move on."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from signalcanary.api.names import NO_REPEATS, rule
from signalcanary.contract import Model, string_schema
from signalcanary.wire import parse_instant

MAX_WINDOWS: Final = 16

# --------------------------------------------------------------------------- instants and times

_INSTANT: Final = (
    r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,3})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
)
_INSTANT_HELP: Final = (
    "write an instant with its offset from UTC, for example 2026-05-04T08:00:00Z or "
    "2026-05-04T09:00:00+01:00"
)


def _read_instant(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if re.fullmatch(_INSTANT, value):
            return parse_instant(value)
    except ValueError:
        pass  # there is no such day
    raise ValueError(f"{value!r} is no instant: {_INSTANT_HELP}")


def _write_instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(".000", "")


Instant = Annotated[
    datetime,
    BeforeValidator(_read_instant),
    PlainSerializer(_write_instant, return_type=str),
    WithJsonSchema(
        string_schema(
            _INSTANT, 32, _INSTANT_HELP, "timestamp(self) > timestamp('2000-01-01T00:00:00Z')"
        )
    ),
]
_HOUR: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_FROM: Final = f"^{_HOUR}$"
_TO: Final = f"^({_HOUR}|24:00)$"
From = Annotated[
    str,
    StringConstraints(pattern=_FROM),
    WithJsonSchema(string_schema(_FROM, 5, "write a time of day from 00:00 to 23:59")),
]
To = Annotated[
    str,
    StringConstraints(pattern=_TO),
    WithJsonSchema(string_schema(_TO, 5, "write a time of day from 00:00 to 24:00")),
]

_ZONE: Final = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"
_ZONE_HELP: Final = "write an IANA time zone, for example Europe/London, Asia/Tokyo or UTC"
_OF_THE_MACHINE: Final = ("local", "localtime")


def _check_zone(name: str) -> str:
    try:
        if name.lower() not in _OF_THE_MACHINE:
            ZoneInfo(name)
            return name
    except (LookupError, ValueError, OSError):
        pass  # unknown, or a folder of time zones
    raise ValueError(f"there is no time zone {name!r}: {_ZONE_HELP}")


TimeZone = Annotated[
    str,
    StringConstraints(pattern=_ZONE, max_length=64),
    AfterValidator(_check_zone),
    WithJsonSchema(
        string_schema(
            _ZONE,
            64,
            _ZONE_HELP,
            f"!(self.lowerAscii() in {list(_OF_THE_MACHINE)})",
            # The API server has the IANA names too; one that it does not know is an error.
            "timestamp('2026-01-01T00:00:00Z').getHours(self) >= 0",
        )
    ),
]

# --------------------------------------------------------------------------- windows


class Day(StrEnum):
    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


_ONE_KIND: Final = (
    "write from and to for a window of every week, or start and end for one that is once"
)
_NOT_EMPTY: Final = "from and to are the same: write 00:00 and 24:00 for a whole day"
_IN_ORDER: Final = "end must be after start"
_DAYS_OF_WEEKLY: Final = "days go with from and to: take them out beside start and end"


class Window(Model):
    """A time in which something is allowed, or not: every week, or once."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.from) == has(self.to) && has(self.start) == has(self.end) && "
                    "has(self.from) != has(self.start)",
                    _ONE_KIND,
                ),
                rule("!has(self.from) || !has(self.to) || self.from != self.to", _NOT_EMPTY),
                rule(
                    "!has(self.start) || !has(self.end) || "
                    "timestamp(self.start) < timestamp(self.end)",
                    _IN_ORDER,
                ),
                rule("!has(self.days) || !has(self.start)", _DAYS_OF_WEEKLY),
            ]
        }
    )

    days: tuple[Day, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=len(Day),
        description="Days of the week on which the window begins, of its time zone; without them "
        "every day.",
        json_schema_extra={
            "x-kubernetes-validations": [rule(NO_REPEATS, "a day stands twice: write it once")]
        },
    )
    from_: From | None = Field(
        default=None,
        alias="from",
        description="Time of day at which the window begins. Where the clock is set forward over "
        "it, that moment; where it comes twice, the first. Unit: HH:MM in the time zone.",
    )
    to: To | None = Field(
        default=None,
        description="Time of day at which the window ends, on the next day if it is not after "
        "from. Where the clock is set forward over it, that moment; where it comes twice, the "
        "second. Unit: HH:MM in the time zone, to 24:00.",
    )
    start: Instant | None = Field(
        default=None, description="When a window that is once begins. Unit: RFC 3339."
    )
    end: Instant | None = Field(
        default=None, description="When a window that is once ends. Unit: RFC 3339."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        is_weekly, is_once = self.from_ is not None, self.start is not None
        if (self.to is not None, self.end is not None) != (is_weekly, is_once) or (
            is_weekly == is_once
        ):
            raise ValueError(_ONE_KIND)
        if is_weekly and self.from_ == self.to:
            raise ValueError(_NOT_EMPTY)
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(_IN_ORDER)
        if self.days is not None and is_once:
            raise ValueError(_DAYS_OF_WEEKLY)
        if self.days is not None and len(set(self.days)) < len(self.days):
            raise ValueError("a day stands twice: write it once")
        return self

    @property
    def length(self) -> timedelta | None:
        """Of a weekly window, by the clock on the wall; None of one that is once."""
        if self.from_ is None or self.to is None:
            return None
        minutes = minutes_of(self.to) - minutes_of(self.from_)
        return timedelta(minutes=minutes if minutes > 0 else minutes + 24 * 60)


def minutes_of(time_of_day: str) -> int:
    """Minutes since midnight of ``HH:MM``."""
    hours, minutes = time_of_day.split(":")
    return int(hours) * 60 + int(minutes)


class Windows(Model):
    """When something is allowed: within an allowed window, if there are any, and in no blackout."""

    time_zone: TimeZone = Field(
        default="UTC",
        description="IANA time zone that from, to and days are of, for example Europe/London.",
    )
    allowed: tuple[Window, ...] = Field(
        default=(),
        max_length=MAX_WINDOWS,
        description="It is allowed within any of these alone; without any, always.",
    )
    blackouts: tuple[Window, ...] = Field(
        default=(),
        max_length=MAX_WINDOWS,
        description="It is never allowed within these, whatever is allowed.",
    )


class Manual(StrEnum):
    """Whether a person's word moves a rollout on outside its windows."""

    DENY = "Deny"
    ALLOW = "Allow"


class Schedule(Windows):
    """When a rollout may begin and move on; guards and rollbacks never wait for it."""

    start_at: Instant | None = Field(
        default=None,
        description="Nothing of a new revision starts before this. Unit: RFC 3339.",
    )
    manual: Manual = Field(
        default=Manual.DENY,
        description="What a person's skip and promote do outside the windows. Deny: they are "
        "refused. Allow: they are done.",
    )
