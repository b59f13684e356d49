"""The dashboard of one rollout: is it fine, what happened, why, and what lies beneath."""

from __future__ import annotations

from grafana_kit import (
    BARS,
    BY_TRACK,
    DULL,
    LISTED,
    LONGEST,
    PHASES,
    SHADES,
    SHADES_OF_RED,
    TIERS,
    UNSEEN,
    VERDICTS,
    Annotation,
    Dashboard,
    Panel,
    all_called,
    grey_line_at,
    in_grey,
    line_at,
    link,
    mapped,
    matrix,
    number,
    said,
    steps,
    threshold_line,
    timeline,
    variable,
)
from grafana_queries import (
    AT_HORIZON,
    CONDITION,
    ROLLOUT,
    SYMBOL,
    TRACK,
    WORKLOAD,
    age_of,
    annotations,
    conditions_of_status,
    increase,
    of_condition,
    of_workload,
    or_named,
    phases,
    quantile,
    rate,
    verdicts,
)

UNJUDGED = 'verdict=~"Inconclusive|NoData|Error"'
BREACHED = 'verdict="Breached"'


BEGUN = (
    " and on (object_namespace, signalcanary) signalcanary_rollout_phase"
    '{phase=~"Progressing|Promoting|Soaking"}'
)


def pairs(which: str, more: str = "") -> str:
    """How many pairs of a condition and a symbol have a verdict."""
    series = f'signalcanary_condition_verdict{{{ROLLOUT}, symbol=~"$symbol", {which}}}'
    return f"count({series}{more}) or 0 * max(signalcanary_rollout_phase{{{ROLLOUT}}})"


IS_IT_FINE: tuple[Panel | str, ...] = (
    "Is it fine?",
    number(
        "Which phase?",
        {"{{version}}": phases("version", f"{ROLLOUT}, ")},
        help="The version that is under way, or was last, and its phase. Green is done, blue is "
        "under way, yellow waits, red is taken back.",
        no_value="The operator shows no such rollout",
        unit="none",
        options={"textMode": "value_and_name"},
        defaults=mapped(PHASES) | steps({None: UNSEEN}),
        runbook="SignalCanaryRolledBack",
    ),
    number(
        "Which versions?",
        {
            "{{track}} {{version}}": or_named(
                f"max by (track, version) (signalcanary_rollout_revision_info{{{ROLLOUT}}})",
                track="none",
            )
        },
        names=True,
        help="Stable serves; a canary is judged beside it, until it is promoted or taken back.",
        no_value="Neither stable nor canary yet",
        unit="none",
        may_be_empty=True,
        defaults=steps({None: DULL}),
    ),
    number(
        "Which stage?",
        {
            "{{stage}}": or_named(
                f"max by (stage) (signalcanary_rollout_stage{{{ROLLOUT}}})", stage="none"
            )
        },
        names=True,
        help="The stage of spec.stages whose clock runs. A stage passes while nothing is breached.",
        no_value="none",
        unit="none",
        defaults=steps({None: DULL, 1: "blue"}),
    ),
    number(
        "Any breach?",
        {"": pairs(BREACHED)},
        help="How many conditions, on how many symbols, are beyond their threshold for certain. "
        "Held for its `for`, one is enough to take the canary back: nobody need act.",
        no_value="The operator shows no such rollout",
        unit="none",
        defaults=said(("no", "green"), "red"),
        runbook="SignalCanaryBreached",
    ),
    number(
        "Any unjudged?",
        {"": pairs(UNJUDGED, BEGUN)},
        help="How many conditions, on how many symbols, are Inconclusive (too few rows), NoData "
        "or Error; the stage's clock stands still meanwhile. From the first stage on: while it "
        "warms up nothing can be judged.",
        no_value="The operator shows no such rollout",
        unit="none",
        defaults=said(("no", "green"), "orange"),
        runbook="SignalCanaryHeld",
    ),
    number(
        "Age of live data?",
        {
            "": "time() - min(max by (symbol) (signal_last_evaluation_timestamp_seconds"
            f'{{{SYMBOL}, track="stable"}}))'
        },
        help="Of the stable track, which consumers rely on: since analysis last took in new rows, "
        "of the symbol that has waited longest. Red from 5 min on.",
        no_value="Nothing is stable yet",
        unit="s",
        may_be_empty=True,
        defaults={"decimals": 0} | steps({None: DULL, 0: "green", 60: "orange", 300: "red"}),
        runbook="SignalCanarySignalStale",
    ),
)

