"""Learns one class for each text, by cross entropy."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from finesweep.errors import DataProblem
from finesweep.tasks import label_names
from finesweep.tasks.label_column import (
    MANY,
    MOST_CLASSES,
    LabelKind,
    decimal_comma,
    is_infinite,
    is_number,
    is_whole,
    look,
)
from finesweep.tasks.label_names import AS_WRITTEN, FEW_CLASSES, listed
from finesweep.tasks.naive_answer import Naive
from finesweep.tasks.protocol import EncodedLabels, scores_of
from finesweep.trial import Direction

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

_ROWS_AT_ONCE = 4_096
"""Rows whose cross entropy is computed at once; with 1,000 classes they take 100 MB."""

_UNLABELLED = ("-1", "-100")
_PERHAPS_NONE = ("None", "none", "NA", "N/A", "n/a")


class TextClassification:
    """One of several classes for each text; labels may be integers, texts or booleans."""

    metrics: ClassVar[Mapping[str, Direction]] = {
        "eval_loss": Direction.MINIMIZE,
        "eval_accuracy": Direction.MAXIMIZE,
        "eval_macro_f1": Direction.MAXIMIZE,
    }
    standardizes: ClassVar[bool] = False
    unusable: ClassVar[Mapping[str, str]] = {}
    takes_several: ClassVar[bool] = False
    split_by: ClassVar[str] = "stratified by label"
    model_class: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str] = "text-classification"
    pipeline_options: ClassVar[Mapping[str, Any]] = {}
    answer: ClassVar[str] = ""

    def encode(
        self, labels: Mapping[str, pd.Series], names: Sequence[str] | None, *, as_written: bool = False
    ) -> EncodedLabels:
        """Encode labels as class ids.

        Args:
            labels: Label column by split, without missing values: integers, numbers that are whole, texts (trimmed) and
                booleans; the same value may be written in any of these ways.
            names: Class names that come with the data set; labels are then names, or else their positions.
            as_written: Whether each spelling is a class of its own. Otherwise labels that differ in case or blanks are
                one, and labels that hold several or are infinite are refused.

        Raises:
            DataProblem: There is one class, there are too many, the labels are a measure, or a split has labels that
                train lacks.
        """
        texts = label_names.texts(labels)
        notes: list[str] = []
        if names is not None:
            texts = {split: label_names.as_names(column, names) for split, column in texts.items()}
        elif not as_written:
            _check_meaning(texts)
            texts, notes = label_names.joined(texts)
        train = Counter(texts["train"])
        _check_classes(train, len(names or ()), as_written=as_written)
        order = tuple(label_names.in_order(train) if names is None else names)
        if names is not None:
            label_names.check_known(texts, order, f"there are names for 0 to {len(order) - 1} only")
        elif not as_written:
            notes += _meaning_notes(train)
        label_names.check_known(texts, train, f"train has only {listed(label_names.in_order(train))}")
        ids = {text: position for position, text in enumerate(order)}
        splits = {split: [ids[text] for text in column] for split, column in texts.items()}
        notes += [*label_names.alike_notes(order), *label_names.absent_notes(self, splits, order)]
        return EncodedLabels(splits, order, tuple(notes))

    def strata(self, labels: Sequence[int]) -> Sequence[int]:
        """Return the class of each row."""
        return labels

    def absent(self, labels: Sequence[int], names: Sequence[str] | None) -> list[str]:
        """Return the classes that no row has."""
        present = set(labels)
        return [name for position, name in enumerate(names or ()) if position not in present]

    def explained(self, lengths: np.ndarray, labels: Sequence[int]) -> float:
        """Return the correlation ratio of the classes."""
        import numpy as np

        counts = np.bincount(labels)
        means = np.bincount(labels, weights=lengths) / np.maximum(counts, 1)
        return float(counts @ (means - lengths.mean()) ** 2 / (len(lengths) * lengths.var()))

    def head(self, names: Sequence[str] | None) -> dict[str, Any]:
        """Return the config fields of a head with one output per class."""
        return {**label_names.named_outputs(names or ()), "problem_type": "single_label_classification"}

    def collate(self, labels: Sequence[int], names: Sequence[str] | None) -> np.ndarray:
        """Return the class ids, as (rows,) of int64."""
        import numpy as np

        return np.asarray(labels, np.int64)

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Score class predictions.

        Returns:
            ``accuracy`` and ``macro_f1``, the mean F1 over the classes that are present or predicted.
        """
        from sklearn.metrics import accuracy_score, f1_score

        truth, predicted = labels.ravel(), logits.argmax(axis=-1).ravel()
        with warnings.catch_warnings():
            # scikit-learn takes many classes in few rows for a regression and warns.
            warnings.filterwarnings("ignore", message="The number of unique classes")
            f1 = f1_score(truth, predicted, average="macro", zero_division=0)
        return {"accuracy": float(accuracy_score(truth, predicted)), "macro_f1": float(f1)}

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the mean cross entropy."""
        return math.fsum(float(part.sum()) for part in _cross_entropies(logits, labels)) / len(labels)

    def row_scores(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return each row's cross entropy, whether its class is right, and its part in the F1 scores."""
        import numpy as np

        predicted = logits.argmax(axis=-1)
        return {
            "eval_loss": np.concatenate(list(_cross_entropies(logits, labels))),
            "eval_accuracy": (predicted == labels).astype(np.float64),
            "eval_macro_f1": _macro_f1_parts(predicted, labels, logits.shape[-1]),
        }

    def naive(self, train: Sequence[int], validation: Sequence[int], names: Sequence[str] | None) -> Naive:
        """Return the scores of always answering the most frequent class, with the classes' shares as probabilities.

        Guessing reaches a macro F1 of 1 / classes, more than this answer.
        """
        import numpy as np

        classes = len(names or ())
        # A class without a row in train would give an infinite loss.
        shares = np.maximum(np.bincount(train, minlength=classes), 0.5) / len(train)
        truth = self.collate(validation, names)
        scores = scores_of(self, np.broadcast_to(np.log(shares), (len(truth), classes)), truth)
        guessed = {"eval_macro_f1": 1 / len(np.unique(truth))}
        return Naive.of((names or ())[int(shares.argmax())], scores, guessed, self.metrics, len(truth))

    def naive_loss(self, labels: Sequence[int], names: Sequence[str] | None) -> float:
        """Return the cross entropy of equal probabilities, ln(classes)."""
        return math.log(len(names or ()))

    def recompute_metrics(self, logits: torch.Tensor, labels: Sequence[int]) -> dict[str, float]:
        """Compute every metric a second time, by torch alone."""
        import torch

        truth = torch.as_tensor(labels)
        given, count = logits.argmax(dim=-1), logits.shape[-1]
        right = torch.bincount(truth[given == truth], minlength=count).double()
        either = torch.bincount(truth, minlength=count) + torch.bincount(given, minlength=count)
        return {
            "eval_loss": float(torch.nn.functional.cross_entropy(logits, truth)),
            "eval_accuracy": float(right.sum()) / len(truth),
            "eval_macro_f1": float((2 * right / either)[either > 0].mean()),
        }

    def given(self, logits: np.ndarray) -> list[int]:
        """Return the class with the highest logit for each row."""
        return [int(label) for label in logits.argmax(axis=-1)]

    def same_answer(self, logits: np.ndarray, labels: Sequence[int], names: Sequence[str] | None) -> str | None:
        """Return the predicted class if it is the same for each row and the true one is not, else None."""
        given = logits.argmax(axis=-1)
        is_same = bool((given == given[0]).all()) and any(label != labels[0] for label in labels)
        return (names or ())[int(given[0])] if is_same else None


