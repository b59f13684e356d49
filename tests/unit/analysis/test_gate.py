"""The gate fails closed: one file says yes, everything else says no."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from signalcanary.contract import Track
from signalcanary.stream import Gate, Holder
from signalcanary_workloads.analysis.gate import Closed, GateReader

SYMBOL = "BTCUSDT"
OWN = Holder(revision="r1", attempt=3)


def written(gate: Gate) -> Callable[[Path], object]:
    return lambda file: file.write_text(json.dumps(gate.to_wire()))


CASES: dict[str, tuple[Callable[[Path], object], Closed | None]] = {
    "no file": (lambda file: None, Closed.MISSING),
    "a folder": (lambda file: file.mkdir(), Closed.UNREADABLE),
    "empty": (lambda file: file.write_text(""), Closed.UNREADABLE),
    "half a file": (lambda file: file.write_text('{"canary": {"rev'), Closed.UNREADABLE),
    "no text": (lambda file: file.write_bytes(b"\xff\xfe"), Closed.UNREADABLE),
    "null": (lambda file: file.write_text("null"), Closed.UNREADABLE),
    "an unknown field": (lambda file: file.write_text('{"all": true}'), Closed.UNREADABLE),
    "no attempt": (
        lambda file: file.write_text('{"canary": {"revision": "r1"}}'),
        Closed.UNREADABLE,
    ),
    "nobody": (written(Gate()), Closed.NOBODY),
    "the other track": (written(Gate(stable=OWN)), Closed.NOBODY),
    "another revision": (
        written(Gate(canary=Holder(revision="r2", attempt=3))),
        Closed.OTHER_REVISION,
    ),
    "another attempt": (
        written(Gate(canary=Holder(revision="r1", attempt=2))),
        Closed.OTHER_REVISION,
    ),
    "this one": (written(Gate(canary=OWN)), None),
    "this one beside a stable": (
        written(Gate(canary=OWN, stable=Holder(revision="r0", attempt=1))),
        None,
    ),
    "this one, held back on the symbol": (
        written(Gate(canary=OWN.model_copy(update={"without": (SYMBOL,)}))),
        Closed.HELD_BACK,
    ),
    "this one, held back on another": (
        written(Gate(canary=OWN.model_copy(update={"without": ("ETHUSDT",)}))),
        None,
    ),
    "kept, but on the other track": (
        written(Gate(kept=(OWN.model_copy(update={"only": (SYMBOL,)}),))),
        Closed.NOBODY,
    ),
}


@pytest.mark.parametrize(("symbol", "expected"), [(SYMBOL, None), ("ETHUSDT", Closed.HELD_BACK)])
def test_an_earlier_revision_publishes_what_it_was_left_with(
    tmp_path: Path, symbol: str, expected: Closed | None
) -> None:
    file = tmp_path / "gate.json"
    kept = OWN.model_copy(update={"only": (SYMBOL,)})
    written(Gate(stable=Holder(revision="r2", attempt=4, without=(SYMBOL,)), kept=(kept,)))(file)
    assert GateReader(file, Track.STABLE, OWN).read(symbol) is expected


@pytest.mark.parametrize(("write", "expected"), CASES.values(), ids=CASES)
def test_only_a_gate_that_names_this_revision_and_attempt_is_open(
    tmp_path: Path, write: Callable[[Path], object], expected: Closed | None
) -> None:
    file = tmp_path / "gate.json"
    write(file)
    assert GateReader(file, Track.CANARY, OWN).read(SYMBOL) is expected


def test_without_a_file_to_read_it_is_closed(tmp_path: Path) -> None:
    assert GateReader(None, Track.STABLE, OWN).read(SYMBOL) is Closed.MISSING
    (tmp_path / "file").touch()
    below_a_file = GateReader(tmp_path / "file" / "gate.json", Track.STABLE, OWN)
    assert below_a_file.read(SYMBOL) is Closed.MISSING


def test_it_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "gate.json"
    reader = GateReader(file, Track.CANARY, OWN)
    seen = []
    for gate in (None, Gate(canary=OWN), Gate(), Gate(canary=OWN)):
        if gate is not None:
            written(gate)(file)
        seen.append(reader.read(SYMBOL))
    assert seen == [Closed.MISSING, None, Closed.NOBODY, None]
