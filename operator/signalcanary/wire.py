"""How what people and programs exchange is written: camelCase JSON, durations as Kubernetes has.

Durations are strings (``1500ms``, ``10s``, ``2m``, ``48h``) on the wire and `timedelta` in memory.
What the models say is in `contract`, `artifacts` and `api`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

# --------------------------------------------------------------------------- durations

DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
DURATION_HELP: Final = "write a duration such as 1500ms, 30s, 2m or 48h, at most 8760h"
MAX_DURATION: Final = timedelta(hours=8760)
"""A year; beyond some point no calendar could hold the end of it."""


def parse_duration(text: str) -> timedelta:
    """Read a duration as Go and Kubernetes write it (``1h30m``, ``1500ms``), to the millisecond.

    Raises:
        ValueError: the text is not a duration; the message says what to write.
    """
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration: {DURATION_HELP}")
    total_ms = sum(float(n) * _UNIT_MS[unit] for n, unit in _DURATION_PART.findall(text))
    if total_ms > MAX_DURATION / timedelta(milliseconds=1):
        raise ValueError(f"{text!r} is too long: {DURATION_HELP}")
    return timedelta(milliseconds=round(total_ms))


def format_instant(at: datetime) -> str:
    """RFC 3339, UTC, whole milliseconds: what status can hold."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """The inverse of `format_instant`.

    Raises:
        ValueError: it is no time.
    """
    return datetime.fromisoformat(text)


def format_duration(value: timedelta) -> str:
    """Write a duration in the fewest units: ``48h``, ``1h30m``, ``1500ms``; zero is ``0s``."""
    ms = round(value.total_seconds() * 1_000)
    if ms < 0:
        return f"-{format_duration(-value)}"
    if ms % 1_000:
        return f"{ms}ms"
    seconds = ms // 1_000
    hours, rest = divmod(seconds, 3_600)
    minutes, seconds = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{n}{unit}" for n, unit in parts if n) or "0s"


def shown(number: float) -> str:
    """A number as people write it: all its digits, no exponent where none is needed."""
    return f"{number:.15g}"


_NOT_TOO_LONG: Final = f"duration(self) <= duration('{format_duration(MAX_DURATION)}')"


def _read_duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def string_schema(pattern: str, max_length: int, message: str, *more_rules: str) -> dict[str, Any]:
    """Schema of a string whose refusal says what to write, which a bare pattern does not."""
    cel = pattern.replace("\\", "\\\\")
    rule = " && ".join((f"self.matches('{cel}')", *more_rules))
    return {
        "type": "string",
        "maxLength": max_length,
        "x-kubernetes-validations": [{"rule": rule, "message": message}],
    }


Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(string_schema(DURATION_PATTERN, 24, DURATION_HELP, _NOT_TOO_LONG)),
]


def _check_positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError(f"must be longer than 0s: {DURATION_HELP}")
    return value


PositiveDuration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    AfterValidator(_check_positive),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        string_schema(
            DURATION_PATTERN,
            24,
            f"{DURATION_HELP}; it must be longer than 0s",
            _NOT_TOO_LONG,
            "duration(self) >= duration('1ms')",
        )
    ),
]


def at_most(longest: timedelta) -> AfterValidator:
    """Beside a duration's type: that it is no longer."""

    def check(value: timedelta) -> timedelta:
        if value > longest:
            raise ValueError(f"write at most {format_duration(longest)}")
        return value

    return AfterValidator(check)


# --------------------------------------------------------------------------- the model base


class Model(BaseModel):
    """Frozen, strict about unknown fields and about NaN, camelCase on the wire."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    def to_wire(self) -> dict[str, Any]:
        """This object as JSON-ready camelCase; unset optional fields are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
