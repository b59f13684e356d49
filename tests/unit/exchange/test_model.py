"""The market model is pure: the same seed, the same frames, whatever else is traded."""

import hashlib
import itertools

import pytest

from signalcanary_workloads.exchange import oracle
from signalcanary_workloads.exchange.faults import NO_EFFECTS, Effects
from signalcanary_workloads.exchange.model import (
    AggTrade,
    Conditions,
    MarketParams,
    Quote,
    Regime,
    SymbolModel,
    spec_of,
)
from signalcanary_workloads.exchange.protocol import Frame
from signalcanary_workloads.exchange.sources import SyntheticSource

START_MS = 1_750_000_000_000


def frames(
    symbols: tuple[str, ...], seed: int, seconds: int, steps_ms: int = 1000
) -> list[tuple[float, Frame]]:
    def effects_at(symbol: str, now_ms: float) -> Effects:
        return NO_EFFECTS

    source = SyntheticSource(symbols, MarketParams(), seed, START_MS, 1000)
    out: list[tuple[float, Frame]] = []
    for now_ms in range(START_MS + steps_ms, START_MS + seconds * 1000 + 1, steps_ms):
        out += source.emit(now_ms, effects_at)
    return out


def test_the_frames_of_a_seed_never_change() -> None:
    digest = hashlib.sha256()
    for _, frame in frames(("BTCUSDT", "ETHUSDT"), seed=7, seconds=120):
        digest.update(frame.combined)
    assert digest.hexdigest() == "ed09212b68a45ad978571cc204762a1acf914e657cbbf8fecd424fd8befc28ef"


def test_another_seed_gives_other_frames() -> None:
    assert frames(("BTCUSDT",), 1, 5) != frames(("BTCUSDT",), 2, 5)


def test_a_symbol_is_the_same_whichever_others_are_traded() -> None:
    alone = frames(("ETHUSDT",), seed=3, seconds=30)
    together = frames(("BTCUSDT", "ETHUSDT"), seed=3, seconds=30)
    assert [item for item in together if item[1].symbol == "ETHUSDT"] == alone


def test_frames_do_not_depend_on_how_often_the_source_is_asked() -> None:
    assert frames(("BTCUSDT",), 3, 30, steps_ms=50) == frames(("BTCUSDT",), 3, 30, steps_ms=5000)


def test_frames_come_in_the_order_of_their_time() -> None:
    times = [due_ms for due_ms, _ in frames(("BTCUSDT", "ETHUSDT"), 3, 60)]
    assert times == sorted(times)


def test_each_second_has_quotes_and_a_trade_and_no_crossed_book() -> None:
    model = SymbolModel(spec_of("SOLUSDT"), MarketParams(), 5, START_MS)
    for _ in range(600):
        begin = model.next_ms
        events = model.step()
        assert all(begin < event.time_ms <= begin + 1000 for event in events)
        quotes = [event for event in events if isinstance(event, Quote)]
        assert quotes
        assert any(isinstance(event, AggTrade) for event in events)
        for quote in quotes:
            assert quote.bid < quote.ask
            assert quote.bid % model.spec.tick == quote.ask % model.spec.tick == 0
            assert min(quote.bid_qty, quote.ask_qty) > 0


def test_ids_are_contiguous_for_trades_and_monotonic_for_the_book() -> None:
    model = SymbolModel(spec_of("BTCUSDT"), MarketParams(), 5, START_MS)
    events = [event for _ in range(200) for event in model.step()]
    trades = [event for event in events if isinstance(event, AggTrade)]
    for before, after in itertools.pairwise(trades):
        assert after.agg_id == before.agg_id + 1
        assert after.first_id == before.last_id + 1
    updates = [event.update_id for event in events if isinstance(event, Quote)]
    assert all(a < b for a, b in itertools.pairwise(updates))


def test_fills_sum_to_the_aggregate_and_the_normal_quantity_never_exceeds_it() -> None:
    model = SymbolModel(spec_of("BTCUSDT"), MarketParams(), 5, START_MS)
    trades = [e for _ in range(300) for e in model.step() if isinstance(e, AggTrade)]
    assert all(sum(trade.fills) == trade.qty >= trade.normal_qty for trade in trades)
    assert any(len(trade.fills) > 1 for trade in trades)


def test_both_regimes_come_and_stay_for_minutes() -> None:
    model = SymbolModel(spec_of("BTCUSDT"), MarketParams(), 5, START_MS)
    regimes = []
    for _ in range(7200):
        model.step()
        regimes.append(model.regime)
    changes = sum(a is not b for a, b in itertools.pairwise(regimes))
    assert set(regimes) == {Regime.ACTIVE, Regime.QUIET}
    assert 1 <= changes <= 7200 / MarketParams().shortest_dwell_seconds


def test_a_frozen_book_repeats_its_quote_while_trades_go_on() -> None:
    model = SymbolModel(spec_of("BTCUSDT"), MarketParams(), 5, START_MS)
    model.step()
    events = [e for _ in range(20) for e in model.step(Conditions(frozen_book=True))]
    assert len({event[2:] for event in events if isinstance(event, Quote)}) == 1
    assert any(isinstance(event, AggTrade) for event in events)


def test_a_start_between_seconds_is_refused() -> None:
    with pytest.raises(ValueError, match="whole second"):
        SymbolModel(spec_of("BTCUSDT"), MarketParams(), 1, START_MS + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"ofi_skill": 1.2}, "ofi_skill", id="skill above one"),
        pytest.param({"flow_persistence": 1.0}, "flow_persistence", id="unit root"),
        pytest.param({"quiet_trades": 0.5}, "trade rates", id="seconds without a trade"),
        pytest.param({"auc_active": 0.85}, "not possible", id="more skill than flow"),
        pytest.param({"ofi_skill": 0.0, "cvd_skill": 0.0}, "out of reach", id="blind"),
        pytest.param({"mean_dwell_seconds": 10.0}, "dwell", id="dwell"),
        pytest.param({"quiet_flow_updates": 0}, "flow update", id="no flow"),
        pytest.param({"volatility_bps": 0.0}, "volatility", id="no volatility"),
    ],
)
def test_a_market_that_cannot_be_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarketParams(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("auc", "rho"), [(0.55, 0.111), (0.58, 0.177)])
def test_auc_and_correlation_agree_with_published_pairs(auc: float, rho: float) -> None:
    assert oracle.correlation_from_auc(auc) == pytest.approx(rho, abs=5e-4)
    assert oracle.auc_from_correlation(oracle.correlation_from_auc(auc)) == pytest.approx(auc)


def test_the_solved_impact_has_the_correlation_asked_for() -> None:
    beta = oracle.solve_beta(0.4, 0.8, 10)
    deviation = oracle.return_deviation(beta, 0.8, 10)
    assert beta * oracle.flow_gain(0.8, 10) / deviation == pytest.approx(0.4)
    assert oracle.solve_beta(-0.4, 0.8, 10) == pytest.approx(-beta)
