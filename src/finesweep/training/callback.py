"""Watches a trial's training from inside: divergence, evaluations, best weights, early stopping."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import transformers

from finesweep.folder import Manifest, SweepFolder
from finesweep.host import timeline
from finesweep.pruning import Schedule
from finesweep.pruning.early_stopping import out_of_patience
from finesweep.pruning.rules import rung_epochs
from finesweep.registry import TASKS
from finesweep.spec import SweepSpec, TrialLength, TrialSettings
from finesweep.tasks import Task
from finesweep.training.divergence import DivergenceGuard
from finesweep.training.evaluation import ByRow
from finesweep.training.saved_state import SavedState, Weights
from finesweep.training.trainer import copy_to_cpu
from finesweep.trial import Direction, Divergence, Evaluation, Params, Report, Reporter, TrialDiverged, Value


@dataclass(frozen=True)
class TrialContext:
    """The facts for training one trial.

    Attributes:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        spec: The sweep's spec.
        params: The trial's parameters.
        batch_divisor: Divisor of the batch per device, and factor of the accumulation.
        scalars: Folder for TensorBoard; None for none.
        own_seed: Seed of weights, order and dropout; None for that of the sweep.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    spec: SweepSpec
    params: Params
    batch_divisor: int = 1
    scalars: Path | None = None
    own_seed: int | None = None

    @property
    def seed(self) -> int:
        """The seed of weights, order and dropout."""
        return self.spec.search.seed if self.own_seed is None else self.own_seed

    @property
    def task(self) -> Task:
        """The task, by its name."""
        task: Task = TASKS.load(self.spec.task)()
        return task

    @functools.cached_property
    def settings(self) -> TrialSettings:
        """All settings of the trial."""
        return TrialSettings.of(self.spec, self.params, self.manifest.model.max_tokens, self.batch_divisor)


