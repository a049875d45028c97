"""Measures the unpacked size of a packed data file, before a library unpacks it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from finesweep.errors import Unreadable
from finesweep.files import open_regular, parquet

_PIECE = 1_000_000

UNPACKERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""Opens a packed file, by the bytes that it begins with."""

_OTHERS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}
_BROKEN = (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)


def refuse_large(path: Path, limit: int) -> None:
    """Refuse a data file that has, or unpacks to, more bytes than a limit.

    The file is unpacked once, piece by piece, and the pieces are discarded.

    Raises:
        Unreadable: It is too large, no regular file, broken, or packed in an unknown way.
    """
    with open_regular(path, limit=limit) as stream:
        start = stream.read(8)
        stream.seek(0)
        if name := next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None):
            raise Unreadable(path, f"packed with {name}; gzip, bzip2, xz and zip are unpacked")
        try:
            if start.startswith(b"PAR1"):
                parquet.refuse_large(path, limit)
            total = 0
            for size in _unpacked(stream, start):
                total += size
                if total > limit:
                    raise Unreadable(path, f"it unpacks to more than the {limit:,} bytes that are read on this machine")
        except parquet.TooLarge as error:
            raise Unreadable(path, str(error)) from None
        except _BROKEN as error:
            raise Unreadable(path, f"cannot be unpacked: {type(error).__name__}") from None


def _unpacked(stream: IO[bytes], start: bytes) -> Iterator[int]:
    """Yield the sizes of the pieces that a file unpacks to; nothing if it is not packed."""
    unpack = next((unpack for magic, unpack in UNPACKERS.items() if start.startswith(magic)), None)
    if unpack is not None:
        with unpack(stream) as unpacked:
            yield from _pieces(unpacked)
    elif start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(stream) as archive:
            for member in archive.infolist():
                with archive.open(member) as unpacked:
                    yield from _pieces(unpacked)


def _pieces(stream: IO[bytes]) -> Iterator[int]:
    while piece := stream.read(_PIECE):
        yield len(piece)
