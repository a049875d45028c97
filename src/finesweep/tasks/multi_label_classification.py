"""Learns any number of labels for each text: yes or no for each label, by binary cross entropy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from finesweep.errors import DataProblem
from finesweep.tasks import label_names
from finesweep.tasks.label_column import MOST_CLASSES, is_null
from finesweep.tasks.label_names import FEW_CLASSES, listed
from finesweep.tasks.naive_answer import Naive
from finesweep.tasks.protocol import EncodedLabels, scores_of
from finesweep.trial import Direction

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

NO_LABEL = "no label"
"""Text that is shown for an answer without labels."""

_ROWS_AT_ONCE = 4_096
"""Rows whose cross entropy is computed at once; with 1,000 labels they take 100 MB."""

_Cell = tuple[Any, ...]
"""Labels of one row, as they were read."""

_FOR_CLASSES = "for one label each: `task: text-classification`"


class MultiLabelClassification:
    """Any number of labels for each text, also none; a label is predicted if its probability is above 0.5.

    Rows keep the ids of their labels, in ascending order; batches hold a 0 or 1 for each label.
    """

    metrics: ClassVar[Mapping[str, Direction]] = {
        "eval_loss": Direction.MINIMIZE,
        "eval_micro_f1": Direction.MAXIMIZE,
        "eval_macro_f1": Direction.MAXIMIZE,
        "eval_subset_accuracy": Direction.MAXIMIZE,
    }
    standardizes: ClassVar[bool] = False
    unusable: ClassVar[Mapping[str, str]] = {"label_smoothing_factor": "it is for one label out of several"}
    takes_several: ClassVar[bool] = True
    split_by: ClassVar[str] = "stratified by each row's rarest label"
    model_class: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str] = "text-classification"
    pipeline_options: ClassVar[Mapping[str, Any]] = {"top_k": None}
    answer: ClassVar[str] = "Each label has a score of its own between 0 and 1; those above 0.5 are the answer."

    def encode(
        self, labels: Mapping[str, pd.Series], names: Sequence[str] | None, *, as_written: bool = False
    ) -> EncodedLabels:
        """Encode each row's labels as their ids, in ascending order and without repeats.

        Args:
            labels: Label column by split: tuples of labels, or a single label.
            names: Names that come with the data set; labels are then names, or else their positions.
            as_written: Whether each spelling is a label of its own. Otherwise labels that differ in case or blanks are
                one, and words such as `NULL` are dropped.

        Raises:
            DataProblem: No row has a label, all rows have the same labels, there are too many, or a split has labels
                that train lacks.
        """
        notes: list[str] = []
        cells = {split: [_labels_of(value) for value in series] for split, series in labels.items()}
        if names is None and not as_written:
            cells, notes = _without_nulls(cells)
        flat = label_names.texts(
            {split: [label for cell in column for label in cell] for split, column in cells.items()}
        )
        if names is not None:
            flat = {split: label_names.as_names(column, names) for split, column in flat.items()}
        elif not as_written and flat["train"]:
            flat, joined = label_names.joined(flat)
            notes += joined
        order = tuple(label_names.in_order(flat["train"]) if names is None else names)
        _check(Counter(flat["train"]), cells["train"], order)
        why = (
            f"there are names for 0 to {len(order) - 1} only"
            if names is not None
            else f"train has only {listed(order)}"
        )
        label_names.check_known(flat, order, why, "labels")
        ids = {text: position for position, text in enumerate(order)}
        splits = {split: _ids(flat[split], cells[split], ids) for split in cells}
        _check_varied(splits["train"], order)
        notes += [*_notes(cells, splits, order), *label_names.alike_notes(order)]
        notes += label_names.absent_notes(self, splits, order)
        return EncodedLabels(splits, order, tuple(notes))

    def head(self, names: Sequence[str] | None) -> dict[str, Any]:
        """Return the config fields of a head with one output per label."""
        return {**label_names.named_outputs(names or ()), "problem_type": "multi_label_classification"}

    def collate(self, labels: Sequence[Any], names: Sequence[str] | None) -> np.ndarray:
        """Return a 0 or 1 for each row and label, as (rows, labels) of float32."""
        import numpy as np

        dense = np.zeros((len(labels), len(names or ())), np.float32)
        rows, ids = _places(labels)
        dense[rows, ids] = 1.0
        return dense

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Score the labels whose probability is above 0.5.

        Returns:
            ``micro_f1`` over all decisions; ``macro_f1``, the mean F1 over the labels that are present or predicted;
            ``subset_accuracy``, the share of rows whose labels are all right. F1 is 0 if there is no label at all.
        """
        import numpy as np
        from sklearn.metrics import accuracy_score, f1_score

        truth, given = (labels > 0.5).astype(np.int8), (logits > 0).astype(np.int8)
        micro = float(f1_score(truth.ravel(), given.ravel(), zero_division=0.0))
        macro = micro
        if truth.shape[1] > 1:  # scikit-learn reads a single column as classes 0 and 1
            macro = float(np.nan_to_num(f1_score(truth, given, average="macro", zero_division=np.nan)))
        return {"micro_f1": micro, "macro_f1": macro, "subset_accuracy": float(accuracy_score(truth, given))}

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the mean binary cross entropy over all rows and labels."""
        return math.fsum(float(part.sum()) for part in _cross_entropies(logits, labels)) / labels.size

    def row_scores(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return each row's binary cross entropy, whether all its labels are right, and its part in the F1 scores."""
        import numpy as np

        truth, given = labels > 0.5, logits > 0
        both, either = truth & given, truth.astype(np.int8) + given
        return {
            "eval_loss": np.concatenate(list(_cross_entropies(logits, labels))) / labels.shape[1],
            "eval_micro_f1": _f1_parts(both.sum(1, keepdims=True), either.sum(1, keepdims=True)),
            "eval_macro_f1": _f1_parts(both, either),
            "eval_subset_accuracy": (truth == given).all(1).astype(np.float64),
        }

    def naive(self, train: Sequence[Any], validation: Sequence[Any], names: Sequence[str] | None) -> Naive:
        """Return the scores of always answering the labels that more than half of the training rows have.

        Each label's share in train is its probability. Other labels suit some metrics better: for micro F1 the most
        frequent ones, in the best number; for macro F1 all; for subset accuracy the most frequent set.
        """
        import numpy as np

        names = names or ()
        shares, present = _shares(train, len(names)), _shares(validation, len(names))
        # A label that all rows of train have, or none, would give an infinite loss.
        sure = np.clip(shares, 0.5 / len(train), 1 - 0.5 / len(train))
        logits = np.log(sure) - np.log1p(-sure)
        truth = self.collate(validation, names)
        scores = scores_of(self, np.broadcast_to(logits, truth.shape), truth)
        order = np.argsort(-shares, kind="stable")
        counts = np.arange(1, len(names) + 1)
        best = order[: 1 + int(np.argmax(np.cumsum(shares[order]) / (counts + shares.sum())))]
        often = Counter(map(tuple, train)).most_common(1)[0][0]
        others = {
            "eval_micro_f1": float(2 * present[best].sum() / (len(best) + present.sum())),
            "eval_macro_f1": float(np.mean(2 * present / (1 + present))),
            "eval_subset_accuracy": sum(tuple(ids) == often for ids in validation) / len(validation),
        }
        answer = _shown([name for name, logit in zip(names, logits, strict=True) if logit > 0])
        return Naive.of(answer, scores, others, self.metrics, len(validation))

    def naive_loss(self, labels: Sequence[Any], names: Sequence[str] | None) -> float:
        """Return the binary cross entropy of equal probabilities, ln 2; a new head has about this loss."""
        return math.log(2)

    def strata(self, labels: Sequence[Any]) -> list[int]:
        """Return each row's stratum: its rarest label.

        For each label one row gets a stratum of its own, unless an earlier one has the label already. A stratum of one
        row stays in train, so train has every label.
        """
        counts = Counter(label for ids in labels for label in ids)
        strata = [min(ids, key=lambda label: (counts[label], label), default=-1) for ids in labels]
        first: dict[int, int] = {}
        for row, ids in enumerate(labels):
            for label in ids:
                first.setdefault(label, row)
        covered: set[int] = set()
        for label in sorted(counts, key=lambda label: (counts[label], label)):
            if label not in covered:
                covered.update(labels[first[label]])
                strata[first[label]] = max(counts) + 1 + first[label]
        return strata

    def absent(self, labels: Sequence[Any], names: Sequence[str] | None) -> list[str]:
        """Return the labels that no row has."""
        present = {label for ids in labels for label in ids}
        return [name for position, name in enumerate(names or ()) if position not in present]

    def explained(self, lengths: np.ndarray, labels: Sequence[Any]) -> float:
        """Return the largest share of the variance that a single label, or the number of labels, explains."""
        import numpy as np

        rows, ids = _places(labels)
        far = lengths - lengths.mean()
        total, size = float(far @ far), len(lengths)
        counts = np.bincount(ids)
        sums = np.bincount(ids, weights=far[rows])
        varied = (counts > 0) & (counts < size)
        by_label = sums[varied] ** 2 / (counts[varied] * (1 - counts[varied] / size)) / total
        many = np.bincount(rows, minlength=size).astype(np.float64)
        many -= many.mean()
        by_number = (far @ many) ** 2 / (total * (many @ many)) if many.any() else 0.0
        return float(max([by_number, *by_label]))

    def recompute_metrics(self, logits: torch.Tensor, labels: Sequence[Any]) -> dict[str, float]:
        """Compute every metric a second time, by torch alone."""
        import torch

        truth = torch.zeros_like(logits)
        for row, ids in zip(truth, labels, strict=True):
            row[list(ids)] = 1.0
        given = (logits.sigmoid() > 0.5).to(truth)
        both, either = given * truth, given + truth
        used = either.sum(0) > 0
        by_label = 2 * both.sum(0)[used] / either.sum(0)[used]
        return {
            "eval_loss": float(torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)),
            "eval_micro_f1": float(2 * both.sum() / either.sum()) if used.any() else 0.0,
            "eval_macro_f1": float(by_label.mean()) if used.any() else 0.0,
            "eval_subset_accuracy": float((given == truth).all(1).double().mean()),
        }

    def given(self, logits: np.ndarray) -> list[list[int]]:
        """Return the labels whose probability is above 0.5, for each row."""
        return [[label for label, is_given in enumerate(row) if is_given] for row in (logits > 0).tolist()]

    def same_answer(self, logits: np.ndarray, labels: Sequence[Any], names: Sequence[str] | None) -> str | None:
        """Return the predicted labels if they are the same for each row and the true ones are not, else None."""
        given = logits > 0
        varied = any(tuple(ids) != tuple(labels[0]) for ids in labels)
        if not varied or (given != given[0]).any():
            return None
        return _shown([name for name, is_given in zip(names or (), given[0], strict=True) if is_given])


