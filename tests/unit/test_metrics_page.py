"""docs/metrics.md: every series of harvest, analysis and the operator, as they describe themselves.

The page is made from the very collectors that a scrape asks. `make docs` writes it; a test keeps
it in step, and holds the names to Prometheus' conventions but for those that the reports gave.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from signalcanary.contract import CORE_METRICS, Control, SignalConfig, Track, WorkloadConfig
from signalcanary.telemetry import OperatorMetrics
from signalcanary_workloads.analysis.exporter import AnalysisCollector
from signalcanary_workloads.analysis.models import ModelMetrics
from signalcanary_workloads.analysis.publish import SignalMetrics
from signalcanary_workloads.analysis.runner import SymbolState
from signalcanary_workloads.analysis.snapshot_keeper import SnapshotMetrics
from signalcanary_workloads.harvest.app import Harvest
from signalcanary_workloads.harvest.metrics import OpeningCollector
from signalcanary_workloads.harvest.settings import Settings
from signalcanary_workloads.harvest.sink import SymbolSink
from signalcanary_workloads.serving import Health
from signalcanary_workloads.store import open_storage

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
SYMBOL = "BTCUSDT"
SEED_001 = {
    "cvd_z_tail_p2",
    "cvd_z_tail_p3",
    "cvd_z_p95",
    "cvd_floor_hit_rate",
    "cvd_scale_median",
    "cvd_messages_total",
    "cvd_latency",
    "cvd_processing_duration_seconds",
    "cvd_config_version",
    "cvd_errors_total",
}
SEED_002 = {metric.name for metric in CORE_METRICS} - SEED_001
UNITS = {
    "_timestamp_seconds": "Unix time, s",
    "_seconds": "s",
    "_bytes": "bytes",
    "_ratio": "0–1",
    "_total": "count",
    "_samples": "rows",
}
SEED_UNITS = {
    "cvd_z_tail_p2": "percent",
    "cvd_z_tail_p3": "percent",
    "cvd_z_p95": "z-score",
    "cvd_floor_hit_rate": "0–1",
    "cvd_scale_median": "quote currency",
    "cvd_latency": "s",
    "cvd_config_version": "1",
    "cvd_scale_usdt": "quote currency",
    "cvd_abs_z": "z-score",
    "signal_brier_skill_ratio": "up to 1",
    "signal_brier_skill_lower_ratio": "up to 1",
    "signal_brier_skill_upper_ratio": "up to 1",
    **dict.fromkeys(
        (
            "signal_difference",
            "signal_difference_bound",
            "signal_difference_lower",
            "signal_difference_upper",
            "signal_evidence_bound",
            "signal_evidence_lower",
            "signal_evidence_upper",
            "signalcanary_condition_bound",
            "signalcanary_condition_threshold",
            "signalcanary_condition_value",
        ),
        "the metric's",
    ),
}


class Family(NamedTuple):
    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


@pytest.fixture
def config(tmp_path: Path) -> WorkloadConfig:
    signal = SignalConfig()
    return WorkloadConfig.model_validate(
        {
            "namespace": "default",
            "name": "demo",
            "track": Track.CANARY,
            "revision": "r1",
            "attempt": 1,
            "fingerprint": "abc",
            "version": "v1",
            "shards": [[SYMBOL]],
            "signal": signal.to_wire(),
            "source": {},
            "data_path": str(tmp_path),
            "commit_interval": "1s",
        }
    ).model_copy(update={"control": Control(revision="r0", signal=signal)})


def describe(metrics: Iterable[Metric]) -> Iterator[Family]:
    """Families that a collector of ours yields, which know their labels without a sample."""
    for metric in metrics:
        name = metric.name + ("_total" if metric.type == "counter" else "")
        labels = tuple(getattr(metric, "_labelnames", ()))
        yield Family(name, metric.type, tuple(str(label) for label in labels), metric.documentation)


def describe_registry(registry: CollectorRegistry) -> Iterator[Family]:
    """Metrics of the library, which know their labels before any has a value, and ours."""
    for collector in registry._collector_to_names:
        if not isinstance(collector, MetricWrapperBase):
            yield from describe(collector.collect())
            continue
        (metric,) = collector.collect()
        name = metric.name + ("_total" if metric.type == "counter" else "")
        yield Family(name, metric.type, collector._labelnames, metric.documentation)


@pytest.fixture
def families(config: WorkloadConfig) -> dict[str, list[Family]]:
    sink = SymbolSink(open_storage(config.data_path), SYMBOL)
    try:
        harvest = Harvest(config, {SYMBOL: sink}, Settings(), Health())
        of_harvest = [
            *describe(OpeningCollector(config, {}).collect()),
            *describe(harvest.collector().collect()),
        ]
    finally:
        sink.close()
    registry, operator = CollectorRegistry(), CollectorRegistry()
    SignalMetrics(registry, config, [SYMBOL])
    SnapshotMetrics(registry, config, [SYMBOL])
    ModelMetrics(registry, config)
    OperatorMetrics(operator)
    analysis = AnalysisCollector(config, lambda: [SymbolState(SYMBOL)])
    return {
        "Harvest": of_harvest,
        "Analysis": [*describe(analysis.collect()), *describe_registry(registry)],
        "The operator": list(describe_registry(operator)),
    }


def unit_of(family: Family) -> str:
    core = {metric.name: metric.unit.value for metric in CORE_METRICS}
    if family.name in SEED_UNITS:
        return SEED_UNITS[family.name]
    if family.name in core:
        return {"ratio": "0–1"}.get(core[family.name], core[family.name])
    return next((unit for end, unit in UNITS.items() if family.name.endswith(end)), "")


def source_of(family: Family) -> str:
    if family.name in SEED_001 or family.name.startswith("cvd_parameter_"):
        return "report of phase A1"
    return "report of the canary" if family.name in SEED_002 else ""


def page(families: dict[str, list[Family]]) -> str:
    lines = [
        "# Metrics",
        "",
        "Written by `make docs` from the collectors themselves.",
        "",
        "Names that the two reports gave which this project automates are kept as they are, though",
        "some break Prometheus' conventions (units, ratios in percent, quantiles in the name);",
        "beside each stands one that follows them. A series whose value is not valid is not there:",
        "no NaN, no neutral number. Labels in common of harvest and analysis: `namespace`,",
        "`signalcanary`, `track`, `revision`.",
    ]
    common = {"namespace", "signalcanary", "track", "revision"}
    for who, found in families.items():
        lines += ["", f"## {who}", "", "| name | type | unit | labels | meaning | source |"]
        lines.append("|---|---|---|---|---|---|")
        for family in sorted(found):
            labels = ", ".join(f"`{label}`" for label in family.labels if label not in common)
            lines.append(
                f"| `{family.name}` | {family.kind} | {unit_of(family)} | {labels} "
                f"| {family.meaning.replace('|', '∣')} | {source_of(family)} |"
            )
    return "\n".join(lines) + "\n"


def test_the_page_is_in_step_with_the_collectors(families: dict[str, list[Family]]) -> None:
    text = page(families)
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "run make docs"


def test_every_name_of_the_reports_is_exported(families: dict[str, list[Family]]) -> None:
    names = {family.name for found in families.values() for family in found}
    assert names >= SEED_001 | SEED_002


def test_names_follow_the_conventions_but_for_those_of_the_reports(
    families: dict[str, list[Family]],
) -> None:
    for found in families.values():
        assert len({family.name for family in found}) == len(found)
        for family in found:
            assert family.meaning.endswith("."), family
            if family.name in SEED_001 | SEED_002:
                continue
            reserved = ("_ms", "_percent", "_bucket", "_count", "_sum")
            assert not family.name.endswith(reserved), family
