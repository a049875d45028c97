"""Computes the length of a trial that nothing ends early: optimizer steps and training examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from finesweep.spec.training_arguments import training_value
from finesweep.trial import Value


@dataclass(frozen=True)
class TrialLength:
    """Length of one trial.

    Attributes:
        rows: Training rows.
        batch: Rows per optimizer step.
        steps_per_epoch: Optimizer steps in one pass.
        total_steps: Optimizer steps planned.
    """

    rows: int
    batch: int
    steps_per_epoch: int
    total_steps: int

    @classmethod
    def of(cls, values: Mapping[str, Value], rows: int) -> TrialLength:
        """Compute the length of a trial before it is trained, by the Trainer's own rules.

        Args:
            values: Settings of the trial, as ``SweepSpec.merged`` returns them.
            rows: Training rows.
        """
        batch = training_value(values, "per_device_train_batch_size")
        accumulation = training_value(values, "gradient_accumulation_steps")
        batches = rows // batch if training_value(values, "dataloader_drop_last") else math.ceil(rows / batch)
        # As in the Trainer: an epoch with fewer batches than the accumulation is still one step.
        steps_per_epoch = max(1, math.ceil(batches / accumulation))
        steps = training_value(values, "max_steps")
        total = steps if steps > 0 else math.ceil(steps_per_epoch * training_value(values, "num_train_epochs"))
        return cls(rows, batch * accumulation, steps_per_epoch, total)

    def examples(self, step: int) -> int:
        """Return the number of training examples seen after ``step`` optimizer steps."""
        epochs, rest = divmod(step, self.steps_per_epoch)
        return epochs * self.rows + min(rest * self.batch, self.rows)

    @property
    def total_examples(self) -> int:
        """Training examples of the whole trial."""
        return self.examples(self.total_steps)


@dataclass(frozen=True)
class Workload:
    """Amount of work of one trial, and the settings that its speed depends on.

    Attributes:
        examples: Training examples.
        batch: Rows per device and step.
        longest: Longest input in tokens; None if all trials have the same.
    """

    examples: int
    batch: int
    longest: Value = None

    @classmethod
    def of(cls, values: Mapping[str, Value], rows: int) -> Workload:
        """Return the workload of a trial; arguments as for ``TrialLength.of``."""
        batch = training_value(values, "per_device_train_batch_size")
        return cls(TrialLength.of(values, rows).total_examples, batch, values.get("data.max_length"))
