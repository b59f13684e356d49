"""Write docs/error-rates.md: how often the policies err, by simulation.

`make error-rates` runs it in full; SIGNALCANARY_RUNS and SIGNALCANARY_DETECTION_RUNS set how many
histories a cell has. The same numbers give the same file, whenever it is run.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from signalcanary.api import Rollback, SignalCanarySpec
from signalcanary.backtest.null import CONFIDENCE, Estimate, estimate
from signalcanary.backtest.simulation import Decay, Market
from signalcanary.contract import format_duration

SEED: Final = 20260501
RUNS: Final = int(os.environ.get("SIGNALCANARY_RUNS", "400"))
DETECTION_RUNS: Final = int(os.environ.get("SIGNALCANARY_DETECTION_RUNS", str(RUNS)))
DETECTION_HOURS: Final = 24.0
AUC: Final = 0.58
DECAYS: Final = (
    Decay("AUC 0.50", auc=0.50),
    Decay("AUC 0.45", auc=0.45),
    Decay("ECE 0.15", calibration_error=0.15),
    Decay("ECE 0.2", calibration_error=0.2),
    Decay("sign flip", auc=1.0 - AUC),
)
LATE_HOURS: Final = 6.0
CELLS: Final = tuple((ar, horizon) for horizon in (10, 60) for ar in (0.8, 0.9, 0.97))


def spec_of(mode: str, *, waits: bool) -> SignalCanarySpec:
    """Seed 002's conditions on the signal, in one mode, with or without their `for`."""
    auc: dict[str, Any] = {"metric": "slice_auc_active_period", "below": 0.55, "mode": mode}
    ece: dict[str, Any] = {"metric": "platt_ece", "above": 0.1, "mode": mode}
    if waits:
        auc["for"], ece["for"] = "10m", "2m"
    return SignalCanarySpec.model_validate(
        {
            "version": "v1",
            "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]},
            "rollback": {"conditions": [auc, ece]},
        }
    )


POLICIES: Final = {
    "literal": spec_of("literal", waits=True),
    "guarded": spec_of("guarded", waits=False),
    "guarded, `for`": spec_of("guarded", waits=True),
}


Cell = dict[str, Estimate]
"""What became of the same histories under each policy."""


def main() -> int:
    """Simulate every cell, as many at a time as there are processors, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=Path("docs/error-rates.md"))
    file: Path = parser.parse_args().file
    near = [cell for cell in CELLS if cell[1] == CELLS[0][1]]
    with ProcessPoolExecutor() as pool:
        healthy = [pool.submit(_healthy, *cell) for cell in CELLS]
        detected = [[pool.submit(_detect, *cell, decay) for decay in DECAYS] for cell in CELLS]
        late = [
            [pool.submit(_detect, *cell, replace(d, after_hours=LATE_HOURS)) for d in DECAYS]
            for cell in near
        ]
        everything = [*healthy, *(one for row in (*detected, *late) for one in row)]
        for number, _ in enumerate(as_completed(everything), 1):
            print(f"{number} of {len(everything)}", file=sys.stderr, flush=True)
    file.write_text(
        render(
            [one.result() for one in healthy],
            [[one.result() for one in row] for row in detected],
            [[one.result() for one in row] for row in late],
        )
    )
    return 0


def _healthy(ar: float, horizon: int) -> Cell:
    market = Market(auc=AUC, ar=ar, horizon_seconds=horizon)
    return estimate(POLICIES, market, RUNS, SEED)


def _detect(ar: float, horizon: int, decay: Decay) -> Cell:
    market = Market(AUC, ar, horizon, hours=DETECTION_HOURS, decay=decay)
    return estimate(POLICIES, market, DETECTION_RUNS, SEED)


def render(healthy: list[Cell], detected: list[list[Cell]], late: list[list[Cell]]) -> str:
    """The document, of the cells that there are."""
    lines = [
        "# Error rates of the policies",
        "",
        "Made by `make error-rates` (`hack/error_rates.py`); not to be edited.",
        "",
        f"Each row: {RUNS} histories of 48 h of a healthy canary (AUC {AUC}, calibrated), and "
        f"{DETECTION_RUNS} of",
        f"{DETECTION_HOURS:g} h of one that decays when its first stage begins; one symbol, seed "
        f"{SEED}, a look a minute.",
        "AR: autocorrelation of the score a second. The conditions: `slice_auc_active_period` <",
        "0.55 and `platt_ece` > 0.1, on a test window of 1,800 s. `literal` and `for` wait 10m and "
        "2m, as the",
        "[quickstart](../examples/quickstart.yaml) has it; `guarded` are the defaults, which do "
        "not wait.",
        f"`errorRate` is {Rollback().error_rate:g}. The model and what it leaves out: "
        "[backtest.md](backtest.md).",
        "",
        "## Healthy canaries rolled back in 48 h",
        "",
        f"In brackets the upper {100 * CONFIDENCE:g} % limit of the rate (one-sided, "
        "Clopper–Pearson). *Promoted*: proven good",
        "by the end of 48 h; the others wait for evidence.",
        "",
        "| horizon | AR | policy | rolled back | by AUC | by ECE | promoted |",
        "|---|---|---|---|---|---|---|",
    ]
    for (ar, horizon), cell in zip(CELLS, healthy, strict=False):
        for name, found in cell.items():
            by = found.by_cause
            by_auc, by_ece = (
                sum(n for key, n in by.items() if key.startswith(metric))
                for metric in ("slice_auc", "platt_ece")
            )
            lines.append(
                f"| {horizon} s | {ar} | {name} | {found.rate:.1%} ({found.upper_limit:.1%}) | "
                f"{by_auc} | {by_ece} | {found.promoted / found.runs:.0%} |"
            )
    lines += [
        "",
        "## Median delay from the decay to the rollback",
        "",
        "Our goals, at a horizon of 10 s: 3h for an AUC of 0.50, 1h for 0.45, minutes for a flip "
        "of the sign.",
        "Where a median is above, the goal is missed by as much.",
        "",
        f"`> {DETECTION_HOURS:g}h`: less than half were found in that time; in brackets the share "
        "that was. A literal policy",
        "is quick because it rolls back whatever it sees.",
        "",
        f"| horizon | AR | policy | {' | '.join(decay.name for decay in DECAYS)} |",
        "|---|---|---|" + "---|" * len(DECAYS),
    ]
    lines += _delay_rows(detected, list(POLICIES))
    lines += [
        "",
        f"## The same, {LATE_HOURS:g} h after the first stage began",
        "",
        "All that was seen before then speaks for the canary, so only the moving windows find it.",
        "",
        f"| horizon | AR | policy | {' | '.join(decay.name for decay in DECAYS)} |",
        "|---|---|---|" + "---|" * len(DECAYS),
    ]
    lines += _delay_rows(late, [name for name in POLICIES if name != "literal"])
    return "\n".join(lines) + "\n"


def _delay_rows(detected: list[list[Cell]], names: list[str]) -> Iterator[str]:
    for (ar, horizon), cells in zip(CELLS, detected, strict=False):
        for name in names:
            delays = " | ".join(_delay(of_decay[name]) for of_decay in cells)
            yield f"| {horizon} s | {ar} | {name} | {delays} |"


def _delay(found: Estimate) -> str:
    middle = found.delay_hours(0.5)
    if not math.isfinite(middle):
        return f"> {DETECTION_HOURS:g}h ({found.rate:.0%})"
    return format_duration(timedelta(minutes=round(60 * middle)))


if __name__ == "__main__":
    raise SystemExit(main())
