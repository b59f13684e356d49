"""The report of a rollout: what was tried, how it ended, and all that the end rests on. Pure.

Made from the object alone when its rollout ends, and kept by the operator in a ConfigMap of its
own (`Report` as JSON, and the same as Markdown), as the object itself has forgotten it a rollout
later. The JSON schema is docs/report.schema.json; fields are added in later versions, none is
changed. `signalcanary report` prints it, and draws it from the metrics' history.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from itertools import dropwhile
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from signalcanary.api import API_VERSION, GROUP, SignalCanarySpec
from signalcanary.contract import Model, format_duration
from signalcanary.judged import rows_of_decision
from signalcanary.resources import Manifest, Owner
from signalcanary.rollout import BEGINNINGS, Phase

FORMAT: Final = "signalcanary.dev/report/v1"
LABEL_REPORT: Final = f"{GROUP}/report-of"
ENDED: Final = f"{GROUP}/ended"
"""Annotation with the time of the decision, in a form that sorts."""
REPORT_URL: Final = f"{GROUP}/report-url"
"""Annotation of a report that was written as files, with the path or URL of its page."""
JSON_FILE: Final = "report.json"
MARKDOWN_FILE: Final = "report.md"
HTML_FILE: Final = "report.html"


class Outcome(StrEnum):
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    GOING_ON = "GoingOn"


class Part(Model):
    """Like everything on the wire; what a later version adds is kept out of the way."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )


class Revision(Part):
    """A revision of the configuration."""

    version: str = Field(description="The user's name for it.")
    name: str = Field(description="Hash of what the user declared; the metrics' label `revision`.")
    attempt: int = Field(description="Generation of the spec that brought it.")


class Moment(Part):
    """A change of phase or stage."""

    time: datetime
    phase: str
    reason: str
    message: str


class Interval(Part):
    """What a value surely is; an end that is not known is absent."""

    level: float = Field(description="Chance that a bound fails, at all looks of 48 h together.")
    at_least: float | None = Field(default=None, description="By the rows of late.")
    at_most: float | None = Field(default=None, description="By the rows of late.")
    whole_at_least: float | None = Field(default=None, description="By all rows.")
    whole_at_most: float | None = Field(default=None, description="By all rows.")


class Judged(Part):
    """What one rollback condition was judged by on one symbol, at the decision."""

    symbol: str
    condition: str = Field(description="In words.")
    key: str = Field(description="As status names it, for example platt_ece>0.1.")
    verdict: str
    reason: str
    message: str
    value: float | None = Field(default=None, description="Unit: the metric's own.")
    threshold: float = Field(description="Unit: the metric's own.")
    samples: int | None = Field(default=None, description="Labelled rows.")
    effective_samples: int | None = Field(
        default=None, description="Independent rows that would leave the value as unsure."
    )
    evidence: Interval | None = None
    breached_for: str | None = None
    allowed_for: str | None = None
    test: str = Field(description="How it was judged.")
    query: str = Field(description="PromQL of the value; empty if the condition is gone.")
    would_change: str = Field(description="What would have made another verdict of it.")


class Stage(Part):
    name: str
    duration: str


class ReliabilityBin(Part):
    """A point of the calibration curve: the rows whose probability lies in a tenth."""

    low: float = Field(description="Edge of the bin of p; it belongs to it.")
    high: float = Field(description="The other edge; it belongs to the next bin.")
    predicted: float = Field(description="Mean probability of a rise.")
    observed: float = Field(description="Share of the rows whose mid rose.")
    at_least: float = Field(description="95 % interval of the true share, for one look.")
    at_most: float = Field(description="Its other end.")
    samples: int = Field(description="Labelled rows, scored before their label was known.")
    effective_samples: int = Field(
        description="Independent rows that would leave the share as unsure."
    )


class RocPoint(Part):
    false_positives: float = Field(description="Share of the rows that fell, taken for rises.")
    true_positives: float = Field(description="Share of the rises that are found then.")


