"""Judges a trial against an answer that needs no model: always the most frequent class, or always the mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from finesweep.text import clean, metric
from finesweep.trial import Direction

LOSS_GAIN = 0.01
"""Share of the naive loss by which a smaller one must fall short of it to count as better, at least."""

LUCK_ROWS = 4.0
"""The same as rows of the validation rows: another constant answer gains about one row's share by chance."""


@dataclass(frozen=True)
class Naive:
    """The answer that fits the training rows best of all that are the same for each text.

    Attributes:
        answer: A class or a number, as a person reads it.
        scores: What it scores on the validation rows, by full name.
        limits: What a model must beat, by full name: those scores, and more than chance adds to them.
    """

    answer: str
    scores: dict[str, float]
    limits: dict[str, float]

    @classmethod
    def of(cls, answer: str, losses: Mapping[str, float], shares: Mapping[str, float], rows: int) -> Naive:
        """Set the limits.

        Args:
            answer: A class or a number.
            losses: Scores of which less is better.
            shares: Scores between 0 and 1 of which more is better; chance moves them by two standard errors.
            rows: Validation rows.
        """
        gain = min(max(LOSS_GAIN, LUCK_ROWS / max(rows, 1)), 0.5)
        by_loss = {name: value * (1 - gain) for name, value in losses.items()}
        by_share = {name: value + max(0.01, 2 * _error(value, rows)) for name, value in shares.items()}
        return cls(answer, {**losses, **shares}, {**by_loss, **by_share})

    def verdict(
        self, found: Mapping[str, float | None], objective: str, directions: Mapping[str, Direction]
    ) -> str | None:
        """Say that a model is of no use; None where it beats the naive answer in one of the metrics.

        Args:
            found: The model's metrics on the validation rows.
            objective: What trials are ranked by. A correlation counts where it is that: it says nothing of the values.
            directions: The task's metrics with the direction that is better.
        """
        for name, limit in self.limits.items():
            value = found.get(name)
            counts = name == objective or name not in CORRELATIONS
            if counts and value is not None and directions[name].better(value, limit):
                return None
        names = dict.fromkeys(name for name in (objective, "eval_loss", "eval_accuracy") if name in self.scores)
        scores = ", ".join(f"{name} {metric(self.scores[name])}" for name in names)
        return f"no better than always answering {clean(self.answer, 60)!r}, but for chance ({scores})"


CORRELATIONS = ("eval_pearson", "eval_spearman")


def _error(share: float, rows: int) -> float:
    """Return the standard error of a share; of a correlation, which is 0 for one answer, that of 0."""
    return math.sqrt((share * (1 - share) if share else 1.0) / max(rows, 1))
