"""Merges a trial's fixed and searched settings, and splits them into those of Trainer, model and data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finesweep.spec.sections import SweepSpec
from finesweep.spec.training_arguments import training_value
from finesweep.trial import Params, Value


@dataclass(frozen=True)
class TrialSettings:
    """All settings of one trial, searched or fixed.

    Attributes:
        training: Training arguments by name.
        model: Fields of the model's config by name, without ``model.``.
        max_length: Longest input in tokens.
    """

    training: Mapping[str, Value]
    model: Mapping[str, Value]
    max_length: int

    @classmethod
    def of(cls, spec: SweepSpec, params: Params, max_tokens: int, batch_divisor: int = 1) -> TrialSettings:
        """Merge a spec's fixed settings with one trial's parameters.

        Args:
            spec: The sweep's spec.
            params: The trial's parameters; they never repeat a fixed name.
            max_tokens: The model's limit in tokens, used if the spec has no ``max_length``.
            batch_divisor: A power of 2. The batch per device is divided by it, that of evaluations too but not below 1.
                The accumulation is multiplied by it, so that an optimizer step has the same number of rows.
        """
        merged = spec.merged(params)
        model = {name.removeprefix("model."): value for name, value in merged.items() if name.startswith("model.")}
        training = {name: value for name, value in merged.items() if "." not in name}
        longest = merged.get("data.max_length") or spec.data.max_length or min(max_tokens, 512)
        assert isinstance(longest, int)
        if batch_divisor > 1:
            training |= _divided(training, batch_divisor)
        return cls(training, model, longest)

    def named(self) -> dict[str, Value]:
        """Return every setting by the dotted name that a spec gives it."""
        model = {f"model.{name}": value for name, value in self.model.items()}
        return {**self.training, **model, "data.max_length": self.max_length}

    def training_value(self, name: str) -> Any:
        """Return the value of a training argument in this trial, set or default."""
        return training_value(self.training, name)


def can_halve(settings: TrialSettings) -> bool:
    """Return whether the batch can be halved, with twice the accumulation for the same optimizer steps."""
    batch: int = settings.training_value(_BATCH)
    return batch % 2 == 0


_BATCH, _EVALUATION_BATCH = "per_device_train_batch_size", "per_device_eval_batch_size"
_ACCUMULATION = "gradient_accumulation_steps"


def _divided(training: Mapping[str, Value], divisor: int) -> dict[str, Value]:
    return {
        _BATCH: training_value(training, _BATCH) // divisor,
        _EVALUATION_BATCH: max(1, training_value(training, _EVALUATION_BATCH) // divisor),
        _ACCUMULATION: training_value(training, _ACCUMULATION) * divisor,
    }
