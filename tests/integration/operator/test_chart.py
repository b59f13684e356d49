"""The chart: what it renders a real API server accepts, and what it refuses it explains."""

from __future__ import annotations

from typing import Any

import pytest
from api_server import SYSTEM, ApiServer, path_of

URL = "--set=prometheus.url=http://prometheus.monitoring.svc:9090"
DIGEST = "sha256:" + "0" * 64

MATRIX = {
    "as it is": [],
    "replicas": ["--set=replicas=3"],
    "one namespace": ["--set=watchNamespace=default"],
    "an account of one's own": ["--set=serviceAccount.create=false,serviceAccount.name=mine"],
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
