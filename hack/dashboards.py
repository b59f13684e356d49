#!/usr/bin/env python3
"""The two Grafana dashboards of the chart, as tables of panels.

Why it exists: Grafana's JSON is thirty lines a panel, of which one or two matter. `make
dashboards` writes charts/signalcanary/dashboards; a test keeps them in step, and another asks a
real Prometheus each query.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import grafana_fleet
import grafana_rollout
from grafana_kit import render

FOLDER = Path(__file__).resolve().parents[1] / "charts/signalcanary/dashboards"
DASHBOARDS = {"rollout.json": grafana_rollout.DASHBOARD, "fleet.json": grafana_fleet.DASHBOARD}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / name).write_text(render(dashboard))


if __name__ == "__main__":
    main()
