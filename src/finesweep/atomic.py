"""Owns writing a file so that its readers see the old one or the new one, never a part."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from finesweep.errors import RunDirError


def write_json(file: Path, values: Any, *, durable: bool = True) -> None:
    """Write JSON atomically; NaN and infinity are refused, since JSON has neither.

    Raises:
        RunDirError: The disk is full or the folder cannot be written.
        ValueError: A number is not finite.
    """
    write_text(file, json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False) + "\n", durable=durable)


def write_text(file: Path, text: str, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old text or the new one, never a part.

    Args:
        file: Its folder must exist: a folder that someone removed is not made again.
        text: Written as UTF-8.
        durable: Whether it must survive a power cut (fsync).

    Raises:
        RunDirError: The disk is full or the folder cannot be written; names the path and what is free.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunDirError(write_failure(file, error)) from error


def write_failure(file: Path, error: OSError) -> str:
    """Say why a file could not be written, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(file.parent).free
        return f"{file}: the disk is full ({free / 1e6:.1f} MB free); make room and run the same command again"
    return f"{file}: cannot be written ({error.strerror})"


def read_json(file: Path) -> Any:
    """Return what a JSON file holds, None if it is missing or damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
