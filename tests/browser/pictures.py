"""Makes the pictures of docs/dashboard.md, from rollouts on a real API server, and that of
docs/cli.md, from a report out of a real Prometheus: `make pictures`."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration" / "operator"))

from api_server import ADMIN, running_api_server
from dashboard_kit import Served, served
from PIL import Image
from report_page import write_report
from scenes import SYMBOLS, Scene, Stage, build_spec

from browser import Page, running_browser

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "docs" / "pictures"
TWO = SYMBOLS[:2]
MOST_BYTES = 150_000


def stories(stage: Stage) -> None:
    """A fleet in which something of everything goes on."""
    quick = [{"name": "canary", "duration": "20m"}]
    slow = build_spec(TWO, version="v2.2")
    begun = {
        "ofi-cvd-fusion": Scene(build_spec(TWO), 43),
        "ofi-wide": Scene(build_spec(SYMBOLS, version="v3.0-wide"), 26),
        "cvd-fast": Scene(build_spec(TWO, version="v2.3"), 60),
        "cvd-slow": Scene(slow, 20 + until_breached(Scene(slow, 99))),
        "btc-only": Scene(build_spec(SYMBOLS[:1], version="v1.9", stages=quick), 26),
        "models-rc": Scene(build_spec(SYMBOLS[:3], version="v4-rc1"), 4),
    }
    for name, scene in begun.items():
        stage.put(name, scene)

    def play_to(name: str, until: timedelta) -> None:
        while begun[name].now < datetime.now(UTC) - until:
            stage.play(name, begun[name], 1)

    minute = timedelta(minutes=1)
    # One turns around, and is taken back.
    stage.play("cvd-fast", begun["cvd-fast"], 30)
    begun["cvd-fast"].bad["slice_auc_active_period", "ETHUSDT"] = 0.45
    while begun["cvd-fast"].status["phase"] == "Progressing":
        stage.play("cvd-fast", begun["cvd-fast"], 1)
    begun["cvd-fast"].tracks = {}
    stage.play("cvd-fast", begun["cvd-fast"], 1)
    play_to("btc-only", minute)
    begun["ofi-wide"].bad["lag", "TONUSDT"] = 1400.0
    play_to("ofi-wide", minute)
    for _ in range(3):
        stage.play("models-rc", begun["models-rc"], 1, warmup=0.41)
    play_to("ofi-cvd-fusion", minute)
    # One is breached right now.
    stage.play("cvd-slow", begun["cvd-slow"], 20)
    begun["cvd-slow"].bad["platt_ece", "BTCUSDT"] = 0.18
    while begun["cvd-slow"].status["health"] != "Breached":
        stage.play("cvd-slow", begun["cvd-slow"], 1)


def until_breached(scene: Scene) -> int:
    """Minutes from where it turns bad to the breach; the same values come again each time."""
    scene.looks(20)
    scene.bad["platt_ece", "BTCUSDT"] = 0.18
    began = scene.now
    while scene.status["health"] != "Breached":
        scene.looks(1)
    return round((scene.now - began) / timedelta(minutes=1))


def take(page: Page, dashboard: Served, name: str, file: str, height: int, **look: bool) -> None:
    """A picture of the fleet, or of a rollout."""
    page.go("about:blank")
    width = 430 if look.get("is_phone") else 1200
    page.look(width, height, **look)
    page.go(dashboard.url + (f"#/trading/{name}" if name else ""))
    page.waits_for("document.querySelector('h1')")
    page.waits_for("document.querySelector('#link.live')")
    path = FOLDER / f"{file}.png"
    page.shoot(path)
    shrink(path)


def take_report(page: Page, folder: Path) -> None:
    """The curves of a report."""
    page.look(1200, 760)
    page.go(write_report(folder).as_uri())
    page.waits_for("document.querySelector('.curves')")
    page.run(
        "document.querySelector('.curves').parentElement.querySelectorAll('h2').forEach("
        "h => h.textContent.startsWith('Calibration') && h.scrollIntoView())"
    )
    path = FOLDER / "report.png"
    page.shoot(path)
    shrink(path)


def shrink(path: Path) -> None:
    with Image.open(path) as image:
        image.convert("RGB").quantize(256, kmeans=1).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES, path
    print(f"{path.relative_to(REPO)}: {path.stat().st_size // 1000} kB")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_api_server(folder) as api:
            stage = Stage(api, api.namespace("trading"))
            with served(api.kubeconfig(ADMIN), "-A") as dashboard, running_browser(folder) as page:
                stories(stage)
                take_report(page, folder)
                take(page, dashboard, "", "fleet", 700)
                take(page, dashboard, "ofi-cvd-fusion", "progressing", 1150)
                take(page, dashboard, "cvd-slow", "breached", 1150)
                take(page, dashboard, "cvd-fast", "rolled-back", 1150, is_dark=True)
                take(page, dashboard, "btc-only", "promoted", 1000)
                take(page, dashboard, "ofi-wide", "forty-symbols", 1400)
                take(page, dashboard, "cvd-slow", "phone", 1100, is_phone=True)


if __name__ == "__main__":
    main()