@dataclass
class TrialWatch:
    """Observations of a trial so far; filled while it trains, and read however it ends.

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
        ended_early: Reason for early stopping, if it happened.
        rows: Validation rows of these evaluations.
        ranked: Evaluation of the best weights on all validation rows, once training has ended.
        audit: Pruning reason of a trial that trains on for the audit; None if it is not audited.
        settled: The training arguments in force that its spec may have left open.
        by_row: The evaluation of the best weights on all validation rows, row by row; None if it is not known here.
        model_size: Number of the model's weights.
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
    rows: int = 0
    ranked: Evaluation | None = None
    audit: str | None = None
    settled: Mapping[str, Value] = field(default_factory=dict)
    by_row: ByRow | None = field(default=None, repr=False)
    model_size: int | None = None

    def add(self, evaluation: Evaluation) -> bool:
        """Add an evaluation; return whether it is the best so far."""
        self.evaluations.append(evaluation)
        if evaluation.objective is None:
            return False
        if not self.direction.better(evaluation.objective, self.best.objective if self.best else None):
            return False
        self.best = evaluation
        return True

    def resume(self, state: SavedState) -> None:
        """Take over the observations in a saved state."""
        self.step, self.examples = state.step, state.examples
        self.loss, self.learning_rate = state.loss, state.learning_rate
        # An empty `best` means that the saved weights themselves were the best; see SavedState.
        self.weights = state.best or state.trainer.weights
        for evaluation in state.evaluations:
            self.add(evaluation)

    @property
    def result(self) -> Evaluation | None:
        """The evaluation that the trial is ranked by: that on all rows, else the best so far."""
        return self.ranked or self.best


@dataclass(frozen=True)
class EvaluationCheck:
    """Makes evaluations of metrics, and ends a trial that diverges.

    Attributes:
        watch: Has the last learning rate.
        guard: Decides which losses and gradients mean divergence.
        metrics: Names of the task's metrics.
        objective: Name of the metric that trials are ranked by.
    """

    watch: TrialWatch
    guard: DivergenceGuard
    metrics: Collection[str]
    objective: str

    def interval(self, logs: Mapping[str, float], step: int) -> None:
        """Judge the training loss and the gradient norm of one logging interval.

        Raises:
            TrialDiverged: One of them is not finite, or the loss has exploded.
        """
        if reason := self.guard.training(logs["loss"], logs.get("grad_norm")):
            self._diverge(reason, step)

    def evaluation(self, metrics: Mapping[str, float], step: int, epoch: float, examples: int) -> Evaluation:
        """Return an evaluation; numbers that are not finite become None."""
        finite = {name: float(metrics[name]) if math.isfinite(metrics[name]) else None for name in self.metrics}
        return Evaluation(step, epoch, examples, finite, finite[self.objective])

    def refuse_lost(self, evaluation: Evaluation, loss: float) -> None:
        """Refuse an evaluation that cannot be ranked.

        Raises:
            TrialDiverged: The loss is not finite or has exploded, or the objective is not finite.
        """
        if reason := self.guard.evaluation(loss):
            self._diverge(reason, evaluation.step)
        if evaluation.objective is None:
            self._diverge(f"{self.objective} is not finite", evaluation.step)

    def _diverge(self, reason: str, step: int) -> NoReturn:
        divergence = Divergence(f"{reason} at step {step}", step, self.watch.learning_rate, self.guard.last_finite_loss)
        raise TrialDiverged(divergence)


class TrialCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Writes the Trainer's progress into a trial's watch; requests evaluations, and the end, through ``control``.

    Args:
        context: The facts of the trial.
        watch: Filled during training.
        check: Ends the trial on divergence.
        report: Receives every evaluation.
        on_step: Called whenever training may be stopped.
        by_row: Returns the last evaluation of all validation rows, row by row; None before the first.
    """

    def __init__(
        self,
        context: TrialContext,
        watch: TrialWatch,
        check: EvaluationCheck,
        report: Reporter,
        on_step: Callable[[TrialWatch], None],
        by_row: Callable[[], ByRow | None],
    ) -> None:
        self.context, self.watch, self.check = context, watch, check
        self.report, self.on_step, self.by_row = report, on_step, by_row
        self.schedule: Schedule | None = None
        self._has_stepped = False

    @property
    def evaluation_due(self) -> bool:
        """Whether the evaluation of the last step is still missing."""
        step, seen = self.watch.step, self.watch.evaluations
        if not step or self.schedule is None or self.schedule.rung(step) is None:
            return False
        return not seen or seen[-1].step < step

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Place the evaluations, now that the number of steps is known; request one that was cut short."""
        batches = len(kwargs["train_dataloader"])
        length = TrialLength(
            rows=self.context.manifest.data.rows["train"],
            batch=args.train_batch_size * args.gradient_accumulation_steps,
            # As the library counts: the batches left at the end of an epoch are a step of their own.
            steps_per_epoch=max(1, math.ceil(batches / args.gradient_accumulation_steps)),
            total_steps=state.max_steps,
        )
        spec = self.context.spec
        # By the settings, as those who compare the trials compute them; `args` may have another batch per device.
        rungs = rung_epochs(spec, length.rows, spec.merged(self.context.params))
        self.schedule = Schedule(length, spec.evaluation.per_epoch, rungs, rungs_first=spec.compares_shares)
        self.watch.total_steps = state.max_steps
        control.should_evaluate = self.evaluation_due
        timeline.lap(timeline.BEGIN_TRAINING)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the step, and request an evaluation if one is due; touches no device."""
        assert self.schedule is not None
        if not self._has_stepped:
            self._has_stepped = True
            timeline.lap(timeline.FIRST_STEP)
        self.watch.step = state.global_step
        self.watch.examples = self.schedule.length.examples(state.global_step)
        if self.schedule.rung(state.global_step) is not None:
            # The interval's training loss is judged before its weights are evaluated.
            control.should_log = control.should_evaluate = True

    def after_step(self) -> None:
        """Allow training to be stopped, after the step's logs and evaluation; at the end there is nothing to stop."""
        # A stop now would save a state of which nothing is left to train.
        if self.watch.step < self.watch.total_steps and not self.watch.ended_early:
            self.on_step(self.watch)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Allow a long evaluation to be stopped too."""
        self.on_step(self.watch)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **kwargs: Any) -> None:
        """Judge the interval's training loss and gradient norm."""
        if "loss" not in logs:
            return
        # The learning rate before judging, since the record of a divergence names it; the loss after it, so that a NaN
        # is never shown as progress.
        self.watch.learning_rate = logs["learning_rate"]
        self.check.interval(logs, state.global_step)
        self.watch.loss = logs["loss"]

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        """Record the evaluation, keep its weights if it is the best, and report the best so far."""
        evaluation = self._evaluation(state, metrics)
        # Added before it is judged, so that the record of a diverged trial has it too.
        is_best = self.watch.add(evaluation)
        self.check.refuse_lost(evaluation, metrics["eval_loss"])
        if is_best:
            self.watch.weights, self.watch.by_row = copy_to_cpu(kwargs["model"]), self.by_row()
        best = self.watch.best
        assert best is not None
        assert best.objective is not None
        last = state.global_step >= state.max_steps
        assert self.schedule is not None
        rows, waited = self.schedule.length.rows, self.schedule.waited(best, evaluation)
        if not last and (why := out_of_patience(self.context.spec, rows, best, evaluation, waited)):
            self.watch.ended_early = why
            # Reported as the last one, so that a trial that has just completed is not pruned too.
            control.should_training_stop = last = True
        self.report(Report(evaluation, best.objective, last))

    def _evaluation(self, state: Any, metrics: Mapping[str, Any]) -> Evaluation:
        assert self.schedule is not None
        step = state.global_step
        examples = self.schedule.rung(step) or self.schedule.length.examples(step)
        return self.check.evaluation(metrics, step, round(float(state.epoch), 4), examples)
