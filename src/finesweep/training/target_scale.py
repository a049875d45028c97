"""Standardises the targets of a regression in training, and folds their scale into the exported head.

A head that begins near 0 never reaches prices near 250,000 by steps of a learning rate. So training sees targets with
mean 0 and standard deviation 1. Everything that is reported, ranked or exported is in the data's units: the scale is
folded into the weights of the last layer, and taken out again before training continues.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from finesweep.errors import SweepError
from finesweep.training.batching import Numbers
from finesweep.trial import Value


@dataclass(frozen=True)
class TargetScale:
    """Offset and scale of the targets.

    Attributes:
        mean: Mean of the training rows' targets; 0 for a head without a bias, which could not add it again.
        scale: Their standard deviation; for a head without a bias their root mean square.
    """

    mean: float
    scale: float

    @classmethod
    def of(cls, targets: Numbers, model: Any) -> TargetScale:
        """Measure the training rows' targets.

        Raises:
            SweepError: The model has no head that a scale can be folded into.
        """
        numbers = targets.astype(np.float64)
        mean = float(numbers.mean()) if _last_layer(model).bias is not None else 0.0
        scale = float(np.sqrt(np.mean((numbers - mean) ** 2)))
        return cls(mean, scale if scale > 0 else 1.0)

    def standardized(self, targets: torch.Tensor) -> torch.Tensor:
        """Return targets as training sees them."""
        return (targets - self.mean) / self.scale

    @property
    def loss_unit(self) -> float:
        """Factor that converts a squared error of standardised targets to the data's units."""
        return self.scale**2

    def settled(self) -> dict[str, Value]:
        """Return the values for a trial's record, by the names of settings."""
        return {"data.target_mean": self.mean, "data.target_scale": self.scale}

    @contextlib.contextmanager
    def folded(self, model: Any) -> Iterator[None]:
        """Let a model answer in the data's units during the block; then restore its weights, bit by bit."""
        layer = _last_layer(model)
        # Copied, because dividing the scale out again would round.
        before = [parameter.detach().clone() for parameter in layer.parameters()]
        with torch.no_grad():
            layer.weight.mul_(self.scale)
            if layer.bias is not None:
                layer.bias.mul_(self.scale).add_(self.mean)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, kept in zip(layer.parameters(), before, strict=True):
                    parameter.copy_(kept)

    def unfold(self, model: Any) -> None:
        """Convert a head that answers in the data's units into one that answers in training's units."""
        layer = _last_layer(model)
        with torch.no_grad():
            layer.weight.div_(self.scale)
            if layer.bias is not None:
                layer.bias.sub_(self.mean).div_(self.scale)

    def check(self, model: Any, inputs: Any) -> None:
        """Raise SweepError if folding does not change a model's answers as it should."""
        with torch.no_grad():
            plain = model(**inputs).logits * self.scale + self.mean
            with self.folded(model):
                folded = model(**inputs).logits
        if not torch.allclose(folded, plain, rtol=1e-3, atol=1e-3 * self.scale):
            raise SweepError(_unfit(model, "computes more with what its last layer gives"))


def _last_layer(model: Any) -> torch.nn.Linear:
    """Return the layer that gives the prediction."""
    base = getattr(model, model.base_model_prefix, model)
    encoder = set(base.modules()) if base is not model else set()
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module not in encoder]
    if not layers or layers[-1].out_features != 1:
        raise SweepError(_unfit(model, "has no last layer with one output"))
    return layers[-1]


def _unfit(model: Any, why: str) -> str:
    kind = type(model).__name__
    return f"{kind} {why}, so the targets cannot be standardised; write `data: {{standardize: false}}`"
