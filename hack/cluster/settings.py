"""Where the node keeps things and which addresses it uses.

Why it exists: the commands, the host side and the node's first process must
agree on every path and address, so that all of them are said once, here.
It must never touch the machine: it only reads the environment.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

KUBERNETES_VERSION = "v1.34.4"  # The last minor release that runs on cgroup v1.
NODE_NAME = "signalcanary-node"
KIND_CLUSTER = "signalcanary"

POD_NETWORK = "10.244.0.0/24"  # A /24 holds the 110 pods that a kubelet runs at most.
SERVICE_NETWORK = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
DNS_DOMAIN = "cluster.local"
API_PORT = 6443

# Folders outside the state that a component writes to whatever its flags say: containerd's
# CNI library and the kubelet's device manager. The node lays a tmpfs over each.
FIXED_FOLDERS = (Path("/var/lib/cni"), Path("/var/lib/kubelet"))

DEFAULT_STATE = Path("/var/lib/signalcanary-cluster")
DEFAULT_NETWORK = "10.213.0.0/30"


@dataclass(frozen=True)
class Settings:
    """The node's paths and addresses; two state directories are two nodes."""

    state: Path
    cache: Path
    network: ipaddress.IPv4Network
    kubeconfig: Path

    @property
    def name(self) -> str:
        """Names the cgroup and, shortened, the host's end of the cable."""
        if self.state == DEFAULT_STATE:
            return "signalcanary"
        return "signalcanary-" + hashlib.sha256(str(self.state).encode()).hexdigest()[:6]

    @property
    def host_interface(self) -> str:
        return "sc-" + hashlib.sha256(self.name.encode()).hexdigest()[:8]

    @property
    def host_address(self) -> str:
        return str(self.network[1])

    @property
    def node_address(self) -> str:
        return str(self.network[2])

    @property
    def api_url(self) -> str:
        return f"https://{self.node_address}:{API_PORT}"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def certificates(self) -> Path:
        return self.state / "pki"

    @property
    def configuration(self) -> Path:
        return self.state / "config"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    @property
    def record(self) -> Path:
        """What the node's first process says of itself and its components."""
        return self.state / "node.json"

    @property
    def ephemeral(self) -> tuple[Path, ...]:
        """What one run of the node writes and the next must not see."""
        names = ("pki", "config", "volumes", "etcd", "kubelet", "cni", "var-log", "logs")
        return tuple(self.state / name for name in names)


def from_environment() -> Settings:
    state = Path(os.environ.get("SIGNALCANARY_CLUSTER_DIR") or DEFAULT_STATE)
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("SIGNALCANARY_CACHE") or user_cache / "signalcanary")
    network = ipaddress.IPv4Network(
        os.environ.get("SIGNALCANARY_CLUSTER_NETWORK") or DEFAULT_NETWORK
    )
    if network.num_addresses < 4:
        raise ValueError("SIGNALCANARY_CLUSTER_NETWORK must be a /30 or wider, as 10.213.0.0/30")
    kubeconfig = os.environ.get("SIGNALCANARY_KUBECONFIG") or "build/cluster/kubeconfig"
    return Settings(
        state=state.resolve(),
        cache=cache.expanduser().resolve(),
        network=network,
        kubeconfig=(REPOSITORY / kubeconfig).resolve(),
    )
