"""The deployment reports that this project began with, judged by their own rules.

Seed 001 printed tails far beyond its own thresholds and called it a success; seed 002 printed
values that keep all three of its conditions.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from signalcanary.backtest import Outcome, Replay, run

START = datetime(2025, 10, 21, 3, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CHECKS = 3
"""Of 60 s, in a row (seed 001)."""

TAILS = {  # percent of |z| > 2, of |z| > 3, and the trades behind them
    "BTCUSDT": (38.63, 33.02, 321),
    "ETHUSDT": (9.52, 8.93, 168),
    "ADAUSDT": (5.36, 5.36, 112),
}
TIERS = {"warning": (5.0, 1.0), "critical": (8.0, 2.5), "rollback": (10.0, 5.0)}


def tails_replayed(symbol: str, p2: float | None, p3: float | None, checks: int = CHECKS) -> Replay:
    limits = {"cvd_z_tail_p2": p2, "cvd_z_tail_p3": p3}
    spec = {
        "version": "v13.0-a1-optimized",
        "symbols": {"canary": [symbol], "full": [symbol]},
        "rollback": {
            "conditions": [
                {"metric": metric, "above": limit, "for": "2m"}
                for metric, limit in limits.items()
                if limit is not None
            ]
        },
        "evaluation": {"interval": "60s"},
    }
    of_p2, of_p3, samples = TAILS[symbol]
    values = {"cvd_z_tail_p2": of_p2, "cvd_z_tail_p3": of_p3}
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


@pytest.mark.parametrize("symbol", TAILS)
def test_every_symbol_of_seed_001_is_rolled_back_by_its_own_rules(symbol: str) -> None:
    replay = tails_replayed(symbol, *TIERS["rollback"])
    assert replay.outcome is Outcome.ROLLED_BACK
    assert replay.decided is not None
    assert replay.decided.time == START + (CHECKS - 1) * MINUTE
    assert f"on {symbol}: it is" in replay.decided.message
    assert "breached for 2m" in replay.decided.message


def test_two_checks_are_not_three() -> None:
    replay = tails_replayed("BTCUSDT", *TIERS["rollback"], checks=2)
    assert replay.outcome is Outcome.GOING_ON
    assert replay.next.startswith("rolls back in 1m")


BREACHED = {  # by symbol and tier: is |z| > 2, is |z| > 3 beyond it?
    ("BTCUSDT", "warning"): (True, True),
    ("BTCUSDT", "critical"): (True, True),
    ("BTCUSDT", "rollback"): (True, True),
    ("ETHUSDT", "warning"): (True, True),
    ("ETHUSDT", "critical"): (True, True),
    ("ETHUSDT", "rollback"): (False, True),
    ("ADAUSDT", "warning"): (True, True),
    ("ADAUSDT", "critical"): (False, True),
    ("ADAUSDT", "rollback"): (False, True),
}


@pytest.mark.parametrize(("symbol", "tier"), BREACHED)
def test_each_tail_of_seed_001_against_each_tier(symbol: str, tier: str) -> None:
    p2, p3 = TIERS[tier]
    found = (
        tails_replayed(symbol, p2, None).outcome is Outcome.ROLLED_BACK,
        tails_replayed(symbol, None, p3).outcome is Outcome.ROLLED_BACK,
    )
    assert found == BREACHED[symbol, tier]


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
