"""Checks that another process sees the same prepared folder, and that its addresses are those that the user gave."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finesweep.errors import FolderError
from finesweep.files import check_folder_name, permissions
from finesweep.folder.manifest import Run
from finesweep.folder.sweep_folder import SweepFolder

VISIBLE_SECONDS = 20.0
"""Maximum seconds until a network file system shows a file that another machine has written."""

POLL_SECONDS = 0.5

ADDRESSES = ("address", "dashboard")
"""Keys of a profile to whose addresses credentials are sent."""

SEALED = (*ADDRESSES, "setup")
"""These, and the key whose shell lines jobs run."""

_WORD = 16
"""Length of a token without its seal, in characters."""


def new_token(profile: Mapping[str, Any]) -> str:
    """Return a token for a run: a random word, and a seal of the addresses and shell lines in its profile.

    The user's command line brings the token to another process, but the folder may be written by other users. So the
    process notices if these were changed in the folder.
    """
    return secrets.token_hex(_WORD // 2) + _seal(profile)


def _seal(profile: Mapping[str, Any]) -> str:
    named = json.dumps([profile.get(key) for key in SEALED])
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def is_as_written(run: Run, token: str) -> bool:
    """Return whether addresses and shell lines in a run's file are those that its command wrote."""
    return token[_WORD:] == _seal(run.profile)


def open_run(folder: Path, number: int, token: str = "") -> tuple[SweepFolder, Run]:
    """Open a prepared folder for one of its runs.

    Args:
        folder: The folder.
        number: Number of the run.
        token: The run's own token, as the machine that prepared it knows it; empty on that machine.

    Raises:
        FolderError: The run is missing, or is another one of that number: the machines do not share the folder. Or its
            file names addresses that its command did not give.
    """
    check_folder_name(folder)
    permissions.follow(folder)
    deadline = time.monotonic() + (VISIBLE_SECONDS if token else 0.0)
    while True:
        sweep_folder = SweepFolder(folder)
        run = next((run for run in sweep_folder.runs() if run.number == number), None)
        if run is not None and (not token or run.token == token):
            _refuse_other_addresses(run, token)
            return sweep_folder, run
        if time.monotonic() >= deadline:
            raise FolderError(_unshared(folder, number, run))
        time.sleep(POLL_SECONDS)


def _refuse_other_addresses(run: Run, token: str) -> None:
    named = [key for key in ADDRESSES if run.profile.get(key) not in (None, "auto")]
    if named and token[_WORD:] not in ("", _seal(run.profile)):
        raise FolderError(
            f"run {run.number}: {' or '.join(named)} in its file differs from what its command wrote; nothing is sent "
            "there; run or submit the sweep again"
        )
    if named and not token:
        raise FolderError(f"run {run.number} names {' and '.join(named)}; without its --token nothing is sent there")


def _unshared(folder: Path, number: int, found: Run | None) -> str:
    if not folder.is_dir():
        what = "there is no such folder"
    elif found is None:
        what = f"the folder has no run {number}"
    else:
        what = f"its run {number} has another token"
    shared = "a sweep's folder must lie on a file system that all its machines share (--results)"
    return f"{folder} on {socket.gethostname()}: {what}; {shared}"
