"""What the operator and the workloads agree on, and nothing else; `stream` adds the signals.

Three things: the signal configuration (what is rolled out), the workload configuration (the
file a harvest or analysis process is started with), and the metrics that come back. Both
sides import this module; it imports neither side, and no clock, network or Kubernetes.

Wire form is camelCase JSON. Durations are strings as Kubernetes writes them (``1500ms``,
``10s``, ``2m``, ``48h``) and `timedelta` in memory.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from signalcanary.artifacts import Artifacts, Role

# As ever under these names to all that import the contract.
from signalcanary.wire import DURATION_HELP as DURATION_HELP
from signalcanary.wire import DURATION_PATTERN as DURATION_PATTERN
from signalcanary.wire import MAX_DURATION as MAX_DURATION
from signalcanary.wire import Duration as Duration
from signalcanary.wire import Model as Model
from signalcanary.wire import PositiveDuration as PositiveDuration
from signalcanary.wire import format_duration as format_duration
from signalcanary.wire import parse_duration as parse_duration
from signalcanary.wire import shown as shown
from signalcanary.wire import string_schema as string_schema

# --------------------------------------------------------------------------- the signal


_SUM_OF_WEIGHTS: Final = "self.ofi + self.cvd + (has(self.ml) ? self.ml : 0.0)"


class RegimeWeights(Model):
    """How the two features are fused in one market regime (seed 002)."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": f"{_SUM_OF_WEIGHTS} > 0.999999 && {_SUM_OF_WEIGHTS} < 1.000001",
                    "message": "the weights ofi and cvd must sum to 1, "
                    "for example {ofi: 0.6, cvd: 0.4}, together with ml if there is one",
                }
            ]
        }
    )

    ofi: float = Field(ge=0, le=1, description="Weight of the order-flow-imbalance z-score (0–1).")
    cvd: float = Field(
        ge=0, le=1, description="Weight of the cumulative-volume-delta z-score (0–1)."
    )
    ml: float | None = Field(
        default=None,
        ge=0,
        le=0.9,
        description="Weight of the models' score (0–0.9); 0 if not given. Where the models have "
        "none, the other two take its part, in proportion.",
    )
    gate: float = Field(
        default=0.0,
        ge=0,
        le=16,
        description="Signals weaker than this are emitted as 0. Unit: z-score.",
    )

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        total = self.ofi + self.cvd + (self.ml or 0.0)
        if abs(total - 1) >= 1e-6:
            raise ValueError(
                f"the weights ofi and cvd must sum to 1, not {total:g}; "
                "for example {ofi: 0.6, cvd: 0.4}, together with ml if there is one"
            )
        return self


class Fusion(Model):
    """Weights by market regime: ``baseline`` serves where the regime is not known yet."""

    baseline: RegimeWeights = Field(
        default=RegimeWeights(ofi=0.6, cvd=0.4),
        description="Weights while the regime is unknown or in transition.",
    )
    active: RegimeWeights = Field(
        default=RegimeWeights(ofi=0.7, cvd=0.3), description="Weights in the active regime."
    )
    quiet: RegimeWeights = Field(
        default=RegimeWeights(ofi=0.5, cvd=0.5), description="Weights in the quiet regime."
    )


class Label(Model):
    """What the signal is asked to predict: does the mid price rise within the horizon?"""

    type: Literal["mid"] = Field(
        default="mid", description="mid: 1 if the mid price at t + horizon is above that at t."
    )
    horizon: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="How far ahead the label looks. Unit: duration of market time.",
    )


SHORTEST_WINDOW: Final = timedelta(seconds=100)
"""A fit, and a score, takes at least 100 labelled rows; there is one a second."""
WINDOW_HELP: Final = (
    "train and test must each be at least 100s: a fit and a score take 100 labelled rows, "
    "and there is one a second"
)


