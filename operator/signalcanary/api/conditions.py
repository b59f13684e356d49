"""When the canary is taken back."""

from __future__ import annotations

import math
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from signalcanary.api.debounce import AT_ONCE, WITHOUT_EVIDENCE, Debounce
from signalcanary.api.ladder import (
    LADDER_RULES,
    MAX_RUNGS,
    Rung,
    Verify,
    check_ladder,
    default_ladder,
)
from signalcanary.api.names import (
    MAX_CONDITIONS,
    MAX_SYMBOLS,
    first_repeated,
    rule,
)
from signalcanary.contract import (
    CORE_METRICS,
    JUDGED_METRICS,
    METRICS_BY_NAME,
    Duration,
    Model,
    Unit,
    shown,
    string_schema,
)
from signalcanary.promql import (
    EMPTY_HELP,
    ESCAPED,
    ESCAPED_HELP,
    MATCHER_HELP,
    MAX_QUERY_LENGTH,
    PATTERN,
    PLACEHOLDER_HELP,
    PLACEHOLDERS,
)
from signalcanary.promql import check as check_query

_AUC_IS_GOOD_WHEN_HIGH: Final = (
    "a high AUC is good: write below; or, for one too good to be true, above with 0.75 or more"
)
_BAD_WHEN_HIGH: Final = "this metric is bad when it is high: write above"
_OF_MODELS: Final = "signal_ml_"
"""How the metrics begin that say how well models answer: bad when they are low."""


_SUFFIXES: Final = {Unit.MILLISECONDS: " ms", Unit.PERCENT: " %"}


class Mode(StrEnum):
    """What must cross a condition's bound."""

    GUARDED = "guarded"
    LITERAL = "literal"


class Tier(StrEnum):
    """How far beyond a condition's thresholds a value is; ordered, the last is the worst (seed
    001's three alarm levels)."""

    NORMAL = "Normal"
    WARNING = "Warning"
    """Told, and nothing else."""
    CRITICAL = "Critical"
    """Told, and no stage is passed and nothing promoted meanwhile; never a reason to roll back."""
    ROLLBACK = "Rollback"
    """The condition is breached."""

    @property
    def level(self) -> int:
        """Its place in the order: 0 to 3."""
        return list(Tier).index(self)


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
_TIERS_IN_ORDER: Final = {
    "above": "with above, write warning ≤ critical ≤ above, for example warning: 5, critical: 8, "
    "above: 10",
    "below": "with below, write warning ≥ critical ≥ below, for example warning: 0.58, "
    "critical: 0.56, below: 0.55",
}
_METRIC_NAME: Final = r"^[a-z][a-z0-9_]*$"
_METRIC_NAME_HELP: Final = (
    "write a name of lower-case letters, digits and '_' that no metric of ours has, "
    "for example book_depth"
)
_ONLY_KNOWN_PLACEHOLDERS: Final = (
    "self.findAll('[{][{].*?[}][}]').all(p, p in "
    f"[{', '.join(repr('{{' + name + '}}') for name in PLACEHOLDERS)}])"
)


