"""The recorded frames without a socket: cryptofeed's parser beside ours, and all the features.

cryptofeed (PyPI) hands out a `Trade` or `Ticker` with Decimals for each frame. The equal of
that here is `parse_frame`; the whole of what harvest does with a message is more, and is
measured too. The two take turns, so that both meet the same noise.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Spread
from benchmarks.workloads.frames import read_recorded
from benchmarks.workloads.setup import BenchmarkError
from signalcanary.contract import SignalConfig
from signalcanary_workloads.harvest.pipeline import SymbolPipeline
from signalcanary_workloads.harvest.sequence import Arrival
from signalcanary_workloads.harvest.wire import BookTicker, parse_frame

SYMBOLS = ("BTCUSDT", "ETHUSDT")
INTERPRETER = "SIGNALCANARY_CRYPTOFEED_PYTHON"
"""Variable with the Python of a virtualenv that cryptofeed is installed in."""
REPEATS = 3


@dataclass(frozen=True)
class Parsing:
    """CPU µs a frame; cryptofeed's is None where it is not installed."""

    frames: int
    parse_us: Spread
    features_us: Spread
    """Parsing and features together."""
    cryptofeed_us: Spread | None
    cryptofeed_version: str | None
    cryptofeed_missing: str | None
    """Why it has no figures."""


def measure() -> Parsing:
    """Take turns.

    Raises:
        FileNotFoundError: the recorded frames are not there.
    """
    frames = read_recorded()
    interpreter = os.environ.get(INTERPRETER)
    missing = None
    if not interpreter or not Path(interpreter).exists():
        missing = f"${INTERPRETER} names no Python; `make bench-peer` installs one"
    parse: list[float] = []
    features: list[float] = []
    peer: list[float] = []
    version = None
    for _ in range(REPEATS):
        parse.append(_timed(_parse, frames))
        features.append(_timed(_take_in, frames))
        if missing is not None or interpreter is None:
            continue
        try:
            version, seconds = _run_cryptofeed(interpreter, frames)
        except BenchmarkError as exc:
            missing, peer = str(exc), []
        else:
            peer.append(seconds)
    micro = 1e6 / len(frames)
    return Parsing(
        len(frames),
        Spread.of([s * micro for s in parse]),
        Spread.of([s * micro for s in features]),
        Spread.of([s * micro for s in peer]) if peer else None,
        version if peer else None,
        missing,
    )


def _timed(work: Callable[[Sequence[bytes]], None], frames: Sequence[bytes]) -> float:
    begun = time.process_time()
    work(frames)
    return time.process_time() - begun


def _parse(frames: Sequence[bytes]) -> None:
    for frame in frames:
        parse_frame(frame)


def _take_in(frames: Sequence[bytes]) -> None:
    pipelines = {name: SymbolPipeline(name, SignalConfig(), "aggTrade") for name in SYMBOLS}
    for frame in frames:
        message = parse_frame(frame)
        pipeline = pipelines[message.symbol]
        if isinstance(message, BookTicker):
            pipeline.on_quote(message, 1, 1)
        else:
            pipeline.on_trade(Arrival(message, 1, "ws", 1))


def _run_cryptofeed(interpreter: str, frames: Sequence[bytes]) -> tuple[str, float]:
    script = str(Path(__file__).with_name("cryptofeed_parser.py"))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [interpreter, script, "1", *SYMBOLS],
        input=b"\n".join(frames),
        capture_output=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(done.stderr.decode()[-1000:])
    answer = json.loads(done.stdout)
    if answer["handed_out"] != len(frames):
        raise BenchmarkError(f"it handed out {answer['handed_out']} of {len(frames)} frames")
    return answer["version"], answer["cpu_seconds"][0]
