"""What a person reads who is woken by a decision: the exact words, and that they fit an Event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from signalcanary.contract import JUDGED_METRICS
from signalcanary.evaluate import Bound
from signalcanary.rollout import Phase

Start = Callable[..., Any]

AUC, ECE = "slice_auc_active_period", "platt_ece"
GUARDED = {"conditions": [{"metric": AUC, "below": 0.55, "for": "10m"}]}
AT_ONCE = {"conditions": [{"metric": AUC, "below": 0.55}]}
LITERAL_ECE = {"metric": ECE, "above": 0.1, "for": "2m", "mode": "literal"}
LITERAL = {"conditions": [LITERAL_ECE]}
BY_1H = {"interval": "1m", "deadline": "1h", "onDeadline": "Rollback"}
BEYOND = (Bound(0.005, 0.48, 0.5432, 0.50, 0.57),)
WITHIN = (Bound(0.005, 0.56, 0.60, 0.5612, 0.60),)
OPEN = (Bound(0.005, 0.50, 0.60, 0.5, 0.6),)
RATE = {"errorRate": 0.005}


def rolled_back(sim: Any) -> str:
    sim.run_until(Phase.ROLLING_BACK, within=timedelta(hours=6))
    told: str = sim.state.message
    assert sim.last.transitions[-1].message == told, "the Event says what status says"
    return told


def test_a_rollback_by_evidence_tells_how_sure_it_is(progressing: Start) -> None:
    sim = progressing(rollback=GUARDED | RATE)
    sim.world.bounds, sim.world.values[AUC] = {AUC: BEYOND}, 0.51
    sim.run(timedelta(minutes=3))
    assert sim.status["message"] == (
        "slice_auc_active_period on BTCUSDT is 0.51, at most 0.5432 with 99.5 % confidence (< 0.55)"
    )
    assert sim.status["summary"] == [
        "BTCUSDT: slice_auc_active_period 0.51 (0.48 to 0.5432), rolls back if surely < 0.55 for "
        "10m: Breached for 2m50s, 5000 samples"
    ]
    assert rolled_back(sim) == (
        "rolling back v1: slice_auc_active_period < 0.55 for 10m on BTCUSDT: it is 0.51, at most "
        "0.5432 with 99.5 % confidence, 5000 rows, breached for 10m; evidence that leaves 0.55 "
        "open at one look of these 10m would have kept it; stable v0 keeps running"
    )


def test_a_rollback_by_evidence_at_once(progressing: Start) -> None:
    sim = progressing(rollback=AT_ONCE | RATE, stable=False)
    sim.world.bounds, sim.world.values[AUC] = {AUC: BEYOND}, 0.51
    assert rolled_back(sim) == (
        "rolling back v1: slice_auc_active_period < 0.55 on BTCUSDT: it is 0.51, at most 0.5432 "
        "with 99.5 % confidence, 5000 rows; evidence that leaves 0.55 open would have kept it; "
        "there is no stable revision yet, so nothing serves"
    )


def test_a_literal_rollback_says_that_it_is_one(progressing: Start) -> None:
    sim = progressing(rollback=LITERAL)
    sim.world.values[ECE] = 0.25
    assert rolled_back(sim) == (
        "rolling back v1: platt_ece > 0.1 for 2m on BTCUSDT: it is 0.25, judged literally, 5000 "
        "rows, breached for 2m; a value of at most 0.1 at one look of these 2m would have kept "
        "it; stable v0 keeps running"
    )


@pytest.mark.parametrize(
    ("stable", "control"), [(True, " and the stable track heard it"), (False, "")]
)
def test_a_silence_tells_what_was_heard_last(
    progressing: Start, stable: bool, control: str
) -> None:
    sim = progressing(stable=stable)
    sim.world.silent["BTCUSDT"] = sim.now
    last = f"{sim.now:%H:%M:%S} UTC"
    serves = (
        "stable v0 keeps running"
        if stable
        else "there is no stable revision yet, so nothing serves"
    )
    assert rolled_back(sim) == (
        f"rolling back v1: no fresh data of BTCUSDT for 10m (last at {last}), while the metrics "
        f"source answered{control}; any in that time would have kept it; {serves}"
    )


def test_a_canary_that_never_ran_tells_why(start: Start) -> None:
    sim = start()
    sim.world.pods_start = False
    assert rolled_back(sim) == (
        "rolling back v1: its pods were not ready for 10m: pod x-0 is waiting: ImagePullBackOff; "
        "there is no stable revision yet, so nothing serves"
    )


def test_a_deadline_tells_what_was_left_open(progressing: Start) -> None:
    sim = progressing(
        rollback=GUARDED | RATE,
        evaluation={"deadline": "1h", "onDeadline": "Rollback"},
    )
    sim.world.bounds, sim.world.values[AUC] = {AUC: OPEN}, 0.56
    assert rolled_back(sim) == (
        "rolling back v1: not judged good 1h after it was due: slice_auc_active_period on BTCUSDT "
        "is 0.56; the evidence says 0.5 to 0.6 with 99.5 % confidence (< 0.55 is open), 5000 rows; "
        "every condition Ok at one look before that would have led to the promotion; stable v0 "
        "keeps running"
    )


def test_a_stage_that_was_not_observed_in_full_says_so(progressing: Start) -> None:
    sim = progressing(evaluation=BY_1H, rollback=LITERAL)
    del sim.world.values[ECE]
    assert rolled_back(sim) == (
        "rolling back v1: not judged good 1h after it was due: analysis gives no value of "
        "platt_ece on BTCUSDT, 5000 rows; the 10m of the stage observed in full and every "
        "condition Ok at one look before that would have led to the next stage; stable v0 keeps "
        "running"
    )


def test_a_canary_that_is_never_judgeable_tells_what_is_missing(start: Start) -> None:
    sim = start(evaluation=BY_1H, rollback={"conditions": [*GUARDED["conditions"], LITERAL_ECE]})
    del sim.world.values[ECE]
    assert rolled_back(sim) == (
        "rolling back v1: not judgeable 1h after its windows should have been full: analysis gives "
        "no value of platt_ece on BTCUSDT, 5000 rows; every condition judged at one look before "
        "that would have started stage shadow; there is no stable revision yet, so nothing serves"
    )


def test_pods_that_never_serve_the_full_set_are_told(progressing: Start) -> None:
    sim = progressing(evaluation=BY_1H, rollback=LITERAL)
    sim.world.pods_start = False
    sim.run_until(Phase.PROMOTING)
    sim.run(timedelta(minutes=59))
    del sim.world.values[ECE]
    assert rolled_back(sim) == (
        "rolling back v1: not promoted 1h after every stage had passed: its pods on the full "
        "symbol set are not ready: pod x-0 is waiting: ImagePullBackOff; analysis gives no value "
        "of platt_ece on BTCUSDT, 5000 rows; its pods on the full symbol set ready and every "
        "condition Ok at one look before that would have promoted it; stable v0 keeps running"
    )


def test_a_promotion_tells_what_it_rests_on(progressing: Start) -> None:
    sim = progressing(rollback={"conditions": [*GUARDED["conditions"], *LITERAL["conditions"]]})
    sim.world.bounds, sim.world.values[AUC] = {AUC: WITHIN}, 0.58
    sim.run_until(Phase.SUCCEEDED)
    rests_on = (
        "every condition is Ok on every canary symbol, closest to its bound: "
        "slice_auc_active_period on BTCUSDT is 0.58, over all rows at least 0.5612 with 99.5 % "
        "confidence (not < 0.55), 5000 rows; platt_ece on BTCUSDT is 0.05 (not > 0.1), 5000 rows"
    )
    passed, promoted = (sim.state.history[n].message for n in (1, 0))
    assert passed == (
        "every stage passed (2, 40m observed); starting v1 on the full symbol set; " + rests_on
    )
    assert promoted == "v1 is promoted and serves the full symbol set; " + rests_on
    assert sim.status["message"] == promoted


@pytest.mark.parametrize(
    "ends", ["promoted", "breach", "never judged", "deadline", "never ready", "pods", "held"]
)
def test_whatever_is_told_fits_into_an_event(start: Start, ends: str) -> None:
    # Were each of so many named, it would be more than twice what fits.
    symbols = [f"SYMBOL{n:03}USDTPERPXY"[:20] for n in range(100)]
    sim = start(
        version="v" * 63,
        symbols={"canary": symbols, "full": symbols},
        stages=[{"name": "s" * 62 + f"{n:x}", "duration": "1m"} for n in range(16)],
        rollback={
            "conditions": [{"metric": m, "above": 0.7654321, "for": "10m"} for m in JUDGED_METRICS]
        },
        evaluation={"deadline": "1m", "onDeadline": "Hold" if ends == "held" else "Rollback"},
        signal={"calibration": {"train": "100s", "test": "100s"}},
    )
    value = {"breach": 0.87654321}.get(ends, 0.123456789)
    sim.world.values = dict.fromkeys(JUDGED_METRICS, value)
    if ends == "deadline":
        sim.run_until(Phase.PROGRESSING)
        sim.world.values = {}
    if ends == "never judged":
        sim.world.values = {}
    if ends in ("never ready", "held"):
        sim.run_until(Phase.PROGRESSING)
    sim.name, sim.namespace = "n" * 52, "n" * 63
    sim.world.pods_start = ends not in ("pods", "never ready", "held")
    messages, problem = set(), "x" * 5000
    while sim.phase not in (Phase.SUCCEEDED, Phase.ROLLED_BACK) and not sim.state.calls:
        sim.now += timedelta(seconds=30)
        sim.look()
        if ends in ("never ready", "held") and sim.phase is Phase.PROMOTING:
            sim.world.values = {}
        for key, seen in sim.world.tracks.items():
            if not seen.is_ready:
                sim.world.tracks[key] = type(seen)(seen.pods, seen.is_ready, problem)
        messages |= {t.message for t in (*sim.last.transitions, *sim.last.notices)}
    assert max(map(len, messages)) <= 1024
