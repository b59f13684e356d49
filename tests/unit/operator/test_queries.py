"""Conditions that bring their own PromQL: what may stand in it, how it is filled in and judged."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from signalcanary.api import Condition, SignalCanarySpec
from signalcanary.backtest import RecordingError, target_of
from signalcanary.contract import METRICS_BY_NAME
from signalcanary.evaluate import MetricsSeen, evaluate
from signalcanary.lifecycle import rules_of
from signalcanary.lint import check as lint
from signalcanary.metrics_source import Target, build_target, series_names
from signalcanary.prometheus import MOST_BYTES_OF_ONE_NUMBER, Prometheus
from signalcanary.promql import ESCAPED, MAX_QUERY_LENGTH, PATTERN, PLACEHOLDERS, check, fill
from signalcanary.sources import SourceConfig

VALUES = {
    "symbol": "BTCUSDT",
    "namespace": "trading",
    "name": "demo",
    "revision": "01234567",
    "track": "canary",
}
DEPTH = 'min(depth{symbol="{{symbol}}",namespace="{{namespace}}"})'


def spec_of(*queries: str, symbols: tuple[str, ...] = ("BTCUSDT",)) -> SignalCanarySpec:
    conditions = [
        {"name": f"own_{n}", "query": query, "below": 10.0} for n, query in enumerate(queries)
    ]
    return SignalCanarySpec.model_validate(
        {
            "version": "v1",
            "symbols": {"canary": symbols, "full": symbols},
            "rollback": {"conditions": conditions},
        }
    )


# --------------------------------------------------------------------------- filling in


@pytest.mark.parametrize(
    ("query", "filled"),
    [
        (DEPTH, 'min(depth{symbol="BTCUSDT",namespace="trading"})'),
        ("up{a='{{name}}'}", "up{a='demo'}"),
        ('up{a != "{{revision}}-{{track}}"}', 'up{a != "01234567-canary"}'),
        (r'up{a=~"{{name}}-\\d+{2}"}', r'up{a=~"demo-\\d+{2}"}'),
        ('up{a="x}"} # {{symbol}} and "', 'up{a="x}"} # {{symbol}} and "'),
        ('# it\'s\nup{a="{{symbol}}"}', '# it\'s\nup{a="BTCUSDT"}'),
        ("vector(1)", "vector(1)"),
    ],
)
def test_placeholders_are_filled_in_within_matchers(query: str, filled: str) -> None:
    check(query)
    assert fill(query, VALUES) == filled


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "the query is empty"),
        ("  \n", "the query is empty"),
        ('up{a="{{pod}}"}', "unknown placeholder {{pod}}: write {{symbol}}"),
        ('up{a="{{ symbol }}"}', "unknown placeholder {{ symbol }}"),
        ('up{a="{{symbol\n}}"}', "not closed"),
        ("depth_{{symbol}}", "outside a label matcher's quotes"),
        ("up{{{symbol}}}", "outside a label matcher's quotes"),
        ("up{a={{symbol}}}", "outside a label matcher's quotes"),
        ('{"{{symbol}}"}', "outside a label matcher's quotes"),
        ('label_replace(up, "a", "{{symbol}}", "b", "c")', "outside a label matcher's quotes"),
        ("up{a=`{{symbol}}`}", "outside a label matcher's quotes"),
        (r'up{a="\{{symbol}}"}', "write no \\ before {{"),
        (r"up # \{{symbol}}", "write no \\ before {{"),
        ('up{a="{{symbol}"}', "{{ is not closed"),
        ('up{a="{{symbol}}{{"}', "{{ is not closed"),
        ('{"{{"}', "{{ is not closed"),
        ('up{a="b" or {{symbol}} or c="d"}', "outside a label matcher's quotes"),
        # The quote of the comment begins no string.
        ('up # a="\n + {{symbol}} # "', "outside a label matcher's quotes"),
        ("up # '\n + {{symbol}} + vector(1) # '", "outside a label matcher's quotes"),
        ('up{a="b}', "is not closed"),
        ("up{a=`b}", "is not closed"),
    ],
)
def test_what_cannot_be_filled_in_is_refused_in_words(query: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check(query)


PIECES = [
    *('"', "'", "`", "\\", "{", "}", "{{", "}}", "{{symbol}}", "{{name}}", "{{pod}}"),
    *("=", "=~", "!=", "#", "\n", "\r", " ", "\x0b", "a", "symbol", "é"),
    *('a="{{symbol}}"', '"b"', "`c`", "'d'"),
]


@settings(max_examples=1500)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_what_the_api_server_lets_in_is_what_passes_the_check(query: str) -> None:
    """Its rules, by Python's expressions in the place of RE2's."""
    placeholders = re.findall(r"[{][{].*?[}][}]", query)
    is_let_in = (
        all(p in {f"{{{{{name}}}}}" for name in PLACEHOLDERS} for p in placeholders)
        and query.strip() != ""
        and ESCAPED not in query
        and re.search(PATTERN, query) is not None
    )
    try:
        check(query)
    except ValueError:
        assert not is_let_in
    else:
        assert is_let_in


@given(st.text(max_size=40), st.sampled_from(["=", "!=", "=~", "!~"]), st.sampled_from("\"'"))
def test_whatever_is_filled_in_stays_in_its_quotes(value: str, operator: str, quote: str) -> None:
    query = f"up{{a{operator}{quote}{{{{name}}}}{quote}}}"
    filled = fill(query, VALUES | {"name": value})
    inside = filled.removeprefix(f"up{{a{operator}{quote}").removesuffix(f"{quote}}}")
    assert quote not in re.sub(r"\\.", "", inside, flags=re.DOTALL)
    assert "\n" not in filled
    # Read back, it is the value, or the expression that matches it alone.
    read = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], inside)
    assert (re.sub(r"\\([\\.+*?()|\[\]{}^$])", r"\1", read) if "~" in operator else read) == value


@given(st.text(alphabet="ab{}\"'`=~!#\\\n symbol", max_size=60))
def test_no_text_breaks_the_check_and_what_passes_has_no_placeholder_left(query: str) -> None:
    try:
        check(query)
    except ValueError:
        return
    outside = re.sub(r"#[^\n]*", "", fill(query, VALUES))
    assert "{{symbol}}" not in outside


# --------------------------------------------------------------------------- the condition


GOOD: dict[str, Any] = {"name": "depth", "query": DEPTH, "below": 10}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "platt_ece"}, "write either metric, or name and query"),
        ({"name": None}, "write either metric, or name and query"),
        ({"query": None}, "write either metric, or name and query"),
        ({"name": "platt_ece"}, "that no metric of ours has"),
        ({"name": "Depth"}, "string_pattern_mismatch"),
        ({"name": "a" * 64}, "string_too_long"),
        ({"above": 1}, "write exactly one of above and below"),
        ({"below": None}, "write exactly one of above and below"),
        ({"minSamples": 1}, "take minSamples out"),
        ({"of": "difference"}, "take of out"),
        ({"query": "x" * (MAX_QUERY_LENGTH + 1)}, "string_too_long"),
        ({"query": 'up{a="{{pod}}"}'}, "unknown placeholder {{pod}}"),
    ],
)
def test_a_wrong_condition_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    Condition.model_validate(GOOD)
    with pytest.raises(ValidationError) as refused:
        Condition.model_validate({k: v for k, v in (GOOD | change).items() if v is not None})
    (detail,) = refused.value.errors()
    assert words in f"{detail['type']} {detail['msg']}"


def test_its_key_is_its_name_and_bound_and_one_of_its_kind() -> None:
    condition = Condition.model_validate(GOOD | {"for": "2m"})
    assert condition.key == "depth<10"
    assert condition.describe() == "depth < 10 for 2m"
    assert not condition.is_guarded
    assert Condition.model_validate(condition.to_wire()) == condition
    two = {"conditions": [GOOD, GOOD | {"query": "vector(1)", "below": 5}]}
    with pytest.raises(ValidationError, match="two conditions of the same direction"):
        SignalCanarySpec.model_validate(spec_of(DEPTH).to_wire() | {"rollback": two})


def test_another_query_or_source_is_another_rule() -> None:
    first, second = spec_of(DEPTH), spec_of("vector(1)")
    elsewhere = first.model_copy(update={"metrics_source": "thanos"})
    assert len({rules_of(spec) for spec in (first, second, elsewhere)}) == 3


def test_lint_says_what_to_write() -> None:
    manifest = """
