"""A report as people get it, for its picture: a canary whose order-flow imbalance turns around on
one symbol, judged on what the analysis itself exports, look by look, and drawn from what a real
Prometheus has recorded of it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration" / "operator"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "console"))

from api_server import find_tool
from console_kit import STABLE, Story
from report_kit import Analysis, Market, Scrape, open_metrics, recorded_prometheus

from signalcanary.api import SignalCanarySpec
from signalcanary.console.report_command import draw_history, read_curves
from signalcanary.contract import Fusion, Track
from signalcanary.evaluate import MetricsSeen
from signalcanary.metrics_source import assemble, build_target
from signalcanary.report import build_report
from signalcanary.report_page import render_page
from signalcanary.sources import SourceConfig

BEGAN = datetime(2026, 5, 1, 10, tzinfo=UTC)
TURNS = BEGAN + timedelta(hours=5, minutes=30)
MINUTE = timedelta(minutes=1)


def weights(ofi: float, cvd: float) -> dict[str, dict[str, float]]:
    return {regime: {"ofi": ofi, "cvd": cvd} for regime in ("baseline", "active", "quiet")}


SPEC = SignalCanarySpec.model_validate(
    {
        "version": "v2.1-imbalance",
        "symbols": {"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT", "ADAUSDT"]},
        "signal": {
            "fusion": weights(0.9, 0.1),
            "calibration": {"train": "1h", "test": "2h", "refit": "30m"},
        },
        "stages": [{"name": "shadow", "duration": "1h"}, {"name": "canary", "duration": "48h"}],
        "rollback": {
            "conditions": [
                {"metric": "platt_ece", "above": 0.1},
                {"metric": "slice_auc_active_period", "below": 0.55},
            ]
        },
        "evaluation": {"interval": "60s", "staleAfter": "5m"},
    }
)


def play() -> tuple[Story, str]:
    """The rollout, until it is rolled back; and all that was scraped meanwhile."""
    story = Story(SPEC, BEGAN)
    story.look(MetricsSeen())
    signals = {
        Track.CANARY: SPEC.signal,
        Track.STABLE: SPEC.signal.model_copy(
            update={"fusion": Fusion.model_validate(weights(0.2, 0.8))}
        ),
    }
    revisions = {Track.CANARY: story.target.name, Track.STABLE: STABLE.name}
    running = []
    for seed, symbol in enumerate(SPEC.symbols.canary):
        market = Market(20 + seed, BEGAN - timedelta(hours=3), timedelta(hours=12))
        if symbol == "BTCUSDT":
            market.break_imbalance(TURNS)
        running += [
            Analysis(market, symbol, signals[t], ("trading", "demo", t, revisions[t]))
            for t in Track
        ]
    target = build_target(SPEC, "trading", "demo", story.target.name)
    scrapes: list[Scrape] = []
    while story.status["phase"] in ("Pending", "Warming", "Progressing"):
        now = story.now + MINUTE
        is_reported = not len(scrapes) % 10
        series = [s for each in running for s in each.scrape(now, is_reported=is_reported)]
        scrapes.append((now, series))
        story.look(assemble([target], series)[target])
        assert now < BEGAN + timedelta(hours=9), story.status
    # The last report is as of the decision, as it nearly is where reports are made at their pace.
    scrapes[-1] = (now, [one for each in running for one in each.scrape(now)])
    story.tracks = {}
    story.look(MetricsSeen())
    return story, open_metrics(scrapes)


def write_report(folder: Path) -> Path:
    """The report as an HTML file."""
    story, text = play()
    item = story.item()
    programs = (find_tool("promtool"), find_tool("prometheus"))
    with recorded_prometheus(folder, programs, text) as url:
        source = SourceConfig(url=url)
        report = read_curves(build_report(item), item, source)
        picture = draw_history(report, item, source, None)
    file = folder / "report.html"
    file.write_text(render_page(report, picture, []), encoding="utf-8")
    return file


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1])))
