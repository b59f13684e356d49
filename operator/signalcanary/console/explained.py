"""Why a SignalCanary stands where it does, and why the last decision was taken. Pure.

Everything is read from the object alone, so that it can be asked long after, and by someone who
may not ask Prometheus. What is given here as a document `explain -o json` prints as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from signalcanary.api import Condition, Of, SignalCanarySpec
from signalcanary.console.health import stand
from signalcanary.contract import (
    DIFFERENCE,
    MetricLabel,
    Track,
    format_duration,
    parse_duration,
    shown,
)
from signalcanary.evaluate import Verdict
from signalcanary.metrics_source import escape
from signalcanary.promql import fill
from signalcanary.rollout import GUARDED, Phase
from signalcanary.status import parse

Row = dict[str, Any]
"""A judgement as status has it, with the symbol, the test, the query and what would change it."""

ANYTIME = "guarded: by bounds that hold at every look"
LITERAL = "literal: the value itself, at every look"


def explain(item: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Why the object stands where it does.

    Raises:
        KeyError, ValueError, TypeError: its status was written by no operator of this version.
    """
    status, metadata = item.get("status") or {}, item["metadata"]
    standing = stand(item, now)
    document: dict[str, Any] = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "health": standing.health.value,
        "why": standing.why or status.get("message", ""),
        "phase": status.get("phase"),
        "stage": status.get("stage"),
        "canary": status.get("canary") or status.get("rejected"),
        "stable": status.get("stable"),
        "message": status.get("message", ""),
        "next": status.get("next", ""),
        "lookedAt": status.get("lastEvaluationTime"),
        "blocks": _blocks(item, now) if status.get("phase") else [],
        "conditions": [],
        "decision": None,
    }
    canary = status.get("canary")
    if canary:
        document["conditions"] = [
            _row(item, {"symbol": one["symbol"], **judged}, canary["name"])
            for one in status.get("symbols", ())
            for judged in one.get("conditions", ())
        ]
    if decision := status.get("decision"):
        rows = [_row(item, judged, decision["revision"]) for judged in decision["conditions"]]
        document["decision"] = {**decision, "conditions": rows}
    return {key: value for key, value in document.items() if value is not None}


def _blocks(item: Mapping[str, Any], now: datetime) -> list[str]:
    """What keeps the canary from the next stage, or from the promotion, each in a sentence."""
    status = item["status"]
    state = parse(status)
    if state.phase not in GUARDED:
        return []
    told = [
        condition["message"]
        for condition in status.get("conditions", ())
        if condition["type"] in ("Paused", "ApprovalNeeded") and condition["status"] == "True"
    ]
    told += [
        f"the metrics source cannot be read: {condition['message']}"
        for condition in status.get("conditions", ())
        if condition["type"] == "MetricsAvailable" and condition["status"] == "False"
    ]
    told += [
        f"{workload['name']} is not ready ({workload['ready']})"
        + (f": {workload['message']}" if workload.get("message") else "")
        for workload in status.get("workloads", ())
        if len(set(workload["ready"].split("/"))) > 1
    ]
    told += [
        f"{one['symbol']}: {judged['condition']}: {judged['verdict']}: {judged['message']}"
        for one in status.get("symbols", ())
        for judged in one.get("conditions", ())
        if judged["verdict"] != Verdict.OK or judged.get("tier") == "Critical"
    ]
    clock = state.stage_clock
    if state.phase is Phase.PROGRESSING and clock is not None:
        spec = SignalCanarySpec.model_validate(item["spec"])
        of_stage = next((s for s in spec.stages if s.name == state.stage), None)
        if of_stage and (left := of_stage.duration - clock.elapsed(now)) > timedelta(0):
            whole = timedelta(seconds=int(left.total_seconds()))
            told.append(f"stage {of_stage.name} has {format_duration(whole)} more to be observed")
    return told


# --------------------------------------------------------------------------- one judgement


def _row(item: Mapping[str, Any], judged: Mapping[str, Any], revision: str) -> Row:
    condition = _condition(item, judged["key"])
    row: Row = dict(judged)
    row["test"] = _test(judged, condition)
    row["query"] = _query(item, condition, judged["symbol"], revision) if condition else ""
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
    if condition.is_guarded:
        return f"{LITERAL}, as no evidence is exported beside it"
    return LITERAL


def _query(item: Mapping[str, Any], condition: Condition, symbol: str, revision: str) -> str:
    """What to ask Prometheus for the value, as PromQL."""
    metadata = item["metadata"]
    labels = {
        MetricLabel.NAMESPACE.value: metadata["namespace"],
        MetricLabel.NAME.value: metadata["name"],
        MetricLabel.REVISION.value: revision,
        MetricLabel.TRACK.value: Track.CANARY.value,
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


def _would_change(judged: Mapping[str, Any], condition: Condition | None) -> str:
    """What would have made, or will make, another verdict of it."""
    verdict, threshold = Verdict(judged["verdict"]), judged["threshold"]
    is_above = ">" in judged["key"]
    side, within = ("above", "at most") if is_above else ("below", "at least")
    limit, held = shown(threshold), judged.get("allowedFor", "0s")
    lasts = f" for {held}" if parse_duration(held) else ""
    evidence = judged.get("evidence")
    if evidence is None:
        rolls_back = f"a value {side} {limit}{lasts}"
    else:
        rolls_back = f"a {'lower' if is_above else 'upper'} bound of late {side} {limit}{lasts}"
        edge = evidence.get("atLeast" if is_above else "atMost")
        if edge is not None and verdict is not Verdict.BREACHED:
            rolls_back += f" (it is {edge:.4g})"
    match verdict:
        case Verdict.BREACHED:
            kept = f"evidence that leaves {limit} open" if evidence else f"{within} {limit}"
            return f"kept by {kept}" + (f" at one look within {held}" if lasts else "")
        case Verdict.OK:
            return f"rolled back by {rolls_back}"
        case Verdict.UNPROVEN:
            edge = evidence.get("wholeAtMost" if is_above else "wholeAtLeast") if evidence else None
            now = f" (as far as is known it may be {edge:.4g})" if edge is not None else ""
            return f"Ok by evidence that it is {within} {limit}{now}; rolled back by {rolls_back}"
        case Verdict.ERROR:
            return "judged once the metrics source answers"
        case Verdict.NO_DATA:
            return "judged once a fresh value of this revision comes"
        case Verdict.INCONCLUSIVE:
            needed = condition.min_samples if condition else 0
            rows = f" of {needed} rows at least" if needed else ""
            return f"judged once there is a value{rows}; then rolled back by {rolls_back}"
