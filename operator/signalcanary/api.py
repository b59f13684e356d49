"""The custom resource ``SignalCanary`` (signalcanary.dev/v1alpha1) as pydantic models.

The one place for defaults, descriptions and validation rules: the CRD that the API server
enforces is generated from these models (`crd.py`), so what `kubectl explain` says, what the
server refuses and what the operator reads cannot drift apart.

Rules across fields are CEL, beside the model they belong to; each message says what to write
instead. The validators repeat those that lint and local runs need, where no API server stands
guard.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic.config import JsonDict

from signalcanary.contract import (
    CORE_METRICS,
    JUDGED_METRICS,
    METRICS_BY_NAME,
    SHORTEST_WINDOW,
    SYMBOL_PATTERN,
    WINDOW_HELP,
    DataSource,
    Duration,
    Model,
    PositiveDuration,
    SignalConfig,
    Unit,
    format_duration,
    shown,
    string_schema,
)
from signalcanary.promql import MAX_QUERY_LENGTH, PLACEHOLDER_HELP, PLACEHOLDERS
from signalcanary.promql import check as check_query

GROUP: Final = "signalcanary.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "SignalCanary"
PLURAL: Final = "signalcanaries"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# A StatefulSet's pods carry "<its name>-<10 digits>" in a label of at most 63 characters, and its
# name is "<name>-<8>-canary-analysis"; their host names are labels too, so it has no dots.
MAX_NAME_LENGTH: Final = 27
NAME_HELP: Final = (
    "metadata.name becomes part of pods' host names: write at most "
    f"{MAX_NAME_LENGTH} lower-case letters, digits and '-', without dots"
)
MAX_SYMBOLS: Final = 256
MAX_STAGES: Final = 16
MAX_CONDITIONS: Final = 32
DEFAULT_SOURCE: Final = "default"
"""The metrics source where a spec names none."""

_LABEL_VALUE: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
DNS_LABEL: Final = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"


def _rule(rule: str, message: str) -> JsonDict:
    return {"rule": rule, "message": message}


Symbol = Annotated[
    str,
    StringConstraints(pattern=SYMBOL_PATTERN),
    WithJsonSchema(
        string_schema(
            SYMBOL_PATTERN,
            20,
            "write a symbol as the exchange does, 2 to 20 capital letters and digits, "
            "for example BTCUSDT",
        )
    ),
]
VersionLabel = Annotated[
    str,
    StringConstraints(pattern=_LABEL_VALUE, max_length=63),
    WithJsonSchema(
        string_schema(
            _LABEL_VALUE,
            63,
            "write a version that is a label value: letters, digits, '-', '_' and '.', beginning "
            "and ending with a letter or digit, for example v2.0-prod",
        )
    ),
]
StageName = Annotated[
    str,
    StringConstraints(pattern=DNS_LABEL, max_length=63),
    WithJsonSchema(
        string_schema(
            DNS_LABEL,
            63,
            "write a stage name in lower-case letters, digits and '-', for example canary",
        )
    ),
]
SourceName = Annotated[
    str,
    StringConstraints(pattern=DNS_LABEL, max_length=63),
    WithJsonSchema(
        string_schema(
            DNS_LABEL,
            63,
            "write the name of a metrics source in lower-case letters, digits and '-', "
            "for example default",
        )
    ),
]
_SIZE: Final = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi)?$"
Size = Annotated[
    str,
    StringConstraints(pattern=_SIZE, max_length=24),
    WithJsonSchema(string_schema(_SIZE, 24, "write a size such as 500Mi, 20Gi or 1.5Ti")),
]
_NO_REPEATS: Final = "self.all(x, self.exists_one(y, y == x))"


def _first_repeated(items: tuple[str, ...]) -> str | None:
    return next((x for i, x in enumerate(items) if x in items[:i]), None)


class Symbols(Model):
    """Where the canary runs, and where the signal runs once it is promoted."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "self.canary.all(c, c in self.full)",
                    "every symbol in canary must also be in full: add it to full, "
                    "or take it out of canary",
                )
            ]
        }
    )

    canary: tuple[Symbol, ...] = Field(
        min_length=1,
        max_length=MAX_SYMBOLS,
        description="Symbols that the canary runs and is judged on; a subset of full.",
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(_NO_REPEATS, "a symbol stands in canary twice: write each symbol once")
            ]
        },
    )
    full: tuple[Symbol, ...] = Field(
        min_length=1,
        max_length=MAX_SYMBOLS,
        description="Symbols that a promoted configuration runs on.",
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(_NO_REPEATS, "a symbol stands in full twice: write each symbol once")
            ]
        },
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, items in (("canary", self.canary), ("full", self.full)):
            if (twice := _first_repeated(items)) is not None:
                raise ValueError(f"{twice} stands in {field} twice: write each symbol once")
        if extra := sorted(set(self.canary) - set(self.full)):
            raise ValueError(
                f"every symbol in canary must also be in full: add {', '.join(extra)} to full, "
                "or take it out of canary"
            )
        return self


