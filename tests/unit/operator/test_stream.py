"""The contract of the stream: topics, schema, and how a hole is found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcanary.contract import Track
from signalcanary.stream import (
    Continuity,
    Gate,
    Heartbeat,
    Holder,
    UnknownMessage,
    read_message,
    topic_prefixes,
)

BEAT: dict[str, Any] = {
    "schema": 1,
    "type": "heartbeat",
    "track": "stable",
    "symbol": "BTCUSDT",
    "revision": "r1",
    "attempt": 1,
    "seq": 4,
    "open": True,
    "reason": None,
    "emitted_ns": 1,
}
SIGNAL: dict[str, Any] = {
    **{k: v for k, v in BEAT.items() if k != "open"},
    "type": "signal",
    **{"ts": 1_000, "f": None, "p": None, "regime": "quiet", "direction": -1},
    **{"reason": "no_cvd", "quality": 4, "mid": None, "horizon_ms": 10_000, "gap_epoch": 2},
    **{"fitted_ms": None, "fingerprint": "abc", "version": "v1", "seq": 5},
}


def message(wire: dict[str, Any], **changes: Any) -> Any:
    return read_message(json.dumps(wire | changes).encode())


@pytest.mark.parametrize("wire", [BEAT, SIGNAL], ids=["heartbeat", "signal"])
def test_a_message_comes_back_as_it_went(wire: dict[str, Any]) -> None:
    read = message(wire)
    assert json.loads(read.to_json()) == wire
    assert read.topic == f"stable.BTCUSDT.{wire['type']}"


def test_a_field_that_is_not_known_is_passed_over() -> None:
    assert message(SIGNAL, later="more") == message(SIGNAL)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'"x"', json.dumps(SIGNAL | {"schema": 2}).encode(), b'{"type": "trade"}'],
    ids=["nothing", "a list", "text", "another schema", "another type"],
)
def test_what_is_of_no_known_schema_is_refused(data: bytes) -> None:
    with pytest.raises(UnknownMessage):
        read_message(data)


def test_topics_end_with_a_dot_so_that_no_symbol_begins_another() -> None:
    assert topic_prefixes([Track.STABLE], ["BTCUSD", "BTCUSDT"]) == [
        "stable.BTCUSD.",
        "stable.BTCUSDT.",
    ]
    assert topic_prefixes(Track, []) == ["canary.", "stable."]


@given(st.sets(st.integers(1, 200)), st.booleans())
def test_every_signal_that_did_not_arrive_is_counted_once(lost: set[int], at_end: bool) -> None:
    watch = Continuity()
    assert watch.missed(message(BEAT, seq=0)) == 0
    missed = sum(watch.missed(message(SIGNAL, seq=seq)) for seq in range(1, 201) if seq not in lost)
    if at_end:
        missed += watch.missed(message(BEAT, seq=200))
        assert missed == len(lost)
    assert watch.missed(message(SIGNAL, seq=201)) == len(lost) - missed


def test_another_revision_or_attempt_begins_a_sequence_of_its_own() -> None:
    watch = Continuity()
    for changes in ({}, {"revision": "r2"}, {"attempt": 2}, {"symbol": "X1"}, {"track": "canary"}):
        assert watch.missed(message(SIGNAL, seq=70, **changes)) == 0
    assert watch.missed(message(SIGNAL, seq=72)) == 1


def test_a_sender_that_never_sent_has_no_hole() -> None:
    watch = Continuity()
    assert isinstance(message(BEAT, seq=None), Heartbeat)
    assert [watch.missed(message(BEAT, seq=None)) for _ in range(3)] == [0, 0, 0]
    assert watch.missed(message(SIGNAL, seq=1)) == 0


def test_a_gate_names_one_holder_a_track_and_nobody_by_default() -> None:
    assert Gate().to_wire() == {}
    gate = Gate(stable=Holder(revision="r1", attempt=2))
    assert Gate.model_validate(gate.to_wire()) == gate
    assert gate.holders(Track.CANARY) == ()
    assert gate.holders(Track.STABLE) == (Holder(revision="r1", attempt=2),)
