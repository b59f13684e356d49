"""Why a rollout was decided as it was, in the words of its Events and its history.

For the person who is woken by it: which metric on which symbol, its value, how sure that is and
on how many rows, the threshold, for how long, and what would have changed it. Each fits into an
Event (1,024 characters). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from signalcanary.api import SignalCanarySpec
from signalcanary.artifacts import Verification
from signalcanary.contract import format_duration, shown
from signalcanary.evaluate import Judgement, percent, shown_beside
from signalcanary.revisions import RevisionRef
from signalcanary.rollout import Hand, Held, Word

MOST_TOLD = 3


MOST_NAMED = 8


def names(symbols: Sequence[str]) -> str:
    """Symbols in a sentence; of very many only the first."""
    more = len(symbols) - MOST_NAMED
    return ", ".join(symbols[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def breach(judgement: Judgement, held: timedelta) -> str:
    """Why a breach rolled back, and what would have kept the canary."""
    condition, bound, value = judgement.condition, judgement.bound, judgement.value
    debounce = judgement.debounce
    assert value is not None  # else it would not be breached
    threshold, is_above = condition.threshold, condition.sign == ">"
    text = f"{condition.describe()} on {judgement.symbol}: "
    text += f"it is {shown_beside(value, threshold)}"
    if bound:
        edge = shown_beside(bound.lower if is_above else bound.upper, threshold)
        word = "at least" if is_above else "at most"
        text += f", {word} {edge} with {percent(bound.level)} confidence"
        kept = f"evidence that leaves {shown(threshold)} open"
    else:
        text += ", judged literally" + (", as no bounds come with it" * judgement.waits_unasked)
        kept = f"a value of {'at most' if is_above else 'at least'} {shown(threshold)}"
    text += _rows(judgement)
    if debounce.for_:
        text += f", breached for {_whole_seconds(held)}"
        kept += f" at one look of these {format_duration(debounce.for_)}"
    if debounce.consecutive > 1:
        text += f"{' and' if debounce.for_ else ', breached'} at {debounce.consecutive} "
        text += "evaluations in a row"
        kept += "" if debounce.for_ else " at one of these evaluations"
    return f"{text}; {kept} would have kept it"


def rolling_out(canary: RevisionRef, spec: SignalCanarySpec) -> str:
    """What begins."""
    of = names(spec.symbols.canary)
    return f"rolling out {canary.version} (revision {canary.name}) on {of}"


def hold(due: Mapping[str, Held], servers: Mapping[str, RevisionRef | None]) -> str:
    """Why symbols are held back, and what that means for them."""
    first = next(iter(due.values()))
    others = f"; and for a reason of their own {names(list(due)[1:])}" if len(due) > 1 else ""
    return (
        f"holding back {names(list(due))}: {first.message}{others}; the other canary symbols "
        f"go on, and at the promotion {_served(servers)}"
    )


def left_out(kept: Mapping[str, RevisionRef | None]) -> str:
    """What a promotion leaves out; nothing to say where that is nothing."""
    return f" but those held back: {_served(kept)}" if kept else ""


def _served(servers: Mapping[str, RevisionRef | None]) -> str:
    by_version: dict[str | None, list[str]] = {}
    for symbol, ref in servers.items():
        by_version.setdefault(ref.version if ref else None, []).append(symbol)
    return " and ".join(
        f"{names(symbols)} stay{'s' * (len(symbols) == 1)} on {version}"
        if version is not None
        else f"nothing serves {names(symbols)}"
        for version, symbols in by_version.items()
    )


def others_held(held: int, symbols: int) -> str:
    """How many symbols had to be held back, where one was not enough."""
    return f"; {held} of {symbols} canary symbols are held back" if held > 1 else ""


MOST_OF_A_PROBLEM = 600
"""Characters of what the kubelet says."""


def silence(
    symbol: str, held: timedelta, last: datetime | None, control: bool, problem: str | None
) -> str:
    """Why a silence rolled back.

    Args:
        last: the last fresh data that was heard of; None if none was.
        control: whether the stable track heard the symbol meanwhile.
        problem: what keeps a pod of it from running, if anything does.
    """
    heard = f"last at {last.astimezone(UTC):%H:%M:%S} UTC" if last else "none since it started"
    others = "the metrics source answered" + (" and the stable track heard it" if control else "")
    return (
        f"no fresh data of {symbol} for {_whole_seconds(held)} ({heard}), while {others}; any "
        "in that time would have kept it"
    ) + (f"; {problem[:MOST_OF_A_PROBLEM]}" if problem else "")


def pods(held: timedelta, problem: str | None) -> str:
    """Why a canary that never ran was rolled back."""
    told = f": {problem[:MOST_OF_A_PROBLEM]}" if problem else ""
    return f"its pods were not ready for {_whole_seconds(held)}{told}"


def rolling_back(cause: str, consequence: str = "") -> str:
    """A rollback that begins, as `Transition` has it; the one place that puts the two together."""
    return f"rolling back {cause}" + (f"; {consequence}" if consequence else "")


def rolled_back(cause: str) -> str:
    """The same when it has been carried out: what it meant until then is over."""
    return f"rolled back {cause}"


def gone(rejected: RevisionRef, stable: RevisionRef | None, is_kept: bool) -> str:
    """What is true when a rollback has been carried out; why it was decided is told before.

    Args:
        is_kept: whether it goes on serving single symbols, as an attempt before.
    """
    left = "runs on the symbols alone that it served before" if is_kept else "has no pod any more"
    if stable is None:
        serves = "nothing"
    elif stable.name in stable.version:  # recorded data have no other name for it
        serves = stable.version
    else:
        serves = f"{stable.version} (revision {stable.name})"
    return f"{rejected.version} {left}, and {serves} serves"


def refused(found: Verification) -> str:
    """Why a canary was rolled back before any pod of it started."""
    told = [f"{r.file}: {r.reason}: {r.message}" for r in found.refusals]
    more = len(told) - MOST_TOLD + found.more
    text = "; ".join(told[:MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
    text = _shortened(text, MOST_OF_A_PROBLEM)
    return f"its artifacts are refused, and no pod of it was started: {text}"


def verified(found: Verification) -> str:
    """What was found good before the canary's pods start."""
    size = f"{found.files} artifacts, {found.total_bytes / 1e6:.3g} MB, are as declared"
    speeds = [f"{m.name} {m.p50_ms:.3g} ms a row, p99 {m.p99_ms:.3g} ms" for m in found.models]
    told = f" ({'; '.join(speeds)})" if speeds else ""
    return f"{size}{told}; starting the canary's pods"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@dataclass(frozen=True)
