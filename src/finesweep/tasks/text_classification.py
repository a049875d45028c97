"""Owns text classification: one class per text, learned with cross entropy."""

from __future__ import annotations

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from finesweep.errors import did_you_mean
from finesweep.tasks.label_column import (
    MANY,
    MOST_CLASSES,
    LabelKind,
    decimal_comma,
    is_infinite,
    is_number,
    is_whole,
    look,
    readings,
)
from finesweep.tasks.naive_answer import Naive
from finesweep.tasks.task import EncodedLabels, LabelProblem
from finesweep.trial import Direction

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FEW_CLASSES = 10
"""Up to this many classes are never too many for the rows there are."""

_ROWS_AT_ONCE = 4_096
"""Rows whose cross entropy is computed in one go: of a thousand classes they take 100 MB."""

_SHOWN = 10
_LONGEST = 40
_UNLABELLED = ("-1", "-100")
_PERHAPS_NONE = ("None", "none", "NA", "N/A", "n/a")
_AS_WRITTEN = "`data: {labels: as_written}` takes each as it stands"


class TextClassification:
    """One of several classes for each text; labels may be integers, texts or booleans."""

    metrics: ClassVar[Mapping[str, Direction]] = {
        "eval_loss": Direction.MINIMIZE,
        "eval_accuracy": Direction.MAXIMIZE,
        "eval_macro_f1": Direction.MAXIMIZE,
    }
    standardizes: ClassVar[bool] = False
    unusable: ClassVar[Mapping[str, str]] = {}
    stratified: ClassVar[bool] = True
    pipeline: ClassVar[str] = "text-classification"

    def encode(
        self, labels: Mapping[str, pd.Series], names: Sequence[str] | None, *, as_written: bool = False
    ) -> EncodedLabels:
        """Turn labels into class ids.

        Args:
            labels: Label column by split, without missing values. Integers, numbers that are whole,
                texts (trimmed) and booleans; the same value may be written in any of these ways.
            names: Class names that come with the data set; labels are then names, or else their positions.
            as_written: Whether each different label is a class. Otherwise labels that differ in case or blanks
                are one, and labels that hold several or are infinite are refused.

        Raises:
            LabelProblem: There is one class, there are too many, the labels are a measure, or a split
                has labels that train lacks.
        """
        texts = _texts(labels)
        notes: list[str] = []
        if names is not None:
            texts = {split: _as_names(column, names) for split, column in texts.items()}
        elif not as_written:
            _check_meaning(texts)
            texts, notes = _joined(texts)
        train = Counter(texts["train"])
        _check_classes(train, len(names or ()), as_written=as_written)
        order = tuple(_sorted(train) if names is None else names)
        if names is not None:
            _check_known(texts, order, f"there are names for 0 to {len(order) - 1} only")
        elif not as_written:
            notes += _meaning_notes(train)
        _check_known(texts, train, f"train has only {_list(_sorted(train))}")
        ids = {text: position for position, text in enumerate(order)}
        splits = {split: [ids[text] for text in column] for split, column in texts.items()}
        return EncodedLabels(splits, order, (*notes, *_alike_notes(order), *_absent_notes(splits, order)))

    def head(self, names: Sequence[str] | None) -> dict[str, Any]:
        """Return the config fields of a head with one output per class."""
        names = names or ()
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: position for position, name in enumerate(names)},
            "problem_type": "single_label_classification",
        }

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Score class predictions.

        Returns:
            ``accuracy`` and ``macro_f1``, the mean F1 over the classes that are present or predicted.
        """
        from sklearn.metrics import accuracy_score, f1_score

        truth, predicted = labels.ravel(), logits.argmax(axis=-1).ravel()
        with warnings.catch_warnings():
            # Many classes in few rows look to scikit-learn like a regression; they are not.
            warnings.filterwarnings("ignore", message="The number of unique classes")
            f1 = f1_score(truth, predicted, average="macro", zero_division=0)
        return {"accuracy": float(accuracy_score(truth, predicted)), "macro_f1": float(f1)}

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the mean cross entropy."""
        starts = range(0, len(labels), _ROWS_AT_ONCE)
        losses = (_cross_entropy(logits[start : start + _ROWS_AT_ONCE], labels[start:]) for start in starts)
        return math.fsum(losses) / len(labels)

    def naive(self, train: np.ndarray, validation: np.ndarray, names: Sequence[str] | None) -> Naive:
        """Return what answering the most frequent class scores, its loss with the classes' shares in train.

        Its macro F1 is below that of guessing, which is what a model is held against.
        """
        import numpy as np

        classes = len(names or ())
        # A class that train has no row of would cost an infinite loss.
        shares = np.maximum(np.bincount(train, minlength=classes), 0.5) / len(train)
        answer = int(shares.argmax())
        losses = {"eval_loss": float(-np.log(shares[validation]).mean())}
        accuracy = float(np.mean(validation == answer))
        scores = {"eval_accuracy": accuracy, "eval_macro_f1": 1 / len(np.unique(validation))}
        return Naive.of((names or ())[answer], losses, scores, len(validation))

    def naive_loss(self, labels: np.ndarray, names: Sequence[str] | None) -> float:
        """Return the cross entropy of equal probabilities, ln(classes)."""
        return math.log(len(names or ()))


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the sum of the rows' cross entropy."""
    import numpy as np

    with np.errstate(all="ignore"):
        shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
        right = np.take_along_axis(shifted, labels[: len(logits), None], axis=-1)[:, 0]
        return float(np.sum(np.log(np.exp(shifted).sum(axis=-1)) - right))


