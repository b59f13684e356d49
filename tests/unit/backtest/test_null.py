"""Error rates: that leaving looks out changes nothing, and what the command makes of them.

SIGNALCANARY_RUNS sets how many histories are drawn; `make error-rates` writes the full table.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import beta

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest import RecordingError
from signalcanary.backtest.bootstrap import resampler
from signalcanary.backtest.null import (
    Estimate,
    changing_looks,
    count,
    estimate,
    replay_paths,
    stretched_spec,
    upper_limit,
)
from signalcanary.backtest.simulation import (
    Decay,
    Market,
    Path,
    draw_path,
    first_judged_look,
)
from signalcanary.cli import main
from signalcanary.rollout import Phase

RUNS = int(os.environ.get("SIGNALCANARY_RUNS", "4"))
LOOK = timedelta(seconds=60)
AUC, ECE = "slice_auc_active_period", "platt_ece"


def spec_of(mode: str, symbols: int = 1, **more: Any) -> SignalCanarySpec:
    names = [f"S{n}USDT" for n in range(symbols)]
    return SignalCanarySpec.model_validate(
        {
            "version": "v1",
            "symbols": {"canary": names, "full": names},
            "rollback": {
                "conditions": [
                    {"metric": AUC, "below": 0.55, "for": "10m", "mode": mode},
                    {"metric": ECE, "above": 0.1, "for": "2m", "mode": mode},
                    {"metric": "merge_time_diff_ms_p99", "above": 2000, "for": "5m"},
                ]
            },
        }
        | more
    )


LATE = {"evaluation": {"deadline": "30m", "onDeadline": "Rollback"}}
SAMPLES = {
    "rollback": {
        "conditions": [
            {"metric": AUC, "below": 0.56, "for": "1h", "mode": "literal", "minSamples": 1_700}
        ]
    }
}


DEADLINE = "DeadlineExceeded"


@pytest.mark.parametrize(
    ("spec", "market", "causes"),
    [
        (spec_of("literal"), Market(hours=8), {f"{AUC}<0.55", f"{ECE}>0.1", None}),
        (spec_of("guarded"), Market(hours=4), {None}),
        (
            spec_of("guarded", symbols=2),
            Market(hours=4, decay=Decay("", auc=0.40)),
            {f"{AUC}<0.55"},
        ),
        (
            spec_of("guarded"),
            Market(hours=6, decay=Decay("", calibration_error=0.25)),
            {f"{ECE}>0.1"},
        ),
        (spec_of("guarded", **LATE), Market(hours=3, horizon_seconds=60, ar=0.97), {DEADLINE}),
        (spec_of("literal", **SAMPLES), Market(hours=6), {f"{AUC}<0.56", None}),
        (spec_of("guarded"), Market(auc=0.75, hours=8), {None}),
    ],
    ids=["literal", "guarded", "two symbols", "error", "deadline", "samples", "promoted"],
)
def test_the_looks_that_are_left_out_change_nothing(
    spec: SignalCanarySpec, market: Market, causes: set[str | None], request: Any
) -> None:
    # The stage ends half-way, so that what follows is looked at too.
    policy = stretched_spec(spec, market.hours / 2, LOOK)
    onset = first_judged_look(policy, market)
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        paths = {symbol: draw_path(rng, market, policy) for symbol in policy.symbols.canary}
        short = replay_paths(policy, paths, onset)
        assert short == replay_paths(policy, paths, onset, thorough=True)
        assert short.cause in causes
        assert (short.phase is Phase.SUCCEEDED) or "promoted" not in request.node.name
        looks = next(iter(paths.values())).looks
        assert changing_looks(policy, paths).size < looks


def path_of(values: list[float], samples: int = 1_800) -> dict[str, Path]:
    metrics = (AUC, ECE, "merge_time_diff_ms_p99")
    healthy = {ECE: 0.05, "merge_time_diff_ms_p99": 0.0}
    columns = {m: np.full(len(values), healthy.get(m, 0.0)) for m in metrics} | {
        AUC: np.array(values)
    }
    return {"S0USDT": Path(columns, dict.fromkeys(metrics, np.full(len(values), samples)), {})}


def test_a_breach_of_ten_minutes_rolls_back_at_its_tenth_minute_and_says_why() -> None:
    policy = stretched_spec(spec_of("literal"), 1.0, LOOK)
    run = replay_paths(policy, path_of([0.6] * 20 + [0.5] * 30), onset=21)
    assert run.is_rolled_back
    assert run.hours == pytest.approx(10 / 60)
    assert run.cause == f"{AUC}<0.55"
    assert not replay_paths(policy, path_of([0.6] * 20 + [0.5] * 10 + [0.6] * 40)).is_rolled_back


def test_a_value_that_is_missing_holds_the_stage() -> None:
    policy = stretched_spec(spec_of("literal"), 1.0, LOOK)
    missing = [0.6] * 20 + [float("nan")] * 30 + [0.6] * 20
    assert replay_paths(policy, path_of(missing)).phase is Phase.PROGRESSING
    run = replay_paths(policy, path_of([*missing, *[0.6] * 40]))
    assert run.phase is Phase.SUCCEEDED
    assert run.hours == pytest.approx((60 + 30 + 1) / 60)


@pytest.mark.parametrize(("events", "runs"), [(0, 400), (1, 20), (7, 40), (399, 400), (5, 5)])
def test_the_upper_limit_is_that_of_clopper_and_pearson(events: int, runs: int) -> None:
    wanted = 1.0 if events == runs else float(beta.ppf(0.95, events + 1, runs - events))
    assert upper_limit(events, runs) == pytest.approx(wanted, abs=1e-9)


def test_a_delay_counts_those_that_were_never_found() -> None:
    found = Estimate(4, 48.0, delays=[1.0, 2.0, 9.0])
    assert [found.delay_hours(share) for share in (0.25, 0.5, 0.75)] == [1.0, 2.0, 9.0]
    assert found.delay_hours(0.9) == float("inf")


def test_a_history_does_not_depend_on_how_many_there_are() -> None:
    market, policies = Market(hours=3), {"": spec_of("literal")}
    few = estimate(policies, market, 2, seed=5)[""]
    more = estimate(policies, market, 4, seed=5)[""]
    assert few.rolled_back <= more.rolled_back
    assert set(few.delays) <= set(more.delays)


def test_a_literal_policy_condemns_the_healthy_and_a_guarded_one_does_not() -> None:
    policies = {mode: spec_of(mode) for mode in ("literal", "guarded")}
    found = estimate(policies, Market(hours=48), RUNS, seed=1)
    assert found["literal"].rolled_back == RUNS
    assert found["guarded"].rolled_back <= RUNS // 25
    assert found["guarded"].promoted >= RUNS // 2


def test_a_guarded_policy_finds_what_is_wrong() -> None:
    for decay in (Decay("", auc=0.42), Decay("", calibration_error=0.2)):
        market = Market(hours=8, decay=decay)
        found = estimate({"": spec_of("guarded")}, market, RUNS, seed=2)[""]
        assert found.delay_hours(0.5) < 4
        (cause,) = found.by_cause
        assert cause.startswith(AUC if decay.auc else ECE)


# ------------------------------------------------------------------ recorded looks


def test_blocks_of_looks_keep_their_order() -> None:
    draw = resampler(path_of([float(n) for n in range(100)]), LOOK, 1.0, timedelta(minutes=10))
    (path,) = draw(np.random.default_rng(1)).values()
    steps = np.diff(path.values[AUC]) % 100
    assert (steps == 1).mean() > 0.85
    assert path.looks == 63
    with pytest.raises(RecordingError, match="less than two blocks"):
        resampler(path_of([0.0] * 10), LOOK, 1.0, timedelta(minutes=10))


def test_rates_of_recorded_looks_are_those_of_their_dips() -> None:
    policy = stretched_spec(spec_of("literal"), 12.0, LOOK)
    quiet = path_of([0.6] * 600)
    dips = path_of([0.5 if n % 150 < 20 else 0.6 for n in range(600)])
    for paths, share in ((quiet, 0.0), (dips, 1.0)):
        draw = resampler(paths, LOOK, 12.0, timedelta(hours=2))
        assert count({"": policy}, draw, 20, 1)[""].rate == share


# ------------------------------------------------------------------ the command


def manifest_of(folder: FilePath, mode: str) -> str:
    document = {
        "apiVersion": "signalcanary.dev/v1alpha1",
        "kind": "SignalCanary",
        "metadata": {"name": "demo"},
        "spec": spec_of(mode).to_wire(),
    }
    (folder / "m.yaml").write_text(yaml.safe_dump(document))
    return str(folder / "m.yaml")


FEW = ["--null", "--runs", "3", "--hours", "6", "--seed", "4"]


@pytest.mark.parametrize(
    ("mode", "most", "code"),
    [
        ("guarded", [], 0),
        ("guarded", ["--max-false-rollbacks", "0.7"], 0),
        ("guarded", ["--max-false-rollbacks", "0.01"], 1),  # three runs cannot show that
        ("literal", ["--max-false-rollbacks", "0.7"], 1),
    ],
)
def test_the_rate_is_a_gate_by_its_upper_limit(
    mode: str, most: list[str], code: int, tmp_path: FilePath
) -> None:
    assert main(["backtest", manifest_of(tmp_path, mode), *FEW, *most]) == code


def test_the_estimate_is_told_and_keeps_its_shape(
    tmp_path: FilePath, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["backtest", manifest_of(tmp_path, "guarded"), *FEW, "--decay", "flip"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "3 histories of 6h each (AUC 0.58, AR 0.9, horizon 10s, p true" in text
    assert "healthy: 0 rolled back in 6h, 0.00% (below 63.16% with 95% confidence)" in text
    assert "flip: 3 rolled back in 6h, 100%; half of them all within " in text
    assert main([*arguments, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format"] == "signalcanary.dev/backtest-null/v1"
    assert list(document) == ["format", "about", "healthy", "decays"]
    assert document["decays"]["flip"]["rolledBack"] == 3
    assert document["healthy"]["medianDelayHours"] is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--decay", "worse"], "--decay worse: write auc=0.50, ece=0.15 or flip"),
        (["--decay", "ece=0.5"], "an error of p of at most 0.4"),
        (["--auc", "0.4"], "--auc must be from 0.5 to 1"),
        (["--horizon", "1500ms"], "--horizon must be whole seconds"),
        (["--auc", "0.9", "--ar", "0", "--horizon", "60s"], "no score with an autocorrelation of"),
        (["--data", "t.csv", "--decay", "flip"], "what a decay looks like is not recorded"),
        (["--plot", "p.svg"], "about one replay: leave --null out"),
        (["--data", "t.csv"], "less than two blocks of 2h"),
    ],
)
def test_what_cannot_be_simulated_ends_in_a_sentence(
    options: list[str],
    complaint: str,
    tmp_path: FilePath,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_table(tmp_path, 100)
    file = manifest_of(tmp_path, "literal")
    monkeypatch.chdir(tmp_path)
    assert main(["backtest", file, *FEW, *options]) == 2
    assert complaint in capsys.readouterr().err


def write_table(folder: FilePath, looks: int, level: str = "") -> None:
    rows = ["time,metric,symbol,value,samples,level,lower"]
    start = datetime(2026, 5, 1, tzinfo=UTC)
    for n in range(looks):
        for metric, value in ((AUC, 0.6), (ECE, 0.05), ("merge_time_diff_ms_p99", 400)):
            at = (start + timedelta(seconds=10) * n).isoformat()
            end = "0.01" if level else ""
            rows.append(f"{at},{metric},S0USDT,{value},1800,{level},{end}")
    (folder / "t.csv").write_text("\n".join(rows) + "\n")


def test_recorded_looks_are_drawn_in_blocks(
    tmp_path: FilePath, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path, 200)
    data = ["--data", str(tmp_path / "t.csv"), "--block", "10m"]
    assert main(["backtest", manifest_of(tmp_path, "literal"), *FEW, *data]) == 0
    assert "drawn from recorded looks, block 10m" in capsys.readouterr().out
    write_table(tmp_path, 200, level="0.05")
    assert main(["backtest", manifest_of(tmp_path, "guarded"), *FEW, *data]) == 2
    assert "cannot be drawn anew" in capsys.readouterr().err
