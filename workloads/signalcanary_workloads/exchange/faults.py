"""What can go wrong, validated; and which of it is in force at an event time. Pure.

All times are of **event** time, delays included: a delay of 4000 ms on a market that runs at
speed 120 lasts 33 ms of wall time. Only so does a fault mean the same to a signal, whose
tolerances are of event time too, at every speed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from signalcanary_workloads.exchange.model import UNDISTURBED, Conditions, Regime
from signalcanary_workloads.exchange.protocol import TRADE_KINDS, Kind


class FaultError(Exception):
    """A fault that cannot be imposed; the message says why."""


class Target(StrEnum):
    """What a delay slows down."""

    PUBLIC = "public"
    MARKET = "market"
    REST = "rest"


class _Fault(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    symbols: tuple[str, ...] | None = Field(default=None, min_length=1)
    """None: all symbols."""
    after_event_seconds: float = Field(default=0.0, ge=0)
    duration_event_seconds: float | None = Field(default=None, gt=0)
    """None: until cleared."""


class Delay(_Fault):
    """Frames of the endpoint leave later, in order; REST answers later (for any symbol)."""

    type: Literal["delay"]
    endpoint: Target
    delay_ms: float = Field(gt=0)


class Reorder(_Fault):
    """Each frame is, by this probability, held back by up to `window_ms`."""

    type: Literal["reorder"]
    probability: float = Field(default=0.1, gt=0, le=1)
    window_ms: float = Field(default=500, gt=0)
    streams: tuple[Kind, ...] = tuple(Kind)


class Duplicate(_Fault):
    """Each frame is, by this probability, sent twice."""

    type: Literal["duplicate"]
    probability: float = Field(default=0.1, gt=0, le=1)
    streams: tuple[Kind, ...] = tuple(Kind)


class Drop(_Fault):
    """Frames are never sent; REST has the trades all the same."""

    type: Literal["drop"]
    probability: float = Field(default=0.1, gt=0, le=1)
    streams: tuple[Kind, ...] = tuple(sorted(TRADE_KINDS))


class Malformed(_Fault):
    """Frames are, by this probability, cut short, so that they are no JSON."""

    type: Literal["malformed"]
    probability: float = Field(default=0.1, gt=0, le=1)
    streams: tuple[Kind, ...] = tuple(Kind)


class Silent(_Fault):
    """Subscribed, acknowledged, and nothing comes."""

    type: Literal["silent"]
    streams: tuple[Kind, ...] = tuple(Kind)


class Disconnect(_Fault):
    """Connections are cut, once (of the endpoint and the symbols, if given)."""

    type: Literal["disconnect"]
    endpoint: Literal["public", "market", "legacy"] | None = None


class InvertedMaker(_Fault):
    """`m` is the opposite of the truth, on the stream and in REST."""

    type: Literal["inverted_maker"]


class FrozenBook(_Fault):
    """The best quote, sizes included, repeats; trades go on."""

    type: Literal["frozen_book"]


class FrozenMid(_Fault):
    """The mid stands still while queues and trades go on: every label is a tie."""

    type: Literal["frozen_mid"]


class ClockStep(_Fault):
    """E and T are shifted."""

    type: Literal["clock_step"]
    offset_ms: int


class CalibrationShift(_Fault):
    """A drift of the mid moves the logit of P(up | score) by `delta_logit` (at score 0)."""

    type: Literal["calibration_shift"]
    delta_logit: float = Field(ge=-4, le=4)


class Skill(_Fault):
    """The correlation of flow and return is multiplied: 0 is no skill, −1 the opposite."""

    type: Literal["skill"]
    factor: float = Field(ge=-1, le=1)


class ForcedRegime(_Fault):
    """The market stays in one regime."""

    type: Literal["regime"]
    regime: Regime


class TradeSizes(_Fault):
    """The logarithms of trade sizes spread by this, about a median that stays: fatter tails of
    volume-delta scores, or leaner ones."""

    type: Literal["trade_sizes"]
    sigma: float = Field(ge=0, le=4)


Fault = Annotated[
    Delay
    | Reorder
    | Duplicate
    | Drop
    | Malformed
    | Silent
    | Disconnect
    | InvertedMaker
    | FrozenBook
    | FrozenMid
    | ClockStep
    | CalibrationShift
    | Skill
    | ForcedRegime
    | TradeSizes,
    Field(discriminator="type"),
]
_MODEL_FAULTS: Final = (
    InvertedMaker,
    FrozenBook,
    FrozenMid,
    ClockStep,
    CalibrationShift,
    Skill,
    ForcedRegime,
    TradeSizes,
)
_ADAPTER: Final[TypeAdapter[Fault]] = TypeAdapter(Fault)


def parse_faults(document: Any) -> list[Fault]:
    """Read one fault, or a list of them, from JSON.

    Raises:
        FaultError: the message names each field at fault and what it must be.
    """
    parsed: list[Fault] = []
    for item in document if isinstance(document, list) else [document]:
        try:
            parsed.append(_ADAPTER.validate_python(item))
        except ValidationError as error:
            problems = [
                ".".join(str(part) for part in problem["loc"]) + f": {problem['msg']}"
                for problem in error.errors(include_url=False)
            ]
            raise FaultError(
                "; ".join(problem.removeprefix(": ") for problem in problems)
            ) from None
    if not parsed:
        raise FaultError("no fault given")
    return parsed


@dataclass(frozen=True)
class Effects:
    """All that is in force for one symbol at one time."""

    conditions: Conditions = UNDISTURBED
    inverted_maker: bool = False
    clock_offset_ms: int = 0
    delay_ms: dict[Target, float] = field(default_factory=dict)
    reorder: Reorder | None = None
    duplicate: Duplicate | None = None
    drop: Drop | None = None
    malformed: Malformed | None = None
    silent: frozenset[Kind] = frozenset()


NO_EFFECTS: Final = Effects()


@dataclass(frozen=True)
class Imposed:
    """A fault and the event times between which it is in force."""

    fault_id: int
    fault: Fault
    from_ms: float
    until_ms: float

    def covers(self, symbol: str | None, now_ms: float) -> bool:
        symbols = self.fault.symbols
        concerned = symbol is None or symbols is None or symbol in symbols
        return concerned and self.from_ms <= now_ms < self.until_ms

    def to_wire(self, now_ms: float) -> dict[str, Any]:
        return {
            "id": self.fault_id,
            **self.fault.model_dump(mode="json", exclude_none=True),
            "active": self.covers(None, now_ms),
            "starts_in_event_seconds": max(0.0, (self.from_ms - now_ms) / 1000),
        }


class FaultBook:
    """The faults imposed so far. Of two of one kind, the one imposed later counts."""

    def __init__(self, symbols: tuple[str, ...], can_disturb_market: bool) -> None:
        self._symbols = symbols
        self._can_disturb_market = can_disturb_market
        self._imposed: list[Imposed] = []
        self._ids = count(1)
        self._cache: dict[str, tuple[float, Effects]] = {}

    def impose(self, faults: list[Fault], now_ms: float) -> list[Imposed]:
        """Raises FaultError, and imposes none of them, if one is not possible here."""
        for fault in faults:
            unknown = sorted(set(fault.symbols or ()) - set(self._symbols))
            if unknown:
                known = ", ".join(self._symbols)
                raise FaultError(f"symbols: {', '.join(unknown)} not traded here, only {known}")
            if isinstance(fault, _MODEL_FAULTS) and not self._can_disturb_market:
                raise FaultError(f"type: {fault.type} is not possible on recorded frames")
        added = []
        for fault in faults:
            from_ms = now_ms + fault.after_event_seconds * 1000
            duration = fault.duration_event_seconds
            until_ms = float("inf") if duration is None else from_ms + duration * 1000
            added.append(Imposed(next(self._ids), fault, from_ms, until_ms))
        self._imposed += added
        self._cache.clear()
        return added

    def clear(self, fault_id: int | None = None) -> int:
        """Remove one fault or all; returns how many there were."""
        before = len(self._imposed)
        self._imposed = [
            one for one in self._imposed if fault_id is not None and one.fault_id != fault_id
        ]
        self._cache.clear()
        return before - len(self._imposed)

    def imposed(self, now_ms: float) -> list[Imposed]:
        """Those in force or to come."""
        self._imposed = [one for one in self._imposed if now_ms < one.until_ms]
        return list(self._imposed)

    def take_disconnects(self, now_ms: float) -> list[Disconnect]:
        """Disconnects that are due; each is returned once."""
        if not self._imposed:
            return []
        due = [
            one
            for one in self._imposed
            if isinstance(one.fault, Disconnect) and one.from_ms <= now_ms
        ]
        if due:
            self._imposed = [one for one in self._imposed if one not in due]
        return [one.fault for one in due if isinstance(one.fault, Disconnect)]

    def effects(self, symbol: str, now_ms: float) -> Effects:
        """What is in force for the symbol; cached until the next fault begins or ends."""
        if not self._imposed:
            return NO_EFFECTS
        valid_until, effects = self._cache.get(symbol, (float("-inf"), NO_EFFECTS))
        if now_ms < valid_until:
            return effects
        effects = _combine([one.fault for one in self._imposed if one.covers(symbol, now_ms)])
        changes = [time for one in self._imposed for time in (one.from_ms, one.until_ms)]
        valid_until = min((time for time in changes if time > now_ms), default=float("inf"))
        self._cache[symbol] = (valid_until, effects)
        return effects

    def rest_delay_ms(self, now_ms: float) -> float:
        delays = [
            one.fault.delay_ms
            for one in self._imposed
            if isinstance(one.fault, Delay)
            and one.fault.endpoint is Target.REST
            and one.covers(None, now_ms)
        ]
        return delays[-1] if delays else 0.0


def _combine(faults: list[Fault]) -> Effects:
    conditions: dict[str, Any] = {}
    effects: dict[str, Any] = {}
    delays: dict[Target, float] = {}
    for fault in faults:
        match fault:
            case Delay():
                delays[fault.endpoint] = fault.delay_ms
            case Reorder() | Duplicate() | Drop() | Malformed():
                effects[fault.type] = fault
            case Silent():
                effects["silent"] = effects.get("silent", frozenset()) | set(fault.streams)
            case InvertedMaker():
                effects["inverted_maker"] = True
            case ClockStep():
                effects["clock_offset_ms"] = fault.offset_ms
            case FrozenBook():
                conditions["frozen_book"] = True
            case FrozenMid():
                conditions["frozen_mid"] = True
            case CalibrationShift():
                conditions["logit_shift"] = fault.delta_logit
            case Skill():
                conditions["skill_factor"] = fault.factor
            case ForcedRegime():
                conditions["regime"] = fault.regime
            case TradeSizes():
                conditions["trade_size_sigma"] = fault.sigma
            case Disconnect():
                pass
    return Effects(conditions=Conditions(**conditions), delay_ms=delays, **effects)
