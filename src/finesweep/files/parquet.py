"""Reads columns of a Parquet file in bounded memory: one megabyte can unpack to ten billion values.

A file's metadata gives the number of its values and their unpacked bytes. A dictionary or a run of equal values unpacks
to more, so the output is counted too, in pieces that are small enough. Metadata can also be false; then the system's
limit on the address space stops the process from taking more memory.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from finesweep.errors import Unreadable, printable
from finesweep.files.regular_file import open_regular
from finesweep.host.machine import usable_memory_gb

BYTES_PER_VALUE = 64
"""Memory of a value as a Python object, beside its own text, in bytes."""

_FEWEST_ROWS = 200
_MOST_ROWS = 10_000
"""Bounds of the rows that are unpacked at once: fewer are slow, more can be large."""

_HEADROOM = 2
"""Memory that reading may take, as a multiple of the limit: once for all pieces, once for a piece that is too large."""


class TooLarge(ValueError):
    """A file unpacks to more than the limit; the message gives both numbers."""


def read_columns(source: Any, wanted: Collection[str], limit: int) -> tuple[tuple[str, ...], Any]:
    """Return the names of all columns and a ``pyarrow.Table`` of the wanted ones.

    Args:
        source: A path or a file object that pyarrow accepts.
        wanted: Names of the columns to return.
        limit: Maximum size of their values in bytes.

    Raises:
        TooLarge: The values are larger.
        pyarrow.ArrowException: It is no Parquet file, or damaged.
    """
    import pyarrow
    import pyarrow.parquet

    with _within(_HEADROOM * limit), pyarrow.parquet.ParquetFile(source) as file:
        names = tuple(file.schema_arrow.names)
        columns = [name for name in dict.fromkeys(names) if name in wanted]
        pieces = list(_pieces(file, columns, limit))
        fields = [field for field in file.schema_arrow if field.name in wanted]
        return names, pyarrow.Table.from_batches(pieces, pyarrow.schema(fields, file.schema_arrow.metadata))


def read_frame(path: Path) -> Any:
    """Return a Parquet file of a sweep's folder as a ``pandas.DataFrame``; it may take all memory of the machine.

    Raises:
        Unreadable: It is no regular file, no Parquet file, or larger than the memory.
    """
    import pyarrow
    import pyarrow.parquet

    with open_regular(path) as stream:
        try:
            names = pyarrow.parquet.read_schema(stream).names
            return read_columns(stream, names, int(usable_memory_gb() * 1e9))[1].to_pandas()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise Unreadable(path, f"cannot be read as Parquet: {printable(str(error), 300)}") from None


def refuse_large(path: Path, limit: int) -> None:
    """Read a file through and discard the values.

    Raises:
        TooLarge: Its values take more than the limit.
        pyarrow.ArrowException: It is no Parquet file, or damaged.
    """
    import pyarrow.parquet

    with _within(_HEADROOM * limit), pyarrow.parquet.ParquetFile(path) as file:
        for _ in _pieces(file, list(dict.fromkeys(file.schema_arrow.names)), limit):
            pass


def _pieces(file: Any, columns: list[str], limit: int) -> Iterator[Any]:
    largest = _refuse_by_its_own_word(file, columns, limit)
    # No value is larger than the largest chunk of a column, so this number of rows stays below the limit.
    rows = max(_FEWEST_ROWS, min(_MOST_ROWS, limit // max(largest, 1)))
    total = 0
    for piece in file.iter_batches(rows, columns=columns, use_threads=False):
        total += piece.nbytes + piece.num_rows * len(columns) * BYTES_PER_VALUE
        if total > limit:
            raise TooLarge(_too_large("more than", limit))
        yield piece


def _refuse_by_its_own_word(file: Any, columns: list[str], limit: int) -> int:
    """Compare the sizes in a file's metadata with the limit; return the bytes of the largest column chunk."""
    parts = set(columns)
    total = largest = 0
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema in parts or chunk.path_in_schema.split(".")[0] in parts:
                total += chunk.total_uncompressed_size + chunk.num_values * BYTES_PER_VALUE
                largest = max(largest, chunk.total_uncompressed_size)
    total = max(total, file.metadata.num_rows * max(len(columns), 1) * BYTES_PER_VALUE)
    if total > limit:
        raise TooLarge(_too_large(f"{total:,} bytes, more than", limit))
    return largest


def _too_large(what: str, limit: int) -> str:
    return f"it unpacks to {what} the {limit:,} that are read on this machine"


@contextlib.contextmanager
def _within(size: int) -> Iterator[None]:
    """Limit the growth of this process's address space to ``size`` bytes while the block runs.

    Raises:
        TooLarge: The process asked for more.
    """
    if sys.platform != "linux":  # no other system enforces it
        yield
        return
    import pyarrow

    pool = pyarrow.default_memory_pool()
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())  # other pools have reserved memory already
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = _address_space() + size
    resource.setrlimit(resource.RLIMIT_AS, (bound if soft == resource.RLIM_INFINITY else min(bound, soft), hard))
    try:
        yield
    except MemoryError:
        raise TooLarge(_too_large("more than", size // _HEADROOM)) from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        pyarrow.set_memory_pool(pool)


def _address_space() -> int:
    """Return the bytes of this process's address space."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()
