"""The deployment reports that this project began with, judged by their own rules.

Seed 001 printed tails far beyond its own thresholds and called it a success; seed 002 printed
values that keep all three of its conditions.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from signalcanary.api import Tier
from signalcanary.backtest import Outcome, Replay, run
from signalcanary.backtest.replay import Kind
from signalcanary.backtest.report import render_json, render_text
from signalcanary.evaluate import Verdict

START = datetime(2025, 10, 21, 3, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CHECKS = 3
"""Of 60 s, in a row (seed 001)."""

TAILS = {  # percent of |z| > 2, of |z| > 3, and the trades behind them
    "BTCUSDT": (38.63, 33.02, 321),
    "ETHUSDT": (9.52, 8.93, 168),
    "ADAUSDT": (5.36, 5.36, 112),
}
P2, P3 = "cvd_z_tail_p2", "cvd_z_tail_p3"
POLICY = {  # in percent, as the metrics are: 0.1 would be a tenth of a percent
    P2: {"warning": 5, "critical": 8, "above": 10, "consecutive": CHECKS},
    P3: {"warning": 1, "critical": 2.5, "above": 5, "consecutive": CHECKS},
}
BOTH = (P2, P3)


def tails_replayed(
    symbol: str,
    metrics: tuple[str, ...] = BOTH,
    *,
    checks: int = CHECKS,
    **changes: Any,
) -> Replay:
    """Seed 001's policy, or a part of it, on what it measured on one symbol, check by check."""
    spec = {
        "version": "v13.0-a1-optimized",
        "symbols": {"canary": [symbol], "full": [symbol]},
        "rollback": {"conditions": [{"metric": m} | POLICY[m] | changes for m in metrics]},
        "evaluation": {"interval": "60s"},
    }
    of_p2, of_p3, samples = TAILS[symbol]
    values = {P2: of_p2, P3: of_p3}
    rows = [
        {
            "time": START + MINUTE * check,
            "metric": metric,
            "symbol": symbol,
            "value": values[metric],
            "samples": samples,
        }
        for check in range(checks)
        for metric in values
    ]
    return run(spec, {name: [row[name] for row in rows] for name in rows[0]})


@pytest.mark.parametrize("mode", ["literal", "guarded"])
@pytest.mark.parametrize("symbol", TAILS)
def test_every_symbol_of_seed_001_is_rolled_back_by_its_own_rules(symbol: str, mode: str) -> None:
    """In either mode, as there is no evidence beside a tail that guarded could wait for."""
    replay = tails_replayed(symbol, mode=mode)
    assert replay.outcome is Outcome.ROLLED_BACK
    assert replay.decided is not None
    assert replay.decided.time == START + (CHECKS - 1) * MINUTE
    assert f"on {symbol}: it is" in replay.decided.message
    assert "judged literally" in replay.decided.message
    assert "breached at 3 evaluations in a row" in replay.decided.message


def test_two_checks_are_not_three() -> None:
    replay = tails_replayed("BTCUSDT", checks=2)
    assert replay.outcome is Outcome.GOING_ON
    assert replay.next.startswith("rolls back in 1m")


@pytest.mark.parametrize("symbol", TAILS)
def test_none_of_them_is_judged_where_a_thousand_trades_are_asked_for(symbol: str) -> None:
    """What its own baseline had (1514), and its own target: neither rolled back nor promoted."""
    replay = tails_replayed(symbol, minSamples=1_000, checks=60)
    assert replay.outcome is Outcome.GOING_ON
    assert not replay.breached
    points = [point for curve in replay.curves.values() for point in curve]
    assert {(p.verdict, p.tier) for p in points} == {(Verdict.INCONCLUSIVE, Tier.NORMAL)}


FOUND = {  # the tier of |z| > 2 and of |z| > 3
    "BTCUSDT": (Tier.ROLLBACK, Tier.ROLLBACK),
    "ETHUSDT": (Tier.CRITICAL, Tier.ROLLBACK),
    "ADAUSDT": (Tier.WARNING, Tier.ROLLBACK),
}


