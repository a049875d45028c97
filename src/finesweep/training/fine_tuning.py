"""Trains one trial: fine-tuning with a divergence guard, reports at equal example counts, and the best weights kept."""

from __future__ import annotations

import functools
import inspect
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from accelerate.state import AcceleratorState
from tensorboardX import SummaryWriter
from transformers.integrations import TensorBoardCallback

from finesweep.folder.checked_files import refuse_changed
from finesweep.host import timeline
from finesweep.model.pretrained import load_tokenizer
from finesweep.pruning.rules import best_so_far
from finesweep.spec import TRAINING_FIELDS, SweepSpec, TrialSettings
from finesweep.tasks import Task
from finesweep.training import precision
from finesweep.training.batching import Padding, TokenRows, lengths_tell_labels
from finesweep.training.callback import EvaluationCheck, TrialCallback, TrialContext, TrialWatch
from finesweep.training.divergence import DivergenceGuard
from finesweep.training.saved_state import SavedState, write_state
from finesweep.training.target_scale import TargetScale
from finesweep.training.tokens import tokenized
from finesweep.training.trainer import FineTuner
from finesweep.training.trial_model import build_model, padding_side
from finesweep.trial import Report, Reporter, TrialInterrupted, Value

if TYPE_CHECKING:
    import datasets

OWN_DEFAULTS = ("per_device_eval_batch_size", "logging_steps", "train_sampling_strategy")
"""Training arguments whose default differs from the library's."""


class FineTuning:
    """One trial's training to its end, from its first step or from a saved state.

    Each trial has its own arguments, model and Trainer.

    Args:
        context: The facts of the trial.
        scratch: The Trainer's output folder; no result of the trial is written to it.
        watch: Filled during training, and at once from a saved state; holds the best weights at the end.
        report: Reports every evaluation, also those of a saved state; may raise ``TrialPruned``.
        on_step: Called when training begins, after every optimizer step but the last, and after every batch of an
            evaluation; may raise ``TrialInterrupted``.
        state: State to resume; ignored if it is of a trial with other parameters or batches.

    Attributes:
        trainer: The Trainer.
    """

    def __init__(
        self,
        context: TrialContext,
        scratch: Path,
        watch: TrialWatch,
        report: Reporter,
        on_step: Callable[[TrialWatch], None],
        state: SavedState | None = None,
    ) -> None:
        self.context, self.scratch, self.watch, self.report = context, scratch, watch, report
        self.trainer = build_trainer(context, scratch)
        watch.settled, watch.rows = in_force(self.trainer), len(self.trainer.eval_dataset)
        self.guard = _guard(context, self.trainer)
        self._check = EvaluationCheck(watch, self.guard, context.task.metrics, context.spec.objective.metric)
        watch.model_size = sum(weights.numel() for weights in self.trainer.model.parameters())
        self._callback = TrialCallback(context, watch, self._check, report, on_step, lambda: self.trainer.by_row)
        self.trainer.add_callback(self._callback)
        if context.scalars is not None:
            # The writer names its file by the second alone, and two attempts can begin in the same second.
            writer = SummaryWriter(str(context.scalars), filename_suffix=f".{os.getpid()}")
            self.trainer.add_callback(TensorBoardCallback(writer))
        if state is not None and state.fits(context.params, context.batch_divisor):
            watch.resume(state)
            self.guard.recall(state.guard)
            self.trainer.remember(state.trainer)

    @property
    def can_resume(self) -> bool:
        """Whether there is a state to save: at least one optimizer step was done."""
        return bool(self.trainer.state.global_step)

    def train(self) -> None:
        """Train to the end; afterwards the Trainer's model has the best weights.

        Raises:
            TrialStopped: The trial was pruned, diverged or was interrupted.
        """
        self._report_again()
        try:
            self.trainer.fine_tune(self.scratch, self._callback.after_step)
        finally:
            timeline.lap(timeline.TRAIN_ON)
        self.trainer.model.load_state_dict(self.watch.weights)
        if self.watch.rows < len(self.trainer.validation):
            self._rank()
        elif self.watch.by_row is None:  # another process evaluated them, before the trial was interrupted
            self.trainer.scores(self.trainer.validation)
        self.watch.by_row = self.watch.by_row or self.trainer.by_row

    @property
    def state_bytes(self) -> int:
        """Size of the tensors of the state that ``save_state`` would write now, in bytes."""
        weights = _bytes(self.trainer.model.state_dict())
        return weights * (1 if self._is_best else 2) + _bytes(self.trainer.optimizer.state_dict())

    @property
    def _is_best(self) -> bool:
        """Whether the best evaluation is that of the present weights."""
        return self.watch.best is not None and self.watch.best.step == self.watch.step

    def save_state(self, folder: Path) -> None:
        """Write the state of an interrupted trial; another process that resumes it reaches the same results.

        Args:
            folder: Must not exist yet. Its content is complete only when this returns, and safe from a power cut only
                once it is synced.

        Raises:
            FolderError: The disk is full or the folder cannot be written.
        """
        watch = self.watch
        state = SavedState(
            params=dict(self.context.params),
            batch_divisor=self.context.batch_divisor,
            step=watch.step,
            examples=watch.examples,
            loss=watch.loss,
            learning_rate=watch.learning_rate,
            evaluations=tuple(watch.evaluations),
            guard=self.guard.memory(),
            best={} if self._is_best else watch.weights,
            trainer=self.trainer.memory(),
        )
        write_state(folder, state)

    def _rank(self) -> None:
        """Evaluate the best weights, which the model now has, on all validation rows.

        Raises:
            TrialDiverged: The loss on all rows is not finite or has exploded.
            TrialInterrupted: The sweep was asked to stop.
        """
        best = self.watch.best
        assert best is not None
        metrics = self.trainer.scores(self.trainer.validation)
        ranked = self._check.evaluation(metrics, best.step, best.epoch, best.examples)
        self._check.refuse_lost(ranked, metrics["eval_loss"])
        self.watch.ranked, self.watch.rows = ranked, len(self.trainer.validation)

    def _report_again(self) -> None:
        """Report the evaluations of the saved state, since the search may not know those of the earlier attempt."""
        for evaluation, best in best_so_far(self.watch.evaluations, self.watch.direction):
            # `last` forbids pruning: the trial has already trained on from here once.
            self.report(Report(evaluation, best, last=True))


