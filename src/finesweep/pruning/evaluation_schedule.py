"""Places a trial's evaluations at numbers of training examples, the axis on which trials are compared."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from finesweep.spec import TrialLength
from finesweep.trial import Evaluation


@dataclass(frozen=True)
class Schedule:
    """One trial's evaluations.

    They are at the same example counts for every batch size. So a pruner never compares half an epoch with a whole one.

    Attributes:
        length: Length of the trial.
        per_epoch: Evaluations in one pass.
        rungs: Epochs with an additional evaluation.
        rungs_first: Whether an evaluation that is due at the same step as one of the ``per_epoch`` is that of the rung.
            A share of a trial's own length may lie within the last batch of an epoch.
    """

    length: TrialLength
    per_epoch: int
    rungs: tuple[Fraction, ...] = ()
    rungs_first: bool = False

    def rung(self, step: int) -> int | None:
        """Return the example count to evaluate and report at, None if no evaluation is due.

        The end of training is always evaluated, on a rung or not.
        """
        # Due at the first step that reaches or passes the place, since a large batch seldom meets it exactly. Integers
        # only: a rounding error would move an evaluation by a step.
        if self.rungs_first and step in self._between and step < self.length.total_steps:
            return self._between[step]
        if (regular := self._regular(step)) is not None:
            return regular
        if step in self._between:
            return self._between[step]
        return self.length.examples(step) if step == self.length.total_steps else None

    def waited(self, best: Evaluation, latest: Evaluation) -> int:
        """Return the training examples between two of the trial's evaluations, for its patience.

        With ``rungs_first`` one of the ``per_epoch`` may be reported at a rung some examples away, because the batch is
        too large for an evaluation at each of the two places. Here it counts as the one that was asked for, so the
        trial waits as long as one with smaller batches.

        Args:
            best: The earlier one.
            latest: The later one.
        """
        return self._asked_for(latest) - self._asked_for(best)

    def _asked_for(self, evaluation: Evaluation) -> int:
        regular = self._regular(evaluation.step)
        return evaluation.examples if regular is None else regular

    def _regular(self, step: int) -> int | None:
        """Return the example count of one of the ``per_epoch`` evaluations, None if none is due at a step."""
        reached, before = (done * self.per_epoch // self.length.steps_per_epoch for done in (step, step - 1))
        return examples_after(reached, self.length.rows, self.per_epoch) if reached > before else None

    @functools.cached_property
    def _between(self) -> Mapping[int, int]:
        """The example count of each rung by the step that reaches it."""
        steps, rows = self.length.steps_per_epoch, self.length.rows
        return {math.ceil(epochs * steps): int(epochs * rows) for epochs in self.rungs}


def examples_after(evaluations: int, rows: int, per_epoch: int) -> int:
    """Return the training examples from the start of a trial to one of its evaluations.

    Args:
        evaluations: The evaluation's number, from 1, without those at rungs.
        rows: Training rows.
        per_epoch: Evaluations in one pass.
    """
    return evaluations * rows // per_epoch
