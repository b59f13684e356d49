"""Why a SignalCanary stands where it does, and why the last decision was taken. Pure.

Everything is read from the object alone, so that it can be asked long after, and by someone who
may not ask Prometheus. What is given here as a document `explain -o json` prints as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from signalcanary.api import SignalCanarySpec
from signalcanary.console.health import stand
from signalcanary.contract import format_duration
from signalcanary.evaluate import Verdict
from signalcanary.explain import names
from signalcanary.judged import explain_row, rows_of_decision
from signalcanary.rollout import ARMED, Phase, judged_revision
from signalcanary.status import parse


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
    if status.get("phase") and (judged := judged_revision(parse(status))):
        track, ref = judged
        document["conditions"] = [
            explain_row(item, {"symbol": one["symbol"], **row}, ref.name, track)
            for one in status.get("symbols", ())
            for row in one.get("conditions", ())
        ]
    if decision := status.get("decision"):
        document["decision"] = {**decision, "conditions": rows_of_decision(item)}
    return {key: value for key, value in document.items() if value is not None}


def _judged_short(status: Mapping[str, Any]) -> list[str]:
    """Each judgement that is not well; what nobody could judge for one reason is one sentence."""
    alike: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for one in status.get("symbols", ()):
        for judged in one.get("conditions", ()):
            if judged["verdict"] == Verdict.OK and judged.get("tier") != "Critical":
                continue
            alone = one["symbol"] if Verdict(judged["verdict"]).is_judged else ""
            key = (judged["condition"], judged["verdict"], judged["reason"], alone)
            alike.setdefault(key, []).append((one["symbol"], judged["message"]))
    return [
        f"{names([symbol for symbol, _ in same])}: {condition}: {verdict}"
        + (f": {same[0][1]}" if len(same) == 1 else f" ({reason})")
        for (condition, verdict, reason, _), same in alike.items()
    ]


def _blocks(item: Mapping[str, Any], now: datetime) -> list[str]:
    """What keeps the canary from the next stage, or from the promotion, each in a sentence."""
    status = item["status"]
    state = parse(status)
    if state.phase not in ARMED | {Phase.WAITING}:
        return []
    told = [
        condition["message"]
        for condition in status.get("conditions", ())
        if condition["type"] in ("Paused", "ApprovalNeeded", "Waiting")
        and condition["status"] == "True"
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
    told += _judged_short(status)
    clock = state.stage_clock
    if state.phase is Phase.PROGRESSING and clock is not None:
        spec = SignalCanarySpec.model_validate(item["spec"])
        of_stage = next((s for s in spec.stages if s.name == state.stage), None)
        if of_stage and (left := of_stage.duration - clock.elapsed(now)) > timedelta(0):
            whole = timedelta(seconds=int(left.total_seconds()))
            told.append(f"stage {of_stage.name} has {format_duration(whole)} more to be observed")
    return told
