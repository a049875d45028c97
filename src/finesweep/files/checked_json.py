"""Reads JSON of bounded size from a sweep's folder, which may come from anywhere, and checks it against a class.

A folder can come from another person. Whatever lies in it, reading it gives a value of the promised
class or one error, never a traceback, endless waiting or a full memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from finesweep.errors import FolderError, Unreadable, printable
from finesweep.files.regular_file import open_own, read_bytes

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_BYTES = 50_000_000
"""Bytes of a file that are read; the record of a trial with 10,000 evaluations has 5 million."""

_LARGE = (re.compile(rb"e\+?[0-9]{3}"), re.compile(rb"E\+?[0-9]{3}"), re.compile(rb"[0-9]{200}"))
"""What a number that is infinite has: an exponent of three digits, or as many digits before it."""

T = TypeVar("T")


class Damaged(ValueError):
    """A file does not hold what it should; the message says why, on one line."""


def read_values(file: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: There is no such file.
        Damaged: It is no regular file, too large, or not JSON; NaN and infinity are none.
    """
    return _values(_read(file))


def read_lines(file: Path, most: int) -> list[Any]:
    """Return the values in the first lines of a file of JSON lines, None for one that is damaged or not yet whole.

    Of a file that is missing or no regular file there are none.
    """
    try:
        lines = _read(file).split(b"\n", most)[:most]
    except (OSError, Damaged):
        return []
    found: list[Any] = []
    for line in lines:
        try:
            found.append(_values(line))
        except Damaged:
            found.append(None)
    return found


def read_as(kind: type[T], file: Path) -> T:
    """Return the dataclass that a JSON file holds.

    Args:
        kind: The dataclass; its annotations say what is allowed.
        file: The file.

    Raises:
        FileNotFoundError: There is no such file.
        Damaged: As for ``read_values``, or a field is missing, unknown or has another type.
    """
    return as_kind(kind, read_values(file))


def as_kind(kind: type[T], values: Any) -> T:
    """Return the dataclass that plain values describe.

    Raises:
        Damaged: A field is missing, unknown or has another type.
    """
    from pydantic import ValidationError

    if not isinstance(values, dict):
        raise Damaged("no JSON object")
    known: Any = kind
    if unknown := sorted(values.keys() - _fields(known)):
        raise Damaged(f"unknown field {unknown[0][:100]!r}")
    try:
        made: T = _adapter(known).validate_python(values)
        return made
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise Damaged(f"{where}: {first['msg']}") from None


def read_numbered(kind: type[T], folder: Path) -> Iterator[tuple[int, T]]:
    """Yield what a folder's JSON files hold, with the number in each name, by name; damaged ones are left out."""
    for file in sorted(folder.glob("*.json")):
        if file.stem.isdecimal():
            with contextlib.suppress(Damaged, FileNotFoundError):
                yield int(file.stem), read_as(kind, file)


def refuse_all_but_files(folder: Path, *, deep: bool = False) -> None:
    """Make sure that there is nothing in a sweep's folder but regular files, and folders.

    A symbolic link could lead anywhere: what is written, set aside or deleted there would be so in a folder
    that is no sweep's. A pipe or a device would be waited for by a library that opens what it finds.

    Args:
        folder: The folder.
        deep: Whether to look at everything in it, not only at what lies directly there.

    Raises:
        FolderError: There is one.
    """
    waiting = [str(folder)]
    while waiting:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError),
            os.scandir(waiting.pop()) as entries,
        ):
            found = list(entries)
            others = [entry for entry in found if not entry.is_file(follow_symlinks=False)]
            folders = [entry.path for entry in others if entry.is_dir(follow_symlinks=False)]
            if len(others) > len(folders):
                odd = min((entry for entry in others if entry.path not in folders), key=lambda entry: entry.path)
                what = "a symbolic link" if odd.is_symlink() else "neither a file nor a folder"
                raise FolderError(f"{printable(odd.path, 300)} is {what}; a sweep's folder has none, so it is not used")
            waiting += folders if deep else []


def open_log(file: Path) -> int:
    """Open a log to append to; return the descriptor.

    Raises:
        OSError: It cannot be opened, or is a symbolic link.
    """
    return open_own(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@functools.cache
def _fields(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(kind))


def _may_be_infinite(text: bytes) -> bool:
    """Say whether JSON may hold infinity or NaN; to write all values again, to be told, takes longer than to read."""
    return b"Infinity" in text or b"NaN" in text or any(large.search(text) for large in _LARGE)


def _values(text: bytes) -> Any:
    from pydantic import ValidationError  # here, so that importing this module costs nothing

    try:
        values = _adapter(Any).validate_json(text)
        if _may_be_infinite(text):
            json.dumps(values, allow_nan=False)  # the parser lets infinity pass
    except ValidationError as error:
        raise Damaged(error.errors(include_url=False, include_input=False)[0]["msg"]) from None
    except ValueError as error:
        raise Damaged(str(error)) from None
    return values


def _read(file: Path) -> bytes:
    try:
        return read_bytes(file, MAX_BYTES)
    except Unreadable as error:
        if error.missing:
            raise FileNotFoundError(error.path) from None
        raise Damaged(error.reason) from None
