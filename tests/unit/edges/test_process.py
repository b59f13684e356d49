"""The process around the loop: its options, what it says of itself, and its handlers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import aiohttp
import kopf
import pytest
from prometheus_client import CollectorRegistry

from signalcanary.handlers import build_registry, build_settings
from signalcanary.operator import parse_options
from signalcanary.store import Store
from signalcanary.telemetry import LIVENESS_DEADLINE_SECONDS, Health, OperatorMetrics, serve

REQUIRED = ["--prometheus-url=http://prometheus:9090", "--workloads-image=workloads:1"]


class Time:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_leader_whose_loop_stands_still_is_dead() -> None:
    time = Time()
    health = Health(monotonic=time)
    health.is_leader = True
    time.seconds += LIVENESS_DEADLINE_SECONDS
    assert health.liveness_problem() is None
    time.seconds += 1
    assert health.liveness_problem() == "the last round of the poller was completed 61 s ago"
    health.round_completed()
    assert health.liveness_problem() is None


def test_a_replica_that_stands_by_is_alive_however_long() -> None:
    time = Time()
    health = Health(monotonic=time)
    time.seconds += 1e6
    assert health.liveness_problem() is None


async def test_health_and_metrics_are_served() -> None:
    time = Time()
    health, metrics = Health(monotonic=time), OperatorMetrics(CollectorRegistry())
    metrics.leader.set(1)
    async with serve("127.0.0.1", 0, metrics, health) as url, aiohttp.ClientSession() as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(url + path) as answer:
                return answer.status, await answer.text()

        assert (await get("/readyz"))[0] == 503
        health.is_watching = True
        assert await get("/readyz") == (200, "ok")
        assert "signalcanary_leader 1.0" in (await get("/metrics"))[1]
        health.is_leader = True
        time.seconds += 1000
        assert (await get("/healthz"))[0] == 503


def test_options_have_defaults_and_environment_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = parse_options([*REQUIRED, "--listen=[::1]:9000"])
    assert (options.host, options.port) == ("::1", 9000)
    assert options.namespace is None
    assert options.sources["default"].deadline == timedelta(seconds=8)
    monkeypatch.setenv("SIGNALCANARY_PROMETHEUS_URL", "https://prometheus/base")
    monkeypatch.setenv("SIGNALCANARY_WORKLOADS_IMAGE", "w@sha256:1")
    assert options.rest_interval == timedelta(seconds=30)
    monkeypatch.setenv("SIGNALCANARY_STATUS_INTERVAL", "2s")
    monkeypatch.setenv("SIGNALCANARY_REST_INTERVAL", "3m")
    monkeypatch.setenv("SIGNALCANARY_NAMESPACE", "")  # as the chart sets it for all namespaces
    monkeypatch.setenv("SIGNALCANARY_IDENTITY", "pod-1")
    options = parse_options([])
    assert options.namespace is None
    assert options.identity == "pod-1"
    assert options.settings.status_interval == timedelta(seconds=2)
    assert options.rest_interval == timedelta(minutes=3)
    assert options.settings.workloads_image == "w@sha256:1"


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--prometheus-url=prometheus:9090", "write http://HOST:PORT"),
        ("--prometheus-url=", "write http://HOST:PORT"),
        ("--prometheus-deadline=0s", "must be above 0s and at most 30s"),
        ("--prometheus-deadline=5m", "must be above 0s and at most 30s"),
        ("--status-interval=soon", "is not a duration"),
        ("--rest-interval=0s", "must be at least 1s"),
        ("--listen=8080", "write HOST:PORT"),
        ("--listen=0.0.0.0:80800", "write HOST:PORT"),
        ("--image-pull-policy=Sometimes", "invalid choice"),
        ("--workload-pods={", "Invalid JSON"),
        ('--workload-pods={"tolerations": [{"effect": "Never"}]}', "tolerations.0.effect"),
    ],
)
def test_a_wrong_option_is_refused_in_words(
    argument: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options([*REQUIRED, argument])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PROMETHEUS_URL", ""),
        ("PROMETHEUS_URL", "prometheus"),
        ("PROMETHEUS_DEADLINE", "later"),
        ("STATUS_INTERVAL", "x"),
        ("REST_INTERVAL", "soon"),
        ("LISTEN", "nowhere"),
    ],
)
def test_a_wrong_variable_is_refused_as_the_option_is(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"SIGNALCANARY_{variable}", value)
    with pytest.raises(SystemExit):
        parse_options(REQUIRED[1:] if variable == "PROMETHEUS_URL" else REQUIRED)
    assert variable.lower().replace("_", "-") in capsys.readouterr().err


@pytest.mark.parametrize("kind", [None, "ADDED", "MODIFIED"], ids=repr)
async def test_every_kind_of_event_reaches_the_store(kind: Any) -> None:
    store = Store()
    (handler,) = [
        h for h in build_registry(store)._watching.get_all_handlers() if "signalcan" in h.id
    ]
    item = {"metadata": {"namespace": "default", "name": "demo", "uid": "u", "labels": None}}
    await handler.fn(event={"type": kind, "object": item})  # type: ignore[call-arg,misc]
    assert len(store.canaries()) == 1
    await handler.fn(event={"type": "DELETED", "object": item})  # type: ignore[call-arg,misc]
    assert store.canaries() == {}


def test_kopf_writes_nothing_and_waits_for_nothing() -> None:
    settings = build_settings()
    assert settings.peering.standalone
    assert not settings.posting.enabled
    registry = build_registry(Store())
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert isinstance(registry, kopf.OperatorRegistry)