WHAT_HAPPENED: tuple[Panel | str, ...] = (
    "What happened, and when?",
    timeline(
        "In which phase was each version?",
        {"{{version}}": or_named(phases("version", f"{ROLLOUT}, "), -1, version="none")},
        help="A line for each version. It warms up, passes its stages, is promoted and succeeds; "
        "or, red, it is taken back.",
        no_value="The operator shows no such rollout",
        width=24,
        height=6,
        defaults=mapped({"the operator shows nothing": UNSEEN} | PHASES, since=-1),
    ),
    timeline(
        "Which stage was observed?",
        {
            "{{stage}}": or_named(
                f"max by (stage) (signalcanary_rollout_stage{{{ROLLOUT}}})", stage="none"
            ),
        },
        help="A line for each stage. It is a blue band on the time axes below, too.",
        no_value="No stage was observed",
        height=8,
        defaults=said(("no stage", "transparent"), "blue", other="observed"),
    ),
    timeline(
        "Which conditions of the status were true?",
        {"{{type}}": or_named(conditions_of_status(), 5, type="none")},
        help="Those of kubectl describe. Green is well, blue is under way, yellow waits for a "
        "person or a schedule, red is to be mended; what is not true has no band.",
        no_value="The operator shows no such rollout",
        height=8,
        options={"showValue": "never"},
        defaults=all_called("true", ("green", "blue", "yellow", "red", UNSEEN)),
    ),
)

WHY: tuple[Panel | str, ...] = (
    "Why was it decided so?",
    timeline(
        "What is the worst verdict of each condition?",
        {"{{condition}}": or_named(verdicts("condition"), -1, condition="none")},
        help="Over the symbols. Only Breached, held for its `for`, rolls back; a promotion needs "
        "all Ok. Unproven is within the threshold, but not for certain; Inconclusive has too few "
        "rows; NoData has nothing fresh; Error cannot be read.",
        no_value="Nothing is judged: there is no canary",
        may_be_empty=True,
        defaults=mapped({"nothing is judged": "transparent"} | VERDICTS, since=-1),
        runbook="SignalCanaryBreached",
    ),
    timeline(
        "What is the worst verdict on each symbol?",
        {"{{symbol}}": or_named(verdicts("symbol"), -1, symbol="none")},
        help="Over the conditions. Choose one symbol above to see its conditions one by one.",
        no_value="Nothing is judged: there is no canary",
        may_be_empty=True,
        defaults=mapped({"nothing is judged": "transparent"} | VERDICTS, since=-1),
    ),
    Panel(
        "Breached if $condition",
        {
            "{{symbol}}": of_condition("value"),
            "{{symbol}} at least": of_condition("bound", ', side="lower"'),
            "{{symbol}} at most": of_condition("bound", ', side="upper"'),
            "threshold": f"max(signalcanary_condition_threshold{{{CONDITION}}})",
        },
        help="The value on each symbol, the threshold (red), and, of guarded conditions, what the "
        "value is at least and at most for certain (grey). It is breached when all of that lies "
        "beyond the threshold, and Ok when all of it lies within.",
        no_value="Nothing is judged: there is no canary",
        unit="none",
        width=8,
        repeat="condition",
        options=LISTED,
        defaults=SHADES,
        overrides=(threshold_line("threshold"), in_grey("/ at (least|most)$/")),
    ),
    Panel(
        "How long have breaches held?",
        {
            "{{symbol}} {{condition}}": "max by (symbol, condition) "
            f'(signalcanary_condition_breach_seconds{{{ROLLOUT}, symbol=~"$symbol"}}) > 0'
        },
        help="Time that was observed; at its `for` the condition takes the canary back.",
        no_value="No breach in this time",
        unit="s",
        width=24,
        height=6,
        may_be_empty=True,
        options=LONGEST,
        defaults={"min": 0} | SHADES_OF_RED,
        runbook="SignalCanaryBreached",
    ),
    timeline(
        "How near are the tiers?",
        {
            "{{symbol}} {{condition}}": or_named(
                "max by (symbol, condition) "
                f'(signalcanary_condition_tier{{{ROLLOUT}, symbol=~"$symbol"}})',
                -1,
                symbol="none",
            )
        },
        help="Of conditions with warning or critical. Critical holds stages and promotion up; "
        "only Rollback takes back.",
        no_value="No condition has tiers",
        height=6,
        defaults=mapped({"no condition has tiers": "transparent"} | TIERS, since=-1),
        runbook="SignalCanaryConditionTier",
    ),
    timeline(
        "Which symbols were held back?",
        {
            "{{symbol}}": or_named(
                f"max by (symbol) (signalcanary_symbol_held{{{ROLLOUT}}})", symbol="none"
            )
        },
        help="Symbols that stay on the revision before, with rollback.scope Symbol or Quorum.",
        no_value="No symbol is held back",
        height=6,
        defaults=said(("none is held back", "transparent"), "orange", other="held back"),
    ),
)

