"""Defines a task: the labels that it takes, its model and batches, and the scores of its predictions.

A task is one file here and one line in ``finesweep.registry.TASKS``. Task modules import numpy, pandas, torch and
scikit-learn inside their functions, so that reading their tables is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from finesweep.tasks.naive_answer import Naive
from finesweep.trial import Direction

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch


@dataclass(frozen=True)
class EncodedLabels:
    """The label columns as numbers that a head can learn.

    Attributes:
        splits: Kept labels of each row by split: a class id (int), a target (float), or a list of label ids.
        names: Label names in the order of their ids; None if labels are numbers.
        notes: Remarks for the user.
    """

    splits: Mapping[str, Sequence[Any]]
    names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


class Task(Protocol):
    """A kind of training; without state.

    The *kept labels* of rows are the results of ``encode``, one item per row; files and data sets hold these. Batches
    and evaluations hold the arrays that ``collate`` makes of them.

    Attributes:
        metrics: Metrics of an evaluation, by full name, with the direction that is better.
        standardizes: Whether labels are numbers that training sees with mean 0 and standard deviation 1.
        unusable: Settings without effect in this task, with the reason.
        takes_several: Whether a row may have several labels: lists, cells with a separator, columns of 0 and 1.
        split_by: How rows are divided into train and validation, for the user; empty for a random split.
        model_class: Name of the transformers class that makes the model.
        pipeline: The ``transformers.pipeline`` task that loads the winner.
        pipeline_options: Further arguments of that pipeline.
        answer: How to read its answer, for the model card; may be empty.
    """

    metrics: ClassVar[Mapping[str, Direction]]
    standardizes: ClassVar[bool]
    unusable: ClassVar[Mapping[str, str]]
    takes_several: ClassVar[bool]
    split_by: ClassVar[str]
    model_class: ClassVar[str]
    pipeline: ClassVar[str]
    pipeline_options: ClassVar[Mapping[str, Any]]
    answer: ClassVar[str]

    # Labels of the data.

    def encode(
        self, labels: Mapping[str, pd.Series], names: Sequence[str] | None, *, as_written: bool = False
    ) -> EncodedLabels:
        """Check the label columns and encode them.

        Args:
            labels: Label column by split (``train`` always; ``validation``, ``test`` if they exist); tuples of labels
                if the task takes several.
            names: Class names that come with the data set, in the order of their ids.
            as_written: Whether each spelling is a label of its own.

        Raises:
            DataProblem: A column cannot be used.
        """
        ...

    def strata(self, labels: Sequence[Any]) -> Sequence[int] | None:
        """Return a stratum for each row, whose proportions a split keeps; None for a random split.

        A stratum of one row stays in train. ``labels`` are kept labels.
        """
        ...

    def absent(self, labels: Sequence[Any], names: Sequence[str] | None) -> list[str]:
        """Return the names that no row of the kept labels has."""
        ...

    def explained(self, lengths: np.ndarray, labels: Sequence[Any]) -> float:
        """Return the share of the variance of the rows' lengths that their kept labels explain.

        The lengths must not all be equal.
        """
        ...

    # Model and batches.

    def head(self, names: Sequence[str] | None) -> dict[str, Any]:
        """Return the fields of the model's config that the head needs (``num_labels``, ...)."""
        ...

    def collate(self, labels: Sequence[Any], names: Sequence[str] | None) -> np.ndarray:
        """Make one array of some rows' kept labels, in the type that the model's loss takes."""
        ...

    # Scores of the model, and those of no model.

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Score predictions; ``logits`` is (rows, num_labels), ``labels`` is as collated.

        Returns:
            Every metric of ``metrics`` but ``eval_loss``, by its name without ``eval_``.
        """
        ...

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return ``eval_loss``, the mean over all rows; arguments as for ``score``.

        It is the loss that the head is trained on, without smoothing. It is not finite if a row's loss is not.
        """
        ...

    def row_scores(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return by full name of a metric a value for each row, whose mean over the rows is the metric.

        A metric that is no mean is linearised (infinitesimal jackknife): the spread of its values over the rows gives
        its standard error. A metric for which there is no such form is absent.

        Args:
            logits: As for ``score``.
            labels: As for ``score``.

        Returns:
            Arrays of shape (rows,), double precision, rows in the order of the arguments.
        """
        ...

    def naive(self, train: Sequence[Any], validation: Sequence[Any], names: Sequence[str] | None) -> Naive:
        """Return the answer that is the same for each text and has the smallest loss on the training rows.

        Args:
            train: Kept labels of the training rows, which decide the answer.
            validation: Kept labels of the validation rows, on which it is scored.
            names: Class names in the order of their ids.
        """
        ...

    def naive_loss(self, labels: Sequence[Any], names: Sequence[str] | None) -> float:
        """Return the loss of a model that knows nothing; a loss far above it has exploded. ``labels`` are kept."""
        ...

    # The winner, loaded again by a fresh process.

    def recompute_metrics(self, logits: torch.Tensor, labels: Sequence[Any]) -> dict[str, float]:
        """Compute every metric a second time, by its full name, with no code of ``score`` and ``loss``.

        Args:
            logits: Logits of all rows, in double precision.
            labels: Their kept labels.
        """
        ...

    def given(self, logits: np.ndarray) -> Sequence[Any]:
        """Return a model's answer to each row, in the form of kept labels; ``logits`` is (rows, num_labels)."""
        ...

    def same_answer(self, logits: np.ndarray, labels: Sequence[Any], names: Sequence[str] | None) -> str | None:
        """Return a model's answer if it is the same for all rows and should not be, else None.

        Args:
            logits: Logits of two rows or more.
            labels: Their kept labels.
            names: Class names in the order of their ids.
        """
        ...


def scores_of(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return every metric of predictions by its full name; arguments as for ``Task.score``."""
    found = {"loss": task.loss(logits, labels), **task.score(logits, labels)}
    return {f"eval_{name}": value for name, value in found.items()}