class Calibration(Model):
    """How scores become probabilities: fitted on the train window, scored strictly forward."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "duration(self.train) >= duration('100s') && "
                    "duration(self.test) >= duration('100s')",
                    "message": WINDOW_HELP,
                }
            ]
        }
    )

    method: Literal["platt"] = Field(default="platt", description="platt: logistic (Platt 1999).")
    train: PositiveDuration = Field(
        default=timedelta(seconds=7200),
        description="Length of the trailing window that each fit uses. Unit: market time.",
    )
    test: PositiveDuration = Field(
        default=timedelta(seconds=1800),
        description="Length of the trailing window of forward predictions that ECE, Brier and "
        "AUC are computed on. Unit: market time.",
    )
    refit: PositiveDuration = Field(
        default=timedelta(seconds=1800), description="Time between fits. Unit: market time."
    )


class Cvd(Model):
    """The volume-delta z-score (seed 001, phase A1)."""

    z_mode: Literal["delta"] = Field(
        default="delta", description="delta: the z-score of each trade's signed notional."
    )
    scale_mode: Literal["hybrid"] = Field(
        default="hybrid",
        description="hybrid: a fast and a slow EWMA of |delta|, floored by a scaled MAD.",
    )
    mad_multiplier: float = Field(
        default=1.8, gt=0, le=100, description="The scale's floor, in robust standard deviations."
    )
    scale_fast_weight: float = Field(
        default=0.20, ge=0, le=1, description="Weight of the fast EWMA in the scale (0–1)."
    )
    half_life_trades: int = Field(
        default=600, ge=1, le=1_000_000, description="Half-life of the slow EWMA. Unit: trades."
    )
    winsor_limit: float = Field(
        default=8.0, gt=0, le=100, description="The z-score is clipped to ± this. Unit: z-score."
    )
    auto_flip: bool = Field(
        default=True,
        description="Turn the sign of the CVD score around when the training window shows, "
        "beyond doubt, that it predicts the wrong way.",
    )


class Merge(Model):
    """The as-of join of the two features."""

    tolerance: PositiveDuration = Field(
        default=timedelta(milliseconds=1500),
        description="The oldest CVD score that a row may be matched with. Unit: market time.",
    )


_REGIMES: Final = ("baseline", "active", "quiet")
_ML_HELP: Final = (
    "a weight ml needs a model: write artifacts with at least one model of the role base"
)


class SignalConfig(Model):
    """The configuration that is rolled out: everything that changes the signal's values."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": " && ".join(
                        f"!(has(self.fusion.{regime}.ml) && self.fusion.{regime}.ml > 0.0)"
                        for regime in _REGIMES
                    )
                    + " || has(self.artifacts) && has(self.artifacts.models) && "
                    "self.artifacts.models.exists(m, m.role == 'base')",
                    "message": _ML_HELP,
                }
            ]
        }
    )

    fusion: Fusion = Field(default=Fusion(), description="Feature weights by market regime.")
    label: Label = Field(default=Label(), description="What the signal predicts.")
    calibration: Calibration = Field(
        default=Calibration(), description="How scores become probabilities."
    )
    cvd: Cvd = Field(default=Cvd(), description="Parameters of the volume-delta z-score.")
    merge: Merge = Field(default=Merge(), description="Parameters of the as-of join.")
    artifacts: Artifacts | None = Field(
        default=None,
        description="Model files that the signal is made with, checked before any pod of the "
        "canary starts.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        weights = (getattr(self.fusion, regime).ml for regime in _REGIMES)
        models = self.artifacts.models if self.artifacts else ()
        if any(weights) and not any(model.role is Role.BASE for model in models):
            raise ValueError(_ML_HELP)
        return self


SYMBOL_PATTERN: Final = r"^[A-Z0-9]{2,20}$"


WebsocketUrl = Annotated[
    str,
    StringConstraints(pattern=r"^wss?://[^ /]+[^ ]*$", max_length=256),
    WithJsonSchema(
        string_schema(
            r"^wss?://[^ /]+[^ ]*$",
            256,
            "write a websocket address, for example wss://fstream.binance.com/public",
        )
    ),
]
HttpUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[^ /]+[^ ]*$", max_length=256),
    WithJsonSchema(
        string_schema(
            r"^https?://[^ /]+[^ ]*$",
            256,
            "write an address such as https://fapi.binance.com",
        )
    ),
]


class DataSource(Model):
    """The exchange. Defaults are Binance USD-M's endpoints since its split of 2026-04-23."""

    type: Literal["binance-usdm"] = Field(
        default="binance-usdm", description="The protocol: Binance USD-M futures."
    )
    public_url: WebsocketUrl = Field(
        default="wss://fstream.binance.com/public",
        description="Websocket base URL of the streams bookTicker and depth.",
    )
    market_url: WebsocketUrl = Field(
        default="wss://fstream.binance.com/market",
        description="Websocket base URL of the streams aggTrade and trade.",
    )
    rest_url: HttpUrl = Field(
        default="https://fapi.binance.com",
        description="Base URL of the REST API that missed trades are fetched from.",
    )
    trade_stream: Literal["aggTrade", "trade"] = Field(
        default="aggTrade", description="Which trade stream to subscribe to."
    )