AUC = "slice_auc_active_period"


def evidence(metric: str, end: str) -> str:
    return of_workload(f"signal_{end}", f'{AT_HORIZON}, metric="{metric}"')


SIGNAL: tuple[Panel | str, ...] = (
    "Does the signal predict, and are its probabilities right?",
    Panel(
        "How well are rises ranked above falls? (AUC, active regime)",
        {
            "{{track}} {{symbol}}": of_workload(AUC, AT_HORIZON),
        },
        help="1 is perfect, 0.5 (grey) a coin toss. The canary's lines are solid, those of stable "
        "dotted. Half an hour of rows swings by some 0.05 by chance: what is certain is shown "
        "above, by the conditions.",
        no_value="No AUC yet: the windows fill",
        unit="none",
        defaults={"decimals": 3} | grey_line_at(0.5, axisSoftMin=0.45, axisSoftMax=0.65),
        overrides=BY_TRACK,
        runbook="signal_analysis_slice_auc_low",
    ),
    Panel(
        "Is the canary better than stable? (difference of AUC)",
        {
            "{{symbol}}": of_workload("signal_difference", f'{AT_HORIZON}, metric="{AUC}"'),
            "{{symbol}} from": evidence(AUC, "difference_lower"),
            "{{symbol}} to": evidence(AUC, "difference_upper"),
        },
        help="Canary − stable on the same rows, with the 95 % interval of one look (grey): above 0 "
        "the canary ranks better. Nothing in a first rollout, which has no stable beside it.",
        no_value="No canary beside a stable version",
        unit="none",
        may_be_empty=True,
        defaults={"decimals": 3} | SHADES | grey_line_at(0, axisSoftMin=-0.05, axisSoftMax=0.05),
        overrides=(in_grey("/ (from|to)$/"),),
    ),
    Panel(
        "How far off are the probabilities? (ECE)",
        {
            "{{track}} {{symbol}}": of_workload("platt_ece", AT_HORIZON),
            "perfect, by chance": "max(signal_calibration_error_null_ratio"
            f'{{{SYMBOL}{AT_HORIZON}, binning="equal_width", statistic="mean"}})',
        },
        help="Expected calibration error, in points of probability; 0 is perfect. Grey is what "
        "perfect probabilities would show by chance, on the symbol with the fewest rows.",
        no_value="No calibration yet: the windows fill",
        unit="percentunit",
        defaults={"min": 0, "custom": {"axisSoftMax": 0.1}},
        overrides=(*BY_TRACK, in_grey("perfect, by chance", is_named=True)),
        runbook="signal_analysis_platt_calibration_failure",
    ),
    matrix(
        "In which slices of time does it predict? (AUC now)",
        f"label_join({of_workload('signal_auc_ratio', AT_HORIZON, f'{TRACK}, slice')}, "
        '"whose", " ", "track", "symbol")',
        "whose",
        "slice",
        help="By market regime and trading session, at the end of the time range. 0.5 is a coin "
        "toss: what is at it, or below, is orange.",
        no_value="–",
        unit="none",
        may_be_empty=True,
        defaults={"decimals": 3, "custom": {"cellOptions": {"type": "color-text"}}}
        | steps({None: "orange", 0.5: "yellow", 0.55: "green"}),
    ),
)

