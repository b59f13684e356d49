"""The Kubernetes objects that a rollout owns, built from its state. Pure.

One StatefulSet for each track, revision and component: a StatefulSet never runs two pods of one
ordinal at once, which is what a single writer a symbol needs, and the ordinal is the shard.
Every object carries a hash of what was declared, so that an unchanged object is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import Field

from signalcanary.api import (
    API_VERSION,
    GROUP,
    KIND,
    Bucket,
    ReclaimPolicy,
    SignalCanarySpec,
    Storage,
)
from signalcanary.artifacts import Image
from signalcanary.contract import (
    METRICS_PORT,
    SHARD_VARIABLE,
    Component,
    Control,
    Model,
    SignalConfig,
    Track,
    WorkloadConfig,
)
from signalcanary.publication import build_gate
from signalcanary.revisions import Revision, RevisionRef, canonical_hash
from signalcanary.rollout import RolloutState, TrackPlan, keepers, plan
from signalcanary.stream import SIGNALS_PORT, Gate

Manifest = dict[str, Any]

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "signalcanary"
LABEL_NAME: Final = f"{GROUP}/name"
LABEL_TRACK: Final = f"{GROUP}/track"
LABEL_REVISION: Final = f"{GROUP}/revision"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
REVISION_RECORD: Final = "revision"
APPLIED_HASH: Final = f"{GROUP}/applied-hash"

WORKLOAD_UID: Final = 65532
_DATA_PATH: Final = "/data"
_AWS_VARIABLES: Final = {
    "AWS_ACCESS_KEY_ID": False,
    "AWS_SECRET_ACCESS_KEY": False,
    "AWS_SESSION_TOKEN": True,
    "AWS_REGION": True,
}
"""What a bucket's Secret holds, and whether it may lack it."""
_RESULT_PATH: Final = "/dev/termination-log"
"""Where Kubernetes reads what a container says at its end."""
_CONFIG_PATH: Final = "/etc/signalcanary"
_GATE_PATH: Final = "/etc/signalcanary-gate"
_GATE_FILE: Final = "gate.json"
_LAST_WORDS: Final = "FallbackToLogsOnError"
"""Keep what a container that failed said last: who looks at status need not look at logs."""
_LOGINS_PATH: Final = "/etc/signalcanary-logins"


@dataclass(frozen=True)
class Owner:
    """The SignalCanary that owns what is built."""

    namespace: str
    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }


class SecretName(Model):
    """A Secret of the SignalCanary's namespace."""

    name: str


class Toleration(Model):
    """As in a pod."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class Resources(Model):
    """Quantities by resource, as in a container."""

    requests: dict[str, str | int | float] = Field(default={"cpu": "50m", "memory": "128Mi"})
    limits: dict[str, str | int | float] = Field(default={"memory": "1Gi"})


class WorkloadSettings(Model):
    """What the administrator sets for the pods of all workloads. A change restarts them."""

    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[SecretName, ...] = ()
    priority_class_name: str = ""
    node_selector: dict[str, str] = Field(default={})
    tolerations: tuple[Toleration, ...] = ()
    resources: Resources = Resources()

    def of_pod(self) -> dict[str, Any]:
        """The fields of a pod's spec that are set; none changes what is not."""
        names = {"image_pull_secrets", "priority_class_name", "node_selector", "tolerations"}
        fields = self.model_dump(mode="json", by_alias=True, exclude_none=True, include=names)
        return {name: value for name, value in fields.items() if value}


def build_controller_revision(owner: Owner, ref: RevisionRef, revision: Revision) -> Manifest:
    """The frozen record of a revision."""
    manifest = _owned(owner, "apps/v1", "ControllerRevision", f"{owner.name}-{ref.name}")
    manifest["metadata"]["labels"] |= {
        LABEL_REVISION: ref.name,
        # A StatefulSet's own ControllerRevisions carry its pods' labels, so also ours.
        LABEL_COMPONENT: REVISION_RECORD,
    }
    manifest["metadata"]["annotations"] = {
        f"{GROUP}/version": ref.version,
        f"{GROUP}/fingerprint": ref.fingerprint,
    }
    manifest["data"] = revision.to_wire()
    manifest["revision"] = ref.attempt
    return manifest