@pytest.mark.parametrize("symbol", FOUND)
def test_each_tail_of_seed_001_against_each_tier(symbol: str) -> None:
    replay = tails_replayed(symbol, checks=1)
    assert tuple(curve[-1].tier for curve in replay.curves.values()) == FOUND[symbol]
    told = {entry.reason for entry in replay.story if entry.kind is Kind.NOTICE}
    assert told == {f"Tier{tier}" for tier in FOUND[symbol]}
    alone = tails_replayed(symbol, (P2,), checks=60)
    assert (alone.outcome is Outcome.ROLLED_BACK) == (symbol == "BTCUSDT")


def test_what_is_told_of_a_tier_is_in_the_report() -> None:
    replay = tails_replayed("ETHUSDT", (P2,), checks=5)
    text, data = render_text(replay), render_json(replay)
    assert (
        "told         cvd_z_tail_p2 on ETHUSDT is 9.52 (not > 10); critical (> 8 %): no stage is "
        "passed and nothing promoted meanwhile" in text
    )
    assert "ETHUSDT: cvd_z_tail_p2>10: 9.52 to 9.52; looks: Ok 100%; beyond Critical 100%" in text
    (condition,) = data["conditions"]
    assert (condition["warning"], condition["critical"], condition["consecutive"]) == (5, 8, 3)
    assert condition["looksByTier"] == {"Normal": 0, "Warning": 0, "Critical": 5, "Rollback": 0}


HEALTHY = {
    "platt_ece": 0.05,
    "platt_brier": 0.15,
    "slice_auc_active_period": 0.58,
    "merge_time_diff_ms_p50": 500.0,
    "merge_time_diff_ms_p90": 1_200.0,
    "merge_time_diff_ms_p99": 1_500.0,
}
FOR = {
    "platt_ece": 2 * MINUTE,
    "slice_auc_active_period": 10 * MINUTE,
    "merge_time_diff_ms_p99": 5 * MINUTE,
}


def monitored(**changes: float) -> Replay:
    """Seed 002's three conditions, literally, on its values for an hour, one look a minute; the
    stages are shortened to that hour."""
    spec: dict[str, Any] = {
        "version": "v2.0-prod",
        "symbols": {"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
        "stages": [{"name": "canary", "duration": "50m"}],
        "rollback": {
            "conditions": [
                {"metric": "platt_ece", "above": 0.1, "for": "2m", "mode": "literal"},
                {"metric": "merge_time_diff_ms_p99", "above": 2000, "for": "5m"},
                {
                    "metric": "slice_auc_active_period",
                    "below": 0.55,
                    "for": "10m",
                    "mode": "literal",
                },
            ]
        },
        "evaluation": {"interval": "60s"},
    }
    rows = [
        (START + MINUTE * minute, metric, symbol, value, 1_800)
        for minute in range(60)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for metric, value in (HEALTHY | (changes if symbol == "ETHUSDT" else {})).items()
    ]
    columns = zip(*rows, strict=True)
    return run(
        spec, dict(zip(("time", "metric", "symbol", "value", "samples"), columns, strict=True))
    )


def test_the_values_of_seed_002_keep_its_three_conditions() -> None:
    replay = monitored()
    assert replay.outcome is Outcome.PROMOTED
    assert not replay.breached
    assert [e.reason for e in replay.story] == [
        "RolloutStarted",
        "CanaryRunning",
        "StageStarted",
        "StagesPassed",
        "Promoted",
    ]


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("platt_ece", 0.11),
        ("merge_time_diff_ms_p99", 2_001.0),
        ("slice_auc_active_period", 0.549),
    ],
)
def test_each_condition_of_seed_002_alone_rolls_back_after_its_time(
    metric: str, value: float
) -> None:
    replay = monitored(**{metric: value})
    assert replay.outcome is Outcome.ROLLED_BACK
    assert replay.decided is not None
    assert replay.decided.time == START + FOR[metric]
    assert f"{metric} " in replay.decided.message
    assert "on ETHUSDT" in replay.decided.message
