"""Makes temporary folders that are locked while their owner lives.

A killed owner leaves its folder. The lock tells such a folder from one in use, so every later process may delete it.
Folders whose paths must be short, as those of sockets, cannot lie inside a folder that a parent process deletes; they
lie here instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from finesweep.files import file_lock

SHORT = Path("/tmp")
"""Where a folder lies if the path of the usual temporary folder is too long."""

REMOVE_SECONDS = 1.0
"""Seconds in which an abandoned folder must be removed; then it stays until the next time."""

PREFIX = "fsweep-"
_LOCK = "lock"


@contextlib.contextmanager
def owned_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in ``parent``, with eight characters after the prefix; remove it after the block."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True) as made:
        folder = Path(made)
        with (folder / _LOCK).open("w") as lock:
            file_lock.lock(lock.fileno())
            yield folder


def remove_abandoned() -> None:
    """Delete the folders whose owners were killed; skip those in use, or of other users.

    A folder without a lock is being made at this moment.
    """
    for parent in {Path(tempfile.gettempdir()), SHORT}:
        for folder in parent.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                if folder.lstat().st_uid == os.getuid():
                    _remove_unowned(folder)


def _remove_unowned(folder: Path) -> None:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if file_lock.try_lock(lock):
            _remove(folder)
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder in which a process that was just killed may still end its last write."""
    deadline = time.monotonic() + REMOVE_SECONDS
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
        shutil.rmtree(folder, ignore_errors=True)
