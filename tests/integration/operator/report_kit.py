"""Rollouts whose metrics are those of the analysis itself, on a market whose skill is known, and a
real Prometheus that has recorded them. For the tests of the report and for its picture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from api_server import eventually, free_ports, process

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "analysis"))

from test_coverage import draw_market

from signalcanary.contract import SignalConfig, Track, WorkloadConfig
from signalcanary.metrics_source import Series
from signalcanary_workloads.analysis.engine import Engine, EngineConfig
from signalcanary_workloads.analysis.exporter import AnalysisCollector
from signalcanary_workloads.analysis.report import Report
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows
from signalcanary_workloads.analysis.runner import SymbolState

REGIME_SECONDS = 1_500
PHI, SEEN = 0.9, 0.75
"""Autocorrelation of the flow a second, and how well the volume delta shows it."""


class Market:
    """Seconds of one symbol: the imbalance sees the flow, the volume delta most of it."""

    def __init__(self, seed: int, start: datetime, span: timedelta) -> None:
        rows = int(span.total_seconds())
        flow, mid, _ = draw_market(seed, 10, PHI, rows)
        noise = np.random.default_rng([seed, 7]).standard_normal(rows)
        order = np.arange(rows, dtype=np.int64)
        nothing = np.zeros(rows, np.int64)
        self.ts = int(start.timestamp() * 1_000) + 1_000 * order
        regime = (1 + order // REGIME_SECONDS % 2).astype(np.int8)
        self.features = FeatureRows(self.ts, 2 * order + 1, mid, flow, regime, nothing, nothing)
        seen = SEEN * flow + np.sqrt(1 - SEEN**2) * noise
        self.scores = CvdRows(self.ts, 2 * order, seen, np.ones(rows), np.ones(rows))

    def break_imbalance(self, at: datetime) -> None:
        """From then on it says the opposite."""
        self.features.z_ofi[self.ts >= at.timestamp() * 1_000] *= -1.0


class Analysis:
    """The analysis of one symbol on one track, as it runs, and what a scrape of it says."""

    def __init__(
        self, market: Market, symbol: str, signal: SignalConfig, whose: tuple[str, str, Track, str]
    ) -> None:
        namespace, name, track, revision = whose
        self._market, self._symbol = market, symbol
        self._engine = Engine(replace(EngineConfig.from_signal(signal), reported_ms=()))
        self._config = WorkloadConfig.model_validate(
            {
                "namespace": namespace,
                "name": name,
                "track": track,
                "revision": revision,
                "attempt": 1,
                "fingerprint": "abc",
                "version": "v",
                "shards": [[symbol]],
                "signal": signal.to_wire(),
                "source": {},
                "data_path": "/nowhere",
                "commit_interval": "1s",
            }
        )
        self._taken = 0
        self._report: Report | None = None

    def scrape(self, at: datetime, *, is_reported: bool = True) -> list[Series]:
        """Take in the rows until then, and say what Prometheus would read.

        Args:
            is_reported: whether a report is made, which is dear; else the last one is shown.
        """
        market = self._market
        until = int(np.searchsorted(market.ts, at.timestamp() * 1_000))
        new = slice(self._taken, until)
        self._engine.take_in(
            market.features.take(new), market.scores.take(np.arange(*new.indices(market.ts.size)))
        )
        self._taken = until
        if is_reported:
            self._report = self._engine.report()
        state = SymbolState(
            self._symbol, self._engine.evaluate(), at.timestamp() - 1, report=self._report
        )
        collector = AnalysisCollector(self._config, lambda: [state])
        samples = (sample for family in collector.collect() for sample in family.samples)
        return [Series(s.name, dict(s.labels), s.value) for s in samples]


Scrape = tuple[datetime, Sequence[Series]]


def open_metrics(scrapes: Iterable[Scrape]) -> str:
    """Scrapes as one OpenMetrics text, oldest first."""
    by_name: dict[str, dict[str, list[str]]] = {}
    for at, series in scrapes:
        for one in series:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(one.labels.items()))
            lines = by_name.setdefault(one.metric, {}).setdefault(labels, [])
            lines.append(f"{one.metric}{{{labels}}} {one.value} {at.timestamp():.3f}")
    text = []
    for name, by_labels in by_name.items():
        text.append(f"# TYPE {name} unknown")
        text += [line for lines in by_labels.values() for line in lines]
    return "\n".join([*text, "# EOF\n"]).replace(" inf ", " +Inf ").replace(" -inf ", " -Inf ")


@contextmanager
def recorded_prometheus(folder: Path, programs: tuple[str, str], text: str) -> Iterator[str]:
    """A Prometheus that has what an OpenMetrics text says, however long ago; gives its address.

    Args:
        programs: promtool and prometheus.
    """
    promtool, prometheus = programs
    metrics, data = folder / "metrics", folder / "data"
    metrics.write_text(text)
    fill = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(metrics), str(data)]
    subprocess.run(fill, check=True, capture_output=True)
    config, log = folder / "prometheus.yml", folder / "log"
    config.write_text("{}\n")
    (port,) = free_ports(1)
    command = [
        prometheus,
        f"--web.listen-address=127.0.0.1:{port}",
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=50y",
    ]
    with process(command, log, cwd=folder):
        eventually("it is ready", lambda: "ready to receive web requests" in log.read_text(), 60)
        yield f"http://127.0.0.1:{port}"
