"""Makes temporary folders, inside one that the process which started this one removes.

A process that is killed removes nothing. So the process that starts it gives it a folder and removes that folder once
the other has ended.
"""

from __future__ import annotations

import os
import tempfile

_VARIABLE = "FINESWEEP_SCRATCH"
PREFIX = "finesweep-"


def scratch_folder(prefix: str = PREFIX) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder; it is removed when it is closed, or with this process."""
    parent = os.environ.get(_VARIABLE)
    there = parent if parent and os.path.isdir(parent) else None  # noqa: PTH112
    return tempfile.TemporaryDirectory(prefix=prefix, dir=there, ignore_cleanup_errors=True)


def scratch_environment(folder: str) -> dict[str, str]:
    """Return what a child has in its environment so that its temporary folders lie in one of this process."""
    return {_VARIABLE: folder}
