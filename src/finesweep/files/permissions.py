"""Sets the permissions of the files in a sweep's folder by this process's umask.

The umask also covers the files that libraries and child processes write.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

Shared = Literal["group", "world"]
"""Who shares the results: ``group`` may read and write them; ``world`` lets all others read them too."""

_CLOSED: dict[Shared | None, int] = {None: 0o027, "group": 0o007, "world": 0o002}
"""Permissions that others do not get. With None, a stricter umask of the user stays in force."""


def prepare(folder: Path, shared: Shared | None) -> None:
    """Set the umask before a sweep's folder is made; where the folder exists, the umask follows its permissions.

    Args:
        folder: The sweep's folder.
        shared: The value in the launch profile.
    """
    if folder.is_dir():
        follow(folder)
    else:
        os.umask(_CLOSED[shared] | (0 if shared else _umask()))


def follow(folder: Path) -> None:
    """Set the umask so that new files are as open to others as the folder itself.

    Args:
        folder: A sweep's folder; if it is missing, nothing changes.
    """
    if folder.is_dir():
        os.umask(~stat.S_IMODE(folder.stat().st_mode) & 0o077)


def _umask() -> int:
    """Return this process's umask; the system only tells it when it is set."""
    present = os.umask(0o077)
    os.umask(present)
    return present
