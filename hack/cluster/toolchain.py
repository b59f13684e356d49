"""The programs that the node is made of: Debian's packages and our Go builds.

Why it exists: container registries and download sites may be out of reach, but
Debian's packages and Go modules come through their ordinary clients. A build is
kept under the hash of all that goes into it, so it is made once per machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from settings import HERE, KUBERNETES_VERSION, Settings
from shell import ClusterError, run, step

# What each package is needed for, by a program that shows whether it is there.
PACKAGES = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "busybox": "busybox-static",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "openssl": "openssl",
    "unshare": "util-linux",
    "mount": "mount",
}
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\nexit 101\n"  # deb-systemd-invoke(1p): the action is forbidden.


@dataclass(frozen=True)
class Build:
    """One Go program: its module's folder, package and flags."""

    name: str
    module: str
    package: str
    ldflags: str = "-s -w"
    tags: str = ""


def _kubernetes_ldflags() -> str:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    flags = [f"-X {package}.{key}={value}" for package in packages for key, value in values.items()]
    return " ".join(["-s -w", *flags])


KUBERNETES = Build("kubernetes", "kubernetes", ".", _kubernetes_ldflags())
COREDNS = Build("coredns", "tools", "./coredns")
HELM = Build("helm", "tools", "helm.sh/helm/v3/cmd/helm")
KIND = Build("kind", "tools", "sigs.k8s.io/kind")
PROMETHEUS = Build(
    "prometheus",
    "tools",
    "github.com/prometheus/prometheus/cmd/prometheus",
    tags="remove_all_sd,enable_kubernetes_sd",
)
# It has to load the rules that the Prometheus above does, and takes its dependencies.
PROMTOOL = replace(
    PROMETHEUS, name="promtool", package="github.com/prometheus/prometheus/cmd/promtool"
)
# In modules of their own: their dependencies would change those that the others are built with.
VERSITYGW = Build("versitygw", "s3", "github.com/versity/versitygw/cmd/versitygw")
REGISTRY = Build("registry", "registry", ".")


def module_version(module: str, path: str) -> str:
    """The version of a required module, as the folder's go.mod says it."""
    for line in (HERE / module / "go.mod").read_text().splitlines():
        words = line.split()
        if path in words:
            version = words[words.index(path) + 1 : words.index(path) + 2]
            if version and version[0].startswith("v"):
                return version[0]
    raise ClusterError(f"hack/cluster/{module}/go.mod does not require {path}")


def _ldflags(build: Build) -> str:
    """Adds the version that the program reports, for those that do not know their own."""
    if build in (PROMETHEUS, PROMTOOL):
        minor = module_version("tools", "github.com/prometheus/prometheus").split(".")
        # Prometheus 3.X is the Go module v0.3XX.Y.
        version = f"{int(minor[1]) // 100}.{int(minor[1]) % 100}.{minor[2]}"
        return f"{build.ldflags} -X github.com/prometheus/common/version.Version={version}"
    if build is HELM:
        version = module_version("tools", "helm.sh/helm/v3")
        return f"{build.ldflags} -X helm.sh/helm/v3/internal/version.version={version}"
    return build.ldflags


def _go_version() -> str:
    if shutil.which("go") is None:
        raise ClusterError(
            "neither Docker nor Go is usable here: start Docker, or install Go (see"
            " hack/cluster/kubernetes/go.mod for the version), then try again"
        )
    return run(["go", "env", "GOVERSION"], cwd=HERE / "tools").stdout.strip()


def _key(build: Build, go_version: str) -> str:
    digest = hashlib.sha256()
    folder = HERE / build.module
    for file in sorted([*folder.rglob("*.go"), folder / "go.mod", folder / "go.sum"]):
        digest.update(file.read_bytes())
    for text in (go_version, build.package, _ldflags(build), build.tags):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


def go_build(settings: Settings, build: Build) -> Path:
    """The program's path; built if it is not in the cache."""
    target = settings.cache / "bin" / _key(build, _go_version()) / build.name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    title = f"building {build.name} from its Go module (minutes when the Go cache is cold)"
    with step(title), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        new = Path(folder) / build.name
        flags = ["-trimpath", "-buildvcs=false", "-tags", build.tags, "-ldflags", _ldflags(build)]
        run(
            ["go", "build", *flags, "-o", new, build.package],
            cwd=HERE / build.module,
            env={"CGO_ENABLED": "0"},  # Without cgo the program also runs in an empty image.
        )
        new.replace(target)
    return target


def link_commands(settings: Settings, **programs: Path) -> Path:
    """Puts programs where people, make and tests find them: build/cluster/bin."""
    folder = settings.kubeconfig.parent / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in programs.items():
        link = folder / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return folder


def kubectl_path(settings: Settings) -> Path:
    """A symbolic link: the multi-component binary goes by the name it is called by."""
    binary = go_build(settings, KUBERNETES)
    link = binary.parent / "kubectl"
    if not link.is_symlink():
        link.symlink_to(binary.name)
    return link


@contextmanager
def _no_services() -> Iterator[None]:
    """Keeps the packages from starting what they install."""
    if POLICY.exists():
        yield  # The machine has its own rule.
        return
    POLICY.write_text(POLICY_TEXT)
    POLICY.chmod(POLICY.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    try:
        yield
    finally:
        POLICY.unlink()


def missing_packages() -> list[str]:
    return [package for program, package in PACKAGES.items() if shutil.which(program) is None]


def install_packages() -> None:
    missing = missing_packages()
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"this machine has no apt-get; install by hand: {', '.join(missing)}")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {', '.join(missing)}"), _no_services():
        if run(install, env=env, check=False).returncode != 0:
            run(["apt-get", "update"], env=env)
            run(install, env=env)


def require_bare_machine() -> None:
    if os.geteuid() != 0:
        raise ClusterError(
            "Docker does not answer, and a node without it needs root: start Docker,"
            f" or run as root: python3 {Path('hack/cluster/cluster.py')} up"
        )
    if not shutil.which("apt-get"):
        raise ClusterError("Docker does not answer, and a node without it needs Debian's packages")
