"""What the page forecasts of a verb is what the operator then says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "console"))

from console_kit import BAD, DOWN, SPEC, STABLE, Story, progressing, rolled_back

from signalcanary.api import SignalCanarySpec
from signalcanary.commands import Value, Verb, annotation, read_annotations
from signalcanary.console.hand import build_annotations, find_subject
from signalcanary.dashboard.verbs import Right, offer
from signalcanary.evaluate import MetricsSeen
from signalcanary.lifecycle import decide
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import Hand, Observations, Phase, Word
from signalcanary.status import parse, render

FORMER = RevisionRef("22222222", "v0", "f" * 16, 1)


def starting() -> Story:
    story = Story()
    story.look(MetricsSeen())
    return story


def breached() -> Story:
    story = progressing()
    story.looks(1, ece=0.2, bound=BAD)
    return story


def undecided() -> Story:
    story = progressing()
    story.looks(1, ece=None)
    return story


def blind() -> Story:
    story = progressing()
    story.look(DOWN)
    return story


def changed(story: Story, **fields: Any) -> Story:
    """The story, with a state that something else has left."""
    state = replace(parse(story.status), **fields)
    decision = decide(story.spec, state, Observations(2, story.target, story.metrics()), story.now)
    observed = Observations(2, story.target, story.metrics())
    kept = replace(decision, state=state)
    status = render(story.spec, kept, observed, (), story.status, story.now)
    story.status = json.loads(json.dumps(status))
    return story


def paused() -> Story:
    story = progressing()
    return changed(story, hand=Hand(pause=Word("ann", "lunch", story.now)))


def waiting() -> Story:
    stages = [{"name": "canary", "duration": "5m", "approval": "Required"}]
    story = Story(SignalCanarySpec.model_validate(SPEC.to_wire() | {"stages": stages}))
    story.look(MetricsSeen())
    story.looks(9)
    return story


def with_a_former() -> Story:
    return changed(progressing(), former=(FORMER,))


def answer(story: Story, verb: Verb, about: str) -> str:
    """What `decide` says to it at the very next look; empty if it does it."""
    state = parse(story.status)
    wished = build_annotations(verb, Value(about=about, id="asked"))
    kept = {annotation(Verb.PAUSE): "lunch"} if state.hand.pause else {}
    annotations = {k: v for k, v in {**kept, **wished}.items() if v is not None}
    now = story.now + timedelta(milliseconds=1)
    rows = [row for one in story.status.get("symbols", ()) for row in one["conditions"]]
    values = {row["key"].partition(">")[0]: row.get("value") for row in rows}
    ece = values.get("platt_ece")
    seen = story.metrics(ece=ece, **({"bound": BAD} if ece and ece > 0.1 else {}))
    observed = Observations(
        2,
        story.target,
        _sight(story) or seen,
        dict(story.tracks),
        story.now,
        asked=read_annotations(annotations),
        recorded=frozenset({story.target.name, FORMER.name}),
    )
    decision = decide(story.spec, state, observed, now)
    found = next((a for a in decision.state.hand.answers if a.verb == verb), None)
    if found is None:
        assert (verb, state.hand.pause is None) == (Verb.PAUSE, False)
        return "paused"
    return found.message if found.refusal else ""


def _sight(story: Story) -> MetricsSeen | None:
    """What is seen where it is not the usual."""
    if story.status["phase"] == Phase.PENDING:
        return MetricsSeen()
    is_blind = any(
        c["type"] == "MetricsAvailable" and c["status"] == "False"
        for c in story.status["conditions"]
    )
    return DOWN if is_blind else None


@pytest.mark.parametrize(
    ("tell", "done"),
    [
        (starting, "abort pause"),
        (progressing, "abort pause skip promote"),
        (breached, "abort pause"),
        (undecided, "abort pause promote"),
        (blind, "abort pause"),
        (paused, "abort resume"),
        (waiting, "abort pause approve skip promote"),
        (with_a_former, "abort pause skip promote rollback"),
        (rolled_back, "pause retry"),
    ],
)
def test_the_forecast_is_what_decide_then_says(tell: Callable[[], Story], done: str) -> None:
    story = tell()
    recorded = {story.target.name, FORMER.name}
    item = story.item()
    offered = {one["verb"]: one for one in offer(item, Right(True), recorded, story.now)}
    assert list(offered) == [verb.value for verb in Verb]
    assert {verb for verb, one in offered.items() if not one["refusal"]} == set(done.split())
    for verb in Verb:
        if verb is Verb.ROLLBACK and not story.status.get("former"):
            continue  # there is nothing to ask for
        if verb is Verb.APPROVE and "/" not in story.status["subject"]:
            continue
        about = find_subject(verb, item, stage=None, to=FORMER.name)
        said = answer(story, verb, about)
        assert bool(said) == bool(offered[verb]["refusal"]), verb
        if verb is not Verb.PAUSE and not said.startswith("a stage ends when"):
            assert offered[verb]["refusal"] == said


def test_a_record_that_is_gone_is_known_before_it_is_asked_for() -> None:
    offered = {
        one["verb"]: one["refusal"]
        for one in offer(rolled_back().item(), Right(True), (), rolled_back().now)
    }
    assert offered["retry"] == "the ControllerRevision of v2 is gone"


def test_who_may_not_sees_every_verb_with_the_reason() -> None:
    story = progressing()
    offered = offer(story.item(), Right(False, "you may not"), (), story.now)
    assert {(one["isGiven"], one["refusal"]) for one in offered} == {(False, "you may not")}


def test_the_revisions_to_go_back_to_leave_out_the_one_that_serves() -> None:
    story = changed(progressing(), former=(FORMER, STABLE))
    offered = {one["verb"]: one for one in offer(story.item(), Right(True), (), story.now)}
    assert offered["rollback"]["to"] == [{"name": FORMER.name, "version": "v0"}]


def test_what_nobody_has_looked_at_has_nothing_to_be_done() -> None:
    offered = offer(Story().item(), Right(True), (), Story().now)
    assert {one["refusal"] for one in offered} == {"the operator has not looked at it yet"}
