"""An object as `kubectl describe` shows it.

A local run has no API server to ask, yet what a person learns to read here must be what they
will see on a cluster. This follows kubectl's printer for objects of any kind
(staging/src/k8s.io/kubectl/pkg/describe/describe.go: printUnstructuredContent and
smartLabelFor) and Go's tabwriter with the settings used there. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from signalcanary.local.world import Look

_PADDING: Final = 2
_ACRONYMS: Final = frozenset({"API", "URL", "UID", "OSB", "GUID"})
_WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z][a-z]*|[a-z]+|-")
_SAID_ABOVE: Final = frozenset(
    {
        (".metadata", "labels"),
        (".metadata", "annotations"),
        (".metadata", "name"),
        (".metadata", "namespace"),
        (".metadata", "managedFields"),
        ("", "apiVersion"),
        ("", "kind"),
    }
)


@dataclass(frozen=True)
class DescribedEvent:
    """An Event as the table at the end shows it."""

    type: str
    reason: str
    age: timedelta
    source: str
    message: str


_Row = tuple[str, ...]
"""Cells of a line; all but the last take part in the alignment."""


def describe(document: Mapping[str, Any], events: Sequence[DescribedEvent]) -> str:
    """The object and its events, as `kubectl describe` writes them."""
    metadata = document["metadata"]
    rows: list[_Row] = [
        ("Name:", str(metadata["name"])),
        ("Namespace:", str(metadata.get("namespace", ""))),
        *_pairs("Labels:", metadata.get("labels"), "="),
        *_pairs("Annotations:", metadata.get("annotations"), ": "),
        ("API Version:", str(document["apiVersion"])),
        ("Kind:", str(document["kind"])),
        *_content(0, document, ""),
        *_events(events),
    ]
    return "\n".join(align(rows)) + "\n"


def describe_look(look: Look) -> str:
    """The object as of a look."""
    events = [
        DescribedEvent(
            "Warning" if event.is_warning else "Normal",
            event.reason,
            look.now - event.time,
            "signalcanary",
            event.message,
        )
        for event in look.events
    ]
    return describe(look.document, events)


def label_for(field: str) -> str:
    """A field's name as kubectl titles it: ``staleAfter`` → ``Stale After``."""
    if any(not (c.isalpha() or c == "-") for c in field):
        return field
    words = _WORDS.findall(field)
    return " ".join(w.upper() if w.upper() in _ACRONYMS else w[:1].upper() + w[1:] for w in words)


def format_age(age: timedelta) -> str:
    """A duration as kubectl's tables write it (k8s.io/apimachinery HumanDuration)."""
    seconds = int(age.total_seconds())
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{hours // 24}d"


def align(rows: Iterable[_Row]) -> list[str]:
    """Go's text/tabwriter: a column is as wide as its cells on neighbouring lines need.

    A line without a cell in a column ends that column's block.
    """
    lines = list(rows)
    widths = [[0] * (len(row) - 1) for row in lines]
    most = max((len(row) for row in lines), default=0)
    for column in range(most - 1):
        start = 0
        while start < len(lines):
            end = start
            while end < len(lines) and len(lines[end]) - 1 > column:
                end += 1
            if end > start:
                width = max(len(lines[i][column]) for i in range(start, end)) + _PADDING
                for i in range(start, end):
                    widths[i][column] = width
            start = end + 1
    return [
        "".join(cell.ljust(width) for cell, width in zip(row, sizes, strict=False)) + row[-1]
        for row, sizes in zip(lines, widths, strict=True)
    ]


def _pairs(title: str, values: Mapping[str, str] | None, between: str) -> list[_Row]:
    if not values:
        return [(title, "<none>")]
    texts = [f"{key}{between}{value}" for key, value in sorted(values.items())]
    return [(title, texts[0]), *(("", text) for text in texts[1:])]


def _content(level: int, content: Mapping[str, Any], path: str) -> list[_Row]:
    rows: list[_Row] = []
    indent = "  " * level
    for field, value in sorted(content.items()):
        if (path, field) in _SAID_ABOVE:
            continue
        label = f"{indent}{label_for(field)}:"
        if isinstance(value, Mapping):
            rows.append((label,))
            rows.extend(_content(level + 1, value, f"{path}.{field}"))
        elif isinstance(value, list | tuple):
            rows.append((label,))
            for child in value:
                if isinstance(child, Mapping):
                    rows.extend(_content(level + 1, child, f"{path}.{field}"))
                else:
                    rows.append((f"{indent}  {_text(child)}",))
        else:
            rows.append((label, _text(value)))
    return rows


def _text(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value)


def _events(events: Sequence[DescribedEvent]) -> list[_Row]:
    if not events:
        return [("Events:", "<none>")]
    titles = ("Type", "Reason", "Age", "From", "Message")
    return [
        ("Events:",),
        _indented(titles),
        _indented(tuple("-" * len(title) for title in titles)),
        *(_indented((e.type, e.reason, format_age(e.age), e.source, e.message)) for e in events),
    ]


def _indented(cells: tuple[str, ...]) -> _Row:
    return (f"  {cells[0]}", *cells[1:])
