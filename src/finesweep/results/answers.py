"""Counts what a model answers to the validation rows, and finds the rows on which it is most wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finesweep.tasks.multi_label_classification import NO_LABEL

if TYPE_CHECKING:
    import numpy as np

MOST_WORST = 20
"""Maximum number of rows that are kept by themselves."""


@dataclass(frozen=True)
class Confusion:
    """Validation rows with one label that got one answer.

    If rows have several labels, each label is counted by itself: ``given`` is None where it is missing from the answer,
    ``label`` is None where the row does not have it.

    Attributes:
        label: The true label.
        given: The model's.
        rows: Number of rows.
    """

    label: str | None
    given: str | None
    rows: int


@dataclass(frozen=True)
class WorstRow:
    """A validation row on which the model is most wrong.

    Attributes:
        row: Its place in the validation rows, from 0.
        given: The model's answer.
        loss: Its loss.
    """

    row: int
    given: str
    loss: float


@dataclass(frozen=True)
class Answers:
    """A model's answers to the validation rows; no text of a row is in it.

    Attributes:
        confusions: Rows by label and answer, those that are right too; empty if labels are numbers.
        worst: The rows with the largest losses, largest first; at most ``MOST_WORST``.
    """

    confusions: tuple[Confusion, ...] = ()
    worst: tuple[WorstRow, ...] = ()

    @classmethod
    def of(
        cls, labels: Sequence[Any], given: Sequence[Any], losses: np.ndarray, names: Sequence[str] | None
    ) -> Answers:
        """Count answers.

        Args:
            labels: Kept labels of the rows.
            given: The model's answers in the same order and form; see ``Task.given``.
            losses: The rows' losses, (rows,).
            names: Label names in the order of their ids; None if labels are numbers.
        """
        worst = sorted(range(len(labels)), key=lambda row: -losses[row])[:MOST_WORST]
        return cls(
            confusions=() if names is None else _confusions(labels, given, names),
            worst=tuple(WorstRow(row, shown(given[row], names), float(losses[row])) for row in worst),
        )

    @property
    def by_label(self) -> Mapping[str, int]:
        """Rows for which the model gives each label, 0 for one that only rows have; empty if labels are numbers."""
        counts = {one.label: 0 for one in self.confusions if one.label is not None}
        for one in self.confusions:
            if one.given is not None:
                counts[one.given] = counts.get(one.given, 0) + one.rows
        return counts


def shown(label: Any, names: Sequence[str] | None) -> str:
    """Return a kept label as text: the label's name, the names of several, or the number."""
    if names is None:
        return f"{label:.6g}"
    if isinstance(label, int):
        return names[label]
    return ", ".join(names[one] for one in label) or NO_LABEL


def _confusions(labels: Sequence[Any], given: Sequence[Any], names: Sequence[str]) -> tuple[Confusion, ...]:
    counts = Counter(pair for label, answer in zip(labels, given, strict=True) for pair in _pairs(label, answer))
    # Labels come in the order of their ids, and what is missing comes last.
    order = sorted(counts, key=lambda pair: [len(names) if one is None else one for one in pair])

    def name(one: int | None) -> str | None:
        return None if one is None else names[one]

    return tuple(Confusion(name(label), name(answer), counts[label, answer]) for label, answer in order)


def _pairs(label: Any, answer: Any) -> list[tuple[int | None, int | None]]:
    if isinstance(label, int):
        return [(label, answer)]
    truth, found = set(label), set(answer)
    return [(one if one in truth else None, one if one in found else None) for one in truth | found]