ANALYSIS: tuple[Panel | str, ...] = (
    "Does the analysis keep up?",
    Panel(
        "How old is the CVD score that rows are joined with? (merge lag)",
        {
            "{{track}} {{symbol}} p99": of_workload("merge_time_diff_ms_p99", AT_HORIZON),
            "{{track}} p50, worst symbol": of_workload(
                "merge_time_diff_ms_p50", AT_HORIZON, "track"
            ),
        },
        help="Before the tolerance is applied. Trades that come later than quotes, or a market "
        "that makes few, make it long.",
        no_value="No rows were joined yet",
        unit="ms",
        defaults={"min": 0},
        overrides=BY_TRACK,
        runbook="signal_analysis_merge_time_diff_high",
    ),
    Panel(
        "How old is the newest data?",
        {"{{track}} {{symbol}}": age_of("signal_last_evaluation_timestamp_seconds", AT_HORIZON)},
        help="Since analysis last took in new rows. Beyond the red line, 5 min, consumers have a "
        "stale signal.",
        no_value="Analysis has taken in nothing yet",
        unit="s",
        defaults=line_at(300),
        overrides=BY_TRACK,
        runbook="SignalCanarySignalStale",
    ),
    Panel(
        "How full are the windows? (warming up)",
        {"{{track}} {{symbol}}": of_workload("signal_warmup_ratio", AT_HORIZON)},
        help="Of calibration: train + test + horizon, 2.5 h by default. Nothing can be judged "
        "before they are full.",
        no_value="Analysis does not run yet",
        unit="percentunit",
        defaults={"min": 0, "max": 1},
        overrides=BY_TRACK,
    ),
    Panel(
        "Are signals sent?",
        {
            "{{track}} sent": rate("signals_published_total", "track"),
            "{{track}} withheld: {{reason}}": rate("signals_withheld_total", "track, reason")
            + " > 0",
        },
        help="All symbols. Those of the canary are withheld but in a stage with publish: true.",
        no_value="No signal yet",
        unit="mps",
        may_be_empty=True,
        defaults={"min": 0},
        overrides=BY_TRACK,
    ),
    Panel(
        "Which rows are left out, and why?",
        {"{{track}} {{reason}}": rate("analysis_rows_masked_total", "track, reason") + " > 0"},
        help="Rows next to gaps, disputed sides and the like are not scored. A few at a start are "
        "well; lasting ones starve the evidence.",
        no_value="None is left out",
        unit="rowsps",
        width=24,
        height=6,
        may_be_empty=True,
        defaults={"min": 0},
        overrides=BY_TRACK,
    ),
)

