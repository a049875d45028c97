"""Owns what a task is: which labels it takes, which head it needs, and how predictions are scored.

A task is one file here and one line in ``finesweep.registry.TASKS``. Task modules import numpy, pandas
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


@dataclass(frozen=True)
class EncodedLabels:
    """The label columns as numbers a head can learn.

    Attributes:
        splits: By split name, one number per row: class ids (int) or targets (float).
        names: Class names in the order of their ids; None for regression.
        notes: Remarks for the user.
    """

    splits: Mapping[str, Sequence[int] | Sequence[float]]
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

    Attributes:
        metrics: Metrics that an evaluation produces, by full name, with the direction that is better.
        standardizes: Whether labels are numbers that training sees with mean 0 and standard deviation 1.
        unusable: Settings that are of no use here, with the reason.
        stratified: Whether a split keeps the labels' proportions.
        pipeline: The ``transformers.pipeline`` task that the winner loads with.
    """

    metrics: ClassVar[Mapping[str, Direction]]
    standardizes: ClassVar[bool]
    unusable: ClassVar[Mapping[str, str]]
    stratified: ClassVar[bool]
    pipeline: ClassVar[str]

    def encode(
        self, labels: Mapping[str, pd.Series], names: Sequence[str] | None, *, as_written: bool = False
    ) -> EncodedLabels:
        """Check the label columns and turn them into numbers.

        Args:
            labels: Label column by split (``train`` always; ``validation``, ``test`` where they exist).
            names: Class names that come with the data set, in the order of their ids.
            as_written: Whether each different label is one, whatever it may mean.

        Raises:
            LabelProblem: A column cannot be used.
        """
        ...

    def head(self, names: Sequence[str] | None) -> dict[str, Any]:
        """Return the model config's fields that the head needs (``num_labels``, ...)."""
        ...

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Score predictions; ``logits`` is (rows, num_labels), ``labels`` is (rows,).

        Returns:
            Every metric of ``metrics`` but ``eval_loss``, by its name without ``eval_``.
        """
        ...

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return ``eval_loss``, the mean over all rows; arguments as for ``score``.

        It is what the head is trained on, without smoothing, and not finite where a row's loss is not.
        """
        ...

    def naive(self, train: np.ndarray, validation: np.ndarray, names: Sequence[str] | None) -> Naive:
        """Return the best answer of all that are the same for each text.

        Args:
            train: Encoded labels of the training rows, from which it follows.
            validation: Those of the validation rows, on which it is scored.
            names: Class names in the order of their ids.
        """
        ...

    def naive_loss(self, labels: np.ndarray, names: Sequence[str] | None) -> float:
        """Return the loss of a model that knows nothing; the yardstick for an exploded loss."""
        ...
