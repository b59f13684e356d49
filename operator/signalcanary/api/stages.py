"""Where the canary runs, in which steps, and how it is looked at."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Final, Self

from pydantic import ConfigDict, Field, model_validator

from signalcanary.api.names import (
    MAX_SYMBOLS,
    NO_REPEATS,
    StageName,
    Symbol,
    first_repeated,
    rule,
)
from signalcanary.api.schedule import Windows
from signalcanary.contract import (
    Duration,
    Model,
    PositiveDuration,
)


class Symbols(Model):
    """Where the canary runs, and where the signal runs once it is promoted."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.canary.all(c, c in self.full)",
                    "every symbol in canary must also be in full: add it to full, "
                    "or take it out of canary",
                )
            ]
        }
    )

    canary: tuple[Symbol, ...] = Field(
        min_length=1,
        max_length=MAX_SYMBOLS,
        description="Symbols that the canary runs and is judged on; a subset of full.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(NO_REPEATS, "a symbol stands in canary twice: write each symbol once")
            ]
        },
    )
    full: tuple[Symbol, ...] = Field(
        min_length=1,
        max_length=MAX_SYMBOLS,
        description="Symbols that a promoted configuration runs on.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(NO_REPEATS, "a symbol stands in full twice: write each symbol once")
            ]
        },
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, items in (("canary", self.canary), ("full", self.full)):
            if (twice := first_repeated(items)) is not None:
                raise ValueError(f"{twice} stands in {field} twice: write each symbol once")
        if extra := sorted(set(self.canary) - set(self.full)):
            raise ValueError(
                f"every symbol in canary must also be in full: add {', '.join(extra)} to full, "
                "or take it out of canary"
            )
        return self


_SHADOW_IS_SILENT: Final = (
    "a stage called shadow publishes to nobody: give it another name, or take publish out"
)


class Approval(StrEnum):
    """Whether a person has to say that a stage may end."""

    NOT_REQUIRED = "NotRequired"
    REQUIRED = "Required"


class Stage(Model):
    """One step of the rollout."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.name != 'shadow' || !has(self.publish) || !self.publish",
                    _SHADOW_IS_SILENT,
                )
            ]
        }
    )

    name: StageName = Field(description="Unique name of the stage.")
    duration: Duration = Field(
        description="How long the canary must be judged healthy in this stage. The clock runs "
        "only while every condition can be judged. Unit: wall clock."
    )
    publish: bool = Field(
        default=False,
        description="Whether the canary's signals of its symbols go out to consumers, on the "
        "canary track, while this stage lasts; the last stage's word holds during the promotion "
        "too. They are recorded in any case, and nothing is decided by it.",
    )
    approval: Approval = Field(
        default=Approval.NOT_REQUIRED,
        description="Required: the stage ends only when its time is over, its conditions allow "
        "it and a person has approved (docs/operating.md); that may be done before its time is "
        "over. While only the approval is missing, the deadline stands still.",
    )
    schedule: Windows | None = Field(
        default=None,
        description="When the stage may end, beside what spec.schedule allows; that of the last "
        "stage holds for the promotion too. The stage's clock runs on outside of it.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.publish and self.name == "shadow":
            raise ValueError(_SHADOW_IS_SILENT)
        return self


class OnDeadline(StrEnum):
    HOLD = "Hold"
    ROLLBACK = "Rollback"


class OnNoData(StrEnum):
    ROLLBACK = "Rollback"
    HOLD = "Hold"


class Evaluation(Model):
    """How the canary is looked at."""

    interval: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="Time between two looks. Unit: wall clock, at least 1s.",
    )
    stale_after: PositiveDuration = Field(
        default=timedelta(seconds=60),
        description="A value whose evaluation is older than this is not judged. Unit: wall clock.",
    )
    no_data_after: PositiveDuration = Field(
        default=timedelta(minutes=10),
        description="A canary symbol that has sent no fresh data for this long, though the "
        "metrics source answers, is silent. Unit: wall clock.",
    )
    on_no_data: OnNoData = Field(
        default=OnNoData.ROLLBACK,
        description="What to do with a silent canary: Rollback, or Hold until it speaks again.",
    )
    deadline: PositiveDuration = Field(
        default=timedelta(hours=24),
        description="How much longer than it must a phase may take before onDeadline: Warming "
        "than train + horizon + test, a stage than its duration, Promoting than no time. Time in "
        "which the metrics source cannot be read does not count, nor does time in which all that "
        "is in doubt is of symbols that are silent on the stable track too. Unit: wall clock.",
    )
    on_deadline: OnDeadline = Field(
        default=OnDeadline.HOLD,
        description="What to do with a canary that is neither good nor bad by the deadline: Hold "
        "and say so, or Rollback. It is never promoted for want of evidence.",
    )
