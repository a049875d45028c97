"""Reads JSON of bounded size from a sweep's folder and checks it against a dataclass.

A folder can come from another person. Reading any file of it gives a value of the promised class or one error: no
traceback, no endless wait, no exhausted memory.
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
"""Maximum size of a JSON file in bytes. The record of a trial with 10,000 evaluations has 5 million."""

_LARGE = (re.compile(rb"e\+?[0-9]{3}"), re.compile(rb"E\+?[0-9]{3}"), re.compile(rb"[0-9]{200}"))
"""A number that overflows to infinity has three digits of exponent, or 200 digits in a row. Text without these patterns
needs no closer look."""

T = TypeVar("T")


class Damaged(ValueError):
    """A file does not hold what it should; the message gives the reason on one line."""


def read_values(file: Path) -> Any:
    """Return the values of a JSON file.

    Raises:
        FileNotFoundError: The file does not exist.
        Damaged: It is no regular file, too large, or not JSON; NaN and infinity are not JSON.
    """
    return _values(_read(file))


def read_lines(file: Path, most: int) -> list[Any]:
    """Return the values of the first ``most`` lines of a JSON lines file; None for a damaged or unfinished line.

    The list is empty if the file is missing or is no regular file.
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
        kind: The dataclass; its annotations are checked.
        file: The file.

    Raises:
        FileNotFoundError: The file does not exist.
        Damaged: As for ``read_values``, or a field is missing, unknown or has another type.
    """
    return as_kind(kind, read_values(file))


def as_kind(kind: type[T], values: Any) -> T:
    """Make a dataclass from plain values.

    Raises:
        Damaged: A field is missing, unknown or has another type.
    """
    from pydantic import ValidationError

    if not isinstance(values, dict):
        raise Damaged("no JSON object")
    known: Any = kind
    # pydantic ignores unknown keys of a plain dataclass, so they are looked for here.
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
    """Yield the number in the name and the content of each ``NUMBER.json`` of a folder, by name; skip damaged ones."""
    for file in sorted(folder.glob("*.json")):
        if file.stem.isdecimal():
            with contextlib.suppress(Damaged, FileNotFoundError):
                yield int(file.stem), read_as(kind, file)


def refuse_all_but_files(folder: Path, *, deep: bool = False) -> None:
    """Refuse a sweep's folder that holds anything but regular files and folders.

    A symbolic link can lead out of the folder, so that files elsewhere would be written, moved or deleted. A library
    that opens a pipe or a device can wait for ever.

    Args:
        folder: The folder.
        deep: Whether to check all levels, not only the first one.

    Raises:
        FolderError: The folder holds something else; names the first by path.
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
    """Open a log for appending; return the descriptor.

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
    """Return whether JSON may hold infinity or NaN.

    It only selects the texts for the exact check, because writing all values again takes longer than reading them.
    """
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
