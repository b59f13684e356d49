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
