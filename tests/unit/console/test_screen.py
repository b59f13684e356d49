"""The live screen of a rollout on a cluster, on terminals that have no room for all of it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))

from console_kit import BAD, SPEC, Story, progressing, rolled_back

from signalcanary.api import SignalCanarySpec
from signalcanary.console.watch import Watched, look_of
from signalcanary.contract import METRICS_BY_NAME
from signalcanary.evaluate import MetricsSeen
from signalcanary.local.scene import Scene
from signalcanary.local.screen import LiveReporter
from signalcanary.local.world import Event


def scene_of(story: Story) -> Scene:
    watched = Watched(story.item())
    watched.take(story.item())
    return watched.scene(story.now, "namespace trading")


def shown(scene: Scene, width: int, height: int) -> list[str]:
    """The lines of the terminal."""
    file = io.StringIO()
    reporter = LiveReporter(
        Console(file=file, width=width, height=height, color_system=None, force_terminal=True)
    )
    reporter.show(scene)
    screen = file.getvalue()
    reporter.close()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", screen).splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("╭"))
    return [line.rstrip() for line in lines[begin:]]


def breached() -> Story:
    """On twelve symbols."""
    symbols = [f"S{n}USDT" for n in range(12)]
    wire = SPEC.to_wire() | {"symbols": {"canary": symbols, "full": symbols}}
    story = Story(SignalCanarySpec.model_validate(wire))
    story.look(MetricsSeen())
    story.looks(3)
    story.looks(2, ece=0.2, bound=BAD)
    return story


def with_many_conditions() -> Story:
    """Of one symbol there are more rows than the terminal has lines; one is breached."""
    own = SPEC.to_wire()["rollback"]["conditions"]
    others = sorted(
        set(METRICS_BY_NAME) - {c["metric"] for c in own} - {"cvd_direction_flipped_total"}
    )
    conditions = [*({"metric": metric, "above": 1} for metric in others), *own]
    wire = SPEC.to_wire() | {"rollback": {"conditions": conditions}}
    story = Story(SignalCanarySpec.model_validate(wire))
    story.look(MetricsSeen())
    story.looks(3)
    story.looks(2, ece=0.2, bound=BAD)
    return story


STORIES = [progressing, breached, with_many_conditions, rolled_back]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("make", STORIES)
def test_on_24_lines_what_goes_on_what_is_worst_and_the_newest_event_stay(
    make: Callable[[], Story], width: int
) -> None:
    story = make()
    scene = scene_of(story)
    lines = shown(scene, width, 24)
    text = "\n".join(lines)
    assert len(lines) <= 24
    status = story.status
    assert f"◉ {status['phase']}" in text
    assert f"now {status['message'][:40]}" in text
    assert f"next {status['next'][:40]}" in text
    verdicts = {c["verdict"] for one in status.get("symbols", ()) for c in one["conditions"]}
    assert ("0.200" in text and "> 0.1 " in text) == ("Breached" in verdicts)
    newest = scene.look.events[-1]
    assert f"{newest.reason:<17}  {newest.message[:30]}" in text
    # And what is hidden is said.
    whole = shown(scene, width, 200)
    is_shown = len([line for line in whole if line])
    hidden = re.search(r"(\d+) lines hidden", text)
    assert hidden is not None
    assert int(hidden[1]) >= is_shown - len([line for line in lines if line])


def test_where_there_is_room_nothing_is_hidden_and_nothing_said() -> None:
    assert "hidden" not in "\n".join(shown(scene_of(progressing()), 120, 40))


def test_events_of_one_second_stay_in_their_order() -> None:
    story = progressing()
    same = [Event(story.now, False, f"R{n}", "told") for n in range(9)]
    look = look_of(story.item(), tuple(same), story.now + timedelta(seconds=9))
    assert [e for e in look.events if e.reason.startswith("R") and len(e.reason) == 2] == same


def test_what_soaks_is_judged_and_not_said_to_be_taken_back() -> None:
    wire = SPEC.to_wire() | {"stages": [{"name": "only", "duration": "5m"}], "soak": "1h"}
    story = Story(SignalCanarySpec.model_validate(wire))
    story.look(MetricsSeen())
    story.looks(8)
    assert story.status["phase"] == "Soaking"
    text = "\n".join(shown(scene_of(story), 120, 40))
    assert "how what serves is judged" in text
    assert "ADAUSDT   platt_ece" in text
    assert "taken back" not in text
