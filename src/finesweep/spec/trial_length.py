"""Says how much one trial trains if nothing ends it early, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finesweep.spec.training_arguments import TRAINING_FIELDS
from finesweep.trial import Value


@dataclass(frozen=True)
class Workload:
    """What one trial trains if nothing ends it early.

    Attributes:
        examples: Training examples.
        batch: Rows per device and step.
        longest: Longest input in tokens, None where all trials have the same.
    """

    examples: int
    batch: int
    longest: Value = None

    @classmethod
    def of(cls, settings: Mapping[str, Value], rows: int) -> Workload:
        """Read it from a trial's settings.

        Args:
            settings: By dotted name, searched or fixed; what is missing has its default.
            rows: Training rows.
        """
        batch, accumulation = (int(_number(settings, name)) for name in (_BATCH, "gradient_accumulation_steps"))
        steps = int(_number(settings, "max_steps"))
        examples = steps * batch * accumulation if steps > 0 else rows * _number(settings, "num_train_epochs")
        return cls(max(round(examples), 1), batch, settings.get("data.max_length"))


_BATCH = "per_device_train_batch_size"


def _number(settings: Mapping[str, Value], name: str) -> float:
    value = settings.get(name, TRAINING_FIELDS[name].default)
    return value if isinstance(value, int | float) else 0.0
