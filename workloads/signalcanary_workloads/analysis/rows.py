"""The two inputs of the analysis as columns, and how they are read from Parquet tables.

Columns instead of row objects, because at 120× market speed thousands of rows a second pass
through; NaN stands for null inside the process only, and never leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .. import store

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

FEATURE_COLUMNS: Final = ("ts", "ingest", "mid", "z_ofi", "regime", "gap_epoch", "quality")
CVD_COLUMNS: Final = ("ts", "ingest", "z_cvd", "delta", "scale")


class Regime(IntEnum):
    """The market regime that harvest assigned to a row, as a small code."""

    UNKNOWN = 0
    ACTIVE = 1
    QUIET = 2


_REGIME_CODES: Final[dict[object, Regime]] = {
    store.Regime.ACTIVE.value: Regime.ACTIVE,
    store.Regime.QUIET.value: Regime.QUIET,
}


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Rows of the 1 Hz grid, in the order of their event time."""

    ts_ms: Ints
    ingest: Ints
    mid: Floats
    z_ofi: Floats
    regime: Codes
    gap_epoch: Ints
    quality: Ints
    """Bits of `store.Quality`."""

    def __len__(self) -> int:
        return int(self.ts_ms.size)

    def take(self, index: Ints | Bools | slice) -> FeatureRows:
        """The rows that `index` selects."""
        return FeatureRows(
            self.ts_ms[index],
            self.ingest[index],
            self.mid[index],
            self.z_ofi[index],
            self.regime[index],
            self.gap_epoch[index],
            self.quality[index],
        )

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        ints, floats = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(ints, ints, floats, floats, np.empty(0, np.int8), ints, ints)

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """Read the columns `FEATURE_COLUMNS` of a `feature` part."""
        names = table.column("regime").to_pylist()
        codes = [_REGIME_CODES.get(name, Regime.UNKNOWN) for name in names]
        return cls(
            read_ints(table, "ts"),
            read_ints(table, "ingest"),
            read_floats(table, "mid"),
            read_floats(table, "z_ofi"),
            np.array(codes, dtype=np.int8),
            read_ints(table, "gap_epoch"),
            read_ints(table, "quality"),
        )


@dataclass(frozen=True, eq=False)
class CvdRows:
    """Volume-delta scores, one a trade, in the order of their arrival."""

    ts_ms: Ints
    ingest: Ints
    z: Floats
    delta: Floats
    """Signed notional of the trade, which scores under other parameters are made of."""
    scale: Floats
    """NaN for the first trade of all, and for one that is no order flow."""

    def __len__(self) -> int:
        return int(self.ts_ms.size)

    def take(self, index: Ints | Bools | slice) -> CvdRows:
        """The rows that `index` selects."""
        return CvdRows(
            self.ts_ms[index],
            self.ingest[index],
            self.z[index],
            self.delta[index],
            self.scale[index],
        )

    def followed_by(self, later: CvdRows) -> CvdRows:
        """These rows, then `later`."""
        return CvdRows(
            np.concatenate((self.ts_ms, later.ts_ms)),
            np.concatenate((self.ingest, later.ingest)),
            np.concatenate((self.z, later.z)),
            np.concatenate((self.delta, later.delta)),
            np.concatenate((self.scale, later.scale)),
        )

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        ints, floats = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(ints, ints, floats, floats, floats)

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """Read the columns `CVD_COLUMNS` of a `cvd` part."""
        return cls(
            read_ints(table, "ts"),
            read_ints(table, "ingest"),
            read_floats(table, "z_cvd"),
            read_floats(table, "delta"),
            read_floats(table, "scale"),
        )


def read_ints(table: pa.Table, name: str) -> Ints:
    """A column without nulls as int64."""
    return np.asarray(table.column(name).to_numpy(), dtype=np.int64)


def read_floats(table: pa.Table, name: str) -> Floats:
    """A column as float64; null becomes NaN, and so does what is not finite."""
    values = np.asarray(table.column(name).to_numpy(), dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)
