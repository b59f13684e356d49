"""The cluster where Docker is there: kind, the ordinary way.

Why it exists: with Docker the node and its programs come as images, so nothing
is built from source but our own images. It must stay as short as it is: what
both kinds of cluster need is in cluster.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from images import application_images
from settings import KIND_CLUSTER, REPOSITORY, Settings
from shell import run, step
from toolchain import KIND, go_build, module_version

PROMETHEUS_IMAGE = "docker.io/signalcanary/prometheus:dev"
DOCKER_SECONDS = 10.0


def docker_works() -> bool:
    if shutil.which("docker") is None:
        return False
    return run(["docker", "info"], check=False, timeout_seconds=DOCKER_SECONDS).returncode == 0


def _kind(settings: Settings) -> str:
    return shutil.which("kind") or str(go_build(settings, KIND))


def exists(settings: Settings) -> bool:
    return KIND_CLUSTER in run([_kind(settings), "get", "clusters"]).stdout.split()


def up(settings: Settings) -> None:
    settings.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    target = ["--name", KIND_CLUSTER, "--kubeconfig", str(settings.kubeconfig)]
    if exists(settings):
        run([_kind(settings), "export", "kubeconfig", *target])
        return
    with step("creating the cluster with kind"):
        config = REPOSITORY / "kind-config.yaml"
        run([_kind(settings), "create", "cluster", "--config", config, "--wait", "120s", *target])


def down(settings: Settings) -> bool:
    if not exists(settings):
        return False
    with step("deleting the kind cluster"):
        kubeconfig = str(settings.kubeconfig)
        run(
            [
                _kind(settings),
                "delete",
                "cluster",
                "--name",
                KIND_CLUSTER,
                "--kubeconfig",
                kubeconfig,
            ]
        )
    settings.kubeconfig.unlink(missing_ok=True)
    return True


def _upstream_prometheus() -> str:
    """Prometheus 3.X is the Go module v0.3XX.Y; both kinds of cluster run the same release."""
    _, minor, patch = module_version("tools", "github.com/prometheus/prometheus").split(".")
    return f"docker.io/prom/prometheus:v{int(minor) // 100}.{int(minor) % 100}.{patch}"


def update_images(settings: Settings) -> None:
    names = [PROMETHEUS_IMAGE]
    with step(f"pulling {_upstream_prometheus()}"):
        run(["docker", "pull", "--quiet", _upstream_prometheus()])
        run(["docker", "tag", _upstream_prometheus(), PROMETHEUS_IMAGE])
    for image in application_images():
        with step(f"building {image.name}"):
            file = str(image.containerfile.relative_to(REPOSITORY))
            words = ["docker", "build", *image.arguments, "--tag", image.name, "--file", file, "."]
            run(words, cwd=REPOSITORY)
        names.append(image.name)
    with step("loading the images into the node"):
        run([_kind(settings), "load", "docker-image", "--name", KIND_CLUSTER, *names])


def kubectl(settings: Settings) -> Path | None:
    found = shutil.which("kubectl")
    return Path(found) if found else None
