"""Phases and events: a small cluster in memory, and what may happen in it.

The server is that of `edges_kit`; here are a node that makes pods of StatefulSets, a market that is
measured, and the events of docs/phases-and-events.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edges_kit import FakeSource, World, copied

from signalcanary.cluster import Conflict, Refused
from signalcanary.commands import Verb, annotation
from signalcanary.contract import Component, Track
from signalcanary.evaluate import Measurement, MetricsSeen, SourceFailure
from signalcanary.metrics_source import Target
from signalcanary.resources import LABEL_COMPONENT, LABEL_REVISION, LABEL_TRACK
from signalcanary.rollout import Phase, RolloutState
from signalcanary.status import parse
from signalcanary.store import Key, Kind, Live

Way = tuple[Phase, str]
NEEDED = "ApprovalNeeded"
DESK = "the desk has looked at it"
SAID = "said so"

SYMBOLS = ("BTCUSDT", "ETHUSDT")
ALL = (*SYMBOLS, "ADAUSDT")
LOOK = 10.0
"""Seconds between two looks."""
MOST_LOOKS = 40
"""After which everything is at rest, or is not going to be."""
QUICK = [{"name": "quick", "duration": "0s"}]
ARTIFACTS = {
    "path": "models",
    "files": [{"path": "a.json", "size": 2, "sha256": "0" * 64, "format": "json"}],
}
V2: dict[str, Any] = {
    "version": "v2",
    "signal": {"artifacts": ARTIFACTS},
    "symbols": {"canary": list(SYMBOLS), "full": list(SYMBOLS)},
    "stages": [
        {"name": "shadow", "duration": "10s"},
        {"name": "canary", "duration": "10s", "approval": "Required"},
    ],
    "soak": "10s",
    "rollback": {
        "conditions": [{"metric": "platt_ece", "above": 0.1, "for": "20s"}],
        "verify": {"for": "10s"},
    },
    "evaluation": {"interval": "10s", "staleAfter": "20s", "noDataAfter": "40s"},
}

# --------------------------------------------------------------------------- the world


class Market(FakeSource):
    """Measures whatever track is asked of.

    Attributes:
        is_warm: whether anything can be judged yet.
        answers: whether the metrics source can be read.
        full_since: from when on no row is written, as the volume is full.
        bad: names of revisions that are miscalibrated.
    """

    is_warm = True
    answers = True
    full_since: datetime | None = None
    bad: frozenset[str] = frozenset()
    heard: Callable[[Track, str], bool]

    def _seen(self, target: Target, at: datetime) -> MetricsSeen:
        if not self.answers:
            return MetricsSeen(failure=SourceFailure("SourceTimeout", "no answer within 8 s"))
        if not self.heard(target.track, target.revision):
            return MetricsSeen(revision=target.revision, track=target.track)
        seen = min(at, self.full_since or at)
        if not self.is_warm:
            beats = dict.fromkeys(ALL, seen)
            return MetricsSeen({}, beats, revision=target.revision, track=target.track)
        ece = 0.3 if target.revision in self.bad else 0.04
        values = {m: (ece if m == "platt_ece" else self.values[m]) for m in target.metrics}
        return MetricsSeen(
            {(m, s): Measurement((v,), 5000, seen) for m, v in values.items() for s in ALL},
            dict.fromkeys(ALL, seen),
            dict.fromkeys(ALL, 1.0),
            dict.fromkeys(ALL, seen) if target.track is Track.CANARY else {},
            revision=target.revision,
            track=target.track,
        )


@dataclass
class Node:
    """What the controller and the kubelet make of the StatefulSets.

    Attributes:
        blocks: of a track and a component, whether their pods do not get ready.
        is_keeping: pods that nobody wants stay, terminating.
        lacks_image: the version whose pods find no image when they start.
    """

    world: Scene
    blocks: Callable[[str, str], bool] = lambda track, component: False
    is_keeping: bool = False
    lacks_image: str | None = None

    def turn(self) -> None:
        """Bring the pods in step with the StatefulSets, and these with their pods."""
        cluster = self.world.cluster
        sets = {n: cluster.get(Kind.STATEFUL_SET, n) for n in cluster.names(Kind.STATEFUL_SET)}
        wanted = {f"{n}-{i}": s for n, s in sets.items() for i in range(s["spec"]["replicas"])}
        for name in cluster.names(Kind.POD):
            is_same = name in wanted and _volumes(cluster.get(Kind.POD, name)) == _volumes(
                wanted[name]["spec"]["template"]
            )
            if not is_same and not self.is_keeping:
                cluster.drop(Kind.POD, name)
        for name, sts in wanted.items():
            self._run(name, sts)
        for name, sts in sets.items():
            count = sts["spec"]["replicas"]
            ready = sum(self.is_ready(f"{name}-{i}") for i in range(count))
            generation = sts["metadata"]["generation"]
            status = {"observedGeneration": generation, "updatedReplicas": count}
            status |= {"readyReplicas": ready}
            if sts.get("status") != status:
                cluster.put(Kind.STATEFUL_SET, name, status=status)

    def is_ready(self, pod: str) -> bool:
        item = self.world.cluster.objects.get((Kind.POD, Key("default", pod)))
        return item is not None and item["status"]["phase"] == "Running"

    def _run(self, name: str, sts: Live) -> None:
        cluster, labels = self.world.cluster, sts["metadata"]["labels"]
        known = cluster.objects.get((Kind.POD, Key("default", name)))
        component = labels[LABEL_COMPONENT]
        if known is not None and known["status"]["phase"] == "Running":
            return
        status: dict[str, Any] = {"phase": "Running"}
        state: dict[str, Any] = {"running": {}}
        if self.lacks_image == version_of(sts):
            status = {"phase": "Pending"}
            state = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
        elif self.blocks(labels[LABEL_TRACK], component):
            status = {"phase": "Pending"}
        elif component == Component.VERIFY:
            attempt = self.world.state.canary.attempt if self.world.state.canary else 0
            said = {"revision": labels[LABEL_REVISION], "attempt": attempt}
            said |= {"files": 1, "totalBytes": 2}
            state = {"terminated": {"message": json.dumps(said), "exitCode": 0}}
        status["containerStatuses"] = [{"name": component, "restartCount": 0, "state": state}]
        if known is not None and known["status"] == status:
            return
        owner = {"ownerReferences": [{"uid": sts["metadata"]["uid"]}]}
        spec = copied(sts["spec"]["template"]["spec"])
        cluster.put(Kind.POD, name, metadata={"labels": labels} | owner, spec=spec, status=status)

    def lose(self, version: str | None = None) -> None:
        """The pods of a version, or all, are gone, as with their node."""
        cluster = self.world.cluster
        for name in cluster.names(Kind.STATEFUL_SET):
            sts = cluster.get(Kind.STATEFUL_SET, name)
            if version in (None, version_of(sts)):
                for pod in cluster.names(Kind.POD):
                    if pod.startswith(f"{name}-"):
                        cluster.drop(Kind.POD, pod)


def version_of(sts: Any) -> str:
    labels = sts["spec"]["template"]["metadata"]["labels"]
    return str(labels["signalcanary.dev/version"])


def _volumes(pod: Any) -> Any:
    return pod["spec"]["volumes"]


class Scene(World):
    """The operator, a cluster with a node, and a market.

    Attributes:
        story: phase and reason of every transition since it was made.
        is_failing: the server refuses some of what is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.node = Node(self)
        self.market = Market(self.now)
        self.market.heard = self._is_heard
        self.source = self.market
        self.story: list[Way] = []
        self._read: tuple[str, RolloutState] | None = None
        self.is_failing = False
        self.restart()

    def _is_heard(self, track: Track, revision: str) -> bool:
        return self.node.is_ready(f"demo-{revision}-{track}-{Component.ANALYSIS}-0")

    @property
    def state(self) -> RolloutState:
        """As status has it; read once a version, as it is asked for often."""
        version = self.item()["metadata"]["resourceVersion"]
        if self._read is None or self._read[0] != version:
            self._read = version, parse(self.status())
        return self._read[1]

    @property
    def generation(self) -> int:
        return int(self.item()["metadata"]["generation"])

    @property
    def is_there(self) -> bool:
        return (Kind.SIGNAL_CANARY, Key("default", "demo")) in self.cluster.objects

    async def look(self) -> None:
        """What the node does in the time between two looks, and a look."""
        if not self.is_there:
            await self.rounds(step=LOOK)
            return
        self.node.turn()
        before = self.state.history
        await self.rounds(step=LOOK)
        if self.is_there:
            fresh = [t for t in self.state.history if t not in before]
            self.story += [(t.phase, t.reason) for t in reversed(fresh)]
            needed = (c["status"] for c in self.status()["conditions"] if c["type"] == NEEDED)
            if "True" in needed:
                subject = self.status()["subject"]
                self.annotate(Verb.APPROVE, f"{subject} {DESK} at {self.now():%H:%M:%S}")

    async def look_until(self, phase: Phase) -> None:
        for _ in range(MOST_LOOKS):
            if self.phase() == phase:
                return
            await self.look()
        raise AssertionError(f"{self.phase()}, not {phase}: {self.status().get('message')}")

    async def copy(self) -> Scene:
        """The same cluster, healthy, under an operator that knows nothing but what is there."""
        other = Scene()
        other.seconds = self.seconds
        for name in ("objects", "events", "version"):
            setattr(other.cluster, name, copied(getattr(self.cluster, name)))
        assert await other.poller.resync()
        return other

    def serving(self) -> str:
        """The versions that the StatefulSets of the stable track run."""
        sets = (
            self.cluster.get(Kind.STATEFUL_SET, n) for n in self.cluster.names(Kind.STATEFUL_SET)
        )
        versions = {
            version_of(item)
            for item in sets
            if item["spec"]["replicas"] and item["metadata"]["labels"][LABEL_TRACK] == Track.STABLE
        }
        return " and ".join(sorted(versions)) or "nothing"

    def told(self) -> set[tuple[str, ...]]:
        return set(self.cluster.events)

    def annotate(self, verb: Verb, value: str | None) -> None:
        old = self.item()["metadata"].get("annotations", {})
        new = {**old, annotation(verb): value}
        new = {key: text for key, text in new.items() if text is not None}
        self.cluster.put(Kind.SIGNAL_CANARY, "demo", metadata={"annotations": new})

    def edit(self, **changes: Any) -> None:
        spec = {**self.item()["spec"], **changes}
        self.cluster.put(Kind.SIGNAL_CANARY, "demo", spec=spec)


