"""One bad symbol of several: held back alone, or with the quorum's the whole canary."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary.contract import Track
from signalcanary.publication import build_gate
from signalcanary.rollout import GUARDED, Phase, RolloutState, plan
from signalcanary.status import parse
from signalcanary.stream import Holder

Start = Callable[..., Any]
BTC, ETH, ADA, SOL = "BTCUSDT", "ETHUSDT", "ADAUSDT", "SOLUSDT"
ECE = "platt_ece"
CONDITION = {"metric": ECE, "above": 0.1, "for": "30s", "mode": "literal"}
SYMBOLS = {"canary": [BTC, ETH, ADA], "full": [BTC, ETH, ADA, SOL]}
SPEC: dict[str, Any] = {
    "symbols": SYMBOLS,
    "stages": [{"name": "shadow", "duration": "2m"}, {"name": "canary", "duration": "3m"}],
    "evaluation": {"interval": "10s", "staleAfter": "30s", "noDataAfter": "60s"},
}
ALONE = {"conditions": [CONDITION], "scope": "Symbol"}
OF_TWO = {"conditions": [CONDITION], "scope": "Quorum", "quorum": 2}
MINUTE = timedelta(minutes=1)


def begin(start: Start, rollback: dict[str, Any] = ALONE, *, stable: bool = True) -> Any:
    """A canary in its first stage; v0 beside it, on all symbols, if `stable`."""
    sim = start(**SPEC | {"rollback": rollback, "version": "v0" if stable else "v1"})
    if stable:
        sim.run_until(Phase.SUCCEEDED)
        sim.edit(version="v1")
    sim.run_until(Phase.PROGRESSING)
    sim.story.clear()
    return sim


def breach(sim: Any, *symbols: str) -> None:
    sim.world.of_symbol |= {(ECE, symbol): 0.3 for symbol in symbols}


def serving(state: RolloutState) -> dict[str, list[str]]:
    """By symbol, the versions that the plan runs as stable."""
    return {
        symbol: [
            p.revision.version
            for p in plan(state)
            if p.track is Track.STABLE and p.choose([symbol])
        ]
        for symbol in SYMBOLS["full"]
    }


def test_a_bad_symbol_is_held_back_alone_and_stays_on_what_served_it(start: Start) -> None:
    sim = begin(start)
    old, clock = sim.state.stable, sim.state.stage_clock
    breach(sim, ETH)
    sim.run(MINUTE)
    assert sim.phase is Phase.PROGRESSING
    assert sim.state.stage_clock == clock, "the others were observed all the while"
    assert set(sim.state.held) == {ETH}
    assert {j.symbol for j in sim.last.judgements} == {BTC, ADA}
    assert sim.state.message == (
        "holding back ETHUSDT: platt_ece > 0.1 for 30s on ETHUSDT: it is 0.3, judged literally, "
        "5000 rows, breached for 30s; a value of at most 0.1 at one look of these 30s would have "
        "kept it; the other canary symbols go on, and at the promotion ETHUSDT stays on v0"
    )
    assert sim.status["summary"][0].startswith("ETHUSDT: held back since ")
    assert sim.status["held"][0]["reason"] == "ConditionBreached"
    (degraded,) = (c for c in sim.status["conditions"] if c["type"] == "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "SymbolsHeld")
    sim.run_until(Phase.PROMOTING)
    assert serving(sim.state) == {
        BTC: ["v0", "v1"],
        ETH: ["v0"],
        ADA: ["v0", "v1"],
        SOL: ["v0", "v1"],
    }
    sim.run_until(Phase.SUCCEEDED)
    assert sim.reasons == ["SymbolsHeld", "StageStarted", "StagesPassed", "Promoted"]
    assert serving(sim.state) == {BTC: ["v1"], ETH: ["v0"], ADA: ["v1"], SOL: ["v1"]}
    assert sim.state.kept == {ETH: old}
    assert sim.state.held == {}
    assert sim.state.message.startswith(
        "v1 is promoted and serves the full symbol set but those held back: ETHUSDT stays on v0; "
    )


def test_without_an_earlier_revision_nothing_serves_a_symbol_held_back(start: Start) -> None:
    sim = begin(start, stable=False)
    breach(sim, ETH)
    sim.run_until(Phase.SUCCEEDED)
    assert sim.state.kept == {ETH: None}
    assert "but those held back: nothing serves ETHUSDT; " in sim.state.message
    assert serving(sim.state)[ETH] == []


def test_a_symbol_that_the_earlier_revision_never_ran_is_served_by_nothing(start: Start) -> None:
    sim = start(**SPEC | {"rollback": ALONE, "symbols": {"canary": [BTC], "full": [BTC]}})
    sim.run_until(Phase.SUCCEEDED)
    sim.edit(version="v2", symbols=SYMBOLS)
    sim.run_until(Phase.PROGRESSING)
    breach(sim, ETH, BTC)
    sim.run_until(Phase.SUCCEEDED)
    assert {s: r and r.version for s, r in sim.state.kept.items()} == {ETH: None, BTC: "v1"}


def test_a_silent_symbol_is_held_back_alone(start: Start) -> None:
    sim = begin(start)
    sim.world.silent[ADA] = sim.now
    sim.run(3 * MINUTE)
    assert set(sim.state.held) == {ADA}
    assert sim.state.held[ADA].reason == "CanarySilent"
    sim.run_until(Phase.SUCCEEDED)


def test_pods_that_never_run_are_the_whole_canarys(start: Start) -> None:
    sim = start(**SPEC | {"rollback": ALONE})
    sim.world.pods_start = False
    sim.run_until(Phase.ROLLED_BACK)
    assert sim.state.reason == "CanaryNotRunning"
    assert sim.state.held == {}


def test_where_every_symbol_is_bad_the_whole_canary_is_taken_back(start: Start) -> None:
    sim = begin(start)
    breach(sim, ETH)
    sim.run(MINUTE)
    breach(sim, ADA)
    sim.run(MINUTE)
    assert set(sim.state.held) == {ETH, ADA}
    breach(sim, BTC)
    sim.run_until(Phase.ROLLING_BACK)
    assert sim.state.message.endswith(
        "would have kept it; 3 of 3 canary symbols are held back; stable v0 keeps running"
    )
    assert sim.state.held == {}
    assert serving(sim.state) == {symbol: ["v0"] for symbol in SYMBOLS["full"]}


@pytest.mark.parametrize(("quorum", "most"), [(2, 2), (1, 1), (0.5, 2), (0.34, 2), (0.33, 1)])
def test_a_quorum_takes_the_whole_canary_back(start: Start, quorum: float, most: int) -> None:
    sim = begin(start, OF_TWO | {"quorum": quorum})
    bad = [ETH, ADA]
    for n, symbol in enumerate(bad[:most], 1):
        assert sim.phase is Phase.PROGRESSING
        breach(sim, symbol)
        sim.run(10 * timedelta(seconds=1))
        word = "rolls back" if n == most else f"holds {symbol} back"
        assert sim.status["next"].startswith(f"{word} in 30s, at about ")
        sim.run(MINUTE)
    assert sim.phase is Phase.ROLLED_BACK


def test_a_quorum_met_at_one_look_holds_nothing_back_first(start: Start) -> None:
    sim = begin(start, OF_TWO)
    breach(sim, ETH, ADA)
    sim.run_until(Phase.ROLLED_BACK)
    assert sim.reasons == ["ConditionBreached", "ConditionBreached"]


def test_all_is_as_it_was(start: Start) -> None:
    sim = begin(start, {"conditions": [CONDITION]})
    breach(sim, ETH, ADA)
    sim.run_until(Phase.ROLLING_BACK)
    assert sim.reasons == ["ConditionBreached"]
    assert "symbols are held back" not in sim.state.message


def test_a_scope_made_narrower_takes_back_at_once_what_it_would_have_taken(start: Start) -> None:
    sim = begin(start)
    breach(sim, ETH)
    sim.run(MINUTE)
    sim.edit(rollback={"conditions": [CONDITION]})
    sim.run_until(Phase.ROLLING_BACK, within=MINUTE)
    assert "platt_ece > 0.1 for 30s on ETHUSDT" in sim.state.message


def test_other_rules_judge_again_what_was_held_back(start: Start) -> None:
    sim = begin(start)
    breach(sim, ETH)
    sim.run(MINUTE)
    sim.edit(rollback=ALONE | {"conditions": [CONDITION | {"above": 0.4}]})
    sim.run_until(Phase.SUCCEEDED)
    assert sim.state.kept == {}


def test_the_next_promotion_covers_what_was_left_and_keeps_only_what_it_is_held_back_on(
    start: Start,
) -> None:
    sim = begin(start)
    breach(sim, ETH)
    sim.run_until(Phase.SUCCEEDED)
    sim.world.of_symbol.clear()
    sim.edit(version="v2")
    sim.run_until(Phase.PROGRESSING)
    assert sim.state.held == {}, "a new rollout holds nothing back yet"
    assert serving(sim.state)[ETH] == ["v0"]
    breach(sim, BTC)
    sim.run_until(Phase.SUCCEEDED)
    assert serving(sim.state) == {BTC: ["v1"], ETH: ["v2"], ADA: ["v2"], SOL: ["v2"]}
    sim.edit(version="v3")
    sim.run_until(Phase.PROGRESSING)
    breach(sim, BTC, ETH)
    sim.run_until(Phase.SUCCEEDED)
    assert serving(sim.state) == {BTC: ["v1"], ETH: ["v2"], ADA: ["v3"], SOL: ["v3"]}


def test_a_rollback_leaves_what_was_kept_as_it_was(start: Start) -> None:
    sim = begin(start)
    breach(sim, ETH)
    sim.run_until(Phase.SUCCEEDED)
    before = serving(sim.state)
    sim.edit(version="v2", rollback={"conditions": [CONDITION]})
    sim.run_until(Phase.ROLLED_BACK)
    assert serving(sim.state) == before


@pytest.mark.parametrize("is_bad_again", [False, True])
def test_the_revision_that_is_kept_may_be_tried_again(start: Start, is_bad_again: bool) -> None:
    """Where it is held back on what it had, nothing serves that: it has new pods by then."""
    sim = begin(start)
    breach(sim, ETH)
    sim.run_until(Phase.SUCCEEDED)
    if not is_bad_again:
        sim.world.of_symbol.clear()
    sim.edit(version="v0")
    sim.run_until(Phase.PROGRESSING)
    sim.run_until(Phase.SUCCEEDED)
    assert serving(sim.state) == {
        symbol: [] if is_bad_again and symbol == ETH else ["v0"] for symbol in SYMBOLS["full"]
    }


def test_the_revision_that_is_kept_may_be_tried_again_and_fail(start: Start) -> None:
    sim = begin(start)
    breach(sim, ETH)
    sim.run_until(Phase.SUCCEEDED)
    before = serving(sim.state)
    sim.edit(version="v0", rollback={"conditions": [CONDITION]})
    sim.run_until(Phase.ROLLED_BACK, within=timedelta(hours=1))
    assert serving(sim.state) == before, "its pods of the attempt before are no canary's"


def test_the_stream_is_passed_on_once_no_pod_is_left_that_may_go_by_the_old_gate(
    start: Start,
) -> None:
    sim = begin(start)
    breach(sim, ETH)
    sim.run_until(Phase.PROMOTING)
    old, new = sim.state.stable, sim.state.canary
    sim.world.pods_stop = False
    sim.run_until(Phase.SUCCEEDED)
    sim.run(5 * MINUTE)
    assert build_gate(sim.spec, sim.state).holders(Track.STABLE) == ()
    sim.world.pods_stop = True
    sim.run(MINUTE)
    gate = build_gate(sim.spec, sim.state)
    assert gate.holders(Track.STABLE) == (
        Holder(revision=new.name, attempt=new.attempt, without=(ETH,)),
        Holder(revision=old.name, attempt=old.attempt, only=(ETH,)),
    )


def test_a_canary_that_publishes_leaves_out_what_it_is_held_back_on(start: Start) -> None:
    sim = begin(start)
    sim.edit(stages=[{"name": "loud", "duration": "9h", "publish": True}])
    sim.run(MINUTE)
    breach(sim, ETH)
    sim.run(MINUTE)
    (holder,) = build_gate(sim.spec, sim.state).holders(Track.CANARY)
    assert [s for s in SYMBOLS["canary"] if holder.may_publish(s)] == [BTC, ADA]


# --------------------------------------------------------------------------- laws

EVENTS = st.sampled_from(
    [
        *["look"] * 3,
        *["heal"] * 4,
        *(f"{symbol} breaks" for symbol in SYMBOLS["canary"]),
        *("ETHUSDT silent", "source fails", "pods fail", "pods linger", "gap"),
        *("edit version", "edit version", "edit back", "edit scope"),
    ]
)
WALKS = st.lists(st.tuples(EVENTS, st.sampled_from([1, 2, 4, 8, 30])), min_size=15, max_size=40)
SCOPES = [ALONE, OF_TWO, {"conditions": [CONDITION]}]


def disturb(sim: Any, event: str) -> None:
    world = sim.world
    match event.split():
        case ["heal"]:
            world.source_answers = world.pods_start = world.pods_stop = True
            world.silent.clear()
            world.of_symbol.clear()
        case [symbol, "breaks"]:
            breach(sim, symbol)
        case [symbol, "silent"]:
            world.silent[symbol] = sim.now - MINUTE
        case ["source", "fails"]:
            world.source_answers = False
        case ["pods", "fail"]:
            world.pods_start = False
        case ["pods", "linger"]:
            world.pods_stop = False
        case ["gap"]:
            sim.idle(timedelta(hours=50))
        case ["edit", "version"]:
            sim.edit(version=f"v{sim.generation + 1}")
        case ["edit", "back"]:
            kept = [ref.version for ref in sim.state.kept.values() if ref]
            sim.edit(version=kept[0] if kept else "v1")
        case ["edit", "scope"]:
            sim.edit(rollback=SCOPES[sim.generation % 3])


@settings(max_examples=25)
@given(events=WALKS)
def test_no_symbol_has_two_stables_nor_one_that_it_was_held_back_on(
    start: Start, events: list[tuple[str, int]]
) -> None:
    """And no two pods ever publish one symbol as stable, however late they learn of the gate."""
    stages = [{"name": "s", "duration": "20s"}]
    sim = start(**SPEC | {"rollback": ALONE, "stages": stages})
    shown: set[Holder] = set()
    for event, count in events:
        disturb(sim, event)
        for _ in range(count):
            before, files = sim.state, dict(sim.world.running)
            sim.now += timedelta(seconds=10)
            after = sim.look().state
            assert parse(sim.status) == after

            assert set(after.held) < set(sim.spec.symbols.canary)
            assert not after.held or after.phase in GUARDED
            assert after.stable is not None or not after.kept
            assert after.stable not in after.kept.values()
            if after.stable != before.stable:
                assert after.stable == before.canary
                assert set(after.kept) == set(before.held), "held back, and promoted all the same"
            else:
                assert after.kept == before.kept
            most = 2 if after.phase is Phase.PROMOTING else 1
            for symbol, versions in serving(after).items():
                assert len(versions) <= most
                if symbol in after.held and after.canary:
                    assert after.canary.version not in versions or after.canary.attempt > 1
                if after.phase is Phase.SUCCEEDED and symbol not in after.kept:
                    assert versions == [after.stable.version]

            shown |= set(build_gate(sim.spec, after).holders(Track.STABLE))
            believing: dict[str, set[str]] = {}
            for (track, name), file in files.items():
                if track is not Track.STABLE:
                    continue
                of_file = (name, file.revision.attempt)
                for symbol in file.choose(sim.full_sets[name]):
                    if any(
                        (h.revision, h.attempt) == of_file and h.may_publish(symbol) for h in shown
                    ):
                        believing.setdefault(symbol, set()).add(name)
            assert all(len(names) == 1 for names in believing.values())
