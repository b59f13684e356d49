"""Notifications of the operator as a process, on a real API server and with the chart's rights."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import NAMESPACED, SYSTEM, ApiServer, eventually, free_ports
from test_cluster import CANARIES, manifest
from test_process import Operator, start, status

from signalcanary.cluster import Cluster, Conflict

__all__ = ["start"]  # the fixture

RELEASE = f"signalcanary-{NAMESPACED}"
OUTBOX = f"/api/v1/namespaces/{SYSTEM}/configmaps/{RELEASE}-operator-outbox"


@contextmanager
def receiver(port: int) -> Iterator[list[dict[str, Any]]]:
    """A webhook's server; gives the notifications that it was told."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.extend(body["notifications"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def outbox(api: ApiServer) -> dict[str, Any]:
    code, found = api.request("GET", OUTBOX)
    return dict(json.loads(found["data"]["outbox.json"])) if code == 200 else {}


def test_killed_between_decision_and_delivery_it_is_told_by_the_next_and_only_once(
    api: ApiServer, namespace: str, tmp_path: Path, start: Callable[..., Operator]
) -> None:
    (port,) = free_ports(1)
    config = {
        "receivers": {"hook": {"webhook": {"url": f"http://127.0.0.1:{port}"}}},
        "routes": [{"receivers": ["hook"]}],
    }
    file, values = tmp_path / "notifications.yaml", tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(config))
    prometheus = {"url": "http://prometheus"}
    values.write_text(
        yaml.safe_dump(
            {"notifications": config, "watchNamespace": namespace, "prometheus": prometheus}
        )
    )
    for item in api.template(f"--values={values}", release=RELEASE):
        if "Role" in item["kind"]:
            api.apply(item)

    def operator(name: str) -> Operator:
        started = start(
            name,
            f"--namespace={namespace}",
            f"--lease-name={RELEASE}-operator",
            f"--notifications={file}",
            user=NAMESPACED,
        )
        started.leads(within=90)  # the Lease is of 15 s
        return started

    first = operator("first")
    eventually("notifications are on", lambda: outbox(api))
    gone = manifest(namespace)
    gone["metadata"]["name"] = "gone"
    api.apply(gone)
    eventually("what waits is on record", lambda: outbox(api).get("pending"))
    api.must("DELETE", f"{CANARIES.format(namespace)}/gone")  # the record alone knows of it
    api.apply(manifest(namespace))
    eventually("it is decided", lambda: status(api, namespace).get("history"), pause=0.002)
    first.child.kill()  # and whether it was taken in, nobody knows
    assert "Unreachable" in first.log
    decided = {(t["phase"], t["message"]) for t in status(api, namespace)["history"]}

    with receiver(port) as told:
        second = operator("second")
        eventually(
            "both are told", lambda: {t["name"] for t in told} == {"gone", "demo"}, within=60
        )
        eventually("that is on record", lambda: not outbox(api)["pending"])
        assert decided <= {(t["phase"], t["message"]) for t in told if t["name"] == "demo"}
        second.stop()
        third = operator("third")
        api.apply(manifest(namespace, version="v2"))
        eventually("the next is told", lambda: any(t["version"] == "v2" for t in told))
        third.stop()
    assert len({t["id"] for t in told}) == len(told)
    for log in (second.log, third.log):
        assert "Traceback" not in log
        assert "ERROR" not in log


async def test_a_record_is_written_under_the_version_that_was_read(
    api: ApiServer, kube: Cluster
) -> None:
    def change(text: str) -> None:
        path = f"/api/v1/namespaces/{SYSTEM}/configmaps/record"
        found = api.must("GET", path)
        api.must("PUT", path, {**found, "data": {"text": text}})

    assert await kube.read_text(SYSTEM, "record", "text") is None
    version = await kube.write_text(SYSTEM, "record", "text", "one", None)
    version = await kube.write_text(SYSTEM, "record", "text", "two", version)
    assert await kube.read_text(SYSTEM, "record", "text") == ("two", version)
    change("of another")
    with pytest.raises(Conflict):
        await kube.write_text(SYSTEM, "record", "text", "three", version)
    found = await kube.read_text(SYSTEM, "record", "text")
    assert found is not None
    assert found[0] == "of another"
    version = await kube.write_text(SYSTEM, "record", "text", "three", found[1])
    api.must("DELETE", f"/api/v1/namespaces/{SYSTEM}/configmaps/record")
    # Somebody took it away: what is known is written anew.
    version = await kube.write_text(SYSTEM, "record", "text", "four", version)
    assert await kube.read_text(SYSTEM, "record", "text") == ("four", version)
