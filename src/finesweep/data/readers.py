"""Reads CSV, TSV, JSON lines and Parquet into columns and keeps each row's place for error messages.

No value is guessed or converted: a CSV cell is text, and ``NA`` in it stays text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from finesweep.data import csv_table, labelled_lines
from finesweep.data.csv_table import Layout
from finesweep.data.table_header import HeaderLook
from finesweep.errors import SpecError, Unreadable, lines_of
from finesweep.files import parquet, read_bytes
from finesweep.host.machine import usable_memory_gb

_FOREIGN = {
    b"PK\x03\x04": ("this is a zip archive or an Excel workbook", "save it as CSV (UTF-8)"),
    b"\xd0\xcf\x11\xe0": ("this is an old Excel workbook", "save it as CSV (UTF-8)"),
    b"\x1f\x8b": ("this is packed with gzip", "unpack it first"),
    b"PAR1": ("this is a Parquet file", "give it the suffix .parquet"),
    b"\xff\xfe": ("this is UTF-16", "save it as UTF-8"),
    b"\xfe\xff": ("this is UTF-16", "save it as UTF-8"),
}
_SURROGATE = re.compile(r"\\u[dD][89abAB]")
_NO_LAYOUT = Layout()
_HEADER = HeaderLook(True)
_SPACE = re.compile(r"[ \t\r\n]*")
_LINES_HINT = 'expected an object a line, as {"text": "...", "label": "..."}, or one array of such objects'


SHARE_OF_MEMORY = 0.5
"""Maximum size of a data file, packed or unpacked, as a share of memory; its rows take several times as much."""


def most_bytes() -> int:
    """Return the maximum size of a data file on this machine in bytes, packed or unpacked."""
    return int(usable_memory_gb() * 1e9 * SHARE_OF_MEMORY)


@dataclass(frozen=True)
class Table:
    """The rows of one file or split as they are written.

    Attributes:
        names: All columns, in order.
        columns: Values of the wanted columns that exist; None or an empty text is a missing value.
        places: Place of each row, from 1: lines in text files, else rows.
        unit: Unit of ``places``: ``line`` or ``row``.
        class_names: Names that the file gives to integer labels, by column.
        look: Judgement of the first line of a CSV or TSV, which was read as the header.
        notes: Remarks for the user, without the name of the file.
    """

    names: tuple[str, ...]
    columns: Mapping[str, list[Any]] = field(repr=False)
    places: Sequence[int] = field(repr=False)
    unit: str = "row"
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    look: HeaderLook = _HEADER
    notes: tuple[str, ...] = ()


def parse(data: bytes, suffix: str, name: str, wanted: Collection[str], layout: Layout = _NO_LAYOUT) -> Table:
    """Read a data file that is in memory already.

    Args:
        data: The file's bytes.
        suffix: One of ``SUFFIXES``.
        name: The file as the user named it; every message begins with it.
        wanted: Columns whose values are returned.
        layout: The spec's description of CSV and TSV files.

    Raises:
        SpecError: The bytes do not match the suffix, or hold no row.
    """
    delimiter = _DELIMITERS.get(suffix)
    found = _READERS[suffix](data, name, wanted) if delimiter is None else _rows(data, name, wanted, delimiter, layout)
    if not found.places:
        raise SpecError.of(name, "no rows in the file")
    return found


def command_for(path: Path, name: str) -> str:
    """Return a command that converts a file of an unsupported kind; empty if none is known."""
    try:
        text = read_bytes(path, most_bytes()).decode()
    except (Unreadable, UnicodeDecodeError):
        return ""
    command = labelled_lines.command(text, name)
    return "" if command is None else f"{labelled_lines.FOUND}: {command}"


def _rows(data: bytes, name: str, wanted: Collection[str], delimiter: str, layout: Layout) -> Table:
    found = csv_table.read(_decode(data, name), delimiter, name, layout)
    values = zip(*found.rows, strict=True) if found.rows else ([] for _ in found.names)
    columns = {column: list(cells) for column, cells in zip(found.names, values, strict=True) if column in wanted}
    return Table(found.names, columns, found.places, "line", look=found.look, notes=found.notes)


def _json(data: bytes, name: str, wanted: Collection[str]) -> Table:
    text = _decode(data, name)
    # In this order, since a pretty-printed object or array spans several lines.
    if text.lstrip().startswith("["):
        items = list(_array_items(text, name))
    elif (whole := _whole(text)) is not None:
        items = [(1, whole)]
    else:
        items = list(_line_items(text, name))
    for place, item in items:
        _check_item(item, f"{name}:{place}", _SURROGATE.search(text) is not None)
    if len(items) == 1:
        _check_not_nested(items[0][1], name)
    names = tuple(dict.fromkeys(key for _, item in items for key in item))
    columns = {key: [item.get(key) for _, item in items] for key in names if key in wanted}
    return Table(names, columns, [place for place, _ in items], "line")


def _whole(text: str) -> Any:
    """Return the one object that the text holds, None for any other text."""
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _line_items(text: str, name: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _guarded(partial(_DECODER.decode, line), name, number, number)


def _array_items(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """Decode one element after the other, because the decoder gives no positions inside an array."""
    at = _skip(text, text.index("[") + 1)
    line, counted = 1, 0
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        value, at = _guarded(partial(_DECODER.raw_decode, text, at), name, line, 1)
        yield line, value
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            line += text.count("\n", counted, at)
            raise SpecError.of(f"{name}:{line}", "not JSON: expected ',' or ']' after an element of the array")
    if text[at + 1 :].strip():
        raise SpecError.of(f"{name}:{1 + text.count(chr(10), 0, at)}", "not JSON: there is more after the array")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _guarded(decode: Callable[[], Any], name: str, line: int, first: int) -> Any:
    """Decode a value that starts on ``line``, from a text that starts on line ``first``."""
    try:
        return decode()
    except json.JSONDecodeError as error:
        where = f"{name}:{first + error.lineno - 1}"
        raise SpecError.of(where, f"not JSON: {error.msg} (column {error.colno})", _LINES_HINT) from None
    except RecursionError:
        raise SpecError.of(f"{name}:{line}", "nested too deeply") from None
    except ValueError as error:
        raise SpecError.of(f"{name}:{line}", f"not usable: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands in one object twice")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _check_item(item: Any, where: str, surrogates: bool) -> None:
    if not isinstance(item, dict):
        raise SpecError.of(where, f"found a {_kind(item)} where an object is needed", _LINES_HINT)
    if surrogates:
        try:
            json.dumps(item, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise SpecError.of(
                where, r"half a surrogate pair (as \ud83d alone) is no character", "mend the text"
            ) from None


def _check_not_nested(item: Mapping[str, Any], name: str) -> None:
    for key, value in item.items():
        if isinstance(value, list | dict):
            hint = f"with pandas: frame.to_json(..., orient='records', lines=True); {_LINES_HINT}"
            raise SpecError.of(name, f"the file is one object with a {_kind(value)} under {key!r}, not rows", hint)


def _kind(value: Any) -> str:
    names = {dict: "mapping", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _parquet(data: bytes, name: str, wanted: Collection[str]) -> Table:
    import pyarrow

    if not data:
        raise SpecError.of(name, "no rows in the file")
    try:
        names, rows = parquet.read_columns(pyarrow.BufferReader(data), wanted, most_bytes())
        return from_arrow(rows, names, name, _class_names(rows.schema.metadata or {}))
    except parquet.TooLarge as error:
        raise SpecError.of(name, str(error), "split it, or take a sample of its rows") from None
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SpecError.of(name, f"cannot be read as Parquet: {lines_of(error)[0]}") from None


def from_arrow(table: Any, names: Sequence[str], name: str, class_names: Mapping[str, tuple[str, ...]]) -> Table:
    """Take the columns of a ``pyarrow.Table``.

    Args:
        table: Has the wanted columns.
        names: All columns of the file.
        name: The file or split as the user named it; the message begins with it.
        class_names: Names of integer labels, by column.

    Raises:
        SpecError: Two columns have the same name.
    """
    for column, count in Counter(names).items():
        if count > 1:
            raise SpecError.of(name, f"there are {count} columns called {column!r}", "rename or remove one")
    columns = {column: table.column(column).to_pylist() for column in table.column_names}
    notes = [f"{column!r} holds bytes, read as UTF-8" for column, values in columns.items() if _decode_bytes(values)]
    named = {column: found for column, found in class_names.items() if column in columns}
    return Table(tuple(names), columns, range(1, table.num_rows + 1), class_names=named, notes=tuple(notes))


def _decode_bytes(values: list[Any]) -> bool:
    """Decode UTF-8 bytes in place, without the zeros that pad them; return whether there were any."""
    found = False
    for at, value in enumerate(values):
        if isinstance(value, bytes):
            with contextlib.suppress(UnicodeDecodeError):
                values[at], found = value.rstrip(b"\0").decode(), True
    return found


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Return the class names that `datasets` writes into the schema of a Parquet file, also those inside lists."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        inner = {column: _inside(feature) for column, feature in features.items()}
        found = {column: feature["names"] for column, feature in inner.items() if _is_class_label(feature)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {column: tuple(names) for column, names in found.items() if _are_names(names)}


def _inside(feature: Any) -> Any:
    """Return the item type of a list feature, any other feature as it is.

    Older files write a list feature as a list of one feature.
    """
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    is_list = isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList")
    return feature.get("feature") if is_list else feature


def _is_class_label(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "ClassLabel"


def _are_names(names: Any) -> bool:
    is_list = isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names)
    return is_list and 0 < len(names) == len(set(names))


def _decode(data: bytes, name: str) -> str:
    for magic, (what, hint) in _FOREIGN.items():
        if data.startswith(magic):
            raise SpecError.of(name, what, hint)
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: the byte 0x{data[error.start]:02x} at position {error.start:,} of the file"
        raise SpecError.of(
            f"{name}:{line}", message, "save the file as UTF-8; it may be Latin-1 or Windows-1252"
        ) from None
    if (zero := text.find("\0")) >= 0:
        raise SpecError.of(f"{name}:{1 + text.count(chr(10), 0, zero)}", "a zero byte: this is no text file in UTF-8")
    return text


_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_READERS: Mapping[str, Callable[[bytes, str, Collection[str]], Table]] = {
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".parquet": _parquet,
}
SUFFIXES = (*_DELIMITERS, *_READERS)
"""Suffixes of all data files that are read."""
