"""The table of hostile answers: what Prometheus may say, and what may not come of it.

Each is played by a server on the loopback, through the real client, with `decide` on top, to a
canary that one good look would promote and one bad look roll back. `make docs` writes the table
to docs/judgement.md.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from signalcanary.api import DEFAULT_SOURCE, SignalCanarySpec
from signalcanary.contract import EVIDENCE_BOUND, HEARTBEAT, WARMUP, Track
from signalcanary.evaluate import Judgement, MetricsSeen
from signalcanary.lifecycle import decide
from signalcanary.metrics_source import Target, series_names
from signalcanary.prometheus import Prometheus
from signalcanary.revisions import build_revision, refer_to
from signalcanary.rollout import GUARDED, SILENCE, Observations, Phase, RolloutState, TrackSeen
from signalcanary.sources import SourceConfig, Sources

ECE = "platt_ece"
SPEC = SignalCanarySpec.model_validate(
    {
        "version": "v1",
        "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]},
        "stages": [{"name": "canary", "duration": "0s"}],
        "rollback": {"conditions": [{"metric": ECE, "above": 0.1, "minSamples": 100}]},
    }
)
REVISION = refer_to(build_revision(SPEC, "img:1"), 1)
TARGET = Target("ns", "demo", REVISION.name, "10s", frozenset({ECE}))
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LABELS = {
    "namespace": "ns",
    "signalcanary": "demo",
    "track": "canary",
    "revision": REVISION.name,
    "symbol": "BTCUSDT",
    "horizon": "10s",
}
HEALTHY, BAD = 0.05, 0.25
SHORT = timedelta(milliseconds=300)

Vector = list[dict[str, Any]]
Answer = Callable[[web.Request, str, Vector], Awaitable[web.StreamResponse]]


# --------------------------------------------------------------------------- the server


@dataclass
class FakePrometheus:
    """Healthy and fresh, until `twist` makes something else of it."""

    twist: Answer | None = None
    value: float = HEALTHY
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(dict(request.query))
        name = request.query["query"].partition("{")[0]
        twist = self.twist or plain
        return await twist(request, name, self.vector(name))

    def vector(self, name: str) -> Vector:
        now = datetime.now(UTC).timestamp()
        labels = {"__name__": name} | LABELS
        of_metric = labels | {"metric": ECE}
        if name == EVIDENCE_BOUND:
            ends = {"lower": self.value - 0.02, "upper": self.value + 0.02}
            return [
                {
                    "metric": of_metric | {"level": "0.05", "side": side, "window": window},
                    "value": [now, repr(end)],
                }
                for side, end in ends.items()
                for window in ("now", "whole")
            ]
        values = {ECE: self.value, WARMUP: 1.0, "signal_evidence_samples": 5000.0}
        own = labels if name in (ECE, HEARTBEAT, WARMUP) else of_metric
        return [{"metric": own, "value": [now, repr(values.get(name, now - 1))]}]


async def plain(request: web.Request, name: str, vector: Vector) -> web.StreamResponse:
    return ok(vector)


def ok(result: Any, result_type: str = "vector", **more: Any) -> web.Response:
    data = {"resultType": result_type, "result": result}
    return web.json_response({"status": "success", "data": data} | more)


async def sign_in(request: web.Request) -> web.Response:
    return web.Response(text="<html>sign in</html>")


@asynccontextmanager
async def listening(fake: FakePrometheus) -> AsyncIterator[FakePrometheus]:
    app = web.Application()
    app.router.add_get("/api/v1/query", fake.serve)
    app.router.add_get("/sign-in", sign_in)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield fake
    finally:
        await runner.cleanup()


async def answered(body: bytes, status: int = 200, **headers: str) -> web.Response:
    return web.Response(body=body, status=status, headers=headers)


# --------------------------------------------------------------------------- answers


def as_is(result: Callable[[Vector], web.Response], *names: str) -> Answer:
    """What is made of the series; of these metrics only, if some are named."""

    async def twist(request: web.Request, name: str, vector: Vector) -> web.StreamResponse:
        return result(vector) if not names or name in names else ok(vector)

    return twist


def raw(body: str | bytes, status: int = 200, **headers: str) -> Answer:
    data = body.encode() if isinstance(body, str) else body
    return lambda request, name, vector: answered(data, status, **headers)


def valued(*texts: Any) -> Answer:
    def several(vector: Vector) -> web.Response:
        (one,) = vector
        return ok(
            [
                {"metric": one["metric"] | {"pod": f"p{n}"}, "value": [one["value"][0], text]}
                for n, text in enumerate(texts)
            ]
        )

    return as_is(several, ECE)


def labelled(*names: str, **labels: str) -> Answer:
    return as_is(lambda vector: ok([s | {"metric": s["metric"] | labels} for s in vector]), *names)


def sampled(seconds: float) -> Answer:
    return as_is(
        lambda vector: ok([s | {"value": [s["value"][0] + seconds, s["value"][1]]} for s in vector])
    )


def exported(seconds: float) -> Answer:
    """The times that analysis exports are others; Prometheus goes on to scrape them."""
    names = ("signal_evidence_timestamp_seconds", HEARTBEAT)
    return as_is(
        lambda vector: ok(
            [s | {"value": [s["value"][0], repr(s["value"][0] + seconds)]} for s in vector]
        ),
        *names,
    )


def counted(text: str) -> Answer:
    return as_is(
        lambda vector: ok([s | {"value": [s["value"][0], text]} for s in vector]),
        "signal_evidence_samples",
    )


def bounded(change: Callable[[dict[str, str]], tuple[dict[str, str], str | None]]) -> Answer:
    """Bounds with other labels, or another value."""

    def twist(vector: Vector) -> web.Response:
        changed = [(change(s["metric"]), s["value"]) for s in vector]
        return ok(
            [
                {"metric": labels, "value": [at, old if text is None else text]}
                for (labels, text), (at, old) in changed
            ]
        )

    return as_is(twist, EVIDENCE_BOUND)


def truncated(vector: Vector) -> web.Response:
    body = ok(vector).body
    assert isinstance(body, bytes)
    return web.Response(body=body[: len(body) // 2])


def repeated_label(vector: Vector) -> web.Response:
    text = json.dumps(
        {"status": "success", "data": {"resultType": "vector", "result": vector}}
    ).replace('"track": "canary"', '"track": "stable", "track": "canary"')
    return web.Response(text=text, content_type="application/json")


def error_with_data(vector: Vector) -> web.Response:
    data = {"resultType": "vector", "result": vector}
    return web.json_response({"status": "error", "error": "half of it", "data": data})


async def hang(request: web.Request, name: str, vector: Vector) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return ok(vector)


async def trickle(request: web.Request, name: str, vector: Vector) -> web.StreamResponse:
    """Each piece comes in time; the whole of it never does."""
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    for _ in range(100_000):
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


async def reset(request: web.Request, name: str, vector: Vector) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return ok(vector)


async def breaks_off(request: web.Request, name: str, vector: Vector) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    await response.write(b'{"status": "success", ')
    assert request.transport is not None
    request.transport.abort()
    return response


# --------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Case:
    """An answer, what is judged of it, and how others take it (as measured; None: not).

    Attributes:
        silent: it holds no fresh data of this canary's at all, though the source answers.
        name: of the source that the SignalCanary asks for; the one that there is is `default`.
        namespaces: whose SignalCanaries may ask it.
        token: what the file of the bearer token holds; None for no such file.
        has_token: whether the source wants one.
    """

    answer: Answer
    verdict: str
    reason: str
    peers: tuple[str, str, str, str] | None = None
    silent: bool = False
    deadline: timedelta = timedelta(seconds=5)
    url: Callable[[str], str] = str
    name: str = DEFAULT_SOURCE
    namespaces: tuple[str, ...] = ()
    has_token: bool = False
    token: bytes | None = None


UP, BACK, OK = "**promotes**", "rolls back", "✓"
ABORT = ("aborts", "aborts", "aborts", BACK)
ALWAYS = (UP, UP, UP, UP)
RIGHT_BACK = "rolls back ✓"


def no_data(answer: Answer, reason: str, **more: Any) -> Case:
    return Case(answer, "NoData", reason, **more)


def unknown(answer: Answer, reason: str, verdict: str = "Inconclusive", **more: Any) -> Case:
    return Case(answer, verdict, reason, **more)


def ill(answer: Answer, reason: str = "BadResponse", **more: Any) -> Case:
    return Case(answer, "Error", reason, **more)


def unreadable(token: bytes | None) -> Case:
    return ill(plain, "UnreadableCredentials", has_token=True, token=token)


def http(status: int) -> Case:
    return ill(raw("{}", status), peers=ABORT)


CASES: dict[str, Case] = {
    # The 22 that were played to the others too.
    "NaN": no_data(valued("NaN"), "NotFinite", peers=(BACK, UP, "holds ✓", BACK)),
    "+Inf": no_data(valued("+Inf"), "NotFinite", peers=(RIGHT_BACK,) * 4),
    "−Inf": no_data(valued("-Inf"), "NotFinite", peers=ALWAYS),
    "an empty vector for everything": no_data(
        as_is(lambda v: ok([])),
        "Absent",
        silent=True,
        peers=("aborts (**promotes** with `all(…)`)", "aborts", "aborts", BACK),
    ),
    "two series, the good one first": no_data(
        valued("0.05", "0.25"), "Ambiguous", peers=(UP, UP, UP, RIGHT_BACK)
    ),
    "two series, the bad one first": no_data(
        valued("0.25", "0.05"), "Ambiguous", peers=(RIGHT_BACK, RIGHT_BACK, RIGHT_BACK, UP)
    ),
    "samples an hour old": ill(sampled(-3600), peers=ALWAYS),
    "samples an hour ahead": ill(sampled(3600), peers=ALWAYS),
    "a range vector where an instant was asked": ill(
        as_is(lambda v: ok([{"metric": s["metric"], "values": [s["value"]]} for s in v], "matrix")),
        peers=(UP, UP, UP, BACK),
    ),
    "a value that is not a number": ill(valued("abc"), peers=ABORT),
    "a scalar": ill(as_is(lambda v: ok([1, "0.05"], "scalar")), peers=ABORT),
    "`status: error`": ill(
        raw(json.dumps({"status": "error", "errorType": "x", "error": "y"})), peers=ABORT
    ),
    "null data": ill(raw('{"status": "success", "data": null}'), peers=ABORT),
    "HTML": ill(raw("<html><body>sign in</body></html>"), peers=ABORT),
    "truncated JSON": ill(as_is(truncated), peers=ABORT),
    "an empty body": ill(raw(""), peers=ABORT),
    **{f"HTTP {status}": http(status) for status in (500, 503, 429, 404, 401)},
    "no answer": ill(hang, "SourceTimeout", peers=ABORT, deadline=SHORT),
    # What the value is.
    "an empty vector for the value": unknown(valued(), "NoValue"),
    "a value that cannot be": no_data(valued("1.5"), "OutOfRange"),
    "a value below what can be": no_data(valued("-0.05"), "OutOfRange"),
    "a huge value": no_data(valued("1e308"), "OutOfRange"),
    "a number too large for a float": no_data(valued("1e999"), "NotFinite"),
    "a value that is a JSON number": ill(valued(0.05)),
    "a value that is the JSON word NaN": ill(valued(float("nan"))),
    "a value as only Python reads it": ill(valued("0_0.05")),
    "a value that is null": ill(valued(None)),
    "the same series twice": no_data(as_is(lambda v: ok([*v, *v]), ECE), "Ambiguous"),
    "a value at other horizons alone": unknown(
        as_is(
            lambda v: ok(
                [s | {"metric": s["metric"] | {"horizon": h}} for s in v for h in ("1m", "5m")]
            ),
            ECE,
        ),
        "NoValue",
    ),
    # Whose it is.
    "a pod of another revision": no_data(labelled(revision="deadbeef"), "Absent", silent=True),
    "a pod at another horizon": no_data(labelled(horizon="1m"), "Absent", silent=True),
    "a pod of the stable track": no_data(labelled(track="stable"), "Absent", silent=True),
    "a pod of another namespace": no_data(labelled(namespace="other"), "Absent", silent=True),
    "a pod of another SignalCanary": no_data(labelled(signalcanary="other"), "Absent", silent=True),
    "a pod of another symbol": no_data(labelled(symbol="ETHUSDT"), "Absent", silent=True),
    "only the value, without its evidence": no_data(
        as_is(lambda v: ok([]), "signal_evidence_timestamp_seconds"), "Absent"
    ),
    "a label twice in one series": ill(as_is(repeated_label)),
    "a label that is an object": ill(
        as_is(lambda v: ok([s | {"metric": {"symbol": {}}} for s in v]))
    ),
    # When it is of.
    "a frozen exporter: scraped, and an hour old": no_data(exported(-3600), "Stale", silent=True),
    "a pod whose clock is an hour ahead": no_data(exported(3600), "ClockAhead", silent=True),
    "a time of the evaluation that is NaN": no_data(
        as_is(
            lambda v: ok([s | {"value": [s["value"][0], "NaN"]} for s in v]),
            "signal_evidence_timestamp_seconds",
        ),
        "Absent",
    ),
    # How much it rests on.
    "too few samples": unknown(counted("99"), "TooFewSamples"),
    "a number of samples that is NaN": unknown(counted("NaN"), "TooFewSamples"),
    "a bound without a value": unknown(valued(), "NoValue"),
    "bounds whose level is no number": unknown(
        bounded(lambda m: (m | {"level": "strict"}, None)), "EvidenceInsufficient", "Unproven"
    ),
    "bounds of an unknown side": unknown(
        bounded(lambda m: (m | {"side": "middle"}, None)), "EvidenceInsufficient", "Unproven"
    ),
    "bounds that are NaN": unknown(
        bounded(lambda m: (m, "NaN")), "EvidenceInsufficient", "Unproven"
    ),
    "an upper bound below the lower": no_data(
        bounded(
            lambda m: (
                m,
                {"lower": "0.09", "upper": "0.02"}[m["side"]] if m["window"] == "whole" else None,
            )
        ),
        "Contradictory",
    ),
    # What kind of answer it is.
    "`status: error` beside good data": ill(as_is(error_with_data)),
    "a federation that has not reached everyone": ill(
        as_is(lambda v: ok(v, warnings=["store unreachable"]))
    ),
    "success, empty, and a warning": ill(as_is(lambda v: ok([], warnings=["store unreachable"]))),
    "a string": ill(as_is(lambda v: ok([1, "0.05"], "string"))),
    "a vector that says it is a matrix": ill(as_is(lambda v: ok(v, "matrix"))),
    "a good series and a null": ill(as_is(lambda v: ok([*v, None]))),
    "JSON null": ill(raw("null")),
    "a JSON list": ill(raw("[]")),
    "JSON nested without end": ill(raw("[" * 100_000)),
    "bytes that are no text": ill(raw(b"\xff\xfe\x00")),
    "garbage that says it is gzip": ill(raw(b"\x00garbage", **{"Content-Encoding": "gzip"})),
    "a body larger than it reads (256 MB; played with less)": ill(raw(b" " * 3_000_000)),
    "HTTP 204": ill(raw("", 204)),
    "HTTP 503 with Retry-After": ill(raw("{}", 503, **{"Retry-After": "3600"})),
    "HTTP 429 with Retry-After": ill(raw("{}", 429, **{"Retry-After": "3600"})),
    "a redirect to a page to sign in": ill(raw("", 302, Location="/sign-in")),
    "a redirect to nowhere": ill(raw("", 302)),
    "a redirect to itself": ill(
        lambda request, name, vector: answered(b"", 302, Location=str(request.rel_url)),
    ),
    # How it comes.
    "an answer that trickles in": ill(trickle, "SourceTimeout", deadline=SHORT),
    "a connection that is reset": ill(reset, "SourceUnreachable"),
    "a connection that breaks off in the answer": ill(breaks_off, "SourceUnreachable"),
    "TLS spoken to a plain port": ill(
        plain, "SourceUnreachable", url=lambda url: url.replace("http:", "https:")
    ),
    "nobody listens": ill(plain, "SourceUnreachable", url=lambda url: "http://127.0.0.1:1"),
    # What is never asked, as it is not known whom or as whom.
    "a source that is not configured": ill(plain, "UnknownSource", name="elsewhere"),
    "a source of other namespaces": ill(plain, "UnknownSource", namespaces=("other",)),
    "a file of credentials that is not there": unreadable(None),
    "a file of credentials that is empty": unreadable(b"\n"),
    "a file of credentials that is no text": unreadable(b"\xff\xfe"),
    "a file of credentials of several lines": unreadable(b"token\nanother\n"),
}


HARMLESS = Case(plain, "Ok", "EvidenceWithin", has_token=True, token=b"good\n")


async def looks(
    fake: FakePrometheus, folder: Path, case: Case = HARMLESS, count: int = 2
) -> tuple[RolloutState, MetricsSeen, tuple[Judgement, ...]]:
    """Looks at a canary that would be promoted, or rolled back, at the first of them."""
    if case.token is not None:
        (folder / "token").write_bytes(case.token)
    config = SourceConfig(
        url=case.url(fake.url),
        deadline=case.deadline,
        bearer_token_file=folder / "token" if case.has_token else None,
    )
    source = Prometheus(config, most_bytes=2_000_000)
    sources = Sources({DEFAULT_SOURCE: source}, {DEFAULT_SOURCE: case.namespaces})
    target = replace(TARGET, source=case.name)
    state = RolloutState()
    tracks = {(track, REVISION.name): TrackSeen(pods=2, is_ready=True) for track in Track}
    try:
        for _ in range(count):
            seen = (await sources.fetch([target]))[target]
            observed = Observations(1, REVISION, seen, tracks)
            decision = decide(SPEC, state, observed, datetime.now(UTC))
            state = decision.state
    finally:
        source.close()
    return state, seen, decision.judgements


async def test_the_healthy_series_is_promoted(tmp_path: Path) -> None:
    async with listening(FakePrometheus()) as fake:
        state, _, _ = await looks(fake, tmp_path)
    assert state.phase is Phase.SUCCEEDED


async def test_the_bad_series_is_rolled_back(tmp_path: Path) -> None:
    async with listening(FakePrometheus(value=BAD)) as fake:
        state, _, _ = await looks(fake, tmp_path)
    assert state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    assert state.reason == "ConditionBreached"


@pytest.mark.parametrize("value", [HEALTHY, BAD], ids=["healthy", "bad"])
@pytest.mark.parametrize("name", CASES)
async def test_a_hostile_answer_neither_promotes_nor_rolls_back(
    name: str, value: float, tmp_path: Path
) -> None:
    case = CASES[name]
    async with listening(FakePrometheus(case.answer, value)) as fake:
        state, seen, judgements = await looks(fake, tmp_path, case)
    assert [(str(j.verdict), j.reason) for j in judgements] == [(case.verdict, case.reason)]
    assert state.phase in GUARDED - {Phase.PROMOTING}
    if case.verdict == "Error":
        assert seen.failure is not None
        assert seen.failure.reason == case.reason
        assert len(seen.failure.message) < 400
        assert "another" not in seen.failure.message, "it may be a secret"
    if case.reason in ("UnknownSource", "UnreadableCredentials"):
        assert fake.requests == [], "asked without saying who asks, or somebody else"
    assert set(state.timers) == ({(SILENCE, "BTCUSDT")} if case.silent else set())


# --------------------------------------------------------------------------- the document

PAGE = Path(__file__).parents[3] / "docs" / "judgement.md"
INTRODUCTION = """\
# What is judged, and what is not

