"""Owns a sweep's folder as a whole: whether it may be made here, moving it aside, and clearing what was left."""

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
    """Make sure that a folder without a manifest holds nothing but the start of a sweep.

    Raises:
        FolderError: Something else lies there, or it is no folder.
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
    """Delete what killed processes left half written, unless a run that has joined still writes."""
    if not any(folder.alive(holder.claim.trial) for holder in folder.holders()):
        remove_leftovers(folder)


def remove_leftovers(folder: SweepFolder, trial: int | None = None) -> None:
    """Delete what killed processes left half written; to be called where nobody else runs a trial.

    Args:
        folder: The sweep's folder.
        trial: Whose leftovers, None for everybody's.
    """
    # A winner that is none is left for a person to look at.
    names = (".[!w]*.tmp",) if trial is None else (f".{trial:04d}.*.tmp", f".trial-{trial:04d}.*.tmp")
    hidden = (item for part in ("", *FOLDERS) for item in _hidden(folder.path / part))
    for item in (item for item in hidden if any(fnmatch.fnmatchcase(item.name, name) for name in names)):
        if item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        elif not has_living_writer(item):  # a run that has joined may be noting its end
            item.unlink(missing_ok=True)


def _hidden(folder: Path) -> list[Path]:
    """Return what in a folder has a name that begins with a dot, without a look at the thousands that do not."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path for each of thousands of names takes its time
    except OSError:
        return []
    return [folder / name for name in names if name.startswith(".")]


def check_writable(folder: Path) -> None:
    """Make sure that a folder could be made and written, without leaving anything behind.

    Raises:
        FolderError: It could not; names the nearest existing folder and the reason.
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
    """Rename a folder out of the way, keeping what is in it; return its new place."""
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    path.rename(aside)
    return aside
