"""The page's server against a real API server: whom it answers, and what it sends."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from api_server import ADMIN, NOBODY, ApiServer
from dashboard_kit import Cable, Served, let_look, running_operator, served
from scenes import Scene, Stage, build_spec

from signalcanary.api import PLURAL
from signalcanary.cli import main
from signalcanary.console.access import Access, open_access
from signalcanary.console.follow import Followed, key_of

TWO = ["BTCUSDT", "ETHUSDT"]


@pytest.fixture
def stage(api: ApiServer, namespace: str) -> Stage:
    return Stage(api, namespace)


@pytest.fixture
def page(api: ApiServer, namespace: str) -> Iterator[Served]:
    with served(api.kubeconfig(ADMIN), f"--namespace={namespace}") as running:
        yield running


def names(fleet: Any) -> list[str]:
    return [row["name"] for row in fleet["rows"]]


# ------------------------------------------------------------------ whom it answers


def test_only_who_has_the_address_is_answered_and_only_on_loopback(page: Served) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{43}/", page.url)
    status, headers, text = page.ask()
    assert status == 200
    assert "<title>SignalCanary</title>" in text
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    # It needs nothing from elsewhere: no address but those of XML's namespaces.
    addresses = set(re.findall(r"https?://[^'\"\s]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}
    for refused in (
        page.ask(path="/"),
        page.ask(path=f"/{'x' * 43}/"),
        page.ask(Host="evil.example"),
        page.ask(Origin="https://evil.example"),
        page.ask(path=f"{page.root}stream", Host=f"evil.example:{page.host.partition(':')[2]}"),
        page.ask("POST", f"{page.root}verbs", {"verb": "abort"}),
        page.ask("POST", f"{page.root}verbs", {"verb": "abort"}, Origin="https://evil.example"),
    ):
        assert refused[0] == 403
        assert page.root.strip("/") not in refused[2]
    assert page.ask(path=f"{page.root}nothing")[0] == 404
    own = f"http://{page.host}"
    # What a form of another site could send without asking first.
    form = page.ask("POST", f"{page.root}verbs", {}, Origin=own, Content_Type="text/plain")
    assert form[0] == 415
    assert page.ask("POST", f"{page.root}verbs", {"verb": "dance"}, Origin=own)[0] == 400
    port = int(page.host.partition(":")[2])
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", port))


def test_an_interrupt_ends_it_at_once_though_a_page_is_open(page: Served) -> None:
    with page.stream() as stream:
        stream.until("the fleet", "fleet", bool)
        page.child.send_signal(signal.SIGINT)
        assert page.child.wait(20) == 130
    assert page.child.stderr is not None
    assert "Traceback" not in page.child.stderr.read()


@pytest.mark.parametrize(
    ("user", "options", "code", "complaint"),
    [
        (NOBODY, [], 1, "you may not do this in namespace"),
        (ADMIN, ["--prometheus=prometheus"], 2, "neither an URL nor NAMESPACE/SERVICE:PORT"),
        (ADMIN, ["--context=nope"], 1, "has no context nope"),
    ],
)
def test_a_mistake_is_one_line(
    api: ApiServer,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
    user: str,
    options: list[str],
    code: int,
    complaint: str,
) -> None:
    where = [f"--kubeconfig={api.kubeconfig(user)}", f"--namespace={namespace}"]
    assert main(["dashboard", *where, *options]) == code
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken_is_said_to_be(
    api: ApiServer, namespace: str, page: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    port = page.host.partition(":")[2]
    where = [f"--kubeconfig={api.kubeconfig(ADMIN)}", f"--namespace={namespace}"]
    assert main(["dashboard", *where, f"--port={port}"]) == 1
    assert f"port {port}: " in capsys.readouterr().err


# ------------------------------------------------------------------ what it sends


def test_the_fleet_and_a_rollout_are_sent_whenever_they_change(page: Served, stage: Stage) -> None:
    with page.stream() as stream:
        stream.until("an empty fleet", "fleet", lambda f: f["isListed"] and not f["rows"])
        scene = Scene(build_spec(TWO), 7)
        stage.put("demo", scene)
        stream.until("the rollout", "fleet", lambda f: names(f) == ["demo"])
    with page.stream(f"{stage.namespace}/demo") as stream:
        stage.play("demo", scene, 5)
        shown = stream.until(
            "five looks",
            "rollout",
            lambda r: len(_points(r)) == 5,
        )["shown"]
        assert (shown["phase"], shown["health"]) == ("Progressing", "Progressing")
        assert [r["role"] for r in shown["revisions"]] == ["canary"]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "told", "namespace": stage.namespace},
            "involvedObject": {
                "apiVersion": "signalcanary.dev/v1alpha1",
                "kind": "SignalCanary",
                "name": "demo",
                "namespace": stage.namespace,
                "uid": stage.api.must("GET", stage.path("demo"))["metadata"]["uid"],
            },
            "reason": "TierChanged",
            "message": "of an Event",
            "firstTimestamp": "2026-05-01T12:00:00Z",
            "type": "Normal",
        }
        stage.api.must("POST", f"/api/v1/namespaces/{stage.namespace}/events", event)
        stream.until(
            "the Event",
            "rollout",
            lambda r: "of an Event" in {e["message"] for e in r["shown"]["history"]},
        )
        stage.api.must("DELETE", stage.path("demo"))
        stream.until("that it is gone", "fleet", lambda f: not f["rows"])
        stream.until("that it is gone", "rollout", lambda r: r["shown"] is None)


def _points(document: Any) -> list[Any]:
    shown = document["shown"]
    if not shown or not shown.get("conditions"):
        return []
    points: list[Any] = shown["conditions"][0]["symbols"][0]["points"]
    return points


def test_while_the_api_server_is_gone_it_says_so_and_then_shows_what_is(
    api: ApiServer, stage: Stage, tmp_path: Path
) -> None:
    cable = Cable(api.url)
    kubeconfig = cable.kubeconfig(api.kubeconfig(ADMIN), tmp_path)
    for name in ("goes", "stays"):
        stage.put(name, Scene(build_spec(TWO), 5))
    with served(kubeconfig, f"--namespace={stage.namespace}") as page, page.stream() as stream:
        stream.until("both", "fleet", lambda f: names(f) == ["goes", "stays"])
        cable.cut()
        lost = stream.until("the trouble", "fleet", lambda f: f["trouble"])
        assert names(lost) == ["goes", "stays"], "what was known is still shown"
        assert "does not answer" in lost["trouble"]
        stage.api.must("DELETE", stage.path("goes"))
        stage.put("comes", Scene(build_spec(TWO), 5))
        cable.mend()
        found = stream.until("all is well", "fleet", lambda f: not f["trouble"])
        assert names(found) == ["comes", "stays"]
    cable.close()


class _Old(Followed):
    """Takes its first watch up where the server does not remember any more."""

    lists = 0

    async def _list(
        self, access: Access, path: str, what: str, selectors: Mapping[str, str]
    ) -> str:
        self.lists += 1
        version = await super()._list(access, path, what, selectors)
        return "1" if self.lists == 1 else version


async def test_a_watch_from_too_long_ago_is_begun_anew(api: ApiServer, stage: Stage) -> None:
    told: list[str] = []
    changed = asyncio.Event()

    def touch() -> None:
        told.append(old.trouble)
        changed.set()

    old = _Old(touch)
    args = Namespace(kubeconfig=str(api.kubeconfig(ADMIN)), context=None, namespace="default")
    async with open_access(args) as access:
        path = f"/apis/signalcanary.dev/v1alpha1/namespaces/{stage.namespace}/{PLURAL}"
        following = asyncio.create_task(old.follow(access, path, "SignalCanaries"))
        while old.lists < 2 or old.trouble:
            changed.clear()
            await asyncio.wait_for(changed.wait(), 60)
        assert any("too old resource version" in trouble for trouble in told)
        await asyncio.to_thread(stage.put, "demo", Scene(build_spec(TWO), 5))
        while not old.items:
            changed.clear()
            await asyncio.wait_for(changed.wait(), 60)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    ((key, item),) = old.items.items()
    assert key == key_of(item)


# ------------------------------------------------------------------ the verbs


@pytest.fixture
def operator(api: ApiServer, tmp_path: Path) -> Iterator[None]:
    with running_operator(api, tmp_path):
        yield


def verbs_of(document: Any) -> dict[str, Any]:
    shown = document["shown"]
    return {one["verb"]: one for one in shown["verbs"]} if shown else {}


def test_verbs_are_done_or_refused_by_the_operator_and_the_page_says_which(
    api: ApiServer, stage: Stage, page: Served, operator: None
) -> None:
    item = Scene(build_spec(TWO), 5).item()
    spec = {key: item[key] for key in ("apiVersion", "kind", "spec")}
    api.apply({**spec, "metadata": {"name": "demo", "namespace": stage.namespace}})
    with page.stream(f"{stage.namespace}/demo") as stream:
        stream.until("it starts", "rollout", lambda r: r["shown"] and r["shown"]["phase"])
        where = (stage.namespace, "demo")
        refused = page.verb(*where, "retry")
        assert refused["isDone"] is False
        assert refused["message"].endswith("(NotRolledBack)")
        done = page.verb(*where, "pause", reason="a <b>look</b>")
        assert done["isDone"] is True
        paused = stream.until(
            "that it is paused", "rollout", lambda r: not verbs_of(r)["resume"]["refusal"]
        )
        assert verbs_of(paused)["pause"]["refusal"].startswith("it is paused already, by admin")
        assert "a <b>look</b>" in paused["shown"]["why"] + str(paused["shown"]["blocks"])
        assert page.verb(*where, "resume")["isDone"] is True
        assert page.verb(*where, "abort", reason="enough")["isDone"] is True
        gone = stream.until("the rollback", "rollout", lambda r: r["shown"]["rejected"])
        assert gone["shown"]["phase"] in ("RollingBack", "RolledBack")
        nowhere = page.verb(stage.namespace, "nope", "pause")
        assert nowhere["isDone"] is False
        assert "there is no SignalCanary nope" in nowhere["message"]


def test_who_may_only_look_is_told_so_and_is_refused_by_the_api_server(
    api: ApiServer, stage: Stage
) -> None:
    stage.put("demo", Scene(build_spec(TWO), 5))
    let_look(api, stage.namespace)
    with (
        served(api.kubeconfig(NOBODY), f"--namespace={stage.namespace}") as page,
        page.stream(f"{stage.namespace}/demo") as stream,
    ):
        document = stream.until(
            "what it cannot show", "rollout", lambda r: len(r["shown"]["notes"]) == 2
        )
        offered = verbs_of(document)
        assert len(offered) == 8
        assert {one["isGiven"] for one in offered.values()} == {False}
        assert "ask for the ClusterRole edit" in offered["abort"]["refusal"]
        revisions, events = document["shown"]["notes"]
        assert revisions.startswith("Revisions are not shown: you may not")
        assert events.startswith("Events are not shown: you may not")
        answer = page.verb(stage.namespace, "demo", "abort")
        assert answer["isDone"] is False
        assert "you may not do this in namespace" in answer["message"]
        annotations = api.must("GET", stage.path("demo"))["metadata"].get("annotations", {})
        assert not annotations
