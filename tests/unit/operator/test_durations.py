"""Durations as people write them and as the operator writes them back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from signalcanary.contract import (
    MAX_DURATION,
    Duration,
    Model,
    PositiveDuration,
    format_duration,
    parse_duration,
)


class Holder(Model):
    any: Duration = timedelta(0)
    positive: PositiveDuration = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("1500ms", 1.5),
        ("30s", 30),
        ("2m", 120),
        ("48h", 172_800),
        ("1h30m", 5_400),
        ("1.5h", 5_400),
        ("0.25s", 0.25),
        ("1m0.5s", 60.5),
        ("8760h", 31_536_000),
    ],
)
def test_a_duration_is_read_as_kubernetes_writes_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "10", "s", "1d", "1w", "-5s", "+5s", "1 h", " 1h", "1h ", "1h\n", "1e3s", ".5s"),
        *("5.s", "1us", "1H", "P1D", "٣s", "inf", "nan", "8761h", "9999999999999999999999h"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write a duration such as 1500ms, 30s, 2m or 48h"):
        parse_duration(text)


@given(st.integers(0, int(MAX_DURATION.total_seconds() * 1000)))
def test_what_is_written_reads_back_the_same(ms: int) -> None:
    value = timedelta(milliseconds=ms)
    assert parse_duration(format_duration(value)) == value


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m"]))
def test_what_people_write_means_the_same_when_written_back(number: int, unit: str) -> None:
    if unit == "m":
        number %= 8760 * 60
    value = parse_duration(f"{number}{unit}")
    assert parse_duration(format_duration(value)) == value


@given(st.text(alphabet="0123456789.mshe -", max_size=24))
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    try:
        value = parse_duration(text)
    except ValueError:
        return
    assert timedelta(0) <= value <= MAX_DURATION
    assert parse_duration(format_duration(value)) == value


@pytest.mark.parametrize("text", ["0s", "0ms", "0h0m", "0.4ms"])
def test_what_must_be_positive_is_not_zero_to_the_millisecond(text: str) -> None:
    assert Holder.model_validate({"any": text}).any == timedelta(0)
    with pytest.raises(ValidationError, match="longer than 0s"):
        Holder.model_validate({"positive": text})


def test_a_model_writes_its_durations_as_text() -> None:
    holder = Holder.model_validate({"any": "90s", "positive": "0.5s"})
    assert holder.to_wire() == {"any": "1m30s", "positive": "500ms"}
    assert Holder.model_validate(holder.to_wire()) == holder
