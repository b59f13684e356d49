"""Rollouts on a real API server, each as the very `decide` and `render` leave it, over time.

For the tests of the page and for the pictures in its documentation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from api_server import ApiServer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "console"))

from console_kit import Story

from signalcanary.api import SignalCanarySpec
from signalcanary.evaluate import Bound, Measurement, MetricsSeen
from signalcanary.resources import Owner, build_controller_revision
from signalcanary.revisions import build_revision

COINS = """
    BTC ETH SOL XRP BNB DOGE ADA TRX AVAX LINK SUI TON DOT LTC BCH NEAR APT UNI ICP ETC
    FIL ARB OP ATOM INJ XLM HBAR VET SEI TIA RUNE FTM ALGO AAVE GALA SAND AXS EGLD FLOW CHZ
"""
SYMBOLS = [f"{coin}USDT" for coin in COINS.split()]


def build_spec(symbols: Sequence[str], **fields: Any) -> SignalCanarySpec:
    """The quickstart's conditions on some symbols."""
    conditions = [
        {"metric": "platt_ece", "above": 0.1, "for": "2m"},
        {"metric": "merge_time_diff_ms_p99", "above": 2000, "for": "5m"},
        {"metric": "slice_auc_active_period", "below": 0.55, "for": "10m"},
    ]
    return SignalCanarySpec.model_validate(
        {
            "version": "v2.1-prod",
            "symbols": {"canary": list(symbols), "full": [*symbols, "PEPEUSDT"]},
            "stages": [{"name": "shadow", "duration": "1h"}, {"name": "canary", "duration": "48h"}],
            "rollback": {"conditions": conditions},
            **fields,
        }
    )


class Scene(Story):
    """A rollout whose values move, and whose evidence grows with time.

    Args:
        minutes: it is begun so long ago.
    """

    def __init__(self, spec: SignalCanarySpec, minutes: int) -> None:
        super().__init__(spec, datetime.now(UTC) - timedelta(minutes=minutes))
        self.random = Random(spec.version + spec.symbols.canary[0])
        self.generation = 1
        self.age = 0
        self.values: dict[tuple[str, str], float] = {}
        self.bad: dict[tuple[str, str], float] = {}
        self.look(MetricsSeen())

    def metrics(self, warmup: float = 1.0, **_: Any) -> MetricsSeen:
        self.age += 1
        at = self.now - timedelta(seconds=1)
        measured: dict[tuple[str, str], Measurement] = {}
        for symbol in self.spec.symbols.canary:
            for metric, middle, noise in (
                ("platt_ece", 0.045, 0.004),
                ("slice_auc_active_period", 0.607, 0.004),
            ):
                target = self.bad.get((metric, symbol), middle)
                value = self.values.get((metric, symbol), middle + self.random.gauss(0, noise))
                value += 0.12 * (target - value) + self.random.gauss(0, noise)
                self.values[metric, symbol] = value
                late, whole = 0.05 / (1 + 0.02 * self.age), 0.09 / (1 + 0.12 * self.age)
                mean = 0.8 * middle + 0.2 * value
                ends = (value - late, value + late, mean - whole, mean + whole)
                bound = Bound(0.005, *(max(0.0, end) for end in ends))
                measured[metric, symbol] = Measurement(
                    (value,), 1800, at, (bound,), effective_samples=430
                )
            lag = self.bad.get(("lag", symbol), 240.0) * (1 + 0.2 * self.random.random())
            measured["merge_time_diff_ms_p99", symbol] = Measurement((lag,), 5000, at)
        symbols = self.spec.symbols.canary
        heard = dict.fromkeys(symbols, at)
        # Before the windows are full there are no figures.
        measured = measured if warmup >= 1 else {}
        filled = dict.fromkeys(symbols, warmup)
        return MetricsSeen(measured, heard, filled, revision=self.target.name)


class Stage:
    """Where scenes are put."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def path(self, name: str) -> str:
        root = "/apis/signalcanary.dev/v1alpha1"
        return f"{root}/namespaces/{self.namespace}/signalcanaries/{name}"

    def put(self, name: str, scene: Story) -> None:
        """Make it, or write its status."""
        item = scene.item()
        if self.api.request("GET", self.path(name))[0] == 404:
            about = {key: item[key] for key in ("apiVersion", "kind", "spec")}
            self.api.apply({**about, "metadata": {"name": name, "namespace": self.namespace}})
            self._record(name, scene)
        live = self.api.must("GET", self.path(name))
        self.api.must("PUT", f"{self.path(name)}/status", {**live, "status": scene.status})

    def _record(self, name: str, scene: Story) -> None:
        """The ControllerRevision of its canary, as the operator keeps it."""
        owner = Owner(
            self.namespace, name, self.api.must("GET", self.path(name))["metadata"]["uid"]
        )
        revision = build_revision(scene.spec, "workloads:1")
        self.api.apply(build_controller_revision(owner, scene.target, revision))

    def play(self, name: str, scene: Story, looks: int, **metrics: Any) -> None:
        """Go on, writing every look, as the operator does."""
        for _ in range(looks):
            scene.looks(1, **metrics)
            self.put(name, scene)