HARVEST: tuple[Panel | str, ...] = (
    "Does the market's data arrive, and is it stored?",
    Panel(
        "How many frames arrive?",
        {"{{track}} {{stream}}": rate("harvest_frames_received_total", "track, stream")},
        help="All symbols. One stream at 0 while others go on is the exchange's endpoint, or the "
        "way to it.",
        no_value="Harvest does not run yet",
        unit="mps",
        defaults={"min": 0},
        overrides=BY_TRACK,
    ),
    Panel(
        "How long has a stream been silent?",
        {
            "{{track}} {{symbol}} {{stream}}": of_workload(
                "harvest_stream_silent_seconds", by=f"{TRACK}, stream"
            )
        },
        help="Since its last frame. Beyond the red line, a minute, it is an alert; in thin markets "
        "aggTrade may be silent for longer.",
        no_value="Harvest does not run yet",
        unit="s",
        defaults=line_at(60),
        overrides=BY_TRACK,
        runbook="SignalCanaryStreamSilent",
    ),
    Panel(
        "How late are features after their trade?",
        {
            "{{track}} {{symbol}} p99": quantile(0.99, "cvd_latency_seconds", TRACK),
            "{{track}} p50": quantile(0.5, "cvd_latency_seconds", "track"),
        },
        help="From the exchange's time of a trade to its feature. It includes the difference of "
        "the clocks: below 0 this machine's is behind.",
        no_value="No trade yet",
        unit="s",
        overrides=BY_TRACK,
        runbook="SignalCanaryCvdLatencyHigh",
    ),
    Panel(
        "Were trades lost, or gaps left?",
        {
            "{{track}} trades lost": increase("harvest_trades_lost_total", "track"),
            "{{track}} trades fetched afterwards": increase(
                "harvest_trades_backfilled_total", "track"
            ),
            "{{track}} gaps of {{stream}}": increase("harvest_gaps_total", "track, stream"),
        },
        help="In each interval of the graph. Trades that are fetched afterwards are kept; those "
        "that are lost mask the features after them.",
        no_value="No trade was missed, and no gap left",
        unit="short",
        may_be_empty=True,
        defaults=BARS,
        runbook="SignalCanaryTradesLost",
    ),
    Panel(
        "How long ago was the last commit?",
        {"{{track}} {{symbol}}": age_of("harvest_last_commit_timestamp_seconds")},
        help="Since rows were last written to the volume or bucket; spec.storage.commitInterval "
        "is well.",
        no_value="Nothing was committed yet",
        unit="s",
        defaults={"min": 0},
        overrides=BY_TRACK,
        runbook="SignalCanaryCommitsFail",
    ),
    Panel(
        "How much waits to be stored?",
        {
            "{{track}} {{symbol}}": of_workload("harvest_uncommitted_bytes"),
        },
        help="In memory. It grows while the volume or bucket refuses, until harvest stops reading.",
        no_value="Harvest does not run yet",
        unit="bytes",
        defaults={"min": 0},
        overrides=BY_TRACK,
        runbook="SignalCanaryReadingStopped",
    ),
    Panel(
        "Were commits refused, and why?",
        {
            "{{track}} {{reason}}": increase("harvest_commit_errors_total", "track, reason"),
        },
        help="In each interval of the graph. Nothing is lost before harvest stops reading.",
        no_value="No commit was refused",
        unit="short",
        width=24,
        height=5,
        may_be_empty=True,
        defaults=BARS,
        runbook="SignalCanaryCommitsFail",
    ),
)

VARIABLES = (
    variable(
        "namespace", "Namespace", "label_values(signalcanary_rollout_phase, object_namespace)"
    ),
    variable(
        "signalcanary",
        "SignalCanary",
        'label_values(signalcanary_rollout_phase{object_namespace="$namespace"}, signalcanary)',
    ),
    variable(
        "symbol",
        "Symbols",
        f"label_values(harvest_frames_received_total{{{WORKLOAD}}}, symbol)",
        many=True,
    ),
    variable(
        "condition",
        "Conditions",
        f"label_values(signalcanary_condition_threshold{{{ROLLOUT}}}, condition)",
        many=True,
    )
    | {"allValue": None},
    variable("horizon", "Horizon", f"label_values(platt_test_samples{{{WORKLOAD}}}, horizon)"),
)

DASHBOARD = Dashboard(
    "SignalCanary: a rollout",
    "signalcanary-rollout",
    "One rollout, from whether it is fine down to the market's data.",
    (*IS_IT_FINE, *WHAT_HAPPENED, *WHY, *SIGNAL, *ANALYSIS, *HARVEST),
    (
        Annotation(
            "Stages",
            f"max by (stage) (signalcanary_rollout_stage{{{ROLLOUT}}})",
            "stage {{stage}}",
            "rgba(110, 159, 255, 0.6)",
        ),
        *annotations(f"{ROLLOUT}, ", "", ""),
    ),
    (link("The fleet", "signalcanary-fleet"),),
    VARIABLES,
)
