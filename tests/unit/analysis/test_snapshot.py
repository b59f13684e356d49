"""An engine that goes on from its exported state is the engine that was exported, to the bit."""

from __future__ import annotations

from dataclasses import fields, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalcanary.contract import Cvd
from signalcanary_workloads.analysis.engine import Engine, Evaluation
from signalcanary_workloads.analysis.snapshot import (
    FORMAT,
    Ignored,
    Snapshot,
    UnusableSnapshot,
    decode,
    digest_config,
    encode,
)
from signalcanary_workloads.store import Quality


def with_control(chosen):
    """Compared with a configuration of other weights, windows and scores."""
    cvd = chosen.cvd.model_copy(update={"half_life_trades": 300})
    control = replace(chosen, reported_ms=(), cvd=cvd, refit_ms=70_000, train_ms=250_000)
    return replace(chosen, control=control)


def through_bytes(engine: Engine, config) -> Engine:
    """What a restart does."""
    data = encode(Snapshot(1, 2, 3, engine.export_state()), config)
    resumed = Engine(config)
    resumed.import_state(decode(data, config).engine)
    return resumed


def assert_same(one: Engine, other: Engine) -> None:
    """All that it shows, and all that it will ever go by."""
    assert one.evaluate() == other.evaluate()
    assert one.report() == other.report()
    assert_same_state(one.export_state(), other.export_state())


def assert_same_state(one, other, path: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same_state(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for n, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            assert_same_state(mine, theirs, f"{path}[{n}]")
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), path
        assert one.tobytes() == other.tobytes(), path
    else:
        assert one == other, path


def run(data, config, cuts, resume_at=()) -> tuple[Engine, list[Evaluation]]:
    """Feed what arrived up to each cut, going through bytes after those in `resume_at`."""
    engine, after, shown = Engine(config), -1, []
    for n, cut in enumerate(cuts):
        engine.take_in(*data.until(cut, after))
        after = cut
        if n in resume_at:
            engine = through_bytes(engine, config)
        shown.append(engine.evaluate())
    return engine, shown


@pytest.fixture(scope="module")
def eventful(market, config):
    """Gaps, ties, missing rows, refits, turns of the sign, disputed sides and a control."""
    data = market(seed=21, seconds=9_300, trades_per_second=4.0, skill=1.5)
    quality = data.features.quality.copy()
    quality[100:200] = Quality.SIDE_DISPUTED
    features = replace(data.features, quality=quality)
    data = replace(data, features=features, scores=replace(data.scores, z=-data.scores.z))
    chosen = config(horizon="1s", train="4000s", test="2000s", refit="1000s")
    chosen = replace(chosen, reported_ms=(10_000, 60_000))
    return data, with_control(chosen)


def test_every_entry_of_a_history_is_one_to_resume_at(eventful):
    data, config = eventful
    cuts = [*range(0, data.last_ingest, 500), data.last_ingest]
    straight, shown = run(data, config, cuts)
    again, resumed = run(data, config, cuts, resume_at=range(len(cuts)))
    assert_same(straight, again)
    assert resumed == shown
    end = shown[-1]
    assert end.direction == -1
    assert end.values["cvd_direction_flipped_total"].value == 1.0
    assert sum(state.direction == 1 for state in shown) > 50
    assert end.bounds
    assert end.difference_bounds
    assert all(end.masked[reason] for reason in ("gap", "no_mid", "missing_row", "side_disputed"))


def test_a_resume_at_any_one_entry_ends_where_no_resume_ends(market, config):
    data = market(seed=5, seconds=900)
    chosen = with_control(config(train="200s", test="200s", refit="60s"))
    cuts = [*range(0, data.last_ingest, 150), data.last_ingest]
    straight, _ = run(data, chosen, cuts)
    for at in range(len(cuts)):
        engine = Engine(chosen)
        engine.take_in(*data.until(cuts[at]))
        engine = through_bytes(engine, chosen)
        for after, cut in zip(cuts[at:], cuts[at + 1 :], strict=False):
            engine.take_in(*data.until(cut, after))
        assert engine.evaluate() == straight.evaluate(), at
        assert engine.report() == straight.report(), at


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    chunks=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30),
)
def test_any_chunking_with_any_resumes_ends_in_the_same_state(market, config, seed, chunks):
    data = market(seed=seed, seconds=700, trades_per_second=1.5)
    chosen = with_control(config(train="200s", test="200s", refit="60s"))
    chunks = sorted(chunks)
    cuts = [int(share * data.last_ingest) for share, _ in chunks] + [data.last_ingest]
    resume_at = {n for n, (_, resumes) in enumerate(chunks) if resumes}
    whole, _ = run(data, chosen, [data.last_ingest])
    straight, _ = run(data, chosen, cuts)
    pieces, _ = run(data, chosen, cuts, resume_at)
    assert_same(pieces, straight)
    assert pieces.evaluate() == whole.evaluate()
    assert pieces.report() == whole.report()


