"""What manifests come to together: the order and the groups of all that are checked at once. Pure.

A namespace may hold more than these. So what is missing here is told, and is no mistake; a ring is
one whatever else there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from signalcanary.api import Pace
from signalcanary.groups import find_ring
from signalcanary.lint import Checked, Problem


@dataclass(frozen=True)
class Together:
    """What is said of one manifest beside the others."""

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def check_together(found: Sequence[Checked]) -> list[Together]:
    """Look at every manifest beside those of its namespace, in their order."""
    return [
        Together(tuple(_rings(one, beside)), tuple(_notes(one, beside)))
        for one in found
        for beside in ([other for other in found if other.namespace == one.namespace],)
    ]


def _rings(one: Checked, beside: Sequence[Checked]) -> Iterator[Problem]:
    afters = {other.name: other.spec.after or () for other in beside if other.spec is not None}
    ring = find_ring(one.name, afters)
    if ring is not None:
        text = f"the order goes in a ring: {' after '.join(ring)}: take one of them out"
        yield Problem(one.after_line, "spec.after", text)


def _notes(one: Checked, beside: Sequence[Checked]) -> Iterator[str]:
    if one.spec is None:
        return
    names = {other.name for other in beside}
    for name in one.spec.after or ():
        if name not in names:
            yield (
                f"comes after {name}, which is in none of these files: it does not start before "
                f"namespace {one.namespace} has a {name} that is Succeeded"
            )
    group = one.spec.group
    if group is None:
        return
    members = {
        other.name: other.spec.group
        for other in beside
        if other.spec is not None
        and other.name != one.name
        and other.spec.group is not None
        and other.spec.group.name == group.name
    }
    if not members:
        yield (
            f"group {group.name}: nobody else in these files is of it: it goes with those of "
            f"namespace {one.namespace} that are"
        )
    in_turn = [name for name, other in members.items() if other.pace is Pace.IN_TURN]
    if in_turn and group.pace is not Pace.IN_TURN:
        yield f"group {group.name}: {in_turn[0]} says pace: InTurn, which holds for all of it"
