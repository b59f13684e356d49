"""Recordings are replayed byte for byte, at their own spacing, once somebody listens."""

import gzip
from pathlib import Path

import pytest

from signalcanary_workloads.exchange.faults import NO_EFFECTS, Effects
from signalcanary_workloads.exchange.sources import Recording, RecordingError, ReplaySource

TRADE = (
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":%d,"T":%d,"s":"BTCUSDT","t":%d,'
    '"p":"61800.30","q":"0.006","X":"MARKET","m":false}}'
)
QUOTE = (
    '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":%d,"s":"BTCUSDT",'
    '"b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1,"E":1}}'
)
SNAPSHOT = '{"lastUpdateId":1,"bids":[],"asks":[]}'


def effects_at(symbol: str, now_ms: float) -> Effects:
    return NO_EFFECTS


def write(path: Path, lines: list[tuple[int, str]]) -> Recording:
    with gzip.open(path, "wt") as out:
        out.writelines(f"{ms * 1_000_000} {text}\n" for ms, text in lines)
    return Recording("BTCUSDT", path)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return write(
        tmp_path / "btc.gz",
        [(1_000, QUOTE % 9), (1_010, SNAPSHOT), (1_100, TRADE % (1, 1, 70)), (1_500, QUOTE % 12)],
    )


def test_frames_come_at_their_recorded_spacing_byte_for_byte(recording: Recording) -> None:
    source = ReplaySource((recording,), lambda symbol: True, 100)
    assert source.start_ms == 1_000
    first = source.emit(1_100, effects_at)
    assert [due_ms for due_ms, _ in first] == [1_000, 1_100]
    assert first[1].frame.combined.decode() == TRADE % (1, 1, 70)
    assert first[1].frame.data.decode() == (TRADE % (1, 1, 70))[33:-1]
    assert not source.is_finished
    assert len(source.emit(9_999, effects_at)) == 1
    assert source.is_finished
    assert source.emit(20_000, effects_at) == []


def test_a_symbol_that_begins_late_loses_nothing(recording: Recording) -> None:
    ready: set[str] = set()
    source = ReplaySource((recording,), ready.__contains__, 100)
    assert source.emit(3_000, effects_at) == []
    assert source.is_waiting
    ready.add("BTCUSDT")
    frames = source.emit(3_000, effects_at) + source.emit(3_500, effects_at)
    assert [due_ms for due_ms, _ in frames] == [3_000, 3_100, 3_500]


def test_history_holds_what_was_replayed_so_far(recording: Recording) -> None:
    source = ReplaySource((recording,), lambda symbol: True, 100)
    history = source.histories["BTCUSDT"]
    source.emit(1_050, effects_at)
    assert history.trades.select(10) == []
    assert history.last_update_id == 9
    source.emit(1_100, effects_at)
    assert history.trades.select(10) == [(70, 1, 6_180_030, 6, 0)]
    source.close()


def test_a_file_without_the_symbol_is_refused(tmp_path: Path) -> None:
    wrong = write(tmp_path / "none.gz", [(1, SNAPSHOT)])
    with pytest.raises(RecordingError, match="holds no frame of BTCUSDT"):
        ReplaySource((wrong,), lambda symbol: True, 100)


def test_a_file_without_trades_is_refused(tmp_path: Path) -> None:
    wrong = write(tmp_path / "book.gz", [(1, QUOTE % 1)])
    with pytest.raises(RecordingError, match="holds no trade of BTCUSDT"):
        ReplaySource((wrong,), lambda symbol: True, 100)
