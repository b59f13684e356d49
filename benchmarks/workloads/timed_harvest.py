"""harvest, as it is, with a note of when each message had been taken into the features.

    python -m benchmarks.workloads.timed_harvest STAMPS [options of harvest]

Harvest stamps a message when it is received, and has no second stamp that leaves the process.
Here the two methods through which messages enter a symbol's features are wrapped. A record is
three int64: the message's id, received, taken in (both ns of the wall clock). They go to the
file STAMPS at once, so that they do not count as memory of harvest.
"""

from __future__ import annotations

import sys
from array import array
from pathlib import Path
from time import time_ns
from typing import BinaryIO

from signalcanary_workloads.__main__ import main
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.sequence import Arrival
from signalcanary_workloads.harvest.wire import BookTicker

_RECORDS_AT_ONCE = 4_096


class Stamps:
    """Wraps the methods, and writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._values = array("q")

    def flush(self) -> None:
        """Write what is there."""
        self._values.tofile(self._file)
        del self._values[:]

    def _note(self, message_id: int, recv_ns: int) -> None:
        self._values.extend((message_id, recv_ns, time_ns()))
        if len(self._values) >= 3 * _RECORDS_AT_ONCE:
            self.flush()

    def install(self) -> None:
        """From now on every message is noted."""
        on_quote, on_trade, note = SymbolPipeline.on_quote, SymbolPipeline.on_trade, self._note

        def timed_quote(
            pipeline: SymbolPipeline, quote: BookTicker, recv_ns: int, conn_id: int
        ) -> None:
            on_quote(pipeline, quote, recv_ns, conn_id)
            note(quote.update_id, recv_ns)

        def timed_trade(pipeline: SymbolPipeline, arrival: Arrival) -> None:
            on_trade(pipeline, arrival)
            note(arrival.trade.trade_id, arrival.recv_ns)

        SymbolPipeline.on_quote = timed_quote  # type: ignore[method-assign,assignment]
        SymbolPipeline.on_trade = timed_trade  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    with Path(sys.argv[1]).open("wb", buffering=0) as file:
        stamps = Stamps(file)
        stamps.install()
        try:
            code = main(["harvest", *sys.argv[2:]])
        finally:
            stamps.flush()
    sys.exit(code)