class RocCurve(Part):
    """How well the score ranks rises above falls in one slice."""

    slice: str = Field(description="all, or a regime or session as in slice_auc_….")
    auc: float | None = Field(default=None, description="Area under the curve.")
    at_least: float | None = Field(
        default=None, description="95 % interval of the true area, for one look."
    )
    at_most: float | None = Field(default=None, description="Its other end.")
    samples: int | None = Field(default=None, description="Labelled rows in the slice.")
    effective_samples: int | None = Field(default=None, description="Independent rows in it.")
    points: tuple[RocPoint, ...] = Field(description="From (0, 0) to (1, 1).")


class CurvesOf(Part):
    """The curves of one symbol, of the canary or of what was stable beside it."""

    symbol: str
    track: Literal["canary", "stable"]
    revision: str = ""
    horizon: str = ""
    calibration_error: float | None = Field(
        default=None, description="Binned (ECE), which chance alone makes positive."
    )
    at_least: float | None = Field(
        default=None, description="95 % interval of the true error, for one look."
    )
    at_most: float | None = Field(default=None, description="Its other end.")
    samples: int | None = Field(default=None, description="Labelled rows in the test window.")
    effective_samples: int | None = Field(
        default=None, description="Independent rows that would leave the error as unsure."
    )
    calibration: tuple[ReliabilityBin, ...] = Field(
        default=(), description="By rising probability; bins without rows are left out."
    )
    roc: tuple[RocCurve, ...] = Field(default=(), description="All rows first, then by slice.")
    missing: tuple[str, ...] = Field(default=(), description="What is not there and why, in words.")


class Report(Part):
    """One rollout, from its beginning to its end."""

    format: Literal["signalcanary.dev/report/v1"] = "signalcanary.dev/report/v1"
    namespace: str
    name: str
    outcome: Outcome
    canary: Revision
    stable: Revision | None = Field(default=None, description="What serves after it.")
    symbols: tuple[str, ...] = Field(description="The canary's.")
    stages: tuple[Stage, ...] = Field(description="Those that the spec declares.")
    started: datetime
    ended: datetime | None = Field(default=None, description="When it was decided.")
    reason: str = Field(description="Why, in one CamelCase word.")
    message: str = Field(description="Why, in words.")
    next: str = Field(description="What follows.")
    timeline: tuple[Moment, ...] = Field(description="Oldest first.")
    conditions: tuple[Judged, ...] = Field(
        description="What the decision rests on; of more than 32 those that were not Ok first."
    )
    curves: tuple[CurvesOf, ...] = Field(
        default=(),
        description="Of at most 8 symbols, those with conditions that were not Ok first.",
    )
    curves_time: datetime | None = Field(default=None, description="As of when they were read.")
    curves_missing: str = Field(default="", description="Why there are none, or not all, in words.")


class NoReport(Exception):
    """There is nothing to report; the message says why."""


def build_report(item: Mapping[str, Any]) -> Report:
    """The report of the object's last rollout, or of the one that goes on.

    Raises:
        NoReport: there was none yet.
        KeyError, ValueError: the status was written by another version of the operator.
    """
    status, metadata = item.get("status") or {}, item["metadata"]
    decision = status.get("decision")
    # The stable configuration set again is no rollout.
    past = list(dropwhile(lambda t: t["reason"] == "AlreadyStable", status.get("history") or ()))
    timeline = _rollout(past)
    outcome = _OUTCOMES.get(timeline[-1].phase, Outcome.GOING_ON) if timeline else Outcome.GOING_ON
    if outcome is Outcome.GOING_ON or not _is_of(decision, timeline):
        decision = None
    about = status.get("canary") or status.get("rejected")
    if decision:
        about = {k: decision[v] for k, v in _OF_DECISION.items()}
    if not timeline or about is None:
        raise NoReport(f"{metadata['name']} has had no rollout, or none that is remembered")
    spec = SignalCanarySpec.model_validate(item["spec"])
    stable = status.get("stable")
    return Report(
        namespace=metadata["namespace"],
        name=metadata["name"],
        outcome=outcome,
        canary=_revision(about),
        stable=_revision(stable) if stable else None,
        symbols=spec.symbols.canary,
        stages=tuple(Stage(name=s.name, duration=format_duration(s.duration)) for s in spec.stages),
        started=timeline[0].time,
        ended=datetime.fromisoformat(decision["time"]) if decision else None,
        reason=decision["reason"] if decision else status["reason"],
        message=_past(decision["message"]) if decision else status["message"],
        next=status.get("next", ""),
        timeline=timeline,
        conditions=tuple(Judged.model_validate(r) for r in rows_of_decision(item))
        if decision
        else (),
    )


