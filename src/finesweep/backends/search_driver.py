"""Owns the object that ``Trainer.hyperparameter_search`` searches over: it holds a function, not a model.

The stock call mutates one Trainer from trial to trial, so that parameters leak, seeds come late and
arguments that are read early have no effect. This driver lets Optuna or Ray do the search and trains
each trial elsewhere, with everything fresh.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import transformers

from finesweep.trial import Params


class SearchDriver(transformers.Trainer):  # type: ignore[misc]
    """Stands in for the Trainer in ``hyperparameter_search``.

    Args:
        run_trial: Called with the backend's trial and its parameters; returns the objective. What it raises reaches the
            backend unchanged.
    """

    def __init__(self, run_trial: Callable[[Any, Params], float]) -> None:
        # Trainer's own constructor would build a model and an accelerator, which nobody needs here.
        # What follows is everything that the search reads (transformers/integrations/integration_utils.py).
        self.run_trial = run_trial
        self.args = SimpleNamespace(process_index=0, world_size=1, n_gpu=0, do_eval=True, eval_strategy="steps")
        self.model_init = SimpleNamespace
        self.model = self.model_wrapped = None
        self.accelerator = SimpleNamespace(clear=_nothing)
        self.callback_handler = SimpleNamespace(on_train_end=_nothing, pop_callback=_nothing)
        self._memory_tracker = SimpleNamespace(skip_memory_metrics=True)
        self.hp_name = None
        self.hp_search_backend = None
        self.objective: float | None = None

    def train(self, resume_from_checkpoint: Any = None, trial: Any = None, **_: Any) -> None:
        """Draw one trial's parameters, run it, and set ``objective``."""
        self.objective = self.run_trial(trial, self.hp_space(trial))


def _nothing(*_: object) -> None:
    """Do what the search asks of parts that this driver does not have; picklable, unlike a lambda."""