apiVersion: signalcanary.dev/v1alpha1
kind: SignalCanary
metadata: {name: demo}
spec:
  version: v1
  symbols: {canary: [BTCUSDT], full: [BTCUSDT]}
  rollback:
    conditions:
    - name: depth
      query: min(depth_{{symbol}})
      below: 10
"""
    (problem,) = lint(manifest).problems
    assert "stands outside a label matcher's quotes" in problem.message
    assert problem.line in (9, 10)
    fixed = manifest.replace("min(depth_{{symbol}})", 'min(depth{symbol="{{symbol}}"})')
    assert lint(fixed).problems == ()


def test_a_replay_refuses_what_was_not_recorded() -> None:
    with pytest.raises(RecordingError, match="own_0: what a query would have said"):
        target_of(spec_of(DEPTH), "ns", "demo")


# --------------------------------------------------------------------------- the answer


def ok(result: Any, result_type: str = "vector", **more: Any) -> web.Response:
    data = {"resultType": result_type, "result": result}
    return web.json_response({"status": "success", "data": data} | more)


Answer = Callable[[], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(
    queries: Container[str], answer: Answer
) -> AsyncIterator[tuple[str, list[str]]]:
    """A Prometheus that has nothing but an answer to some queries; its URL, and what is asked."""
    asked: list[str] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append(request.query["query"])
        return await answer() if asked[-1] in queries else ok([])

    app = web.Application()
    app.router.add_get("/api/v1/query", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


NOW = datetime.now(UTC)


def one(value: str, at: float | None = None) -> dict[str, Any]:
    return {"metric": {"pod": "a"}, "value": [NOW.timestamp() if at is None else at, value]}


async def look(spec: SignalCanarySpec, answer: Answer, **config: Any) -> tuple[Any, MetricsSeen]:
    """A look at a canary whose own query is answered so."""
    target = build_target(spec, "ns", "demo", "01234567")
    async with answering({q.text for q in target.queries}, answer) as (url, _):
        source = Prometheus(SourceConfig(url=url, **config))
        try:
            seen = (await source.fetch([target], NOW))[target]
        finally:
            source.close()
    (judgement,) = evaluate(spec, seen, NOW)
    return judgement, seen


@pytest.mark.parametrize(
    ("body", "verdict", "reason"),
    [
        (lambda: ok([one("11")]), "Ok", "WithinThreshold"),
        (lambda: ok([one("9.5")]), "Breached", "BeyondThreshold"),
        (lambda: ok([NOW.timestamp(), "9.5"], "scalar"), "Breached", "BeyondThreshold"),
        (lambda: ok([NOW.timestamp(), "NaN"], "scalar"), "NoData", "NotFinite"),
        (lambda: ok([one("-1e300")]), "Breached", "BeyondThreshold"),
        (lambda: ok([]), "NoData", "Absent"),
        (lambda: ok([one("+Inf")]), "NoData", "NotFinite"),
        (lambda: ok([one("9"), one("9")]), "NoData", "Ambiguous"),
        (lambda: ok([one("11", NOW.timestamp() - 61)]), "NoData", "Stale"),
        (lambda: ok([one("11", NOW.timestamp() + 6)]), "NoData", "ClockAhead"),
        (lambda: ok([one("1_1")]), "Error", "BadResponse"),
        (lambda: ok([one("11")], "matrix"), "Error", "BadResponse"),
        (lambda: ok([NOW.timestamp(), "11"], "string"), "Error", "BadResponse"),
        (lambda: ok([[NOW.timestamp(), "11"]]), "Error", "BadResponse"),
        (lambda: ok({"a": "b"}), "Error", "BadResponse"),
        (lambda: ok([one("11")], warnings=["half of it"]), "Error", "BadResponse"),
        (
            lambda: web.json_response({"error": "1:3: parse error"}, status=400),
            "Error",
            "",
        ),
        (lambda: web.Response(text=" " * (MOST_BYTES_OF_ONE_NUMBER + 1)), "Error", "BadResponse"),
    ],
)
async def test_one_finite_number_of_now_is_judged_and_nothing_else(
    body: Callable[[], web.Response], verdict: str, reason: str
) -> None:
    async def answer() -> web.StreamResponse:
        return body()

    judgement, seen = await look(spec_of(DEPTH), answer)
    assert (judgement.verdict, judgement.reason) == (verdict, reason or "BadResponse")
    assert judgement.bound is None
    if not reason:
        assert "HTTP 400: 1:3: parse error" in judgement.message
    assert seen.failure is None, "one bad query is the affair of those who ask it"


def targets(count: int, query: str) -> list[Target]:
    spec = spec_of(query, symbols=("BTCUSDT", "ETHUSDT"))
    return [build_target(spec, "ns", f"demo-{n}", "01234567") for n in range(count)]


@pytest.mark.parametrize(
    ("query", "asked"),
    [("min(depth)", 1), ('depth{symbol="{{symbol}}"}', 2), ('depth{of="{{name}}"}', 3)],
)
async def test_equal_queries_are_asked_once_for_all_canaries(query: str, asked: int) -> None:
    some = targets(3, query)

    async def answer() -> web.StreamResponse:
        return ok([one("11")])

    async with answering({q.text for t in some for q in t.queries}, answer) as (url, texts):
        source = Prometheus(SourceConfig(url=url))
        seen = await source.fetch(some, NOW)
        source.close()
    own = [text for text in texts if "depth" in text]
    assert len(own) == len(set(own)) == asked
    assert len(texts) == asked + len(series_names(some))
    for target in some:
        assert {key: m.values for key, m in seen[target].measurements.items()} == {
            ("own_0", "BTCUSDT"): (11.0,),
            ("own_0", "ETHUSDT"): (11.0,),
        }


async def test_a_query_that_hangs_takes_no_other_metric_along() -> None:
    async def answer() -> web.StreamResponse:
        await asyncio.sleep(3600)
        return ok([])

    judgement, seen = await look(spec_of("min(depth)"), answer, deadline=timedelta(seconds=1))
    assert (judgement.verdict, judgement.reason) == ("Error", "SourceTimeout")
    assert seen.failure is None


def test_no_name_of_a_query_is_that_of_a_series_of_ours() -> None:
    spec = spec_of(DEPTH)
    assert not {c.metric for c in spec.rollback.conditions} & METRICS_BY_NAME.keys()
    assert build_target(spec, "ns", "demo", "0").metrics == frozenset()
