"""Model files in a registry in the cluster, which asks for a login that is not there at first.

Long for the kubelet's patience with a container that fails, not for any of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from cluster_kit import Exchange, Kubectl, Rollout, eventually
from models_kit import make_files
from scene import MARKET_OPENS, Spec, example
from server_kit import FOLDER, build_server, start_server

from registry_kit import HTPASSWD, PASSWORD, USER, RegistryServer, basic

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(300)]

PORT = 5000
CONFIG = {
    "version": 0.1,
    "storage": {"filesystem": {"rootdirectory": f"{FOLDER}/data"}},
    "http": {"addr": f":{PORT}", "secret": "x"},
    "auth": {"htpasswd": {"realm": "tests", "path": f"{FOLDER}/users"}},
}


@pytest.fixture(scope="module")
def pushed(namespace: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example's files in the registry; gives the artifact's URL within the cluster."""
    start = (
        f"printf %s '{HTPASSWD}' > {FOLDER}/users; "
        f"printf %s '{json.dumps(CONFIG)}' > {FOLDER}/config.yml; "
        f"exec {FOLDER}/registry serve {FOLDER}/config.yml"
    )
    quiet = [{"name": "OTEL_TRACES_EXPORTER", "value": "none"}]
    start_server(namespace, "registry", build_server("registry", PORT, start, quiet))
    with namespace.forward("deployment/registry", PORT) as port:
        way = RegistryServer("", tmp_path_factory.mktemp("registry"), port=port)
        url = way.push(make_files(), headers=basic(USER, PASSWORD))
    return url.replace(way.host, f"registry.{namespace.namespace}.svc:{PORT}")


@pytest.fixture(scope="module")
def rollout(namespace: Kubectl, operator: Kubectl) -> Iterator[Rollout]:
    rollout = Rollout(namespace, "pulled")
    yield rollout
    rollout.delete()


def spec_in_registry(namespace: Kubectl, url: str) -> Spec:
    spec = example(namespace, "models/rollout")
    del spec["signal"]["artifacts"]["path"]
    image = {"url": url, "secretName": "registry-login", "plainHttp": True}
    spec["signal"]["artifacts"]["image"] = image
    # Not the example's scaled down: the kubelet waits longer with every failure.
    return spec | {"evaluation": spec["evaluation"] | {"noDataAfter": "5m"}}


def test_models_are_pulled_once_there_is_a_login(rollout: Rollout, pushed: str) -> None:
    kubectl = rollout.kubectl
    Exchange(kubectl).start(MARKET_OPENS)
    rollout.apply(spec_in_registry(kubectl, pushed))
    words = "it asks for a login, and the Secret registry-login is not there"
    eventually(
        "what is missing, in status",
        lambda: words in json.dumps(rollout.status().get("workloads")),
        timeout=90,
        explain=rollout.describe,
    )
    assert rollout.status()["phase"] == "Verifying"
    host = pushed.removeprefix("oci://").partition("/")[0]
    login = ("--docker-server", host, "--docker-username", USER, "--docker-password", PASSWORD)
    kubectl("create", "secret", "docker-registry", "registry-login", *login)
    eventually(
        "the analysis pod, which has loaded the models",
        lambda: any(
            status["ready"]
            for pod in rollout.pods(track="canary")
            if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "analysis"
            for status in pod["status"].get("containerStatuses", ())
        ),
        timeout=150,
        explain=rollout.describe,
    )
    history = rollout.status()["history"]
    assert "ArtifactsVerified" in [t["reason"] for t in history]
    print(yaml.safe_dump(history))
