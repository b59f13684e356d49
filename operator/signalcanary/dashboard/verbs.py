"""What a person may do with a rollout, and what the operator would say to it now.

Whether somebody may is asked of the API server; whether it would be done, of the very `obey` that
the operator calls, on the state that status has. That is a forecast, and no more: the operator
decides, by what it sees when it is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from signalcanary.api import GROUP, PLURAL, SignalCanarySpec
from signalcanary.commands import Value, Verb, annotation, read_annotations
from signalcanary.console.access import Access, AccessError
from signalcanary.console.hand import build_annotations, find_subject
from signalcanary.console.judgements import judgements_of
from signalcanary.console.options import HAND_VERBS
from signalcanary.evaluate import MetricsSeen, SourceFailure
from signalcanary.hand import obey
from signalcanary.look import Look
from signalcanary.revisions import build_revision, refer_to
from signalcanary.rollout import Observations
from signalcanary.status import parse

Item = Mapping[str, Any]

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_ID: Final = "forecast"


@dataclass(frozen=True)
class Right:
    """Whether the user may take a rollout in hand; if not, why not."""

    is_given: bool
    reason: str = ""


async def ask_right(access: Access, name: str) -> Right:
    """Whether the user may annotate a SignalCanary, which is what every verb does."""
    attributes = {
        "group": GROUP,
        "resource": PLURAL,
        "verb": "patch",
        "namespace": access.namespace,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        status = (await access.request("POST", _REVIEWS, "what you may do", review))["status"]
    except AccessError:
        return Right(True)  # not known: the API server says so when it is tried
    if status.get("allowed"):
        return Right(True)
    why = f" ({status['reason']})" if status.get("reason") else ""
    return Right(
        False,
        f"you may not patch {PLURAL} in namespace {access.namespace}{why}: ask for the ClusterRole "
        "edit there, which the chart extends by it",
    )


def offer(
    item: Item, right: Right, recorded: Collection[str], now: datetime
) -> list[dict[str, Any]]:
    """The verbs, each with what it does and why it would be refused; empty if it would be done.

    Args:
        recorded: names of the revisions on record.

    Raises:
        KeyError, ValueError, TypeError: the status was written by another version.
    """
    status = item.get("status") or {}
    former = [
        {"name": ref["name"], "version": ref["version"]}
        for ref in status.get("former", ())
        if ref["name"] != (status.get("stable") or {}).get("name")
    ]
    told = []
    for verb in Verb:
        refusal = right.reason or _foresee(verb, item, former, recorded, now)
        one = {"verb": verb.value, "does": HAND_VERBS[verb.value], "isGiven": right.is_given}
        told.append({**one, "refusal": refusal, **({"to": former} if verb == "rollback" else {})})
    return told


def _foresee(
    verb: Verb,
    item: Item,
    former: list[dict[str, str]],
    recorded: Collection[str],
    now: datetime,
) -> str:
    """Why the operator would refuse it now; empty if it would do it."""
    status = item.get("status") or {}
    if not status.get("phase"):
        return "the operator has not looked at it yet"
    if verb is Verb.ROLLBACK and not former:
        return "no other revision was stable before"
    state = parse(status)
    if verb is Verb.PAUSE and state.hand.pause is not None:
        return f"it is paused already, by {state.hand.pause}"
    try:
        about = find_subject(verb, item, stage=None, to=former[0]["name"] if former else None)
    except AccessError as error:
        return str(error)
    spec = SignalCanarySpec.model_validate(item["spec"])
    wished = build_annotations(verb, Value(about=about, id=_ID))
    kept = {}
    if state.hand.pause is not None:
        kept[annotation(Verb.PAUSE)] = "still"
    annotations = {key: value for key, value in {**kept, **wished}.items() if value is not None}
    seen = Observations(
        state.observed_generation,
        refer_to(build_revision(spec, "-"), state.observed_generation),
        MetricsSeen(failure=_failure(status)),
        asked=read_annotations(annotations),
        recorded=frozenset(recorded),
    )
    look = Look(spec, seen, now, judgements_of(item, spec)).by(state)
    answer = obey(look, state).hand.answers[0]
    return answer.message if answer.refusal else ""


def _failure(status: Mapping[str, Any]) -> SourceFailure | None:
    for condition in status.get("conditions", ()):
        if condition["type"] == "MetricsAvailable" and condition["status"] == "False":
            return SourceFailure(condition["reason"], condition["message"])
    return None
