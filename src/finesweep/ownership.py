"""Owns the lock on a sweep's folder: one `sweep run` at a time, and it dies with its owner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from finesweep.errors import RunDirError


def owner(path: Path) -> str | None:
    """Say who owns a sweep's folder at present (host, pid, since), None if nobody does."""
    try:
        with contextlib.closing(_Lock(path)):
            return None
    except RunDirError as error:
        return str(error).partition("`sweep run`: ")[2]


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Own a sweep's folder for as long as the block runs; the lock dies with its owner.

    Yields:
        The lock's file descriptor, for child processes to inherit, so that the folder stays owned until
        the last of them is gone.

    Raises:
        RunDirError: Another process owns it; says which, where and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(_Lock(path)) as lock:
        lock.sign()
        yield lock.descriptor


class _Lock:
    """The lock file beside a sweep's folder, so that the folder itself can be moved aside."""

    def __init__(self, path: Path) -> None:
        file = path.with_name(f".{path.name}.lock")
        try:
            self.descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise RunDirError(f"{file}: cannot be opened ({error.strerror})") from None
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            signature = os.read(self.descriptor, 1000).decode(errors="replace").strip()
            self.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise RunDirError(f"{file}: cannot be locked ({error.strerror})") from None
            raise RunDirError(f"{path} is in use by another `sweep run`: {signature or 'unknown'}") from None

    def sign(self) -> None:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(self.descriptor, 0)
        os.write(self.descriptor, f"host {socket.gethostname()}, pid {os.getpid()}, since {since}\n".encode())

    def close(self) -> None:
        os.close(self.descriptor)
