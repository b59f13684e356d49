"""Where frames come from: the synthetic market, or a recording.

A source is asked for all that happens up to an event time and answers in order. It also keeps
what REST serves, at the moment it happens: a fault of the stream does not touch history.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from signalcanary_workloads.exchange.faults import Effects
from signalcanary_workloads.exchange.history import Ring
from signalcanary_workloads.exchange.model import (
    AggTrade,
    MarketParams,
    Quote,
    SymbolModel,
    SymbolSpec,
    spec_of,
)
from signalcanary_workloads.exchange.protocol import (
    BOOK_PUSH_MS,
    TRADE_PUSH_MS,
    Frame,
    Kind,
    build_frame,
    encode_agg_trade,
    encode_quote,
    encode_trades,
    kind_of,
)


class Due(NamedTuple):
    """A frame and the event time at which it leaves an undisturbed exchange."""

    due_ms: float
    frame: Frame


class SymbolHistory:
    """What REST serves of one symbol. Rows: (T, price, qty, m) and with (nq, f, l) after."""

    def __init__(self, spec: SymbolSpec, capacity: int) -> None:
        self.spec = spec
        self.trades = Ring(capacity, 4)
        self.agg_trades = Ring(capacity, 7)
        self.last_update_id: int | None = None

    def add(self, trade: AggTrade) -> None:
        maker = int(trade.is_buyer_maker)
        self.agg_trades.append(
            trade.agg_id,
            (
                trade.time_ms,
                trade.price,
                trade.qty,
                maker,
                trade.normal_qty,
                trade.first_id,
                trade.last_id,
            ),
        )
        for trade_id, qty in enumerate(trade.fills, trade.first_id):
            self.trades.append(trade_id, (trade.time_ms, trade.price, qty, maker))


EffectsAt = Callable[[str, float], Effects]


class Source(Protocol):
    """What the engine pumps from."""

    @property
    def histories(self) -> dict[str, SymbolHistory]: ...

    @property
    def is_waiting(self) -> bool:
        """Does event time stand still, because nobody listens yet?"""

    @property
    def is_finished(self) -> bool:
        """Will nothing ever come again?"""

    def emit(self, until_ms: float, effects_at: EffectsAt) -> list[Due]:
        """All that happens up to `until_ms`, in order of time."""

    def state(self, symbol: str) -> dict[str, Any]:
        """What /control/state tells of the symbol besides counters."""

    def close(self) -> None:
        """Let go of files."""


class SyntheticSource:
    """The synthetic market of several symbols; steps are made when their second begins."""

    is_waiting = False
    is_finished = False

    def __init__(
        self,
        symbols: tuple[str, ...],
        params: MarketParams,
        seed: int,
        start_ms: int,
        history_trades: int,
    ) -> None:
        self._models = [SymbolModel(spec_of(one), params, seed, start_ms) for one in symbols]
        self.histories = {
            model.spec.symbol: SymbolHistory(model.spec, history_trades) for model in self._models
        }
        self._pending: list[tuple[float, SymbolSpec, Quote | AggTrade, Effects]] = []

    def emit(self, until_ms: float, effects_at: EffectsAt) -> list[Due]:
        out: list[Due] = []
        fresh = False
        for model in self._models:
            while model.next_ms < until_ms:
                effects = effects_at(model.spec.symbol, model.next_ms)
                for event in model.step(effects.conditions):
                    push = BOOK_PUSH_MS if isinstance(event, Quote) else TRADE_PUSH_MS
                    self._pending.append((event.time_ms + push, model.spec, event, effects))
                fresh = True
        if fresh:
            self._pending.sort(key=lambda item: item[0])
        cut = 0
        for due_ms, spec, event, effects in self._pending:
            if due_ms > until_ms:
                break
            cut += 1
            out.extend(Due(due_ms, frame) for frame in self._realise(spec, event, effects))
        del self._pending[:cut]
        return out

    def _realise(
        self, spec: SymbolSpec, event: Quote | AggTrade, effects: Effects
    ) -> Iterator[Frame]:
        if effects.clock_offset_ms:
            event = event._replace(time_ms=event.time_ms + effects.clock_offset_ms)
        history = self.histories[spec.symbol]
        if isinstance(event, Quote):
            history.last_update_id = event.update_id
            yield build_frame(spec.symbol, Kind.BOOK_TICKER, encode_quote(spec, event))
            return
        if effects.inverted_maker:
            event = event._replace(is_buyer_maker=not event.is_buyer_maker)
        history.add(event)
        for data in encode_trades(spec, event):
            yield build_frame(spec.symbol, Kind.TRADE, data)
        yield build_frame(spec.symbol, Kind.AGG_TRADE, encode_agg_trade(spec, event))

    def state(self, symbol: str) -> dict[str, Any]:
        model = next(one for one in self._models if one.spec.symbol == symbol)
        return {"regime": model.regime.value}

    def close(self) -> None:
        pass


# --------------------------------------------------------------------------- replay


@dataclass(frozen=True)
class Recording:
    """A gzip file of one symbol: lines of receive time in ns, a space, the frame."""

    symbol: str
    path: Path


class RecordingError(Exception):
    """A file that is not a recording of the symbol."""


class ReplaySource:
    """Recorded frames at their recorded spacing, byte for byte.

    Each symbol begins at its own beginning when `is_ready` says that it has its subscribers;
    one that begins later loses nothing, it is only later. Files are read as they are replayed.
    """

    def __init__(
        self,
        recordings: tuple[Recording, ...],
        is_ready: Callable[[str], bool],
        history_trades: int,
    ) -> None:
        self._tracks = {one.symbol: _Track(one, history_trades) for one in recordings}
        self._is_ready = is_ready
        self.start_ms = min(track.first_ms for track in self._tracks.values())
        self._now_ms: float = self.start_ms
        self.histories = {symbol: track.history for symbol, track in self._tracks.items()}

    @property
    def is_waiting(self) -> bool:
        return all(track.late_ms is None for track in self._tracks.values())

    @property
    def is_finished(self) -> bool:
        return all(track.finished for track in self._tracks.values())

    def emit(self, until_ms: float, effects_at: EffectsAt) -> list[Due]:
        del effects_at
        out: list[Due] = []
        for symbol, track in self._tracks.items():
            if track.late_ms is None and self._is_ready(symbol):
                # Symbols that begin together keep their recorded distance.
                track.late_ms = self._now_ms - self.start_ms
            if track.late_ms is not None:
                out.extend(track.emit(until_ms))
        out.sort(key=lambda due: due.due_ms)
        self._now_ms = max(self._now_ms, until_ms)
        return out

    def state(self, symbol: str) -> dict[str, Any]:
        track = self._tracks[symbol]
        return {
            "replay": {
                "started": track.late_ms is not None,
                "finished": track.finished,
                "frames": track.frames,
                "progress_ratio": track.progress,
            }
        }

    def close(self) -> None:
        for track in self._tracks.values():
            track.close()


class _Track:
    def __init__(self, recording: Recording, history_trades: int) -> None:
        self._symbol = recording.symbol
        self._size = recording.path.stat().st_size
        self._raw = recording.path.open("rb")
        self._lines = gzip.GzipFile(fileobj=self._raw)
        self.late_ms: float | None = None
        self.finished = False
        self.frames = 0
        self._last_ms = 0.0
        self._ahead = self._read_next()
        if self._ahead is None:
            raise RecordingError(f"{recording.path} holds no frame of {recording.symbol}")
        self.first_ms = int(self._ahead.due_ms)
        try:
            self.history = SymbolHistory(_precision_of(recording), history_trades)
        except RecordingError:
            self.close()
            raise

    @property
    def progress(self) -> float:
        return 1.0 if self.finished else round(min(self._raw.tell() / self._size, 1.0), 4)

    def emit(self, until_ms: float) -> Iterator[Due]:
        assert self.late_ms is not None
        while self._ahead is not None and self._ahead.due_ms + self.late_ms <= until_ms:
            due_ms, frame = self._ahead
            self.frames += 1
            self._remember(frame)
            yield Due(due_ms + self.late_ms, frame)
            self._ahead = self._read_next()

    def _remember(self, frame: Frame) -> None:
        spec = self.history.spec
        if frame.kind is Kind.TRADE:
            trade = json.loads(frame.data)
            price = scaled(trade["p"], spec.price_decimals)
            qty = scaled(trade["q"], spec.qty_decimals)
            self.history.trades.append(trade["t"], (trade["T"], price, qty, int(trade["m"])))
        elif frame.kind is Kind.BOOK_TICKER:
            # Only the id is wanted: `"u":` comes first in the payload.
            start = frame.data.index(b'"u":') + 4
            self.history.last_update_id = int(frame.data[start : frame.data.index(b",", start)])

    def _read_next(self) -> Due | None:
        for line in self._lines:
            recv_ns, _, message = line.rstrip(b"\n").partition(b" ")
            if not message.startswith(b'{"stream":"'):
                continue  # a REST snapshot that the recorder put between the frames
            end = message.index(b'"', 11)
            stream = message[11:end].decode()
            kind = kind_of(stream)
            if kind is None or not stream.startswith(f"{self._symbol.lower()}@"):
                continue
            data = message[end + len(b'","data":') : -1]
            # Never back in time: the order of the file is the order of the wire.
            self._last_ms = max(self._last_ms, int(recv_ns) / 1e6)
            return Due(self._last_ms, Frame(self._symbol, kind, stream, data, message))
        self.finished = True
        self.close()
        return None

    def close(self) -> None:
        self._lines.close()
        self._raw.close()


def _precision_of(recording: Recording) -> SymbolSpec:
    """Decimals as the recording's first trade writes them."""
    with gzip.open(recording.path) as lines:
        for line in lines:
            if b'@trade"' in line[:80]:
                trade = json.loads(line.partition(b" ")[2])["data"]
                price, qty = (len(trade[key].partition(".")[2]) for key in ("p", "q"))
                return SymbolSpec(recording.symbol, 0.0, price, 1, qty, 0, 0)
    raise RecordingError(f"{recording.path} holds no trade of {recording.symbol}")


def scaled(text: str, decimals: int) -> int:
    """A decimal string as an integer of its last decimal; nothing may be rounded away."""
    value = Decimal(text).scaleb(decimals)
    if value != int(value):
        raise RecordingError(f"{text} has more than {decimals} decimals")
    return int(value)
