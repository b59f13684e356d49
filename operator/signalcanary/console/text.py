"""The console's documents as text for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any, Final

from signalcanary.judged import ANYTIME
from signalcanary.local.describe import align, format_age

WIDTH: Final = 100
"""Columns that running text is broken at."""
NONE: Final = "–"


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Rows under titles, as kubectl aligns them; no trailing blanks."""
    cells = [tuple(titles), *(tuple(_cell(v) for v in row) for row in rows)]
    return [line.rstrip() for line in align(cells)]


def _cell(value: Any) -> str:
    return NONE if value in (None, "") else str(value)


def ago(text: str | None, now: datetime) -> str:
    """How long ago an RFC 3339 time was, as kubectl writes ages."""
    return NONE if not text else format_age(now - datetime.fromisoformat(text))


def at(text: str, now: datetime) -> str:
    """A time and how long ago it was."""
    time = datetime.fromisoformat(text).astimezone(UTC)
    return f"{time:%Y-%m-%d %H:%M:%S} UTC ({ago(text, now)} ago)"


def paragraph(label: str, text: str, width: int = 9) -> list[str]:
    """A label and running text beside it."""
    # A number and its per cent sign stay together.
    kept = text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = wrap(kept, WIDTH - width, break_long_words=False, break_on_hyphens=False) or [NONE]
    lines = [line.replace("\N{NO-BREAK SPACE}%", " %") for line in lines]
    return [f"{label:<{width}}{lines[0]}", *(" " * width + line for line in lines[1:])]


# --------------------------------------------------------------------------- status


def render_list(documents: Sequence[Mapping[str, Any]], now: datetime, *, named: bool) -> str:
    """One line an object.

    Args:
        named: with the namespace.
    """
    titles = ["NAME", "HEALTH", "PHASE", "STAGE", "PROGRESS", "WORST", "CANARY", "STABLE", "AGE"]
    rows = []
    for document in documents:
        status = document["status"]
        stage = status.get("stage") or {}
        canary = status.get("canary") or status.get("rejected") or {}
        rows.append(
            [
                *([document["namespace"]] if named else []),
                document["name"],
                document["health"],
                status.get("phase"),
                stage.get("name"),
                stage.get("progress"),
                status.get("health"),
                canary.get("version"),
                (status.get("stable") or {}).get("version"),
                ago(document["created"], now),
            ]
        )
    lines = table([*(["NAMESPACE"] if named else []), *titles], rows)
    for document in documents:
        if document["health"] in ("Held", "Degraded"):
            lines += ["", *paragraph(f"{document['name']}: ", document["why"], 2)]
    return "\n".join(lines) + "\n"


_JUDGED: Final = (
    "SYMBOL",
    "ROLLS BACK IF",
    "VALUE",
    "SURELY",
    "ROWS",
    "EFFECTIVE",
    "BREACH",
    "VERDICT",
)
_WORKLOADS: Final = ("TRACK", "COMPONENT", "READY", "RESTARTS", "STATEFULSET", "PROBLEM")


def render_status(document: Mapping[str, Any], now: datetime) -> str:
    """One object, in full."""
    status = document["status"]
    lines = [*_head(document, status, now), ""]
    rows = [
        (
            one["symbol"],
            judged["condition"],
            _number(judged.get("value")),
            _interval(judged),
            judged.get("samples"),
            judged.get("effectiveSamples"),
            _held(judged),
            judged["verdict"],
        )
        for one in status.get("symbols", ())
        for judged in one.get("conditions", ())
    ]
    if rows:
        lines += [*table(_JUDGED, rows), ""]
    workloads = [
        (w["track"], w["component"], w["ready"], w.get("restarts"), w["name"], w.get("message"))
        for w in status.get("workloads", ())
    ]
    if workloads:
        lines += table(_WORKLOADS, workloads)
    return "\n".join(lines).rstrip() + "\n"


def _head(document: Mapping[str, Any], status: Mapping[str, Any], now: datetime) -> list[str]:
    stage = status.get("stage") or {}
    where = f"{document['namespace']}/{document['name']}"
    phase = status.get("phase") or "not looked at"
    if "index" in stage and phase in ("Progressing", "Promoting"):
        phase += f", stage {stage['name']} ({stage['index'] + 1} of {stage['of']})"
        phase += f", {stage['progress']} observed"
    lines = [f"{where}  {document['health']}: {phase}"]
    lines += paragraph("why", document["why"])
    if status.get("next"):
        lines += paragraph("next", status["next"])
    for label in ("canary", "rejected", "stable"):
        if ref := status.get(label):
            text = f"{ref['version']} (revision {ref['name']}, attempt {ref['attempt']})"
            lines += paragraph(label, text)
    if link := status.get("report"):
        lines += paragraph("report", str(link.get("url") or f"ConfigMap {link.get('configMap')}"))
    if status.get("lastEvaluationTime"):
        lines += paragraph("written", at(status["lastEvaluationTime"], now))
    return lines


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _interval(judged: Mapping[str, Any]) -> str:
    """What the value surely is; in the words of what is judged now."""
    evidence = judged.get("evidence")
    if not evidence:
        return NONE
    is_late = judged["verdict"] == "Breached"
    low = evidence.get("atLeast" if is_late else "wholeAtLeast")
    high = evidence.get("atMost" if is_late else "wholeAtMost")
    return f"{'?' if low is None else _number(low)} to {'?' if high is None else _number(high)}"