_OF_DECISION: Final = {"version": "version", "name": "revision", "attempt": "attempt"}
_OUTCOMES: Final[Mapping[str, Outcome]] = {
    Phase.SUCCEEDED: Outcome.PROMOTED,
    Phase.SOAKING: Outcome.PROMOTED,
    Phase.VERIFYING_ROLLBACK: Outcome.ROLLED_BACK,
    Phase.ROLLING_BACK: Outcome.ROLLED_BACK,
    Phase.ROLLED_BACK: Outcome.ROLLED_BACK,
}


def _rollout(history: Any) -> tuple[Moment, ...]:
    """The moments of the last rollout, oldest first; status has them newest first."""
    moments = []
    for entry in history:
        moments.append(Moment.model_validate(entry))
        if entry["reason"] in BEGINNINGS:
            break
    return tuple(reversed(moments))


def _past(message: str) -> str:
    return message.replace("rolling back", "rolled back", 1)


def _is_of(decision: Mapping[str, Any] | None, timeline: tuple[Moment, ...]) -> bool:
    """Whether a decision was taken in this rollout, and not in one before."""
    return decision is not None and datetime.fromisoformat(decision["time"]) >= timeline[0].time


def _revision(ref: Mapping[str, Any]) -> Revision:
    return Revision.model_validate(ref)


# --------------------------------------------------------------------------- kept


def report_name(owner_name: str, revision: str, attempt: int) -> str:
    """The name of the ConfigMap that keeps a report."""
    return f"{owner_name}-report-{revision}-{attempt}"