# --------------------------------------------------------------------------- the workloads


class Track(StrEnum):
    """Which side of the rollout a workload serves."""

    CANARY = "canary"
    STABLE = "stable"


class Control(Model):
    """The configuration that a canary is compared with on the canary's own rows."""

    revision: str = Field(description="The stable revision's name, a metric label.")
    signal: SignalConfig


class WorkloadConfig(Model):
    """The file that harvest and analysis are started with (``--config``).

    One file a track: each process takes its own part of the symbols by its shard number, the
    ordinal of its pod. Data lies under ``data_path`` in a folder of its own for each track and
    revision, so that no two writers ever share one.
    """

    namespace: str
    name: str = Field(description="The SignalCanary's name.")
    track: Track
    revision: str = Field(description="The revision's name, a metric label.")
    attempt: int = Field(
        default=0,
        ge=0,
        description="Which try of the revision this is; it grows with each rollout. 0 publishes "
        "no signal, as no gate names it.",
    )
    fingerprint: str = Field(description="Canonical hash of all that changes the signal.")
    version: str
    shards: tuple[tuple[str, ...], ...] = Field(description="Symbols of each shard, by ordinal.")
    signal: SignalConfig
    source: DataSource
    data_path: str = Field(
        description="Where the data of this track and revision lies: a folder, or a bucket's "
        "s3://bucket/prefix, whose endpoint and credentials are in the standard AWS_… variables."
    )
    artifacts_root: str | None = Field(
        default=None,
        description="What the artifacts' path is relative to: a folder, or a bucket's URL. Where "
        "there are none it is not given.",
    )
    logins: str | None = Field(
        default=None,
        description="A folder with one folder for each Secret that an image of artifacts names, a "
        "file a key. Where it is not given, logins are those of `docker login` on this machine.",
    )
    control: Control | None = Field(
        default=None,
        description="What the canary is compared with; absent on the stable track, and in a "
        "first rollout.",
    )
    commit_interval: PositiveDuration = Field(
        description="Longest time that a received row waits for its commit. Unit: wall clock."
    )
    compaction_interval: PositiveDuration = Field(
        default=timedelta(hours=1),
        description="Stretch whose commits become one part a kind. Unit: event time.",
    )
    retention: PositiveDuration | None = Field(
        default=None,
        description="Age, against the newest data, at which data is deleted; without it nothing "
        "is. Unit: event time.",
    )


class Component(StrEnum):
    """The kinds of workload."""

    HARVEST = "harvest"
    ANALYSIS = "analysis"
    VERIFY = "verify"


SHARD_VARIABLE: Final = "SIGNALCANARY_SHARD"
"""Environment variable that tells a pod its shard, the ordinal of its StatefulSet."""

METRICS_PORT: Final = 9100
"""Where harvest and analysis serve /metrics, /healthz and /readyz, in a pod."""

# --------------------------------------------------------------------------- the metrics


class Unit(StrEnum):
    MILLISECONDS = "ms"
    RATIO = "ratio"
    COUNT = "count"
    PERCENT = "percent"


class Metric(Model):
    """One metric of the contract: what it is called, what it means, what it can be."""

    name: str
    help: str
    unit: Unit
    kind: Literal["gauge", "counter"] = "gauge"
    minimum: float = 0.0
    maximum: float | None = None
    judged: bool = Field(default=True, description="May a rollback condition name it?")
    has_bounds: bool = Field(
        default=False, description="Does analysis export anytime-valid bounds beside it?"
    )


# Seed 002 names ten of its thirteen; the three sessions are its origin's configuration.
CORE_METRICS: Final = (
    Metric(
        name="cvd_direction_flipped_total",
        help="Times the sign of the CVD score was turned around.",
        unit=Unit.COUNT,
        kind="counter",
        judged=False,
    ),
    *(
        Metric(
            name=f"merge_time_diff_ms_{q}",
            help=f"As-of join: {q} of the age of the matched CVD score over 5 min of market "
            "time, before the tolerance is applied (ms).",
            unit=Unit.MILLISECONDS,
        )
        for q in ("p50", "p90", "p99")
    ),
    Metric(
        name="platt_train_samples",
        help="Labelled rows that the calibration in use was fitted on.",
        unit=Unit.COUNT,
    ),
    Metric(
        name="platt_test_samples",
        help="Labelled rows, scored strictly forward, that ECE and Brier are computed on.",
        unit=Unit.COUNT,
    ),
    Metric(
        name="platt_ece",
        help="Expected calibration error over 10 equal-width bins of p(up) (Guo 2017).",
        unit=Unit.RATIO,
        maximum=1.0,
        has_bounds=True,
    ),
    Metric(
        name="platt_brier",
        help="Brier score: the mean of (p − y)².",
        unit=Unit.RATIO,
        maximum=1.0,
        has_bounds=True,
    ),
    *(
        Metric(
            name=f"slice_auc_{slice_name}",
            help=f"Area under the ROC curve of the score on the slice {slice_name}.",
            unit=Unit.RATIO,
            maximum=1.0,
            has_bounds=True,
        )
        for slice_name in (
            "active_period",
            "quiet_period",
            "tokyo_session",
            "london_session",
            "ny_session",
        )
    ),
)

