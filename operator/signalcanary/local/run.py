"""Runs rollouts on this machine: the loop, the local exchange, the signals, the reporters.

What `signalcanary run` and `signalcanary demo` have in common. The loop looks once every
`evaluation.interval`; whatever ends it, an error or a Ctrl-C included, the `async with` blocks
here end every process before they return.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from signalcanary.api import SignalCanarySpec
from signalcanary.lint import Checked, check
from signalcanary.local.describe import describe_look
from signalcanary.local.probe import HttpProbe
from signalcanary.local.process import Process
from signalcanary.local.scene import PlainReporter, Reporter, Scene
from signalcanary.local.world import Host, LocalRollout, Look
from signalcanary.rollout import (
    Phase,
)

EXCHANGE_START_SECONDS: Final = 30.0
NEVER_SECONDS: Final = 3600.0
INTERRUPTED: Final = 130

SPEED: Final = 120.0
MARKET: Final = (
    # Trades are blind to the flow that moves the price: the volume delta is useless.
    "--cvd-skill=0",
    "--auc-active=0.72",
    "--auc-quiet=0.7",
    # Regimes change often, so that every test window has its share of both.
    "--shortest-dwell-seconds=150",
    "--mean-dwell-seconds=300",
)
"""The synthetic market. Its truth is known: order-flow imbalance leads the price, the volume
delta does not."""


class RunError(Exception):
    """The run cannot go on, for a reason to be told without a traceback."""


def load(file: Path) -> list[Checked]:
    """The SignalCanaries of a manifest.

    Raises:
        RunError: the file cannot be read or has problems.
    """
    try:
        report = check(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    if report.problems:
        raise RunError("\n".join(problem.describe(str(file)) for problem in report.problems))
    for found in report.found:
        if found.spec and any(c.query is not None for c in found.spec.rollback.conditions):
            raise RunError(
                f"{file}: {found.name} has a condition with a query, and without a cluster there "
                "is no Prometheus to ask: take the condition out"
            )
    return list(report.found)


def load_one(file: Path) -> tuple[Checked, SignalCanarySpec]:
    """The only SignalCanary of a manifest.

    Raises:
        RunError: there is not exactly one, or it has problems.
    """
    found = load(file)
    if len(found) != 1:
        raise RunError(f"{file}: has {len(found)} SignalCanaries; a run takes one at a time")
    (checked,) = found
    assert checked.spec is not None  # without problems there is one
    return checked, checked.spec


# --------------------------------------------------------------------------- the exchange


@dataclass(frozen=True)
class Exchange:
    """A local exchange that runs."""

    address: str
    symbols: tuple[str, ...]
    process: Process
    description: str

    def redirect(self, spec: SignalCanarySpec) -> SignalCanarySpec:
        """The spec with this exchange in the place of its own.

        Raises:
            RunError: it trades symbols that this exchange was not started with.
        """
        if missing := sorted(set(spec.symbols.full) - set(self.symbols)):
            raise RunError(
                f"the local exchange was started without {', '.join(missing)}: start the run anew"
            )
        urls = {
            "public_url": f"ws://{self.address}/public",
            "market_url": f"ws://{self.address}/market",
            "rest_url": f"http://{self.address}",
        }
        return spec.model_copy(update={"source": spec.source.model_copy(update=urls)})

    def check(self) -> None:
        """Raises RunError if it does not run any more."""
        if problem := self.process.look().problem:
            raise RunError(f"the local exchange stopped: {problem}")


@asynccontextmanager
async def running_exchange(
    symbols: Sequence[str], speed: float, seed: int, folder: Path
) -> AsyncIterator[Exchange]:
    """A synthetic exchange on a free port of the loopback interface.

    Raises:
        RunError: it did not come up.
    """
    log = folder / "log" / "exchange.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = (
        sys.executable,
        "-m",
        "signalcanary_workloads",
        "exchange",
        "--mode=synthetic",
        "--listen=127.0.0.1:0",
        f"--symbols={','.join(symbols)}",
        f"--speed={speed:g}",
        f"--seed={seed}",
        *MARKET,
    )
    # Started again it would be another market on another port: its end is the run's end.
    process = Process("exchange", argv, log, backoff_seconds=NEVER_SECONDS)
    process.start()
    try:
        try:
            seen = await process.wait_until(
                lambda p: p.url is not None or p.exit_code is not None, EXCHANGE_START_SECONDS
            )
        except TimeoutError:
            raise RunError("the local exchange did not come up in time") from None
        if seen.url is None:
            raise RunError(f"the local exchange does not start: {seen.last_words}")
        address = seen.url.removeprefix("http://")
        yield Exchange(
            address,
            tuple(symbols),
            process,
            f"exchange: a synthetic market at {speed:g} times real time, seed {seed}, on {address} "
            f"(pid {seen.pid})",
        )
    finally:
        await process.stop(grace_seconds=5.0)


# --------------------------------------------------------------------------- the loop


@dataclass(frozen=True)
class Stage:
    """Where a run shows itself: what frames a look, and who shows it."""

    reporter: Reporter
    began_seconds: float
    monotonic: Callable[[], float] = time.monotonic

    def elapsed(self) -> float:
        return self.monotonic() - self.began_seconds

    def show(self, look: Look, title: str, about: tuple[str, ...], facts: tuple[str, ...]) -> None:
        self.reporter.show(Scene(title, about, self.elapsed(), look, facts))


async def follow(
    rollout: LocalRollout,
    show: Callable[[Look], None],
    is_over: Callable[[Look], bool],
    before_look: Callable[[], None] = lambda: None,
) -> Look:
    """Look once every interval until it is over; returns the last look."""
    due = time.monotonic()
    while True:
        before_look()
        look = await rollout.look()
        show(look)
        if is_over(look):
            return look
        due = max(due + look.spec.evaluation.interval.total_seconds(), time.monotonic())
        await asyncio.sleep(due - time.monotonic())


@asynccontextmanager
async def local_rollout(
    name: str,
    namespace: str,
    folder: Path,
    metadata: Any = None,
    artifacts: Path | None = None,
) -> AsyncIterator[LocalRollout]:
    """A rollout whose processes are gone when the block ends."""
    async with HttpProbe() as probe:
        host = Host(folder, probe, lambda: datetime.now(UTC), artifacts=artifacts)
        rollout = LocalRollout(name, host, namespace, metadata or {})
        try:
            yield rollout
        finally:
            await rollout.close()


def run_until_done(main: Callable[[], Awaitable[int]]) -> int:
    """Run a coroutine; the first signal ends it in order, later ones change nothing."""
    return asyncio.run(_with_signals(main))


async def _with_signals(main: Callable[[], Awaitable[int]]) -> int:
    task: asyncio.Task[int] = asyncio.ensure_future(main())
    loop = asyncio.get_running_loop()
    caught: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        if not caught:
            task.cancel()
        caught.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not caught:
            raise
        print("interrupted; every process was ended", file=sys.stderr)
        return INTERRUPTED


def choose_reporter(is_plain: bool) -> Reporter:
    """The screen before a terminal, lines elsewhere, or if they were asked for."""
    wants_lines = is_plain or bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
    if wants_lines or os.environ.get("TERM") == "dumb":
        return PlainReporter()
    from rich.console import Console

    from signalcanary.local.screen import LiveReporter

    return LiveReporter(Console())


# --------------------------------------------------------------------------- run FILE


@dataclass(frozen=True)
class RunOptions:
    """What `signalcanary run` is told."""

    file: Path
    exchange: str
    until: str
    folder: Path
    is_plain: bool
    speed: float
    seed: int


class WatchedFile:
    """A manifest whose changes are taken up while it runs, as `kubectl apply` would."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp = self._look()
        self.problem = ""
        """Why the file as it is now is not taken up; empty if it is."""

    def _look(self) -> tuple[int, int] | None:
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def take_up(self, apply: Callable[[SignalCanarySpec], None]) -> None:
        """Apply the new spec if the file has changed; what was applied stays if it is of no use."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            _, spec = load_one(self._file)
            apply(spec)
            self.problem = ""
        except RunError as error:
            self.problem = f"the changed file is not taken up: {error}"


async def run_file(options: RunOptions) -> int:
    """Roll a manifest out on this machine; 0 if it is promoted, 1 if it is rolled back.

    Raises:
        RunError: the manifest or the exchange is of no use.
    """
    checked, spec = load_one(options.file)
    if options.exchange == "none":
        return await _run(options, checked, spec, None)
    async with running_exchange(
        spec.symbols.full, options.speed, options.seed, options.folder
    ) as exchange:
        return await _run(options, checked, spec, exchange)


async def _run(
    options: RunOptions, checked: Checked, spec: SignalCanarySpec, exchange: Exchange | None
) -> int:
    stage = Stage(choose_reporter(options.is_plain), time.monotonic())
    facts = (exchange.description if exchange else f"exchange: {spec.source.public_url}",)
    watched = WatchedFile(options.file)
    look = None

    def apply(new: SignalCanarySpec) -> None:
        rollout.apply(exchange.redirect(new) if exchange else new)

    def before_look() -> None:
        if exchange is not None:
            exchange.check()
        watched.take_up(apply)

    def show(now: Look) -> None:
        trouble = (watched.problem,) if watched.problem else ()
        about = (f"{options.file}: version {now.spec.version}", *trouble)
        stage.show(now, f"{checked.namespace}/{checked.name}", about, facts)

    def is_over(now: Look) -> bool:
        nonlocal look
        look = now
        return options.until == "settled" and now.is_settled

    async with local_rollout(
        checked.name,
        checked.namespace,
        options.folder,
        checked.metadata,
        options.file.parent,
    ) as rollout:
        apply(spec)
        try:
            await follow(rollout, show, is_over, before_look)
        finally:
            stage.reporter.close()
            if look is not None:
                print(describe_look(look), flush=True)
    assert look is not None  # the loop took at least one
    print(f"{spec.version}: {look.document['status']['message']}")
    return 0 if look.state.phase is Phase.SUCCEEDED else 1