async def visit() -> tuple[dict[Phase, Scene], dict[Phase, list[Way]]]:
    """A scene in each phase, and what followed there under an operator that went on."""
    scene = Scene()
    for version in ("v0", "v1"):
        scene.create(version=version, symbols=V2["symbols"], stages=QUICK)
        await scene.look()
        await scene.look_until(Phase.SUCCEEDED)
        await scene.look()
    scenes: dict[Phase, Scene] = {}
    began: dict[Phase, int] = {}

    async def stop_at(phase: Phase) -> None:
        await scene.look_until(phase)
        scenes[phase], began[phase] = await scene.copy(), len(scene.story)

    node, market = scene.node, scene.market
    starts_at = f"{scene.now() + timedelta(seconds=60):%Y-%m-%dT%H:%M:%SZ}"
    scene.create(**V2, schedule={"startAt": starts_at})
    await stop_at(Phase.WAITING)
    node.blocks = lambda track, component: component == Component.VERIFY
    await stop_at(Phase.VERIFYING)
    node.blocks = lambda track, component: component != Component.VERIFY
    await stop_at(Phase.PENDING)
    market.is_warm, node.blocks = False, lambda track, component: False
    await stop_at(Phase.WARMING)
    market.is_warm = True
    await stop_at(Phase.PROGRESSING)
    node.blocks = lambda track, component: track == Track.STABLE
    await stop_at(Phase.PROMOTING)
    node.blocks = lambda track, component: False
    await stop_at(Phase.SOAKING)
    await stop_at(Phase.SUCCEEDED)
    await scene.look()
    followed = {phase: scene.story[n:] for phase, n in began.items()}

    began.clear()
    scene = await scenes[Phase.PROGRESSING].copy()
    assert scene.state.canary is not None
    scene.market.bad = frozenset({scene.state.canary.name})
    scene.node.is_keeping = True
    await stop_at(Phase.ROLLING_BACK)
    scene.node.is_keeping = False
    await stop_at(Phase.VERIFYING_ROLLBACK)
    await stop_at(Phase.ROLLED_BACK)
    followed |= {phase: scene.story[n:] for phase, n in began.items()}
    return scenes, followed