HARVEST_METRICS: Final = (
    *(
        Metric(
            name=f"cvd_z_tail_p{threshold}",
            help=f"Share of trades whose volume-delta z-score is beyond ±{threshold}, over 5 min "
            "of market time (percent).",
            unit=Unit.PERCENT,
            maximum=100.0,
        )
        for threshold in (2, 3)
    ),
    Metric(
        name="cvd_floor_hit_rate",
        help="Share of trades whose scale is the floor, over 5 min of market time (0–1).",
        unit=Unit.RATIO,
        maximum=1.0,
    ),
)
"""Judged as the core metrics are, but harvest exports them, with the evidence beside them
(seed 001)."""

ML_METRICS: Final = (
    Metric(
        name="signal_ml_coverage_ratio",
        help="Share of the rows that can be scored for which the models gave a score, over 5 min "
        "of market time.",
        unit=Unit.RATIO,
        maximum=1.0,
    ),
    Metric(
        name="signal_ml_output_ok_ratio",
        help="Share of these rows for which the model that answers the least often gave a "
        "probability, over 5 min of market time.",
        unit=Unit.RATIO,
        maximum=1.0,
    ),
    Metric(
        name="signal_ml_stacking_active_ratio",
        help="Share of the models' scores that the stacking model gave, over 5 min of market time.",
        unit=Unit.RATIO,
        maximum=1.0,
    ),
    Metric(
        name="signal_ml_central_ratio",
        help="Share of the models' probabilities within 0.3–0.7, over 5 min of market time.",
        unit=Unit.RATIO,
        maximum=1.0,
    ),
)
"""Of signals that are made with models (seed 004); analysis exports them where there are some."""

# Evidence beside each value, one series a (metric, symbol): labels as the metric's own plus
# `metric`, its name. A value without its evidence is not judged.
EVIDENCE_TIMESTAMP: Final = "signal_evidence_timestamp_seconds"
"""Unix time (s, wall clock) of the last evaluation that took in at least one new row."""
EVIDENCE_SAMPLES: Final = "signal_evidence_samples"
"""Labelled rows that the value was computed on. Present, 0 included, while warming up."""

EVIDENCE_EFFECTIVE_SAMPLES: Final = "signal_evidence_effective_samples"
"""Independent rows that would leave the value as unsure: labels overlap and scores persist."""
EVIDENCE_LOWER: Final = "signal_evidence_lower"
"""Lower end of the 95 % interval of the true value, for one look. Absent if unknown. That of
`platt_ece` is of the true calibration error; the value beside it is biased upward."""
EVIDENCE_UPPER: Final = "signal_evidence_upper"
"""Upper end of the same interval."""

EVIDENCE_BOUND: Final = "signal_evidence_bound"
"""What a value is at least or at most, for certain but for `level`, at however many looks within
48 h. Labels as the other evidence's, and `level`, `side` (lower, upper) and `window`: `now`, what
the rows of late say; `whole`, what all rows since the start say. See `Bound`."""


class BoundLabel(StrEnum):
    """Labels of `EVIDENCE_BOUND` beyond those of the other evidence."""

    LEVEL = "level"
    SIDE = "side"
    WINDOW = "window"


DIFFERENCE_BOUND: Final = "signal_difference_bound"
"""The same of the difference to the control, with its label; of the metrics that are means."""
EVIDENCE_LEVELS: Final = (0.05, 0.02, 0.005, 0.001, 0.0001)
"""Chances, a metric, symbol and 48 h, that a bound fails on one side. What is judged takes the
greatest that its share of the error rate allows: of 0.1 in all, 2, 5, 20, 100 or 1,000 conditions
times symbols use one up to the last, and at worst a bound is a fifth of its share."""

