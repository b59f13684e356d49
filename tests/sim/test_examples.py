"""Stories of the manifests in `examples/`, with their own times, on a simulated clock.

They are the rollouts of the five deployment reports that this project began with; on the real
cluster they run with their times scaled down (`tests/cluster`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.sim.namespace_kit import Namespace

from examples_kit import EXAMPLES, SCALES, load_example, scale_down
from signalcanary.api import Of, SignalCanarySpec
from signalcanary.artifacts import Reason, Refusal
from signalcanary.contract import Track, parse_duration
from signalcanary.report import build_report
from signalcanary.rollout import Phase, plan

Start = Callable[..., Any]

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR = 60 * MINUTE
QUICK = {"stages": [{"name": "quick", "duration": "0s"}], "soak": "0s"}
GOOD = {
    "quickstart": {},
    "cvd-tails": {
        "cvd_z_tail_p2": 0.92,
        "cvd_z_tail_p3": 0.20,
        "cvd_floor_hit_rate": 0.05,
        "scale_median": 6500.0,
        "latency_p95_ms": 70.8,
    },
    "models/rollout": {
        "signal_ml_stacking_active_ratio": 1.0,
        "signal_ml_coverage_ratio": 1.0,
        "signal_ml_output_ok_ratio": 0.99,
        "signal_ml_central_ratio": 0.9,
    },
    "same-signal-faster": {"lag_seconds": 0.4},
    "step-by-step": {"response_seconds": 0.4},
    "in-session": {},
    "together/btc": {},
    "together/alts": {},
    "in-turn/majors": {},
    "in-turn/alts": {},
}
"""What healthy canaries of each show, beside what all show."""


@pytest.fixture
def begin(start: Start) -> Start:
    """The example has been applied; what is stable, where something is, is of its own shape."""

    def build(name: str, stable: str | None = None) -> Any:
        spec = load_example(name)["spec"]
        sim = start(**(spec | QUICK | {"version": stable} if stable else spec))
        sim.world.values |= GOOD[name]
        compared = (c for c in sim.spec.rollback.conditions if c.of is not Of.VALUE)
        sim.world.differences |= {condition.metric: 0.0 for condition in compared}
        if stable:
            sim.run_until(Phase.SUCCEEDED, within=HOUR)
            sim.edit(**{"soak": "0s"} | spec)
            sim.look()
            sim.story.clear()
        return sim

    return build


def longest_step(sim: Any) -> timedelta:
    """The pace at which no time is lost: with a longer one nobody would have looked."""
    return max(sim.spec.evaluation.stale_after, 3 * sim.spec.evaluation.interval)


def go_on_to(sim: Any, phase: Phase) -> timedelta:
    return sim.run_until(phase, timedelta(days=9), longest_step(sim))


def serving(sim: Any) -> list[str]:
    return [p.revision.version for p in plan(sim.state) if p.track is Track.STABLE]


# --------------------------------------------------------------------------- every example


def test_there_is_a_story_of_every_example_but_the_demo_s() -> None:
    files = {p for p in EXAMPLES.rglob("*.yaml") if p.parent.name != "demo"}
    assert {str(p.relative_to(EXAMPLES).with_suffix("")) for p in files} == set(GOOD)


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path, list items as `*`-able steps."""
    if isinstance(node, dict):
        items: Any = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    else:
        return {path.removeprefix("."): node}
    return {k: v for key, item in items for k, v in flat(item, f"{path}.{key}").items()}


@pytest.mark.parametrize("name", GOOD)
def test_scaled_down_nothing_but_times_is_changed(name: str) -> None:
    spec = load_example(name)["spec"]
    whole = flat(SignalCanarySpec.model_validate(spec).to_wire())
    scaled = flat(scale_down(spec))
    assert scaled.keys() == whole.keys()
    for path, value in scaled.items():
        if re.sub(r"\.\d+\.", ".*.", path) in SCALES:
            assert parse_duration(value) <= min(parse_duration(whole[path]), MINUTE)
        else:
            assert value == whole[path]


# --------------------------------------------------------------------------- quickstart


def test_two_days_without_a_breach_promote_the_fusion(begin: Start) -> None:
    sim = begin("quickstart")
    assert go_on_to(sim, Phase.SUCCEEDED) >= 49 * HOUR
    assert sim.reasons == [
        "RolloutStarted",
        "CanaryRunning",
        "StageStarted",
        "StageStarted",
        "StagesPassed",
        "Promoted",
    ]
    assert serving(sim) == ["v2.0-prod"]


