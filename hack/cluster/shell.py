"""Running commands and telling the person at the terminal how far it got.

Why it exists: every step prints its name and time, and every failure says
which command failed, the end of its output and what to do about it.
It must never hide an exit code.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TAIL_CHARACTERS = 2_000


class ClusterError(Exception):
    """Something a person has to know of; its text says what to do."""


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    check: bool = True,
    timeout_seconds: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command with its output captured; raises ClusterError if it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{' '.join(words)}: no end after {timeout_seconds:g} s") from error
    if check and done.returncode != 0:
        output = (done.stdout + done.stderr)[-TAIL_CHARACTERS:].strip()
        raise ClusterError(f"{' '.join(words)} ended with {done.returncode}:\n{output}")
    return done


@contextmanager
def step(title: str) -> Iterator[None]:
    """Prints the title, then the time that the block took."""
    print(f"- {title} ...", end="", flush=True)
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        print(f" failed after {time.monotonic() - begin:.1f} s", flush=True)
        raise
    print(f" {time.monotonic() - begin:.1f} s", flush=True)


def note(text: str) -> None:
    print(f"- {text}", flush=True)


def wait_for(
    what: str,
    ready: Callable[[], bool],
    *,
    timeout_seconds: float,
    interval_seconds: float = 0.1,
    hint: Callable[[], str] = lambda: "",
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not so after {timeout_seconds:g} s. {hint()}".strip())
        time.sleep(interval_seconds)
