"""Metrics sources: what is read of their file, and what of it goes over real connections."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiohttp import web

from signalcanary.api import SignalCanarySpec
from signalcanary.cli import main
from signalcanary.contract import HEARTBEAT, WARMUP
from signalcanary.evaluate import MetricsSeen, SourceFailure, Verdict, evaluate
from signalcanary.metrics_source import Target, series_names
from signalcanary.operator import parse_options
from signalcanary.prometheus import Prometheus
from signalcanary.sources import SourceConfig, Sources, SourcesError, parse_sources, read_sources

ECE = "platt_ece"
TARGET = Target("ns", "demo", "01234567", "10s", frozenset({ECE}))
LABELS = {
    "namespace": "ns",
    "signalcanary": "demo",
    "track": "canary",
    "revision": "01234567",
    "symbol": "BTCUSDT",
    "horizon": "10s",
}
SECRET = "s3cr3t-t0ken"


# --------------------------------------------------------------------------- certificates


@dataclass(frozen=True)
class Certificates:
    """Files of one authority: `ca`, another one, `other`, and pairs that `ca` has signed."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    def server_context(self, wants_client: bool) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self["ca.crt"])
        context.load_cert_chain(self["server.crt"], self["server.key"])
        context.verify_mode = ssl.CERT_REQUIRED if wants_client else ssl.CERT_NONE
        return context


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> None:
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")
    openssl(*new, *files, "-days", "2", "-subj", f"/CN={name}", "-addext", "keyUsage=keyCertSign")


def make_pair(folder: Path, name: str, authority: str, extension: str) -> None:
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(extension)
    openssl(*new, "-keyout", folder / f"{name}.key", "-out", request, "-subj", f"/CN={name}")
    by = ("-CA", folder / f"{authority}.crt", "-CAkey", folder / f"{authority}.key")
    made = ("-CAcreateserial", "-days", "2", "-extfile", extensions)
    openssl("x509", "-req", "-in", request, *by, *made, "-out", folder / f"{name}.crt")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    make_authority(folder, "ca")
    make_authority(folder, "other")
    # Of a name that is not the address: only with serverName is it the right one.
    make_pair(folder, "server", "ca", "subjectAltName=DNS:thanos.monitoring.svc")
    make_pair(folder, "client", "ca", "extendedKeyUsage=clientAuth")
    make_pair(folder, "stranger", "other", "extendedKeyUsage=clientAuth")
    return Certificates(folder)


# --------------------------------------------------------------------------- servers


@dataclass
class Server:
    """Answers healthily to whom it knows, and notes who asked."""

    is_welcome: Callable[[web.Request], bool] = lambda _: True
    requests: list[web.Request] = field(default_factory=list)
    status: int = 401
    under_way: int = 0
    most_under_way: int = 0
    pause: float = 0.0
    port: int = 0
    redirect_to: str = ""

    async def serve(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.pause)
        self.under_way -= 1
        if self.redirect_to:
            raise web.HTTPFound(self.redirect_to)
        if not self.is_welcome(request):
            # The worst of servers: it repeats what it was told.
            said = f"no: {dict(request.headers)}"
            return web.json_response({"status": "error", "error": said}, status=self.status)
        name = request.query["query"].partition("{")[0]
        now = datetime.now(UTC).timestamp()
        value = {ECE: 0.05, WARMUP: 1.0}.get(name, now - 1)
        labels = LABELS if name in (ECE, HEARTBEAT, WARMUP) else LABELS | {"metric": ECE}
        vector = [{"metric": labels, "value": [now, repr(value)]}]
        data = {"resultType": "vector", "result": vector}
        if request.path.endswith("/query_range"):
            start, end, step = (float(request.query[k]) for k in ("start", "end", "step"))
            times = [start + step * n for n in range(int((end - start) / step) + 1)]
            values = [[at, repr(value if name in (ECE, WARMUP) else at)] for at in times]
            series = {"metric": labels | {"__name__": name}, "values": values}
            data = {"resultType": "matrix", "result": [series]}
        return web.json_response({"status": "success", "data": data})


