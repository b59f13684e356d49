"""The scene of the rollout tests: a market at 120 times real time, and the examples on it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cluster_kit import Kubectl, Rollout, eventually, instant

from examples_kit import Spec, load_example, scale_down

INTERVAL = timedelta(seconds=3)

MARKET_OPENS = "--start-time=2026-05-04T04:30:00"
"""Begun in Tokyo's session early enough to be warm in it; London's begins after 105 s, New York's
after 345 s."""

LAG_MS = 600_000
"""A merge lag that is put into the market: 5 s of real time, and twice what is allowed. Half a
second, in which this machine may well do something else, is no lag that counts."""


JUDGED_HERE = {
    # Literal, as the report has them: within `for` and two looks of the first breach.
    "platt_ece": {"mode": "literal", "minSamples": 1000},
    "platt_brier": {"mode": "literal", "minSamples": 1000},
    "slice_auc_active_period": {"mode": "literal", "minSamples": 200},
    "slice_auc_quiet_period": {"mode": "literal", "minSamples": 200},
    "merge_time_diff_ms_p99": {"above": LAG_MS // 2},
    # Five minutes of this market have some 300 trades at least.
    "cvd_z_tail_p2": {"minSamples": 200},
    "cvd_z_tail_p3": {"minSamples": 200},
}
NOT_HERE = frozenset({"cvd_floor_hit_rate", "latency_p95_ms"})
"""Log-normal sizes are at the floor on their own, and this market's clock is none of ours."""


def example(kubectl: Kubectl, name: str, version: str | None = None) -> Spec:
    """An example's spec with its times scaled down, on the market in this namespace."""
    scaled = scale_down(load_example(name)["spec"])
    host = f"exchange.{kubectl.namespace}.svc:9600"
    scaled["source"] |= {
        "publicUrl": f"ws://{host}/public",
        "marketUrl": f"ws://{host}/market",
        "restUrl": f"http://{host}",
    }
    scaled["storage"]["size"] = "1Gi"
    scaled["signal"]["calibration"] |= {"train": "20m", "test": "40m", "refit": "10m"}
    # 100 ms in which this machine does something else are 12 s of this market.
    scaled["signal"]["merge"]["tolerance"] = "15s"
    scaled["rollback"]["conditions"] = [
        condition | JUDGED_HERE.get(condition.get("metric"), {})
        for condition in scaled["rollback"]["conditions"]
        if condition.get("metric", condition.get("name")) not in NOT_HERE
    ]
    return scaled | ({"version": version} if version else {})


def spec(kubectl: Kubectl, version: str, *, ofi: float = 0.7) -> Spec:
    """The quickstart's spec on this market, with weights of one's own."""
    weights = {"ofi": ofi, "cvd": round(1 - ofi, 3)}
    document = example(kubectl, "quickstart", version)
    document["signal"]["fusion"] = dict.fromkeys(("baseline", "active", "quiet"), weights)
    return document


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
