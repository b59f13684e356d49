"""One symbol end to end, without sockets or files."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary.contract import SignalConfig
from signalcanary_workloads.harvest.pipeline import Cut, SymbolPipeline
from signalcanary_workloads.harvest.sequence import Arrival
from signalcanary_workloads.harvest.wire import AggTrade, BookTicker
from signalcanary_workloads.store import HARVESTED, SCHEMAS, Gap, Kind

START = 1_777_600_000_000
Message = BookTicker | AggTrade


def market(count: int = 3000, seed: int = 4) -> list[Message]:
    """Ten minutes and more, so that every window is filled and every regime is reached."""
    rng = np.random.default_rng(seed)
    ts = START + np.cumsum(rng.exponential(280, count)).astype(int)
    out: list[Message] = []
    for n in range(count):
        t, price = int(ts[n]), 100.0 + int(rng.integers(-3, 4))
        size = float(rng.integers(1, 1000)) / 1000
        if rng.random() < 0.7:
            out.append(BookTicker("X", n, price, size, price + 1, size * 2, t, t + 1))
        else:
            trade_id = sum(isinstance(m, AggTrade) for m in out) + 1
            sell = bool(rng.random() < 0.5)
            out.append(AggTrade("X", trade_id, price, size, n, n, t, sell, t + 1, size / 2))
    return out


def feed(pipeline: SymbolPipeline, messages: list[Message]) -> None:
    for message in messages:
        if isinstance(message, BookTicker):
            pipeline.on_quote(message, 7, 1)
        else:
            pipeline.on_trade(Arrival(message, 7, "ws", 1))


def tables(*cuts: Cut | None) -> dict[Kind, pa.Table]:
    return {
        kind: pa.concat_tables(
            [SCHEMAS[kind].empty_table()]
            + [cut.columns[kind].table() for cut in cuts if cut is not None]
        )
        for kind in HARVESTED
    }


MARKET = market()
SIGNAL = SignalConfig()


def fresh(resume: Cut | None = None) -> SymbolPipeline:
    state = None if resume is None else json.loads(json.dumps(resume.state))
    return SymbolPipeline("X", SIGNAL, "aggTrade", state)


@pytest.fixture(scope="module")
def uninterrupted() -> dict[Kind, pa.Table]:
    pipeline = fresh()
    feed(pipeline, MARKET)
    return tables(pipeline.cut())


def test_rows_obey_the_schemas(uninterrupted: dict[Kind, pa.Table]) -> None:
    for kind, table in uninterrupted.items():
        table.validate(full=True)
        assert table.schema == SCHEMAS[kind]
        assert table.num_rows > 500
        for field in table.schema:
            assert field.nullable or table.column(field.name).null_count == 0, (kind, field.name)
    assert set(uninterrupted[Kind.FEATURE].column("regime").to_pylist()) >= {"unknown", "quiet"}


@settings(max_examples=20, deadline=None)
@given(cut_at=st.integers(0, len(MARKET)))
def test_a_resume_at_any_cut_gives_the_rows_of_an_uninterrupted_run(
    uninterrupted: dict[Kind, pa.Table], cut_at: int
) -> None:
    first = fresh()
    feed(first, MARKET[:cut_at])
    begun = first.cut()
    second = fresh(begun)
    feed(second, MARKET[cut_at:])
    resumed = tables(begun, second.cut())
    for kind in HARVESTED:
        assert resumed[kind].equals(uninterrupted[kind]), kind


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 299), max_size=30), st.integers(0, 2**32))
def test_repeated_messages_change_nothing(repeats: list[int], seed: int) -> None:
    messages = MARKET[:300]
    again = list(messages)
    rng = np.random.default_rng(seed)
    for index in repeats:
        behind = again.index(messages[index]) + 1
        again.insert(int(rng.integers(behind, len(again) + 1)), messages[index])
    plain, repeated = fresh(), fresh()
    feed(plain, messages)
    feed(repeated, again)
    expected, actual = tables(plain.cut()), tables(repeated.cut())
    for kind in HARVESTED:
        assert actual[kind].equals(expected[kind]), kind


def test_ingest_is_the_order_in_which_things_became_known() -> None:
    pipeline = fresh()
    trades = [m for m in MARKET if isinstance(m, AggTrade)][:4]
    quotes = [m for m in MARKET if isinstance(m, BookTicker)][:2]
    feed(pipeline, [trades[0], trades[2], quotes[0], trades[1], quotes[1]])
    rows = tables(pipeline.cut())
    assert rows[Kind.TRADE].column("ingest").to_pylist() == [1, 3, 4]
    assert rows[Kind.CVD].column("ingest").to_pylist() == [1, 3, 4]
    assert rows[Kind.BBO].column("ingest").to_pylist() == [2, 5]


def test_a_row_closed_while_trades_are_missing_says_so() -> None:
    pipeline = fresh()
    trades = [m for m in MARKET if isinstance(m, AggTrade)]
    feed(pipeline, [trades[0], trades[2]])
    feed(pipeline, [m for m in MARKET[:200] if isinstance(m, BookTicker)])
    rows = tables(pipeline.cut())
    assert {q & 8 for q in rows[Kind.FEATURE].column("quality").to_pylist()} == {8}


def test_a_reopened_book_is_a_gap_with_its_bounds() -> None:
    pipeline = fresh()
    pipeline.on_book_gap()
    quotes = [m for m in MARKET if isinstance(m, BookTicker)]
    feed(pipeline, [*quotes[:10]])
    pipeline.on_book_gap()
    pipeline.on_book_gap()
    feed(pipeline, [*quotes[10:20]])
    cut = pipeline.cut()
    assert cut is not None
    assert cut.gaps == (Gap("bookTicker", quotes[9].ts, quotes[10].ts, "reconnect", False),)
    assert pipeline.cut() is None


def test_the_quality_of_the_cvd_is_that_of_the_last_300_s() -> None:
    pipeline = fresh()
    assert np.isnan(pipeline.cvd_quality()[:-1]).all()
    feed(pipeline, MARKET)
    rows = tables(pipeline.cut())[Kind.CVD].to_pylist()
    last = rows[-1]["ts"]
    recent = [r for r in rows if r["ts"] > last - 300_000 and r["z_cvd"] is not None]
    quality = pipeline.cvd_quality()
    assert quality.samples == len(recent)
    assert quality.scale_median == np.median([r["scale"] for r in recent])
    assert quality.floor_hit_ratio == pytest.approx(np.mean([r["floor_hit"] for r in recent]))
    share = np.mean([abs(r["z_cvd"]) > 2 for r in recent])
    assert quality.tail2_ratio == pytest.approx(share)
    sizes = sorted(abs(r["z_cvd"]) for r in recent)
    assert quality.abs_z_p95 == pytest.approx(np.percentile(sizes, 95))
    scored = [abs(r["z_cvd"]) for r in rows if r["z_cvd"] is not None]
    for bound, count in pipeline.abs_z.cumulative():
        assert count == sum(z <= bound for z in scored)
    # The book goes on, trades do not: nothing of the last 300 s is known.
    ts = MARKET[-1].ts + 301_000
    pipeline.on_quote(BookTicker("X", 10**9, 100, 1, 101, 1, ts, ts), 7, 1)
    assert np.isnan(pipeline.cvd_quality()[:-1]).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-(10**18), 10**18), min_size=1, max_size=9))
def test_no_feature_depends_on_the_wall_clock(
    uninterrupted: dict[Kind, pa.Table], recv_ns: list[int]
) -> None:
    pipeline = fresh()
    for n, message in enumerate(MARKET):
        at = recv_ns[n % len(recv_ns)]
        if isinstance(message, BookTicker):
            pipeline.on_quote(message, at, 1)
        else:
            pipeline.on_trade(Arrival(message, at, "ws", 1))
    rows = tables(pipeline.cut())
    for kind in HARVESTED:
        columns = [name for name in rows[kind].column_names if name != "recv_ns"]
        assert rows[kind].select(columns).equals(uninterrupted[kind].select(columns)), kind


def test_a_trade_behind_the_watermark_is_counted_and_kept_once() -> None:
    pipeline = fresh()
    trades = [m for m in MARKET if isinstance(m, AggTrade)]
    feed(pipeline, [trades[0], trades[1], *(m for m in MARKET[:200] if isinstance(m, BookTicker))])
    assert pipeline.counts.late_trades == 0
    feed(pipeline, [trades[2], trades[2]])
    assert pipeline.counts.late_trades == 1
    ids = tables(pipeline.cut())[Kind.TRADE].column("trade_id").to_pylist()
    assert ids == [1, 2, 3]


def test_quotes_with_old_ids_and_newer_times_are_no_repetition() -> None:
    pipeline = fresh()
    quotes = [m for m in MARKET if isinstance(m, BookTicker)]
    feed(pipeline, [*quotes[:50], quotes[10]])
    assert (pipeline.counts.stale_quotes, pipeline.counts.regressed_quotes) == (1, 0)
    feed(pipeline, [msgspec.structs.replace(q, update_id=0) for q in quotes[50:80]])
    assert pipeline.counts.regressed_quotes_run == pipeline.counts.regressed_quotes == 30
    feed(pipeline, quotes[50:51])
    assert pipeline.counts.regressed_quotes_run == 0
