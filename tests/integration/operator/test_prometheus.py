"""Metrics sources and queries against a real Prometheus, and the CEL rules of a real API server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import ApiServer, Missing, eventually, find_tool, free_ports, process
from test_cluster import CANARIES, manifest

from signalcanary.api import MAX_CONDITIONS, SignalCanarySpec
from signalcanary.cli import main
from signalcanary.evaluate import Judgement, evaluate
from signalcanary.metrics_source import BadResponse, build_target
from signalcanary.prometheus import Prometheus
from signalcanary.promql import MAX_QUERY_LENGTH
from signalcanary.sources import SourceConfig


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceConfig]:
    """A Prometheus that scrapes itself, under a path, and lets in whom its authority knows."""
    try:
        program = find_tool("prometheus")
    except Missing as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("prometheus")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    # One certificate is authority, server and client at once.
    names = ("-addext", "subjectAltName=DNS:prometheus.test", "-subj", "/CN=prometheus.test")
    openssl(folder, *new, "-keyout", "tls.key", "-out", "tls.crt", "-days", "2", *names)
    tls = "cert_file: tls.crt\n  key_file: tls.key\n  client_ca_file: tls.crt"
    web = f"tls_server_config:\n  {tls}\n  client_auth_type: RequireAndVerifyClientCert\n"
    (folder / "web.yml").write_text(web)
    (folder / "prometheus.yml").write_text("global: {scrape_interval: 1s}\n")
    (port,) = free_ports(1)
    command = [program, f"--web.listen-address=127.0.0.1:{port}", "--web.config.file=web.yml"]
    command += ["--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command += [f"--web.external-url=https://127.0.0.1:{port}/base"]
    log = folder / "log"
    with process(command, log, cwd=folder):
        eventually(
            "Prometheus is ready", lambda: "ready to receive web requests" in log.read_text()
        )
        yield SourceConfig.model_validate(
            {
                "url": f"https://127.0.0.1:{port}/base",
                "folder": folder,
                "tls": {
                    "caFile": "tls.crt",
                    "certFile": "tls.crt",
                    "keyFile": "tls.key",
                    "serverName": "prometheus.test",
                },
            }
        )


async def judge(config: SourceConfig, query: str) -> Judgement:
    condition = {"name": "own", "query": query, "above": 1}
    fields = {"version": "v1", "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]}}
    spec = SignalCanarySpec.model_validate(fields | {"rollback": {"conditions": [condition]}})
    target = build_target(spec, "trading", "demo", "01234567")
    source = Prometheus(config)
    try:
        seen = (await source.fetch([target]))[target]
    finally:
        source.close()
    assert seen.failure is None
    (judgement,) = evaluate(spec, seen, datetime.now(UTC))
    return judgement


LABELLED = 'label_replace(vector(2), "symbol", "BTCUSDT", "", "")'


@pytest.mark.parametrize(
    ("query", "verdict", "reason"),
    [
        ("vector(1)", "Ok", "WithinThreshold"),
        ("1 + 1", "Breached", "BeyondThreshold"),
        (f"{LABELLED} # for {{{{symbol}}}}", "Breached", "BeyondThreshold"),
        ('absent(up{symbol=~"{{symbol}}", a!~"{{namespace}}"}) * 2', "Breached", "BeyondThreshold"),
        ('up{symbol="{{symbol}}"}', "NoData", "Absent"),
        ("vector(0) / 0", "NoData", "NotFinite"),
        (f"{LABELLED} or vector(3)", "NoData", "Ambiguous"),
        ("up[5m]", "Error", "BadResponse"),
        ('"text"', "Error", "BadResponse"),
        ("sum(", "Error", "BadResponse"),
    ],
)
async def test_a_real_prometheus_answers_a_query(
    prometheus: SourceConfig, query: str, verdict: str, reason: str
) -> None:
    judgement = await judge(prometheus, query)
    assert (judgement.verdict, judgement.reason) == (verdict, reason), judgement.message


async def test_a_real_prometheus_lets_nobody_in_without_a_certificate(
    prometheus: SourceConfig,
) -> None:
    assert prometheus.tls is not None
    anonymous = prometheus.tls.model_copy(update={"cert_file": None, "key_file": None})
    config = prometheus.model_copy(update={"tls": anonymous, "max_concurrent_queries": 1})
    spec = SignalCanarySpec.model_validate(
        {"version": "v1", "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]}}
    )
    target = build_target(spec, "trading", "demo", "01234567")
    source = Prometheus(config)
    failure = (await source.fetch([target]))[target].failure
    source.close()
    assert failure is not None
    assert failure.reason == "SourceUnreachable"


GOOD = {"name": "depth", "query": 'min(depth{symbol="{{symbol}}"})', "below": 10}


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (GOOD, ""),
        (GOOD | {"metric": "platt_ece"}, "write either metric, or name and query"),
        ({"name": "depth", "below": 10}, "write either metric, or name and query"),
        ({"query": "vector(1)", "below": 10}, "write either metric, or name and query"),
        ({"below": 10}, "write either metric, or name and query"),
        (GOOD | {"name": "platt_ece"}, "that no metric of ours has"),
        (GOOD | {"name": "A-b"}, "write a name of lower-case letters"),
        (GOOD | {"query": 'up{a="{{pod}}"}'}, "unknown placeholder: write {{symbol}}"),
        *(
            (GOOD | {"query": query}, "quotes only, as in {symbol=")
            for query in (
                "depth_{{symbol}}",
                "up{a={{symbol}}}",
                '{"{{symbol}}"}',
                'label_replace(up, "a", "{{symbol}}", "b", "c")',
                "up{a=`{{symbol}}`}",
                'up # a="\n + {{symbol}} # "',
                'up{a="b}',
                'up{a="{{symbol}"}',
            )
        ),
        *(
            (GOOD | {"query": query}, "")
            for query in (
                "up{a='{{name}}'} # it's {{symbol}}",
                'up{a != "{{revision}}-{{track}}"}\n/ up{b=~"a{2}\\\\d"}',
            )
        ),
        (GOOD | {"query": 'up{a="\\{{symbol}}"}'}, "write no "),
        (GOOD | {"query": "  "}, "the query is empty"),
        (GOOD | {"query": "x" * 2049}, "2048"),
        (GOOD | {"minSamples": 5}, "take minSamples out"),
        (GOOD | {"of": "difference"}, "take of out"),
        (GOOD | {"above": 5}, "write exactly one of above and below"),
    ],
)
def test_the_api_server_refuses_a_wrong_query_in_words(
    api: ApiServer, namespace: str, condition: dict[str, Any], words: str
) -> None:
    item = manifest(namespace, rollback={"conditions": [condition]}, metricsSource="thanos")
    status, answer = api.request("POST", CANARIES.format(namespace) + "?dryRun=All", item)
    assert (status == 201) == (not words), answer
    assert words in str(answer)


def test_as_many_and_as_long_queries_as_may_be_are_within_the_api_servers_budget(
    api: ApiServer, namespace: str
) -> None:
    long = "up{" + 'a=~"{{symbol}}",' * 127 + "}"
    assert 2030 < len(long) <= MAX_QUERY_LENGTH
    conditions = [GOOD | {"name": f"own_{n}", "query": long} for n in range(MAX_CONDITIONS)]
    path = CANARIES.format(namespace) + "?dryRun=All"
    item = manifest(namespace, rollback={"conditions": conditions}, metricsSource="thanos")
    status, answer = api.request("POST", path, item)
    assert status == 201, answer
    conditions[-1]["query"] = long.removesuffix("}") + "{{symbol}}}"
    status, answer = api.request("POST", path, item)
    assert "quotes only, as in {symbol=" in str(answer)


LIVE = """\
apiVersion: signalcanary.dev/v1alpha1
kind: SignalCanary
metadata: {name: demo, namespace: trading}
spec:
  version: v1
  symbols: {canary: [BTCUSDT], full: [BTCUSDT]}
  metricsSource: inner
  rollback:
    conditions:
    - {metric: platt_ece, above: 0.1}
    - {name: own, query: 'QUERY', above: 5}