def _texts(labels: Mapping[str, pd.Series]) -> dict[str, list[str]]:
    """Write labels as text; if all are whole numbers, then without the ``.0`` that a missing value gives them."""
    texts = {split: [str(value).strip() for value in series] for split, series in labels.items()}
    distinct = set().union(*texts.values())
    if any("." in text for text in distinct) and all(is_whole(text) for text in distinct):
        return {split: [text.partition(".")[0] for text in column] for split, column in texts.items()}
    return texts


def _as_names(texts: Sequence[str], names: Sequence[str]) -> list[str]:
    """Read labels as names, or else as positions in them."""
    positions = {str(position): name for position, name in enumerate(names)}
    return [text if text in names else positions.get(text, text) for text in texts]


def _check_meaning(texts: Mapping[str, Sequence[str]]) -> None:
    """Refuse labels that are no classes: infinite numbers, and cells that hold several labels."""
    for split, column in texts.items():
        distinct = set(column)
        infinite = sorted(filter(is_infinite, distinct))
        if infinite and all(is_number(text) or is_infinite(text) for text in distinct):
            message = f"{_list(infinite)} among the labels, which are numbers ({_rows_of(infinite, column)})"
            raise LabelProblem(split, message, f"remove these rows; {_AS_WRITTEN}")
    found = look(texts["train"])
    if found.kind is LabelKind.SEVERAL:
        raise LabelProblem("train", f"several labels in one cell: {found.reason}", f"one is learned; {_AS_WRITTEN}")