_SHADOW_IS_SILENT: Final = (
    "a stage called shadow publishes to nobody: give it another name, or take publish out"
)


class Stage(Model):
    """One step of the rollout."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "self.name != 'shadow' || !has(self.publish) || !self.publish",
                    _SHADOW_IS_SILENT,
                )
            ]
        }
    )

    name: StageName = Field(description="Unique name of the stage.")
    duration: Duration = Field(
        description="How long the canary must be judged healthy in this stage. The clock runs "
        "only while every condition can be judged. Unit: wall clock."
    )
    publish: bool = Field(
        default=False,
        description="Whether the canary's signals of its symbols go out to consumers, on the "
        "canary track, while this stage lasts; the last stage's word holds during the promotion "
        "too. They are recorded in any case, and nothing is decided by it.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.publish and self.name == "shadow":
            raise ValueError(_SHADOW_IS_SILENT)
        return self


_AUC_IS_GOOD_WHEN_HIGH: Final = (
    "a high AUC is good: write below; or, for one too good to be true, above with 0.75 or more"
)
_BAD_WHEN_HIGH: Final = "this metric is bad when it is high: write above"


_SUFFIXES: Final = {Unit.MILLISECONDS: " ms", Unit.PERCENT: " %"}


class Mode(StrEnum):
    """What must cross a condition's bound."""

    GUARDED = "guarded"
    LITERAL = "literal"


class Of(StrEnum):
    """What a condition bounds."""

    VALUE = "value"
    DIFFERENCE = "difference"
    RELATIVE = "relative"


_COMPARABLE: Final = tuple(metric.name for metric in CORE_METRICS if metric.has_bounds)
_NOT_COMPARABLE: Final = (
    f"only {', '.join(_COMPARABLE)} are compared with stable: take of out, or write one of them"
)
_WORSE_WHEN_LOW: Final = "a lower AUC than stable's is worse: write below, for example below: -0.02"
_WORSE_WHEN_HIGH: Final = "a higher value than stable's is worse: write above, for example 0.02"


_METRIC_OR_QUERY: Final = "write either metric, or name and query"
_QUERY_IS_LITERAL: Final = "a query is judged literally: take of out, and compare in the query"
_QUERY_HAS_NO_SAMPLES: Final = "there are no samples beside a query's value: take minSamples out"
_METRIC_NAME: Final = r"^[a-z][a-z0-9_]*$"
_METRIC_NAME_HELP: Final = (
    "write a name of lower-case letters, digits and '_' that no metric of ours has, "
    "for example book_depth"
)
_ONLY_KNOWN_PLACEHOLDERS: Final = (
    "self.findAll('[{][{][^}]*[}][}]').all(p, p in "
    f"[{', '.join(repr('{{' + name + '}}') for name in PLACEHOLDERS)}])"
)


