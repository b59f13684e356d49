"""What runs on the node: command lines and configuration files.

Why it exists: the flags are the knowledge here, and they are easier to read
and to compare with a newer release when nothing else stands between them.
It must never start anything; node_init.py does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from settings import (
    API_PORT,
    DNS_DOMAIN,
    NODE_NAME,
    POD_NETWORK,
    SERVICE_NETWORK,
    Settings,
)

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "docker.io/signalcanary/pause:dev"

# Values that the kubelet would otherwise write to the machine's kernel, where
# they would outlive the node (pkg/kubelet/cm: setupKernelTunables). The node
# lays a file with the value over each, so the kubelet finds nothing to change.
KERNEL_TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@dataclass(frozen=True)
class Component:
    """A process of the node; `stage` 0 starts first, 1 once the API server is ready."""

    name: str
    command: tuple[str, ...]
    stage: int


def build_files(settings: Settings) -> dict[str, str]:
    """The configuration files by their name in the configuration folder."""
    return {
        "containerd.toml": _containerd(settings),
        "cni/10-signalcanary.conflist": json.dumps(_cni(settings), indent=1),
        "kubelet.json": json.dumps(_kubelet(settings), indent=1),
        "kube-proxy.json": json.dumps(_kube_proxy(settings), indent=1),
        "Corefile": _corefile(settings),
        # Pods that ask for the node's own name resolution get the cluster's.
        "resolv.conf": f"nameserver {settings.node_address}\n",
        **{f"tunables/{key}": value + "\n" for key, value in KERNEL_TUNABLES.items()},
    }


def _containerd(settings: Settings) -> str:
    return f"""version = 2
root = "{settings.state}/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{settings.state}/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{settings.configuration}/cni"
"""


def _cni(settings: Settings) -> dict[str, object]:
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(settings.state / "cni"),
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": ipam,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "signalcanary", "plugins": [bridge, portmap]}


def _kubelet(settings: Settings) -> dict[str, object]:
    pki = settings.certificates
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": settings.node_address,
        "healthzBindAddress": "127.0.0.1",
        "tlsCertFile": str(pki / "kubelet-serving.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-serving.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{settings.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [settings.node_address],
        "clusterDomain": DNS_DOMAIN,
        "resolvConf": str(settings.configuration / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "volumePluginDir": str(settings.state / "kubelet" / "volume-plugins"),
        "podLogsDir": "/var/log/pods",
        "maxPods": 110,
        # Demonstrations and tests wait for pods: look sooner than in production.
        "syncFrequency": "10s",
        "fileCheckFrequency": "20s",
        "nodeStatusUpdateFrequency": "5s",
        "registerNode": True,
        # A full disk of the machine is the machine's business, not the node's.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "shutdownGracePeriod": "0s",
    }


def _kube_proxy(settings: Settings) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(settings.certificates / "kube-proxy.kubeconfig")},
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": NODE_NAME,
        "bindAddress": settings.node_address,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The machine's table size belongs to the machine.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "iptables": {"syncPeriod": "30s", "minSyncPeriod": "100ms"},
    }


def _corefile(settings: Settings) -> str:
    """Answers for the cluster's names only: the node has no way out to others."""
    return f"""{DNS_DOMAIN}:53 in-addr.arpa:53 {{
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    kubernetes {DNS_DOMAIN} in-addr.arpa {{
        kubeconfig {settings.certificates}/coredns.kubeconfig
        pods insecure
        ttl 5
    }}
    cache 5
}}
"""


def build_components(settings: Settings, kubernetes: Path, coredns: Path) -> tuple[Component, ...]:
    pki, configuration = settings.certificates, settings.configuration
    node_ip = settings.node_address

    def kubeconfig(component: str) -> str:
        return f"--kubeconfig={pki}/{component}.kubeconfig"

    etcd = (
        "etcd",
        f"--data-dir={settings.state}/etcd",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--logger=zap",
        "--log-level=warn",
        # The data does not outlive the node, so nothing is lost with the power.
        "--unsafe-no-fsync",
    )
    apiserver = (
        str(kubernetes),
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        # Every address of the node's own network namespace, none of the machine's.
        "--bind-address=0.0.0.0",
        f"--advertise-address={node_ip}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--anonymous-auth=false",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-account.pub",
        f"--service-account-signing-key-file={pki}/service-account.key",
        "--event-ttl=3h",
    )
    controller_manager = (
        str(kubernetes),
        "kube-controller-manager",
        kubeconfig("kube-controller-manager"),
        f"--authentication-kubeconfig={pki}/kube-controller-manager.kubeconfig",
        f"--authorization-kubeconfig={pki}/kube-controller-manager.kubeconfig",
        "--bind-address=127.0.0.1",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki}/service-account.key",
        f"--root-ca-file={pki}/ca.crt",
        "--allocate-node-cidrs=false",
        f"--flex-volume-plugin-dir={settings.state}/kubelet/volume-plugins",
        "--leader-elect=false",
        "--pvclaimbinder-sync-period=5s",
    )
    scheduler = (
        str(kubernetes),
        "kube-scheduler",
        kubeconfig("kube-scheduler"),
        f"--authentication-kubeconfig={pki}/kube-scheduler.kubeconfig",
        f"--authorization-kubeconfig={pki}/kube-scheduler.kubeconfig",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    )
    kubelet = (
        str(kubernetes),
        "kubelet",
        kubeconfig("kubelet"),
        f"--config={configuration}/kubelet.json",
        f"--root-dir={settings.state}/kubelet",
        f"--cert-dir={settings.state}/kubelet/pki",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={node_ip}",
    )
    proxy = (str(kubernetes), "kube-proxy", f"--config={configuration}/kube-proxy.json")
    return (
        Component("etcd", etcd, stage=0),
        Component("containerd", ("containerd", f"--config={configuration}/containerd.toml"), 0),
        Component("kube-apiserver", apiserver, stage=0),
        Component("kube-controller-manager", controller_manager, stage=1),
        Component("kube-scheduler", scheduler, stage=1),
        Component("kubelet", kubelet, stage=1),
        Component("kube-proxy", proxy, stage=1),
        Component("coredns", (str(coredns), "-conf", f"{configuration}/Corefile"), stage=1),
    )