# --------------------------------------------------------------------------- the events


def nothing(scene: Scene) -> None:
    pass


@dataclass(frozen=True)
class Event:
    """Something that happens in a phase.

    Attributes:
        what: it is, in words for the page.
        outcome: what is made of it, in words for the page.
        looks: for how many looks it lasts, where it ends by itself.
        real: files and names of the tests that play it with real servers.
    """

    name: str
    what: str
    outcome: str
    happens: Callable[[Scene], None]
    ends: Callable[[Scene], None] = nothing
    looks: int = 0
    real: tuple[tuple[str, str], ...] = ()


def ask(verb: Verb) -> Callable[[Scene], None]:
    """A command about what there is, as a person copies it from status."""

    def happens(scene: Scene) -> None:
        state = scene.state
        ref = state.restoring or state.canary or state.rejected or state.stable
        if verb is Verb.ROLLBACK:
            ref = state.stable
        assert ref is not None
        detail = {
            Verb.APPROVE: "/canary",
            Verb.SKIP: f"/{state.stage or 'shadow'}",
            Verb.ROLLBACK: f"/{state.former[0].name}",
        }
        about = f"{ref.name}-{ref.attempt}{detail.get(verb, '')} "
        scene.annotate(verb, ("" if verb in (Verb.PAUSE, Verb.RESUME) else about) + SAID)

    return happens


