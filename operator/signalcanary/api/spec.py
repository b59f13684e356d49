"""The whole spec of a SignalCanary."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Self

from pydantic import ConfigDict, Field, model_validator

from signalcanary.api.conditions import Rollback
from signalcanary.api.group import MAX_AFTER, Group
from signalcanary.api.names import (
    DEFAULT_SOURCE,
    MAX_STAGES,
    MAX_SYMBOLS,
    NO_REPEATS,
    ObjectName,
    SourceName,
    VersionLabel,
    first_repeated,
    rule,
)
from signalcanary.api.schedule import Schedule
from signalcanary.api.stages import Evaluation, Stage, Symbols
from signalcanary.api.storage import Storage
from signalcanary.contract import (
    SHORTEST_WINDOW,
    WINDOW_HELP,
    DataSource,
    Duration,
    Model,
    SignalConfig,
)


class Workloads(Model):
    """The harvest and analysis pods."""

    symbols_per_shard: int = Field(
        default=8,
        ge=1,
        le=MAX_SYMBOLS,
        description="Symbols that one harvest pod and one analysis pod take.",
    )


_QUORUM_OF_WHAT: Final = (
    "rollback.quorum is more than there are canary symbols: write at most their number"
)


class SignalCanarySpec(Model):
    """What to roll out, where, in which steps, and when to take it back."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.rollback.quorum) || "
                    "self.rollback.quorum <= double(size(self.symbols.canary))",
                    _QUORUM_OF_WHAT,
                ),
                rule(
                    "duration(self.evaluation.interval) >= duration('1s')",
                    "evaluation.interval must be at least 1s",
                ),
            ]
        }
    )

    version: VersionLabel = Field(
        description="Your name for this configuration; it becomes a label value."
    )
    symbols: Symbols = Field(description="The canary's symbols and the full set.")
    signal: SignalConfig = Field(
        default=SignalConfig(), description="The configuration that is rolled out."
    )
    source: DataSource = Field(default=DataSource(), description="Where market data comes from.")
    storage: Storage = Field(default=Storage(), description="Where harvested data is kept.")
    stages: tuple[Stage, ...] = Field(
        default=(Stage(name="canary", duration=timedelta(hours=48)),),
        min_length=1,
        max_length=MAX_STAGES,
        description="The steps of the rollout, in order.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.all(x, self.exists_one(y, y.name == x.name))",
                    "two stages have the same name: give each stage a name of its own",
                )
            ]
        },
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When the rollout may begin, begin a stage and be promoted. Outside of it the "
        "canary is still judged and guarded, and a rollback never waits.",
    )
    group: Group | None = Field(
        default=None,
        description="The SignalCanaries of the namespace that this one moves together with, or "
        "takes turns with.",
    )
    after: tuple[ObjectName, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_AFTER,
        description="SignalCanaries of the namespace that this one comes after: no rollout begins "
        "before each of them is Succeeded with its present spec.",
        json_schema_extra={
            "x-kubernetes-validations": [rule(NO_REPEATS, "a name stands twice: write it once")]
        },
    )
    soak: Duration = Field(
        default=timedelta(0),
        description="How long a promoted revision must be judged healthy on the full symbol set "
        "while the conditions stay armed; if one of them is breached, rollback.ladder says what "
        "serves instead. Unit: wall clock.",
    )
    rollback: Rollback = Field(default=Rollback(), description="When the canary is taken back.")
    evaluation: Evaluation = Field(default=Evaluation(), description="How the canary is looked at.")
    workloads: Workloads = Field(default=Workloads(), description="The harvest and analysis pods.")
    metrics_source: SourceName = Field(
        default=DEFAULT_SOURCE,
        description="Name of the metrics source to judge by, one of those that the administrator "
        "has given the operator. With a name that there is none of, nothing is judged.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = tuple(stage.name for stage in self.stages)
        if (twice := first_repeated(names)) is not None:
            raise ValueError(f"two stages are called {twice}: give each a name of its own")
        if (twice := first_repeated(self.after or ())) is not None:
            raise ValueError(f"{twice} stands in after twice: write it once")
        if self.rollback.quorum is not None and self.rollback.quorum > len(self.symbols.canary):
            raise ValueError(_QUORUM_OF_WHAT)
        if self.evaluation.interval < timedelta(seconds=1):
            raise ValueError("evaluation.interval must be at least 1s")
        windows = (self.signal.calibration.train, self.signal.calibration.test)
        if min(windows) < SHORTEST_WINDOW:
            raise ValueError(f"signal.calibration: {WINDOW_HELP}")
        return self