def _labels_of(value: Any) -> _Cell:
    return value if isinstance(value, tuple) else (value,)


def _without_nulls(cells: Mapping[str, Sequence[_Cell]]) -> tuple[dict[str, list[_Cell]], list[str]]:
    """Drop labels that are words such as `NULL`, which programs write for a missing value; with a note."""
    kept = {
        split: [tuple(label for label in cell if not is_null(str(label).strip())) for cell in column]
        for split, column in cells.items()
    }
    count = sum(len(cell) for column in cells.values() for cell in column)
    fewer = count - sum(len(cell) for column in kept.values() for cell in column)
    return kept, [f"Labels such as NULL or nan, taken as none and left out: {fewer:,} of {count:,}."] if fewer else []


def _ids(flat: Sequence[str], cells: Sequence[_Cell], ids: Mapping[str, int]) -> list[list[int]]:
    """Return the ids of each row's labels, given the labels of all rows in one sequence."""
    texts = iter(flat)
    return [sorted({ids[next(texts)] for _ in cell}) for cell in cells]


def _places(labels: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the id of every label."""
    import numpy as np

    rows = np.repeat(np.arange(len(labels)), [len(ids) for ids in labels])
    flat = [np.asarray(ids, np.int64) for ids in labels if len(ids)]
    return rows, np.concatenate(flat) if flat else np.zeros(0, np.int64)


def _shares(labels: Sequence[Any], count: int) -> np.ndarray:
    """Return the share of rows that have each label."""
    import numpy as np

    return np.bincount(_places(labels)[1], minlength=count) / len(labels)


def _cross_entropies(logits: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield each row's sum of the binary cross entropy over its labels, some rows at a time."""
    import numpy as np

    for start in range(0, len(labels), _ROWS_AT_ONCE):
        wide, truth = logits[start : start + _ROWS_AT_ONCE].astype(np.float64), labels[start : start + _ROWS_AT_ONCE]
        with np.errstate(all="ignore"):
            # This form does not overflow: exp gets no positive argument.
            yield np.sum(np.maximum(wide, 0) - wide * truth + np.log1p(np.exp(-np.abs(wide))), axis=1)


def _f1_parts(both: np.ndarray, either: np.ndarray) -> np.ndarray:
    """Return the linearised F1 of each row, mean over the labels that are present or predicted.

    Args:
        both: (rows, labels), how often a label is present and predicted in a row.
        either: (rows, labels), how often it is present, plus how often it is predicted.
    """
    import numpy as np

    share = either.mean(axis=0, dtype=np.float64)
    used = share > 0
    if not used.any():
        return np.zeros(len(both))
    f1 = 2 * both.mean(axis=0, dtype=np.float64)[used] / share[used]
    weights = 1 / share[used] / used.sum()
    return np.asarray(f1.mean() + 2 * (both[:, used] @ weights) - either[:, used] @ (weights * f1))


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names) or NO_LABEL


