"""docs/lifecycle.md shows the phases of a rollout, and every way between them."""

from __future__ import annotations

import os
from pathlib import Path

from machine_kit import DIAGRAM

from signalcanary.rollout import Phase

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"
WHEN = {
    "WaitingToStart": "the spec was edited, to a configuration that is not the stable one, or a "
    "retry was asked for, and it is before `schedule.startAt` or outside the windows",
    "RolloutStarted": "the spec was edited, to a configuration that is not the stable one; or what "
    "Waiting waited for has come",
    "AlreadyStable": "the spec was edited back to the stable configuration",
    "RulesChanged": "symbols or conditions were edited under the canary, which goes on",
    "ArtifactsVerified": "every model file is as declared, and every model works",
    "VerificationFailed": "a model file is not as declared, or a model or a gate fails; no pod of "
    "the canary has started",
    "CanaryRunning": "every pod of the canary is ready",
    "StageStarted": "first stage: every condition can be judged on every canary symbol; next "
    "stage: the one before was observed in full, or skipped by a person, and nothing is breached; "
    "and it was approved, where `approval: Required`",
    "StagesPassed": "the last stage was observed in full, or skipped by a person, and every "
    "condition is Ok; and it was approved, where `approval: Required`",
    "Promoted": "the pods on the full symbol set are ready and every condition is Ok; of a "
    "promotion that a person asked for, none Breached, NoData or Error",
    "ConditionBreached": "a condition was breached for its `for`",
    "CanarySilent": "a canary symbol sent no fresh data for `noDataAfter`, while the metrics "
    "source answered and the stable track, if there is one, heard it (`onNoData: Rollback`)",
    "CanaryNotRunning": "the canary's pods were not ready for `noDataAfter`",
    "PromoteRequested": "a person asked to promote now, and nothing was breached or unseen",
    "Aborted": "a person took the canary back, or gave a rollback up that had not begun to serve",
    "RollbackRequested": "a person asked for a revision that was stable before",
    "RetryRequested": "a person asked to try the revision again that was rolled back",
    "DeadlineExceeded": "while the metrics source could be read and the market was heard, the "
    "phase took `deadline` longer than it must: Warming than `train` + `horizon` + `test`, a stage "
    "than its duration, Promoting than no time (`onDeadline: Rollback`)",
}


def page() -> str:
    """The document: what is allowed, for people."""
    order = list(Phase)
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for begin, end, reason in sorted(
        DIAGRAM, key=lambda w: (order.index(w[0]), order.index(w[1]), list(WHEN).index(w[2]))
    ):
        arrows.setdefault((begin, end), []).append(reason)
    lines = [
        "# The phases of a rollout",
        "",
        "Written by `make docs` from the transitions that the designs allow. They are those that",
        "`tests/sim/test_machine.py` finds when it explores every state that `decide` gets into.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> Pending",
        *(
            f"    {begin.value} --> {end.value}: {', '.join(reasons)}"
            for (begin, end), reasons in arrows.items()
        ),
        "```",
        "",
        "| reason | when | from → to |",
        "|---|---|---|",
    ]
    for reason, when in WHEN.items():
        moves: dict[Phase, list[str]] = {}
        for (begin, end), reasons in arrows.items():
            if reason in reasons and end is not Phase.ROLLED_BACK:
                moves.setdefault(end, []).append(begin.value)
        told = "; ".join(f"{', '.join(begins)} → {end.value}" for end, begins in moves.items())
        lines.append(f"| {reason} | {when} | {told} |")
    lines += [
        "",
        "From RollingBack a rollout gets to RolledBack, with the reason that it was rolled back",
        "for, once the canary's pods are gone. An edit waits until then.",
        "",
        "With `rollback.scope` Symbol or Quorum (`tests/sim/test_scope.py`) a breach or a silence",
        "that is due holds back its symbol alone, and the phase stays as it is: `SymbolsHeld`.",
        "With as many as the scope allows, the canary is taken back as above.",
    ]
    lines += [
        "",
        "With `soak` (`tests/sim/test_ladder.py`) Promoting → Soaking → Succeeded: `Promoted`,",
        "then `Soaked`. A breach or a silence that is due while soaking takes what serves back:",
        "Soaking → RollingBack, and the first rung of `rollback.ladder` that can be had serves.",
        "With `rollback.verify` RollingBack → VerifyingRollback → RolledBack; if too few checks",
        "were good, `RollbackNotVerified`, back to RollingBack with the next rung",
        "([why](designs/008-soak-and-ladder.md)).",
        "",
        "With `group` (`tests/sim/test_groups.py`) a verdict against another member may take every",
        "phase that has a canary, and Soaking, to RollingBack: `GroupRolledBack`. Verifying and",
        "Pending may go back to Waiting, where another member began before",
        "([why](designs/010-schedules-and-groups.md)).",
    ]
    return "\n".join(lines) + "\n"


def test_the_document_shows_what_is_allowed() -> None:
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "run make docs"
