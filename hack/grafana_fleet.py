"""The dashboard of all rollouts and the operator: which of them needs somebody, and why."""

from __future__ import annotations

from grafana_kit import (
    BARS,
    BY_TRACK,
    DULL,
    LISTED,
    LONGEST,
    PHASES,
    SHADES_OF_RED,
    STACKED,
    UNSEEN,
    VERDICTS,
    Dashboard,
    Panel,
    coloured,
    column,
    line_at,
    mapped,
    number,
    said,
    steps,
    table,
    timeline,
    to_rollout,
    words,
)
from grafana_queries import annotations, or_named, phases

WHOSE = "object_namespace, signalcanary"
OF_WORKLOAD = "namespace, signalcanary"
NAMED = "{{object_namespace}}/{{signalcanary}}"
VERDICT = "signalcanary_condition_verdict"
# While it warms up nothing can be judged, and nothing need be.
UNJUDGED = (
    f'{VERDICT}{{verdict=~"Inconclusive|NoData|Error"}} and on ({WHOSE}) '
    'signalcanary_rollout_phase{phase=~"Progressing|Promoting|Soaking"}'
)
LAST = "signal_last_evaluation_timestamp_seconds"


def count(query: str) -> str:
    """0 only where an operator is there to say so."""
    return f"count({query}) or 0 * max(signalcanary_leader)"


def by_rollout(query: str) -> str:
    return f"count by ({WHOSE}) ({query})"


BY_SERIES = {
    "links": [to_rollout("${__field.labels.object_namespace}", "${__field.labels.signalcanary}")]
}
BY_WORKLOAD = {
    "links": [to_rollout("${__field.labels.namespace}", "${__field.labels.signalcanary}")]
}

IS_IT_FINE: tuple[Panel | str, ...] = (
    "Is it fine?",
    number(
        "One leader?",
        {"": "sum(signalcanary_leader) or vector(0)"},
        help="Exactly one replica decides. None: nobody decides, pods of rollouts run on.",
        no_value="No operator is scraped",
        unit="none",
        defaults=mapped({"none": "red", "yes": "green"}) | steps({None: "red"}),
        runbook="SignalCanaryNoLeader",
    ),
    number(
        "Last look?",
        {"": "time() - max(signalcanary_last_poll_round_timestamp_seconds)"},
        help="Since the last round over all rollouts. Red from a minute on: the loop stands still.",
        no_value="No operator is scraped",
        unit="s",
        defaults={"decimals": 0} | steps({None: "red", 0: "green", 30: "orange", 60: "red"}),
        runbook="SignalCanaryPollerStalled",
    ),
    number(
        "Any breach?",
        {"": count(by_rollout(f'{VERDICT}{{verdict="Breached"}}'))},
        help="Rollouts with a condition that is beyond its threshold for certain. They are taken "
        "back by themselves.",
        no_value="No operator is scraped",
        unit="none",
        defaults=said(("no", "green"), "red"),
        runbook="SignalCanaryBreached",
    ),
    number(
        "Any rollback?",
        {"": count('signalcanary_rollout_phase{phase=~"RollingBack|RolledBack"}')},
        help="Rollouts whose last version was taken back, and not changed since. Stable serves.",
        no_value="No operator is scraped",
        unit="none",
        defaults=said(("no", "green"), "dark-red"),
        runbook="SignalCanaryRolledBack",
    ),
    number(
        "Any unjudged?",
        {
            "": count(by_rollout(UNJUDGED)),
        },
        help="Rollouts whose stage stands still: too few rows, nothing fresh, or a metrics source "
        "that cannot be read.",
        no_value="No operator is scraped",
        unit="none",
        defaults=said(("no", "green"), "orange"),
        runbook="SignalCanaryHeld",
    ),
    number(
        "Age of live data?",
        {"": f'time() - min(max by ({OF_WORKLOAD}, symbol) ({LAST}{{track="stable"}}))'},
        help="Of all stable tracks, which consumers rely on. Red from 5 min on.",
        no_value="Nothing is stable yet",
        unit="s",
        may_be_empty=True,
        defaults={"decimals": 0} | steps({None: DULL, 0: "green", 60: "orange", 300: "red"}),
        runbook="SignalCanarySignalStale",
    ),
)

NAMESPACE, NAME = "${__data.fields.object_namespace}", "${__data.fields.signalcanary}"

