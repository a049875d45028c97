"""Checks whether a sweep's folder may be made at a path, and moves an earlier one aside."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from finesweep.errors import FolderError
from finesweep.files import check_folder_name, refuse_all_but_files
from finesweep.folder.sweep_folder import FOLDERS


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


def move_aside(path: Path) -> Path:
    """Rename a folder to keep its content out of the way; return its new path."""
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    path.rename(aside)
    return aside