@pytest.mark.parametrize(
    ("metric", "value", "hold"),
    [
        ("platt_ece", 0.11, 2 * MINUTE),
        ("merge_time_diff_ms_p99", 2001.0, 5 * MINUTE),
        ("slice_auc_active_period", 0.549, 10 * MINUTE),
    ],
)
def test_each_of_its_three_conditions_takes_the_fusion_back(
    begin: Start, metric: str, value: float, hold: timedelta
) -> None:
    sim = begin("quickstart", stable="v1.0")
    sim.run_until(Phase.PROGRESSING)
    sim.world.of_symbol[metric, "ETHUSDT"] = value
    took = sim.run_until(Phase.ROLLED_BACK, within=HOUR)
    assert hold <= took <= hold + 3 * sim.spec.evaluation.interval
    assert f"{metric} " in sim.status["message"]
    assert serving(sim) == ["v1.0"]


# --------------------------------------------------------------------------- cvd-tails


BASELINE = {"cvd_z_tail_p2": 0.92, "cvd_z_tail_p3": 0.20}
MEASURED = {"BTCUSDT": (38.63, 33.02), "ETHUSDT": (9.52, 8.93), "ADAUSDT": (5.36, 5.36)}
"""Percent beyond 2 and beyond 3, of the report's own validation."""


def test_as_its_baseline_was_the_tails_pass_and_soak_for_a_day(begin: Start) -> None:
    sim = begin("cvd-tails", stable="v12.0")
    assert go_on_to(sim, Phase.SOAKING) >= 20 * MINUTE
    assert go_on_to(sim, Phase.SUCCEEDED) >= 24 * HOUR
    assert sim.reasons[-3:] == ["StagesPassed", "Promoted", "Soaked"]
    assert sim.state.standings == {}, "nobody was told of anything"


def test_what_the_report_measured_is_taken_back_by_its_own_rules(begin: Start) -> None:
    sim = begin("cvd-tails", stable="v12.0")
    for symbol, (p2, p3) in MEASURED.items():
        sim.world.of_symbol |= {("cvd_z_tail_p2", symbol): p2, ("cvd_z_tail_p3", symbol): p3}
    sim.world.of_revision[sim.state.stable.name] = BASELINE
    sim.run_until(Phase.ROLLING_BACK, within=10 * MINUTE)
    assert "at 3 evaluations in a row on BTCUSDT: it is 38.63" in sim.state.message
    began = min(at for at, _, reason in sim.story if reason == "CanaryRunning")
    # Three checks a minute apart, the first when its pods run; then 30 s, which end at a check.
    assert sim.age - began == 3 * MINUTE
    sim.world.of_symbol.clear()
    sim.run_until(Phase.ROLLED_BACK, within=10 * MINUTE)
    assert "v12.0 is verified: 5 of 5 checks were good" in sim.state.message
    assert serving(sim) == ["v12.0"]


def test_a_warning_is_told_and_a_critical_tail_holds_the_promotion(begin: Start) -> None:
    sim = begin("cvd-tails", stable="v12.0")
    sim.world.values["cvd_z_tail_p2"] = 5.36
    sim.run_until(Phase.PROGRESSING)
    assert [s.tier.value for s in sim.state.standings.values()] == ["Warning"]
    sim.world.of_symbol["cvd_z_tail_p2", "ETHUSDT"] = 9.52
    sim.run(3 * HOUR)
    assert sim.phase is Phase.PROGRESSING
    assert [s.tier.value for s in sim.state.standings.values()] == ["Critical"]
    del sim.world.of_symbol["cvd_z_tail_p2", "ETHUSDT"]
    sim.run_until(Phase.SOAKING, within=5 * MINUTE)


@pytest.fixture
def tails(begin: Start) -> Any:
    """The tails soak, with what was stable before on record."""
    sim = begin("cvd-tails", stable="v12.0")
    sim.run_until(Phase.SOAKING, within=HOUR)
    sim.story.clear()
    return sim


def test_a_recovery_within_the_delay_leaves_the_tails_where_they_are(tails: Any) -> None:
    tails.world.values["cvd_z_tail_p3"] = 8.0
    tails.run(3 * MINUTE)
    assert tails.status["next"].startswith("rolls back in 30s, ")
    tails.world.values["cvd_z_tail_p3"] = 0.2
    tails.run(HOUR)
    assert tails.phase is Phase.SOAKING
    assert tails.state.timers == {}