@asynccontextmanager
async def listening(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    app = web.Application()
    app.router.add_get("/{path:.*}", server.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


async def ask(**config: Any) -> MetricsSeen:
    source = Prometheus(SourceConfig.model_validate(config))
    try:
        return (await source.fetch([TARGET]))[TARGET]
    finally:
        source.close()


def value_of(seen: MetricsSeen) -> float:
    assert seen.failure is None, seen.failure
    (value,) = seen.measurements[ECE, "BTCUSDT"].values
    return value


def failure_of(seen: MetricsSeen) -> SourceFailure:
    assert seen.failure is not None
    return seen.failure


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


# --------------------------------------------------------------------------- credentials


async def test_a_bearer_token_is_read_anew_when_it_rotates(tmp_path: Path) -> None:
    tokens = {"Bearer one"}
    server = Server(lambda request: request.headers.get("Authorization") in tokens)
    folder = written(tmp_path, token="one\n")
    async with listening(server):
        config = {"url": f"http://127.0.0.1:{server.port}", "folder": folder}
        source = Prometheus(SourceConfig.model_validate(config | {"bearerTokenFile": "token"}))
        assert value_of((await source.fetch([TARGET]))[TARGET]) == 0.05
        tokens.clear()
        tokens.add("Bearer two")
        assert failure_of((await source.fetch([TARGET]))[TARGET]).reason == "BadResponse"
        # As a kubelet does it: another file under the same name.
        written(tmp_path, next="two").joinpath("next").rename(folder / "token")
        assert value_of((await source.fetch([TARGET]))[TARGET]) == 0.05
        (folder / "token").unlink()
        gone = failure_of((await source.fetch([TARGET]))[TARGET])
        source.close()
    assert gone.reason == "UnreadableCredentials"
    assert gone.message == f"{folder / 'token'} cannot be read: No such file or directory"


async def test_a_user_and_a_password_come_from_files(tmp_path: Path) -> None:
    expected = "Basic " + base64.b64encode('ünal:a"b:c'.encode()).decode()
    server = Server(lambda request: request.headers.get("Authorization") == expected)
    folder = written(tmp_path, username="ünal", password='a"b:c\n')
    async with listening(server):
        seen = await ask(
            url=f"http://127.0.0.1:{server.port}",
            basicAuth={"usernameFile": folder / "username", "passwordFile": folder / "password"},
        )
    assert value_of(seen) == 0.05


async def test_the_tenant_and_the_path_before_the_api_are_sent() -> None:
    server = Server(lambda request: request.headers.get("X-Scope-OrgID") == "team-a|team-b")
    async with listening(server):
        url = f"http://127.0.0.1:{server.port}/select/0/prometheus/"
        assert value_of(await ask(url=url, tenant="team-a|team-b")) == 0.05
    assert {r.path for r in server.requests} == {"/select/0/prometheus/api/v1/query"}


async def test_without_credentials_none_are_sent_whatever_the_environment_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server = Server()
    async with listening(server):
        assert value_of(await ask(url=f"http://127.0.0.1:{server.port}")) == 0.05
    assert not {"Authorization", "X-Scope-OrgID"} & set(server.requests[0].headers)


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("kind", ["bearer", "basic"])
async def test_a_secret_that_a_server_repeats_shows_nowhere(
    tmp_path: Path, kind: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = written(tmp_path, user="reader", secret=SECRET)
    credentials: dict[str, Any] = {"bearerTokenFile": folder / "secret"}
    if kind == "basic":
        files = {"usernameFile": folder / "user", "passwordFile": folder / "secret"}
        credentials = {"basicAuth": files}
    server = Server(lambda _: False, status=status)
    async with listening(server):
        seen = await ask(url=f"http://127.0.0.1:{server.port}", **credentials)
    told = server.requests[0].headers["Authorization"].split()[1]
    assert failure_of(seen).reason == "BadResponse"
    assert "no: " in failure_of(seen).message
    for secret in (SECRET, told):
        assert secret not in repr(seen)
        assert secret not in caplog.text


async def test_no_redirect_is_followed(tmp_path: Path) -> None:
    elsewhere, server = Server(), Server()
    folder = written(tmp_path, token=SECRET)
    async with listening(elsewhere), listening(server):
        server.redirect_to = f"http://localhost:{elsewhere.port}/api/v1/query"
        url = f"http://127.0.0.1:{server.port}"
        seen = await ask(url=url, tenant="a", bearerTokenFile=folder / "token")
    assert "a redirect, which is not followed" in failure_of(seen).message
    assert elsewhere.requests == []


# --------------------------------------------------------------------------- TLS


@contextmanager
def noting(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """A server that notes what it hears from those whom it lets in, and hangs up."""
    heard: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # the end of the test
            try:
                with context.wrap_socket(connection, server_side=True) as channel:
                    heard.append(channel.recv(65536))
            except OSError:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def tls(certificates: Certificates, **more: str) -> dict[str, Any]:
    files = {"caFile": "ca.crt", "serverName": "thanos.monitoring.svc"} | more
    return {"folder": certificates.folder, "tls": {k: v for k, v in files.items() if v}}


async def test_a_client_certificate_opens_the_door(certificates: Certificates) -> None:
    server = Server()
    async with listening(server, certificates.server_context(wants_client=True)):
        config = tls(certificates, certFile="client.crt", keyFile="client.key")
        assert value_of(await ask(url=f"https://127.0.0.1:{server.port}", **config)) == 0.05


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({}, "", id="no certificate"),
        pytest.param({"certFile": "stranger.crt", "keyFile": "stranger.key"}, "", id="a stranger"),
        pytest.param({"caFile": "other.crt"}, "certificate verify failed", id="another authority"),
        pytest.param({"caFile": ""}, "certificate verify failed", id="no authority"),
        pytest.param({"serverName": ""}, "doesn't match|mismatch", id="no server name"),
        pytest.param({"serverName": "mimir"}, "doesn't match|mismatch", id="another server name"),
    ],
)
async def test_who_is_not_known_is_not_asked(
    certificates: Certificates, files: dict[str, str], words: str
) -> None:
    # A client's certificate is good where the server is the one that is not known.
    good = {"certFile": "client.crt", "keyFile": "client.key"} if words else {}
    with noting(certificates.server_context(wants_client=True)) as (port, heard):
        # One at a time, so that none is cut off in the middle of its handshake.
        config = tls(certificates, **(good | files)) | {"maxConcurrentQueries": 1}
        failure = failure_of(await ask(url=f"https://127.0.0.1:{port}", **config))
    assert failure.reason == "SourceUnreachable"
    assert any(word in failure.message for word in words.split("|"))
    assert heard == []


# --------------------------------------------------------------------------- the proxy


@dataclass
class Proxy:
    """Passes everything on, and notes the first line of it."""

    lines: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    port: int = 0
    under_way: set[Any] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.under_way.add(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        method, address, _ = head.decode().split(" ", 2)
        self.lines.append(f"{method} {address}")
        self.heads.append(head)
        port = int(address.removeprefix("http://").partition("/")[0].rpartition(":")[2])
        there, to_there = await asyncio.open_connection("127.0.0.1", port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            to_there.write(head)
        await asyncio.gather(self._pass(reader, to_there), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                writer.write(piece)
        except ConnectionError:
            return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def proxying(proxy: Proxy) -> AsyncIterator[Proxy]:
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listener:
        proxy.port = listener.sockets[0].getsockname()[1]
        yield proxy
        await asyncio.gather(*proxy.under_way)


async def test_queries_go_through_the_proxy() -> None:
    server = Server()
    async with listening(server), proxying(Proxy()) as proxy:
        url = f"http://127.0.0.1:{server.port}"
        seen = await ask(url=url, proxyUrl=f"http://127.0.0.1:{proxy.port}")
    assert value_of(seen) == 0.05
    assert proxy.lines
    assert all(line.startswith(f"GET {url}/api/v1/query?") for line in proxy.lines)


async def test_through_a_tunnel_the_proxy_learns_nothing(
    certificates: Certificates, tmp_path: Path
) -> None:
    server = Server()
    context = certificates.server_context(wants_client=True)
    token = written(tmp_path, token=SECRET) / "token"
    async with listening(server, context), proxying(Proxy()) as proxy:
        seen = await ask(
            url=f"https://127.0.0.1:{server.port}",
            proxyUrl=f"http://127.0.0.1:{proxy.port}",
            bearerTokenFile=token,
            **tls(certificates, certFile="client.crt", keyFile="client.key"),
        )
    assert value_of(seen) == 0.05
    assert set(proxy.lines) == {f"CONNECT 127.0.0.1:{server.port}"}
    assert SECRET.encode() not in b"".join(proxy.heads)
    assert server.requests[0].headers["Authorization"] == f"Bearer {SECRET}"


# --------------------------------------------------------------------------- a backtest's history

POLICY = """
apiVersion: signalcanary.dev/v1alpha1
kind: SignalCanary
metadata: {name: demo, namespace: ns}
spec:
  version: v1
  symbols: {canary: [BTCUSDT], full: [BTCUSDT]}
  stages: [{name: canary, duration: 10m}]
  metricsSource: mimir
  rollback: {conditions: [{metric: platt_ece, above: 0.1, for: 2m, mode: literal}]}
"""
RANGE = ("--start", "2026-05-01T08:00:00Z", "--end", "2026-05-01T08:15:00Z")


async def backtest(folder: Path, sources: dict[str, Any], *options: str) -> int:
    """The verb, as people call it, beside the servers of a test."""
    manifest, file = folder / "policy.yaml", folder / "sources.yaml"
    manifest.write_text(POLICY)
    file.write_text(json.dumps({"sources": sources}, default=str))
    words = ["backtest", str(manifest), "--revision", "01234567", "--sources", str(file)]
    return await asyncio.to_thread(main, [*words, *RANGE, *options])


def is_known(request: web.Request) -> bool:
    """Of team-a, with the token or the password."""
    basic = "Basic " + base64.b64encode(b"reader:" + SECRET.encode()).decode()
    sent = request.headers.get("Authorization")
    return request.headers.get("X-Scope-OrgID") == "team-a" and sent in (f"Bearer {SECRET}", basic)


@pytest.mark.parametrize("kind", ["bearer", "basic"])
async def test_a_backtest_is_let_in_by_the_named_sources_credentials(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path, user="reader", secret=SECRET)
    files = {"usernameFile": "user", "passwordFile": "secret"}
    credentials = {"bearerTokenFile": "secret"} if kind == "bearer" else {"basicAuth": files}
    server, other = Server(is_known), Server()
    async with listening(server), listening(other):
        url = f"http://127.0.0.1:{server.port}/prometheus"
        sources = {
            "mimir": {"url": url, "tenant": "team-a", "folder": folder, **credentials},
            "default": {"url": f"http://127.0.0.1:{other.port}"},
        }
        assert await backtest(tmp_path, sources) == 0
        assert "PROMOTED after 10m20s" in capsys.readouterr().out
        assert other.requests == []
        assert await backtest(tmp_path, sources, "--source", "default") == 0
    assert {r.path for r in server.requests} == {"/prometheus/api/v1/query_range"}
    assert len(other.requests) == len(server.requests)
    assert not {"Authorization", "X-Scope-OrgID"} & set(other.requests[0].headers)


async def test_a_backtest_goes_through_the_sources_proxy_with_its_certificate(
    certificates: Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, context = Server(), certificates.server_context(wants_client=True)
    async with listening(server, context), proxying(Proxy()) as proxy:
        mimir = {
            "url": f"https://127.0.0.1:{server.port}",
            "proxyUrl": f"http://127.0.0.1:{proxy.port}",
            **tls(certificates, certFile="client.crt", keyFile="client.key"),
        }
        assert await backtest(tmp_path, {"mimir": mimir}) == 0
    assert "PROMOTED after 10m20s" in capsys.readouterr().out
    assert set(proxy.lines) == {f"CONNECT 127.0.0.1:{server.port}"}


async def test_a_backtest_that_is_not_let_in_says_so_without_the_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path, secret=SECRET)
    server = Server(lambda _: False)
    async with listening(server):
        url = f"http://127.0.0.1:{server.port}"
        mimir = {"url": url, "bearerTokenFile": "secret", "folder": folder}
        assert await backtest(tmp_path, {"mimir": mimir}) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"signalcanary backtest: BadResponse: {url}: HTTP 401: no: ")
    assert SECRET not in error


@pytest.mark.parametrize(
    ("options", "namespaces", "complaint"),
    [
        ((), ["other"], "spec.metricsSource: no source mimir is for the namespace ns"),
        (("--source", "thanos"), [], "--source: no source thanos is for the namespace ns: write"),
    ],
)
async def test_a_backtest_asks_no_source_but_one_for_its_namespace(
    tmp_path: Path,
    options: tuple[str, ...],
    namespaces: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mimir = {"url": "http://127.0.0.1:1", "namespaces": namespaces}
    assert await backtest(tmp_path, {"mimir": mimir}, *options) == 2
    assert complaint in capsys.readouterr().err


# --------------------------------------------------------------------------- limits


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_queries_are_under_way_than_are_allowed(limit: int) -> None:
    server = Server(pause=0.02)
    async with listening(server):
        url = f"http://127.0.0.1:{server.port}"
        source = Prometheus(SourceConfig(url=url, max_concurrent_queries=limit))
        await asyncio.gather(*(source.fetch([TARGET]) for _ in range(3)))
        source.close()
    assert len(server.requests) == 3 * len(series_names([TARGET]))
    assert server.most_under_way == limit


async def test_a_source_that_hangs_ends_at_its_own_deadline() -> None:
    server = Server(pause=3600)
    async with listening(server):
        url = f"http://127.0.0.1:{server.port}"
        failure = failure_of(await ask(url=url, deadline="200ms"))
    assert failure == SourceFailure("SourceTimeout", f"{url} did not answer within 200ms")


# --------------------------------------------------------------------------- which source


@dataclass
class Named:
    """A source that says which it is."""

    name: str
    asked: list[Target] = field(default_factory=list)

    async def fetch(self, targets: Any, at: Any = None) -> dict[Target, MetricsSeen]:
        self.asked += targets
        return {target: MetricsSeen(revision=self.name) for target in targets}


def of(source: str, namespace: str = "ns") -> Target:
    return Target(namespace, "demo", "01234567", "10s", frozenset({ECE}), source)


async def test_every_target_is_asked_of_the_source_it_names() -> None:
    default, thanos = Named("default"), Named("thanos")
    sources = Sources({"default": default, "thanos": thanos}, {"thanos": ["trading"]})
    targets = [of("default"), of("thanos", "trading"), of("thanos"), of("thonas", "trading")]
    seen = await sources.fetch(targets)
    assert [seen[t].revision for t in targets] == ["default", "thanos", None, None]
    assert (default.asked, thanos.asked) == ([targets[0]], [targets[1]])
    assert failure_of(seen[targets[2]]) == SourceFailure(
        "UnknownSource",
        "spec.metricsSource: no source thanos is for the namespace ns: write one of default, or "
        "ask the administrator of the operator",
    )
    assert "write one of default, thanos" in failure_of(seen[targets[3]]).message


async def test_with_an_unknown_source_the_verdict_is_error() -> None:
    fields = {"version": "v1", "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]}}
    spec = SignalCanarySpec.model_validate(fields | {"metricsSource": "nowhere"})
    assert spec.metrics_source == "nowhere"
    seen = await Sources({"default": Named("default")}, {}).fetch([of(spec.metrics_source)])
    judgements = evaluate(spec, seen[of("nowhere")], datetime.now(UTC))
    assert {(j.verdict, j.reason) for j in judgements} == {(Verdict.ERROR, "UnknownSource")}


# --------------------------------------------------------------------------- the file


def test_a_file_of_sources_is_read(tmp_path: Path, certificates: Certificates) -> None:
    written(tmp_path, token="t")
    file = tmp_path / "sources.yaml"
    file.write_text(
        f"""
sources:
  default: {{url: http://prometheus:9090}}
  mimir:
    url: https://mimir/prometheus/
    tenant: team-a
    bearerTokenFile: token
    folder: {tmp_path}
    tls: {{caFile: {certificates["ca.crt"]}}}
    deadline: 20s
    maxConcurrentQueries: 2
    namespaces: [trading]
"""
    )
    options = parse_options([f"--metrics-sources={file}", "--workloads-image=w:1"])
    mimir = options.sources["mimir"]
    assert set(options.sources) == {"default", "mimir"}
    assert (mimir.url, mimir.deadline) == ("https://mimir/prometheus", timedelta(seconds=20))
    assert mimir.file(mimir.bearer_token_file) == tmp_path / "token"


URL = {"url": "https://thanos:9090"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "sources.a.url: is missing"),
        ({"url": "prometheus:9090"}, "sources.a.url: write http://HOST:PORT"),
        ({"url": "http://prometheus:99999"}, "sources.a.url: write http://HOST:PORT"),
        ({"url": "http://a b/"}, "sources.a.url: write http://HOST:PORT"),
        ({"url": f"http://u:{SECRET}@h"}, "sources.a.url: write it without user and password"),
        ({"url": "http://h/?a=b"}, "sources.a.url: write the address without ? and #"),
        (URL | {"proxyUrl": f"http://u:{SECRET}@h"}, "sources.a.proxyUrl: write it without user"),
        (URL | {"bearerToken": SECRET}, "sources.a.bearerToken: unknown field: write one of url"),
        (URL | {"tenant": "a\r\nX: b"}, "sources.a.tenant: write letters"),
        (URL | {"deadline": "5m"}, "sources.a.deadline: write at most 30s"),
        (URL | {"maxConcurrentQueries": 0}, "sources.a.maxConcurrentQueries: "),
        (URL | {"tls": {"certFile": "a"}}, "sources.a.tls: write certFile and keyFile"),
        ({"url": "http://h", "tls": {}}, "sources.a: tls is for https"),
        (
            URL | {"bearerTokenFile": "t", "basicAuth": {"usernameFile": "u", "passwordFile": "p"}},
            "sources.a: write one of bearerTokenFile and basicAuth",
        ),
        (URL | {"bearerTokenFile": "/absent/token"}, "sources.a: /absent/token cannot be read"),
        (URL | {"tls": {"caFile": "/absent/ca"}}, "sources.a: /absent/ca holds no certificate"),
        (
            URL | {"tls": {"certFile": "/absent/crt", "keyFile": "/absent/key"}},
            "sources.a: /absent/crt and /absent/key are no pair: No such file",
        ),
    ],
)
def test_wrong_sources_are_refused_in_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SourcesError) as refused:
        parse_sources({"sources": {"a": fields}})
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "sources: {}", "a: b", "sources: {A_b: {url: x}}"])
def test_what_is_no_file_of_sources_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(text)
    with pytest.raises(SourcesError, match="write"):
        read_sources(file)


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "\x00"])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, token=text) / "token"
    with pytest.raises(SourcesError, match="must hold one line of text"):
        parse_sources({"sources": {"a": URL | {"bearerTokenFile": str(file)}}})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no metrics source: give --prometheus-url or --metrics-sources"),
        (["--metrics-sources=/absent"], "/absent cannot be read"),
        (["--prometheus-url=http://u:s3cr3t@h"], "write it without user and password"),
        (["--metrics-sources={file}", "--prometheus-url=http://h"], "both give the metrics source"),
    ],
)
def test_the_operator_does_not_start_without_sources_that_can_be_used(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text("sources: {default: {url: http://h}}")
    arguments = [argument.format(file=file) for argument in arguments]
    with pytest.raises(SystemExit):
        parse_options([*arguments, "--workloads-image=w:1"])
    said = capsys.readouterr().err
    assert words in said
    assert "s3cr3t" not in said
