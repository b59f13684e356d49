"""The page's values from before it was opened, out of a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from api_server import ADMIN, ApiServer
from dashboard_kit import served
from report_kit import recorded_prometheus
from scenes import Scene, Stage, build_spec

from signalcanary.contract import (
    EVIDENCE_BOUND,
    EVIDENCE_LEVELS,
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HEARTBEAT,
)

SYMBOL = "BTCUSDT"
ECE = {"conditions": [{"metric": "platt_ece", "above": 0.1, "for": "2m"}]}
STEP_SECONDS = 15
BEFORE = timedelta(minutes=30)


def ece_at(seconds_ago: float) -> float:
    """What was exported then: rising for half an hour."""
    return round(0.06 - seconds_ago / 1e5, 6)


def exported(stage: Stage, scene: Scene) -> str:
    """The last half hour as OpenMetrics."""
    own = f'namespace="{stage.namespace}",signalcanary="demo",track="canary",'
    own += f'revision="{scene.target.name}",symbol="{SYMBOL}"'
    judged = own + ',horizon="10s"'
    of_ece = judged + ',metric="platt_ece"'
    series: dict[str, dict[str, Any]] = {
        "platt_ece": {judged: lambda at, value: value},
        EVIDENCE_TIMESTAMP: {of_ece: lambda at, value: at},
        EVIDENCE_SAMPLES: {of_ece: lambda at, value: 1800},
        HEARTBEAT: {own: lambda at, value: at},
        EVIDENCE_BOUND: {
            f'{of_ece},level="{level}",side="{side}",window="{window}"': (
                lambda at, value, off=off: value + off
            )
            for level in EVIDENCE_LEVELS
            for side, window, off in (
                ("lower", "now", -0.02),
                ("upper", "now", 0.02),
                ("lower", "whole", -0.01),
                ("upper", "whole", 0.01),
            )
        },
    }
    now = int(datetime.now(UTC).timestamp())
    lines = []
    for name, by_labels in series.items():
        lines.append(f"# TYPE {name} gauge")
        for labels, value_of in by_labels.items():
            for ago in range(int(BEFORE.total_seconds()), -1, -STEP_SECONDS):
                value = value_of(now - ago, ece_at(ago))
                lines.append(f"{name}{{{labels}}} {value} {now - ago}")
    return "\n".join([*lines, "# EOF\n"])


@pytest.fixture
def demo(api: ApiServer, namespace: str) -> tuple[Stage, Scene]:
    stage = Stage(api, namespace)
    scene = Scene(build_spec([SYMBOL], rollback=ECE), int(BEFORE / timedelta(minutes=1)))
    stage.put("demo", scene)
    while scene.now < datetime.now(UTC) - timedelta(minutes=1):
        scene.looks(1)
    stage.put("demo", scene)
    return stage, scene


@pytest.fixture
def prometheus(
    tmp_path: Path, promtool: str, prometheus_program: str, demo: tuple[Stage, Scene]
) -> Iterator[str]:
    """A Prometheus that has the last half hour."""
    programs = promtool, prometheus_program
    with recorded_prometheus(tmp_path, programs, exported(*demo)) as url:
        yield url


def points_of(document: Any) -> list[list[float]]:
    (condition,) = document["shown"]["conditions"]
    points: list[list[float]] = condition["symbols"][0]["points"]
    return points


def test_values_from_before_it_was_opened_are_drawn_with_their_evidence(
    api: ApiServer, demo: tuple[Stage, Scene], prometheus: str
) -> None:
    stage, _ = demo
    began = datetime.now(UTC).timestamp()
    options = (f"--namespace={stage.namespace}", f"--prometheus={prometheus}")
    with (
        served(api.kubeconfig(ADMIN), *options) as page,
        page.stream(f"{stage.namespace}/demo") as stream,
    ):
        document = stream.until("the past", "rollout", lambda r: len(points_of(r)) > 100)
    past = [point for point in points_of(document) if point[0] < began - 60]
    assert past[0][0] < began - 25 * 60
    at, value, lower, upper, whole_lower, whole_upper = past[len(past) // 2]
    assert abs(value - ece_at(began - at)) < 5e-4
    ends = (lower - value, upper - value, whole_lower - value, whole_upper - value)
    assert ends == pytest.approx((-0.02, 0.02, -0.01, 0.01))
    assert document["shown"]["notes"] == []
    assert document["shown"]["curvesFrom"] == ""


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("http://127.0.0.1:9", "SourceUnreachable"),
        # Asked through the API server, which knows no such Service.
        ("monitoring/prometheus:9090", 'services "prometheus" not found'),
    ],
)
def test_a_prometheus_that_cannot_be_read_is_a_note_and_no_more(
    api: ApiServer, demo: tuple[Stage, Scene], where: str, complaint: str
) -> None:
    stage, scene = demo
    options = (f"--namespace={stage.namespace}", f"--prometheus={where}")
    with (
        served(api.kubeconfig(ADMIN), *options) as page,
        page.stream(f"{stage.namespace}/demo") as stream,
    ):
        document = stream.until("the note", "rollout", lambda r: r["shown"]["notes"])
        (note,) = document["shown"]["notes"]
        assert note.startswith("Values from before cannot be read from Prometheus: ")
        assert complaint in note
        stage.play("demo", scene, 1)
        stream.until("what it sees itself", "rollout", lambda r: len(points_of(r)) == 2)
