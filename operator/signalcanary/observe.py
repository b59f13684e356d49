"""From live Kubernetes objects to what a decision needs to know of the workloads. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from signalcanary.api import Pace
from signalcanary.artifacts import Verification
from signalcanary.contract import Component, Track
from signalcanary.drift import find_mixed_images
from signalcanary.groups import READY
from signalcanary.resources import (
    APPLIED_HASH,
    LABEL_COMPONENT,
    LABEL_REVISION,
    LABEL_TRACK,
    Manifest,
)
from signalcanary.rollout import BEGINNINGS, Member, Phase, TrackSeen
from signalcanary.status import WorkloadSeen
from signalcanary.wire import parse_instant

Live = Mapping[str, Any]

_LONGEST_SAID: Final = 400
"""Characters of a container's last words."""


def observe_tracks(
    desired: Sequence[Manifest],
    stateful_sets: Sequence[Live],
    pods: Sequence[Live],
    drifted: Collection[str] = (),
) -> dict[tuple[Track, str], TrackSeen]:
    """Every track and revision that is wanted or still there.

    Args:
        desired: the manifests that should exist.
        stateful_sets, pods: what exists, of this SignalCanary.
        drifted: names of the StatefulSets that somebody has changed: they are not what is wanted.
    """
    stateful_sets = [sts for sts in stateful_sets if _is_of_a_track(sts)]
    pods = [pod for pod in pods if _is_of_a_track(pod)]
    wanted = [m for m in desired if m["kind"] == "StatefulSet"]
    live = {sts["metadata"]["name"]: sts for sts in stateful_sets}
    keys = {_key(item) for item in (*wanted, *stateful_sets, *pods)}
    seen = {}
    for key in keys:
        of_track = [m for m in wanted if _key(m) == key]
        pods_of_track = [pod for pod in pods if _key(pod) == key]
        # On whichever track: what was judged on the one is what serves on the other.
        mixed = find_mixed_images(pod for pod in pods if _key(pod)[1] == key[1])
        as_wanted = all(
            m["metadata"]["name"] not in drifted and _is_ready(m, live.get(m["metadata"]["name"]))
            for m in of_track
        )
        verification = _find_verification(key, stateful_sets, pods_of_track)
        # A pod that has said what it found has ended, which is no problem of it.
        problems = () if verification else map(describe_problem, pods_of_track)
        seen[key] = TrackSeen(
            pods=len(pods_of_track),
            is_ready=bool(of_track) and as_wanted and mixed is None,
            problem=next(filter(None, problems), mixed),
            verification=verification,
            strays=sum(_is_stray(pod, of_track) for pod in pods_of_track),
        )
    return seen


def _find_verification(
    key: tuple[Track, str], stateful_sets: Iterable[Live], pods: Iterable[Live]
) -> Verification | None:
    """What the verifying container said at its end; the newest, where it was started again."""
    verifiers = [
        sts
        for sts in stateful_sets
        if _key(sts) == key and sts["metadata"]["labels"][LABEL_COMPONENT] == Component.VERIFY
    ]
    for pod in pods:
        if not any(_is_owned_by(pod, sts) for sts in verifiers):
            continue
        for container in pod.get("status", {}).get("containerStatuses", ()):
            for state in (container.get("state", {}), container.get("lastState", {})):
                try:
                    text = state.get("terminated", {}).get("message") or ""
                    return Verification.model_validate_json(text)
                except ValidationError:
                    continue  # killed, or ended by what is no fault of the artifacts
    return None


def _is_stray(pod: Live, wanted: Sequence[Manifest]) -> bool:
    """Whether a pod is on its way out, or was not started with the file that is wanted: the
    file's name is a hash of its content."""
    files = {_file_of(manifest["spec"].get("template", {}).get("spec", {})) for manifest in wanted}
    is_ending = pod["metadata"].get("deletionTimestamp") is not None
    return is_ending or _file_of(pod.get("spec") or {}) not in files - {None}


def _file_of(pod_spec: Mapping[str, Any]) -> str | None:
    volumes = pod_spec.get("volumes") or ()
    named = (v["configMap"].get("name") for v in volumes if v.get("name") == "config")
    return next(named, None)


def observe_workloads(stateful_sets: Iterable[Live], pods: Sequence[Live]) -> list[WorkloadSeen]:
    """One line a StatefulSet, for status."""
    lines = []
    of_tracks = filter(_is_of_a_track, stateful_sets)
    for sts in sorted(of_tracks, key=lambda s: str(s["metadata"]["name"])):
        labels = sts["metadata"]["labels"]
        own = [pod for pod in pods if _is_owned_by(pod, sts)]
        lines.append(
            WorkloadSeen(
                name=sts["metadata"]["name"],
                track=labels[LABEL_TRACK],
                component=labels[LABEL_COMPONENT],
                revision=labels[LABEL_REVISION],
                ready=sts.get("status", {}).get("readyReplicas", 0),
                wanted=sts["spec"]["replicas"],
                restarts=sum(map(_restarts, own)),
                message=next(filter(None, map(describe_problem, own)), None),
            )
        )
    return lines