class Late:
    """A canary that is neither good nor bad by its deadline, in words.

    Attributes:
        what: what is late, and for want of what.
        wanted: what would be enough.
        then: what that would have done.
    """

    what: str
    wanted: str
    then: str

    def taken_back(self) -> str:
        """Why it was rolled back."""
        return f"{self.what}; {self.wanted} before that would have {self.then}"

    def held(self) -> str:
        """That it is not, and what it is held for."""
        return (
            f"{self.what}; it is held (evaluation.onDeadline), every guard armed, for a person, "
            f"or for {self.wanted}"
        )


def late_warming(limit: timedelta, unjudged: Sequence[Judgement], stage: str) -> Late:
    """A canary that never became judgeable."""
    late = f"not judgeable {format_duration(limit)} after its windows should have been full"
    wanted = "every condition judged at one look"
    return Late(_late(late, _points(unjudged)), wanted, f"started stage {stage}")


def late_stage(
    limit: timedelta, doubts: Sequence[Judgement], then: str, whole: timedelta | None
) -> Late:
    """A canary whose stage does not end.

    Args:
        doubts: what was not Ok.
        then: what would have come next.
        whole: duration of the stage, if it could not be observed in full.
    """
    late = f"not judged good {format_duration(limit)} after it was due"
    wanted = "every condition Ok at one look"
    if whole is not None:
        wanted = f"the {format_duration(whole)} of the stage observed in full and {wanted}"
    return Late(_late(late, _points(doubts)), wanted, f"led to {then}")


def late_promotion(
    limit: timedelta, doubts: Sequence[Judgement], is_ready: bool, problem: str | None
) -> Late:
    """A canary that has passed every stage.

    Args:
        doubts: what was not Ok.
        is_ready: whether its pods on the full symbol set were.
        problem: what kept them from it.
    """
    points = _points(doubts)
    if not is_ready:
        # Room must be left for the conditions.
        told = f": {problem[: MOST_OF_A_PROBLEM // 2]}" if problem else ""
        points.insert(0, f"its pods on the full symbol set are not ready{told}")
    late = f"not promoted {format_duration(limit)} after every stage had passed"
    wanted = "its pods on the full symbol set ready and every condition Ok at one look"
    return Late(_late(late, points), wanted, "promoted it")


def _late(late: str, points: Sequence[str]) -> str:
    told = "; ".join(points[:MOST_TOLD])
    return late + (f": {told}" if told else "") + _more(len(points))


def _points(judgements: Sequence[Judgement]) -> list[str]:
    return [j.message + _rows(j) for j in judgements]


def evidence(judgements: Sequence[Judgement]) -> str:
    """What a promotion rests on: the judgements that were the closest."""
    closest = sorted(judgements, key=_room)[:MOST_TOLD]
    told = "; ".join(_points(closest))
    return f"every condition is Ok on every canary symbol, closest to its bound: {told}"


def word_of_passing(hand: Hand, stage: str | None) -> str:
    """On whose word a stage has ended, as the beginning of a sentence; empty if on nobody's."""
    if hand.skip is not None:
        return f"stage {stage} was skipped by {hand.skip}; "
    approval = hand.approvals.get(stage or "")
    return f"stage {stage} was approved by {approval}; " if approval else ""


def override(word: Word, doubts: Sequence[Judgement]) -> str:
    """On whose word a promotion was not waited for, and what was not proven at it."""
    text = f"on the word of {word}, before its stages had passed"
    points = _points(doubts)
    told = "; ".join(points[:MOST_TOLD]) + _more(len(points))
    return f"{text}, which overrides the evidence: {told}" if points else text


def _room(judgement: Judgement) -> float:
    """How far the worst that may be true is from the bound, relative to the bound."""
    condition, bound = judgement.condition, judgement.bound
    worst = judgement.value or 0.0
    if bound:
        worst = bound.whole_upper if condition.sign == ">" else bound.whole_lower
    return abs(worst - condition.threshold) / (abs(condition.threshold) or 1.0)


def _rows(judgement: Judgement) -> str:
    return "" if judgement.samples is None else f", {judgement.samples} rows"


def _more(count: int) -> str:
    return f"; and {count - MOST_TOLD} more" if count > MOST_TOLD else ""


def _whole_seconds(value: timedelta) -> str:
    return format_duration(timedelta(seconds=int(value.total_seconds())))
