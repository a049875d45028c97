"""Guesses from a data file's columns which holds the text and which the label, and whether two texts are a pair."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finesweep.errors import DataProblem, printable
from finesweep.model.text_length import word_count
from finesweep.tasks import LabelColumn, LabelKind, label_cells, label_column

LOOKED_AT = 20_000
"""Maximum number of rows by which a column is judged."""

LABEL_NAMES = (
    *("label", "labels", "target", "class", "category", "sentiment", "intent", "topic", "score", "stars", "rating"),
    *("similarity", "gold", "y", "answer_label", "label_id", "label_name"),
)
_TEXT_NAMES = (
    *("text", "sentence", "review", "content", "body", "comment", "message", "document", "utterance", "question"),
)
_SELDOM_LABELS = frozenset(
    {"split", "fold", "id", "idx", "index", "date", "year", "lang", "language", "source", "user", "author", "gender"}
)
"""Columns with few values that describe a row but are seldom to be learned."""

_PAIRS = {
    "text": ("text_pair",),
    "premise": ("hypothesis",),
    "question": ("passage", "context", "answer"),
    "query": ("passage", "document"),
}
_TWINS = (("1", "2"), ("_a", "_b"), ("a", "b"))
_LONGEST_LABEL = 6
"""A label has fewer words than this on average."""

_OFFERED_WORDS = 2
"""Minimum average number of words of a second text that is offered as the other one of a pair."""

_FEWEST_FLAGS = 3
"""Minimum number of 0/1 columns that, if no column is named like a label, are several labels of one row."""

_FEWEST_LABELS = 10
"""This many different labels are never too many for the rows."""

_SHOWN = 20
_LIST_TEXT = re.compile(r"\[.*\]", re.DOTALL)
_LIST_ITEM = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,\[\]]+""")


@dataclass(frozen=True)
class Column:
    """Properties of a column by which its role is guessed.

    Attributes:
        name: Name in the file, or a made-up one.
        rows: Number of values that are not missing.
        values: Different values, as text, in the order of their first appearance.
        is_text: Whether every value is text and at least one is no number.
        nested: ``lists`` or ``mappings`` if the values are such; else empty.
        lists: Length of each value if all are lists, or lists written as text; else empty.
        length: Average characters of a value.
        words: Average words of a value, approximately.
        label: Judgement of the column as a label.
        labels: The different labels of all cells; they differ from the cells if these hold several.
    """

    name: str
    rows: int
    values: tuple[str, ...] = field(repr=False)
    is_text: bool
    nested: str
    lists: tuple[int, ...] = field(repr=False)
    length: float
    words: float
    label: LabelColumn
    labels: tuple[str, ...] = field(repr=False)

    @property
    def lowered(self) -> str:
        """The name in lower case."""
        return self.name.lower()

    @property
    def is_varied(self) -> bool:
        """Whether most values are different, as texts are and labels are not."""
        return len(self.values) > self.rows / 2

    def __str__(self) -> str:
        numbers = self.label.kind in (LabelKind.IDS, LabelKind.NUMBERS, LabelKind.DECIMAL_COMMAS)
        kind = self.nested or ("texts" if self.is_text else "numbers" if numbers else "values")
        return f"{printable(self.name, 40)!r} ({len(self.values):,} different {kind})"


@dataclass(frozen=True)
class Guess:
    """The guessed roles.

    Attributes:
        text: The text to learn from.
        pair: The second text of a pair.
        label: The column to be learned.
        second: Another text, which could be the second of a pair.
        flags: Columns of 0 and 1, one for each label, for which ``label`` stands; else empty.
    """

    text: Column
    pair: Column | None
    label: Column
    second: Column | None
    flags: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The task that fits the label."""
        if self.label.label.kind is LabelKind.SEVERAL:
            return "multi-label-classification"
        return "text-regression" if self.label.label.is_measure else "text-classification"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold the label."""
        return self.flags or (self.label.name,)

    @property
    def texts(self) -> tuple[Column, ...]:
        """The columns that the model reads."""
        return (self.text,) if self.pair is None else (self.text, self.pair)


class NoGuess(ValueError):
    """No column can be the text, or the label; the message lists the columns."""


def look(name: str, values: Sequence[Any], class_names: Sequence[str] | None = None) -> Column:
    """Describe a column.

    Args:
        name: Name of the column.
        values: Values as they were read; only the first ``LOOKED_AT`` are used.
        class_names: Names that the file gives to its numbers.
    """
    present = [value for value in values[:LOOKED_AT] if not _is_missing(value)]
    texts = [str(value).strip() for value in present]
    nested = [value for value in present if isinstance(value, list | dict)]
    words = sum(map(word_count, texts)) / max(len(texts), 1)
    is_list = bool(nested) and all(isinstance(value, list) for value in present)
    can_be_label = is_list if nested else words < _LONGEST_LABEL
    judged = label_column.look(present if can_be_label else [], name, class_names)
    return Column(
        name,
        rows=len(texts),
        values=tuple(dict.fromkeys(texts)),
        is_text=all(isinstance(value, str) for value in present) and not all(map(label_column.is_number, texts)),
        nested="" if not nested else "lists" if isinstance(nested[0], list) else "mappings",
        lists=tuple(_list_lengths(present)),
        length=sum(map(len, texts)) / max(len(texts), 1),
        words=words,
        label=judged,
        labels=_labels(present, class_names) if judged.kind is LabelKind.SEVERAL else tuple(dict.fromkeys(texts)),
    )


