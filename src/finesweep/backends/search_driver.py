"""Replaces the Trainer in ``Trainer.hyperparameter_search`` by a driver that holds a function instead of a model.

The stock call mutates one Trainer from trial to trial. So parameters leak, seeds come late, and arguments that are read
early have no effect. With this driver Optuna or Ray do the search, and each trial is trained elsewhere with everything
made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import transformers

from finesweep.trial import Params


class SearchDriver(transformers.Trainer):  # type: ignore[misc]
    """Replaces the Trainer in ``hyperparameter_search``.

    Args:
        run_trial: Called with the backend's trial and its parameters; returns the objective. Its exceptions reach the
            backend unchanged.
    """

    def __init__(self, run_trial: Callable[[Any, Params], float]) -> None:
        # Trainer's own constructor would build a model and an accelerator, which are not needed here. The search reads
        # only the attributes below (transformers/integrations/integration_utils.py).
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
    """Do nothing, for parts that this driver does not have; picklable, unlike a lambda."""