class Condition(Model):
    """A reason to roll back: a metric beyond a bound for some time, on any canary symbol."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.above) != has(self.below)",
                    "write exactly one of above and below",
                ),
                rule(
                    "has(self.metric) ? !has(self.query) && !has(self.name) "
                    ": has(self.query) && has(self.name)",
                    _METRIC_OR_QUERY,
                ),
                rule("!has(self.query) || self.of == 'value'", _QUERY_IS_LITERAL),
                rule("!has(self.query) || self.minSamples == 0", _QUERY_HAS_NO_SAMPLES),
                rule(
                    "!has(self.metric) || has(self.below) || "
                    "!self.metric.startsWith('slice_auc_') || self.of != 'value' || "
                    "!has(self.above) || self.above >= 0.75",
                    _AUC_IS_GOOD_WHEN_HIGH,
                ),
                rule(
                    "!has(self.metric) || has(self.above) || "
                    "self.metric.startsWith('slice_auc_') || self.metric.endsWith('_samples') || "
                    f"self.metric.startsWith('{_OF_MODELS}')",
                    _BAD_WHEN_HIGH,
                ),
                rule(
                    "!has(self.metric) || self.of == 'value' || "
                    f"self.metric in [{', '.join(repr(name) for name in _COMPARABLE)}]",
                    _NOT_COMPARABLE,
                ),
                rule(
                    "!has(self.metric) || self.of == 'value' || has(self.below) || "
                    "!self.metric.startsWith('slice_auc_')",
                    _WORSE_WHEN_LOW,
                ),
                *(
                    rule(
                        f"!has(self.{side}) || ("
                        f"(!has(self.critical) || self.critical {within} self.{side}) && "
                        f"(!has(self.warning) || self.warning {within} "
                        f"(has(self.critical) ? self.critical : self.{side})))",
                        _TIERS_IN_ORDER[side],
                    )
                    for side, within in (("above", "<="), ("below", ">="))
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
                rule(
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
                rule(_ONLY_KNOWN_PLACEHOLDERS, f"unknown placeholder: {PLACEHOLDER_HELP}"),
                rule("self.trim() != ''", EMPTY_HELP),
                rule(f"!self.contains(r'{ESCAPED}')", ESCAPED_HELP),
                rule(f"self.matches(r'{PATTERN}')", MATCHER_HELP),
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
    warning: float | None = Field(
        default=None,
        ge=-1e12,
        le=1e12,
        description="A threshold on the same side, within critical and the bound itself. While "
        "the value is beyond it, status, one Event and the operator's metrics say so; nothing is "
        "held up. It goes by the value, whatever the mode. Unit: the metric's own.",
    )
    critical: float | None = Field(
        default=None,
        ge=-1e12,
        le=1e12,
        description="The same, between warning and the bound; and no stage is passed and nothing "
        "promoted while the value is beyond it. It never rolls back by itself. Unit: the metric's "
        "own.",
    )
    for_: Duration = Field(
        default=timedelta(0),
        alias="for",
        description="How long the breach must hold before the rollback. Time in which the metric "
        "could not be judged does not count. A guarded condition needs none: evidence holds "
        "however often it is looked at, and waiting only costs time. Where no evidence comes with "
        "the metric, and neither this nor consecutive is written, the breach must hold for 2m and "
        "be seen at 3 evaluations in a row. Unit: wall clock.",
    )
    consecutive: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="At how many evaluations in a row the breach must be seen before the "
        "rollback, beside for. Evaluations count, not looks: a sample that is read twice counts "
        "once, as do two within half an evaluation.interval. One that could not be judged neither "
        "adds nor resets; one within the bound resets. "
        "Unit: evaluations.",
    )
    mode: Mode = Field(
        default=Mode.GUARDED,
        description="guarded: breached when the evidence is beyond the bound, that is when the "
        "true value is beyond it but for a chance of rollback.errorRate, however often it is "
        "looked at; and Ok only when it is as surely within it. A metric that comes without "
        "evidence (a lag, a count, a query) is judged literally, and not by one look alone, see "
        "for. literal: breached while the value is beyond the bound, noise or not; without for "
        "and consecutive one look is enough.",
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
        self._check_tiers()
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
        elif self.metric.startswith(_OF_MODELS):
            return self
        elif self.below is not None and not self.metric.endswith("_samples"):
            raise ValueError(f"{self.metric}: {_BAD_WHEN_HIGH}")
        return self

    def _check_tiers(self) -> None:
        for side, sign in (("above", 1.0), ("below", -1.0)):
            bound = self.above if side == "above" else self.below
            given = [t * sign for t in (self.warning, self.critical, bound) if t is not None]
            if bound is not None and given != sorted(given):
                raise ValueError(f"{self.metric}: {_TIERS_IN_ORDER[side]}")

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

    def is_beyond(self, value: float, threshold: float | None = None) -> bool:
        """Whether a value is beyond the bound, or beyond another threshold on its side."""
        limit = self.threshold if threshold is None else threshold
        return value > limit if self.sign == ">" else value < limit

    @property
    def tiers(self) -> dict[Tier, float]:
        """The thresholds short of the bound, the mildest first."""
        given = {Tier.WARNING: self.warning, Tier.CRITICAL: self.critical}
        return {tier: limit for tier, limit in given.items() if limit is not None}

    def tier_of(self, value: float) -> Tier:
        """The worst tier short of the bound that a value is beyond."""
        return max(
            (tier for tier, limit in self.tiers.items() if self.is_beyond(value, limit)),
            key=lambda tier: tier.level,
            default=Tier.NORMAL,
        )

    def debounce(self, *, has_evidence: bool) -> Debounce:
        """How long a breach must be seen: as it is written, and where nothing is, at one look.

        But one noisy value takes no canary back: where evidence was to be judged and none comes
        with the metric, more than one look is needed.
        """
        written = Debounce(self.for_, self.consecutive)
        is_guarded = self.mode is Mode.GUARDED
        return (
            WITHOUT_EVIDENCE if written == AT_ONCE and is_guarded and not has_evidence else written
        )

    def describe(self, debounce: Debounce | None = None) -> str:
        """The condition in words, for example ``platt_ece > 0.1 for 2m``.

        Args:
            debounce: as it is judged; as it is written if None.
        """
        held = (debounce or Debounce(self.for_, self.consecutive)).describe()
        return f"{self.bound()} {held}".rstrip()

    def bound(self) -> str:
        """The bound in words, for example ``platt_ece > 0.1``."""
        return f"{self.subject} {self.limit(Tier.ROLLBACK)}"

    def limit(self, tier: Tier) -> str:
        """What a tier's threshold asks, for example ``> 8 %``.

        Raises:
            KeyError: the condition has no such tier.
        """
        metric = METRICS_BY_NAME.get(self.metric)
        suffix = _SUFFIXES.get(metric.unit, "") if metric is not None else ""
        limit = self.threshold if tier is Tier.ROLLBACK else self.tiers[tier]
        return f"{self.sign} {shown(limit)}{suffix}"

    @property
    def subject(self) -> str:
        """What is bounded, for example ``platt_ece − stable``."""
        return self.metric + _SUBJECTS[self.of]


_SUBJECTS: Final = {Of.VALUE: "", Of.DIFFERENCE: " − stable", Of.RELATIVE: " ÷ stable − 1"}


def seed_conditions() -> tuple[Condition, ...]:
    """The three rollback conditions of seed 002, the defaults; those that are judged by evidence
    without its `for`, which only made up for having none."""
    return (
        Condition(metric_="platt_ece", above=0.1),
        Condition(metric_="merge_time_diff_ms_p99", above=2000, for_=timedelta(minutes=5)),
        Condition(metric_="slice_auc_active_period", below=0.55),
    )


class Scope(StrEnum):
    """What a bad symbol does."""

    ALL = "All"
    SYMBOL = "Symbol"
    QUORUM = "Quorum"


_QUORUM_HELP: Final = (
    "write quorum with scope: Quorum, and only there: a number of symbols such as 2, or a share "
    "below 1 such as 0.5"
)
_WHOLE_OR_SHARE: Final = "write a whole number of symbols such as 2, or a share below 1 such as 0.5"


class Rollback(Model):
    """When the canary is taken back."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("has(self.quorum) == (self.scope == 'Quorum')", _QUORUM_HELP),
                rule(
                    "!has(self.quorum) || self.quorum < 1.0 || "
                    "self.quorum == double(int(self.quorum))",
                    _WHOLE_OR_SHARE,
                ),
            ]
        }
    )

    conditions: tuple[Condition, ...] = Field(
        default=seed_conditions(),
        min_length=1,
        max_length=MAX_CONDITIONS,
        description="Any one of these rolls the canary back.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.all(x, self.exists_one(y, (has(y.metric) ? y.metric : y.name) == "
                    "(has(x.metric) ? x.metric : x.name) && "
                    "y.of == x.of && has(y.above) == has(x.above)))",
                    "a metric stands in two conditions with the same direction: keep one of them",
                )
            ]
        },
    )
    error_rate: float = Field(
        default=0.1,
        gt=0,
        lt=0.5,
        description="Chance, in 48 h, that the guarded conditions roll back a canary whose true "
        "values are exactly at their bounds; one within them is in far less danger. It is shared "
        "by all conditions and symbols, so with scope Symbol or Quorum it is the chance that any "
        "of them is held back. Unit: probability (0–0.5).",
    )
    scope: Scope = Field(
        default=Scope.ALL,
        description="What a symbol does whose breach or silence is due. All: the whole canary is "
        "taken back. Symbol: that symbol alone is held back, and the others go on; at the "
        "promotion it stays on the revision that served it before, or on none. Quorum: the same, "
        "until quorum symbols are held back. Where all are, the whole canary is taken back.",
    )
    quorum: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SYMBOLS,
        description="With scope Quorum: when so many canary symbols are held back, the whole "
        "canary is taken back. Unit: symbols, or if below 1 a share of them, rounded up.",
    )

    def most_held(self, symbols: int) -> int:
        """How many of so many canary symbols, when held back, take the whole canary back."""
        match self.scope:
            case Scope.ALL:
                return 1
            case Scope.SYMBOL:
                return symbols
            case Scope.QUORUM:
                assert self.quorum is not None  # by _check
                # What is a share in decimals is none in binary: 0.07 of 100 is 7.000000000000001.
                share = math.ceil(round(self.quorum * symbols, 9))
                return min(symbols, share if self.quorum < 1 else int(self.quorum))

    delay: Duration = Field(
        default=timedelta(0),
        description="Time between a breach that has held for its `for` and been seen at its "
        "`consecutive` evaluations, and the rollback; a recovery within it cancels the rollback. "
        "Unit: wall clock.",
    )
    verify: Verify | None = Field(
        default=None,
        description="How what serves after a rollback is checked. Without it a rollback ends when "
        "the pods of the bad revision are gone.",
    )
    ladder: tuple[Rung, ...] = Field(
        default=default_ladder(),
        min_length=1,
        max_length=MAX_RUNGS,
        description="What takes the place of a revision that serves and turns out to be bad, "
        "while soaking or in the verification of a rollback: the first rung that can be had, then "
        "the next.",
        json_schema_extra={"x-kubernetes-validations": [*LADDER_RULES]},
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        directions = tuple(f"{c.subject} {c.sign}" for c in self.conditions)
        if (twice := first_repeated(directions)) is not None:
            raise ValueError(f"{twice}: two conditions of the same direction: keep one of them")
        if (self.quorum is not None) != (self.scope is Scope.QUORUM):
            raise ValueError(_QUORUM_HELP)
        if self.quorum is not None and self.quorum >= 1 and not self.quorum.is_integer():
            raise ValueError(f"quorum: {_WHOLE_OR_SHARE}")
        check_ladder(self.ladder)
        return self