ROLLOUTS: tuple[Panel | str, ...] = (
    "Which rollout needs somebody?",
    table(
        "How is each rollout? Choose one to see why",
        {
            "phase": or_named(
                f"max by ({WHOSE}, version, phase, reason) (signalcanary_rollout_phase)",
                reason="the operator shows no SignalCanary",
            ),
            "breached": by_rollout(f'{VERDICT}{{verdict="Breached"}}'),
            "unjudged": by_rollout(UNJUDGED),
            "held": by_rollout("signalcanary_symbol_held"),
            "age": f"time() - min by ({WHOSE}) (label_join(max by ({OF_WORKLOAD}, symbol) "
            f'({LAST}{{track="stable"}}), "object_namespace", "", "namespace"))',
        },
        help="The worst first. Breached and not judged: pairs of a condition and a symbol. Live "
        "data: of the stable symbol that has waited longest.",
        no_value="–",
        unit="none",
        width=24,
        height=9,
        may_be_empty=True,
        options={"sortBy": [{"displayName": "Breached", "desc": True}]},
        transformations=(
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "Value #A": True},
                    "indexByName": {
                        name: place
                        for place, name in enumerate(
                            (
                                "object_namespace",
                                "signalcanary",
                                "version",
                                "phase",
                                "reason",
                                "Value #B",
                                "Value #C",
                                "Value #D",
                                "Value #E",
                            )
                        )
                    },
                    "renameByName": {
                        "object_namespace": "Namespace",
                        "signalcanary": "SignalCanary",
                        "version": "Version",
                        "phase": "Phase",
                        "reason": "Because",
                        "Value #B": "Breached",
                        "Value #C": "Not judged",
                        "Value #D": "Symbols held back",
                        "Value #E": "Live data",
                    },
                },
            },
        ),
        overrides=(
            column("SignalCanary", links=[to_rollout(NAMESPACE, NAME)]),
            {
                "matcher": {"id": "byName", "options": "Phase"},
                "properties": [
                    words(PHASES),
                    {"id": "custom.cellOptions", "value": {"type": "color-text"}},
                ],
            },
            column(
                "Breached",
                thresholds=steps({None: "text", 1: "red"})["thresholds"],
                custom__cellOptions={"type": "color-text"},
            ),
            column(
                "Not judged",
                thresholds=steps({None: "text", 1: "orange"})["thresholds"],
                custom__cellOptions={"type": "color-text"},
            ),
            column(
                "Symbols held back",
                thresholds=steps({None: "text", 1: "orange"})["thresholds"],
                custom__cellOptions={"type": "color-text"},
            ),
            column(
                "Live data",
                unit="s",
                decimals=0,
                thresholds=steps({None: "green", 60: "orange", 300: "red"})["thresholds"],
                custom__cellOptions={"type": "color-text"},
            ),
        ),
    ),
)

WHAT_HAPPENED: tuple[Panel | str, ...] = (
    "What happened, and when?",
    timeline(
        "In which phase was each rollout?",
        {
            NAMED: or_named(phases(WHOSE), -1, object_namespace="none", signalcanary="none"),
        },
        help="Green is done, blue is under way, yellow waits, red is taken back. A click on a band "
        "leads to its rollout.",
        no_value="The operator shows no rollout",
        width=24,
        height=8,
        options={"perPage": 12},
        defaults=mapped({"the operator shows nothing": UNSEEN} | PHASES, since=-1) | BY_SERIES,
    ),
    Panel(
        "How many rollouts are in each phase?",
        {"{{phase}}": "sum by (phase) (signalcanary_objects) > 0"},
        help="Of all SignalCanaries that can be read.",
        no_value="There is no SignalCanary",
        unit="none",
        options=LISTED,
        defaults=STACKED | {"decimals": 0, "min": 0},
        overrides=coloured(PHASES),
    ),
    Panel(
        "How many conditions have which verdict?",
        {"{{verdict}}": f"count by (verdict) ({VERDICT})"},
        help="Pairs of a condition and a symbol, of all canaries. Red takes canaries back; orange "
        "and purple hold them.",
        no_value="No canary is judged",
        unit="none",
        may_be_empty=True,
        options=LISTED,
        defaults=STACKED | {"decimals": 0, "min": 0},
        overrides=coloured(VERDICTS),
    ),
    Panel(
        "How long have breaches held?",
        {
            f"{NAMED} {{{{symbol}}}} {{{{condition}}}}": f"topk(20, max by ({WHOSE}, symbol, "
            "condition) (signalcanary_condition_breach_seconds > 0))"
        },
        help="Time that was observed; at its `for` the condition takes the canary back. The 20 "
        "longest; a click leads to the rollout.",
        no_value="No breach in this time",
        unit="s",
        may_be_empty=True,
        width=24,
        height=6,
        options=LONGEST,
        defaults={"min": 0} | SHADES_OF_RED | BY_SERIES,
        runbook="SignalCanaryBreached",
    ),
    Panel(
        "What was decided in the hour before?",
        {
            "{{phase}}: {{reason}}": "sum by (phase, reason) "
            "(increase(signalcanary_transitions_total[1h])) > 0"
        },
        help="Transitions by the phase they lead to, and their reason. Many RollingBack at once "
        "are the market, the feed or an edit to all.",
        no_value="Nothing was decided",
        unit="none",
        width=24,
        height=6,
        may_be_empty=True,
        defaults={"min": 0, "decimals": 0},
        overrides=coloured(PHASES),
    ),
)

