"""Measurements become verdicts: one judgement for each rollback condition and canary symbol.

Pure. A value is judged only if it is certain to be what it seems: one finite number, within
the metric's range, of the canary's revision, freshly evaluated. Whatever is not certain is
`NoData` or `Error`, which never promote; `Error`, the metrics source being ill, never rolls
back either.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from signalcanary.api import Condition, Debounce, Of, SignalCanarySpec, Tier
from signalcanary.contract import METRICS_BY_NAME, Track, format_duration, shown

CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far ahead of ours a workload's clock may run before its times are not believed."""


@dataclass(frozen=True)
class Bound:
    """What a value is at least and at most, but for a chance, at every look within 48 h.

    Attributes:
        level: the chance that one of the sides fails; 0 of what says nothing.
        lower, upper: by the rows of late, whichever stretch of them says most; it may be another
            for each, so that after a change the lower is above the upper.
        whole_lower, whole_upper: by all rows since the start.
    """

    level: float
    lower: float = -math.inf
    upper: float = math.inf
    whole_lower: float = -math.inf
    whole_upper: float = math.inf

    def scale(self, factor: float) -> Bound:
        """The bound of so many times the value; `factor` is positive."""
        return Bound(
            self.level,
            self.lower * factor,
            self.upper * factor,
            self.whole_lower * factor,
            self.whole_upper * factor,
        )


NO_EVIDENCE = Bound(0.0)
"""Nothing is known, for certain."""


@dataclass(frozen=True)
class Measurement:
    """What the metrics source said of one metric on one symbol.

    Attributes:
        values: every value that came back; exactly one is right.
        samples: labelled rows behind the value; None if not exported.
        evaluated_at: when the workload computed it, by its own wall clock.
        bounds: the evidence, one a level; empty if none is exported.
        failure: set if a condition's own query could not be answered; all else is then empty.
        effective_samples: independent rows that would leave the value as unsure; decides nothing.
    """

    values: tuple[float, ...] = ()
    samples: int | None = None
    evaluated_at: datetime | None = None
    bounds: tuple[Bound, ...] = ()
    failure: SourceFailure | None = None
    effective_samples: int | None = None


@dataclass(frozen=True)
class SourceFailure:
    """The metrics source could not be read: nothing is known of the canary."""

    reason: str
    message: str


@dataclass(frozen=True)
class MetricsSeen:
    """All that the metrics source said of one revision on one track.

    Attributes:
        measurements: by (metric, symbol).
        differences: the same of the canary's − stable's, on the same rows.
        heartbeats: by symbol, when analysis last took in new rows.
        warmup_ratio: by symbol, how far the calibration windows are filled (0–1).
        stable_heartbeats: the same of the stable track, the control: a symbol that is silent
            there too is no fault of the canary.
        failure: set if the source could not be read; all else is then empty.
        revision: name of the revision that all this is of; None if nothing is known.
        track: which of its tracks.
    """

    measurements: Mapping[tuple[str, str], Measurement] = field(default_factory=dict)
    differences: Mapping[tuple[str, str], Measurement] = field(default_factory=dict, kw_only=True)
    heartbeats: Mapping[str, datetime] = field(default_factory=dict)
    warmup_ratio: Mapping[str, float] = field(default_factory=dict)
    stable_heartbeats: Mapping[str, datetime] = field(default_factory=dict)
    failure: SourceFailure | None = None
    revision: str | None = None
    track: Track = Track.CANARY


class Verdict(StrEnum):
    """Ordered by how much it matters when several are shown as one: the last is the worst."""

    OK = "Ok"
    UNPROVEN = "Unproven"
    """Within the bound as far as one can see, but not for certain: no reason to roll back, and
    none to promote."""
    INCONCLUSIVE = "Inconclusive"
    NO_DATA = "NoData"
    ERROR = "Error"
    BREACHED = "Breached"

    @property
    def is_judged(self) -> bool:
        """Whether the canary could be judged at all: only then do clocks run."""
        return self in (Verdict.OK, Verdict.UNPROVEN, Verdict.BREACHED)


def worst(verdicts: list[Verdict]) -> Verdict | None:
    """The verdict that stands for several; None for none."""
    order = list(Verdict)
    return max(verdicts, key=order.index, default=None)