class Condition(Model):
    """A reason to roll back: a metric beyond a bound for some time, on any canary symbol."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "has(self.above) != has(self.below)",
                    "write exactly one of above and below",
                ),
                _rule(
                    "has(self.metric) ? !has(self.query) && !has(self.name) "
                    ": has(self.query) && has(self.name)",
                    _METRIC_OR_QUERY,
                ),
                _rule("!has(self.query) || self.of == 'value'", _QUERY_IS_LITERAL),
                _rule("!has(self.query) || self.minSamples == 0", _QUERY_HAS_NO_SAMPLES),
                _rule(
                    "!has(self.metric) || has(self.below) || "
                    "!self.metric.startsWith('slice_auc_') || self.of != 'value' || "
                    "!has(self.above) || self.above >= 0.75",
                    _AUC_IS_GOOD_WHEN_HIGH,
                ),
                _rule(
                    "!has(self.metric) || has(self.above) || "
                    "self.metric.startsWith('slice_auc_') || self.metric.endsWith('_samples')",
                    _BAD_WHEN_HIGH,
                ),
                _rule(
                    "!has(self.metric) || self.of == 'value' || "
                    f"self.metric in [{', '.join(repr(name) for name in _COMPARABLE)}]",
                    _NOT_COMPARABLE,
                ),
                _rule(
                    "!has(self.metric) || self.of == 'value' || has(self.below) || "
                    "!self.metric.startsWith('slice_auc_')",
                    _WORSE_WHEN_LOW,
                ),
            ]
        }
    )

    metric_: str | None = Field(
        default=None,
        alias="metric",
        description="Name of the metric, as analysis exports it. Either this, or name and query.",
        json_schema_extra={
            "maxLength": 63,
            "x-kubernetes-validations": [
                _rule(
                    f"self in [{', '.join(repr(name) for name in JUDGED_METRICS)}]",
                    f"unknown metric: write one of {', '.join(JUDGED_METRICS)}",
                )
            ],
        },
    )
    name: (
        Annotated[
            str,
            StringConstraints(pattern=_METRIC_NAME, max_length=63),
            WithJsonSchema(
                string_schema(
                    _METRIC_NAME,
                    63,
                    _METRIC_NAME_HELP,
                    f"!(self in [{', '.join(repr(name) for name in METRICS_BY_NAME)}])",
                )
            ),
        ]
        | None
    ) = Field(
        default=None, description="With a query: what its value is called in status and messages."
    )
    query: str | None = Field(
        default=None,
        max_length=MAX_QUERY_LENGTH,
        description="PromQL that gives one finite number, a scalar or a vector of one element, "
        "for every canary symbol; asked of spec.metricsSource at every look. {{symbol}}, "
        "{{namespace}}, {{name}}, {{revision}} and {{track}} are filled in, inside the quotes of "
        "label matchers only. An empty result is NoData. It is always judged literally: there is "
        "no evidence beside it. Its age is that of the answered sample's timestamp, which "
        "Prometheus sets to the time of the query: a series that went silent is answered for "
        "5 min more, and what avg_over_time and the like read may be older still; to notice "
        "sooner, compare timestamp() in the query. Unit: the value's is the query's own.",
        json_schema_extra={
            "maxLength": MAX_QUERY_LENGTH,
            "x-kubernetes-validations": [
                _rule(_ONLY_KNOWN_PLACEHOLDERS, f"unknown placeholder: {PLACEHOLDER_HELP}")
            ],
        },
    )
    of: Of = Field(
        default=Of.VALUE,
        description="What is bounded. value: the canary's. difference: the canary's − stable's, "
        "both scored on the very same rows, so that what the market does to both cancels. "
        "relative: that difference as a share of stable's. Without a stable revision there is "
        "nothing to compare with, and the two are Ok.",
    )
    above: float | None = Field(
        default=None,
        ge=-1e12,
        le=1e12,
        description="Breached while the value is greater than this. Unit: the metric's own.",
    )
    below: float | None = Field(
        default=None,
        ge=-1e12,
        le=1e12,
        description="Breached while the value is less than this. Unit: the metric's own.",
    )
    for_: Duration = Field(
        default=timedelta(0),
        alias="for",
        description="How long the breach must hold before the rollback. Time in which the metric "
        "could not be judged does not count. Unit: wall clock.",
    )
    mode: Mode = Field(
        default=Mode.GUARDED,
        description="guarded: breached when the evidence is beyond the bound, that is when the "
        "true value is beyond it but for a chance of rollback.errorRate, however often it is "
        "looked at; and Ok only when it is as surely within it. A metric that comes without "
        "evidence (a lag, a count) is judged literally. literal: breached while the value is "
        "beyond the bound, noise or not.",
    )
    min_samples: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000,
        description="With fewer samples than this the condition is inconclusive: it neither "
        "rolls back nor promotes. Unit: labelled rows.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.query is None) != (self.name is None) or (
            (self.query is None) == (self.metric_ is None)
        ):
            raise ValueError(_METRIC_OR_QUERY)
        if self.query is not None:
            self._check_query(self.query)
            return self
        if self.metric not in JUDGED_METRICS:
            raise ValueError(
                f"unknown metric {self.metric!r}: write one of {', '.join(JUDGED_METRICS)}"
            )
        if (self.above is None) == (self.below is None):
            raise ValueError(f"{self.metric}: write exactly one of above and below")
        if self.of is not Of.VALUE:
            if self.metric not in _COMPARABLE:
                raise ValueError(f"{self.metric}: {_NOT_COMPARABLE}")
            if self.metric.startswith("slice_auc_") and self.below is None:
                raise ValueError(f"{self.metric}: {_WORSE_WHEN_LOW}")
            if not self.metric.startswith("slice_auc_") and self.above is None:
                raise ValueError(f"{self.metric}: {_WORSE_WHEN_HIGH}")
        elif self.metric.startswith("slice_auc_"):
            if self.above is not None and self.above < 0.75:
                raise ValueError(f"{self.metric}: {_AUC_IS_GOOD_WHEN_HIGH}")
        elif self.below is not None and not self.metric.endswith("_samples"):
            raise ValueError(f"{self.metric}: {_BAD_WHEN_HIGH}")
        return self

    def _check_query(self, query: str) -> None:
        if self.name in METRICS_BY_NAME:
            raise ValueError(f"{self.name}: {_METRIC_NAME_HELP}")
        if (self.above is None) == (self.below is None):
            raise ValueError(f"{self.name}: write exactly one of above and below")
        if self.of is not Of.VALUE:
            raise ValueError(f"{self.name}: {_QUERY_IS_LITERAL}")
        if self.min_samples:
            raise ValueError(f"{self.name}: {_QUERY_HAS_NO_SAMPLES}")
        check_query(query)

    @property
    def metric(self) -> str:
        """The metric's name; that of a query is the user's, and none of ours."""
        name = self.metric_ or self.name
        assert name is not None  # by _check
        return name

    @property
    def is_guarded(self) -> bool:
        """Whether evidence is to be had, and asked for."""
        if self.query is not None:
            return False
        return self.mode is Mode.GUARDED and METRICS_BY_NAME[self.metric].has_bounds

    @property
    def threshold(self) -> float:
        bound = self.above if self.above is not None else self.below
        assert bound is not None  # by _check
        return bound

    @property
    def sign(self) -> Literal[">", "<"]:
        return ">" if self.above is not None else "<"

    @property
    def key(self) -> str:
        """What names this condition in status, for example ``platt_ece>0.1``."""
        return f"{self.metric}{_SUBJECTS[self.of]}{self.sign}{shown(self.threshold)}"

    def is_beyond(self, value: float) -> bool:
        return value > self.threshold if self.sign == ">" else value < self.threshold

    def describe(self) -> str:
        """The condition in words, for example ``platt_ece > 0.1 for 2m``."""
        return self.bound() + (f" for {format_duration(self.for_)}" if self.for_ else "")

    def bound(self) -> str:
        """The bound in words, for example ``platt_ece > 0.1``."""
        metric = METRICS_BY_NAME.get(self.metric)
        suffix = _SUFFIXES.get(metric.unit, "") if metric is not None else ""
        return f"{self.subject} {self.sign} {shown(self.threshold)}{suffix}"

    @property
    def subject(self) -> str:
        """What is bounded, for example ``platt_ece − stable``."""
        return self.metric + _SUBJECTS[self.of]


_SUBJECTS: Final = {Of.VALUE: "", Of.DIFFERENCE: " − stable", Of.RELATIVE: " ÷ stable − 1"}


def seed_conditions() -> tuple[Condition, ...]:
    """The three rollback conditions of seed 002, the defaults."""
    return (
        Condition(metric_="platt_ece", above=0.1, for_=timedelta(minutes=2)),
        Condition(metric_="merge_time_diff_ms_p99", above=2000, for_=timedelta(minutes=5)),
        Condition(metric_="slice_auc_active_period", below=0.55, for_=timedelta(minutes=10)),
    )


class Rollback(Model):
    """When the canary is taken back."""

    conditions: tuple[Condition, ...] = Field(
        default=seed_conditions(),
        min_length=1,
        max_length=MAX_CONDITIONS,
        description="Any one of these rolls the canary back.",
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "self.all(x, self.exists_one(y, (has(y.metric) ? y.metric : y.name) == "
                    "(has(x.metric) ? x.metric : x.name) && "
                    "y.of == x.of && has(y.above) == has(x.above)))",
                    "a metric stands in two conditions with the same direction: keep one of them",
                )
            ]
        },
    )
    error_rate: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Chance, in 48 h, that the guarded conditions roll back a canary whose true "
        "values are exactly at their bounds; one within them is in far less danger. It is shared "
        "by all conditions and symbols. Unit: probability (0–0.5).",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        directions = tuple(f"{c.subject} {c.sign}" for c in self.conditions)
        if (twice := _first_repeated(directions)) is not None:
            raise ValueError(f"{twice}: two conditions of the same direction: keep one of them")
        return self


class OnDeadline(StrEnum):
    HOLD = "Hold"
    ROLLBACK = "Rollback"


class OnNoData(StrEnum):
    ROLLBACK = "Rollback"
    HOLD = "Hold"


class Evaluation(Model):
    """How the canary is looked at."""

    interval: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="Time between two looks. Unit: wall clock, at least 1s.",
    )
    stale_after: PositiveDuration = Field(
        default=timedelta(seconds=60),
        description="A value whose evaluation is older than this is not judged. Unit: wall clock.",
    )
    no_data_after: PositiveDuration = Field(
        default=timedelta(minutes=10),
        description="A canary symbol that has sent no fresh data for this long, though the "
        "metrics source answers, is silent. Unit: wall clock.",
    )
    on_no_data: OnNoData = Field(
        default=OnNoData.ROLLBACK,
        description="What to do with a silent canary: Rollback, or Hold until it speaks again.",
    )
    deadline: PositiveDuration = Field(
        default=timedelta(hours=24),
        description="How much longer than it must a phase may take before onDeadline: Warming "
        "than train + horizon + test, a stage than its duration, Promoting than no time. Time in "
        "which the metrics source cannot be read does not count. Unit: wall clock.",
    )
    on_deadline: OnDeadline = Field(
        default=OnDeadline.HOLD,
        description="What to do with a canary that is neither good nor bad by the deadline: Hold "
        "and say so, or Rollback. It is never promoted for want of evidence.",
    )


_BUCKET_URL: Final = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=/-]*)?$"
_ENDPOINT: Final = r"^https?://[^ /]+$"


class Bucket(Model):
    """An S3 bucket for harvested data."""

    url: Annotated[
        str,
        StringConstraints(pattern=_BUCKET_URL, max_length=256),
        WithJsonSchema(string_schema(_BUCKET_URL, 256, "write s3://bucket or s3://bucket/prefix")),
    ] = Field(
        description="The bucket and a prefix in it. Data of this SignalCanary lies below it, under "
        "its namespace and name."
    )
    secret_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="A Secret in this namespace with the keys AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN and AWS_REGION if needed. Without it the "
        "pods use what the cluster gives them.",
    )
    endpoint: (
        Annotated[
            str,
            StringConstraints(pattern=_ENDPOINT, max_length=256),
            WithJsonSchema(
                string_schema(_ENDPOINT, 256, "write an address such as https://minio.example:9000")
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Address of the S3 service; Amazon's if not given. It must know conditional "
        "writes (If-None-Match).",
    )


class ReclaimPolicy(StrEnum):
    DELETE = "Delete"
    RETAIN = "Retain"


class Storage(Model):
    """Where harvested data is kept, and for how long."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "!has(self.claimName) || !has(self.storageClassName)",
                    "claimName names a claim that exists: take storageClassName out",
                ),
                *(
                    _rule(
                        f"!has(self.bucket) || !has(self.{name})",
                        f"bucket takes the place of a claim: take {name} out, or bucket",
                    )
                    for name in ("claimName", "storageClassName")
                ),
                *(
                    _rule(
                        f"has(self.{name}) == has(oldSelf.{name}) && "
                        f"(!has(self.{name}) || self.{name} == oldSelf.{name})",
                        f"storage.{name} cannot be changed, as the data would stay behind: "
                        "make a new SignalCanary",
                    )
                    for name in ("claimName", "storageClassName", "accessMode", "bucket")
                ),
            ]
        }
    )

    claim_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="An existing PersistentVolumeClaim to use. It outlives the SignalCanary. "
        "Without it a claim is made, which is deleted with the SignalCanary.",
    )
    size: Size = Field(
        default="20Gi",
        description="Size of the claim that is made. Unit: bytes, as a Kubernetes quantity.",
    )
    storage_class_name: str | None = Field(
        default=None,
        max_length=253,
        description="StorageClass of the claim that is made; the cluster's default if not given.",
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteOnce",
        description="Access mode of the claim. With ReadWriteOnce all pods of the SignalCanary "
        "share one node.",
    )
    commit_interval: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="Longest time that a received row waits for its commit. Unit: wall clock.",
    )
    bucket: Bucket | None = Field(
        default=None,
        description="An S3 bucket in place of a claim. It outlives the SignalCanary.",
    )
    reclaim_policy: ReclaimPolicy = Field(
        default=ReclaimPolicy.DELETE,
        description="What becomes of the claim that is made when the SignalCanary is deleted: "
        "Delete, or Retain, to be deleted by hand.",
    )
    compaction_interval: PositiveDuration = Field(
        default=timedelta(hours=1),
        description="Stretch whose commits become one part a kind once it is over. Unit: event "
        "time.",
    )
    retention: PositiveDuration | None = Field(
        default=None,
        description="Age, against the newest, at which compacted data is deleted; without it all "
        "is kept. Unit: event time.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, given in (
            ("claimName", self.claim_name),
            ("storageClassName", self.storage_class_name),
        ):
            if self.bucket is not None and given is not None:
                raise ValueError(f"bucket takes the place of a claim: take {name} out, or bucket")
        return self


