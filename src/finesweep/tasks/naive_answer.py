"""Compares a trial with an answer that needs no model: always the most frequent class, or always the mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from finesweep.text import clean, metric
from finesweep.trial import Direction

LOSS_GAIN = 0.01
"""Minimum gain over the naive loss, as a share of it, that counts as better."""

LUCK_ROWS = 4.0
"""Minimum gain over the naive loss, as a multiple of 1 / validation rows. A constant answer that fits these rows by
chance gains about 1."""


@dataclass(frozen=True)
class Naive:
    """The constant answer that fits the training rows best.

    Attributes:
        answer: A class or a number, as it is shown.
        scores: The scores of this answer on the validation rows, by full name.
        limits: Scores that a model must beat to be better than chance, by full name.
    """

    answer: str
    scores: dict[str, float]
    limits: dict[str, float]

    @classmethod
    def of(
        cls,
        answer: str,
        scores: Mapping[str, float],
        others: Mapping[str, float],
        directions: Mapping[str, Direction],
        rows: int,
    ) -> Naive:
        """Compute the limits: the best score without reading a text, and a margin.

        Args:
            answer: A class or a number.
            scores: The scores of this answer, by full name.
            others: Scores that another answer without reading reaches: another constant, or a guess.
            directions: The task's metrics. One that is better if larger lies between 0 and 1; its limit is two standard
                errors above the score.
            rows: Number of validation rows.
        """
        gain = min(max(LOSS_GAIN, LUCK_ROWS / max(rows, 1)), 0.5)
        limits = {}
        for name, value in scores.items():
            if directions[name] is Direction.MINIMIZE:
                limits[name] = min(value, others.get(name, value)) * (1 - gain)
            else:
                best = max(value, others.get(name, value))
                limits[name] = best + max(0.01, 2 * _error(best, rows))
        return cls(answer, dict(scores), limits)

    def verdict(
        self, found: Mapping[str, float | None], objective: str, directions: Mapping[str, Direction]
    ) -> str | None:
        """Return a message if a model beats the naive answer in none of the metrics, else None.

        Args:
            found: The model's metrics on the validation rows.
            objective: The metric that trials are ranked by. A correlation counts only if it is this one, since it says
                nothing about the values.
            directions: The task's metrics with the direction that is better.
        """
        for name, limit in self.limits.items():
            value = found.get(name)
            counts = name == objective or name not in CORRELATIONS
            if counts and value is not None and directions[name].better(value, limit):
                return None
        names = dict.fromkeys(name for name in (objective, "eval_loss", "eval_accuracy") if name in self.scores)
        scores = ", ".join(self._shown(name, found.get(name), directions[name]) for name in names)
        return f"not better by more than chance than always answering {clean(self.answer, 60)!r} ({scores})"

    def _shown(self, name: str, value: float | None, direction: Direction) -> str:
        """Return a score; with its limit if a model's value lies between the two, and looks better."""
        score = f"{name} {metric(self.scores[name])}"
        is_between = value is not None and direction.better(value, self.scores[name])
        return f"{score}; by luck up to {metric(self.limits[name])}" if is_between else score


CORRELATIONS = ("eval_pearson", "eval_spearman")


def _error(share: float, rows: int) -> float:
    """Return the standard error of a share, or of a correlation.

    The correlation of a constant answer is 0, so a value of 0 is taken for a correlation.
    """
    return math.sqrt((share * (1 - share) if share else 1.0) / max(rows, 1))
