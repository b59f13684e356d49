"""Local processes in the place of pods: started, watched, started again, and surely ended.

Kubernetes does four things for a rollout that a laptop must do itself: it starts what is
wanted, asks /readyz, restarts with a growing delay what dies, and leaves nothing behind. This
module does those four and knows nothing of what the processes do. Each child has a session of
its own, so that a Ctrl-C reaches the parent alone, which then ends its children one by one, by
their ids. It never signals a group or a name.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

BACKOFF_FIRST_SECONDS: Final = 0.5
BACKOFF_MOST_SECONDS: Final = 30.0
RAN_WELL_SECONDS: Final = 60.0
"""A process that lived this long begins its backoff anew."""

_URL: Final = re.compile(r"https?://(?:[0-9A-Za-z.-]+|\[[0-9a-f:]+\]):[0-9]+")


@dataclass(frozen=True)
class ProcessSeen:
    """A process as it is now.

    Attributes:
        pid: None while it does not run.
        url: where it serves, as it said itself; None until it has.
        exit_code: of the last run that ended; None if none has.
        last_words: the last line it wrote.
        is_stopping: it was told to end.
    """

    name: str
    pid: int | None
    url: str | None
    restarts: int
    exit_code: int | None
    last_words: str
    is_stopping: bool = False

    @property
    def problem(self) -> str | None:
        """What keeps it from running, in words; None while it runs, or ends as it was told."""
        if self.pid is not None or self.exit_code is None or self.is_stopping:
            return None
        said = f": {self.last_words}" if self.last_words else ""
        return f"process {self.name} {_how_it_ended(self.exit_code)}{said}"


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


Notice = Callable[[str, str], None]
"""Told of what happens to a process: its name, and what in words."""


class Supervised(Protocol):
    """What is done with a process; the port that tests of the rollout fake."""

    def start(self) -> None: ...

    def look(self) -> ProcessSeen: ...

    async def stop(self, grace_seconds: float) -> None: ...


class Process:
    """One child process, kept running until it is stopped."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        notice: Notice = lambda name, what: None,
        backoff_seconds: float = BACKOFF_FIRST_SECONDS,
    ) -> None:
        self._name = name
        self._argv = tuple(argv)
        self._log = log
        self._notice = notice
        self._backoff_seconds = backoff_seconds
        self._child: asyncio.subprocess.Process | None = None
        self._url: str | None = None
        self._restarts = 0
        self._exit_code: int | None = None
        self._last_words = ""
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep the process running."""
        self._task = asyncio.create_task(self._keep_running(), name=self._name)

    def look(self) -> ProcessSeen:
        """The process as it is now."""
        child = self._child
        return ProcessSeen(
            self._name,
            child.pid if child and child.returncode is None else None,
            self._url,
            self._restarts,
            self._exit_code,
            self._last_words,
            self._stopping.is_set(),
        )

    async def wait_until(
        self, done: Callable[[ProcessSeen], bool], timeout_seconds: float
    ) -> ProcessSeen:
        """Wait until the process is as wanted, for example until it has said its URL.

        Raises:
            TimeoutError: it did not come to that in time.
        """
        async with asyncio.timeout(timeout_seconds):
            while not done(seen := self.look()):
                self._changed.clear()
                await self._changed.wait()
        return seen

    async def stop(self, grace_seconds: float) -> None:
        """End the process: SIGTERM, after the grace SIGKILL. Returns when it is gone."""
        self._stopping.set()
        task, self._task = self._task, None
        if task is None:
            return
        if self._child is None:
            # Perhaps at the very moment of being started: let that come to its end first.
            await asyncio.wait({task}, timeout=grace_seconds)
        self._signal("terminate")
        if (await asyncio.wait({task}, timeout=grace_seconds))[1]:
            self._signal("kill")
        await task

    def _signal(self, how: str) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                getattr(self._child, how)()

    async def _keep_running(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began_seconds = time.monotonic()
            await self._run_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - began_seconds >= RAN_WELL_SECONDS:
                failures = 0
            longest = max(BACKOFF_MOST_SECONDS, self._backoff_seconds)
            delay = min(longest, self._backoff_seconds * 2**failures)
            failures += 1
            self._notice(self._name, f"{self.look().problem}; it is started again in {delay:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            if not self._stopping.is_set():
                self._restarts += 1

    async def _run_once(self) -> None:
        try:
            self._child = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._exit_code, self._last_words = 127, str(error)
            self._changed.set()
            return
        self._changed.set()
        if self._stopping.is_set():
            self._signal("terminate")
        reader = asyncio.create_task(self._read(self._child))
        code = await self._child.wait()
        # What it wrote last is already in the pipe; a grandchild may hold the pipe for ever.
        await asyncio.wait({reader}, timeout=1.0)
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader
        self._child, self._url, self._exit_code = None, None, code
        self._changed.set()

    async def _read(self, child: asyncio.subprocess.Process) -> None:
        """Copy the output into the log; the first URL in it is where the process serves."""
        assert child.stdout is not None  # a pipe was asked for
        rest = b""
        with self._log.open("ab", buffering=0) as log:
            while chunk := await child.stdout.read(65_536):
                log.write(chunk)
                *lines, rest = (rest + chunk)[-65_536:].split(b"\n")
                for line in lines:
                    self._hear(line.decode(errors="replace").strip())
        if rest:
            self._hear(rest.decode(errors="replace").strip())

    def _hear(self, line: str) -> None:
        if not line:
            return
        self._last_words = line[:300]
        if self._url is None and (found := _URL.search(line)):
            self._url = found.group()
            self._changed.set()


async def stop_all(processes: Iterable[Supervised], grace_seconds: float) -> None:
    """End processes at the same time; returns when all are gone."""
    await asyncio.gather(*(process.stop(grace_seconds) for process in processes))
