"""How long nobody is heard on the stable track at a promotion: one JSON object, no judgement.

Run: make bench-pause, or python -m benchmarks.promotion_pause [--promotions 5]. The demo's good
signal is promoted again and again under new version names, by the operator's own decisions, with
real harvest and analysis processes on this machine. The pause is read from the record of what was
published: the first signal of the new version less the last one of the old, on the wall clock.
docs/designs/003-signals.md says why there is one, and what else it takes on a cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import Spread
from signalcanary.api import SignalCanarySpec
from signalcanary.contract import Track
from signalcanary.local.demo import STORIES, find_manifests
from signalcanary.local.run import SPEED, follow, load_one, local_rollout, running_exchange
from signalcanary.local.world import Look
from signalcanary.rollout import Phase
from signalcanary_workloads.store import ManifestReader, open_storage, read_part

LOOKS_AFTER = 5
HARMLESS = {"metric": "platt_ece", "above": 0.9, "for": "8s", "minSamples": 100}
"""Of the demo's conditions some are about the machine: a busy one would take the version back."""


def say(text: str) -> None:
    """To people."""
    print(text, file=sys.stderr, flush=True)


def published(folder: Path, version: str) -> dict[str, list[dict[str, Any]]]:
    """The signals that a version published as stable, by symbol, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for manifest in sorted(folder.rglob("signals/manifest/symbol=*")):
        symbol = manifest.name.removeprefix("symbol=")
        storage = open_storage(str(manifest.parents[1]))
        rows = [
            row
            for entry in ManifestReader(storage, symbol).poll(limit=1_000_000)
            for part in entry.parts
            for row in read_part(storage, part).to_pylist()
            if row["published"] and row["track"] == Track.STABLE and row["version"] == version
        ]
        if rows:
            found.setdefault(symbol, []).extend(rows)
    return {symbol: sorted(rows, key=lambda row: row["ts"]) for symbol, rows in found.items()}


def pauses(folder: Path, old: str, new: str) -> Iterator[float]:
    """Seconds between the two, of each symbol that both have published."""
    before, after = published(folder, old), published(folder, new)
    for symbol in sorted(before.keys() & after.keys()):
        last, first = before[symbol][-1], after[symbol][0]
        assert last["emitted_ns"] < first["emitted_ns"], "two were heard at once"
        yield (first["emitted_ns"] - last["emitted_ns"]) / 1e9


@dataclass
class Published:
    """A version is stable, and has had the right to publish for some looks."""

    version: str
    looks: int = 0

    def is_over(self, look: Look) -> bool:
        """Of one look; reads nothing, as that would hold the next one up.

        Raises:
            RuntimeError: it was rolled back.
        """
        state = look.state
        if state.phase is Phase.ROLLED_BACK:
            raise RuntimeError(f"{self.version} was rolled back: {state.message}")
        publisher = state.publisher
        self.looks += publisher is not None and publisher.version == self.version
        return self.looks > LOOKS_AFTER


async def measure(folder: Path, promotions: int) -> dict[str, Any]:
    """Promote one version after the other."""
    checked, good = load_one(find_manifests() / STORIES[0].file)
    names = [f"v{number}.0" for number in range(1, promotions + 2)]
    found: list[float] = []
    async with (
        running_exchange(good.symbols.full, SPEED, 1, folder) as exchange,
        local_rollout(checked.name, checked.namespace, folder) as rollout,
    ):
        for old, new in zip([None, *names], names, strict=False):
            say(f"{new} is rolled out …")
            changes = {"version": new, "rollback": {"conditions": [HARMLESS]}}
            spec = SignalCanarySpec.model_validate(good.to_wire() | changes)
            rollout.apply(exchange.redirect(spec))
            await follow(rollout, lambda _: None, Published(new).is_over, exchange.check)
            if old is not None:
                these = list(pauses(folder, old, new))
                say(f"  {', '.join(f'{one:.2f} s' for one in these)}")
                found += these
    spread = Spread.of(found)
    return {
        "pause_s": {"median": round(spread.median, 2), "least_most": spread.to_json(2)},
        "promotions": promotions,
        "symbols": len(good.symbols.full),
        "commit_interval_s": good.storage.commit_interval.total_seconds(),
        "evaluation_interval_s": good.evaluation.interval.total_seconds(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--promotions", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), chosen.promotions))))


if __name__ == "__main__":
    main()
