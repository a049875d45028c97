"""Splits CSV and TSV text into records, and decides whether a double quote opens a field or is a character.

Both mistakes lose data silently: a quote that is a character swallows the rows up to the next quote, and a quote that
opens a field, read as a character, breaks a text at its separators.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from finesweep.errors import SpecError
from finesweep.spec import Quoting
from finesweep.tasks.label_column import is_number

_LONGEST_FIELD = 2**31 - 1
_LINE_END = re.compile(r"\r\n|\r|\n")
_BOTH_WAYS = "write `data: {quoting: none}` if double quotes are plain characters, `quoting: minimal` if not"
PLAIN_NOTE = "double quotes are read as plain characters (data.quoting)"
"""Remark for the user if this was decided by the look of a file."""


@dataclass(frozen=True)
class CsvRecords:
    """Lines split into cells, without blank lines.

    Attributes:
        rows: The cells of each record.
        starts: The first line of each record, from 1.
        ends: The last line of each record.
        note: How double quotes were read, if that was decided by their look; else empty.
    """

    rows: list[list[str]] = field(repr=False)
    starts: list[int] = field(repr=False)
    ends: list[int] = field(repr=False)
    note: str = ""

    @property
    def is_even(self) -> bool:
        """Whether all records have the same number of cells."""
        return self.odd == 0

    @property
    def odd(self) -> int:
        """Number of records whose number of cells differs from that of the first."""
        return sum(1 for row in self.rows if len(row) != len(self.rows[0]))

    @property
    def long(self) -> list[int]:
        """Positions of the records that span several lines."""
        return [at for at, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)) if end > start]


def split(text: str, delimiter: str, quoting: Quoting | None, name: str, line: int = 1) -> CsvRecords:
    """Split a text into records.

    A TSV is read without quoting, unless its quotes are around every cell of a column or around exactly the cells that
    need them, as a program writes them. In a CSV quotes open fields.

    Args:
        text: The whole text.
        delimiter: Character between two cells.
        quoting: Meaning of double quotes; None to decide by their look.
        name: The file, for messages.
        line: Number of the text's first line.

    Raises:
        SpecError: A quote is never closed, or a quoted field seems to swallow rows.
    """
    if quoting == "none" or '"' not in text:
        return _read(text, delimiter, csv.QUOTE_NONE, name, line)
    if quoting == "minimal":
        return _read(text, delimiter, csv.QUOTE_MINIMAL, name, line)
    plain = _read(text, delimiter, csv.QUOTE_NONE, name, line)
    if delimiter == "\t" and plain.is_even:
        return _of_even_lines(text, plain, name, line)
    try:
        quoted = _read(text, delimiter, csv.QUOTE_MINIMAL, name, line)
    except SpecError as error:
        if delimiter == "\t":
            return plain  # its uneven lines are reported later
        if not plain.is_even:
            raise
        first = error.problems[0]
        raise SpecError.of(first.where, first.message, f"{first.hint}; {_BOTH_WAYS}") from None
    if delimiter == "\t" and plain.odd < quoted.odd:
        return plain
    _refuse_swallowed(quoted, delimiter, name)
    return quoted


def _read(text: str, delimiter: str, quoting: Literal[0, 3], name: str, line: int) -> CsvRecords:
    # The limit is global to the process, so it is restored below.
    before = csv.field_size_limit(_LONGEST_FIELD)
    # Without strict, text after a closing quote would be accepted silently.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    records = CsvRecords([], [], [])
    start = line
    try:
        for row in reader:
            end = line - 1 + reader.line_num
            if len(row) > 1 or (row and row[0].strip()):
                records.rows.append(row)
                records.starts.append(start)
                records.ends.append(end)
            start = end + 1
    except csv.Error as error:
        what = "is never closed" if "end of data" in str(error) else "does not end where the field ends"
        message = f"a double quote that opens in the row starting here {what}"
        raise SpecError.of(f"{name}:{start}", message, 'inside quotes, a quote is written twice: ""') from None
    finally:
        csv.field_size_limit(before)
    return records


def _of_even_lines(text: str, plain: CsvRecords, name: str, line: int) -> CsvRecords:
    """Read a TSV whose lines all have the same number of cells: with quoting only if a program wrote the quotes."""
    try:
        quoted = _read(text, "\t", csv.QUOTE_MINIMAL, name, line)
    except SpecError:
        quoted = None
    if quoted is not None and quoted.starts == plain.starts and quoted.is_even:
        bodies = plain.rows[1:] or plain.rows, quoted.rows[1:] or quoted.rows
        columns = zip(*(zip(*rows, strict=True) for rows in bodies), strict=True)
        if all(_is_quoted_by_rule(raw, read) for raw, read in columns):
            return quoted
    header = [_unquoted(cell) for cell in plain.rows[0]] if plain.rows else []
    return CsvRecords([header, *plain.rows[1:]], plain.starts, plain.ends, PLAIN_NOTE)


def _is_quoted_by_rule(raw: Sequence[str], read: Sequence[str]) -> bool:
    """Return whether a column's quotes are around every cell, or around exactly the cells that need them."""
    opened = [cell.startswith('"') for cell in raw]
    if any('"' in cell and _unquoted(cell) == cell for cell in raw):
        return False
    needs = ['"' in cell for cell in read]
    asked = ['"' in cell or "," in cell for cell in read]  # spreadsheets quote a comma in a TSV too
    return all(quoted or not cell for quoted, cell in zip(opened, raw, strict=True)) or opened in (needs, asked)


