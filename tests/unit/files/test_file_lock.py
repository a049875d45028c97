"""A lock on a file is held by one process at a time, is seen by others, and dies with its last holder."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finesweep.files.file_lock import is_locked, lock, try_lock, unlock


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Return one file that is open twice, as it is in two processes."""
    file = tmp_path / ".lock"
    first, second = (os.open(file, os.O_RDWR | os.O_CREAT) for _ in range(2))
    yield first, second
    os.close(first)
    os.close(second)


def test_one_holds_a_lock_until_it_is_released(opened: tuple[int, int]) -> None:
    first, second = opened
    assert not is_locked(second)
    lock(first)
    assert is_locked(second)
    assert not try_lock(second)
    unlock(first)
    assert not is_locked(second)
    assert try_lock(second)
    assert not try_lock(first)


def test_a_look_leaves_no_lock_behind(opened: tuple[int, int]) -> None:
    first, second = opened
    assert not is_locked(second)
    assert try_lock(first)


def test_a_lock_lives_as_long_as_the_last_process_that_inherited_it(opened: tuple[int, int]) -> None:
    first, second = opened
    lock(first)
    child = subprocess.Popen(["sleep", "60"], pass_fds=(first,))
    replaced = os.open(os.devnull, os.O_RDONLY)
    os.dup2(replaced, first)  # closes this process's own
    os.close(replaced)
    assert is_locked(second)
    child.kill()
    child.wait()
    assert not is_locked(second)


def test_a_process_that_is_killed_holds_nothing(opened: tuple[int, int], tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from finesweep.files.file_lock import lock; "
        f"lock(os.open({str(tmp_path / '.lock')!r}, os.O_RDWR)); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert is_locked(opened[0])
        other.kill()
    assert not is_locked(opened[0])


@pytest.mark.parametrize("ask", [lock, try_lock, is_locked])
def test_a_file_system_without_locks_is_no_lock_that_is_held(opened, monkeypatch, ask) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        ask(opened[0])
