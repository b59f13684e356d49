"""The verbs by which people take a rollout in hand: write the annotation, wait for the answer.

What may be done when is the operator's to say; nothing of it is repeated here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from signalcanary.commands import Value, Verb, annotation
from signalcanary.console.access import Access, AccessError, open_access

OK: Final = 0
FAILED: Final = 1
_MERGE: Final = "application/merge-patch+json"
_PAUSE_SECONDS: Final = 0.3
_REVIEW: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
FIELD_MANAGER: Final = "kubectl-signalcanary"

Item = Mapping[str, Any]


def run(args: argparse.Namespace) -> int:
    """Do what a verb asks; gives the exit code."""

    async def ask() -> int:
        async with open_access(args) as access:
            return await _ask(access, args)

    try:
        return asyncio.run(ask())
    except AccessError as error:
        print(f"signalcanary {args.verb}: {error}", file=sys.stderr)
        return FAILED


async def _ask(access: Access, args: argparse.Namespace) -> int:
    verb, name = Verb(args.verb), args.name
    wish = Wish(verb, args.stage, args.to, args.reason or "")
    answer = await ask(access, name, wish, args.timeout)
    if answer["outcome"] == "Done":
        print(f"{name}: {answer['message']}")
        return OK
    print(f"signalcanary {verb}: {answer['message']} ({answer['refusal']})", file=sys.stderr)
    return FAILED


@dataclass(frozen=True)
class Wish:
    """What a person wants.

    Attributes:
        stage: to approve, if it is another one than the present one.
        to: version or revision to go back to.
        reason: in the words of a person.
    """

    verb: Verb
    stage: str | None = None
    to: str | None = None
    reason: str = ""


async def ask(access: Access, name: str, wish: Wish, timeout_seconds: float) -> Item:
    """Write down what a person wants, and wait for the operator's answer, as status has it.

    Raises:
        AccessError: it cannot be written, or was not answered in time.
    """
    verb = wish.verb
    item = await access.get(name)
    value = Value(
        about=find_subject(verb, item, stage=wish.stage, to=wish.to),
        id=uuid.uuid4().hex[:12],
        by=await _who(access),
        reason=wish.reason,
    )
    patch = {"metadata": {"annotations": build_annotations(verb, value)}}
    path = f"{access.path(name)}?fieldManager={FIELD_MANAGER}"
    item = await access.request("PATCH", path, f"SignalCanary {name}", patch, _MERGE)
    until = time.monotonic() + timeout_seconds
    while (answer := find_answer(verb, value.id, item)) is None:
        if time.monotonic() > until:
            raise AccessError(
                f"it is written, but the operator has not answered within {timeout_seconds:g} s: "
                "does it run?"
            )
        await asyncio.sleep(_PAUSE_SECONDS)
        item = await access.get(name)
    return answer


async def _who(access: Access) -> str:
    """Who asks, by the API server's word; empty if it does not say (before Kubernetes 1.28)."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = await access.request("POST", _REVIEW, "SelfSubjectReview", review)
        return str(answer["status"]["userInfo"]["username"])
    except (AccessError, LookupError, TypeError):
        return ""


# --------------------------------------------------------------------------- pure


def build_annotations(verb: Verb, value: Value) -> dict[str, str | None]:
    """What is to be written for a verb; None is taken out."""
    text = json.dumps({k: v for k, v in value.to_wire().items() if v}, ensure_ascii=False)
    others = {Verb.PAUSE: Verb.RESUME, Verb.RESUME: Verb.PAUSE}
    taken_out = {annotation(others[verb]): None} if verb in others else {}
    return {annotation(verb): text, **taken_out}


def find_subject(verb: Verb, item: Item, stage: str | None, to: str | None) -> str:
    """What the command is about, as the object stands.

    Args:
        stage: to approve, if it is another one than the present one.
        to: version or revision to go back to.

    Raises:
        AccessError: the object has nothing that this could be about.
    """
    status = item.get("status") or {}
    if verb in (Verb.PAUSE, Verb.RESUME):
        return ""
    subject = str(status.get("subject", ""))
    if not subject:
        raise AccessError("the operator has not looked at it yet: does it run?")
    attempt, _, present = subject.partition("/")
    if verb is Verb.ROLLBACK:
        stable = status.get("stable")
        if not stable:
            raise AccessError("no revision is stable; abort takes a canary back")
        return f"{stable['name']}-{stable['attempt']}/{_find_former(status, str(to))}"
    if verb is Verb.APPROVE:
        if not (stage or present):
            raise AccessError(f"it is in no stage ({status.get('phase')}): give one by --stage")
        return f"{attempt}/{stage or present}"
    return subject


def _find_former(status: Item, to: str) -> str:
    """The revision of a version or of a revision's name.

    Of several of one version the newest; the operator refuses what was never stable, and says
    what was.
    """
    former = status.get("former", ())
    named = (ref["name"] for ref in former if to in (ref["name"], ref["version"]))
    found = next(named, None)
    if found is None:
        known = ", ".join(f"{ref['version']} ({ref['name']})" for ref in former) or "none"
        raise AccessError(f"{to} was not stable before; those that were: {known}")
    return str(found)


def find_answer(verb: Verb, id_: str, item: Item) -> Item | None:
    """The operator's answer to a command; None if there is none yet."""
    hand = (item.get("status") or {}).get("hand", {})
    for answer in hand.get("answers", ()):
        if (answer["verb"], answer["id"]) == (verb.value, id_):
            found: Item = answer
            return found
    if verb is Verb.PAUSE and hand.get("pause"):
        return {"outcome": "Done", "message": f"it is paused already, by {hand['pause']['by']}"}
    return None
