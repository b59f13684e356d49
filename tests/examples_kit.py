"""The manifests of `examples/`, and their times made short enough for a test to wait for."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import format_duration, parse_duration

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

Spec = dict[str, Any]


def load_example(name: str) -> dict[str, Any]:
    """The SignalCanary in a file of `examples/`, by its path there without the suffix."""
    document: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    return document


@dataclass(frozen=True)
class Scale:
    """A duration becomes so many times shorter, but no shorter than `floor`, and never longer."""

    divisor: float
    floor: timedelta

    def of(self, duration: timedelta) -> timedelta:
        return min(duration, max(self.floor, duration / self.divisor))


SECOND = timedelta(seconds=1)
LOOK = 3 * SECOND

SCALES = {
    "stages.*.duration": Scale(28_800, LOOK),  # 48 h are 6 s
    "soak": Scale(28_800, LOOK),
    "rollback.conditions.*.for": Scale(100, 2 * LOOK),  # 10 min are 6 s
    "rollback.delay": Scale(10, LOOK),
    "rollback.verify.for": Scale(20, 5 * LOOK),
    "evaluation.interval": Scale(20, LOOK),
    "evaluation.staleAfter": Scale(10, 5 * LOOK),
    "evaluation.noDataAfter": Scale(10, 20 * LOOK),
    "storage.commitInterval": Scale(20, SECOND / 2),
}
"""What is waited for by the wall clock. Time of the market is the market's to make short: the
synthetic one runs at 120 times real time."""


def scale_down(spec: Spec) -> Spec:
    """The whole spec, defaults included, with its times scaled down and nothing else changed."""
    whole = deepcopy(SignalCanarySpec.model_validate(spec).to_wire())
    for path, scale in SCALES.items():
        _scale(whole, path.split("."), scale)
    return whole


def _scale(node: Any, path: list[str], scale: Scale) -> None:
    key, *rest = path
    if key == "*":
        for item in node:
            _scale(item, rest, scale)
    elif key in node:
        if rest:
            _scale(node[key], rest, scale)
        else:
            node[key] = format_duration(scale.of(parse_duration(node[key])))
