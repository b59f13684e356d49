"""SignalCanaries that move together, and the order between them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import Field

from signalcanary.api.names import GroupName
from signalcanary.contract import Model

MAX_AFTER: Final = 16


class Pace(StrEnum):
    """How the rollouts of a group go beside one another."""

    TOGETHER = "Together"
    IN_TURN = "InTurn"


class OnVerdict(StrEnum):
    """What a rollback of one member does to the rollouts of the others."""

    HOLD = "Hold"
    ROLLBACK = "Rollback"
    IGNORE = "Ignore"


class Group(Model):
    """The SignalCanaries of a namespace that name the same group."""

    name: GroupName = Field(description="Name of the group, within the namespace.")
    pace: Pace = Field(
        default=Pace.TOGETHER,
        description="Together: none begins its promotion until every other rollout of the group "
        "has passed its stages, and none is promoted until all are ready to be. InTurn: one "
        "rollout at a time, the one that has waited longest first. Where one member says InTurn, "
        "it holds for all.",
    )
    on_verdict: OnVerdict = Field(
        default=OnVerdict.HOLD,
        description="What becomes of this rollout when another of the group is rolled back while "
        "it goes on. Hold: it begins no stage and is not promoted until the other is retried, "
        "edited or deleted. Rollback: it is taken back too, while it soaks as well. Ignore: "
        "nothing.",
    )
