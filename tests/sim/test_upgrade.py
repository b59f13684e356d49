"""The operator is upgraded with rollouts running: it goes on from a status of another shape.

`former/` holds what earlier operators wrote in each phase, as they wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from signalcanary.rollout import TAKEN_BACK, Phase
from signalcanary.status import last_evaluation

FORMER = sorted((Path(__file__).parent / "former").glob("*.json"))
PHASES = ("Pending", "Progressing", "Promoting", "Succeeded", "RollingBack", "RolledBack")
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("file", FORMER, ids=lambda file: file.stem)
def test_a_rollout_that_an_earlier_operator_began_is_ended_by_this_one(
    start: Callable[..., Any], file: Path, phase: str
) -> None:
    found = json.loads(file.read_text())[phase]
    sim = start(**found["spec"])
    sim.generation, sim.status = found["generation"], found["status"]
    before = sim.state
    assert before.phase == phase
    written = last_evaluation(sim.status)
    assert written is not None
    sim.now = written + 10 * SECOND
    sim._move_workloads()
    sim.look()
    # The spec has not changed: nothing begins anew, and what was observed still counts.
    assert not {"RolloutStarted", "RulesChanged", "AlreadyStable"} & set(sim.reasons)
    assert (
        sim.state.stage_clock is None
        or before.stage_clock is None
        or (sim.state.stage_clock.started_at == before.stage_clock.started_at)
    )
    end = Phase.ROLLED_BACK if before.phase in TAKEN_BACK else Phase.SUCCEEDED
    sim.run_until(end, within=timedelta(hours=1))
    assert sim.state.stable.version == ("v0" if end is Phase.ROLLED_BACK else "v1")
    sim.run(60 * SECOND)
    assert sim.phase is end


@pytest.mark.parametrize("file", FORMER, ids=lambda file: file.stem)
def test_why_an_earlier_operator_rolled_back_is_told_as_by_this_one(
    start: Callable[..., Any], file: Path
) -> None:
    """It had the cause and the consequence in one message alone, and told both again at the end."""
    found = json.loads(file.read_text())
    begun, ended = (
        found["RollingBack"]["status"]["message"],
        found["RolledBack"]["status"]["message"],
    )
    cause = begun.removeprefix("rolling back ").removesuffix("; stable v0 keeps running")
    sim = start(**found["RollingBack"]["spec"])
    for phase in ("RollingBack", "RolledBack"):
        sim.generation, sim.status = found[phase]["generation"], found[phase]["status"]
        sim.now = last_evaluation(sim.status) + 10 * SECOND
        by_this_one = sim.state.history[0 if phase == "RollingBack" else 1]
        assert (by_this_one.cause, by_this_one.consequence) == (cause, "stable v0 keeps running")
        sim.run_until(Phase.ROLLED_BACK)
        sim.look()
        by_both = f"rolled back {cause}; {sim.state.message}"
        assert sim.status["message"] == (by_both if phase == "RollingBack" else ended)
