"""The kustomize base: what the chart renders, taken by a real API server."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
import yaml
from api_server import REPO, SYSTEM, ApiServer, find_tool, path_of

FOLDER = REPO / "charts/kustomize"
PROMETHEUS = "http://prometheus.monitoring.svc:9090"
OF_HELM = ("helm.sh/chart:", "app.kubernetes.io/managed-by: Helm", "# Source: ")
"""Lines that would be wrong: nothing here is Helm's."""


def base_of_chart(api: ApiServer) -> str:
    done = api.run_helm(
        "template",
        "signalcanary",
        f"--namespace={SYSTEM}",
        "--skip-tests",
        f"--set=prometheus.url={PROMETHEUS}",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines(keepends=True)
    return "".join(line for line in lines if not line.strip().startswith(OF_HELM))


def build(name: str) -> list[dict[str, Any]]:
    kubectl = [find_tool("kubernetes"), "kustomize", str(FOLDER / name)]
    done = subprocess.run(
        ["kubectl", *kubectl[1:]],
        executable=kubectl[0],  # it is kubectl by the name that it is called by
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def test_the_base_is_in_step_with_the_chart(api: ApiServer) -> None:
    file = FOLDER / "base/operator.yaml"
    text = "# Generated from the chart by make kustomize.\n" + base_of_chart(api)
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        file.write_text(text)
    assert file.read_text() == text, "run make kustomize"


@pytest.mark.parametrize("name", ["base", "example"])
def test_what_kustomize_builds_is_accepted(api: ApiServer, name: str) -> None:
    items = build(name)
    assert {item["kind"] for item in items} >= {"Namespace", "CustomResourceDefinition"}
    for item in items:
        path = path_of(item) + "?fieldManager=kustomize&force=true&dryRun=All"
        api.must("PATCH", path + "&fieldValidation=Strict", item, kind="apply-patch+yaml")


def test_the_example_changes_what_it_says(api: ApiServer) -> None:
    (deployment,) = [item for item in build("example") if item["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert deployment["spec"]["replicas"] == 2
    assert container["image"] == "registry.example/signalcanary/operator:0.1.0"
    assert environment["SIGNALCANARY_WORKLOADS_IMAGE"].startswith("registry.example/")
    assert environment["SIGNALCANARY_PROMETHEUS_URL"] != PROMETHEUS
    assert environment["SIGNALCANARY_LISTEN"] == "0.0.0.0:8080"
