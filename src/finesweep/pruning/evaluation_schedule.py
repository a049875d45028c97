"""Owns the axis that trials are compared on: training examples seen, and when to evaluate along it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Schedule:
    """One trial's evaluations.

    They lie at the same example counts for every batch size, so that a pruner never compares half an epoch with a
    whole one.

    Attributes:
        rows: Training rows.
        batch: Rows per optimizer step.
        steps_per_epoch: Optimizer steps in one pass.
        total_steps: Optimizer steps planned.
        per_epoch: Evaluations in one pass.
        rungs: Epochs after which there is an evaluation besides these.
    """

    rows: int
    batch: int
    steps_per_epoch: int
    total_steps: int
    per_epoch: int
    rungs: tuple[Fraction, ...] = ()

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
        if step in self._between:
            return self._between[step]
        return self.examples(step) if step == self.total_steps else None

    @functools.cached_property
    def _between(self) -> Mapping[int, int]:
        """The example count of each rung by the step that comes to it."""
        return {math.ceil(epochs * self.steps_per_epoch): int(epochs * self.rows) for epochs in self.rungs}
