"""What the screen and the lines say of a moment."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from local_kit import World, build_spec
from rich.console import Console

from signalcanary.evaluate import Verdict
from signalcanary.local import demo as local_demo
from signalcanary.local.scene import PlainReporter, Scene, clock
from signalcanary.local.screen import LiveReporter, draw
from signalcanary.local.world import Event, LocalRollout, Look
from signalcanary.rollout import Phase


def scene(look: Look, elapsed: float = 65.0) -> Scene:
    return Scene("a story", ("what it is about",), elapsed, look, ("exchange: here",))


def drawn(look: Look) -> str:
    console = Console(file=io.StringIO(), width=120, height=40, color_system=None)
    with console.capture() as capture:
        console.print(draw(scene(look)))
    return capture.get()


async def story(world: World, auc: float | None, looks: int) -> tuple[LocalRollout, list[Look]]:
    rollout = world.rollout()
    if auc is not None:
        world.auc["v1"] = auc
    rollout.apply(build_spec())
    out = []
    for _ in range(looks):
        out.append(await rollout.look())
        await world.pass_seconds(1)
    return rollout, out


async def test_the_screen_tells_a_newcomer_what_where_why_and_what_next(world: World) -> None:
    _, looks = await story(world, None, 3)
    text = drawn(looks[-1])
    for expected in (
        "a story",
        "what it is about",
        "time elapsed 1:05",
        "◉ Warming",
        "○ Succeeded",
        "50% of its windows filled",
        "Inconclusive (Warming)",
        "slice_auc_active_period: how well it ranks rises above falls; 0.5 is a coin toss",
        "canary   v1   BTCUSDT   harvest 1000 (ready)  analysis 1001 (ready)",
        "RolloutStarted",
    ):
        assert expected in text


async def test_the_screen_shows_a_value_against_its_threshold_and_how_long_it_breaches(
    world: World,
) -> None:
    _, looks = await story(world, 0.51, 3)
    text = drawn(looks[-1])
    assert "0.510" in text
    assert "< 0.55" in text
    assert "900" in text
    assert "1s of 2s" in text
    assert "Breached" in text
    assert "rolls back in 1s" in text


async def test_the_screen_shows_the_progress_of_a_stage(world: World) -> None:
    _, looks = await story(world, 0.7, 4)
    assert looks[-1].state.phase is Phase.PROGRESSING
    assert "canary (1 of 1)" in drawn(looks[-1])
    assert "2s of 3s" in drawn(looks[-1])


async def test_after_a_rollback_the_screen_shows_the_way_back_in_the_place_of_the_way_on(
    world: World,
) -> None:
    _, looks = await story(world, 0.51, 8)
    assert looks[-1].state.phase is Phase.ROLLED_BACK
    text = drawn(looks[-1])
    assert "● Progressing ─── ● RollingBack ─── ◉ RolledBack" in text
    assert "Succeeded" not in text
    assert "it has been taken back" in text


@pytest.mark.parametrize("phase", Phase)
async def test_whatever_the_phase_the_screen_shows_where_it_is(world: World, phase: Phase) -> None:
    _, looks = await story(world, 0.7, 4)
    look = looks[-1]
    assert f"◉ {phase}" in drawn(replace(look, state=replace(look.state, phase=phase)))


async def test_every_moment_fits_a_screen_of_40_lines(world: World) -> None:
    _, looks = await story(world, 0.51, 8)
    assert max(len(drawn(look).splitlines()) for look in looks) <= 40


async def test_of_more_symbols_than_there_is_room_for_the_worst_are_shown(world: World) -> None:
    _, looks = await story(world, 0.7, 4)
    look = looks[-1]
    one = look.decision.judgements[0]
    many = tuple(replace(one, symbol=f"S{n}USDT", verdict=Verdict.OK) for n in range(40))
    many = (*many[:37], replace(many[37], verdict=Verdict.BREACHED), *many[38:])
    look = replace(look, decision=replace(look.decision, judgements=many))
    console = Console(
        file=io.StringIO(), width=120, height=40, color_system=None, force_terminal=True
    )
    reporter = LiveReporter(console)
    reporter.show(scene(look))
    reporter.close()
    text = console.file.getvalue()
    assert "S37USDT" in text
    assert "events" in text
    left_out = int(text.split(" more symbols, none worse")[0].split()[-1])
    assert len(set(re.findall(r"S\d+USDT", text))) == 40 - left_out
    assert 5 < left_out < 35


async def test_old_events_give_way_before_a_symbol_does(world: World) -> None:
    _, looks = await story(world, 0.7, 4)
    look = looks[-1]
    told = Event(look.now, False, "Told", "word " * 120)
    look = replace(look, events=tuple(replace(told, reason=f"Told{n}") for n in range(9)))
    console = Console(
        file=io.StringIO(), width=120, height=40, color_system=None, force_terminal=True
    )
    reporter = LiveReporter(console)
    reporter.show(scene(look))
    reporter.close()
    text = console.file.getvalue()
    assert "more symbol" not in text
    shown = sorted(set(re.findall(r"Told\d", text)))
    assert shown in (["Told7", "Told8"], ["Told6", "Told7", "Told8"])


async def test_lines_say_what_is_new_once(world: World) -> None:
    _, looks = await story(world, 0.51, 8)
    out = io.StringIO()
    reporter = PlainReporter(out)
    for seconds, look in enumerate(looks):
        reporter.show(scene(look, float(seconds)))
        reporter.show(scene(look, float(seconds)))
    text = out.getvalue()
    assert text.count("── a story") == 1
    assert text.count("RolloutStarted") == 1
    assert text.count("canary v1 harvest 1000 (ready)") == 1
    assert text.count("canary v1 harvest 1000 (gone)") == 1
    assert text.count("Breached: slice_auc_active_period on BTCUSDT is 0.51 (< 0.55)") == 1
    assert all(line.startswith("[") for line in text.splitlines())


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01")])
def test_time_is_shown_as_minutes_and_seconds(seconds: float, text: str) -> None:
    assert clock(seconds) == text


# --------------------------------------------------------------------------- the demo's words


def outcome(look: Look, expected: Phase, index: int = 0) -> local_demo.Outcome:
    told = local_demo.Story("x.yaml", "x", (), expected)
    stable = [p for p in look.processes if p.slot.track == "stable"]
    return local_demo.Outcome(told, look, 41.4, {p.slot: p.seen.pid for p in stable}, 0)


async def test_a_promotion_is_concluded_in_one_line(world: World) -> None:
    _, looks = await story(world, 0.7, 12)
    assert local_demo.describe_outcome(outcome(looks[-1], Phase.SUCCEEDED)) == (
        "v1 promoted after 41 s"
    )


async def test_a_rollback_is_concluded_with_its_reason(world: World) -> None:
    _, looks = await story(world, 0.51, 8)
    line = local_demo.describe_outcome(outcome(looks[-1], Phase.ROLLED_BACK))
    assert line.startswith("v1 rolled back after 41 s: slice_auc_active_period < 0.55 for 2s")


async def test_a_story_that_does_not_end_says_where_it_stands(world: World) -> None:
    _, looks = await story(world, None, 3)
    last = outcome(looks[-1], Phase.SUCCEEDED)
    assert not last.is_as_expected
    assert local_demo.describe_outcome(last).startswith("v1 is still Warming after 41 s")


async def test_a_stable_process_that_was_replaced_is_told(world: World) -> None:
    _, looks = await story(world, 0.7, 12)
    before = outcome(looks[-1], Phase.SUCCEEDED)
    slot = next(iter(before.stable_pids))
    changed = local_demo.Outcome(
        before.story, before.look, 1.0, {**before.stable_pids, slot: 4711}, 0
    )
    assert local_demo.describe_untouched(before, before)[0]
    is_untouched, words = local_demo.describe_untouched(before, changed)
    assert not is_untouched
    assert "4711" in words
