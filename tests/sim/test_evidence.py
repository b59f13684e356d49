"""Stories of canaries that are judged by evidence: noise, proof, and neither."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from signalcanary.contract import parse_duration
from signalcanary.evaluate import Bound, Verdict
from signalcanary.rollout import GUARDED, Phase

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
    assert "slice_auc_active_period < 0.55 for 10m on BTCUSDT: it is 0.51" in sim.status["message"]


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
    assert "not judged good 2h after it was due" in taken.status["message"]


def test_a_metric_that_is_never_exported_does_not_hold_for_ever(progressing: Start) -> None:
    sim = progressing(evaluation={"deadline": "1h", "onDeadline": "Rollback"})
    del sim.world.values["platt_ece"]
    sim.run_until(Phase.ROLLED_BACK, within=4 * HOUR)
    assert "analysis gives no value of platt_ece on BTCUSDT" in sim.status["message"]


BY_1H = {"interval": "1m", "deadline": "1h", "onDeadline": "Rollback"}


def told_left(sim: Any) -> timedelta:
    """What `next` says is left until the deadline; the time of day must fit it."""
    found = re.search(r"otherwise rolls back in (\w+), at about ([\d:]+) UTC", sim.status["next"])
    assert found, sim.status["next"]
    left = parse_duration(found[1])
    assert f"{sim.now + left:%H:%M:%S}" == found[2]
    return left


def heard_nothing(sim: Any) -> None:
    """Half a day in which the metrics source does not answer, but for two hours without looks."""
    sim.world.source_answers = False
    sim.run(5 * HOUR)
    sim.idle(2 * HOUR)
    sim.run(5 * HOUR)
    assert "otherwise" not in sim.status["next"], "no time can be told"
    sim.world.source_answers = True


def stuck_in_warming(start: Start) -> Any:
    sim = start(evaluation=BY_1H, signal={"label": {"horizon": "1m"}})
    del sim.world.values["platt_ece"]
    sim.run_until(Phase.WARMING)
    return sim


def stuck_in_a_stage(start: Start) -> Any:
    sim = start(evaluation=BY_1H, rollback=ONLY_AUC, stages=[{"name": "only", "duration": "30m"}])
    sim.world.bounds = {AUC: OPEN}
    sim.run_until(Phase.PROGRESSING)
    sim.run(30 * MINUTE)
    return sim


def stuck_in_promoting(start: Start) -> Any:
    sim = start(evaluation=BY_1H)
    sim.run_until(Phase.PROGRESSING)
    sim.world.pods_start = False  # only those that are to come
    sim.run_until(Phase.PROMOTING)
    return sim


STUCK = {
    # train 2 h, test 30 min, horizon 1 min, and the deadline
    stuck_in_warming: 3 * HOUR + 31 * MINUTE,
    stuck_in_a_stage: HOUR,
    stuck_in_promoting: HOUR,
}
stuck_somewhere = pytest.mark.parametrize(("stuck", "allowed"), STUCK.items())


@stuck_somewhere
def test_what_is_stuck_goes_at_the_time_told(
    start: Start, stuck: Callable[[Start], Any], allowed: timedelta
) -> None:
    sim = stuck(start)
    sim.run(20 * MINUTE)
    assert told_left(sim) == allowed - 20 * MINUTE
    took = sim.run_until(Phase.ROLLING_BACK, within=4 * HOUR)
    assert took == allowed - 20 * MINUTE
    assert sim.state.reason == "DeadlineExceeded"


@stuck_somewhere
def test_what_is_stuck_is_held_where_the_user_chose_so(
    start: Start, stuck: Callable[[Start], Any], allowed: timedelta
) -> None:
    sim = stuck(start)
    sim.edit(evaluation=BY_1H | {"onDeadline": "Hold"})
    sim.run(2 * allowed)
    assert sim.phase in GUARDED
    assert "rolls back" not in sim.status["next"]


@stuck_somewhere
def test_an_outage_stops_the_deadline_which_goes_on_where_it_stood(
    start: Start, stuck: Callable[[Start], Any], allowed: timedelta
) -> None:
    """Every look here is a restart of the operator."""
    sim = stuck(start)
    sim.run(20 * MINUTE)
    heard_nothing(sim)
    assert sim.phase in GUARDED
    # From the last look that saw something to the first that did not, time still counts.
    left = allowed - 21 * MINUTE
    sim.now += MINUTE
    sim.look()
    assert told_left(sim) == left
    assert sim.run_until(Phase.ROLLING_BACK, within=4 * HOUR) == left
    assert sim.state.reason == "DeadlineExceeded"


def test_an_outage_of_the_exchange_stops_the_deadline(progressing: Start) -> None:
    sim = progressing(evaluation=BY_1H)
    sim.world.silent["BTCUSDT"] = sim.world.stable_silent["BTCUSDT"] = sim.now
    sim.run(12 * HOUR)
    assert sim.phase is Phase.PROGRESSING
    assert "silent on the stable track too" in sim.status["message"]
    assert "rolls back" not in sim.status["next"], "no time can be told"
    sim.world.silent.clear()
    sim.world.stable_silent.clear()
    assert sim.run_until(Phase.SUCCEEDED) <= 40 * MINUTE


def test_a_symbol_that_is_late_by_itself_is_not_excused_by_one_the_market_is_silent_of(
    progressing: Start,
) -> None:
    sim = progressing(
        evaluation=BY_1H,
        rollback=ONLY_AUC,
        symbols={"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
        stages=[{"name": "only", "duration": "30m"}],
    )
    sim.world.silent["BTCUSDT"] = sim.world.stable_silent["BTCUSDT"] = sim.now
    sim.run(3 * HOUR)
    assert sim.phase is Phase.PROGRESSING, "all that is missing is the market's"
    sim.world.bounds = {AUC: OPEN}
    # 20 s and more of its hour and a half passed before the silence was noticed.
    assert sim.run_until(Phase.ROLLING_BACK) >= 88 * MINUTE
    assert sim.state.reason == "DeadlineExceeded"


def test_a_silence_of_the_canary_alone_does_not_stop_the_deadline(progressing: Start) -> None:
    sim = progressing(evaluation=BY_1H | {"onNoData": "Hold"})
    sim.world.silent["BTCUSDT"] = sim.now
    assert sim.run_until(Phase.ROLLING_BACK, within=2 * HOUR) <= 71 * MINUTE
    assert sim.state.reason == "DeadlineExceeded"


@stuck_somewhere
def test_a_gap_without_looks_does_not_bring_the_deadline_nearer(
    start: Start, stuck: Callable[[Start], Any], allowed: timedelta
) -> None:
    sim = stuck(start)
    sim.run(20 * MINUTE)
    sim.idle(24 * HOUR)
    sim.look()
    assert told_left(sim) == allowed - 20 * MINUTE
    assert sim.run_until(Phase.ROLLING_BACK, within=4 * HOUR) == allowed - 20 * MINUTE


@stuck_somewhere
def test_a_status_from_before_there_was_the_clock_begins_it(
    start: Start, stuck: Callable[[Start], Any], allowed: timedelta
) -> None:
    sim = stuck(start)
    sim.status = {k: v for k, v in sim.status.items() if k != "phaseClock"}
    sim.now += MINUTE
    sim.look()
    whole = allowed + (30 * MINUTE if sim.phase is Phase.PROGRESSING else timedelta(0))
    assert sim.run_until(Phase.ROLLING_BACK, within=4 * HOUR) == whole


def test_each_stage_has_the_deadline_for_itself(progressing: Start) -> None:
    """Fifty minutes late in each stage is less than an hour late in any."""
    sim = progressing(evaluation=BY_1H)
    for stage in ("shadow", "canary"):
        assert sim.state.stage == stage
        ece = sim.world.values.pop("platt_ece")
        sim.run(50 * MINUTE)
        sim.world.values["platt_ece"] = ece
        sim.run(31 * MINUTE if stage == "canary" else 11 * MINUTE)
    assert sim.phase is Phase.SUCCEEDED


def test_a_canary_that_warms_up_late_but_in_time_goes_on(start: Start) -> None:
    sim = stuck_in_warming(start)
    sim.run(3 * HOUR + 30 * MINUTE)
    sim.world.values["platt_ece"] = 0.05
    sim.run_until(Phase.SUCCEEDED, within=HOUR)


def test_conditions_that_are_never_all_ok_again_end_promoting(start: Start) -> None:
    sim = stuck_in_promoting(start)
    sim.world.pods_start = True
    del sim.world.values["platt_ece"]
    assert sim.run_until(Phase.ROLLING_BACK, within=2 * HOUR) == HOUR
    assert "no value of platt_ece on BTCUSDT" in sim.state.message


def test_a_deadline_that_comes_before_a_breach_is_due_is_told(start: Start) -> None:
    sim = stuck_in_a_stage(start)
    sim.run(55 * MINUTE)
    sim.world.bounds, sim.world.values[AUC] = {AUC: BAD}, 0.51
    sim.run(MINUTE)
    at = f"{sim.now + 4 * MINUTE:%H:%M:%S}"
    assert sim.status["next"] == f"rolls back in 4m, at about {at} UTC, unless stage only ends"
    assert sim.run_until(Phase.ROLLING_BACK) == 4 * MINUTE
    assert sim.state.reason == "DeadlineExceeded"
