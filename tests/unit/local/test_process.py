"""Real child processes: started, watched, restarted, and surely ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from signalcanary.local.process import Process, stop_all

CHILD = str(Path(__file__).parent / "child.py")
PATIENCE = 20.0


def child(tmp_path: Path, *arguments: str, backoff: float = 0.01) -> tuple[Process, list[str]]:
    heard: list[str] = []
    process = Process(
        "worker-0",
        (sys.executable, CHILD, *arguments),
        tmp_path / "worker-0.log",
        lambda name, what: heard.append(f"{name}: {what}"),
        backoff,
    )
    process.start()
    return process, heard


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_process_is_known_by_the_url_that_it_says_itself(tmp_path: Path) -> None:
    process, _ = child(tmp_path, "serve")
    seen = await process.wait_until(lambda s: s.url is not None, PATIENCE)
    assert seen.url == "http://127.0.0.1:12345"
    assert seen.problem is None
    await process.stop(PATIENCE)
    assert "12345" in (tmp_path / "worker-0.log").read_text()


async def test_a_stopped_process_is_gone_and_is_not_started_again(tmp_path: Path) -> None:
    process, heard = child(tmp_path, "serve")
    seen = await process.wait_until(lambda s: s.url is not None, PATIENCE)
    assert seen.pid is not None
    assert is_alive(seen.pid)
    await process.stop(PATIENCE)
    assert not is_alive(seen.pid)
    after = process.look()
    assert (after.pid, after.exit_code, after.problem) == (None, 0, None)
    assert heard == []


async def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    process, _ = child(tmp_path, "deaf")
    seen = await process.wait_until(lambda s: s.url is not None, PATIENCE)
    await process.stop(grace_seconds=0.05)
    assert seen.pid is not None
    assert not is_alive(seen.pid)
    assert process.look().exit_code == -9


async def test_a_process_that_dies_is_noticed_and_started_again(tmp_path: Path) -> None:
    process, heard = child(tmp_path, "die", "3")
    seen = await process.wait_until(lambda s: s.restarts >= 2, PATIENCE)
    assert seen.exit_code == 3
    await process.stop(PATIENCE)
    assert heard[0] == (
        "worker-0: process worker-0 ended with exit code 3: cannot go on; "
        "it is started again in 0.01 s"
    )
    assert "in 0.02 s" in heard[1]


async def test_a_program_that_does_not_exist_is_a_problem_in_words(tmp_path: Path) -> None:
    process = Process("ghost", ("/does/not/exist",), tmp_path / "ghost.log", backoff_seconds=60)
    process.start()
    seen = await process.wait_until(lambda s: s.problem is not None, PATIENCE)
    assert seen.problem is not None
    assert "No such file" in seen.problem
    await process.stop(PATIENCE)


async def test_stopping_at_the_moment_of_starting_leaves_nothing_behind(tmp_path: Path) -> None:
    processes = [child(tmp_path, "serve")[0] for _ in range(3)]
    await stop_all(processes, PATIENCE)
    assert [p.look().pid for p in processes] == [None, None, None]


async def test_a_process_may_be_stopped_twice(tmp_path: Path) -> None:
    process, _ = child(tmp_path, "serve")
    await process.wait_until(lambda s: s.url is not None, PATIENCE)
    await process.stop(PATIENCE)
    await process.stop(PATIENCE)


async def test_waiting_for_what_never_comes_ends_in_a_timeout(tmp_path: Path) -> None:
    process, _ = child(tmp_path, "serve")
    with pytest.raises(TimeoutError):
        await process.wait_until(lambda s: s.exit_code is not None, 0.05)
    await process.stop(PATIENCE)
