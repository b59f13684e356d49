"""Whose a series is: the labels that every series of a workload begins with."""

from __future__ import annotations

from typing import Final

from signalcanary.contract import MetricLabel, WorkloadConfig

COMMON: Final = tuple(
    label.value
    for label in (
        MetricLabel.NAMESPACE,
        MetricLabel.NAME,
        MetricLabel.TRACK,
        MetricLabel.REVISION,
    )
)
OF_SYMBOL: Final = (*COMMON, MetricLabel.SYMBOL.value)


def common_values(config: WorkloadConfig) -> tuple[str, ...]:
    """Those of `COMMON`, of a workload."""
    return (config.namespace, config.name, config.track.value, config.revision)
