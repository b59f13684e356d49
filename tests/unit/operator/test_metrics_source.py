"""Reading metrics: what belongs to whom, and what a hostile answer may not bring about.

The hostile answers are those on which other controllers promote or roll back what they know
nothing of; here each is played by a server on the loopback, through the real client, with
`decide` on top.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import (
    EVIDENCE_SAMPLES,
    EVIDENCE_TIMESTAMP,
    HEARTBEAT,
    WARMUP,
    Track,
)
from signalcanary.evaluate import Judgement, MetricsSeen, evaluate
from signalcanary.lifecycle import decide
from signalcanary.metrics_source import (
    BadResponse,
    Prometheus,
    Series,
    Target,
    assemble,
    escape,
    parse_vector,
    series_names,
)
from signalcanary.revisions import build_revision, refer_to
from signalcanary.rollout import (
    Observations,
    Phase,
    RolloutState,
    TrackSeen,
)

SPEC = SignalCanarySpec.model_validate(
    {
        "version": "v1",
        "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]},
        "stages": [{"name": "canary", "duration": "0s"}],
        "rollback": {"conditions": [{"metric": "platt_ece", "above": 0.1}]},
    }
)
REVISION = refer_to(build_revision(SPEC, "img:1"), 1)
TARGET = Target("ns", "demo", REVISION.name, frozenset({"platt_ece"}))
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
UNIX = NOW.timestamp()
LABELS = {
    "namespace": "ns",
    "signalcanary": "demo",
    "track": "canary",
    "revision": REVISION.name,
    "symbol": "BTCUSDT",
}


# ------------------------------------------------------------------ assemble


def series(
    metric: str = "platt_ece", value: float = 0.05, drop: tuple[str, ...] = (), **labels: str
) -> Series:
    return Series(metric, {k: v for k, v in (LABELS | labels).items() if k not in drop}, value)


def evidence(name: str, value: float, **labels: str) -> Series:
    return Series(name, LABELS | {"metric": "platt_ece"} | labels, value)


def seen_of(*items: Series) -> MetricsSeen:
    return assemble([TARGET], items)[TARGET]


def judged(*items: Series) -> Judgement:
    (judgement,) = evaluate(SPEC, seen_of(*items), NOW)
    return judgement


def test_a_value_with_its_evidence_is_judged() -> None:
    seen = seen_of(
        series(),
        evidence(EVIDENCE_TIMESTAMP, UNIX - 5),
        evidence(EVIDENCE_SAMPLES, 4000),
        series(HEARTBEAT, UNIX - 1),
        series(WARMUP, 0.5),
    )
    measurement = seen.measurements["platt_ece", "BTCUSDT"]
    assert measurement.values == (0.05,)
    assert measurement.samples == 4000
    assert measurement.evaluated_at == NOW - timedelta(seconds=5)
    assert seen.heartbeats == {"BTCUSDT": NOW - timedelta(seconds=1)}
    assert seen.warmup_ratio == {"BTCUSDT": 0.5}
    assert seen.revision == REVISION.name


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"revision": "deadbeef"}, id="another revision"),
        pytest.param({"namespace": "other"}, id="another namespace"),
        pytest.param({"signalcanary": "other"}, id="another SignalCanary"),
        pytest.param({"track": "stable"}, id="the stable track"),
        pytest.param({"symbol": "ETHUSDT"}, id="another symbol"),
    ],
)
def test_what_is_of_something_else_is_not_judged(labels: dict[str, str]) -> None:
    judgement = judged(
        Series("platt_ece", LABELS | labels, 0.9), evidence(EVIDENCE_TIMESTAMP, UNIX, **labels)
    )
    assert judgement.reason == "Absent"
    both = judged(
        series(),
        evidence(EVIDENCE_TIMESTAMP, UNIX),
        Series("platt_ece", LABELS | labels, 0.9),
        evidence(EVIDENCE_TIMESTAMP, UNIX, **labels),
    )
    assert (both.reason, both.value) == ("WithinThreshold", 0.05)


@pytest.mark.parametrize("label", LABELS)
def test_a_series_that_lacks_a_label_is_dropped(label: str) -> None:
    assert judged(series(drop=(label,)), evidence(EVIDENCE_TIMESTAMP, UNIX)).reason == "NoValue"


def test_a_value_without_evidence_is_not_judged() -> None:
    assert judged(series()).reason == "Absent"


def test_two_series_of_one_value_are_ambiguous() -> None:
    twice = judged(
        series(),
        Series("platt_ece", LABELS | {"pod": "b"}, 0.05),
        evidence(EVIDENCE_TIMESTAMP, UNIX),
    )
    assert twice.reason == "Ambiguous"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 0.0, -1.0])
@pytest.mark.parametrize("is_first", [True, False])
def test_evidence_that_is_no_time_is_none_whatever_stands_beside_it(
    bad: float, is_first: bool
) -> None:
    stamps = [evidence(EVIDENCE_TIMESTAMP, bad), evidence(EVIDENCE_TIMESTAMP, UNIX, pod="b")]
    assert judged(series(), *(stamps if is_first else reversed(stamps))).reason == "Absent"


def test_of_two_times_the_older_is_believed() -> None:
    stamps = evidence(EVIDENCE_TIMESTAMP, UNIX), evidence(EVIDENCE_TIMESTAMP, UNIX - 500, pod="b")
    assert judged(series(), *stamps).reason == "Stale"


@given(
    st.sampled_from([EVIDENCE_SAMPLES, EVIDENCE_TIMESTAMP, HEARTBEAT, WARMUP, "platt_ece"]),
    st.floats(),
)
def test_no_number_breaks_anything(name: str, value: float) -> None:
    seen = seen_of(
        evidence(EVIDENCE_TIMESTAMP, UNIX), evidence(name, value), Series(name, LABELS, value)
    )
    evaluate(SPEC, seen, NOW)
    assert all(0 <= ratio <= 1 for ratio in seen.warmup_ratio.values())


# ------------------------------------------------------------------ parse_vector, escape


def item(value: Any = "0.05", at: Any = UNIX, metric: Any = None) -> dict[str, Any]:
    return {"metric": LABELS if metric is None else metric, "value": [at, value]}


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.05", 0.05), ("+Inf", float("inf")), ("-Inf", float("-inf")), ("1e-3", 0.001)],
)
def test_the_numbers_of_prometheus_are_read(text: str, value: float) -> None:
    assert parse_vector("m", [item(text)], NOW) == [Series("m", LABELS, value)]


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(None, id="null"),
        pytest.param("0.05", id="text"),
        pytest.param({"a": 1}, id="an object"),
        pytest.param([UNIX, "0.05"], id="a scalar"),
        pytest.param([{"metric": LABELS, "values": [[UNIX, "0.05"]]}], id="a range vector"),
        pytest.param([item("abc")], id="no number"),
        pytest.param([item("1_0")], id="a number as only Python reads it"),
        pytest.param([item(True)], id="a boolean"),
        pytest.param([item(10**400)], id="a number too large for a float"),
        pytest.param([item(None)], id="no value"),
        pytest.param([{"metric": LABELS, "value": "05"}], id="a text for the pair"),
        pytest.param([{"metric": LABELS, "value": [UNIX]}], id="half a pair"),
        pytest.param([{"metric": LABELS, "value": [UNIX, "1", "2"]}], id="more than a pair"),
        pytest.param([item(metric={"symbol": {}})], id="a label that is an object"),
        pytest.param([item(metric=[["a", "b"]])], id="labels as a list"),
        pytest.param([item(metric="a")], id="labels as a text"),
        pytest.param([item(at=UNIX - 3600)], id="a sample an hour old"),
        pytest.param([item(at=UNIX + 3600)], id="a sample an hour ahead"),
        pytest.param([item(at="NaN")], id="a sample of no time"),
        pytest.param([item(), None], id="one good and one null"),
    ],
)
def test_what_is_no_instant_vector_of_now_is_refused(result: Any) -> None:
    with pytest.raises(BadResponse):
        parse_vector("m", result, NOW)


def test_a_label_value_cannot_leave_its_quotes() -> None:
    assert escape('a"} or up{x="\\\n') == 'a\\"} or up{x=\\"\\\\\\n'


@given(st.text(max_size=30))
def test_an_escaped_text_has_no_bare_quote_and_no_line_end(text: str) -> None:
    inside = re.sub(r"\\.", "", escape(text))
    assert '"' not in inside
    assert "\n" not in escape(text)


# ------------------------------------------------------------------ the real client


Answer = Callable[[str, list[dict[str, Any]]], web.StreamResponse]


@dataclass
class FakePrometheus:
    """Healthy and fresh, until `twist` makes something else of it."""

    twist: Answer = field(default=lambda name, vector: ok(vector))
    value: float = 0.05
    age: float = 1.0
    requests: list[dict[str, str]] = field(default_factory=list)
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    hangs: bool = False
    url: str = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(dict(request.query))
        if self.hangs:
            await self.ends.wait()
        name = request.query["query"].partition("{")[0]
        return self.twist(name, self.vector(name))

    def vector(self, name: str) -> list[dict[str, Any]]:
        now = datetime.now(UTC).timestamp()
        labels = {"__name__": name} | LABELS
        match name:
            case "platt_ece":
                value = self.value
            case "signal_warmup_ratio":
                value = 1.0
            case "signal_evidence_samples":
                labels, value = labels | {"metric": "platt_ece"}, 5000.0
            case "signal_evidence_timestamp_seconds":
                labels, value = labels | {"metric": "platt_ece"}, now - self.age
            case _:
                value = now - self.age
        return [{"metric": labels, "value": [now, repr(value)]}]


def ok(result: Any, result_type: str = "vector", **more: Any) -> web.Response:
    data = {"resultType": result_type, "result": result}
    return web.json_response({"status": "success", "data": data} | more)


def raw(body: str | bytes, status: int = 200) -> Answer:
    data = body.encode() if isinstance(body, str) else body
    return lambda name, vector: web.Response(body=data, status=status)


def of_value(change: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> Answer:
    """Only the judged metric's own series is changed."""
    return lambda name, vector: ok(change(vector[0]) if name == "platt_ece" else vector)


