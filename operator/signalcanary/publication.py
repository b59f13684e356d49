"""Who may publish signals, and when that is passed on. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import Track
from signalcanary.look import Look
from signalcanary.moves import is_revision as _is
from signalcanary.moves import stage_index
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import Phase, RolloutState, keepers, plan
from signalcanary.stream import Gate, Holder


def pass_on(look: Look, state: RolloutState) -> RolloutState:
    """Let the stable revision publish once no pod of the one before it is left.

    A pod learns only after a while that it may publish no more; that it is gone is certain. So
    two never publish as stable at once, at the price of a pause at a promotion.
    """
    before = state.publisher
    if before == state.stable:
        return state
    # Attempts of one revision share StatefulSets, which never run two pods of one ordinal.
    is_another = before is not None and not _is(state.stable, before)
    if is_another and _has_strays(look, state):
        return state
    return replace(state, publisher=state.stable)


def _has_strays(look: Look, state: RolloutState) -> bool:
    """Whether a pod of another revision may go by what it was told before: it is not wanted any
    more, or it is to run again with fewer symbols."""
    # What is only now to run with fewer symbols was not looked at as such.
    wanted = {
        p.revision.name for p in plan(state) if p.track is Track.STABLE and p in look.seen.planned
    }
    return any(
        seen.strays if name in wanted else seen.pods
        for (track, name), seen in look.seen.tracks.items()
        if track is Track.STABLE and not _is(state.stable, name)
    )


def build_gate(spec: SignalCanarySpec, state: RolloutState) -> Gate:
    """Who may publish signals, as the state implies."""
    is_passed_on = state.stable is not None and state.publisher == state.stable
    stable = state.stable if is_passed_on else None
    is_observed = state.phase in (Phase.PROGRESSING, Phase.PROMOTING)
    index = stage_index(spec, state) if is_observed else None
    is_allowed = index is not None and spec.stages[index].publish
    kept = [
        Holder(revision=ref.name, attempt=ref.attempt, only=tuple(sorted(symbols)))
        for ref, symbols in keepers(state).items()
        # Until it is passed on, the symbols may still be another's.
        if is_passed_on
    ]
    return Gate(
        stable=_holder(stable, state.kept),
        canary=_holder(state.canary if is_allowed else None, state.held),
        kept=tuple(kept) or None,
    )


def _holder(ref: RevisionRef | None, without: Iterable[str]) -> Holder | None:
    if ref is None:
        return None
    return Holder(revision=ref.name, attempt=ref.attempt, without=tuple(sorted(without)) or None)
