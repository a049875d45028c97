"""Joins columns with a 0 or 1 for each label into one column of label lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from finesweep.data.readers import Table
from finesweep.errors import DataProblem
from finesweep.tasks.label_column import text_of

_YES, _NO = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})
_UNKNOWN = frozenset({"", "-1"})
"""Texts of an unknown flag; `-1` marks rows whose labels are kept secret."""


def joined(table: Table, columns: Sequence[str], column: str, name: str) -> Table:
    """Add a column with the names of the columns that hold a 1; None for a row with an unknown flag.

    Args:
        table: Has the columns.
        columns: One column for each label.
        column: Name of the new column; the labels become its class names.
        name: The split, for messages.

    Raises:
        DataProblem: A value is neither 0 nor 1.
    """
    flags = [[_flag(value) for value in table.columns[label]] for label in columns]
    for label, values in zip(columns, flags, strict=True):
        if _STRANGE in values:
            at = values.index(_STRANGE)
            found = f"{table.columns[label][at]!r} in {table.unit} {table.places[at]}"
            message = f"{name}: a column of several for the label holds 0 or 1, {label!r} has {found}"
            raise DataProblem("label", message, "name one column whose cells hold the labels, or columns of 0 and 1")
    rows = [_labels(columns, row) for row in zip(*flags, strict=True)]
    class_names = {**table.class_names, column: tuple(columns)}
    return dataclasses.replace(table, columns={**table.columns, column: rows}, class_names=class_names)


_STRANGE = "strange"


def _flag(value: Any) -> bool | str | None:
    text = text_of(value).casefold()
    return True if text in _YES else False if text in _NO else None if text in _UNKNOWN else _STRANGE


def _labels(columns: Sequence[str], flags: Sequence[Any]) -> list[str] | None:
    if None in flags:
        return None
    return [label for label, flag in zip(columns, flags, strict=True) if flag]
