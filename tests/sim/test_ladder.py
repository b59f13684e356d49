"""Stories: what serves turns out to be bad, and what takes its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from signalcanary.contract import Track
from signalcanary.rollout import Phase, RolloutState, TrackSeen, plan

Start = Callable[..., Any]

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
QUICK = [{"name": "quick", "duration": "0s"}]
ECE = [{"metric": "platt_ece", "above": 0.1, "for": "2m"}]
BAD = {"platt_ece": 0.25}
VERIFY = {"for": "5m", "successRate": 0.8}


def serving(state: RolloutState) -> list[str]:
    return [p.revision.version for p in plan(state) if p.track is Track.STABLE]


@pytest.fixture
def soaking(start: Start) -> Start:
    """v1 has been promoted; v2 has too, and soaks."""

    def build(first: str = "v1", **rollback: Any) -> Any:
        sim = start(version=first, stages=QUICK)
        sim.run_until(Phase.SUCCEEDED)
        rules = {"conditions": ECE, **rollback}
        sim.edit(version="v2", soak="2h", rollback=rules)
        sim.run_until(Phase.SOAKING)
        sim.story.clear()
        return sim

    return build


def test_a_good_revision_soaks_for_its_time_and_is_done(soaking: Start) -> None:
    sim = soaking()
    assert serving(sim.state) == ["v2"]
    took = sim.run_until(Phase.SUCCEEDED)
    assert 2 * HOUR <= took <= 2 * HOUR + MINUTE
    assert sim.reasons == ["Soaked"]


def test_the_soak_is_observed_on_the_full_symbol_set(soaking: Start) -> None:
    sim = soaking()
    sim.run(MINUTE)
    assert {j.symbol for j in sim.last.judgements} == {"BTCUSDT", "ETHUSDT"}
    sim.world.of_symbol["platt_ece", "ETHUSDT"] = 0.3
    sim.run_until(Phase.ROLLED_BACK, within=5 * MINUTE)
    assert "platt_ece > 0.1 for 2m on ETHUSDT" in sim.status["message"]


def test_an_ill_metrics_source_stops_the_soak_and_takes_nothing_back(soaking: Start) -> None:
    sim = soaking()
    sim.world.source_answers = False
    sim.run(3 * HOUR, step=MINUTE)
    assert sim.phase is Phase.SOAKING
    sim.world.source_answers = True
    assert sim.run_until(Phase.SUCCEEDED) >= 115 * MINUTE


def test_without_a_ladder_the_revision_before_takes_its_place(soaking: Start) -> None:
    sim = soaking()
    v1 = sim.state.former[0]
    sim.world.of_version["v2"] = BAD
    took = sim.run_until(Phase.ROLLED_BACK, within=5 * MINUTE)
    assert 2 * MINUTE <= took <= 3 * MINUTE
    assert sim.reasons == ["ConditionBreached", "ConditionBreached"]
    assert sim.state.stable == v1, "with the evidence and the folder that it had"
    assert sim.state.rejected.version == "v2"
    assert "rung previous of the ladder: v1" in sim.status["message"]


def test_nobody_publishes_until_the_bad_pods_are_gone(soaking: Start) -> None:
    sim = soaking()
    sim.run(MINUTE)
    assert sim.state.publisher.version == "v2"
    sim.world.of_version["v2"] = BAD
    sim.world.pods_stop = False
    sim.run_until(Phase.ROLLING_BACK)
    sim.run(10 * MINUTE)
    assert sim.phase is Phase.ROLLING_BACK
    assert sim.state.publisher.version == "v2"
    assert sim.state.stable.version == "v1"
    sim.world.pods_stop = True
    sim.run_until(Phase.ROLLED_BACK, within=MINUTE)
    assert sim.state.publisher.version == "v1"


def test_the_first_revision_of_all_has_nothing_to_go_back_to(start: Start) -> None:
    sim = start(stages=QUICK, soak="1h", rollback={"conditions": ECE})
    sim.run_until(Phase.SOAKING)
    sim.world.values |= BAD
    sim.run_until(Phase.ROLLED_BACK, within=5 * MINUTE)
    assert plan(sim.state) == ()
    assert "rung previous is passed over, as there is no stable revision" in sim.status["message"]
    assert "nothing serves" in sim.status["message"]


def test_seed_004_stacking_off_then_old_models_then_everything_off(soaking: Start) -> None:
    # The features that there are stand for the report's.
    ladder = [
        {"name": "regimes-off", "disable": ["Regimes"]},
        {"name": "old-models", "revision": "Previous"},
        {"name": "everything-off", "stop": True},
    ]
    sim = soaking(ladder=ladder, verify=VERIFY)
    sim.world.of_version["v2"] = BAD  # with its regimes and without
    sim.run_until(Phase.ROLLING_BACK)
    assert "rung regimes-off of the ladder: v2 (revision " in sim.state.message
    plain = sim.state.stable
    assert plain.name != sim.state.rejected.name
    sim.run_until(Phase.VERIFYING_ROLLBACK)
    assert serving(sim.state) == ["v2"]
    took = sim.run_until(Phase.ROLLING_BACK, within=10 * MINUTE)
    assert 5 * MINUTE <= took <= 6 * MINUTE
    assert sim.state.reason == "RollbackNotVerified"
    assert "checks were good, not more than 80%" in sim.state.message
    sim.run_until(Phase.VERIFYING_ROLLBACK)
    assert serving(sim.state) == ["v1"]
    sim.run_until(Phase.ROLLED_BACK)
    assert "v1 is verified: 30 of 30 checks were good" in sim.state.message
    assert sim.state.climbed == ("regimes-off", "old-models")


def test_when_nothing_on_the_ladder_helps_nothing_serves(soaking: Start) -> None:
    sim = soaking(verify=VERIFY)
    sim.world.values |= BAD
    sim.run_until(Phase.ROLLED_BACK, within=HOUR)
    assert plan(sim.state) == ()
    assert sim.state.climbed == ("previous", "nothing")


def test_pods_that_do_not_start_are_no_help_either(soaking: Start) -> None:
    sim = soaking(verify=VERIFY)
    sim.world.of_version["v2"] = BAD
    sim.world.pods_start = False
    sim.run_until(Phase.ROLLED_BACK, within=HOUR)
    assert plan(sim.state) == ()
    told = [t.message for t in sim.state.history if t.reason == "RollbackNotVerified"]
    assert "0 of 30 checks were good" in told[-1]
    assert "ImagePullBackOff" in told[-1]


def test_what_is_still_warming_is_verified_by_what_can_be_seen(soaking: Start) -> None:
    sim = soaking(verify=VERIFY)
    sim.world.of_version["v2"] = BAD
    sim.run_until(Phase.ROLLING_BACK)
    del sim.world.values["platt_ece"]  # hours from having a value
    sim.run_until(Phase.ROLLED_BACK, within=10 * MINUTE)
    assert serving(sim.state) == ["v1"]


def test_most_checks_good_is_good_enough(soaking: Start) -> None:
    sim = soaking(verify=VERIFY)
    sim.world.of_version["v2"] = BAD
    sim.run_until(Phase.VERIFYING_ROLLBACK)
    sim.world.of_version["v1"] = BAD
    sim.run(50 * SECOND)  # 5 of 30 checks
    del sim.world.of_version["v1"]
    sim.run_until(Phase.ROLLED_BACK, within=10 * MINUTE)
    assert "25 of 30 checks were good" in sim.state.message


def test_looks_that_a_change_brings_at_once_are_no_checks(soaking: Start) -> None:
    sim = soaking(verify=VERIFY)
    sim.world.of_version["v2"] = BAD
    sim.run_until(Phase.VERIFYING_ROLLBACK)
    sim.run(MINUTE)
    before = sim.state
    sim.run(4 * SECOND, step=SECOND)
    assert sim.state == before, "nothing to write, which would bring the next look at once"
    sim.run_until(Phase.ROLLED_BACK, within=5 * MINUTE)
    assert "30 of 30 checks were good" in sim.state.message


def test_an_ill_metrics_source_is_no_failed_check(soaking: Start) -> None:
    sim = soaking(verify=VERIFY)
    sim.world.of_version["v2"] = BAD
    sim.run_until(Phase.VERIFYING_ROLLBACK)
    sim.world.source_answers = False
    sim.run(HOUR)
    assert sim.phase is Phase.VERIFYING_ROLLBACK
    sim.world.source_answers = True
    sim.run_until(Phase.ROLLED_BACK, within=10 * MINUTE)
    assert serving(sim.state) == ["v1"]


def test_a_canary_s_rollback_is_verified_on_what_serves(start: Start) -> None:
    sim = start(version="v1", stages=QUICK)
    sim.run_until(Phase.SUCCEEDED)
    sim.edit(version="v2", rollback={"conditions": ECE, "verify": VERIFY})
    sim.world.of_version["v2"] = BAD
    sim.run_until(Phase.VERIFYING_ROLLBACK)
    assert serving(sim.state) == ["v1"]
    sim.run_until(Phase.ROLLED_BACK)
    assert sim.status["message"].startswith("rolled back v2: platt_ece > 0.1 for 2m on BTCUSDT")
    assert sim.status["message"].endswith("v1 is verified: 30 of 30 checks were good")


def test_a_recovery_within_the_delay_cancels_the_rollback(start: Start) -> None:
    sim = start(rollback={"conditions": ECE, "delay": "30s"})
    sim.run_until(Phase.PROGRESSING)
    sim.world.values |= BAD
    sim.run(2 * MINUTE + 20 * SECOND)
    assert sim.phase is Phase.PROGRESSING
    assert sim.status["next"].startswith("rolls back in ")
    sim.world.values["platt_ece"] = 0.05
    sim.run(MINUTE)
    assert sim.state.timers == {}
    sim.world.values |= BAD
    took = sim.run_until(Phase.ROLLING_BACK)
    assert 150 * SECOND <= took <= 170 * SECOND


def test_a_new_spec_while_soaking_rolls_out_beside_what_soaks(soaking: Start) -> None:
    sim = soaking()
    sim.edit(version="v3", soak="0s")
    sim.run_until(Phase.SUCCEEDED)
    assert serving(sim.state) == ["v3"]
    assert [ref.version for ref in sim.state.former] == ["v2", "v1"]


def test_the_same_spec_with_other_rules_goes_on_soaking(soaking: Start) -> None:
    sim = soaking()
    sim.edit(soak="1h")
    sim.look()
    assert sim.phase is Phase.SOAKING
    assert sim.run_until(Phase.SUCCEEDED) <= HOUR


def test_a_pause_stops_the_soak_and_disarms_nothing(soaking: Start) -> None:
    sim = soaking()
    sim.annotations["signalcanary.dev/pause"] = "lunch"
    sim.run(3 * HOUR, step=MINUTE)
    assert sim.phase is Phase.SOAKING
    sim.world.of_version["v2"] = BAD
    sim.run_until(Phase.ROLLED_BACK, within=5 * MINUTE)
    assert serving(sim.state) == ["v1"]


@pytest.mark.parametrize("phase", [Phase.SOAKING, Phase.VERIFYING_ROLLBACK])
def test_an_outage_of_the_exchange_takes_nothing_back_that_serves(
    soaking: Start, phase: Phase
) -> None:
    sim = soaking(verify=VERIFY)
    if phase is Phase.VERIFYING_ROLLBACK:
        sim.world.of_version["v2"] = BAD
        sim.run_until(phase)
    serves = serving(sim.state)
    sim.world.silent |= dict.fromkeys(("BTCUSDT", "ETHUSDT"), sim.now)
    sim.run(3 * HOUR, step=MINUTE)
    assert sim.phase is phase
    assert serving(sim.state) == serves
    sim.world.silent.clear()
    end = Phase.SUCCEEDED if phase is Phase.SOAKING else Phase.ROLLED_BACK
    sim.run_until(end)
    assert serving(sim.state) == serves


def test_silent_with_pods_that_cannot_run_it_is_replaced(soaking: Start) -> None:
    sim = soaking()
    key = (Track.STABLE, sim.state.stable.name)
    sim.world.tracks[key] = TrackSeen(pods=2, problem="pod x-0 is waiting: CrashLoopBackOff")
    sim.world.pods_start = False
    sim.run_until(Phase.ROLLING_BACK, within=15 * MINUTE)
    assert sim.state.reason == "CanarySilent"


def test_a_clock_that_is_set_back_while_verifying_loses_nothing(soaking: Start) -> None:
    sim = soaking(verify=VERIFY)
    sim.world.of_version["v2"] = BAD
    sim.run_until(Phase.VERIFYING_ROLLBACK)
    sim.run(2 * MINUTE)
    sim.idle(-HOUR)
    sim.look()
    sim.run_until(Phase.ROLLED_BACK, within=4 * MINUTE)
    assert "checks were good" in sim.state.message
