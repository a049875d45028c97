"""Measures the saved states of a sweep, moves them from memory to disk, and deletes those of trials that wait or ended.

Without its state a trial that waits is trained again from its first step if its turn comes; its record is enough.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from finesweep.errors import FolderError, Unreadable
from finesweep.files import open_regular, write_failure, writing
from finesweep.folder import disk
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import TrialRecord, TrialState

_PIECE = 16_000_000
"""Bytes that are copied between two looks at the clock."""


def sizes(folder: SweepFolder, places: Sequence[Path] | None = None) -> dict[int, int]:
    """Return the bytes of each trial's saved state.

    Args:
        folder: The sweep's folder.
        places: Those of its ``state_places`` that count; None for all.
    """
    found: dict[int, int] = {}
    for state in itertools.chain.from_iterable(
        place.glob("trial-*") for place in (folder.state_places() if places is None else places)
    ):
        number = state.name.removeprefix("trial-")
        if number.isdecimal():
            with contextlib.suppress(OSError):  # deleted since it was listed, or no folder
                size = sum(file.lstat().st_size for file in state.iterdir())
                found[int(number)] = found.get(int(number), 0) + size
    return found


def drop(folder: SweepFolder, trial: int, places: Sequence[Path] | None = None) -> bool:
    """Delete the saved state of a trial that waits at a rung; return whether it was deleted.

    The state stays if the trial does not wait, if it was claimed meanwhile, or if it is to be finished for the audit.

    Args:
        folder: The sweep's folder.
        trial: The trial.
        places: Those of the folder's ``state_places`` from which it is deleted; None for all.

    Raises:
        FolderError: The folder cannot be written.
    """
    return _delete(folder, trial, places, functools.partial(_waits, folder, trial))


def drop_ended(folder: SweepFolder) -> None:
    """Delete the saved states of trials that have ended.

    The process that records a trial's end deletes its states. On another machine it does not see those in memory here.

    Args:
        folder: The sweep's folder.

    Raises:
        FolderError: The folder cannot be written.
    """
    for trial in filter(folder.is_finished, sizes(folder)):
        _delete(folder, trial, None, functools.partial(_has_ended, folder, trial))


def _delete(folder: SweepFolder, trial: int, places: Sequence[Path] | None, may: Callable[[], bool]) -> bool:
    """Delete a trial's saved states if it may be; return whether there were any."""
    name = folder.state(trial).name
    states = [place / name for place in (folder.state_places() if places is None else places)]
    # Names that the cleaning after killed processes knows.
    dropped = [state.with_name(f".{name}.dropped.tmp") for state in states]
    for old in dropped:
        shutil.rmtree(old, ignore_errors=True)
    found = False
    # Claims are taken under this lock, and a process that reads a state has claimed its trial before.
    with folder.claims.locked():
        if not may():
            return False
        for state, new in zip(states, dropped, strict=True):
            if state.is_dir():
                # The process that has just recorded a trial's end may be deleting its state.
                with writing(state), contextlib.suppress(FileNotFoundError):
                    state.rename(new)  # so that no process finds a part of it
                found = True
    for old in dropped:
        shutil.rmtree(old, ignore_errors=True)
    return found


def move_to_disk(
    folder: SweepFolder, trial: int, place: Path, deadline: float | None = None, disk_gb: float | None = None
) -> bool:
    """Move the saved state of a trial that no process trains from memory to the sweep's folder.

    A process that claims the trial meanwhile finds the state where it was.

    Args:
        folder: The sweep's folder.
        trial: The trial.
        place: Where the state is: one of the folder's ``state_places``.
        deadline: Time of the monotonic clock at which to give up; None for none.
        disk_gb: ``limits.disk_gb`` of the profile: most that the sweep's folder may take, in 1e9 bytes.

    Returns:
        Whether it was moved. False if there is none, if the trial is trained or has ended, or if time is up.

    Raises:
        FolderError: It has no room on the disk or within the limit, or the folder cannot be written.
    """
    target = folder.state(trial)
    source, building = place / target.name, target.with_name(f".{target.name}.moved-{os.getpid()}.tmp")
    try:
        if _stopped(folder, trial) is None:
            return False
        # Looked up first: a copy that fills the disk would cost other trials their results.
        size = sizes(folder, [place]).get(trial, 0)
        disk.refuse_overrun(folder.path, size, f"moving the state of trial {trial} to disk", disk_gb)
        if not _copied(source, building, deadline):
            return False
        with folder.claims.locked():
            if _stopped(folder, trial) is None or not source.is_dir():
                return False
            if not target.is_dir():
                with writing(target):
                    building.rename(target)
            taken = source.with_name(f".{source.name}.dropped.tmp")
            shutil.rmtree(taken, ignore_errors=True)
            with writing(source):
                source.rename(taken)
        shutil.rmtree(taken, ignore_errors=True)
        return True
    finally:
        shutil.rmtree(building, ignore_errors=True)


def seconds_again(folder: SweepFolder, trial: int) -> float:
    """Return the seconds for which a trial has trained that waited and has no state any more, 0 for any other trial."""
    before = folder.read_record(trial)
    if before is None or not before.has_waited or folder.states_of(trial):
        return 0.0
    return before.trained_seconds


def _waits(folder: SweepFolder, trial: int) -> bool:
    record = _stopped(folder, trial)
    return record is not None and record.state is TrialState.WAITING and record.audit is None


def _has_ended(folder: SweepFolder, trial: int) -> bool:
    # Read again: another process may have found the trial's weights damaged, and it runs again then.
    record = folder.read_record(trial)
    return record is not None and record.state.finished


def _stopped(folder: SweepFolder, trial: int) -> TrialRecord | None:
    """Return the record of a trial that has stopped before its end, unless a process has claimed it since."""
    record = folder.read_record(trial)
    if record is None or record.state.finished or folder.claims.newest_of(trial) != record.attempt:
        return None
    return record


def _copied(source: Path, building: Path, deadline: float | None) -> bool:
    """Copy a state durably; return whether it was copied before the deadline and was not deleted meanwhile."""
    shutil.rmtree(building, ignore_errors=True)
    try:
        files = sorted(source.iterdir())
    except OSError:
        return False
    try:
        building.mkdir()
        for file in files:
            with open_regular(file, links=False) as stream, (building / file.name).open("xb") as copy:
                while piece := stream.read(_PIECE):
                    if deadline is not None and time.monotonic() >= deadline:
                        return False
                    copy.write(piece)
                    # Not once at the end: that could take as long as the whole copy, and nothing would end it.
                    copy.flush()
                    os.fsync(copy.fileno())
    except Unreadable:  # dropped meanwhile
        return False
    except OSError as error:
        raise FolderError(write_failure(building, error)) from error
    return True
