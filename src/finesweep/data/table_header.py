"""Judges whether the first line of a CSV or TSV is a header or a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finesweep.tasks.label_column import is_number
from finesweep.text import shortened

LOOKED_AT = 20_000
"""Maximum number of rows that are compared with the first line."""

_OFTEN = """
text texts text1 text2 text_a text_b text_pair sentence sentence1 sentence2 title body
content message review comment document question answer premise hypothesis query passage
context utterance tweet post summary description label labels label_id label_name
label_text target class category topic sentiment intent score rating stars gold
similarity id idx index guid uid uuid name date time timestamp user author source url
lang language split
"""
_NAMES = frozenset(_OFTEN.split())
"""Frequent column names; a first line with one of them is a header."""

_DATE = re.compile(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}\b.*", re.DOTALL)
_LONG_WORDS = 6
_LONGEST_NAME = 60
_FEW_VALUES = 50
_FEW_ROWS = 8
"""Minimum number of rows for a column to show that a value is not among its own."""


@dataclass(frozen=True)
class HeaderLook:
    """Judgement of a first line.

    Attributes:
        is_header: Whether it names the columns.
        evidence: Why it is a row, to be shown after a colon; empty for a header.
        certain: Whether the judgement holds whatever names the spec gives to the columns.
        names: Proposed names of the columns; empty for a header.
    """

    is_header: bool
    evidence: str = ""
    certain: bool = False
    names: tuple[str, ...] = ()


def look(first: Sequence[str], rows: Sequence[Sequence[str]]) -> HeaderLook:
    """Judge the first line of a file.

    Args:
        first: Its cells.
        rows: The rows below, of the same width; only the first ``LOOKED_AT`` are compared.
    """
    cells = [cell.strip() for cell in first]
    below = [row for row in rows[:LOOKED_AT] if list(row) != list(first)]
    columns = [Counter(row[place].strip() for row in below) for place in range(len(cells))]
    pairs = [(cell, column) for cell, column in zip(cells, columns, strict=True) if cell]
    for column in columns:
        del column[""]
    usual = [cell for cell in cells if cell.casefold() in _NAMES]
    if len(usual) > 1 or (usual and not any(cell in column for cell, column in pairs)):
        return HeaderLook(True, certain=True)
    for cell, column in pairs:
        if cell in column:
            evidence = f"{_shown(cell)} stands in its column {_times(column[cell])}"
            return HeaderLook(False, evidence, not usual, _made_up(columns))
    if any(_is_no_value(cell, column) for cell, column in pairs if column):
        return HeaderLook(True, certain=True)
    evidence, certain = _evidence(cells, pairs)
    return HeaderLook(False, evidence, certain, _made_up(columns)) if evidence else HeaderLook(True)


def _times(count: int) -> str:
    return "once more" if count == 1 else f"{count:,} times more"


def _evidence(cells: Sequence[str], pairs: Sequence[tuple[str, Counter[str]]]) -> tuple[str, bool]:
    """Return why the cells by themselves look like a row, and whether that is certain."""
    for cell, column in pairs:
        if column and _is_figure(cell) and all(map(_is_figure, column)):
            return f"{_shown(cell)} is a number, as all below it", True
    for cell in cells:
        if _is_figure(cell):
            return f"{_shown(cell)} is a number", False
        if len(cell.split()) >= _LONG_WORDS or len(cell) > _LONGEST_NAME:
            return f"{_shown(cell)} is a long text", False
    return "", False


def _made_up(columns: Sequence[Counter[str]]) -> tuple[str, ...]:
    """Name the longest column `text`, the one with the fewest values `label`, the others by their position."""
    names = [f"column{place}" for place in range(1, len(columns) + 1)]
    lengths = [sum(len(value) * n for value, n in column.items()) for column in columns]
    text = max(range(len(columns)), key=lengths.__getitem__)
    others = [place for place, column in enumerate(columns) if place != text and len(column) > 1]
    names[text] = "text"
    if others:
        names[min(others, key=lambda place: len(columns[place]))] = "label"
    return tuple(names)


def _is_no_value(cell: str, column: Counter[str]) -> bool:
    """Return whether a column of numbers, or of few values, has a first cell of another kind."""
    if column.total() >= 2 and all(map(_is_figure, column)):
        return not _is_figure(cell)
    return column.total() >= _FEW_ROWS and len(column) <= min(_FEW_VALUES, column.total() / 2)


def _is_figure(cell: str) -> bool:
    return is_number(cell) or _DATE.fullmatch(cell) is not None


def _shown(cell: str) -> str:
    return repr(shortened(cell, 40))
