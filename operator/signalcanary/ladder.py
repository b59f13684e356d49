"""Which revision each rung of the ladder stands for. Pure.

Seed 004's ladder is stacking off → old models → everything off; design 008 says how it is climbed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from signalcanary.api import SignalCanarySpec
from signalcanary.api.ladder import Feature, Rung
from signalcanary.contract import Fusion, RegimeWeights, SignalConfig
from signalcanary.revisions import Revision, RevisionRef, refer_to


@dataclass(frozen=True)
class Step:
    """A rung, and what it comes to.

    Attributes:
        name: of the rung.
        ref: what serves then; None for nothing.
        revision: what is to be put on record for it, if it is not there yet.
        problem: why the rung cannot be taken; None if it can.
    """

    name: str
    ref: RevisionRef | None = None
    revision: Revision | None = None
    problem: str | None = None


def resolve(
    spec: SignalCanarySpec,
    serving: RevisionRef | None,
    previous: RevisionRef | None,
    known: Mapping[str, Revision],
    attempt: int,
) -> tuple[Step, ...]:
    """What every rung of the spec's ladder stands for.

    Args:
        serving: the revision that serves, which is to be replaced.
        previous: the stable revision before it.
        known: the revisions on record, by name; of those with one version the last wins.
        attempt: generation of the spec.
    """
    return tuple(_resolve(rung, serving, previous, known, attempt) for rung in spec.rollback.ladder)


def _resolve(
    rung: Rung,
    serving: RevisionRef | None,
    previous: RevisionRef | None,
    known: Mapping[str, Revision],
    attempt: int,
) -> Step:
    if rung.stop:
        return Step(rung.name)
    if rung.revision is not None:
        if previous is None:
            return Step(rung.name, problem="there is no stable revision before it")
        if previous.name not in known:
            return Step(rung.name, problem=f"revision {previous.name} is not on record any more")
        return Step(rung.name, previous, known[previous.name])
    if rung.version is not None:
        named = [revision for revision in known.values() if revision.version == rung.version]
        if not named:
            return Step(rung.name, problem=f"no revision of version {rung.version} is on record")
        return _step(rung, named[-1], serving, attempt)
    served = known.get(serving.name) if serving is not None else None
    if served is None:
        return Step(rung.name, problem="nothing serves that a feature could be switched off of")
    signal = disable(served.signal, rung.disable or ())
    return _step(rung, served.model_copy(update={"signal": signal}), serving, attempt)


def _step(rung: Rung, revision: Revision, serving: RevisionRef | None, attempt: int) -> Step:
    ref = refer_to(revision, attempt)
    if serving is not None and ref.name == serving.name:
        return Step(rung.name, problem="it is what serves already")
    return Step(rung.name, ref, revision)


def disable(signal: SignalConfig, features: tuple[Feature, ...]) -> SignalConfig:
    """The configuration with features switched off."""
    for feature in features:
        match feature:
            case Feature.AUTO_FLIP:
                cvd = signal.cvd.model_copy(update={"auto_flip": False})
                signal = signal.model_copy(update={"cvd": cvd})
            case Feature.REGIMES:
                weights = signal.fusion.baseline
                fusion = Fusion(baseline=weights, active=weights, quiet=weights)
                signal = signal.model_copy(update={"fusion": fusion})
            case Feature.STACKING if signal.artifacts is not None:
                artifacts = signal.artifacts.model_copy(update={"stacking": False})
                signal = signal.model_copy(update={"artifacts": artifacts})
            case Feature.ML:
                fusion = Fusion(
                    baseline=_without_models(signal.fusion.baseline),
                    active=_without_models(signal.fusion.active),
                    quiet=_without_models(signal.fusion.quiet),
                )
                signal = signal.model_copy(update={"fusion": fusion, "artifacts": None})
    return signal


def _without_models(weights: RegimeWeights) -> RegimeWeights:
    if not weights.ml:
        return weights
    rest = weights.ofi + weights.cvd  # at least 0.1
    changes = {"ofi": weights.ofi / rest, "cvd": weights.cvd / rest, "ml": None}
    return weights.model_copy(update=changes)
