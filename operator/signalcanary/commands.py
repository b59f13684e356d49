"""What people ask of a rollout, read from the annotations of its SignalCanary. Pure.

`pause` is a state: the rollout is paused for as long as the annotation is there. Every other verb
is done once. Each names the very attempt, and where it matters the stage, that it is about, so
that one that stays in Git, or comes back by a sync, cannot act on anything that comes later.

A value is a text or JSON. As a text: the attempt, then the reason in the words of a person:

    signalcanary.dev/approve: 3f9a1c2e-4/canary reviewed with the desk
    signalcanary.dev/pause: exchange maintenance

As JSON, which the command line writes: ``{"about", "id", "by", "reason"}``. Whatever else the value
is, it becomes a command with a problem, so that it is answered and never dropped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import ValidationError

from signalcanary.api import DNS_LABEL, GROUP
from signalcanary.contract import Model


class Verb(StrEnum):
    """Ordered by urgency, which is the order in which they are done at one look."""

    ABORT = "abort"
    ROLLBACK = "rollback"
    PAUSE = "pause"
    RESUME = "resume"
    APPROVE = "approve"
    SKIP = "skip"
    PROMOTE = "promote"
    RETRY = "retry"


MAX_COMMANDS: Final = 16
"""Annotations read at one look; there are eight verbs."""
_MAX_VALUE: Final = 2048
_MAX_NAME: Final = 128
_MAX_REASON: Final = 300
_ABOUT: Final = re.compile(r"([0-9a-f]{8}-[1-9][0-9]{0,15})(?:/([a-z0-9-]{1,63}))?", re.ASCII)
NEEDS_DETAIL: Final = {Verb.APPROVE: "stage", Verb.SKIP: "stage", Verb.ROLLBACK: "revision"}
"""What stands after the attempt."""
WITHOUT_ABOUT: Final = frozenset({Verb.PAUSE, Verb.RESUME})


@dataclass(frozen=True)
class Command:
    """One thing that was asked for.

    Attributes:
        verb: the name of the annotation, whether there is such a verb or not.
        id: the same for as long as it is the same command.
        about: the attempt, "<revision>-<attempt>".
        detail: a stage; of rollback, the revision to go back to.
        by: who asks, as the client says; nobody has checked it.
        why: in the words of a person.
        problem: why it cannot be read; empty if it can.
    """

    verb: str
    id: str
    about: str = ""
    detail: str = ""
    by: str = ""
    why: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Asked:
    """All that the annotations ask for.

    Attributes:
        pause: the annotation that pauses; None if it is not there.
        commands: the others, in the order in which they are done.
    """

    pause: Command | None = None
    commands: tuple[Command, ...] = ()


class Value(Model):
    """The JSON that a value may be."""

    about: str = ""
    id: str = ""
    by: str = ""
    reason: str = ""


def annotation(verb: Verb) -> str:
    return f"{GROUP}/{verb.value}"


def read_annotations(annotations: Mapping[str, str] | None) -> Asked:
    """What the annotations of a SignalCanary ask for."""
    prefix, known = f"{GROUP}/", list(Verb)
    found = [
        (name.removeprefix(prefix), str(value))
        for name, value in (annotations or {}).items()
        if name.startswith(prefix)
    ]
    found.sort(key=lambda one: (known.index(Verb(one[0])) if one[0] in known else len(known), one))
    commands = [_read(name, value) for name, value in found[:MAX_COMMANDS]]
    pause = next((c for c in commands if c.verb == Verb.PAUSE), None)
    if pause is not None and pause.why.lower() == "false":
        pause = None
    return Asked(pause, tuple(c for c in commands if c.verb != Verb.PAUSE))


def _read(name: str, value: str) -> Command:
    verb = name[:_MAX_NAME]
    same = hashlib.sha256(value.encode(errors="replace")).hexdigest()[:16]
    if name not in list(Verb):
        return Command(verb, same, problem=f"there is no such verb: write one of {_VERBS}")
    if len(value) > _MAX_VALUE:
        return Command(verb, same, problem=f"the value is longer than {_MAX_VALUE} characters")
    text = value.strip()
    try:
        wire = Value.model_validate_json(text) if text.startswith("{") else _read_text(verb, text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the value"
        return Command(
            verb, same, why=_cut(text), problem=f"not as expected: {where}: {first['msg']}"
        )
    command = Command(
        verb,
        _cut(wire.id, _MAX_NAME) or same,
        by=_cut(wire.by, _MAX_NAME),
        why=_cut(wire.reason),
    )
    if verb in WITHOUT_ABOUT:
        return command
    match = _ABOUT.fullmatch(wire.about)
    detail = match.group(2) if match else None
    wanted = NEEDS_DETAIL.get(Verb(verb))
    if match is None or (wanted and not (detail and re.fullmatch(DNS_LABEL, detail))):
        form = "<revision>-<attempt>" + (f"/<{wanted}>" if wanted else "")
        problem = f"it must begin with what it is about, {form}, for example {_EXAMPLES[wanted]}"
        return Command(verb, command.id, by=command.by, why=command.why, problem=problem)
    return Command(verb, command.id, match.group(1), detail or "", command.by, command.why)


def _read_text(verb: str, text: str) -> Value:
    if verb in WITHOUT_ABOUT:
        return Value(reason=text)
    about, _, reason = text.partition(" ")
    return Value(about=about, reason=reason.strip())


def _cut(text: str, most: int = _MAX_REASON) -> str:
    """A stranger's text as status can hold it: not too long, and valid Unicode."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


_VERBS: Final = ", ".join(sorted(verb.value for verb in Verb))
_EXAMPLES: Final = {
    None: "3f9a1c2e-4",
    "stage": "3f9a1c2e-4/canary",
    "revision": "3f9a1c2e-4/0b77d2aa",
}