def _unquoted(cell: str) -> str:
    """Remove the quotes that a program put around a cell; return any other cell as it is."""
    inner = cell[1:-1]
    is_whole = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_whole else cell


def _refuse_swallowed(records: CsvRecords, delimiter: str, name: str) -> None:
    """Refuse fields of several lines whose content looks like rows of its own."""
    long = set(records.long)
    if not long or not records.is_even or len(records.rows[0]) == 1:
        return
    short = [row for at, row in enumerate(records.rows) if at > 0 and at not in long]
    known = [_Known([row[column] for row in short]) for column in range(len(records.rows[0]))]
    found = [at for at in sorted(long) if _looks_swallowing(records.rows[at], known, delimiter)]
    if found:
        start, end = records.starts[found[0]], records.ends[found[0]]
        more = f"; {len(found) - 1:,} more do" if len(found) > 1 else ""
        message = f"a double quote opens a field here that continues to line {end} and holds what looks like rows{more}"
        raise SpecError.of(f"{name}:{start}", message, _BOTH_WAYS)


class _Known:
    """Describes the cells of a column, judged by the records of one line."""

    def __init__(self, values: Sequence[str]) -> None:
        self.values = set(values) - {""}
        self.is_number = bool(self.values) and all(map(is_number, self.values))
        self.few = self.is_number or 0 < len(self.values) <= len(values) / 2

    def takes(self, cell: str) -> bool | None:
        """Return whether a cell resembles those of the column; None if any text would."""
        if cell in self.values or (self.is_number and is_number(cell)):
            return True
        return False if self.few else None


def _looks_swallowing(row: Sequence[str], known: Sequence[_Known], delimiter: str) -> bool:
    """Return whether one cell of a row, split at its line ends, gives rows like those around it."""
    for place, cell in enumerate(row):
        lines = [line.split(delimiter) for line in _LINE_END.split(cell)]
        widths = [len(row) - place, *[len(row)] * (len(lines) - 2), place + 1]
        if len(lines) == 1 or list(map(len, lines)) != widths:
            continue
        others = list(_cells_of_other_columns(lines, place, len(row)))
        verdicts = Counter(known[column].takes(part) for column, part in others)
        if verdicts[True] >= verdicts[False] and (verdicts[True] or len(lines) > 2):
            return True
    return False


def _cells_of_other_columns(lines: Sequence[Sequence[str]], place: int, width: int) -> Iterator[tuple[int, str]]:
    """Yield column and text of the cells that would result beside the one at ``place``."""
    columns = [*range(place, width), *list(range(width)) * (len(lines) - 2), *range(place + 1)]
    parts = [part for line in lines for part in line]
    return ((column, part) for column, part in zip(columns, parts, strict=True) if column != place)
