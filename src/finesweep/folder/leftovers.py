"""Deletes half-written files that killed processes have left in a sweep's folder, and beside saved states in memory."""

from __future__ import annotations

import fnmatch
import os
import shutil
from pathlib import Path

from finesweep.files.atomic import has_living_writer
from finesweep.folder.next_attempt import holders, is_alive
from finesweep.folder.sweep_folder import FOLDERS, SweepFolder


def tidy(folder: SweepFolder) -> None:
    """Delete half-written files of killed processes, unless a trial of another run is alive."""
    if not any(is_alive(folder, holder.claim.trial) for holder in holders(folder)):
        remove_leftovers(folder)


def remove_leftovers(folder: SweepFolder, trial: int | None = None) -> None:
    """Delete half-written files of killed processes; no other process may run a trial meanwhile.

    Args:
        folder: The sweep's folder.
        trial: The trial whose leftovers are deleted, None for all.
    """
    # `.winner.tmp` stays: a winner that failed its proof is left for the user to inspect.
    names = (".[!w]*.tmp",) if trial is None else (f".{trial:04d}.*.tmp", f".trial-{trial:04d}.*.tmp")
    parts = [*(folder.path / part for part in ("", *FOLDERS)), *folder.state_places()[1:]]
    hidden = (item for part in parts for item in _hidden(part))
    for item in (item for item in hidden if any(fnmatch.fnmatchcase(item.name, name) for name in names)):
        if item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        elif not has_living_writer(item):  # a run that has joined may be writing its end
            item.unlink(missing_ok=True)


def _hidden(folder: Path) -> list[Path]:
    """Return the entries of a folder whose name begins with a dot, without a look at thousands of other files."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path for each of thousands of names takes its time
    except OSError:
        return []
    return [folder / name for name in names if name.startswith(".")]
