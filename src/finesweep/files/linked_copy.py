"""Copies a folder by hard links, which take no space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def linked_copy(source: Path, target: Path) -> None:
    """Copy a folder, hidden entries aside; a file system without hard links gets copies of the files.

    Raises:
        OSError, shutil.Error: A file cannot be read or written, or the target exists.
    """
    shutil.copytree(source, target, copy_function=_link_or_copy, ignore=shutil.ignore_patterns(".*"))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
