"""The chart: what it renders a real API server accepts, and what it refuses it explains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from api_server import ADMIN, REPO, SYSTEM, ApiServer, path_of

from signalcanary.notify.config import parse_config
from signalcanary.operator import Options, parse_options
from signalcanary.report_files import FilesSettings
from signalcanary.resources import WorkloadSettings
from signalcanary.sources import read_sources

URL = "--set=prometheus.url=http://prometheus.monitoring.svc:9090"
DIGEST = "sha256:" + "0" * 64

MATRIX = {
    "as it is": [],
    "replicas": ["--set=replicas=3"],
    "one namespace": ["--set=watchNamespace=default"],
    "an account of one's own": ["--set=serviceAccount.create=false,serviceAccount.name=mine"],
    "metrics sources": [
        "--set=metricsSources.mimir.url=https://mimir/prometheus,metricsSources.mimir.tenant=a",
        "--set=metricsSources.mimir.secretName=mimir,metricsSources.mimir.tls.caFile=ca.crt",
        "--set=metricsSources.mimir.serviceAccountToken.audience=mimir",
        "--set=metricsSources.mimir.bearerTokenFile=token",
    ],
    "without annotations": ["--set=podAnnotations=null"],
    "by digest": [f"--set=image.digest={DIGEST},workloads.image.digest={DIGEST}"],
    "placed": [
        "--set=nodeSelector.disk=ssd,priorityClassName=high,imagePullSecrets[0].name=pull",
        "--set=tolerations[0].operator=Exists,resources.limits.cpu=1",
        "--set-string=podAnnotations.team=quants",
    ],
    "notifications": [
        '--set-json=notifications.receivers={"a":{"slack":{"urlFile":"url"},"secretName":"s"}}',
        '--set-json=notifications.routes=[{"receivers":["a"],"digest":"5m"}]',
        "--set=networkPolicy.enabled=true,watchNamespace=default",
    ],
    "reports on a volume": [
        "--set=reports.volume.enabled=true,reports.volume.accessMode=ReadWriteMany"
    ],
    "reports on a claim that exists": [
        "--set=reports.volume.enabled=true,reports.volume.claimName=audit"
    ],
    "reports in a bucket": [
        "--set=reports.bucket.url=s3://audit/a,reports.bucket.secretName=keys,replicas=2",
        "--set=reports.bucket.endpoint=https://minio:9000,reports.bucket.region=eu-central-1",
        "--set=networkPolicy.enabled=true",
    ],
    "a network policy": [
        "--set=networkPolicy.enabled=true,replicas=2,podAntiAffinity=Required",
        "--set=networkPolicy.ingressFrom[0].namespaceSelector.matchLabels.team=sre",
        "--set=networkPolicy.extraEgress[0].ports[0].port=8443",
        "--set=metricsSources.mimir.url=https://mimir/prometheus",
        "--set=metricsSources.thanos.url=http://thanos:10902/a:1/b",
        "--set=metricsSources.far.url=https://far,metricsSources.far.proxyUrl=http://proxy:3128",
    ],
    "with extras": [
        "--set=extraEnv[0].name=TZ,extraEnv[0].value=UTC,podLabels.team=quants",
        "--set=extraVolumes[0].name=ca,extraVolumes[0].configMap.name=ca",
        "--set=extraVolumeMounts[0].name=ca,extraVolumeMounts[0].mountPath=/etc/ca",
        "--set=affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        ".nodeSelectorTerms[0].matchExpressions[0].key=disk",
        "--set=affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        ".nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
    ],
    "everything at once": [],
}
MATRIX["everything at once"] = [
    option
    for name, options in MATRIX.items()
    if name
    not in (
        "one namespace",
        "without annotations",
        "reports on a claim that exists",  # by one replica only
        "reports in a bucket",
    )
    for option in options
]


def render(api: ApiServer, *options: str) -> dict[str, dict[str, Any]]:
    """By kind and name."""
    items = api.template(URL, *options)
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in items}


@pytest.mark.parametrize("options", MATRIX.values(), ids=MATRIX)
def test_what_it_renders_is_accepted(api: ApiServer, options: list[str]) -> None:
    for item in render(api, *options).values():
        path = path_of(item) + "?fieldManager=helm&force=true&dryRun=All&fieldValidation=Strict"
        api.must("PATCH", path, item, kind="apply-patch+yaml")


def test_it_passes_helms_own_check(api: ApiServer) -> None:
    done = api.run_helm("lint", "--strict", URL)
    assert done.returncode == 0, done.stdout + done.stderr


def test_replicas_are_spread_and_disrupted_one_by_one(api: ApiServer) -> None:
    one, three = render(api), render(api, "--set=replicas=3")
    budget = "PodDisruptionBudget/signalcanary"
    assert budget not in one
    pods = three["Deployment/signalcanary"]["spec"]["template"]
    selector = three[budget]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= pods["metadata"]["labels"].items()
    (spread,) = pods["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == selector
    anti = pods["spec"]["affinity"]["podAntiAffinity"]
    (term,) = anti["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["labelSelector"]["matchLabels"] == selector
    alone = one["Deployment/signalcanary"]["spec"]["template"]["spec"]
    assert not {"topologySpreadConstraints", "affinity"} & alone.keys()


def test_replicas_may_be_kept_apart_by_all_means_or_not_at_all(api: ApiServer) -> None:
    def affinity(*options: str) -> Any:
        deployment = render(api, "--set=replicas=2", *options)["Deployment/signalcanary"]
        return deployment["spec"]["template"]["spec"].get("affinity", {})

    strict = affinity("--set=podAntiAffinity=Required")["podAntiAffinity"]
    assert "requiredDuringSchedulingIgnoredDuringExecution" in strict
    assert affinity("--set=podAntiAffinity=None") == {}
    own = "--set=affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    (term,) = affinity(f"{own}[0].topologyKey=rack")["podAntiAffinity"].popitem()[1]
    assert term == {"topologyKey": "rack"}
    mixed = affinity(*MATRIX["with extras"])
    assert mixed.keys() == {"nodeAffinity", "podAntiAffinity"}


def test_the_network_policy_lets_through_what_the_operator_needs(api: ApiServer) -> None:
    items = render(api, *MATRIX["a network policy"])
    policy = items["NetworkPolicy/signalcanary"]["spec"]
    pod = items["Deployment/signalcanary"]["spec"]["template"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    # DNS, the API server, prometheus, mimir (443), thanos, the proxy of far, and what was added.
    assert ports == {53, 443, 6443, 9090, 10902, 3128, 8443}
    (rule,) = policy["ingress"]
    test = items["Pod/signalcanary-test"]["metadata"]["labels"]
    assert any(
        peer["podSelector"]["matchLabels"].items() <= test.items()
        for peer in rule["from"]
        if "podSelector" in peer
    )
    assert not any(kind.startswith("NetworkPolicy") for kind in render(api))


def test_the_operator_reads_what_the_chart_says_of_the_workloads_pods(api: ApiServer) -> None:
    def settings(*options: str) -> WorkloadSettings:
        deployment = render(api, *options)["Deployment/signalcanary"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (text,) = [
            variable["value"]
            for variable in container["env"]
            if variable["name"] == "SIGNALCANARY_WORKLOAD_PODS"
        ]
        return WorkloadSettings.model_validate_json(text)

    assert settings() == WorkloadSettings()
    own = settings(
        "--set=workloads.imagePullSecrets[0].name=pull,workloads.nodeSelector.disk=ssd",
        "--set=workloads.tolerations[0].operator=Exists,workloads.resources.limits.cpu=2",
    )
    assert own.of_pod() == {
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
    }
    assert own.resources.limits == {"memory": "1Gi", "cpu": 2}


def test_every_pod_is_restricted(api: ApiServer) -> None:
    """As the API server's own admission sees it (Pod Security Standards)."""
    name = "restricted"
    labels = {"pod-security.kubernetes.io/enforce": name}
    metadata = {"name": name, "labels": labels}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    items = render(api, *MATRIX["everything at once"])
    template = items["Deployment/signalcanary"]["spec"]["template"]
    pods = [items["Pod/signalcanary-test"], {"apiVersion": "v1", "kind": "Pod", **template}]
    create = f"/api/v1/namespaces/{name}/pods?dryRun=All"
    for pod in pods:
        # No controller runs that would admit the priority class.
        spec = {key: value for key, value in pod["spec"].items() if key != "priorityClassName"}
        api.must("POST", create, pod | {"metadata": {"name": "a", "namespace": name}, "spec": spec})
    pods[1]["spec"]["containers"][0]["securityContext"]["capabilities"] = {}
    body = pods[1] | {"metadata": {"name": "a"}}
    body["spec"].pop("priorityClassName", None)
    status, answer = api.request("POST", create, body)
    assert (status, "restricted" in answer["message"]) == (403, True)


