"""The pump: virtual time passes, the source speaks, frames go to those who listen."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final

from signalcanary_workloads.exchange.clock import VirtualClock
from signalcanary_workloads.exchange.delivery import Delivery
from signalcanary_workloads.exchange.faults import Disconnect, Fault, FaultBook, Imposed
from signalcanary_workloads.exchange.hub import Connection, Ended, Hub
from signalcanary_workloads.exchange.protocol import Kind
from signalcanary_workloads.exchange.sources import Source

SLICE_MS: Final = 250.0
"""Event time delivered at once. Public and market frames of one slice may reach a client in
either order, so it stays well below the 2 s that a feature row waits for late frames."""
_SHORTEST_PAUSE_SECONDS: Final = 0.002
_LONGEST_PAUSE_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 30.0


class Engine:
    """One exchange without its sockets. `position_ms` is the event time delivered so far."""

    def __init__(
        self,
        source: Source,
        clock: VirtualClock,
        hub: Hub,
        faults: FaultBook,
        seed: int,
        is_lossless: bool,
    ) -> None:
        self.source = source
        self.clock = clock
        self.hub = hub
        self.faults = faults
        self.position_ms: float = clock.start_ms
        self.slips = 0
        self._is_lossless = is_lossless
        self._delivery = Delivery(Random(seed))

    def advance(self, until_ms: float) -> None:
        """Deliver all that is due up to `until_ms`."""
        for disconnect in self.faults.take_disconnects(until_ms):
            self._disconnect(disconnect)
        for due_ms, frame in self.source.emit(until_ms, self.faults.effects):
            self._delivery.offer(frame, due_ms, self.faults.effects(frame.symbol, due_ms))
        for frame in self._delivery.take(until_ms):
            self.hub.publish(frame)
        self.position_ms = until_ms

    async def run(self) -> None:
        """Advance with the clock, for ever."""
        pause = SLICE_MS / 1000 / self.clock.speed
        pause = min(max(pause, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        while True:
            if self.source.is_waiting:
                self.clock.set_to(self.position_ms)
                self.advance(self.position_ms)
            target_ms = float(self.clock.now_ms())
            while self.position_ms < target_ms:
                self.advance(min(self.position_ms + SLICE_MS, target_ms))
                # Let the writers of both endpoints keep step with event time.
                await asyncio.sleep(0)
                if self._is_lossless:
                    await self.hub.relieve(_PATIENCE_SECONDS)
            self.slips += self.clock.hold_back_to(self.position_ms)
            await asyncio.sleep(pause)

    def impose(self, faults: list[Fault]) -> list[Imposed]:
        """Impose faults from now on; a disconnect that is due happens at once."""
        imposed = self.faults.impose(faults, self.position_ms)
        for disconnect in self.faults.take_disconnects(self.position_ms):
            self._disconnect(disconnect)
        return imposed

    def _disconnect(self, fault: Disconnect) -> None:
        prefixes = None
        if fault.symbols is not None:
            prefixes = tuple(f"{symbol.lower()}@" for symbol in fault.symbols)

        def concerns(connection: Connection) -> bool:
            if fault.endpoint is not None and connection.endpoint.value != fault.endpoint:
                return False
            return prefixes is None or any(one.startswith(prefixes) for one in connection.streams)

        self.hub.cut(Ended.FAULT, concerns)

    def state(self) -> dict[str, Any]:
        """What /control/state shows."""
        return {
            "event_time_ms": int(self.position_ms),
            "speed": self.clock.speed,
            "connections": len(self.hub.connections),
            "disconnects": {reason.value: n for reason, n in self.hub.disconnects.items()},
            "clock_slips": self.slips,
            "held_frames": len(self._delivery),
            "waiting": self.source.is_waiting,
            # Finished for the clients, too: all sent, not only all read.
            "finished": self.source.is_finished
            and not self._delivery
            and not any(connection.queue for connection in self.hub.connections),
            "symbols": {symbol: self._symbol_state(symbol) for symbol in self.source.histories},
        }

    def _symbol_state(self, symbol: str) -> dict[str, Any]:
        history = self.source.histories[symbol]
        streams = {kind.value: f"{symbol.lower()}@{kind}" for kind in Kind if kind != Kind.DEPTH}
        return {
            "frames_sent": {kind: self.hub.frames_sent[one] for kind, one in streams.items()},
            "subscribers": {kind: self.hub.subscriber_count(one) for kind, one in streams.items()},
            "last_agg_trade_id": history.agg_trades.last_id,
            "last_trade_id": history.trades.last_id,
            "last_update_id": history.last_update_id,
            **self.source.state(symbol),
        }