def test_an_exported_state_is_not_changed_by_what_comes_later(market, config):
    data = market(seed=6, seconds=900)
    chosen = with_control(config(train="200s", test="200s", refit="60s"))
    middle = data.last_ingest // 2
    engine = Engine(chosen)
    engine.take_in(*data.until(middle))
    state = engine.export_state()
    before = encode(Snapshot(1, 2, 3, state), chosen)
    for cut in range(middle, data.last_ingest, 100):
        engine.take_in(*data.until(cut + 100, cut))
    assert encode(Snapshot(1, 2, 3, state), chosen) == before


def reason_of(data: bytes, config) -> Ignored:
    with pytest.raises(UnusableSnapshot) as caught:
        decode(data, config)
    return caught.value.reason


@pytest.fixture(scope="module")
def written(market, config):
    chosen = with_control(config(train="200s", test="200s", refit="60s"))
    engine, _ = run(market(seed=7, seconds=300), chosen, [400, 800])
    return encode(Snapshot(7, 8, None, engine.export_state()), chosen), chosen


def test_what_is_not_state_comes_back_as_it_was(written):
    data, chosen = written
    got = decode(data, chosen)
    assert (got.next_seq, got.committed_ns, got.newest_row_ns) == (7, 8, None)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(written, at, bit):
    data, chosen = written
    damaged = bytearray(data)
    # Of what is not in the body, half the cases.
    place = int(at * 200) if at < 0.5 else int(at * len(data))
    damaged[place] ^= 1 << bit
    assert reason_of(bytes(damaged), chosen) in (Ignored.CORRUPT, Ignored.VERSION)


@pytest.mark.parametrize("kept", [0, 1, 50, -1])
def test_a_truncated_snapshot_is_corrupt(written, kept):
    data, chosen = written
    assert reason_of(data[:kept], chosen) is Ignored.CORRUPT


def test_another_format_or_version_is_told_before_anything_else_is_read(written):
    data, chosen = written
    later = msgspec.msgpack.encode({"format": FORMAT + 1, "whatever": 1})
    assert reason_of(later, chosen) is Ignored.VERSION
    other = msgspec.msgpack.decode(data) | {"version": "9.9.9"}
    assert reason_of(msgspec.msgpack.encode(other), chosen) is Ignored.VERSION


def test_every_field_of_the_configuration_counts(written):
    data, chosen = written
    changed = [
        replace(chosen, **{field.name: getattr(chosen, field.name) + 1_000})
        for field in fields(chosen)
        if isinstance(getattr(chosen, field.name), int) and field.name != "auto_flip"
    ]
    changed += [
        replace(chosen, auto_flip=not chosen.auto_flip),
        replace(chosen, cvd=Cvd(winsor_limit=3.0)),
        replace(chosen, reported_ms=(1_000,)),
        replace(chosen, control=None),
        replace(chosen, control=replace(chosen.control, refit_ms=1)),
        replace(chosen, fusion=chosen.fusion.model_copy(update={"quiet": chosen.fusion.active})),
    ]
    assert len({digest_config(one) for one in (chosen, *changed)}) == len(changed) + 1
    assert {reason_of(data, one) for one in changed} == {Ignored.CONFIGURATION}


def test_a_snapshot_makes_values_and_nothing_else(written):
    _, chosen = written
    with pytest.raises(NotImplementedError):
        encode(Snapshot(1, 2, 3, {"f": print}), chosen)
    with pytest.raises(NotImplementedError):
        encode(Snapshot(1, 2, 3, {"f": np.array([print])}), chosen)
