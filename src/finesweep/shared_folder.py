"""Owns making sure that a process on another machine sees the very folder that was prepared."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from finesweep.errors import RunDirError
from finesweep.manifest import Run
from finesweep.run_dir import RunDir

VISIBLE_SECONDS = 20.0
"""How long a network file system may take to show a file that another machine has written."""

POLL_SECONDS = 0.5


def open_run(folder: Path, number: int, token: str = "") -> tuple[RunDir, Run]:
    """Open a prepared folder for one of its runs.

    Args:
        folder: The folder.
        number: Number of the run.
        token: The run's own token, as the machine that prepared it knows it; empty where this is that machine.

    Raises:
        RunDirError: The run is not there, or is another one of that number: the machines do not share the folder.
    """
    deadline = time.monotonic() + (VISIBLE_SECONDS if token else 0.0)
    while True:
        run_dir = RunDir(folder)
        run = next((run for run in run_dir.runs() if run.number == number), None)
        if run is not None and (not token or run.token == token):
            return run_dir, run
        if time.monotonic() >= deadline:
            raise RunDirError(_unshared(folder, number, run))
        time.sleep(POLL_SECONDS)


def _unshared(folder: Path, number: int, found: Run | None) -> str:
    if not folder.is_dir():
        what = "there is no such folder"
    elif found is None:
        what = f"the folder has no run {number}"
    else:
        what = f"its run {number} is another one"
    shared = "a sweep's folder must lie on a file system that all its machines share (--results)"
    return f"{folder} on {socket.gethostname()}: {what}; {shared}"