@dataclass(frozen=True)
class Judgement:
    """The verdict of one condition on one symbol, and why.

    Attributes:
        bound: the evidence that was judged; None if the value itself was.
        tier: how far beyond the condition's thresholds the value is; Normal where it could not be
            judged.
        evaluated_at: when the workload computed what was judged, by its own wall clock.
    """

    condition: Condition
    symbol: str
    verdict: Verdict
    reason: str
    message: str
    value: float | None = None
    samples: int | None = None
    bound: Bound | None = None
    tier: Tier = Tier.NORMAL
    evaluated_at: datetime | None = None

    @property
    def debounce(self) -> Debounce:
        """How long a breach of it must be seen before it is due."""
        # What was not judged may have evidence when it is.
        is_unknown = self.condition.is_guarded and not self.verdict.is_judged
        return self.condition.debounce(has_evidence=self.bound is not None or is_unknown)

    @property
    def waits_unasked(self) -> bool:
        """Whether it is for want of evidence alone that one look is not enough."""
        return self.debounce != self.condition.debounce(has_evidence=True)

    @property
    def is_critical(self) -> bool:
        """Whether it holds the rollout up though nothing is breached."""
        return self.tier is Tier.CRITICAL

    @property
    def is_good(self) -> bool:
        """Whether a promotion may rest on it."""
        return self.verdict is Verdict.OK and not self.is_critical


def evaluate(
    spec: SignalCanarySpec,
    seen: MetricsSeen,
    now: datetime,
    *,
    has_stable: bool = False,
    held: Collection[str] = (),
) -> list[Judgement]:
    """Judge every rollback condition on every canary symbol, in the order of the spec.

    Args:
        has_stable: whether there is a stable revision to compare the canary with.
        held: symbols that the canary is held back on, which are not judged.
    """
    return [
        _with_tier(_judge(spec, condition, symbol, seen, now, has_stable))
        for symbol in spec.symbols.canary
        if symbol not in held
        for condition in spec.rollback.conditions
    ]


class Silence(StrEnum):
    """Whether fresh data of a symbol comes, and if not, whose silence it is."""

    NONE = "none"
    CANARY = "canary"
    MARKET = "market"
    """The stable track is silent too: the feed or the market, not the canary."""
    UNKNOWN = "unknown"
    """The metrics source could not be read."""


def silence_of(symbol: str, spec: SignalCanarySpec, seen: MetricsSeen, now: datetime) -> Silence:
    """Whether a canary symbol is silent; the stable track, where it runs, is the control."""
    if seen.failure is not None:
        return Silence.UNKNOWN

    def is_fresh(beat: datetime) -> bool:
        return -CLOCK_TOLERANCE <= now - beat <= spec.evaluation.stale_after

    beat = seen.heartbeats.get(symbol)
    if beat is not None and is_fresh(beat):
        return Silence.NONE
    control = seen.stable_heartbeats.get(symbol)
    return Silence.MARKET if control is not None and not is_fresh(control) else Silence.CANARY


def _judge(
    spec: SignalCanarySpec,
    condition: Condition,
    symbol: str,
    seen: MetricsSeen,
    now: datetime,
    has_stable: bool,
) -> Judgement:
    def say(verdict: Verdict, reason: str, message: str, value: float | None = None) -> Judgement:
        return Judgement(
            condition, symbol, verdict, reason, message, value, samples, evaluated_at=at
        )

    metric = condition.subject
    measurement = measure(condition, symbol, seen)
    samples, at = measurement.samples, measurement.evaluated_at

    failure = seen.failure or measurement.failure
    if failure is not None:
        return say(Verdict.ERROR, failure.reason, failure.message)
    if condition.query is not None and not measurement.values:
        return say(Verdict.NO_DATA, "Absent", f"the query of {metric} gives nothing for {symbol}")
    if condition.of is not Of.VALUE and not has_stable:
        return say(Verdict.OK, "NoStable", f"{metric} on {symbol}: there is no stable revision yet")
    if measurement.evaluated_at is None:
        return say(Verdict.NO_DATA, "Absent", f"no {metric} of this revision on {symbol}")
    age = now - measurement.evaluated_at
    if age > spec.evaluation.stale_after:
        return say(
            Verdict.NO_DATA,
            "Stale",
            f"{metric} on {symbol} was last evaluated {_age(age)} ago, "
            f"more than {format_duration(spec.evaluation.stale_after)}",
        )
    if -age > CLOCK_TOLERANCE:
        return say(
            Verdict.NO_DATA,
            "ClockAhead",
            f"{metric} on {symbol} claims to be {_age(-age)} from the future",
        )
    if not measurement.values:
        warmup = seen.warmup_ratio.get(symbol)
        if warmup is not None and warmup < 1:
            return say(Verdict.INCONCLUSIVE, "Warming", f"warming up, {warmup:.0%}")
        return say(
            Verdict.INCONCLUSIVE, "NoValue", f"analysis gives no value of {metric} on {symbol}"
        )
    if len(measurement.values) > 1:
        return say(
            Verdict.NO_DATA,
            "Ambiguous",
            f"{len(measurement.values)} series of {metric} on {symbol} where one was meant",
        )
    (value,) = measurement.values
    if not math.isfinite(value):
        return say(Verdict.NO_DATA, "NotFinite", f"{metric} on {symbol} is {value}")
    lowest, highest = _limits(condition)
    if not lowest <= value <= highest:
        return say(
            Verdict.NO_DATA, "OutOfRange", f"{metric} on {symbol} is {value:g}, which cannot be"
        )
    if condition.min_samples and (samples is None or samples < condition.min_samples):
        return say(
            Verdict.INCONCLUSIVE,
            "TooFewSamples",
            f"{samples or 0} samples of the {condition.min_samples} that are needed",
            value,
        )
    evidence = _evidence(spec, condition, measurement)
    if evidence is not None and evidence.whole_lower > evidence.whole_upper:
        return say(
            Verdict.NO_DATA,
            "Contradictory",
            f"the evidence of {metric} on {symbol} says at least {evidence.whole_lower:.4g} and at "
            f"most {evidence.whole_upper:.4g}",
            value,
        )
    if evidence is not None:
        judgement = _judge_evidence(condition, symbol, value, samples, evidence)
        judgement = replace(judgement, evaluated_at=at)
        return _excuse_if_shared(spec, judgement, seen) if has_stable else judgement
    bound = f"{condition.sign} {shown(condition.threshold)}"
    text = shown_beside(value, condition.threshold)
    if condition.is_beyond(value):
        breach = say(
            Verdict.BREACHED, "BeyondThreshold", f"{metric} on {symbol} is {text} ({bound})", value
        )
        return replace(breach, message=breach.message + _unasked(breach))
    return say(
        Verdict.OK, "WithinThreshold", f"{metric} on {symbol} is {text} (not {bound})", value
    )


