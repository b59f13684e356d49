"""Export files: what Prometheus answers to range queries, one answer after another.

The file holds JSON documents in a row (with or without line ends between them), each exactly
what ``/api/v1/query_range`` answers; a name that ends in ``.gz`` is compressed. `signalcanary
backtest --export` writes one, and so does curl:

    for m in platt_ece signal_evidence_timestamp_seconds …; do
      curl -sG "$PROMETHEUS/api/v1/query_range" --data-urlencode "query=$m" \\
        -d start=$START -d end=$END -d step=10
    done > export.json

All answers must have one step. Reading and writing of text only; files are the caller's.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from signalcanary.backtest.recording import Recording, RecordingError, Trace

_NAME_LABEL: Final = "__name__"


def read_export(path: Path) -> Recording:
    """Read a file.

    Raises:
        RecordingError: it is no export; the message says where.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        return build_recording(_documents(text))
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise RecordingError(f"{path}: {error}") from error
    except RecordingError as error:
        raise RecordingError(f"{path}: {error}") from error


def write_export(path: Path, answers: Iterable[Any]) -> None:
    """Write answers as they came, one a line."""
    text = "".join(json.dumps(answer, separators=(",", ":")) + "\n" for answer in answers)
    data = text.encode()
    # Without a time in the header the same answers make the same file.
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _documents(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    place = 0
    while (place := _skip_space(text, place)) < len(text):
        try:
            document, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise RecordingError(f"line {error.lineno}: this is not JSON: {error.msg}") from error
        yield document


def _skip_space(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def build_recording(answers: Iterable[Any]) -> Recording:
    """A recording of the answers to range queries.

    Raises:
        RecordingError: an answer is none, or is partial.
    """
    pieces: dict[tuple[tuple[str, str], ...], dict[float, float | None]] = {}
    for number, answer in enumerate(answers, 1):
        for labels, samples in _series_of(answer, number):
            pieces.setdefault(tuple(sorted(labels.items())), {}).update(samples)
    traces = []
    for pairs, known in pieces.items():
        own = dict(pairs)
        times = sorted(known)
        traces.append(Trace(own.pop(_NAME_LABEL, ""), own, times, [known[t] for t in times]))
    if not traces:
        raise RecordingError("the recorded data holds no series")
    return Recording(tuple(traces), _step_of(traces))


def _series_of(answer: Any, number: int) -> Iterator[tuple[dict[str, str], dict[float, float]]]:
    where = f"answer {number}"
    if not isinstance(answer, dict) or answer.get("status") != "success":
        detail = answer.get("error") if isinstance(answer, dict) else None
        raise RecordingError(f"{where} is no success: {str(detail)[:200]}")
    if answer.get("warnings"):
        raise RecordingError(f"{where} is partial: {str(answer['warnings'])[:200]}")
    try:
        data = answer["data"]
        if data["resultType"] != "matrix":
            raise RecordingError(f"{where} is a {data['resultType']}: ask /api/v1/query_range")
        for series in data["result"]:
            labels = {str(k): str(v) for k, v in series["metric"].items()}
            yield labels, {float(at): float(value) for at, value in series["values"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(f"{where} is no answer to a range query") from error


def _step_of(traces: Iterable[Trace]) -> timedelta | None:
    """The time between samples: the least there is; None if no series has two."""
    gaps = (later - earlier for trace in traces for earlier, later in pairwise(trace.times))
    least = min(gaps, default=None)
    return None if least is None else timedelta(seconds=round(least, 3))