def _joined(texts: Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """Join labels that are one label written in several ways; return them with a note."""
    read = readings(Counter(texts["train"]), {text for column in texts.values() for text in column})
    ways = defaultdict(list)
    for text, name in read.items():
        ways[name].append(text)
    joined = [f"{_list(sorted(found))} as {name!r}" for name, found in sorted(ways.items()) if found != [name]]
    more = f" and {len(joined) - _SHOWN:,} more" if len(joined) > _SHOWN else ""
    notes = [f"Labels written in several ways are one: {'; '.join(joined[:_SHOWN])}{more} ({_AS_WRITTEN})."]
    splits = {split: [read[text] for text in column] for split, column in texts.items()}
    return splits, notes if joined else []


def _meaning_notes(train: Counter[str]) -> Iterator[str]:
    """Remark classes that may be meant as something else."""
    found = look(train.elements())
    if (found.is_measure and len(train) > FEW_CLASSES) or found.kind is LabelKind.DECIMAL_COMMAS:
        yield f"The labels are {found.reason}, taken as classes; for a measure: `task: text-regression`."
    if empty := [text for text in train if text in _PERHAPS_NONE]:
        yield f"The label {_list(sorted(empty))} is a class like others ({_rows_of(empty, train.elements())})."
    if paths := [text for text in train if "|" in text]:
        yield f"A label with '|' in it, as {_list(sorted(paths)[:1])}, is one class."
    numbers = [text for text in train if is_number(text)]
    if numbers and len(numbers) < len(train):
        yield f"The labels {_list(_sorted(numbers))} are numbers, others are words; all are classes."


def _rows_of(texts: Collection[str], column: Iterable[str]) -> str:
    count = sum(1 for text in column if text in texts)
    return "1 row" if count == 1 else f"{count:,} rows"


def _sorted(texts: Iterable[str]) -> list[str]:
    """Put numbers in the order of their values, anything else in that of its letters."""
    found = set(texts)
    if decimal_comma(found):
        return sorted(found, key=lambda text: (float(text.replace(",", ".")), text))
    return sorted(found, key=lambda text: (float(text), text)) if all(map(is_number, found)) else sorted(found)


def _check_classes(train: Counter[str], named: int, *, as_written: bool) -> None:
    rows = train.total()
    if len(train) == 1:
        raise LabelProblem("train", *_constant(next(iter(train))))
    commas = decimal_comma(train)
    measured = commas or all(is_number(text) for text in train)
    broken = commas or (measured and not all(is_whole(text) for text in train))
    hint = "for a measure: `task: text-regression`" if measured else "is this column the text or an id?"
    if broken and len(train) > MANY and not as_written:
        kind = "decimal commas" if commas else "fractions"
        raise LabelProblem("train", f"{len(train):,} different labels with {kind}; classes are expected", hint)
    if max(len(train), named) > MOST_CLASSES:
        raise LabelProblem("train", f"{max(len(train), named):,} classes; at most {MOST_CLASSES:,} are allowed", hint)
    if len(train) > FEW_CLASSES and len(train) > rows / 2:
        raise LabelProblem("train", f"{len(train):,} different labels in {rows:,} rows; classes are expected", hint)
    if rows < named:
        raise LabelProblem("train", f"{rows:,} rows for {named:,} classes", "give more rows")


def _constant(label: str) -> tuple[str, str]:
    if label in _UNLABELLED:
        return f"every label is {label}, which marks rows without one", "give labelled rows"
    return f"every label is {label!r}; at least two classes are needed", "is this the right column?"


def _check_known(texts: Mapping[str, Sequence[str]], known: Collection[str], why: str) -> None:
    for split, column in texts.items():
        unknown = Counter(text for text in column if text not in known)
        if unknown:
            count = f"{unknown.total():,} of {len(column):,} rows"
            message = f"{_list(_sorted(unknown))} cannot be learned ({count}); {why}"
            raise LabelProblem(split, message, did_you_mean(next(iter(unknown)), known))


def _alike_notes(names: Sequence[str]) -> Iterator[str]:
    alike = defaultdict(list)
    for name in names:
        alike[" ".join(name.casefold().split())].append(name)
    for same in alike.values():
        if len(same) > 1:
            yield f"The labels {_list(same)} differ only in case or spaces and are separate classes."


def _absent_notes(splits: Mapping[str, Sequence[int]], names: Sequence[str]) -> Iterator[str]:
    for split, column in splits.items():
        present = set(column)
        absent = [name for position, name in enumerate(names) if position not in present]
        if absent:
            yield f"No row of {split} has the label {_list(absent)}."


def _list(names: Sequence[str]) -> str:
    """List the first few names."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name if len(name) <= _LONGEST else name[:_LONGEST] + "...") for name in names[:_SHOWN]) + more
