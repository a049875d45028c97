"""Makes temporary folders that are locked while their owner lives.

A killed owner leaves its folder. The lock tells such a folder from one in use, so every later process may delete it.
Folders whose paths must be short, as those of sockets, cannot lie inside a folder that a parent process deletes; they
lie here instead.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from finesweep.files import file_lock
from finesweep.host.temporary_folders import remove_tree

SHORT = Path("/tmp")
"""Where a folder lies if the path of the usual temporary folder is too long."""

PREFIX = "fsweep-"
_LOCK, _UNLOCKED = "lock", "lock.new"


@contextlib.contextmanager
def owned_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in ``parent``, with eight characters after the prefix; remove it after the block."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True) as made:
        folder = Path(made)
        with (folder / _UNLOCKED).open("w") as lock:
            file_lock.lock(lock.fileno())
            # It gets its name when it is locked. Otherwise another process could lock it first and delete the folder.
            (folder / _UNLOCKED).rename(folder / _LOCK)
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
            remove_tree(folder)
    finally:
        os.close(lock)