def test_bad_tails_of_these_parameters_end_with_the_revision_before(tails: Any) -> None:
    tails.world.of_version["v13.0-a1-optimized"] = {"cvd_z_tail_p3": 8.0}
    took = tails.run_until(Phase.ROLLED_BACK, within=HOUR)
    assert tails.reasons == ["ConditionBreached"] * 3
    assert took <= 12 * MINUTE
    assert serving(tails) == ["v12.0"]
    assert "v12.0 is verified" in tails.state.message


def test_bad_tails_of_the_market_end_with_nothing_that_serves(tails: Any) -> None:
    """The revision before does no better: its verification fails, and the next rung is taken."""
    tails.world.values["cvd_z_tail_p3"] = 8.0
    tails.run_until(Phase.VERIFYING_ROLLBACK, within=HOUR)
    assert serving(tails) == ["v12.0"]
    took = tails.run_until(Phase.ROLLED_BACK, within=HOUR)
    assert 5 * MINUTE <= took <= 8 * MINUTE
    assert "RollbackNotVerified" in tails.reasons
    assert tails.state.climbed == ("before", "nothing")
    assert serving(tails) == []


# --------------------------------------------------------------------------- models/rollout


STACKED = "v3.0-stacking"
CORRUPT = Refusal(
    reason=Reason.CHECKSUM_MISMATCH, file="lstm.onnx", message="its SHA-256 is another"
)
NO_WINDOWS = {"signal_ml_stacking_active_ratio": 0.2, "signal_ml_output_ok_ratio": 0.2}
"""The feed breaks off again and again: the LSTM has no window, and stacking no LSTM."""


def test_a_corrupt_model_starts_no_pod(begin: Start) -> None:
    sim = begin("models/rollout", stable="v2.1")
    sim.edit(version="v3.0.1-stacking")
    sim.world.refusals = (CORRUPT,)
    ran = set()
    while sim.phase is not Phase.ROLLED_BACK:
        sim.run(sim.spec.evaluation.interval)
        ran |= {c.value for p in plan(sim.state) if p.track is Track.CANARY for c in p.components}
    assert ran == {"verify"}
    assert sim.state.reason == "VerificationFailed"
    assert serving(sim) == ["v2.1"]
    metadata = {"name": "stacked", "namespace": "default"}
    report = build_report({"metadata": metadata, "spec": sim.spec.to_wire(), "status": sim.status})
    assert [m.phase for m in report.timeline] == [*("Verifying", "RollingBack", "RolledBack")]


def test_models_are_verified_shadowed_approved_and_watched_for_two_days(begin: Start) -> None:
    sim = begin("models/rollout", stable="v2.1")
    sim.run_until(Phase.PROGRESSING, within=HOUR)
    sim.run(24 * HOUR, longest_step(sim))
    assert sim.status["next"].startswith("the promotion once approved: ")
    assert sim.ask("approve", why="a day in the shadow").refusal == ""
    sim.run_until(Phase.SOAKING, within=HOUR)
    assert go_on_to(sim, Phase.SUCCEEDED) >= 48 * HOUR
    assert serving(sim) == [STACKED]


@pytest.fixture
def stacked(begin: Start) -> Any:
    """The stacked models have been let through, and soak."""
    sim = begin("models/rollout", stable="v2.1")
    sim.run_until(Phase.PROGRESSING, within=HOUR)
    sim.ask("promote", why="seen enough")
    sim.run_until(Phase.SOAKING, within=HOUR)
    sim.story.clear()
    return sim


def test_low_stacking_activation_switches_stacking_off(stacked: Any) -> None:
    stacked.world.values["signal_ml_stacking_active_ratio"] = 0.89
    took = stacked.run_until(Phase.ROLLING_BACK, within=HOUR)
    assert 5 * MINUTE <= took <= 6 * MINUTE
    assert "signal_ml_stacking_active_ratio < 0.9 for 5m" in stacked.state.message
    plain = stacked.state.stable
    assert stacked.records[plain.name].signal.artifacts.stacking is False
    stacked.world.values["signal_ml_stacking_active_ratio"] = None  # there is none any more
    stacked.run_until(Phase.ROLLED_BACK, within=HOUR)
    assert stacked.state.stable == plain
    assert stacked.state.climbed == ("stacking-off",)
    assert "is verified: 10 of 10 checks were good" in stacked.state.message


