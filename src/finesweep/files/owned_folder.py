"""Makes temporary folders that are locked while their owner lives.

A killed owner leaves its folder. The lock tells such a folder from one in use, so every later process may delete it.
Folders whose paths must be short, as those of sockets, cannot lie inside a folder that a parent process deletes; they
lie here instead. So do folders in memory, which several processes share: they are in use while one of these lives.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from finesweep.files import file_lock
from finesweep.host.temporary_folders import REMOVE_SECONDS

SHORT = Path("/tmp")
"""Where a folder lies if the path of the usual temporary folder is too long."""

MEMORY = Path("/dev/shm")
"""Where a folder lies that takes memory and no disk; only Linux has it."""

PREFIX = "fsweep-"
MAKE_SECONDS = 60.0
"""Seconds after which a lock without its name is not being made any more: its owner was killed meanwhile."""

LOCK = "fsweep-owner.lock"
"""The lock of a folder. Only a folder with this file is ever deleted, so its name is one that no user gives a file."""

_UNLOCKED = "fsweep-owner.lock.new"


@contextlib.contextmanager
def owned_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in ``parent``, with eight characters after the prefix; remove it after the block."""
    with _locked(Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)), file_lock.lock) as folder:
        yield folder


@contextlib.contextmanager
def shared_folder(folder: Path) -> Iterator[Path]:
    """Make a folder that only this user may read, and whose users ``share`` it; remove it after the block.

    Args:
        folder: Must not exist yet, and its name must begin with the prefix.

    Raises:
        OSError: It exists, or cannot be made.
    """
    folder.mkdir(mode=0o700)
    with _locked(folder, file_lock.try_share):
        yield folder


@contextlib.contextmanager
def _locked(folder: Path, take: Callable[[int], object]) -> Iterator[Path]:
    """Put a lock into a new folder; remove the folder after the block."""
    try:
        with (folder / _UNLOCKED).open("w") as lock:
            take(lock.fileno())
            # It gets its name when it is locked. Otherwise another process could lock it first and delete the folder.
            (folder / _UNLOCKED).rename(folder / LOCK)
            yield folder
    finally:
        _remove(folder)


@contextlib.contextmanager
def share(folder: Path) -> Iterator[bool]:
    """Keep a folder of ``shared_folder`` from being removed as abandoned; the block gets whether there is one.

    The forks of this process keep it too.
    """
    try:
        lock = _open_lock(folder)
    except OSError:
        yield False
        return
    try:
        yield file_lock.try_share(lock)
    finally:
        os.close(lock)


def remove_abandoned() -> None:
    """Delete the folders whose owners were killed; skip those in use, those being made, and those of other users."""
    for parent in {Path(tempfile.gettempdir()), SHORT, MEMORY}:
        for folder in parent.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                if folder.lstat().st_uid == os.getuid():
                    _remove_unowned(folder)


def _remove_unowned(folder: Path) -> None:
    try:
        lock = _open_lock(folder)
    except FileNotFoundError:
        if (folder / _UNLOCKED).lstat().st_mtime < time.time() - MAKE_SECONDS:
            _remove(folder)
        return
    try:
        if file_lock.try_lock(lock):
            _remove(folder)
    finally:
        os.close(lock)


def _open_lock(folder: Path) -> int:
    return os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _remove(folder: Path) -> None:
    """Remove a folder, its lock last.

    The process that removes it may be killed, and Ray's processes may still write into it. What is left then needs its
    lock: by that a later process can tell that it is abandoned.
    """
    deadline = time.monotonic() + REMOVE_SECONDS
    with contextlib.suppress(OSError), _opened(folder) as inside:
        while names := set(os.listdir(inside)) - {LOCK}:  # noqa: PTH208
            for name in names:
                _delete(name, inside)
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield inside
    finally:
        os.close(inside)


def _delete(name: str, inside: int) -> None:
    with contextlib.suppress(OSError):  # a folder
        os.unlink(name, dir_fd=inside)
    shutil.rmtree(name, ignore_errors=True, dir_fd=inside)