def build_resources(
    owner: Owner,
    spec: SignalCanarySpec,
    state: RolloutState,
    revisions: Mapping[str, Revision],
    settings: WorkloadSettings,
) -> list[Manifest]:
    """Every object that should exist now, beside the ControllerRevisions.

    Args:
        revisions: by name, at least those that the state's plan needs.

    Raises:
        KeyError: a revision of the plan is missing.
    """
    manifests: list[Manifest] = []
    plans = plan(state)
    storage = spec.storage
    if storage.claim_name is None and storage.bucket is None and plans:
        manifests.append(_claim(owner, spec))
    # First, so that it is closed before anything else changes.
    manifests.append(_gate(owner, build_gate(spec, state)))
    manifests.extend(_signals_service(owner, track) for track in Track)
    for track_plan in plans:
        revision = revisions[track_plan.revision.name]
        config = build_workload_config(
            owner,
            spec,
            track_plan,
            revision,
            _DATA_PATH if storage.bucket is None else storage.bucket.url.rstrip("/"),
            find_control(track_plan.track, state, revisions),
        )
        if not config.shards:
            continue
        config_map = _config_map(owner, config)
        manifests.append(config_map)
        manifests.extend(
            _stateful_set(owner, spec, config, config_map, component, revision, settings)
            for component in track_plan.components
        )
    if state.stable is not None:
        manifests.append(_active(owner, state.stable, state, revisions))
    for manifest in manifests:
        annotations = manifest["metadata"].setdefault("annotations", {})
        annotations[APPLIED_HASH] = canonical_hash(manifest)[:16]
    return manifests


def build_workload_config(
    owner: Owner,
    spec: SignalCanarySpec,
    track_plan: TrackPlan,
    revision: Revision,
    data_root: str,
    control: Control | None = None,
) -> WorkloadConfig:
    """The file that the pods of a track are started with.

    The data folder is of this attempt of this very object alone: a second try of a revision, or
    an object made anew under the same name, must not be judged on the evidence of the first.
    """
    track, ref = track_plan.track, track_plan.revision
    symbols = track_plan.choose(spec.symbols.canary if track is Track.CANARY else revision.symbols)
    size = revision.symbols_per_shard
    signals = (revision.signal, control.signal if control else None)
    has_artifacts = (signal is not None and signal.artifacts for signal in signals)
    images = _images(*signals)
    return WorkloadConfig(
        namespace=owner.namespace,
        name=owner.name,
        track=track,
        revision=ref.name,
        attempt=ref.attempt,
        fingerprint=ref.fingerprint,
        version=ref.version,
        shards=tuple(tuple(symbols[i : i + size]) for i in range(0, len(symbols), size)),
        signal=revision.signal,
        source=revision.source,
        data_path=f"{data_root}/{owner.namespace}/{owner.name}/{track.value}/"
        f"{ref.name}-{ref.attempt}-{owner.uid[:8]}",
        commit_interval=revision.commit_interval,
        compaction_interval=spec.storage.compaction_interval,
        retention=spec.storage.retention,
        artifacts_root=data_root if any(has_artifacts) else None,
        logins=_LOGINS_PATH if any(image.secret_name for image in images) else None,
        control=control,
    )


def find_control(
    track: Track, state: RolloutState, revisions: Mapping[str, Revision]
) -> Control | None:
    """What a track's rows are scored by as well: the stable configuration, for the canary.

    It is in the pods' file, and so in the file's hash, but in no revision: what is compared with
    must not change what is compared. Another file would restart the pods; it never does, as the
    stable revision changes by a promotion alone, which is the end of the canary's track.
    """
    if track is not Track.CANARY or state.stable is None:
        return None
    return Control(revision=state.stable.name, signal=revisions[state.stable.name].signal)


def stateful_set_name(owner_name: str, track: Track, revision: str, component: Component) -> str:
    """Name of the StatefulSet of one track, revision and component."""
    return f"{owner_name}-{revision}-{track.value}-{component.value}"


def _owned(owner: Owner, api_version: str, kind: str, name: str) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": {MANAGED_BY: MANAGER, LABEL_NAME: owner.name},
            "ownerReferences": [owner.reference()],
        },
    }


def _claim(owner: Owner, spec: SignalCanarySpec) -> Manifest:
    manifest = _owned(owner, "v1", "PersistentVolumeClaim", f"{owner.name}-data")
    claim: dict[str, Any] = {
        "accessModes": [spec.storage.access_mode],
        "resources": {"requests": {"storage": spec.storage.size}},
    }
    if spec.storage.storage_class_name is not None:
        claim["storageClassName"] = spec.storage.storage_class_name
    manifest["spec"] = claim
    if spec.storage.reclaim_policy is ReclaimPolicy.RETAIN:
        del manifest["metadata"]["ownerReferences"]
    return manifest


def _config_map(owner: Owner, config: WorkloadConfig) -> Manifest:
    text = json.dumps(config.to_wire(), indent=2, sort_keys=True)
    name = f"{owner.name}-{config.revision}-{config.track.value}-{canonical_hash(text)[:8]}"
    manifest = _owned(owner, "v1", "ConfigMap", name)
    manifest["metadata"]["labels"] |= _track_labels(config)
    # Its name is a hash of its content: pods never see it change under them.
    manifest["immutable"] = True
    manifest["data"] = {"config.json": text}
    return manifest


