"""What stands behind a judgement of a status: the test, the query, what would change it. Pure.

Everything is read from the object alone, so that it can be asked long after, and by someone who
may not ask Prometheus.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from signalcanary.api import Condition, Debounce, Of, SignalCanarySpec
from signalcanary.contract import (
    DIFFERENCE,
    MetricLabel,
    Track,
    format_duration,
    parse_duration,
    shown,
)
from signalcanary.evaluate import Verdict
from signalcanary.promql import escape, fill

Row = dict[str, Any]
"""A judgement as status has it, with the symbol, the test, the query and what would change it."""

ANYTIME = "guarded: by bounds that hold at every look"
LITERAL = "literal: the value itself, at every look"


def rows_of_decision(item: Mapping[str, Any]) -> list[Row]:
    """What the last decision rests on; nothing if there was none."""
    decision = (item.get("status") or {}).get("decision")
    if not decision:
        return []
    return [explain_row(item, judged, decision["revision"]) for judged in decision["conditions"]]


def explain_row(
    item: Mapping[str, Any],
    judged: Mapping[str, Any],
    revision: str,
    track: Track = Track.CANARY,
) -> Row:
    """A judgement with what stands behind it.

    Args:
        revision, track: that were judged.
    """
    condition = _condition(item, judged["key"])
    row: Row = dict(judged)
    row["test"] = _test(judged, condition)
    of = (judged["symbol"], revision, track)
    row["query"] = _query(item, condition, *of) if condition else ""
    row["wouldChange"] = _would_change(judged, condition)
    return row


def _condition(item: Mapping[str, Any], key: str) -> Condition | None:
    """The condition of that key; None if the spec does not have it any more."""
    spec = SignalCanarySpec.model_validate(item["spec"])
    return next((c for c in spec.rollback.conditions if c.key == key), None)


def _test(judged: Mapping[str, Any], condition: Condition | None) -> str:
    evidence = judged.get("evidence")
    if evidence:
        level = evidence["level"]
        return ANYTIME + (f", but for a chance of {level:g}" if level else "")
    if condition is None:
        return f"{LITERAL} (the condition is not in the spec any more)"
    if condition.query is not None:
        return f"{LITERAL}, as for every query of one's own"
    if condition.is_guarded and judged.get("value") is None:
        # Whether bounds come with it shows when there is a value.
        return f"{ANYTIME}, where they come with the value"
    if condition.is_guarded:
        return f"{LITERAL}, as no evidence is exported beside it"
    return LITERAL


def _query(
    item: Mapping[str, Any], condition: Condition, symbol: str, revision: str, track: Track
) -> str:
    """What to ask Prometheus for the value, as PromQL."""
    metadata = item["metadata"]
    labels = {
        MetricLabel.NAMESPACE.value: metadata["namespace"],
        MetricLabel.NAME.value: metadata["name"],
        MetricLabel.REVISION.value: revision,
        MetricLabel.TRACK.value: track.value,
        MetricLabel.SYMBOL.value: symbol,
    }
    if condition.query is not None:
        return fill(condition.query, {**labels, "name": metadata["name"]})
    name = condition.metric
    if condition.of is not Of.VALUE:
        name, labels[MetricLabel.METRIC.value] = DIFFERENCE, condition.metric
    horizon = SignalCanarySpec.model_validate(item["spec"]).signal.label.horizon
    text = ",".join(f'{label}="{escape(value)}"' for label, value in labels.items())
    # What has no horizon, as all of harvest's, does not depend on it.
    return f'{name}{{{text},{MetricLabel.HORIZON.value}=~"{format_duration(horizon)}|"}}'


def _at_one_of(debounce: Debounce) -> str:
    """When a value would have had to be within the bound."""
    if debounce.for_:
        return f" at one look within {format_duration(debounce.for_)}"
    return " at one of these evaluations" if debounce.consecutive > 1 else ""


def _would_change(judged: Mapping[str, Any], condition: Condition | None) -> str:
    """What would have made, or will make, another verdict of it."""
    verdict, threshold = Verdict(judged["verdict"]), judged["threshold"]
    is_above = ">" in judged["key"]
    side, within = ("above", "at most") if is_above else ("below", "at least")
    limit, held = shown(threshold), judged.get("allowedFor", "0s")
    debounce = Debounce(parse_duration(held), judged.get("consecutive", 1))
    lasts = f" {debounce.describe()}".rstrip()
    evidence = judged.get("evidence")
    if evidence is None:
        rollback = f"a rollback takes a value {side} {limit}{lasts}"
    else:
        bound = "a lower" if is_above else "an upper"
        rollback = f"a rollback takes {bound} bound of late {side} {limit}{lasts}"
        edge = evidence.get("atLeast" if is_above else "atMost")
        if edge is not None and verdict is not Verdict.BREACHED:
            rollback += f" (it is {edge:.4g})"
    match verdict:
        case Verdict.BREACHED:
            kept = (
                f"evidence that leaves {limit} open" if evidence else f"a value of {within} {limit}"
            )
            return f"keeping it takes {kept}" + _at_one_of(debounce)
        case Verdict.OK:
            return rollback
        case Verdict.UNPROVEN:
            edge = evidence.get("wholeAtMost" if is_above else "wholeAtLeast") if evidence else None
            now = f" (as far as is known it may be {edge:.4g})" if edge is not None else ""
            return f"Ok takes evidence that it is {within} {limit}{now}; {rollback}"
        case Verdict.ERROR:
            return "judged once the metrics source answers"
        case Verdict.NO_DATA:
            return "judged once a fresh value of this revision comes"
        case Verdict.INCONCLUSIVE:
            needed = condition.min_samples if condition else 0
            rows = f" of {needed} rows at least" if needed else ""
            return f"judged once there is a value{rows}; then {rollback}"
