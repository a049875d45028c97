"""Sets who besides the user may read and write what this process makes in a sweep's folder.

The process's umask does it, since many files there are written by libraries, and by child processes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

Shared = Literal["group", "world"]
"""With whom results are shared: ``group`` may read and write them, with ``world`` everybody else may read them."""

_CLOSED: dict[Shared | None, int] = {None: 0o027, "group": 0o007, "world": 0o002}
"""Permissions that others do not get; a user's umask that is stricter than the first of them stays."""


def prepare(folder: Path, shared: Shared | None) -> None:
    """Decide on the permissions of a sweep's folder before it is made; one that is there has its own.

    Args:
        folder: The sweep's folder.
        shared: What the launch profile says.
    """
    if folder.is_dir():
        follow(folder)
    else:
        os.umask(_CLOSED[shared] | (0 if shared else _umask()))


def follow(folder: Path) -> None:
    """Let what is made in a folder be as open to others as the folder itself.

    Args:
        folder: A sweep's folder; where it is missing, nothing changes.
    """
    if folder.is_dir():
        os.umask(~stat.S_IMODE(folder.stat().st_mode) & 0o077)


def _umask() -> int:
    """Return this process's umask, which can only be read by setting it."""
    present = os.umask(0o077)
    os.umask(present)
    return present