DATA: tuple[Panel | str, ...] = (
    "Does the market's data arrive?",
    Panel(
        "How old is the newest data?",
        {
            "{{track}} {{namespace}}/{{signalcanary}}": f"time() - min by ({OF_WORKLOAD}, track) "
            f"({LAST})"
        },
        help="Of the symbol that has waited longest. Beyond the red line, 5 min, consumers of a "
        "stable track have a stale signal.",
        no_value="No analysis runs",
        unit="s",
        defaults=line_at(300) | BY_WORKLOAD,
        overrides=BY_TRACK,
        runbook="SignalCanarySignalStale",
    ),
    Panel(
        "How long has a stream been silent?",
        {
            "{{track}} {{namespace}}/{{signalcanary}} {{stream}}": f"max by ({OF_WORKLOAD}, track, "
            "stream) (harvest_stream_silent_seconds)"
        },
        help="Of the symbol that is silent longest. All at once is the way to the exchange.",
        no_value="No harvest runs",
        unit="s",
        defaults=line_at(60) | BY_WORKLOAD,
        overrides=BY_TRACK,
        runbook="SignalCanaryStreamSilent",
    ),
    Panel(
        "How many frames arrive?",
        {
            "{{track}} {{namespace}}/{{signalcanary}}": f"sum by ({OF_WORKLOAD}, track) "
            "(rate(harvest_frames_received_total[$__rate_interval]))"
        },
        help="All streams and symbols.",
        no_value="No harvest runs",
        unit="mps",
        defaults={"min": 0} | BY_WORKLOAD,
        overrides=BY_TRACK,
    ),
    Panel(
        "Were trades lost?",
        {
            "{{namespace}}/{{signalcanary}}": f"sum by ({OF_WORKLOAD}) "
            "(increase(harvest_trades_lost_total[$__rate_interval])) > 0"
        },
        help="In each interval of the graph: missed on the stream, and not to be had afterwards.",
        no_value="No trade was lost",
        unit="short",
        may_be_empty=True,
        defaults=BARS | BY_WORKLOAD,
        runbook="SignalCanaryTradesLost",
    ),
)

FAILS = (
    ("metrics source: {{reason}}", "reason", "signalcanary_metrics_source_failures_total"),
    ("look: {{error}}", "error", "signalcanary_reconcile_errors_total"),
    ("notification: {{error}}", "error", "signalcanary_notification_errors_total"),
)

OPERATOR: tuple[Panel | str, ...] = (
    "Does the operator keep up?",
    Panel(
        "How long does a round take?",
        {
            f"p{q}": f"histogram_quantile({q / 100}, sum by (le) "
            "(rate(signalcanary_poll_round_duration_seconds_bucket[$__rate_interval])))"
            for q in (50, 99)
        },
        help="Read the metrics, decide, persist, act, for all rollouts that are due. Beyond the "
        "red line, 5 s, breaches are found that much later.",
        no_value="No operator is scraped",
        unit="s",
        defaults=line_at(5),
        runbook="SignalCanaryRoundsSlow",
    ),
    Panel(
        "What fails?",
        {
            legend: f"sum by ({by}) (increase({name}[$__rate_interval])) > 0"
            for legend, by, name in FAILS
        }
        | {
            "conflicts": "sum(increase(signalcanary_status_conflicts_total[$__rate_interval])) > 0",
            "unreadable objects": "max(signalcanary_invalid_objects) > 0",
        },
        help="In each interval of the graph. A failing metrics source holds its canaries; "
        "conflicts are harmless, and looked at again; unreadable objects are left alone.",
        no_value="Nothing fails",
        unit="short",
        may_be_empty=True,
        defaults=BARS,
        runbook="SignalCanaryMetricsSourceUnreachable",
    ),
    Panel(
        "How many looks are taken?",
        {"{{phase}}": "sum by (phase) (rate(signalcanary_decisions_total[$__rate_interval])) > 0"},
        help="By the phase that they left: one a rollout each evaluation.interval.",
        no_value="No look was taken",
        unit="cps",
        defaults={"min": 0},
        overrides=coloured(PHASES),
    ),
    Panel(
        "What is written to the API server?",
        {
            "{{kind}} {{verb}}": "sum by (kind, verb) "
            "(rate(signalcanary_api_writes_total[$__rate_interval])) > 0"
        },
        help="At rest nothing.",
        no_value="Nothing is written: all is at rest",
        unit="wps",
        may_be_empty=True,
        defaults={"min": 0},
    ),
    Panel(
        "Are people told?",
        {
            "{{receiver}} {{result}}, in an hour": "sum by (receiver, result) "
            "(increase(signalcanary_notification_attempts_total[1h]))",
            "{{receiver}} waiting": "max by (receiver) (signalcanary_notifications_pending)",
        },
        help="Attempts by receiver and result, and what waits to be delivered. Whatever is not ok "
        "is tried again.",
        no_value="No receiver is configured, or nothing was to be told",
        unit="none",
        width=24,
        height=6,
        may_be_empty=True,
        defaults={"min": 0, "decimals": 0},
        runbook="SignalCanaryNotificationsFail",
    ),
)

DASHBOARD = Dashboard(
    "SignalCanary: the fleet",
    "signalcanary-fleet",
    "All rollouts and the operator. The table leads to the dashboard of each rollout.",
    (*IS_IT_FINE, *ROLLOUTS, *WHAT_HAPPENED, *DATA, *OPERATOR),
    annotations("", f"{WHOSE}, ", f"{NAMED} "),
    (),
    since="now-24h",
    refresh="1m",
)
