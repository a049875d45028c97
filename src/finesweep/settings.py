"""Owns splitting one trial's settings by whom they concern: the trainer, the model, the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finesweep.spec import SweepSpec
from finesweep.training_fields import TRAINING_FIELDS
from finesweep.trial import Params, Value


@dataclass(frozen=True)
class Settings:
    """Everything that is set in one trial, searched or fixed.

    Attributes:
        training: Training arguments by name.
        model: Fields of the model's config by name, without ``model.``.
        max_length: Longest input in tokens.
    """

    training: Mapping[str, Value]
    model: Mapping[str, Value]
    max_length: int

    @classmethod
    def of(cls, spec: SweepSpec, params: Params, max_tokens: int) -> Settings:
        """Merge a spec's fixed settings with one trial's parameters.

        Args:
            spec: The sweep's spec.
            params: The trial's parameters; they never repeat a fixed name.
            max_tokens: The model's limit, for a spec that names no ``max_length``.
        """
        merged = {**spec.fixed, **params}
        model = {name.removeprefix("model."): value for name, value in merged.items() if name.startswith("model.")}
        training = {name: value for name, value in merged.items() if "." not in name}
        longest = merged.get("data.max_length") or spec.data.max_length or min(max_tokens, 512)
        assert isinstance(longest, int)
        return cls(training, model, longest)

    def named(self) -> dict[str, Value]:
        """Return every setting by the dotted name that a spec gives it."""
        model = {f"model.{name}": value for name, value in self.model.items()}
        return {**self.training, **model, "data.max_length": self.max_length}

    def training_value(self, name: str) -> Any:
        """Return what a training argument is in this trial, set or default."""
        return self.training.get(name, TRAINING_FIELDS[name].default)