def _held(judged: Mapping[str, Any]) -> str:
    if "breachedFor" not in judged:
        return NONE
    return f"{judged['breachedFor']} of {judged['allowedFor']}"


# --------------------------------------------------------------------------- explain


def render_explanation(document: Mapping[str, Any], now: datetime) -> str:
    """Why it stands where it does, and why the last decision was taken."""
    status = {**document, "lastEvaluationTime": document.get("lookedAt")}
    if document.get("phase") in ("RolledBack", "RollingBack"):
        status["rejected"] = status.pop("canary", None)
    lines = _head(document, status, now)
    blocks = document["blocks"]
    if blocks:
        lines += ["", "what the promotion, or the next stage, waits for:"]
        for text in blocks:
            lines += paragraph("  •", text, 4)
    if document["conditions"]:
        lines += ["", "as judged now:"]
        for row in document["conditions"]:
            lines += ["", *_judgement(row)]
    decision = document.get("decision")
    if decision:
        lines += [
            "",
            f"the last decision: {decision['phase']} ({decision['reason']}), "
            f"{at(decision['time'], now)}, of {decision['version']} "
            f"(revision {decision['revision']})",
        ]
        if document["phase"] not in ("RolledBack", "RollingBack"):
            lines += paragraph("", decision["message"], 2)
        if decision["conditions"]:
            lines += ["", "what it rests on:"]
        for row in decision["conditions"]:
            lines += ["", *_judgement(row)]
    elif document.get("phase"):
        lines += ["", "nothing has been decided yet: neither a promotion nor a rollback"]
    if any(ANYTIME in row["test"] for row in _rows(document)):
        lines += ["", *paragraph("", GUARDED, 0)]
    return "\n".join(lines) + "\n"


GUARDED: Final = (
    "guarded: a rollback needs the bound by the rows of late beyond the threshold for its time, "
    "and Ok all that is possible by all rows within it; the bounds hold at every look of 48 h at "
    "once, so that looking often makes no false alarm (docs/error-rates.md)"
)


def _rows(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*document["conditions"], *(document.get("decision") or {}).get("conditions", ())]


def _judgement(row: Mapping[str, Any]) -> list[str]:
    lines = [f"  {row['symbol']}  {row['condition']}: {row['verdict']} ({row['reason']})"]

    def add(label: str, text: str) -> None:
        lines.extend("    " + line for line in paragraph(label, text, 12))

    value = _number(row.get("value"))
    if row.get("samples") is not None:
        value += f" on {row['samples']:,} rows"
    if row.get("effectiveSamples") is not None:
        value += f", worth {row['effectiveSamples']:,} independent ones"
    add("value", value)
    add("threshold", _number(row["threshold"]))
    if evidence := row.get("evidence"):

        def span(low: str, high: str) -> str:
            ends = [_number(evidence[e]) if e in evidence else "?" for e in (low, high)]
            return " to ".join(ends)

        add(
            "surely",
            f"{span('atLeast', 'atMost')} by the rows of late, "
            f"{span('wholeAtLeast', 'wholeAtMost')} by all rows since the start "
            f"({100 * (1 - evidence['level']):.4g} % confidence)",
        )
    if "breachedFor" in row:
        add("breached", f"for {row['breachedFor']} of the {row['allowedFor']} it may")
    add("test", row["test"])
    add("to change", row["wouldChange"])
    add("said", row["message"])
    if row["query"]:
        # Not broken: it is there to be copied.
        lines.append(f"    {'query':<12}{row['query']}")
    return lines


# --------------------------------------------------------------------------- history


def render_history(document: Mapping[str, Any], now: datetime) -> str:
    """What has happened, oldest first, and the revisions on record."""
    lines = [f"{document['namespace']}/{document['name']}", ""]
    for entry in document["history"]:
        told = f"{entry['phase'] or NONE} ({entry['reason']})"
        lines.append(f"{at(entry['time'], now)}  {told}  {entry['version'] or ''}".rstrip())
        lines += paragraph("", entry["message"], 4)
    if document["revisions"]:
        rows = [
            (r["name"], r["version"], r["role"], at(r["created"], now), r["image"])
            for r in document["revisions"]
        ]
        lines += ["", *table(("REVISION", "VERSION", "ROLE", "FIRST SEEN", "IMAGE"), rows)]
    return "\n".join(lines) + "\n"
