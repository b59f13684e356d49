"""What the page shows of rollouts that the very `decide` and `render` have left."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "console"))

from console_kit import MINUTE, SPEC, Story, progressing, rolled_back

from signalcanary.api import SignalCanarySpec
from signalcanary.console.explained import explain
from signalcanary.contract import Track
from signalcanary.dashboard.curves import MOST_POINTS, Curves, Point, join
from signalcanary.dashboard.view import UNREADABLE, Told, fleet, rollout
from signalcanary.evaluate import Bound, MetricsSeen

WAYS = {"done": "+", "now": ">", "failed": "!", "to-come": "."}


def spec(**fields: Any) -> SignalCanarySpec:
    return SignalCanarySpec.model_validate(SPEC.to_wire() | fields)


def show(story: Story, **told: Any) -> dict[str, Any]:
    return rollout(story.item(), Told(**told), story.now)


def way(story: Story) -> str:
    """The steps in a line, for example ``start+ warm-up> …``."""
    return " ".join(s["name"] + WAYS[s["pace"]] for s in show(story)["steps"])


def quick(**fields: Any) -> Story:
    same = {"canary": ["BTCUSDT", "ETHUSDT"], "full": ["BTCUSDT", "ETHUSDT"]}
    return Story(spec(stages=[{"name": "quick", "duration": "5m"}], symbols=same, **fields))


def soon(story: Story) -> MetricsSeen:
    """What is seen at the next look."""
    story.now += MINUTE
    seen = story.metrics()
    story.now -= MINUTE
    return seen


# ------------------------------------------------------------------ the steps


def test_the_way_follows_the_rollout_from_its_start_to_its_promotion() -> None:
    story = quick(soak="1h")
    story.look(MetricsSeen())
    assert way(story) == "start> warm-up. quick. promotion. soak."
    story.looks(1, ece=None, warmup=0.4)
    assert way(story) == "start+ warm-up> quick. promotion. soak."
    assert show(story)["steps"][1]["done"] == "40%"
    story.looks(1)
    assert way(story) == "start+ warm-up+ quick> promotion. soak."
    story.looks(5)
    assert way(story) == "start+ warm-up+ quick+ promotion> soak."
    story.looks(1)
    assert way(story) == "start+ warm-up+ quick+ promotion+ soak>"
    for _ in range(61):
        story.look(replace(soon(story), track=Track.STABLE))
    assert story.status["phase"] == "Succeeded"
    assert way(story) == "start+ warm-up+ quick+ promotion+ soak+"


def test_what_was_taken_back_says_where_though_status_has_forgotten_the_stage() -> None:
    story = rolled_back()
    assert "stage" not in story.status
    assert way(story) == "start+ warm-up+ shadow! canary. promotion."
    silent = Story()
    for _ in range(15):
        silent.look(MetricsSeen())
    assert silent.status["reason"] == "CanarySilent"
    assert way(silent) == "start+ warm-up! shadow. canary. promotion."


def test_a_stages_clock_is_told_by_its_instants_so_that_the_page_lets_it_run() -> None:
    story = progressing()
    step = next(s for s in show(story)["steps"] if s["pace"] == "now")
    assert step["takesSeconds"] == 3600
    assert step["clock"] == {"startedAt": "2026-05-01T12:02:00.000Z", "stoodSeconds": 0.0}
    story.looks(2, ece=None)
    stands = next(s for s in show(story)["steps"] if s["pace"] == "now")["clock"]
    assert stands["standsSince"] == "2026-05-01T12:22:00.000Z"


def test_special_stages_say_so() -> None:
    stages = [
        {"name": "a", "duration": "5m", "publish": True},
        {"name": "b", "duration": "5m", "approval": "Required"},
    ]
    story = Story(spec(stages=stages))
    story.look(MetricsSeen())
    notes = {s["name"]: s["notes"] for s in show(story)["steps"] if s["notes"]}
    assert notes == {"a": ["publishes signals"], "b": ["ends with a person's approval"]}


# ------------------------------------------------------------------ the judgements


def test_it_shows_what_explain_says_word_for_word() -> None:
    story = progressing()
    shown, explained = show(story), explain(story.item(), story.now)
    assert shown["conditionsAreOf"] == "now"
    rows = [row for c in shown["conditions"] for row in c["symbols"]]
    assert len(rows) == len(explained["conditions"]) == 4
    for row in rows:
        del row["points"]
        assert row in explained["conditions"]
    assert shown["blocks"] == explained["blocks"]
    assert shown["why"] == explained["why"]


def test_the_worst_condition_comes_first_and_of_it_the_worst_symbol() -> None:
    story = progressing()
    seen, key = soon(story), ("merge_time_diff_ms_p99", "ETHUSDT")
    late = replace(seen.measurements[key], values=(9000.0,))
    story.look(replace(seen, measurements={**seen.measurements, key: late}))
    conditions = show(story)["conditions"]
    assert [c["worst"] for c in conditions] == ["Breached", "Ok"]
    assert conditions[0]["unit"] == "ms"
    assert [row["symbol"] for row in conditions[0]["symbols"]] == ["ETHUSDT", "BTCUSDT"]


def test_among_equals_the_symbol_nearest_to_its_bound_comes_first() -> None:
    story = progressing()
    seen = soon(story)
    ece = replace(seen.measurements["platt_ece", "ETHUSDT"], values=(0.06,))
    story.look(replace(seen, measurements={**seen.measurements, ("platt_ece", "ETHUSDT"): ece}))
    (ece_shown,) = (c for c in show(story)["conditions"] if c["key"].startswith("platt_ece"))
    assert [row["symbol"] for row in ece_shown["symbols"]] == ["ETHUSDT", "BTCUSDT"]


def test_after_a_rollback_the_evidence_is_that_of_the_decision() -> None:
    shown = show(rolled_back())
    assert shown["conditionsAreOf"] == "decision"
    assert shown["decision"]["kind"] == "rolled back"
    assert "conditions" not in shown["decision"]
    first = shown["conditions"][0]
    assert (first["key"], first["worst"]) == ("platt_ece>0.1", "Breached")
    assert first["symbols"][0]["breachedFor"] == "2m"


def test_a_promoted_revision_that_soaks_is_judged_on_its_own_track() -> None:
    story = quick(soak="1h")
    story.look(MetricsSeen())
    story.looks(9)
    assert story.status["phase"] == "Soaking"
    shown = show(story)
    assert shown["conditionsAreOf"] == "now"
    rows = [row for c in shown["conditions"] for row in c["symbols"]]
    assert rows
    assert all(f'track="{Track.STABLE}"' in row["query"] for row in rows)
    assert (shown["canary"], shown["stable"]) == ("", "v2")


def test_of_forty_symbols_it_says_how_many_status_had_no_room_for() -> None:
    symbols = [f"S{number}USDT" for number in range(40)]
    story = Story(spec(symbols={"canary": symbols, "full": symbols}))
    story.look(MetricsSeen())
    story.looks(5)
    shown = show(story)
    assert shown["leftOut"] == 8
    assert all(len(c["symbols"]) == 32 for c in shown["conditions"])
    assert show(progressing())["leftOut"] == 0


def test_a_condition_that_was_edited_away_is_still_shown_by_its_decision() -> None:
    story = rolled_back()
    item = story.item()
    item["spec"] = spec(rollback={"conditions": [{"metric": "platt_ece", "above": 0.3}]}).to_wire()
    shown = rollout(item, Told(), story.now)
    assert shown["conditions"][0]["key"] == "platt_ece>0.1"
    assert "not in the spec any more" in shown["conditions"][1]["test"]


# ------------------------------------------------------------------ the fleet


def test_the_fleet_has_the_worst_first_and_hides_nothing_that_cannot_be_read() -> None:
    now = progressing().now
    stranger = progressing()
    stranger.status["phase"] = "Dreaming"
    stories = {
        "fine": progressing(),
        "unseen": Story(),
        "bad": rolled_back(),
        "stranger": stranger,
    }
    items = [{**story.item(name=name)} for name, story in stories.items()]
    rows = fleet(items, now)
    assert [(row["name"], row["health"]) for row in rows] == [
        ("bad", "Degraded"),
        ("stranger", UNREADABLE),
        ("unseen", "Held"),
        ("fine", "Progressing"),
    ]
    assert "written by another version of the operator" in rows[1]["why"]
    assert (rows[0]["stable"], rows[0]["rejected"], rows[0]["canary"]) == ("v1", "v2", "")
    assert "no operator has looked at it yet" in rows[2]["why"]
    page = rollout(stranger.item(), Told(), now)
    assert (page["health"], "conditions" in page) == (UNREADABLE, False)


# ------------------------------------------------------------------ the curves


def test_curves_grow_by_what_status_says_and_begin_anew_with_another_attempt() -> None:
    story, curves = progressing(), Curves()
    curves.take(story.status)
    curves.take(story.status)
    story.looks(1, ece=0.08)
    curves.take(story.status)
    key = ("platt_ece>0.1", "BTCUSDT")
    assert [point[1] for point in curves.of(key)] == [0.05, 0.08]
    assert curves.of(key)[0][2:] == (0.03, 0.07, 0.035, 0.065)
    shown = show(story, curves={key: curves.of(key)})
    points = {r["symbol"]: r["points"] for c in shown["conditions"] for r in c["symbols"]}
    (ece,) = (c for c in shown["conditions"] if c["key"] == key[0])
    assert [len(r["points"]) for r in ece["symbols"] if r["symbol"] == "BTCUSDT"] == [2]
    assert points["ETHUSDT"] == []
    story.status = story.status | {"subject": "7ab98b63-3/shadow"}
    curves.take(story.status)
    assert len(curves.of(key)) == 1


def test_a_long_curve_gets_coarser_and_keeps_its_ends() -> None:
    story, curves = progressing(), Curves()
    for minute in range(3 * MOST_POINTS):
        at = story.now + minute * MINUTE
        curves.take(story.status | {"lastEvaluationTime": at.isoformat()})
    points = curves.of(("platt_ece>0.1", "BTCUSDT"))
    assert len(points) <= MOST_POINTS
    span = timedelta(seconds=points[-1][0] - points[0][0])
    assert span >= (3 * MOST_POINTS - 8) * MINUTE
    assert list(points) == sorted(points)


def test_what_was_seen_goes_on_where_the_past_ends() -> None:
    def at(*times: float) -> list[Point]:
        return [(time, None, None, None, None, None) for time in times]

    assert join(at(1, 2, 3), at(2, 3, 4)) == at(1, 2, 3, 4)
    assert join([], at(2)) == at(2)


def test_bounds_that_are_not_known_are_left_open() -> None:
    story = progressing()
    story.looks(1, bound=Bound(0.005, 0.03, float("inf"), float("-inf"), 0.07))
    curves = Curves()
    curves.take(story.status)
    assert curves.of(("platt_ece>0.1", "BTCUSDT"))[0][2:] == (0.03, None, None, 0.07)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\u2028b", '"}</style>'])
def test_texts_of_objects_go_out_as_they_are(text: str) -> None:
    story = progressing()
    story.status["message"] = text
    assert show(story)["why"] == text
