"""Extends the Trainer for one trial: comparable losses, evaluations without side effects, resuming from a state."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import transformers
from accelerate.utils import send_to_device
from transformers.trainer import TRAINER_STATE_NAME

from finesweep.training import rng_state
from finesweep.training.batching import GroupedByLength, Numbers, TokenRows
from finesweep.training.evaluation import ByRow, by_row, predictions
from finesweep.training.saved_state import TrainerMemory, Weights
from finesweep.training.target_scale import TargetScale


def _nothing() -> None:
    """Do nothing after a step."""


class FineTuner(transformers.Trainer):  # type: ignore[misc]
    """A Trainer whose evaluation loss means the same in every trial.

    Args:
        validation: All validation rows; ``eval_dataset`` may hold only some of them. Neither has columns that the model
            does not take.
        row_scores: Computes metrics row by row; see ``Task.row_scores``.
        target_scale: Standardises the targets of a regression in training; None to leave them.
        arguments: Arguments of the library's Trainer.

    Attributes:
        validation: All validation rows.
        by_row: The last evaluation of all validation rows, row by row; None before the first.
    """

    label_smoother: Any
    control: Any

    def __init__(
        self,
        *,
        validation: Any,
        row_scores: Callable[[Numbers, Numbers], Mapping[str, Numbers]],
        target_scale: TargetScale | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.validation, self.target_scale = validation, target_scale
        self.by_row: ByRow | None = None
        self._row_scores = row_scores
        # True would mean that the model divides its loss by the number of items in the whole step. These heads take the
        # mean over one batch. With True the Trainer would not divide by the accumulation steps, and would multiply by
        # the number of devices.
        self.model_accepts_loss_kwargs = False
        self._after_step: Callable[[], None] = _nothing
        self._memory: TrainerMemory | None = None

    def remember(self, memory: TrainerMemory) -> None:
        """Let training resume from the state of another process."""
        self._memory = memory

    def fine_tune(self, scratch: Path, after_step: Callable[[], None] = _nothing) -> None:
        """Train, from the first step or from the remembered state.

        Args:
            scratch: Folder for the file from which the Trainer reads its progress.
            after_step: Called before the first step, and after each one with its logs and its evaluation.
        """
        self._after_step = after_step
        # Last in the list: TrialCallback must have counted the steps, and requested an evaluation that was cut short.
        self.add_callback(_Beginning(self._begin))
        if self._memory is None:
            self.train()
            return
        # The library takes over steps and epochs only from a file. Everything else comes from `_recall` and the
        # overridden methods at the end of this class.
        account = transformers.TrainerState(**self._memory.account)
        account.save_to_json(str(scratch / TRAINER_STATE_NAME))
        self.train(resume_from_checkpoint=str(scratch))

    def _begin(self) -> None:
        """Restore the remembered state; do the evaluation that a callback requests before the first step."""
        self._recall()
        self._after_step()
        if self.control.should_evaluate:
            self.evaluate()
            self._after_step()

    def memory(self) -> TrainerMemory:
        """Return the state on which the next steps depend; to be called between optimizer steps."""
        scaler = getattr(self.accelerator, "scaler", None)
        return TrainerMemory(
            account=dataclasses.asdict(self.state),
            running_loss=self._tr_loss,
            logged_loss=self._total_loss_scalar,
            logged_step=self._globalstep_last_logged,
            random=rng_state.captured(),
            optimizer=self.optimizer.state_dict(),
            scheduler=self.lr_scheduler.state_dict(),
            scaler=scaler.state_dict() if scaler is not None else {},
            weights=copy_to_cpu(self.model),
        )

    def _recall(self) -> None:
        """Restore the parts of the state that the library makes or clears when training begins."""
        if self._memory is None:
            return
        self.optimizer.load_state_dict(self._memory.optimizer)
        self.lr_scheduler.load_state_dict(self._memory.scheduler)
        if self._memory.scaler:
            self.accelerator.scaler.load_state_dict(self._memory.scaler)
        # Added in place: the library has just set it to 0 on the device of training.
        self._tr_loss += self._memory.running_loss.to(self._tr_loss.device)
        self._total_loss_scalar = self._memory.logged_loss
        self._globalstep_last_logged = self._memory.logged_step
        rng_state.restore(self._memory.random)
        # The loaded parts need not stay in memory twice.
        self._memory = dataclasses.replace(self._memory, account={}, optimizer={}, weights={})

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Smooth labels and standardise targets in training only: such losses cannot be compared."""
        # The library's method smooths whenever this attribute is set, in evaluations too.
        smoother = self.label_smoother
        self.label_smoother = smoother if model.training else None
        if model.training and self.target_scale is not None:
            inputs = {**inputs, "labels": self.target_scale.standardized(inputs["labels"])}
        try:
            return super().compute_loss(model, inputs, *args, **kwargs)
        finally:
            self.label_smoother = smoother

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Evaluate the rows that the Trainer was made with, and notify the callbacks."""
        metrics = self.scores(self.eval_dataset)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def scores(self, rows: Any) -> dict[str, float]:
        """Evaluate the model as it would be exported, and log it; no random numbers of training are drawn.

        The stock loop is not used: a dozen training arguments would change its result. Outputs rounded to eight bits
        would tie, and would differ when the winner is loaded again.

        Returns:
            The loss and the task's metrics, with ``eval_`` before their names.
        """
        batch, tokens = self.args.per_device_eval_batch_size, TokenRows(rows)
        with rng_state.undisturbed(), self.as_exported():
            logits, labels = predictions(self.model, tokens, self.data_collator, batch, self._after_evaluation_batch)
            scores = self.compute_metrics(transformers.EvalPrediction(logits, labels))
            if len(rows) == len(self.validation):
                self.by_row = by_row(self._row_scores(logits, labels), labels, tokens.lengths)
        metrics = {f"eval_{name}": value for name, value in scores.items()}
        self.log(metrics)
        return metrics

    def _after_evaluation_batch(self) -> None:
        self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Do one batch, without the stock Trainer's walk through all modules for each batch.

        Returns:
            The loss, in the data's units.
        """
        if not model.training:
            model.train()
        loss = self.compute_loss(model, send_to_device(inputs, self.args.device))
        # Not the argument of that name: the last step of an epoch can have fewer batches.
        loss = loss / self.current_gradient_accumulation_steps
        self.accelerator.backward(loss)
        return loss.detach() * (self.target_scale.loss_unit if self.target_scale is not None else 1.0)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log; the final mean training loss is over all steps, while stock divides by the steps of this process."""
        if "train_loss" in logs and self.state.global_step:
            logs["train_loss"] = self._total_loss_scalar / self.state.global_step
        super().log(logs, *args, **kwargs)

    def floating_point_ops(self, inputs: Any) -> int:
        """Count nothing: the number is not used, and stock walks through all parameters for each batch."""
        return 0

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        # The rows of a whole step, so that half the batch with twice the accumulation takes the same steps.
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return GroupedByLength(train_dataset.lengths, batch, self.args.data_seed)

    @contextlib.contextmanager
    def as_exported(self) -> Iterator[None]:
        """Let the model be during the block what its users get: single precision, answers in the data's units."""
        folded = self.target_scale.folded(self.model) if self.target_scale is not None else contextlib.nullcontext()
        with self._in_single_precision(), folded:
            yield

    @contextlib.contextmanager
    def _in_single_precision(self) -> Iterator[None]:
        """Undo the mixed precision of the forward pass during the block."""
        # For mixed precision accelerate replaces the model's `forward`, and keeps its own one under this name.
        mixed = self.model.forward
        self.model.forward = getattr(self.model, "_original_forward", mixed)
        try:
            yield
        finally:
            self.model.forward = mixed

    def _run_epoch(self, **arguments: Any) -> None:
        # A saved state can be that of the last step, and an evaluation that was cut short is done when training begins
        # (`_begin`) and can stop it. The library would train at least one step in both cases.
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            return
        # In mid-epoch the library makes the epoch's order of rows again and skips the batches that were done. Every
        # sampler makes its order from seed and epoch alone. `_load_rng_state` then restores the generators.
        super()._run_epoch(**arguments)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # The library calls on_step_end before it logs and evaluates the step. A stop there would lose both.
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self._after_step()

    # The Trainer calls these at the right moments. Its own versions look for files, and would unpickle them.

    def _load_from_checkpoint(self, *_: Any) -> None:
        assert self._memory is not None
        self.model.load_state_dict(self._memory.weights)

    def _load_rng_state(self, *_: Any) -> None:
        if self._memory is not None:
            rng_state.restore(self._memory.random)


class _Beginning(transformers.TrainerCallback):  # type: ignore[misc]
    """Calls a function when training begins, after all other callbacks."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Call the function."""
        self._begin()


def copy_to_cpu(model: Any) -> Weights:
    """Copy a model's weights to the CPU."""
    # copy=True, because on a CPU `to` would return the tensors that training changes next.
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
