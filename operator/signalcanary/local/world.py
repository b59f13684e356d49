"""A rollout without a cluster: the operator's decisions, with local processes as pods.

The loop is the operator's: observe, decide, keep the state, do what the state implies. What
runs follows from `lifecycle.plan`, what is judged comes through `metrics_source.assemble`, and
the only memory is the status, written and read back each time, so that what works here works
there. This module must hold no rule about rollouts of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from signalcanary.aftermath import look_up_ladder
from signalcanary.api import API_VERSION, KIND, SignalCanarySpec
from signalcanary.artifacts import Verification
from signalcanary.commands import read_annotations
from signalcanary.contract import Component, Track, WorkloadConfig
from signalcanary.evaluate import MetricsSeen
from signalcanary.lifecycle import decide
from signalcanary.local.probe import Probe
from signalcanary.local.process import Notice, Process, ProcessSeen, Supervised, stop_all
from signalcanary.metrics_source import Series, assemble, build_target, series_names
from signalcanary.publication import build_gate
from signalcanary.resources import Owner, build_workload_config, find_control, stateful_set_name
from signalcanary.revisions import Revision, build_revision, refer_to
from signalcanary.rollout import (
    Decision,
    Observations,
    Phase,
    RolloutState,
    TrackSeen,
    judged_revision,
    plan,
)
from signalcanary.status import WorkloadSeen, parse, render

LOCAL_IMAGE: Final = "local"
"""Stands for the image in a revision: the installed package is what runs."""
MAX_EVENTS: Final = 40
GRACE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Event:
    """What a cluster would record as an Event of the object."""

    time: datetime
    is_warning: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Slot:
    """The place of one process: at most one runs in it, as with the pods of a StatefulSet."""

    track: Track
    revision: str
    attempt: int
    component: Component
    shard: int


@dataclass(frozen=True)
class LocalProcess:
    """A process of the rollout as it is now."""

    slot: Slot
    seen: ProcessSeen
    unready: str | None
    """Why it is not ready, empty while nothing is known; None if it is ready."""
    is_ending: bool

    @property
    def is_ready(self) -> bool:
        return self.unready is None


@dataclass(frozen=True)
class Look:
    """All that one look saw and decided, for those who show it."""

    now: datetime
    spec: SignalCanarySpec
    document: Mapping[str, Any]
    state: RolloutState
    decision: Decision
    seen: Observations
    processes: tuple[LocalProcess, ...]
    events: tuple[Event, ...]

    @property
    def is_settled(self) -> bool:
        """Whether nothing happens any more without a change of the spec."""
        return self.state.phase in (Phase.SUCCEEDED, Phase.ROLLED_BACK) and not any(
            process.is_ending for process in self.processes
        )


Launch = Callable[[str, Sequence[str], Path, Notice], Supervised]


def launch_process(name: str, argv: Sequence[str], log: Path, notice: Notice) -> Supervised:
    """A real child process."""
    return Process(name, argv, log, notice)


def build_argv(component: Component, config: Path, shard: int, gate: Path) -> tuple[str, ...]:
    """The command line of a workload."""
    program = (sys.executable, "-m", "signalcanary_workloads", component.value)
    if component is Component.VERIFY:
        # It stays, as an end would have to be told from one by mistake.
        return (*program, f"--config={config}", f"--result={_result_of(config)}", "--stay")
    publishes = ("--publish=127.0.0.1:0", f"--gate={gate}")
    return (
        *program,
        f"--config={config}",
        f"--shard={shard}",
        "--listen=127.0.0.1:0",
        *(publishes if component is Component.ANALYSIS else ()),
    )


def _result_of(config: Path) -> Path:
    """Where a verification says what it found."""
    return config.with_suffix(".verified")


def _read_verification(config: Path) -> Verification | None:
    try:
        return Verification.model_validate_json(_result_of(config).read_bytes())
    except (OSError, ValidationError):
        return None  # not written yet, or not to its end


@dataclass
class _Running:
    process: Supervised
    config: str
    unready: str | None = ""
    """Why it is not ready, empty while nothing is known; None if it is ready."""
    ending: asyncio.Task[None] | None = None


@dataclass(frozen=True)
class _Wanted:
    name: str
    config: str
    path: Path


@dataclass(frozen=True)
class Host:
    """What a rollout is given of the machine it runs on."""

    folder: Path
    probe: Probe
    clock: Callable[[], datetime]
    launch: Launch = launch_process
    artifacts: Path | None = None
    """What the path of model files is relative to; `folder` if not given."""
    grace_seconds: float = GRACE_SECONDS


@dataclass
class LocalRollout:
    """One SignalCanary on this machine. `apply` a spec, `look` every interval, then `close`."""

    name: str
    host: Host
    namespace: str = "default"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._spec: SignalCanarySpec | None = None
        self._generation = 0
        self._status: dict[str, Any] = {}
        self._created = self.host.clock()
        self._uid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.namespace}/{self.name}"))
        self._revisions: dict[str, Revision] = {}
        self._slots: dict[Slot, _Running] = {}
        self._events: list[Event] = []
        own = self.host.folder / self.namespace / self.name
        self._memory, self._gate = own / "object.json", own / "gate.json"
        self._remember()

    # ------------------------------------------------------------------ the object

    def apply(self, spec: SignalCanarySpec) -> int:
        """Set the spec, as `kubectl apply` would; returns the generation."""
        # Nobody else is here that it could go with, or after.
        spec = spec.model_copy(update={"group": None, "after": None})
        if spec != self._spec:
            self._spec = spec
            self._generation += 1
        return self._generation

    def _remember(self) -> None:
        """Go on from where an earlier run in the same folder stopped."""
        if not self._memory.is_file():
            return
        kept = json.loads(self._memory.read_text())
        self._spec = SignalCanarySpec.model_validate(kept["object"]["spec"])
        self._generation = kept["object"]["metadata"]["generation"]
        self._created = datetime.fromisoformat(kept["object"]["metadata"]["creationTimestamp"])
        self._status = kept["object"]["status"]
        self._revisions = {n: Revision.model_validate(r) for n, r in kept["revisions"].items()}

    def _keep(self) -> None:
        revisions = {name: revision.to_wire() for name, revision in self._revisions.items()}
        text = json.dumps({"object": self.document(), "revisions": revisions}, indent=2)
        _replace(self._memory, text)

    def document(self) -> dict[str, Any]:
        """The object as the API server would give it."""
        assert self._spec is not None  # a spec was applied
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "creationTimestamp": self._created.isoformat(timespec="seconds").replace(
                    "+00:00", "Z"
                ),
                **self.metadata,
                "name": self.name,
                "namespace": self.namespace,
                "generation": self._generation,
                "uid": self._uid,
            },
            "spec": self._spec.to_wire(),
            "status": self._status,
        }

    # ------------------------------------------------------------------ one look

    async def look(self) -> Look:
        """Observe, decide, keep the state, then do what the state implies."""
        assert self._spec is not None  # a spec was applied
        spec, state = self._spec, parse(self._status)
        revision = build_revision(spec, LOCAL_IMAGE)
        target = refer_to(revision, self._generation)
        self._revisions.setdefault(target.name, revision)
        self._reap()
        await self._ask_readiness()
        seen = Observations(
            generation=self._generation,
            target=target,
            metrics=await self._measure(spec, state),
            tracks=self._tracks(state),
            stable_symbols=frozenset(self._revisions[state.stable.name].symbols)
            if state.stable
            else None,
            planned=plan(state),
            asked=read_annotations(self.metadata.get("annotations")),
            recorded=frozenset(self._revisions),
            ladder=look_up_ladder(spec, state, self._revisions, self._generation),
        )
        now = self.host.clock()
        decision = decide(spec, state, seen, now)
        self._status = render(spec, decision, seen, self._workloads(), self._status, now)
        self._keep()
        for transition in decision.transitions:
            self._record(transition.is_warning, transition.reason, transition.message, now)
        for notice in decision.notices:
            self._record(notice.is_warning, notice.reason, notice.message, now)
        state = parse(self._status)
        # Closed before anything else changes; a process reads it before it sends anything.
        _replace(self._gate, json.dumps(build_gate(spec, state).to_wire(), sort_keys=True))
        self._run(self._wanted(state))
        return Look(
            now,
            spec,
            self.document(),
            state,
            decision,
            seen,
            self.processes(),
            tuple(self._events),
        )

    async def _ask_readiness(self) -> None:
        async def ask(running: _Running) -> None:
            url = running.process.look().url
            running.unready = "" if url is None else await self.host.probe.find_unready(url)

        await asyncio.gather(*(ask(r) for r in self._slots.values() if r.ending is None))

    async def _measure(self, spec: SignalCanarySpec, state: RolloutState) -> MetricsSeen:
        judged = judged_revision(state)
        if judged is None:
            return MetricsSeen()
        track, revision = judged
        urls = [
            url
            for slot, running in self._slots.items()
            if slot.track is track and (url := running.process.look().url) is not None
        ]
        pages = await asyncio.gather(*(self.host.probe.scrape(url) for url in urls))
        target = build_target(spec, self.namespace, self.name, revision.name, track)
        asked = set(series_names([target]))
        series: list[Series] = [one for page in pages for one in page if one.metric in asked]
        return assemble([target], series)[target]

    def _tracks(self, state: RolloutState) -> dict[tuple[Track, str], TrackSeen]:
        wanted = self._wanted(state)
        keys = {(slot.track, slot.revision) for slot in (*wanted, *self._slots)}
        return {key: self._track(key, wanted) for key in keys}

    def _track(self, key: tuple[Track, str], wanted: Mapping[Slot, _Wanted]) -> TrackSeen:
        here = {s: r for s, r in self._slots.items() if (s.track, s.revision) == key}
        due = {s: w for s, w in wanted.items() if (s.track, s.revision) == key}
        looks = [running.process.look() for running in here.values()]
        return TrackSeen(
            pods=len(here),
            is_ready=bool(due)
            and all(
                (running := here.get(slot)) is not None
                and running.unready is None
                and running.ending is None
                and running.config == want.config
                for slot, want in due.items()
            ),
            problem=next((look.problem for look in looks if look.problem), None),
            verification=next(
                (
                    _read_verification(due[slot].path)
                    for slot in due.keys() & here.keys()
                    if slot.component is Component.VERIFY
                ),
                None,
            ),
            strays=sum(
                running.ending is not None or slot not in due or running.config != due[slot].config
                for slot, running in here.items()
            ),
        )

    def _workloads(self) -> list[WorkloadSeen]:
        groups: dict[tuple[str, Track, Component, str], list[LocalProcess]] = {}
        for process in self.processes():
            slot = process.slot
            name = stateful_set_name(self.name, slot.track, slot.revision, slot.component)
            key = (name, slot.track, slot.component, slot.revision)
            groups.setdefault(key, []).append(process)
        return [
            WorkloadSeen(
                name=name,
                track=track.value,
                component=component.value,
                revision=revision,
                ready=sum(p.is_ready and not p.is_ending for p in processes),
                wanted=len(processes),
                restarts=sum(p.seen.restarts for p in processes),
                message=next(filter(None, (p.seen.problem or p.unready for p in processes)), None),
            )
            for (name, track, component, revision), processes in sorted(groups.items())
        ]

    def processes(self) -> tuple[LocalProcess, ...]:
        """Every process that has not been seen to be gone."""
        return tuple(
            LocalProcess(slot, r.process.look(), r.unready, r.ending is not None)
            for slot, r in self._slots.items()
        )

    def _record(self, is_warning: bool, reason: str, message: str, now: datetime) -> None:
        self._events = [*self._events, Event(now, is_warning, reason, message)][-MAX_EVENTS:]

    # ------------------------------------------------------------------ what runs

    def _wanted(self, state: RolloutState) -> dict[Slot, _Wanted]:
        assert self._spec is not None  # a spec was applied
        owner = Owner(self.namespace, self.name, self._uid)
        wanted: dict[Slot, _Wanted] = {}
        for track_plan in plan(state):
            track, ref = track_plan.track, track_plan.revision
            revision = self._revisions[ref.name]
            config: WorkloadConfig = build_workload_config(
                owner,
                self._spec,
                track_plan,
                revision,
                str(self.host.folder),
                find_control(track, state, self._revisions),
            )
            if config.artifacts_root is not None:
                root = str((self.host.artifacts or self.host.folder).absolute())
                config = config.model_copy(update={"artifacts_root": root, "logins": None})
            text = json.dumps(config.to_wire(), indent=2, sort_keys=True)
            path = self.host.folder / "config" / f"{track.value}-{ref.name}-{ref.attempt}.json"
            for component in track_plan.components:
                shards = 1 if component is Component.VERIFY else len(config.shards)
                for shard in range(shards):
                    slot = Slot(track, ref.name, ref.attempt, component, shard)
                    name = stateful_set_name(self.name, track, ref.name, component)
                    wanted[slot] = _Wanted(f"{name}-{shard}", text, path)
        return wanted

    def _run(self, wanted: Mapping[Slot, _Wanted]) -> None:
        """Start what is wanted and missing, end what is not; one process a slot at a time."""
        for slot, running in self._slots.items():
            is_wanted = slot in wanted and wanted[slot].config == running.config
            if running.ending is None and not is_wanted:
                stopping = running.process.stop(self.host.grace_seconds)
                running.ending = asyncio.create_task(stopping)
        for slot, want in wanted.items():
            if slot not in self._slots:
                self._slots[slot] = self._start(slot, want)

    def _reap(self) -> None:
        for slot, running in list(self._slots.items()):
            if running.ending is not None and running.ending.done():
                running.ending.result()
                del self._slots[slot]

    def _start(self, slot: Slot, want: _Wanted) -> _Running:
        want.path.parent.mkdir(parents=True, exist_ok=True)
        want.path.write_text(want.config)
        if slot.component is Component.VERIFY:
            _result_of(want.path).unlink(missing_ok=True)
        log = self.host.folder / "log" / f"{want.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        argv = build_argv(slot.component, want.path, slot.shard, self._gate)
        process = self.host.launch(want.name, argv, log, self._on_notice)
        process.start()
        return _Running(process, want.config)

    def _on_notice(self, name: str, what: str) -> None:
        self._record(True, "ProcessEnded", what, self.host.clock())

    async def close(self) -> None:
        """End every process; returns when all are gone."""
        ending = [r.ending for r in self._slots.values() if r.ending is not None]
        left = [r.process for r in self._slots.values() if r.ending is None]
        await stop_all(left, self.host.grace_seconds)
        await asyncio.gather(*ending)
        self._slots.clear()


def _replace(file: Path, text: str) -> None:
    """Write a file so that a reader meets the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".tmp")
    fresh.write_text(text)
    fresh.replace(file)
