"""Copies a folder by hard links, which take no space."""

from __future__ import annotations

import fnmatch
import os
import shutil
from pathlib import Path


def linked_copy(source: Path, target: Path, linked: str = "*") -> None:
    """Copy a folder, hidden entries aside; files that cannot be linked are copied.

    A linked file has two names and one content. So it must be replaced by a rename under either name, as finesweep
    always does; a program that writes into it changes it under both.

    Args:
        source: The folder.
        target: Must not exist yet.
        linked: Pattern of the names that are linked. Other files are copied, and so are symbolic links, because a file
            that such a link leads to may change.

    Raises:
        OSError, shutil.Error: A file cannot be read or written, or the target exists.
    """

    def link_or_copy(file: str, new: str) -> None:
        if os.path.islink(file) or not fnmatch.fnmatch(os.path.basename(file), linked):  # noqa: PTH114, PTH119
            shutil.copy2(file, new)
            return
        try:
            os.link(file, new)
        except OSError:  # another file system, one without hard links, or another user's file
            shutil.copy2(file, new)

    shutil.copytree(source, target, copy_function=link_or_copy, ignore=shutil.ignore_patterns(".*"))
