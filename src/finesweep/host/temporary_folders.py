"""Makes temporary folders, inside a folder that the parent process removes.

A killed process removes nothing. So its parent gives it a folder, and removes that folder after the process has ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time

import psutil

REMOVE_SECONDS = 2.5
"""Seconds in which a folder must be removed; then it stays. Ray's daemons end within two, once they are orphans."""

_VARIABLE = "FINESWEEP_TEMPORARY_FOLDER"


def temporary_folder(prefix: str = "finesweep-") -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder; it is removed when it is closed, or with this process."""
    parent = os.environ.get(_VARIABLE)
    there = parent if parent and os.path.isdir(parent) else None  # noqa: PTH112
    return tempfile.TemporaryDirectory(prefix=prefix, dir=there, ignore_cleanup_errors=True)


def remove(folder: tempfile.TemporaryDirectory[str]) -> None:
    """Remove the temporary folder of processes that were just killed.

    One of them may still end its last write, so that a folder is not empty when it is removed. No process can write
    any more once its folder is gone.
    """
    deadline = time.monotonic() + REMOVE_SECONDS
    shutil.rmtree(folder.name, ignore_errors=True)
    while os.path.exists(folder.name) and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.01)
        shutil.rmtree(folder.name, ignore_errors=True)
    folder.cleanup()


def kill_users(folder: str) -> None:
    """Send SIGKILL to the processes that were given a folder by ``temporary_folders_in``, and wait until they end.

    The folder is in their environment, so orphans are found too. New ones may start meanwhile, so it looks again until
    there are none, for some seconds.
    """
    deadline = time.monotonic() + REMOVE_SECONDS
    while (users := _users(folder)) and time.monotonic() < deadline:
        for user in users:
            with contextlib.suppress(psutil.Error):
                user.kill()
        psutil.wait_procs(users, max(0.0, deadline - time.monotonic()))


def _users(folder: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # another user's, or it has just ended
            if process.environ().get(_VARIABLE) == folder:
                found.append(process)
    return found


def temporary_folders_in(folder: str) -> dict[str, str]:
    """Return the environment of a child, with the folder for its temporary folders."""
    return {_VARIABLE: folder}
