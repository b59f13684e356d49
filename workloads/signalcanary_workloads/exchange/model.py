"""The synthetic market: pure, seeded, one second at a time; no I/O and no clock.

It exists because no recorded market has a known truth. Here the predictability of the mid is
a parameter (`MarketParams.auc_*`), and what carries it (book queues, trades) is another.

How a second comes about, per symbol:

* The latent flow x steps (AR(1), unit variance). The mid moves by last second's flow and noise.
* The book is re-quoted in three kinds of update. *Thin*: both sides step one tick inside the
  spread with one lot, which sets the old queues aside at no cost in OFI. *Move*: both sides
  go to the new prices, again with one lot, so that the move itself is nearly free of OFI.
  *Flow*: queues grow at unchanged prices by the second's flow. Thus the OFI of Cont, Kukanov
  and Stoikov, summed over the second, is the noisy observation of x and nothing else: the
  move, which is mostly noise, would otherwise drown it.
* Trades hit the side that their own noisy observation of x tells them to.

The same seed gives the same events, whichever other symbols there are.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from signalcanary_workloads.exchange import oracle

STEP_MS: Final = 1000
_FIRST_AGG_ID: Final = 2_800_000_000
_FIRST_TRADE_ID: Final = 6_500_000_000
_FIRST_UPDATE_ID: Final = 9_100_000_000_000
_HALF_SPREAD_TICKS: Final = 2
"""Wide enough for both sides to step inside by one tick without locking the book."""
_LOG_PRICE_LIMIT: Final = math.log(5)
"""The mid is reflected at five times and a fifth of its start, so that a run of days stays
on prices that the tick suits."""


class Regime(StrEnum):
    ACTIVE = "active"
    QUIET = "quiet"


@dataclass(frozen=True)
class SymbolSpec:
    """Precision and scale of one symbol. Prices and quantities are integers of the last
    decimal; the tick is small against the 10 s volatility, so that labels seldom tie."""

    symbol: str
    start_price: float
    price_decimals: int
    tick: int
    qty_decimals: int
    median_trade: int
    flow_qty: int
    """One standard deviation of the 1 s OFI."""


_KNOWN: Final = {
    "BTCUSDT": SymbolSpec("BTCUSDT", 61_800.0, 2, 10, 3, 40, 4_000),
    "ETHUSDT": SymbolSpec("ETHUSDT", 2_680.0, 2, 1, 3, 900, 80_000),
    "BNBUSDT": SymbolSpec("BNBUSDT", 580.0, 3, 10, 2, 400, 40_000),
    "SOLUSDT": SymbolSpec("SOLUSDT", 155.0, 4, 10, 2, 1_500, 150_000),
    "XRPUSDT": SymbolSpec("XRPUSDT", 0.6, 5, 1, 1, 40_000, 4_000_000),
}


def spec_of(symbol: str) -> SymbolSpec:
    """The known spec, or a generic one around a price of 100."""
    return _KNOWN.get(symbol, SymbolSpec(symbol, 100.0, 3, 1, 2, 2_000, 200_000))


@dataclass(frozen=True)
class MarketParams:
    """What the market is like. Rates and times are per second of event time."""

    horizon_seconds: int = 10
    auc_active: float = 0.70
    auc_quiet: float = 0.68
    """AUC of the 0.6/0.4 fused score at the horizon, by regime."""
    ofi_skill: float = 0.95
    cvd_skill: float = 0.7
    """Correlation of what the book's queues and the trades show with the latent flow, −1…1.
    0 makes the feature useless, a negative one makes it point the wrong way."""
    flow_persistence: float = 0.8
    volatility_bps: float = 0.5
    """1 s volatility in the quiet regime."""
    active_volatility_factor: float = 1.5
    quiet_trades: float = 1.1
    active_trades: float = 2.2
    quiet_flow_updates: int = 1
    active_flow_updates: int = 2
    """Flow updates of the book; thin and move come on top."""
    trade_size_sigma: float = 1.0
    shortest_dwell_seconds: float = 300.0
    mean_dwell_seconds: float = 900.0

    def __post_init__(self) -> None:
        for name in ("ofi_skill", "cvd_skill"):
            if not -1 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between -1 and 1")
        if not 0 <= self.flow_persistence < 1:
            raise ValueError("flow_persistence must be at least 0 and less than 1")
        if min(self.quiet_trades, self.active_trades) < 1:
            raise ValueError("each second has a trade: trade rates must be at least 1")
        if min(self.quiet_flow_updates, self.active_flow_updates) < 1:
            raise ValueError("each second has a flow update: their number must be at least 1")
        if self.horizon_seconds < 1 or self.volatility_bps <= 0 or self.trade_size_sigma < 0:
            raise ValueError("horizon and volatility must be positive, the size sigma not negative")
        if self.mean_dwell_seconds < self.shortest_dwell_seconds:
            raise ValueError("mean_dwell_seconds must not be below shortest_dwell_seconds")
        for regime in Regime:
            self.impact(regime)

    def correlation(self, regime: Regime) -> float:
        """Correlation of the latent flow with the return, for the regime's target AUC."""
        auc = self.auc_active if regime is Regime.ACTIVE else self.auc_quiet
        return oracle.flow_correlation_for_auc(
            auc, self.ofi_skill, self.cvd_skill, self.trade_size_sigma
        )

    def impact(self, regime: Regime, skill_factor: float = 1.0) -> Impact:
        rho = self.correlation(regime) * skill_factor
        beta = oracle.solve_beta(rho, self.flow_persistence, self.horizon_seconds)
        deviation = oracle.return_deviation(beta, self.flow_persistence, self.horizon_seconds)
        return Impact(rho, beta, deviation)


