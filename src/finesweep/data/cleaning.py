"""Drops the rows of a table that cannot be used, and tells the user which and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from finesweep.data.readers import Table
from finesweep.errors import DataProblem
from finesweep.tasks.label_column import is_null, is_number, text_of

_NO_TEXT = object()
_NO_LABEL = object()
_SHOWN = 5
_UNLABELLED = -1
"""Integer by which data sets with class names mark a row whose label is kept secret."""


def clean_rows(
    table: Table, roles: Mapping[str, str], name: str, *, several: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Keep the rows that have text and a label.

    Args:
        table: Rows as they were read; has all columns of ``roles``.
        roles: Column by role: ``text``, ``text_pair``, ``label``, ``group``.
        name: The split, for messages.
        several: Whether a row may have several labels: a list of the file becomes a tuple, an empty text an empty
            tuple.

    Returns:
        A column per role, texts as ``str`` and labels as they were read, indexed by the place of each row; and a remark
        for every kind of dropped row.

    Raises:
        DataProblem: No row can be used, or a value of the label column is no label, as a list.
    """
    columns = {role: list(table.columns[column]) for role, column in roles.items()}
    for role in columns.keys() & {"text", "text_pair"}:
        columns[role] = [_text(value) for value in columns[role]]
    secret = _UNLABELLED if roles["label"] in table.class_names else None
    read = _labels if several else _label
    known = dict(enumerate(table.class_names.get(roles["label"], ())))
    columns["label"] = [_named(read(value, secret), known) for value in columns["label"]]
    _check_labels(table, columns["label"], name)
    usable, notes = np.ones(len(table.places), dtype=bool), [*_text_notes(table, roles, name)]
    for role, words, bad in _faults(columns):
        if bad.all():
            raise DataProblem(role, f"{name}: every row has {words} in {roles[role]!r}", _hint(role, table, roles))
        if (dropped := bad & usable).any():
            notes.append(f"{name}: {_rows(dropped, table)} with {words} in {roles[role]!r} left out.")
        usable &= ~bad
    if not usable.any():
        raise DataProblem("text", f"{name}: no row has both text and a label")
    index = pd.Index(np.asarray(table.places), name=table.unit)
    frame = pd.DataFrame({role: pd.Series(values, index=index, dtype=object) for role, values in columns.items()})
    return frame[usable], notes


def _text(value: Any) -> Any:
    """Return a text, None for a missing one, ``_NO_TEXT`` for a value that cannot be read as text."""
    if isinstance(value, str):
        return value if value.strip() else None
    # NaN is the only value that differs from itself.
    if value is None or value != value:
        return None
    return str(value) if isinstance(value, bool | int | float | Decimal) else _NO_TEXT


def _label(value: Any, secret: int | None) -> Any:
    """Return a label, None for a missing one, ``_NO_LABEL`` for a value that is no label."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None or value != value or (value == secret and secret is not None):
        return None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, bool | int | float) else _NO_LABEL


def _labels(value: Any, secret: int | None) -> Any:
    """Return the labels of a list as a tuple, an empty tuple for an empty text, any other value as ``_label`` does."""
    if isinstance(value, list):
        found = [_label(item, secret) for item in value]
        return _NO_LABEL if _NO_LABEL in found else tuple(label for label in found if label is not None)
    return () if isinstance(value, str) and not value.strip() else _label(value, secret)


def _named(label: Any, names: Mapping[int, str]) -> Any:
    """Replace class positions by the names that the file has for them."""
    if isinstance(label, tuple):
        return tuple(_named(one, names) for one in label)
    return label if isinstance(label, str | bool) else names.get(label, label)


def _text_notes(table: Table, roles: Mapping[str, str], name: str) -> Iterator[str]:
    """Yield remarks on texts that look wrong: numbers, and words that programs write for a missing value."""
    for role in ("text", "text_pair"):
        if role not in roles:
            continue
        values = table.columns[roles[role]]
        texts = [value for value in values if isinstance(value, str) and value.strip()]
        numbers = np.fromiter((isinstance(value, int | float | Decimal) and value == value for value in values), bool)
        if texts and not numbers.any() and all(is_number(text.strip()) for text in texts):
            yield f"{name}: every text in {roles[role]!r} is a number; is this the right column?"
        if numbers.any():
            yield f"{name}: {_rows(numbers, table)} with a number in {roles[role]!r}, taken as text."
        nulls = np.fromiter((isinstance(value, str) and is_null(value.strip()) for value in values), bool)
        if nulls.any():
            example = values[int(np.flatnonzero(nulls)[0])].strip()
            yield f"{name}: {_rows(nulls, table)} with only a word such as {example!r} in {roles[role]!r}, kept."


def without_labels(frame: pd.DataFrame, words: Collection[str], name: str) -> tuple[pd.DataFrame, str]:
    """Drop the rows whose label is a word for a missing one.

    Args:
        frame: Clean rows.
        words: Words for a missing label.
        name: The split, for messages.

    Returns:
        The other rows; and a remark, empty if there are no such rows.

    Raises:
        DataProblem: No row is left.
    """
    texts = [text_of(label) for label in frame["label"]]
    bad = np.fromiter((text in words for text in texts), dtype=bool, count=len(texts))
    if not bad.any():
        return frame, ""
    found = ", ".join(repr(text) for text in sorted(set(texts) & set(words)))
    if bad.all():
        raise DataProblem("label", f"{name}: every row has {found} for a label", "is this the right column?")
    unit = str(frame.index.name)
    what = f"{found} for a label, taken as none and left out (data.labels: as_written keeps them)"
    return frame[~bad], f"{name}: {_counted(list(frame.index[bad]), unit)} with {what}."


def _check_labels(table: Table, labels: Sequence[Any], name: str) -> None:
    wrong = [place for place, label in zip(table.places, labels, strict=True) if label is _NO_LABEL]
    if wrong:
        message = f"{name}: the label in {table.unit} {wrong[0]} is neither a number nor text nor a boolean"
        raise DataProblem("label", message, "several labels a row: `task: multi-label-classification`")


def _faults(columns: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield role, words and mask of everything that makes a row unusable."""
    for role in ("text", "text_pair"):
        if role in columns:
            yield role, "no text", np.fromiter((value is None for value in columns[role]), dtype=bool)
            alien = np.fromiter((value is _NO_TEXT for value in columns[role]), dtype=bool)
            yield role, "something other than text", alien
    yield "label", "no label", np.fromiter((value is None for value in columns["label"]), dtype=bool)


def _hint(role: str, table: Table, roles: Mapping[str, str]) -> str:
    if role == "label" and roles["label"] in table.class_names:
        return "-1 marks rows whose label is kept secret; name another split"
    return "is this the right column?"


def _rows(mask: np.ndarray, table: Table) -> str:
    return _counted([table.places[int(at)] for at in np.flatnonzero(mask)], table.unit)


def _counted(places: Sequence[int], unit: str) -> str:
    """Format a number of rows with the first places: ``3 rows (lines 4, 9, 12)``."""
    if len(places) == 1:
        return f"1 row ({unit} {places[0]})"
    more = ", ..." if len(places) > _SHOWN else ""
    return f"{len(places):,} rows ({unit}s {', '.join(map(str, places[:_SHOWN]))}{more})"
