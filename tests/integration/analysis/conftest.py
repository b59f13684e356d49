"""A volume with real Parquet parts and manifest entries, as harvest commits them."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from signalcanary.contract import SignalConfig, Track, WorkloadConfig
from signalcanary_workloads.store import ID_COLUMN, SCHEMAS, Entry, Kind, Part, entry_key

START_MS = 1_777_618_800_000  # 2026-05-01T07:00:00Z: crosses from Tokyo into London
NAMES = {0: "unknown", 1: "active", 2: "quiet"}


@dataclass
class Volume:
    """Commits a simulated market of one symbol, some seconds at a time."""

    data_path: Path
    symbol: str = "BTCUSDT"
    seed: int = 1
    second: int = 0
    seq: int = 0
    ingest: int = 0
    mid: float = 50_000.0
    flow: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def commit(self, seconds: int, committed_seconds: float | None = None) -> Entry:
        """One entry with the next `seconds` rows of the grid and their trades."""
        features: list[dict[str, Any]] = []
        scores: list[dict[str, Any]] = []
        for _ in range(seconds):
            self._add_second(features, scores)
        parts = [
            self.write_part(Kind.FEATURE, features),
            *([self.write_part(Kind.CVD, scores)] if scores else []),
        ]
        return self.write_entry(parts, features[-1]["ts"], committed_seconds)

    def write_entry(
        self, parts: list[Part], watermark_ms: int, committed_seconds: float | None = None
    ) -> Entry:
        """Name parts in the next manifest entry."""
        at = time.time() if committed_seconds is None else committed_seconds
        entry = Entry(
            seq=self.seq,
            symbol=self.symbol,
            committed_ns=int(at * 1e9),
            watermark_ms=watermark_ms,
            gap_epoch=0,
            gaps=(),
            parts=tuple(parts),
            state={},
        )
        path = self.data_path / entry_key(self.symbol, self.seq)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(entry.to_json())
        temporary.rename(path)
        self.seq += 1
        return entry

    def _add_second(self, features: list[dict[str, Any]], scores: list[dict[str, Any]]) -> None:
        rng, ts = self._rng, START_MS + 1_000 * self.second
        flow = float(rng.standard_normal())
        for at in np.sort(rng.integers(0, 1_000, rng.poisson(3))).tolist():
            self.ingest += 1
            scores.append(
                {
                    "trade_id": self.ingest,
                    "ts": ts - 1_000 + at,
                    "ingest": self.ingest,
                    "delta": 1.0,
                    "delta_qty": 1.0,
                    "cvd": 1.0,
                    "z_raw": None,
                    "z_cvd": None if self.ingest < 80 else flow + float(rng.standard_normal()),
                    "scale": None,
                    "floor": None,
                    "floor_hit": False,
                }
            )
        self.ingest += 1
        features.append(
            {
                "ts": ts,
                "ingest": self.ingest,
                "mid": None if rng.random() < 0.01 else round(self.mid, 1),
                "spread_bps": 0.1,
                "ofi": flow,
                "z_ofi": None if self.second < 30 else flow,
                "tps": 3.0,
                "regime": NAMES[self.second // 50 % 3],
                "gap_epoch": 0,
                "quality": 0,
            }
        )
        self.flow = [*self.flow[-9:], flow]
        self.mid += 0.1 * round(2 * (0.15 * sum(self.flow) + float(rng.standard_normal())))
        self.second += 1

    def write_part(
        self, kind: Kind, rows: list[dict[str, Any]], schema: pa.Schema | None = None
    ) -> Part:
        """Write rows as one part and describe it."""
        buffer = io.BytesIO()
        table = pa.Table.from_pylist(rows, schema=schema or SCHEMAS[kind])
        pq.write_table(table, buffer, compression="zstd")
        data = buffer.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        first, last = rows[0][ID_COLUMN[kind]], rows[-1][ID_COLUMN[kind]]
        date = datetime.fromtimestamp(rows[0]["ts"] / 1_000, UTC).date()
        path = f"date={date}/symbol={self.symbol}/kind={kind}/part-{first}-{last}-{digest[:8]}"
        target = self.data_path / f"{path}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        times = [row["ts"] for row in rows]
        return Part(
            kind,
            f"{path}.parquet",
            len(rows),
            first,
            last,
            min(times),
            max(times),
            digest,
            len(data),
        )


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "default" / "demo" / "canary" / "r1")


@pytest.fixture
def window(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "1200s")


@pytest.fixture
def signal(window: str) -> SignalConfig:
    return SignalConfig.model_validate(
        {"calibration": {"train": "300s", "test": window, "refit": "300s"}}
    )


@pytest.fixture
def workload(volume: Volume, signal: SignalConfig) -> WorkloadConfig:
    return WorkloadConfig.model_validate(
        {
            "namespace": "default",
            "name": "demo",
            "track": Track.CANARY,
            "revision": "r1",
            "attempt": 3,
            "fingerprint": "abc",
            "version": "0.1.0",
            "shards": [["BTCUSDT", "ETHUSDT"]],
            "signal": signal.to_wire(),
            "source": {},
            "data_path": str(volume.data_path),
            "commit_interval": "1s",
        }
    )
