"""How a person's command reaches a cluster: by kubectl's options, and with errors that say what
to do.

Every verb that talks to a cluster takes `options.add_cluster_options` and opens this; none connects
by itself.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml
from kubernetes.aio import client, config

from signalcanary import apiserver
from signalcanary.api import PLURAL
from signalcanary.apiserver import ClusterError, Gone, UnknownKind, call, path_of
from signalcanary.store import Kind


class AccessError(Exception):
    """The cluster cannot be asked, or does not have what was asked for; a sentence for the user."""


SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Access:
    """A cluster that can be asked.

    Attributes:
        namespace: the one that is asked about.
        where: the cluster, as a sentence names it.
    """

    api: client.ApiClient
    namespace: str
    where: str

    async def get(self, name: str) -> dict[str, Any]:
        """The SignalCanary of that name.

        Raises:
            AccessError: there is none, or it cannot be read.
        """
        path, what = self.path(name), f"SignalCanary {name}"
        try:
            item: dict[str, Any] = await call(self.api, "GET", path, what)
        except UnknownKind as error:
            raise self.explain(error) from error
        except Gone as error:
            there = [found["metadata"]["name"] for found in await self.list_all()]
            others = (
                f"it has {_some(there)}"
                if there
                else "it has none at all: choose another by -n, or see all by -A"
            )
            raise AccessError(
                f"there is no SignalCanary {name} in namespace {self.namespace}; {others}"
            ) from error
        except ClusterError as error:
            raise self.explain(error) from error
        return item

    def path(self, name: str) -> str:
        """The API path of a SignalCanary, whatever a person gave for its name."""
        return path_of(Kind.SIGNAL_CANARY, quote(self.namespace, safe=""), quote(name, safe=""))

    async def list_all(self, *, everywhere: bool = False) -> list[dict[str, Any]]:
        """The SignalCanaries of the namespace, or of all of them.

        Raises:
            AccessError: they cannot be read.
        """
        namespace = None if everywhere else quote(self.namespace, safe="")
        return await self.list_path(path_of(Kind.SIGNAL_CANARY, namespace), "SignalCanaries")

    async def list_path(self, path: str, what: str) -> list[dict[str, Any]]:
        """What the list at an API path holds.

        Raises:
            AccessError: it cannot be read.
        """
        answer = await self.request("GET", path, what)
        try:
            return list(answer["items"])
        except (KeyError, TypeError) as error:
            raise AccessError(f"{self.where}: the list of {what} is none") from error

    async def request(
        self, method: str, path: str, what: str, body: Any = None, content: str | None = None
    ) -> Any:
        """One call, as `apiserver.call` makes it.

        Raises:
            AccessError: it came to nothing.
        """
        try:
            return await call(self.api, method, path, what, body, content)
        except ClusterError as error:
            raise self.explain(error) from error

    def explain(self, error: Exception) -> AccessError:
        """An error of the API server as a sentence that says what to do."""
        match error:
            case apiserver.Unreachable():
                text = f"{self.where} does not answer ({error}): is it up, and the right context?"
            case apiserver.Unauthorized():
                text = f"{self.where} does not know you ({error}): log in to it anew"
            case apiserver.Forbidden():
                text = (
                    f"you may not do this in namespace {self.namespace} of {self.where} ({error}): "
                    f"ask for the ClusterRole view (to read) or edit (to change) there, which the "
                    f"chart extends by {PLURAL}"
                )
            case apiserver.UnknownKind():
                text = (
                    f"{self.where} knows no SignalCanaries: install the chart "
                    "(helm install signalcanary charts/signalcanary), or choose another --context"
                )
            case _:
                text = f"{self.where}: {error}"
        return AccessError(text)


def _some(names: Sequence[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


@asynccontextmanager
async def open_access(args: argparse.Namespace) -> AsyncIterator[Access]:
    """The cluster that the options name, as kubectl would choose it.

    Raises:
        AccessError: there is no such cluster, or no way to it.
    """
    configuration = client.Configuration()
    file = _find_kubeconfig(args.kubeconfig)
    if file is None and args.context is None and _is_in_a_pod():
        config.load_incluster_config(client_configuration=configuration)
        namespace, where = _pod_namespace(), "this pod's cluster"
    else:
        namespace, context = await _load(configuration, file, args)
        where = f"the cluster of context {context}"
    async with client.ApiClient(configuration) as api:
        yield Access(api, args.namespace or namespace, f"{where} ({configuration.host})")


def _find_kubeconfig(named: str | None) -> str | None:
    """The files that kubectl would read, as it writes them; None if there is none."""
    named = named or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    found = any(part and Path(part).is_file() for part in named.split(os.pathsep))
    return named if found else None


def _is_in_a_pod() -> bool:
    return (SERVICE_ACCOUNT / "token").is_file()


def _pod_namespace() -> str:
    return (SERVICE_ACCOUNT / "namespace").read_text().strip()


async def _load(
    configuration: client.Configuration, file: str | None, args: argparse.Namespace
) -> tuple[str, str]:
    """Fill in the client's configuration; gives the context's namespace, and its name."""
    if file is None:
        looked = args.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise AccessError(
            f"no cluster to ask: there is no kubeconfig {looked}: "
            "give one by --kubeconfig FILE or $KUBECONFIG"
        )
    wanted: str | None = args.context
    try:
        contexts, active = config.list_kube_config_contexts(config_file=file)
        names = [str(one["name"]) for one in contexts]
        if wanted is not None and wanted not in names:
            raise AccessError(f"{file} has no context {wanted}; it has {_some(names) or 'none'}")
        chosen = next((c for c in contexts if c["name"] == wanted), active)
        # What a login refreshes is kubectl's to keep.
        await config.load_kube_config(
            file, wanted, client_configuration=configuration, persist_config=False
        )
        return str(chosen["context"].get("namespace") or "default"), str(chosen["name"])
    except (config.ConfigException, OSError, ValueError, LookupError, TypeError) as error:
        raise AccessError(f"{file}: {error}: is it a kubeconfig?") from error
    except yaml.YAMLError as error:
        raise AccessError(f"{file} is no YAML: {error}") from error
