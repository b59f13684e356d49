"""What lint expects of the evidence, beside what the evidence comes to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest.simulation import Market, draw_path
from signalcanary.cli import main
from signalcanary.contract import EVIDENCE_LEVELS
from signalcanary.expectation import describe, expect, level_of

AUC, ECE = "slice_auc_active_period", "platt_ece"


def spec_of(stage: str, *conditions: dict[str, Any], canary: int = 1, **more: Any) -> Any:
    symbols = [f"S{i}USDT" for i in range(canary)]
    wire = {
        "version": "v1",
        "symbols": {"canary": symbols, "full": symbols},
        "stages": [{"name": "only", "duration": stage}],
    }
    if conditions:
        wire["rollback"] = {"conditions": list(conditions)} | more.pop("rollback", {})
    return SignalCanarySpec.model_validate(wire | more)


def test_a_rollout_of_two_days_has_nothing_to_be_told() -> None:
    assert describe(spec_of("48h")) == []


def test_a_short_stage_is_told_what_it_can_prove_and_how_long_to_make_it() -> None:
    (line,) = describe(spec_of("1h", {"metric": AUC, "below": 0.55}))
    assert line.startswith(f"{AUC} < 0.55: the test window and 1h of stages give about 2,088 rows")
    assert "which prove it kept only at 0.636 and above (with 95 % confidence)" in line
    assert "at 0.58 expect about 12h: write stages of that much in all" in line


def test_stages_of_the_length_told_are_enough() -> None:
    assert describe(spec_of("13h", {"metric": AUC, "below": 0.55})) == []


def test_a_replay_proves_as_much_in_less_time() -> None:
    condition = {"metric": AUC, "below": 0.55}
    (line,) = describe(spec_of("30s", condition), 120)
    assert line.startswith(
        f"{AUC} < 0.55: the test window and 30s of stages, 1h of market time, give about 2,088 rows"
    )
    assert "at 0.58 expect about 12h of market time: write stages of 6m in all" in line
    assert describe(spec_of("7m", condition), 120) == []
    (line,) = expect(spec_of("30s", condition), 120)
    (same,) = expect(spec_of("1h", condition))
    assert (line.samples, line.provable, line.needed) == (same.samples, same.provable, same.needed)


def test_an_exchange_of_ones_own_may_be_a_replay_and_is_asked_about() -> None:
    urls = {"publicUrl": "ws://127.0.0.1:1/public", "marketUrl": "ws://127.0.0.1:1/market"}
    (line,) = describe(spec_of("30s", {"metric": AUC, "below": 0.55}, source=urls))
    assert line.endswith("if the exchange replays faster than the clock, give lint its --speed")
    assert "speed" not in describe(spec_of("1h", {"metric": AUC, "below": 0.55}))[0]


@pytest.mark.parametrize(("symbols", "level"), [(1, 0.05), (2, 0.02), (3, 0.005), (256, 0.0001)])
def test_the_level_is_the_one_that_is_judged_at(symbols: int, level: float) -> None:
    assert level_of(spec_of("48h", canary=symbols)) == level


def test_more_samples_than_a_window_has_are_told() -> None:
    (line,) = describe(spec_of("48h", {"metric": ECE, "above": 0.1, "minSamples": 2_000}))
    assert line == (
        "platt_ece > 0.1: minSamples 2,000 are never there: a window of 30m has one row a second, "
        "1,800 in all; write at most that, or a longer window"
    )


def test_a_long_horizon_that_can_hardly_be_proven_is_told() -> None:
    (line,) = describe(
        spec_of("24h", {"metric": AUC, "below": 0.55}, signal={"label": {"horizon": "60s"}})
    )
    assert "expect more than the 48h that the evidence looks back" in line


def test_literal_conditions_and_lags_need_no_proof() -> None:
    literal = {"metric": AUC, "below": 0.55, "mode": "literal"}
    assert describe(spec_of("1m", literal, {"metric": "merge_time_diff_ms_p99", "above": 9})) == []


def test_an_error_rate_that_too_many_share_is_told() -> None:
    spec = spec_of("48h", canary=256, rollback={"errorRate": 0.01})
    assert any("it is not kept" in line for line in describe(spec))


@pytest.mark.parametrize("metric", [AUC, ECE])
def test_what_is_expected_is_about_what_a_simulated_canary_takes(metric: str) -> None:
    bound = {"metric": AUC, "below": 0.55} if metric == AUC else {"metric": ECE, "above": 0.1}
    spec = spec_of("12h", bound)
    (found,) = expect(spec)
    assert found.needed is not None
    # In the simulation every row is of the slice. A bound strays: at the time that is told about
    # every second canary is proven, well before it few are and well after it most.
    warm, share = 0.9 * 1_800, 0.4 if metric == AUC else 1.0
    rows = (found.needed.total_seconds() + warm) * share
    look, level = 60, EVIDENCE_LEVELS.index(level_of(spec))
    proven = {0.3: 0, 3.0: 0}
    market = Market(hours=3.0 * rows / 3_600, look_seconds=look)
    for seed in range(10):
        path = draw_path(np.random.default_rng(seed), market, spec)
        for times in proven:
            bounds, at = path.bounds[metric], round(times * rows / look)
            proven[times] += bool(
                bounds.whole_lower[level, at] >= 0.55
                if metric == AUC
                else bounds.whole_upper[level, at] <= 0.1
            )
    assert proven[0.3] <= 4
    assert proven[3.0] >= 7


def test_lint_takes_the_speed_of_a_replay(capsys: pytest.CaptureFixture[str]) -> None:
    demo = Path(__file__).parents[3] / "examples" / "demo" / "v1.yaml"
    assert main(["lint", str(demo), "--speed", "120"]) == 0
    assert "9s of stages, 18m of market time, give about" in capsys.readouterr().out