class Workloads(Model):
    """The harvest and analysis pods."""

    symbols_per_shard: int = Field(
        default=8,
        ge=1,
        le=MAX_SYMBOLS,
        description="Symbols that one harvest pod and one analysis pod take.",
    )


class SignalCanarySpec(Model):
    """What to roll out, where, in which steps, and when to take it back."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "duration(self.evaluation.interval) >= duration('1s')",
                    "evaluation.interval must be at least 1s",
                )
            ]
        }
    )

    version: VersionLabel = Field(
        description="Your name for this configuration; it becomes a label value."
    )
    symbols: Symbols = Field(description="The canary's symbols and the full set.")
    signal: SignalConfig = Field(
        default=SignalConfig(), description="The configuration that is rolled out."
    )
    source: DataSource = Field(default=DataSource(), description="Where market data comes from.")
    storage: Storage = Field(default=Storage(), description="Where harvested data is kept.")
    stages: tuple[Stage, ...] = Field(
        default=(Stage(name="canary", duration=timedelta(hours=48)),),
        min_length=1,
        max_length=MAX_STAGES,
        description="The steps of the rollout, in order.",
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "self.all(x, self.exists_one(y, y.name == x.name))",
                    "two stages have the same name: give each stage a name of its own",
                )
            ]
        },
    )
    rollback: Rollback = Field(default=Rollback(), description="When the canary is taken back.")
    evaluation: Evaluation = Field(default=Evaluation(), description="How the canary is looked at.")
    workloads: Workloads = Field(default=Workloads(), description="The harvest and analysis pods.")
    metrics_source: SourceName = Field(
        default=DEFAULT_SOURCE,
        description="Name of the metrics source to judge by, one of those that the administrator "
        "has given the operator. With a name that there is none of, nothing is judged.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = tuple(stage.name for stage in self.stages)
        if (twice := _first_repeated(names)) is not None:
            raise ValueError(f"two stages are called {twice}: give each a name of its own")
        if self.evaluation.interval < timedelta(seconds=1):
            raise ValueError("evaluation.interval must be at least 1s")
        windows = (self.signal.calibration.train, self.signal.calibration.test)
        if min(windows) < SHORTEST_WINDOW:
            raise ValueError(f"signal.calibration: {WINDOW_HELP}")
        return self
