"""What the page shows of the fleet and of one rollout, as JSON. Pure.

It puts together what `status`, `explain` and `history` say, and sorts it for the eye. All texts go
out as they are: the page shows them as text and never as anything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from signalcanary.api import Condition, SignalCanarySpec
from signalcanary.console.explained import explain
from signalcanary.console.health import Health, explain_unreadable, stand
from signalcanary.console.history import history
from signalcanary.contract import METRICS_BY_NAME, Unit
from signalcanary.dashboard.curves import Key, Point
from signalcanary.dashboard.steps import steps_of
from signalcanary.evaluate import Verdict
from signalcanary.rollout import TAKEN_BACK, judged_spec
from signalcanary.status import parse

Item = Mapping[str, Any]

UNREADABLE: Final = "Unreadable"
"""In the place of a health, where this version cannot read the status."""

_ERRORS: Final = (LookupError, ValueError, TypeError, AttributeError)
_WORST_FIRST: Final = (Health.DEGRADED, UNREADABLE, Health.HELD, Health.PROGRESSING, Health.HEALTHY)


# --------------------------------------------------------------------------- the fleet


def fleet(items: Iterable[Item], now: datetime) -> list[dict[str, Any]]:
    """All rollouts, one row each, the worst first."""
    rows = [_row(item, now) for item in items]
    order = {health: place for place, health in enumerate(_WORST_FIRST)}
    return sorted(rows, key=lambda r: (order[r["health"]], r["namespace"], r["name"]))


def _row(item: Item, now: datetime) -> dict[str, Any]:
    metadata, status = item["metadata"], item.get("status") or {}
    row = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "created": metadata.get("creationTimestamp", ""),
        "phase": status.get("phase", ""),
        "worst": status.get("health", ""),
        **{
            role: (status.get(role) or {}).get("version", "")
            for role in ("canary", "stable", "rejected", "restoring")
        },
        "steps": [],
    }
    try:
        standing = stand(item, now)
        row |= {
            "health": standing.health.value,
            "why": standing.why or status.get("message", ""),
            "next": status.get("next", ""),
            "steps": _steps(item),
        }
    except _ERRORS as error:
        row |= {"health": UNREADABLE, "why": explain_unreadable(item, error), "next": ""}
    return row


def _steps(item: Item) -> list[dict[str, Any]]:
    status = item.get("status") or {}
    if not status.get("phase"):
        return []
    spec = SignalCanarySpec.model_validate(item["spec"])
    return steps_of(spec, parse(status), status.get("warmup", ""))


# --------------------------------------------------------------------------- one rollout


@dataclass(frozen=True)
class Told:
    """What is known of a rollout beside its object.

    Attributes:
        verbs: as `verbs.offer` has them.
        curves: the values over time.
        notes: what could not be read, each in a sentence.
        curves_from: where the curves come from, if the reader should know.
    """

    events: Sequence[Item] = ()
    records: Sequence[Item] = ()
    verbs: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[Key, Sequence[Point]] | None = None
    notes: Sequence[str] = ()
    curves_from: str = ""


def rollout(item: Item, told: Told, now: datetime) -> dict[str, Any]:
    """One rollout, with all that stands behind it."""
    try:
        return _rollout(item, told, now)
    except _ERRORS as error:
        return _row(item, now) | {"health": UNREADABLE, "why": explain_unreadable(item, error)}


def _rollout(item: Item, told: Told, now: datetime) -> dict[str, Any]:
    status = item.get("status") or {}
    spec = SignalCanarySpec.model_validate(item["spec"])
    explained, past = explain(item, now), history(item, told.events, told.records)
    decision = explained.get("decision")
    is_over = not explained["conditions"]
    rows = decision["conditions"] if decision and is_over else explained["conditions"]
    return {
        **_row(item, now),
        "message": explained["message"],
        "blocks": explained["blocks"],
        "lookedAt": explained.get("lookedAt", ""),
        "serving": _symbols_served(status, spec),
        "conditions": _conditions(spec, rows, told.curves or {}),
        "conditionsAreOf": "decision" if decision and is_over else "now",
        "leftOut": _left_out(item, spec) if not is_over else 0,
        "held": [dict(one) for one in status.get("held", ())],
        "decision": _decision(decision),
        "verbs": list(told.verbs),
        "history": list(reversed(past["history"])),
        "revisions": past["revisions"],
        "workloads": list(status.get("workloads", ())),
        "notes": list(told.notes),
        "curvesFrom": told.curves_from,
    }


def _symbols_served(status: Mapping[str, Any], spec: SignalCanarySpec) -> dict[str, Any]:
    kept = {one["symbol"]: one for one in status.get("kept", ())}
    return {
        "canary": list(spec.symbols.canary),
        "full": list(spec.symbols.full),
        "kept": [
            f"{symbol}: {(one.get('revision') or {}).get('version', 'nothing serves it')}"
            for symbol, one in kept.items()
        ],
    }


def _left_out(item: Item, spec: SignalCanarySpec) -> int:
    """How many symbols are judged of which status, being full, says nothing: the better ones."""
    status = item["status"]
    state = parse(status)
    judged = set(judged_spec(spec, state).symbols.canary) - set(state.held)
    return len(judged - {one["symbol"] for one in status.get("symbols", ())})


def _decision(decision: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    kind = "rolled back" if decision["phase"] in set(TAKEN_BACK) else "promoted"
    return {key: value for key, value in decision.items() if key != "conditions"} | {"kind": kind}


def _conditions(
    spec: SignalCanarySpec,
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[Key, Sequence[Point]],
) -> list[dict[str, Any]]:
    """The judgements by condition: the worst first, and of each the worst symbol first."""
    declared = {c.key: c for c in spec.rollback.conditions}
    keys = [key for key in declared if any(row["key"] == key for row in rows)]
    keys += [key for key in dict.fromkeys(row["key"] for row in rows) if key not in declared]
    shown = []
    for key in keys:
        of_key = [row for row in rows if row["key"] == key]
        of_key.sort(key=_urgency, reverse=True)
        first = of_key[0]
        shown.append(
            {
                "key": key,
                "words": first["condition"],
                "threshold": first["threshold"],
                "isAbove": ">" in key,
                **_about(declared.get(key)),
                "test": first["test"],
                "worst": first["verdict"],
                "symbols": [
                    {**row, "points": [list(p) for p in curves.get((key, row["symbol"]), ())]}
                    for row in of_key
                ],
            }
        )
    return sorted(shown, key=lambda c: list(Verdict).index(c["worst"]), reverse=True)


def _urgency(row: Mapping[str, Any]) -> tuple[int, float]:
    """By the verdict, and among the same by how far the value is on the threshold's side."""
    value = row.get("value")
    beyond = -math.inf if value is None else value - row["threshold"]
    if value is not None and ">" not in row["key"]:
        beyond = -beyond
    return list(Verdict).index(Verdict(row["verdict"])), beyond


def _about(condition: Condition | None) -> dict[str, Any]:
    """What the metric means, its unit, and the limits short of the threshold."""
    if condition is None:
        return {"means": "", "unit": "", "tiers": []}
    metric = METRICS_BY_NAME.get(condition.metric) if condition.query is None else None
    return {
        "means": metric.help if metric else "a query of this rollout's own",
        "unit": "ms" if metric and metric.unit is Unit.MILLISECONDS else "",
        "tiers": [{"name": t.value, "limit": limit} for t, limit in condition.tiers.items()],
    }
