"""PromQL that the panels of the dashboards are made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from grafana_kit import PHASES, VERDICTS, Annotation

# Of the operator's series, and of those of the workloads.
ROLLOUT = 'object_namespace="$namespace", signalcanary="$signalcanary"'
WORKLOAD = 'namespace="$namespace", signalcanary="$signalcanary"'
SYMBOL = f'{WORKLOAD}, symbol=~"$symbol"'
AT_HORIZON = ', horizon="$horizon"'
CONDITION = f'{ROLLOUT}, symbol=~"$symbol", condition=~"$condition"'
TRACK = "track, symbol"


def coded(name: str, label: str, values: Iterable[str], selector: str = "") -> str:
    """A label's value as its place in a list.

    Args:
        selector: with a comma after it, if it is not empty.
    """
    terms = (f'{name}{{{selector}{label}="{value}"}} * {n}' for n, value in enumerate(values))
    return " or ".join(terms)


def phases(by: str, selector: str = "") -> str:
    """The phase by its place in PHASES."""
    return f"max by ({by}) ({coded('signalcanary_rollout_phase', 'phase', PHASES, selector)})"


def verdicts(by: str) -> str:
    """The worst verdict by its place in VERDICTS."""
    selector = f'{ROLLOUT}, symbol=~"$symbol", '
    codes = coded("signalcanary_condition_verdict", "verdict", VERDICTS, selector)
    return f"max by ({by}) ({codes})"


def of_condition(name: str, more: str = "") -> str:
    return f"max by (symbol) (signalcanary_condition_{name}{{{CONDITION}{more}}})"


def of_workload(name: str, more: str = "", by: str = TRACK) -> str:
    """Over pods and revisions: while one follows the other there are two."""
    return f"max by ({by}) ({name}{{{SYMBOL}{more}}})"


def age_of(name: str, more: str = "") -> str:
    return f"time() - {of_workload(name, more)}"


def rate(name: str, by: str) -> str:
    return f"sum by ({by}) (rate({name}{{{SYMBOL}}}[$__rate_interval]))"


def increase(name: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (increase({name}{{{SYMBOL}{more}}}[$__rate_interval])) > 0"


def quantile(q: float, name: str, by: str) -> str:
    return f"histogram_quantile({q}, {rate(f'{name}_bucket', f'{by}, le')})"


def or_named(query: str, value: int = 0, **labels: str) -> str:
    """A series with those labels in the place of none: a timeline has no words for nothing."""
    named = f"vector({value})"
    for label, text in labels.items():
        named = f'label_replace({named}, "{label}", "{text}", "", "")'
    return f"({query}) or on () {named}"


GOOD = "Promoted|Ready|MetricsAvailable"
TO_MEND = "RolledBack|Stalled|Degraded|Overdue"
TO_DO = "Paused|ApprovalNeeded|Waiting"


def conditions_of_status() -> str:
    series = "signalcanary_rollout_condition"
    known = f"{GOOD}|{TO_MEND}|{TO_DO}"
    return (
        f'max by (type) ({series}{{{ROLLOUT}, type=~"{GOOD}"}} '
        f'or {series}{{{ROLLOUT}, type!~"{known}"}} * 2 '
        f'or {series}{{{ROLLOUT}, type=~"{TO_DO}"}} * 3 '
        f'or {series}{{{ROLLOUT}, type=~"{TO_MEND}"}} * 4)'
    )


def onset(by: str, series: str, since: str = "10m") -> str:
    """1 at the first step at which a series is there; a gap that is shorter begins nothing."""
    now = f"max by ({by}) (max_over_time({series}[$__interval]))"
    return f"{now} unless max by ({by}) (last_over_time({series}[{since}] offset $__interval))"


def annotations(selector: str, who: str, prefix: str) -> tuple[Annotation, ...]:
    """What was decided.

    Args:
        who: labels that tell rollouts apart, each with a comma after it.
        prefix: the same, as a legend.
    """
    revision = f"signalcanary_rollout_revision_info{{{selector}%s}}"
    taken_back = f'signalcanary_rollout_phase{{{selector}phase=~"RollingBack|RolledBack"}}'
    return (
        Annotation(
            "Canaries begun",
            onset(f"{who}version, revision", revision % 'track="canary"'),
            f"{prefix}{{{{version}}}} begins",
            "#9fa7b3",
        ),
        Annotation(
            "Promoted",
            onset(f"{who}version, revision", revision % 'track="stable"'),
            f"{prefix}{{{{version}}}} is stable from here on",
            "green",
        ),
        Annotation(
            "Rolled back",
            onset(f"{who}version, reason", taken_back),
            f"{prefix}{{{{version}}}} is rolled back: {{{{reason}}}}",
            "red",
        ),
    )
