"""Measures the saved states in a sweep's folder, and deletes those of trials that wait.

Without its state a trial that waits is trained again from its first step if its turn comes; its record is enough.
"""

from __future__ import annotations

import contextlib
import shutil

from finesweep.files import writing
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import TrialState


def sizes(folder: SweepFolder) -> dict[int, int]:
    """Return the size in bytes of each saved state, by trial."""
    found: dict[int, int] = {}
    for state in (folder.path / "states").glob("trial-*"):
        number = state.name.removeprefix("trial-")
        if number.isdecimal():
            with contextlib.suppress(OSError):  # deleted since it was listed, or no folder
                found[int(number)] = sum(file.lstat().st_size for file in state.iterdir())
    return found


def drop(folder: SweepFolder, trial: int) -> bool:
    """Delete the saved state of a trial that waits at a rung; return whether it was deleted.

    The state stays if the trial does not wait, if it was claimed meanwhile, or if it is to be finished for the audit.

    Raises:
        FolderError: The folder cannot be written.
    """
    state = folder.state(trial)
    # A name that the cleaning after killed processes knows.
    dropped = state.with_name(f".{state.name}.dropped.tmp")
    shutil.rmtree(dropped, ignore_errors=True)
    # Claims are taken under this lock, and a process that reads a state has claimed its trial before.
    with folder.claims.locked():
        if not _waits(folder, trial) or not state.is_dir():
            return False
        with writing(state):
            state.rename(dropped)  # so that no process finds a part of it
    shutil.rmtree(dropped, ignore_errors=True)
    return True


def seconds_again(folder: SweepFolder, trial: int) -> float:
    """Return the seconds for which a trial has trained that waited and has no state any more, 0 for any other trial."""
    before = folder.read_record(trial)
    if before is None or not before.has_waited or folder.state(trial).is_dir():
        return 0.0
    return before.trained_seconds


def _waits(folder: SweepFolder, trial: int) -> bool:
    record = folder.read_record(trial)
    if record is None or record.state is not TrialState.WAITING or record.audit is not None:
        return False
    return folder.claims.newest_of(trial) == record.attempt
