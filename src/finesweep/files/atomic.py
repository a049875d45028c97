"""Writes files atomically: a reader sees the old file or the new one, never a part.

A file is written beside its target under a temporary name and then renamed, which POSIX does in one step. The name
holds the writer's process id, so that leftovers of a killed process can be told from a file that is being written.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finesweep.errors import FolderError
from finesweep.files.checked_json import Damaged, read_values
from finesweep.files.file_lock import lock, try_lock
from finesweep.files.regular_file import open_own


def write_json(file: Path, values: Any, *, durable: bool = True) -> None:
    """Write JSON atomically; NaN and infinity are refused, since JSON has neither.

    Raises:
        FolderError: The disk is full or the folder cannot be written.
        ValueError: A number is not finite.
    """
    write_text(file, _json(values), durable=durable)


def write_text(file: Path, text: str, *, durable: bool = True) -> None:
    """Write a text file atomically.

    Args:
        file: The target; its folder must exist, since a folder that a user removed is not made again.
        text: Text, written as UTF-8.
        durable: Whether the file must survive a power cut (fsync).

    Raises:
        FolderError: The disk is full or the folder cannot be written; names the path and the free space.
    """
    with _staged(file, text, durable=durable) as temporary:
        temporary.replace(file)


def create(file: Path, content: bytes) -> None:
    """Write a file that must not exist yet; if writing fails, the file is removed.

    Raises:
        FileExistsError: A file of that name exists.
        FolderError: The disk is full or the folder cannot be written.
    """
    try:
        # Mode x also refuses a dangling symbolic link.
        with file.open("xb") as stream:
            try:
                stream.write(content)
                stream.flush()
            except OSError:
                file.unlink()
                raise
    except FileExistsError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FolderError(f"{file}: cannot be written: {reason}") from None


def staged_json(file: Path, values: Any) -> contextlib.AbstractContextManager[Path]:
    """Write JSON, durably, to a temporary file; the block renames it to ``file``, else it is removed after the block.

    Raises:
        FolderError: The disk is full or the folder cannot be written.
        ValueError: A number is not finite.
    """
    return _staged(file, _json(values), durable=True)


@contextlib.contextmanager
def _staged(file: Path, text: str, *, durable: bool) -> Iterator[Path]:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        yield temporary
        # The new name is part of the folder, so the folder has to be synced too.
        if durable:
            sync(file.parent)
    except OSError as error:
        raise FolderError(write_failure(file, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def has_living_writer(temporary: Path) -> bool:
    """Return whether a temporary file belongs to a live process of this machine."""
    match = re.fullmatch(r"\..+\.(\d+)\.[0-9a-f]{8}\.tmp", temporary.name)
    if match is None:
        return False
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process is another user's
        return True
    return True


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Flush a folder and everything in it to disk."""
    for path in (folder, *folder.rglob("*")):
        sync(path)


def _json(values: Any) -> str:
    return json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Hold an exclusive lock on a lock file while the block runs; wait for it as long as another process holds it.

    The system releases the lock when its process ends. The lock is not reentrant.

    Raises:
        FolderError: The file cannot be opened: its folder is missing or not writable, or it is a link.
    """
    with _lock_file(file) as descriptor:
        lock(descriptor)
        yield


@contextlib.contextmanager
def alone(file: Path) -> Iterator[bool]:
    """Try to hold the lock while the block runs; the block gets whether it is held.

    Raises:
        FolderError: As for ``exclusive``.
    """
    with _lock_file(file) as descriptor:
        yield try_lock(descriptor)


@contextlib.contextmanager
def _lock_file(file: Path) -> Iterator[int]:
    try:
        descriptor = open_own(file, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise FolderError(write_failure(file, error)) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a library's failure to write in a folder into an error that names the folder.

    Raises:
        FolderError: The disk is full or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise FolderError(write_failure(folder, error)) from error


def write_failure(file: Path, error: OSError) -> str:
    """Return why a file could not be written, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(file.parent).free
        return f"{file}: the disk is full ({free / 1e6:.1f} MB free); make room and run the same command again"
    return f"{file}: cannot be written ({error.strerror})"


def read_json(file: Path) -> Any:
    """Return the values of a JSON file; None if it is missing or damaged."""
    try:
        return read_values(file)
    except (OSError, Damaged):
        return None