def _unasked(breach: Judgement) -> str:
    """That a breach waits though the spec does not ask for it, and why; else nothing."""
    if not breach.waits_unasked:
        return ""
    held = breach.debounce.describe()
    return f"; judged literally, as no bounds come with it, it must hold {held}"


def _with_tier(judgement: Judgement) -> Judgement:
    """Add the tier: the rollback's where the condition is breached, the others by the value.

    Warning and critical are for people and for holding, and both are safe on a value that may be
    noise; what cannot be undone goes by the verdict, so in guarded mode by the evidence.
    """
    condition, value = judgement.condition, judgement.value
    if judgement.verdict is Verdict.BREACHED:
        return replace(judgement, tier=Tier.ROLLBACK)
    if not condition.tiers or value is None or not judgement.verdict.is_judged:
        return judgement
    tier = condition.tier_of(value)
    if tier is Tier.NORMAL:
        return judgement
    text = f"{judgement.message}; {tier.value.lower()} ({condition.limit(tier)})"
    return replace(judgement, tier=tier, message=text)


def measure(condition: Condition, symbol: str, seen: MetricsSeen) -> Measurement:
    """What was measured of that which a condition bounds."""
    key = (condition.metric, symbol)
    if condition.of is Of.VALUE:
        return seen.measurements.get(key, Measurement())
    difference = seen.differences.get(key, Measurement())
    if condition.of is Of.DIFFERENCE:
        return difference
    stable = _stable_value(key, seen)
    if stable is None or not stable > 0:
        return replace(difference, values=(), bounds=())
    return replace(
        difference,
        values=tuple(value / stable for value in difference.values),
        bounds=tuple(bound.scale(1 / stable) for bound in difference.bounds),
    )


def _stable_value(key: tuple[str, str], seen: MetricsSeen) -> float | None:
    """What stable's configuration shows on the canary's rows; None if it is not known."""
    own = seen.measurements.get(key, Measurement()).values
    difference = seen.differences.get(key, Measurement()).values
    if len(own) != 1 or len(difference) != 1:
        return None
    value = own[0] - difference[0]
    return value if math.isfinite(value) else None


def _limits(condition: Condition) -> tuple[float, float]:
    """What the measured can be at least and at most."""
    if condition.query is not None:
        return -math.inf, math.inf
    metric = METRICS_BY_NAME[condition.metric]
    highest = math.inf if metric.maximum is None else metric.maximum
    match condition.of:
        case Of.VALUE:
            return metric.minimum, highest
        case Of.DIFFERENCE:
            return metric.minimum - highest, highest - metric.minimum
        case Of.RELATIVE:
            return -1.0, math.inf


