"""Error rates in words, and as JSON whose shape is kept (docs/backtest.md). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from signalcanary.backtest.null import CONFIDENCE, Estimate
from signalcanary.contract import format_duration

FORMAT: Final = "signalcanary.dev/backtest-null/v1"


def render_text(about: Mapping[str, Any], healthy: Estimate, decays: Mapping[str, Estimate]) -> str:
    """For a person.

    Args:
        about: how the histories came about, by name.
        decays: by the decay's name.
    """
    of = ", ".join(f"{name} {value}" for name, value in about.items())
    lines = [f"{healthy.runs} histories of {_hours(healthy.hours)} each ({of})", ""]
    lines.append(
        f"healthy: {healthy.rolled_back} rolled back in {_hours(healthy.hours)}, {healthy.rate:.2%}"
        f" (below {healthy.upper_limit:.2%} with {CONFIDENCE:.0%} confidence); "
        f"{healthy.promoted} promoted at the end"
    )
    lines += [f"  {n} by {cause}" for cause, n in healthy.by_cause.most_common()]
    for name, found in decays.items():
        middle, late = found.delay_hours(0.5), found.delay_hours(0.9)
        lines.append(
            f"{name}: {found.rolled_back} rolled back in {_hours(found.hours)}, {found.rate:.0%}; "
            f"half of them all within {_delay(middle)}, nine of ten within {_delay(late)}"
        )
        lines += [f"  {n} by {cause}" for cause, n in found.by_cause.most_common()]
    return "\n".join(lines) + "\n"


def render_json(
    about: Mapping[str, Any], healthy: Estimate, decays: Mapping[str, Estimate]
) -> dict[str, Any]:
    """The same for programs."""
    return {
        "format": FORMAT,
        "about": dict(about),
        "healthy": _estimate(healthy),
        "decays": {name: _estimate(found) for name, found in decays.items()},
    }


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "runs": found.runs,
        "hours": found.hours,
        "rolledBack": found.rolled_back,
        "promoted": found.promoted,
        "rate": found.rate,
        "upperLimit": found.upper_limit,
        "confidence": CONFIDENCE,
        "byCause": dict(found.by_cause),
        "medianDelayHours": _finite(found.delay_hours(0.5)),
        "delay90Hours": _finite(found.delay_hours(0.9)),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _hours(hours: float) -> str:
    return format_duration(timedelta(hours=hours))


def _delay(hours: float) -> str:
    return _hours(round(hours * 60) / 60) if math.isfinite(hours) else "never, or later"