def _cross_entropies(logits: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows' cross entropies, some rows at a time."""
    import numpy as np

    for start in range(0, len(labels), _ROWS_AT_ONCE):
        part, truth = logits[start : start + _ROWS_AT_ONCE], labels[start : start + _ROWS_AT_ONCE]
        with np.errstate(all="ignore"):
            # The largest logit is subtracted, so that exp cannot overflow.
            shifted = part.astype(np.float64) - part.max(axis=-1, keepdims=True)
            right = np.take_along_axis(shifted, truth[:, None], axis=-1)[:, 0]
            yield np.log(np.exp(shifted).sum(axis=-1)) - right


def _macro_f1_parts(predicted: np.ndarray, truth: np.ndarray, count: int) -> np.ndarray:
    """Return the linearised macro F1 of each row."""
    import numpy as np

    right = predicted == truth
    either = np.bincount(truth, minlength=count) + np.bincount(predicted, minlength=count)
    used = either > 0
    share = np.maximum(either, 1) / len(truth)
    f1 = 2 * np.bincount(truth[right], minlength=count) / np.maximum(either, 1)
    of_class = f1 / share
    parts = 2 * right / share[truth] - of_class[truth] - of_class[predicted]
    return np.asarray(f1[used].mean() + parts / used.sum())


def _check_meaning(texts: Mapping[str, Sequence[str]]) -> None:
    """Refuse labels that are no classes: infinite numbers, and cells that hold several labels."""
    for split, column in texts.items():
        distinct = set(column)
        infinite = sorted(filter(is_infinite, distinct))
        if infinite and all(is_number(text) or is_infinite(text) for text in distinct):
            message = f"{listed(infinite)} among the labels, which are numbers ({_rows_of(infinite, column)})"
            raise DataProblem(split, message, f"remove these rows; {AS_WRITTEN}")
    found = look(texts["train"])
    if found.kind is LabelKind.SEVERAL:
        hint = f"to learn them: `task: multi-label-classification`; {AS_WRITTEN}"
        raise DataProblem("train", f"several labels in one cell: {found.reason}", hint)


def _meaning_notes(train: Counter[str]) -> Iterator[str]:
    """Yield remarks on classes that may have another meaning."""
    found = look(train.elements())
    if (found.is_measure and len(train) > FEW_CLASSES) or found.kind is LabelKind.DECIMAL_COMMAS:
        yield f"The labels are {found.reason}, taken as classes; for a measure: `task: text-regression`."
    if empty := [text for text in train if text in _PERHAPS_NONE]:
        yield f"The label {listed(sorted(empty))} is a class like others ({_rows_of(empty, train.elements())})."
    if paths := [text for text in train if "|" in text]:
        yield f"A label with '|' in it, as {listed(sorted(paths)[:1])}, is one class."
    numbers = [text for text in train if is_number(text)]
    if numbers and len(numbers) < len(train):
        yield f"The labels {listed(label_names.in_order(numbers))} are numbers, others are words; all are classes."


def _rows_of(texts: Collection[str], column: Iterable[str]) -> str:
    count = sum(1 for text in column if text in texts)
    return "1 row" if count == 1 else f"{count:,} rows"


def _check_classes(train: Counter[str], named: int, *, as_written: bool) -> None:
    rows = train.total()
    if len(train) == 1:
        raise DataProblem("train", *_constant(next(iter(train))))
    commas = decimal_comma(train)
    measured = commas or all(is_number(text) for text in train)
    broken = commas or (measured and not all(is_whole(text) for text in train))
    hint = "for a measure: `task: text-regression`" if measured else "is this column the text or an id?"
    if broken and len(train) > MANY and not as_written:
        kind = "decimal commas" if commas else "fractions"
        raise DataProblem("train", f"{len(train):,} different labels with {kind}; classes are expected", hint)
    if max(len(train), named) > MOST_CLASSES:
        raise DataProblem("train", f"{max(len(train), named):,} classes; at most {MOST_CLASSES:,} are allowed", hint)
    if len(train) > FEW_CLASSES and len(train) > rows / 2:
        raise DataProblem("train", f"{len(train):,} different labels in {rows:,} rows; classes are expected", hint)
    if rows < named:
        raise DataProblem("train", f"{rows:,} rows for {named:,} classes", "give more rows")


def _constant(label: str) -> tuple[str, str]:
    if label in _UNLABELLED:
        return f"every label is {label}, which marks rows without one", "give labelled rows"
    return f"every label is {label!r}; at least two classes are needed", "is this the right column?"
