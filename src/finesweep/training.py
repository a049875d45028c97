"""Owns training one trial: ordinary fine-tuning with a guard, fair reports and the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import transformers
from accelerate.state import AcceleratorState, PartialState
from torch.utils.tensorboard import SummaryWriter
from transformers.integrations import TensorBoardCallback

from finesweep.fine_tuner import FineTuner, copy_to_cpu
from finesweep.guard import DivergenceGuard
from finesweep.manifest import Manifest
from finesweep.modeling import build_model, load_tokenizer, tokenized
from finesweep.registry import TASKS
from finesweep.resume import SavedState, Weights, write_state
from finesweep.run_dir import RunDir
from finesweep.schedule import Schedule
from finesweep.settings import Settings
from finesweep.spec import SweepSpec
from finesweep.tasks import Task
from finesweep.training_fields import TRAINING_FIELDS
from finesweep.trial import Direction, Divergence, Evaluation, Params, TrialDiverged, TrialInterrupted

Report = Callable[[Evaluation, float, bool], None]
"""Told of every evaluation, the best objective so far, and whether training ends here; may raise ``TrialPruned``."""


@dataclass(frozen=True)
class TrialContext:
    """What training one trial needs to know.

    Attributes:
        run_dir: The sweep's folder.
        manifest: What was prepared.
        spec: The sweep's spec.
        params: The trial's parameters.
        scalars: Folder for TensorBoard; None for none.
        scratch: Folder that the Trainer may call its output; nothing of the trial's results is written to it.
        batch_divisor: What the batch per device is divided by, and the accumulation multiplied by.
    """

    run_dir: RunDir
    manifest: Manifest
    spec: SweepSpec
    params: Params
    scalars: Path | None
    scratch: Path
    batch_divisor: int = 1

    @property
    def task(self) -> Task:
        """The task, by its name."""
        task: Task = TASKS.load(self.spec.task)()
        return task

    @property
    def settings(self) -> Settings:
        """The trial's settings by whom they concern."""
        return Settings.of(self.spec, self.params, self.manifest.model["max_tokens"], self.batch_divisor)


@dataclass
class TrialWatch:
    """What has been seen of a trial so far; filled while it trains, read however it ends.

    Attributes:
        direction: The objective's direction.
        step: Optimizer steps done.
        total_steps: Optimizer steps planned.
        examples: Training examples seen.
        loss: Last logged training loss.
        learning_rate: Last logged learning rate.
        evaluations: All evaluations in order.
        best: The best of them.
        weights: The weights at that evaluation, on the CPU.
        ended_early: Why training ended before its planned end, if it did.
    """

    direction: Direction
    step: int = 0
    total_steps: int = 0
    examples: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    weights: Weights = field(default_factory=dict, repr=False)
    ended_early: str | None = None

    def add(self, evaluation: Evaluation) -> bool:
        """Take in an evaluation; return whether it is the best so far."""
        self.evaluations.append(evaluation)
        if evaluation.objective is None:
            return False
        if not self.direction.better(evaluation.objective, self.best.objective if self.best else None):
            return False
        self.best = evaluation
        return True

    def without_gain(self) -> int:
        """Count the evaluations since the best one."""
        return len(self.evaluations) - 1 - self.evaluations.index(self.best) if self.best else len(self.evaluations)


class TrialCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Watches training from inside: ends it on divergence, reports evaluations, keeps the best weights."""

    def __init__(
        self,
        context: TrialContext,
        trainer: FineTuner,
        watch: TrialWatch,
        guard: DivergenceGuard,
        report: Report,
        on_step: Callable[[TrialWatch], None],
    ) -> None:
        self.context, self.trainer, self.watch, self.guard = context, trainer, watch, guard
        self.report, self.on_step = report, on_step
        self.schedule: Schedule | None = None
        trainer.after_step = self.after_step

    @property
    def evaluation_due(self) -> bool:
        """Whether the evaluation that belongs to the last step is still to be done."""
        step, seen = self.watch.step, self.watch.evaluations
        if not step or self.schedule is None or self.schedule.rung(step) is None:
            return False
        return not seen or seen[-1].step < step

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Lay out the evaluations, now that the number of steps is known; make up for one that was cut short."""
        batches = len(kwargs["train_dataloader"])
        self.schedule = Schedule(
            rows=self.context.manifest.data["rows"]["train"],
            batch=args.train_batch_size * args.gradient_accumulation_steps,
            steps_per_epoch=max(1, math.ceil(batches / args.gradient_accumulation_steps)),
            total_steps=state.max_steps,
            per_epoch=self.context.spec.evaluation.per_epoch,
        )
        self.watch.total_steps = state.max_steps
        self.trainer.recall()
        self.on_step(self.watch)
        if self.evaluation_due:
            self.trainer.evaluate()
            self.after_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count, and ask for an evaluation where one is due; touches no device."""
        assert self.schedule is not None
        self.watch.step = state.global_step
        self.watch.examples = self.schedule.examples(state.global_step)
        if self.schedule.rung(state.global_step) is not None:
            # The interval's training loss is judged before its weights are evaluated.
            control.should_log = control.should_evaluate = True

    def after_step(self) -> None:
        """Let training be stopped, once the step is logged and evaluated; at its end there is nothing to stop."""
        if self.watch.step < self.watch.total_steps and not self.watch.ended_early:
            self.on_step(self.watch)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let a long evaluation be stopped too."""
        self.on_step(self.watch)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **kwargs: Any) -> None:
        """Judge the interval's training loss and gradient norm."""
        if "loss" not in logs:
            return
        reason = self.guard.training(logs["loss"], logs.get("grad_norm"))
        self.watch.learning_rate = logs["learning_rate"]
        if reason:
            self._diverge(reason, state.global_step)
        self.watch.loss = logs["loss"]

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        """Record the evaluation, keep its weights if it is the best, and report the best so far."""
        evaluation = self._evaluation(state, metrics)
        is_best = self.watch.add(evaluation)
        if reason := self.guard.evaluation(metrics["eval_loss"]):
            self._diverge(reason, state.global_step)
        if evaluation.objective is None:
            self._diverge(f"{self.context.spec.objective.metric} is not finite", state.global_step)
        if is_best:
            self.watch.weights = copy_to_cpu(kwargs["model"])
        patience = self.context.spec.patience
        last = state.global_step >= state.max_steps
        if patience is not None and not last and self.watch.without_gain() >= patience:
            self.watch.ended_early = f"no gain in {patience} evaluations"
            control.should_training_stop = last = True
        assert self.watch.best is not None
        assert self.watch.best.objective is not None
        self.report(evaluation, self.watch.best.objective, last)

    def _evaluation(self, state: Any, metrics: Mapping[str, Any]) -> Evaluation:
        assert self.schedule is not None
        finite = {
            name: float(metrics[name]) if math.isfinite(metrics[name]) else None for name in self.context.task.metrics
        }
        return Evaluation(
            step=state.global_step,
            epoch=round(float(state.epoch), 4),
            examples=self.schedule.rung(state.global_step) or self.schedule.examples(state.global_step),
            metrics=finite,
            objective=finite[self.context.spec.objective.metric],
        )

    def _diverge(self, reason: str, step: int) -> NoReturn:
        divergence = Divergence(f"{reason} at step {step}", step, self.watch.learning_rate, self.guard.last_finite_loss)
        raise TrialDiverged(divergence)