def _gate(owner: Owner, gate: Gate) -> Manifest:
    """Who may publish signals. Not immutable: pods see it change (`gate_note`)."""
    manifest = _owned(owner, "v1", "ConfigMap", gate_name(owner))
    manifest["data"] = {_GATE_FILE: json.dumps(gate.to_wire(), sort_keys=True)}
    return manifest


def gate_name(owner: Owner) -> str:
    """Name of the ConfigMap that says who may publish signals."""
    return f"{owner.name}-signals-gate"


def _signals_service(owner: Owner, track: Track) -> Manifest:
    """One address a track that outlives promotions: it names all pods, whatever the revision.

    Headless, as a consumer connects to each of them: every pod has symbols of its own.
    """
    suffix = "" if track is Track.STABLE else f"-{track.value}"
    manifest = _owned(owner, "v1", "Service", f"{owner.name}-signals{suffix}")
    manifest["spec"] = {
        "clusterIP": "None",
        # One that is not ready says so by its heartbeats; that it is gone says nothing.
        "publishNotReadyAddresses": True,
        "selector": {
            LABEL_NAME: owner.name,
            LABEL_TRACK: track.value,
            LABEL_COMPONENT: Component.ANALYSIS.value,
        },
        "ports": [{"name": "signals", "port": SIGNALS_PORT, "targetPort": "signals"}],
    }
    return manifest


def _active(
    owner: Owner, ref: RevisionRef, state: RolloutState, revisions: Mapping[str, Revision]
) -> Manifest:
    """What consumers read to know which configuration is live, and on which symbols.

    Symbols that it was held back on are not among them; those that an earlier revision goes on
    serving are in ``kept.json``, a list of the same fields.
    """

    def describe(ref: RevisionRef, symbols: Sequence[str]) -> dict[str, Any]:
        signal = revisions[ref.name].signal.to_wire()
        about = {"version": ref.version, "revision": ref.name, "fingerprint": ref.fingerprint}
        return about | {"symbols": list(symbols), "signal": signal}

    revision = revisions[ref.name]
    symbols = [symbol for symbol in revision.symbols if symbol not in state.kept]
    kept = [describe(one, sorted(of_one)) for one, of_one in keepers(state).items()]
    manifest = _owned(owner, "v1", "ConfigMap", f"{owner.name}-active")
    manifest["data"] = {
        "version": ref.version,
        "revision": ref.name,
        "fingerprint": ref.fingerprint,
        "symbols": ",".join(symbols),
        "signal.json": json.dumps(revision.signal.to_wire(), indent=2, sort_keys=True),
    } | ({"kept.json": json.dumps(kept, indent=2, sort_keys=True)} if kept else {})
    return manifest


def _track_labels(config: WorkloadConfig) -> dict[str, str]:
    return {LABEL_TRACK: config.track.value, LABEL_REVISION: config.revision}


def _stateful_set(
    owner: Owner,
    spec: SignalCanarySpec,
    config: WorkloadConfig,
    config_map: Manifest,
    component: Component,
    revision: Revision,
    settings: WorkloadSettings,
) -> Manifest:
    name = stateful_set_name(owner.name, config.track, config.revision, component)
    manifest = _owned(owner, "apps/v1", "StatefulSet", name)
    selector = {
        LABEL_NAME: owner.name,
        **_track_labels(config),
        LABEL_COMPONENT: component.value,
    }
    manifest["metadata"]["labels"] |= selector
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": WORKLOAD_UID,
            "runAsGroup": WORKLOAD_UID,
            "fsGroup": WORKLOAD_UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(component, revision, settings)],
        "volumes": [
            {"name": "config", "configMap": {"name": config_map["metadata"]["name"]}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
        ],
    }
    if spec.storage.bucket is None:
        _add_claim(owner, spec.storage, pod)
    else:
        _add_bucket(spec.storage.bucket, pod)
    is_verifying = component is Component.VERIFY
    if is_verifying:
        _make_verifier(pod)
        _add_images(pod, _images(config.signal))
    if component is Component.ANALYSIS:
        _add_signals(owner, pod)
        control = config.control.signal if config.control else None
        _add_images(pod, _images(config.signal, control))
    pod |= settings.of_pod()
    manifest["spec"] = {
        "replicas": 1 if is_verifying else len(config.shards),
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": selector},
        "template": {
            "metadata": {
                "labels": {
                    **selector,
                    MANAGED_BY: MANAGER,
                    "app.kubernetes.io/name": f"signalcanary-{component.value}",
                    f"{GROUP}/version": config.version,
                },
                "annotations": {
                    f"{GROUP}/fingerprint": config.fingerprint,
                    "prometheus.io/scrape": "false" if is_verifying else "true",
                    "prometheus.io/port": str(METRICS_PORT),
                    "prometheus.io/path": "/metrics",
                },
            },
            "spec": pod,
        },
    }
    return manifest


