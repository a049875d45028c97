"""Reads the text of a CSV or TSV into rows, with the column names of its header or of the spec."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from finesweep.data import csv_quotes, labelled_lines, table_header
from finesweep.data.csv_quotes import CsvRecords
from finesweep.data.table_header import HeaderLook
from finesweep.errors import SpecError
from finesweep.spec import Quoting

_SEP_LINE = re.compile(r'"?sep=(.)"?(\r\n|\n|\r)', re.IGNORECASE)
_SHOWN = 5


@dataclass(frozen=True)
class Layout:
    """The spec's description of its CSV and TSV files.

    Attributes:
        columns: Names of the columns, for files without a header.
        header: Whether the first line is a header; None to judge it by its look.
        quoting: Meaning of double quotes; None to judge them by their look.
    """

    columns: tuple[str, ...] | None = None
    header: bool | None = None
    quoting: Quoting | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of a file.

    Attributes:
        names: Names of the columns.
        rows: Cells; each row has as many as there are names.
        places: The line on which each row starts.
        look: Judgement of the first line; a header if the layout decides.
        notes: Remarks for the user.
    """

    names: tuple[str, ...]
    rows: list[list[str]] = field(repr=False)
    places: list[int] = field(repr=False)
    look: HeaderLook
    notes: tuple[str, ...]


def read(text: str, delimiter: str, name: str, layout: Layout) -> Rows:
    """Read the text of a file.

    Args:
        text: The whole text.
        delimiter: Character between two columns, unless the first line names another, as `sep=;` does for Excel.
        name: The file as the user named it; every message begins with it.
        layout: The spec's description.

    Raises:
        SpecError: The text is no table, or could be read in two ways.
    """
    line = 1
    if (match := _SEP_LINE.match(text)) is not None:
        delimiter, text, line = match[1], text[match.end() :], 2
    try:
        records = csv_quotes.split(text, delimiter, layout.quoting, name, line)
        if not records.rows:
            raise SpecError.of(name, "no rows in the file")
        rows = _named(records, delimiter, name, layout)
        if len(rows.names) > 1 or (command := labelled_lines.command(text, name)) is None:
            return rows
    except SpecError:
        if (command := labelled_lines.command(text, name)) is None:
            raise
    raise SpecError.of(f"{name}:{line}", labelled_lines.FOUND, command)


def _named(records: CsvRecords, delimiter: str, name: str, layout: Layout) -> Rows:
    first, where = tuple(cell.strip() for cell in records.rows[0]), f"{name}:{records.starts[0]}"
    _check_separator(first, where, delimiter)
    _check_widths(records, name)
    notes = [*filter(None, [records.note]), *_line_notes(records)]
    if layout.columns is None:
        look = table_header.look(first, records.rows[1:]) if layout.header is None else HeaderLook(True)
        if look.is_header:
            _check_header(first, where)
        return _below_header(records, Rows(first, records.rows[1:], records.starts[1:], look, tuple(notes)))
    if len(layout.columns) != len(first):
        message = f"{_fields(len(first))}, but data.columns has {_count(len(layout.columns), 'name')}"
        raise SpecError.of(where, message, "name every column, in their order")
    is_header = layout.header or (layout.header is None and first == layout.columns)
    if not is_header and layout.header is None:
        _refuse_header(table_header.look(first, records.rows[1:]), first, where)
    if is_header and layout.header is None:
        notes.append("the first line is a header: it has the names in data.columns")
    rows = Rows(layout.columns, records.rows, records.starts, HeaderLook(True), tuple(notes))
    if not is_header:
        return rows
    return _below_header(records, dataclasses.replace(rows, rows=rows.rows[1:], places=rows.places[1:]))


def _refuse_header(look: HeaderLook, first: Sequence[str], where: str) -> None:
    if look.is_header and look.certain:
        message = f"beside data.columns, this line looks like a header too: {', '.join(first)}"
        raise SpecError.of(where, message, "leave out data.columns, or write `header: false` if this is a row")


def _below_header(records: CsvRecords, rows: Rows) -> Rows:
    """Drop lines that repeat the header, which joined files have."""
    header = records.rows[0]
    again = [at for at, row in enumerate(rows.rows) if row == header]
    if not again or len(header) == 1 or not rows.look.is_header:
        return rows
    lines = _listed([rows.places[at] for at in again])
    kept = sorted(set(range(len(rows.rows))) - set(again))
    return dataclasses.replace(
        rows,
        rows=[rows.rows[at] for at in kept],
        places=[rows.places[at] for at in kept],
        notes=(*rows.notes, f"the header is repeated in {lines}; left out"),
    )


def _line_notes(records: CsvRecords) -> list[str]:
    """Return a remark if there are fewer records than lines."""
    if not (long := records.long):
        return []
    lines = sum(end - start + 1 for start, end in zip(records.starts, records.ends, strict=True))
    what = f"{_count(len(long), 'field')} in double quotes" if len(long) == 1 else f"{len(long):,} rows"
    spans = "spans" if len(long) == 1 else "span"
    at = _listed([records.starts[at] for at in long])
    return [f"{lines:,} lines are {len(records.rows):,} records: {what} {spans} several lines ({at})"]


def _listed(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_SHOWN])) + (", ..." if len(lines) > _SHOWN else "")
    return f"line {shown}" if len(lines) == 1 else f"lines {shown}"


def _check_separator(header: Sequence[str], where: str, delimiter: str) -> None:
    others = {";": "';'", "\t": "tabs", "|": "'|'", ",": "','"}
    for other, words in others.items():
        if len(header) == 1 and other != delimiter and other in header[0]:
            hint = "name the file .tsv" if other == "\t" else f"save it with {others[delimiter]} between the columns"
            raise SpecError.of(where, f"the columns look as if separated by {words}: {header[0]!r}", hint)


def _check_header(header: Sequence[str], where: str) -> None:
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise SpecError.of(where, f"the column {twice[0]!r} stands in the header twice", "rename or remove one")


def _check_widths(records: CsvRecords, name: str) -> None:
    width = len(records.rows[0])
    wrong = [(place, len(row)) for place, row in zip(records.starts, records.rows, strict=True) if len(row) != width]
    if not wrong:
        return
    place, found = wrong[0]
    more = f"; {len(wrong) - 1:,} more rows differ too" if len(wrong) > 1 else ""
    hint = "put texts that hold the separator in double quotes" if found > width else "the row is cut off or torn"
    raise SpecError.of(f"{name}:{place}", f"{_fields(found)}, but the header has {width}{more}", hint)


def _fields(count: int) -> str:
    return _count(count, "field")


def _count(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"
