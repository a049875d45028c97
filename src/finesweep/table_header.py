"""Judges whether the first line of a CSV or TSV names the columns, or is a row already."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finesweep.label_column import is_number

LOOKED_AT = 20_000
"""Rows that are held against the first line."""

_OFTEN = """
text texts text1 text2 text_a text_b text_pair sentence sentence1 sentence2 title body
content message review comment document question answer premise hypothesis query passage
context utterance tweet post summary description label labels label_id label_name
label_text target class category topic sentiment intent score rating stars gold
similarity id idx index guid uid uuid name date time timestamp user author source url
lang language split
"""
_NAMES = frozenset(_OFTEN.split())
"""What columns are often called; a first line with one of these is a header."""

_DATE = re.compile(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}\b.*", re.DOTALL)
_LONG_WORDS = 6
_LONGEST_NAME = 60
_FEW_VALUES = 50
_FEW_ROWS = 8
"""Rows that a column must have before it says anything that a value is not among its own."""


@dataclass(frozen=True)
class HeaderLook:
    """What a first line looks like.

    Attributes:
        is_header: Whether it names the columns.
        evidence: What tells that it is a row, to be shown after a colon; empty for a header.
        certain: Whether that outweighs that a spec names columns as this line has them.
    """

    is_header: bool
    evidence: str = ""
    certain: bool = False


def look(first: Sequence[str], rows: Sequence[Sequence[str]]) -> HeaderLook:
    """Judge the first line of a file.

    Args:
        first: Its cells.
        rows: The rows below, each as wide; the first ``LOOKED_AT`` count.
    """
    cells = [cell.strip() for cell in first]
    if any(cell.casefold() in _NAMES for cell in cells):
        return HeaderLook(True)
    columns = [Counter(row[place].strip() for row in rows[:LOOKED_AT]) for place in range(len(cells))]
    columns = [Counter({value: n for value, n in column.items() if value}) for column in columns]
    pairs = [(cell, column) for cell, column in zip(cells, columns, strict=True) if cell and column]
    for cell, column in pairs:
        if cell in column:
            times = "once more" if column[cell] == 1 else f"{column[cell]:,} times more"
            return HeaderLook(False, f"{_shown(cell)} stands in its column {times}", certain=True)
    if any(_is_no_value(cell, column) for cell, column in pairs):
        return HeaderLook(True)
    for cell, column in pairs:
        if _is_figure(cell) and all(map(_is_figure, column)):
            return HeaderLook(False, f"{_shown(cell)} is a number, as all below it", certain=True)
    for cell in cells:
        if _is_figure(cell):
            return HeaderLook(False, f"{_shown(cell)} is a number")
        if len(cell.split()) >= _LONG_WORDS or len(cell) > _LONGEST_NAME:
            return HeaderLook(False, f"{_shown(cell)} is a long text")
    return HeaderLook(True)


def _is_no_value(cell: str, column: Counter[str]) -> bool:
    """Say whether a column of numbers, or of few values, has a cell on top that is none of its kind."""
    if column.total() >= 2 and all(map(_is_figure, column)):
        return not _is_figure(cell)
    return column.total() >= _FEW_ROWS and len(column) <= min(_FEW_VALUES, column.total() / 2)


def _is_figure(cell: str) -> bool:
    return is_number(cell) or _DATE.fullmatch(cell) is not None


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:37] + "...")
