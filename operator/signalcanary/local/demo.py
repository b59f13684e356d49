"""The demo: one SignalCanary lives through a promotion and a rollback, in under two minutes.

Everything is real but the market: the workloads, the metrics, the decisions. The market is
synthetic, 120 times as fast as real time, and made so that order-flow imbalance leads the price
while the volume delta says nothing about it. So a configuration that weighs the former is
good, and one that weighs only the latter tosses coins; that is known, not hoped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import Track
from signalcanary.local.describe import describe_look
from signalcanary.local.run import (
    SPEED,
    Exchange,
    RunError,
    Stage,
    choose_reporter,
    follow,
    load_one,
    local_rollout,
    running_exchange,
)
from signalcanary.local.world import LocalRollout, Look, Slot
from signalcanary.rollout import (
    Phase,
)

HOLD_SECONDS: Final = 2.0
"""How long the end of a story stays on show."""
STORY_LIMIT_SECONDS: Final = 150.0
"""Longer than this means that something is wrong, not slow."""


@dataclass(frozen=True)
class Story:
    """One configuration and what should become of it."""

    file: str
    title: str
    about: tuple[str, ...]
    expected: Phase


STORIES: Final = (
    Story(
        "v1.yaml",
        "1 of 2 · v1.0, a good signal: it should be promoted",
        (
            "A trading signal predicts whether the price rises within 10 s. v1.0 weighs "
            "order-flow imbalance most, which",
            "leads the price on this market. It runs on two symbols first, is judged on live "
            "evidence, then on all three.",
        ),
        Phase.SUCCEEDED,
    ),
    Story(
        "v2.yaml",
        "2 of 2 · v2.0, a bad signal: it should be rolled back",
        (
            "Someone puts all weight on the volume delta, which says nothing about this "
            "market's price: a coin toss,",
            "AUC ≈ 0.5. v2.0 runs as a canary beside v1.0, which goes on serving whatever "
            "happens to the canary.",
        ),
        Phase.ROLLED_BACK,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """How a story ended."""

    story: Story
    look: Look
    took_seconds: float
    stable_pids: Mapping[Slot, int | None]
    stable_restarts: int

    @property
    def is_as_expected(self) -> bool:
        return self.look.state.phase is self.story.expected


def find_manifests() -> Path:
    """The demo's manifests, which are examples of the repository.

    Raises:
        RunError: this is no checkout of the repository.
    """
    folder = Path(__file__).resolve().parents[3] / "examples" / "demo"
    if not (folder / STORIES[0].file).is_file():
        raise RunError("the demo runs from a checkout of the repository: its manifests are there")
    return folder


def describe_outcome(outcome: Outcome) -> str:
    """The closing line of a story."""
    look, took = outcome.look, f"{outcome.took_seconds:.0f} s"
    version, state = look.spec.version, look.state
    if state.phase is Phase.SUCCEEDED and state.stable and state.stable.version == version:
        return f"{version} promoted after {took}"
    if state.phase is Phase.ROLLED_BACK:
        message: str = look.document["status"]["message"]
        why = message.removeprefix(f"rolled back {version}: ")
        return f"{version} rolled back after {took}: {why}"
    progress = look.document["status"]["message"]
    return f"{version} is still {state.phase} after {took}: {progress}"


def describe_so_far(outcome: Outcome) -> str:
    """The closing line of an earlier story, with the processes that run since."""
    return f"before: {describe_outcome(outcome)}; it runs on as {_pids(outcome.stable_pids)}"


def _pids(pids: Mapping[Slot, int | None]) -> str:
    texts = [f"{slot.component} {pid}" for slot, pid in pids.items()]
    return ", ".join(sorted(texts, reverse=True)) or "nothing"


def describe_untouched(before: Outcome, after: Outcome) -> tuple[bool, str]:
    """Whether the stable processes of one story are those of the next, in words."""
    assert before.look.state.stable is not None  # it was promoted
    version = before.look.state.stable.version
    pids = _pids(before.stable_pids)
    if before.stable_pids and before.stable_pids == after.stable_pids and not after.stable_restarts:
        return True, f"{version} was not touched by v2.0: the same processes ran all along ({pids})"
    now = _pids(after.stable_pids)
    return False, f"{version} was disturbed: its processes were {pids}, and are {now}"


async def run_demo(folder: Path, is_plain: bool, seed: int) -> int:
    """Tell both stories; 0 if both ended as they should.

    Raises:
        RunError: the demo cannot run.
    """
    manifests = find_manifests()
    loaded = [load_one(manifests / story.file) for story in STORIES]
    checked, first = loaded[0]
    began_seconds = time.monotonic()
    outcomes: list[Outcome] = []
    stage = Stage(choose_reporter(is_plain), began_seconds)
    try:
        async with (
            running_exchange(first.symbols.full, SPEED, seed, folder) as exchange,
            local_rollout(checked.name, checked.namespace, folder) as rollout,
        ):
            for story, (_, spec) in zip(STORIES, loaded, strict=True):
                facts = (exchange.description, *map(describe_so_far, outcomes))
                outcomes.append(await _tell(story, spec, rollout, exchange, stage, facts))
                if not outcomes[-1].is_as_expected:
                    break
    finally:
        stage.reporter.close()
    return _conclude(outcomes, time.monotonic() - began_seconds)


async def _tell(
    story: Story,
    spec: SignalCanarySpec,
    rollout: LocalRollout,
    exchange: Exchange,
    stage: Stage,
    facts: tuple[str, ...],
) -> Outcome:
    began_seconds = stage.elapsed()
    settled_seconds: float | None = None
    rollout.apply(exchange.redirect(spec))

    def show(look: Look) -> None:
        stage.show(look, f"SignalCanary demo · {story.title}", story.about, facts)

    def is_over(look: Look) -> bool:
        nonlocal settled_seconds
        if settled_seconds is None and look.is_settled:
            settled_seconds = stage.elapsed()
        if settled_seconds is not None:
            return stage.elapsed() - settled_seconds >= HOLD_SECONDS
        return stage.elapsed() - began_seconds >= STORY_LIMIT_SECONDS

    look = await follow(rollout, show, is_over, exchange.check)
    ended_seconds = settled_seconds if settled_seconds is not None else stage.elapsed()
    stable = [p for p in look.processes if p.slot.track is Track.STABLE]
    return Outcome(
        story,
        look,
        ended_seconds - began_seconds,
        {process.slot: process.seen.pid for process in stable},
        sum(process.seen.restarts for process in stable),
    )


def _conclude(outcomes: list[Outcome], took_seconds: float) -> int:
    for outcome in outcomes:
        print(f"\n$ kubectl describe signalcanary demo-signal   # {outcome.story.title}\n")
        print(describe_look(outcome.look))
    for outcome in outcomes:
        print(describe_outcome(outcome))
    failed = [o for o in outcomes if not o.is_as_expected]
    if failed:
        (outcome,) = failed
        print(f"the demo failed: {outcome.look.spec.version} should be {outcome.story.expected}")
        return 1
    is_untouched, words = describe_untouched(*outcomes)
    print(words)
    print(f"the demo took {took_seconds:.0f} s")
    if not is_untouched:
        print("the demo failed: the stable version should not have been touched")
        return 1
    return 0
