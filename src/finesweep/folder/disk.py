"""Measures the disk space of a sweep's folder, and refuses to write more than the limit or the disk allows."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from finesweep.errors import FolderError
from finesweep.folder.sweep_folder import SweepFolder

GB = 1e9
NO_SPACE_BYTES = 1_000_000
"""Bytes of free space below which a failed write is taken for a full disk."""

STATE_COPIES = 4
"""Size of a saved state in copies of the weights: weights, best weights, and two moments of the usual optimizer."""

MOST_STATES_GB = 10.0
STATES_SHARE = 0.1
"""Default of ``limits.states_gb``: so much, in 1e9 bytes, but at most this share of the free disk."""

_WORDS = ("No space left", "disk quota exceeded", "os error 28")
"""Phrases of libraries that hide the system's error number."""


def used_bytes(folder: Path) -> int:
    """Return the disk space of a folder's files in bytes, each file once even if it has several names."""
    # st_blocks counts units of 512 bytes, whatever the block size is.
    seen = {(status.st_dev, status.st_ino): status.st_blocks * 512 for status in _statuses(folder)}
    return sum(seen.values())


def states_limit(asked_gb: float | None, free: float) -> float:
    """Return how many bytes the saved states of waiting trials may take on the disk.

    Args:
        asked_gb: ``limits.states_gb`` of the profile, None if it is left out.
        free: Bytes that are free on the disk, together with those of the states that are there.
    """
    return min(MOST_STATES_GB * GB, STATES_SHARE * free) if asked_gb is None else asked_gb * GB


def states_in_all(asked_gb: float | None) -> float:
    """Return how many bytes saved states may take in memory and on the disk together; arguments as above."""
    return (MOST_STATES_GB if asked_gb is None else asked_gb) * GB


def refuse_overrun(folder: Path, need: int, what: str, limit_gb: float | None) -> None:
    """Refuse to write more than the limit or the disk allows.

    Args:
        folder: The sweep's folder.
        need: Bytes to write.
        what: Name of the data, for the message.
        limit_gb: Maximum size of the folder in units of 1e9 bytes; None for no limit.

    Raises:
        FolderError: It would exceed the limit or the disk; names the folder and the needed space.
    """
    free = shutil.disk_usage(folder).free
    if need > free:
        raise FolderError(f"{folder}: {what} needs {_mb(need)} and {_mb(free)} are free; {_AGAIN}")
    if limit_gb is not None and (used := used_bytes(_limited(folder))) + need > limit_gb * GB:
        allowed = f"of the {limit_gb:g} GB that `limits.disk_gb` allows {_mb(used)} are in use"
        raise FolderError(f"{folder}: {what} needs {_mb(need)}, and {allowed}; {_LESS}")


def refuse_excess(folder: Path, limit_gb: float | None) -> None:
    """Refuse a sweep's folder that is larger than its limit.

    Args:
        folder: The sweep's folder.
        limit_gb: Maximum size in units of 1e9 bytes; None for no limit.

    Raises:
        FolderError: It is larger; gives both sizes.
    """
    folder = _limited(folder)
    if limit_gb is not None and (used := used_bytes(folder)) > limit_gb * GB:
        raise FolderError(f"{folder}: it takes {_mb(used)}, more than the {limit_gb:g} GB of `limits.disk_gb`; {_LESS}")


def _limited(folder: Path) -> Path:
    """Return the folder that the limit is about: a confirmation counts with the sweep that it is a part of."""
    sweep = SweepFolder(folder.parent)
    return sweep.path if folder == sweep.confirmation.path and sweep.spec_file.is_file() else folder


def full(folder: Path) -> FolderError:
    """Return the error for a full disk."""
    return FolderError(f"{folder}: the disk is full ({_mb(shutil.disk_usage(folder).free)} free); {_AGAIN}")


def is_for_lack_of_space(error: BaseException, folder: Path) -> bool:
    """Return whether a failure came from a full disk, whatever error the library made of it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(word.lower() in str(error).lower() for word in _WORDS) or has_no_space(folder)


def has_no_space(folder: Path) -> bool:
    """Return whether a folder exists and its disk is full."""
    return folder.is_dir() and shutil.disk_usage(folder).free < NO_SPACE_BYTES


_LESS = "raise the limit or lower `keep_best`, and run the same command again"
_AGAIN = "make room and run the same command again"


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(path, name))  # noqa: PTH118 - a Path for each file costs more than the look
            except OSError:  # gone since it was listed
                continue


def _mb(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"
