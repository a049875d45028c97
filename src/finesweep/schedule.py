"""Owns the axis that trials are compared on: training examples seen, and when to evaluate along it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """One trial's evaluations.

    The rungs lie at the same example counts for every batch size, so that a pruner never compares
    half an epoch with a whole one.

    Attributes:
        rows: Training rows.
        batch: Rows per optimizer step.
        steps_per_epoch: Optimizer steps in one pass.
        total_steps: Optimizer steps planned.
        per_epoch: Evaluations in one pass.
    """

    rows: int
    batch: int
    steps_per_epoch: int
    total_steps: int
    per_epoch: int

    def examples(self, step: int) -> int:
        """Return how many training examples have been seen after ``step`` optimizer steps."""
        epochs, rest = divmod(step, self.steps_per_epoch)
        return epochs * self.rows + min(rest * self.batch, self.rows)

    def rung(self, step: int) -> int | None:
        """Return the example count to evaluate and report at, None if no evaluation is due.

        The end of training is always evaluated, on a rung or not.
        """
        reached = step * self.per_epoch // self.steps_per_epoch
        before = (step - 1) * self.per_epoch // self.steps_per_epoch
        if reached > before:
            return reached * self.rows // self.per_epoch
        return self.examples(step) if step == self.total_steps else None