def guess(columns: Sequence[Column]) -> Guess:
    """Guess the role of each column.

    Raises:
        NoGuess: No column can be the text, or no other column the label.
    """
    texts = sorted((column for column in columns if _can_be_text(column)), key=_text_rank)
    labels = sorted((column for column in columns if _can_be_label(column)), key=_label_rank)
    if flags := _flags(columns):
        labels = [_joined(flags)]
    # The best label is chosen first: if texts repeat, a column can qualify for both roles.
    pairs = ((text, label) for label in labels for text in texts if text is not label)
    text, label = next(pairs, (None, None))
    if text is None or label is None:
        raise NoGuess(_refusal(columns, bool(texts), bool(labels)))
    others = [column for column in texts if column not in (text, label)]
    first, pair = _pair(text, others)
    second = next(_offered(others), None) if pair is None else None
    return Guess(first, pair, label, second, tuple(column.name for column in flags))


def _labels(present: Sequence[Any], class_names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the different labels of cells that hold several; empty if a cell cannot be read."""
    import pandas as pd

    cells = [tuple(value) if isinstance(value, list) else value for value in present]
    try:
        split, _ = label_cells.split({"train": pd.Series(cells, dtype=object)}, None)
    except DataProblem:
        return ()
    names = dict(enumerate(class_names or ()))
    found = dict.fromkeys(label for cell in split["train"] for label in cell if isinstance(label, str | int | float))
    return tuple(names.get(label, str(label)) if isinstance(label, int) else str(label) for label in found)


def _flags(columns: Sequence[Column]) -> Sequence[Column]:
    """Return the columns of 0 and 1 if they are several labels of one row: many, and no column has a label's name."""
    flags = [column for column in columns if set(column.values) in ({"0", "1"}, {"True", "False"})]
    return flags if len(flags) >= _FEWEST_FLAGS and named_label(columns) is None else []


def _joined(flags: Sequence[Column]) -> Column:
    """Return the column that stands for columns of 0 and 1."""
    names = tuple(column.name for column in flags)
    judged = LabelColumn(LabelKind.SEVERAL, False, len(names), flags[0].rows, "columns of 0 and 1")
    return replace(flags[0], name=", ".join(names), label=judged, labels=names)


def named_label(columns: Sequence[Column]) -> Column | None:
    """Return the best of the columns that are named like a label."""
    named = sorted((column for column in columns if _label_rank(column)[0] < len(LABEL_NAMES)), key=_label_rank)
    return next(iter(named), None)


def _is_missing(value: Any) -> bool:
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or is_nan or (isinstance(value, str) and not value.strip())


def _list_lengths(present: Sequence[Any]) -> list[int]:
    lengths = []
    for value in present:
        if isinstance(value, str) and _LIST_TEXT.fullmatch(value.strip()):
            lengths.append(len(_LIST_ITEM.findall(value)))
        elif isinstance(value, list):
            lengths.append(len(value))
        else:
            return []
    return lengths


def _can_be_text(column: Column) -> bool:
    return column.is_text and len(column.values) > 1


def _text_rank(column: Column) -> tuple[float, bool]:
    # Addresses and keys are long but are no texts.
    worth = column.length if column.words >= 1.5 else column.length / 10
    return -worth, column.lowered not in _TEXT_NAMES


def _can_be_label(column: Column) -> bool:
    if column.label.kind is LabelKind.SEVERAL:
        return 0 < len(column.labels) <= max(_FEWEST_LABELS, min(column.rows / 2, label_column.MOST_CLASSES))
    if column.nested or len(column.values) < 2 or column.words >= _LONGEST_LABEL:
        return False
    if column.label.is_measure:
        return column.label.kind is LabelKind.DECIMAL_COMMAS or _has_fractions(column) or column.lowered in LABEL_NAMES
    return len(column.values) <= 10 or len(column.values) <= min(column.rows / 2, label_column.MOST_CLASSES)


def _has_fractions(column: Column) -> bool:
    return not all(map(label_column.is_whole, column.values))


def _label_rank(column: Column) -> tuple[int, int]:
    named = next((i for i, name in enumerate(LABEL_NAMES) if column.lowered == name), len(LABEL_NAMES))
    if named == len(LABEL_NAMES) and any(name in column.lowered for name in LABEL_NAMES[:5]):
        named -= 1
    if column.lowered in _SELDOM_LABELS:
        named += 1
    return named, len(column.values)


def _offered(others: Sequence[Column]) -> Iterator[Column]:
    return (column for column in others if column.words >= _OFFERED_WORDS and column.is_varied)


def _pair(text: Column, others: Sequence[Column]) -> tuple[Column, Column | None]:
    """Return the two texts of a pair in order, judged by their names, or the text alone."""
    for other in others:
        for first, second in ((text, other), (other, text)):
            if _are_a_pair(first.lowered, second.lowered):
                return first, second
    return text, None


def _are_a_pair(first: str, second: str) -> bool:
    twins = any(
        first.endswith(one) and second.endswith(two) and first.removesuffix(one) == second.removesuffix(two)
        for one, two in _TWINS
    )
    return twins or second in _PAIRS.get(first, ())


def _refusal(columns: Sequence[Column], has_text: bool, has_label: bool) -> str:
    if not columns:
        return "no column with a name"
    missing = "the text" if not has_text else "the label" if not has_label else "the text beside the label"
    shown = ", ".join(map(str, columns[:_SHOWN])) + (", ..." if len(columns) > _SHOWN else "")
    return f"no column can be {missing}; there are {shown}"


def columns_of(names: Sequence[str], columns: Mapping[str, Sequence[Any]], named: Mapping[str, Any]) -> list[Column]:
    """Describe every column that a spec can name.

    Args:
        names: Names of the columns, in order.
        columns: Values by column.
        named: Class names by column, if the file has them.
    """
    usable = [name for name in names if 0 < len(name) <= 256 and "\0" not in name]
    return [look(name, columns[name], named.get(name)) for name in usable]
