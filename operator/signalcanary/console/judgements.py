"""The judgements that a status shows, read back for what draws or weighs them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from signalcanary.api import SignalCanarySpec, Tier
from signalcanary.evaluate import Bound, Judgement, Verdict


def judgements_of(item: Mapping[str, Any], spec: SignalCanarySpec) -> tuple[Judgement, ...]:
    """The judgements that a status shows, of the conditions that the spec still has.

    Raises:
        KeyError, ValueError: it was written by another version of the operator.
    """
    conditions = {c.key: c for c in spec.rollback.conditions}
    return tuple(
        Judgement(
            conditions[row["key"]],
            one["symbol"],
            Verdict(row["verdict"]),
            row["reason"],
            row["message"],
            row.get("value"),
            row.get("samples"),
            _bound(row.get("evidence")),
            Tier(row.get("tier", Tier.NORMAL)),
        )
        for one in (item.get("status") or {}).get("symbols", ())
        for row in one.get("conditions", ())
        if row["key"] in conditions
    )


def _bound(evidence: Mapping[str, float] | None) -> Bound | None:
    if evidence is None:
        return None
    names = {"lower": "atLeast", "upper": "atMost"}
    names |= {"whole_lower": "wholeAtLeast", "whole_upper": "wholeAtMost"}
    ends = {end: evidence[name] for end, name in names.items() if name in evidence}
    return Bound(evidence["level"], **ends)