def valued(*texts: Any) -> Answer:
    return of_value(
        lambda s: [
            {"metric": s["metric"] | {"pod": f"p{i}"}, "value": [s["value"][0], text]}
            for i, text in enumerate(texts)
        ]
    )


def shifted(seconds: float) -> Answer:
    return lambda name, vector: ok(
        [{"metric": s["metric"], "value": [s["value"][0] + seconds, s["value"][1]]} for s in vector]
    )


def as_range(name: str, vector: list[dict[str, Any]]) -> web.Response:
    return ok([{"metric": s["metric"], "values": [s["value"]]} for s in vector], "matrix")


def truncated(name: str, vector: list[dict[str, Any]]) -> web.Response:
    body = ok(vector).body
    assert isinstance(body, bytes)
    return web.Response(body=body[: len(body) // 2])


def partial(name: str, vector: list[dict[str, Any]]) -> web.Response:
    return ok([], warnings=["store unreachable"])


def error_with_data(name: str, vector: list[dict[str, Any]]) -> web.Response:
    data = {"resultType": "vector", "result": vector}
    return web.json_response({"status": "error", "error": "half of it", "data": data})


@asynccontextmanager
async def listening(fake: FakePrometheus) -> AsyncIterator[FakePrometheus]:
    app = web.Application()
    app.router.add_get("/api/v1/query", fake.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield fake
    finally:
        fake.ends.set()
        await runner.cleanup()


async def looks(
    fake: FakePrometheus, deadline: timedelta = timedelta(seconds=5), count: int = 3
) -> tuple[RolloutState, MetricsSeen, tuple[Judgement, ...]]:
    """Several looks at a canary that would be promoted, or rolled back, at the first of them."""
    source = Prometheus(fake.url, deadline)
    state = RolloutState()
    tracks = {
        (track, REVISION.name): TrackSeen(pods=2, is_ready=True)
        for track in (Track.CANARY, Track.STABLE)
    }
    try:
        for _ in range(count):
            seen = (await source.fetch([TARGET]))[TARGET]
            observed = Observations(1, REVISION, seen, tracks)
            decision = decide(SPEC, state, observed, datetime.now(UTC))
            state = decision.state
    finally:
        source.close()
    return state, seen, decision.judgements


async def test_the_healthy_series_is_promoted() -> None:
    async with listening(FakePrometheus()) as fake:
        state, _, _ = await looks(fake)
    assert state.phase is Phase.SUCCEEDED


async def test_the_bad_series_is_rolled_back() -> None:
    async with listening(FakePrometheus(value=0.25)) as fake:
        state, _, _ = await looks(fake)
    assert state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    assert state.reason == "ConditionBreached"


UNKNOWN = {
    "NaN": (valued("NaN"), "NotFinite"),
    "+Inf": (valued("+Inf"), "NotFinite"),
    "−Inf": (valued("-Inf"), "NotFinite"),
    "an empty vector for the value": (valued(), "NoValue"),
    "an empty vector for everything": (lambda name, vector: ok([]), "Absent"),
    "two series, the good one first": (valued("0.05", "0.25"), "Ambiguous"),
    "two series, the bad one first": (valued("0.25", "0.05"), "Ambiguous"),
    "a value that cannot be": (valued("1.5"), "OutOfRange"),
}
ILL = {
    "a sample an hour old": shifted(-3600),
    "a sample an hour ahead": shifted(3600),
    "a range vector where an instant was asked": as_range,
    "a value that is not a number": valued("abc"),
    "a value that is no text": valued(0.05),
    "a scalar": lambda name, vector: ok([1, "0.05"], "scalar"),
    "status: error": raw(json.dumps({"status": "error", "errorType": "x", "error": "y"})),
    "status: error beside data": error_with_data,
    "a partial answer": partial,
    "null data": raw('{"status": "success", "data": null}'),
    "null": raw("null"),
    "a list": raw("[]"),
    "HTML": raw("<html><body>sign in</body></html>"),
    "truncated JSON": truncated,
    "an empty body": raw(""),
    "bytes that are no text": raw(b"\xff\xfe\x00"),
    "JSON nested without end": raw("[" * 100_000),
    **{f"HTTP {code}": raw("{}", code) for code in (500, 503, 429, 404, 401, 204, 302)},
}


@pytest.mark.parametrize(("twist", "reason"), UNKNOWN.values(), ids=UNKNOWN)
async def test_what_is_not_certain_neither_promotes_nor_rolls_back(
    twist: Answer, reason: str
) -> None:
    async with listening(FakePrometheus(twist)) as fake:
        state, seen, judgements = await looks(fake)
    assert seen.failure is None
    assert [j.reason for j in judgements] == [reason]
    assert state.phase is Phase.WARMING


@pytest.mark.parametrize(
    ("age", "reason"), [(3600.0, "Stale"), (-3600.0, "ClockAhead")], ids=["old", "ahead"]
)
async def test_an_evaluation_of_another_hour_neither_promotes_nor_rolls_back(
    age: float, reason: str
) -> None:
    async with listening(FakePrometheus(age=age)) as fake:
        state, _, judgements = await looks(fake)
    assert [j.reason for j in judgements] == [reason]
    assert state.phase is Phase.WARMING


@pytest.mark.parametrize("value", [0.05, 0.25], ids=["healthy", "bad"])
@pytest.mark.parametrize("twist", ILL.values(), ids=ILL)
async def test_an_answer_that_is_ill_is_the_fault_of_the_source(
    twist: Answer, value: float
) -> None:
    async with listening(FakePrometheus(twist, value)) as fake:
        state, seen, judgements = await looks(fake)
    assert seen.failure is not None
    assert seen.failure.reason == "BadResponse"
    assert [j.reason for j in judgements] == ["BadResponse"]
    assert state.phase is Phase.WARMING
    assert state.timers == {}


async def test_a_source_that_hangs_is_given_up_at_its_deadline() -> None:
    async with listening(FakePrometheus(hangs=True)) as fake:
        state, seen, _ = await looks(fake, timedelta(milliseconds=100), count=2)
    assert seen.failure is not None
    assert seen.failure.reason == "SourceTimeout"
    assert "within 100ms" in seen.failure.message
    assert state.phase is Phase.WARMING


async def test_an_answer_that_trickles_in_is_given_up_too() -> None:
    """Each piece comes in time; the whole of it never does."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    source = Prometheus(f"http://{host}:{port}", timedelta(milliseconds=150))
    async with server:
        seen = (await source.fetch([TARGET]))[TARGET]
    source.close()
    assert seen.failure is not None
    assert seen.failure.reason == "SourceTimeout"


async def test_a_source_that_is_not_there_is_unreachable_and_its_password_unseen() -> None:
    source = Prometheus("http://admin:secret@127.0.0.1:1/")
    first = (await source.fetch([TARGET]))[TARGET].failure
    again = (await source.fetch([TARGET]))[TARGET].failure
    source.close()
    assert first is not None
    assert first.reason == "SourceUnreachable"
    assert "secret" not in first.message
    assert "127.0.0.1:1" in first.message
    assert first == again, "a message that changes with each look is written with each look"


async def test_a_query_names_its_parameters_as_prometheus_reads_them() -> None:
    """A timeout with a unit is read only as a whole number: 7.998s is refused with HTTP 400."""
    async with listening(FakePrometheus()) as fake:
        source = Prometheus(fake.url + "/", timedelta(seconds=8))
        await source.fetch([TARGET], NOW)
        source.close()
    assert [q["query"].partition("{")[0] for q in fake.requests] == ["platt_ece"]
    for query in fake.requests:
        assert 0 < float(query["timeout"]) <= 8
        assert query["time"] == f"{UNIX:.3f}"
        assert query["query"].endswith('{track=~"canary|stable",signalcanary=~"demo"}')


async def test_all_canaries_are_read_with_one_query_a_metric() -> None:
    targets = [Target("ns", f"demo-{n}", "01234567", frozenset({"platt_ece"})) for n in range(200)]
    async with listening(FakePrometheus()) as fake:
        source = Prometheus(fake.url)
        seen = await source.fetch(targets)
        source.close()
    assert len(fake.requests) == len(series_names(targets)) == 6
    assert set(seen) == set(targets)
    assert all(len(q["query"]) < 200 for q in fake.requests)


async def test_nothing_is_asked_for_nobody() -> None:
    async with listening(FakePrometheus()) as fake:
        source = Prometheus(fake.url)
        assert await source.fetch([]) == {}
        source.close()
    assert fake.requests == []
