"""Locks files with ``flock``, which the system releases when the last process that holds the file open is gone."""

from __future__ import annotations

import errno
import fcntl

_HELD = (errno.EAGAIN, errno.EACCES)


def lock(descriptor: int) -> None:
    """Lock an open file; wait as long as another process holds it.

    Raises:
        OSError: The file system has no locks.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_lock(descriptor: int) -> bool:
    """Lock an open file if no other process holds it; return whether it is locked now.

    Raises:
        OSError: The file system has no locks.
    """
    return _taken(descriptor, fcntl.LOCK_EX)


def is_locked(descriptor: int) -> bool:
    """Return whether a process has locked a file, which is open here under a descriptor of its own.

    While this looks, it holds the file itself, shared, for a moment.

    Raises:
        OSError: The file system has no locks.
    """
    if not _taken(descriptor, fcntl.LOCK_SH):
        return True
    unlock(descriptor)
    return False


def unlock(descriptor: int) -> None:
    """Release a lock, also for child processes that have inherited it."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            raise
        return False
    return True
