"""Says what a task is: which labels it takes, which model and batches it needs, and how predictions are scored.

A task is one file here and one line in ``finesweep.registry.TASKS``. Task modules import numpy, pandas, torch
and scikit-learn inside their functions, so that reading their tables costs nothing.
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
    """The label columns as numbers a head can learn.

    Attributes:
        splits: By split name, what each row keeps: a class id (int), a target (float), or a list of label ids.
        names: Label names in the order of their ids; None where labels are numbers.
        notes: Remarks for the user.
    """

    splits: Mapping[str, Sequence[Any]]
    names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


class LabelProblem(ValueError):
    """A label column that the task cannot use.

    Attributes:
        split: The split it was found in.
        message: What was found and what is allowed.
        hint: The nearest fix.
    """

    def __init__(self, split: str, message: str, hint: str = "") -> None:
        self.split, self.message, self.hint = split, message, hint
        super().__init__(message)


class Task(Protocol):
    """What is trained; without state.

    The *kept labels* of rows are what ``encode`` returns of them, one item per row; files and data sets hold these.
    Batches and evaluations hold the arrays that ``collate`` makes of them.

    Attributes:
        metrics: Metrics that an evaluation produces, by full name, with the direction that is better.
        standardizes: Whether labels are numbers that training sees with mean 0 and standard deviation 1.
        unusable: Settings that are of no use here, with the reason.
        takes_several: Whether a row may have several labels: lists, cells with a separator, columns of 0 and 1.
        split_by: How rows are divided into train and validation, for the user; empty for by chance.
        model_class: The class of transformers that makes the model, by its name.
        pipeline: The ``transformers.pipeline`` task that the winner loads with.
        pipeline_options: What else that pipeline is given.
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
        """Check the label columns and turn them into numbers.

        Args:
            labels: Label column by split (``train`` always; ``validation``, ``test`` where they exist); tuples of
                labels if the task takes several.
            names: Class names that come with the data set, in the order of their ids.
            as_written: Whether each different label is one, whatever it may mean.

        Raises:
            LabelProblem: A column cannot be used.
        """
        ...

    def strata(self, labels: Sequence[Any]) -> Sequence[int] | None:
        """Return a stratum for each row, whose proportions a split keeps; None to split by chance.

        A stratum of one row stays in train. ``labels`` are kept labels.
        """
        ...

    def absent(self, labels: Sequence[Any], names: Sequence[str] | None) -> list[str]:
        """Return the names that no row of the kept labels has."""
        ...

    def explained(self, lengths: np.ndarray, labels: Sequence[Any]) -> float:
        """Return the share of the variance of the rows' lengths that their kept labels explain; lengths differ."""
        ...

    # Model and batches.

    def head(self, names: Sequence[str] | None) -> dict[str, Any]:
        """Return the model config's fields that the head needs (``num_labels``, ...)."""
        ...

    def collate(self, labels: Sequence[Any], names: Sequence[str] | None) -> np.ndarray:
        """Make one array of some rows' kept labels: what the model's loss takes, in its type."""
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

        It is what the head is trained on, without smoothing, and not finite where a row's loss is not.
        """
        ...

    def naive(self, train: Sequence[Any], validation: Sequence[Any], names: Sequence[str] | None) -> Naive:
        """Return the best answer of all that are the same for each text.

        Args:
            train: Kept labels of the training rows, from which it follows.
            validation: Those of the validation rows, on which it is scored.
            names: Class names in the order of their ids.
        """
        ...

    def naive_loss(self, labels: Sequence[Any], names: Sequence[str] | None) -> float:
        """Return the loss of a model that knows nothing; the yardstick for an exploded loss. ``labels`` are kept."""
        ...

    # The winner, loaded again by a fresh process.

    def proof(self, logits: torch.Tensor, labels: Sequence[Any]) -> dict[str, float]:
        """Compute every metric a second time, by its full name, with no code of ``score`` and ``loss``.

        Args:
            logits: Of all rows, in double precision.
            labels: Their kept labels.
        """
        ...

    def same_answer(self, logits: np.ndarray, labels: Sequence[Any], names: Sequence[str] | None) -> str | None:
        """Return what a model answers to each row if it is always the same and should not be, else None.

        Args:
            logits: Of two rows or more.
            labels: Their kept labels.
            names: Class names in the order of their ids.
        """
        ...
