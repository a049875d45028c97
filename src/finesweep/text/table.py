"""Lays out tables for a terminal of any width: drops the least important columns and wraps long texts.

All widths are counted in terminal cells (``rich.cells.cell_len``), because a character takes 0, 1 or 2 of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.text import Text

GAP = 2
"""Spaces between two columns."""

NAME_WIDTH = 12
_ROOM_FOR_TEXT = 30
_NARROWEST_TEXT = 8


@dataclass(frozen=True)
class Cell:
    """A text without control characters, and a rich style."""

    text: str = ""
    style: str = ""


@dataclass(frozen=True)
class FittedColumn:
    """One column of a table.

    Attributes:
        name: Heading; ``wrapped_name`` breaks it into lines.
        cells: Cells from top to bottom; None leaves the whole line blank.
        drop: 0 keeps the column; of the others the one with the highest number is dropped first.
        right: Whether the column is aligned to the right, as numbers are.
        flexible: Whether its texts may be wrapped to the width that the other columns leave.
        room: Maximum width of a line in cells; None for no limit.
    """

    name: str
    cells: Sequence[Cell]
    drop: int = 0
    right: bool = False
    flexible: bool = False
    room: int | None = None

    @property
    def heading(self) -> list[str]:
        """Lines of the heading."""
        return wrapped_name(self.name)

    @property
    def width(self) -> int:
        """Width of the longest line, in cells."""
        longest = max(cell_len(text) for text in [*self.heading, *(cell.text for cell in self.cells)])
        return longest if self.room is None else min(longest, self.room)

    @property
    def least(self) -> int:
        """Width below which the column cannot be read, in cells."""
        return min(self.width, _ROOM_FOR_TEXT) if self.flexible else self.width


@dataclass(frozen=True)
class FittedTable:
    """A table that rich prints at the current width of the terminal."""

    title: str
    columns: Sequence[FittedColumn]
    note: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines."""
        kept = fit(self.columns, options.max_width)
        if self.title:
            yield Text(self.title, style="bold")
        yield from lines(kept, options.max_width)
        hidden = [column.name for column in self.columns if column.name not in {one.name for one in kept}]
        if hidden:
            yield Text(f"Not shown for lack of width: {', '.join(hidden)}", style="dim")
        if self.note:
            yield Text(self.note, style="dim")


def wrapped_name(name: str) -> list[str]:
    """Break a dotted or underscored name into lines: ``per_device_``, ``train_``, ``batch_size``."""
    result = [""]
    start = 0
    for index, character in enumerate(name, start=1):
        if character in "_. " or index == len(name):
            part, start = name[start:index], index
            if result[-1] and len(result[-1]) + len(part) > NAME_WIDTH:
                result.append("")
            result[-1] += part
    return [line.strip() for line in result]


def fit(columns: Sequence[FittedColumn], width: int) -> list[FittedColumn]:
    """Return the columns that fit into ``width`` cells, in their order."""
    kept = list(columns)
    while sum(column.least for column in kept) + GAP * (len(kept) - 1) > width:
        least_important = max(kept, key=lambda column: column.drop)
        if least_important.drop == 0:
            break
        kept.remove(least_important)
    room = width - sum(column.width for column in kept if not column.flexible) - GAP * (len(kept) - 1)
    return [_limited(column, room) if column.flexible else column for column in kept]


def lines(columns: Sequence[FittedColumn], width: int) -> Iterator[Text]:
    """Yield the heading and the rows of columns that ``fit`` returned."""
    if not columns:
        return
    widths = [column.width for column in columns]
    depth = max(len(column.heading) for column in columns)
    headings = [[""] * (depth - len(column.heading)) + column.heading for column in columns]
    for level in range(depth):
        cells = [Cell(heading[level], "dim") for heading in headings]
        yield _row(columns, cells, widths, width)
    for row in zip(*(column.cells for column in columns), strict=True):
        wrapped = [_wrapped(cell, column.room) for cell, column in zip(row, columns, strict=True)]
        for line in itertools.zip_longest(*wrapped, fillvalue=Cell()):
            yield _row(columns, line, widths, width)


def _row(columns: Sequence[FittedColumn], cells: Sequence[Cell], widths: Sequence[int], width: int) -> Text:
    line = Text(no_wrap=True, overflow="crop")
    # The last column gets no padding, so that copied lines have no spaces at their end.
    for index, (column, cell, size) in enumerate(zip(columns, cells, widths, strict=True)):
        padding = " " * (size - cell_len(cell.text))
        last = index == len(columns) - 1
        line.append(padding if column.right else "")
        line.append(cell.text, style=cell.style)
        line.append(("" if column.right or last else padding) + ("" if last else " " * GAP))
    line.rstrip()
    line.truncate(width, overflow="crop")
    return line


def _limited(column: FittedColumn, room: int) -> FittedColumn:
    return replace(column, room=max(room, min(_NARROWEST_TEXT, column.width)))


def _wrapped(cell: Cell, room: int | None) -> list[Cell]:
    """Wrap a text between words into lines of at most ``room`` cells; a longer word is broken anywhere."""
    if room is None or cell_len(cell.text) <= room:
        return [cell]
    result = [""]
    for word in cell.text.split():
        longer = f"{result[-1]} {word}".lstrip()
        if cell_len(longer) <= room:
            result[-1] = longer
        else:
            result += chop_cells(word, room)
    return [Cell(line, cell.style) for line in result if line] or [Cell()]


def cut_to_width(text: str, width: int) -> str:
    """Cut a text to ``width`` cells; three dots mark the cut."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 3, 0)).rstrip() + "..."[: max(width, 0)]
