"""Finds the folder in this machine's memory with saved states of a run's waiting trials, and how much it may take.

The command of a run makes the folder, its workers share it, and it goes with the last of them. Its name follows from
the run's token, so no file has to name it. Another machine has no folder of that name, so its processes never take a
trial for one that has a state there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from finesweep.files import owned_folder
from finesweep.host.process_memory import available_bytes

How = Literal["auto", "memory", "disk"]
"""``limits.states`` of a profile: where the states of waiting trials go."""

SHARES = {"auto": 0.25, "memory": 0.5, "disk": 0.0}
"""Most that the states may take of the memory that is available, and of what is free of its file system."""

_NAME = f"{owned_folder.PREFIX}states-"
_MOUNTS = Path("/proc/mounts")


def is_there() -> bool:
    """Return whether this machine has a file system in memory that this process may write to."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    found = (line.split(" ")[1:3] for line in mounts)
    kinds = [kind for place, kind in (one for one in found if len(one) == 2) if place == os.fspath(owned_folder.MEMORY)]
    return kinds[-1:] == ["tmpfs"] and os.access(owned_folder.MEMORY, os.W_OK | os.X_OK)


def limit(how: How, used: float = 0.0) -> float:
    """Return how many bytes the states of a run may take in memory now.

    Args:
        how: ``limits.states`` of the profile.
        used: Bytes of those that are there.
    """
    free = shutil.disk_usage(owned_folder.MEMORY).free
    return SHARES[how] * (min(free, available_bytes()) + used)


@contextlib.contextmanager
def made(token: str) -> Iterator[bool]:
    """Make a run's folder in memory, and remove it after the block; the block gets whether there is one.

    Args:
        token: The run's token.
    """
    owned_folder.remove_abandoned()
    with contextlib.ExitStack() as stack:
        try:
            if not is_there():
                raise FileNotFoundError(owned_folder.MEMORY)
            stack.enter_context(owned_folder.shared_folder(_folder(token)))
        except OSError:
            yield False
        else:
            yield True


def shared(token: str) -> contextlib.AbstractContextManager[bool]:
    """Keep a run's folder while the block runs, also if its command is killed."""
    return owned_folder.share(_folder(token))


def folder_of(token: str) -> Path | None:
    """Return a run's folder in this machine's memory; None if it has none here."""
    folder = _folder(token)
    return folder if token and _is_own(folder) else None


def folders(tokens: Iterable[str]) -> list[Path]:
    """Return the folders of some runs in this machine's memory."""
    return [folder for folder in map(folder_of, tokens) if folder is not None]


def is_used() -> bool:
    """Return whether any run has a folder in this machine's memory."""
    with contextlib.suppress(OSError):
        return any(name.startswith(_NAME) for name in os.listdir(owned_folder.MEMORY))  # noqa: PTH208
    return False


def newest_first(states: Iterable[Path]) -> list[Path]:
    """Return those saved states that are there, the newest first.

    Clocks of two machines may differ. Each state leads to the same result, so that costs time at most.
    """
    found = []
    for state in states:
        with contextlib.suppress(OSError):
            status = state.lstat()
            if stat.S_ISDIR(status.st_mode):
                found.append((status.st_mtime, state))
    return [state for _, state in sorted(found, reverse=True)]


def _folder(token: str) -> Path:
    return owned_folder.MEMORY / f"{_NAME}{hashlib.sha256(token.encode()).hexdigest()[:24]}"


def _is_own(folder: Path) -> bool:
    """Return whether this user has made a folder; everybody may make one there."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