def _bytes(values: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists."""
    if isinstance(values, torch.Tensor):
        return values.numel() * values.element_size()
    items = values.values() if isinstance(values, Mapping) else values if isinstance(values, list | tuple) else ()
    return sum(map(_bytes, items))


def _guard(context: TrialContext, trainer: FineTuner) -> DivergenceGuard:
    labels: Any = trainer.train_dataset.column("labels")
    if trainer.target_scale is not None:
        labels = labels - trainer.target_scale.mean  # a new head answers about the mean
    naive_loss = context.task.naive_loss(labels, context.manifest.data.labels)
    return DivergenceGuard(naive_loss, bool(context.settings.training_value("fp16")))


def build_trainer(context: TrialContext, scratch: Path, rows: int | None = None, **overrides: Any) -> FineTuner:
    """Make the Trainer of one trial, with its own arguments and model.

    Args:
        context: The facts of the trial.
        scratch: The Trainer's output folder; nothing is saved there.
        rows: Number of rows of each split to use, from the first on; None for all.
        overrides: Training arguments that replace the trial's (for the rehearsal).
    """
    # A Trainer of an earlier trial in this process may have fixed another device.
    AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - the library has no public way
    settings, task = context.settings, context.task
    model_folder = context.manifest.model.folder
    refuse_changed(context.sweep_folder, model_folder)
    tokens = tokenized(context.sweep_folder, context.manifest, settings.max_length)
    # Seeded right before the model is made: all trials of a search draw new parameters from the same state.
    transformers.set_seed(context.seed)
    tokenizer = load_tokenizer(model_folder, trusted=context.manifest.trusts_code)
    tokenizer.model_max_length = settings.max_length  # exported with it, so that users cut texts as training did
    model = build_model(context.manifest, task, settings.model, tokenizer)
    refuse_changed(context.sweep_folder, model_folder)  # nor changed while the model was loaded
    tokenizer.padding_side = padding_side(model.config)
    given = {**_order(task, settings, TokenRows(tokens["train"])), **overrides}
    width = getattr(model.config, "hidden_size", None)
    arguments = training_arguments(settings, width, context.seed, scratch, **given)
    train, validation = (_taken(tokens[split], model, rows) for split in ("train", "validation"))
    return FineTuner(
        validation=validation,
        row_scores=task.row_scores,
        target_scale=_target_scale(context, model, tokens["train"]),
        model=model,
        args=arguments,
        train_dataset=TokenRows(train),
        eval_dataset=_some_rows(validation, context.spec),
        processing_class=tokenizer,
        data_collator=_collator(context, tokenizer, precision.multiple(arguments)),
        compute_metrics=functools.partial(_scores, task),
    )


def _collator(context: TrialContext, tokenizer: Any, multiple: int) -> Padding:
    collate = functools.partial(context.task.collate, names=context.manifest.data.labels)
    return Padding(tokenizer, collate, multiple, context.manifest.model.max_tokens)


def _taken(split: datasets.Dataset, model: Any, rows: int | None) -> datasets.Dataset:
    """Return the first rows of a split, or all, with only the columns that the model takes."""
    accepted = {*inspect.signature(model.forward).parameters, "labels"}
    if unknown := [name for name in split.column_names if name not in accepted]:
        split = split.remove_columns(unknown)
    return split if rows is None else split.select(range(min(rows, len(split))))


def _some_rows(rows: datasets.Dataset, spec: SweepSpec) -> datasets.Dataset:
    """Return the rows for evaluations during training: the same in every trial of a sweep."""
    if len(rows) <= spec.evaluation.rows:
        return rows
    return rows.select(sorted(random.Random(spec.search.seed).sample(range(len(rows)), spec.evaluation.rows)))


def _target_scale(context: TrialContext, model: Any, rows: datasets.Dataset) -> TargetScale | None:
    if not (context.task.standardizes and context.spec.data.standardize):
        return None
    scale = TargetScale.of(np.asarray(TokenRows(rows).column("labels")), model)
    loading = context.manifest.model.loading
    if loading is not None and loading.rows is not None:
        scale.unfold(model)  # the checkpoint's head, which is kept, answers in the data's units
    return scale


def _scores(task: Task, prediction: transformers.EvalPrediction) -> dict[str, float]:
    logits, labels = prediction.predictions, prediction.label_ids
    return {"loss": task.loss(logits, labels), **task.score(logits, labels)}


def _order(task: Task, settings: TrialSettings, rows: TokenRows) -> dict[str, str]:
    """Return the argument for plain shuffling, if grouping rows by length would group them by label."""
    is_open = "train_sampling_strategy" not in settings.training
    tells = is_open and lengths_tell_labels(rows.lengths, rows.column("labels"), task)
    return {"train_sampling_strategy": "random"} if tells else {}


def training_arguments(
    settings: TrialSettings, width: int | None, seed: int, output: Path, **overrides: Any
) -> transformers.TrainingArguments:
    """Build one trial's training arguments: the library's defaults, finesweep's own, the trial's.

    Args:
        settings: The trial's settings.
        width: The model's hidden size, None if its config has none.
        seed: Seed of weights and data order, the same in all trials of a search.
        output: The Trainer's output folder; nothing is saved there.
        overrides: Replace everything else.

    Raises:
        SweepError: The spec asks for a precision that this GPU does not have.
    """
    own = {name: TRAINING_FIELDS[name].default for name in OWN_DEFAULTS}
    asked = {**settings.training, **overrides}
    return transformers.TrainingArguments(
        **{
            **own,
            "output_dir": str(output),
            "seed": seed,
            "data_seed": seed,
            "eval_strategy": "no",  # TrialCallback asks for evaluations on the axis of examples
            "save_strategy": "no",  # the best weights are kept in memory
            "logging_nan_inf_filter": False,  # a NaN must be seen, not averaged away
            "average_tokens_across_devices": False,
            "report_to": "none",
            "disable_tqdm": True,
            "label_names": ["labels"],
            "dataloader_pin_memory": torch.cuda.is_available(),
            "accelerator_config": {"non_blocking": torch.cuda.is_available()},
            **asked,
            **precision.settled(asked, width),
        }
    )


def in_force(trainer: FineTuner) -> dict[str, Value]:
    """Return the settings that depend on hardware and rows if a spec leaves them open."""
    order = str(trainer.args.train_sampling_strategy)
    scale = trainer.target_scale.settled() if trainer.target_scale is not None else {}
    return {**precision.in_force(trainer.args), "train_sampling_strategy": order, **scale}


def interrupt_if(asked: bool) -> None:
    """Raise ``TrialInterrupted`` if the sweep was asked to stop."""
    if asked:
        raise TrialInterrupted(f"stopped at {time.strftime('%Y-%m-%d %H:%M:%S')}")
