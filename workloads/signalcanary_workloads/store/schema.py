"""The tables of one symbol: kinds, columns, and the small vocabularies in them.

Shared by the writing and the reading side; docs/designs/002 says what each column means.
"""

from __future__ import annotations

from enum import IntFlag, StrEnum
from typing import Final

import pyarrow as pa


class Kind(StrEnum):
    """The tables of one symbol."""

    TRADE = "trade"
    BBO = "bbo"
    CVD = "cvd"
    FEATURE = "feature"
    SIGNAL = "signal"


HARVESTED: Final = (Kind.TRADE, Kind.BBO, Kind.CVD, Kind.FEATURE)
"""What harvest writes; analysis writes signals, under a manifest of its own."""


class Regime(StrEnum):
    """How busy the market is, against its own last 24 h."""

    ACTIVE = "active"
    QUIET = "quiet"
    UNKNOWN = "unknown"


class Quality(IntFlag):
    """The bits of a feature row's `quality`; 0 is a clean row."""

    STALE_QUOTE = 1
    """No BBO in the last 1.5 s: `mid` is null."""
    BOOK_GAP = 2
    """The book stream was away for a part of this second: `ofi` is incomplete."""
    OFI_WARMING = 4
    """Too few past bins to score the OFI: `z_ofi` is null."""
    TRADE_GAP = 8
    """Trades are missing when the row is closed: `tps` and the CVD lag behind."""
    LATE_QUOTES = 16
    """Quotes came after their second was closed, since the row before; they are not in it."""
    SIDE_DISPUTED = 32
    """Trades print on the other side of the quote than their taker side says, beyond chance:
    the sign of the CVD cannot be trusted."""


def _required(name: str, kind: pa.DataType) -> pa.Field[pa.DataType]:
    return pa.field(name, kind, nullable=False)


_I64: Final = pa.int64()
_F64: Final = pa.float64()

SCHEMAS: Final[dict[Kind, pa.Schema]] = {
    Kind.TRADE: pa.schema(
        [
            _required("trade_id", _I64),
            _required("first_id", _I64),
            _required("last_id", _I64),
            _required("ts", _I64),
            pa.field("event_ms", _I64),  # null: REST rows carry no E
            _required("recv_ns", _I64),
            _required("ingest", _I64),
            _required("price", _F64),
            _required("qty", _F64),
            pa.field("nq", _F64),
            _required("is_buyer_maker", pa.bool_()),
            _required("src", pa.string()),
            _required("conn_id", _I64),
        ]
    ),
    Kind.BBO: pa.schema(
        [
            _required("update_id", _I64),
            _required("bid_price", _F64),
            _required("bid_qty", _F64),
            _required("ask_price", _F64),
            _required("ask_qty", _F64),
            _required("ts", _I64),
            _required("event_ms", _I64),
            _required("recv_ns", _I64),
            _required("ingest", _I64),
            _required("conn_id", _I64),
        ]
    ),
    Kind.CVD: pa.schema(
        [
            _required("trade_id", _I64),
            _required("ts", _I64),
            _required("ingest", _I64),
            _required("delta", _F64),
            _required("delta_qty", _F64),
            _required("cvd", _F64),
            pa.field("z_raw", _F64),  # null: warm-up, or skipped after a gap
            pa.field("z_cvd", _F64),
            pa.field("scale", _F64),
            pa.field("floor", _F64),
            _required("floor_hit", pa.bool_()),
        ]
    ),
    Kind.FEATURE: pa.schema(
        [
            _required("ts", _I64),
            _required("ingest", _I64),
            pa.field("mid", _F64),
            pa.field("spread_bps", _F64),
            _required("ofi", _F64),
            pa.field("z_ofi", _F64),
            _required("tps", _F64),
            _required("regime", pa.string()),
            _required("gap_epoch", _I64),
            _required("quality", _I64),
        ]
    ),
    Kind.SIGNAL: pa.schema(
        [
            _required("ts", _I64),
            pa.field("f", _F64),  # null: the row cannot be scored, see reason
            pa.field("p", _F64),  # null: also before the first calibration
            _required("regime", pa.string()),
            _required("direction", _I64),
            pa.field("reason", pa.string()),  # null: it can be scored
            _required("quality", _I64),
            pa.field("mid", _F64),
            _required("horizon_ms", _I64),
            _required("gap_epoch", _I64),
            pa.field("fitted_ms", _I64),
            _required("track", pa.string()),
            _required("revision", pa.string()),
            _required("attempt", _I64),
            _required("fingerprint", pa.string()),
            _required("version", pa.string()),
            _required("emitted_ns", _I64),
            _required("replayed", pa.bool_()),
            _required("published", pa.bool_()),
            pa.field("seq", _I64),  # null: it did not go out
            pa.field("withheld", pa.string()),  # null: it went out
        ]
    ),
}
"""Column types by kind. Times are int64 ms of event time, but for `_ns` (wall clock)."""

ID_COLUMN: Final[dict[Kind, str]] = {
    Kind.TRADE: "trade_id",
    Kind.BBO: "update_id",
    Kind.CVD: "trade_id",
    Kind.FEATURE: "ts",
    Kind.SIGNAL: "ts",
}
"""Which column a part's `first_id` and `last_id` (and file name) are taken from."""
