"""What takes the place of a revision that serves and turns out to be bad."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from signalcanary.api.names import StageName, VersionLabel, rule
from signalcanary.contract import Model, PositiveDuration

MAX_RUNGS: Final = 8
_ONE_KIND: Final = "write exactly one of disable, revision, version and stop in each rung"
_STOP_IS_LAST: Final = "stop ends the ladder: make it the last rung"


class Feature(StrEnum):
    """A part of the signal that can be switched off by itself."""

    AUTO_FLIP = "AutoFlip"
    REGIMES = "Regimes"
    STACKING = "Stacking"
    ML = "ML"


class Rung(Model):
    """One step of the ladder: what serves next."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "[has(self.disable), has(self.revision), has(self.version), has(self.stop)]"
                    ".filter(x, x).size() == 1",
                    _ONE_KIND,
                )
            ]
        }
    )

    name: StageName = Field(description="Unique name of the rung, for status and messages.")
    disable: tuple[Feature, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=len(Feature),
        description="Go on with what served, these features switched off. AutoFlip: the sign of "
        "the CVD score stays as it is. Regimes: the baseline weights in every regime. Stacking: "
        "the mean of the base models in place of the stacking model. ML: no models at all; OFI and "
        "CVD take their weight, in proportion. One that is off already is passed over.",
    )
    revision: Literal["Previous"] | None = Field(
        default=None, description="Previous: the stable revision before the one that failed."
    )
    version: VersionLabel | None = Field(
        default=None, description="The newest revision on record with this version."
    )
    stop: Literal[True] | None = Field(default=None, description="Nothing serves.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = (self.disable, self.revision, self.version, self.stop)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError(f"rung {self.name}: {_ONE_KIND}")
        return self


def default_ladder() -> tuple[Rung, ...]:
    """The revision before; if that fails too, or there is none, nothing."""
    return (Rung(name="previous", revision="Previous"), Rung(name="nothing", stop=True))


LADDER_RULES: Final = [
    rule(
        "self.all(x, self.exists_one(y, y.name == x.name))",
        "two rungs have the same name: give each rung a name of its own",
    ),
    rule("self.all(x, !has(x.stop) || x == self[self.size() - 1])", _STOP_IS_LAST),
]


def check_ladder(ladder: tuple[Rung, ...]) -> None:
    """The rules across rungs.

    Raises:
        ValueError: says what to write instead.
    """
    names = [rung.name for rung in ladder]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two rungs are called {name}: give each a name of its own")
    if any(rung.stop for rung in ladder[:-1]):
        raise ValueError(_STOP_IS_LAST)


class Verify(Model):
    """How a rollback is looked at afterwards."""

    for_: PositiveDuration = Field(
        default=timedelta(seconds=300),
        alias="for",
        description="How long what serves after the rollback is checked, at the pace of "
        "evaluation.interval. Time in which it cannot be seen (the metrics source is ill, pods "
        "still start, the feed is silent) does not count. Unit: wall clock.",
    )
    success_rate: float = Field(
        default=0.8,
        ge=0,
        lt=1,
        description="The rollback is confirmed if more than this share of the checks is good: "
        "pods ready, fresh data of every symbol, no condition breached. A pod that cannot run and "
        "a breach are bad. Otherwise the next rung is taken. Unit: ratio (0–1).",
    )
