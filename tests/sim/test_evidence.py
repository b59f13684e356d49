"""Stories of canaries that are judged by evidence: noise, proof, and neither."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from signalcanary.evaluate import Bound, Verdict
from signalcanary.rollout import Phase

Start = Callable[..., Any]

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
AUC = "slice_auc_active_period"
ONLY_AUC = {"conditions": [{"metric": AUC, "below": 0.55, "for": "10m"}]}
OPEN = (Bound(0.05, 0.50, 0.60, 0.50, 0.60),)
GOOD = (Bound(0.05, 0.56, 0.60, 0.56, 0.60),)
BAD = (Bound(0.05, 0.48, 0.54, 0.50, 0.56),)


def test_a_value_that_dips_by_chance_rolls_nothing_back(progressing: Start) -> None:
    sim = progressing(rollback=ONLY_AUC)
    sim.world.bounds = {AUC: OPEN}
    for minute in range(60):
        sim.world.values[AUC] = 0.52 + 0.06 * math.sin(minute / 5)
        sim.run(MINUTE)
    assert sim.phase is Phase.PROGRESSING


def test_the_same_dip_judged_literally_would(progressing: Start) -> None:
    condition = ONLY_AUC["conditions"][0] | {"mode": "literal"}
    sim = progressing(rollback={"conditions": [condition]})
    sim.world.bounds = {AUC: OPEN}
    sim.world.values[AUC] = 0.52
    assert sim.run_until(Phase.ROLLED_BACK) <= 11 * MINUTE


def test_evidence_that_holds_for_its_time_rolls_back_and_is_told(progressing: Start) -> None:
    sim = progressing(rollback=ONLY_AUC)
    sim.world.bounds, sim.world.values[AUC] = {AUC: BAD}, 0.51
    took = sim.run_until(Phase.ROLLED_BACK)
    assert 10 * MINUTE <= took <= 11 * MINUTE
    assert "slice_auc_active_period < 0.55 for 10m on BTCUSDT: it is 0.51" in sim.state.message


def test_stages_pass_without_proof_but_nothing_is_promoted_without_it(progressing: Start) -> None:
    sim = progressing(rollback=ONLY_AUC)
    sim.world.bounds = {AUC: OPEN}
    sim.run(24 * HOUR, step=MINUTE)
    assert (sim.phase, sim.state.stage) == (Phase.PROGRESSING, "canary")
    assert sim.last is not None
    assert [j.verdict for j in sim.last.judgements] == [Verdict.UNPROVEN]
    assert "0.5 to 0.6 with 95 % confidence" in sim.status["message"]
    sim.world.bounds = {AUC: GOOD}
    assert sim.run_until(Phase.SUCCEEDED) <= MINUTE


def test_a_canary_that_stays_unproven_is_held_or_rolled_back_as_the_user_chose(
    progressing: Start,
) -> None:
    overdue = timedelta(minutes=30) + 2 * HOUR
    held = progressing(rollback=ONLY_AUC, evaluation={"deadline": "2h"})
    taken = progressing(rollback=ONLY_AUC, evaluation={"deadline": "2h", "onDeadline": "Rollback"})
    for sim in (held, taken):
        sim.world.bounds = {AUC: OPEN}
        sim.run(timedelta(minutes=10), step=MINUTE)
    held.run(6 * HOUR, step=MINUTE)
    assert held.phase is Phase.PROGRESSING
    took = taken.run_until(Phase.ROLLED_BACK)
    assert overdue - MINUTE <= took <= overdue + MINUTE
    assert taken.state.reason == "DeadlineExceeded"
    assert "not judged good 2h after it was due" in taken.state.message


def test_a_metric_that_is_never_exported_does_not_hold_for_ever(progressing: Start) -> None:
    sim = progressing(evaluation={"deadline": "1h", "onDeadline": "Rollback"})
    del sim.world.values["platt_ece"]
    sim.run_until(Phase.ROLLED_BACK, within=4 * HOUR)
    assert "analysis gives no value of platt_ece on BTCUSDT" in sim.state.message


def test_an_outage_of_the_metrics_source_is_no_deadline(progressing: Start) -> None:
    sim = progressing(rollback=ONLY_AUC, evaluation={"deadline": "1h", "onDeadline": "Rollback"})
    sim.world.source_answers = False
    sim.run(12 * HOUR, step=MINUTE)
    assert sim.phase is Phase.PROGRESSING