def build_config_map(owner: Owner, report: Report) -> Manifest:
    """The ConfigMap that keeps a report; deleted with its object.

    It has none of the labels by which the operator watches what it owns: it is written once.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": report_name(owner.name, report.canary.name, report.canary.attempt),
            "namespace": owner.namespace,
            "labels": {LABEL_REPORT: owner.name},
            "annotations": {ENDED: shown_time(report.ended or report.started)},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "SignalCanary",
                    "name": owner.name,
                    "uid": owner.uid,
                }
            ],
        },
        "data": {
            JSON_FILE: report.model_dump_json(by_alias=True, exclude_none=True, indent=2),
            MARKDOWN_FILE: render_markdown(report),
        },
    }


# --------------------------------------------------------------------------- Markdown

SAID: Final = {
    Outcome.PROMOTED: "promoted",
    Outcome.ROLLED_BACK: "rolled back",
    Outcome.GOING_ON: "still going",
}


def shown_time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def shown_number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def shown_interval(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "–"
    ends = ("?" if end is None else shown_number(end) for end in (low, high))
    return " to ".join(ends)


def render_markdown(report: Report) -> str:
    """The report for people, as GitHub's Markdown."""
    lines = [
        f"# {report.canary.version}: {SAID[report.outcome]}",
        "",
        f"`{report.namespace}/{report.name}`, revision `{report.canary.name}`, attempt "
        f"{report.canary.attempt}, on {', '.join(report.symbols)}.",
        "",
        f"- **Why**: {_plain(report.message)} (`{report.reason}`)",
        f"- **Started**: {shown_time(report.started)}",
        f"- **Decided**: {shown_time(report.ended) if report.ended else 'not yet'}",
        f"- **Serves now**: {report.stable.version if report.stable else 'nothing'}",
        f"- **Next**: {_plain(report.next)}",
        f"- **Stages**: {', '.join(f'{s.name} {s.duration}' for s in report.stages)}",
    ]
    if report.conditions:
        lines += [
            "",
            "## What it rests on",
            "",
            "| symbol | rolls back if | value | of late surely | over all surely | rows | "
            "effective | breached | verdict |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in report.conditions:
            e = row.evidence or Interval(level=0)
            cells = (
                row.symbol,
                row.condition,
                shown_number(row.value),
                shown_interval(e.at_least, e.at_most),
                shown_interval(e.whole_at_least, e.whole_at_most),
                "–" if row.samples is None else f"{row.samples:,}",
                "–" if row.effective_samples is None else f"{row.effective_samples:,}",
                f"{row.breached_for} of {row.allowed_for}" if row.breached_for else "–",
                row.verdict,
            )
            lines.append(f"| {' | '.join(_plain(cell) for cell in cells)} |")
        lines += ["", "What would have changed it, how it was judged, and what to ask:", ""]
        for row in report.conditions:
            lines.append(
                f"- **{row.symbol} {_plain(row.condition)}**: {_plain(row.would_change)}. "
                f"{_plain(row.test)}." + (f" `{row.query}`" if row.query else "")
            )
    lines += _curve_tables(report)
    lines += ["", "## What happened", ""]
    lines += [
        f"- {shown_time(m.time)} **{m.phase}** (`{m.reason}`): {_plain(m.message)}"
        for m in report.timeline
    ]
    return "\n".join(lines) + "\n"


def _curve_tables(report: Report) -> list[str]:
    """The curves as tables."""
    lines = []
    bins = [(one, b) for one in report.curves for b in one.calibration]
    if bins:
        lines += [
            "",
            "## Calibration",
            "",
            "Of the rows with such a probability of a rise, how many rose; 95 % intervals.",
            "",
            "| symbol | track | p | mean p | rose | surely | rows | effective |",
            "|---|---|---|---|---|---|---|---|",
        ]
    for one, b in bins:
        lines.append(
            f"| {one.symbol} | {one.track} | {b.low:g}–{b.high:g} | {b.predicted:.3f} | "
            f"{b.observed:.3f} | {b.at_least:.3f} to {b.at_most:.3f} | {b.samples:,} | "
            f"{b.effective_samples:,} |"
        )
    curves = [(one, roc) for one in report.curves for roc in one.roc]
    if curves:
        lines += [
            "",
            "## ROC by slice",
            "",
            "The true positive rate (TPR: the share of the rises that is found) where the false "
            "positive rate (the share of the falls that is taken for rises) is 0.1 and 0.5.",
            "",
            "| symbol | track | slice | AUC | surely | rows | effective | TPR at 0.1 | at 0.5 |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
    for one, roc in curves:
        found = {p.false_positives: p.true_positives for p in roc.points}
        cells = (
            one.symbol,
            one.track,
            roc.slice,
            shown_number(roc.auc),
            shown_interval(roc.at_least, roc.at_most),
            "–" if roc.samples is None else f"{roc.samples:,}",
            "–" if roc.effective_samples is None else f"{roc.effective_samples:,}",
            *(shown_number(found.get(place)) for place in (0.1, 0.5)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    said = [f"{one.symbol}, {one.track}: {text}" for one in report.curves for text in one.missing]
    said += [report.curves_missing] if report.curves_missing else []
    if said:
        lines += ["", *(f"- {_plain(text)}" for text in said)]
    return lines


def _plain(text: str) -> str:
    """Text that neither a table nor HTML in Markdown minds, and that reads well as it is.

    A `<` before a blank, as in a condition, begins no tag.
    """
    return re.sub(r"<(?=\S)", "&lt;", text.replace("|", "\\|").replace("\n", " "))
