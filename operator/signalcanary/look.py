"""One look at a rollout, as a decision takes it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from signalcanary.api import SignalCanarySpec
from signalcanary.evaluate import Judgement, Silence, Verdict, silence_of
from signalcanary.rollout import Observations, RolloutState, judged_spec


@dataclass(frozen=True)
class Look:
    """One look: what is wanted, what is seen, how it is judged, and when."""

    spec: SignalCanarySpec
    seen: Observations
    now: datetime
    judgements: tuple[Judgement, ...] = ()

    def by(self, state: RolloutState) -> Look:
        """The look, by the spec that the state's phase is judged by."""
        return replace(self, spec=judged_spec(self.spec, state))

    @property
    def all_judged(self) -> bool:
        return bool(self.judgements) and all(j.verdict.is_judged for j in self.judgements)

    @property
    def may_pass(self) -> bool:
        """Whether a stage that was observed in full may be followed by the next one."""
        return self.all_judged and all(
            j.verdict is not Verdict.BREACHED and not j.is_critical for j in self.judgements
        )

    @property
    def all_ok(self) -> bool:
        return bool(self.judgements) and not self.doubts

    @property
    def doubts(self) -> list[Judgement]:
        """What keeps the canary from being good."""
        return [j for j in self.judgements if not j.is_good]

    @property
    def is_excused(self) -> bool:
        """Whether the canary cannot help being undecided: the metrics source cannot be read, or
        all that is in doubt is of symbols that the stable track does not hear of either."""
        if self.seen.metrics.failure is not None:
            return True
        silent = {
            symbol
            for symbol in {j.symbol for j in self.judgements}
            if silence_of(symbol, self.spec, self.seen.metrics, self.now) is Silence.MARKET
        }
        return bool(silent) and all(j.symbol in silent for j in self.doubts)
