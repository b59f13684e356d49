"""The laws of the machine, on every edge that `machine_kit` finds.

What explores once is in this file alone, so that no two workers do it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any, Literal

import pytest
from machine_kit import (
    ALLOWED,
    BY_EDIT,
    CONSECUTIVE,
    GAP,
    HEALTHY,
    IS_THOROUGH,
    LIMITS,
    LONGEST,
    LOOK,
    NOW,
    PODS,
    RUNNING,
    SAMPLE,
    SCOPE,
    SECOND,
    SPEC,
    STARTED,
    SYMBOLS,
    WAITING,
    ZERO,
    Explored,
    Input,
    after_a_while,
    asked,
    edited,
    normal,
    observations,
    shape,
    spec_at,
)

from signalcanary.api import Tier
from signalcanary.commands import Verb
from signalcanary.contract import Component, Track
from signalcanary.evaluate import (
    Judgement,
    MetricsSeen,
    Silence,
    Verdict,
    evaluate,
    silence_of,
)
from signalcanary.lifecycle import decide
from signalcanary.publication import build_gate
from signalcanary.rollout import (
    GUARDED,
    SERVED,
    SILENCE,
    STARTING,
    SYMBOLS_HELD,
    WITH_CANARY,
    Clock,
    Decision,
    Observations,
    Phase,
    RolloutState,
    plan,
)
from signalcanary.status import parse, render
from signalcanary.tiers import Streak

pytestmark = pytest.mark.timeout(1800)


Sight = Literal["hit", "blind", "clear"]

FORWARD = {"StageStarted", "StagesPassed", "Promoted", "PromoteRequested"}


def sight_of(judgement: Judgement) -> Sight:
    if judgement.verdict is Verdict.BREACHED:
        return "hit"
    return "clear" if judgement.verdict in (Verdict.OK, Verdict.UNPROVEN) else "blind"


def silence_sight(symbol: str, seen: MetricsSeen) -> Sight:
    match silence_of(symbol, SPEC, seen, NOW):
        case Silence.NONE:
            return "clear"
        case Silence.CANARY:
            return "hit"
        case _:
            return "blind"


def expected(before: Clock | None, sight: Sight, step: timedelta) -> tuple[timedelta, bool] | None:
    """Observed time after a look, and whether it runs on. Counted is the time from a look that
    saw it to the next look, unless nobody looked for too long; `before` is as of the last look,
    moved to now."""
    if before is None:
        return (ZERO, True) if sight == "hit" else None
    so_far = before.elapsed(NOW)
    if before.blind_since is None and step == GAP:
        so_far -= step
    return None if sight == "clear" else (so_far, sight == "hit")


def expected_streak(
    key: tuple[str, str], before: Streak | None, sight: Sight, at: datetime | None
) -> Streak | None:
    """One more for each newer sample that shows the breach, up to what is asked for."""
    if CONSECUTIVE.get(key, 1) == 1 or sight == "clear":
        return None
    if sight == "blind":
        return before
    assert at is not None
    if before is None:
        return Streak(1, at)
    is_new = at > before.last and before.evaluations < CONSECUTIVE[key]
    return Streak(before.evaluations + 1, at) if is_new else before


def check(before: RolloutState, look: Input, seen: Observations, decision: Decision) -> None:
    after, transitions = decision.state, decision.transitions
    verdicts = {j.verdict for j in decision.judgements}
    reasons = [t.reason for t in transitions]

    # Phases: only along the diagram, no transition twice, nothing at rest unless edited or asked.
    phase = before.phase
    for transition in transitions:
        assert (phase, transition.phase, transition.reason) in ALLOWED
        phase = transition.phase
    assert phase is after.phase
    assert len({(t.phase, t.reason) for t in transitions}) == len(transitions)
    is_edited = before.observed_generation != seen.generation
    is_asked = bool(done_by_hand(decision) & {"retry", "rollback"})
    if before.phase in (Phase.SUCCEEDED, Phase.ROLLED_BACK) and not (is_edited or is_asked):
        assert replace(after, hand=before.hand) == before

    # Promotion: with every condition Ok at this look, or on a person's word with nothing
    # breached, critical or unseen; every stage before it observed in full.
    is_critical = any(j.tier is Tier.CRITICAL for j in decision.judgements)
    if {"StagesPassed", "Promoted"} & set(reasons):
        assert not is_critical
        said = before.hand.promote is not None or "promote" in done_by_hand(decision)
        if "StagesPassed" in reasons or not said:
            assert verdicts == {Verdict.OK}
        assert verdicts <= {Verdict.OK, Verdict.UNPROVEN, Verdict.INCONCLUSIVE}
        assert verdicts
    if "Promoted" in reasons:
        assert seen.track(Track.STABLE, before.canary).is_ready
        assert after.stable == before.canary
    names = [stage.name for stage in SPEC.stages]
    if (
        before.stage in names
        and before.stage_clock
        and {"StageStarted", "StagesPassed"} & set(reasons)
    ):
        observed = expected(before.stage_clock, "hit", look.step)
        assert observed is not None
        is_skipped = before.hand.skip is not None or "skip" in done_by_hand(decision)
        if not {"RulesChanged", STARTED, WAITING} & set(reasons):
            duration = SPEC.stages[names.index(before.stage)].duration
            assert observed[0] >= duration or is_skipped
            passed_all = "StagesPassed" in reasons
            assert passed_all == (before.stage == names[-1])
            assert passed_all or after.stage == names[names.index(before.stage) + 1]
            assert Verdict.BREACHED not in verdicts
            assert not is_critical
            if passed_all and not is_skipped and SCOPE == "All":
                is_approved = before.stage in before.hand.approvals
                assert is_approved or "approve" in done_by_hand(decision), "nobody has approved"
    else:
        assert "StagesPassed" not in reasons or before.stage in names

    # The metrics source being ill: no promotion, no rollback but by hand, no time counted.
    if seen.metrics.failure is not None:
        allowed = {WAITING, STARTED, PODS, *BY_EDIT, "ArtifactsVerified", "VerificationFailed"}
        allowed |= {"Aborted", "RetryRequested", "RollbackRequested"}
        is_held = after.hand.pause is not None
        allowed |= {"StageStarted"} if before.stage == "edited-away" and not is_held else set()
        allowed |= {before.reason} if before.phase is Phase.ROLLING_BACK else set()
        assert set(reasons) <= allowed
        assert all(clock.blind_since is not None for clock in after.timers.values())
        assert after.phase_clock is None or after.phase_clock.blind_since is not None

    # Artifacts: no pod of the canary before they are found to be as declared.
    verification = seen.track(Track.CANARY, before.canary).verification
    for reason, is_refused in (("ArtifactsVerified", False), ("VerificationFailed", True)):
        if reason in reasons and before.phase is Phase.VERIFYING:
            assert verification is not None
            assert bool(verification.refusals) == is_refused
    for one in plan(after):
        is_verifying = one.track is Track.CANARY and after.phase is Phase.VERIFYING
        assert (one.components == (Component.VERIFY,)) == is_verifying

    # Revisions: what is stable changes only by a promotion, or once a former one is ready that
    # somebody wants back; and it is always planned.
    if "Promoted" not in reasons and after.stable != before.stable:
        assert before.restoring is not None or "rollback" in done_by_hand(decision)
        assert after.stable is not None
        assert after.stable.name in {ref.name for ref in (before.restoring, *before.former) if ref}
        assert seen.track(Track.STABLE, after.stable).is_ready
    assert (
        after.rejected is None
        or after.stable is None
        or after.phase is Phase.ROLLING_BACK
        or (after.rejected.name != after.stable.name)
    )
    assert (after.canary is not None) == (after.phase in WITH_CANARY)
    assert (after.phase_clock is not None) == (after.phase in RUNNING)
    assert after.restoring is None or after.phase is Phase.ROLLING_BACK
    planned = plan(after)
    stable_of = {p.revision for p in planned if p.track is Track.STABLE}
    check_symbols(before, decision)
    if after.stable is not None:
        assert after.stable in stable_of
        assert after.stable not in after.former
    if after.phase in GUARDED:
        assert after.canary != after.stable
        assert after.canary in {p.revision for p in planned if p.track is Track.CANARY}
    else:
        served_by = {after.stable, after.restoring, *after.kept.values()} - {None}
        assert {p.revision for p in planned} == served_by
        assert not after.timers
    # `before` is as of NOW: had it gone on by itself, no clock may have less than nothing.
    for clock in clocks_of(after):
        assert ZERO <= clock.elapsed(NOW) <= NOW - clock.started_at

    check_windows(before, look, seen, decision)
    check_clocks(before, look, seen, decision)
    check_hand(before, look, seen, decision)


def done_by_hand(decision: Decision) -> set[str]:
    return {a.verb for a in decision.state.hand.answers if not a.refusal}


def check_hand(before: RolloutState, look: Input, seen: Observations, decision: Decision) -> None:
    """Everything asked for is answered once; what is refused does nothing; nothing moves on while
    it is paused; what holds goes with its canary."""
    after, reasons = decision.state, {t.reason for t in decision.transitions}
    answers = after.hand.answers
    assert len(answers) == (look.ask is not None and not is_paused_twice(before, look.ask))
    if answers and answers[0].refusal:
        without = replace(seen, asked=asked(before, None))
        same = decide(spec_at(look), before, without, NOW).state
        assert replace(after, hand=replace(after.hand, answers=())) == same
    is_paused = seen.asked is not None and seen.asked.pause is not None
    assert (after.hand.pause is not None) == is_paused
    if is_paused:
        assert not FORWARD & reasons
    if after.phase not in WITH_CANARY:
        assert after.hand.without_canary() == after.hand
    # An edit at the same look makes another attempt, and what was asked names the one before.
    is_another = after.canary is not None and after.canary != before.canary
    if look.ask is Verb.ABORT and before.phase in WITH_CANARY and not is_another:
        assert after.phase not in WITH_CANARY, "a person could not take it back"


def moves_on(decision: Decision) -> bool:
    return bool({STARTED, "RetryRequested", *FORWARD} & {t.reason for t in decision.transitions})


def check_windows(
    before: RolloutState, look: Input, seen: Observations, decision: Decision
) -> None:
    """Outside its windows nothing moves forward; all else is as it would be within them."""
    if not look.is_shut:
        assert before.phase is not Phase.WAITING or decision.state.phase is not Phase.WAITING
        return
    assert not moves_on(decision)
    same = within(before, look, seen)
    # At the look at which somebody pauses, the deadline's clock may have stood still already.
    if not moves_on(same) and look.ask not in (Verb.SKIP, Verb.PROMOTE, Verb.PAUSE):
        assert decision == same


def within(before: RolloutState, look: Input, seen: Observations) -> Decision:
    """The same look within the windows, with nothing asked that is refused outside."""
    if look.ask in (Verb.SKIP, Verb.PROMOTE):
        seen = replace(seen, asked=asked(before, None))
    return decide(spec_at(replace(look, is_shut=False)), before, seen, NOW)


def is_paused_twice(state: RolloutState, verb: Verb) -> bool:
    return verb is Verb.PAUSE and state.hand.pause is not None


def check_symbols(before: RolloutState, decision: Decision) -> None:
    """No symbol is served by what it was held back on, nor by two."""
    after, reasons = decision.state, [t.reason for t in decision.transitions]
    if SCOPE == "All":
        assert after.held == after.kept == {}
        return
    assert not after.held or after.phase in RUNNING
    assert len(after.held) < len(SYMBOLS), "then the whole canary is taken back"
    if "Promoted" in reasons:
        assert set(after.kept) == set(before.held)
    else:
        assert after.kept == before.kept
    assert not set(after.held) & {j.symbol for j in decision.judgements}
    stables = [p for p in plan(after) if p.track is Track.STABLE]
    gate = build_gate(SPEC, after)
    for symbol in SYMBOLS:
        runs = [p.revision for p in stables if p.choose([symbol])]
        assert len(runs) <= (2 if after.phase is Phase.PROMOTING else 1)
        assert symbol not in after.held or after.canary not in runs
        assert symbol not in after.kept or after.stable not in runs
        for track in Track:
            assert sum(h.may_publish(symbol) for h in gate.holders(track)) <= 1
        assert symbol not in after.held or not any(
            holder.may_publish(symbol) for holder in gate.holders(Track.CANARY)
        )


def judged_at_first(
    before: RolloutState, seen: Observations, decision: Decision, held: Collection[str]
) -> Sequence[Judgement]:
    """The judgements by which symbols may then be held back."""
    if SCOPE == "All" or not decision.judgements:
        return decision.judgements
    has_stable = before.stable is not None
    return evaluate(SPEC, seen.metrics, NOW, has_stable=has_stable, held=held)


def check_clocks(before: RolloutState, look: Input, seen: Observations, decision: Decision) -> None:
    """Each clock has exactly the time that was observed, and what is due is done."""
    after, reasons = decision.state, [t.reason for t in decision.transitions]
    if before.phase not in GUARDED or {STARTED, WAITING, "AlreadyStable"} & set(reasons):
        return
    is_paused = after.hand.pause is not None
    if before.phase in STARTING and PODS not in reasons:
        assert not decision.judgements, "judged by what cannot be its own"
    held = set() if "RulesChanged" in reasons else set(before.held)
    judgements = judged_at_first(before, seen, decision, held)
    sights: dict[tuple[str, str], Sight] = {
        (SILENCE, s): silence_sight(s, seen.metrics) for s in SYMBOLS if s not in held
    }
    sights |= {(j.condition.key, j.symbol): sight_of(j) for j in judgements}
    stamps = {(j.condition.key, j.symbol): j.evaluated_at for j in judgements}
    due = []
    for key, sight in sights.items():
        time = expected(before.timers.get(key), sight, look.step)
        streak = expected_streak(key, before.streaks.get(key), sight, stamps.get(key))
        is_seen = CONSECUTIVE.get(key, 1) <= (streak.evaluations if streak else 1)
        if time is not None and sight == "hit" and time[0] >= LONGEST[key] and is_seen:
            due.append(key)
        if key[1] in after.held:
            time, streak = None, None
        if after.phase in GUARDED:
            assert after.streaks.get(key) == streak
            clock = after.timers.get(key)
            assert (clock and (clock.elapsed(NOW), clock.blind_since is None)) == time, key
    to_hold = held | {symbol for _, symbol in due}
    never_ran = before.phase in STARTING and PODS not in reasons
    most = 1 if never_ran else SPEC.rollback.most_held(len(SYMBOLS))
    assert (SYMBOLS_HELD in reasons) == (bool(due) and len(to_hold) < most)
    if due and len(to_hold) >= most:
        assert after.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK), "due, and not done"
    elif after.phase in GUARDED:
        assert set(after.held) == to_hold
    began = [t.reason for t in decision.transitions if t.phase is Phase.ROLLING_BACK]
    if set(began) & {"DeadlineExceeded", "VerificationFailed", "Aborted", "RollbackRequested"}:
        assert not due or SYMBOLS_HELD in reasons
    elif began == ["ConditionBreached"]:
        assert any(key != SILENCE for key, _ in due)
    elif began:
        assert {key for key, _ in due} == {SILENCE}
    check_deadline(before, look, seen, decision)
    # The clock of a stage that was edited away, and is only not left yet, matters nothing.
    names = {stage.name for stage in SPEC.stages}
    is_same = before.stage == after.stage in names and "StageStarted" not in reasons
    if is_same and after.stage_clock and after.phase is Phase.PROGRESSING:
        assert before.stage_clock is not None
        judged = all(j.verdict.is_judged for j in decision.judgements)
        runs = judged and not is_paused
        time = expected(before.stage_clock, "hit" if runs else "blind", look.step)
        clock = after.stage_clock
        assert (clock.elapsed(NOW), clock.blind_since is None) == time


def check_deadline(
    before: RolloutState, look: Input, seen: Observations, decision: Decision
) -> None:
    """The deadline's clock has exactly the time in which the source was read since the phase or
    stage began, and what was in doubt was not of symbols that stable does not hear either; and it
    is when that is over, no sooner and no later, that the canary goes."""
    # A symbol that is held back is no phase of its own.
    after, told = decision.state, [t.reason for t in decision.transitions]
    reasons = [reason for reason in told if reason != SYMBOLS_HELD]
    doubtful = {j.symbol for j in decision.judgements if not j.is_good}
    unheard = {
        j.symbol
        for j in decision.judgements
        if silence_of(j.symbol, SPEC, seen.metrics, NOW) is Silence.MARKET
    }
    is_excused = bool(unheard) and not doubtful - unheard
    is_read = seen.metrics.failure is None and after.hand.pause is None and not is_excused
    if look.is_shut:
        # Only the window is missing: that is no fault of the canary either.
        is_read &= not moves_on(within(before, look, seen))
    if after.phase_clock and reasons:
        assert shape(after.phase_clock) == (ZERO, is_read), "it begins anew with each phase"
    if before.phase in STARTING:
        assert "DeadlineExceeded" not in reasons
        return
    if before.phase is Phase.PROGRESSING and before.stage == "canary" and before.stage_clock:
        # Only an approval is missing: that is no fault of the canary.
        time = expected(before.stage_clock, "hit", look.step)
        all_ok = bool(decision.judgements) and all(
            j.verdict is Verdict.OK and j.tier is not Tier.CRITICAL for j in decision.judgements
        )
        may_end = after.hand.skip or "canary" in after.hand.approvals
        is_over = time is not None and time[0] >= SPEC.stages[1].duration
        is_read &= not (is_over and all_ok and not may_end)
    observed = expected(before.phase_clock, "hit" if is_read else "blind", look.step)
    assert observed is not None
    is_late = is_read and observed[0] >= LIMITS[before.phase]
    if not reasons:
        assert shape(after.phase_clock) == observed
        assert not is_late, "late, and not rolled back"
    elif "DeadlineExceeded" in reasons:
        assert is_late
        assert reasons[0] == "DeadlineExceeded", "what began at this look is not late"


def clocks_of(state: RolloutState) -> list[Clock]:
    timers = [state.timers[key] for key in sorted(state.timers)]
    return [*timers, *filter(None, [state.stage_clock, state.phase_clock])]


# --------------------------------------------------------------------------- the exploration


@pytest.fixture(scope="module")
def explored() -> Explored:
    found = Explored()
    for edge in found.explore():
        look, seen, decision = edge.look, edge.seen, edge.decision
        check(edge.before, look, seen, decision)
        # The look repeated: nothing more follows. In the everyday run at one edge of six.
        if IS_THOROUGH or found.edges % 6 == 0:
            again = decide(spec_at(look), decision.state, replace(seen, previous_look=NOW), NOW)
            assert again.state == decision.state
            assert again.transitions == ()
        if edge.is_discovery:
            status = render(SPEC, decision, seen, (), {}, NOW)
            assert parse(status) == decision.state, "a restart would change the rollout"
    return found


def test_the_laws_hold_on_every_edge(explored: Explored, capsys: Any) -> None:
    """They are asserted while exploring; here is how far that got."""
    with capsys.disabled():
        print(f"\n{len(explored.nodes)} states, {explored.edges} edges, {SAMPLE} sampled a state")
    phases = {node.state.phase for node in explored.nodes.values()}
    # Soaking and the ladder come after a promotion and have walks of their own.
    assert phases == set(Phase) - SERVED
    assert explored.ways <= ALLOWED, "what is not allowed happens"
    if IS_THOROUGH and SCOPE == "All":
        assert explored.ways == ALLOWED, "what is allowed never happens"


@pytest.mark.parametrize("by", [5 * SECOND, timedelta(hours=1)], ids=["a little", "an hour"])
def test_a_clock_that_is_set_back_does_nothing_and_loses_nothing(
    explored: Explored, by: timedelta
) -> None:
    choices = (Input(), Input("failed"), Input((("breached", "breached", "silent"), HEALTHY)))
    for node in list(explored.nodes.values())[:: 1 if IS_THOROUGH else 3]:
        before = node.state
        for look, edit in product(choices, ("none", "new version")):
            begins = edited(node, edit)
            seen = replace(observations(look, begins.target), previous_look=NOW)
            back = decide(SPEC, begins.state, seen, NOW - by)
            after = back.state
            assert back.transitions == ()
            same = replace(
                after,
                phase_since=before.phase_since,
                timers=before.timers,
                streaks=before.streaks,
                stage_clock=before.stage_clock,
                phase_clock=before.phase_clock,
            )
            assert same == begins.state, "more than the clocks has changed"
            for old, new in zip(clocks_of(before), clocks_of(after), strict=True):
                assert new.elapsed(NOW - by) == old.elapsed(NOW)
                assert (new.blind_since is None) == (old.blind_since is None)
                assert ZERO <= new.elapsed(NOW - by) <= NOW - by - new.started_at
            assert after.phase_since is None or after.phase_since <= NOW - by
            if before.history:
                status = render(SPEC, back, seen, (), {}, NOW - by)
                assert parse(status) == after
        # The next look goes on from there as if nothing had been.
        healthy = observations(Input(), node.target)
        straight = decide(SPEC, after_a_while(before, LOOK), healthy, NOW)
        moved = replace(healthy, previous_look=NOW)
        back = decide(SPEC, before, moved, NOW - by)
        resumed = after_a_while(back.state, LOOK - by)
        assert normal(decide(SPEC, resumed, healthy, NOW).state, node.target).key == (
            normal(straight.state, node.target).key
        )