def _check(train: Counter[str], cells: Sequence[_Cell], order: Sequence[str]) -> None:
    if not train:
        raise DataProblem("train", "no row has a label", "is this the right column?")
    if len(order) > MOST_CLASSES:
        raise DataProblem("train", f"{len(order):,} labels; at most {MOST_CLASSES:,} are allowed", "leave out the rare")
    if len(train) > FEW_CLASSES and len(train) > len(cells) / 2:
        message = f"{len(train):,} different labels in {len(cells):,} rows; labels that stand in many rows are expected"
        raise DataProblem("train", message, "is this column the text or an id?")


def _check_varied(train: Sequence[Sequence[int]], order: Sequence[str]) -> None:
    if all(ids == train[0] for ids in train):
        same = [order[label] for label in train[0]]
        what = f"every label is {same[0]!r}" if len(same) == 1 else f"every row has the labels {listed(same)}"
        raise DataProblem("train", f"{what}; rows that differ are needed", "is this the right column?")


def _notes(
    cells: Mapping[str, Sequence[_Cell]], splits: Mapping[str, Sequence[Sequence[int]]], order: Sequence[str]
) -> Iterator[str]:
    train = splits["train"]
    if not any(len(ids) > 1 for ids in train):
        yield f"No row of train has more than one label ({_FOR_CLASSES})."
    for split, column in splits.items():
        if without := sum(not ids for ids in column):
            yield f"Rows of {split} without a label, which is learned as well: {without:,} of {len(column):,}."
        if twice := sum(len(cell) > len(ids) for cell, ids in zip(cells[split], column, strict=True)):
            yield f"Rows of {split} that name a label twice, which counts once: {twice:,} of {len(column):,}."
    counts = Counter(label for ids in train for label in ids)
    if always := [order[label] for label, count in counts.items() if count == len(train)]:
        yield f"Every row of train has the label {listed(always)}: there is nothing to learn of it."
