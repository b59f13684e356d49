"""The chart: what it renders a real API server accepts, and what it refuses it explains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from api_server import SYSTEM, ApiServer, path_of

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
        "--set=metricsSources.mimir.bearerTokenFile=token,podAnnotations=null",
    ],
    "by digest": [f"--set=image.digest={DIGEST},workloads.image.digest={DIGEST}"],
    "placed": [
        "--set=nodeSelector.disk=ssd,priorityClassName=high,imagePullSecrets[0].name=pull",
        "--set=tolerations[0].operator=Exists,resources.limits.cpu=1",
        "--set-string=podAnnotations.team=quants",
    ],
}


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
    assert "topologySpreadConstraints" not in one["Deployment/signalcanary"]["spec"]["template"]


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
    ],
    ids=lambda value: value[-1].removeprefix("--set=") if isinstance(value, list) else "",
)
def test_wrong_values_are_refused_by_name(api: ApiServer, options: list[str], words: str) -> None:
    done = api.run_helm("template", "signalcanary", *options)
    assert done.returncode != 0
    assert words in done.stderr
