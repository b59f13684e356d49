"""The scene of the rollout tests: a market at 120 times real time, and a configuration for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cluster_kit import Kubectl, Rollout, eventually, instant

Spec = dict[str, Any]
INTERVAL = timedelta(seconds=3)

MARKET_OPENS = "--start-time=2026-05-04T04:30:00"
"""Begun in Tokyo's session early enough to be warm in it; London's begins after 105 s, New York's
after 345 s."""

LAG_MS = 600_000
"""A merge lag that is put into the market: 5 s of real time, and twice what is allowed. Half a
second, in which this machine may well do something else, is no lag that counts."""


def spec(kubectl: Kubectl, version: str, *, ofi: float = 0.7) -> Spec:
    host = f"exchange.{kubectl.namespace}.svc:9600"
    weights = {"ofi": ofi, "cvd": round(1 - ofi, 3)}
    return {
        "version": version,
        "symbols": {"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT", "ADAUSDT"]},
        "signal": {
            "fusion": dict.fromkeys(("baseline", "active", "quiet"), weights),
            "calibration": {"train": "20m", "test": "40m", "refit": "10m"},
            # 100 ms in which this machine does something else are 12 s of this market.
            "merge": {"tolerance": "15s"},
        },
        "source": {
            "publicUrl": f"ws://{host}/public",
            "marketUrl": f"ws://{host}/market",
            "restUrl": f"http://{host}",
        },
        "storage": {"size": "1Gi", "commitInterval": "500ms"},
        "stages": [{"name": "shadow", "duration": "3s"}, {"name": "canary", "duration": "6s"}],
        "evaluation": {"interval": "3s", "staleAfter": "15s", "noDataAfter": "60s"},
        "rollback": {
            "conditions": [
                # Literal, as the report has them: within `for` and two looks of the first breach.
                {
                    "metric": "platt_ece",
                    "above": 0.1,
                    "for": "6s",
                    "minSamples": 1000,
                    "mode": "literal",
                },
                {"metric": "merge_time_diff_ms_p99", "above": 300000, "for": "6s"},
                {
                    "metric": "slice_auc_active_period",
                    "below": 0.55,
                    "for": "6s",
                    "minSamples": 200,
                    "mode": "literal",
                },
            ]
        },
    }


def wait_for_rollback(rollout: Rollout, key: str, hold: timedelta) -> Any:
    """Wait for the rollback by a condition; it must come within `hold` and two intervals.

    Measured from the look that first saw the breach which the rollback names, to the look that
    decided: both are in status.
    """
    began: dict[str, str] = {}

    def look() -> Any:
        status = rollout.status()
        timers = [t for t in status.get("timers", ()) if t["key"] == key]
        began.update({t["symbol"]: t["clock"]["startedAt"] for t in timers})
        return status if status["phase"] == "RolledBack" else None

    status = eventually(f"rolled back by {key}", look, timeout=180, explain=rollout.describe)
    rolling = next(t for t in status["history"] if t["phase"] == "RollingBack")
    assert rolling["reason"] == "ConditionBreached"
    symbol = next(s for s in began if f" on {s}: it is " in rolling["message"])
    took = instant(rolling["time"]) - instant(began[symbol])
    print(f"{key}: rolled back {took.total_seconds():.1f} s after the breach was first seen")
    assert hold <= took <= hold + 2 * INTERVAL
    return status


def breach_began(rollout: Rollout, key: str) -> str:
    """Wait for the timer of a breach and return when the first of its symbols was breached."""

    def look() -> str | None:
        timers = rollout.status().get("timers", ())
        return min((t["clock"]["startedAt"] for t in timers if t["key"] == key), default=None)

    return eventually(f"a breach of {key}", look, timeout=120, explain=rollout.describe)
