"""Judges the meaning of a label column: classes, class ids, numbers, booleans, or several labels in one cell."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MANY = 20
"""Number of different values above which numbers are a measure, if they have fractions or are no class ids."""

FEW = 10
"""Whole numbers from 0 or 1 up to this many are classes in however few rows."""

MOST_CLASSES = 1_000
"""Maximum number of classes."""

_WHOLE = re.compile(r"[-+]?[0-9]+(\.0*)?")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+")
_GROUPED = re.compile(r"[-+]?[1-9][0-9]{0,2}(,[0-9]{3})+")
_NOT_FINITE = re.compile(r"[-+]?inf(inity)?", re.IGNORECASE)
_LIST = re.compile(r"[\[({].*[\])}]", re.DOTALL)
_NULLS = frozenset(
    {"null", "<null>", "#null!", "nan", "-nan", "<na>", "nat", "#n/a", "#na", "#value!", "#div/0!", "#ref!", "\\n"}
)
"""Words that programs write for a missing value; they are almost never the name of a class."""

_NO_NUMBERS = frozenset({"none", "na", "n/a", "n.a.", "undefined", "missing", "unknown", "-", "--", "?", "."})
"""Words that mean a missing value among numbers and booleans; among words they may be a class."""

_BOOLEANS = (("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"), ("1", "0"))
_MEASURES = frozenset(
    {"score", "price", "age", "points", "value", "amount", "count", "year", "length", "temperature", "percent"}
)
"""Words in the name of a column of numbers."""

_SEPARATORS = ("|", ";", ",")


class LabelKind(StrEnum):
    """Meaning of the labels of a column."""

    CLASSES = "classes"
    IDS = "class ids"
    BOOLEANS = "booleans"
    NUMBERS = "numbers"
    DECIMAL_COMMAS = "numbers with a decimal comma"
    SEVERAL = "several labels in one cell"


@dataclass(frozen=True)
class LabelColumn:
    """Judgement of a label column.

    Attributes:
        kind: Meaning of its labels.
        is_measure: Whether they are learned as numbers (`text-regression`) rather than as classes.
        values: Number of different labels, without missing ones.
        rows: Number of rows with a label.
        reason: Evidence, to be shown after a colon.
    """

    kind: LabelKind
    is_measure: bool
    values: int
    rows: int
    reason: str


def look(labels: Iterable[Any], name: str = "", class_names: Sequence[str] | None = None) -> LabelColumn:
    """Judge a label column.

    Args:
        labels: Values as they are in the file, also lists; None, NaN and empty texts are missing.
        name: The column's name; it decides if whole numbers could be classes or a measure.
        class_names: Names that the file gives to the numbers, as a Parquet file of `datasets` does.
    """
    labels = list(labels)
    lists = [label for label in labels if isinstance(label, list)]
    if lists:
        return LabelColumn(LabelKind.SEVERAL, False, len(set(map(str, lists))), len(lists), _as_lists(lists))
    counts = Counter(text for label in labels if (text := text_of(label)))
    for word in missing_words(counts):
        del counts[word]
    words = {text: count for text, count in counts.items() if not is_infinite(text)} or counts
    values, rows = len(words), sum(words.values())
    if class_names is not None:
        return LabelColumn(LabelKind.CLASSES, False, values, rows, f"{len(class_names):,} names come with the file")
    kind, is_measure, reason = _judged(words, values, rows, name)
    return LabelColumn(kind, is_measure, values, rows, reason)


def text_of(label: Any) -> str:
    """Return a label as text; an empty string for a missing one."""
    if label is None or label != label:
        return ""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label).strip()


def is_number(text: str) -> bool:
    """Return whether a text is a finite number, with a point before its fraction."""
    return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def is_whole(text: str) -> bool:
    """Return whether a text is a whole number; `3.0` is one."""
    return _WHOLE.fullmatch(text) is not None


def is_infinite(text: str) -> bool:
    """Return whether a text is an infinite number."""
    return _NOT_FINITE.fullmatch(text) is not None


def is_null(text: str) -> bool:
    """Return whether a text is a word that programs write for a missing value."""
    return text.casefold() in _NULLS


def missing_words(texts: Collection[str]) -> frozenset[str]:
    """Return those of a column's different labels that mean a missing label.

    `NULL`, `NaN` and the like always do. `None`, `NA`, `?` do only if all other labels are numbers or booleans, since
    they can be a class among words. None of them does if fewer than two labels would be left.
    """
    nulls = frozenset(filter(is_null, texts))
    maybe = frozenset(text for text in texts if text.casefold() in _NO_NUMBERS)
    rest = {text for text in texts if text not in nulls | maybe}
    plain = rest and all(is_number(text) or is_infinite(text) or _boolean(text) is not None for text in rest)
    found = nulls | maybe if plain else nulls
    return found if len({text for text in texts if text not in found}) > 1 else frozenset()


def decimal_comma(texts: Iterable[str]) -> bool:
    """Return whether texts are numbers with a decimal comma.

    They are if at least one has a comma, and all are numbers once commas are read as points. They are not if every
    comma could also separate thousands (`1,250`).
    """
    found = set(texts)
    commas = {text for text in found if "," in text}
    if not commas or not all(_DECIMAL_COMMA.fullmatch(text) for text in commas):
        return False
    others = all(is_whole(text) for text in found - commas)
    return others and not all(map(could_be_thousands, commas))


def could_be_thousands(text: str) -> bool:
    """Return whether every comma of a number could separate thousands."""
    return _GROUPED.fullmatch(text) is not None


def separator(texts: Collection[str]) -> str | None:
    """Return the character between several labels of one cell, None if each cell holds one label.

    Cells hold several if one part is at different positions in different cells, as `b` in `a|b` and `b`. In paths such
    as `sports|football` each part has one position.
    """
    return None if decimal_comma(texts) else parting_mark(texts)


def parting_mark(texts: Collection[str]) -> str | None:
    """Return the separator as above, without the check for numbers with a decimal comma."""
    for mark in _SEPARATORS:
        places = defaultdict(set)
        for text in texts:
            for place, part in enumerate(text.split(mark)):
                places[part.strip()].add(place)
        places.pop("", None)
        if any(len(found) > 1 for found in places.values()):
            return mark
    return None


def readings(train: Mapping[str, int], others: Collection[str] = ()) -> dict[str, str]:
    """Return the label that each text is read as.

    Labels that differ only in case, blanks, or zeros of a number are one; it is spelled as in most rows of train.
    Single letters are not joined. Booleans in several spellings are one too: lower case, and `true` and `false` if
    `yes` or `1` occurs beside `true`.

    Args:
        train: Number of rows of each label in train.
        others: Labels of the other splits.
    """
    everything = dict.fromkeys([*train, *others])
    pairs = {text: pair for text in everything if (pair := _boolean(text)) is not None}
    kinds = set(pairs.values())
    if len(pairs) == len(everything) and (len(everything) > 2 or len(kinds) > 1):
        words = kinds.pop() if len(kinds) == 1 else _BOOLEANS[0]
        return {text: words[text.casefold() == pair[1]] for text, pair in pairs.items()}
    spelled: dict[str, str] = {}
    for text in sorted(train, key=lambda text: (-train[text], text)):
        spelled.setdefault(_folded(text), text)
    return {text: spelled.get(_folded(text), text) for text in everything}


def is_list_text(text: str) -> bool:
    """Return whether a text looks like a list that a program has written."""
    return _LIST.fullmatch(text) is not None


def _as_lists(found: Sequence[Any]) -> str:
    return f"lists such as {str(found[0])[:40]}"


def _folded(text: str) -> str:
    if is_whole(text):
        return str(int(text.partition(".")[0]))
    if is_number(text):
        return repr(float(text))
    folded = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return folded if len(folded) > 1 else text


def _boolean(text: str) -> tuple[str, str] | None:
    """Return the pair of words for yes and no that a text belongs to; None if it is no boolean."""
    return next((pair for pair in _BOOLEANS if text.casefold() in pair), None)


def _judged(words: Mapping[str, int], values: int, rows: int, name: str) -> tuple[LabelKind, bool, str]:
    if words and all(is_number(text) for text in words):
        return _judged_numbers(words, values, rows, name)
    if words and all(_boolean(text) is not None for text in words):
        return LabelKind.BOOLEANS, False, "true or false"
    if decimal_comma(words):
        is_measure = not _are_few(values, rows)
        return LabelKind.DECIMAL_COMMAS, is_measure, f"{values:,} different numbers with a decimal comma"
    if all(map(is_list_text, words)) and words:
        return LabelKind.SEVERAL, False, _as_lists(list(words))
    if (mark := separator(words)) is not None:
        example = next(text for text in words if mark in text)
        return LabelKind.SEVERAL, False, f"{example[:40]!r} holds labels with {mark!r} between them"
    return LabelKind.CLASSES, False, f"{values:,} different texts"


def _judged_numbers(words: Mapping[str, int], values: int, rows: int, name: str) -> tuple[LabelKind, bool, str]:
    if not all(is_whole(text) for text in words):
        reason = f"{values:,} different numbers, with fractions"
        few = _are_few(values, rows)
        return (LabelKind.CLASSES, False, reason) if few else (LabelKind.NUMBERS, True, reason)
    numbers = sorted({int(text.partition(".")[0]) for text in words})
    low, high = numbers[0], numbers[-1]
    gapless = high - low + 1 == len(numbers)
    reason = f"{values:,} whole numbers from {low} to {high}{' without a gap' if gapless else ''}"
    counted = gapless and low in (0, 1)
    ids = counted and values <= min(MOST_CLASSES, rows / 2) and not _names_measure(name)
    few = _are_few(values, rows) or (counted and values <= FEW)
    return (LabelKind.IDS, False, reason) if ids or few else (LabelKind.NUMBERS, True, reason)


def _are_few(values: int, rows: int) -> bool:
    return values <= 2 or (values <= MANY and values <= rows / 2)


def _names_measure(name: str) -> bool:
    return not _MEASURES.isdisjoint(re.split(r"[^a-z]+", name.casefold()))