"""


def sources_file(prometheus: SourceConfig, folder: Path) -> Path:
    """The administrator's file, with one source in it."""
    assert prometheus.folder is not None
    given = prometheus.to_wire()
    for name in ("caFile", "certFile", "keyFile"):
        given["tls"][name] = str(prometheus.folder / given["tls"][name])
    file = folder / "sources.yaml"
    file.write_text(yaml.safe_dump({"sources": {"inner": given | {"folder": None}}}))
    return file


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ('count(up{a!="{{symbol}}"}) or vector(0)', 0, "good: own on BTCUSDT is"),
        ("vector(1) or vector(2", 1, "problem: https"),
        ('no_such_metric{symbol="{{symbol}}"}', 1, "problem: the query of own gives nothing"),
    ],
    ids=["one number", "no PromQL", "nothing"],
)
def test_lint_asks_a_real_prometheus_before_anything_is_applied(
    prometheus: SourceConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    query: str,
    code: int,
    words: str,
) -> None:
    file, sources = tmp_path / "canary.yaml", sources_file(prometheus, tmp_path)
    file.write_text(LIVE.replace("QUERY", query.replace("'", "''")))
    assert main(["lint", str(file), "--live", "--sources", str(sources)]) == code
    told = capsys.readouterr().out
    assert words in told
    assert "note: no series of platt_ece on BTCUSDT yet: revision" in told


def test_a_history_is_read_of_a_real_prometheus(
    prometheus: SourceConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = datetime(2026, 5, 1, 8, tzinfo=UTC)
    step = timedelta(milliseconds=2_500)
    with closing(Prometheus(prometheus)) as source:
        (series,) = source.fetch_range("vector(time())", last - 4 * step, last, step)
        with pytest.raises(BadResponse, match=r"HTTP 4(00|22): "):
            source.fetch_range("vector(1", last - step, last, step)
    times = [(last - n * step).timestamp() for n in (4, 3, 2, 1, 0)]
    assert [[at, float(value)] for at, value in series["values"]] == [[t, t] for t in times]
    file, sources = tmp_path / "canary.yaml", sources_file(prometheus, tmp_path)
    file.write_text(LIVE[: LIVE.index("    - {name: own")])
    words = ["backtest", str(file), "--sources", str(sources), "--start", "now-1h"]
    assert main(words) == 2
    assert "the recorded data holds no series" in capsys.readouterr().err
