"""Checks whether a sweep's folder may be made, moves it aside, and deletes leftovers of killed processes."""

from __future__ import annotations

import fnmatch
import os
import secrets
import shutil
import time
from pathlib import Path

from finesweep.errors import FolderError
from finesweep.files import check_folder_name, refuse_all_but_files
from finesweep.files.atomic import has_living_writer
from finesweep.folder.sweep_folder import FOLDERS, SweepFolder


def refuse_foreign(path: Path) -> None:
    """Refuse a folder without a manifest that holds more than the beginning of a sweep.

    Raises:
        FolderError: It holds foreign files, or is no folder.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise FolderError(f"{path} is a file; use another --name")
    refuse_all_but_files(path, deep=True)
    strangers = (item for item in path.iterdir() if not item.match(".spec.json.*.tmp"))
    if foreign := sorted(item.name for item in strangers if item.name not in (*FOLDERS, "model")):
        raise FolderError(f"{path} is no sweep's folder (it holds {foreign[0]}); use another --name or --results")


def tidy(folder: SweepFolder) -> None:
    """Delete half-written files of killed processes, unless a trial of another run is alive."""
    if not any(folder.alive(holder.claim.trial) for holder in folder.holders()):
        remove_leftovers(folder)


def remove_leftovers(folder: SweepFolder, trial: int | None = None) -> None:
    """Delete half-written files of killed processes; no other process may run a trial meanwhile.

    Args:
        folder: The sweep's folder.
        trial: The trial whose leftovers are deleted, None for all.
    """
    # `.winner.tmp` stays: a winner that failed its proof is left for the user to inspect.
    names = (".[!w]*.tmp",) if trial is None else (f".{trial:04d}.*.tmp", f".trial-{trial:04d}.*.tmp")
    hidden = (item for part in ("", *FOLDERS) for item in _hidden(folder.path / part))
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


def check_writable(folder: Path) -> None:
    """Check that a folder can be created and written, without leaving anything behind.

    Raises:
        FolderError: It cannot; names the nearest existing folder and the reason.
    """
    check_folder_name(folder)
    existing = folder
    while not existing.exists():
        if existing.is_symlink():
            raise FolderError(f"{existing}: a symbolic link that leads nowhere; use --results DIR")
        existing = existing.parent
    probe = existing / f".finesweep-probe-{secrets.token_hex(8)}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise FolderError(f"{existing}: cannot be written ({error.strerror}); use --results DIR") from None


def move_aside(path: Path) -> Path:
    """Rename a folder to keep its content out of the way; return its new path."""
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    path.rename(aside)
    return aside
