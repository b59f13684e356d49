"""The objects of a rollout: safe, owned, named so that they fit, and still where they should be."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from signalcanary.api import MAX_NAME_LENGTH, SignalCanarySpec
from signalcanary.contract import Component, Track, WorkloadConfig
from signalcanary.resources import (
    APPLIED_HASH,
    LABEL_COMPONENT,
    LABEL_NAME,
    LABEL_TRACK,
    Manifest,
    Owner,
    WorkloadSettings,
    build_controller_revision,
    build_resources,
)
from signalcanary.revisions import Revision, RevisionRef, build_revision, refer_to
from signalcanary.rollout import (
    Phase,
    RolloutState,
)
from signalcanary.stream import Gate, Holder

SYMBOLS = [f"SYM{n}USDT" for n in range(10)]
WIRE: dict[str, Any] = {"version": "v2", "symbols": {"canary": SYMBOLS[:2], "full": SYMBOLS}}
OWNER = Owner("trading", "demo", "11111111-2222")
SETTINGS = WorkloadSettings()


def spec_of(**changes: Any) -> SignalCanarySpec:
    return SignalCanarySpec.model_validate(WIRE | changes)


SPEC = spec_of()
NEW = build_revision(SPEC, "img:2")
OLD = build_revision(spec_of(version="v1"), "img:1")
CANARY, STABLE = refer_to(NEW, 2), refer_to(OLD, 1)
REVISIONS: dict[str, Revision] = {CANARY.name: NEW, STABLE.name: OLD}
BOTH = RolloutState(phase=Phase.PROGRESSING, canary=CANARY, stable=STABLE)


def build(
    state: RolloutState = BOTH,
    spec: SignalCanarySpec = SPEC,
    owner: Owner = OWNER,
    settings: WorkloadSettings = SETTINGS,
) -> list[Manifest]:
    return build_resources(owner, spec, state, REVISIONS, settings)


def config_of(track: str, state: RolloutState = BOTH, **revisions: Revision) -> WorkloadConfig:
    """The one file that the pods of a track are started with."""
    manifests = build_resources(OWNER, SPEC, state, REVISIONS | revisions, SETTINGS)
    (text,) = [
        m["data"]["config.json"]
        for m in manifests
        if m["kind"] == "ConfigMap" and m["metadata"]["labels"].get(LABEL_TRACK) == track
    ]
    return WorkloadConfig.model_validate(json.loads(text))


def of_kind(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    return [m for m in manifests if m["kind"] == kind]


def of_track(track: Track, manifests: list[Manifest]) -> list[Manifest]:
    return [m for m in manifests if m["metadata"]["labels"].get(LABEL_TRACK) == track.value]


def pod_spec(sts: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = sts["spec"]["template"]["spec"]
    return spec


def test_a_canary_beside_a_stable_takes_these_objects() -> None:
    names = [(m["kind"], re.sub("[0-9a-f]{8}", "#", m["metadata"]["name"])) for m in build()]
    assert names == [
        ("PersistentVolumeClaim", "demo-data"),
        ("ConfigMap", "demo-signals-gate"),
        ("Service", "demo-signals-canary"),
        ("Service", "demo-signals"),
        ("ConfigMap", "demo-#-stable-#"),
        ("StatefulSet", "demo-#-stable-harvest"),
        ("StatefulSet", "demo-#-stable-analysis"),
        ("ConfigMap", "demo-#-canary-#"),
        ("StatefulSet", "demo-#-canary-harvest"),
        ("StatefulSet", "demo-#-canary-analysis"),
        ("ConfigMap", "demo-active"),
    ]


def test_every_pod_keeps_to_the_restricted_pod_security_standard() -> None:
    sets = of_kind("StatefulSet", build())
    assert len(sets) == 4
    for sts in sets:
        pod = pod_spec(sts)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert {next(k for k in v if k != "name") for v in pod["volumes"]} <= {
            "configMap",
            "persistentVolumeClaim",
            "emptyDir",
        }
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("component", Component)
def test_a_pod_cannot_write_what_it_is_told(component: Component) -> None:
    for sts in of_kind("StatefulSet", build()):
        (container,) = pod_spec(sts)["containers"]
        if container["name"] != component.value:
            continue
        mounts = {m["name"]: m.get("readOnly", False) for m in container["volumeMounts"]}
        told = {"config", "gate"} if component is Component.ANALYSIS else {"config"}
        assert mounts == dict.fromkeys(told, True) | {"data": False, "tmp": False}


def test_the_longest_name_still_fits_everywhere() -> None:
    owner = replace(OWNER, name="n" * MAX_NAME_LENGTH)
    spec = spec_of(version="v" * 63)
    state = replace(BOTH, phase=Phase.PROMOTING)
    for manifest in build(state, spec, owner):
        metadata = manifest["metadata"]
        assert len(metadata["name"]) <= 52
        labels = dict(metadata["labels"])
        if manifest["kind"] == "StatefulSet":
            labels |= manifest["spec"]["template"]["metadata"]["labels"]
            assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()
        for value in labels.values():
            assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value)


def test_everything_is_owned_and_marked_with_its_name() -> None:
    record = build_controller_revision(OWNER, CANARY, NEW)
    for manifest in (*build(), record):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (OWNER.uid, True)
        assert manifest["metadata"]["namespace"] == OWNER.namespace
        assert manifest["metadata"]["labels"][LABEL_NAME] == OWNER.name


def test_a_revision_on_record_can_be_run_again() -> None:
    record = build_controller_revision(OWNER, CANARY, NEW)
    assert Revision.model_validate(record["data"]) == NEW
    assert record["revision"] == 2


@pytest.mark.parametrize(("size", "shards"), [(1, 10), (3, 4), (8, 2), (10, 1), (256, 1)])
def test_one_shard_takes_as_many_symbols_as_it_may(size: int, shards: int) -> None:
    spec = spec_of(version="v3", workloads={"symbolsPerShard": size})
    revision = build_revision(spec, "img:2")
    ref = refer_to(revision, 3)
    state = RolloutState(phase=Phase.SUCCEEDED, stable=ref)
    manifests = build_resources(OWNER, spec, state, {ref.name: revision}, SETTINGS)
    config = WorkloadConfig.model_validate_json(
        of_track(Track.STABLE, manifests)[0]["data"]["config.json"]
    )
    assert [s for shard in config.shards for s in shard] == SYMBOLS
    assert all(len(shard) <= size for shard in config.shards)
    assert {sts["spec"]["replicas"] for sts in of_kind("StatefulSet", manifests)} == {shards}


def test_the_canary_runs_its_symbols_and_the_stable_all_of_them() -> None:
    for track, symbols in ((Track.CANARY, SYMBOLS[:2]), (Track.STABLE, SYMBOLS)):
        config_map, *sets = of_track(track, build())
        config = WorkloadConfig.model_validate_json(config_map["data"]["config.json"])
        assert [s for shard in config.shards for s in shard] == symbols
        assert config.track is track
        for sts in sets:
            volumes = {v["name"]: v for v in pod_spec(sts)["volumes"]}
            assert volumes["config"]["configMap"]["name"] == config_map["metadata"]["name"]


def test_another_configuration_has_another_name_and_rolls_the_pods() -> None:
    before = of_track(Track.CANARY, build())
    spec = spec_of(symbols={"canary": SYMBOLS[:3], "full": SYMBOLS})
    after = of_track(Track.CANARY, build(spec=spec))
    assert before[0]["metadata"]["name"] != after[0]["metadata"]["name"]
    assert before[0]["immutable"] is True
    for old, new in zip(before[1:], after[1:], strict=True):
        assert old["metadata"]["name"] == new["metadata"]["name"]
        hashes = [m["metadata"]["annotations"][APPLIED_HASH] for m in (old, new)]
        assert hashes[0] != hashes[1]


STATES = {
    "no canary": RolloutState(phase=Phase.SUCCEEDED, stable=STABLE),
    "a canary pending": replace(BOTH, phase=Phase.PENDING),
    "a canary progressing": BOTH,
    "a canary promoting": replace(BOTH, phase=Phase.PROMOTING),
    "rolling back": RolloutState(phase=Phase.ROLLING_BACK, stable=STABLE, rejected=CANARY),
    "rolled back": RolloutState(phase=Phase.ROLLED_BACK, stable=STABLE, rejected=CANARY),
}
EDITS = {
    "another version": spec_of(version="v9"),
    "another signal": spec_of(signal={"label": {"horizon": "1m"}}),
    "another full set": spec_of(symbols={"canary": SYMBOLS[:1], "full": SYMBOLS[:3]}),
    "other stages": spec_of(stages=[{"name": "x", "duration": "1h"}]),
    "other conditions": spec_of(rollback={"conditions": [{"metric": "platt_ece", "above": 0.3}]}),
    "another pace": spec_of(evaluation={"interval": "1m"}),
    "another sharding": spec_of(workloads={"symbolsPerShard": 1}),
    "another commit pace": spec_of(storage={"commitInterval": "1s"}),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@pytest.mark.parametrize("spec", EDITS.values(), ids=EDITS)
def test_the_stable_workloads_stay_the_same_to_the_byte(
    state: RolloutState, spec: SignalCanarySpec
) -> None:
    def stable(manifests: list[Manifest]) -> str:
        own = [
            m
            for m in manifests
            if f"demo-{STABLE.name}-stable" in m["metadata"]["name"]
            or m["metadata"]["name"] == "demo-active"
        ]
        assert len(own) == 4
        return json.dumps(own)

    assert stable(build(state, spec)) == stable(build())


def test_promoting_runs_the_new_stable_beside_the_old() -> None:
    sets = of_kind("StatefulSet", build(STATES["a canary promoting"]))
    assert len(sets) == 6
    assert len({s["metadata"]["name"] for s in sets}) == 6


@pytest.mark.parametrize("stable", [STABLE, None])
def test_what_is_live_is_published_only_once_something_is(stable: RevisionRef | None) -> None:
    state = replace(BOTH, stable=stable)
    active = [m for m in build(state) if m["metadata"]["name"] == "demo-active"]
    assert len(active) == (stable is not None)
    if stable:
        assert active[0]["data"]["version"] == "v1"
        assert json.loads(active[0]["data"]["signal.json"]) == OLD.signal.to_wire()


def test_a_second_try_collects_its_evidence_in_a_folder_of_its_own() -> None:
    again = replace(BOTH, canary=replace(CANARY, attempt=7))
    paths = {
        json.loads(of_track(Track.CANARY, build(state))[0]["data"]["config.json"])["dataPath"]
        for state in (BOTH, again)
    }
    assert len(paths) == 2


def test_nothing_runs_after_a_first_rollout_is_rolled_back() -> None:
    left = build(RolloutState(phase=Phase.ROLLED_BACK, rejected=CANARY))
    assert {m["kind"] for m in left} == {"ConfigMap", "Service"}
    assert gate_of(left) == Gate()


def gate_of(manifests: list[Manifest]) -> Gate:
    (found,) = [m for m in manifests if m["metadata"]["name"] == "demo-signals-gate"]
    assert "immutable" not in found
    return Gate.model_validate_json(found["data"]["gate.json"])


def test_the_gate_stands_before_what_it_governs_and_changes_no_pod() -> None:
    published = spec_of(stages=[{"name": "canary", "duration": "1h", "publish": True}])
    state = replace(BOTH, stage="canary", publisher=STABLE)
    closed, opened = build(replace(state, publisher=CANARY)), build(state, published)
    assert gate_of(closed) == Gate()
    assert gate_of(opened) == Gate(
        stable=Holder(revision=STABLE.name, attempt=1),
        canary=Holder(revision=CANARY.name, attempt=2),
    )
    order = [m["kind"] for m in opened]
    assert order.index("ConfigMap") < order.index("StatefulSet")
    assert of_kind("StatefulSet", opened) == of_kind("StatefulSet", closed)


def test_an_analysis_pod_reads_the_gate_and_is_found_by_the_address_of_its_track() -> None:
    manifests = build()
    services = {m["metadata"]["name"]: m["spec"] for m in of_kind("Service", manifests)}
    for sts in of_kind("StatefulSet", manifests):
        labels = sts["spec"]["template"]["metadata"]["labels"]
        (container,) = pod_spec(sts)["containers"]
        found = [n for n, s in services.items() if s["selector"].items() <= labels.items()]
        if container["name"] == "harvest":
            assert found == []
            continue
        track = labels[LABEL_TRACK]
        assert found == ["demo-signals" if track == "stable" else "demo-signals-canary"]
        (spec,) = [services[name] for name in found]
        assert spec["clusterIP"] == "None"
        ports = {p["name"]: p["containerPort"] for p in container["ports"]}
        assert [ports[p["targetPort"]] for p in spec["ports"]] == [p["port"] for p in spec["ports"]]
        (gate,) = [a.removeprefix("--gate=") for a in container["args"] if "--gate" in a]
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "gate"]
        (volume,) = [v for v in pod_spec(sts)["volumes"] if v["name"] == "gate"]
        assert gate == f"{mount['mountPath']}/gate.json"
        assert "subPath" not in mount
        assert volume["configMap"] == {"name": "demo-signals-gate", "optional": True}


def test_pods_share_a_node_where_only_one_can_mount_the_volume() -> None:
    once = of_kind("StatefulSet", build())
    many = of_kind("StatefulSet", build(spec=spec_of(storage={"accessMode": "ReadWriteMany"})))
    for sts in once:
        (term,) = pod_spec(sts)["affinity"]["podAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        labels = sts["spec"]["template"]["metadata"]["labels"]
        # The first pod of all can be placed only because it matches its own rule.
        assert term["labelSelector"]["matchLabels"].items() <= labels.items()
    assert all("affinity" not in pod_spec(sts) for sts in many)


def test_a_claim_that_exists_is_used_and_none_is_made() -> None:
    manifests = build(spec=spec_of(storage={"claimName": "lake"}))
    assert of_kind("PersistentVolumeClaim", manifests) == []
    for sts in of_kind("StatefulSet", manifests):
        volumes = {v["name"]: v for v in pod_spec(sts)["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "lake"}


def test_data_in_a_bucket_needs_no_claim_and_takes_its_keys_from_the_secret() -> None:
    bucket = {"url": "s3://lake/canaries/", "secretName": "lake-keys", "endpoint": "http://s3:9000"}
    storage = {"bucket": bucket, "retention": "720h", "compactionInterval": "30m"}
    manifests = build(spec=spec_of(storage=storage))
    assert of_kind("PersistentVolumeClaim", manifests) == []
    for sts in of_kind("StatefulSet", manifests):
        assert "affinity" not in pod_spec(sts)
        assert "data" not in {volume["name"] for volume in pod_spec(sts)["volumes"]}
        (container,) = pod_spec(sts)["containers"]
        assert "data" not in {mount["name"] for mount in container["volumeMounts"]}
        env = {item["name"]: item for item in container["env"]}
        assert env["AWS_ENDPOINT_URL"]["value"] == "http://s3:9000"
        keys = {
            name: item["valueFrom"]["secretKeyRef"]
            for name, item in env.items()
            if "secretKeyRef" in item.get("valueFrom", {})
        }
        assert {name: key["optional"] for name, key in keys.items()} == {
            "AWS_ACCESS_KEY_ID": False,
            "AWS_SECRET_ACCESS_KEY": False,
            "AWS_SESSION_TOKEN": True,
            "AWS_REGION": True,
        }
        assert {(key["name"], key["key"]) for key in keys.values()} == {
            ("lake-keys", name) for name in keys
        }
    configs = [
        json.loads(item["data"]["config.json"])
        for item in of_kind("ConfigMap", manifests)
        if "config.json" in item["data"]
    ]
    assert configs
    for config in configs:
        assert config["dataPath"].startswith("s3://lake/canaries/")
        assert "//" not in config["dataPath"].removeprefix("s3://")
        assert (config["retention"], config["compactionInterval"]) == ("720h", "30m")
        assert "lake-keys" not in json.dumps(config)


def test_a_claim_that_is_to_be_retained_has_no_owner() -> None:
    (kept,) = of_kind(
        "PersistentVolumeClaim", build(spec=spec_of(storage={"reclaimPolicy": "Retain"}))
    )
    (owned,) = of_kind("PersistentVolumeClaim", build())
    assert "ownerReferences" not in kept["metadata"]
    assert owned["metadata"]["ownerReferences"]
    assert kept["metadata"]["labels"] == owned["metadata"]["labels"]


@pytest.mark.parametrize("field", ["claimName", "storageClassName"])
def test_a_bucket_and_a_claim_exclude_each_other(field: str) -> None:
    with pytest.raises(ValueError, match=f"take {field} out"):
        spec_of(storage={"bucket": {"url": "s3://lake"}, field: "x"})


def test_every_object_carries_a_hash_of_what_was_declared() -> None:
    first, again = build(), build()
    assert first == again
    assert all(m["metadata"]["annotations"][APPLIED_HASH] for m in first)
    other = build(settings=WorkloadSettings(priority_class_name="high"))
    for old, new in zip(first, other, strict=True):
        changed = (
            old["metadata"]["annotations"][APPLIED_HASH]
            != new["metadata"]["annotations"][APPLIED_HASH]
        )
        assert changed is (old["kind"] == "StatefulSet")


def test_the_administrators_settings_are_those_of_every_pod() -> None:
    pods = {
        "imagePullSecrets": [{"name": "pull"}],
        "priorityClassName": "high",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "trading", "operator": "Exists"}],
    }
    resources = {"requests": {"cpu": 1}, "limits": {"memory": "2Gi"}}
    settings = WorkloadSettings.model_validate({**pods, "resources": resources})
    specs = [
        manifest["spec"]["template"]["spec"]
        for manifest in build(settings=settings)
        if manifest["kind"] == "StatefulSet"
    ]
    assert len(specs) == 4
    for spec in specs:
        assert {name: spec[name] for name in pods} == pods
        assert spec["containers"][0]["resources"] == resources
    plain = [m["spec"]["template"]["spec"] for m in build() if m["kind"] == "StatefulSet"]
    assert not any(pods.keys() & spec.keys() for spec in plain)


def test_the_canary_is_scored_against_the_stable_configuration() -> None:
    control = config_of("canary").control
    assert control is not None
    assert (control.revision, control.signal) == (STABLE.name, OLD.signal)
    assert config_of("stable").control is None


def test_a_first_rollout_has_nothing_to_be_compared_with() -> None:
    first = RolloutState(phase=Phase.PROGRESSING, canary=CANARY)
    assert config_of("canary", first).control is None


def test_what_the_canary_is_compared_with_changes_no_name_and_no_fingerprint() -> None:
    other = build_revision(spec_of(version="v0", signal={"label": {"horizon": "1m"}}), "img:1")
    ref = refer_to(other, 1)
    one, two = (
        config_of("canary", replace(BOTH, stable=stable), **{ref.name: other})
        for stable in (STABLE, ref)
    )
    assert one.control != two.control
    assert one.model_copy(update={"control": None}) == two.model_copy(update={"control": None})


def test_a_canarys_file_is_the_same_for_as_long_as_it_is_judged() -> None:
    """Another file would restart its pods."""
    phases = (Phase.PENDING, Phase.WARMING, Phase.PROGRESSING, Phase.PROMOTING)
    files = [
        {
            m["metadata"]["name"]
            for m in of_kind("ConfigMap", build(replace(BOTH, phase=phase)))
            if m["metadata"]["labels"].get(LABEL_TRACK) == "canary"
        }
        for phase in phases
    ]
    assert all(len(names) == 1 for names in files)
    assert len(set.union(*files)) == 1


ARTIFACTS = {
    "path": "models/v2",
    "files": [{"path": "a.json", "size": 2, "sha256": "0" * 64, "format": "json"}],
}


def with_artifacts() -> tuple[Revision, RevisionRef]:
    revision = build_revision(spec_of(signal={"artifacts": ARTIFACTS}), "img:2")
    return revision, refer_to(revision, 7)


def test_before_its_artifacts_are_verified_a_canary_has_one_pod_that_looks_at_them() -> None:
    revision, ref = with_artifacts()
    state = RolloutState(phase=Phase.VERIFYING, canary=ref, stable=STABLE)
    manifests = build_resources(OWNER, SPEC, state, REVISIONS | {ref.name: revision}, SETTINGS)
    (sts,) = [m for m in of_track(Track.CANARY, manifests) if m["kind"] == "StatefulSet"]
    assert sts["metadata"]["name"] == f"demo-{ref.name}-canary-verify"
    assert sts["spec"]["replicas"] == 1
    pod = pod_spec(sts)
    (container,) = pod["containers"]
    assert container["args"] == [
        "verify",
        "--config=/etc/signalcanary/config.json",
        "--result=/dev/termination-log",
    ]
    mounts = {m["name"]: m.get("readOnly", False) for m in container["volumeMounts"]}
    assert mounts == {"config": True, "data": True, "tmp": False}
    assert not {"ports", "readinessProbe", "livenessProbe"} & container.keys()
    annotations = sts["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "false", "it serves nothing"
    config = config_of("canary", state, **{ref.name: revision})
    assert (config.artifacts_root, config.attempt) == ("/data", 7)


def test_artifacts_are_read_from_the_bucket_that_data_goes_to() -> None:
    revision, ref = with_artifacts()
    state = RolloutState(phase=Phase.VERIFYING, canary=ref)
    spec = spec_of(storage={"bucket": {"url": "s3://data/prefix/", "secretName": "keys"}})
    manifests = build_resources(OWNER, spec, state, {ref.name: revision}, SETTINGS)
    (config_map,) = [m for m in of_track(Track.CANARY, manifests) if m["kind"] == "ConfigMap"]
    assert json.loads(config_map["data"]["config.json"])["artifactsRoot"] == "s3://data/prefix"
    (sts,) = of_kind("StatefulSet", manifests)
    (container,) = pod_spec(sts)["containers"]
    assert "AWS_ACCESS_KEY_ID" in {variable["name"] for variable in container["env"]}


def in_image(secret: str | None) -> tuple[Revision, RevisionRef]:
    image = {"url": f"oci://ghcr.io/team/models@sha256:{'0' * 64}"}
    image |= {"secretName": secret} if secret else {}
    artifacts = {"image": image, "files": ARTIFACTS["files"]}
    revision = build_revision(spec_of(signal={"artifacts": artifacts}), "img:2")
    return revision, refer_to(revision, 7)


def logins(sts: Any) -> dict[str, Any]:
    """What a pod has of Secrets: where they are mounted, by name."""
    pod = pod_spec(sts)
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    return {
        volume["secret"]["secretName"]: mounts[volume["name"]]
        for volume in pod["volumes"]
        if volume.get("secret", {}).get("optional")
    }


def test_only_pods_that_read_an_image_are_given_its_login() -> None:
    revision, ref = in_image("ghcr")
    revisions = REVISIONS | {ref.name: revision}
    state = RolloutState(phase=Phase.VERIFYING, canary=ref, stable=STABLE)
    manifests = build_resources(OWNER, SPEC, state, revisions, SETTINGS)
    (sts,) = [m for m in of_track(Track.CANARY, manifests) if m["kind"] == "StatefulSet"]
    mount = {"name": "login-0", "mountPath": "/etc/signalcanary-logins/ghcr", "readOnly": True}
    assert logins(sts) == {"ghcr": mount}
    (container,) = pod_spec(sts)["containers"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert config_of("canary", state, **{ref.name: revision}).logins == "/etc/signalcanary-logins"
    running = build_resources(OWNER, SPEC, replace(BOTH, canary=ref), revisions, SETTINGS)
    of_pods = {
        (m["metadata"]["labels"][LABEL_TRACK], m["metadata"]["labels"][LABEL_COMPONENT]): logins(m)
        for m in of_kind("StatefulSet", running)
    }
    assert of_pods == {
        ("canary", "harvest"): {},
        ("canary", "analysis"): {"ghcr": mount},
        ("stable", "harvest"): {},
        ("stable", "analysis"): {},
    }


def test_a_canary_logs_in_for_the_stable_configuration_as_well() -> None:
    (canary, canary_ref), (stable, stable_ref) = in_image("new"), in_image("old")
    revisions = REVISIONS | {canary_ref.name: canary, stable_ref.name: stable}
    state = replace(BOTH, canary=canary_ref, stable=stable_ref)
    for phase, component, names in (
        (Phase.VERIFYING, "verify", {"new"}),
        (BOTH.phase, "analysis", {"new", "old"}),
    ):
        found = build_resources(OWNER, SPEC, replace(state, phase=phase), revisions, SETTINGS)
        (sts,) = [
            m
            for m in of_track(Track.CANARY, found)
            if m["metadata"]["labels"].get(LABEL_COMPONENT) == component
        ]
        assert set(logins(sts)) == names


def test_an_image_that_anybody_may_pull_needs_no_login() -> None:
    revision, ref = in_image(None)
    state = RolloutState(phase=Phase.VERIFYING, canary=ref)
    manifests = build_resources(OWNER, SPEC, state, {ref.name: revision}, SETTINGS)
    assert all(logins(sts) == {} for sts in of_kind("StatefulSet", manifests))
    assert config_of("canary", state, **{ref.name: revision}).logins is None


def test_a_signal_without_artifacts_is_told_nothing_of_them() -> None:
    """Another file would restart the pods of every rollout there is."""
    assert "artifacts" not in json.dumps(config_of("canary").to_wire())


def test_a_canary_scores_a_stable_configuration_with_its_artifacts() -> None:
    revision, ref = with_artifacts()
    state = replace(BOTH, stable=ref)
    assert config_of("canary", state, **{ref.name: revision}).artifacts_root == "/data"


KEPT = replace(
    BOTH,
    phase=Phase.SUCCEEDED,
    canary=None,
    stable=CANARY,
    kept={SYMBOLS[1]: STABLE, SYMBOLS[9]: None},
)


def test_an_earlier_revision_goes_on_with_the_symbols_that_it_was_left_with() -> None:
    manifests = build(KEPT)
    files = [
        json.loads(m["data"]["config.json"])
        for m in of_kind("ConfigMap", manifests)
        if "config.json" in m["data"]
    ]
    runs = {f["revision"]: [s for shard in f["shards"] for s in shard] for f in files}
    left = [s for s in SYMBOLS if s not in KEPT.kept]
    assert runs == {CANARY.name: left, STABLE.name: [SYMBOLS[1]]}
    (active,) = (m["data"] for m in manifests if m["metadata"]["name"] == "demo-active")
    assert active["symbols"] == ",".join(left)
    (kept,) = json.loads(active["kept.json"])
    assert kept == {
        "version": "v1",
        "revision": STABLE.name,
        "fingerprint": STABLE.fingerprint,
        "symbols": [SYMBOLS[1]],
        "signal": OLD.signal.to_wire(),
    }


def test_what_is_kept_keeps_its_data_and_its_shape_but_for_the_symbols() -> None:
    """Its pods go on from their own snapshots and parts."""

    def file_of(state: RolloutState) -> dict[str, Any]:
        return next(
            f
            for m in of_kind("ConfigMap", build(state))
            if (f := json.loads(m["data"].get("config.json", "{}"))).get("revision") == STABLE.name
        )

    before, after = file_of(BOTH), file_of(KEPT)
    assert before.pop("shards") != after.pop("shards")
    assert before == after


def test_without_symbols_held_back_every_file_is_as_it_was() -> None:
    assert (
        "kept.json"
        not in next(m for m in build() if m["metadata"]["name"] == "demo-active")["data"]
    )
    gate = next(m for m in build() if m["metadata"]["name"] == "demo-signals-gate")
    assert "without" not in gate["data"]["gate.json"]
