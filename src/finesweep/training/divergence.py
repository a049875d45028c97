"""Decides whether a trial has diverged, by arithmetic on numbers that are logged anyway.

The stock Trainer logs a NaN loss as 0 and trains on, and every pruner of Optuna and Ray lets some non-finite value
pass. So this decision is made here, before any pruner sees a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EXPLODED_BY = 10.0
"""Factor over the first logged loss from which a loss has exploded, if it also exceeds ``NAIVE_LOSSES``."""

NAIVE_LOSSES = 20.0
"""Factor over the loss of a model that knows nothing (ln K for K classes); the other condition for an explosion."""

SCALED_STRIKES = 3
"""Number of consecutive logging intervals with a non-finite gradient norm that mean divergence under fp16.

Its loss scaler provokes single overflows on purpose and skips those steps."""


@dataclass
class DivergenceGuard:
    """Watches one trial.

    Attributes:
        naive_loss: Loss of a model that knows nothing, from the task.
        loss_scaling: Whether fp16's loss scaler is active.
    """

    naive_loss: float
    loss_scaling: bool = False
    last_finite_loss: float | None = field(default=None, init=False)
    _first_loss: float | None = field(default=None, init=False)
    _strikes: int = field(default=0, init=False)

    @property
    def limit(self) -> float:
        """Loss above which a trial has exploded."""
        return max(EXPLODED_BY * (self._first_loss or 0.0), NAIVE_LOSSES * self.naive_loss)

    def training(self, loss: float, gradient_norm: float | None) -> str | None:
        """Judge one logging interval.

        Args:
            loss: Mean training loss of the interval; NaN if one of its steps was NaN.
            gradient_norm: Gradient norm of its last step, None if it is not measured.

        Returns:
            Why the trial has diverged, or None.
        """
        if reason := self._judge("training", loss):
            return reason
        # Only after it was judged: a first loss that has exploded must not raise the limit for the next ones.
        if self._first_loss is None:
            self._first_loss = loss
        self.last_finite_loss = loss
        return self._judge_gradients(gradient_norm)

    def evaluation(self, loss: float) -> str | None:
        """Judge the loss of one evaluation; return why the trial has diverged, or None."""
        return self._judge("evaluation", loss)

    def memory(self) -> dict[str, Any]:
        """Return the state that a resumed trial's guard needs, by its fields' names."""
        # With the first loss: otherwise a resumed trial would take its present loss as the first one.
        return dict(vars(self))

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Take over the state of the guard of an earlier attempt."""
        vars(self).update(memory)

    def _judge(self, what: str, loss: float) -> str | None:
        if not math.isfinite(loss):
            return f"{what} loss is {loss}"
        if loss > self.limit:
            return f"{what} loss exploded to {loss:.4g} (limit {self.limit:.4g})"
        return None

    def _judge_gradients(self, norm: float | None) -> str | None:
        if norm is None or math.isfinite(norm):
            self._strikes = 0  # only overflows in a row mean divergence
            return None
        self._strikes += 1
        if self._strikes >= (SCALED_STRIKES if self.loss_scaling else 1):
            return f"gradient norm is {norm}"
        return None