def _excuse_if_shared(spec: SignalCanarySpec, judgement: Judgement, seen: MetricsSeen) -> Judgement:
    """A breach that stable shows on the same rows is the market's, unless the canary is surely
    worse: taking the canary back would change nothing."""
    condition, symbol = judgement.condition, judgement.symbol
    key = (condition.metric, symbol)
    stable = _stable_value(key, seen)
    if (
        judgement.verdict is not Verdict.BREACHED
        or condition.of is not Of.VALUE
        or stable is None
        or not condition.is_beyond(stable)
    ):
        return judgement
    difference = seen.differences[key]
    worse = _evidence(spec, condition, difference)
    if worse is None or worse == NO_EVIDENCE:
        return judgement
    if worse.upper < 0 if condition.sign == "<" else worse.lower > 0:
        return judgement
    return replace(
        judgement,
        verdict=Verdict.INCONCLUSIVE,
        reason="SharedWithStable",
        message=f"{judgement.message}; but stable is at {stable:.4g} on the same rows and the "
        f"canary is not surely worse: it is the market, and taking the canary back would not help",
    )


def _evidence(
    spec: SignalCanarySpec, condition: Condition, measurement: Measurement
) -> Bound | None:
    """The evidence at the level that is this condition's share; None to judge literally.

    Our analysis exports its bounds from the first value on, infinite ends included; a value that
    comes without is a plain exporter's, and a condition on it must act all the same.

    The error rate is shared by all that is judged so (C. Bonferroni 1936): whichever of them
    fails, the canary is rolled back.
    """
    if not condition.is_guarded or not measurement.bounds:
        return None
    guarded = sum(c.is_guarded for c in spec.rollback.conditions)
    share = spec.rollback.error_rate / (guarded * len(spec.symbols.canary))
    strict = [bound for bound in measurement.bounds if bound.level <= share]
    if strict:
        return max(strict, key=lambda bound: bound.level)
    return min(measurement.bounds, key=lambda bound: bound.level)


def _judge_evidence(
    condition: Condition, symbol: str, value: float, samples: int | None, bound: Bound
) -> Judgement:
    """Breached if the rows of late are surely beyond, Ok if all of them are surely within."""
    threshold, sure = condition.threshold, percent(bound.level)
    if condition.sign == "<":
        is_beyond, is_within = bound.upper < threshold, bound.whole_lower >= threshold
        at_worst, at_best, word = bound.whole_lower, bound.upper, "at most"
    else:
        is_beyond, is_within = bound.lower > threshold, bound.whole_upper <= threshold
        at_worst, at_best, word = bound.whole_upper, bound.lower, "at least"
    text = f"{condition.subject} on {symbol} is {shown_beside(value, threshold)}"
    limit = f"{condition.sign} {shown(threshold)}"
    if is_beyond:
        verdict, reason = Verdict.BREACHED, "EvidenceBeyond"
        text += f", {word} {shown_beside(at_best, threshold)} with {sure} confidence ({limit})"
    elif is_within:
        verdict, reason = Verdict.OK, "EvidenceWithin"
        word = "at least" if word == "at most" else "at most"
        # The value is of the window and may lie without: it swings by chance where they do not.
        edge = shown_beside(at_worst, threshold)
        text += f", over all rows {word} {edge} with {sure} confidence (not {limit})"
    elif bound.level == 0.0:
        verdict, reason = Verdict.UNPROVEN, "EvidenceInsufficient"
        text += f"; there is no evidence to judge it by yet ({limit} is open)"
    else:
        verdict, reason = Verdict.UNPROVEN, "EvidenceInsufficient"
        between = f"{shown_end(bound.whole_lower)} to {shown_end(bound.whole_upper)}"
        text += f"; the evidence says {between} with {sure} confidence ({limit} is open)"
    return Judgement(condition, symbol, verdict, reason, text, value, samples, bound)


def percent(level: float) -> str:
    """How sure it is what holds but for a chance of `level`."""
    return f"{100 * (1 - level):.4g} %"


def shown_end(value: float) -> str:
    """An end of an interval, in words where it is open."""
    return f"{value:.4g}" if math.isfinite(value) else "?"


def shown_beside(value: float, threshold: float) -> str:
    """A value with as many digits as it takes to tell it from its bound, four at least."""
    if value == threshold:
        return shown(threshold)
    whole_digits = len(str(int(abs(value)))) if abs(value) < 1e15 else 4
    for digits in range(max(4, whole_digits), 17):
        text = f"{value:.{digits}g}"
        if float(text) != threshold:
            return text
    return repr(value)


def _age(age: timedelta) -> str:
    return format_duration(timedelta(seconds=round(age.total_seconds())))