def add_unknown(scene: Scene) -> None:
    scene.edit(fromTheFuture=True)
    scene.is_failing = True


def drop_unknown(scene: Scene) -> None:
    spec = dict(scene.item()["spec"])
    del spec["fromTheFuture"]
    scene.cluster.put(Kind.SIGNAL_CANARY, "demo", spec=spec)
    scene.is_failing = False


def fail_status(scene: Scene) -> None:
    """Somebody else has changed the object between the look and its write."""

    def before(call: str) -> None:
        if call.startswith("status"):
            raise Conflict("the object has been modified")

    scene.cluster.before, scene.is_failing = before, True


def refuse_sets(scene: Scene) -> None:
    def before(call: str) -> None:
        if call.startswith("apply StatefulSet"):
            raise Refused("exceeded quota: count/statefulsets.apps")

    scene.cluster.before, scene.is_failing = before, True


def allow_all(scene: Scene) -> None:
    scene.cluster.before, scene.is_failing = lambda call: None, False


def lose_pods(scene: Scene) -> None:
    scene.node.blocks = lambda track, component: True
    scene.node.lose()


def start_pods(scene: Scene) -> None:
    scene.node.blocks = lambda track, component: False


def lose_image(scene: Scene) -> None:
    scene.node.lacks_image = "v2"
    scene.node.lose("v2")


def fill_volume(scene: Scene) -> None:
    scene.market.full_since = scene.now()


def empty_volume(scene: Scene) -> None:
    scene.market.full_since = None


def silence_source(scene: Scene) -> None:
    scene.market.answers = False


def heal_source(scene: Scene) -> None:
    scene.market.answers = True


def edit_sets(scene: Scene) -> None:
    """`kubectl set image` on every StatefulSet, and `kubectl edit` of what consumers read."""
    for name in scene.cluster.names(Kind.STATEFUL_SET):
        spec = copied(scene.cluster.get(Kind.STATEFUL_SET, name)["spec"])
        spec["template"]["spec"]["containers"][0]["image"] = "workloads:mine"
        scene.cluster.put(Kind.STATEFUL_SET, name, spec=spec)
    active = scene.cluster.get(Kind.CONFIG_MAP, "demo-active")["data"]
    scene.cluster.put(Kind.CONFIG_MAP, "demo-active", data={**active, "version": "v9"})