class Impact(NamedTuple):
    """How the flow moves the mid."""

    rho: float
    beta: float
    deviation: float
    """Of the return over the horizon, in units of the 1 s volatility."""


@dataclass(frozen=True)
class Conditions:
    """What is imposed on a step from outside (faults); the default imposes nothing."""

    skill_factor: float = 1.0
    logit_shift: float = 0.0
    regime: Regime | None = None
    frozen_mid: bool = False
    frozen_book: bool = False
    trade_size_sigma: float | None = None


UNDISTURBED: Final = Conditions()


class Quote(NamedTuple):
    """The best bid and ask after one book update."""

    time_ms: int
    update_id: int
    bid: int
    bid_qty: int
    ask: int
    ask_qty: int


class AggTrade(NamedTuple):
    """Fills of one taker order at one price; `fills` are the raw trades' quantities."""

    time_ms: int
    agg_id: int
    first_id: int
    price: int
    qty: int
    normal_qty: int
    is_buyer_maker: bool
    fills: tuple[int, ...]

    @property
    def last_id(self) -> int:
        return self.first_id + len(self.fills) - 1


Event = Quote | AggTrade


class SymbolModel:
    """One symbol's market; `step` returns the next second's events in order of time."""

    def __init__(self, spec: SymbolSpec, params: MarketParams, seed: int, start_ms: int) -> None:
        if start_ms % STEP_MS:
            raise ValueError("the start must be a whole second of event time")
        self.spec = spec
        self.params = params
        self.next_ms = start_ms
        child = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(spec.symbol.encode()),))
        self._rng = np.random.Generator(np.random.PCG64(child))
        self._log_start = math.log(spec.start_price * 10**spec.price_decimals / spec.tick)
        self._log_move = 0.0
        self._flow = float(self._rng.standard_normal())
        self._own_regime = Regime.ACTIVE if self._rng.random() < 0.5 else Regime.QUIET
        self._dwell_left = self._draw_dwell()
        self.regime = self._own_regime
        self._agg_id = _FIRST_AGG_ID
        self._trade_id = _FIRST_TRADE_ID
        self._update_id = _FIRST_UPDATE_ID + zlib.crc32(spec.symbol.encode()) % 1_000_000
        self._bid, self._ask = self._prices()
        self._bid_qty = self._ask_qty = spec.flow_qty
        self._impacts: dict[tuple[Regime, float], Impact] = {}

    def step(self, conditions: Conditions = UNDISTURBED) -> list[Event]:
        """The events of (next_ms, next_ms + 1 s]."""
        self._step_regime(conditions)
        impact = self._impact(conditions.skill_factor)
        self._step_mid(conditions, impact)
        phi = self.params.flow_persistence
        noise = float(self._rng.standard_normal())
        self._flow = phi * self._flow + math.sqrt(1 - phi * phi) * noise
        plan = [*self._plan_book(), *self._plan_trades(conditions)]
        plan.sort(key=lambda item: item[0])
        events: list[Event] = []
        for offset_ms, action in plan:
            time_ms = self.next_ms + offset_ms
            if isinstance(action, _Order):
                events.append(self._execute(time_ms, action))
            else:
                events.append(self._requote(time_ms, action, conditions.frozen_book))
        self.next_ms += STEP_MS
        return events

    # ------------------------------------------------------------------ latent state

    def _step_regime(self, conditions: Conditions) -> None:
        self._dwell_left -= 1
        if self._dwell_left <= 0:
            other = {Regime.ACTIVE: Regime.QUIET, Regime.QUIET: Regime.ACTIVE}
            self._own_regime = other[self._own_regime]
            self._dwell_left = self._draw_dwell()
        self.regime = conditions.regime or self._own_regime

    def _draw_dwell(self) -> float:
        shortest = self.params.shortest_dwell_seconds
        spread = self.params.mean_dwell_seconds - shortest
        return shortest + spread * float(self._rng.standard_exponential())

    def _impact(self, skill_factor: float) -> Impact:
        key = (self.regime, skill_factor)
        if key not in self._impacts:
            self._impacts[key] = self.params.impact(*key)
        return self._impacts[key]

    def _step_mid(self, conditions: Conditions, impact: Impact) -> None:
        noise = float(self._rng.standard_normal())
        if conditions.frozen_mid or conditions.frozen_book:
            return
        volatility = self.params.volatility_bps * 1e-4
        if self.regime is Regime.ACTIVE:
            volatility *= self.params.active_volatility_factor
        drift = oracle.drift_for_logit_shift(conditions.logit_shift, impact.rho, impact.deviation)
        surprise = math.sqrt(1 - impact.beta**2) * noise
        drift_per_second = drift / self.params.horizon_seconds
        self._log_move += volatility * (impact.beta * self._flow + surprise + drift_per_second)
        if abs(self._log_move) > _LOG_PRICE_LIMIT:
            self._log_move = math.copysign(2 * _LOG_PRICE_LIMIT, self._log_move) - self._log_move

    # ------------------------------------------------------------------ book

    def _prices(self) -> tuple[int, int]:
        """Best bid and ask in ticks around the mid."""
        centre = round(math.exp(self._log_start + self._log_move))
        return centre - _HALF_SPREAD_TICKS, centre + _HALF_SPREAD_TICKS

    def _plan_book(self) -> list[tuple[int, _Requote | _Order]]:
        rng, params = self._rng, self.params
        active = self.regime is Regime.ACTIVE
        updates = params.active_flow_updates if active else params.quiet_flow_updates
        thin_ms = int(rng.integers(10, 100))
        move_ms = thin_ms + int(rng.integers(10, 100))
        times = np.sort(rng.integers(250, 950, size=updates)).tolist()
        skill = params.ofi_skill
        seen = skill * self._flow + math.sqrt(1 - skill**2) * float(rng.standard_normal())
        # Shares that sum to one, some of them negative: the queues do not only grow one way.
        shares = 1 / updates + 0.3 * (noise := rng.standard_normal(updates)) - 0.3 * noise.mean()
        depth = rng.exponential(0.5, size=updates)
        bid, ask = self._prices()
        plan: list[tuple[int, _Requote | _Order]] = [
            (thin_ms, _Requote(self._bid + 1, self._ask - 1, None, 0)),
            (move_ms, _Requote(bid, ask, None, 0)),
        ]
        for time_ms, share, common in zip(times, shares.tolist(), depth.tolist(), strict=True):
            flow = round(share * seen * self.spec.flow_qty)
            common_qty = round(common * self.spec.flow_qty / updates)
            plan.append((time_ms, _Requote(bid, ask, flow, common_qty)))
        return plan

    def _requote(self, time_ms: int, change: _Requote, frozen: bool) -> Quote:
        self._update_id += int(self._rng.integers(1, 400))
        if not frozen:
            self._bid, self._ask = change.bid, change.ask
            if change.flow is None:
                self._bid_qty = self._ask_qty = 1
            else:
                self._bid_qty += max(change.flow, 0) + change.common_qty
                self._ask_qty += max(-change.flow, 0) + change.common_qty
        tick = self.spec.tick
        bid, ask = self._bid * tick, self._ask * tick
        return Quote(time_ms, self._update_id, bid, self._bid_qty, ask, self._ask_qty)

    # ------------------------------------------------------------------ trades

    def _plan_trades(self, conditions: Conditions) -> list[tuple[int, _Requote | _Order]]:
        rng, params = self._rng, self.params
        active = self.regime is Regime.ACTIVE
        rate = params.active_trades if active else params.quiet_trades
        number = 1 + int(rng.poisson(rate - 1))
        times = np.sort(rng.integers(250, 980, size=number)).tolist()
        skill = params.cvd_skill
        seen = skill * self._flow + math.sqrt(1 - skill**2) * rng.standard_normal(number)
        sigma = conditions.trade_size_sigma
        sigma = params.trade_size_sigma if sigma is None else sigma
        sizes = np.exp(sigma * rng.standard_normal(number))
        return [
            (time_ms, _Order(buys, max(1, round(size * self.spec.median_trade))))
            for time_ms, buys, size in zip(times, (seen > 0).tolist(), sizes.tolist(), strict=True)
        ]

    def _execute(self, time_ms: int, order: _Order) -> AggTrade:
        fills: tuple[int, ...] = (order.qty,)
        draw = float(self._rng.random())
        if draw < 0.2 and order.qty > 1:
            part = max(1, order.qty // 3)
            fills = (part, order.qty - part)
        # One fill in twenty is against a retail-price-improvement order: not in `nq`.
        normal_qty = order.qty // 2 if draw > 0.95 else order.qty
        price = (self._ask if order.buys else self._bid) * self.spec.tick
        first_id = self._trade_id
        agg_id = self._agg_id
        self._trade_id += len(fills)
        self._agg_id += 1
        return AggTrade(
            time_ms, agg_id, first_id, price, order.qty, normal_qty, not order.buys, fills
        )


class _Requote(NamedTuple):
    bid: int
    ask: int
    flow: int | None
    """OFI of the update; None leaves one lot on each side."""
    common_qty: int


class _Order(NamedTuple):
    buys: bool
    qty: int
