"""Splits label cells that hold several labels: texts with a separator, lists, and lists of 0 and 1."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finesweep.errors import DataProblem
from finesweep.tasks.label_column import is_list_text, parting_mark, text_of

if TYPE_CHECKING:
    import pandas as pd

_LONGEST_LIST = 10_000
"""Maximum characters of a list that is written as text."""

_UNSURE = ","
"""A character that also occurs within names; it separates labels only if the cells show it."""

_SURE = ("|", ";")


def split(labels: Mapping[str, pd.Series], separator: str | None) -> tuple[dict[str, pd.Series], list[str]]:
    """Return the labels of each row as a tuple, as they are written, and remarks for the user.

    Args:
        labels: Cells by split: texts, single values, or tuples, which are lists of the file.
        separator: Text between two labels; None to find it from the cells.

    Raises:
        DataProblem: A text that should be a list is none.
    """
    import pandas as pd

    texts = {cell for column in labels.values() for cell in column if isinstance(cell, str) and cell}
    notes: list[str] = []
    if texts and separator is None and all(map(is_list_text, texts)):
        cells = {name: [_read(cell, name) for cell in column] for name, column in labels.items()}
    else:
        mark, notes = _mark(texts, separator)
        cells = {name: [_parts(cell, mark) for cell in column] for name, column in labels.items()}
    if (size := _flags([cell for column in cells.values() for cell in column])) is not None:
        notes.append(f"The lists hold a 0 or 1 for each of {size:,} labels, which are called 0 to {size - 1:,}.")
        cells = {name: [_ones(cell) for cell in column] for name, column in cells.items()}
    return {name: pd.Series(column, labels[name].index, dtype=object) for name, column in cells.items()}, notes


def _mark(texts: Iterable[str], separator: str | None) -> tuple[str | None, list[str]]:
    """Return the text between two labels, None if a cell is one label, with a remark."""
    found = list(texts)
    holding = {mark: sum(mark in text for text in found) for mark in (separator, *_SURE, _UNSURE) if mark}
    if separator is not None:
        unused = f"No label cell holds the separator {separator!r}."
        return separator, [] if holding[separator] or not found else [unused]
    mark = parting_mark(found) or next((mark for mark in _SURE if holding[mark]), None)
    if mark is not None:
        return mark, [f"Labels are parted at {mark!r} (`data: {{label_separator: ...}}` names another separator)."]
    if holding[_UNSURE]:
        hint = "`data: {label_separator: ','}` parts labels there"
        return None, [f"A comma in a label cell is taken for a part of one label's name ({hint})."]
    return None, []


def _parts(cell: Any, mark: str | None) -> tuple[Any, ...]:
    if isinstance(cell, tuple):
        return cell
    if not isinstance(cell, str):
        return (cell,)
    parts = cell.split(mark) if mark is not None else [cell]
    return tuple(part.strip() for part in parts if part.strip())


def _read(cell: Any, name: str) -> tuple[Any, ...]:
    """Read a list that is written as text, in Python's or JSON's notation."""
    if not isinstance(cell, str) or not cell:
        return _parts(cell, None)
    try:
        # literal_eval runs no code, but a long text can exhaust the memory or the stack.
        found = ast.literal_eval(cell) if len(cell) <= _LONGEST_LIST else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list | tuple | set) or not all(isinstance(item, str | int | float) for item in found):
        raise DataProblem(name, f"the label {cell[:40]!r} is no list of labels", "write labels with '|' between them")
    return tuple(item for item in (sorted(found, key=str) if isinstance(found, set) else found) if text_of(item))


def _ones(cell: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(at for at, flag in enumerate(cell) if flag)


def _flags(cells: Sequence[tuple[Any, ...]]) -> int | None:
    """Return the number of labels if each list has a 0 or 1 for each label; None for lists of labels.

    Lists of labels would not all have the same length, nor contain a label twice.
    """
    size = len(cells[0]) if cells else 0
    if size < 2 or any(len(cell) != size for cell in cells):
        return None
    is_flags = all(isinstance(item, int | float) and item in (0, 1) for cell in cells for item in cell)
    return size if is_flags and any(len(set(cell)) < size for cell in cells) else None