# The canary's configuration against the stable one, scored on the canary's own rows, one series a
# (core metric, symbol): labels as the evidence's, and `control`, the stable revision's name.
DIFFERENCE: Final = "signal_difference"
"""Canary − stable. Unit: the core metric's."""
DIFFERENCE_LOWER: Final = "signal_difference_lower"
"""Lower end of its 95 % interval, for one look, from the rows' paired influences."""
DIFFERENCE_UPPER: Final = "signal_difference_upper"
"""Upper end of the same interval."""
DIFFERENCE_SAMPLES: Final = "signal_difference_samples"
"""Labelled rows that both configurations scored."""
DIFFERENCE_EFFECTIVE_SAMPLES: Final = "signal_difference_effective_samples"
"""Independent rows that would leave the difference as unsure."""
CONTROL_LABEL: Final = "control"

# The curves behind the calibration error and the AUC, at the judged horizon: labels as the core
# metrics', and those of `CurveLabel`. Nobody judges by them; reports draw them.
RELIABILITY_PREDICTED: Final = "signal_reliability_predicted_ratio"
"""Mean probability of the rows in a bin; bins without rows have no series."""
RELIABILITY_OBSERVED: Final = "signal_reliability_observed_ratio"
"""Share of these rows whose mid rose."""
RELIABILITY_LOWER: Final = "signal_reliability_observed_lower_ratio"
"""Lower end of the 95 % interval of the true share, for one look."""
RELIABILITY_UPPER: Final = "signal_reliability_observed_upper_ratio"
"""Upper end of the same interval."""
RELIABILITY_SAMPLES: Final = "signal_reliability_samples"
"""Labelled rows in a bin."""
RELIABILITY_EFFECTIVE_SAMPLES: Final = "signal_reliability_effective_samples"
"""Independent rows that would leave the share as unsure."""
ROC_TRUE_POSITIVES: Final = "signal_roc_true_positive_ratio"
"""Share of the rises that a threshold finds, by slice and by the share of other rows that it
takes for rises."""
ALL_ROWS: Final = "all"
"""The slice that holds every row."""
CALIBRATION_ERROR: Final = "signal_calibration_error_ratio"
CALIBRATION_ERROR_LOWER: Final = "signal_calibration_error_lower_ratio"
CALIBRATION_ERROR_UPPER: Final = "signal_calibration_error_upper_ratio"
CALIBRATION_SAMPLES: Final = "signal_calibration_samples"
CALIBRATION_EFFECTIVE_SAMPLES: Final = "signal_calibration_effective_samples"
AUC: Final = "signal_auc_ratio"
AUC_LOWER: Final = "signal_auc_lower_ratio"
AUC_UPPER: Final = "signal_auc_upper_ratio"
AUC_SAMPLES: Final = "signal_auc_samples"
AUC_EFFECTIVE_SAMPLES: Final = "signal_auc_effective_samples"
VALUE_VALID: Final = "signal_value_valid"
"""1 for a metric that is exported; 0 for one that is not, with the label `reason`."""


class CurveLabel(StrEnum):
    """Labels of the curves beyond those of the core metrics."""

    BIN = "bin"
    """Edges of a bin of p, as in 0.3-0.4."""
    BINNING = "binning"
    """How p is cut into bins: equal_width, as the judged error has it, or equal_mass."""
    SPLIT = "split"
    """Which rows are counted: train, or test."""
    SLICE = "slice"
    FALSE_POSITIVES = "false_positive_ratio"


HEARTBEAT: Final = "signal_last_evaluation_timestamp_seconds"
"""Unix time (s, wall clock) at which analysis last took in new rows of the symbol. One
series a symbol; it says that the whole chain exchange → harvest → analysis is alive."""
WARMUP: Final = "signal_warmup_ratio"
"""How far the calibration windows are filled (0–1), one series a symbol."""


class MetricLabel(StrEnum):
    """Labels of every series above. `namespace` equals the pod's, so a scraper that renames
    it or honours it leaves the same value."""

    NAMESPACE = "namespace"
    NAME = "signalcanary"
    TRACK = "track"
    REVISION = "revision"
    SYMBOL = "symbol"
    HORIZON = "horizon"
    METRIC = "metric"


METRICS_BY_NAME: Final = {
    metric.name: metric for metric in (*CORE_METRICS, *HARVEST_METRICS, *ML_METRICS)
}
JUDGED_METRICS: Final = tuple(name for name, metric in METRICS_BY_NAME.items() if metric.judged)