def fall_to(sim: Any, rung: str, **shown: float | None) -> None:
    """The next rung serves, and shows this."""
    sim.run_until(Phase.ROLLING_BACK, within=HOUR)
    assert sim.state.climbed[-1] == rung
    sim.world.of_revision[sim.state.stable.name] = shown
    sim.run_until(Phase.VERIFYING_ROLLBACK, within=HOUR)


def test_the_whole_ladder_from_stacking_off_by_the_old_models_to_none(stacked: Any) -> None:
    stacked.world.of_version[STACKED] = NO_WINDOWS
    no_models = dict.fromkeys(GOOD["models/rollout"])
    fall_to(stacked, "stacking-off", signal_ml_stacking_active_ratio=None)
    fall_to(stacked, "old-models", signal_ml_output_ok_ratio=0.2)
    fall_to(stacked, "ml-off", **no_models)
    stacked.run_until(Phase.ROLLED_BACK, within=HOUR)
    assert serving(stacked) == ["v2.1"]
    served = stacked.records[stacked.state.stable.name].signal
    assert served.artifacts is None
    assert served.fusion.active.ml is None
    assert served.fusion.active.ofi == pytest.approx(5 / 7)
    assert stacked.state.climbed == ("stacking-off", "old-models", "ml-off")


# --------------------------------------------------------------------------- same-signal-faster


def test_the_same_signal_faster_is_promoted_and_watched_for_a_week(begin: Start) -> None:
    sim = begin("same-signal-faster", stable="v2.0")
    assert go_on_to(sim, Phase.SOAKING) >= 24 * HOUR
    assert go_on_to(sim, Phase.SUCCEEDED) >= 7 * 24 * HOUR
    assert serving(sim) == ["v3.0"]


def test_another_signal_however_fast_is_taken_back(begin: Start) -> None:
    sim = begin("same-signal-faster", stable="v2.0")
    sim.run_until(Phase.PROGRESSING, within=HOUR)
    sim.world.differences["slice_auc_active_period"] = -0.03
    sim.run_until(Phase.ROLLED_BACK, within=10 * MINUTE)
    assert serving(sim) == ["v2.0"]


def test_the_same_signal_slower_is_taken_back_to_the_backup(begin: Start) -> None:
    sim = begin("same-signal-faster", stable="v2.0")
    go_on_to(sim, Phase.SOAKING)
    sim.world.of_version["v3.0"] = {"lag_seconds": 6.7}
    took = sim.run_until(Phase.ROLLED_BACK, within=HOUR)
    assert 10 * MINUTE <= took <= 12 * MINUTE
    assert sim.state.climbed == ("backup",)
    assert serving(sim) == ["v2.0"]


# --------------------------------------------------------------------------- step-by-step


def test_each_step_waits_for_a_person_and_only_the_second_is_published(begin: Start) -> None:
    sim = begin("step-by-step", stable="v1.0")
    sim.run_until(Phase.PROGRESSING, within=HOUR)
    published = []
    for stage, hours in (("sandbox", 24), ("small", 48)):
        assert sim.state.stage == stage
        sim.run((hours + 1) * HOUR, step=longest_step(sim))
        assert sim.state.stage == stage, "whatever time has passed"
        published.append(sim.spec.stages[len(published)].publish)
        assert sim.ask("approve", why="checked").refusal == ""
    assert published == [False, True]
    sim.run_until(Phase.SOAKING, within=HOUR)
    assert go_on_to(sim, Phase.SUCCEEDED) >= 24 * HOUR
    assert serving(sim) == ["v1.1"]


def test_slow_answers_take_a_step_back_that_was_approved(begin: Start) -> None:
    sim = begin("step-by-step", stable="v1.0")
    sim.run_until(Phase.PROGRESSING, within=HOUR)
    sim.run(25 * HOUR, step=longest_step(sim))
    assert sim.ask("approve", why="checked").refusal == ""
    assert sim.state.stage == "small"
    sim.world.of_version["v1.1"] = {"response_seconds": 7.0}
    took = sim.run_until(Phase.ROLLED_BACK, within=HOUR)
    assert 5 * MINUTE <= took <= 7 * MINUTE
    assert serving(sim) == ["v1.0"]


# --------------------------------------------------------------------------- in-session