class FineTuning:
    """One trial's training, from its first step or from a saved state, to its end.

    Everything is made fresh: arguments, model, Trainer.

    Args:
        context: What to train.
        watch: Filled along the way, with a saved state at once; holds the best weights at the end.
        report: Told of every evaluation, of a saved state's too; may raise ``TrialPruned``.
        on_step: Called when training begins, after every optimizer step but the last and after every batch of an
            evaluation; may raise ``TrialInterrupted``.
        state: Where to go on from; ignored if it is that of a trial with other parameters or batches.

    Attributes:
        trainer: The Trainer.
    """

    def __init__(
        self,
        context: TrialContext,
        watch: TrialWatch,
        report: Report,
        on_step: Callable[[TrialWatch], None],
        state: SavedState | None = None,
    ) -> None:
        self.context, self.watch, self.report = context, watch, report
        self.trainer = build_trainer(context)
        self.guard = _guard(context, self.trainer)
        self.callback = TrialCallback(context, self.trainer, watch, self.guard, report, on_step)
        self.trainer.add_callback(self.callback)
        if context.scalars is not None:
            self.trainer.add_callback(TensorBoardCallback(SummaryWriter(str(context.scalars))))
        if state is not None and state.fits(context.params, context.batch_divisor):
            self._go_back_to(state)

    @property
    def can_resume(self) -> bool:
        """Whether there is a state to save: an optimizer step was done."""
        return bool(self.trainer.state.global_step)

    def train(self) -> None:
        """Train to the end; afterwards the Trainer's model has the best weights.

        Raises:
            TrialStopped: The trial was pruned, diverged or was interrupted.
        """
        self._report_again()
        self.trainer.fine_tune(self.context.scratch)
        self.trainer.model.load_state_dict(self.watch.weights)

    def save_state(self, folder: Path) -> None:
        """Write the state of an interrupted trial, from which another process goes on to the same results.

        Args:
            folder: Must not exist yet. What is in it is whole only when this returns, and safe from a power cut
                only once it is synced.

        Raises:
            RunDirError: The disk is full or the folder cannot be written.
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
            guard=dict(vars(self.guard)),
            best=watch.weights,
            trainer=self.trainer.memory(),
        )
        write_state(folder, state)

    def _go_back_to(self, state: SavedState) -> None:
        watch = self.watch
        watch.step, watch.examples = state.step, state.examples
        watch.loss, watch.learning_rate, watch.weights = state.loss, state.learning_rate, state.best
        for evaluation in state.evaluations:
            watch.add(evaluation)
        vars(self.guard).update(state.guard)
        self.trainer.remember(state.trainer)

    def _report_again(self) -> None:
        """Tell the search of the saved state's evaluations; the trial it knew them of may be closed by now."""
        told = TrialWatch(self.watch.direction)
        for evaluation in self.watch.evaluations:
            told.add(evaluation)
            assert told.best is not None
            assert told.best.objective is not None
            self.report(evaluation, told.best.objective, True)


def _guard(context: TrialContext, trainer: FineTuner) -> DivergenceGuard:
    labels = np.asarray(trainer.train_dataset["labels"])
    naive_loss = context.task.naive_loss(labels, context.manifest.data["labels"])
    return DivergenceGuard(naive_loss, bool(context.settings.training_value("fp16")))


def build_trainer(context: TrialContext, **overrides: Any) -> FineTuner:
    """Make the Trainer of one trial, with arguments and model that belong to it alone.

    Args:
        context: What to train.
        overrides: Training arguments that replace the trial's (for the rehearsal).
    """
    # A Trainer of an earlier trial in this process may have settled on another device.
    AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - the library has no public way
    PartialState._reset_state()  # noqa: SLF001
    settings, task = context.settings, context.task
    arguments = training_arguments(settings, context.spec.search.seed, context.scratch, **overrides)
    transformers.set_seed(context.spec.search.seed)
    tokenizer = load_tokenizer(Path(context.manifest.model["path"]), trusted=context.manifest.trusts_code)
    tokens = tokenized(context.run_dir, context.manifest, settings.max_length)
    return FineTuner(
        model=build_model(context.manifest, task, settings.model, tokenizer),
        args=arguments,
        train_dataset=tokens["train"],
        eval_dataset=tokens["validation"],
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda prediction: task.score(prediction.predictions, prediction.label_ids),
    )


def training_arguments(settings: Settings, seed: int, output: Path, **overrides: Any) -> transformers.TrainingArguments:
    """Build one trial's training arguments: the library's defaults, finesweep's own, the trial's.

    Args:
        settings: The trial's settings.
        seed: Seed of weights and data order, the same in all trials.
        output: Folder that the Trainer may name; nothing is saved there.
        overrides: Replace everything else.
    """
    own = {name: TRAINING_FIELDS[name].default for name in ("per_device_eval_batch_size", "logging_steps")}
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
            **settings.training,
            **overrides,
        }
    )


def interrupt_if(asked: bool) -> None:
    """Raise ``TrialInterrupted`` if the sweep was told to stop."""
    if asked:
        raise TrialInterrupted(f"stopped at {time.strftime('%Y-%m-%d %H:%M:%S')}")