def _container(
    component: Component, revision: Revision, settings: WorkloadSettings
) -> dict[str, Any]:
    return {
        "name": component.value,
        "image": revision.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": [
            component.value,
            f"--config={_CONFIG_PATH}/config.json",
            f"--listen=0.0.0.0:{METRICS_PORT}",
        ],
        "env": [
            {
                "name": SHARD_VARIABLE,
                "valueFrom": {
                    "fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}
                },
            }
        ],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "metrics"},
            "periodSeconds": 2,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "metrics"},
            "initialDelaySeconds": 30,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "resources": settings.resources.to_wire(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": _CONFIG_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _add_claim(owner: Owner, storage: Storage, pod: dict[str, Any]) -> None:
    """Let a pod keep its data on the claim."""
    claim = {"claimName": storage.claim_name or f"{owner.name}-data"}
    pod["volumes"].append({"name": "data", "persistentVolumeClaim": claim})
    (container,) = pod["containers"]
    container["volumeMounts"].append({"name": "data", "mountPath": _DATA_PATH})
    if storage.access_mode == "ReadWriteOnce":
        # All pods share the claim, which only one node can mount.
        pod["affinity"] = {
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "labelSelector": {"matchLabels": {LABEL_NAME: owner.name}},
                        "topologyKey": "kubernetes.io/hostname",
                    }
                ]
            }
        }


def _add_bucket(bucket: Bucket, pod: dict[str, Any]) -> None:
    """Let a pod keep its data in the bucket; keys come from the Secret, never from a file."""
    (container,) = pod["containers"]
    if bucket.endpoint is not None:
        container["env"].append({"name": "AWS_ENDPOINT_URL", "value": bucket.endpoint})
    if bucket.secret_name is None:
        return
    for variable, optional in _AWS_VARIABLES.items():
        key = {"name": bucket.secret_name, "key": variable, "optional": optional}
        container["env"].append({"name": variable, "valueFrom": {"secretKeyRef": key}})


def _images(*signals: SignalConfig | None) -> list[Image]:
    """The images that the model files of configurations lie in."""
    artifacts = (signal.artifacts for signal in signals if signal is not None)
    return [one.image for one in artifacts if one is not None and one.image is not None]


def _add_images(pod: dict[str, Any], images: Sequence[Image]) -> None:
    """Let a pod read model files from registries, logged in as the Secrets say."""
    (container,) = pod["containers"]
    if images:
        container["terminationMessagePolicy"] = _LAST_WORDS
    names = sorted({image.secret_name for image in images if image.secret_name is not None})
    for number, name in enumerate(names):
        volume = f"login-{number}"
        # Optional: a pod that starts can say which one is missing, and finds it at its next try.
        pod["volumes"].append({"name": volume, "secret": {"secretName": name, "optional": True}})
        container["volumeMounts"].append(
            {"name": volume, "mountPath": f"{_LOGINS_PATH}/{name}", "readOnly": True}
        )


def _make_verifier(pod: dict[str, Any]) -> None:
    """Let a pod look at the artifacts, say what it found, and end.

    It only reads the data, and serves nothing: what it found is the message of its end. As a
    StatefulSet's it is started again until its phase is over, which does no harm.
    """
    (container,) = pod["containers"]
    container["args"] = [
        Component.VERIFY.value,
        f"--config={_CONFIG_PATH}/config.json",
        f"--result={_RESULT_PATH}",
    ]
    for of_server in ("ports", "readinessProbe", "livenessProbe"):
        del container[of_server]
    for mount in container["volumeMounts"]:
        if mount["name"] == "data":
            mount["readOnly"] = True
    container["terminationMessagePolicy"] = _LAST_WORDS


def _add_signals(owner: Owner, pod: dict[str, Any]) -> None:
    """Let an analysis pod publish, as far as the gate says so."""
    # Optional: without it the pod runs all the same, and publishes nothing.
    gate = {"name": gate_name(owner), "optional": True}
    pod["volumes"].append({"name": "gate", "configMap": gate})
    (container,) = pod["containers"]
    container["args"] += [
        f"--publish=0.0.0.0:{SIGNALS_PORT}",
        f"--gate={_GATE_PATH}/{_GATE_FILE}",
    ]
    container["ports"].append({"name": "signals", "containerPort": SIGNALS_PORT})
    # The folder, not the file: a file mounted alone would never change.
    container["volumeMounts"].append({"name": "gate", "mountPath": _GATE_PATH, "readOnly": True})
