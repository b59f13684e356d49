"""The cost of analysis with history behind it: one step, and catching up after a restart."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.process import cpu_seconds, module, peak_rss_mib
from benchmarks.workloads.history import COMMIT_ROWS, History, simulate, write
from benchmarks.workloads.recompute import Figures, recompute
from benchmarks.workloads.setup import (
    BenchmarkError,
    free_port,
    get,
    read_config,
    running,
    series_sum,
    wait_for_answer,
    write_config,
)
from signalcanary.contract import SignalConfig
from signalcanary_workloads.analysis.engine import EngineConfig
from signalcanary_workloads.analysis.gate import GateReader
from signalcanary_workloads.analysis.runner import Clocks, SymbolRunner
from signalcanary_workloads.analysis.signals import SignalLog
from signalcanary_workloads.harvest.sink import SymbolSink
from signalcanary_workloads.store import open_storage

SYMBOLS = ("S00USDT", "S01USDT")
STEPS = 60
"""An hour of commits: with the default refit of 30 min two of them fit a calibration."""
REPEATS = 3


class Stepping:
    """One symbol's runner, made as the process makes it, with so much history behind it."""

    def __init__(self, folder: Path, hours: int, history: History) -> None:
        self.hours = hours
        self.step_ms: list[float] = []
        self._history = history
        self._now = 0.0
        config = read_config(write_config(folder, SYMBOLS[:1]))
        self._log = SignalLog(SYMBOLS[0], config, GateReader.of(config, None), time.time_ns)
        storage = open_storage(config.data_path)
        self._sink = SymbolSink(storage, SYMBOLS[0])
        # Its clock moves by a commit's interval between steps, so that each is evaluated, and
        # not within one, so that it reads all there is.
        clocks = Clocks(time.time, lambda: self._now)
        engine = EngineConfig.from_signal(config.signal)
        self.runner = SymbolRunner(SYMBOLS[0], storage, engine, clocks, self._log)
        self.minutes = hours * 60
        for number in range(self.minutes):
            self._sink.commit_batch(history.batch(number))
        self._step()

    def step(self) -> None:
        """Commit one more minute, and time how long it takes to be in the figures."""
        self._sink.commit_batch(self._history.batch(self.minutes))
        self.minutes += 1
        self._now += COMMIT_ROWS
        begun = time.perf_counter()
        self._step()
        self.step_ms.append((time.perf_counter() - begun) * 1000)

    def _step(self) -> None:
        while self.runner.step():
            pass
        if self.runner.state.entries_read != self.minutes:
            raise BenchmarkError(f"a step has not read its entry: {self.runner.state}")

    def close(self) -> None:
        """Let go of the files."""
        self._log.close()
        self._sink.close()


@dataclass(frozen=True)
class Step:
    """One analysis step after so many hours, and the same figures computed anew."""

    hours: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    mean_ms: float
    """Fits of the calibration included."""
    recompute_ms: float
    disagreement: float
    """Largest difference of a figure from the recomputed one."""


@dataclass(frozen=True)
class CatchUp:
    """An analysis process from its start until it is ready."""

    seconds: float
    cpu_seconds: float
    peak_rss_mib: float
    entries: int


def measure_catch_up(
    folder: Path, hours: int, say: Callable[[str], None]
) -> tuple[CatchUp, CatchUp]:
    """Start the real process on stored history of two symbols, and after SIGTERM once more.

    Returns:
        From the first entry on, none of it on record yet; and from the snapshots.
    """
    config = write_config(folder, SYMBOLS)
    storage = open_storage(read_config(config).data_path)
    for seed, symbol in enumerate(SYMBOLS):
        say(f"  {hours} h of {symbol} are written")
        write(storage, symbol, simulate(seed, hours * 60), hours * 60)
    say(f"  analysis catches up with {hours} h × {len(SYMBOLS)} symbols")
    caught = _catch_up(config, folder, hours * 60 * len(SYMBOLS))
    say("  analysis starts again from its snapshots")
    return caught, _catch_up(config, folder, 0)


def _catch_up(config: Path, folder: Path, wanted: int) -> CatchUp:
    """Start it, wait until it is ready after so many entries, and end it."""
    listen, log = f"127.0.0.1:{free_port()}", folder / "analysis.log"
    options = ("--config", str(config), "--shard", "0", "--listen", listen)
    command = module("signalcanary_workloads", "analysis", *options, "--publish", "127.0.0.1:0")
    begun = time.monotonic()
    with running(command, log) as process:
        wait_for_answer(f"http://{listen}/readyz", process, log, 0.05)
        seconds = time.monotonic() - begun
        page = get(f"http://{listen}/metrics") or ""
        entries = int(series_sum(page, "analysis_entries_read_total"))
        if entries != wanted:
            raise BenchmarkError(f"ready after {entries} entries")
        return CatchUp(seconds, cpu_seconds(process.pid), peak_rss_mib(process.pid), entries)


def measure_steps(folder: Path, hours: Sequence[int], say: Callable[[str], None]) -> list[Step]:
    """Steps of runners with different history, in turns, so that noise hits them alike."""
    history = simulate(0, max(hours) * 60 + STEPS)
    runners = []
    try:
        for each in hours:
            say(f"  a history of {each} h is written and read")
            (home := folder / f"{each}h").mkdir(parents=True)
            runners.append(Stepping(home, each, history))
        say(f"  {STEPS} steps of each")
        for _ in range(STEPS):
            for stepping in runners:
                stepping.step()
    finally:
        for stepping in runners:
            stepping.close()
    say("  the same figures all anew")
    return [_compare(stepping, history) for stepping in runners]


def _compare(stepping: Stepping, history: History) -> Step:
    rows = stepping.minutes * COMMIT_ROWS
    trades = int(history.first_trade[rows])
    features = _frame(history.features.slice(0, rows), ("ts", "mid", "z_ofi", "regime"))
    scores = _frame(history.scores.slice(0, trades), ("ts", "z_cvd"))
    config = EngineConfig.from_signal(SignalConfig())
    took: list[float] = []
    figures: Figures = {}
    for _ in range(REPEATS):
        begun = time.perf_counter()
        figures = recompute(features, scores, config)[config.horizon_ms]
        took.append((time.perf_counter() - begun) * 1000)
    evaluation = stepping.runner.state.evaluation
    assert evaluation is not None
    ours = {name: evaluation.values[name].value for name in figures}
    differences = [
        abs(mine - figures[name])
        for name, mine in ours.items()
        if mine is not None and math.isfinite(figures[name])
    ]
    times = np.array(stepping.step_ms)
    return Step(
        stepping.hours,
        median(stepping.step_ms),
        float(np.quantile(times, 0.1)),
        float(np.quantile(times, 0.9)),
        float(times.mean()),
        median(took),
        max(differences, default=math.nan),
    )


def _frame(table: pa.Table, columns: tuple[str, ...]) -> pl.DataFrame:
    frame = pl.from_arrow(table.select(list(columns)))
    assert isinstance(frame, pl.DataFrame)
    return frame.rechunk()
