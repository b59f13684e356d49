"""How a person's command reaches a cluster, against a real API server: what kubectl's options mean,
and what each mistake is told."""

from __future__ import annotations

import argparse
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import ADMIN, OPERATOR, ApiServer, free_ports

from signalcanary.api import API_VERSION, KIND
from signalcanary.apiserver import path_of, watch
from signalcanary.console.access import AccessError, open_access
from signalcanary.console.options import add_cluster_options
from signalcanary.store import Kind


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_cluster_options(parser, all_namespaces=True)
    return parser.parse_args(arguments)


def make(api: ApiServer, namespace: str, name: str) -> None:
    item = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"version": "v1", "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]}},
    }
    api.apply(item)


async def test_an_object_is_found_by_the_options_that_kubectl_has(
    api: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(api, namespace, "demo")
    file = str(api.kubeconfig(ADMIN))
    async with open_access(options(f"--kubeconfig={file}", "-n", namespace)) as access:
        assert (await access.get("demo"))["spec"]["version"] == "v1"
        assert api.url in access.where
    monkeypatch.setenv("KUBECONFIG", file)
    async with open_access(options("--context=test")) as access:
        assert access.namespace == "default"
        assert namespace in {
            i["metadata"]["namespace"] for i in await access.list_all(everywhere=True)
        }


async def test_the_namespace_is_the_context_s_unless_another_is_asked_for(
    api: ApiServer, namespace: str, tmp_path: Path
) -> None:
    content = yaml.safe_load(api.kubeconfig(ADMIN).read_text())
    content["contexts"][0]["context"]["namespace"] = namespace
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(content))
    async with open_access(options(f"--kubeconfig={file}")) as access:
        assert access.namespace == namespace
    async with open_access(options(f"--kubeconfig={file}", "-n=other")) as access:
        assert access.namespace == "other"


async def test_an_object_that_is_not_there_is_told_with_those_that_are(
    api: ApiServer, namespace: str
) -> None:
    file = api.kubeconfig(ADMIN)
    async with open_access(options(f"--kubeconfig={file}", "-n", namespace)) as access:
        with pytest.raises(
            AccessError, match=f"no SignalCanary nope in namespace {namespace}; .*-A"
        ):
            await access.get("nope")
        make(api, namespace, "demo")
        with pytest.raises(AccessError, match=r"no SignalCanary a/b in .*; it has demo$"):
            await access.get("a/b")


async def refusal(**changes: Any) -> str:
    with pytest.raises(AccessError) as caught:
        async with open_access(options(*(f"--{k}={v}" for k, v in changes.items()))) as access:
            await access.get("demo")
    return str(caught.value)


async def test_every_way_not_to_get_there_is_a_sentence_that_says_what_to_do(
    api: ApiServer, tmp_path: Path
) -> None:
    good = yaml.safe_load(api.kubeconfig(ADMIN).read_text())

    def write(name: str, content: Any) -> Path:
        (tmp_path / name).write_text(content if isinstance(content, str) else yaml.dump(content))
        return tmp_path / name

    def changed(name: str, part: str, inner: str, **values: Any) -> Path:
        kind = {"users": "user", "clusters": "cluster"}[part]
        one = {**good[part][0], kind: {**good[part][0][kind], **values}}
        assert inner in one
        return write(name, {**good, part: [one]})

    (port,) = free_ports(1)
    stranger = changed("stranger", "users", "user", token="of nobody")
    closed = changed("closed", "clusters", "cluster", server=f"https://127.0.0.1:{port}")
    assert "there is no kubeconfig" in await refusal(kubeconfig=tmp_path / "none")
    assert "--kubeconfig FILE" in await refusal(kubeconfig=tmp_path / "none")
    assert "is it a kubeconfig?" in await refusal(kubeconfig=write("list", "[1, 2]"))
    assert "is no YAML" in await refusal(kubeconfig=write("broken", "a: [b"))
    context = await refusal(kubeconfig=api.kubeconfig(ADMIN), context="prod")
    assert context.endswith("has no context prod; it has test")
    assert "log in to it anew" in await refusal(kubeconfig=stranger)
    assert "does not answer" in await refusal(kubeconfig=closed)
    forbidden = await refusal(kubeconfig=api.kubeconfig(OPERATOR), namespace="kube-system")
    assert "no SignalCanary demo" in forbidden  # the operator may read them everywhere
    weak = changed("weak", "users", "user", token=api.token["nobody"])
    assert "ask for the ClusterRole view" in await refusal(kubeconfig=weak)


async def test_a_watch_tells_what_is_there_and_what_changes(api: ApiServer, namespace: str) -> None:
    make(api, namespace, "demo")
    make(api, namespace, "other")
    file = api.kubeconfig(ADMIN)
    seen = []
    async with open_access(options(f"--kubeconfig={file}", "-n", namespace)) as access:
        path = path_of(Kind.SIGNAL_CANARY, namespace)
        events = watch(access.api, path, "demo", fieldSelector="metadata.name=demo")
        async with aclosing(events):
            async for kind, item in events:
                message = item.get("status", {}).get("message")
                seen.append((kind, item["metadata"]["name"], message))
                if len(seen) == 1:
                    # Longer than the client's buffer of a line.
                    status = {"status": {"message": "x" * 300_000}}
                    where = f"{access.path('demo')}/status"
                    api.must("PATCH", where, status, kind="merge-patch+json")
                elif len(seen) == 2:
                    api.must("DELETE", access.path("demo"))
                else:
                    break
    long = "x" * 300_000
    assert seen == [
        ("ADDED", "demo", None),
        ("MODIFIED", "demo", long),
        ("DELETED", "demo", long),
    ]


async def test_a_server_that_does_not_serve_the_kind_is_told_apart(api: ApiServer) -> None:
    async with open_access(options(f"--kubeconfig={api.kubeconfig(ADMIN)}")) as access:
        with pytest.raises(AccessError, match="knows no SignalCanaries: install the chart"):
            await access.request("GET", "/apis/not-installed.dev/v1/things", "things")
