from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary_workloads.store import (
    SCHEMAS,
    CorruptEntry,
    CorruptPart,
    Entry,
    Gap,
    Kind,
    ManifestReader,
    MissingPart,
    Part,
    StoreError,
    entry_key,
    read_part,
)
from signalcanary_workloads.store.volume import Volume


def entry(seq: int, parts: tuple[Part, ...] = ()) -> Entry:
    gaps = (Gap("bookTicker", 1, 2, "reconnect", False),)
    return Entry(seq, "BTCUSDT", 3, 4, 5, gaps, parts, {"cvd": {"deltas": [0.1, None]}})


def put(data: Path, seq: int, content: bytes | None = None) -> None:
    path = data / entry_key("BTCUSDT", seq)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(entry(seq).to_json() if content is None else content)


def put_part(data: Path) -> Part:
    rows = [{"trade_id": n, "ts": n, "ingest": n, "delta": 1.0, "delta_qty": 1.0, "cvd": float(n)}
            | {"z_raw": None, "z_cvd": None, "scale": 1.0, "floor": 1.0, "floor_hit": n % 2 == 0}
            for n in range(5)]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=SCHEMAS[Kind.CVD])
    path = data / "date=2026-05-01" / "symbol=BTCUSDT" / "part.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    content = path.read_bytes()
    name = path.relative_to(data).as_posix()
    digest = hashlib.sha256(content).hexdigest()
    return Part(Kind.CVD, name, 5, 0, 4, 0, 4, digest, len(content))


def test_a_reader_gets_each_entry_once_in_order_and_goes_on_from_a_checkpoint(
    tmp_path: Path,
) -> None:
    reader = ManifestReader(Volume(tmp_path), "BTCUSDT")
    assert reader.poll() == []
    for seq in range(5):
        put(tmp_path, seq)
    assert [e.seq for e in reader.poll(limit=2)] == [0, 1]
    assert [e.seq for e in reader.poll()] == [2, 3, 4]
    assert (reader.poll(), reader.next_seq) == ([], 5)
    put(tmp_path, 5)
    assert [e.seq for e in reader.poll()] == [5]
    assert [e.seq for e in ManifestReader(Volume(tmp_path), "BTCUSDT", 4).poll()] == [
        4,
        5,
    ]


def test_an_entry_that_cannot_be_read_stops_the_reader_behind_the_good_ones(
    tmp_path: Path,
) -> None:
    put(tmp_path, 0)
    put(tmp_path, 1, b'{"seq":1}')
    reader = ManifestReader(Volume(tmp_path), "BTCUSDT")
    assert [e.seq for e in reader.poll()] == [0]
    with pytest.raises(CorruptEntry, match=r"symbol=BTCUSDT/0000000001\.json"):
        reader.poll()
    assert reader.next_seq == 1


@settings(deadline=None)
@given(
    st.integers(0, 2**62),
    st.text(max_size=20),
    st.lists(
        st.builds(Gap, st.text(), st.integers(0, 9), st.integers(0, 9), st.text(), st.booleans())
    ),
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.none()),
)  # fmt: skip
def test_an_entry_survives_its_json(
    seq: int, symbol: str, gaps: list[Gap], state: dict[str, float | None]
) -> None:
    part = Part(Kind.BBO, "x", 1, 2, 3, 4, 5, "s", 6)
    before = Entry(seq, symbol, 1, 2, 3, tuple(gaps), (part,), dict(state))
    assert Entry.from_json(before.to_json()) == before


def test_a_gap_is_from_and_to_on_the_volume() -> None:
    assert b'{"stream":"bookTicker","from":1,"to":2,' in entry(0).to_json()


def test_a_part_is_read_with_its_schema_or_only_some_columns(tmp_path: Path) -> None:
    part = put_part(tmp_path)
    table = read_part(Volume(tmp_path), part)
    assert table.schema.equals(SCHEMAS[Kind.CVD])
    assert table.column("cvd").to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert read_part(Volume(tmp_path), part, ["ts", "cvd"]).column_names == ["ts", "cvd"]


def test_a_part_that_is_not_there_or_not_the_same_is_a_typed_error(tmp_path: Path) -> None:
    part = put_part(tmp_path)
    with pytest.raises(MissingPart):
        read_part(Volume(tmp_path), dataclasses.replace(part, path="elsewhere.parquet"))
    with pytest.raises(CorruptPart, match="rows"):
        read_part(Volume(tmp_path), dataclasses.replace(part, rows=6))
    with pytest.raises(CorruptPart, match="leaves"):
        read_part(Volume(tmp_path), dataclasses.replace(part, path="../secret.parquet"))
    path = tmp_path / part.path
    content = path.read_bytes()
    for broken in (content[:-1], b"x" + content[1:]):
        path.write_bytes(broken)
        with pytest.raises(CorruptPart):
            read_part(Volume(tmp_path), part)
    noise = b"no parquet at all"
    path.write_bytes(noise)
    digest = hashlib.sha256(noise).hexdigest()
    with pytest.raises(StoreError):
        read_part(Volume(tmp_path), dataclasses.replace(part, sha256=digest, bytes=len(noise)))
