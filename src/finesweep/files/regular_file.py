"""Opens and reads files of any origin: regular files only, without waiting, up to a size limit.

Opening a pipe waits for a writer, a device never ends, and a terabyte file can be one hole. A library that opens a path
itself gets only paths that ``check`` or ``check_folder`` has accepted.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from finesweep.errors import Unreadable

_PIECE = 1_000_000
"""Bytes per read of a file whose size is unknown."""

TAIL_BYTES = 8_000
"""Bytes at the end of a log that ``last_lines`` reads."""

_KINDS = {
    stat.S_IFDIR: "this is a folder; a file is needed",
    stat.S_IFIFO: "this is a pipe; only regular files are read",
    stat.S_IFSOCK: "this is a socket; only regular files are read",
    stat.S_IFCHR: "this is a device; only regular files are read",
    stat.S_IFBLK: "this is a device; only regular files are read",
}
_REASONS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file: what should be a folder on the way to it is a file",
    errno.ENAMETOOLONG: "the name is too long for a file",
    errno.ELOOP: "a symbolic link that leads to itself",
    errno.EAGAIN: "it gives no data now; only complete files are read",
}


def open_regular(path: Path, *, limit: int | None = None, links: bool = True) -> io.BufferedReader:
    """Open a file for reading bytes.

    Args:
        path: The file.
        limit: Maximum size in bytes.
        links: Whether the file may be a symbolic link.

    Raises:
        Unreadable: The file is missing, not regular, too large, or may not be read.
    """
    check_name(path)
    try:
        # Look before opening: opening a device can already have an effect. After opening look again, since the file may
        # have been replaced in between.
        _check_status(path, path.stat(follow_symlinks=links), limit)
        # Nonblocking: a pipe without a writer must not be waited for. No terminal must become the controlling one.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
        descriptor = os.open(path, flags)
    except OSError as error:
        raise Unreadable(path, _reason(error), missing=error.errno == errno.ENOENT) from None
    try:
        _check_status(path, os.fstat(descriptor), limit)
    except Unreadable:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def open_own(path: Path, flags: int) -> int:
    """Open a file of a results folder for locking or writing; return the descriptor.

    Args:
        path: The file; no symbolic link.
        flags: Flags of ``os.open``, as ``os.O_RDWR | os.O_CREAT``. The umask decides who may read a new file.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind == stat.S_IFREG:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, _KINDS.get(kind, "this is no regular file"), path)


def read_bytes(path: Path, limit: int, *, links: bool = True) -> bytes:
    """Return the bytes of a file; the limit is checked before memory is allocated.

    Args:
        path: The file.
        limit: Maximum size in bytes.
        links: Whether the file may be a symbolic link.

    Raises:
        Unreadable: As for ``open_regular``.
    """
    with open_regular(path, limit=limit, links=links) as stream:
        try:
            size = os.fstat(stream.fileno()).st_size
            data = stream.read(size + 1)
            while len(data) > size:  # it has grown, or is a kernel's file without a size
                size = len(data)
                data += stream.read(_PIECE)
                if len(data) > limit:
                    raise Unreadable(path, _too_large(len(data), limit))
        except OSError as error:
            raise Unreadable(path, _reason(error)) from None
    return data


def read_text(path: Path, limit: int, *, encoding: str = "utf-8", errors: str = "strict", links: bool = True) -> str:
    """Return the text of a file; arguments as for ``read_bytes``.

    Raises:
        Unreadable: As for ``open_regular``, or the bytes are no text in this encoding.
    """
    try:
        return read_bytes(path, limit, links=links).decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise Unreadable(path, f"not {encoding.upper()} at byte {error.start:,}") from None


def last_lines(path: Path, start: int = 0) -> list[str]:
    """Return the last lines of a file without the empty ones; an empty list if the file cannot be read.

    Args:
        path: The file, as a log; no symbolic link.
        start: Offset in bytes at which to begin, if it lies within the last ``TAIL_BYTES``.
    """
    try:
        with open_regular(path, links=False) as stream:
            stream.seek(max(start, os.fstat(stream.fileno()).st_size - TAIL_BYTES))
            text = stream.read(TAIL_BYTES).decode(errors="replace")
    except (OSError, Unreadable):
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def last_words(path: Path, code: int) -> str:
    """Return why a child process ended: the last line of its log, or its exit code if the log is empty."""
    lines = last_lines(path)
    return lines[-1].removeprefix("error: ") if lines else f"exit code {code}"


def check(path: Path, *, limit: int | None = None) -> None:
    """Check that a path is a regular file, which a library may open.

    Raises:
        Unreadable: As for ``open_regular``.
    """
    open_regular(path, limit=limit).close()


def check_folder(folder: Path, *, limit: int, limited: Collection[str]) -> None:
    """Check that a folder and its subfolders hold only regular files and folders, which a library may open.

    Args:
        folder: The folder.
        limit: Maximum size of a file in bytes.
        limited: Suffixes of the files that the limit applies to; others may have any size.

    Raises:
        Unreadable: As for ``open_regular``, for the first bad file by name.
    """
    for path in _inside(folder, depth=1):
        try:
            check(path, limit=limit if path.suffix in limited else None)
        except Unreadable as error:
            if not error.missing:  # a library ignores a dangling link too
                raise


def check_name(path: Path) -> None:
    """Check that a path can be shown, written into JSON, and opened.

    Raises:
        Unreadable: It is not UTF-8, or has a zero byte.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise Unreadable(path, "the name is not UTF-8; rename it") from None
    if "\0" in os.fspath(path):
        raise Unreadable(path, "a name cannot hold a zero byte")


def is_regular(path: Path) -> bool:
    """Return whether a path is a regular file that may be opened; any fault gives False."""
    try:
        check(path)
    except Unreadable:
        return False
    return True


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, for suggestions in a message; an empty list if it cannot be read."""
    try:
        return sorted(file.name for file in folder.iterdir() if file.name.isprintable())
    except (OSError, ValueError):
        return []


def check_folder_name(folder: Path) -> None:
    """Check that the path of a results folder can be shown on one line and written into JSON and scripts.

    Raises:
        Unreadable: Its absolute path is not UTF-8, or has control characters.
    """
    check_name(folder)
    if not os.fspath(folder.absolute()).isprintable():
        raise Unreadable(folder.absolute(), "a results folder's path cannot have control characters; use another one")


def _inside(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise Unreadable(folder, _reason(error)) from None
    for entry in found:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _inside(path, depth - 1) if depth else ()
        elif not path.is_dir():
            yield path


def _check_status(path: Path, status: os.stat_result, limit: int | None) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        raise Unreadable(path, "this is a symbolic link; it is not followed")
    if kind != stat.S_IFREG:
        raise Unreadable(path, _KINDS.get(kind, "this is no regular file"))
    if limit is not None and status.st_size > limit:
        raise Unreadable(path, _too_large(status.st_size, limit))


def _too_large(size: int, limit: int) -> str:
    return f"{size:,} bytes are more than the {limit:,} that are read"


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or f"cannot be read: {error.strerror}"
