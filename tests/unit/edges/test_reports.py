"""The report of each rollout is kept once, and keeping it holds nothing up."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from edges_kit import World

from signalcanary.cluster import ClusterError, Refused
from signalcanary.contract import ROC_TRUE_POSITIVES, VALUE_VALID
from signalcanary.metrics_source import Series, SourceTimeout, Target
from signalcanary.report import JSON_FILE, LABEL_REPORT, Outcome, Report
from signalcanary.reports import LIMIT
from signalcanary.store import Kind


@pytest.fixture
def world() -> World:
    return World()


def reports(world: World) -> list[Report]:
    return [
        Report.model_validate_json(item["data"][JSON_FILE])
        for (kind, _), item in world.cluster.objects.items()
        if kind is Kind.CONFIG_MAP and LABEL_REPORT in (item["metadata"].get("labels") or {})
    ]


async def roll_back(world: World) -> None:
    await world.settle()
    world.source.values["platt_ece"] = 0.5
    await world.rounds(20, 10.0)
    await world.settle()
    assert world.phase() == "RolledBack"
    world.source.values["platt_ece"] = 0.05


async def test_each_end_of_a_rollout_is_kept_and_only_once(world: World) -> None:
    world.create()
    await world.promote()
    assert [(r.outcome, r.canary.version) for r in reports(world)] == [(Outcome.PROMOTED, "v1")]
    world.create(version="v2")
    await roll_back(world)
    assert {(r.outcome, r.canary.version) for r in reports(world)} == {
        (Outcome.PROMOTED, "v1"),
        (Outcome.ROLLED_BACK, "v2"),
    }
    (second,) = (r for r in reports(world) if r.canary.version == "v2")
    assert second.stable is not None
    assert second.conditions[0].verdict == "Breached"
    world.cluster.calls.clear()
    await world.rounds(20, 31.0)
    assert world.cluster.calls == []


async def test_the_curves_are_read_once_as_of_the_decision(world: World) -> None:
    asked: list[datetime] = []

    def curves(target: Target, at: datetime) -> list[Series]:
        asked.append(at)
        labels = {
            "namespace": "default",
            "signalcanary": target.name,
            "track": "canary",
            "revision": target.revision,
            "symbol": "BTCUSDT",
            "horizon": "10s",
        }
        return [
            Series(VALUE_VALID, {**labels, "metric": "platt_ece", "reason": "warming"}, 0.0),
            Series(
                ROC_TRUE_POSITIVES, {**labels, "slice": "all", "false_positive_ratio": "0.2"}, 0.25
            ),
        ]

    world.source.curves = curves
    world.create()
    await world.promote()
    await world.rounds(5, 31.0)
    (report,) = reports(world)
    assert asked == [report.ended] == [report.curves_time]
    (btc,) = report.curves
    assert [p.true_positives for p in btc.roc[0].points] == [0.0, 0.25, 1.0]
    assert "the calibration windows were not filled yet" in btc.missing[0]
    world.restart()
    await world.poller.resync()
    await world.rounds(5, 31.0)
    assert len(asked) == 1, "what is kept already is not read anew"


async def test_a_report_is_kept_without_its_curves_if_the_source_is_ill(world: World) -> None:
    def away(target: Target, at: datetime) -> list[Series]:
        raise SourceTimeout("no answer within 8s")

    world.source.curves = away
    world.create()
    await world.promote()
    (report,) = reports(world)
    assert report.curves == ()
    assert report.curves_missing == ("The metrics source could not be read: no answer within 8s.")
    assert world.counted("metrics_source_failures_total", reason="SourceTimeout") == 1


async def test_a_report_is_the_object_s_and_goes_with_it(world: World) -> None:
    world.create()
    await world.promote()
    (item,) = (i for (_, key), i in world.cluster.objects.items() if "-report-" in key.name)
    (owner,) = item["metadata"]["ownerReferences"]
    assert owner["uid"] == world.item()["metadata"]["uid"]


async def test_a_report_that_cannot_be_kept_is_tried_again_and_holds_nothing_up(
    world: World,
) -> None:
    def away(call: str) -> None:
        if "-report-" in call:
            raise ClusterError("away")

    world.cluster.before = away
    world.create()
    await world.promote()
    assert world.phase() == "Succeeded"
    assert reports(world) == []
    world.cluster.before = lambda call: None
    await world.rounds(2, 31.0)
    assert len(reports(world)) == 1


async def test_a_report_that_is_refused_is_counted_and_not_tried_again(world: World) -> None:
    def refuse(call: str) -> None:
        if "-report-" in call:
            raise Refused("over quota")

    world.cluster.before = refuse
    world.create()
    await world.promote()
    await world.rounds(5, 31.0)
    assert world.phase() == "Succeeded"
    assert len([call for call in world.cluster.calls if "-report-" in call]) == 1
    assert world.counted("reconcile_errors_total", error="Refused") == 1


async def test_only_the_newest_are_kept(world: World) -> None:
    world.create()
    await world.promote()
    for n in range(LIMIT + 3):
        world.create(version=f"bad-{n}")
        await roll_back(world)
    kept = {r.canary.version for r in reports(world)}
    assert kept == {f"bad-{n}" for n in range(3, LIMIT + 3)}