Written by `make docs` from `tests/unit/operator/test_hostile_answers.py`, which plays each of
these answers over a real connection to the real client, with `decide` on top, once beside a
healthy canary and once beside a bad one; a test keeps it in step.

A value is judged only if it is certain to be what it seems: one finite number, within the
metric's range, of this canary and revision, freshly evaluated. `Ok` may promote and `Breached`
may roll back. All else holds: `Unproven` (the evidence leaves it open), `Inconclusive` (warming
up, too few samples), `NoData` (nothing that is certain), `Error` (the metrics source is ill).
A stage's clock stands still while anything is Inconclusive, NoData or Error. While the source
is ill no breach and no silence is timed either.

The last two columns: the same answer given to Argo Rollouts (9f8d111, with a success condition /
a failure condition / both) and Flagger (1.44.0) for as long as they asked; the healthy series was
0.05, the bad one 0.25, the bound 0.1. ✓ is right: not promoted, and not taken down, on what
cannot be known; that a bad series among several takes it down is right too, and so is +Inf.
A dash: not played to them.
"""


def page() -> str:
    lines = [
        "| answer | verdict | reason | the rollout | Argo Rollouts | Flagger |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        *argo, flagger = case.peers or ("–", "–")
        told = argo[0] if len(set(argo)) == 1 else " / ".join(argo)
        held = "holds; rolled back as silent after `noDataAfter`" if case.silent else "holds"
        cells = (name, case.verdict, case.reason, held, told, flagger)
        lines.append(f"| {' | '.join(cells)} |")
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"


def test_the_document_shows_what_was_played() -> None:
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "run make docs"


# --------------------------------------------------------------------------- what is asked


async def test_a_source_that_is_not_there_is_unreachable_and_says_so_in_the_same_words() -> None:
    source = Prometheus(SourceConfig(url="http://127.0.0.1:1/"))
    first = (await source.fetch([TARGET]))[TARGET].failure
    again = (await source.fetch([TARGET]))[TARGET].failure
    source.close()
    assert first is not None
    assert first.reason == "SourceUnreachable"
    assert "127.0.0.1:1" in first.message
    assert first == again, "a message that changes with each look is written with each look"


async def test_a_query_names_its_parameters_as_prometheus_reads_them() -> None:
    """A timeout with a unit is read only as a whole number: 7.998s is refused with HTTP 400."""
    async with listening(FakePrometheus()) as fake:
        source = Prometheus(SourceConfig(url=fake.url + "/"))
        await source.fetch([TARGET], NOW)
        source.close()
    assert fake.requests
    for query in fake.requests:
        assert 0 < float(query["timeout"]) <= 8
        assert query["time"] == f"{NOW.timestamp():.3f}"
        assert query["query"].endswith('{track=~"canary|stable",signalcanary=~"demo"}')


async def test_all_canaries_are_read_with_one_query_a_metric() -> None:
    metrics = frozenset({"platt_ece"})
    targets = [Target("ns", f"demo-{n}", "01234567", "10s", metrics) for n in range(200)]
    async with listening(FakePrometheus()) as fake:
        source = Prometheus(SourceConfig(url=fake.url))
        seen = await source.fetch(targets)
        source.close()
    assert len(fake.requests) == len(series_names(targets)) == 11
    assert set(seen) == set(targets)
    assert all(len(q["query"]) < 200 for q in fake.requests)


async def test_nothing_is_asked_for_nobody() -> None:
    async with listening(FakePrometheus()) as fake:
        source = Prometheus(SourceConfig(url=fake.url))
        assert await source.fetch([]) == {}
        source.close()
    assert fake.requests == []
