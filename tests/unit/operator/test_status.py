"""Status is the operator's memory and what people read at three in the morning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcanary.api import SignalCanarySpec, Tier
from signalcanary.contract import JUDGED_METRICS, Track
from signalcanary.evaluate import Measurement, MetricsSeen, SourceFailure
from signalcanary.lifecycle import decide
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import (
    APPROVAL_NEEDED,
    DEADLINE_HELD,
    GUARDED,
    MAX_HISTORY,
    WITH_CANARY,
    Answer,
    Checks,
    Clock,
    Decision,
    Hand,
    Held,
    Observations,
    Phase,
    RolloutState,
    TrackSeen,
    Transition,
    Word,
    call_of,
)
from signalcanary.status import WorkloadSeen, last_evaluation, parse, render
from signalcanary.status.memory import remember
from signalcanary.status.schema import build_status_schema
from signalcanary.tiers import Standing, Streak

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SPEC = SignalCanarySpec.model_validate(
    {
        "version": "v2",
        "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]},
        "stages": [{"name": "shadow", "duration": "1h"}, {"name": "canary", "duration": "48h"}],
        "rollback": {
            "conditions": [{"metric": "platt_ece", "above": 0.1, "for": "2m", "mode": "literal"}]
        },
    }
)
CANARY = RevisionRef("22222222", "v2", "f" * 16, 2)
STABLE = RevisionRef("11111111", "v1", "e" * 16, 1)
KEY = ("platt_ece>0.1", "BTCUSDT")
DOWN = MetricsSeen(failure=SourceFailure("SourceTimeout", "no answer within 8s"))


def metrics(value: float | None = 0.05, age: float = 1, warmup: float = 1) -> MetricsSeen:
    at = NOW - timedelta(seconds=age)
    values = () if value is None else (value,)
    return MetricsSeen(
        {("platt_ece", "BTCUSDT"): Measurement(values, 900, at)},
        {"BTCUSDT": at},
        {"BTCUSDT": warmup},
        revision=CANARY.name,
    )


def look(
    state: RolloutState,
    seen: MetricsSeen,
    tracks: Mapping[tuple[Track, str], TrackSeen] | None = None,
    spec: SignalCanarySpec = SPEC,
    previous: Mapping[str, Any] | None = None,
    now: datetime = NOW,
) -> dict[str, Any]:
    observed = Observations(state.observed_generation, CANARY, seen, tracks or {})
    decision = decide(spec, state, observed, now)
    return render(spec, decision, observed, (), previous or {}, now)


def state_in(phase: Phase, **changes: Any) -> RolloutState:
    message = f"entered {phase}"
    state = RolloutState(
        phase=phase,
        phase_since=NOW - MINUTE,
        reason="Because",
        message=message,
        observed_generation=2,
        canary=CANARY if phase in WITH_CANARY else None,
        stable=STABLE,
        rejected=CANARY if phase in TAKEN_BACK else None,
        history=(Transition(NOW - MINUTE, phase, "Because", message, "v2"),),
    )
    if phase in (Phase.PROGRESSING, Phase.PROMOTING):
        state = replace(state, stage="shadow", stage_clock=Clock(NOW - 20 * MINUTE))
    return replace(state, **changes)


# ------------------------------------------------------------------ memory

INSTANTS = st.integers(0, 4_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
CLOCKS = st.builds(
    Clock,
    INSTANTS,
    st.integers(0, 10**11).map(lambda ms: timedelta(milliseconds=ms)),
    st.none() | INSTANTS,
)
WORDS = st.text(max_size=20)
HELD = st.builds(Held, INSTANTS, WORDS, WORDS)
STREAKS = st.builds(Streak, st.integers(1, 1000), INSTANTS)
STANDINGS = st.builds(Standing, st.sampled_from(Tier), INSTANTS, WORDS, st.none() | INSTANTS)
CHECKS = st.builds(Checks, CLOCKS, st.integers(0, 99), st.integers(0, 99), st.none() | INSTANTS)
TAKEN_BACK = (Phase.ROLLING_BACK, Phase.VERIFYING_ROLLBACK, Phase.ROLLED_BACK)
REFS = st.builds(RevisionRef, WORDS, WORDS, WORDS, st.integers(1, 2**53))


@st.composite
def transitions(draw: st.DrawFn) -> Transition:
    phase = draw(st.sampled_from(Phase))
    is_warning = phase in TAKEN_BACK
    told = Transition(draw(INSTANTS), phase, draw(WORDS), draw(WORDS), draw(WORDS), is_warning)
    if phase not in (Phase.ROLLING_BACK, Phase.VERIFYING_ROLLBACK):
        return told
    return replace(told, cause=draw(st.text(min_size=1, max_size=20)), consequence=draw(WORDS))


@pytest.mark.parametrize(
    ("phase", "message", "cause", "consequence"),
    [
        (
            Phase.ROLLING_BACK,
            "rolling back v2: ECE 0.3; 1 row; stable v1 keeps running",
            "v2: ECE 0.3; 1 row",
            "stable v1 keeps running",
        ),
        (
            Phase.ROLLING_BACK,
            "rolling back to v1, asked for by bob; "
            "stable v2 keeps running until its pods are ready",
            "to v1, asked for by bob",
            "stable v2 keeps running until its pods are ready",
        ),
        (
            Phase.ROLLING_BACK,
            "rolling back v1: ECE; there is no stable revision yet, so nothing serves",
            "v1: ECE",
            "there is no stable revision yet, so nothing serves",
        ),
        (
            Phase.ROLLING_BACK,
            "rolling back v1: ECE; nothing is left on the ladder, so nothing serves",
            "v1: ECE; nothing is left on the ladder, so nothing serves",
            "",
        ),
        (Phase.ROLLING_BACK, "rolling back to v1 was given up by bob", "", ""),
        (
            Phase.VERIFYING_ROLLBACK,
            "v2 has no pod any more, and v1 (revision 1) serves; v1 is verified for 5m",
            "v2 has no pod any more, and v1 (revision 1) serves",
            "v1 is verified for 5m",
        ),
        (Phase.ROLLED_BACK, "v2 has no pod any more; and so on", "", ""),
    ],
)
def test_the_cause_is_read_from_what_operators_wrote_before_it_was_a_field(
    phase: Phase, message: str, cause: str, consequence: str
) -> None:
    written = Transition(NOW, phase, "Any", message, "v2", is_warning=True)
    status = remember(state_in(phase, history=(written,)))
    assert not {"cause", "consequence"} & set(status["history"][0])
    assert parse(status).history == (replace(written, cause=cause, consequence=consequence),)


SAID = st.builds(Word, WORDS, WORDS, INSTANTS)
HANDS = st.builds(
    Hand,
    pause=st.none() | SAID,
    approvals=st.dictionaries(WORDS, SAID, max_size=3),
    skip=st.none() | SAID,
    promote=st.none() | SAID,
    answers=st.lists(
        st.builds(Answer, WORDS, WORDS, WORDS, SAID, st.sampled_from(Phase), WORDS, WORDS),
        max_size=3,
    ).map(tuple),
)


CALLS = st.builds(call_of, INSTANTS, st.sampled_from([APPROVAL_NEEDED, DEADLINE_HELD]), WORDS)


@st.composite
def states(draw: st.DrawFn) -> RolloutState:
    """What `decide` can leave behind: it has entered its phase, which history tells."""
    history = tuple(draw(st.lists(transitions(), min_size=1, max_size=MAX_HISTORY)))
    phase = history[0].phase
    guarded, staged = phase in GUARDED, phase in (Phase.PROGRESSING, Phase.PROMOTING)
    taken_back, soaks = phase in TAKEN_BACK, phase is Phase.SOAKING
    names = st.sampled_from(["shadow", "canary", "edited-away"])
    keys = st.tuples(WORDS, WORDS)
    timers = draw(st.dictionaries(keys, CLOCKS, max_size=4)) if guarded else {}
    return RolloutState(
        phase=phase,
        phase_since=history[0].time,
        reason=history[0].reason,
        message=history[0].message,
        observed_generation=draw(st.integers(1, 2**53)),
        canary=draw(REFS) if phase in WITH_CANARY else None,
        stable=draw(st.none() | REFS),
        rejected=draw(REFS) if taken_back else None,
        restoring=draw(st.none() | REFS) if phase is Phase.ROLLING_BACK else None,
        former=tuple(draw(st.lists(REFS, max_size=3))),
        last_attempt=draw(st.integers(0, 2**53)),
        hand=draw(HANDS),
        queued_at=draw(st.none() | INSTANTS) if phase is Phase.WAITING else None,
        stage=draw(names) if staged else None,
        stage_clock=draw(CLOCKS) if staged or soaks else None,
        checks=draw(CHECKS) if phase is Phase.VERIFYING_ROLLBACK else None,
        climbed=tuple(draw(st.lists(WORDS, max_size=3))),
        phase_clock=draw(st.none() | CLOCKS) if guarded else None,
        timers=timers,
        streaks={key: draw(STREAKS) for key in timers if draw(st.booleans())},
        held=draw(st.dictionaries(WORDS, HELD, max_size=3)) if guarded else {},
        kept=draw(st.dictionaries(WORDS, st.none() | REFS, max_size=3)),
        standings=draw(st.dictionaries(WORDS, STANDINGS, max_size=3)) if guarded else {},
        calls=tuple(draw(st.lists(CALLS, max_size=2))) if guarded else (),
        history=history,
    )


def assert_served(node: Any, schema: Mapping[str, Any], path: str = "status") -> None:
    """That the API server keeps it: what a schema does not have is dropped without a word."""
    kind = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float}
    assert isinstance(node, kind[schema["type"]]), path
    if isinstance(node, dict):
        for name, child in node.items():
            assert name in schema["properties"], f"{path}.{name}"
            assert_served(child, schema["properties"][name], f"{path}.{name}")
    if isinstance(node, list):
        for child in node:
            assert_served(child, schema["items"], f"{path}[]")


@given(states(), st.sampled_from([metrics(), metrics(0.3), metrics(None), DOWN, MetricsSeen()]))
def test_a_status_reads_back_as_the_state_it_was_written_from(
    state: RolloutState, seen: MetricsSeen
) -> None:
    observed = Observations(1, CANARY, seen)
    status = render(SPEC, Decision(state, (), ()), observed, (), {}, NOW)
    assert parse(json.loads(json.dumps(status, allow_nan=False))) == state
    assert last_evaluation(status) == NOW
    assert_served(status, build_status_schema())


def test_the_status_of_a_new_object_is_a_new_state() -> None:
    assert parse({}) == RolloutState()
    assert last_evaluation({}) is None


def nothing_empty(node: Any) -> bool:
    if isinstance(node, dict):
        return all(v is not None and nothing_empty(v) for v in node.values())
    return not isinstance(node, list) or all(map(nothing_empty, node))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(
    "seen", [metrics(), metrics(0.3), metrics(None), metrics(age=500), DOWN, MetricsSeen()]
)
def test_status_holds_no_null_and_nothing_that_json_does_not_know(
    phase: Phase, seen: MetricsSeen
) -> None:
    status = look(state_in(phase), seen)
    assert nothing_empty(status)
    json.dumps(status, allow_nan=False)
    assert all(status[field] for field in ("phase", "reason", "message", "next"))


@pytest.mark.parametrize("phase", Phase)
def test_writing_again_what_was_written_changes_nothing(phase: Phase) -> None:
    first = look(state_in(phase), metrics())
    state = parse(first)
    assert look(state, metrics(), previous=first) == look(state, metrics(), previous=first)
    again = look(state, metrics(), previous=first)
    assert again["conditions"] == first["conditions"]
    assert parse(again) == state


# ------------------------------------------------------------------ words

CLOCK_2M = {KEY: Clock(NOW - 90 * timedelta(seconds=1))}
PULL = {
    (Track.CANARY, CANARY.name): TrackSeen(1, False, "pod x-0 is waiting: ImagePullBackOff"),
}
FULL = {(Track.STABLE, CANARY.name): TrackSeen(1, False, "pod y-0 is not scheduled: no node")}
HOLDING = state_in(
    Phase.PROGRESSING, stage_clock=Clock(NOW - 20 * MINUTE, blind_since=NOW - 5 * MINUTE)
)
WORDS_OF: dict[str, tuple[RolloutState, MetricsSeen, Any, str, str]] = {
    "pending, no image": (
        state_in(Phase.PENDING),
        MetricsSeen(),
        PULL,
        "waiting for the canary's pods: pod x-0 is waiting: ImagePullBackOff",
        "warms up once the canary's pods are ready",
    ),
    "warming": (
        state_in(Phase.WARMING),
        metrics(None, warmup=0.42),
        {},
        "entered Warming",
        "stage shadow (1h) starts once every condition can be judged on every canary symbol",
    ),
    "progressing": (
        state_in(Phase.PROGRESSING),
        metrics(),
        {},
        "entered Progressing",
        "stage canary in 40m, at about 12:40:00 UTC, if all stays Ok",
    ),
    "the last stage": (
        state_in(Phase.PROGRESSING, stage="canary"),
        metrics(),
        {},
        "entered Progressing",
        "the promotion in 47h40m, at about 11:40:00 UTC, if all stays Ok",
    ),
    "a breach": (
        state_in(Phase.PROGRESSING, timers=CLOCK_2M),
        metrics(0.31),
        {},
        "platt_ece on BTCUSDT is 0.31 (> 0.1)",
        "rolls back in 30s, at about 12:00:30 UTC, unless platt_ece > 0.1 ends",
    ),
    "a value that is missing": (
        HOLDING,
        metrics(None),
        {},
        "holding: analysis gives no value of platt_ece on BTCUSDT",
        "stage canary after 45m more of observed time; the clock stands still now",
    ),
    "a silence": (
        state_in(
            Phase.PROGRESSING,
            timers={("silence", "BTCUSDT"): Clock(NOW - 4 * MINUTE)},
        ),
        metrics(age=300),
        {},
        "holding: platt_ece on BTCUSDT was last evaluated 5m ago, more than 1m",
        "rolls back in 6m, at about 12:06:00 UTC, unless BTCUSDT sends fresh data",
    ),
    "the source down": (
        state_in(Phase.PROGRESSING),
        DOWN,
        {},
        "holding: the metrics source is unreachable (no answer within 8s); nothing is promoted "
        "or rolled back on what cannot be seen",
        "goes on as soon as the metrics source answers again",
    ),
    "promoting, no node": (
        state_in(Phase.PROMOTING),
        metrics(),
        FULL,
        "entered Promoting",
        "v2 becomes stable once its pods on the full set are ready and every condition is Ok; "
        "now: pod y-0 is not scheduled: no node",
    ),
    "succeeded": (
        state_in(Phase.SUCCEEDED, stable=CANARY),
        MetricsSeen(),
        {},
        "entered Succeeded",
        "nothing: change the spec to roll out the next configuration",
    ),
    "rolling back": (
        state_in(Phase.ROLLING_BACK),
        MetricsSeen(),
        {(Track.CANARY, CANARY.name): TrackSeen(pods=1)},
        "entered RollingBack",
        "waits until the canary's pods are gone",
    ),
    "rolled back": (
        state_in(Phase.ROLLED_BACK),
        MetricsSeen(),
        {},
        "entered RolledBack",
        "nothing: this spec is not tried again; change it to try again, spec.version is enough, "
        "or ask for a retry, or set it back to v1",
    ),
    "rolled back, no stable": (
        state_in(Phase.ROLLED_BACK, stable=None),
        MetricsSeen(),
        {},
        "entered RolledBack",
        "nothing: this spec is not tried again; change it to try again, spec.version is enough, "
        "or ask for a retry",
    ),
}


@pytest.mark.parametrize(
    ("state", "seen", "tracks", "message", "then"), WORDS_OF.values(), ids=WORDS_OF
)
def test_status_says_why_and_what_comes_next(
    state: RolloutState, seen: MetricsSeen, tracks: Any, message: str, then: str
) -> None:
    status = look(state, seen, tracks)
    assert (status["message"], status["next"]) == (message, then)


def test_a_symbol_shows_its_conditions_with_all_that_they_rest_on() -> None:
    status = look(state_in(Phase.PROGRESSING, timers=CLOCK_2M), metrics(0.31))
    assert_served(status, build_status_schema())
    (symbol,) = status["symbols"]
    assert symbol == {
        "symbol": "BTCUSDT",
        "verdict": "Breached",
        "warmup": "100%",
        "lastData": "2026-05-01T11:59:59.000Z",
        "conditions": [
            {
                "condition": "platt_ece > 0.1 for 2m",
                "key": "platt_ece>0.1",
                "verdict": "Breached",
                "reason": "BeyondThreshold",
                "value": 0.31,
                "threshold": 0.1,
                "samples": 900,
                "breachedFor": "1m30s",
                "allowedFor": "2m",
                "message": "platt_ece on BTCUSDT is 0.31 (> 0.1)",
            }
        ],
    }


def test_a_workload_shows_what_keeps_it() -> None:
    line = WorkloadSeen("a", "canary", "analysis", "22222222", 1, 2, 3, "pod a-0 waits")
    observed = Observations(2, CANARY)
    decision = Decision(state_in(Phase.SUCCEEDED), (), ())
    status = render(SPEC, decision, observed, [line], {}, NOW)
    assert_served(status, build_status_schema())
    assert status["workloads"] == [
        {
            "name": "a",
            "track": "canary",
            "component": "analysis",
            "revision": "22222222",
            "ready": "1/2",
            "restarts": 3,
            "message": "pod a-0 waits",
        }
    ]


# ------------------------------------------------------------------ conditions


def conditions(status: Mapping[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


CONDITIONS = {
    Phase.PROGRESSING: "Progressing",
    Phase.SUCCEEDED: "Promoted",
    Phase.ROLLED_BACK: "RolledBack",
}


@pytest.mark.parametrize(("phase", "condition"), CONDITIONS.items())
def test_just_one_condition_tells_where_a_rollout_is(phase: Phase, condition: str) -> None:
    told = conditions(look(state_in(phase), metrics()))
    assert {k for k in CONDITIONS.values() if told[k] == "True"} == {condition}
    assert told["Degraded"] == str(phase is Phase.ROLLED_BACK)
    assert told["MetricsAvailable"] == "True"


@pytest.mark.parametrize("phase", sorted(TAKEN_BACK))
def test_a_condition_that_is_bad_says_why(phase: Phase) -> None:
    status = look(state_in(phase, message="rolled back v2: why"), metrics())
    (degraded,) = (c for c in status["conditions"] if c["type"] == "Degraded")
    assert (degraded["status"], degraded["message"]) == ("True", status["message"])
    assert degraded["message"]


def test_a_breach_degrades_and_a_source_that_is_down_is_told() -> None:
    assert conditions(look(state_in(Phase.PROGRESSING), metrics(0.3)))["Degraded"] == "True"
    told = conditions(look(state_in(Phase.PROGRESSING), DOWN))
    assert (told["MetricsAvailable"], told["Degraded"]) == ("False", "False")


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    def times(status: Mapping[str, Any]) -> dict[str, str]:
        return {c["type"]: c["lastTransitionTime"] for c in status["conditions"]}

    first = look(state_in(Phase.PROGRESSING), metrics())
    later = NOW + timedelta(seconds=30)
    second = look(parse(first), metrics(0.3, age=-2), previous=first, now=later)
    changed = {k for k in times(first) if times(first)[k] != times(second)[k]}
    assert changed == {"Degraded"}
    assert times(second)["Degraded"] == "2026-05-01T12:00:30.000Z"


def test_a_status_of_the_most_that_a_spec_may_ask_fits_into_an_object() -> None:
    """etcd takes 1.5 MiB at most, and what cannot be written cannot be rolled back."""
    symbols = [f"SYMBOL{n:04}USDTPERP" for n in range(256)]
    worst = {"for": "10m", "mode": "literal", "consecutive": 3, "critical": 0.8765}
    most = [{"metric": m, "above": 0.8765} | worst for m in JUDGED_METRICS]
    both = [m for m in JUDGED_METRICS if m.startswith("slice_auc_") or m.endswith("_samples")]
    most += [{"metric": m, "below": 0.01, "for": "10m"} for m in both]
    spec = SignalCanarySpec.model_validate(
        {
            "version": "v2",
            "symbols": {"canary": symbols, "full": symbols},
            "rollback": {"conditions": most},
        }
    )
    values = {
        (m, s): Measurement((0.987654321,), 123456, NOW) for m in JUDGED_METRICS for s in symbols
    }
    seen = MetricsSeen(values, dict.fromkeys(symbols, NOW), revision=CANARY.name)
    status = look(state_in(Phase.WARMING), seen, spec=spec)
    assert len(json.dumps(status)) < 1_400_000
    assert status["message"].endswith("; and 4859 more")
    assert len(status["timers"]) == 4864, "memory is never cut"


def test_of_very_many_symbols_the_worst_are_shown() -> None:
    symbols = [f"SYM{n}USDT" for n in range(100)]
    spec = SPEC.model_copy(
        update={"symbols": SPEC.symbols.model_copy(update={"canary": tuple(symbols)})}
    )
    values = {("platt_ece", s): Measurement((0.05,), 900, NOW) for s in symbols}
    values["platt_ece", symbols[77]] = Measurement((0.3,), 900, NOW)
    seen = MetricsSeen(values, dict.fromkeys(symbols, NOW), revision=CANARY.name)
    shown = [s["symbol"] for s in look(state_in(Phase.WARMING), seen, spec=spec)["symbols"]]
    assert shown == [*symbols[:31], symbols[77]]


# ------------------------------------------------------------------ the decision

BREACHING = state_in(Phase.PROGRESSING, timers={KEY: Clock(NOW - 3 * MINUTE)})


def test_a_rollback_leaves_all_that_it_rests_on() -> None:
    status = look(BREACHING, metrics(0.3))
    assert status["phase"] == "RolledBack"
    assert_served(status, build_status_schema())
    decision = status["decision"]
    assert (decision["version"], decision["revision"], decision["attempt"]) == ("v2", "22222222", 2)
    assert decision["reason"] == "ConditionBreached"
    (judged,) = decision["conditions"]
    assert judged["symbol"] == "BTCUSDT"
    assert (judged["value"], judged["samples"], judged["breachedFor"]) == (0.3, 900, "3m")


def test_the_last_decision_is_kept_until_there_is_another() -> None:
    first = look(BREACHING, metrics(0.3))
    later = look(state_in(Phase.ROLLED_BACK), MetricsSeen(), previous=first, now=NOW + MINUTE)
    assert later["decision"] == first["decision"]
    assert "symbols" not in later
    assert "decision" not in look(state_in(Phase.PROGRESSING), metrics())


def test_a_decision_on_very_many_symbols_keeps_those_that_speak_against_the_canary() -> None:
    symbols = [f"S{n:03d}USDT" for n in range(100)]
    spec = SignalCanarySpec.model_validate(
        {**SPEC.to_wire(), "symbols": {"canary": symbols, "full": symbols}}
    )
    at = NOW - timedelta(seconds=1)
    seen = MetricsSeen(
        {
            ("platt_ece", s): Measurement((0.3 if s == "S077USDT" else 0.05,), 900, at)
            for s in symbols
        },
        dict.fromkeys(symbols, at),
        dict.fromkeys(symbols, 1.0),
        revision=CANARY.name,
    )
    state = state_in(
        Phase.PROGRESSING,
        timers={("platt_ece>0.1", "S077USDT"): Clock(NOW - 3 * MINUTE)},
        rules=None,
    )
    decision = look(state, seen, spec=spec)["decision"]
    assert len(decision["conditions"]) == 32
    assert decision["conditions"][0]["symbol"] == "S077USDT"
    assert len(json.dumps(decision)) < 32_000


def test_effective_samples_stand_beside_the_samples() -> None:
    at = NOW - timedelta(seconds=1)
    seen = metrics()
    measurement = Measurement((0.05,), 900, at, effective_samples=120)
    seen = replace(seen, measurements={("platt_ece", "BTCUSDT"): measurement})
    (symbol,) = look(state_in(Phase.PROGRESSING), seen)["symbols"]
    (judged,) = symbol["conditions"]
    assert (judged["samples"], judged["effectiveSamples"]) == (900, 120)


def test_the_list_names_the_version_under_test_and_after_a_rollback_the_rejected_one() -> None:
    assert look(state_in(Phase.PROGRESSING), metrics())["candidate"] == "v2"
    assert look(state_in(Phase.ROLLED_BACK), MetricsSeen())["candidate"] == "v2"
    assert "candidate" not in look(state_in(Phase.SUCCEEDED), MetricsSeen())
