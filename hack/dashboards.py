#!/usr/bin/env python3
"""The two Grafana dashboards of the chart, as tables of panels.

Why it exists: Grafana's JSON is thirty lines a panel, of which one or two matter. `make
dashboards` writes charts/signalcanary/dashboards; a test keeps them in step, and another asks a
real Prometheus each query.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "charts/signalcanary/dashboards"
WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Of the operator's series, and of those of the workloads.
ROLLOUT = 'object_namespace="$namespace", signalcanary="$signalcanary"'
WORKLOAD = 'namespace="$namespace", signalcanary="$signalcanary", symbol=~"$symbol"'
CONDITION = f'{ROLLOUT}, symbol=~"$symbol", condition=~"$condition"'
VERDICTS = {
    # Ordered as in evaluate.Verdict.
    "Ok": "green",
    "Unproven": "light-yellow",
    "Inconclusive": "light-blue",
    "NoData": "light-orange",
    "Error": "purple",
    "Breached": "red",
}

TIERS = {"Normal": "green", "Warning": "yellow", "Critical": "orange", "Rollback": "red"}


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        queries: PromQL by legend, as Grafana writes it: {{label}}.
        may_be_empty: whether all is well when nothing comes back.
        repeat: a variable; one panel for each of its values.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    help: str = ""
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    may_be_empty: bool = False
    repeat: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[dict[str, Any], ...] = ()


def bands(title: str, queries: dict[str, str], help: str, **more: Any) -> Panel:
    return Panel(title, queries, kind="state-timeline", help=help, **more)


def verdict_codes() -> str:
    series = f'signalcanary_condition_verdict{{{ROLLOUT}, symbol=~"$symbol", verdict="%s"}} * %d'
    codes = " or ".join(series % (name, code) for code, name in enumerate(VERDICTS))
    return f"max by (symbol, condition) ({codes})"


def mapped(names: dict[str, str]) -> dict[str, Any]:
    """Numbers shown as words, each in its colour."""
    options = {
        str(code): {"text": name, "color": colour, "index": code}
        for code, (name, colour) in enumerate(names.items())
    }
    return {"mappings": [{"type": "value", "options": options}]}


def dashed(name: str, colour: str) -> dict[str, Any]:
    style = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}
    fixed = {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}
    return {"matcher": {"id": "byRegexp", "options": name}, "properties": [style, fixed]}


def of_condition(name: str, more: str = "") -> str:
    return f"signalcanary_condition_{name}{{{CONDITION}{more}}}"


def of_workload(name: str, more: str = "") -> str:
    return f"{name}{{{WORKLOAD}{more}}}"


def rate(name: str, more: str = "") -> str:
    return f"rate({of_workload(name, more)}[$__rate_interval])"


def quantile(q: float, name: str, by: str) -> str:
    inner = rate(f"{name}_bucket")
    return f"histogram_quantile({q}, sum by ({by}, le) ({inner}))"


TRACK = "track, symbol"
ROLLOUT_PANELS: tuple[Panel | str, ...] = (
    "What goes on",
    bands(
        "Phase",
        {"{{phase}} {{version}}": f"signalcanary_rollout_phase{{{ROLLOUT}}}"},
        "The phase that the rollout is in, and of which version.",
        width=12,
    ),
    bands(
        "Stage",
        {"{{stage}}": f"signalcanary_rollout_stage{{{ROLLOUT}}}"},
        "The stage that is observed, from 1.",
        width=12,
        may_be_empty=True,
    ),
    bands(
        "Conditions of the status",
        {"{{type}}": f"signalcanary_rollout_condition{{{ROLLOUT}}}"},
        "Those that are True: Degraded, Paused, ApprovalNeeded and the others.",
        width=12,
        height=6,
    ),
    bands(
        "Symbols held back",
        {"{{symbol}}": f"signalcanary_symbol_held{{{ROLLOUT}}}"},
        "Symbols that the canary, or the stable revision, is held back on.",
        width=12,
        height=6,
        may_be_empty=True,
    ),
    bands(
        "Verdicts",
        {"{{symbol}} {{condition}}": verdict_codes()},
        "Each rollback condition on each canary symbol. Only Breached, held for its time, rolls "
        "back; the promotion needs all Ok.",
        width=24,
        height=9,
        may_be_empty=True,
        defaults=mapped(VERDICTS),
    ),
    "Conditions",
    Panel(
        "$condition",
        {
            "{{symbol}}": of_condition("value"),
            "{{symbol}} at least": of_condition("bound", ', side="lower"'),
            "{{symbol}} at most": of_condition("bound", ', side="upper"'),
            "threshold": f"max({of_condition('threshold')})",
        },
        help="The value that is judged, what it surely is (guarded conditions), and the threshold.",
        repeat="condition",
        overrides=(dashed("threshold", "red"), dashed("/ at (least|most)$/", "gray")),
    ),
    Panel(
        "Breaches: how long they have held",
        {"{{symbol}} {{condition}}": f"signalcanary_condition_breach_seconds{{{ROLLOUT}}}"},
        "s",
        "Time that was observed; a condition rolls back at its `for`.",
        width=12,
        height=6,
        may_be_empty=True,
    ),
    bands(
        "Tiers",
        {"{{symbol}} {{condition}}": f"signalcanary_condition_tier{{{ROLLOUT}}}"},
        "Of conditions with warning or critical. Critical holds up, and never rolls back.",
        width=12,
        height=6,
        may_be_empty=True,
        defaults=mapped(TIERS),
    ),
    "Signal",
    Panel(
        "AUC by slice",
        {"{{track}} {{symbol}} {{slice}}": of_workload("signal_auc_ratio", ', horizon="$horizon"')},
        help="How well the score ranks rises above falls; 0.5 is a coin toss.",
    ),
    Panel(
        "AUC, active regime: 95 % interval",
        {
            "{{track}} {{symbol}}": of_workload("slice_auc_active_period"),
            "{{track}} {{symbol}} from": of_workload(
                "signal_evidence_lower", ', metric="slice_auc_active_period"'
            ),
            "{{track}} {{symbol}} to": of_workload(
                "signal_evidence_upper", ', metric="slice_auc_active_period"'
            ),
        },
        help="For one look; the bounds that decide are wider.",
        overrides=(dashed("/ (from|to)$/", "gray"),),
    ),
    Panel(
        "Calibration error",
        {
            "{{track}} {{symbol}}": of_workload("platt_ece"),
            "{{track}} {{symbol}} by chance": of_workload(
                "signal_calibration_error_null_ratio",
                ', horizon="$horizon", binning="equal_width", statistic="mean"',
            ),
        },
        help="ECE, and what perfect probabilities would show by chance.",
        overrides=(dashed("/by chance$/", "gray"),),
    ),
    Panel(
        "Canary − stable",
        {"{{symbol}} {{metric}}": of_workload("signal_difference", ', track="canary"')},
        help="On the same rows. Nothing in a first rollout.",
        may_be_empty=True,
    ),
    Panel(
        "Merge lag",
        {
            "{{track}} {{symbol}} p50": of_workload("merge_time_diff_ms_p50"),
            "{{track}} {{symbol}} p90": of_workload("merge_time_diff_ms_p90"),
            "{{track}} {{symbol}} p99": of_workload("merge_time_diff_ms_p99"),
        },
        "ms",
        "Age of the CVD score that an OFI row is joined with, before the tolerance.",
    ),
    Panel(
        "Warming up",
        {"{{track}} {{symbol}}": of_workload("signal_warmup_ratio")},
        "percentunit",
        "How far the calibration windows are filled.",
    ),
    Panel(
        "Signals sent and withheld",
        {
            "{{track}} {{symbol}} sent": rate("signals_published_total"),
            "{{track}} {{symbol}} {{reason}}": rate("signals_withheld_total"),
        },
        "mps",
        may_be_empty=True,
    ),
    Panel(
        "Age of the newest data",
        {
            "{{track}} {{symbol}}": "time() - "
            + of_workload("signal_last_evaluation_timestamp_seconds")
        },
        "s",
    ),
    Panel(
        "Rows left out",
        {"{{track}} {{symbol}} {{reason}}": rate("analysis_rows_masked_total")},
        "rowsps",
        may_be_empty=True,
    ),
    "Harvest",
    Panel(
        "Frames", {"{{track}} {{symbol}} {{stream}}": rate("harvest_frames_received_total")}, "mps"
    ),
    Panel(
        "Silence",
        {"{{track}} {{symbol}} {{stream}}": of_workload("harvest_stream_silent_seconds")},
        "s",
        "Since the last frame of a stream.",
    ),
    Panel(
        "Trade to feature",
        {
            "{{track}} {{symbol}} p50": quantile(0.5, "cvd_latency_seconds", TRACK),
            "{{track}} {{symbol}} p99": quantile(0.99, "cvd_latency_seconds", TRACK),
        },
        "s",
    ),
    Panel(
        "Trades fetched and lost",
        {
            "{{track}} {{symbol}} fetched": rate("harvest_trades_backfilled_total"),
            "{{track}} {{symbol}} lost": rate("harvest_trades_lost_total"),
        },
        "cps",
    ),
    Panel(
        "Gaps and refused commits",
        {
            "{{track}} {{symbol}} gaps of {{stream}}": rate("harvest_gaps_total"),
            "{{track}} {{symbol}} commits: {{reason}}": rate("harvest_commit_errors_total"),
        },
        "cps",
        may_be_empty=True,
    ),
    Panel(
        "Since the last commit",
        {
            "{{track}} {{symbol}}": "time() - "
            + of_workload("harvest_last_commit_timestamp_seconds")
        },
        "s",
    ),
    Panel(
        "Waiting to be stored",
        {"{{track}} {{symbol}}": of_workload("harvest_uncommitted_bytes")},
        "bytes",
    ),
)

FLEET_PANELS: tuple[Panel | str, ...] = (
    "SignalCanaries",
    Panel(
        "By phase",
        {"{{phase}}": "sum by (phase) (signalcanary_objects)"},
        width=12,
        defaults={"custom": {"stacking": {"mode": "normal"}, "fillOpacity": 60}},
    ),
    Panel(
        "Conditions by verdict",
        {"{{verdict}}": "count by (verdict) (signalcanary_condition_verdict)"},
        width=12,
        may_be_empty=True,
        defaults={"custom": {"stacking": {"mode": "normal"}, "fillOpacity": 60}},
    ),
    Panel(
        "Rollouts",
        {
            "": "max by (object_namespace, signalcanary, phase, version, reason) "
            "(signalcanary_rollout_phase)"
        },
        kind="table",
        width=12,
        height=10,
    ),
    Panel(
        "Breaches: how long they have held",
        {
            "{{object_namespace}}/{{signalcanary}} {{symbol}} {{condition}}": "topk(20, "
            "signalcanary_condition_breach_seconds > 0)"
        },
        "s",
        width=12,
        height=10,
        may_be_empty=True,
    ),
    Panel(
        "Transitions in an hour",
        {
            "{{phase}} {{reason}}": "sum by (phase, reason) "
            "(increase(signalcanary_transitions_total[1h]))"
        },
        width=12,
    ),
    Panel(
        "Age of the newest data",
        {
            "{{namespace}}/{{signalcanary}} {{track}}": "time() - min by (namespace, signalcanary, "
            "track) (signal_last_evaluation_timestamp_seconds)"
        },
        "s",
        "Of the symbol that has waited longest.",
        width=12,
    ),
    "The operator",
    Panel("Leaders", {"leaders": "sum(signalcanary_leader)"}, kind="stat", width=4, height=6),
    Panel(
        "Since the last round",
        {"age": "time() - max(signalcanary_last_poll_round_timestamp_seconds)"},
        "s",
        kind="stat",
        width=4,
        height=6,
    ),
    Panel(
        "Unreadable objects",
        {"objects": "max(signalcanary_invalid_objects)"},
        kind="stat",
        width=4,
        height=6,
    ),
    Panel(
        "Rounds",
        {
            f"p{q}": f"histogram_quantile({q / 100}, sum by (le) "
            "(rate(signalcanary_poll_round_duration_seconds_bucket[$__rate_interval])))"
            for q in (50, 99)
        },
        "s",
        width=12,
        height=6,
    ),
    Panel(
        "Looks",
        {"{{phase}}": "sum by (phase) (rate(signalcanary_decisions_total[$__rate_interval]))"},
        "cps",
    ),
    Panel(
        "Writes to the API server",
        {
            "{{kind}} {{verb}}": "sum by (kind, verb) "
            "(rate(signalcanary_api_writes_total[$__rate_interval]))"
        },
        "wps",
        "At rest it writes nothing.",
        may_be_empty=True,
    ),
    Panel(
        "What fails",
        {
            "metrics source: {{reason}}": "sum by (reason) "
            "(rate(signalcanary_metrics_source_failures_total[$__rate_interval]))",
            "look: {{error}}": "sum by (error) "
            "(rate(signalcanary_reconcile_errors_total[$__rate_interval]))",
            "conflicts": "sum(rate(signalcanary_status_conflicts_total[$__rate_interval]))",
        },
        "cps",
        may_be_empty=True,
    ),
    Panel(
        "Notifications",
        {
            "{{receiver}} {{result}} in an hour": "sum by (receiver, result) "
            "(increase(signalcanary_notification_attempts_total[1h]))",
            "{{receiver}} waiting": "max by (receiver) (signalcanary_notifications_pending)",
        },
        may_be_empty=True,
    ),
    "Harvest",
    Panel(
        "Frames",
        {
            "{{namespace}}/{{signalcanary}} {{track}}": "sum by (namespace, signalcanary, track) "
            "(rate(harvest_frames_received_total[$__rate_interval]))"
        },
        "mps",
    ),
    Panel(
        "Longest silence",
        {
            "{{namespace}}/{{signalcanary}} {{track}} {{stream}}": "max by (namespace, "
            "signalcanary, track, stream) (harvest_stream_silent_seconds)"
        },
        "s",
    ),
    Panel(
        "Lost trades",
        {
            "{{namespace}}/{{signalcanary}} lost": "sum by (namespace, signalcanary) "
            "(rate(harvest_trades_lost_total[$__rate_interval]))"
        },
        "cps",
    ),
)


def variable(name: str, query: str, *, many: bool = False) -> dict[str, Any]:
    many_fields = {"multi": True, "includeAll": True, "allValue": ".*"} if many else {}
    everything = {"current": {"text": ["All"], "value": ["$__all"]}} if many else {}
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        **many_fields,
        **everything,
    }


_OF = 'object_namespace="$namespace", signalcanary="$signalcanary"'
VARIABLES = (
    variable("namespace", "label_values(signalcanary_rollout_phase, object_namespace)"),
    variable(
        "signalcanary",
        'label_values(signalcanary_rollout_phase{object_namespace="$namespace"}, signalcanary)',
    ),
    variable(
        "symbol",
        'label_values(harvest_frames_received_total{namespace="$namespace", '
        'signalcanary="$signalcanary"}, symbol)',
        many=True,
    ),
    variable(
        "condition",
        f"label_values(signalcanary_condition_threshold{{{_OF}}}, condition)",
        many=True,
    )
    | {"allValue": None},
    variable(
        "horizon",
        'label_values(platt_test_samples{namespace="$namespace", signalcanary="$signalcanary"}, '
        "horizon)",
    ),
)
SOURCE = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def render_panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    is_table = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + n),
            "datasource": DATASOURCE,
            "expr": query,
            "legendFormat": legend or "__auto",
            **({"instant": True, "format": "table"} if is_table else {}),
        }
        for n, (legend, query) in enumerate(panel.queries.items())
    ]
    legend = {"legend": {"displayMode": "list", "placement": "bottom"}}
    shown = {"timeseries": legend | {"tooltip": {"mode": "multi"}}, "stat": {}, "table": {}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        **({"description": panel.help} if panel.help else {}),
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, **panel.defaults},
            "overrides": list(panel.overrides),
        },
        "options": {**shown.get(panel.kind, {"mergeValues": True, "showValue": "auto"})}
        | panel.options,
        **(
            {"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": 3} if panel.repeat else {}
        ),
    }


def render(title: str, uid: str, panels: tuple[Panel | str, ...], *variables: Any) -> str:
    """A dashboard's JSON: panels from left to right, in rows by their headings."""
    out: list[dict[str, Any]] = []
    x = y = highest = 0
    for panel in panels:
        is_row = isinstance(panel, str)
        if is_row or x + panel.width > WIDTH or panel.repeat:
            x, y, highest = 0, y + highest, 0
        if isinstance(panel, str):
            grid = {"x": 0, "y": y, "w": WIDTH, "h": 1}
            row = {"id": len(out) + 1, "type": "row", "title": panel, "gridPos": grid}
            out.append(row | {"collapsed": False, "panels": []})
            y += 1
            continue
        out.append(render_panel(panel, len(out) + 1, x, y))
        x, highest = x + (WIDTH if panel.repeat else panel.width), max(highest, panel.height)
    dashboard = {
        "title": title,
        "uid": uid,
        "tags": ["signalcanary"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [SOURCE, *variables]},
        "annotations": {"list": []},
        "panels": out,
    }
    return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"


DASHBOARDS = {
    "rollout.json": ("SignalCanary: a rollout", "signalcanary-rollout", ROLLOUT_PANELS, VARIABLES),
    "fleet.json": ("SignalCanary: the fleet", "signalcanary-fleet", FLEET_PANELS, ()),
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, (title, uid, panels, variables) in DASHBOARDS.items():
        (FOLDER / name).write_text(render(title, uid, panels, *variables))


if __name__ == "__main__":
    main()
