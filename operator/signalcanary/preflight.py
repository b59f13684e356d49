"""Asks the metrics source what a manifest would be judged by, before it is applied.

What is asked, and how it is judged, is what the operator asks and how it judges: the same client
with the same limits, the same target, the same `evaluate`. Nothing is written anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from signalcanary.api import Condition
from signalcanary.evaluate import Judgement, SourceFailure, Verdict, evaluate
from signalcanary.lint import Checked
from signalcanary.metrics_source import build_target
from signalcanary.prometheus import Prometheus
from signalcanary.promql import placeholders_of
from signalcanary.revisions import build_revision, refer_to
from signalcanary.sources import SourceConfig, Sources


class Finding(StrEnum):
    """What an answer comes to for who is about to apply the manifest."""

    GOOD = "good"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Answer:
    """What the source said of one condition on one symbol."""

    condition: Condition
    symbol: str
    finding: Finding
    judgement: Judgement
    message: str


@dataclass(frozen=True)
class Asked:
    """What the source said of one SignalCanary.

    Attributes:
        source: name of the metrics source.
        revision: whose series were asked for.
        failure: set if the source could not be read; there are no answers then.
    """

    source: str
    revision: str
    failure: SourceFailure | None = None
    answers: tuple[Answer, ...] = ()

    @property
    def has_problems(self) -> bool:
        return any(answer.finding is Finding.PROBLEM for answer in self.answers)


async def ask(checked: Checked, sources: Mapping[str, SourceConfig]) -> Asked:
    """Ask the source that a SignalCanary names; `checked` has a spec."""
    spec = checked.spec
    assert spec is not None
    # The image is no part of the revision's name, so it is known before anything runs.
    revision = refer_to(build_revision(spec, "-"), 1).name
    target = build_target(spec, checked.namespace, checked.name, revision)
    with ExitStack() as stack:
        clients = {name: Prometheus(config) for name, config in sources.items()}
        for client in clients.values():
            stack.callback(client.close)
        of_namespaces = {name: config.namespaces for name, config in sources.items()}
        seen = (await Sources(clients, of_namespaces).fetch([target]))[target]
    if seen.failure is not None:
        return Asked(spec.metrics_source, revision, seen.failure)
    judgements = evaluate(spec, seen, datetime.now(UTC))
    answers = tuple(_answer(judgement, revision) for judgement in judgements)
    return Asked(spec.metrics_source, revision, None, answers)


def _answer(judgement: Judgement, revision: str) -> Answer:
    condition, symbol = judgement.condition, judgement.symbol
    finding, message = Finding.GOOD, judgement.message
    match judgement.verdict:
        case Verdict.ERROR:
            finding = Finding.PROBLEM
        case Verdict.NO_DATA if condition.query is not None:
            finding = Finding.PROBLEM
            own = placeholders_of(condition.query) & {"revision", "name", "track"}
            if judgement.reason == "Absent" and own:
                finding = Finding.NOTE
                named = ", ".join(f"{{{{{one}}}}}" for one in sorted(own))
                message += f": it asks for this canary's own by {named}, and it may not have run"
        case Verdict.NO_DATA if judgement.reason == "Absent":
            finding = Finding.NOTE
            message = (
                f"no series of {condition.metric} on {symbol} yet: revision {revision} has not "
                "run, or its pods are not scraped"
            )
        case Verdict.NO_DATA | Verdict.INCONCLUSIVE | Verdict.UNPROVEN:
            finding = Finding.NOTE
        case Verdict.BREACHED:
            finding = Finding.PROBLEM if condition.query is not None else Finding.NOTE
            message += ": it is breached as things are"
    return Answer(condition, symbol, finding, judgement, message)