class _Ready(BaseHTTPRequestHandler):
    """Answers as an operator that is ready."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ready_operator() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Ready) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run_helm_test(api: ApiServer, folder: Path, operator: str) -> subprocess.CompletedProcess[str]:
    """What the pod of `helm test` runs, with the rights of its role."""
    items = render(api)
    (container,) = items["Pod/signalcanary-test"]["spec"]["containers"]
    (folder / "token").write_text(api.token[ADMIN])
    (folder / "ca.crt").write_text((api.folder / "certificates/apiserver.crt").read_text())
    own = {"OPERATOR": operator, "API_SERVER": api.url, "NAMESPACE": "default"}
    assert own.keys() == {variable["name"] for variable in container["env"]}
    return subprocess.run(
        [sys.executable, *container["command"][1:], *container["args"]],
        env={**os.environ, **own, "ACCOUNT": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_helms_test_finds_an_operator_that_is_ready(
    api: ApiServer, tmp_path: Path, ready_operator: str
) -> None:
    done = run_helm_test(api, tmp_path, ready_operator)
    assert (done.returncode, done.stdout.count("ok: ")) == (0, 3), done.stdout + done.stderr


def test_helms_test_tells_what_is_amiss(api: ApiServer, tmp_path: Path) -> None:
    done = run_helm_test(api, tmp_path, "http://127.0.0.1:9")
    assert done.returncode == 1, done.stderr
    assert "FAILED: the operator is ready" in done.stdout
    assert "Connection refused" in done.stdout


SCHEMA = json.loads((REPO / "charts/signalcanary/values.schema.json").read_text())
VALUES = yaml.safe_load((REPO / "charts/signalcanary/values.yaml").read_text())


def schemas(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        if child is not False:
            yield from schemas(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            yield from schemas(node[name], f"{path}[{name}]")


def test_every_value_is_typed_and_described_and_no_other_is_taken() -> None:
    for path, node in schemas(SCHEMA, "values"):
        assert "type" in node, path
        is_plain = path.endswith("[additionalProperties]") and node["type"] != "object"
        assert is_plain or node.get("description", "").endswith("."), path
        if node["type"] == "object":
            assert "additionalProperties" in node, path
        if node["type"] == "array":
            assert "items" in node, path


def test_every_value_has_a_default_that_is_written_down() -> None:
    def compare(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        assert values.keys() == schema["properties"].keys() - {"global"}, path
        for name, value in values.items():
            child = schema["properties"][name]
            if value and "properties" in child and path != "values.resources":
                compare(child, value, f"{path}.{name}")

    compare(SCHEMA, VALUES, "values")


def test_the_operator_reads_the_sources_that_the_chart_writes(
    api: ApiServer, tmp_path: Path
) -> None:
    items = render(api, *MATRIX["metrics sources"])
    text = items["ConfigMap/signalcanary-metrics-sources"]["data"]["sources.yaml"]
    (tmp_path / "token").write_text("t")
    folder = "/etc/signalcanary/credentials/mimir"
    file = tmp_path / "sources.yaml"
    file.write_text(text.replace(folder, str(tmp_path)).replace("caFile: ca.crt", "{}"))
    mimir = read_sources(file)["mimir"]
    assert (mimir.url, mimir.tenant) == ("https://mimir/prometheus", "a")
    assert mimir.file(mimir.bearer_token_file) == tmp_path / "token"
    pod = items["Deployment/signalcanary"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert mounts["source-mimir"] == folder
    (environment,) = [v for v in container["env"] if v["name"] == "SIGNALCANARY_METRICS_SOURCES"]
    assert environment["value"] == mounts["sources"] + "/sources.yaml"


def test_every_release_has_a_lease_of_its_own(api: ApiServer) -> None:
    for release in ("signalcanary", "second"):
        items = api.template(URL, release=release)
        (deployment,) = [item for item in items if item["kind"] == "Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (lease,) = [
            variable["value"]
            for variable in container["env"]
            if variable["name"] == "SIGNALCANARY_LEASE_NAME"
        ]
        (role,) = [
            item
            for item in items
            if item["kind"] == "Role" and item["metadata"]["name"].endswith("-election")
        ]
        assert role["metadata"]["namespace"] == SYSTEM
        assert [lease] in [rule.get("resourceNames") for rule in role["rules"]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set=replicas=1"], "prometheus.url: set it to the base URL"),
        (["--set=prometheus.url=prometheus:9090"], "url"),
        ([URL, "--set=metricsSources.default.url=http://h"], "metricsSources.default"),
        ([URL, "--set=metricsSources.a.url=http://u:p@h"], "url"),
        ([URL, "--set=metricsSources.a.url=http://h,metricsSources.a.bearerToken=b"], "bearerTok"),
        ([URL, "--set=metricsSources.a.tenant=b"], "missing property 'url'"),
        ([URL, "--set=statusInterval=soon"], "statusInterval"),
        ([URL, "--set=replicas=two"], "replicas"),
        ([URL, "--set=image.digest=latest"], "digest"),
        ([URL, "--set=image.pullPolicy=Sometimes"], "pullPolicy"),
        ([URL, "--set=watchNamespaces=a"], "watchNamespaces"),
        ([URL, "--set=watchNamespace=Two Words"], "watchNamespace"),
        ([URL, "--set=podAntiAffinity=Maybe"], "podAntiAffinity"),
        ([URL, "--set=tolerations[0].effect=Never"], "tolerations"),
        ([URL, "--set=resources.limit.cpu=1"], "limit"),
        ([URL, "--set=resources.limits.cpu=much"], "cpu"),
        ([URL, "--set=affinity.pods.a=b"], "pods"),
        ([URL, "--set=extraEnv[0].name=SIGNALCANARY_LISTEN"], "extraEnv"),
        ([URL, "--set=imagePullSecrets[0]=pull"], "imagePullSecrets"),
        ([URL, "--set=networkPolicy.apiServerPorts[0]=https"], "apiServerPorts"),
        ([URL, "--set=reports.bucket.url=https://bucket"], "url"),
        ([URL, "--set=reports.bucket.endpoint=minio:9000"], "endpoint"),
        ([URL, "--set=reports.volume.size=much"], "size"),
        ([URL, "--set=reports.volume.enabled=true,replicas=2"], "set ReadWriteMany"),
        ([URL, "--set=reports.volume.enabled=true,reports.bucket.url=s3://abc"], "keep one of"),
    ],
    ids=lambda value: value[-1].removeprefix("--set=") if isinstance(value, list) else "",
)
def test_wrong_values_are_refused_by_name(api: ApiServer, options: list[str], words: str) -> None:
    done = api.run_helm("template", "signalcanary", *options)
    assert done.returncode != 0
    assert words in done.stderr


def test_receivers_of_notifications_come_with_their_secrets_and_ports(api: ApiServer) -> None:
    email = {"host": "smtp", "from": "a@b.c", "to": ["d@e.f"], "security": "tls"}
    receivers = {
        "chat": {"slack": {"urlFile": "url"}, "secretName": "slack"},
        "mail": {"email": email},
        "hook": {"webhook": {"url": "http://hook:8088/in"}},
    }
    told = {
        "receivers": receivers,
        "routes": [{"receivers": list(receivers)}],
        "silences": [{"from": "2026-05-01T08:00:00Z", "to": "2026-05-01T09:00:00Z"}],
    }
    options = [f"--set-json=notifications={json.dumps(told)}", "--set=networkPolicy.enabled=true"]
    items = render(api, *options)
    text = items["ConfigMap/signalcanary-notifications"]["data"]["notifications.yaml"]
    config = parse_config(text)
    assert list(config.receivers) == ["chat", "hook", "mail"]
    assert config.silences
    pod = items["Deployment/signalcanary"]["spec"]["template"]["spec"]
    mounts = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    assert str(config.receivers["chat"].folder) == mounts["receiver-chat"]
    assert "receiver-mail" not in mounts
    (variable,) = [
        v for v in pod["containers"][0]["env"] if v["name"] == "SIGNALCANARY_NOTIFICATIONS"
    ]
    assert variable["value"] == mounts["notifications"] + "/notifications.yaml"
    egress = items["NetworkPolicy/signalcanary"]["spec"]["egress"]
    ports = {port["port"] for rule in egress for port in rule["ports"]}
    assert {465, 8088, 443} <= ports


def reports_of(api: ApiServer, *options: str) -> tuple[dict[str, Any], Options]:
    """What is rendered, and what the operator makes of its environment."""
    items = render(api, *options)
    (container,) = items["Deployment/signalcanary"]["spec"]["template"]["spec"]["containers"]
    names = {v["name"]: v["value"] for v in container["env"] if "_REPORTS" in v["name"]}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SIGNALCANARY_REPORTS")]:
            patch.delenv(name)
        for name, value in names.items():
            patch.setenv(name, value)
        return items, parse_options(["--prometheus-url=http://p", "--workloads-image=w"])


def test_reports_are_written_where_the_volume_is_mounted(api: ApiServer) -> None:
    items, options = reports_of(api, "--set=reports.volume.enabled=true,reports.volume.size=2Gi")
    deployment = items["Deployment/signalcanary"]["spec"]
    pod = deployment["template"]["spec"]
    mounts = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    assert options.reports == FilesSettings(mounts["reports"])
    (volume,) = [v for v in pod["volumes"] if v["name"] == "reports"]
    claim = items[f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert "storageClassName" not in claim["spec"]
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    # Two pods at once would wait for each other's volume.
    assert deployment["strategy"] == {"type": "Recreate"}
    items, _ = reports_of(api, *MATRIX["reports on a claim that exists"])
    assert not any(name.startswith("PersistentVolumeClaim") for name in items)
    items, _ = reports_of(api, *MATRIX["reports on a volume"], "--set=replicas=2")
    assert "strategy" not in items["Deployment/signalcanary"]["spec"]


def test_reports_go_to_the_bucket_with_keys_that_may_be_missing(api: ApiServer) -> None:
    items, options = reports_of(api, *MATRIX["reports in a bucket"])
    pod = items["Deployment/signalcanary"]["spec"]["template"]["spec"]
    mounts = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    assert options.reports == FilesSettings(
        "s3://audit/a",
        "https://minio:9000",
        "eu-central-1",
        Path(mounts["reports-credentials"]),
    )
    (volume,) = [v for v in pod["volumes"] if v["name"] == "reports-credentials"]
    assert volume["secret"] == {"secretName": "keys", "defaultMode": 0o440, "optional": True}
    egress = items["NetworkPolicy/signalcanary"]["spec"]["egress"]
    assert 9000 in {port["port"] for rule in egress for port in rule["ports"]}
    amazons = "--set=reports.bucket.url=s3://audit,prometheus.url=http://p:9090"
    items, options = reports_of(api, amazons, "--set=networkPolicy.enabled=true")
    assert options.reports == FilesSettings("s3://audit")
    egress = items["NetworkPolicy/signalcanary"]["spec"]["egress"]
    assert {port["port"] for rule in egress[2:] for port in rule["ports"]} == {9090, 443}


def test_without_reports_nothing_of_them_is_rendered(api: ApiServer) -> None:
    items, options = reports_of(api)
    assert options.reports is None
    assert "reports" not in json.dumps(items["Deployment/signalcanary"])


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"cluster": "x"}, "missing properties"),
        ({"receivers": {"A b": {}}, "routes": []}, "does not match pattern"),
        ({"receivers": {"a": {"folder": "/etc"}}, "routes": []}, "folder"),
    ],
)
def test_notifications_that_cannot_be_mounted_are_refused(
    api: ApiServer, told: dict[str, Any], words: str
) -> None:
    done = api.run_helm("template", "x", URL, f"--set-json=notifications={json.dumps(told)}")
    assert done.returncode != 0
    assert words in done.stderr
