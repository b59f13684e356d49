"""Several SignalCanaries of one namespace on the simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.sim.conftest import START, Sim, spec_of

from signalcanary.observe import observe_others
from signalcanary.rollout import Observations, Phase

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
SHORT = [{"name": "canary", "duration": "2m"}]


class MemberSim(Sim):
    """One of several."""

    def __init__(self, name: str, namespace: Namespace, **changes: Any) -> None:
        super().__init__(spec_of(**{"stages": SHORT} | changes))
        self.name, self.beside = name, namespace
        self.wire: tuple[int, dict[str, Any]] = (0, {})

    @property
    def item(self) -> dict[str, Any]:
        if self.wire[0] != self.generation:
            self.wire = (self.generation, self.spec.to_wire())
        return {
            "metadata": {"name": self.name, "generation": self.generation},
            "spec": self.wire[1],
            "status": self.status,
        }

    def observe(self) -> Observations:
        members = self.beside.members
        view = [self.beside.seen.get(name, member.item) for name, member in members.items()]
        others = observe_others(self.item, view)
        return replace(super().observe(), name=self.name, others=others)


class Namespace:
    """Several SignalCanaries that see one another's status.

    Attributes:
        seen: what is seen of a member in the place of what it is now.
    """

    def __init__(self, **specs: dict[str, Any]) -> None:
        self.members = {name: MemberSim(name, self, **spec) for name, spec in specs.items()}
        self.seen: dict[str, dict[str, Any]] = {}
        self.now = START

    def __getitem__(self, name: str) -> MemberSim:
        return self.members[name]

    def look(self, *names: str) -> None:
        for name in names or self.members:
            self[name].now = self.now
            self[name].look()

    def run(self, duration: timedelta, step: timedelta = 10 * SECOND) -> None:
        for _ in range(duration // step):
            self.now += step
            self.look()

    def run_until(self, is_so: Callable[[], bool], within: timedelta = HOUR) -> None:
        ends_at = self.now + within
        while not is_so():
            assert self.now < ends_at, self.phases
            self.run(10 * SECOND)

    @property
    def phases(self) -> dict[str, Phase]:
        return {name: member.phase for name, member in self.members.items()}

    def all_in(self, phase: Phase) -> bool:
        return set(self.phases.values()) == {phase}

    def waits(self, name: str) -> tuple[str, str]:
        found = next(c for c in self[name].status["conditions"] if c["type"] == "Waiting")
        return found["reason"], found["message"]