def test_a_session_s_rollout_moves_on_in_its_windows_alone(begin: Start) -> None:
    """Begun on a Friday at 09:00 in London; every time here is UTC, an hour behind."""
    sim = begin("in-session")
    sim.run(71 * HOUR, step=HOUR)
    assert sim.phase is Phase.WAITING
    assert sim.status["next"] == "starts v2.1 at Mon 2026-05-04 08:00 UTC"
    assert plan(sim.state) == (), "no pod of it is there"
    sim.run(HOUR + MINUTE, step=longest_step(sim))
    assert (sim.phase, sim.state.stage) == (Phase.PROGRESSING, "shadow")
    moved = {}
    while sim.phase is not Phase.SUCCEEDED:
        stage = sim.state.stage
        sim.run(MINUTE, longest_step(sim))
        if (sim.phase, sim.state.stage) != (Phase.PROGRESSING, stage):
            moved.setdefault(stage, sim.now)
    # The shadow was over at 09:00, in the blackout; the canary at 17:30, after hours, and when New
    # York had closed nobody was at work in London.
    assert f"{moved['shadow']:%a %H:%M}" == "Mon 09:30"
    assert f"{moved['canary']:%a %H:%M}" == "Tue 08:00"


def test_a_guard_waits_for_no_session(begin: Start) -> None:
    sim = begin("in-session")
    sim.run(72 * HOUR, step=HOUR)
    sim.run_until(Phase.PROGRESSING, within=HOUR)
    sim.run(9 * HOUR + 45 * MINUTE, step=longest_step(sim))
    assert sim.status["message"].startswith("holding: it is a blackout, until Tue 2026-05-05 08:00")
    sim.world.values["slice_auc_active_period"] = 0.4
    assert sim.run_until(Phase.ROLLED_BACK, within=HOUR) <= 12 * MINUTE


# --------------------------------------------------------------------------- together, in turn


def namespace_of(folder: str, *names: str) -> Namespace:
    """Both examples of a folder, applied together."""
    documents = [load_example(f"{folder}/{name}") for name in names]
    return Namespace(**{d["metadata"]["name"]: d["spec"] for d in documents})


@pytest.fixture
def together() -> Namespace:
    return namespace_of("together", "btc", "alts")


@pytest.fixture
def in_turn() -> Namespace:
    return namespace_of("in-turn", "majors", "alts")


def test_a_basket_is_promoted_together(together: Namespace) -> None:
    together.run(8 * HOUR, MINUTE)
    assert set(together.phases.values()) == {Phase.PROGRESSING}
    assert together.waits("together-btc") == (
        "GroupNotReady",
        "it is ready, and waits for together-alts of group basket",
    )
    together.run(6 * HOUR, MINUTE)
    assert together.all_in(Phase.SUCCEEDED)
    promoted = [m.state.history[0].time for m in together.members.values()]
    assert max(promoted) - min(promoted) <= 2 * MINUTE


def test_a_basket_is_taken_back_together(together: Namespace) -> None:
    together.run(2 * HOUR, MINUTE)
    together["together-alts"].world.values["platt_ece"] = 0.3
    together.run(10 * MINUTE, MINUTE)
    assert together.all_in(Phase.ROLLED_BACK)
    assert together["together-btc"].state.reason == "GroupRolledBack"


def test_the_second_begins_when_the_first_has_succeeded(in_turn: Namespace) -> None:
    in_turn.run(5 * HOUR, MINUTE)
    assert in_turn.phases == {
        "in-turn-majors": Phase.PROGRESSING,
        "in-turn-alts": Phase.WAITING,
    }
    in_turn.run(2 * HOUR, MINUTE)
    assert in_turn.phases == {
        "in-turn-majors": Phase.SUCCEEDED,
        "in-turn-alts": Phase.PROGRESSING,
    }
    in_turn.run(6 * HOUR, MINUTE)
    assert in_turn.all_in(Phase.SUCCEEDED)


def test_the_second_waits_on_where_the_first_is_taken_back(in_turn: Namespace) -> None:
    in_turn.run(HOUR, MINUTE)
    in_turn["in-turn-majors"].world.values["platt_ece"] = 0.3
    in_turn.run(HOUR, MINUTE)
    assert in_turn.phases["in-turn-majors"] is Phase.ROLLED_BACK
    assert in_turn.waits("in-turn-alts") == (
        "AfterOthers",
        "it comes after in-turn-majors, which is RolledBack, not Succeeded",
    )
    in_turn["in-turn-majors"].world.values["platt_ece"] = 0.05
    in_turn["in-turn-majors"].edit(version="v1.4.1")
    in_turn.run(14 * HOUR, MINUTE)
    assert in_turn.all_in(Phase.SUCCEEDED)
