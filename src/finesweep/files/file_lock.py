"""Locks files with ``flock``.

The system releases such a lock when no process has the file's open descriptor any more, however the processes ended. A
forked child inherits the descriptor and with it the lock.
"""

from __future__ import annotations

import errno
import fcntl

# With LOCK_NB flock gives EAGAIN; network file systems that emulate it can give EACCES.
_HELD = (errno.EAGAIN, errno.EACCES)


def lock(descriptor: int) -> None:
    """Lock an open file; wait while another process holds it.

    Raises:
        OSError: The file system has no locks.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_share(descriptor: int) -> bool:
    """Lock an open file together with others that share it, unless one holds it alone; return whether it is locked now.

    Raises:
        OSError: The file system has no locks.
    """
    return _taken(descriptor, fcntl.LOCK_SH)


def try_lock(descriptor: int) -> bool:
    """Lock an open file unless another process holds it; return whether it is locked now.

    Raises:
        OSError: The file system has no locks.
    """
    return _taken(descriptor, fcntl.LOCK_EX)


def is_locked(descriptor: int) -> bool:
    """Return whether another open descriptor holds a lock on this file.

    The check itself takes a shared lock for a moment, so ``try_lock`` of another process can fail meanwhile.

    Raises:
        OSError: The file system has no locks.
    """
    if not try_share(descriptor):
        return True
    unlock(descriptor)
    return False


def unlock(descriptor: int) -> None:
    """Release a lock, also for the child processes that have inherited its descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            raise
        return False
    return True