def spoil(scene: Scene) -> None:
    """What is judged becomes miscalibrated."""
    state = scene.state
    ref = state.canary or state.stable
    assert ref is not None
    scene.market.bad = frozenset({ref.name})


def delete(scene: Scene) -> None:
    scene.cluster.drop(Kind.SIGNAL_CANARY, "demo")
    scene.cluster.calls.clear()


def wait_an_hour(scene: Scene) -> None:
    scene.seconds += 3600


def edit_while_away(scene: Scene) -> None:
    wait_an_hour(scene)
    scene.edit(version="v3")


ONE = {"canary": ["BTCUSDT"], "full": list(SYMBOLS)}
MORE = {"canary": list(SYMBOLS), "full": [*SYMBOLS, "ADAUSDT"]}


EVENTS = (
    Event(
        "restart",
        "The operator is killed and another begins, or the Lease goes to another replica.",
        "Nothing is lost: status is all the memory there is.",
        nothing,
        real=(
            (
                "tests/cluster/test_outages.py",
                "test_the_operator_killed_in_a_breach_does_not_forget_its_beginning",
            ),
            (
                "tests/integration/operator/test_process.py",
                "test_one_leads_and_another_takes_over_after_a_kill_and_at_once_after_a_stop",
            ),
        ),
    ),
    Event(
        "operator away",
        "No operator for an hour.",
        "The time was not observed: it counts toward no stage, no breach and no deadline.",
        wait_an_hour,
    ),
    Event(
        "conflict",
        "The object has changed between the look and the write of its status (409).",
        "Everything of that look is dropped; the next one does it again.",
        fail_status,
        allow_all,
        looks=1,
        real=(
            (
                "tests/integration/operator/test_cluster.py",
                "test_a_status_is_written_under_the_version_that_was_read",
            ),
        ),
    ),
    Event(
        "edit: new version",
        "The spec declares another configuration or version.",
        "The canary that there is goes, the new one starts anew; what serves goes on. While "
        "rolling back it waits until the canary's pods are gone.",
        lambda scene: scene.edit(version="v3"),
        real=(
            (
                "tests/integration/operator/test_process.py",
                "test_one_leads_and_another_takes_over_after_a_kill_and_at_once_after_a_stop",
            ),
        ),
    ),
    Event(
        "edit: while away",
        "The spec declares another version while no operator runs, for an hour.",
        "As a new version; it begins now, and no time before is held against it.",
        edit_while_away,
    ),
    Event(
        "edit: back to stable",
        "The spec is set back to the configuration that serves.",
        "The canary goes, and that is all.",
        lambda scene: scene.edit(version="v1", signal={}, stages=QUICK),
    ),
    Event(
        "edit: symbols removed",
        "A symbol less in `symbols.canary`.",
        "The canary's pods start anew without it; the stages are observed anew. After a rollback "
        "it is a new try.",
        lambda scene: scene.edit(symbols=ONE),
    ),
    Event(
        "edit: symbols added",
        "A symbol more in `symbols.full`.",
        "The full set is part of a revision: as a new version.",
        lambda scene: scene.edit(symbols=MORE),
    ),
    Event(
        "edit: the pace",
        "What no judgement rests on is edited, such as `evaluation.interval`.",
        "It holds from the next look on; nothing begins anew. After a rollback it is a new try.",
        lambda scene: scene.edit(evaluation={**V2["evaluation"], "staleAfter": "25s"}),
    ),
    Event(
        "edit: unknown field",
        "For three looks the spec has a field that this operator does not know, as the CRD is "
        "newer.",
        "The object cannot be read: that is told, and nothing of it is touched or judged. Then it "
        "goes on; after a rollback the edit is a new try.",
        add_unknown,
        drop_unknown,
        looks=3,
    ),
    Event(
        "delete",
        "The object is deleted.",
        "The operator does nothing any more: there is no finalizer to wait for. All that the "
        "object owned is the garbage collector's, the claim included (unless "
        "`reclaimPolicy: Retain`).",
        delete,
        real=(
            ("tests/cluster/test_rollout.py", "test_deleting_it_leaves_nothing_behind"),
            (
                "tests/integration/operator/test_drift.py",
                "test_deleted_it_is_gone_at_once_and_all_it_owned_is_the_collector_s",
            ),
        ),
    ),
    *(
        Event(verb.value, what, outcome, ask(verb), real=real)
        for verb, what, outcome, real in (
            (
                Verb.PAUSE,
                "A person pauses it.",
                "Clocks of stages stand still, nothing moves on; a canary still starts, a rollback "
                "still ends.",
                (
                    (
                        "tests/cluster/test_hand.py",
                        "test_paused_it_is_still_guarded_and_then_it_is_approved_tried_again_and_aborted",
                    ),
                ),
            ),
            (Verb.RESUME, "A person resumes what is not paused.", "Refused.", ()),
            (
                Verb.APPROVE,
                "A person approves the stage `canary`.",
                "Noted, while a canary runs.",
                (),
            ),
            (
                Verb.SKIP,
                "A person skips the present stage.",
                "The next stage, or the promotion.",
                (),
            ),
            (
                Verb.PROMOTE,
                "A person promotes now.",
                "The full set at once, if nothing is bad.",
                (),
            ),
            (
                Verb.ABORT,
                "A person aborts.",
                "The canary goes, what serves goes on. Where none runs it is refused.",
                (
                    (
                        "tests/cluster/test_hand.py",
                        "test_paused_it_is_still_guarded_and_then_it_is_approved_tried_again_and_aborted",
                    ),
                ),
            ),
            (Verb.RETRY, "A person asks for another try.", "Only after a rollback.", ()),
            (
                Verb.ROLLBACK,
                "A person asks for the revision that was stable before.",
                "It starts beside the stable one and takes its place when it is ready; a canary "
                "goes.",
                (),
            ),
        )
    ),
    Event(
        "breach",
        "What is judged is miscalibrated from now on.",
        "Rolled back once it has held for its `for`; at rest nobody judges, and the alerts tell.",
        spoil,
        real=(
            (
                "tests/cluster/test_rollout.py",
                "test_a_calibration_shift_rolls_v2_back_and_leaves_v1_alone",
            ),
        ),
    ),
    Event(
        "pod lost",
        "Every pod is gone, as with its node, and is back after two looks.",
        "Nothing is judged until they run again; then it goes on.",
        lose_pods,
        start_pods,
        looks=2,
        real=(
            (
                "tests/cluster/test_outages.py",
                "test_the_rollout_survives_its_analysis_pod_being_killed",
            ),
        ),
    ),
    Event(
        "image missing",
        "The pods of v2 are gone, and those in their place do not find the image.",
        "After `noDataAfter` v2 is taken back, for what serves beside it, or, while it soaks, for "
        "the first rung of the ladder. At rest nobody judges: status says what keeps the pods, and "
        "an alert tells.",
        lose_image,
    ),
    Event(
        "quota denied",
        "For six looks the API server refuses every StatefulSet.",
        "It is told, and tried again at every look; what runs already goes on.",
        refuse_sets,
        allow_all,
        looks=6,
        real=(
            (
                "tests/integration/operator/test_process.py",
                "test_what_a_quota_refuses_is_told_on_the_object",
            ),
        ),
    ),
    Event(
        "volume full",
        "For eight looks no row can be written; harvest keeps them in memory.",
        "Both tracks are silent, which is held against no canary; then it goes on.",
        fill_volume,
        empty_volume,
        looks=8,
        real=(
            (
                "tests/integration/harvest/test_streams.py",
                "test_rows_are_kept_while_the_volume_refuses_and_committed_afterwards",
            ),
        ),
    ),
    Event(
        "metrics source away",
        "For eight looks the metrics source cannot be read.",
        "Nothing is promoted and nothing rolled back; clocks stand still.",
        silence_source,
        heal_source,
        looks=8,
        real=(
            ("tests/cluster/test_outages.py", "test_nothing_is_decided_while_prometheus_is_down"),
        ),
    ),
    Event(
        "objects edited",
        "Somebody gives every StatefulSet another image, and `NAME-active` another version.",
        "Put back at the next look, and told.",
        edit_sets,
        real=(
            (
                "tests/integration/operator/test_drift.py",
                "test_objects_that_somebody_edits_are_put_back_and_it_is_told",
            ),
        ),
    ),
)