def observe_others(own: Live, items: Iterable[Live]) -> tuple[Member, ...]:
    """The SignalCanaries of a namespace that one goes with or after, or that order others.

    Args:
        own: that one.
        items: all of its namespace, as they were found; any of them may be unreadable.
    """
    spec, own_name = own["spec"], own["metadata"]["name"]
    group = (spec.get("group") or {}).get("name")
    if group is None and not spec.get("after"):
        return ()
    members = []
    for item in items:
        metadata = item["metadata"]
        if metadata["name"] == own_name or metadata.get("deletionTimestamp"):
            continue
        try:
            member = _read_member(item)
        except (LookupError, ValueError, TypeError, AttributeError):
            # Of what cannot be read nothing is known but that it is there.
            member = Member(metadata["name"])
        is_named = metadata["name"] in (spec.get("after") or ())
        if is_named or member.after or (group is not None and member.group == group):
            members.append(member)
    return tuple(sorted(members, key=lambda member: member.name))


def _read_member(item: Live) -> Member:
    spec, status = item["spec"], item.get("status") or {}
    group = spec.get("group") or {}
    history = [(t["phase"], t["reason"], t["time"]) for t in status.get("history", ())]
    began = next((at for _, reason, at in history if reason in BEGINNINGS), None)
    taken_back = next((at for phase, _, at in history if phase == Phase.ROLLING_BACK), None)
    waits = [c for c in status.get("conditions", ()) if c["type"] == "Waiting"]
    return Member(
        name=item["metadata"]["name"],
        group=group.get("name"),
        is_in_turn=group.get("pace") == Pace.IN_TURN,
        after=tuple(spec.get("after") or ()),
        phase=Phase(status["phase"]) if status.get("phase") else None,
        is_current=status.get("observedGeneration") == item["metadata"]["generation"],
        is_ready=any(c["status"] == "True" and c["reason"] == READY for c in waits),
        began=parse_instant(began) if began else None,
        queued_at=parse_instant(status["queuedAt"]) if status.get("queuedAt") else None,
        taken_back_at=parse_instant(taken_back) if taken_back else None,
    )


def _is_of_a_track(item: Live) -> bool:
    """Whether the labels are all there: anyone may label a pod with a SignalCanary's name."""
    labels = item["metadata"].get("labels") or {}
    return labels.get(LABEL_TRACK) in set(Track) and {LABEL_REVISION, LABEL_COMPONENT} <= set(
        labels
    )


def _key(item: Live) -> tuple[Track, str]:
    labels = item["metadata"]["labels"]
    return Track(labels[LABEL_TRACK]), labels[LABEL_REVISION]


def _is_owned_by(pod: Live, sts: Live) -> bool:
    owners = pod["metadata"].get("ownerReferences", ())
    return any(owner["uid"] == sts["metadata"]["uid"] for owner in owners)


def _is_ready(wanted: Manifest, live: Live | None) -> bool:
    """Whether a StatefulSet is the one that is wanted, rolled out, and all its pods ready."""
    if live is None:
        return False
    status = live.get("status", {})
    replicas = wanted["spec"]["replicas"]
    applied: str | None = live["metadata"].get("annotations", {}).get(APPLIED_HASH)
    return bool(
        applied == wanted["metadata"]["annotations"][APPLIED_HASH]
        and status.get("observedGeneration") == live["metadata"].get("generation")
        and status.get("readyReplicas", 0) == replicas
        and status.get("updatedReplicas", 0) == replicas
    )


def _restarts(pod: Live) -> int:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return sum(status.get("restartCount", 0) for status in statuses)


def describe_problem(pod: Live) -> str | None:
    """What keeps a pod from running, in words; None if nothing does."""
    name = pod["metadata"]["name"]
    status = pod.get("status", {})
    for container in status.get("containerStatuses", ()):
        state = container.get("state", {})
        waiting = state.get("waiting")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            detail = f": {waiting['message']}" if waiting.get("message") else ""
            last = container.get("lastState", {}).get("terminated")
            before = f" (it ended before: {_ending(last)})" if last else ""
            return f"pod {name} is waiting: {waiting.get('reason', 'Unknown')}{detail}{before}"
        terminated = state.get("terminated")
        if terminated:
            return f"pod {name} ended: {_ending(terminated)}"
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return (
                f"pod {name} is not scheduled: {condition.get('message', condition.get('reason'))}"
            )
    return None


def _ending(terminated: Mapping[str, Any]) -> str:
    words = f"{terminated.get('reason', 'Unknown')}, exit code {terminated.get('exitCode')}"
    lines = (terminated.get("message") or "").strip().splitlines()
    # A document is for programs: what the verifying container found.
    said = lines[-1] if lines and not lines[-1].startswith("{") else ""
    return words + (f": {said[:_LONGEST_SAID]}" if said else "")
