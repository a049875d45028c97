"""Locks a sweep's folder for one `sweep run` at a time; the lock ends with the process that holds it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from finesweep.errors import FolderError
from finesweep.files import file_lock, open_own, writing

LOOKS, LOOK_SECONDS = 4, 0.1
"""Number of tries to take the lock, and seconds between them; far longer than another process's look at the owner."""


def owner(path: Path) -> str | None:
    """Return the owner of a sweep's folder (host, pid, since); None if there is none or it cannot be found out."""
    try:
        descriptor = open_own(_file(path), os.O_RDONLY)
    except OSError:
        return None
    try:
        return _signature(descriptor) if file_lock.is_locked(descriptor) else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def refuse_owned(path: Path) -> None:
    """Refuse a sweep's folder that another process owns at this moment.

    Raises:
        InUse: Another process owns it.
    """
    if (present := owner(path)) is not None:
        raise InUse(path, present)


class InUse(FolderError):
    """Another `sweep run` owns a sweep's folder.

    Args:
        path: The folder.
        owner: Host, pid and since when.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.owner = owner
        super().__init__(f"{path} is in use by another `sweep run`: {owner}")


@contextlib.contextmanager
def held(path: Path, pid: int | None = None) -> Iterator[int]:
    """Own a sweep's folder while the block runs; the lock ends with its owner.

    Args:
        path: The folder.
        pid: The process id to show as the owner; None for this process.

    Yields:
        The lock's file descriptor, for child processes to inherit. The folder stays owned until the last of them has
        ended.

    Raises:
        InUse: Another process owns it; the message gives host, pid and time.
        FolderError: The lock cannot be opened or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(_Lock(path)) as lock:
        with writing(path):
            lock.sign(os.getpid() if pid is None else pid)
        yield lock.descriptor


class _Lock:
    """The lock file, which lies beside the sweep's folder so that the folder itself can be moved aside."""

    def __init__(self, path: Path) -> None:
        file = _file(path)
        try:
            self.descriptor = open_own(file, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise FolderError(f"{file}: cannot be opened ({error.strerror})") from None
        try:
            is_mine = self._is_taken()
        except OSError as error:
            self.close()
            raise FolderError(f"{file}: cannot be locked ({error.strerror})") from None
        if not is_mine:
            present = _signature(self.descriptor)
            self.close()
            raise InUse(path, present)

    def sign(self, pid: int) -> None:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(self.descriptor, 0)
        os.write(self.descriptor, f"host {socket.gethostname()}, pid {pid}, since {since}\n".encode())

    def close(self) -> None:
        os.close(self.descriptor)

    def _is_taken(self) -> bool:
        """Try to lock it several times, since a process that only looks for the owner holds the lock for a moment."""
        # Not by waiting: if a sweep owns the folder, this process would wait for hours.
        for look in range(LOOKS):
            time.sleep(LOOK_SECONDS if look else 0.0)
            if file_lock.try_lock(self.descriptor):
                return True
        return False


def _file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _signature(descriptor: int) -> str:
    return os.pread(descriptor, 1000, 0).decode(errors="replace").strip() or "unknown"
