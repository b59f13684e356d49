"""Names, limits and the kinds of strings that the custom resource is written with."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import StringConstraints, WithJsonSchema
from pydantic.config import JsonDict

from signalcanary.contract import SYMBOL_PATTERN, string_schema

GROUP: Final = "signalcanary.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "SignalCanary"
PLURAL: Final = "signalcanaries"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# A StatefulSet's pods carry "<its name>-<10 digits>" in a label of at most 63 characters, and its
# name is "<name>-<8>-canary-analysis"; their host names are labels too, so it has no dots.
MAX_NAME_LENGTH: Final = 27
NAME_HELP: Final = (
    "metadata.name becomes part of pods' host names: write at most "
    f"{MAX_NAME_LENGTH} lower-case letters, digits and '-', without dots"
)
MAX_SYMBOLS: Final = 256
MAX_STAGES: Final = 16
MAX_CONDITIONS: Final = 32
DEFAULT_SOURCE: Final = "default"
"""The metrics source where a spec names none."""

_LABEL_VALUE: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
DNS_LABEL: Final = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"


def rule(rule: str, message: str) -> JsonDict:
    return {"rule": rule, "message": message}


Symbol = Annotated[
    str,
    StringConstraints(pattern=SYMBOL_PATTERN),
    WithJsonSchema(
        string_schema(
            SYMBOL_PATTERN,
            20,
            "write a symbol as the exchange does, 2 to 20 capital letters and digits, "
            "for example BTCUSDT",
        )
    ),
]
VersionLabel = Annotated[
    str,
    StringConstraints(pattern=_LABEL_VALUE, max_length=63),
    WithJsonSchema(
        string_schema(
            _LABEL_VALUE,
            63,
            "write a version that is a label value: letters, digits, '-', '_' and '.', beginning "
            "and ending with a letter or digit, for example v2.0-prod",
        )
    ),
]
ObjectName = Annotated[
    str,
    StringConstraints(pattern=DNS_LABEL, max_length=MAX_NAME_LENGTH),
    WithJsonSchema(
        string_schema(
            DNS_LABEL,
            MAX_NAME_LENGTH,
            "write the name of a SignalCanary of the same namespace, in lower-case letters, digits "
            "and '-'",
        )
    ),
]
GroupName = Annotated[
    str,
    StringConstraints(pattern=DNS_LABEL, max_length=63),
    WithJsonSchema(
        string_schema(
            DNS_LABEL,
            63,
            "write the name of a group in lower-case letters, digits and '-', for example fusion",
        )
    ),
]
StageName = Annotated[
    str,
    StringConstraints(pattern=DNS_LABEL, max_length=63),
    WithJsonSchema(
        string_schema(
            DNS_LABEL,
            63,
            "write a stage name in lower-case letters, digits and '-', for example canary",
        )
    ),
]
SourceName = Annotated[
    str,
    StringConstraints(pattern=DNS_LABEL, max_length=63),
    WithJsonSchema(
        string_schema(
            DNS_LABEL,
            63,
            "write the name of a metrics source in lower-case letters, digits and '-', "
            "for example default",
        )
    ),
]
_SIZE: Final = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi)?$"
Size = Annotated[
    str,
    StringConstraints(pattern=_SIZE, max_length=24),
    WithJsonSchema(string_schema(_SIZE, 24, "write a size such as 500Mi, 20Gi or 1.5Ti")),
]
NO_REPEATS: Final = "self.all(x, self.exists_one(y, y == x))"


def first_repeated(items: tuple[str, ...]) -> str | None:
    return next((x for i, x in enumerate(items) if x in items[:i]), None)
